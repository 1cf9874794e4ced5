"""What is stored is shown by its names, found by the ids of the API, and as of any height that is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from otcnode.bench.chain import ChainBuilder, genesis_of, validator_keys
from otcnode.blocks import commit_preimage
from otcnode.codec import decode, encode
from otcnode.consensus.evidence import Kind, Offence, double_vote
from otcnode.consensus.messages import Commit
from otcnode.engine.evidence import KeptEvidence, name_of
from otcnode.errors import ConfigurationError, StorageDamage
from otcnode.genesis import genesis_account_id
from otcnode.ids import Prefix, show
from otcnode.maintenance.inspection import ITEMS, LEDGER_TABLES, record, records, wanted
from otcnode.maintenance.key_words import LAYOUTS, key_of, words_of
from otcnode.rpc import format as form
from otcnode.storage.kv import MemoryKeyValue
from otcnode.storage.pruning import prune
from otcnode.storage.records import Indexed
from otcnode.storage.schema import Meta, Table, height_key
from otcnode.storage.state_view import CommittedState
from otcnode.storage.store import Store
from otcnode.vm.accounts.records import ACCOUNTS, CASH_BALANCES
from otcnode.vm.keys import Prefix as LedgerPrefix
from tests.vm.test_lives import ready

GENESIS = genesis_of(validators=4, buckets=256)
HEIGHT, TRANSACTIONS = 8, 3
BANK = show(Prefix.ACCOUNT, genesis_account_id("custodian0"))
CASH = "CNY@BENCH0"


@pytest.fixture(scope="module")
def built() -> list[tuple[bytes, bytes]]:
    memory = MemoryKeyValue()
    ChainBuilder(memory, GENESIS).grow(HEIGHT, TRANSACTIONS)
    return list(memory.scan(b""))


@pytest.fixture
def kv(built: list[tuple[bytes, bytes]]) -> MemoryKeyValue:
    memory = MemoryKeyValue()
    memory.write(built)
    return memory


def seen(kv: MemoryKeyValue, *words: str, at_height: int | None = None) -> Any:
    """As JSON says it."""
    return msgspec.json.decode(msgspec.json.encode(record(kv, wanted(words), at_height)))


def indexed(kv: MemoryKeyValue, height: int) -> Indexed:
    return decode(Indexed, kv.get(height_key(Table.INDEXED, height)) or b"")


def test_every_table_of_the_ledger_has_a_name_and_every_id_its_record() -> None:
    assert {table.prefix for table in LEDGER_TABLES.values()} == {prefix.value for prefix in LedgerPrefix}
    assert set(Prefix) - set(ITEMS) == {Prefix.TRANSACTION, Prefix.BLOCK, Prefix.LOCK}, "a lock is its account's"


def test_an_account_by_its_id(kv: MemoryKeyValue) -> None:
    stored = ACCOUNTS.decode(CommittedState(kv).get(ACCOUNTS.prefix + genesis_account_id("custodian0")) or b"")
    found = seen(kv, BANK)
    assert set(found) == set(stored.__struct_fields__)
    assert found["status"] == "ACTIVE" and "CUSTODIAN" in found["roles"]
    assert seen(kv, "state", BANK) == seen(kv, "state", "account", BANK) == found
    assert seen(kv, show(Prefix.ACCOUNT, bytes(32))) is None


def test_a_block_by_height_and_by_hash(kv: MemoryKeyValue) -> None:
    store = Store.open(kv, ChainBuilder(kv, GENESIS).chain, 0)
    header, certificate = store.header(5), store.certificate(5)
    assert header is not None and certificate is not None
    found = seen(kv, "5")
    assert found == seen(kv, "header", "5") == seen(kv, form.block(certificate.block_hash))["header"]
    assert found["height"] == 5 and found["transaction_count"] == TRANSACTIONS
    assert found["proposer"] == form.node(header.proposer) and found["parent"] == form.block(header.parent)
    assert found["state_root"] == header.state_root.hex() and found["time_ms"]["ms"] == header.time_ms
    shown = seen(kv, "certificate", "5")
    assert (shown["epoch"], shown["view"], shown["block_hash"]) == (1, 0, form.block(certificate.block_hash))
    assert [entry["validator"] for entry in shown["signatures"]] == [
        form.node(entry.validator) for entry in certificate.signatures
    ]
    assert seen(kv, "epoch", "1")["validators"] == [form.node(key) for key in sorted(store.epochs()[0].validators)]
    assert seen(kv, "header", str(HEIGHT + 1)) is None


def test_a_transaction_by_its_id_with_what_came_of_it(kv: MemoryKeyValue) -> None:
    name = form.transaction(indexed(kv, 4).transactions[2])
    found = seen(kv, name)
    assert (found["height"], found["index"]) == (4, 2) and found["receipt"]["code"] == "OK"
    assert found["transaction"]["id"] == found["receipt"]["transaction"] == name
    (operation,) = found["transaction"]["body"]["operations"]
    assert operation["type"] == "cash.deposit" and operation["account"].startswith("acc1")
    assert operation["amount"].isdecimal() and operation["cash"].startswith("CNY@")
    assert any(event["type"] == "cash.deposited" for event in found["receipt"]["events"])
    assert seen(kv, "body", "4")[2] == found["transaction"]
    assert seen(kv, "receipts", "4")["transactions"][2] == found["receipt"]
    assert seen(kv, "indexed", "4")["transactions"][2] == name


def test_keys_that_one_answer_names_are_taken_by_the_next(kv: MemoryKeyValue) -> None:
    for key in seen(kv, "indexed", "4")["keys"]:
        assert {"number", "leaf", "offset"} == set(seen(kv, "index", key)[0])
    for name in seen(kv, "touched", "4"):
        assert 4 in [change["height"] for change in seen(kv, "history", *name.split())["changes"]]
    account = seen(kv, form.transaction(indexed(kv, 4).transactions[0]))["transaction"]["body"]["operations"][0][
        "account"
    ]
    assert seen(kv, "index", account, "4")[0]["leaf"] == 0
    (listed,) = records(kv, wanted(["state", "cash_balance", account]), 10)
    assert listed["key"] == f"{account} {CASH}"
    assert seen(kv, "state", "cash_balance", *listed["key"].split()) == listed["record"]
    assert seen(kv, "state", "cash_balance", account, CASH) == listed["record"]


def test_several_records_are_as_many_as_are_asked_for(kv: MemoryKeyValue) -> None:
    assert len(records(kv, wanted(["state", "cash_balance"]), 2)) == 2
    assert len(records(kv, wanted(["header"]), 100)) == HEIGHT
    assert records(kv, wanted(["state", "product"]), 5) == []


def test_the_state_is_seen_as_of_any_kept_height(kv: MemoryKeyValue) -> None:
    totals = [int(seen(kv, "state", "cash_asset", CASH, at_height=at)["total"]) for at in range(HEIGHT + 1)]
    assert (
        totals[0] == 0
        and totals == sorted(totals)
        and totals[-1] == int(seen(kv, "state", "cash_asset", CASH)["total"])
    )
    history = seen(kv, "history", "cash_asset", CASH)
    assert history["known_from"] == 0 and int(history["before"]["total"]) == 0
    assert [(change["height"], int(change["record"]["total"])) for change in history["changes"]] == [
        (height, totals[height]) for height in range(1, HEIGHT + 1) if totals[height] != totals[height - 1]
    ]
    prune(kv, ChainBuilder(kv, GENESIS).chain, 3)
    first = HEIGHT - 3
    assert seen(kv, "history", "cash_asset", CASH)["known_from"] == first
    assert int(seen(kv, "history", "cash_asset", CASH)["before"]["total"]) == totals[first]
    with pytest.raises(ConfigurationError, match=f"states of heights {first} to {HEIGHT} are kept, not {first - 1}"):
        seen(kv, "state", "cash_asset", CASH, at_height=first - 1)
    with pytest.raises(ConfigurationError, match="only records of the state"):
        seen(kv, "3", at_height=3)


def test_what_appeared_and_went_is_absent_before_and_after(kv: MemoryKeyValue) -> None:
    """The id of a transaction is remembered from its block on."""
    name = form.transaction(indexed(kv, 4).transactions[0])
    (key,) = {entry for entry in seen(kv, "touched", "4") if entry.startswith("seen") and name in entry}
    found = seen(kv, "history", *key.split())
    assert found["before"] is None and [change["height"] for change in found["changes"]] == [4]
    assert seen(kv, "history", "account", "0x00") is None


def test_keys_of_a_ledger_in_full_use_are_words_that_give_the_same_key() -> None:
    view, whole = ready().view, 0
    for name, table in LEDGER_TABLES.items():
        for key, _ in view.scan(table.prefix):
            words = words_of(name, key[1:])
            assert key_of(words.split()) == key[1:]
            if name in LAYOUTS and name != "bank_reference":  # these have spaces
                assert len(words.split()) == len(LAYOUTS[name].split()), (name, words)
                whole += 1
    assert whole > 200 and LAYOUTS.keys() < LEDGER_TABLES.keys()


@pytest.mark.parametrize(
    "key", [b"", b"a b", b"2026", b"0x00", b"\xff\x00", b"acc1qqqqqqqqqq", b"tab\there", bytes(64)]
)
def test_a_key_that_would_be_read_as_something_else_stays_in_hexadecimal(key: bytes) -> None:
    assert key_of(words_of("product_code", key).split()) == key


def test_beside_the_chain(kv: MemoryKeyValue) -> None:
    assert seen(kv, "meta", "head")["height"] == HEIGHT and seen(kv, "meta", "chain")["buckets"] == 256
    key = validator_keys(4)[2]
    chain = ChainBuilder(kv, GENESIS).chain
    votes = [
        Commit(1, 0, 3, block, key.public, key.sign(commit_preimage(chain, 1, 0, 3, block)))
        for block in (b"A" * 32, b"B" * 32)
    ]
    kept = KeptEvidence(Offence(key.public, Kind.DOUBLE_COMMIT, 1, 0, 3), double_vote(*votes), 1_800_000_000_000, None)
    kv.write(
        [(Table.EVIDENCE.value + name_of(kept.offence), encode(kept)), (Table.DOCUMENT.value + bytes(32), b"sealed")]
    )
    found = seen(kv, "evidence", name_of(kept.offence).hex())
    assert found["offence"]["validator"] == form.node(key.public) and found["offence"]["kind"] == "double COMMIT"
    assert found["evidence"]["first"]["block_hash"] == form.block(b"A" * 32)
    assert found["seen_ms"]["iso"].startswith("2027-01-15")
    assert seen(kv, "document", "0x" + bytes(32).hex()) == {"size_bytes": 6, "sealed": b"sealed".hex()}


def test_a_record_that_does_not_decode_is_shown_as_it_is(kv: MemoryKeyValue) -> None:
    """The store does not open any more; one of its records can be looked at all the same."""
    kv.write([(Meta.HEAD.value, b"?"), (height_key(Table.HEADER, 3), b"junk")])
    kv.write([(Table.STATE.value + CASH_BALANCES.prefix + b"x", b"junk")])
    for words in (["3"], ["meta", "head"], ["state", "cash_balance", "x"]):
        with pytest.raises(StorageDamage, match=r"this record does not decode .*: (6a756e6b|3f); stop the node"):
            seen(kv, *words)
    assert seen(kv, "4")["height"] == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["headers", "3"], "'headers' is no table; there are block_hash, body"),
        (["nonsense"], "neither a table nor a height nor an id"),
        ([BANK[:-1] + ("q" if BANK[-1] != "q" else "p")], "the checksum of .* is wrong"),
        ([show(Prefix.LOCK, bytes(32))], "that names a record by itself"),
        (["state"], "name a table of the ledger: access_log, account"),
        (["state", "accounts", BANK], "name a table of the ledger"),
        (["header", "0xyz"], "is no part of a key"),
        (["header", "9" * 30], "is no part of a key"),
    ],
)
def test_what_is_meant_wrongly_is_said(words: Sequence[str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        wanted(words)

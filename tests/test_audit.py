"""The audit of a whole store: state, indexes and evidence against what they rest on, each shown what it must find."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from otcnode.audit import ledger_violations, verified
from otcnode.bench.chain import ChainBuilder, genesis_of, validator_keys
from otcnode.blocks import Certificate, commit_preimage, validators_hash
from otcnode.chain import Parent
from otcnode.codec import decode, encode
from otcnode.consensus.evidence import Kind, Offence, double_vote
from otcnode.consensus.messages import Commit
from otcnode.engine.evidence import KeptEvidence, name_of
from otcnode.errors import StorageDamage
from otcnode.genesis import KeyPurpose, chain_id, first_epoch
from otcnode.storage.kv import MemoryKeyValue
from otcnode.storage.records import Indexed, StoredReceipts
from otcnode.storage.schema import Table, height_key
from otcnode.storage.store import Store
from otcnode.vm.accounts.operations import AccountFreeze, CashDeposit
from otcnode.vm.accounts.records import CASH_ASSETS, CASH_BALANCES, CashBalance
from otcnode.vm.operations import Operation
from otcnode.vm.results import Receipt
from tests.test_chain import Growing
from tests.vm.ledger import CASH, EVIDENCE


class Kept(Growing):
    """A chain whose blocks are committed, with a deposit and a freeze of a part of it."""

    def __init__(self) -> None:
        super().__init__()
        account = self.signer.ids["ISS"]
        self.do("BANK", CashDeposit(account, CASH, 700, "in"))
        self.do("REG", AccountFreeze(account, CASH.encode(), 200, EVIDENCE, None))
        self.deposit_key = Table.RECEIPTS.value + (1).to_bytes(8, "big")
        self.balance_key = Table.STATE.value + CASH_BALANCES.prefix + account + CASH.encode()

    def do(self, by: str, operation: Operation) -> None:
        block = self.grow(self.signed(by, operation, KeyPurpose.TRADE))
        self.store.commit(
            header=block.header,
            certificate=Certificate(1, 0, block.header.height, block.block_hash, ()),
            entries=block.entries,
            transactions=[decoded.raw for decoded in block.transactions],
            receipts=block.receipts,
            automatic_count=len(block.result.automatic),
            state_writes=block.result.writes,
            tree_changes=block.tree,
        )
        self.parent = Parent(
            block.header.height, block.block_hash, block.header.time_ms, self.store.state, None, block.next_epoch
        )

    def found(self) -> list[int]:
        store = Store.open(self.kv, self.chain, 10)
        return [violation.invariant for violation in ledger_violations(store, self.chain)]


def test_a_sound_store_has_no_violations() -> None:
    assert Kept().found() == []


def test_a_receipt_that_lost_its_events_does_not_come_to_the_state() -> None:
    kept = Kept()
    raw = kept.kv.get(kept.deposit_key)
    assert raw is not None
    stored = decode(StoredReceipts, raw)
    emptied = encode(replace(decode(Receipt, stored.receipts[0]), events=()))
    kept.kv.write([(kept.deposit_key, encode(replace(stored, receipts=(emptied,))))])
    assert kept.found() == [31, 31], "the balance and the total"


def test_a_balance_that_no_receipt_tells_of_is_found_twice() -> None:
    kept = Kept()
    kept.kv.write([(kept.balance_key, encode(CashBalance(701, 0, 200, None)))])
    assert kept.found() == [1, 31]


# what storage keeps without knowing its form

GENESIS = genesis_of(validators=4, buckets=256)
CHAIN = chain_id(GENESIS)


@pytest.fixture
def kv() -> MemoryKeyValue:
    memory = MemoryKeyValue()
    ChainBuilder(memory, GENESIS).grow(6, 3)
    return memory


def _changed(kv: MemoryKeyValue, table: Table, change: Callable[[bytes], bytes | None]) -> bytes:
    """The key of the first record of the table that has a value, which is changed."""
    key, value = next((key, value) for key, value in kv.scan(table.value) if len(value) > 3)
    kv.write([(key, change(value))])
    return key[1:]


def test_a_sound_store_is_found_so(kv: MemoryKeyValue) -> None:
    found = verified(kv, CHAIN)
    assert (found.height, found.transactions, found.evidence) == (6, 18, 0) and found.index_entries > 6


def test_an_index_entry_with_another_value_is_named(kv: MemoryKeyValue) -> None:
    name = _changed(kv, Table.INDEX, lambda value: value[:-1] + bytes([value[-1] ^ 1]))
    with pytest.raises(StorageDamage, match=f"the index entry {name.hex()} of block 1 is not what its receipts say"):
        verified(kv, CHAIN)
    assert verified(kv, CHAIN, first=2).height == 6, "only blocks from 2 on were asked for"


def test_a_list_of_other_index_entries_is_named(kv: MemoryKeyValue) -> None:
    """An entry left out with its place in the list, so that the two agree."""
    place = height_key(Table.INDEXED, 3)
    indexed = decode(Indexed, kv.get(place) or b"")
    kv.write([(Table.INDEX.value + indexed.keys[0], None), (place, encode(replace(indexed, keys=indexed.keys[1:])))])
    with pytest.raises(StorageDamage, match="the index of block 3 lacks what its receipts say, or says more"):
        verified(kv, CHAIN)


def test_a_state_that_is_wrong_is_not_taken_for_a_wrong_index(kv: MemoryKeyValue) -> None:
    """Whom an event concerns is read from the state: an asset of another custodian makes every entry look wrong."""
    key = Table.STATE.value + CASH_ASSETS.prefix + b"CNY@BENCH0"
    asset = CASH_ASSETS.decode(kv.get(key) or b"")
    for raw in (encode(replace(asset, custodian=bytes(32))), b"?"):
        kv.write([(key, raw)])
        with pytest.raises(StorageDamage, match=r"the state key .* has another value than the state tree"):
            verified(kv, CHAIN)


FIRST = validators_hash(first_epoch(GENESIS))


def _evidence(epoch: int = 1, forged: bool = False) -> KeptEvidence:
    key = validator_keys(4)[2]
    votes = [
        Commit(epoch, 0, 3, block, key.public, key.sign(commit_preimage(CHAIN, epoch, 0, 3, block)))
        for block in (b"A" * 32, b"B" * 32)
    ]
    evidence = double_vote(votes[0], replace(votes[1], signature=bytes(64)) if forged else votes[1])
    return KeptEvidence(Offence(key.public, Kind.DOUBLE_COMMIT, epoch, 0, 3), evidence, 1, FIRST)


def _kept(kv: MemoryKeyValue, kept: KeptEvidence) -> bytes:
    name = name_of(kept.offence)
    kv.write([(Table.EVIDENCE.value + name, encode(kept))])
    return name


def test_evidence_that_proves_what_it_says_is_counted(kv: MemoryKeyValue) -> None:
    _kept(kv, _evidence())
    assert verified(kv, CHAIN).evidence == 1
    _kept(kv, _evidence(epoch=9))
    assert verified(kv, CHAIN).evidence == 2, "of an epoch that the store was taken back from: nothing to judge it by"


def test_evidence_of_an_epoch_that_began_anew_with_others_is_no_damage(kv: MemoryKeyValue) -> None:
    """After `db rollback` to below its beginning: the validators that prove it are named nowhere any more."""
    forged = _evidence(forged=True)
    _kept(kv, replace(forged, epoch_hash=bytes(32)))
    assert verified(kv, CHAIN).evidence == 1
    name = _kept(kv, forged)
    with pytest.raises(StorageDamage, match=f"the evidence {name.hex()[:12]}… does not prove"):
        verified(kv, CHAIN)


def test_what_an_earlier_version_kept_of_an_epoch_that_it_did_not_write_down_is_no_damage(kv: MemoryKeyValue) -> None:
    """It may be of one that began anew with others: a node judges it when it starts, and drops it if so. What is no
    evidence, or is kept under another's name, is damage all the same."""
    for kept in (_evidence(), _evidence(forged=True)):
        place = Table.EVIDENCE.value + name_of(kept.offence)
        kv.write([(place, encode((kept.offence, kept.evidence, kept.seen_ms)))])
        assert verified(kv, CHAIN).evidence == 1
    kv.write([(place, encode((replace(kept.offence, view=1), kept.evidence, kept.seen_ms)))])
    with pytest.raises(StorageDamage, match="is kept under the name of another"):
        verified(kv, CHAIN)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"rubbish", "is damaged"),
        (encode(_evidence(forged=True)), "does not prove what it says: a vote with a false signature"),
        (
            encode(replace(_evidence(), offence=replace(_evidence().offence, view=1))),
            "is kept under the name of another",
        ),
    ],
)
def test_evidence_that_does_not_is_named(kv: MemoryKeyValue, raw: bytes, words: str) -> None:
    name = _kept(kv, _evidence())
    kv.write([(Table.EVIDENCE.value + name, raw)])
    with pytest.raises(StorageDamage, match=f"the evidence {name.hex()[:12]}.* {words}"):
        verified(kv, CHAIN)


def test_evidence_of_another_offence_under_its_own_name_is_named(kv: MemoryKeyValue) -> None:
    kept = _evidence()
    name = _kept(kv, replace(kept, offence=replace(kept.offence, height=4)))
    with pytest.raises(StorageDamage, match=f"the evidence {name.hex()[:12]}… proves another offence"):
        verified(kv, CHAIN)

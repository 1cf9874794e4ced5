"""`verify` finds every kind of damage that checksums cannot see, and names it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from otcnode.blocks import Certificate, Entry, Header, transactions_root
from otcnode.codec import decode, encode
from otcnode.crypto import sha256
from otcnode.errors import ConfigurationError, StorageDamage
from otcnode.storage.kv import MemoryKeyValue
from otcnode.storage.records import Head, Indexed, StoredReceipts
from otcnode.storage.schema import Meta, Table, height_key, terminated
from otcnode.storage.state_proof import key_hash
from otcnode.storage.store import Store
from otcnode.storage.tools import Judges, verify
from tests.storage.chain import CHAIN, GENESIS, append, certify, create, expected_state, reopen, transactions_of

HEIGHT = 12


def roots(raw: tuple[bytes, ...]) -> tuple[bytes, tuple[bytes, ...]]:
    """How the tests' chain names its transactions."""
    entries = [Entry(sha256(body), sha256(body + b"signed")) for body in raw]
    return transactions_root(entries), tuple(entry.id for entry in entries)


ROOTS = Judges(transactions_root=roots)


@pytest.fixture
def kv() -> MemoryKeyValue:
    store_kv = MemoryKeyValue()
    store = create(store_kv)
    for height in range(HEIGHT):
        append(store, index=[(b"party/%d" % height, b"")])
    return store_kv


def test_a_sound_store_verifies_and_says_how_far_it_is(kv: MemoryKeyValue) -> None:
    told: dict[str, tuple[int, int]] = {}

    def progress(part: str, done: int, whole: int) -> None:
        told[part] = (done, whole)

    found = verify(kv, CHAIN, ROOTS, progress)
    assert (found.height, found.index_entries) == (HEIGHT, HEIGHT)
    assert found.transactions == sum(len(transactions_of(height)) for height in range(1, HEIGHT + 1))
    assert found.state_keys == len(expected_state(HEIGHT))
    assert found.history_entries == len(list(kv.scan(Table.HISTORY.value)))
    assert told["blocks"] == (HEIGHT, HEIGHT) and told["state"] == (found.state_keys, found.state_keys)


def test_a_fresh_store_verifies() -> None:
    kv = MemoryKeyValue()
    create(kv)
    assert verify(kv, CHAIN, ROOTS).state_keys == len(GENESIS)


def test_evidence_beside_the_chain_stays_and_changes_nothing_about_it(kv: MemoryKeyValue) -> None:
    store = Store.open(kv, CHAIN, 100)
    store.keep_evidence(b"b" * 32, b"second")
    store.keep_evidence(b"a" * 32, b"first")
    again = Store.open(kv, CHAIN, 100)
    assert list(again.evidence()) == [(b"a" * 32, b"first"), (b"b" * 32, b"second")]
    append(again)
    assert verify(kv, CHAIN, ROOTS).height == HEIGHT + 1


def test_another_chain_and_an_empty_store_are_refused(kv: MemoryKeyValue) -> None:
    with pytest.raises(ConfigurationError, match="is of chain"):
        verify(kv, sha256(b"another"))
    with pytest.raises(ConfigurationError, match="holds no chain"):
        verify(MemoryKeyValue(), CHAIN)


def _replace(table: Table, height: int, change: Callable[[bytes], bytes | None]) -> Callable[[MemoryKeyValue], None]:
    def act(kv: MemoryKeyValue) -> None:
        key = height_key(table, height)
        raw = kv.get(key)
        assert raw is not None
        kv.write([(key, change(raw))])

    return act


def _put(key: bytes, value: bytes | None) -> Callable[[MemoryKeyValue], None]:
    return lambda kv: kv.write([(key, value)])


def _forged_certificate(raw: bytes) -> bytes:
    good = decode(Certificate, raw)
    return encode(Certificate(good.epoch, good.view + 1, good.height, good.block_hash, good.signatures))


def _receipts_cut(raw: bytes) -> bytes:
    stored = decode(StoredReceipts, raw)
    return encode(StoredReceipts(stored.automatic_count, (*stored.receipts[:-1], b"another receipt")))


def _later(raw: bytes) -> bytes:
    header = decode(Header, raw)
    fields = [getattr(header, name) for name in header.__struct_fields__]
    fields[header.__struct_fields__.index("time_ms")] += 1
    return encode(Header(*fields))


def _name(kv: MemoryKeyValue, height: int) -> bytes:
    raw = kv.get(height_key(Table.CERTIFICATE, height))
    assert raw is not None
    return decode(Certificate, raw).block_hash


def _head(height: int) -> Callable[[MemoryKeyValue], None]:
    return lambda kv: kv.write([(Meta.HEAD.value, encode(Head(height, _name(kv, height), 0, 1)))])


def _head_keeping(history_first: int, blocks_first: int) -> Callable[[MemoryKeyValue], None]:
    return lambda kv: kv.write(
        [(Meta.HEAD.value, encode(Head(HEIGHT, _name(kv, HEIGHT), history_first, blocks_first)))]
    )


_ID = sha256(transactions_of(6)[1])
_STATE_KEY = b"new/%d" % HEIGHT


def _first_bucket(value: bytes | None) -> Callable[[MemoryKeyValue], None]:
    return lambda kv: kv.write([(next(kv.scan(Table.BUCKET.value))[0], value)])


def _place(key: bytes, height: int) -> bytes:
    return Table.HISTORY.value + terminated(key) + height.to_bytes(8, "big")


def _leave_out_history(height: int) -> Callable[[MemoryKeyValue], None]:
    """As a store that had recorded nothing of this block."""

    def act(kv: MemoryKeyValue) -> None:
        listed = height_key(Table.TOUCHED, height)
        keys = decode(tuple[bytes, ...], kv.get(listed) or b"")
        kv.write([(listed, None), *((_place(key, height), None) for key in keys)])

    return act


DAMAGE: dict[str, tuple[Callable[[MemoryKeyValue], None], str]] = {
    "header gone": (_replace(Table.HEADER, 4, lambda raw: None), "header 4"),
    "header changed": (_replace(Table.HEADER, 4, _later), "4"),
    "header junk": (_replace(Table.HEADER, 4, lambda raw: raw[:-1]), "header 4"),
    "certificate gone": (_replace(Table.CERTIFICATE, 4, lambda raw: None), "certificate 4"),
    "certificate forged": (_replace(Table.CERTIFICATE, 4, _forged_certificate), "certificate 4"),
    "receipts changed": (_replace(Table.RECEIPTS, 5, _receipts_cut), "receipts 5"),
    "body gone": (_replace(Table.BODY, 6, lambda raw: None), "body 6"),
    "body changed": (_replace(Table.BODY, 6, lambda raw: raw.replace(b"of block", b"at block")), "body 6"),
    "body short": (_replace(Table.BODY, 6, lambda raw: encode([])), "body 6"),
    "transaction not indexed": (_put(Table.TRANSACTION.value + _ID, None), "index of transactions lacks"),
    "transaction elsewhere": (_put(Table.TRANSACTION.value + _ID, bytes(12)), "index of transactions lacks"),
    "foreign transaction": (_put(Table.TRANSACTION.value + bytes(32), bytes(7) + b"\x01" + bytes(4)), "has 19 entries"),
    "transaction above": (_put(Table.TRANSACTION.value + bytes(32), b"\xff" * 12), "above the committed height"),
    "block hash not indexed": (lambda kv: kv.write([(Table.BLOCK_HASH.value + _name(kv, 7), None)]), "block 7"),
    "foreign block hash": (_put(Table.BLOCK_HASH.value + bytes(32), bytes(8)), "entries too many"),
    "block above the head": (_put(height_key(Table.BODY, HEIGHT + 1), encode([])), "above the committed height"),
    "head behind": (_head(HEIGHT - 1), "above the committed height"),
    "state changed": (_put(Table.STATE.value + _STATE_KEY, b"rich"), "another value than the state tree"),
    "state key gone": (_put(Table.STATE.value + _STATE_KEY, None), "keys that the state has not"),
    "state key forged": (_put(Table.STATE.value + b"forged", b"rich"), "another value than the state tree"),
    "state and tree key gone": (
        lambda kv: kv.write([(Table.STATE.value + _STATE_KEY, None), (Table.TREE.value + key_hash(_STATE_KEY), None)]),
        "another root than header",
    ),
    "leaf changed": (_put(Table.TREE.value + key_hash(_STATE_KEY), bytes(32)), "another value than the state tree"),
    "leaf gone": (_put(Table.TREE.value + key_hash(_STATE_KEY), None), "another value than the state tree"),
    "leaf forged": (_put(Table.TREE.value + bytes(32), bytes(32)), "keys that the state has not"),
    "hash of a bucket changed": (_first_bucket(bytes(32)), "hash of bucket .* is not that of its leaves"),
    "hash of a bucket gone": (_first_bucket(None), "hash of bucket .* is not that of its leaves"),
    "hash of an empty bucket": (_put(Table.BUCKET.value + bytes(4), bytes(32)), "hash of bucket 0 .* is not that of"),
    "hash of no bucket": (_put(Table.BUCKET.value + b"\xff" * 4, bytes(32)), "hash of bucket 4294967295"),
    "history gone": (
        _put(height_key(Table.HISTORY, 0)[:1] + terminated(_STATE_KEY) + HEIGHT.to_bytes(8, "big"), None),
        "history lacks",
    ),
    "value in the history changed": (
        _put(_place(b"new/%d" % (HEIGHT - 3), HEIGHT), b"\x01unborn"),
        "the history of block 12 does not give back the state below it",
    ),
    "value in the history said to be absent": (
        _put(_place(b"new/%d" % (HEIGHT - 3), HEIGHT), b"\x00"),
        "the history of block 12 does not give back the state below it",
    ),
    "value in the history with another mark": (
        _put(_place(b"new/%d" % (HEIGHT - 3), HEIGHT), b"\x02born"),
        "the history of block 12 has no value for the state key",
    ),
    "first value in the history changed": (
        _put(_place(b"account/\x01", 1), b"\x01rich"),
        "the history of block 1 does not give back the state below it",
    ),
    "history of a block left out": (
        _leave_out_history(5),
        "the history of block 5 does not give back the state below it",
    ),
    "history forged": (_put(Table.HISTORY.value + terminated(b"x") + bytes(8), b"\x00"), "entries too many"),
    "blocks said to begin above": (_head_keeping(0, 4), "keeps blocks from 4 on, and states from 0 on"),
    "blocks said to be pruned": (_head_keeping(3, 4), "below the first kept height 4"),
    "list of index entries gone": (_replace(Table.INDEXED, 6, lambda raw: None), "list of index entries of block 6"),
    "list of index entries short": (
        _replace(Table.INDEXED, 6, lambda raw: encode(Indexed((), decode(Indexed, raw).keys))),
        "has 0 transactions of 2",
    ),
    "list of index entries of others": (
        _replace(Table.INDEXED, 6, lambda raw: raw.replace(_ID, sha256(transactions_of(6)[0]))),
        "index of transactions lacks",
    ),
    "index entry gone": (_put(Table.INDEX.value + b"party/5", None), "index lacks the entry .* of block 6"),
    "index entry forged": (_put(Table.INDEX.value + b"party/x", b""), "the index has 13 entries"),
    "touched junk": (_replace(Table.TOUCHED, 3, lambda raw: b"?"), "list of keys of block 3"),
    "epoch gone": (_put(height_key(Table.EPOCH, 1), None), "first epoch"),
    "epoch changed": (_replace(Table.EPOCH, 1, lambda raw: raw[:-1] + bytes([raw[-1] ^ 1])), "epoch"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found_and_named(kv: MemoryKeyValue, name: str) -> None:
    act, words = DAMAGE[name]
    act(kv)
    with pytest.raises(StorageDamage, match=words) as caught:
        verify(kv, CHAIN, ROOTS)
    assert "otcnode db" in str(caught.value)


def test_a_certificate_of_another_block_of_the_chain_is_found(kv: MemoryKeyValue) -> None:
    other = decode(Header, kv.get(height_key(Table.HEADER, 5)) or b"")
    kv.write([(height_key(Table.CERTIFICATE, 4), encode(certify(other, reopen(kv).epoch_of(5))))])
    with pytest.raises(StorageDamage, match="certificate 4 is of another block"):
        verify(kv, CHAIN, ROOTS)

"""One chain in a store: what is committed is found again, as of any kept height, and nothing else is."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otcnode.blocks import Epoch, block_hash
from otcnode.codec import encode
from otcnode.crypto import sha256
from otcnode.errors import ConfigurationError, OtherFormat, StorageDamage
from otcnode.genesis import genesis_block_hash
from otcnode.storage.faulty import Fault, FaultKind, FaultyKeyValue, SimulatedCrash
from otcnode.storage.kv import MemoryKeyValue
from otcnode.storage.level import LevelKeyValue
from otcnode.storage.records import ChainMeta, read_chain_meta
from otcnode.storage.rollback import rollback
from otcnode.storage.schema import FORMAT, Meta, Table, terminated, unterminated
from otcnode.storage.state_proof import key_hash
from otcnode.storage.store import FORGOTTEN_BLOCKS_MAX, Store
from otcnode.storage.tools import verify
from tests.storage.chain import (
    BUCKETS,
    CHAIN,
    EPOCH,
    GENESIS,
    append,
    create,
    expected_state,
    reopen,
    transactions_of,
)
from tests.storage.test_tools import ROOTS

HEIGHT = 25


def filled(kv: MemoryKeyValue | None = None, height: int = HEIGHT) -> Store:
    store = create(kv or MemoryKeyValue())
    for _ in range(height):
        append(store)
    return store


def test_a_new_store_is_at_the_genesis() -> None:
    kv = MemoryKeyValue()
    store = create(kv)
    assert store.tip == (0, genesis_block_hash(CHAIN, store.tree.root), None, None)
    assert dict(store.state.scan(b"")) == GENESIS
    assert store.epochs() == (EPOCH,)
    assert store.header(0) is None and store.block(1) is None
    assert reopen(kv).tip == store.tip


def test_everything_of_a_block_is_found_again_after_a_restart() -> None:
    kv = MemoryKeyValue()
    store = filled(kv)
    for opened in (store, reopen(kv)):
        assert opened.tip.height == HEIGHT
        assert dict(opened.state.scan(b"")) == expected_state(HEIGHT)
        for height in range(1, HEIGHT + 1):
            block = opened.block(height)
            assert block is not None and block.transactions == tuple(transactions_of(height))
            certificate, receipts = opened.certificate(height), opened.receipts(height)
            assert certificate is not None and certificate.block_hash == block_hash(block.header)
            assert opened.height_of(certificate.block_hash) == height
            assert receipts is not None and receipts.automatic_count == 1
            assert len(receipts.receipts) == 1 + len(block.transactions)
            for position, raw in enumerate(block.transactions):
                assert opened.transaction_location(sha256(raw)) == (height, position)
        assert opened.header(HEIGHT + 1) is None and opened.certificate(0) is None
        assert opened.height_of(sha256(b"?")) is None and opened.transaction_location(sha256(b"?")) is None


def test_the_first_way_up_is_over_for_good_with_the_block_by_which_the_node_has_caught_up() -> None:
    kv = MemoryKeyValue()
    append(create(kv))
    store = reopen(kv)
    assert store.first_way_up, "no start ends it"
    store.first_way_up = False
    assert reopen(kv).first_way_up
    append(store)
    assert not reopen(kv).first_way_up
    rollback(kv, CHAIN, 1, lambda: None)
    assert not reopen(kv).first_way_up
    verify(kv, CHAIN)


def test_a_store_of_an_earlier_version_that_does_not_speak_of_a_first_way_up_has_it_behind_itself() -> None:
    kv = MemoryKeyValue()
    append(create(kv))
    kv.write([(Meta.FIRST_WAY_UP.value, None)])
    assert not reopen(kv).first_way_up


def test_any_kept_height_can_be_read_as_it_was() -> None:
    store = filled()
    everything = {key for height in range(HEIGHT + 1) for key in expected_state(height)}
    for height in range(HEIGHT + 1):
        view, state = store.state_at(height), expected_state(height)
        assert list(view.scan(b"")) == sorted(state.items())
        for key in everything:
            assert view.get(key) == state.get(key)
    for height in (-1, HEIGHT + 1):
        with pytest.raises(LookupError, match="states of heights 0 to 25 are kept"):
            store.state_at(height)


hostile_keys = st.lists(st.sampled_from([b"\x00", b"\x01", b"a", b"\xff"]), max_size=3).map(b"".join)


@settings(max_examples=80, deadline=None)
@given(
    blocks=st.lists(st.dictionaries(hostile_keys, st.none() | st.binary(max_size=2), max_size=4), max_size=6),
    prefix=hostile_keys,
    after=st.none() | hostile_keys,
    limit=st.none() | st.integers(0, 4),
)
def test_past_scans_are_those_of_the_past_state(
    blocks: list[dict[bytes, bytes | None]], prefix: bytes, after: bytes | None, limit: int | None
) -> None:
    store = create(MemoryKeyValue())
    states = [dict(GENESIS)]
    for writes in blocks:
        append(store, writes=writes, transactions=[])
        states.append({key: value for key, value in {**states[-1], **writes}.items() if value is not None})
    for height, state in enumerate(states):
        view = store.state_at(height)
        expected = [
            (key, value)
            for key, value in sorted(state.items())
            if key.startswith(prefix) and (after is None or key > after)
        ]
        assert list(view.scan(prefix, after, limit)) == expected[:limit]
        assert {key: view.get(key) for key in [prefix, after or b""]} == {
            key: state.get(key) for key in [prefix, after or b""]
        }


@given(st.lists(hostile_keys | st.binary(max_size=4), unique=True))
def test_terminated_keys_keep_their_order_and_none_is_a_prefix_of_another(names: list[bytes]) -> None:
    forms = [terminated(name) for name in sorted(names)]
    assert forms == sorted(forms)
    assert [unterminated(form) for form in forms] == sorted(names)
    assert not any(upper.startswith(lower) for lower, upper in pairwise(forms))


def test_history_beyond_the_window_is_dropped() -> None:
    kv = MemoryKeyValue()
    store = create(kv, history_blocks=5)
    for _ in range(HEIGHT):
        append(store)
    assert store.history_first == HEIGHT - 5 == reopen(kv, 5).history_first
    for height in range(HEIGHT - 5, HEIGHT + 1):
        assert dict(store.state_at(height).scan(b"")) == expected_state(height)
    with pytest.raises(LookupError):
        store.state_at(HEIGHT - 6)
    kept = [int.from_bytes(key[-8:], "big") for key, _ in kv.scan(Table.HISTORY.value)]
    assert min(kept) == HEIGHT - 4
    assert len(list(kv.scan(Table.TOUCHED.value))) == 5


def test_a_shortened_window_is_paid_for_step_by_step_and_a_widened_one_starts_now() -> None:
    kv = MemoryKeyValue()
    filled(kv, 40)
    store = reopen(kv, 0)
    append(store)
    assert store.history_first == FORGOTTEN_BLOCKS_MAX
    append(store)
    append(store)
    assert store.history_first == 43 and not list(kv.scan(Table.HISTORY.value))
    store = reopen(kv, 100)
    append(store)
    assert store.history_first == 43
    assert dict(store.state_at(43).scan(b"")) == expected_state(43)


def settings_of_a_start() -> st.SearchStrategy[tuple[int, int | None, int]]:
    """(history_blocks, blocks_kept, blocks that are committed before the next start)"""
    return st.tuples(
        st.sampled_from([0, 0, 1, 3, 20, 1_000]), st.sampled_from([None, None, 1, 4, 30]), st.integers(0, 12)
    )


@settings(max_examples=60, deadline=None)
@given(starts=st.lists(settings_of_a_start(), min_size=1, max_size=5))
def test_whatever_is_kept_from_one_start_to_the_next_no_state_is_false_that_a_store_says_it_has(
    starts: list[tuple[int, int | None, int]],
) -> None:
    kv = MemoryKeyValue()
    filled(kv)
    for history_blocks, blocks_kept, blocks in starts:
        store = Store.open(kv, CHAIN, history_blocks, blocks_kept)
        for _ in range(blocks):
            append(store)
            height = store.tip.height
            claimed = range(store.history_first, height + 1)
            assert [at for at in claimed if dict(store.state_at(at).scan(b"")) != expected_state(at)] == []
            assert all(store.block(at) for at in range(store.blocks_first, height + 1))
        assert verify(kv, CHAIN, ROOTS).height == store.tip.height
    taken = MemoryKeyValue()
    taken.write(list(kv.scan(b"")))
    rollback(taken, CHAIN, store.history_first, lambda: None)
    assert dict(reopen(taken).state.scan(b"")) == expected_state(store.history_first)


def test_a_window_that_is_closed_serves_nothing_false_while_it_closes() -> None:
    """It takes some blocks: as long as a state is said to be known, what later blocks replace is recorded."""
    kv = MemoryKeyValue()
    filled(kv, 60)
    store = reopen(kv, 0)
    append(store)
    assert store.history_first == FORGOTTEN_BLOCKS_MAX
    for height in range(FORGOTTEN_BLOCKS_MAX, 62):
        assert dict(store.state_at(height).scan(b"")) == expected_state(height)
    while store.history_first < store.tip.height:
        append(store)
    assert store.tip.height == 64 and not list(kv.scan(Table.HISTORY.value))


def test_index_entries_are_scanned_without_their_table() -> None:
    store = create(MemoryKeyValue())
    append(store, index=[(b"party/b", b"2"), (b"party/a", b"1"), (b"q", b"")])
    assert list(store.index_scan(b"party/")) == [(b"party/a", b"1"), (b"party/b", b"2")]
    assert list(store.index_scan(b"party/", after=b"party/a", limit=1)) == [(b"party/b", b"2")]
    assert list(store.index_scan(b"", after=b"q", reverse=True, limit=1)) == [(b"party/b", b"2")]


def test_epochs_are_kept_with_the_block_that_ends_the_one_before() -> None:
    kv = MemoryKeyValue()
    store = create(kv)
    second = Epoch(3, tuple(sorted([*EPOCH.validators, sha256(b"joiner")])), EPOCH.parameters)
    append(store, next_epoch=EPOCH)
    append(store, next_epoch=second)
    for opened in (store, reopen(kv)):
        assert opened.epochs() == (EPOCH, second)
        assert [opened.epoch_of(height) for height in (1, 2, 3)] == [EPOCH, EPOCH, second]
        with pytest.raises(AssertionError):
            opened.epoch_of(4)


def test_a_dropped_speculation_leaves_no_trace_and_stacked_ones_commit_in_order() -> None:
    kv = MemoryKeyValue()
    store = create(kv)
    before = list(kv.scan(b""))
    store.tree.speculate({b"account/\x00": b"dropped"})
    first = store.tree.speculate({b"a": b"1"})
    second = store.tree.speculate({b"a": None, b"b": b"2"}, first)
    assert list(kv.scan(b"")) == before
    append(store, writes={b"a": b"1"}, changes=first)
    append(store, writes={b"a": None, b"b": b"2"}, changes=second)
    assert dict(reopen(kv).state.scan(b"")) == {**GENESIS, b"b": b"2"}


def test_another_chain_and_another_format_and_a_second_creation_are_refused() -> None:
    kv = MemoryKeyValue()
    with pytest.raises(ConfigurationError, match="holds no chain yet"):
        reopen(kv)
    create(kv)
    with pytest.raises(ConfigurationError, match="is of chain"):
        Store.open(kv, sha256(b"another"), 10)
    with pytest.raises(ConfigurationError, match="already holds a chain"):
        create(kv)
    meta = read_chain_meta(kv, CHAIN)
    older = ChainMeta(FORMAT - 1, meta.chain, meta.buckets, meta.genesis_state_root)
    kv.write([(Meta.CHAIN.value, encode(older))])
    with pytest.raises(OtherFormat, match=f"has format {FORMAT - 1}, this version reads {FORMAT}: restore a snapshot"):
        reopen(kv)
    kv.write([(Meta.CHAIN.value, encode((FORMAT + 1, "fields", "of", "that", "version")))])
    with pytest.raises(OtherFormat, match=f"has format {FORMAT + 1}"):
        reopen(kv)


@pytest.mark.parametrize(
    "key", [Meta.CHAIN.value, Meta.HEAD.value, *(t.value + (HEIGHT).to_bytes(8, "big") for t in (Table.HEADER,))]
)
@pytest.mark.parametrize("value", [None, b"junk"])
def test_a_missing_or_foreign_record_is_damage(key: bytes, value: bytes | None) -> None:
    kv = MemoryKeyValue()
    filled(kv)
    kv.write([(key, value)])
    with pytest.raises(StorageDamage, match="otcnode db verify"):
        reopen(kv)


@pytest.mark.parametrize("value", [None, bytes(32)])
def test_hashes_of_buckets_that_do_not_give_the_header_s_root_are_damage(value: bytes | None) -> None:
    kv = MemoryKeyValue()
    filled(kv)
    bucket, _ = next(kv.scan(Table.BUCKET.value))
    kv.write([(bucket, value)])
    with pytest.raises(StorageDamage, match="state tree at height 25"):
        Store.open(kv, CHAIN, 100)


def test_a_leaf_that_is_not_its_bucket_s_stops_the_block_that_touches_it() -> None:
    kv = MemoryKeyValue()
    filled(kv)
    leaf = Table.TREE.value + key_hash(b"account/\x05")
    assert kv.get(leaf) is not None
    kv.write([(leaf, bytes(32))])
    store = Store.open(kv, CHAIN, 100)
    before = list(kv.scan(b""))
    with pytest.raises(StorageDamage, match=f"bucket {leaf[1]} of the state tree"):
        append(store, writes={b"account/\x05": b"rich"})
    assert store.tip.height == HEIGHT and list(kv.scan(b"")) == before
    with pytest.raises(StorageDamage, match=f"bucket {leaf[1]} of the state tree"):
        reopen(kv)


def test_only_the_next_block_is_committed() -> None:
    store = create(MemoryKeyValue())
    other = create(MemoryKeyValue())
    append(other)
    header = append(other)
    changes = store.tree.speculate({})
    with pytest.raises(AssertionError, match="not the next block"):
        store.commit(
            header=header,
            certificate=other.tip.certificate,  # type: ignore[arg-type]
            entries=(),
            transactions=(),
            receipts=(),
            automatic_count=0,
            state_writes={},
            tree_changes=changes,
        )


@pytest.mark.parametrize("write", range(1, 8))
@pytest.mark.parametrize("kind", [FaultKind.CRASH_BEFORE, FaultKind.TORN, FaultKind.CRASH_AFTER, FaultKind.UNSYNCED])
def test_after_a_crash_at_any_write_exactly_a_committed_height_is_there(kind: FaultKind, write: int) -> None:
    kv = FaultyKeyValue([Fault(write, kind)])
    try:
        store = create(kv)
        while store.tip.height < 10:
            append(store)
        kv.crash()
    except SimulatedCrash:
        pass
    kv.reopen()
    survived = write - 1 if kind is FaultKind.CRASH_AFTER else write - 2
    if survived < 0:
        assert not Store.exists(kv)
        store = create(kv)
    else:
        store = reopen(kv)
    assert store.tip.height == max(0, survived)
    while store.tip.height < 10:
        append(store)
    assert dict(store.state.scan(b"")) == expected_state(10)


@pytest.mark.parametrize("kind", [FaultKind.FAIL, FaultKind.DISK_FULL])
def test_a_refused_write_commits_nothing_and_the_store_can_be_opened_again(kind: FaultKind) -> None:
    kv = FaultyKeyValue([Fault(4, kind)])
    store = create(kv)
    append(store)
    append(store)
    for _ in range(2):
        with pytest.raises(StorageDamage):
            append(store)
    assert store.tip.height == 2 and dict(store.state.scan(b"")) == expected_state(2)
    kv.crash()
    kv.reopen()
    store = reopen(kv)
    append(store)
    assert store.tip.height == 3 and dict(store.state.scan(b"")) == expected_state(3)


def test_rot_is_never_served() -> None:
    for place in range(0, 200, 3):
        kv = FaultyKeyValue([Fault(11, FaultKind.ROT, place)])
        store = create(kv)
        for _ in range(10):
            append(store)
        with pytest.raises(StorageDamage):
            list(kv.scan(b""))
        kv.crash()
        kv.reopen()
        try:
            opened = reopen(kv)
            assert dict(opened.state.scan(b"")) == expected_state(10)
        except StorageDamage as error:
            assert "db verify" in str(error)


def test_a_chain_on_leveldb_survives_restarts(tmp_path: Path) -> None:
    kv = LevelKeyValue(tmp_path / "chain", create=True)
    create(kv).close()
    for height in range(1, 6):
        kv = LevelKeyValue(tmp_path / "chain")
        store = reopen(kv)
        append(store)
        assert store.tip.height == height
        assert dict(store.state.scan(b"")) == expected_state(height)
        store.close()


def test_an_empty_genesis_has_the_empty_root() -> None:
    store = Store.create(MemoryKeyValue(), CHAIN, {}, BUCKETS, EPOCH, 0)
    assert list(store.state.scan(b"")) == []


def test_a_past_state_stays_what_it_was_while_blocks_are_committed_and_is_refused_once_it_is_dropped() -> None:
    store = create(MemoryKeyValue(), history_blocks=3)
    for _ in range(5):
        append(store)
    view = store.state_at(5)
    running = view.scan(b"")
    seen = [next(running)]
    for _ in range(3):
        append(store)
        assert dict(view.scan(b"")) == expected_state(5)
    append(store)
    assert [*seen, *running] == sorted(expected_state(5).items())
    for read in (lambda: view.get(b"account/\x01"), lambda: list(view.scan(b""))):
        with pytest.raises(LookupError, match="states of heights 6 to 9 are kept, not 5"):
            read()


def test_index_entries_can_be_taken_back() -> None:
    store = create(MemoryKeyValue())
    append(store, index=[(b"open/1", b""), (b"open/2", b"")])
    append(store, index=[(b"open/1", None), (b"closed/1", b"")])
    assert [key for key, _ in store.index_scan(b"")] == [b"closed/1", b"open/2"]

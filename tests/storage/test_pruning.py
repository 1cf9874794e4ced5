"""Blocks that leave their window are gone with all that speaks of them; what a light verifier needs stays."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from otcnode import limits
from otcnode.blocks import Epoch, block_hash, check_certificate, validators_hash
from otcnode.crypto import sha256
from otcnode.storage import pruning
from otcnode.storage.faulty import FaultKind, FaultyKeyValue, SimulatedCrash
from otcnode.storage.foundation import foundation, state_batch
from otcnode.storage.kv import MemoryKeyValue, Write
from otcnode.storage.leaves import hashes_of_leaves
from otcnode.storage.level import LevelKeyValue
from otcnode.storage.pruning import Pruned, Room, prune
from otcnode.storage.schema import Table
from otcnode.storage.store import PRUNED_BLOCKS_MAX, Store
from otcnode.storage.tools import verify
from tests.storage.chain import BUCKETS, CHAIN, EPOCH, JOINER, append, create, expected_state, reopen, transactions_of
from tests.storage.test_tools import ROOTS

HEIGHT = 25
KEPT = 6
SECOND = Epoch(9, tuple(sorted([*EPOCH.validators, JOINER.public])), EPOCH.parameters)


def grow(store: Store, height: int) -> None:
    """Up to `height`, with a second epoch from its height on."""
    while store.tip.height < height:
        above = store.tip.height + 1
        index = [(b"party/%d" % above, b"x")]
        epoch = SECOND if above >= SECOND.number - 1 else None
        append(store, index=index, next_epoch=epoch)


def pruned(height: int = HEIGHT) -> MemoryKeyValue:
    kv = MemoryKeyValue()
    store = create(kv)
    store.blocks_kept = KEPT
    grow(store, height)
    return kv


def test_a_window_of_blocks_is_kept_with_the_certified_header_below_it() -> None:
    kv = pruned()
    for store in (reopen(kv), Store.open(kv, CHAIN, 1_000, KEPT)):
        first = HEIGHT - KEPT + 1
        assert (store.blocks_first, store.history_first) == (first, first - 1)
        for height in range(1, first):
            assert store.block(height) is None and store.receipts(height) is None
            assert not any(store.transaction_location(sha256(raw)) for raw in transactions_of(height))
        for height in range(first, HEIGHT + 1):
            block, receipts = store.block(height), store.receipts(height)
            assert block is not None and block.transactions == tuple(transactions_of(height))
            assert receipts is not None and store.certificate(height) is not None
        below = store.header(first - 1)
        assert below is not None and store.forgotten_until_ms == below.time_ms
        assert [key for key, _ in store.index_scan(b"party/")] == sorted(
            b"party/%d" % height for height in range(first, HEIGHT + 1)
        )
        assert dict(store.state_at(first - 1).scan(b"")) == expected_state(first - 1)
        with pytest.raises(LookupError):
            store.state_at(first - 2)


def test_nothing_else_is_left_of_what_is_pruned() -> None:
    """As many entries per table as a store has that knows only the kept blocks."""
    kv = pruned()
    count = {table: len(list(kv.scan(table.value))) for table in Table}
    assert {table: count[table] for table in (Table.BODY, Table.RECEIPTS, Table.BLOCK_HASH, Table.INDEXED)} == {
        Table.BODY: KEPT,
        Table.RECEIPTS: KEPT,
        Table.BLOCK_HASH: KEPT,
        Table.INDEXED: KEPT,
    }
    # the kept ones, the one below them, and the last of the first epoch
    assert count[Table.HEADER] == count[Table.CERTIFICATE] == KEPT + 2
    assert count[Table.TOUCHED] == KEPT
    assert count[Table.TRANSACTION] == sum(len(transactions_of(HEIGHT - above)) for above in range(KEPT))


def test_the_validator_sets_can_be_followed_from_the_first_epoch_on() -> None:
    store = reopen(pruned())
    assert store.epochs() == (EPOCH, SECOND)
    end, certificate = store.header(SECOND.number - 1), store.certificate(SECOND.number - 1)
    assert end is not None and certificate is not None and certificate.block_hash == block_hash(end)
    check_certificate(certificate, CHAIN, EPOCH)
    assert end.next_validators_hash == validators_hash(SECOND)
    assert store.header(SECOND.number - 2) is None and store.certificate(SECOND.number) is None


def test_a_pruned_store_verifies() -> None:
    found = verify(pruned(), CHAIN, ROOTS)
    assert (found.height, found.blocks_first, found.index_entries) == (HEIGHT, HEIGHT - KEPT + 1, KEPT)


def test_a_shortened_window_is_paid_for_step_by_step_and_a_widened_one_starts_now() -> None:
    kv = MemoryKeyValue()
    grow(create(kv), HEIGHT)
    store = Store.open(kv, CHAIN, 1_000, KEPT)
    for step in range(1, 6):
        append(store, next_epoch=SECOND)
        assert store.blocks_first == 1 + step * PRUNED_BLOCKS_MAX
    assert verify(kv, CHAIN, ROOTS).blocks_first == 11
    store = reopen(kv)
    append(store, next_epoch=SECOND)
    assert store.blocks_first == 11


def test_a_window_of_one_block_is_the_shortest() -> None:
    kv = pruned(3)
    store = Store.open(kv, CHAIN, 1_000, 1)
    grow(store, 12)
    assert store.blocks_first == store.tip.height == 12
    assert verify(kv, CHAIN, ROOTS).blocks_first == 12


def founded(source: Store) -> MemoryKeyValue:
    """A store that begins at the tip of another."""
    kv = MemoryKeyValue()
    tip, ends = source.tip, []
    for epoch in source.epochs()[1:]:
        header, certificate = source.header(epoch.number - 1), source.certificate(epoch.number - 1)
        assert header is not None and certificate is not None
        ends.append((header, certificate))
    assert tip.header is not None and tip.certificate is not None
    kv.write(state_batch(source.state.scan(b"")))
    genesis_root = create(MemoryKeyValue()).tree.root
    kv.write(
        foundation(
            CHAIN,
            BUCKETS,
            hashes_of_leaves(kv, BUCKETS),
            genesis_root,
            source.epochs(),
            ends,
            tip.header,
            tip.certificate,
        )
    )
    return kv


@pytest.mark.parametrize("height", [3, SECOND.number - 1, SECOND.number, HEIGHT])
def test_a_store_can_begin_at_the_state_after_any_block(height: int) -> None:
    whole = create(MemoryKeyValue())
    grow(whole, height)
    kv = founded(whole)
    store = reopen(kv)
    assert store.tip == whole.tip and store.epochs() == whole.epochs()
    assert (store.blocks_first, store.history_first) == (height + 1, height)
    assert store.block(height) is None and store.header(height) == whole.tip.header
    assert verify(kv, CHAIN, ROOTS).blocks_first == height + 1
    for opened in (whole, store):
        grow(opened, height + 12)
    assert store.tip == whole.tip
    assert dict(store.state_at(height).scan(b"")) == expected_state(height)
    found = verify(kv, CHAIN, ROOTS)
    assert (found.height, found.blocks_first) == (height + 12, height + 1)


def test_a_founded_store_without_its_foundation_does_not_open() -> None:
    whole = create(MemoryKeyValue())
    grow(whole, 5)
    kv = MemoryKeyValue()
    kv.write(state_batch(whole.state.scan(b"")))
    with pytest.raises(Exception, match="description of the chain is damaged or missing"):
        reopen(kv)


@pytest.mark.parametrize("kept", [1, 2, KEPT, 24, 25, 100])
def test_a_stopped_store_is_pruned_to_the_same_as_a_running_one(kept: int) -> None:
    kv, running = MemoryKeyValue(), MemoryKeyValue()
    grow(create(kv), HEIGHT)
    store = create(running)
    store.blocks_kept = kept
    grow(store, HEIGHT)
    found = prune(kv, CHAIN, kept)
    first = max(1, HEIGHT - kept + 1)
    assert found == Pruned(first - 1, first - 1, first, first - 1)
    assert list(kv.scan(b"")) == list(running.scan(b""))
    assert prune(kv, CHAIN, kept) == Pruned(0, 0, first, first - 1)


def test_history_is_pruned_by_itself() -> None:
    kv, short = MemoryKeyValue(), MemoryKeyValue()
    grow(create(kv), HEIGHT)
    grow(create(short, 3), HEIGHT)
    assert prune(kv, CHAIN, 100, 3) == Pruned(0, HEIGHT - 3, 1, HEIGHT - 3)
    assert list(kv.scan(b"")) == list(short.scan(b""))


def test_a_pruning_cut_short_is_sound_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "BLOCKS_PER_WRITE", 4)
    told: list[tuple[str, int, int]] = []
    for count in range(1, 6):
        kv = FaultyKeyValue()
        grow(create(kv), HEIGHT)
        kv.arm(FaultKind.CRASH_AFTER, count)
        with pytest.raises(SimulatedCrash):
            prune(kv, CHAIN, KEPT)
        kv.reopen()
        assert verify(kv, CHAIN, ROOTS).blocks_first == min(1 + 4 * count, HEIGHT - KEPT + 1)
        prune(kv, CHAIN, KEPT, None, lambda *step: told.append(step))
        assert list(kv.scan(b"")) == list(pruned().scan(b""))
    assert told[:4] == [("pruned", done, 30) for done in (8, 16, 24, 30)]


def test_pruning_gives_the_disk_back(tmp_path: Path) -> None:
    kv = LevelKeyValue(tmp_path / "chain", create=True)
    store, chance = create(kv), random.Random(1)
    for _ in range(300):
        append(store, writes={b"same": chance.randbytes(100)}, transactions=[chance.randbytes(10_000)])
    kv.compact()
    before = kv.size_bytes()
    room = Room(kv)
    prune(kv, CHAIN, 10, room=room)
    room.all()
    after = kv.size_bytes()
    assert before > 3_000_000 and after < before / 10
    assert verify(kv, CHAIN).blocks_first == 291
    kv.close()


class Watched(LevelKeyValue):
    """Notes what the directory takes after each write, and stops at one of the compactions. Its disk is full, as far as
    it says."""

    most_bytes = 0
    compactions = 0
    stopped_at = 0

    def write(self, batch: Sequence[Write]) -> None:
        super().write(batch)
        self.most_bytes = max(self.most_bytes, self.size_bytes())

    def compact(self, prefix: bytes = b"", below: bytes | None = None) -> None:
        self.compactions += 1
        if self.compactions == self.stopped_at:
            raise KeyboardInterrupt
        super().compact(prefix, below)

    def free_bytes(self) -> int:
        return 0


def filled(path: Path, blocks: int, changes: int, key_bytes: int) -> None:
    """A closed store whose deletions take nearly as much as what they delete, in places all over it."""
    kv, chance = LevelKeyValue(path, create=True), random.Random(1)
    store = create(kv)
    for _ in range(blocks):
        append(
            store,
            writes={chance.randbytes(key_bytes): b"value" for _ in range(changes)},
            index=[(b"party/" + chance.randbytes(key_bytes), b"") for _ in range(changes)],
        )
    kv.compact()
    kv.close()


def test_a_pruning_takes_no_more_room_however_much_it_deletes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "pruned_bytes_before_compaction", 500_000)
    monkeypatch.setattr(limits, "pruning_growth_bytes_max", 600_000)
    filled(tmp_path / "chain", 25, 25, 6_000)
    kv = Watched(tmp_path / "chain")
    before = kv.size_bytes()
    assert before > 9 << 20
    prune(kv, CHAIN, 2, room=Room(kv))
    assert kv.most_bytes < before + (2 << 20), "the deletions alone would be 7 MB"
    assert verify(kv, CHAIN).blocks_first == 24
    kv.close()


class Deep(MemoryKeyValue):
    """Takes the room that a store of many levels takes on disk, with a disk of its own: what is deleted stays, and its
    deletion beside it, until its table is merged."""

    def __init__(self) -> None:
        super().__init__()
        self._taken_bytes = 0
        self._dead_bytes: Counter[bytes] = Counter()
        """By table."""
        self.disk_bytes = 1 << 40
        self.least_left_bytes = 1 << 40
        self.merged: list[bytes] = []
        """The tables of which all was rewritten, each time."""

    def write(self, batch: Sequence[Write]) -> None:
        for key, value in batch:
            held = self.get(key)
            held_bytes = 0 if held is None else len(key) + len(held)
            added_bytes = pruning.deletion_bytes([(key, value)]) if value is None else len(key) + len(value)
            if value is None:
                self._dead_bytes[key[:1]] += held_bytes + added_bytes
            self._taken_bytes += added_bytes - (0 if value is None else held_bytes)
        super().write(batch)
        self.least_left_bytes = min(self.least_left_bytes, self.free_bytes())

    def compact(self, prefix: bytes = b"", below: bytes | None = None) -> None:
        self._taken_bytes -= self._dead_bytes.pop(prefix, 0)
        if below is None:
            self.merged.append(prefix)

    def size_bytes(self) -> int:
        return self._taken_bytes

    def free_bytes(self) -> int:
        return self.disk_bytes - self._taken_bytes


def pruned_history(monkeypatch: pytest.MonkeyPatch, left_bytes: int) -> tuple[Deep, list[tuple[str, int, int]]]:
    """A store of which the history alone was pruned, on a disk with so much room, and what was told of giving back. A
    thousandth of the limits stands for a history of 18 million entries."""
    for name in ("disk_spare_bytes", "pruned_bytes_before_compaction", "pruning_growth_bytes_max"):
        monkeypatch.setattr(limits, name, getattr(limits, name) // 1_000)
    kv, chance = Deep(), random.Random(1)
    store = create(kv)
    for _ in range(300):
        append(store, writes={chance.randbytes(30): b"value" for _ in range(60)}, transactions=[chance.randbytes(500)])
    kv.disk_bytes = kv.size_bytes() + left_bytes
    told: list[tuple[str, int, int]] = []
    assert prune(kv, CHAIN, 300, 2, lambda *step: told.append(step), Room(kv)).states == 298
    return kv, [step for step in told if step[0] != "pruned"]


def test_on_a_full_disk_a_pruning_rewrites_only_where_it_deletes_and_ever_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not once for each so many bytes of deletions, and never bodies and receipts for the sake of the history. And it
    says what it does."""
    kv, told = pruned_history(monkeypatch, left_bytes=limits.disk_spare_bytes // 1_000)
    assert set(kv.merged) == {Table.HISTORY.value} and 2 < len(kv.merged) < 12, "with one each 8 KiB it would be 50"
    assert kv.least_left_bytes > limits.disk_spare_bytes * 3 // 4
    assert told == [("giving the disk back", done, 1) for _ in kv.merged for done in (0, 1)]


def test_where_there_is_room_a_pruning_rewrites_nothing_before_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """That takes as long as the store is large, and is done once."""
    kv, told = pruned_history(monkeypatch, left_bytes=8_000_000)
    assert kv.merged == [] and told == []
    grown = kv.size_bytes()
    Room(kv).all()
    assert sorted(kv.merged) == sorted(table.value for table in Table) and kv.size_bytes() < grown - 1_500_000


@pytest.mark.parametrize("writes_until", [1, 7, 8, 9, 20, 39])
def test_a_pruning_that_gives_room_back_can_be_stopped_there_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes_until: int
) -> None:
    monkeypatch.setattr(limits, "pruned_bytes_before_compaction", 2_000)
    monkeypatch.setattr(limits, "pruning_growth_bytes_max", 0)
    kv = Watched(tmp_path / "chain", create=True)
    grow(create(kv), HEIGHT)
    kv.stopped_at = writes_until
    with pytest.raises(KeyboardInterrupt):
        prune(kv, CHAIN, KEPT, room=Room(kv))
        Room(kv).all()
    kv.close()
    kv = Watched(tmp_path / "chain")
    assert 1 < verify(kv, CHAIN, ROOTS).blocks_first <= HEIGHT - KEPT + 1
    room = Room(kv)
    prune(kv, CHAIN, KEPT, room=room)
    room.all()
    assert list(kv.scan(b"")) == list(pruned().scan(b""))
    kv.close()


@pytest.mark.long
def test_the_room_that_a_node_leaves_is_enough_to_prune_what_it_has_filled(tmp_path: Path) -> None:
    """On a real file system that is full; without compactions in between, the deletions fill it."""
    place = tmp_path / "disk"
    place.mkdir()
    if shutil.which("mount") is None or subprocess.run(["mount", "-t", "tmpfs", "none", str(place)]).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        filled(place / "chain", 200, 100, 4_000)
        taken = LevelKeyValue(place / "chain")
        used = taken.size_bytes() + limits.disk_spare_bytes
        taken.close()
        subprocess.run(["mount", "-o", f"remount,size={used + (1 << 20)}", "none", str(place)], check=True)
        kv = LevelKeyValue(place / "chain")
        before = kv.size_bytes()
        assert before > 3 * limits.disk_spare_bytes
        room = Room(kv)
        prune(kv, CHAIN, 2, room=room)
        room.all()
        assert kv.size_bytes() < before
        assert verify(kv, CHAIN).blocks_first == 199
        kv.close()
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_blocks_that_are_needed_are_kept_however_few_are_wanted() -> None:
    store = create(MemoryKeyValue())
    store.blocks_kept = 3
    store.blocks_needed_above = 0
    for _ in range(8):
        append(store)
    assert store.blocks_first == 1
    store.blocks_needed_above = 5
    for _ in range(4):
        append(store)
    assert store.blocks_first == 6 and store.block(6) is not None

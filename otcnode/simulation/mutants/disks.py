"""Bugs that show only on a disk that is full, fails or rots."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress

from otcnode.engine.engine import Engine
from otcnode.engine.snapshot_serving import SnapshotServer
from otcnode.engine.snapshot_taking import SnapshotTaker
from otcnode.errors import FolderDamage, GatheredDamage, StorageDamage
from otcnode.p2p.framing import Channel
from otcnode.simulation.mutants.planting import planted
from otcnode.storage import votes_log
from otcnode.storage.faulty import FaultyKeyValue
from otcnode.storage.faulty_folders import FaultyFolder
from otcnode.storage.kv import Write
from otcnode.storage.leaves import read_buckets
from otcnode.storage.state_tree import StateTree
from otcnode.storage.votes_log import MemoryVotesLog, parse

Plant = AbstractContextManager[None]


def checksum_not_compared() -> Plant:
    """Whatever lies under a key is its value."""
    return planted((FaultyKeyValue, "check_sum", lambda self, key, rotten: None))


def damaged_leaf_served() -> Plant:
    """A leaf of the state tree is believed without the hash of its bucket."""

    def read(self: StateTree, first: int, end: int) -> None:
        found = dict(read_buckets(self._reader, self._shift, first, end))
        for bucket in range(first, end):
            if self._pages[bucket] is None:
                self._pages[bucket] = found.get(bucket, b"")

    return planted((StateTree, "_read", read))


def refused_write_swallowed() -> Plant:
    """A block that the disk has no room for passes for a durable one."""
    right = FaultyKeyValue.write

    def write(self: FaultyKeyValue, batch: Sequence[Write]) -> None:
        with suppress(StorageDamage):
            right(self, batch)

    return planted((FaultyKeyValue, "write", write))


def refused_sync_swallowed() -> Plant:
    """Votes leave although the disk did not take them."""
    right = Engine._make_record_durable

    def make_record_durable(self: Engine) -> None:
        try:
            right(self)
        except StorageDamage:
            self._record_dirty = False

    return planted((Engine, "_make_record_durable", make_record_durable))


def damage_passed_over() -> Plant:
    """Whoever cannot read what a peer asks for says nothing of it and goes on."""
    right = Engine.received

    def received(self: Engine, peer: bytes, channel: Channel, payload: bytes) -> None:
        with suppress(StorageDamage):
            right(self, peer, channel, payload)

    return planted((Engine, "received", received))


def record_believed_as_read() -> Plant:
    """What can be read of a voting record passes for durable."""

    def load(self: MemoryVotesLog) -> tuple[bytes, ...] | None:
        parsed = parse(self._contents)
        self._pending, self._usable = [], parsed is not None
        if parsed is None:
            return None
        self._contents = self._contents[: parsed.length]
        self._durable_bytes = min(self._durable_bytes, parsed.length)
        return parsed.entries

    return planted((MemoryVotesLog, "load", load))


def damaged_record_cut_off() -> Plant:
    """Whatever is wrong with the last frame of a voting record, it passes for one that a crash has torn."""
    return planted((votes_log, "_is_torn", lambda raw, salt, offset: True))


def damaged_snapshot_served() -> Plant:
    """A file of a snapshot is served as it lies there."""
    return planted((FaultyFolder, "check_sum", lambda self, name: None))


def refused_snapshot_kept() -> Plant:
    """What the disk refuses of a snapshot passes for written."""
    write, sync = FaultyFolder.write, FaultyFolder.sync

    def write_or_not(self: FaultyFolder, name: str, content: bytes) -> None:
        with suppress(FolderDamage):
            write(self, name, content)

    def sync_or_not(self: FaultyFolder, name: str) -> None:
        with suppress(FolderDamage):
            sync(self, name)

    return planted((FaultyFolder, "write", write_or_not), (FaultyFolder, "sync", sync_or_not))


def snapshot_trouble_unsaid() -> Plant:
    """A snapshot that cannot be kept or read is given up without a word."""

    def give_up(self: SnapshotServer, name: str, error: Exception) -> None:
        self._delete(name)

    return planted((SnapshotServer, "_give_up", give_up))


def snapshot_trouble_ends_the_node() -> Plant:
    """What cannot be gathered again stops the node, as if its chain were damaged."""

    def give_up_damaged(self: SnapshotTaker, damage: GatheredDamage) -> None:
        raise damage

    return planted((SnapshotTaker, "_give_up_damaged", give_up_damaged))

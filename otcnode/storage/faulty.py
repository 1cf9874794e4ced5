"""A KeyValue that fails on plan, for the simulator and for tests of whoever stands on a store.

A store is atomic and checks what it reads, so its faults are those that a real one lets through: refused writes,
writes lost by a disk that lied about syncing, a stop just before, in or just after a write, and entries that can no
longer be read. A plan is data: the same plan gives the same faults.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from enum import StrEnum
from typing import assert_never

from otcnode.codec import Record
from otcnode.errors import StorageDamage
from otcnode.storage.kv import MemoryKeyValue, Reader, Write
from otcnode.types import Natural


class FaultKind(StrEnum):
    """What goes wrong at a write."""

    CRASH_BEFORE = "crash-before"
    """The process stops; nothing of the write is there afterwards."""
    TORN = "torn"
    """The process stops with part of the write on disk, which recovery throws away."""
    CRASH_AFTER = "crash-after"
    """The process stops after the write is durable and before anybody is told."""
    FAIL = "fail"
    """The disk refuses; nothing is written, and the store takes no more writes until it is opened again."""
    DISK_FULL = "disk-full"
    """As FAIL, for want of space."""
    UNSYNCED = "unsynced"
    """The write seems to succeed; it and everything after it are lost at the next crash."""
    ROT = "rot"
    """The write succeeds; the entry whose place is `key_place` of all keys, in order, can no longer be read."""


class Fault(Record, frozen=True):
    """At which write (the first is 1, counted over restarts) what goes wrong."""

    write: Natural
    kind: FaultKind
    key_place: Natural = 0


class SimulatedCrash(BaseException):
    """The process stops here. Not an Exception: nothing that handles errors may survive it."""


class FaultyKeyValue:
    """Over the memory that stands for the disk; `crash` and `reopen` are a restart of the process."""

    def __init__(self, faults: Sequence[Fault] = ()) -> None:
        self._faults = {fault.write: fault for fault in faults}
        assert len(self._faults) == len(faults), "one fault per write"
        self._disk = MemoryKeyValue()
        self._rotten: set[bytes] = set()
        self._unsynced: list[list[Write]] | None = None
        """The undo of every write since syncs began to be lost, oldest first."""
        self._stopped = False
        self._failed = False
        self.writes = 0
        """Writes attempted so far."""

    def arm(self, kind: FaultKind, count: int) -> None:
        """Let the `count`-th write from now on fail, too."""
        write = self.writes + count
        self._faults[write] = Fault(write, kind)

    def disarm(self) -> None:
        """No write from now on fails."""
        self._faults.clear()

    def get(self, key: bytes) -> bytes | None:
        self._check_running()
        _check_rot(key, self._rotten)
        return self._disk.get(key)

    def scan(
        self, prefix: bytes, after: bytes | None = None, limit: int | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        self._check_running()
        for key, value in self._disk.scan(prefix, after, limit, reverse):
            _check_rot(key, self._rotten)
            yield key, value

    def write(self, batch: Sequence[Write]) -> None:
        self._check_running()
        if self._failed:
            raise StorageDamage("an earlier write failed; restart the node once the disk is well")
        self.writes += 1
        fault = self._faults.get(self.writes)
        if fault is None:
            self._apply(batch)
            return
        match fault.kind:
            case FaultKind.CRASH_BEFORE | FaultKind.TORN:
                self._stop()
            case FaultKind.CRASH_AFTER:
                self._apply(batch)
                self._stop()
            case FaultKind.FAIL:
                self._failed = True
                raise StorageDamage("the disk refuses to write; check it, then start the node again")
            case FaultKind.DISK_FULL:
                self._failed = True
                raise StorageDamage("the disk is full; free space, then start the node again")
            case FaultKind.UNSYNCED:
                self._unsynced = [] if self._unsynced is None else self._unsynced
                self._apply(batch)
            case FaultKind.ROT:
                self._apply(batch)
                self._rot(fault.key_place)
            case _:
                assert_never(fault.kind)

    def snapshot(self) -> Reader:
        self._check_running()
        return _FaultySnapshot(self._disk.snapshot(), frozenset(self._rotten))

    def close(self) -> None:
        """The process ends in order; what was not synced has time to reach the disk."""
        self._unsynced = None
        self._stopped = True

    def crash(self) -> None:
        """The process stops, and the disk forgets what it never kept."""
        self._stopped = True
        for undo in reversed(self._unsynced or []):
            self._disk.write(undo)
        self._unsynced = None

    def reopen(self) -> None:
        """The next process opens the store."""
        assert self._stopped, "it is open"
        self._stopped = self._failed = False

    def _apply(self, batch: Sequence[Write]) -> None:
        if self._unsynced is not None:
            self._unsynced.append([(key, self._disk.get(key)) for key, _ in batch])
        self._disk.write(batch)
        self._rotten.difference_update(key for key, _ in batch)

    def _rot(self, place: int) -> None:
        keys = [key for key, _ in self._disk.scan(b"")]
        if keys:
            self._rotten.add(keys[place % len(keys)])

    def _stop(self) -> None:
        self.crash()
        raise SimulatedCrash(f"at write {self.writes}")

    def _check_running(self) -> None:
        assert not self._stopped, "the process has stopped"


class _FaultySnapshot:
    def __init__(self, snapshot: Reader, rotten: Set[bytes]) -> None:
        self._snapshot = snapshot
        self._rotten = rotten

    def get(self, key: bytes) -> bytes | None:
        _check_rot(key, self._rotten)
        return self._snapshot.get(key)

    def scan(
        self, prefix: bytes, after: bytes | None = None, limit: int | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        for key, value in self._snapshot.scan(prefix, after, limit, reverse):
            _check_rot(key, self._rotten)
            yield key, value

    def close(self) -> None:
        self._snapshot.close()


def _check_rot(key: bytes, rotten: Set[bytes]) -> None:
    if key in rotten:
        raise StorageDamage(f"the entry {key[:24].hex()} is damaged; stop the node and run: otcnode db verify")

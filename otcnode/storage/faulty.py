"""A KeyValue that fails on plan, for the simulator and for tests of whoever stands on a store.

A store is atomic and checks what it reads, so its faults are those that a real one lets through: refused writes,
writes lost by a disk that lied about syncing, a stop just before, in or just after a write, failing reads, and entries
in which a byte has changed at rest. A plan is data: the same plan gives the same faults.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import TypeVar, assert_never

from otcnode.codec import Record
from otcnode.errors import DiskFull, StorageDamage
from otcnode.storage.kv import MemoryKeyValue, Reader, Write
from otcnode.types import Natural

T = TypeVar("T", bytes, bytes | None)


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
    FAIL_KEPT = "fail-kept"
    """As FAIL, but the write is on the disk: what a failed write has left is unknown until the store is read again."""
    DISK_FULL = "disk-full"
    """As FAIL, for want of space."""
    UNSYNCED = "unsynced"
    """The write seems to succeed; it and everything after it are lost at the next crash."""
    ROT = "rot"
    """The write succeeds; a byte of the entry whose place is `key_place` of all keys, in order, changes."""


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
        self._rotten: dict[bytes, bytes] = {}
        """Entries that no checksum agrees with any more, by key, as they were written."""
        self._altered: dict[bytes, bytes] = {}
        """The same of entries whose checksum agrees with what is there now."""
        self._unsynced: list[list[Write]] | None = None
        """The undo of every write since syncs began to be lost, oldest first."""
        self._stopped = False
        self._failed = False
        self._reads_until_failure = 0
        self.troubled = False
        """Whether a read has more to do than to read."""
        self._from_outside = False
        self.full = False
        """Every write fails for want of space."""
        self.met: str | None = None
        """What the process was last told of this disk that should end it."""
        self.writes = 0
        """Writes attempted so far."""

    def arm(self, kind: FaultKind, count: int) -> None:
        """Let the `count`-th write from now on fail, too."""
        write = self.writes + count
        self._faults[write] = Fault(write, kind)

    def disarm(self) -> None:
        """No write and no read from now on fails; what has rotted stays as it is."""
        self._faults.clear()
        self._reads_until_failure = 0
        self._look()

    def fail_read(self, count: int) -> None:
        """Let the `count`-th read from now on fail."""
        self._reads_until_failure = count
        self._look()

    def rot(self, key_place: int, byte_place: int, prefix: bytes = b"", noticed: bool = True) -> bool:
        """Change one bit of the `key_place`-th entry, in order, of those with a value under `prefix`; whether there is
        one. `noticed`: the checksum beside it tells, else whoever reads it has to see for itself."""
        entries = [(key, value) for key, value in self._disk.scan(prefix) if value]
        if not entries:
            return False
        key, value = entries[key_place % len(entries)]
        kept = self._rotten if noticed else self._altered
        kept.setdefault(key, self._as_written(key, value))
        place, bit = byte_place // 8 % len(value), byte_place % 8
        changed = value[:place] + bytes([value[place] ^ 1 << bit]) + value[place + 1 :]
        self._disk.write([(key, changed)])
        if changed == kept[key]:
            del kept[key]
        self._look()
        return True

    @property
    def is_rotten(self) -> bool:
        """Whether anything is not what was written."""
        return bool(self._rotten or self._altered)

    @property
    def is_altered(self) -> bool:
        """Whether there is anything that no checksum tells of."""
        return bool(self._altered)

    @contextmanager
    def seen_from_outside(self) -> Iterator[None]:
        """Meanwhile reads are not the process's: they neither fail nor give anything but what was written."""
        self._from_outside, before = True, self._from_outside
        try:
            yield
        finally:
            self._from_outside = before

    def get(self, key: bytes) -> bytes | None:
        self._check_running()
        value = self._disk.get(key)
        return self._read(key, value) if self.troubled else value

    def scan(
        self, prefix: bytes, after: bytes | None = None, limit: int | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        self._check_running()
        for key, value in self._disk.scan(prefix, after, limit, reverse):
            yield key, self._read(key, value) if self.troubled else value

    def write(self, batch: Sequence[Write]) -> None:
        self._check_running()
        if self._failed:
            raise self._trouble("an earlier write failed; restart the node once the disk is well")
        self.writes += 1
        fault = Fault(self.writes, FaultKind.DISK_FULL) if self.full else self._faults.get(self.writes)
        if fault is None:
            self._apply(batch)
            return
        match fault.kind:
            case FaultKind.CRASH_BEFORE | FaultKind.TORN:
                self._stop()
            case FaultKind.CRASH_AFTER:
                self._apply(batch)
                self._stop()
            case FaultKind.FAIL | FaultKind.FAIL_KEPT:
                self._failed = True
                if fault.kind is FaultKind.FAIL_KEPT:
                    self._apply(batch)
                raise self._trouble("the disk refuses to write; check it, then start the node again")
            case FaultKind.DISK_FULL:
                self._failed = True
                raise DiskFull(str(self._trouble("the disk is full; free space, then start the node again")))
            case FaultKind.UNSYNCED:
                self._unsynced = [] if self._unsynced is None else self._unsynced
                self._apply(batch)
            case FaultKind.ROT:
                self._apply(batch)
                self.rot(fault.key_place, 0)
            case _:
                assert_never(fault.kind)

    def snapshot(self) -> Reader:
        self._check_running()
        return _FaultySnapshot(self._disk.snapshot(), dict(self._rotten), self)

    def close(self) -> None:
        """The process ends in order; what was not synced has time to reach the disk."""
        self._unsynced = None
        self._stopped = True

    def crash(self) -> None:
        """The process stops, and the disk forgets what it never kept."""
        self._stopped = True
        undone, self._unsynced = self._unsynced or [], None
        for undo in reversed(undone):
            self._apply(undo)

    def reopen(self) -> None:
        """The next process opens the store."""
        assert self._stopped, "it is open"
        self._stopped = self._failed = False
        self.met = None

    def _apply(self, batch: Sequence[Write]) -> None:
        if self._unsynced is not None:
            self._unsynced.append([(key, self._as_written(key, self._disk.get(key))) for key, _ in batch])
        self._disk.write(batch)
        if self.is_rotten:
            for key, _ in batch:
                self._rotten.pop(key, None)
                self._altered.pop(key, None)
            self._look()

    def _look(self) -> None:
        self.troubled = self.is_rotten or self._reads_until_failure > 0

    def _as_written(self, key: bytes, value: T) -> bytes | T:
        return self._rotten.get(key, self._altered.get(key, value))

    def _read(self, key: bytes, value: T) -> bytes | T:
        """What a read that came to `value` gives to whoever asked."""
        if self._from_outside:
            return self._as_written(key, value)
        if self._reads_until_failure:
            self._reads_until_failure -= 1
            if not self._reads_until_failure:
                self._look()
                raise self._trouble("the disk refuses to read; check it with: otcnode db verify")
        self.check_sum(key, self._rotten)
        return value

    def check_sum(self, key: bytes, rotten: Mapping[bytes, bytes]) -> None:
        """Raises StorageDamage for an entry that is not what its checksum says."""
        if key in rotten:
            raise self._trouble(f"the entry {key[:24].hex()} is damaged; stop the node and run: otcnode db verify")

    def _trouble(self, text: str) -> StorageDamage:
        self.met = text
        return StorageDamage(text)

    def _stop(self) -> None:
        self.crash()
        raise SimulatedCrash(f"at write {self.writes}")

    def _check_running(self) -> None:
        assert not self._stopped, "the process has stopped"


class _FaultySnapshot:
    def __init__(self, snapshot: Reader, rotten: Mapping[bytes, bytes], store: FaultyKeyValue) -> None:
        self._snapshot = snapshot
        self._rotten = rotten
        self._store = store

    def get(self, key: bytes) -> bytes | None:
        self._store.check_sum(key, self._rotten)
        return self._snapshot.get(key)

    def scan(
        self, prefix: bytes, after: bytes | None = None, limit: int | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        for key, value in self._snapshot.scan(prefix, after, limit, reverse):
            self._store.check_sum(key, self._rotten)
            yield key, value

    def close(self) -> None:
        self._snapshot.close()

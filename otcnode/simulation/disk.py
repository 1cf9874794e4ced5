"""What a node's process leaves behind when it dies: its store and its voting record."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from otcnode.consensus import record
from otcnode.simulation.plan import Crash, CrashPoint
from otcnode.storage.faulty import FaultKind, FaultyKeyValue, SimulatedCrash
from otcnode.storage.folder import Folders, MemoryFolders
from otcnode.storage.incoming import finished
from otcnode.storage.kv import KeyValue
from otcnode.storage.votes_log import MemoryVotesLog

_STORE_FAULTS = {CrashPoint.WRITE_LOST: FaultKind.CRASH_BEFORE, CrashPoint.WRITE_DONE: FaultKind.CRASH_AFTER}
_SYNC_POINTS = (CrashPoint.SYNC_LOST, CrashPoint.SYNC_TORN, CrashPoint.SYNC_DONE)


class CrashingVotesLog:
    """A voting record in whose syncs and compactions the process can die. `synced` is told of each."""

    def __init__(self, synced: Callable[[], None]) -> None:
        self._log = MemoryVotesLog()
        self._log.replace(record.birth())
        self._synced = synced
        self._crash: Crash | None = None
        self._left = 0

    def arm(self, crash: Crash) -> None:
        self._crash, self._left = crash, crash.count

    def disarm(self) -> None:
        self._crash = None

    def stop(self) -> None:
        """The process is gone; what was not synced is, too."""
        self._log.crash()
        self.disarm()

    def lose(self) -> None:
        self._log.lose()

    def load(self) -> tuple[bytes, ...] | None:
        return self._log.load()

    def append(self, entries: Sequence[bytes]) -> None:
        self._log.append(entries)

    def sync(self) -> None:
        if self._crash is not None and self._crash.point in _SYNC_POINTS and self._counts_down():
            if self._crash.point is CrashPoint.SYNC_DONE:
                self._log.sync()
            elif self._crash.point is CrashPoint.SYNC_TORN:
                self._log.crash(self._crash.torn_bytes)
            raise SimulatedCrash("in a sync of the voting record")
        self._log.sync()
        self._synced()

    def replace(self, entries: Sequence[bytes]) -> None:
        if self._crash is not None and self._crash.point is CrashPoint.REPLACE_LOST and self._counts_down():
            raise SimulatedCrash("in a compaction of the voting record")
        self._log.replace(entries)
        self._synced()

    def close(self) -> None:
        self._log.close()

    def _counts_down(self) -> bool:
        self._left -= 1
        return self._left <= 0


class Disk:
    """Outlives the process; a shelf of snapshots too. `synced` is told of every durable write, `whole` when a gathered
    snapshot is, which takes the place of the store at the next start."""

    def __init__(self, synced: Callable[[], None], whole: Callable[[], None]) -> None:
        self.store = FaultyKeyValue()
        self.votes = CrashingVotesLog(synced)
        self.made: Folders = MemoryFolders()
        self._gathered: FaultyKeyValue | None = None
        self._whole = whole
        self._armed: Crash | None = None

    def begun(self) -> bool:
        return self._gathered is not None

    def incoming(self) -> KeyValue:
        if self._gathered is None:
            self._gathered = FaultyKeyValue()
            if self._armed is not None:
                self._gathered.arm(_STORE_FAULTS[self._armed.point], self._armed.count)
        return self._gathered

    def discard(self) -> None:
        self._gathered = None

    def install(self) -> None:
        self._whole()

    def complete_installation(self) -> bool:
        """Let a snapshot that is whole take the place of the store, ahead of everything else; whether there was one."""
        if self._gathered is None or not finished(self._gathered):
            return False
        self.store, self._gathered = self._gathered, None
        return True

    def reopen(self) -> None:
        """The next process opens what is there."""
        for store in self._stores():
            store.reopen()

    def _stores(self) -> list[FaultyKeyValue]:
        return [self.store] if self._gathered is None else [self.store, self._gathered]

    def arm(self, crash: Crash) -> None:
        fault = _STORE_FAULTS.get(crash.point)
        if fault is None:
            self.votes.arm(crash)
        else:
            self._armed = crash
            for store in self._stores():
                store.arm(fault, crash.count)

    def disarm(self) -> None:
        self._armed = None
        for store in self._stores():
            store.disarm()
        self.votes.disarm()

    def lose_store(self) -> None:
        """Everything but the voting record."""
        self.store = FaultyKeyValue()
        self.made = MemoryFolders()
        self._gathered = None

    def stop(self) -> None:
        for store in self._stores():
            store.crash()
        self.disarm()
        self.votes.stop()

"""What a node's process leaves behind when it dies: its store and its voting record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from otcnode.consensus import record
from otcnode.errors import StorageDamage
from otcnode.simulation.plan import (
    Crash,
    CrashPoint,
    DiskFails,
    DiskFull,
    DiskOperation,
    Rot,
    RotPlace,
    ShelfPlace,
    ShelfRots,
)
from otcnode.storage.faulty import FaultKind, FaultyKeyValue, SimulatedCrash
from otcnode.storage.faulty_folders import FaultyFolders
from otcnode.storage.incoming import finished
from otcnode.storage.kv import KeyValue, MemoryKeyValue, Write
from otcnode.storage.schema import Table
from otcnode.storage.votes_log import MemoryVotesLog

_STORE_FAULTS = {CrashPoint.WRITE_LOST: FaultKind.CRASH_BEFORE, CrashPoint.WRITE_DONE: FaultKind.CRASH_AFTER}
_REFUSALS = {DiskOperation.WRITE: FaultKind.FAIL, DiskOperation.WRITE_KEPT: FaultKind.FAIL_KEPT}
_ROTTEN_TABLES = {
    RotPlace.STORE: b"",
    RotPlace.STATE: Table.STATE.value,
    RotPlace.BODY: Table.BODY.value,
    RotPlace.BUCKET: Table.BUCKET.value,
}
_REFUSED = "the voting record cannot be kept ({}); {}, then start the node again"
_SYNC_POINTS = (CrashPoint.SYNC_LOST, CrashPoint.SYNC_TORN, CrashPoint.SYNC_DONE)


class CrashingVotesLog:
    """A voting record in whose syncs and compactions the process can die, or the disk refuse. `synced` is told of
    each."""

    def __init__(self, synced: Callable[[], None]) -> None:
        self._log = MemoryVotesLog()
        self._log.replace(record.birth())
        self._synced = synced
        self._crash: Crash | None = None
        self._left = 0
        self._refusal: DiskFails | None = None
        self._refusal_left = 0
        self.full: DiskFull | None = None
        self.met: str | None = None
        """As that of a FaultyKeyValue."""
        self.is_rotten = False
        """Whether a bit of what was durable has changed: then it is not to be used."""

    def arm(self, crash: Crash) -> None:
        self._crash, self._left = crash, crash.count

    def fail(self, refusal: DiskFails) -> None:
        self._refusal, self._refusal_left = refusal, refusal.count

    def rot(self, rot: Rot) -> bool:
        """Change one bit of what is intact; whether anything is. What a crash tore is used by nobody."""
        intact_bytes = self._log.intact_bytes
        if not intact_bytes:
            return False
        self._log.damage(rot.byte_place // 8 % intact_bytes, 1 << rot.byte_place % 8)
        self.is_rotten = True
        return True

    def disarm(self) -> None:
        self._crash = self._refusal = None

    def stop(self) -> None:
        """The process is gone; what was not synced is, too."""
        self._log.crash()
        self.disarm()

    def lose(self) -> None:
        self._log.lose()
        self.is_rotten = False

    def put_back(self, entries: Sequence[bytes]) -> None:
        self._log.replace(entries)
        self.is_rotten = False

    def load(self) -> tuple[bytes, ...] | None:
        if self._log.intact_bytes:
            self._end_instead_of_replacing()
        return self._log.load()

    def entries(self) -> tuple[bytes, ...] | None:
        """What the next process will find, seen from outside."""
        return self._log.entries()

    @property
    def may_vote(self) -> bool:
        """Whether what a process would find permits it to vote."""
        return record.read(self.entries() or ()) is not None

    @property
    def is_durable(self) -> bool:
        """Whether nothing that can be read would be gone with the power. Of a damaged record nothing is read."""
        return self._log.is_durable or self._log.entries() is None

    def append(self, entries: Sequence[bytes]) -> None:
        self._log.append(entries)

    def sync(self) -> None:
        self._refuse(DiskOperation.SYNC)
        if self._crash is not None and self._crash.point in _SYNC_POINTS and self._counts_down():
            if self._crash.point is CrashPoint.SYNC_DONE:
                self._log.sync()
                self._synced()
            elif self._crash.point is CrashPoint.SYNC_TORN:
                # Of every other: a loss of power, which leaves other traces than a killed process.
                torn_bytes = self._crash.torn_bytes
                self._log.crash(torn_bytes, power=torn_bytes % 2 == 1)
            raise SimulatedCrash("in a sync of the voting record")
        self._log.sync()
        self._synced()

    def replace(self, entries: Sequence[bytes]) -> None:
        self._end_instead_of_replacing()
        self._log.replace(entries)
        self.is_rotten = False
        self._synced()

    def close(self) -> None:
        self._log.close()

    def _end_instead_of_replacing(self) -> None:
        self._refuse(DiskOperation.REPLACE)
        if self._crash is not None and self._crash.point is CrashPoint.REPLACE_LOST and self._counts_down():
            raise SimulatedCrash("in a compaction of the voting record")

    def _refuse(self, operation: DiskOperation) -> None:
        """Raises StorageDamage where the disk is full or fails now. What a refused sync leaves is a part of the frame,
        a refused compaction the old record."""
        refusal, fails = self._refusal, False
        if refusal is not None and refusal.operation is operation:
            self._refusal_left -= 1
            fails = self._refusal_left <= 0
        fault: DiskFails | DiskFull | None = refusal if fails else self.full
        if fault is None:
            return
        if operation is DiskOperation.SYNC:
            self._log.crash(fault.torn_bytes)
        else:
            self._log.crash()
        reason, advice = ("input/output error", "check the disk") if fails else ("no space left", "free space")
        self.met = _REFUSED.format(reason, advice)
        raise StorageDamage(self.met)

    def _counts_down(self) -> bool:
        self._left -= 1
        return self._left <= 0


@dataclass(frozen=True, slots=True)
class Image:
    """What was durable of a store and of a voting record at one moment."""

    store: tuple[tuple[bytes, bytes], ...]
    votes: tuple[bytes, ...] | None


class _Gathering(FaultyKeyValue):
    """In which a snapshot is gathered: until it is whole, a leaf of its state tree can change after a write."""

    def __init__(self, rot: ShelfRots | None) -> None:
        super().__init__()
        self._rot = rot
        self._rot_left = 0 if rot is None else rot.count

    def rot_soon(self, rot: ShelfRots) -> None:
        self._rot, self._rot_left = rot, rot.count

    def write(self, batch: Sequence[Write]) -> None:
        super().write(batch)
        with self.seen_from_outside():
            if self._rot is None or finished(self):
                return
        self._rot_left -= 1
        if self._rot_left <= 0:
            rot, noticed = self._rot, self._rot.place is ShelfPlace.GATHERED
            if self.rot(rot.entry_place, rot.byte_place, Table.TREE.value, noticed):
                self._rot = None


class Disk:
    """Outlives the process; a shelf of snapshots too. `synced` is told of every durable write, `whole` when a gathered
    snapshot is, which takes the place of the store at the next start."""

    def __init__(self, synced: Callable[[], None], whole: Callable[[], None]) -> None:
        self.store = FaultyKeyValue()
        self.votes = CrashingVotesLog(synced)
        self.documents = MemoryKeyValue()
        """The clients of a plan file none."""
        self.made = FaultyFolders()
        self._gathered: _Gathering | None = None
        self._whole = whole
        self._armed: Crash | None = None
        self._rots_soon: ShelfRots | None = None
        """For the next store in which a snapshot is gathered."""

    def begun(self) -> bool:
        return self._gathered is not None

    def incoming(self) -> KeyValue:
        if self._gathered is None:
            self._gathered = _Gathering(self._rots_soon)
            self._rots_soon = None
            if self._armed is not None:
                self._gathered.arm(_STORE_FAULTS[self._armed.point], self._armed.count)
            self._gathered.full = self.votes.full is not None
        return self._gathered

    def discard(self) -> None:
        self._gathered = None

    def close(self) -> None:
        """What has been gathered stays."""

    def install(self) -> None:
        self._whole()

    def complete_installation(self) -> bool:
        """Let a snapshot that is whole take the place of the store, ahead of everything else; whether there was one."""
        if self._gathered is None or not finished(self._gathered):
            return False
        self.store, self._gathered = self._gathered, None
        return True

    def fail(self, fault: DiskFails) -> None:
        """Let the coming occasion that the fault names be refused."""
        if fault.operation in (DiskOperation.SYNC, DiskOperation.REPLACE):
            self.votes.fail(fault)
        elif fault.operation is DiskOperation.READ:
            self.store.fail_read(fault.count)
        else:
            for store in self._stores():
                store.arm(_REFUSALS[fault.operation], fault.count)

    def fill(self, fault: DiskFull | None) -> None:
        """Nothing more can be written; None: there is room again."""
        self.votes.full = fault
        self.made.full = fault is not None
        for store in self._stores():
            store.full = fault is not None

    def rot(self, fault: Rot) -> bool:
        """Change one bit of what is kept; whether there was any."""
        match fault.place:
            case RotPlace.RECORD:
                return self.votes.rot(fault)
            case RotPlace.LEAF:
                return self.store.rot(fault.entry_place, fault.byte_place, Table.TREE.value, noticed=False)
            case _:
                return self.store.rot(fault.entry_place, fault.byte_place, _ROTTEN_TABLES[fault.place])

    def rot_snapshot(self, fault: ShelfRots) -> bool:
        """The same of a snapshot; whether there was one. One that is gathered rots when it is written to."""
        if fault.place is ShelfPlace.MADE:
            return self.made.rot(fault.entry_place, fault.byte_place)
        if self._gathered is None:
            self._rots_soon = fault
        else:
            self._gathered.rot_soon(fault)
        return True

    @property
    def is_gathered_rotten(self) -> bool:
        """Whether a leaf in what has been gathered is not what was written."""
        return self._gathered is not None and self._gathered.is_rotten

    @property
    def met(self) -> str | None:
        """What should have ended the process that runs on this disk."""
        gathered = self._gathered
        return self.votes.met or self.store.met or (None if gathered is None else gathered.met)

    @property
    def is_rotten(self) -> bool:
        """Whether anything in the store is not what was written."""
        return self.store.is_rotten

    @property
    def is_altered(self) -> bool:
        """Whether no checksum would tell."""
        return self.store.is_altered

    def reopen(self) -> None:
        """The next process opens what is there."""
        self.votes.met = None
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
        self._armed = self._rots_soon = None
        for store in self._stores():
            store.disarm()
        self.votes.disarm()
        self.made.disarm()

    def lose_store(self) -> None:
        """Everything but the voting record."""
        self.store = FaultyKeyValue()
        self.store.full = self.votes.full is not None
        self.made = FaultyFolders()
        self.made.full = self.votes.full is not None
        self._gathered = None

    def image(self) -> Image:
        """Of a running process's disk."""
        with self.store.seen_from_outside():
            return Image(tuple(self.store.scan(b"")), self.votes.entries())

    def put_back(self, image: Image) -> None:
        """A dead process's disk is again what it was."""
        full = self.store.full
        self.lose_store()
        self.store.full = False
        self.store.write(image.store)
        self.store.full = full
        if image.votes is None:
            self.votes.lose()
        else:
            self.votes.put_back(image.votes)

    def stop(self) -> None:
        for store in self._stores():
            store.crash()
        self.made.crash()
        self.disarm()
        self.votes.stop()

"""Bugs of the voting record and of what is durable."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from msgspec.structs import replace

from otcnode.blocks import Epoch
from otcnode.codec import encode
from otcnode.consensus import committing, memory, record, silence
from otcnode.consensus.core import Core
from otcnode.consensus.record import RecordEntry
from otcnode.consensus.state import State
from otcnode.engine.engine import Engine
from otcnode.simulation.disk import CrashingVotesLog
from otcnode.simulation.mutants.planting import planted, wherever
from otcnode.storage.faulty import FaultKind, FaultyKeyValue
from otcnode.storage.kv import Write

Plant = AbstractContextManager[None]


def skipped_sync() -> Plant:
    """Votes leave before they are durable."""
    return planted((Engine, "_make_record_durable", lambda self: None))


def _unsaved(*kinds: type) -> Plant:
    right = Core.save

    def save(core: Core, entry: RecordEntry) -> None:
        if not isinstance(entry, kinds):
            right(core, entry)

    return planted((Core, "save", save))


def votes_not_saved() -> Plant:
    return _unsaved(record.Voted, record.Accepted)


def proofs_not_saved() -> Plant:
    return _unsaved(record.Proved)


def view_changes_not_saved() -> Plant:
    return _unsaved(record.Asked, record.Entered)


def bodies_not_saved() -> Plant:
    """Proposals are in the record without their bodies."""
    right = Core.save

    def save(core: Core, entry: RecordEntry) -> None:
        right(core, replace(entry, bodies=()) if isinstance(entry, record.Accepted) else entry)

    return planted((Core, "save", save))


def record_truncated() -> Plant:
    """What is left of a record at a commit is its first entry: heights above are forgotten with those below."""

    def compacted(state: State) -> tuple[bytes, ...]:
        return (encode(record.Begun(state.epoch.number, state.floor, state.view_first)),)

    return planted((memory, "compacted", compacted))


def record_born_again() -> Plant:
    """A key whose record is lost begins a new one and votes at once."""
    return planted((CrashingVotesLog, "lose", lambda self: self.replace(record.birth())))


def silence_of_no_length() -> Plant:
    """A key without a record votes again in the views that it may have voted in."""
    return planted((silence, "view_first", lambda state: 0), (silence, "may_end", lambda state: _is_silent(state)))


def silence_by_the_own_clock() -> Plant:
    """The first block committed with a time two drifts after the clock of the start ends silence, whatever that clock
    was."""

    def observe_commit(state: State, epoch: Epoch) -> None:
        found, certificate = state.silence, state.tip.certificate
        if found is None or found.height is not None or certificate is None:
            return
        if state.tip.time_ms > found.since_ms + 2 * state.drift_ms:
            height, time_ms = state.tip.height, state.tip.time_ms
            epoch_number, view = certificate.epoch, certificate.view
            state.silence = replace(found, height=height, begun_before_ms=time_ms, epoch=epoch_number, view=view)

    return planted((silence, "observe_commit", observe_commit), (silence, "_follow_clock", lambda state, found: found))


def own_commits_not_looked_at() -> Plant:
    """What block sync brings says nothing of who has signed it."""
    return planted((committing, "synced", lambda core, tip: committing.committed(core, tip, None)))


def ready_while_silent() -> Plant:
    """A node says that it is ready whatever its voting record."""
    return planted((State, "may_vote_once_chosen", property(lambda state: True)))


def _is_silent(state: State) -> bool:
    return state.silence is not None and state.is_validator


def floor_ignored() -> Plant:
    """A validator whose store has gone back signs below what its record says."""
    return planted(*wherever(record.floor_of, _no_floor))


def _no_floor(entries: Sequence[RecordEntry]) -> int:
    return 0


def block_not_synced() -> Plant:
    """A block counts as durable before the disk has it."""
    right = FaultyKeyValue.write

    def write(self: FaultyKeyValue, batch: Sequence[Write]) -> None:
        self.arm(FaultKind.UNSYNCED, 1)
        right(self, batch)

    return planted((FaultyKeyValue, "write", write))

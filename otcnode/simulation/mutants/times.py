"""Bugs about the time of blocks, and about who waits for it."""

from __future__ import annotations

from contextlib import AbstractContextManager

from otcnode.blocks import Header
from otcnode.consensus import building, receiving, view_changing, voting
from otcnode.consensus.core import Core
from otcnode.consensus.messages import PrePrepare, ViewChange
from otcnode.consensus.state import State
from otcnode.simulation.mutants.planting import planted

Plant = AbstractContextManager[None]


def no_excuse_for_waiting() -> Plant:
    """A successor is given no longer for having to wait for the time of the last block."""

    def waits_rightly(state: State) -> bool:
        return False

    return planted((building, "waits_rightly", waits_rightly))


def too_early_dropped() -> Plant:
    """What comes too early is not kept, and has to be sent again."""
    right = receiving.on_pre_prepare

    def on_pre_prepare(core: Core, sender: bytes, message: PrePrepare) -> None:
        right(core, sender, message)
        if message.header.time_ms - core.state.now.ledger_ms > core.state.drift_ms:
            core.state.waiting.pop((core.state.primary, message.header.height), None)

    return planted((receiving, "on_pre_prepare", on_pre_prepare))


def half_the_drift() -> Plant:
    """Times are refused that differ from the clock by more than half of what is allowed."""
    right = voting._refusal

    def refusal(core: Core, message: PrePrepare, parent: Header | None) -> str | None:
        apart_ms = message.header.time_ms - core.state.now.ledger_ms
        return right(core, message, parent) or ("clock" if abs(apart_ms) > core.state.drift_ms // 2 else None)

    return planted((voting, "_refusal", refusal))


def any_time_ahead() -> Plant:
    """A block may be as far ahead as its primary likes."""
    right = voting._refusal

    def refusal(core: Core, message: PrePrepare, parent: Header | None) -> str | None:
        found = right(core, message, parent)
        return None if found is not None and found.startswith("clock +") else found

    return planted((voting, "_refusal", refusal))


def proved_blocks_not_held() -> Plant:
    """A new primary uses VIEW-CHANGEs whose proved blocks it does not have."""

    def holds(state: State, message: ViewChange) -> bool:
        return True

    return planted((view_changing, "_holds_what_it_proves", holds))

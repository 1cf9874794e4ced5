"""The view timer: how long a primary may leave undone what is pending."""

from __future__ import annotations

from otcnode import limits
from otcnode.consensus import building, view_changing
from otcnode.consensus.core import Core
from otcnode.consensus.effects import SetTimer
from otcnode.consensus.events import Complaint, Timer


def view_timer_elapsed(core: Core) -> None:
    state = core.state
    if core.view_deadline_ms is None or not _view_timer_runs(core):
        return
    left_ms = core.view_deadline_ms - state.now.monotonic_ms
    if left_ms < 0 and not core.view_listens_on:
        # This process was busy or stood still when the time was over, and what came meanwhile still waits to be read.
        core.view_listens_on = True
        left_ms = min(-left_ms, view_timeout_ms(core))
        core.view_deadline_ms = state.now.monotonic_ms + left_ms
    if left_ms > 0:
        core.effects.append(SetTimer(Timer.VIEW, left_ms))
        return
    waited_ms = view_timeout_ms(core)
    if waited_ms < core.configuration.view_timeout_ms_max:
        # More would not lengthen the next view, only those after the chain has recovered.
        state.timeout_steps += 1
    state.blocks_since_step = 0
    state.transactions_max = max(1, state.transactions_max // 2)
    what = "left something undone" if state.active else "did not open it"
    if state.active and building.is_primary_silent(state):
        what = "has been silent"
    view_changing.ask_for(core, state.view + 1, f"the primary of view {state.view} {what} for {waited_ms / 1000:.1f} s")


def complained(core: Core, event: Complaint) -> None:
    """The primary is alive and does not do its part. This is no failure of the timer: patience stays as it is."""
    state = core.state
    here = (event.epoch, event.view) == (state.epoch.number, state.view)
    if here and state.active and state.own != state.primary and _may_leave(core):
        view_changing.ask_for(core, state.view + 1, event.reason)


def _may_leave(core: Core) -> bool:
    """Whether this replica may ask for the next view, and enough others seem to be there to form a quorum with."""
    state = core.state
    if not state.may_sign(state.view + 1) or state.view + 1 >= limits.view_max:
        return False
    return state.may_form_quorum


def _view_timer_runs(core: Core) -> bool:
    """Active: while something is pending. After asking for a view: once a quorum asks for it or higher. Never
    while too few seem to be there to form a quorum with."""
    state = core.state
    if state.active:
        return building.is_pending(state) and _may_leave(core)
    return state.is_asked_for and _may_leave(core)


def view_timeout_ms(core: Core) -> int:
    """Real milliseconds: min(base · 2^k, cap)."""
    configuration = core.configuration
    return min(configuration.view_timeout_ms_base << core.state.timeout_steps, configuration.view_timeout_ms_max)


def tend_view_timer(core: Core) -> None:
    runs = _view_timer_runs(core)
    if runs and core.view_deadline_ms is None:
        core.view_deadline_ms = core.state.now.monotonic_ms + view_timeout_ms(core)
        core.view_listens_on = False
        core.effects.append(SetTimer(Timer.VIEW, view_timeout_ms(core)))
    elif not runs and core.view_deadline_ms is not None:
        core.view_deadline_ms = None
        core.effects.append(SetTimer(Timer.VIEW, None))

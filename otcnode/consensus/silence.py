"""When a validator without an intact record may vote again (consensus rules, "The record"; proof: docs/consensus.md).

A block that was proposed after the loss was committed by a quorum in a view that is not below any in which the lost
record may have voted. Its time says that it was, if this clock is right. So the clock is doubted: a block ahead of it
proves that it is behind, a step of it forward moves the beginning of the silence; and what others had committed when
they were first heard was proposed before.
"""

from __future__ import annotations

from msgspec.structs import replace

from otcnode.blocks import Epoch
from otcnode.consensus.resumed import Silence
from otcnode.consensus.state import State


def observe_commit(state: State, epoch: Epoch) -> None:
    """Note the first block that was surely proposed after the silence began; `epoch` is the one that decided it."""
    silence, certificate = state.silence, state.tip.certificate
    if silence is None or certificate is None:
        return
    drift_ms = epoch.parameters.drift_real_ms * state.configuration.clock_rate
    silence = _listen(state, _follow_clock(state, silence))
    reported = _reported(state, silence)
    is_new = reported is not None and state.tip.height > reported
    ahead_ms = state.tip.time_ms - state.now.ledger_ms
    if ahead_ms > (2 * drift_ms if is_new else drift_ms):
        # This validator would have refused the block for its time: its clock was behind when it noted the beginning. A
        # new block shows that only by more than two clocks may differ: else its primary could prolong the silence.
        silence = replace(silence, ahead_ms=max(silence.ahead_ms, state.tip.time_ms))
    silence = _doubt(silence, reported)
    late = state.tip.time_ms > silence.not_before_ms + 2 * drift_ms
    if silence.height is None and late and (is_new or reported is None):
        silence = replace(
            silence,
            height=state.tip.height,
            begun_before_ms=state.tip.time_ms - 2 * drift_ms,
            epoch=certificate.epoch,
            view=certificate.view,
        )
    state.silence = silence


def _listen(state: State, silence: Silence) -> Silence:
    known = {name for name, _ in silence.reports}
    first = tuple(
        (name, heard.status.committed)
        for name, heard in sorted(state.heard.items())
        if name not in known
        and heard.status is not None
        and heard.status_ms is not None
        and heard.status_ms >= silence.began_ms
    )
    return replace(silence, reports=(*silence.reports, *first)) if first else silence


def _reported(state: State, silence: Silence) -> int | None:
    """The height that f + 1 of the others had committed, or more, when each was first heard; None while fewer are
    heard: who only follows, or is linked to few, hears no STATUS of many, and must wake all the same."""
    heights = sorted(height for name, height in silence.reports if name in state.epoch.validators)
    weak = state.epoch.weak_quorum
    return heights[-weak] if len(heights) >= weak else None


def _follow_clock(state: State, silence: Silence) -> Silence:
    """Where the clock was set forward meanwhile, the beginning was later than it seemed. Where it was set back, either
    the clock was ahead or it is behind now; nobody here knows which, and only the later beginning is safe."""
    return replace(silence, since_ms=max(silence.since_ms, _began_ms(state, silence)))


def _began_ms(state: State, silence: Silence) -> int:
    """When the silence began by what the clock says now."""
    passed_ms = (state.now.monotonic_ms - silence.began_ms) * state.configuration.clock_rate
    return state.now.ledger_ms - passed_ms


def set_back_ms(state: State, silence: Silence) -> int:
    """By how much the clock was set back since it noted the beginning (ledger milliseconds; 0: it was not)."""
    return max(0, silence.since_ms - _began_ms(state, silence))


def _doubt(silence: Silence, reported: int | None) -> Silence:
    """A noted block was perhaps no later than the beginning after all: the clock says so by now, or more validators."""
    early = silence.height is not None and (
        silence.not_before_ms >= silence.begun_before_ms or (reported is not None and silence.height <= reported)
    )
    return replace(silence, height=None) if early else silence


def may_end(state: State) -> bool:
    """Also while this node only follows: who is to become a validator must not begin its epoch silent, for nothing may
    be decided there without it, and its silence would then never end."""
    if state.silence is None:
        return False
    silence = state.silence = _follow_clock(state, state.silence)
    if silence.height is None:
        return False
    silence = _listen(state, silence)
    silence = state.silence = _doubt(silence, _reported(state, silence))
    return silence.height is not None and state.committed >= silence.height + state.window


def view_first(state: State) -> int:
    """Votes are safe in views above those that the lost record may have voted in; a later epoch is wholly new."""
    silence = state.silence
    assert silence is not None
    marked = silence.view if silence.epoch == state.epoch.number else -1
    return max(marked, silence.view_seen) + 1

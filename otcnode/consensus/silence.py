"""When a validator without an intact record may vote again (consensus rules, "The record")."""

from __future__ import annotations

from otcnode.consensus.state import State


def observe_commit(state: State) -> None:
    """Note the first block whose time shows that it was proposed safely after the silence began."""
    silence = state.silence
    certificate = state.tip.certificate
    if silence is None or silence.height is not None or certificate is None:
        return
    if state.tip.time_ms > silence.since_ms + 2 * state.drift_ms:
        silence.height = state.tip.height
        silence.epoch = certificate.epoch
        silence.view = certificate.view


def may_end(state: State) -> bool:
    silence = state.silence
    return (
        silence is not None
        and silence.height is not None
        and state.committed >= silence.height + state.window
        and state.is_validator
    )


def view_first(state: State) -> int:
    """Votes are safe in views above those that the lost record may have voted in; a later epoch is wholly new."""
    silence = state.silence
    assert silence is not None
    marked = silence.view if silence.epoch == state.epoch.number else -1
    return max(marked, silence.view_seen) + 1

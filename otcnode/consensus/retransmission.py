"""STATUS and the answers to it, and to messages of heights and epochs that are over."""

from __future__ import annotations

from msgspec.structs import replace

from otcnode import limits
from otcnode.consensus import accusing, status
from otcnode.consensus.core import Core
from otcnode.consensus.effects import SendDecision, SendEpochEnd, SetTimer, Sync
from otcnode.consensus.events import Timer
from otcnode.consensus.messages import Mode, Status, status_preimage
from otcnode.consensus.state import Heard, State
from otcnode.types import BlockHash


def is_for_this_epoch(core: Core, sender: bytes, epoch: int) -> bool:
    """A message of an older epoch is answered with the certificate of that epoch's last block, so many times a
    second: whoever is there has many such messages to send, and one answer ends them all."""
    state = core.state
    if epoch < state.epoch.number and core.epoch_answers.take(sender, 1, state.now.monotonic_ms):
        core.effects.append(SendEpochEnd(sender, epoch))
    return epoch == state.epoch.number


def answer_old_height(core: Core, sender: bytes, height: int) -> None:
    """Late votes are common and need no answer; a peer that still works on a decided height gets its decision."""
    heard = core.state.heard.get(sender)
    known = heard is not None and heard.status is not None and heard.status.committed >= height
    if not known and core.state.is_decided_long(height):
        _send_decision(core, sender, height)


def _send_decision(core: Core, peer: bytes, height: int) -> None:
    if core.decisions_sent.take(peer, 1, core.state.now.monotonic_ms):
        core.effects.append(SendDecision(peer, height))


def on_status(core: Core, sender: bytes, message: Status) -> None:
    state = core.state
    if not state.is_validator:
        # A removed validator keeps answering those who have not seen the end of its epoch.
        if is_for_this_epoch(core, sender, message.epoch) or message.committed > state.committed:
            _hint_sync(core, sender, message.committed)
        return
    if message.mode is Mode.SILENT and sender != message.validator:
        _told_of_silent(core, sender, message)
        return
    if sender != message.validator or message.validator not in state.epoch.validators or sender == state.own:
        if message.epoch < state.epoch.number:
            is_for_this_epoch(core, sender, message.epoch)
        elif message.epoch > state.epoch.number:
            _hint_sync(core, sender, message.committed)
        return
    # Of another epoch, its window is not known; what it says of heights is then not looked at.
    window = state.window if message.epoch == state.epoch.number else limits.window_max
    if len(message.heights) > limits.buffered_heights_windows * window or _is_soon_again(core, sender):
        return
    if not core.verify(sender, status_preimage(core.configuration.chain, message), message.signature):
        accusing.blame(core, sender, "a STATUS with a false signature")
        return
    state.heard[sender] = Heard(state.now.monotonic_ms, message, state.now.monotonic_ms)
    if message.mode is Mode.SILENT:
        _tell_primary(core, message)
    _compare_heights(core, sender, message)
    if not is_for_this_epoch(core, sender, message.epoch):
        return
    for height in status.undecided(state, message):
        _send_decision(core, sender, height)
    of_view = list(status.view_messages(state, message))
    if of_view and not core.view_answers.take(sender, 1, state.now.monotonic_ms):
        of_view = []
    of_heights = list(status.height_messages(state, message))
    unit = status.height_messages_max(state)
    if of_heights and not core.resent.take(sender, len(of_heights), state.now.monotonic_ms, unit=unit):
        of_heights = []
    for answer in (*of_view, *of_heights):
        core.send(sender, answer)


def _tell_primary(core: Core, silent: Status) -> None:
    """Pass on that a validator is silent: the primary that does not hear it builds no blocks to wake it otherwise."""
    state = core.state
    apart = state.primary not in (state.own, silent.validator)
    if apart and core.silent_told.take(silent.validator, 1, state.now.monotonic_ms):
        core.send(state.primary, silent)


def _told_of_silent(core: Core, sender: bytes, message: Status) -> None:
    """A STATUS that another validator passes on of one that is silent, and that is not heard here."""
    state = core.state
    told_ms = state.told_of_silent_ms.get((sender, message.validator))
    known = told_ms is not None and state.now.monotonic_ms - told_ms < limits.status_interval_ms // 2
    both_vote = sender in state.others and message.validator in state.others
    if known or not both_vote or message.epoch != state.epoch.number or state.is_heard(message.validator):
        return
    if len(message.heights) > limits.buffered_heights_windows * state.window:
        return
    if not core.verify(message.validator, status_preimage(core.configuration.chain, message), message.signature):
        accusing.blame(core, sender, "a STATUS with a false signature")
        return
    state.told_of_silent_ms[(sender, message.validator)] = state.now.monotonic_ms


def _is_soon_again(core: Core, sender: bytes) -> bool:
    """An answer to a STATUS can be large; an honest peer sends none so soon after another."""
    heard = core.state.heard.get(sender)
    if heard is None or heard.status_ms is None:
        return False
    return core.state.now.monotonic_ms - heard.status_ms < limits.status_interval_ms_min // 2


def _compare_heights(core: Core, sender: bytes, message: Status) -> None:
    """A peer ahead by more than what is in flight, or for longer, has blocks that must be synced."""
    state = core.state
    if message.committed <= state.committed:
        return
    if state.behind_since_ms is None:
        state.behind_since_ms = state.now.monotonic_ms
    waited_ms = state.now.monotonic_ms - state.behind_since_ms
    far = message.committed > state.committed + state.window or message.epoch > state.epoch.number
    if far or waited_ms >= limits.sync_after_behind_ms:
        core.effects.append(Sync(sender, message.committed))


def _hint_sync(core: Core, peer: bytes, committed: int) -> None:
    if committed > core.state.committed:
        core.effects.append(Sync(peer, committed))


def _signed_status(core: Core) -> Status:
    state = core.state
    plain = status.own_status(state)
    signature = core.sign(status_preimage(core.configuration.chain, plain))
    return replace(plain, signature=signature)


def tend_status(core: Core) -> None:
    """Every half second, and on change at most each tenth of a second."""
    state = core.state
    if not state.is_validator:
        return
    now_ms = state.now.monotonic_ms
    if core.status_sent_ms is not None:
        early_ms = core.status_sent_ms + limits.status_interval_ms_min - now_ms
        if early_ms > 0 and core.status_hastened:
            return
        if core.status_sent == _shown(state, state.accepted):
            return
        if early_ms > 0:
            core.status_hastened = True
            core.effects.append(SetTimer(Timer.STATUS, early_ms))
            return
    core.status_sent, core.status_sent_ms, core.status_hastened = _shown(state, dict(state.accepted)), now_ms, False
    core.broadcast(_signed_status(core))
    core.effects.append(SetTimer(Timer.STATUS, limits.status_interval_ms))


def _shown(state: State, accepted: dict[int, BlockHash]) -> tuple[object, ...]:
    """What a STATUS is sent for as soon as it changes. `accepted` are the state's, or a copy to be kept."""
    return (state.epoch.number, state.view, state.mode, state.committed, accepted)

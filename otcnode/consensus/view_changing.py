"""Leaving a view, opening the next and acting under it (PBFT, OSDI '99, section 4.4)."""

from __future__ import annotations

from otcnode import limits
from otcnode.blocks import block_hash, prepare_preimage
from otcnode.consensus import accusing, bodies, harvest, memory, receiving, record, retransmission
from otcnode.consensus.core import Core
from otcnode.consensus.effects import Sync
from otcnode.consensus.messages import (
    InvalidNewView,
    InvalidViewChange,
    NewView,
    Prepare,
    Reproposal,
    ViewChange,
    new_view_preimage,
    view_change_preimage,
)
from otcnode.consensus.state import Leaving, State
from otcnode.consensus.view_change import (
    check_new_view,
    check_view_change,
    is_signed_new_view,
    is_signed_view_change,
    select,
)
from otcnode.errors import ProofError


def on_view_change(core: Core, sender: bytes, message: ViewChange) -> None:
    if not retransmission.is_for_this_epoch(core, sender, message.epoch) or message.view >= limits.view_max:
        return
    fault = _learn_view_change(core, message)
    if fault is not None:
        accusing.blame(core, sender, fault)


def _learn_view_change(core: Core, message: ViewChange) -> str | None:
    """Keep what is valid by itself, of this epoch; what is wrong with it otherwise, for which who handed it over is to
    blame."""
    state = core.state
    held = state.view_changes.get(message.validator)
    if held is not None and held.view >= message.view:
        return None
    chain, epoch = core.configuration.chain, state.epoch
    if not is_signed_view_change(message, chain, epoch, core.verify):
        return "a VIEW-CHANGE with a false signature, or larger than any of this epoch"
    if message.validator == state.own:
        core.shown_own_view_change(message.view)
        return None
    if _asks_too_often(core, message.validator):
        return None
    try:
        check_view_change(message, chain, epoch, core.verify)
    except ProofError as error:
        accusing.accuse(core, InvalidViewChange(message))
        return f"an invalid VIEW-CHANGE: {error}"
    state.view_changes[message.validator] = message
    core.hear(message.validator)
    accusing.look_for_hidden_proofs(core, message)
    harvest.from_proofs(core, message.proofs)
    if message.certificate is not None and message.committed > state.committed:
        receiving.learn_certificate(core, message.certificate)
    return None


def _asks_too_often(core: Core, author: bytes) -> bool:
    """Each VIEW-CHANGE costs up to a window of proofs to check. An honest author's views are at least its shortest
    timeout apart, and what is not looked at now comes again with a STATUS."""
    return not core.view_changes_checked.take(author, 1, core.state.now.monotonic_ms)


def on_new_view(core: Core, sender: bytes, message: NewView) -> None:
    state = core.state
    if not retransmission.is_for_this_epoch(core, sender, message.epoch) or message.view >= limits.view_max:
        return
    if message.view < state.view or (message.view == state.view and (state.active or state.new_view is not None)):
        return
    chain, epoch = core.configuration.chain, state.epoch
    if not is_signed_new_view(message, chain, epoch, core.verify):
        accusing.blame(core, sender, "a NEW-VIEW with a false signature, or larger than any of this epoch")
        return
    if message.validator == state.own:
        core.shown_own(message.view, "a NEW-VIEW")
        return

    def known(entry: ViewChange) -> bool:
        return state.view_changes.get(entry.validator) == entry

    try:
        check_new_view(message, chain, epoch, core.verify, known)
    except ProofError as error:
        accusing.accuse(core, InvalidNewView(message))
        accusing.blame(core, sender, f"an invalid NEW-VIEW: {error}")
        if message.view == state.view and message.validator == state.primary:
            _refuse(core, message, str(error))
        return
    for entry in message.view_changes:
        if not known(entry):
            _learn_of_view_change(core, entry)
    _enter(core, message)


def _refuse(core: Core, message: NewView, fault: str) -> None:
    """The view waited for will not be opened as it should. That alone is no reason to ask for the next one, for it is
    one validator's word; the VIEW-CHANGEs in it, each valid by itself, may be those of a quorum (see leave_refused)."""
    core.state.refused = fault
    by_author = {entry.validator: entry for entry in message.view_changes}
    for name, entry in sorted(by_author.items()):
        if name in core.state.epoch.validators and entry.epoch == message.epoch and entry.view < limits.view_max:
            _learn_view_change(core, entry)


def leave_refused(core: Core) -> bool:
    """Ask for the next view at once where this one's NEW-VIEW is invalid and a quorum asks for this one or higher.

    Without that quorum one liar would move one validator above everybody else, and who loses its record there would be
    silent too shortly (silence.py)."""
    state = core.state
    waits = not state.active and state.new_view is None
    if not (state.refused and waits and state.is_asked_for):
        return False
    if not state.may_sign(state.view + 1) or state.view + 1 >= limits.view_max:
        return False
    ask_for(core, state.view + 1, state.refused, Leaving.REFUSED)
    return True


def _learn_of_view_change(core: Core, message: ViewChange) -> None:
    """A VIEW-CHANGE that only a NEW-VIEW has shown can tell as much about its sender as one that came alone."""
    if message.validator == core.state.own:
        core.shown_own_view_change(message.view)
    else:
        accusing.look_for_hidden_proofs(core, message)
        harvest.from_proofs(core, message.proofs)


def join(core: Core) -> bool:
    """Ask for the (f+1)-th highest view among the others' latest VIEW-CHANGEs, if it is above mine: at least one
    honest replica asked for it or more (PBFT, OSDI '99, section 4.5.2)."""
    state = core.state
    if not state.view_changes:
        return False
    higher = [
        message.view for name, message in state.view_changes.items() if message.view > state.view and name != state.own
    ]
    if not higher or len(higher) < (rank := state.epoch.weak_quorum):
        return False
    view = sorted(higher, reverse=True)[rank - 1]
    if not state.may_sign(view):
        return False
    ask_for(core, view, f"{rank} others ask for view {view} or higher", Leaving.JOINED)
    return True


def ask_for(core: Core, view: int, reason: str, leaving: Leaving = Leaving.JUDGEMENT) -> None:
    """Leave the current view: nothing of a lower one is signed from here on. The reasons are for `explain`."""
    state = core.state
    assert view > state.view and state.own is not None
    if view >= limits.view_max:
        return
    proofs = []
    height = state.committed + 1
    while height in state.proofs:
        proofs.append(state.proofs[height])
        height += 1
    certificate = None if state.committed == state.epoch.number - 1 else state.tip.certificate
    plain = ViewChange(state.epoch.number, view, state.committed, certificate, tuple(proofs), state.own, bytes(64))
    signature = core.sign(view_change_preimage(core.configuration.chain, plain))
    message = ViewChange(plain.epoch, view, plain.committed, certificate, plain.proofs, state.own, signature)
    memory.ask(state, message)
    state.asked_because, state.asked_on = reason, leaving
    _left_view(core)
    core.save(record.Asked(message))
    core.compact_if_long()
    core.broadcast(message)


def _left_view(core: Core) -> None:
    core.building = None
    core.builder_had_nothing = False
    core.view_deadline_ms = None


def open_view(core: Core) -> bool:
    """The new primary's NEW-VIEW, from VIEW-CHANGEs of senders whose certified height it has committed itself, and of
    whose proved blocks it holds the bodies: what it proposes again, others can have from it. An honest sender serves
    what it proves; what only a liar has would be proposed again in view after view."""
    state = core.state
    if state.active or state.new_view is not None or state.own != state.primary or not state.may_sign(state.view):
        return False
    assert state.own is not None
    usable = [
        message
        for _, message in sorted(state.view_changes.items())
        if message.view == state.view and message.committed <= state.committed
    ]
    whole = [message for message in usable if _holds_what_it_proves(state, message)]
    if len(whole) < state.epoch.quorum:
        _sync_for_view(core)
        for asked in usable:
            _gather_what_it_proves(core, asked)
        return False
    chosen = sorted(
        sorted(whole, key=lambda message: message.validator != state.own)[: state.epoch.quorum],
        key=lambda message: message.validator,
    )
    message = _new_view(core, tuple(chosen))
    _enter(core, message)
    core.broadcast(message)
    return True


def _holds_what_it_proves(state: State, message: ViewChange) -> bool:
    for header, name in memory.proved_by(state, message):
        candidate = state.candidates.get(name)
        if header.height > state.committed and (candidate is None or not candidate.complete):
            return False
    return True


def _gather_what_it_proves(core: Core, message: ViewChange) -> None:
    for header, name in memory.proved_by(core.state, message):
        if header.height > core.state.committed:
            candidate = core.state.candidates.get(name) or memory.remember_candidate(core.state, header)
            if candidate.requests == 0:
                candidate.source = message.validator
            bodies.gather(core, candidate)


def _sync_for_view(core: Core) -> None:
    for name, message in sorted(core.state.view_changes.items()):
        if message.view == core.state.view and message.committed > core.state.committed:
            core.effects.append(Sync(name, message.committed))


def _new_view(core: Core, chosen: tuple[ViewChange, ...]) -> NewView:
    state = core.state
    assert state.own is not None
    chain, epoch = core.configuration.chain, state.epoch.number
    reproposals = tuple(
        Reproposal(header, core.sign(prepare_preimage(chain, epoch, state.view, header.height, block_hash(header))))
        for header in select(chosen).headers
    )
    plain = NewView(epoch, state.view, chosen, reproposals, state.own, bytes(64))
    signature = core.sign(new_view_preimage(chain, plain))
    return NewView(epoch, state.view, chosen, reproposals, state.own, signature)


def _enter(core: Core, message: NewView) -> None:
    """Act under a valid NEW-VIEW; its base and re-proposals are accepted in one Save."""
    state = core.state
    core.save(record.Entered(message))
    memory.enter(state, message)
    core.compact_if_long()
    _left_view(core)
    for again in message.reproposals:
        _compare_reproposal(core, again)
    if state.committed < state.base:
        for entry in message.view_changes:
            if entry.committed == state.base and entry.validator != state.own:
                core.effects.append(Sync(entry.validator, state.base))


def _compare_reproposal(core: Core, again: Reproposal) -> None:
    """Its signature is a PREPARE of the primary, which may have signed another one for this place before."""
    state = core.state
    height, name = again.header.height, block_hash(again.header)
    held = state.prepares.get(height, state.primary, state.view)
    if held is not None and held.block_hash != name:
        vote = Prepare(state.epoch.number, state.view, height, name, state.primary, again.signature)
        accusing.accuse_double_vote(core, vote, state.prepares)
    memory.forget_candidates(core.state, height)

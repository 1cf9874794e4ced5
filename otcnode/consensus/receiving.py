"""Votes, proposals and certificates as they arrive: what is authentic is noted, within bounds."""

from __future__ import annotations

from otcnode import limits
from otcnode.blocks import Certificate, block_hash, check_certificate, commit_preimage, prepare_preimage
from otcnode.consensus import accusing, harvest, memory, retransmission
from otcnode.consensus.candidates import entries_match
from otcnode.consensus.core import Core
from otcnode.consensus.effects import Admit, Sync
from otcnode.consensus.messages import Commit, Decision, Prepare, PrePrepare, Urgent
from otcnode.consensus.votes import Added, Vote, VoteBook
from otcnode.errors import ProofError


def on_pre_prepare(core: Core, sender: bytes, message: PrePrepare) -> None:
    state = core.state
    header = message.header
    if not _is_votable(core, sender, message.epoch, header.height, message.view):
        return
    primary = state.epoch.primary(message.view)
    name = block_hash(header)
    prepare = Prepare(message.epoch, message.view, header.height, name, primary, message.signature)
    if not _take_vote(core, sender, prepare):
        return
    held = state.waiting.get((primary, header.height))
    if message.view < state.view or primary == state.own or (held is not None and held.view >= message.view):
        return
    if header.transaction_count > state.parameters.block_transactions_max:
        _refuse(core, sender, message, f"{header.transaction_count} transactions are more than a block may hold")
    elif entries_match(header, message.entries):
        memory.keep_waiting(state, message)
    else:
        accusing.blame(core, sender, "a PRE-PREPARE whose list is not the one its header commits to")
        _refuse(core, sender, message, "its list is not the one its header commits to")


def _refuse(core: Core, sender: bytes, message: PrePrepare, reason: str) -> None:
    """For `explain`. Of a list only its sender is to blame, and who relays one may have changed it."""
    state, height = core.state, message.header.height
    if sender == state.primary and message.view == state.view and state.active and height not in state.accepted:
        state.refusals[height] = reason


def on_vote(core: Core, sender: bytes, message: Prepare | Commit) -> None:
    if _is_votable(core, sender, message.epoch, message.height, message.view):
        _take_vote(core, sender, message)


def _is_votable(core: Core, sender: bytes, epoch: int, height: int, view: int) -> bool:
    state = core.state
    if not retransmission.is_for_this_epoch(core, sender, epoch) or view >= limits.view_max:
        return False
    if height <= state.committed:
        retransmission.answer_old_height(core, sender, height)
        return False
    return height <= state.committed + limits.buffered_heights_windows * state.window


def _take_vote(core: Core, sender: bytes, message: Prepare | Commit) -> bool:
    """Put an authentic vote into its book; False if it is not authentic or contradicts an earlier one."""
    state = core.state
    if message.validator not in state.epoch.validators:
        accusing.blame(core, sender, "a vote of nobody who votes in this epoch")
        return False
    book = _book(core, message)
    outcome = book.judge(message.height, message.validator, message.view, message.block_hash)
    if outcome is Added.DUPLICATE:
        held = book.get(message.height, message.validator, message.view)
        assert held is not None
        if book is state.commits or held.signature == message.signature:
            return book is state.prepares
    if not _is_authentic_vote(core, message):
        accusing.blame(core, sender, "a vote with a false signature")
        return False
    if outcome is Added.DUPLICATE:
        # A liar can sign one vote twice; its proposal is as good with either signature.
        return True
    if message.validator == state.own:
        if not memory.is_own_vote(state, message):
            core.shown_own(message.view, "a vote")
        return False
    vote = Vote(message.view, message.block_hash, message.signature)
    if outcome is Added.CONFLICT:
        accusing.accuse_double_vote(core, message, book)
        return False
    book.add(message.height, message.validator, vote, state.view)
    core.hear(message.validator)
    asked = state.view_changes.get(message.validator)
    if isinstance(message, Commit) and asked is not None:
        accusing.look_for_hidden_proof(core, asked, message)
    return True


def _book(core: Core, message: Prepare | Commit) -> VoteBook:
    return core.state.prepares if isinstance(message, Prepare) else core.state.commits


def _is_authentic_vote(core: Core, message: Prepare | Commit) -> bool:
    preimage = prepare_preimage if isinstance(message, Prepare) else commit_preimage
    chain = core.configuration.chain
    signed = preimage(chain, message.epoch, message.view, message.height, message.block_hash)
    return core.verify(message.validator, signed, message.signature)


def on_urgent(core: Core, sender: bytes, message: Urgent) -> None:
    """What another validator has waited with for too long; only a primary can do anything about it."""
    state = core.state
    size_bytes = sum(map(len, message.transactions))
    if len(message.transactions) > limits.urgent_per_validator_max or size_bytes > limits.urgent_bytes_max:
        accusing.blame(core, sender, "pushed more transactions than a validator may")
        return
    is_mine = sender in state.epoch.validators and state.active and state.own == state.primary
    if is_mine and core.urgent_taken.take(sender, len(message.transactions), state.now.monotonic_ms):
        core.effects.append(Admit(sender, message.transactions))


def on_decision(core: Core, sender: bytes, message: Decision) -> None:
    state = core.state
    certificate = message.certificate
    if certificate.height <= state.committed:
        return
    if certificate.epoch != state.epoch.number or not state.is_validator:
        if certificate.epoch >= state.epoch.number:
            core.effects.append(Sync(sender, certificate.height))
        return
    if certificate.height > state.committed + limits.buffered_heights_windows * state.window:
        core.effects.append(Sync(sender, certificate.height))
        return
    if certificate.height in state.certificates:
        return
    same = message.header.height == certificate.height and block_hash(message.header) == certificate.block_hash
    if not same or not _is_valid(core, certificate):
        accusing.blame(core, sender, "a decision without a valid certificate")
        return
    learn_certificate(core, certificate)
    candidate = state.candidates.get(certificate.block_hash)
    if candidate is None or candidate.entries is None:
        core.effects.append(Sync(sender, certificate.height))


def _is_valid(core: Core, certificate: Certificate) -> bool:
    if certificate.view >= limits.view_max:
        return False
    try:
        check_certificate(certificate, core.configuration.chain, core.state.epoch, core.verify)
    except ProofError:
        return False
    return True


def learn_certificate(core: Core, certificate: Certificate) -> None:
    if memory.remember_certificate(core.state, certificate):
        harvest.from_certificate(core, certificate)

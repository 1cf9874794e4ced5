"""The normal case: accept, execute, PREPARE, COMMIT (PBFT, OSDI '99, section 4.2)."""

from __future__ import annotations

from otcnode import limits
from otcnode.blocks import HEADER_VERSION, Header, block_hash, commit_preimage, prepare_preimage, validators_hash
from otcnode.consensus import accusing, bodies, memory, record
from otcnode.consensus.candidates import Candidate
from otcnode.consensus.certificates import proof_from
from otcnode.consensus.core import Core
from otcnode.consensus.effects import Execute
from otcnode.consensus.events import Executed
from otcnode.consensus.messages import Commit, Prepare, PrePrepare
from otcnode.consensus.state import State
from otcnode.consensus.votes import Added, Vote


def accept_next(core: Core) -> bool:
    """Accept the lowest proposal that can be accepted now."""
    state = core.state
    message = _whose_turn_it_is(state)
    if message is None:
        return False
    height = message.header.height
    if height <= state.fresh_above or height > state.committed + state.window:
        return False
    refusal = _refusal(core, message, state.head())
    if refusal is not None:
        state.refusals[height] = refusal
        return False
    if not _holds_its_prepare(core, message):
        return False
    state.refusals.pop(height, None)
    candidate = memory.remember_candidate(state, message.header)
    candidate.learn_entries(message.entries)
    candidate.since_ms = state.now.monotonic_ms
    state.accepted[height] = candidate.block_hash
    candidate.in_flight = state.transactions_in_flight
    memory.forget_candidates(core.state, height)
    return True


def acceptable_ms(state: State) -> int | None:
    """The ledger time at which the proposal whose turn it is, and which is too early, is judged again whatever else
    happens; None: there is none, or it is so far ahead that its view will be over before."""
    message = _whose_turn_it_is(state)
    if message is None:
        return None
    at_ms = message.header.time_ms - state.drift_ms
    return at_ms if 0 < at_ms - state.now.ledger_ms <= state.drift_ms else None


def _whose_turn_it_is(state: State) -> PrePrepare | None:
    """The waiting proposal of this view's primary for the height above the highest accepted one."""
    if not state.active or not state.waiting:
        return None
    head = state.head()
    height = (state.committed if head is None else head.height) + 1
    message = state.waiting.get((state.primary, height))
    if message is None or message.view != state.view or height in state.accepted:
        return None
    return message


def _holds_its_prepare(core: Core, message: PrePrepare) -> bool:
    """The PREPARE in a proposal that waited may have been displaced by its author's votes in later views; it is
    held again unless the author has voted for another block here meanwhile."""
    state = core.state
    height, name = message.header.height, block_hash(message.header)
    vote = Vote(message.view, name, message.signature)
    if state.prepares.add(height, state.primary, vote, state.view) is not Added.CONFLICT:
        return True
    prepare = Prepare(message.epoch, message.view, height, name, state.primary, message.signature)
    accusing.accuse_double_vote(core, prepare, state.prepares)
    del state.waiting[(state.primary, height)]
    return False


def _refusal(core: Core, message: PrePrepare, parent: Header | None) -> str | None:
    """Why a proposal from the primary of this view is not accepted (now); None: it is. A proposal whose time is
    too early stays and is judged again, as every other one is, for the clock moves."""
    state = core.state
    header = message.header
    parent_hash = state.tip.block_hash if parent is None else state.accepted[parent.height]
    parent_ms = state.tip.time_ms if parent is None else parent.time_ms
    clock_ms, drift_ms = state.now.ledger_ms, state.drift_ms
    members = validators_hash(state.epoch)
    if header.parent != parent_hash:
        return "its parent is not the block below"
    if parent is not None and parent.next_validators_hash != members:
        return "the block below ends the epoch and is not committed"
    if header.version != HEADER_VERSION or header.chain != core.configuration.chain:
        return "another version or chain"
    if header.validators_hash != members or header.proposer != state.primary:
        return "another validator set or proposer"
    if header.time_ms <= parent_ms:
        return "its time is not after the parent's"
    if abs(header.time_ms - clock_ms) > drift_ms:
        return f"clock {(header.time_ms - clock_ms) / 1000:+.1f} s"
    return None


def work_on_blocks(core: Core) -> bool:
    """Fetch, save, execute, prepare and commit, from the lowest height up."""
    state = core.state
    if not state.accepted and not state.certificates:
        return False
    changed = False
    lowest, highest = state.committed + 1, state.committed + limits.buffered_heights_windows * state.window
    for height in sorted({*state.accepted, *state.certificates}):
        if not lowest <= height <= highest:
            continue
        accepted, certified = state.accepted_candidate(height), _certified_candidate(state, height)
        if accepted is not None and not accepted.executing:
            changed = _complete(core, accepted) or changed
        if certified is not None and certified is not accepted and not certified.executing:
            changed = _complete(core, certified) or changed
        if accepted is not None and accepted.executed and state.active:
            changed = _vote_prepare(core, accepted) or _vote_commit(core, accepted) or changed
    return changed


def _certified_candidate(state: State, height: int) -> Candidate | None:
    certificate = state.certificates.get(height)
    return None if certificate is None else state.candidates.get(certificate.block_hash)


def _complete(core: Core, candidate: Candidate) -> bool:
    """Bring a block that is not executed yet to execution: entries, bodies, record, parent."""
    state = core.state
    if not bodies.gather(core, candidate) or not _parent_is_executed(core, candidate):
        return False
    record_acceptance(core, candidate)
    candidate.executing = True
    assert candidate.entries is not None
    core.effects.append(Execute(candidate.header, candidate.entries, candidate.ordered_bodies))
    return state.committed < candidate.height


def _parent_is_executed(core: Core, candidate: Candidate) -> bool:
    state = core.state
    parent = candidate.header.parent
    if candidate.height == state.committed + 1:
        return parent == state.tip.block_hash
    held = state.candidates.get(parent)
    return held is not None and held.executed and held.next_epoch == state.epoch


def record_acceptance(core: Core, candidate: Candidate) -> None:
    """The proposal is saved with its bodies before it is executed, so that whoever prepared it can serve it."""
    state = core.state
    height = candidate.height
    if state.accepted.get(height) != candidate.block_hash or candidate.entries is None:
        return
    if candidate.recorded is not None and (candidate.recorded.view == state.view or height in state.reproposals):
        return
    candidate.recorded = record.Accepted(
        state.epoch.number,
        state.view,
        candidate.header,
        candidate.entries,
        candidate.ordered_bodies,
        _primary_signature(core, candidate),
    )
    core.save(candidate.recorded)


def _primary_signature(core: Core, candidate: Candidate) -> bytes:
    """The PREPARE signature of this view's primary for an accepted block."""
    state = core.state
    if candidate.height in state.reproposals:
        assert state.new_view is not None
        heights = {again.header.height: again.signature for again in state.new_view.reproposals}
        return heights[candidate.height]
    vote = state.prepares.get(candidate.height, state.primary, state.view)
    assert vote is not None and vote.block_hash == candidate.block_hash
    return vote.signature


def executed(core: Core, event: Executed) -> None:
    candidate = core.state.candidates.get(event.block_hash)
    if candidate is None or not candidate.executing or candidate.executed:
        return
    core.pace.note(candidate.header.transaction_count, event.took_ms)
    candidate.fault = event.fault
    candidate.executed = event.fault is None
    candidate.next_epoch = event.next_epoch


def _vote_prepare(core: Core, candidate: Candidate) -> bool:
    """PREPARE only what executed to the header's roots, on a parent that is committed or prepared in this view."""
    state = core.state
    height, view, name = candidate.height, state.view, candidate.block_hash
    if (view, height) in state.own_prepares or not state.may_sign(view) or not state.parent_is_final(height):
        return False
    record_acceptance(core, candidate)
    assert state.own is not None
    signed = prepare_preimage(core.configuration.chain, state.epoch.number, view, height, name)
    _cast(core, Prepare(state.epoch.number, view, height, name, state.own, core.sign(signed)))
    return True


def _vote_commit(core: Core, candidate: Candidate) -> bool:
    """COMMIT only what is prepared, executed here and prepared by me, on a parent that is committed or whose proof
    of this view I hold: so the proofs above my committed height have no gap."""
    state = core.state
    height, view, name = candidate.height, state.view, candidate.block_hash
    mine = state.own_prepares.get((view, height))
    if mine is None or mine.block_hash != name or (view, height) in state.own_commits:
        return False
    if not state.may_sign(view) or not state.parent_is_final(height):
        return False
    proof = proof_from(state.prepares, state.epoch, view, candidate.header, name)
    if proof is None:
        return False
    state.proofs[height] = proof
    core.save(record.Proved(state.epoch.number, proof))
    assert state.own is not None
    signed = commit_preimage(core.configuration.chain, state.epoch.number, view, height, name)
    _cast(core, Commit(state.epoch.number, view, height, name, state.own, core.sign(signed)))
    return True


def _cast(core: Core, vote: Prepare | Commit) -> None:
    """Remember, then speak."""
    memory.remember_own_vote(core.state, vote)
    core.save(record.Voted(vote))
    core.broadcast(vote)

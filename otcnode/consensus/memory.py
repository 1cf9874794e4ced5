"""Between a replica's state and its voting record: what a start restores, and what stays at compaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from otcnode import limits
from otcnode.blocks import Certificate, Header, block_hash
from otcnode.codec import encode
from otcnode.consensus.candidates import Candidate
from otcnode.consensus.messages import Commit, NewView, Prepare, PrePrepare, ViewChange
from otcnode.consensus.record import (
    Accepted,
    Asked,
    Begun,
    Entered,
    Floored,
    Proved,
    RecordEntry,
    Silenced,
    Voted,
    floor_of,
)
from otcnode.consensus.state import State
from otcnode.consensus.view_change import select
from otcnode.consensus.votes import Vote
from otcnode.types import BlockHash


def restore(state: State, entries: Sequence[RecordEntry]) -> None:
    """Replay a record on a fresh state of the store's epoch. Entries of other epochs are void."""
    # What the store holds is behind it, and compaction keeps nothing of it: the floor says so from now on.
    state.floor = max(floor_of(entries), state.committed)
    for entry in entries:
        _restore_entry(state, entry)
    drop_broken_chain(state)


def _restore_entry(state: State, entry: RecordEntry) -> None:
    epoch = state.epoch.number
    match entry:
        case Begun():
            state.view_first = entry.view_first if entry.epoch == epoch else 0
        case Floored() | Silenced():
            pass
        case Asked(view_change):
            if view_change.epoch == epoch:
                ask(state, view_change)
        case Entered(new_view):
            if new_view.epoch == epoch:
                enter(state, new_view)
        case Accepted():
            if entry.epoch == epoch and entry.header.height > state.committed:
                _restore_accepted(state, entry)
        case Proved():
            if entry.epoch == epoch and entry.proof.header.height > state.committed:
                state.proofs[entry.proof.header.height] = entry.proof
        case Voted(vote):
            if vote.epoch == epoch and vote.height > state.committed:
                remember_own_vote(state, vote)
        case _:
            assert_never(entry)


def _restore_accepted(state: State, entry: Accepted) -> None:
    candidate = Candidate.of(entry.header, state.now.monotonic_ms)
    candidate = state.candidates.setdefault(candidate.block_hash, candidate)
    candidate.entries = entry.entries
    candidate.bodies = dict(enumerate(entry.bodies))
    candidate.recorded = entry
    height = entry.header.height
    if state.own == state.epoch.primary(entry.view):
        # The own PRE-PREPARE is the own PREPARE: it is not written down a second time.
        name = candidate.block_hash
        remember_own_vote(state, Prepare(entry.epoch, entry.view, height, name, state.own, entry.signature))
    if entry.view == state.view and height > state.fresh_above:
        state.accepted[height] = candidate.block_hash
        message = PrePrepare(entry.epoch, entry.view, entry.header, entry.entries, entry.signature)
        state.waiting[(state.primary, height)] = message
        state.prepares.add(height, state.primary, Vote(entry.view, candidate.block_hash, entry.signature), state.view)


def remember_own_vote(state: State, vote: Prepare | Commit) -> None:
    held = Vote(vote.view, vote.block_hash, vote.signature)
    match vote:
        case Prepare():
            state.own_prepares[(vote.view, vote.height)] = vote
            state.prepares.add(vote.height, vote.validator, held, state.view)
        case Commit():
            state.own_commits[(vote.view, vote.height)] = vote
            state.commits.add(vote.height, vote.validator, held, state.view)
        case _:
            assert_never(vote)
    _forget_old_own_votes(state)


def _forget_old_own_votes(state: State) -> None:
    """Own votes of the oldest views go, in a stall of very many; nothing is signed in those views ever again."""
    if len(state.own_prepares) + len(state.own_commits) <= limits.own_vote_views_max:
        return
    views = sorted({view for view, _ in [*state.own_prepares, *state.own_commits]})
    if len(views) <= limits.own_vote_views_max:
        return
    state.view_first = max(state.view_first, views[-limits.own_vote_views_max])
    for key in [key for key in state.own_prepares if key[0] < state.view_first]:
        del state.own_prepares[key]
    for commit_key in [key for key in state.own_commits if key[0] < state.view_first]:
        del state.own_commits[commit_key]


def is_own_vote(state: State, vote: Prepare | Commit) -> bool:
    """Whether the record says that this replica cast that vote. The vote books keep fewer views than it."""
    own = state.own_prepares if isinstance(vote, Prepare) else state.own_commits
    held = own.get((vote.view, vote.height))
    return held is not None and held.block_hash == vote.block_hash


def ask(state: State, view_change: ViewChange) -> None:
    """The state after asking for a view: everything of lower views is over, but for what may still be learnt."""
    state.view = view_change.view
    state.own_view_change = view_change
    state.view_changes[view_change.validator] = view_change
    _leave_view(state)
    state.new_view = None


def enter(state: State, new_view: NewView) -> None:
    """The state after acting under a valid NEW-VIEW; active once its base is committed (see activate)."""
    state.view = new_view.view
    _leave_view(state)
    selection = select(new_view.view_changes)
    state.new_view = new_view
    state.proved.clear()
    state.base = selection.base
    state.fresh_above = selection.base + len(selection.headers)
    for entry in new_view.reproposals:
        height = entry.header.height
        if height <= state.committed:
            continue
        name = remember_candidate(state, entry.header).block_hash
        state.reproposals[height] = name
        state.prepares.add(height, state.primary, Vote(state.view, name, entry.signature), state.view)
        if state.primary == state.own:
            own = Prepare(state.epoch.number, state.view, height, name, state.own, entry.signature)
            state.own_prepares[(state.view, height)] = own
    for message in new_view.view_changes:
        held = state.view_changes.get(message.validator)
        if held is None or held.view < message.view:
            state.view_changes[message.validator] = message
        if message.certificate is not None:
            remember_certificate(state, message.certificate)
    activate(state)


def remember_certificate(state: State, certificate: Certificate) -> bool:
    """A valid one of a height that is in flight or soon may be; whether it is kept. What is higher comes by sync."""
    highest = state.committed + limits.buffered_heights_windows * state.window
    kept = state.committed < certificate.height <= highest
    if kept:
        state.certificates.setdefault(certificate.height, certificate)
    return kept


def activate(state: State) -> bool:
    """Become active in the view acted under as soon as its base is committed; whether that happened now."""
    if state.active or state.new_view is None or state.committed < state.base:
        return False
    state.active = True
    for height, name in sorted(state.reproposals.items()):
        if height > state.committed:
            state.accepted[height] = name
            state.candidates[name].since_ms = state.now.monotonic_ms
            state.candidates[name].in_flight = None
    drop_broken_chain(state)
    return True


def _leave_view(state: State) -> None:
    state.active = False
    state.accepted.clear()
    state.reproposals.clear()
    state.refusals.clear()
    state.refused = ""
    state.view_since_ms = state.now.monotonic_ms
    for key in [key for key, message in state.waiting.items() if message.view < state.view]:
        del state.waiting[key]


def keep_waiting(state: State, message: PrePrepare) -> None:
    """A proposal, until its turn. Those of the current view list as many transactions as a window of full blocks has,
    which an honest primary needs, those for later views as many as one such block, both of each validator and at least
    limits.waiting_transactions_min. The highest give way, and come again when the own STATUS shows that they are
    lacking."""
    primary = state.epoch.primary(message.view)
    state.waiting[(primary, message.header.height)] = message
    is_current = message.view == state.view
    blocks = state.window if is_current else 1
    room = max(limits.waiting_transactions_min, blocks * state.parameters.block_transactions_max)
    for height in range(state.committed + 1, state.committed + 1 + limits.buffered_heights_windows * state.window):
        held = state.waiting.get((primary, height))
        if held is None or (held.view == state.view) != is_current:
            continue
        room -= len(held.entries)
        if room < 0:
            del state.waiting[(primary, height)]


def remember_candidate(state: State, header: Header) -> Candidate:
    name = block_hash(header)
    held = state.candidates.get(name)
    if held is None:
        held = Candidate.of(header, state.now.monotonic_ms)
        state.candidates[name] = held
    return held


def forget_candidates(state: State, height: int) -> None:
    proof, certificate = state.proofs.get(height), state.certificates.get(height)
    kept: set[BlockHash | None] = {state.accepted.get(height), state.reproposals.get(height)}
    kept.add(None if proof is None else block_hash(proof.header))
    kept.add(None if certificate is None else certificate.block_hash)
    kept |= proved_for_view(state)
    old = sorted(
        (candidate.since_ms, name)
        for name, candidate in state.candidates.items()
        if candidate.height == height and name not in kept
    )
    for _, name in old[: max(0, len(old) - limits.candidates_per_height_max)]:
        del state.candidates[name]


def proved_for_view(state: State) -> set[BlockHash]:
    """What VIEW-CHANGEs for the view that is to be opened here prove: at most a window of blocks of each validator."""
    if state.active or state.new_view is not None or state.own != state.primary:
        return set()
    return {
        name
        for message in state.view_changes.values()
        if message.view == state.view
        for header, name in proved_by(state, message)
        if header.height > state.committed
    }


def proved_by(state: State, message: ViewChange) -> Sequence[tuple[Header, BlockHash]]:
    """The blocks that a VIEW-CHANGE proves. Asked for at every step until the view is opened, hence remembered."""
    known = state.proved.get(message.validator)
    if known is None or known[0] is not message:
        known = (message, tuple((proof.header, block_hash(proof.header)) for proof in message.proofs))
        state.proved[message.validator] = known
    return known[1]


def drop_broken_chain(state: State) -> None:
    """Accepted blocks that no longer descend from the committed one can never be committed in this view."""
    below = state.tip.block_hash
    broken = False
    for height in sorted(state.accepted):
        name = state.accepted[height]
        broken = broken or state.candidates[name].header.parent != below
        if broken:
            del state.accepted[height]
        below = name


def compacted(state: State) -> tuple[bytes, ...]:
    """The whole record of this moment: heights above the committed one, the state of the view, and the floor."""
    epoch = state.epoch.number
    entries: list[RecordEntry] = [Begun(epoch, state.floor, state.view_first)]
    if state.own_view_change is not None:
        entries.append(Asked(state.own_view_change))
    if state.new_view is not None:
        entries.append(Entered(state.new_view))
    recorded = [candidate.recorded for candidate in state.candidates.values() if candidate.recorded is not None]
    recorded.sort(key=lambda accepted: (accepted.header.height, accepted.view))
    entries.extend(recorded)
    entries.extend(Proved(epoch, state.proofs[height]) for height in sorted(state.proofs))
    entries.extend(Voted(state.own_prepares[key]) for key in sorted(state.own_prepares))
    entries.extend(Voted(state.own_commits[key]) for key in sorted(state.own_commits))
    return tuple(encode(entry) for entry in entries)

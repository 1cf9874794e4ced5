"""Bugs of the normal case: quorums, votes and what they presuppose."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from otcnode import blocks
from otcnode.blocks import Certificate, commit_preimage
from otcnode.consensus import building, committing, receiving, record, retransmission, view_changing, voting
from otcnode.consensus.certificates import proof_from
from otcnode.consensus.core import Core
from otcnode.consensus.messages import Commit, Status
from otcnode.consensus.state import State
from otcnode.consensus.votes import Vote, VoteBook, absent
from otcnode.simulation.mutants.planting import planted

Plant = AbstractContextManager[None]


def quorum_less_one() -> Plant:
    right = blocks.quorum
    return planted((blocks, "quorum", lambda count: max(1, right(count) - 1)))


def quorum_two_f_plus_one() -> Plant:
    """Right for n = 3f + 1, too small for every other n."""
    return planted((blocks, "quorum", lambda count: 2 * blocks.maximum_faulty(count) + 1))


def views_added_up() -> Plant:
    def certificate_from(commits: Any, epoch: Any, height: int) -> Certificate | None:
        for view, block in commits.choices(height):
            found = {
                entry.validator: entry
                for other, name in reversed(commits.choices(height))
                if name == block
                for entry in commits.signatures(height, other, block)
            }
            if len(found) >= epoch.quorum:
                return Certificate(epoch.number, view, height, block, tuple(found[name] for name in sorted(found)))
        return None

    return planted((committing, "certificate_from", certificate_from))


def signatures_unchecked() -> Plant:
    return planted((receiving, "_is_authentic_vote", lambda core, message: True))


def prepare_without_parent() -> Plant:
    """PREPARE whatever became of the block below; COMMIT as it should be."""
    right = voting._vote_prepare

    def vote_prepare(core: Core, candidate: Any) -> bool:
        with planted((State, "parent_is_final", lambda self, height: True)):
            return right(core, candidate)

    return planted((voting, "_vote_prepare", vote_prepare))


def commit_without_parent() -> Plant:
    """COMMIT whatever became of the block below; PREPARE as it should be."""
    right = voting._vote_commit

    def vote_commit(core: Core, candidate: Any) -> bool:
        with planted((State, "parent_is_final", lambda self, height: True)):
            return right(core, candidate)

    return planted((voting, "_vote_commit", vote_commit))


def votes_without_parent() -> Plant:
    return planted((State, "parent_is_final", lambda self, height: True))


def commit_without_prepare() -> Plant:
    """COMMIT for what others prepared, before it is executed and prepared here."""
    right = voting.work_on_blocks

    def work_on_blocks(core: Core) -> bool:
        state = core.state
        changed = False
        for height, name in sorted(state.accepted.items()):
            key = (state.view, height)
            if not state.active or not state.may_sign(state.view) or key in state.own_commits:
                continue
            header = state.candidates[name].header
            proof = proof_from(state.prepares, state.epoch, state.view, header, name)
            if proof is None or not state.parent_is_final(height):
                continue
            state.proofs[height] = proof
            core.save(record.Proved(state.epoch.number, proof))
            _cast_commit(core, state.view, height, name)
            changed = True
        return right(core) or changed

    return planted((voting, "work_on_blocks", work_on_blocks))


def _cast_commit(core: Core, view: int, height: int, name: bytes) -> None:
    state = core.state
    assert state.own is not None
    signed = commit_preimage(core.configuration.chain, state.epoch.number, view, height, name)
    voting._cast(core, Commit(state.epoch.number, view, height, name, state.own, core.sign(signed)))


def votes_after_view_change() -> Plant:
    """What was prepared in the views that were left is still committed to."""
    right = voting.work_on_blocks

    def work_on_blocks(core: Core) -> bool:
        state = core.state
        for (view, height), vote in sorted(state.own_prepares.items()):
            candidate = state.candidates.get(vote.block_hash)
            if view >= state.view or (view, height) in state.own_commits or candidate is None:
                continue
            proof = proof_from(state.prepares, state.epoch, view, candidate.header, vote.block_hash)
            if proof is not None and height > state.committed and state.may_sign(view):
                _cast_commit(core, view, height, vote.block_hash)
        return right(core)

    return planted((voting, "work_on_blocks", work_on_blocks))


def status_is_a_vote() -> Plant:
    """The PREPAREs and COMMITs that a STATUS says its sender holds are counted as if they had come."""
    right = retransmission.on_status

    def on_status(core: Core, sender: bytes, message: Status) -> None:
        right(core, sender, message)
        state = core.state
        if message.epoch != state.epoch.number or message.view != state.view:
            return
        for entry in message.heights:
            if entry.block_hash is None or entry.height <= state.committed:
                continue
            for book, bits in ((state.prepares, entry.prepares), (state.commits, entry.commits)):
                _believe(book, state, entry.height, Vote(message.view, entry.block_hash, message.signature), bits)

    return planted((retransmission, "on_status", on_status))


def _believe(book: VoteBook, state: State, height: int, vote: Vote, bits: bytes) -> None:
    others = absent(state.epoch.validators, bits)
    for validator in state.epoch.validators:
        if validator not in others:
            book.add(height, validator, vote, state.view)


def status_of_anybody() -> Plant:
    """A STATUS is believed of whomever it names: neither who sent it nor its signature is looked at."""
    right = retransmission.on_status

    def on_status(core: Core, sender: bytes, message: Status) -> None:
        verify, core.verify = core.verify, lambda *signed: True
        right(core, message.validator, message)
        core.verify = verify

    return planted((retransmission, "on_status", on_status))


def status_moves_views() -> Plant:
    """The view that a STATUS names counts as its sender's wish for it."""
    right = view_changing.join

    def join(core: Core) -> bool:
        state = core.state
        named = [heard.status.view for heard in state.heard.values() if heard.status is not None]
        wanted = max(named, default=0)
        if wanted > state.view + 1 and state.may_sign(wanted):
            view_changing.ask_for(core, wanted, "a STATUS names it")
            return True
        return right(core)

    return planted((view_changing, "join", join))


class _Whatever(bytes):
    """Equal to every hash."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = bytes.__hash__


def epoch_barrier_dropped() -> Plant:
    """Heights of the coming epoch are proposed, accepted and voted for before the last of this one is committed."""
    obstacle, refusal = building._obstacle, voting._refusal

    def none_of_epochs(state: State) -> str | None:
        found = obstacle(state)
        return None if found is not None and "ends the epoch" in found else found

    def refuse(core: Core, *others: Any) -> str | None:
        with planted((voting, "validators_hash", lambda epoch: _Whatever())):
            return refusal(core, *others)

    def parent_is_executed(core: Core, candidate: Any) -> bool:
        parent = candidate.header.parent
        if candidate.height == core.state.committed + 1:
            return bool(parent == core.state.tip.block_hash)
        held = core.state.candidates.get(parent)
        return held is not None and held.executed

    return planted(
        (building, "_obstacle", none_of_epochs),
        (voting, "_refusal", refuse),
        (voting, "_parent_is_executed", parent_is_executed),
    )

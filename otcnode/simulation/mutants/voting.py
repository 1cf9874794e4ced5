"""Bugs of the normal case: quorums, votes and what they presuppose."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any
from weakref import WeakKeyDictionary

from otcnode import blocks
from otcnode.blocks import Certificate, Epoch, ValidatorSignature, block_hash, commit_preimage, prepare_preimage
from otcnode.consensus import (
    building,
    committing,
    memory,
    proposing,
    receiving,
    record,
    retransmission,
    view_changing,
    voting,
)
from otcnode.consensus.certificates import proof_from
from otcnode.consensus.core import Core
from otcnode.consensus.effects import Build
from otcnode.consensus.events import Built
from otcnode.consensus.messages import Commit, Prepare, PrePrepare, Status
from otcnode.consensus.state import State
from otcnode.consensus.votes import Vote, VoteBook, absent
from otcnode.crypto import SignatureCheck
from otcnode.errors import ProofError
from otcnode.simulation.mutants.planting import planted, wherever

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


def prepares_after_view_change() -> Plant:
    """What was accepted in the views that were left is still prepared there, once its parent is committed."""
    right = voting.work_on_blocks

    def work_on_blocks(core: Core) -> bool:
        state = core.state
        for name, candidate in sorted(state.candidates.items()):
            accepted = candidate.recorded
            if accepted is None or not candidate.executed or candidate.header.parent != state.tip.block_hash:
                continue
            view, height = accepted.view, candidate.height
            if view < state.view and (view, height) not in state.own_prepares and state.may_sign(view):
                _cast_prepare(core, view, height, name)
        return right(core)

    return planted((voting, "work_on_blocks", work_on_blocks))


def _cast_prepare(core: Core, view: int, height: int, name: bytes) -> None:
    state = core.state
    assert state.own is not None
    signed = prepare_preimage(core.configuration.chain, state.epoch.number, view, height, name)
    voting._cast(core, Prepare(state.epoch.number, view, height, name, state.own, core.sign(signed)))


def proposals_after_view_change() -> Plant:
    """A primary that has asked for the next view goes on to propose in its own."""
    build, built = proposing.build, proposing.built

    def goes_on(state: State) -> bool:
        view, place = state.view - 1, (state.view - 1, state.committed + 1)
        is_primary = not state.active and view >= 0 and state.epoch.primary(view) == state.own
        return is_primary and state.may_sign(view) and place not in state.own_prepares

    def build_on(core: Core) -> None:
        build(core)
        state = core.state
        if not goes_on(state) or core.building is not None or core.builder_had_nothing:
            return
        core.request += 1
        time_ms = max(state.now.ledger_ms, state.tip.time_ms + 1)
        place, most = (state.committed + 1, state.tip.block_hash), state.transactions_max
        core.building = Build(core.request, *place, time_ms, most, False)
        core.effects.append(core.building)

    def built_on(core: Core, event: Built) -> None:
        state, header = core.state, event.header
        answered = core.building is not None and core.building.request == event.request
        built(core, event)
        if not answered or header is None or header.height != state.committed + 1 or not goes_on(state):
            return
        assert state.own is not None
        epoch, view, name = state.epoch.number, state.view - 1, block_hash(header)
        signature = core.sign(prepare_preimage(core.configuration.chain, epoch, view, header.height, name))
        memory.remember_own_vote(state, Prepare(epoch, view, header.height, name, state.own, signature))
        core.save(record.Accepted(epoch, view, header, event.entries, event.bodies, signature))
        core.broadcast(PrePrepare(epoch, view, header, event.entries, signature))

    return planted((proposing, "build", build_on), (proposing, "built", built_on))


class _Doubled:
    """What VoteBooks hold beside one vote of each validator: its other signatures."""

    def __init__(self) -> None:
        self.votes: WeakKeyDictionary[VoteBook, dict[tuple[int, int, bytes], dict[bytes, Vote]]] = WeakKeyDictionary()

    def note(self, book: VoteBook, message: Prepare | Commit) -> None:
        vote = Vote(message.view, message.block_hash, message.signature)
        places = self.votes.setdefault(book, {})
        places.setdefault((message.height, message.view, message.block_hash), {})[message.validator] = vote

    def of(self, book: VoteBook, height: int) -> list[tuple[tuple[int, int, bytes], dict[bytes, Vote]]]:
        return [(place, votes) for place, votes in self.votes.get(book, {}).items() if place[0] == height]


def signatures_counted() -> Plant:
    """Two valid signatures of one validator under one vote are two votes."""
    take, signatures_of, voters_of = receiving._take_vote, VoteBook.signatures, VoteBook.voters
    doubled = _Doubled()

    def take_vote(core: Core, sender: bytes, message: Prepare | Commit) -> bool:
        book = receiving._book(core, message)
        held = book.get(message.height, message.validator, message.view)
        taken = take(core, sender, message)
        other = held is not None and held.block_hash == message.block_hash and held.signature != message.signature
        if other and receiving._is_authentic_vote(core, message):
            doubled.note(book, message)
        return taken

    def signatures(self: VoteBook, height: int, view: int, block: bytes) -> tuple[ValidatorSignature, ...]:
        more = dict(doubled.of(self, height)).get((height, view, block), {})
        found = [*signatures_of(self, height, view, block)]
        found += [ValidatorSignature(name, vote.signature) for name, vote in more.items()]
        return tuple(sorted(found, key=lambda entry: entry.validator))

    def voters(self: VoteBook, height: int) -> int:
        return voters_of(self, height) + sum(len(votes) for _, votes in doubled.of(self, height))

    return planted(
        (receiving, "_take_vote", take_vote), (VoteBook, "signatures", signatures), (VoteBook, "voters", voters)
    )


def signers_counted_twice() -> Plant:
    """A quorum in a certificate or proof is of different signatures, whoever made them."""

    def vote_checks(signatures: Sequence[ValidatorSignature], message: bytes, epoch: Epoch) -> list[SignatureCheck]:
        different = {entry.signature for entry in signatures}
        if not epoch.quorum <= len(different) == len(signatures) <= len(epoch.validators):
            raise ProofError("too few signatures, or one twice")
        if not {entry.validator for entry in signatures} <= set(epoch.validators):
            raise ProofError("a signer is not a validator of this epoch")
        return [SignatureCheck(entry.validator, message, entry.signature) for entry in signatures]

    return planted(*wherever(blocks.vote_checks, vote_checks))


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

"""Bugs of the view change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from msgspec.structs import replace

from otcnode.blocks import Epoch, Verify, block_hash
from otcnode.consensus import committing, memory, patience, status, view_change, view_changing, voting
from otcnode.consensus.core import Core
from otcnode.consensus.inclusion import InclusionWatch, Proposed
from otcnode.consensus.messages import Commit, Message, NewView, Prepare, PrePrepare, Proof, Status, ViewChange
from otcnode.consensus.state import Leaving, State
from otcnode.consensus.view_change import Selection
from otcnode.simulation.mutants.planting import planted, wherever

Plant = AbstractContextManager[None]


def _select_nothing(messages: Any) -> Selection:
    return Selection(max(message.committed for message in messages), ())


def proofs_ignored() -> Plant:
    return planted(*wherever(view_change.select, _select_nothing))


def lower_proof() -> Plant:
    def best(messages: Sequence[ViewChange], height: int) -> Proof | None:
        proofs = [proof for message in messages for proof in message.proofs if proof.header.height == height]
        return min(proofs, key=lambda proof: (proof.view, block_hash(proof.header)), default=None)

    return planted((view_change, "_best_proof", best))


def proof_forgotten() -> Plant:
    right = view_changing.ask_for

    def ask_for(core: Core, view: int, reason: str, leaving: Leaving = Leaving.JUDGEMENT) -> None:
        core.state.proofs.clear()
        right(core, view, reason, leaving)

    return planted((view_changing, "ask_for", ask_for))


def new_view_unchecked() -> Plant:
    """Whatever the new primary proposes again is what follows."""

    def check_new_view(message: NewView, *others: Any, **more: Any) -> Selection:
        base = max(entry.committed for entry in message.view_changes)
        return Selection(base, tuple(entry.header for entry in message.reproposals))

    right = memory.enter

    def enter(state: State, new_view: NewView) -> None:
        chosen = check_new_view(new_view)
        with planted((memory, "select", lambda messages: chosen)):
            right(state, new_view)

    return planted((view_changing, "check_new_view", check_new_view), (memory, "enter", enter))


def refused_at_once() -> Plant:
    """One invalid NEW-VIEW makes whoever is shown it ask for the next view, whoever else has asked for this one."""
    right = view_changing.leave_refused

    def leave_refused(core: Core) -> bool:
        with planted((State, "is_asked_for", property(lambda state: True))):
            return right(core)

    return planted((view_changing, "leave_refused", leave_refused))


def view_change_unchecked() -> Plant:
    """Proofs and certificates in VIEW-CHANGEs are believed."""

    def believe(message: ViewChange, *others: Any) -> None:
        return None

    return planted(*wherever(view_change.check_view_change, believe))


def certificate_of_another_height() -> Plant:
    """Any valid certificate of the epoch shows whatever height is claimed."""
    right = view_change._check_committed

    def check_committed(message: ViewChange, chain: bytes, epoch: Epoch, verify: Verify) -> None:
        shown = message.committed if message.certificate is None else message.certificate.height
        right(replace(message, committed=shown), chain, epoch, verify)

    return planted((view_change, "_check_committed", check_committed))


def reproposals_unsigned() -> Plant:
    """What is proposed again counts as the new primary's PREPARE, whatever it is signed with."""
    right = view_change.check_new_view

    def check_new_view(message: NewView, chain: bytes, epoch: Epoch, verify: Verify, *known: Any) -> Selection:
        unread = {again.signature for again in message.reproposals}

        def believe(public: bytes, signed: bytes, signature: bytes) -> bool:
            return signature in unread or verify(public, signed, signature)

        return right(message, chain, epoch, believe, *known)

    return planted(*wherever(right, check_new_view))


def uncommitted_base() -> Plant:
    """The new primary uses VIEW-CHANGEs whose certified height it has not committed."""
    right = view_changing.open_view

    def open_view(core: Core) -> bool:
        tip = core.state.tip
        held = [message for message in core.state.view_changes.values() if message.view == core.state.view]
        highest = max((message.committed for message in held), default=0)
        if len(held) < core.state.epoch.quorum or highest <= tip.height:
            return right(core)
        with planted((State, "committed", property(lambda state: max(state.tip.height, highest)))):
            return right(core)

    return planted((view_changing, "open_view", open_view))


def base_barrier_dropped() -> Plant:
    """Active in a view at once, and fresh proposals are accepted wherever this replica stands."""
    right = memory.enter

    def enter(state: State, new_view: NewView) -> None:
        right(state, new_view)
        state.base = state.fresh_above = state.committed
        memory.activate(state)

    return planted((memory, "enter", enter))


def below_the_base() -> Plant:
    """Who acts under a NEW-VIEW and has not committed its base takes part in the heights up to it."""
    accept, work = voting.accept_next, voting.work_on_blocks

    def accept_next(core: Core) -> bool:
        with _active_below_the_base(core.state):
            return accept(core)

    def work_on_blocks(core: Core) -> bool:
        with _active_below_the_base(core.state):
            return work(core)

    return planted((voting, "accept_next", accept_next), (voting, "work_on_blocks", work_on_blocks))


@contextmanager
def _active_below_the_base(state: State) -> Iterator[None]:
    if state.active or state.new_view is None or state.committed >= state.base:
        yield
        return
    kept, state.fresh_above, state.active = state.fresh_above, state.committed, True
    yield
    state.fresh_above, state.active = kept, False


def another_block_again() -> Plant:
    """Where a block is proposed again, another one is accepted too."""
    right = voting.accept_next

    def accept_next(core: Core) -> bool:
        state = core.state
        for height, name in sorted(state.reproposals.items()):
            other = state.waiting.get((state.primary, height))
            is_other = other is not None and other.view == state.view and block_hash(other.header) != name
            if is_other and state.accepted.get(height) == name and (state.view, height) not in state.own_prepares:
                for above in [above for above in state.accepted if above >= height]:
                    del state.accepted[above]
                state.fresh_above = height - 1
        return right(core)

    return planted((voting, "accept_next", accept_next))


def fresh_at_once() -> Plant:
    """Whoever acts under a NEW-VIEW begins with fresh blocks, right above its base."""
    right = memory.enter

    def enter(state: State, new_view: NewView) -> None:
        with planted((memory, "select", _select_nothing)):
            right(state, replace(new_view, reproposals=()))
        state.new_view = new_view

    return planted((memory, "enter", enter))


def join_anybody() -> Plant:
    """One validator in a far view moves all."""
    return planted((Epoch, "weak_quorum", property(lambda epoch: 1)))


def timer_never_falls_back() -> Plant:
    right = committing._grow_patience_back

    def grow(core: Core, header: Any) -> None:
        right(core, header)
        core.state.blocks_since_step = 0

    return planted((committing, "_grow_patience_back", grow))


def timer_stops_after_asking() -> Plant:
    """A view that nobody opens is waited for, for ever."""
    right = patience._view_timer_runs

    def runs(core: Core) -> bool:
        return core.state.active and right(core)

    return planted((patience, "_view_timer_runs", runs))


def no_inclusion_timeout() -> Plant:
    """A primary may pass over a transaction for as long as others get through."""

    def committed(self: InclusionWatch, block: Proposed, timeout_ms: int) -> list[tuple[bytes, str]]:
        self.ended(block.transactions)
        return []

    return planted((InclusionWatch, "committed", committed))


def nothing_passed_on() -> Plant:
    """Who lacks something gets what the one who sees it has signed, and nothing of others."""
    of_heights, of_view = status.height_messages, status.view_messages

    def author(state: State, message: Message) -> bytes:
        match message:
            case PrePrepare(view=view):
                return state.epoch.primary(view)
            case Prepare() | Commit() | ViewChange() | NewView():
                return message.validator
            case _:
                raise AssertionError(f"a {type(message).__name__} is no answer to a STATUS")

    def height_messages(state: State, asks: Status) -> Iterator[Message]:
        return (message for message in of_heights(state, asks) if author(state, message) == state.own)

    def view_messages(state: State, asks: Status) -> Iterator[Message]:
        return (message for message in of_view(state, asks) if author(state, message) == state.own)

    return planted((status, "height_messages", height_messages), (status, "view_messages", view_messages))


def hold_beside_askers() -> Plant:
    """Who hears too few for a quorum waits, whoever asks for the next view."""

    def may_form_quorum(self: State) -> bool:
        return 1 + sum(self.is_heard(name) for name in self.others) >= self.epoch.quorum

    return planted((State, "may_form_quorum", property(may_form_quorum)))


def opened_twice() -> Plant:
    """A second NEW-VIEW takes the place of the one that this node acts under."""
    right = view_changing.on_new_view

    def on_new_view(core: Core, sender: bytes, message: NewView) -> None:
        state = core.state
        opened = state.new_view
        if opened is not None and (opened.epoch, opened.view) == (message.epoch, message.view) and opened != message:
            state.new_view, state.active = None, False
        right(core, sender, message)

    return planted((view_changing, "on_new_view", on_new_view))

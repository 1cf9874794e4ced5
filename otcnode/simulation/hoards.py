"""A liar that keeps what it holds proofs of to itself for many views, and shows them when nobody remembers."""

from __future__ import annotations

from collections.abc import Callable

from otcnode.blocks import block_hash
from otcnode.codec import decode, encode
from otcnode.consensus.messages import Bodies, Commit, Entries, Message, NewView, Proof, ViewChange
from otcnode.consensus.state import State
from otcnode.engine.engine import Engine
from otcnode.simulation.forgery import Forger, Spoken
from otcnode.simulation.plan import Liar


class Hoard:
    """Of each height above the committed one the first proof that its honest half held. It never says COMMIT, so nobody
    can show that it hides anything."""

    def __init__(self, forger: Forger, half: Callable[[], Engine | None]) -> None:
        self._forger = forger
        self._half = half
        self._epoch = 0
        self._proofs: dict[int, Proof] = {}
        self._asked: dict[int, int] = {}
        """Receiver to the highest view that it was asked for there."""

    def said_instead(self, liar: Liar, receiver: int, spoken: Spoken) -> Spoken:
        half = self._half()
        if half is None or not half.replica.started:
            return spoken
        state = half.replica.state
        self._collect(state)
        said = [
            (encode(lie), late_ms)
            for payload, late_ms in spoken
            for lie in self._instead_of(liar, state, decode(Message, payload))
        ]
        ahead = self._ahead(liar, receiver, state)
        return said if ahead is None else [(encode(ahead), 0), *said]

    def _collect(self, state: State) -> None:
        if state.epoch.number != self._epoch:
            self._epoch = state.epoch.number
            self._proofs.clear()
            self._asked.clear()
        for height in [height for height in self._proofs if height <= state.committed]:
            del self._proofs[height]
        for height, proof in state.proofs.items():
            if height > state.committed:
                self._proofs.setdefault(height, proof)

    def _instead_of(self, liar: Liar, state: State, message: Message) -> list[Message]:
        own = self._forger.own
        match message:
            case Commit(validator=author) | NewView(validator=author) if author == own:
                return []
            case Bodies(block_hash=name) | Entries(block_hash=name):
                hoarded = {block_hash(proof.header) for proof in self._proofs.values()}
                return [] if name in hoarded else [message]
            case ViewChange(validator=author, epoch=epoch, view=view) if author == own:
                return [self._view_change(liar, state, view)] if epoch == state.epoch.number else []
            case _:
                return [message]

    def _ahead(self, liar: Liar, receiver: int, state: State) -> ViewChange | None:
        """Once it has something to show: what it asks `receiver` for before anybody else does."""
        view = self._next_view(state)
        if view is None or self._asked.get(receiver, 0) >= view or not self._shown(liar, state, view):
            return None
        self._asked[receiver] = view
        return self._view_change(liar, state, view)

    def _next_view(self, state: State) -> int | None:
        """Above the open view, or above one that the liar should open."""
        wanted = max((entry.view for name, entry in state.view_changes.items() if name != self._forger.own), default=0)
        if wanted > state.view and state.epoch.primary(wanted) == self._forger.own:
            return wanted + 1
        return state.view + 1 if state.active else None

    def _shown(self, liar: Liar, state: State, view: int) -> tuple[Proof, ...]:
        """Without a gap above the committed height."""
        shown: list[Proof] = []
        height = state.committed + 1
        while (proof := self._proofs.get(height)) is not None and proof.view + liar.views <= view and proof.view < view:
            shown.append(proof)
            height += 1
        return tuple(shown)

    def _view_change(self, liar: Liar, state: State, view: int) -> ViewChange:
        epoch, committed = state.epoch.number, state.committed
        certificate = None if committed == epoch - 1 else state.tip.certificate
        proofs = self._shown(liar, state, view)
        return self._forger.view_change(
            ViewChange(epoch, view, committed, certificate, proofs, self._forger.own, bytes(64))
        )

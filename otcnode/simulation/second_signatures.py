"""A liar that signs one thing twice. A second valid Ed25519 signature needs nothing but another nonce: whoever counts
signatures counts its author as often as it likes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from msgspec.structs import replace

from otcnode.blocks import (
    Certificate,
    ValidatorSignature,
    block_hash,
    commit_preimage,
    prepare_preimage,
)
from otcnode.consensus.messages import (
    Commit,
    Decision,
    Message,
    NewView,
    Prepare,
    PrePrepare,
    Proof,
    Status,
    ViewChange,
    new_view_preimage,
    status_preimage,
    view_change_preimage,
)
from otcnode.consensus.state import State
from otcnode.consensus.votes import VoteBook
from otcnode.engine.engine import Engine
from otcnode.simulation.signing import Sign

Signed = TypeVar("Signed", bound=PrePrepare | Prepare | Commit | ViewChange | NewView | Status)


class SecondSignatures:
    """`again` signs as the liar's `sign` does, validly, and in other bytes. `half` is the honest engine."""

    def __init__(self, chain: bytes, own: bytes, sign: Sign, again: Sign, half: Callable[[], Engine | None]) -> None:
        self._chain = chain
        self._own = own
        self._sign = sign
        self._again = again
        self._half = half

    def doubled(self, message: Message, proposes: bool) -> list[Message]:
        """What the liar says of its own, and the same under its other signature."""
        match message:
            case PrePrepare() if proposes:
                return [message, self._resigned(message, self._of_proposal(message))]
            case Prepare() | Commit() if message.validator == self._own:
                preimage = prepare_preimage if isinstance(message, Prepare) else commit_preimage
                signed = preimage(self._chain, message.epoch, message.view, message.height, message.block_hash)
                return [message, self._resigned(message, signed)]
            case ViewChange() if message.validator == self._own:
                return [message, self._resigned(message, view_change_preimage(self._chain, message))]
            case NewView() if message.validator == self._own:
                return [message, self._resigned(message, new_view_preimage(self._chain, message))]
            case Status() if message.validator == self._own:
                return [message, self._resigned(message, status_preimage(self._chain, message))]
            case _:
                return [message]

    def _resigned(self, message: Signed, signed: bytes) -> Signed:
        return replace(message, signature=self._again(signed))

    def _of_proposal(self, message: PrePrepare) -> bytes:
        header = message.header
        return prepare_preimage(self._chain, message.epoch, message.view, header.height, block_hash(header))

    def padded(self, message: Message) -> list[Message]:
        """Beside the own COMMIT a decision of one validator too few; in the own VIEW-CHANGE a proof of so few."""
        half = self._half()
        state = None if half is None or not half.replica.started else half.replica.state
        if state is None:
            return [message]
        match message:
            case Commit() if message.validator == self._own and message.epoch == state.epoch.number:
                decision = self._decision(state, message)
                return [message] if decision is None else [message, decision]
            case ViewChange() if message.validator == self._own and message.epoch == state.epoch.number:
                return [self._with_padded_proof(state, message)]
            case _:
                return [message]

    def _decision(self, state: State, commit: Commit) -> Decision | None:
        candidate = state.candidates.get(commit.block_hash)
        signed = commit_preimage(self._chain, commit.epoch, commit.view, commit.height, commit.block_hash)
        signatures = self._padded(state, state.commits, (commit.height, commit.view, commit.block_hash), signed)
        if candidate is None or signatures is None:
            return None
        certificate = Certificate(commit.epoch, commit.view, commit.height, commit.block_hash, signatures)
        return Decision(candidate.header, certificate)

    def _with_padded_proof(self, state: State, message: ViewChange) -> ViewChange:
        """Of the first height above those that are proved."""
        height = message.committed + len(message.proofs) + 1
        for view, name in state.prepares.choices(height):
            candidate = state.candidates.get(name)
            signed = prepare_preimage(self._chain, message.epoch, view, height, name)
            signatures = self._padded(state, state.prepares, (height, view, name), signed)
            if candidate is None or signatures is None or view >= message.view:
                continue
            if state.epoch.primary(view) not in [entry.validator for entry in signatures]:
                continue
            padded = replace(message, proofs=(*message.proofs, Proof(view, candidate.header, signatures)))
            return replace(padded, signature=self._sign(view_change_preimage(self._chain, padded)))
        return message

    def _padded(
        self, state: State, book: VoteBook, place: tuple[int, int, bytes], signed: bytes
    ) -> tuple[ValidatorSignature, ...] | None:
        """A quorum of signatures by one validator less; None where so many are not there."""
        own = [ValidatorSignature(self._own, sign(signed)) for sign in (self._sign, self._again)]
        others = [entry for entry in book.signatures(*place) if entry.validator != self._own]
        lacking = state.epoch.quorum - len(own)
        if lacking <= 0 or len(others) < lacking:
            return None
        return tuple(sorted([*others[:lacking], *own], key=lambda entry: entry.validator))

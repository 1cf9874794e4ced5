"""What a liar says around a view with parts that are valid elsewhere: a certificate of a height below the one that it
claims, a PREPARE of another view under what it proposes again."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from otcnode.blocks import Certificate
from otcnode.consensus.messages import Message, NewView, Reproposal, ViewChange
from otcnode.consensus.view_change import select
from otcnode.engine.engine import Engine
from otcnode.simulation.chance import Chance
from otcnode.simulation.forgery import Forger

REMEMBERED_HEIGHTS = 8
CLAIMED_ABOVE_PERMILLE = 400
"""Of the false heights, those that the liar has not committed itself."""
CLAIMED_ABOVE_MAX = 2


class Overclaims:
    """The same to everybody who is told. `half` is the honest engine, whose certificates these are."""

    def __init__(self, forger: Forger, half: Callable[[], Engine | None], chance: Chance) -> None:
        self._forger = forger
        self._half = half
        self._chance = chance
        self._certificates: dict[int, Certificate] = {}
        self._said: dict[ViewChange, ViewChange] = {}

    def remember(self) -> None:
        """Keep the certificate of the committed height while it is the latest."""
        half = self._half()
        certificate = None if half is None or not half.replica.started else half.replica.state.tip.certificate
        if certificate is not None and certificate.height not in self._certificates:
            self._certificates[certificate.height] = certificate
            self._certificates.pop(certificate.height - REMEMBERED_HEIGHTS, None)

    def overstated(self, message: Message) -> Message:
        """The own VIEW-CHANGE with a higher height than its certificate is of; also where it stands in the own
        NEW-VIEW, which then proposes again what follows from it."""
        match message:
            case ViewChange() if message.validator == self._forger.own:
                return self._claimed(message)
            case NewView() if message.validator == self._forger.own and message.view_changes:
                return self._opened(message)
            case _:
                return message

    def _claimed(self, honest: ViewChange) -> ViewChange:
        if honest not in self._said:
            self._said[honest] = self._claim(honest)
        return self._said[honest]

    def _claim(self, honest: ViewChange) -> ViewChange:
        """As if the height were decided that the certificate is one or more below; what it held above goes with it."""
        asker = ("overstated", self._forger.own.hex(), honest.epoch, honest.view, honest.committed)
        above = self._chance.happens(CLAIMED_ABOVE_PERMILLE, *asker, "above")
        committed = honest.committed + (self._chance.between(1, CLAIMED_ABOVE_MAX, *asker, "by") if above else 0)
        older = [
            certificate
            for height, certificate in sorted(self._certificates.items())
            if height < committed and certificate.epoch == honest.epoch
        ]
        if not older:
            return honest
        proofs = tuple(proof for proof in honest.proofs if proof.header.height > committed)
        if self._chance.happens(500, *asker, "no proofs"):
            proofs = ()
        false = replace(honest, committed=committed, certificate=older[-1], proofs=proofs)
        return self._forger.view_change(false)

    def _opened(self, honest: NewView) -> NewView:
        changes = tuple(
            self._claimed(entry) if entry.validator == self._forger.own else entry for entry in honest.view_changes
        )
        if changes == honest.view_changes:
            return honest
        again = tuple(
            Reproposal(header, self._forger.prepare_signature(honest.epoch, honest.view, header))
            for header in select(changes).headers
        )
        return self._forger.new_view(replace(honest, view_changes=changes, reproposals=again))

    def missigned(self, opened: NewView) -> NewView:
        """The right blocks again, each under the liar's PREPARE of the view below, or under no PREPARE at all."""
        below = self._chance.happens(500, "missigned", self._forger.own.hex(), opened.epoch, opened.view)
        again = tuple(
            replace(
                entry,
                signature=self._forger.prepare_signature(opened.epoch, opened.view - 1, entry.header)
                if below
                else entry.signature[::-1],
            )
            for entry in opened.reproposals
        )
        return self._forger.new_view(replace(opened, reproposals=again))

"""Whether a validator that was removed may be stopped: a quorum of the others must have gone on without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from otcnode.blocks import Epoch


@dataclass(frozen=True, slots=True)
class Handover:
    """`first_height` is the first that was decided without this node; `reported` validators of today say that they have
    committed it, of the `quorum` that is needed."""

    first_height: int
    reported: int
    quorum: int

    @property
    def text(self) -> str:
        left = f"left the validators at height {self.first_height}"
        if self.reported >= self.quorum:
            return f"{left}, and a quorum has gone on without this node: it may be stopped"
        return f"{left}: keep this node running until {self.quorum} report that height; {self.reported} do"


def handover_of(own: bytes, epochs: Sequence[Epoch], claims: Mapping[bytes, int]) -> Handover | None:
    """None for a validator, and for a node that never was one. `epochs`: all, ascending; `claims`: what each peer says
    it has committed."""
    deciding = epochs[-1]
    if own in deciding.validators:
        return None
    former = max((index for index, epoch in enumerate(epochs) if own in epoch.validators), default=None)
    if former is None:
        return None
    first_height = epochs[former + 1].number
    reported = sum(claims.get(name, 0) >= first_height for name in deciding.validators)
    return Handover(first_height, reported, deciding.quorum)

"""What each node has against validators: it keeps it, over restarts too, as long as there is room for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from otcnode.codec import encode
from otcnode.consensus.evidence import Offence
from otcnode.engine.evidence import KeptEvidence
from otcnode.simulation.violation import Promise, Violation

ROOM, ROOM_OF_LARGE = 64, 3
"""Offences of one validator that are kept at least: shown by what a transaction holds, and by what is larger."""
IN_A_TRANSACTION_BYTES_MAX = (1 << 16) - 2_048
"""Of evidence that a transaction can hold."""


class EvidenceKept:
    """Looked at between events. An offence that was held, or that the replica has accused somebody of, may be missing
    only where as many others of its validator are held as there is room for."""

    def __init__(self, nodes: Sequence[bytes]) -> None:
        self._nodes = tuple(nodes)
        self._held: list[dict[Offence, bool]] = [{} for _ in nodes]
        """Of each node, what was seen to be held, and whether its evidence is large."""

    def lost_store(self, node: int) -> None:
        """What is kept lies beside the blocks."""
        self._held[node].clear()

    def holds(self, node: int, kept: Iterable[KeptEvidence], accused: Iterable[Offence]) -> None:
        """Raises Violation(EVIDENCE)."""
        now = {entry.offence: len(encode(entry.evidence)) > IN_A_TRANSACTION_BYTES_MAX for entry in kept}
        for offence, large in self._held[node].items():
            if offence not in now:
                self._require_full(node, now, offence, (large,))
        for offence in accused:
            if offence not in now:
                self._require_full(node, now, offence, (False, True))
        self._held[node] = now

    def _require_full(self, node: int, held: dict[Offence, bool], missing: Offence, sizes: Sequence[bool]) -> None:
        """In one of the rooms that it may have belonged to."""
        for large in sizes:
            beside = sum(offence.validator == missing.validator and held[offence] is large for offence in held)
            if beside >= (ROOM_OF_LARGE if large else ROOM):
                return
        liar = self._nodes.index(missing.validator)
        raise Violation(
            Promise.EVIDENCE,
            f"n{node} does not hold what it had against n{liar}: {missing.kind} in epoch {missing.epoch}, "
            f"view {missing.view}, height {missing.height}",
        )

"""Nobody comes to decide who has not said lately, on the chain, that it is ready."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from otcnode.simulation.violation import Promise, Violation
from otcnode.vm.governance.operations import ValidatorReady
from otcnode.vm.transactions import Decoded

READY_BLOCKS = 64
"""How many blocks old a node's word may be when it is named."""
ANNOUNCED_BLOCKS = 2
"""From the block that names the validators to the first that they decide."""


class Readiness:
    """Told of every operation that a node submits by itself, of every block and of every epoch."""

    def __init__(self, nodes: Sequence[bytes]) -> None:
        self._nodes = tuple(nodes)
        self._words: dict[bytes, ValidatorReady] = {}
        """By the bytes of the transaction."""
        self._said: dict[bytes, dict[int, int]] = defaultdict(dict)
        """Of each node, by the height of the block that holds its word, at which height it says it was."""

    def heard(self, decoded: Decoded) -> bool:
        """Whether the transaction, authentic, is a node's word that it is ready."""
        operation = decoded.transaction.body.operations[0]
        if isinstance(operation, ValidatorReady):
            self._words[decoded.raw] = operation
        return isinstance(operation, ValidatorReady)

    def committed(self, height: int, bodies: Sequence[bytes]) -> None:
        for word in (self._words[raw] for raw in bodies if raw in self._words):
            self._said[word.node][height] = word.height

    def begins(self, epoch: int, before: Sequence[bytes], validators: Sequence[bytes]) -> None:
        """Raises Violation(VALIDITY)."""
        named = epoch - ANNOUNCED_BLOCKS
        for node in sorted(set(validators) - set(before)):
            said = [at for height, at in self._said[node].items() if height <= named]
            if not any(at >= named - READY_BLOCKS for at in said):
                raise Violation(
                    Promise.VALIDITY,
                    f"n{self._nodes.index(node)} decides from {epoch} on and had not said lately that it is ready",
                )

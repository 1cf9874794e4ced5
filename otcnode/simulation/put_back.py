"""Nodes whose disk is put back to what it was: what they sign once they have seen that it is old."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from otcnode.blocks import COMMIT_DOMAIN, PREPARE_DOMAIN, Certificate
from otcnode.codec import decode
from otcnode.consensus.messages import Commit
from otcnode.consensus.record import RecordEntry, Voted
from otcnode.simulation.violation import Promise, Violation


class PutBackNodes:
    """Told of every block that such a node commits, and of all that it signs. One that commits a block whose
    certificate holds a COMMIT of its own that its record lacks votes for nothing until it has stopped."""

    def __init__(self, nodes: Sequence[bytes]) -> None:
        self._nodes = tuple(nodes)
        self._old: set[int] = set()
        self._shown: dict[int, int] = {}
        """By node, the first height that shows it."""

    def put_back(self, node: int) -> None:
        self._old.add(node)

    def stopped(self, node: int) -> None:
        """It says that its record is not the whole truth, and will begin another one."""
        self._old.discard(node)
        self._shown.pop(node, None)

    def is_old(self, node: int) -> bool:
        return node in self._old

    def committed(self, node: int, certificate: Certificate, record: Sequence[bytes]) -> None:
        """By an old one. `record`: what is durable of it as the block becomes so, hence with all votes for it."""
        if all(vote.validator != self._nodes[node] for vote in certificate.signatures):
            return
        entries: list[RecordEntry] = [decode(RecordEntry, raw) for raw in record]
        commits = [entry.vote for entry in entries if isinstance(entry, Voted) and isinstance(entry.vote, Commit)]
        place = (certificate.epoch, certificate.view, certificate.height)
        if place not in [(vote.epoch, vote.view, vote.height) for vote in commits]:
            self._shown.setdefault(node, certificate.height)

    def signed(self, node: int, message: bytes) -> None:
        """Raises Violation(VOTES)."""
        if node in self._shown and msgspec.msgpack.decode(message)[0] in (PREPARE_DOMAIN, COMMIT_DOMAIN):
            raise Violation(
                Promise.VOTES,
                f"n{node} votes by a record that is older than its COMMIT in the certificate of height "
                f"{self._shown[node]}",
            )

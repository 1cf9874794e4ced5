"""How long a view may last, judged from outside: by the views a node asked for and the blocks it committed since."""

from __future__ import annotations

from dataclasses import dataclass

from otcnode import limits
from otcnode.simulation.violation import Promise, Violation


@dataclass
class _Steps:
    """At least as many as the node has itself: it takes every view that it asked for as one that failed by timer."""

    steps: int = 0
    blocks: int = 0


class Patience:
    """The view timer is at most base · 2^k, at most `longest_ms`, beyond which k does not grow; k falls by one in so
    many blocks (limits.py)."""

    def __init__(self, base_ms: int, longest_ms: int, nodes: int) -> None:
        self._base_ms = base_ms
        self._longest_ms = longest_ms
        self._nodes = [_Steps() for _ in range(nodes)]

    def asked(self, node: int) -> None:
        of_node = self._nodes[node]
        if self._base_ms << of_node.steps < self._longest_ms:
            of_node.steps += 1
        of_node.blocks = 0

    def committed(self, node: int) -> None:
        of_node = self._nodes[node]
        of_node.blocks += 1
        if of_node.blocks == limits.blocks_per_timeout_step:
            of_node.blocks = 0
            of_node.steps = max(0, of_node.steps - 1)

    def started(self, node: int) -> None:
        """A new process is as patient as the first."""
        self._nodes[node] = _Steps()

    def waits(self, node: int, delay_ms: int) -> None:
        allowed_ms = min(self._base_ms << self._nodes[node].steps, self._longest_ms)
        if delay_ms > allowed_ms:
            raise Violation(
                Promise.LIVENESS,
                f"n{node} gives a view {delay_ms} ms, after its last blocks {allowed_ms} ms are allowed",
            )

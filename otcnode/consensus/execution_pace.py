"""How fast this node executes transactions, and so how many a block of its own may hold. Pure.

A full block must be executed in a quarter of the view timeout, or its view fails however honest its primary is.
"""

from __future__ import annotations

_SCALE = 1_000
"""So that halving loses nothing that matters."""


class ExecutionPace:
    """Of the last few blocks built or executed here; each counts twice as much as the one before."""

    def __init__(self) -> None:
        self._transactions = 0
        self._took_ms = 0

    def note(self, transactions: int, took_ms: int | None) -> None:
        """Real milliseconds; None: not measured. An empty block says nothing about transactions."""
        if transactions and took_ms is not None:
            self._transactions = self._transactions // 2 + transactions * _SCALE
            self._took_ms = self._took_ms // 2 + took_ms * _SCALE

    def most_within(self, limit_ms: int) -> int | None:
        """How many transactions are executed in that time, at least one; None: as many as may be."""
        if not self._took_ms:
            return None
        return max(1, limit_ms * self._transactions // self._took_ms)

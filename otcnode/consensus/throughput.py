"""Slow primaries: a view is compared with the best of the last n views (Aardvark, NSDI '09; RBFT, ICDCS '13). Pure.

Throughput says something about a primary only while somebody waits. It is measured over stretches of a view in which
the pool was never empty. A stretch below half of the best pace counts against the primary if transactions also waited
longer than then, or one was without a proposal at every look: when clients merely send less, neither is so.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

STRETCH_MS = 5_000
"""How long a view must have been busy before it is judged."""
AGAIN_MS = 10_000
"""At most one view change for slowness in this time."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What a view, or a stretch of one, has done. `waited_ms` is the sum over its transactions."""

    busy_ms: int = 0
    operations: int = 0
    transactions: int = 0
    waited_ms: int = 0

    def __add__(self, other: Pace) -> Pace:
        return Pace(
            self.busy_ms + other.busy_ms,
            self.operations + other.operations,
            self.transactions + other.transactions,
            self.waited_ms + other.waited_ms,
        )

    @property
    def operations_per_minute(self) -> int:
        return self.operations * 60_000 // max(1, self.busy_ms)

    @property
    def wait_ms(self) -> int:
        """Mean of a transaction; where none was committed, longer than the whole stretch."""
        return self.waited_ms // self.transactions if self.transactions else self.busy_ms


class Throughput:
    """Remembers the paces of the last n views that were busy long enough, n being the number of validators. Were all of
    them left for slowness, the best of them is thereby what the next is measured by."""

    def __init__(self) -> None:
        self._views: deque[Pace] = deque()
        self._view = Pace()
        self._stretch = Pace()
        self._stretch_since_ms = 0
        self._backlog = True
        self._is_followed = True
        self._asked_ms: int | None = None

    def enter(self, now_ms: int, validators: int) -> None:
        """A new view begins."""
        if self._view.busy_ms:
            self._views.append(self._view)
        while len(self._views) > validators:
            self._views.popleft()
        self._view = Pace()
        self.restart(now_ms)

    def restart(self, now_ms: int) -> None:
        """Nobody waited, or this process stood still or caught up: what was measured says nothing."""
        self._stretch = Pace()
        self._stretch_since_ms = now_ms
        self._backlog = True
        self._is_followed = True

    def committed(self, operations: int, transactions: int, waited_ms: int) -> None:
        self._stretch += Pace(0, operations, transactions, waited_ms)

    def synced(self, operations: int, transactions: int, waited_ms: int) -> None:
        """The same of a block whose proposal had not come here. Many of them may have waited for this node, and be no
        pace of a primary: the stretch is judged, and no other is measured by it."""
        self._is_followed = False
        self.committed(operations, transactions, waited_ms)

    def look(self, now_ms: int, waiting: int, in_flight: int) -> str | None:
        """Several times a second. Why the primary is slow, if a stretch has just ended that says so."""
        if waiting == 0:
            self.restart(now_ms)
            return None
        self._backlog = self._backlog and waiting > in_flight
        busy_ms = now_ms - self._stretch_since_ms
        if busy_ms < STRETCH_MS:
            return None
        pace = self._stretch + Pace(busy_ms=busy_ms)
        reason = self._judge(pace)
        if self._is_followed:
            self._view += pace
        self.restart(now_ms)
        if reason is None or (self._asked_ms is not None and now_ms - self._asked_ms < AGAIN_MS):
            return None
        self._asked_ms = now_ms
        return reason

    def _judge(self, pace: Pace) -> str | None:
        earlier = [*self._views, self._view] if self._view.busy_ms else list(self._views)
        best = max(earlier, key=lambda view: view.operations_per_minute, default=None)
        if best is None or 2 * pace.operations_per_minute >= best.operations_per_minute:
            return None
        if not self._backlog and 2 * pace.wait_ms < 3 * best.wait_ms:
            return None
        return (
            f"{pace.operations_per_minute} operations a minute while transactions waited {pace.wait_ms} ms, "
            f"{best.operations_per_minute} and {best.wait_ms} ms at best lately"
        )

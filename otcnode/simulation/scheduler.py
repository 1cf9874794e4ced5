"""Virtual time: what is to happen, in order of time, then of asking."""

from __future__ import annotations

import heapq
from collections.abc import Callable

Action = Callable[[], None]


class Scheduler:
    """Nothing happens between two events, so time passes at no cost."""

    __slots__ = ("_queue", "_sequence", "now_ms", "performed")

    def __init__(self) -> None:
        self._queue: list[tuple[int, int, Action]] = []
        self._sequence = 0
        self.now_ms = 0
        self.performed = 0

    def at(self, time_ms: int, action: Action) -> None:
        """Not earlier than now."""
        self._sequence += 1
        heapq.heappush(self._queue, (time_ms if time_ms > self.now_ms else self.now_ms, self._sequence, action))

    def after(self, delay_ms: int, action: Action) -> None:
        self.at(self.now_ms + delay_ms, action)

    def perform_until(self, time_ms: int) -> bool:
        """Until something has happened at that time or later; False if nothing is left to happen before."""
        queue = self._queue
        while queue:
            self.now_ms, _, action = heapq.heappop(queue)
            self.performed += 1
            action()
            if self.now_ms >= time_ms:
                return True
        return False

"""How much of each peer or author is looked at in a second of this replica's clock."""

from __future__ import annotations


class PerSecond:
    """Amounts by who caused them. Whoever calls asks only for those it knows, which bounds it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: dict[bytes, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._taken)

    def take(self, who: bytes, amount: int, now_ms: int, *, unit: int = 1) -> bool:
        """Whether so much more of this one may be looked at now; it then counts. The most is so many times `unit`."""
        second = now_ms // 1_000
        last, taken = self._taken.get(who, (second, 0))
        taken = taken + amount if last == second else amount
        if taken > self._most * unit:
            return False
        self._taken[who] = (second, taken)
        return True

    def clear(self) -> None:
        self._taken.clear()

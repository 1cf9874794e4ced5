"""The inclusion time-out: a primary that proposes, and leaves somebody's transaction out (Aardvark, NSDI '09; RBFT,
ICDCS '13). Pure: times are real milliseconds of one monotonic clock.

After half the time-out a waiting body is pushed to the primary. A full time-out after that the transaction is *overdue*
once a later proposal passed it over: one with room for it, or with a transaction first seen here more than a time-out
after it. How long it has waited says nothing by itself: under load an honest primary keeps everybody waiting.

A transaction that nobody saw before its proposal may have waited at the primary longer than the one it goes before; but
an honest primary passes on what it gets, and takes the oldest first. What it got before the pushed body has come here a
time-out later, so from then on blocks with something unseen speak against it, once they are too many to be an accident.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from otcnode import limits

UNSEEN_BLOCKS_MAX = 8
"""With a transaction that gossip lost or kept for longer than the time-out."""


@dataclass(frozen=True, slots=True)
class Proposed:
    """A block of this view's primary that is now committed. `since_ms`: when this replica got its proposal; `has_room`:
    whether any transaction more would have fitted; `youngest_ms`: when the one that was seen last came here (None:
    nothing can be said); `holds_unseen`: whether one of them had not come here before the proposal."""

    transactions: Collection[bytes]
    since_ms: int
    has_room: bool
    youngest_ms: int | None
    holds_unseen: bool = False


@dataclass(slots=True)
class _Pushed:
    seen_ms: int
    pushed_ms: int
    unseen_blocks: int = 0
    """That went before it, each with something that had not come here."""


class InclusionWatch:
    """The oldest waiting transactions, at most limits.urgent_per_validator_max, from their push to their end. A new
    view restarts every clock."""

    def __init__(self) -> None:
        self._view_since_ms = 0
        self._pushed: dict[bytes, _Pushed] = {}

    def __len__(self) -> int:
        return len(self._pushed)

    def restart(self, now_ms: int) -> None:
        """A new view; or this process stood still, and knows nothing of what it should have seen."""
        self._view_since_ms = now_ms
        self._pushed.clear()

    def to_push(self, waiting: Iterable[tuple[bytes, int]], now_ms: int, timeout_ms: int) -> list[bytes]:
        """Which of the waiting (id, first seen), the oldest first, go to the primary now; they count as pushed."""
        chosen: list[bytes] = []
        for transaction, seen_ms in waiting:
            if max(seen_ms, self._view_since_ms) + timeout_ms // 2 > now_ms:
                break
            if len(self._pushed) >= limits.urgent_per_validator_max:
                break
            if transaction not in self._pushed:
                self._pushed[transaction] = _Pushed(seen_ms, now_ms)
                chosen.append(transaction)
        return chosen

    def ended(self, transactions: Iterable[bytes]) -> None:
        """In a block, expired or no longer admissible."""
        for transaction in transactions:
            self._pushed.pop(transaction, None)

    def committed(self, block: Proposed, timeout_ms: int) -> list[tuple[bytes, str]]:
        """The transactions that the block passed over, with the reason. They are overdue unless they are in another
        proposal by now, or no longer admissible on the state with this block: it may be what forbids them."""
        self.ended(block.transactions)
        return [
            (transaction, reason)
            for transaction, entry in self._pushed.items()
            if (reason := _passed_over(entry, block, timeout_ms)) is not None
        ]


def _passed_over(entry: _Pushed, block: Proposed, timeout_ms: int) -> str | None:
    if block.since_ms < entry.pushed_ms + timeout_ms:
        return None
    if block.holds_unseen and block.since_ms >= entry.pushed_ms + 2 * timeout_ms:
        entry.unseen_blocks += 1
    if block.has_room:
        return "a block with room for it"
    if block.youngest_ms is not None and block.youngest_ms > entry.seen_ms + timeout_ms:
        return f"a transaction seen {(block.youngest_ms - entry.seen_ms) / 1000:.1f} s after it"
    if entry.unseen_blocks > UNSEEN_BLOCKS_MAX:
        return f"{entry.unseen_blocks} blocks with what it had shown to nobody"
    return None

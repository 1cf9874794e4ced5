"""What a process keeps where its replica begins anew without it: how long it is silent, and why it has halted."""

from __future__ import annotations

from otcnode.codec import Record


class Silence(Record, frozen=True):
    """Waiting until nothing this key may have signed can still matter.

    `since_ms` is the ledger clock when it began, as far as known; `began_ms` the same in real milliseconds, by the
    clock that nobody sets; `ahead_ms` the latest time of a block that showed this clock to be behind (0: none did);
    `shown` what showed that the record lacks an own signature; `height` and `view` are of the first block committed
    that was surely proposed after the beginning, as long as `not_before_ms` is below `begun_before_ms`; `reports` are
    the heights that others first said they had committed since, by name; `view_seen` is the highest view that others
    showed meanwhile that this key may have voted in.
    """

    since_ms: int
    began_ms: int
    reports: tuple[tuple[bytes, int], ...] = ()
    height: int | None = None
    begun_before_ms: int = 0
    epoch: int = 0
    view: int = 0
    view_seen: int = -1
    shown: str = ""
    ahead_ms: int = 0

    @property
    def not_before_ms(self) -> int:
        """The ledger time at which it began, or later: by this clock, and by the blocks that contradict it."""
        return max(self.since_ms, self.ahead_ms)


class Resumed(Record, frozen=True):
    """`halted`: why this validator no longer votes."""

    halted: str | None
    silence: Silence | None

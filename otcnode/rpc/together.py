"""What all callers of the API may ask for together. Each has a budget of its own, but any number of them may come, and
the thread that answers them is the one that consensus runs on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from otcnode import limits
from otcnode.rpc.rates import RateLimiter

_ALL = "all"


class Together:
    """One budget, filled by a clock that nobody sets back. Who comes while it is spent waits, in order of arrival."""

    def __init__(self, cost_per_second: int, burst: int, monotonic_ms: Callable[[], int]) -> None:
        self._rates = RateLimiter(cost_per_second, burst, callers_max=1)
        self._monotonic_ms = monotonic_ms
        self._turn = asyncio.Lock()

    def charge(self, cost: int) -> None:
        """What anybody spends."""
        self._rates.charge(_ALL, cost, self._monotonic_ms())

    @property
    def owed_ms(self) -> int:
        """Until nothing is owed."""
        return self._rates.debt_ms(_ALL, self._monotonic_ms())

    async def admit(self) -> int:
        """0 once it is one's turn, else the milliseconds after which it may be. One at a time: what each begins with is
        charged before the next one is let in, so that those who waited do not all begin at once."""
        if not self.owed_ms and not self._turn.locked():
            return 0
        try:
            async with asyncio.timeout(limits.rpc_debt_wait_ms_max / 1_000), self._turn:
                owed_ms = self.owed_ms
                while owed_ms:
                    # What was let in before goes on meanwhile, and is charged.
                    await asyncio.sleep(owed_ms / 1_000)
                    owed_ms = self.owed_ms
        except TimeoutError:
            return max(1, self.owed_ms)
        return 0

"""What many callers of the API may ask for together. Each has a budget of its own, but any number of them may come, and
the thread that answers them is the one that consensus runs on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from otcnode import limits
from otcnode.rpc.rates import RateLimiter

_ALL = "all"


class Together:
    """One budget, filled by a clock that nobody sets back. Who comes while it is spent waits, in order of arrival. No
    more is ever owed than half of what one waits at most, so that the queue always moves: a price may have been taken
    for far more than what was done took of the processor."""

    def __init__(self, cost_per_second: int, monotonic_ms: Callable[[], int]) -> None:
        self._rates = RateLimiter(cost_per_second, cost_per_second, callers_max=1)
        self._owed_max = cost_per_second * limits.rpc_debt_wait_ms_max // 2_000
        self._monotonic_ms = monotonic_ms
        self._turn = asyncio.Lock()

    def charge(self, cost: int) -> None:
        """What anybody spends."""
        self._rates.charge(_ALL, cost, self._monotonic_ms(), owed_max=self._owed_max)

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


class Shares:
    """What addresses, accounts that have logged in, and all who look at the node have of it: strangers, however many
    come, take nothing of what is there for accounts, nor either of what is there for looks."""

    def __init__(self, monotonic_ms: Callable[[], int]) -> None:
        self.addresses = Together(limits.rpc_cost_per_second_of_addresses, monotonic_ms)
        self.accounts = Together(limits.rpc_cost_per_second_of_accounts, monotonic_ms)
        self.watchers = Together(limits.rpc_cost_per_second_of_watchers, monotonic_ms)

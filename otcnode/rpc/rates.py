"""How much one caller may ask for: a token bucket per caller, in units of cost. Pure; time comes from outside."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from math import inf


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_ms: int


class RateLimiter:
    """Callers are remembered up to a bound; the one asked about longest ago is forgotten first (its bucket is then full
    again, which a caller gains nothing by: it had to stay away for as long as it takes all others to come)."""

    def __init__(self, cost_per_second: int, burst: int, callers_max: int) -> None:
        assert cost_per_second > 0 and burst > 0 and callers_max > 0
        self._per_ms = cost_per_second / 1000
        self._burst = burst
        self._callers_max = callers_max
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, caller: str, cost: int, now_ms: int, *, again: int = 0) -> int:
        """0 if the caller may spend `cost` now, else the milliseconds until it may, where asking again takes `again`
        before. A refusal costs nothing."""
        bucket = self._bucket(caller, now_ms)
        wanted = min(cost, self._burst)
        if bucket.tokens >= wanted:
            bucket.tokens -= wanted
            return 0
        return int((min(wanted + again, self._burst) - bucket.tokens) / self._per_ms) + 1

    def charge(self, caller: str, cost: int, now_ms: int, *, owed_max: float = inf) -> None:
        """Take what has been spent already, into a debt of at most `owed_max` if need be."""
        bucket = self._bucket(caller, now_ms)
        bucket.tokens = max(bucket.tokens - cost, -owed_max)

    def debt_ms(self, caller: str, now_ms: int) -> int:
        """The milliseconds until the caller owes nothing, 0 if it does not."""
        if caller not in self._buckets:
            return 0
        tokens = self._bucket(caller, now_ms).tokens
        return int(-tokens / self._per_ms) + 1 if tokens < 0 else 0

    def _bucket(self, caller: str, now_ms: int) -> _Bucket:
        """As it is now."""
        bucket = self._buckets.get(caller)
        if bucket is None:
            bucket = self._buckets[caller] = _Bucket(float(self._burst), now_ms)
            if len(self._buckets) > self._callers_max:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(caller)
            elapsed = max(0, now_ms - bucket.at_ms)
            bucket.tokens = min(float(self._burst), bucket.tokens + elapsed * self._per_ms)
            bucket.at_ms = max(bucket.at_ms, now_ms)
        return bucket

"""How much a peer may send per second. Pure: time is an argument.

A peer above its rate is read later, so TCP slows the peer itself and nobody else. One that does not stop is a flood.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from otcnode.p2p.framing import Channel


class Rate(NamedTuple):
    """`burst` may come at once, `per_second` for ever."""

    per_second: int
    burst: int


class TokenBucket:
    """Tokens in thousandths, so that a millisecond's refill is exact in integers."""

    __slots__ = ("_burst", "_milli", "_per_second", "_updated_ms")

    def __init__(self, rate: Rate, now_ms: int) -> None:
        self._per_second = rate.per_second
        self._burst = rate.burst * 1_000
        self._milli = self._burst
        self._updated_ms = now_ms

    def take(self, amount: int, now_ms: int) -> int:
        """Spend `amount`, into debt if need be; returns the milliseconds until the debt is paid, 0 if there is none."""
        self._refill(now_ms)
        self._milli -= amount * 1_000
        return max(0, -(self._milli // self._per_second)) if self._milli < 0 else 0

    def try_take(self, amount: int, now_ms: int) -> bool:
        """Spend `amount` if there is that much."""
        self._refill(now_ms)
        if self._milli < amount * 1_000:
            return False
        self._milli -= amount * 1_000
        return True

    def _refill(self, now_ms: int) -> None:
        elapsed = now_ms - self._updated_ms
        if elapsed > 0:
            self._milli = min(self._burst, self._milli + elapsed * self._per_second)
            self._updated_ms = now_ms


class ChannelRates(NamedTuple):
    messages: Rate
    bytes: Rate


class PeerRates:
    """The buckets of one peer."""

    def __init__(self, rates: Mapping[Channel, ChannelRates], now_ms: int) -> None:
        self._buckets = {
            channel: (TokenBucket(rate.messages, now_ms), TokenBucket(rate.bytes, now_ms))
            for channel, rate in rates.items()
        }

    def take(self, channel: Channel, messages: int, size: int, now_ms: int) -> int:
        """Milliseconds to stop reading for."""
        by_count, by_size = self._buckets[channel]
        return max(by_count.take(messages, now_ms), by_size.take(size, now_ms))


SHARE_US_MIN = 1_000


class WorkBudget:
    """The processor's time that one peer's messages may take. `share_us` per second can change from call to call; half
    a second of it may be taken at once."""

    def __init__(self, now_ms: int) -> None:
        self._debt_us = 0
        self._updated_ms = now_ms

    def take(self, took_us: int, share_us: int, now_ms: int) -> int:
        """Milliseconds to read nothing for."""
        paid_us = max(0, now_ms - self._updated_ms) * share_us // 1_000
        self._updated_ms = max(now_ms, self._updated_ms)
        self._debt_us = max(-share_us // 2, self._debt_us - paid_us) + took_us
        return -(-self._debt_us * 1_000 // share_us) if self._debt_us > 0 else 0


class SharedWork:
    """The processor's time that all guests of a node get together, `work_us` of each second. Half of it is theirs in
    equal parts; the other half is for those who are held back now, in equal parts. So many who say little keep from
    nobody what they do not need, and all together never get more, however many they are and whenever they begin."""

    def __init__(self, work_us: int) -> None:
        self._work_us = work_us
        self.guests = 0
        """Connected now."""
        self.held_back = 0
        """Of these, those who have to wait for having taken more than their part."""

    def share_us(self, *, held_back: bool) -> int:
        """What a guest gets of each second, as long as that goes on."""
        if self.guests <= 1:
            return max(SHARE_US_MIN, self._work_us)
        half_us = self._work_us // 2
        return max(SHARE_US_MIN, half_us // self.guests + (half_us // max(1, self.held_back) if held_back else 0))


class Saturation:
    """Tells a flood from a burst: the milliseconds for which a peer was not read, of which every second one that
    passes is forgiven. Who is held back all the time reaches `flood_ms_max` in twice that time, who is held back half
    of the time never does."""

    def __init__(self, flood_ms_max: int, now_ms: int) -> None:
        self._max = 2 * flood_ms_max
        self._halves_ms = 0
        self._updated_ms = now_ms

    def held_back(self, waited_ms: int, now_ms: int) -> bool:
        """Something of the peer waited for the last `waited_ms`, be it that it was held back or that others had their
        turn; whether that makes it a flood."""
        elapsed_ms = max(0, now_ms - self._updated_ms)
        self._halves_ms = max(0, self._halves_ms - max(0, elapsed_ms - waited_ms)) + waited_ms
        self._updated_ms = max(now_ms, self._updated_ms)
        return self._halves_ms > self._max

"""What of the time from a proposal to its block grows with transactions, and so how many a block may hold. Pure.

Execution is a part of it only. The other nodes also fetch bodies, verify signatures that they have not seen, write to
their disks and queue all this behind their other work; the primary sees no more of it than when the block committed.
A block's latency is taken to be a + b · (transactions in flight up to it): a is the network's round trips and does not
shrink with the block, b is the work. They are told apart by least squares over blocks of different sizes, a held down
(ridge regression: Hoerl and Kennard, Technometrics 12, 1970), so that where sizes hardly differ all of the latency is
taken to be work. Were that wrong, as on a slow network, the smaller blocks that follow show it. Round trips and rate
cannot be measured at one moment, which is why sizes must differ, and a rate that was reached bounds what may be tried
next (both from BBR: Cardwell et al., ACM Queue 14(5), 2016).
"""

from __future__ import annotations

_SCALE = 1_000_000
"""So that forgetting loses nothing that matters."""
_HELD_DOWN = _SCALE // 4
"""As if a quarter of one more block had shown a to be nothing. Among the eight that count, sizes that differ by a fifth
halve what is wrongly taken to be work."""
_ASSUMED = 500
"""At first it is as if one block of so many transactions had taken a millisecond for each, and the best rate were a
quarter of that."""


class LatencyPace:
    """Of the last blocks committed here, whoever proposed them; each counts 8/7 as much as the one before."""

    def __init__(self) -> None:
        self._blocks = self._in_flight = self._squares = self._took_ms = self._products = 0
        self._rate = 0
        self._halves = True
        self.note(_ASSUMED, _ASSUMED, _ASSUMED)
        self._rate = _SCALE // 4

    def note(self, in_flight: int, took_ms: int, limit_ms: int) -> None:
        """From when a proposal was made or accepted here to its commit, and the transactions that were then in flight
        up to it, its own included. What took longer than `limit_ms`, the view timeout, did not wait for work alone; an
        empty block waited for round trips and for what was due in it, and says nothing of transactions."""
        if in_flight == 0:
            return
        took_ms = min(took_ms, limit_ms)
        self._blocks = _with(self._blocks, 1)
        self._in_flight = _with(self._in_flight, in_flight)
        self._squares = _with(self._squares, in_flight**2)
        self._took_ms = _with(self._took_ms, took_ms)
        self._products = _with(self._products, in_flight * took_ms)
        self._rate = max(_with(self._rate, 0), in_flight * _SCALE // max(1, took_ms))
        self._halves = not self._halves

    def most_within(self, work_ms: int, limit_ms: int) -> int:
        """What the next block may hold. Every second one half of it: were all of one size, nothing could be told
        apart."""
        full = self.full_within(work_ms, limit_ms)
        return full // 2 if self._halves else full

    def full_within(self, work_ms: int, limit_ms: int) -> int:
        """How many transactions cost no more than `work_ms` of work, and would come within `limit_ms` even if a were
        nothing; rounded up, and two at least: of blocks of one and two nothing is learnt unless one more is tried."""
        blocks = self._blocks + _HELD_DOWN
        most = 1 + limit_ms * self._rate // _SCALE
        slope = blocks * self._products - self._in_flight * self._took_ms
        if slope > 0:
            most = min(most, 1 + work_ms * (blocks * self._squares - self._in_flight**2) // slope)
        return max(2, most)


def _with(total: int, value: int) -> int:
    """A sum whose older parts count less, in millionths."""
    return total * 7 // 8 + value * _SCALE

"""Allotment of an issue: a pure function of the ordered list of accepted subscriptions.

Oversubscribed issues are divided pro rata in whole steps by largest remainder (Hamilton's method), ties to the earlier
accepted; then the smallest allotment below a minimum is dropped and all is divided anew, one subscription at a time.

Subscriptions of one size go together: within a size only the order of acceptance decides. Still, to divide is to look
at every size, and thousands may have to be dropped one by one. So most drops are told without dividing: by the sizes
alone where nobody else can get as little, else by what the last division says about the present one (`_Bounds`). Two
facts carry this: what one gets never falls with its size, and n·N // T never falls from one drop to the next.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import accumulate, compress
from operator import mul
from typing import Protocol

_FEW_SIZES = 16
"""To look at so many sizes again costs less than anything else."""


def allot(quantities: Sequence[int], *, offered: int, step: int, min_allotment: int) -> list[int]:
    """Units for each subscription, in the same order; 0 for one that gets nothing or was dropped.

    `quantities` (each a positive multiple of `step`) are in the order of acceptance, `offered` is a multiple of `step`.
    If they fit, everybody gets what was asked. Else with n = quantity/step, N = offered/step and T = Σn, each gets
    n·N // T steps, and the steps left over go to the largest n·N mod T, ties to the earlier. While the smallest
    allotment is below `min_allotment`, that one (the latest of equals) is dropped and all are allotted anew.
    """
    assert offered % step == 0
    members: dict[int, list[int]] = {}
    for index, quantity in enumerate(quantities):
        assert quantity > 0 == quantity % step
        members.setdefault(quantity // step, []).append(index)
    remaining = _Remaining(members, offered // step)
    remaining.drop_below(-(-min_allotment // step))
    allotted = [0] * len(quantities)
    for index, steps in remaining.shares():
        allotted[index] = steps * step
    return allotted


class _View(Protocol):
    """Who gets the steps left over."""

    @property
    def is_stale(self) -> bool:
        """Whether another view would cost less by now."""
        ...

    def latest_gets_more(self, size: int) -> bool:
        """Whether the latest member of a size gets one of the steps left over."""
        ...


class _Remaining:
    """The subscriptions that have not been dropped. Of one size the latest has the least, and goes first."""

    def __init__(self, members: dict[int, list[int]], available: int) -> None:
        self.sizes = sorted(members)
        """n of the formula, ascending, each once."""
        self.members = members
        """Size to the subscriptions of that size, by their indexes in the order of acceptance."""
        self.counts = [len(members[size]) for size in self.sizes]
        self.sizes_sum = sum(self.sizes)
        self.available = available
        """N of the formula."""
        self.total: int = sum(map(mul, self.sizes, self.counts))
        """T of the formula."""
        self._remainders: list[int] = []
        self._left_over = 0
        self._known: dict[int, bool] = {}
        """What `latest_gets_more` has found."""
        self._divided = 0
        """The total for which these three hold."""
        self._division: _Division | None = None

    # one division

    def whole(self, size: int) -> int:
        """What a member of a size gets at least."""
        return size * self.available // self.total

    def _divide(self) -> None:
        """Work out what the total decides, once for each."""
        if self._divided != self.total:
            available, total = self.available, self.total
            self._remainders = [size * available % total for size in self.sizes]
            self._left_over = sum(map(mul, self._remainders, self.counts)) // total
            self._known = {}
            self._divided = total

    @property
    def remainders(self) -> list[int]:
        """n·N mod T of each size."""
        self._divide()
        return self._remainders

    @property
    def left_over(self) -> int:
        """The steps that the whole parts leave: Σ remainders / T."""
        self._divide()
        return self._left_over

    @property
    def is_stale(self) -> bool:
        return self._divided != self.total

    def latest_gets_more(self, size: int) -> bool:
        self._divide()
        if size not in self._known:
            self._known[size] = self._count_ahead(size) < self._left_over
        return self._known[size]

    def _count_ahead(self, size: int) -> int:
        """How many come before the latest member of a size when the steps left over are given out; if that are too many
        by their remainders alone, those with equal ones are not counted."""
        remainder, latest = size * self.available % self.total, self.members[size][-1]
        ahead: int = sum(compress(self.counts, map(remainder.__lt__, self._remainders)))
        if ahead < self._left_over:
            for equal in compress(self.sizes, map(remainder.__eq__, self._remainders)):
                ahead += bisect_left(self.members[equal], latest)
        return ahead

    def shares(self) -> Iterator[tuple[int, int]]:
        """(index, steps) of everybody."""
        if self.total <= self.available:
            yield from ((index, size) for size in self.sizes for index in self.members[size])
            return
        left = self.left_over
        by_remainder: dict[int, list[int]] = {}
        for size, remainder in zip(self.sizes, self.remainders, strict=True):
            by_remainder.setdefault(remainder, []).append(size)
        for remainder in sorted(by_remainder, reverse=True):
            equals = sorted((index, size) for size in by_remainder[remainder] for index in self.members[size])
            for place, (index, size) in enumerate(equals):
                yield index, self.whole(size) + (place < left)
            left = max(0, left - len(equals))

    # dropping

    def _drop(self, size: int) -> None:
        """The latest member of a size goes."""
        place = bisect_left(self.sizes, size)
        self.members[size].pop()
        self.counts[place] -= 1
        self.total -= size
        if not self.counts[place]:
            del self.sizes[place], self.counts[place]
            self.sizes_sum -= size
        if self._division is not None:
            self._division.note_dropped(size)

    def drop_below(self, least: int) -> None:
        """Drop the smallest allotment, the latest of equals, and divide anew, until none is below `least` steps."""
        while self.sizes:
            first = self.sizes[0]
            if self.total <= self.available:
                if first >= least:
                    return
                self._drop(first)
                continue
            whole = self.whole(first)
            if whole >= least:
                return
            if whole + 1 < least and self._has_least(first, whole):
                self._drop(first)
                continue
            view = self._view()
            level = whole + view.latest_gets_more(first)
            if level >= least:
                return
            self._drop_at(level, view)

    def _has_least(self, first: int, whole: int) -> bool:
        """Whether the latest member of the first size is the one to drop, whoever gets the steps left over: of all with
        a whole part of at most one more than its own it is the latest."""
        near, latest = self._up_to(whole + 1), self.members[first][-1]
        return len(near) <= _FEW_SIZES and all(self.members[size][-1] <= latest for size in near)

    def _up_to(self, whole: int) -> list[int]:
        """The sizes with at most this whole part: n·N // T ≤ whole where n·N < (whole + 1)·T."""
        return self.sizes[: bisect_right(self.sizes, ((whole + 1) * self.total - 1) // self.available)]

    def _view(self) -> _View:
        """By which to tell who gets the steps left over: whatever costs least."""
        if len(self.sizes) <= _FEW_SIZES or not _Division.serves(self):
            return self
        if self._division is None or self._division.is_stale:
            self._division = _Division(self)
        return self._division

    def _drop_at(self, level: int, view: _View) -> None:
        """Drop the latest of those who get `level` steps, which is the least that anybody gets, for as long as that is
        the least and the view is worth asking."""
        waiting = [(-self.members[size][-1], size) for size in self._up_to(level)]
        heapify(waiting)
        passed: list[int] = []
        """A heap of the sizes that were passed over as they get a step more than the level; larger ones do if one does.
        A size whose whole part is above the level is in neither heap for good: whole parts never fall."""
        while self.sizes and self.total > self.available and not view.is_stale:
            first = self.sizes[0]
            if self.whole(first) < level and not view.latest_gets_more(first):
                return
            while passed and (self.whole(passed[0]) > level or not view.latest_gets_more(passed[0])):
                size = heappop(passed)
                if self.whole(size) == level:
                    heappush(waiting, (-self.members[size][-1], size))
            if not waiting:
                return
            size = heappop(waiting)[1]
            whole = self.whole(size)
            if whole == level and view.latest_gets_more(size):
                heappush(passed, size)
            elif whole <= level:
                # With a whole part below the level it gets one step more, as the first size does.
                self._drop(size)
                if self.members[size]:
                    heappush(waiting, (-self.members[size][-1], size))


class _Division:
    """One division, and by it those that follow while members are dropped.

    Let T be the total then, and t now. A share n·N / T has grown to n·N / t, which for sizes of about as much (a band)
    is by at most the `drift` of the largest. A remainder has grown with its share, unless the share has passed a whole
    number. So what was above x and below 1 − drift is above x still, and what is above x now was above x − drift or
    from 1 − drift on. Only what lies between is looked at again. Remainders and drift are in parts of 1 here, and in
    parts of T below.
    """

    def __init__(self, remaining: _Remaining) -> None:
        self._remaining = remaining
        self._total = remaining.total
        self._left_then = self._left = remaining.left_over
        self._bands = list(_bands(remaining))
        self._followed = remaining.total
        """The total for which `_left` and the bands hold."""
        self._looked_at = 0

    @staticmethod
    def serves(remaining: _Remaining) -> bool:
        """Whether a drop moves the shares so little that a division serves for several."""
        moved = remaining.sizes_sum * remaining.available * remaining.sizes[0]
        return 16 * moved < remaining.total * remaining.total * len(remaining.sizes)

    @property
    def is_stale(self) -> bool:
        many = _FEW_SIZES + len(self._remaining.sizes) // 8
        return self._looked_at > many and self._remaining.total != self._total

    def note_dropped(self, size: int) -> None:
        """A member of a size was dropped."""
        whole, remainder = divmod(size * self._remaining.available, self._total)
        self._left_then += whole
        band = next(band for band in self._bands if size <= band.largest)
        insort(band.dropped, remainder)

    def _follow(self) -> None:
        """Work out what the total now decides."""
        self._followed = self._remaining.total
        self._left = self._left_then - sum([band.follow(self._total) for band in self._bands])

    def latest_gets_more(self, size: int) -> bool:
        remaining = self._remaining
        if self._followed != remaining.total:
            self._follow()
        remainder, latest = size * remaining.available % remaining.total, remaining.members[size][-1]
        own = remainder * self._total // remaining.total
        """Rounded down: the others' are integers, and above it if they are above it."""
        ahead, uncertain = 0, []
        for band in self._bands:
            certain, others = band.ahead_of(own)
            ahead += certain
            uncertain += others
        self._looked_at = len(uncertain)
        available, total, members = remaining.available, remaining.total, remaining.members
        for other in uncertain:
            theirs = other * available % total
            if theirs > remainder:
                ahead += len(members[other])
            elif theirs == remainder:
                ahead += bisect_left(members[other], latest)
        return ahead < self._left


def _bands(remaining: _Remaining) -> Iterator[_Band]:
    """Sizes of one bit length each, ascending."""
    sizes, first = remaining.sizes, 0
    while first < len(sizes):
        beyond = bisect_left(sizes, 1 << sizes[first].bit_length())
        yield _Band(remaining, range(first, beyond))
        first = beyond


class _Band:
    """Sizes that differ by less than a factor of two, as a division left them."""

    def __init__(self, remaining: _Remaining, those: range) -> None:
        self._remaining = remaining
        self.largest = remaining.sizes[those[-1]]
        remainders, sizes, counts = remaining.remainders, remaining.sizes, remaining.counts
        places = sorted(those, key=remainders.__getitem__)
        self._sizes = [sizes[place] for place in places]
        self._remainders = [remainders[place] for place in places]
        self._before = [0, *accumulate([counts[place] for place in places])]
        """How many members came before each place of these two, and how many there were."""
        self.dropped: list[int] = []
        """Remainders of the members that were dropped since, ascending."""
        self._drift, self._passing = 0, len(places)
        """From the place `_passing` on a share may have passed a whole number."""

    def follow(self, then: int) -> int:
        """Work out what the total now decides, if it was `then` at the division. How many whole numbers the shares of
        the members have passed."""
        available, total, members = self._remaining.available, self._remaining.total, self._remaining.members
        self._drift = -(self.largest * available * (total - then) // total)
        self._passing = bisect_left(self._remainders, then - self._drift)
        return sum(
            [
                (size * available // total - size * available // then) * len(members[size])
                for size in self._sizes[self._passing :]
            ]
        )

    def ahead_of(self, own: int) -> tuple[int, list[int]]:
        """How many members certainly have a larger remainder than `own`, and the sizes that have to be looked at."""
        first, above = bisect_left(self._remainders, own - self._drift), bisect_right(self._remainders, own)
        passing = self._passing
        if passing <= above:
            return 0, self._sizes[min(first, passing) :]
        certain = self._before[passing] - self._before[above]
        if self.dropped:
            certain -= bisect_right(self.dropped, self._remainders[passing - 1]) - bisect_right(self.dropped, own)
        return certain, self._sizes[first:above] + self._sizes[passing:]

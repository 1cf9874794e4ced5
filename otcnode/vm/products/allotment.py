"""Allotment of an issue: a pure function of the ordered list of accepted subscriptions.

Oversubscribed issues are divided pro rata in whole steps by largest remainder (Hamilton's method), ties to the earlier
accepted. Subscriptions of equal size are one group: within a group only the order of acceptance decides, so a round
costs the number of different sizes and not the number of subscribers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class _Group:
    """Subscriptions of one size: `steps` each, by their indexes in the order of acceptance; those `with_bonus` first
    got one step more than the others, which got `base`."""

    steps: int
    members: list[int]
    base: int = 0
    with_bonus: int = 0

    @property
    def least(self) -> int:
        """The steps of the latest member, which has the least of its group."""
        return self.base + (self.with_bonus == len(self.members))


def allot(quantities: Sequence[int], *, offered: int, step: int, min_allotment: int) -> list[int]:
    """Units for each subscription, in the same order; 0 for one that gets nothing or was dropped.

    `quantities` (each a positive multiple of `step`) are in the order of acceptance, `offered` is a multiple of `step`.
    If they fit, everybody gets what was asked. Else with n = quantity/step, N = offered/step and T = Σn, each gets
    n·N // T steps, and the steps left over go to the largest n·N mod T, ties to the earlier. While the smallest
    allotment is below `min_allotment`, that one (the latest of equals) is dropped and all are allotted anew.
    """
    assert offered % step == 0
    groups: dict[int, _Group] = {}
    for index, quantity in enumerate(quantities):
        assert quantity > 0 == quantity % step
        groups.setdefault(quantity // step, _Group(quantity // step, [])).members.append(index)
    remaining = [groups[steps] for steps in sorted(groups)]
    least = -(-min_allotment // step)
    _divide(remaining, offered // step)
    while remaining and remaining[0].least < least:
        _drop_smallest(remaining)
        _divide(remaining, offered // step)
    allotted = [0] * len(quantities)
    for group in remaining:
        for place, index in enumerate(group.members):
            allotted[index] = (group.base + (place < group.with_bonus)) * step
    return allotted


def _divide(groups: list[_Group], available: int) -> None:
    """Set what each group's members get out of `available` steps."""
    total = sum(group.steps * len(group.members) for group in groups)
    if total <= available:
        for group in groups:
            group.base, group.with_bonus = group.steps, 0
        return
    left = available
    for group in groups:
        group.base, group.with_bonus = group.steps * available // total, 0
        left -= group.base * len(group.members)
    by_remainder: dict[int, list[_Group]] = {}
    for group in groups:
        by_remainder.setdefault(group.steps * available % total, []).append(group)
    for remainder in sorted(by_remainder, reverse=True):
        if not left:
            return
        left -= _give_bonus(by_remainder[remainder], left)


def _give_bonus(groups: list[_Group], left: int) -> int:
    """One step more for up to `left` members of groups with equal remainders, the earliest first; how many got it."""
    if len(groups) == 1:
        groups[0].with_bonus = min(left, len(groups[0].members))
        return groups[0].with_bonus
    earliest = sorted((index, place) for place, group in enumerate(groups) for index in group.members)[:left]
    for _, place in earliest:
        groups[place].with_bonus += 1
    return len(earliest)


def _drop_smallest(groups: list[_Group]) -> None:
    """Take out the latest of those who got the least. What a member gets never falls with its size, so the least is
    what the first group's latest member got, and those who got it are the ends of the first groups."""
    least = groups[0].least
    chosen = 0
    for place, group in enumerate(groups):
        if group.least != least:
            break
        if group.members[-1] > groups[chosen].members[-1]:
            chosen = place
    groups[chosen].members.pop()
    if not groups[chosen].members:
        del groups[chosen]

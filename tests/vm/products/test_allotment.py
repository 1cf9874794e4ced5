from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otcnode.vm.products.allotment import allot


def by_the_book(quantities: list[int], offered: int, step: int, min_allotment: int) -> list[int]:
    """The same rule, written down slowly and with fractions."""
    alive = list(range(len(quantities)))
    while True:
        steps = {index: quantities[index] // step for index in alive}
        total, available = sum(steps.values()), offered // step
        if total <= available:
            result = dict(steps)
        else:
            share = {index: Fraction(steps[index] * available, total) for index in alive}
            result = {index: int(share[index]) for index in alive}
            order = sorted(alive, key=lambda index: (-(share[index] - result[index]), index))
            for index in order[: available - sum(result.values())]:
                result[index] += 1
        if not alive or min(result.values()) * step >= min_allotment:
            return [result.get(index, 0) * step for index in range(len(quantities))]
        smallest = min(result.values())
        alive.remove(max(index for index in alive if result[index] == smallest))


@pytest.mark.parametrize(
    ("quantities", "offered", "step", "least", "expected"),
    [
        ([50, 50, 50], 100, 1, 0, [34, 33, 33]),
        ([50, 50], 100, 1, 0, [50, 50]),
        ([50, 49], 100, 1, 0, [50, 49]),
        ([], 100, 1, 0, []),
        ([1], 100, 1, 2, [0]),
        ([100, 10, 10], 100, 10, 0, [80, 10, 10]),
        ([100, 10, 10], 100, 10, 20, [100, 0, 0]),
        # equal remainders of unequal sizes: one step more for the earlier accepted
        ([1, 3, 3, 1], 4, 1, 0, [1, 2, 1, 0]),
        # two equals below the minimum: the later one goes, and the other then fits
        ([90, 10, 10], 100, 1, 10, [90, 10, 0]),
        # the latest of those who got the least goes, although an earlier one asked for less
        ([21, 22, 57], 10, 1, 3, [3, 0, 7]),
    ],
)
def test_examples(quantities: list[int], offered: int, step: int, least: int, expected: list[int]) -> None:
    assert by_the_book(quantities, offered, step, least) == expected
    assert allot(quantities, offered=offered, step=step, min_allotment=least) == expected


@settings(deadline=None)
@given(
    steps=st.lists(st.integers(1, 30), max_size=14),
    offered=st.integers(1, 60),
    step=st.sampled_from([1, 3, 100]),
    least=st.integers(0, 12),
)
def test_agrees_with_the_rule_written_down_slowly(steps: list[int], offered: int, step: int, least: int) -> None:
    quantities = [count * step for count in steps]
    allotted = allot(quantities, offered=offered * step, step=step, min_allotment=least)
    assert allotted == by_the_book(quantities, offered * step, step, least)
    assert all(got <= asked for got, asked in zip(allotted, quantities, strict=True))
    assert all(got == 0 or got >= least for got in allotted)
    if least == 0:
        assert sum(allotted) == min(offered * step, sum(quantities))


@settings(deadline=None)
@given(st.lists(st.integers(1, 10**15), min_size=1, max_size=40), st.integers(1, 10**15))
def test_large_issues_are_shared_out_to_the_last_step(quantities: list[int], offered: int) -> None:
    allotted = allot(quantities, offered=offered, step=1, min_allotment=0)
    assert sum(allotted) == min(offered, sum(quantities))
    total = sum(quantities)
    if total > offered:
        for got, asked in zip(allotted, quantities, strict=True):
            assert abs(got - Fraction(asked * offered, total)) < 1


def test_ten_thousand_subscriptions_of_one_size_that_mostly_drop_out() -> None:
    allotted = allot([10_000] * 10_000, offered=10_000_000, step=1, min_allotment=5_000)
    assert allotted == [5_000] * 2_000 + [0] * 8_000

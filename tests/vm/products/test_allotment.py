from __future__ import annotations

import random
from collections.abc import Iterator
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otcnode.vm.products import allotment
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


def many_sizes(seed: int) -> tuple[list[int], int, int]:
    """(quantities, offered, least) with many sizes, several of a kind among them, of which many drop out one by one."""
    chance = random.Random(seed)
    count, spread = chance.randint(10, 70), chance.choice([20, 60, 1_000, 100_000])
    quantities = [chance.randint(1, chance.choice([spread, spread // 10])) for _ in range(count)]
    offered = max(1, sum(quantities) * 10 // chance.choice([11, 15, 30, 100, 500]))
    return quantities, offered, offered * chance.randint(1, 40) // (10 * count)


def disagreeing(seeds: range) -> Iterator[int]:
    for seed in seeds:
        quantities, offered, least = many_sizes(seed)
        allotted = allot(quantities, offered=offered, step=1, min_allotment=least)
        if allotted != by_the_book(quantities, offered, 1, least):
            yield seed


@pytest.mark.parametrize("few", [0, 1, 4, allotment._FEW_SIZES])
def test_drops_told_from_an_earlier_division_are_those_of_the_rule(monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    """With fewer sizes to look at again for nothing, a division serves for shorter, and from fewer sizes on."""
    monkeypatch.setattr(allotment, "_FEW_SIZES", few)
    assert list(disagreeing(range(60))) == []


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("_drift", property(lambda band: 0, lambda band, drift: None)),
        ("_passing", property(lambda band: len(band._sizes), lambda band, place: None)),
        ("dropped", property(lambda band: [], lambda band, remainders: None)),
    ],
)
def test_a_division_that_forgets_what_may_have_moved_is_noticed(
    monkeypatch: pytest.MonkeyPatch, name: str, wrong: property
) -> None:
    monkeypatch.setattr(allotment, "_FEW_SIZES", 4)
    monkeypatch.setattr(allotment._Band, name, wrong, raising=False)
    assert any(True for _ in disagreeing(range(400)))


@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.long)])
def test_thousands_of_subscriptions_of_as_many_sizes(count: int) -> None:
    """Two thirds drop out. The sum of what is left of the issue, and who is in, as a division of its own has it."""
    quantities = [place * place % 10_007 + 1 for place in range(count)]
    offered, least = sum(quantities) // 3, 2_000
    allotted = allot(quantities, offered=offered, step=1, min_allotment=least)
    kept = [quantity for quantity, got in zip(quantities, allotted, strict=True) if got]
    assert sum(allotted) == min(offered, sum(kept))
    again = allot(kept, offered=offered, step=1, min_allotment=0)
    assert again == [got for got in allotted if got]
    assert min(again) >= least

"""The token bucket: what a caller may spend, and when again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from otcnode.rpc.rates import RateLimiter


def test_a_caller_spends_its_burst_and_then_its_rate() -> None:
    rates = RateLimiter(cost_per_second=1_000, burst=10, callers_max=5)
    assert [rates.take("a", 5, 0) for _ in range(3)] == [0, 0, 6]
    assert rates.take("b", 10, 0) == 0
    assert rates.take("a", 5, 4) > 0
    assert rates.take("a", 5, 5) == 0
    assert rates.take("a", 1, 5) > 0


def test_a_cost_above_the_burst_is_possible_when_nothing_was_spent() -> None:
    rates = RateLimiter(cost_per_second=1_000, burst=10, callers_max=5)
    assert rates.take("a", 500, 0) == 0
    assert rates.take("a", 500, 9) > 0
    assert rates.take("a", 500, 10) == 0


def test_when_to_come_again_counts_what_asking_takes() -> None:
    rates = RateLimiter(cost_per_second=1_000, burst=40, callers_max=5)
    rates.charge("a", 40, 0)
    wait_ms = rates.take("a", 5, 0, again=20)
    rates.charge("a", 20, wait_ms)
    assert (wait_ms, rates.take("a", 5, wait_ms)) == (26, 0)
    rates.charge("b", 40, 0)
    assert rates.take("b", 500, 0, again=20) == 41, "more than is ever saved up is not waited for"


def test_a_clock_that_steps_back_gives_nothing_away() -> None:
    rates = RateLimiter(cost_per_second=1_000, burst=10, callers_max=5)
    assert rates.take("a", 10, 1_000) == 0
    assert rates.take("a", 10, 0) > 0
    assert rates.take("a", 10, 1_005) > 0


def test_callers_are_remembered_up_to_a_bound() -> None:
    rates = RateLimiter(cost_per_second=1, burst=1, callers_max=3)
    for name in "abcde":
        assert rates.take(name, 1, 0) == 0
    assert len(rates) == 3
    assert rates.take("e", 1, 0) > 0
    assert rates.take("a", 1, 0) == 0


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(0, 30)), max_size=60))
def test_never_more_than_the_burst_and_the_rate(calls: list[tuple[int, int]]) -> None:
    rates = RateLimiter(cost_per_second=500, burst=20, callers_max=1)
    now_ms = spent = 0
    for cost, pause_ms in calls:
        now_ms += pause_ms
        wait_ms = rates.take("a", cost, now_ms)
        if wait_ms == 0:
            spent += cost
        else:
            assert rates.take("a", cost, now_ms + wait_ms) == 0
            spent += cost
            now_ms += wait_ms
        assert spent <= 20 + now_ms * 0.5 + 1e-6

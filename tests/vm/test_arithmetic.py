from __future__ import annotations

import datetime
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otcnode.errors import Code, Failed
from otcnode.types import INTEGER_MAX
from otcnode.vm import arithmetic
from otcnode.vm.arithmetic import DayCount

EPOCH = datetime.date(1970, 1, 1)
naturals = st.integers(0, INTEGER_MAX)


def day(text: str) -> int:
    return (datetime.date.fromisoformat(text) - EPOCH).days


@given(naturals, st.integers(1, INTEGER_MAX))
def test_half_up_is_off_by_at_most_half_and_rounds_halves_up(numerator: int, denominator: int) -> None:
    rounded = arithmetic.half_up(numerator, denominator)
    error = rounded - Fraction(numerator, denominator)
    assert Fraction(-1, 2) < error <= Fraction(1, 2)


def test_one_unit_at_100_0050_costs_100_01() -> None:
    assert arithmetic.cash(1, 1_000_050, cash_decimals=2, quantity_decimals=0) == 100_01


def test_fills_are_rounded_one_by_one() -> None:
    def cost(quantity: int) -> int:
        return arithmetic.cash(quantity, 1_003_335, cash_decimals=2, quantity_decimals=0)

    assert 3 * cost(333) == 100_233_18
    assert cost(999) == 100_233_17


def test_fee_boundary() -> None:
    assert arithmetic.fee(499, 1_000) == 0
    assert arithmetic.fee(500, 1_000) == 1


def test_thirty_e_360_takes_a_31st_as_the_30th() -> None:
    start, end = day("2028-01-31"), day("2028-03-01")
    assert arithmetic.days_between(start, end, DayCount.THIRTY_E_360) == 31
    assert arithmetic.days_between(start, end, DayCount.ACT_365F) == 30


def test_each_holder_gets_its_own_rounded_coupon() -> None:
    def coupon(quantity: int) -> int:
        # 1.00 at 5 % over 100 of 365 days: 1.3699 minor units
        return arithmetic.interest(
            quantity, 100, rate_ppm=50_000, days=100, day_count=DayCount.ACT_365F, quantity_decimals=0
        )

    assert 3 * coupon(1) == 3
    assert coupon(3) == 4


def test_principal_of_a_fraction() -> None:
    assert arithmetic.principal(12_345, 10_000, quantity_decimals=4) == 12_345


@given(st.integers(datetime.date.min.toordinal(), datetime.date.max.toordinal()))
def test_civil_agrees_with_the_calendar(ordinal: int) -> None:
    date = datetime.date.fromordinal(ordinal)
    assert arithmetic.civil((date - EPOCH).days) == (date.year, date.month, date.day)


@given(st.integers(-100_000, 3_000_000), st.integers(-720, 840))
def test_a_local_date_begins_at_its_start_and_not_a_millisecond_before(date: int, offset: int) -> None:
    start = arithmetic.date_start_ms(date, offset)
    assert arithmetic.local_date(start, offset) == date
    assert arithmetic.local_date(start - 1, offset) == date - 1


def test_accrual_runs_from_the_last_pay_date_and_is_zero_on_it() -> None:
    def days(date: int) -> int:
        return arithmetic.accrual_days(date, value_date=100, pay_dates=(200, 300), day_count=DayCount.ACT_365F)

    assert [days(99), days(100), days(101), days(199), days(200), days(201), days(305)] == [0, 0, 1, 99, 0, 1, 5]


def test_stored_integers_are_bounded() -> None:
    assert arithmetic.stored(INTEGER_MAX) == INTEGER_MAX
    with pytest.raises(Failed) as caught:
        arithmetic.stored(INTEGER_MAX + 1)
    assert caught.value.code is Code.OVERFLOW

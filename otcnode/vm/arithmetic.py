"""The ledger's arithmetic: integers only, one rounding rule, applied per holder and per fill.

Money is in minor units, quantities in 10^-quantity_decimals units, prices in 10^-4 currency per unit, rates in parts
per million. Intermediate results are unbounded; what is stored must pass `stored`.
"""

from __future__ import annotations

from bisect import bisect_right
from enum import StrEnum

from otcnode.errors import Code, Failed
from otcnode.types import INTEGER_MAX

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
MINUTE_MS = 60_000
PPM = 1_000_000
PRICE_DECIMALS = 4


class DayCount(StrEnum):
    """How the days of an accrual period are counted, and over how many a yearly rate is spread."""

    ACT_365F = "ACT/365F"
    ACT_360 = "ACT/360"
    THIRTY_E_360 = "30E/360"


BASIS_DAYS = {DayCount.ACT_365F: 365, DayCount.ACT_360: 360, DayCount.THIRTY_E_360: 360}


def half_up(numerator: int, denominator: int) -> int:
    """numerator / denominator for non-negative numbers, halves away from zero. The only rounding in the ledger."""
    assert numerator >= 0 < denominator
    return (2 * numerator + denominator) // (2 * denominator)


def cash(quantity: int, price: int, *, cash_decimals: int, quantity_decimals: int) -> int:
    """The consideration, in minor units, of a quantity at a price."""
    return half_up(quantity * price * 10**cash_decimals, 10 ** (quantity_decimals + PRICE_DECIMALS))


def fee(amount: int, rate_ppm: int) -> int:
    """A fee or penalty, in minor units, on an amount in minor units."""
    return half_up(amount * rate_ppm, PPM)


def principal(quantity: int, face: int, *, quantity_decimals: int) -> int:
    """What a quantity is worth at maturity; `face` is minor units per one whole unit."""
    return half_up(quantity * face, 10**quantity_decimals)


def interest(quantity: int, face: int, *, rate_ppm: int, days: int, day_count: DayCount, quantity_decimals: int) -> int:
    """Accrued interest or a coupon, in minor units, of one holder's quantity over `days` of the day count."""
    return half_up(quantity * face * rate_ppm * days, BASIS_DAYS[day_count] * PPM * 10**quantity_decimals)


def local_date(time_ms: int, utc_offset_minutes: int) -> int:
    """The local calendar day of an instant, as days since 1970-01-01."""
    return (time_ms + utc_offset_minutes * MINUTE_MS) // DAY_MS


def date_start_ms(date: int, utc_offset_minutes: int) -> int:
    """The instant of 00:00 local on a day."""
    return date * DAY_MS - utc_offset_minutes * MINUTE_MS


def civil(date: int) -> tuple[int, int, int]:
    """(year, month, day) in the proleptic Gregorian calendar of a day since 1970-01-01, for any integer.

    Years are counted from March, so that the leap day comes last; 719468 days lie between 0000-03-01 and 1970-01-01.
    """
    shifted = date + 719_468
    era, day_of_era = divmod(shifted, 146_097)
    year_of_era = (day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_from_march = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month_from_march + 2) // 5 + 1
    month = month_from_march + 3 if month_from_march < 10 else month_from_march - 9
    return era * 400 + year_of_era + (month <= 2), month, day


def days_between(start: int, end: int, day_count: DayCount) -> int:
    """Days from `start` to `end` (days since 1970-01-01, start ≤ end) as the day count counts them.

    30E/360 takes every month as 30 days and a 31st as the 30th (ISDA 2006 Definitions, section 4.16(g)).
    """
    assert start <= end
    if day_count is not DayCount.THIRTY_E_360:
        return end - start
    year1, month1, day1 = civil(start)
    year2, month2, day2 = civil(end)
    return 360 * (year2 - year1) + 30 * (month2 - month1) + min(day2, 30) - min(day1, 30)


def accrual_days(date: int, *, value_date: int, pay_dates: tuple[int, ...], day_count: DayCount) -> int:
    """Days of interest running on `date`: since the last pay date (ascending) on or before it, else since the value
    date.

    On a pay date it is 0; before the value date nothing accrues.
    """
    paid = bisect_right(pay_dates, date)
    start = pay_dates[paid - 1] if paid else value_date
    return days_between(start, date, day_count) if date > start else 0


def stored(value: int) -> int:
    """`value`, if it may be stored. Raises Failed(E_OVERFLOW) above INTEGER_MAX."""
    assert value >= 0
    if value > INTEGER_MAX:
        raise Failed(Code.OVERFLOW, f"{value} is more than {INTEGER_MAX}")
    return value

"""Numbers as people write them: decimals, instants, dates, spans of time, rates; and back, for what is printed.

The unit of an integer follows from the name of its field, by one table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import Enum, auto

from otcnode.vm.arithmetic import DAY_MS, HOUR_MS, MINUTE_MS, PRICE_DECIMALS
from otcnode.vm.scenario.malformed import ScenarioError


class Unit(Enum):
    MONEY = auto()
    """A decimal string, in the currency."""
    PRICE = auto()
    """A decimal string, currency per unit."""
    QUANTITY = auto()
    """A decimal string or an integer, in whole units."""
    RATE = auto()
    """A string in per cent, or an integer in ppm."""
    INSTANT = auto()
    """ISO 8601 with offset, to the millisecond; or a span after the block's time."""
    SPAN = auto()
    """Such as 24h or 1d12h."""
    DATE = auto()
    """YYYY-MM-DD, a local day."""
    COUNT = auto()
    """An integer as it is."""


NAMES: dict[Unit, str] = {
    Unit.MONEY: "amount cash_cap face locked clean accrued fee paid per_action_cap total_cap used shortfall due"
    " principal coupon penalty total balance frozen available change released left bank_total ledger_total difference"
    " day_deposited deposited withdrawn corrected_up corrected_down daily_deposit_limit",
    Unit.PRICE: "price issue_price min_price max_price counter_price",
    Unit.QUANTITY: "quantity offered min_raise min_subscription step min_allotment allotted subscribed min_fill"
    " remaining eligible issued redeemed outstanding from_frozen",
    Unit.RATE: "rate_ppm subscription_fee_ppm trade_fee_ppm penalty_ppm ppm",
    Unit.INSTANT: "time_ms open close until valid_until not_before valid_from since payable_from"
    " confirm_by sign_by affirm_by settle_at created_at changed_at signed_at signing_at effective_at ended_at"
    " executed_at filed_at requested_at acquired_at lockup_until added_at revoked_at freezer_until posted_at bought_at"
    " sold_at expires_at deadline attested_at approved_at logged_at",
    Unit.SPAN: "period_ms max_transaction_ttl_ms settle_horizon_ms",
    Unit.DATE: "date value_date maturity pay_dates unpaid",
    Unit.COUNT: "slot version order keys_needed keys_signed risk ultimate_holders max_holders quantity_decimals"
    " utc_offset_minutes lockup_days turnaround_days grace_days notice_days manage trade sign height accepted accounts"
    " live subscriber_holders next_payment disclosures sequence full_freezes open_items quotes successors_open"
    " number day position decimals value approvals needed first_height size_bytes used_bytes epoch view",
}
UNITS: dict[str, Unit] = {name: unit for unit, names in NAMES.items() for name in names.split()}
"""Field name to the unit of its integer."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How many decimals money and quantities have where a number is written, and from when spans count."""

    cash_decimals: int = 2
    quantity_decimals: int = 0
    amount_is_quantity: bool = False
    """Of an operation on an asset that is a product: its amount is in units."""
    now_ms: int = 0

    def unit(self, name: str) -> Unit:
        """Raises ScenarioError for a field nobody has given a unit."""
        if name == "amount" and self.amount_is_quantity:
            return Unit.QUANTITY
        unit = UNITS.get(name)
        if unit is None:
            raise ScenarioError(f"the unit of {name!r} is not known (values.NAMES)")
        return unit

    def decimals(self, unit: Unit) -> int:
        match unit:
            case Unit.MONEY:
                return self.cash_decimals
            case Unit.PRICE:
                return PRICE_DECIMALS
            case _:
                return self.quantity_decimals


_DECIMAL = re.compile(r"-?(\d+|\d{1,3}(,\d{3})+)(\.\d+)?")
_SPAN = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?")
_SPAN_MS = (DAY_MS, HOUR_MS, MINUTE_MS, 1_000, 1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1)
_SHOWN_DAYS = range(2_932_896)
"""Until 9999-12-30, so that no offset leads beyond the calendar."""
_SHOWN_MS = range(2_932_896 * DAY_MS)
_PERCENT_DECIMALS = 4
"""1 % is 10,000 ppm."""


def parse(unit: Unit, value: object, scale: Scale) -> int:
    """The stored integer of what the file says. Raises ScenarioError."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ScenarioError(f"expected {_WANTED[unit]}, not {value!r}")
    return _encodable(_number(unit, value, scale), value)


def _encodable(number: int, value: object) -> int:
    if number not in _ENCODABLE:
        raise ScenarioError(f"{value!r} does not fit into 64 bits")
    return number


_ENCODABLE = range(-(2**63), 2**64)
"""What can be written into a transaction at all; the ledger refuses what is above 2^63 − 1 or negative."""


def _number(unit: Unit, value: int | str, scale: Scale) -> int:
    match unit:
        case Unit.COUNT:
            return _integer(value, unit)
        case Unit.MONEY | Unit.PRICE:
            return decimal(value, scale.decimals(unit), unit)
        case Unit.QUANTITY:
            return decimal(str(value), scale.quantity_decimals, unit)
        case Unit.RATE:
            if isinstance(value, str) and value.endswith("%"):
                return decimal(value[:-1].strip(), _PERCENT_DECIMALS, unit)
            return _integer(value, unit)
        case Unit.INSTANT:
            return instant(value, scale.now_ms)
        case Unit.SPAN:
            return span(value)
        case Unit.DATE:
            return day(value)


_WANTED: dict[Unit, str] = {
    Unit.MONEY: 'money as a decimal string ("1,234.56")',
    Unit.PRICE: 'a price as a decimal string ("100.0050")',
    Unit.QUANTITY: "a quantity in whole units, as a decimal string or an integer",
    Unit.RATE: 'a rate as "5%" or an integer of ppm',
    Unit.INSTANT: 'ISO 8601 with offset, at most milliseconds ("2028-01-03T09:00:00.000+08:00"), or a span ("+1h")',
    Unit.SPAN: 'a span of time ("24h", "1d12h", "1ms")',
    Unit.DATE: 'a date ("2028-01-03")',
    Unit.COUNT: "an integer",
}


def _integer(value: int | str, unit: Unit) -> int:
    if isinstance(value, str):
        raise ScenarioError(f"expected {_WANTED[unit]}, not {value!r}")
    return value


def decimal(value: object, decimals: int, unit: Unit = Unit.MONEY) -> int:
    """A decimal string as an integer of 10^-decimals. Raises ScenarioError if it has more decimals than that."""
    if not isinstance(value, str) or not _DECIMAL.fullmatch(value):
        raise ScenarioError(f"expected {_WANTED[unit]}, not {value!r}")
    whole, _, fraction = value.replace(",", "").partition(".")
    if len(fraction) > decimals:
        raise ScenarioError(f"{value!r} has more than {decimals} decimals")
    return int(whole + fraction.ljust(decimals, "0"))


def span(value: object) -> int:
    """Milliseconds. Raises ScenarioError."""
    found = _SPAN.fullmatch(value) if isinstance(value, str) else None
    if found is None or not value:
        raise ScenarioError(f"expected {_WANTED[Unit.SPAN]}, not {value!r}")
    return sum(int(part) * size for part, size in zip(found.groups(), _SPAN_MS, strict=True) if part)


def instant(value: object, now_ms: int) -> int:
    """Milliseconds since the epoch; "+1h" counts from `now_ms`. Raises ScenarioError."""
    if isinstance(value, str) and value.startswith("+"):
        return _encodable(now_ms + span(value[1:]), value)
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or moment.microsecond % 1000 or moment < _EPOCH:
        raise ScenarioError(f"expected {_WANTED[Unit.INSTANT]}, not {value!r}")
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def block_time(value: object, now_ms: int) -> int:
    """An instant at which there can be a block: of this calendar. Raises ScenarioError."""
    moment = instant(value, now_ms)
    if moment not in _SHOWN_MS:
        raise ScenarioError(f"{value!r} is beyond the calendar")
    return moment


def day(value: object) -> int:
    """Days since 1970-01-01. Raises ScenarioError."""
    try:
        return (date.fromisoformat(value if isinstance(value, str) else "") - _EPOCH_DAY).days
    except ValueError:
        raise ScenarioError(f"expected {_WANTED[Unit.DATE]}, not {value!r}") from None


def show(unit: Unit, value: int, scale: Scale) -> str:
    """The notation that `parse` reads."""
    match unit:
        case Unit.MONEY | Unit.PRICE | Unit.QUANTITY:
            return show_decimal(value, scale.decimals(unit))
        case Unit.RATE:
            return f"{value} ppm"
        case Unit.INSTANT:
            return show_instant(value)
        case Unit.SPAN:
            return f"{value}ms"
        case Unit.DATE:
            return show_day(value)
        case Unit.COUNT:
            return str(value)


def show_day(value: int) -> str:
    return (_EPOCH_DAY + timedelta(days=value)).isoformat() if value in _SHOWN_DAYS else f"day {value}"


def show_decimal(value: int, decimals: int) -> str:
    sign, digits = "-" if value < 0 else "", str(abs(value)).rjust(decimals + 1, "0")
    whole = f"{int(digits[: len(digits) - decimals]):,}"
    return f"{sign}{whole}.{digits[-decimals:]}" if decimals else sign + whole


def show_instant(value: int, like: str = "") -> str:
    """In UTC, or with the offset of the instant `like`, as far as that has one."""
    if value not in _SHOWN_MS:
        return f"{value} ms"
    moment = _EPOCH + timedelta(milliseconds=value)
    try:
        zone = datetime.fromisoformat(like).tzinfo
    except ValueError:
        zone = None
    return moment.astimezone(zone or UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

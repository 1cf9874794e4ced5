"""What terms a product may have."""

from __future__ import annotations

from otcnode.errors import Code
from otcnode.types import INTEGER_MAX
from otcnode.vm import arithmetic
from otcnode.vm.arithmetic import PPM, days_between
from otcnode.vm.context import Context, fail
from otcnode.vm.products.eligibility import interest_of_days
from otcnode.vm.products.records import ProductTerms, ProductType

QUANTITY_DECIMALS_MAX = 8
OFFSET_MINUTES = range(-720, 841)
DATE_MAX = 2_932_896
"""9999-12-31: later dates have no ISO 8601 form of four-digit years."""
DAYS_MAX = 36_600
RISK_LEVELS = range(1, 6)
COOLING_OFF_DAYS_MAX = 366


def check_fields(context: Context, terms: ProductTerms, cash_decimals: int) -> None:
    """Failed(E_FIELD{name}) for the first field, in their order, that is out of bounds; E_OVERFLOW if what the product
    could raise or owe leaves the integer range."""
    for name, holds in (*_amounts(terms, cash_decimals), *_dates(context, terms), *_conditions(terms)):
        if not holds:
            fail(Code.FIELD, name)
    _check_range(terms, cash_decimals)


def _amounts(terms: ProductTerms, cash_decimals: int) -> list[tuple[str, bool]]:
    decimals_hold = terms.quantity_decimals <= QUANTITY_DECIMALS_MAX
    return [
        ("quantity_decimals", decimals_hold),
        ("utc_offset_minutes", terms.utc_offset_minutes in OFFSET_MINUTES),
        ("face", terms.face >= 1),
        ("step", terms.step >= 1),
        ("issue_price", decimals_hold and terms.issue_price >= 1 and cost(terms, terms.step, cash_decimals) >= 1),
        ("offered", terms.offered >= 1 and terms.step >= 1 and terms.offered % terms.step == 0),
        ("min_raise", 1 <= terms.min_raise <= terms.offered),
        ("min_subscription", 1 <= terms.min_subscription <= terms.offered),
        ("min_allotment", terms.min_allotment <= terms.offered),
        ("max_holders", terms.max_holders >= 1),
        ("risk", terms.risk in RISK_LEVELS),
        ("categories", bool(terms.categories) and len(set(terms.categories)) == len(terms.categories)),
    ]


def _dates(context: Context, terms: ProductTerms) -> list[tuple[str, bool]]:
    fixed = terms.type is ProductType.FIXED_NOTE
    days = terms.pay_dates
    ascending = all(earlier < later for earlier, later in zip((terms.value_date, *days), days, strict=False))
    return [
        ("open", terms.open < terms.close),
        ("close", context.now < terms.close <= terms.start_of(terms.value_date)),
        ("value_date", terms.value_date < terms.maturity),
        ("maturity", terms.maturity <= DATE_MAX and terms.maturity - terms.value_date <= DAYS_MAX),
        ("rate_ppm", terms.rate_ppm <= (PPM if fixed else 0)),
        ("pay_dates", (bool(days) and ascending and days[-1] == terms.maturity) if fixed else not days),
        ("lockup_days", terms.value_date + terms.lockup_days < terms.maturity),
        ("turnaround_days", terms.turnaround_days <= DAYS_MAX),
        ("grace_days", terms.grace_days <= DAYS_MAX),
    ]


def _conditions(terms: ProductTerms) -> list[tuple[str, bool]]:
    redemption = terms.redemption
    return [
        ("subscription_fee_ppm", terms.subscription_fee_ppm <= PPM),
        ("trade_fee_ppm", terms.trade_fee_ppm <= PPM),
        ("cooling_off", terms.cooling_off.period_ms <= COOLING_OFF_DAYS_MAX * arithmetic.DAY_MS),
        ("redemption", redemption.penalty_ppm <= PPM and redemption.notice_days <= DAYS_MAX),
        ("documents", len(set(terms.documents)) == len(terms.documents)),
    ]


def _check_range(terms: ProductTerms, cash_decimals: int) -> None:
    """Rounding per holder adds at most 1 minor unit to each of two parts of each holder's payment."""
    principal = arithmetic.principal(terms.offered, terms.face, quantity_decimals=terms.quantity_decimals)
    periods = zip((terms.value_date, *terms.pay_dates), terms.pay_dates, strict=False)
    days = max((days_between(start, end, terms.day_count) for start, end in periods), default=0)
    coupon = interest_of_days(terms, terms.offered, days)
    raised = cost(terms, terms.offered, cash_decimals)
    owed = principal + coupon + 2 * terms.max_holders
    if max(owed, raised + arithmetic.fee(raised, terms.subscription_fee_ppm)) > INTEGER_MAX:
        fail(Code.OVERFLOW, "what the product could raise or owe")


def cost(terms: ProductTerms, quantity: int, cash_decimals: int) -> int:
    """What a quantity costs at issue, in minor units."""
    return arithmetic.cash(
        quantity, terms.issue_price, cash_decimals=cash_decimals, quantity_decimals=terms.quantity_decimals
    )


def subscription_fee(terms: ProductTerms, amount: int) -> int:
    """The fee on top of a cost, in minor units."""
    return arithmetic.fee(amount, terms.subscription_fee_ppm)

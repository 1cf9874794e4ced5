"""What trades ask about a product."""

from __future__ import annotations

from typing import Any

import pytest

from otcnode.errors import Code, Failed
from otcnode.vm.accounts.operations import InvestorCertify
from otcnode.vm.accounts.records import Category
from otcnode.vm.arithmetic import DayCount
from otcnode.vm.products import eligibility
from otcnode.vm.products.operations import ProductSuspend
from otcnode.vm.products.records import ProductType
from tests.vm.ledger import DAY_MS, EVIDENCE
from tests.vm.products.market import FIRST_PAY, MATURITY, VALUE_DATE, Market


def code_of(call: object) -> Code:
    assert callable(call)
    try:
        call()
    except Failed as refused:
        return refused.code
    return Code.OK


def certify(market: Market, name: str, risk: int, category: Category, people: int, valid_until: int) -> None:
    market.do("KYC", InvestorCertify(market.ids[name], risk, category, valid_until, people, EVIDENCE))


def test_a_buyer_is_judged_in_order_and_holders_as_after_the_trade() -> None:
    market = Market()
    product = market.established({"ANN": 60, "BEN": 40}, max_holders=3)
    market.investor("CAT")
    until = market.now + 50 * DAY_MS

    def judged(name: str, **trade: Any) -> Code:
        return code_of(lambda: eligibility.require_buyer(market.context(), market.ids[name], product, **trade))

    certify(market, "CAT", 1, Category.RETAIL, 2, until)
    assert judged("CAT") is Code.NOT_QUALIFIED
    certify(market, "CAT", 2, Category.QUALIFIED, 2, until)
    assert judged("CAT") is Code.SUITABILITY
    certify(market, "CAT", 3, Category.QUALIFIED, 2, until)
    assert judged("CAT") is Code.HOLDER_CAP
    ann = market.ids["ANN"]
    assert judged("CAT", seller=ann, quantity=59) is Code.HOLDER_CAP
    assert judged("CAT", seller=ann, quantity=60) is Code.OK
    assert judged("ISS") is Code.NOT_QUALIFIED
    # who holds some already takes no further seat, but must still be certified
    assert judged("BEN") is Code.OK
    market.block(at=until - 1)
    assert judged("CAT", seller=ann, quantity=60) is Code.OK
    market.block(at=until)
    assert judged("CAT", seller=ann, quantity=60) is Code.NOT_QUALIFIED
    context = market.context()
    assert (eligibility.holders(context, product), eligibility.holder_accounts(context, product)) == (2, 2)


def test_a_product_trades_while_active_and_not_suspended() -> None:
    market = Market()
    product = market.established({"ANN": 60})
    assert code_of(lambda: eligibility.tradable(market.context(), product)) is Code.OK
    assert code_of(lambda: eligibility.tradable(market.context(), bytes(32))) is Code.NOT_FOUND
    market.do("REG", ProductSuspend(product, "inquiry"))
    assert code_of(lambda: eligibility.tradable(market.context(), product)) is Code.STATE


@pytest.mark.parametrize(
    ("date", "days", "accrued"),
    [
        (VALUE_DATE, 0, 0),
        (VALUE_DATE + 1, 1, 14),  # 10 × 100.00 × 5 % / 365 = 0.13698…
        (FIRST_PAY - 1, 90, 12_33),  # 12.3287…
        (FIRST_PAY, 0, 0),
        (FIRST_PAY + 1, 1, 14),
        (MATURITY - 1, 90, 12_33),
    ],
)
def test_interest_accrues_from_the_last_pay_date(date: int, days: int, accrued: int) -> None:
    market = Market()
    product = market.draft()
    context = market.context()
    assert eligibility.accrued_days(context, product, date) == days
    assert eligibility.accrued(context, product, 10, date) == accrued


def test_thirty_days_a_month_and_no_interest_on_what_bears_none() -> None:
    market = Market()
    # 2028-01-31 to 2028-03-01
    start, day, end = 21_214, 21_244, 21_300
    common: dict[str, Any] = {"value_date": start, "maturity": end}
    note = market.draft(day_count=DayCount.THIRTY_E_360, pay_dates=(end,), **common)
    actual = market.draft("NOTE-2", pay_dates=(end,), **common)
    share = market.draft("NOTE-3", type=ProductType.EQUITY, pay_dates=(), rate_ppm=0, **common)
    context = market.context()
    assert eligibility.accrued_days(context, note, day) == 31
    assert eligibility.accrued_days(context, actual, day) == 30
    assert eligibility.accrued(context, share, 10, day) == 0

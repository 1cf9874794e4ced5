"""Coupons, maturity, what happens when the issuer cannot pay."""

from __future__ import annotations

import pytest

from otcnode.errors import Code
from otcnode.vm.accounts.events import AccountFrozen, CashMoved
from otcnode.vm.accounts.operations import AccountFreeze, AccountUnfreeze, CashWithdraw
from otcnode.vm.accounts.records import UNIT_TOTALS
from otcnode.vm.arithmetic import DayCount
from otcnode.vm.contracts.records import ContractStatus
from otcnode.vm.products.events import PaymentOverdue, ProductPaid
from otcnode.vm.products.operations import ProductSubscribe, ProductSuspend, RedeemRequest
from otcnode.vm.products.records import ProductStatus, ProductType, SubscriptionStatus
from tests.vm.ledger import CASH, DAY_MS, EVIDENCE
from tests.vm.products.market import FIRST_PAY, MATURITY, VALUE_DATE, Market


def start(market: Market, product: bytes, date: int) -> int:
    return market.product_terms(product).start_of(date)


def spend(market: Market, name: str, leave: int) -> None:
    """Lock all but `leave` of the available cash in a withdrawal."""
    available = market.figures(name)[0]
    market.act(name, CashWithdraw(CASH, available - leave, EVIDENCE))


@pytest.fixture
def market() -> Market:
    return Market()


# 34 units × 100.00 at 5 % over 91 of 365 days: 42.383… → 42.38; 33 units: 41.136… → 41.14
COUPON_34, COUPON_33 = 42_38, 41_14


def test_a_coupon_is_rounded_per_holder_and_the_issuer_pays_the_sum(market: Market) -> None:
    product = market.established({"ANN": 34, "BEN": 33, "CAT": 33})
    before = market.figures("ISS")[0]
    pay = start(market, product, FIRST_PAY)
    market.block(at=pay - 1)
    assert market.figures("ANN") == (0, 0, 0)
    market.block(at=pay)
    assert market.figures("ANN") == (COUPON_34, 0, 0)
    assert market.figures("BEN") == market.figures("CAT") == (COUPON_33, 0, 0)
    assert market.figures("ISS")[0] == before - COUPON_34 - 2 * COUPON_33
    assert market.status(product) is ProductStatus.ACTIVE
    # at most once
    assert not any(isinstance(event, CashMoved) for event in market.advance(pay + DAY_MS))


def test_three_holders_of_one_unit_each_get_their_own_rounded_coupon(market: Market) -> None:
    # 1 unit × 1.00 at 2 % over 91 of 365 days is 0.4986 minor units: 0 each; of three units together it would be 1
    product = market.established({"ANN": 1, "BEN": 1, "CAT": 1}, face=1_00, rate_ppm=20_000)
    market.block(at=start(market, product, FIRST_PAY))
    assert [market.figures(name)[0] for name in ("ANN", "BEN", "CAT")] == [0, 0, 0]
    other = market.established({"DAN": 1, "EVE": 1}, code="NOTE-2", face=1_00, rate_ppm=20_100, **later(market))
    market.block(at=start(market, other, market.product_terms(other).pay_dates[0]))
    assert [market.figures(name)[0] for name in ("DAN", "EVE")] == [1, 1]


def later(market: Market) -> dict[str, object]:
    """Dates of a product that is drafted now."""
    today = market.terms().date_of(market.now)
    return {
        "open": market.now,
        "close": market.now + DAY_MS,
        "value_date": today + 5,
        "pay_dates": (today + 96, today + 187),
        "maturity": today + 187,
    }


def test_30e_360_counts_months_of_thirty_days(market: Market) -> None:
    # 2027-01-31 to 2027-03-31 is two months, whatever the calendar says
    january, march = 20_849, 20_908
    product = market.established(
        {"ANN": 100},
        value_date=january,
        maturity=march,
        pay_dates=(march,),
        day_count=DayCount.THIRTY_E_360,
        rate_ppm=60_000,
        grace_days=0,
    )
    market.deposit("ISS", 1_000_00)
    events = market.advance(start(market, product, march))
    (paid,) = [event for event in events if isinstance(event, ProductPaid)]
    assert (paid.coupon, paid.principal) == (100_00, 10_000_00)


def test_the_last_coupon_and_the_principal_are_one_obligation(market: Market) -> None:
    product = market.established({"ANN": 100})
    market.block(at=start(market, product, FIRST_PAY))
    coupon = 124_66  # 100 units × 100.00 at 5 % over 91 of 365 days: 124.657…
    assert market.figures("ANN") == (coupon, 0, 0)
    owed = 10_000_00 + coupon
    spend(market, "ISS", leave=0)
    market.deposit("ISS", owed - 1)
    events = market.advance(start(market, product, MATURITY))
    (overdue,) = [event for event in events if isinstance(event, PaymentOverdue)]
    assert (overdue.due, overdue.shortfall) == (owed, 1)
    assert market.status(product) is ProductStatus.PAYMENT_OVERDUE
    assert market.figures("ANN") == (coupon, 0, 0)
    market.deposit("ISS", 1)
    market.block()
    assert market.status(product) is ProductStatus.MATURED
    assert market.figures("ANN") == (coupon + owed, 0, 0)
    assert market.figures("ISS")[0] == 0
    assert market.units(product, "ANN").balance == 0
    total = market.state.get(UNIT_TOTALS, product)
    assert total is not None and total.outstanding == 0
    assert market.contract_record(market.issuance).status is ContractStatus.FULFILLED


def test_maturity_fulfils_the_contracts_of_those_who_got_units(market: Market) -> None:
    for name in ("ANN", "BEN"):
        market.investor(name, 20_000_00)
    product = market.opened(min_allotment=5)
    big = market.subscribe(product, "ANN", 100)
    small = market.subscribe(product, "BEN", 2)
    market.deposit("ISS", 1_000_00)
    for date in (VALUE_DATE, FIRST_PAY, MATURITY):
        market.advance(max(start(market, product, date), market.now + 1))
    assert market.status(product) is ProductStatus.MATURED
    assert market.subscription(small).status is SubscriptionStatus.REFUNDED
    assert market.contract_record(market.subscription(big).contract).status is ContractStatus.FULFILLED
    assert market.contract_record(market.subscription(small).contract).status is ContractStatus.EFFECTIVE


@pytest.mark.parametrize("kind", [ProductType.DISCOUNT_NOTE, ProductType.EQUITY])
def test_what_bears_no_interest_pays_its_face_at_maturity(market: Market, kind: ProductType) -> None:
    product = market.established({"ANN": 40}, type=kind, rate_ppm=0, pay_dates=(), issue_price=100_0000)
    market.advance(start(market, product, MATURITY))
    assert market.status(product) is ProductStatus.MATURED
    assert market.figures("ANN") == (4_000_00, 0, 0)


def test_frozen_units_earn_frozen_cash_and_become_it_at_maturity(market: Market) -> None:
    product = market.established({"ANN": 34, "BEN": 66})
    receipt = market.do("REG", AccountFreeze(market.ids["ANN"], product, 10, EVIDENCE, None))
    (freeze,) = [event.freeze for event in receipt.events if isinstance(event, AccountFrozen)]
    market.block(at=start(market, product, FIRST_PAY))
    # 10 units: 12.4657… → 12.47 of the 42.38
    assert market.figures("ANN") == (COUPON_34 - 12_47, 0, 12_47)
    market.deposit("ISS", 1_000_00)
    market.advance(start(market, product, MATURITY))
    assert market.status(product) is ProductStatus.MATURED
    frozen = 2 * 12_47 + 1_000_00
    assert market.figures("ANN") == (2 * COUPON_34 + 3_400_00 - frozen, 0, frozen)
    market.do("REG", AccountUnfreeze(freeze, EVIDENCE))
    assert market.figures("ANN") == (2 * COUPON_34 + 3_400_00, 0, 0)


def test_two_freezes_never_take_more_than_the_holder_gets(market: Market) -> None:
    # one unit earns 0.5011 minor units, rounded 1; two earn 1.0022, rounded 1
    product = market.established({"ANN": 2}, face=1_00, rate_ppm=20_100)
    for _ in range(2):
        market.do("REG", AccountFreeze(market.ids["ANN"], product, 1, EVIDENCE, None))
    market.block(at=start(market, product, FIRST_PAY))
    assert market.figures("ANN") == (0, 0, 1)


def test_a_fully_frozen_holder_is_paid_and_locked_units_too(market: Market) -> None:
    product = market.established({"ANN": 34, "BEN": 66})
    until = start(market, product, MATURITY)
    redemption = market.request(product, "ANN", 30, until)
    market.do("FRZ", AccountFreeze(market.ids["ANN"], None, 0, EVIDENCE, market.now + DAY_MS))
    market.block(at=start(market, product, FIRST_PAY))
    assert market.figures("ANN") == (COUPON_34, 0, 0)
    assert market.redemption(redemption).status.value == "REQUESTED"


def test_a_coupon_waits_for_cash_and_trading_with_it(market: Market) -> None:
    product = market.established({"ANN": 34, "BEN": 33, "CAT": 33})
    total = COUPON_34 + 2 * COUPON_33
    spend(market, "ISS", leave=total - 1)
    pay = start(market, product, FIRST_PAY)
    market.block(at=pay)
    assert market.status(product) is ProductStatus.PAYMENT_OVERDUE
    assert market.figures("ANN") == (0, 0, 0)
    market.act("ANN", RedeemRequest(product, 1, pay + 10 * DAY_MS), code=Code.STATE)
    market.act("ANN", ProductSubscribe(product, 1, market.issuance), code=Code.STATE)
    # another's deposit wakes nobody; the issuer's does, in the next block
    market.deposit("ANN", 5)
    assert market.last is not None and not market.block().automatic
    market.deposit("ISS", 1)
    assert market.status(product) is ProductStatus.PAYMENT_OVERDUE
    market.block()
    assert market.status(product) is ProductStatus.ACTIVE
    assert market.figures("ANN") == (COUPON_34 + 5, 0, 0)
    assert market.figures("ISS")[0] == 0


def test_grace_ends_to_the_millisecond(market: Market) -> None:
    product = market.established({"ANN": 100}, grace_days=3)
    spend(market, "ISS", leave=0)
    market.block(at=start(market, product, FIRST_PAY))
    end = start(market, product, FIRST_PAY + 3)
    market.block(at=end - 1)
    assert market.status(product) is ProductStatus.PAYMENT_OVERDUE
    market.block(at=end)
    assert market.status(product) is ProductStatus.DEFAULTED
    # too late, and nothing is left that could run
    market.deposit("ISS", 1_000_00)
    market.advance(start(market, product, MATURITY))
    assert market.status(product) is ProductStatus.DEFAULTED
    assert market.units(product, "ANN").balance == 100


def test_cash_that_came_before_the_end_of_grace_is_used_however_late_the_next_block_is(market: Market) -> None:
    product = market.established({"ANN": 100}, grace_days=3)
    spend(market, "ISS", leave=0)
    market.block(at=start(market, product, FIRST_PAY))
    end = start(market, product, FIRST_PAY + 3)
    market.now = end - 2
    market.deposit("ISS", 124_66)
    market.block(at=end + DAY_MS)
    assert market.status(product) is ProductStatus.ACTIVE
    assert market.figures("ANN") == (124_66, 0, 0)


def test_without_grace_the_default_follows_at_once(market: Market) -> None:
    product = market.established({"ANN": 100}, grace_days=0)
    spend(market, "ISS", leave=0)
    market.block(at=start(market, product, FIRST_PAY))
    assert market.status(product) is ProductStatus.DEFAULTED


def test_a_frozen_issuer_pays_when_it_can_before_grace_ends(market: Market) -> None:
    product = market.established({"ANN": 100}, grace_days=3)
    receipt = market.do("REG", AccountFreeze(market.ids["ISS"], None, 0, EVIDENCE, None))
    (freeze,) = [event.freeze for event in receipt.events if isinstance(event, AccountFrozen)]
    events = market.advance(start(market, product, FIRST_PAY))
    (overdue,) = [event for event in events if isinstance(event, PaymentOverdue)]
    assert overdue.shortfall == 0
    market.do("REG", AccountUnfreeze(freeze, EVIDENCE))
    market.block(at=start(market, product, FIRST_PAY + 3))
    assert market.status(product) is ProductStatus.ACTIVE
    assert market.figures("ANN") == (124_66, 0, 0)


def test_two_overdue_days_are_paid_in_order_and_each_has_its_own_grace(market: Market) -> None:
    second = FIRST_PAY + 10
    product = market.established({"ANN": 100}, grace_days=30, pay_dates=(FIRST_PAY, second, MATURITY))
    spend(market, "ISS", leave=0)
    market.block(at=start(market, product, FIRST_PAY))
    market.block(at=start(market, product, second))
    assert market.product(product).unpaid == (FIRST_PAY, second)
    market.deposit("ISS", 124_66 + 13_69)  # 10 days: 13.698… → 13.70
    market.block()
    assert market.product(product).unpaid == (second,)
    assert market.figures("ANN") == (124_66, 0, 0)
    market.block(at=start(market, product, FIRST_PAY + 30))
    assert market.status(product) is ProductStatus.PAYMENT_OVERDUE
    market.deposit("ISS", 1)
    market.block()
    assert market.status(product) is ProductStatus.ACTIVE
    assert market.figures("ANN") == (124_66 + 13_70, 0, 0)


def test_two_overdue_products_of_one_issuer_are_both_woken(market: Market) -> None:
    first = market.established({"ANN": 100}, grace_days=90, lockup_days=0)
    second = market.established({"BEN": 100}, code="NOTE-2", grace_days=90, **later(market))
    spend(market, "ISS", leave=0)
    day = market.product_terms(second).pay_dates[0]
    market.block(at=start(market, second, day))
    market.advance(market.now + 1)
    assert market.status(first) is market.status(second) is ProductStatus.PAYMENT_OVERDUE
    market.deposit("ISS", 124_66)
    market.advance(market.now + 1)
    assert [market.status(name) for name in (first, second)] == [ProductStatus.ACTIVE, ProductStatus.PAYMENT_OVERDUE]
    market.deposit("ISS", 124_66)
    market.advance(market.now + 1)
    assert market.status(second) is ProductStatus.ACTIVE


def test_coupons_go_on_under_a_suspension(market: Market) -> None:
    product = market.established({"ANN": 100})
    market.do("REG", ProductSuspend(product, "inquiry"))
    market.block(at=start(market, product, FIRST_PAY))
    assert market.figures("ANN") == (124_66, 0, 0)


def test_cutting_time_into_blocks_differently_changes_no_balance() -> None:
    def run(*instants: int) -> list[tuple[int, int, int]]:
        market = Market()
        product = market.established({"ANN": 34, "BEN": 66})
        market.deposit("ISS", 1_000_00)
        for instant in instants or (start(market, product, MATURITY) + 5,):
            market.advance(max(instant, market.now + 1))
        market.advance(max(start(market, product, MATURITY) + 5, market.now + 1))
        assert market.status(product) is ProductStatus.MATURED
        return [market.figures(name) for name in ("ANN", "BEN", "ISS", "FEE")]

    market = Market()
    rule = market.terms()
    pay, end = rule.start_of(FIRST_PAY), rule.start_of(MATURITY)
    assert run() == run(pay, end) == run(pay - 1, pay, pay + 1, end - 1, end)


def test_a_tight_budget_delays_payments_and_changes_none() -> None:
    market = Market(due_weight_max=1)
    product = market.established({"ANN": 34, "BEN": 66})
    pay = start(market, product, FIRST_PAY)
    market.advance(pay)
    assert market.figures("ANN") == (COUPON_34, 0, 0)
    assert market.status(product) is ProductStatus.ACTIVE

from __future__ import annotations

import pytest

from otcnode.errors import Code
from otcnode.vm.accounts.operations import AccountFreeze
from otcnode.vm.accounts.records import LOCKS, UNIT_TOTALS
from otcnode.vm.products.operations import ProductSuspend, RedeemDecide, RedeemRequest
from otcnode.vm.products.records import ProductStatus, RedemptionRule, RedemptionStatus
from tests.vm.ledger import DAY_MS, EVIDENCE
from tests.vm.products.market import FIRST_PAY, MATURITY, VALUE_DATE, Market


@pytest.fixture
def market() -> Market:
    return Market()


def test_a_redemption_pays_principal_and_accrued_less_the_penalty(market: Market) -> None:
    product = market.established({"ANN": 40, "BEN": 60})
    terms = market.product_terms(product)
    asked = terms.start_of(VALUE_DATE + 5)
    redemption = market.request(product, "ANN", 10, asked + 30 * DAY_MS, at=asked)
    payable = terms.start_of(VALUE_DATE + 7)
    assert market.redemption(redemption).payable_from == payable
    market.act("ISS", RedeemDecide(redemption, True, ""), code=Code.STATE, at=payable - 1)
    issuer = market.figures("ISS")[0]
    market.act("ISS", RedeemDecide(redemption, True, ""), at=payable)
    # 10 × 100.00, 5 % over 7 of 365 days: 0.9589… → 0.96; 1 % of the principal: 10.00
    assert market.figures("ANN") == (1_000_00 + 96 - 10_00, 0, 0)
    assert market.figures("ISS")[0] == issuer - (1_000_00 + 96 - 10_00)
    assert market.units(product, "ANN").balance == 30 == market.units(product, "ANN").available
    total = market.state.get(UNIT_TOTALS, product)
    assert total is not None and (total.issued, total.redeemed) == (100, 10)
    assert market.redemption(redemption).status is RedemptionStatus.PAID
    market.act("ISS", RedeemDecide(redemption, True, ""), code=Code.STATE)
    assert market.state.scan(LOCKS) == []


def test_on_a_pay_date_nothing_has_accrued(market: Market) -> None:
    product = market.established({"ANN": 100})
    terms = market.product_terms(product)
    pay = terms.start_of(FIRST_PAY)
    redemption = market.request(product, "ANN", 100, pay + DAY_MS, at=pay - 3 * DAY_MS)
    market.deposit("ISS", 1_000_00)
    market.act("ISS", RedeemDecide(redemption, True, ""), at=pay)
    # the coupon of that day came first, on the locked units too
    assert market.figures("ANN") == (124_66 + 9_900_00, 0, 0)
    assert market.units(product, "ANN").balance == 0


def test_a_request_lapses_at_its_time_and_cannot_be_decided_then(market: Market) -> None:
    product = market.established({"ANN": 100})
    until = market.now + 5 * DAY_MS
    redemption = market.request(product, "ANN", 100, until)
    assert market.units(product, "ANN").available == 0
    market.act("ISS", RedeemDecide(redemption, False, "too late"), code=Code.EXPIRED, at=until)
    assert market.redemption(redemption).status is RedemptionStatus.EXPIRED
    assert market.units(product, "ANN").available == 100
    market.act("ISS", RedeemDecide(redemption, True, ""), code=Code.EXPIRED)


def test_maturity_ends_what_is_still_asked_for(market: Market) -> None:
    product = market.established({"ANN": 100})
    end = market.product_terms(product).start_of(MATURITY)
    redemption = market.request(product, "ANN", 50, end)
    market.deposit("ISS", 1_000_00)
    market.advance(end)
    assert market.redemption(redemption).status is RedemptionStatus.EXPIRED
    assert market.status(product) is ProductStatus.MATURED
    assert market.figures("ANN") == (10_000_00 + 2 * 124_66, 0, 0)


def test_refusing_needs_a_reason_and_gives_the_units_back(market: Market) -> None:
    product = market.established({"ANN": 100})
    redemption = market.request(product, "ANN", 50, market.now + 5 * DAY_MS)
    market.act("ISS", RedeemDecide(redemption, False, ""), code=Code.FIELD)
    market.act("ISS", RedeemDecide(redemption, False, "no"))
    assert market.redemption(redemption).status is RedemptionStatus.REJECTED
    assert market.units(product, "ANN").available == 100


def test_a_regulators_freeze_ends_the_request(market: Market) -> None:
    product = market.established({"ANN": 100})
    redemption = market.request(product, "ANN", 50, market.now + 5 * DAY_MS)
    market.do("REG", AccountFreeze(market.ids["ANN"], None, 0, EVIDENCE, None))
    assert market.redemption(redemption).status is RedemptionStatus.REJECTED
    assert market.units(product, "ANN").available == 100


def test_refusals(market: Market) -> None:
    product = market.established({"ANN": 100}, lockup_days=20)
    soon = market.now + 5 * DAY_MS

    def ask(code: Code, quantity: int, until: int = soon, by: str = "ANN") -> None:
        market.act(by, RedeemRequest(product, quantity, until), code=code)

    market.act("ANN", RedeemRequest(bytes(32), 0, 0), code=Code.NOT_FOUND)
    ask(Code.FIELD, 0, until=market.product_terms(product).maturity_ms + 1)
    ask(Code.FIELD, 0, until=market.now + DAY_MS)
    ask(Code.AMOUNT, 0)
    ask(Code.LACK_QTY, 101)
    ask(Code.LOCKUP, 100)
    market.block(at=market.product_terms(product).start_of(VALUE_DATE + 18))
    redemption = market.request(product, "ANN", 100, market.now + 5 * DAY_MS)
    market.act("ISS", RedeemDecide(bytes(32), True, ""), code=Code.NOT_FOUND)
    market.do("LIST", ProductSuspend(product, "inquiry"))
    market.block(at=market.now + 3 * DAY_MS)
    market.act("ISS", RedeemDecide(redemption, True, ""), code=Code.STATE)
    market.act("ISS", RedeemDecide(redemption, False, "suspended"))
    ask(Code.STATE, 1)


def test_redeeming_must_be_allowed(market: Market) -> None:
    product = market.established({"ANN": 10}, redemption=RedemptionRule(False, 0, 0))
    market.act("ANN", RedeemRequest(product, 1, market.now + DAY_MS), code=Code.FORBIDDEN)


def test_the_issuer_must_have_the_cash(market: Market) -> None:
    product = market.established({"ANN": 10}, issue_price=99_0000, redemption=RedemptionRule(True, 0, 0))
    redemption = market.request(product, "ANN", 10, market.now + 2 * DAY_MS)
    market.act("ISS", RedeemDecide(redemption, True, ""), code=Code.LACK_CASH)
    market.deposit("ISS", 10_00)
    market.act("ISS", RedeemDecide(redemption, True, ""))
    assert market.figures("ISS") == (0, 0, 0)
    assert market.figures("ANN") == (1_000_00, 0, 0)

"""From the draft to the value date, through the executor."""

from __future__ import annotations

import pytest

from otcnode.errors import Code
from otcnode.genesis import KeyPurpose
from otcnode.vm.accounts.operations import AccountFreeze, InvestorCertify
from otcnode.vm.accounts.records import Category
from otcnode.vm.contracts import binding
from otcnode.vm.contracts.operations import ContractCallback, ContractRescind
from otcnode.vm.contracts.records import AtTime, ContractKind, ContractStatus, CoolingOff
from otcnode.vm.products.operations import (
    ProductCancelSubscription,
    ProductSubscribe,
)
from otcnode.vm.products.records import CoolingOffRule, ProductStatus, SubscriptionStatus
from tests.vm.ledger import DAY_MS, EVIDENCE
from tests.vm.products.market import Market, outlay

VOID = SubscriptionStatus.VOID_NOT_EFFECTIVE


@pytest.fixture
def market() -> Market:
    market = Market()
    for name in ("ANN", "BEN", "CAT"):
        market.investor(name, 10_000_00)
    return market


def test_a_product_opens_by_itself_at_its_time(market: Market) -> None:
    product = market.approved()
    opens = market.product_terms(product).open
    market.block(at=opens - 1)
    assert market.status(product) is ProductStatus.APPROVED
    market.block(at=opens)
    assert market.status(product) is ProductStatus.OPEN


def test_a_product_approved_after_its_opening_time_opens_at_once(market: Market) -> None:
    product = market.approved(open=market.now)
    assert market.status(product) is ProductStatus.OPEN


def test_oversubscribed_by_three_times_fifty(market: Market) -> None:
    product = market.opened()
    terms = market.product_terms(product)
    subscriptions = [market.subscribe(product, name, 50) for name in ("ANN", "BEN", "CAT")]
    # 50 × 100.00 and 1000 ppm of it
    assert market.figures("ANN") == (10_000_00 - 5_005_00, 5_005_00, 0)
    market.block(at=terms.close - 1)
    assert market.status(product) is ProductStatus.OPEN
    market.block(at=terms.close)
    assert market.status(product) is ProductStatus.ALLOTTED
    assert [market.subscription(name).allotted for name in subscriptions] == [34, 33, 33]
    # the whole lock stays until the value date
    assert market.figures("CAT") == (10_000_00 - 5_005_00, 5_005_00, 0)
    market.block(at=terms.start_of(terms.value_date) - 1)
    assert market.status(product) is ProductStatus.ALLOTTED
    market.block(at=terms.start_of(terms.value_date))
    assert market.status(product) is ProductStatus.ACTIVE
    assert market.figures("ANN") == (10_000_00 - 3_403_40, 0, 0)
    assert market.figures("BEN") == market.figures("CAT") == (10_000_00 - 3_303_30, 0, 0)
    assert market.figures("ISS") == (10_000_00, 0, 0)
    assert market.figures("FEE") == (10_00, 0, 0)
    assert [market.units(product, name).balance for name in ("ANN", "BEN", "CAT")] == [34, 33, 33]
    record = market.product(product)
    assert (record.live, record.subscribed, record.subscriber_holders, record.allotted) == (0, 0, 0, 100)
    assert market.subscription(subscriptions[0]).status is SubscriptionStatus.SETTLED


@pytest.mark.parametrize(("quantity", "expected"), [(40, ProductStatus.ALLOTTED), (39, ProductStatus.FAILED)])
def test_the_minimum_is_met_exactly_or_missed_by_one_unit(
    market: Market, quantity: int, expected: ProductStatus
) -> None:
    product = market.opened(min_raise=60)
    first = market.subscribe(product, "ANN", 20)
    market.subscribe(product, "BEN", quantity)
    market.block(at=market.product_terms(product).close)
    assert market.status(product) is expected
    if expected is ProductStatus.FAILED:
        assert market.subscription(first).status is SubscriptionStatus.REFUNDED
        assert market.figures("ANN") == market.figures("BEN") == (10_000_00, 0, 0)
        # the code is free again, and nothing of the product keeps the issuer
        market.opened(close=market.now + DAY_MS, open=market.now)


def test_small_allotments_are_dropped_and_refunded_at_once(market: Market) -> None:
    product = market.opened(min_allotment=10)
    big, early, late = (
        market.subscribe(product, name, quantity) for name, quantity in (("ANN", 90), ("BEN", 10), ("CAT", 10))
    )
    market.block(at=market.product_terms(product).close)
    assert [market.subscription(name).allotted for name in (big, early, late)] == [90, 10, 0]
    assert market.subscription(late).status is SubscriptionStatus.REFUNDED
    assert market.figures("CAT") == (10_000_00, 0, 0)


def test_drops_below_the_minimum_raise_fail_the_product(market: Market) -> None:
    product = market.opened(min_allotment=40, min_raise=100)
    for name in ("ANN", "BEN", "CAT"):
        market.subscribe(product, name, 39)
    market.block(at=market.product_terms(product).close)
    assert market.status(product) is ProductStatus.FAILED
    assert all(market.figures(name) == (10_000_00, 0, 0) for name in ("ANN", "BEN", "CAT"))


def test_subscribing_and_cancelling_end_at_the_close_to_the_millisecond(market: Market) -> None:
    product = market.opened()
    close = market.product_terms(product).close
    contract = market.subscription_contract(product, "ANN")
    second = market.subscription_contract(product, "BEN")
    subscription = market.subscribe(product, "ANN", 10, contract)
    market.act("ANN", ProductCancelSubscription(subscription), at=close - 3)
    assert market.subscription(subscription).status is SubscriptionStatus.CANCELLED
    assert market.figures("ANN") == (10_000_00, 0, 0)
    market.act("ANN", ProductCancelSubscription(subscription), code=Code.STATE)
    kept = market.subscribe(product, "BEN", 10, second, at=close - 1)
    late = market.sign("BEN", ProductCancelSubscription(kept), valid_until=close + 1)
    later = market.sign("ANN", ProductSubscribe(product, 10, contract), valid_until=close + 1)
    assert [receipt.code for receipt in market.block(late, later, at=close).receipts] == [Code.EXPIRED] * 2
    # cancelled before its deadline is not expired, even later
    market.act("ANN", ProductCancelSubscription(subscription), code=Code.STATE)


def test_only_effective_contracts_take_part(market: Market) -> None:
    product = market.opened(cooling_off=CoolingOffRule(DAY_MS, True))
    waiting = market.subscription_contract(product, "ANN", CoolingOff(DAY_MS, True))
    called = market.subscription_contract(product, "BEN", CoolingOff(DAY_MS, True))
    never = market.subscribe(product, "ANN", 50, waiting)
    taken = market.subscribe(product, "BEN", 50, called)
    market.block(at=market.now + DAY_MS)
    market.act("CALL", ContractCallback(called, EVIDENCE))
    market.block(at=market.product_terms(product).close)
    assert market.subscription(never).status is SubscriptionStatus.VOID_NOT_EFFECTIVE
    assert market.contract_record(waiting).status is ContractStatus.EXPIRED
    assert market.figures("ANN") == (10_000_00, 0, 0)
    assert market.subscription(taken).status is SubscriptionStatus.ALLOTTED


@pytest.mark.parametrize(("late_ms", "status"), [(0, SubscriptionStatus.ALLOTTED), (1, VOID)])
def test_a_contract_may_turn_effective_at_the_very_close(
    market: Market, late_ms: int, status: SubscriptionStatus
) -> None:
    product = market.opened()
    close = market.product_terms(product).close
    contract = market.subscription_contract(product, "ANN", AtTime(close + late_ms))
    subscription = market.subscribe(product, "ANN", 50, contract)
    market.block(at=close + 5)
    assert market.subscription(subscription).status is status


def test_a_callback_after_the_close_waits_for_it_and_comes_too_late() -> None:
    market = Market(due_weight_max=1)
    for name in ("ANN", "BEN"):
        market.investor(name, 10_000_00)
    cooling = CoolingOff(DAY_MS, True)
    first, second = market.approved("NOTE-1"), market.approved("NOTE-2")
    close = market.product_terms(second).close
    market.block(at=market.product_terms(second).open)
    market.subscribe(first, "BEN", 50)
    contract = market.subscription_contract(second, "ANN", cooling)
    subscription = market.subscribe(second, "ANN", 50, contract)
    market.act("CALL", ContractCallback(contract, EVIDENCE), code=Code.STATE, at=close + 5)
    assert market.status(first) is ProductStatus.ALLOTTED
    assert market.subscription(subscription).status is VOID
    assert market.contract_record(contract).status is ContractStatus.EXPIRED


def test_an_amended_contract_still_stands(market: Market) -> None:
    product = market.opened()
    contract = market.subscription_contract(product, "ANN")
    subscription = market.subscribe(product, "ANN", 50, contract)
    market.contract(ContractKind.AMENDMENT, None, ("ISS", "ANN"), supersedes=contract)
    assert market.contract_record(contract).status is ContractStatus.AMENDED
    terms = market.product_terms(product)
    market.block(at=terms.close)
    again = market.contract(
        ContractKind.TERMINATION,
        None,
        ("ISS", "ANN"),
        AtTime(terms.start_of(terms.value_date) + 1),
        supersedes=contract_in_force(market, contract),
    )
    market.block(at=terms.start_of(terms.value_date) + 5)
    assert market.subscription(subscription).status is SubscriptionStatus.SETTLED
    assert market.contract_record(again).status is ContractStatus.EFFECTIVE


def contract_in_force(market: Market, contract: bytes) -> bytes:
    return binding.in_force(market.context(), contract)[0]


def test_a_contract_terminated_before_the_value_date_refunds(market: Market) -> None:
    product = market.opened()
    contract = market.subscription_contract(product, "ANN")
    subscription = market.subscribe(product, "ANN", 50, contract)
    other = market.subscribe(product, "BEN", 50)
    terms = market.product_terms(product)
    market.block(at=terms.close)
    market.contract(ContractKind.TERMINATION, None, ("ISS", "ANN"), supersedes=contract)
    market.block(at=terms.start_of(terms.value_date))
    assert market.subscription(subscription).reason == "E_CONTRACT_NOT_EFFECTIVE"
    assert market.subscription(other).status is SubscriptionStatus.SETTLED


def test_rescinding_the_contract_withdraws_the_subscription(market: Market) -> None:
    product = market.opened()
    contract = market.subscription_contract(product, "ANN", CoolingOff(DAY_MS, False))
    subscription = market.subscribe(product, "ANN", 50, contract)
    market.act("ANN", ContractRescind(contract), purpose=KeyPurpose.SIGN)
    assert market.subscription(subscription).status is SubscriptionStatus.WITHDRAWN
    assert market.figures("ANN") == (10_000_00, 0, 0)
    assert market.product(product).subscribed == 0
    # a new contract, a new subscription
    market.subscribe(product, "ANN", 50)


def test_who_may_not_hold_at_the_value_date_is_refunded_and_not_replaced(market: Market) -> None:
    product = market.opened()
    terms = market.product_terms(product)
    contracts = {name: market.subscription_contract(product, name) for name in ("ANN", "BEN", "CAT")}
    names = {name: market.subscribe(product, name, 50, contract) for name, contract in contracts.items()}
    market.block(at=terms.close)
    value = terms.start_of(terms.value_date)
    market.do("KYC", InvestorCertify(market.ids["ANN"], 5, Category.PROFESSIONAL, value, 1, EVIDENCE))
    market.do("REG", AccountFreeze(market.ids["BEN"], None, 0, EVIDENCE, None))
    market.block(at=value)
    assert market.status(product) is ProductStatus.ACTIVE
    settled = [market.subscription(names[name]) for name in ("ANN", "BEN", "CAT")]
    assert [(entry.status, entry.reason) for entry in settled] == [
        (SubscriptionStatus.REFUNDED, "E_NOT_QUALIFIED"),
        (SubscriptionStatus.REFUNDED, "E_FROZEN"),
        (SubscriptionStatus.SETTLED, ""),
    ]
    assert market.figures("ANN") == market.figures("BEN") == (10_000_00, 0, 0)
    assert market.figures("ISS") == (3_300_00, 0, 0)


def test_too_few_left_at_the_value_date_fail_the_product(market: Market) -> None:
    product = market.opened(min_raise=60)
    for name in ("ANN", "BEN"):
        market.subscribe(product, name, 50)
    market.block(at=market.product_terms(product).close)
    market.do("REG", AccountFreeze(market.ids["BEN"], None, 0, EVIDENCE, None))
    market.advance(market.product_terms(product).start_of(market.product_terms(product).value_date))
    assert market.status(product) is ProductStatus.FAILED
    assert market.figures("ANN") == market.figures("BEN") == (10_000_00, 0, 0)
    assert market.figures("ISS") == market.figures("FEE") == (0, 0, 0)


def test_the_cap_on_holders_is_tested_again_at_the_value_date(market: Market) -> None:
    product = market.opened(max_holders=2)
    terms = market.product_terms(product)
    first = market.subscribe(product, "ANN", 10)
    second = market.subscribe(product, "BEN", 10)
    contract = market.subscription_contract(product, "CAT")
    market.act("CAT", ProductSubscribe(product, 10, contract), code=Code.HOLDER_CAP)
    market.block(at=terms.close)
    until = market.now + 300 * DAY_MS
    market.do("KYC", InvestorCertify(market.ids["ANN"], 5, Category.PROFESSIONAL, until, 2, EVIDENCE))
    market.block(at=terms.start_of(terms.value_date))
    assert market.subscription(first).status is SubscriptionStatus.SETTLED
    assert market.subscription(second).reason == "E_HOLDER_CAP"
    # and a holder cannot be certified for more than fit
    certificate = InvestorCertify(market.ids["ANN"], 5, Category.PROFESSIONAL, until, 3, EVIDENCE)
    market.do("KYC", certificate, code=Code.HOLDER_CAP)


def test_lots_are_in_lock_up_from_the_value_date(market: Market) -> None:
    product = market.established({"DAN": 10}, lockup_days=30)
    terms = market.product_terms(product)
    held = market.units(product, "DAN")
    until = terms.start_of(terms.value_date + 30)
    assert held.free_at(until - 1) == 0 and held.free_at(until) == 10


def test_refusals_come_in_their_order(market: Market) -> None:
    product = market.opened(min_subscription=20, step=10, max_holders=1, cooling_off=CoolingOffRule(DAY_MS, True))
    account, until = market.ids["ANN"], market.now + 100 * DAY_MS
    foreign = market.contract(ContractKind.TRANSFER, product, ("ISS", "ANN"))
    draft = market.subscription_contract(product, "ANN", CoolingOff(DAY_MS - 1, True))
    uncalled = market.subscription_contract(product, "ANN", CoolingOff(DAY_MS, False))
    good = market.subscription_contract(product, "ANN", CoolingOff(DAY_MS, True))

    def expect(code: Code, quantity: int, contract: bytes, by: str = "ANN") -> None:
        before = market.figures("ANN")
        market.act(by, ProductSubscribe(product, quantity, contract), code=code)
        assert market.figures("ANN") == before

    def certify(risk: int, category: Category, people: int = 1, valid_until: int = until) -> None:
        market.do("KYC", InvestorCertify(account, risk, category, valid_until, people, EVIDENCE))

    market.act("ANN", ProductSubscribe(bytes(32), 0, good), code=Code.NOT_FOUND)
    expect(Code.NOT_FOUND, 0, bytes(32))
    expect(Code.NOT_PARTY, 0, good, by="ISS")
    expect(Code.AMOUNT, 0, foreign)
    certify(1, Category.RETAIL, people=2)
    expect(Code.NOT_QUALIFIED, 15, foreign)
    certify(2, Category.QUALIFIED, people=2)
    expect(Code.SUITABILITY, 15, foreign)
    certify(3, Category.QUALIFIED, people=2)
    expect(Code.MIN_QTY, 15, foreign)
    expect(Code.STEP, 25, foreign)
    market.act("ANN", ContractRescind(uncalled), purpose=KeyPurpose.SIGN)
    expect(Code.CONTRACT_NOT_EFFECTIVE, 200, uncalled)
    expect(Code.CONTRACT_TERMS, 200, foreign)
    expect(Code.CONTRACT_TERMS, 200, draft)
    expect(Code.HOLDER_CAP, 200, good)
    certify(3, Category.QUALIFIED)
    expect(Code.LACK_CASH, 200, good)
    certify(3, Category.QUALIFIED, valid_until=market.now + 3)
    market.subscribe(product, "ANN", 20, good)
    expect(Code.NOT_QUALIFIED, 20, good)
    certify(3, Category.PROFESSIONAL)
    expect(Code.DUPLICATE, 20, good)


def test_an_exact_lock_needs_cost_and_fee_to_the_minor_unit(market: Market) -> None:
    product = market.opened()
    cost = outlay(market.product_terms(product), 7)
    market.investor("EVE", cost - 1)
    contract = market.subscription_contract(product, "EVE")
    market.act("EVE", ProductSubscribe(product, 7, contract), code=Code.LACK_CASH)
    market.deposit("EVE", 1)
    market.subscribe(product, "EVE", 7, contract)
    assert market.figures("EVE") == (0, cost, 0)

"""A product before it is established: drafting, review, cancelling, suspending, and every state against every act."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from otcnode.errors import Code
from otcnode.types import INTEGER_MAX
from otcnode.vm.accounts.events import AccountFrozen
from otcnode.vm.accounts.operations import AccountFreeze, AccountUnfreeze
from otcnode.vm.accounts.records import ACCOUNTS, Category
from otcnode.vm.arithmetic import DayCount
from otcnode.vm.contracts.records import ContractKind
from otcnode.vm.governance.records import GOVERNORS
from otcnode.vm.keys import MARKER
from otcnode.vm.operations import Operation
from otcnode.vm.products import lifecycle
from otcnode.vm.products.operations import (
    DisclosurePost,
    ProductCancel,
    ProductCancelSubscription,
    ProductCreate,
    ProductResume,
    ProductReview,
    ProductSubmit,
    ProductSubscribe,
    ProductSuspend,
    RedeemDecide,
    RedeemRequest,
    Verdict,
)
from otcnode.vm.products.records import (
    DISCLOSURES,
    CoolingOffRule,
    ProductStatus,
    ProductType,
    RedemptionRule,
    RedemptionStatus,
    SubscriptionStatus,
)
from tests.vm.ledger import DAY_MS, EVIDENCE, START_MS
from tests.vm.products.market import FIRST_PAY, MATURITY, VALUE_DATE, Market

Status = ProductStatus


@pytest.fixture
def market() -> Market:
    return Market()


# drafting


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("quantity_decimals", {"quantity_decimals": 9}),
        ("utc_offset_minutes", {"utc_offset_minutes": -721}),
        ("utc_offset_minutes", {"utc_offset_minutes": 841}),
        ("face", {"face": 0}),
        ("issue_price", {"issue_price": 0}),
        ("issue_price", {"issue_price": 49}),  # 1 unit at 0.0049 costs nothing
        ("step", {"step": 0}),
        ("offered", {"offered": 0}),
        ("offered", {"step": 3}),
        ("min_raise", {"min_raise": 0}),
        ("min_raise", {"min_raise": 101}),
        ("min_subscription", {"min_subscription": 0}),
        ("min_subscription", {"min_subscription": 101}),
        ("min_allotment", {"min_allotment": 101}),
        ("max_holders", {"max_holders": 0}),
        ("risk", {"risk": 0}),
        ("risk", {"risk": 6}),
        ("categories", {"categories": ()}),
        ("categories", {"categories": (Category.RETAIL, Category.RETAIL)}),
        ("open", {"open": START_MS + 5 * DAY_MS}),
        ("close", {"close": START_MS + 5, "open": START_MS}),
        ("close", {"close": VALUE_DATE * DAY_MS - 480 * 60_000 + 1}),
        ("value_date", {"value_date": MATURITY}),
        ("maturity", {"maturity": 2_932_897, "pay_dates": (2_932_897,)}),
        ("rate_ppm", {"rate_ppm": 1_000_001}),
        ("rate_ppm", {"type": ProductType.EQUITY, "pay_dates": ()}),
        ("pay_dates", {"pay_dates": ()}),
        ("pay_dates", {"pay_dates": (FIRST_PAY,)}),
        ("pay_dates", {"pay_dates": (VALUE_DATE, MATURITY)}),
        ("pay_dates", {"pay_dates": (FIRST_PAY, FIRST_PAY, MATURITY)}),
        ("pay_dates", {"type": ProductType.DISCOUNT_NOTE, "rate_ppm": 0}),
        ("lockup_days", {"lockup_days": MATURITY - VALUE_DATE}),
        ("turnaround_days", {"turnaround_days": 36_601}),
        ("grace_days", {"grace_days": 36_601}),
        ("subscription_fee_ppm", {"subscription_fee_ppm": 1_000_001}),
        ("trade_fee_ppm", {"trade_fee_ppm": 1_000_001}),
        ("cooling_off", {"cooling_off": CoolingOffRule(367 * DAY_MS, False)}),
        ("redemption", {"redemption": RedemptionRule(True, 1_000_001, 0)}),
        ("redemption", {"redemption": RedemptionRule(True, 0, 36_601)}),
        ("documents", {"documents": (EVIDENCE, EVIDENCE)}),
    ],
)
def test_terms_out_of_bounds_are_named(market: Market, field: str, changes: dict[str, Any]) -> None:
    assert market.explained("ISS", ProductCreate("NOTE-1", market.terms(**changes), None), Code.FIELD) == field


@pytest.mark.parametrize(
    "changes",
    [
        {"utc_offset_minutes": -720},
        {"utc_offset_minutes": 840},
        {"issue_price": 50},
        {"close": VALUE_DATE * DAY_MS - 480 * 60_000},
        {"lockup_days": MATURITY - VALUE_DATE - 1},
        {"quantity_decimals": 8, "offered": 10**10, "step": 10**6},
        {"type": ProductType.EQUITY, "rate_ppm": 0, "pay_dates": (), "day_count": DayCount.ACT_360},
        {"pay_dates": (MATURITY,), "rate_ppm": 0},
    ],
)
def test_terms_at_their_bounds_are_taken(market: Market, changes: dict[str, Any]) -> None:
    assert market.status(market.draft(**changes)) is Status.DRAFT


def test_what_a_product_could_owe_stays_in_the_range_of_integers(market: Market) -> None:
    most = (INTEGER_MAX - 2 * 200) // 100_00
    too_much = market.terms(offered=most + 1, pay_dates=(MATURITY,), rate_ppm=0, issue_price=50)
    market.act("ISS", ProductCreate("NOTE-1", too_much, None), code=Code.OVERFLOW)
    market.draft(offered=most, pay_dates=(MATURITY,), rate_ppm=0, issue_price=50)


def test_everything_named_must_exist(market: Market) -> None:
    nobody = bytes(32)
    for changes in ({"cash": "EUR@NONE"}, {"fee_payee": nobody}, {"contract": nobody}):
        market.act("ISS", ProductCreate("NOTE-1", market.terms(**changes), None), code=Code.NOT_FOUND)
    market.act("ISS", ProductCreate("NOTE-1", market.terms(), nobody), code=Code.NOT_FOUND)
    missing: list[tuple[str, Operation]] = [
        ("ISS", ProductSubmit(nobody)),
        ("ISS", ProductCancel(nobody, "")),
        ("ISS", DisclosurePost(nobody, "", EVIDENCE)),
        ("LIST", ProductReview(nobody, Verdict.RETURN, "")),
        ("LIST", ProductSuspend(nobody, "")),
        ("LIST", ProductResume(nobody, "")),
        ("FEE", ProductCancelSubscription(nobody)),
    ]
    for by, operation in missing:
        market.act(by, operation, code=Code.NOT_FOUND)


def test_the_fee_payee_must_be_active(market: Market) -> None:
    pending = market.apply_for("NEW")
    market.act("ISS", ProductCreate("NOTE-1", market.terms(fee_payee=pending), None), code=Code.STATE)


def test_roles_are_needed(market: Market) -> None:
    product = market.draft()
    for operation in (
        ProductCreate("NOTE-2", market.terms(), None),
        ProductSubmit(product),
        ProductCancel(product, "why"),
        ProductReview(product, Verdict.APPROVE, ""),
        ProductSuspend(product, "why"),
        DisclosurePost(product, "title", EVIDENCE),
        RedeemDecide(product, True, ""),
    ):
        market.act("FEE", operation, code=Code.ROLE)
    market.act("REG", ProductReview(product, Verdict.APPROVE, ""), code=Code.ROLE)


def test_a_code_is_used_once_at_a_time(market: Market) -> None:
    product = market.draft("NOTE-1")
    market.act("ISS", ProductCreate("NOTE-1", market.terms(), None), code=Code.DUPLICATE)
    market.act("ISS", ProductCancel(product, "another plan"))
    market.draft("NOTE-1")


def test_a_returned_product_is_revised_and_submitted_again(market: Market) -> None:
    product = market.draft("NOTE-1")
    market.act("ISS", ProductSubmit(product))
    market.act("LIST", ProductReview(product, Verdict.RETURN, ""), code=Code.FIELD)
    market.act("LIST", ProductReview(product, Verdict.RETURN, "the rate is odd"))
    assert market.product(product).reason == "the rate is odd"
    market.act("ISS", ProductSubmit(product), code=Code.STATE)
    other = market.draft("NOTE-2")
    terms = market.terms(rate_ppm=40_000)
    market.act("ISS", ProductCreate("NOTE-2", terms, product), code=Code.DUPLICATE)
    market.act("ISS", ProductCreate("NOTE-3", terms, product))
    assert market.status(product) is Status.DRAFT
    assert market.product_terms(product).rate_ppm == 40_000
    market.draft("NOTE-1")
    market.act("ISS", ProductSubmit(product))
    market.act("ISS", ProductCreate("NOTE-3", terms, product), code=Code.STATE)
    market.act("ISS", ProductCancel(other, "one is enough"))


def test_a_frozen_issuer_drafts_and_submits_nothing_but_may_cancel(market: Market) -> None:
    product = market.draft()
    receipt = market.do("REG", AccountFreeze(market.ids["ISS"], None, 0, EVIDENCE, None))
    (freeze,) = [event.freeze for event in receipt.events if isinstance(event, AccountFrozen)]
    market.act("ISS", ProductCreate("NOTE-2", market.terms(), None), code=Code.FROZEN)
    market.act("ISS", ProductSubmit(product), code=Code.FROZEN)
    market.act("ISS", ProductCancel(product, "given up"))
    market.do("REG", AccountUnfreeze(freeze, EVIDENCE))


# review


def test_approval_needs_an_effective_issuance_contract_of_the_issuer(market: Market) -> None:
    foreign = market.contract(ContractKind.ISSUANCE, None, ("BANK", "LIST"))
    wrong_kind = market.contract(ContractKind.CUSTODY, None, ("ISS", "BANK"))
    for contract in (foreign, wrong_kind):
        product = market.draft(contract=contract)
        market.act("ISS", ProductSubmit(product))
        market.act("LIST", ProductReview(product, Verdict.APPROVE, ""), code=Code.CONTRACT_NOT_EFFECTIVE)
        market.act("ISS", ProductCancel(product, "wrong paper"))


def test_nothing_is_approved_after_its_close(market: Market) -> None:
    product = market.draft()
    market.act("ISS", ProductSubmit(product))
    close = market.product_terms(product).close
    market.act("LIST", ProductReview(product, Verdict.APPROVE, ""), code=Code.EXPIRED, at=close)
    market.act("LIST", ProductReview(product, Verdict.REJECT, "too late"))
    assert market.status(product) is Status.REJECTED


# cancelling


def test_an_open_product_is_cancelled_by_two_desks(market: Market) -> None:
    market.investor("ANN", 10_000_00)
    product = market.opened()
    subscription = market.subscribe(product, "ANN", 50)
    market.act("ISS", ProductCancel(product, "no"), code=Code.STATE)
    market.act("REG", ProductCancel(product, ""), code=Code.FIELD)
    market.act("REG", ProductCancel(product, "unlawful"))
    assert market.status(product) is Status.OPEN
    market.act("REG", ProductCancel(product, "unlawful"), code=Code.FOUR_EYES)
    market.act("LIST", ProductCancel(product, "agreed"))
    assert market.status(product) is Status.CANCELLED
    assert market.subscription(subscription).status is SubscriptionStatus.CANCELLED
    assert market.figures("ANN") == (10_000_00, 0, 0)
    market.advance(market.product_terms(product).start_of(MATURITY))
    assert market.status(product) is Status.CANCELLED


def test_a_consent_to_cancel_counts_only_while_its_account_is_the_desk(market: Market) -> None:
    product = market.opened()
    market.act("REG", ProductCancel(product, "unlawful"))
    state = market.state
    regulator = state.get(ACCOUNTS, market.ids["REG"])
    assert regulator is not None
    state.put(ACCOUNTS, market.ids["REG"], replace(regulator, roles=()))
    state.delete(GOVERNORS, market.ids["REG"])
    market.view.write(state.writes())
    market.act("LIST", ProductCancel(product, "agreed"))
    assert market.status(product) is Status.OPEN, "the other desk's is the first again"
    state = market.state
    state.put(ACCOUNTS, market.ids["REG"], regulator)
    state.put(GOVERNORS, market.ids["REG"], MARKER)
    market.view.write(state.writes())
    market.act("REG", ProductCancel(product, "unlawful"))
    assert market.status(product) is Status.CANCELLED


def test_before_it_opens_a_product_is_the_issuers_to_cancel(market: Market) -> None:
    product = market.approved()
    market.act("LIST", ProductCancel(product, "no"), code=Code.NOT_PARTY)
    market.act("ISS", ProductCancel(product, ""), code=Code.FIELD)
    market.act("ISS", ProductCancel(product, "no demand"))
    assert market.status(product) is Status.CANCELLED


# suspension and disclosure


def test_a_suspended_product_takes_no_subscription(market: Market) -> None:
    market.investor("ANN", 10_000_00)
    product = market.opened()
    contract = market.subscription_contract(product, "ANN")
    market.act("LIST", ProductSuspend(product, "rumours"))
    market.act("REG", ProductSuspend(product, "rumours"), code=Code.STATE)
    market.act("ANN", ProductSubscribe(product, 10, contract), code=Code.STATE)
    market.act("REG", ProductResume(product, "unfounded"))
    market.act("REG", ProductResume(product, "unfounded"), code=Code.STATE)
    subscription = market.subscribe(product, "ANN", 10, contract)
    market.act("LIST", ProductSuspend(product, "again"))
    market.act("ANN", ProductCancelSubscription(subscription))


def test_disclosures_are_numbered(market: Market) -> None:
    product = market.draft()
    market.act("ISS", DisclosurePost(product, "", EVIDENCE), code=Code.FIELD)
    for title in ("prospectus", "annual report"):
        market.act("ISS", DisclosurePost(product, title, EVIDENCE))
    assert [entry.title for _, entry in market.state.scan(DISCLOSURES, product)] == ["prospectus", "annual report"]


def test_parties_of_a_live_product_are_known(market: Market) -> None:
    product = market.draft()
    parties = [market.ids[name] for name in ("ISS", "FEE", "BANK")]
    assert all(lifecycle.is_party_of_live_product(market.context(), party) for party in parties)
    market.act("ISS", ProductCancel(product, "no"))
    assert not any(lifecycle.is_party_of_live_product(market.context(), party) for party in parties)


# every state against every operation


def _drafted(market: Market) -> bytes:
    return market.draft()


def _reviewed(market: Market) -> bytes:
    product = market.draft()
    market.act("ISS", ProductSubmit(product))
    return product


def _returned(market: Market) -> bytes:
    product = _reviewed(market)
    market.act("LIST", ProductReview(product, Verdict.RETURN, "why"))
    return product


def _rejected(market: Market) -> bytes:
    product = _reviewed(market)
    market.act("LIST", ProductReview(product, Verdict.REJECT, "why"))
    return product


def _approved(market: Market) -> bytes:
    return market.approved()


def _opened(market: Market) -> bytes:
    return market.opened()


def _allotted(market: Market) -> bytes:
    market.investor("ZOE", 100_000_00)
    product = market.opened()
    market.subscribe(product, "ZOE", 100)
    market.block(at=market.product_terms(product).close)
    return product


def _failed(market: Market) -> bytes:
    product = market.opened()
    market.block(at=market.product_terms(product).close)
    return product


def _cancelled(market: Market) -> bytes:
    product = market.draft()
    market.act("ISS", ProductCancel(product, "why"))
    return product


def _active(market: Market) -> bytes:
    product = _allotted(market)
    market.block(at=market.product_terms(product).start_of(VALUE_DATE))
    return product


def _overdue(market: Market, grace_days: int = 30) -> bytes:
    market.investor("ZOE", 100_000_00)
    product = market.opened(grace_days=grace_days, face=1_000_000_00)
    market.subscribe(product, "ZOE", 100)
    for date in (VALUE_DATE, FIRST_PAY):
        market.advance(market.product_terms(product).start_of(date))
    return product


def _matured(market: Market) -> bytes:
    product = _active(market)
    market.deposit("ISS", 10_000_00)
    market.advance(market.product_terms(product).start_of(MATURITY))
    return product


def _defaulted(market: Market) -> bytes:
    return _overdue(market, grace_days=0)


WALKS: dict[Status, Callable[[Market], bytes]] = {
    Status.DRAFT: _drafted,
    Status.REVIEW: _reviewed,
    Status.RETURNED: _returned,
    Status.REJECTED: _rejected,
    Status.APPROVED: _approved,
    Status.OPEN: _opened,
    Status.ALLOTTED: _allotted,
    Status.FAILED: _failed,
    Status.CANCELLED: _cancelled,
    Status.ACTIVE: _active,
    Status.PAYMENT_OVERDUE: _overdue,
    Status.MATURED: _matured,
    Status.DEFAULTED: _defaulted,
}
"""How to bring a product into each status that outlives a block; CLOSED does not."""

ACTS: dict[str, Callable[[Market, bytes], tuple[str, Operation]]] = {
    "create": lambda market, name: ("ISS", ProductCreate("NOTE-1", market.terms(), name)),
    "submit": lambda market, name: ("ISS", ProductSubmit(name)),
    "approve": lambda market, name: ("LIST", ProductReview(name, Verdict.APPROVE, "")),
    "return": lambda market, name: ("LIST", ProductReview(name, Verdict.RETURN, "why")),
    "reject": lambda market, name: ("LIST", ProductReview(name, Verdict.REJECT, "why")),
    "cancel": lambda market, name: ("ISS", ProductCancel(name, "why")),
    "cancel by desk": lambda market, name: ("REG", ProductCancel(name, "why")),
    "suspend": lambda market, name: ("LIST", ProductSuspend(name, "why")),
    "resume": lambda market, name: ("LIST", ProductResume(name, "why")),
    "disclose": lambda market, name: ("ISS", DisclosurePost(name, "title", EVIDENCE)),
    "subscribe": lambda market, name: ("FEE", ProductSubscribe(name, 10, market.issuance)),
    "redeem": lambda market, name: ("ZOE", RedeemRequest(name, 1, market.now + 5 * DAY_MS)),
}
LISTED: dict[str, dict[Status, Status | Code]] = {
    "create": {Status.DRAFT: Status.DRAFT, Status.RETURNED: Status.DRAFT},
    "submit": {Status.DRAFT: Status.REVIEW},
    "approve": {Status.REVIEW: Status.APPROVED},
    "return": {Status.REVIEW: Status.RETURNED},
    "reject": {Status.REVIEW: Status.REJECTED},
    "cancel": dict.fromkeys((Status.DRAFT, Status.REVIEW, Status.RETURNED, Status.APPROVED), Status.CANCELLED),
    "cancel by desk": {
        Status.OPEN: Status.OPEN,
        **dict.fromkeys((Status.DRAFT, Status.REVIEW, Status.RETURNED, Status.APPROVED), Code.NOT_PARTY),
    },
    "suspend": {
        status: status
        for status in (Status.APPROVED, Status.OPEN, Status.ALLOTTED, Status.ACTIVE, Status.PAYMENT_OVERDUE)
    },
    "resume": {},
    "disclose": {status: status for status in Status if status not in (Status.REJECTED, Status.CANCELLED)},
    # the issuance contract is none to subscribe under: an OPEN product gets that far
    "subscribe": {Status.OPEN: Code.CONTRACT_TERMS},
    "redeem": {Status.ACTIVE: Status.ACTIVE},
}
EXPIRED_AFTER_CLOSE = {"submit", "approve", "subscribe"}
"""Their deadline is the close, which these statuses are reached at or after."""
AFTER_CLOSE = {Status.ALLOTTED, Status.FAILED, Status.ACTIVE, Status.PAYMENT_OVERDUE, Status.MATURED, Status.DEFAULTED}


@pytest.mark.parametrize("status", WALKS)
@pytest.mark.parametrize("act", ACTS)
def test_every_operation_in_every_status_is_a_listed_transition_or_refused(
    market: Market, status: Status, act: str
) -> None:
    product = WALKS[status](market)
    assert market.status(product) is status
    if "ZOE" not in market.ids:
        market.investor("ZOE")
    before = market.product(product)
    by, operation = ACTS[act](market, product)
    expected = LISTED[act].get(status, Code.STATE)
    if status in AFTER_CLOSE and act in EXPIRED_AFTER_CLOSE:
        overdue = act == "subscribe" and status is Status.PAYMENT_OVERDUE
        expected = Code.STATE if overdue else Code.EXPIRED
    if isinstance(expected, Status):
        market.act(by, operation)
        assert market.status(product) is expected
    else:
        market.act(by, operation, code=expected)
        assert market.product(product) == before


def take_back(market: Market, name: bytes) -> None:
    market.act("ANN", ProductCancelSubscription(name))


def close(market: Market, name: bytes) -> None:
    market.advance(market.product_terms(market.subscription(name).product).close)


def settle(market: Market, name: bytes) -> None:
    close(market, name)
    market.advance(market.product_terms(market.subscription(name).product).start_of(VALUE_DATE))


def refund(market: Market, name: bytes) -> None:
    market.do("REG", AccountFreeze(market.ids["ANN"], None, 0, EVIDENCE, None))
    settle(market, name)


SUBSCRIPTION_WALKS: dict[SubscriptionStatus, Callable[[Market, bytes], None]] = {
    SubscriptionStatus.LOCKED: lambda market, name: None,
    SubscriptionStatus.CANCELLED: take_back,
    SubscriptionStatus.ALLOTTED: close,
    SubscriptionStatus.SETTLED: settle,
    SubscriptionStatus.REFUNDED: refund,
}


@pytest.mark.parametrize("status", SUBSCRIPTION_WALKS)
def test_only_a_locked_subscription_is_cancelled(market: Market, status: SubscriptionStatus) -> None:
    market.investor("ANN", 10_000_00)
    product = market.opened()
    subscription = market.subscribe(product, "ANN", 50)
    SUBSCRIPTION_WALKS[status](market, subscription)
    assert market.subscription(subscription).status is status
    market.act("FEE", ProductCancelSubscription(subscription), code=Code.NOT_PARTY)
    expected = {SubscriptionStatus.LOCKED: Code.OK, SubscriptionStatus.CANCELLED: Code.STATE}.get(status, Code.EXPIRED)
    market.act("ANN", ProductCancelSubscription(subscription), code=expected)


def test_only_a_requested_redemption_is_decided(market: Market) -> None:
    product = market.established({"ANN": 100}, redemption=RedemptionRule(True, 0, 0))
    until = market.now + 5 * DAY_MS
    names = {status: market.request(product, "ANN", 10, until) for status in RedemptionStatus}
    market.act("ISS", RedeemDecide(names[RedemptionStatus.PAID], True, ""))
    market.act("ISS", RedeemDecide(names[RedemptionStatus.REJECTED], False, "why"))
    for approve in (True, False):
        for status in (RedemptionStatus.PAID, RedemptionStatus.REJECTED):
            market.act("ISS", RedeemDecide(names[status], approve, "why"), code=Code.STATE)
    market.block(at=until)
    for approve in (True, False):
        market.act("ISS", RedeemDecide(names[RedemptionStatus.EXPIRED], approve, "why"), code=Code.EXPIRED)
        market.act("ISS", RedeemDecide(names[RedemptionStatus.PAID], approve, "why"), code=Code.STATE)

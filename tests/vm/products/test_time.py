"""However blocks are cut, delayed or paused, what the calendar promises comes to the same."""

from __future__ import annotations

import copy
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otcnode.codec import encode
from otcnode.errors import Code, Inadmissible
from otcnode.vm.accounts.operations import AccountFreeze
from otcnode.vm.context import PAUSE, Pause
from otcnode.vm.keys import SINGLE
from otcnode.vm.products.operations import ProductCancelSubscription, ProductSubscribe, RedeemRequest
from otcnode.vm.products.records import PRODUCTS_WAITING, ProductStatus, SubscriptionStatus
from otcnode.vm.results import AutomaticReceipt
from tests.vm.ledger import CASH, DAY_MS, EVIDENCE, DictionaryView
from tests.vm.products.market import FIRST_PAY, MATURITY, Market
from tests.vm.products.test_allotment import by_the_book


def branch(market: Market) -> Market:
    """The same ledger once more, to go on differently."""
    twin = copy.copy(market)
    twin.view = DictionaryView(dict(market.view.values))
    twin.fold = copy.deepcopy(market.fold)
    twin.ids = dict(market.ids)
    return twin


@cache
def prepared() -> tuple[Market, bytes]:
    """Three coupon days and a maturity ahead, an issuer without cash, three days of grace."""
    market = Market()
    second = FIRST_PAY + 2
    product = market.established(
        {"ANN": 34, "BEN": 33, "CAT": 33}, pay_dates=(FIRST_PAY, second, MATURITY), grace_days=3, issue_price=1_0000
    )
    return market, product


@settings(max_examples=40, deadline=None)
@given(
    deposits=st.lists(st.tuples(st.integers(-2, 6), st.integers(0, 3), st.integers(1, 130_00)), max_size=5),
    cuts=st.lists(st.tuples(st.integers(-2, 9), st.integers(-1, 4)), max_size=8),
)
def test_other_blocks_change_nothing(deposits: list[tuple[int, int, int]], cuts: list[tuple[int, int]]) -> None:
    start, product = prepared()
    base = start.product_terms(product).start_of(FIRST_PAY)
    plan: dict[int, int] = {}
    for day, offset, amount in deposits:
        plan[base + day * DAY_MS + 10 * offset] = amount
    outcomes = []
    for extra in ([], cuts):
        market = branch(start)
        instants = {*plan, *(base + day * DAY_MS + 10 * offset for day, offset in extra)}
        # a pair of blocks at the end of everything, so that both ways have run everything due by then
        for at in sorted({*instants, base + 20 * DAY_MS, base + 20 * DAY_MS + 10}):
            if at in plan:
                market.now = at - 1
                market.deposit("ISS", plan[at], reference=f"{at}")
            else:
                market.block(at=at)
        record = market.product(product)
        outcomes.append(
            (
                record.status,
                record.unpaid,
                record.next_payment,
                [market.figures(name) for name in ("ISS", "ANN", "BEN", "CAT")],
            )
        )
    assert outcomes[0] == outcomes[1]


def test_cash_that_a_due_item_sets_free_is_used_at_its_own_time() -> None:
    origin, product = prepared()
    market = branch(origin)
    first = market.product_terms(product).start_of(FIRST_PAY)
    available = market.figures("ISS")[0]
    market.deposit("ISS", 124_66)
    freeze = AccountFreeze(market.ids["ISS"], CASH.encode(), available + 124_66, EVIDENCE, first + DAY_MS)
    market.act("FRZ", freeze, at=first - DAY_MS)

    def receipts(*blocks: int) -> list[AutomaticReceipt]:
        twin = branch(market)
        found: list[AutomaticReceipt] = []
        for at in (*blocks, first + 2 * DAY_MS + 5):
            found += twin.block(at=at).automatic
        return found

    # overdue, unfrozen, paid, and the next coupon: in this order, in one block or in four
    at_once = receipts()
    assert [receipt.kind for receipt in at_once] == ["product.pay", "freeze.end", "cash.risen", "product.pay"]
    assert at_once == receipts(first, first + DAY_MS, first + DAY_MS + 1)


@settings(max_examples=25, deadline=None)
@given(
    orders=st.lists(st.tuples(st.sampled_from("ABCDE"), st.integers(1, 80), st.booleans()), min_size=1, max_size=7),
    least=st.integers(0, 30),
    together=st.booleans(),
)
def test_an_allotment_follows_from_the_order_of_acceptance_alone(
    orders: list[tuple[str, int, bool]], least: int, together: bool
) -> None:
    start = _investors()
    market = branch(start)
    product = market.opened(min_allotment=least)
    contracts = {name: market.subscription_contract(product, name) for name in "ABCDE"}
    live: dict[str, tuple[bytes, int]] = {}
    for name, quantity, leaves in orders:
        if name in live:
            market.act(name, ProductCancelSubscription(live.pop(name)[0]))
        live[name] = (market.subscribe(product, name, quantity, contracts[name]), quantity)
        if leaves:
            market.act(name, ProductCancelSubscription(live.pop(name)[0]))
        if not together:
            market.block(at=market.now + DAY_MS // 10)
    market.block(at=market.product_terms(product).close)
    if not live:
        assert market.status(product) is ProductStatus.FAILED
        return
    accepted = sorted(live.values(), key=lambda entry: market.subscription(entry[0]).sequence)
    expected = by_the_book([quantity for _, quantity in accepted], 100, 1, least)
    if not sum(expected):
        assert market.status(product) is ProductStatus.FAILED
        return
    assert [market.subscription(name).allotted for name, _ in accepted] == expected
    assert market.product(product).allotted == sum(expected)
    market.block(at=market.product_terms(product).start_of(market.product_terms(product).value_date))
    assert market.figures("ISS")[0] == 100_00 * sum(expected)


@cache
def _investors() -> Market:
    market = Market()
    for name in "ABCDE":
        market.investor(name, 10_000_00)
    return market


def test_a_backlog_of_openings_keeps_nobody_from_subscribing() -> None:
    market = Market(due_class1_weight_max=1)
    market.investor("ANN", 10_000_00)
    first = market.approved("NOTE-1")
    second = market.approved("NOTE-2")
    contract = market.subscription_contract(second, "ANN")
    opens = market.product_terms(second).open
    market.now = opens - 2
    market.act("ANN", ProductSubscribe(second, 10, contract), code=Code.STATE, at=opens - 1)
    market.act("ANN", ProductSubscribe(second, 10, contract), at=opens)
    assert market.status(first) is market.status(second) is ProductStatus.OPEN
    assert market.last is not None and len(market.last.automatic) == 1
    assert market.block().automatic == ()


def test_who_would_trade_ahead_of_a_delayed_coupon_waits_for_it() -> None:
    market = Market(due_weight_max=1)
    product = market.established({"ANN": 40})
    other = market.established(
        {"BEN": 40},
        code="NOTE-2",
        open=market.now,
        close=market.now + DAY_MS,
        value_date=FIRST_PAY - 5,
        pay_dates=(FIRST_PAY, MATURITY),
        maturity=MATURITY,
    )
    pay = market.product_terms(product).start_of(FIRST_PAY)
    # one coupon fits into the block; the other waits, and so does everything else
    until = pay + 9 * DAY_MS
    for name, held in (("BEN", other), ("ANN", product)):
        request = market.sign(name, RedeemRequest(held, 1, until), valid_until=pay + 1)
        with pytest.raises(Inadmissible) as refused:
            market.begin(pay).apply(request)
        assert refused.value.code is Code.STATE
    assert market.catch_up(pay) == 1
    market.act("BEN", RedeemRequest(other, 1, until), at=pay)
    market.act("ANN", RedeemRequest(product, 1, until))


def set_paused(market: Market, paused: bool) -> None:
    market.view.write({PAUSE.prefix + SINGLE: encode(Pause(paused))})


def test_issuance_waits_while_the_market_is_paused_and_comes_to_the_same_afterwards() -> None:
    market = Market()
    market.investor("ANN", 10_000_00)
    product = market.opened()
    terms = market.product_terms(product)
    contract = market.subscription_contract(product, "ANN")
    subscription = market.subscribe(product, "ANN", 50, contract)
    set_paused(market, True)
    value = terms.start_of(terms.value_date)
    market.block(at=terms.close)
    market.block(at=value + 400 * DAY_MS)
    assert market.status(product) is ProductStatus.OPEN
    assert market.figures("ANN")[1] == 5_005_00
    set_paused(market, False)
    context = market.context()
    context.transaction_id = bytes(32)
    for resumed in context.hooks.market_resumed:
        resumed(context)
    market.view.write(context.state.writes())
    # her certificate has ended long since; at the value date it had not
    market.block()
    assert market.subscription(subscription).status is SubscriptionStatus.SETTLED
    assert market.units(product, "ANN").balance == 50
    assert market.state.scan(PRODUCTS_WAITING) == []


def test_coupons_run_while_the_market_is_paused() -> None:
    market = Market()
    product = market.established({"ANN": 34})
    set_paused(market, True)
    market.block(at=market.product_terms(product).start_of(FIRST_PAY))
    assert market.figures("ANN") == (42_38, 0, 0)

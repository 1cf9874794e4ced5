"""Random but plausible lives of two products. Every block checks all invariants and that events rebuild balances."""

from __future__ import annotations

from functools import cache
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from otcnode.vm.accounts.operations import AccountFreeze, AccountUnfreeze, CashWithdraw, InvestorCertify
from otcnode.vm.accounts.records import FREEZES, Category
from otcnode.vm.due import next_due
from otcnode.vm.operations import Operation
from otcnode.vm.products.operations import (
    ProductCancelSubscription,
    ProductResume,
    ProductSubscribe,
    ProductSuspend,
    RedeemDecide,
    RedeemRequest,
)
from otcnode.vm.products.records import (
    PRODUCTS,
    REDEMPTIONS,
    SUBSCRIPTIONS,
    TERMINAL,
    ProductStatus,
    RedemptionRule,
)
from tests.vm.ledger import CASH, DAY_MS, EVIDENCE
from tests.vm.products.market import FIRST_PAY, MATURITY, VALUE_DATE, Market
from tests.vm.products.test_time import branch

NAMES = ("ANN", "BEN", "CAT")


@cache
def start() -> tuple[Market, tuple[bytes, bytes], dict[tuple[bytes, str], bytes]]:
    """Two products of one issuer: one that everybody holds, with two coupons close together, and one that has just
    opened; contracts for everybody."""
    market = Market(due_weight_max=6)
    common: dict[str, Any] = {"max_holders": 4, "redemption": RedemptionRule(True, 5_000, 1), "min_allotment": 3}
    days = (FIRST_PAY, FIRST_PAY + 1, MATURITY)
    first = market.established({"ANN": 40, "BEN": 30, "CAT": 20}, pay_dates=days, grace_days=2, **common)
    for name in NAMES:
        market.deposit(name, 8_000_00)
    close = market.now + 10 * DAY_MS
    later = {"open": market.now, "close": close, "value_date": VALUE_DATE + 20}
    second = market.opened("NOTE-2", grace_days=95, lockup_days=20, min_raise=5, **later, **common)
    contracts = {
        (product, name): market.subscription_contract(product, name) for product in (first, second) for name in NAMES
    }
    return market, (first, second), contracts


class Walk:
    """Draws acts; those that the rules refuse are part of the walk."""

    def __init__(self, data: st.DataObject) -> None:
        origin, self.products, self.contracts = start()
        self.market = branch(origin)
        self.data = data

    def pick(self, *choices: bytes) -> bytes:
        return self.data.draw(st.sampled_from(choices)) if choices else bytes(32)

    def draw_act(self) -> tuple[str, Operation]:
        market, state = self.market, self.market.state
        name = self.data.draw(st.sampled_from(NAMES))
        product = self.pick(*self.products)
        subscriptions = [key for key, _ in state.scan(SUBSCRIPTIONS)]
        redemptions = [key for key, _ in state.scan(REDEMPTIONS)]
        freezes = [key for key, _ in state.scan(FREEZES)]
        amount = self.data.draw(st.integers(1, 60))
        asset = self.data.draw(st.sampled_from([CASH.encode(), product, None]))
        frozen = 0 if asset is None else amount
        whom = market.ids[self.data.draw(st.sampled_from([*NAMES, "ISS"]))]
        people = self.data.draw(st.integers(1, 3))
        until = market.now + self.data.draw(st.integers(1, 60)) * DAY_MS
        acts: list[tuple[str, Operation]] = [
            (name, ProductSubscribe(product, amount, self.contracts[product, name])),
            (name, ProductCancelSubscription(self.pick(*subscriptions))),
            (name, RedeemRequest(product, amount, until)),
            ("ISS", RedeemDecide(self.pick(*redemptions), amount % 3 > 0, "so decided")),
            ("REG", AccountFreeze(whom, asset, frozen, EVIDENCE, until if amount % 2 else None)),
            ("REG", AccountUnfreeze(self.pick(*freezes), EVIDENCE)),
            ("KYC", InvestorCertify(market.ids[name], 1 + amount % 5, Category.QUALIFIED, until, people, EVIDENCE)),
            ("ISS", CashWithdraw(CASH, amount * 50_00, EVIDENCE)),
            ("LIST", ProductSuspend(product, "inquiry")),
            ("LIST", ProductResume(product, "cleared")),
        ]
        return self.data.draw(st.sampled_from(acts))

    def draw_time(self) -> int:
        """Mostly a moment later; else a day, or around the next thing that is due."""
        due = next_due(self.market.view)
        ahead = [self.market.now + 1] * 6 + [self.market.now + DAY_MS]
        if due is not None:
            ahead += [due - 1, due, due + 1, due + DAY_MS]
        return max(self.market.now + 1, self.data.draw(st.sampled_from(ahead)))

    def step(self) -> None:
        at = self.draw_time()
        if self.data.draw(st.integers(0, 9)) == 0:
            self.market.now = at - 1
            self.market.deposit("ISS", self.data.draw(st.sampled_from([1, 300_00, 5_000_00])))
            return
        by, operation = self.draw_act()
        self.market.block(self.market.sign(by, operation, valid_until=at + 1), at=at)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_random_lives_keep_every_invariant_and_all_products_end(data: st.DataObject) -> None:
    walk = Walk(data)
    for _ in range(data.draw(st.integers(5, 40))):
        walk.step()
    market = walk.market
    market.deposit("ISS", 50_000_00)
    for name in NAMES:
        assert sum(market.figures(name)) >= 0
    end = market.product_terms(walk.products[0]).start_of(MATURITY + 200)
    while (due := next_due(market.view)) is not None and due <= end:
        market.block(at=max(due, market.now + 1))
    for product in walk.products:
        assert market.status(product) in TERMINAL
    assert {record.live for _, record in market.state.scan(PRODUCTS)} == {0}
    matured = [name for name in walk.products if market.status(name) is ProductStatus.MATURED]
    assert all(market.units(product, name).balance == 0 for product in matured for name in NAMES)

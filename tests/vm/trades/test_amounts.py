"""Exact figures where fees, decimals and parties are unusual."""

from __future__ import annotations

import pytest

from otcnode.errors import Code
from otcnode.vm.accounts.operations import AccountFreeze
from otcnode.vm.arithmetic import DayCount
from otcnode.vm.contracts.records import ContractKind
from otcnode.vm.products.records import ProductType
from otcnode.vm.trades.operations import TradeAffirm
from otcnode.vm.trades.records import Side, TradeStatus
from tests.vm.ledger import CASH, DAY_MS
from tests.vm.products.market import VALUE_DATE
from tests.vm.trades.floor import ORDER, Floor


def test_the_fee_payee_trades_like_anybody_and_pays_its_fee_to_itself() -> None:
    floor = Floor()
    floor.deposit("FEE", 10_000_00)
    master = floor.contract(ContractKind.MASTER, None, ("SAM", "FEE", "BEN"))
    start = floor.figures("FEE")[0]
    for settle_at in (None, floor.now + DAY_MS):
        before = floor.figures("FEE")[0], floor.figures("SAM")[0]
        name = floor.propose(counterparty=floor.ids["FEE"], contract=master, settle_at=settle_at)
        floor.act("FEE", TradeAffirm(name))
        if settle_at is not None:
            floor.block(at=settle_at)
        trade = floor.trade(name)
        assert trade.status is TradeStatus.SETTLED
        assert floor.figures("FEE") == (before[0] - trade.clean - trade.accrued + trade.fee, 0, 0)
        assert floor.figures("SAM")[0] == before[1] + trade.clean + trade.accrued - trade.fee
    assert start - floor.figures("FEE")[0] == floor.figures("SAM")[0]
    name = floor.propose("FEE", counterparty=floor.ids["BEN"], contract=master, settle_at=None, quantity=20)
    before_sale = floor.figures("FEE")[0]
    floor.act("BEN", TradeAffirm(name))
    trade = floor.trade(name)
    assert floor.figures("FEE")[0] == before_sale + trade.clean + trade.accrued + trade.fee


def test_a_fee_of_the_whole_price_leaves_the_seller_nothing() -> None:
    floor = Floor(trade_fee_ppm=1_000_000, type=ProductType.EQUITY, rate_ppm=0, pay_dates=())
    name = floor.propose(settle_at=None)
    floor.act("BEN", TradeAffirm(name))
    assert floor.figures("SAM") == (0, 0, 0)
    assert floor.figures("BEN") == (1_000_000_00 - 2 * 1_012_35, 0, 0)
    later = floor.locked()
    floor.block(at=floor.trade(later).settle_at)
    assert floor.figures("SAM") == (0, 0, 0)
    assert floor.nothing_is_open("SAM", "BEN")


@pytest.mark.parametrize(
    ("day_count", "days", "accrued"),
    [
        # 12.34 units of 100.00 at 5 %: ACT/365F over 30 days 5.0712, ACT/360 5.1417
        (DayCount.ACT_365F, 30, 5_07),
        (DayCount.ACT_360, 30, 5_14),
    ],
)
def test_parts_of_units_accrue_by_the_day_count(day_count: DayCount, days: int, accrued: int) -> None:
    floor = Floor(
        holdings={"SAM": 6_000, "OWN": 4_000},
        quantity_decimals=2,
        offered=10_000,
        issue_price=1_0000,
        day_count=day_count,
    )
    before = floor.figures("SAM")[0]
    settle_at = floor.product_terms(floor.note).start_of(VALUE_DATE + days)
    name = floor.locked(quantity=1_234, price=99_9999, settle_at=settle_at)
    trade = floor.trade(name)
    # 12.34 × 99.9999 = 1,233.998766 → 1,234.00; 2,000 ppm → 2.468 → 2.47
    assert (trade.clean, trade.accrued, trade.fee) == (1_234_00, accrued, 2_47)
    floor.block(at=settle_at)
    assert floor.figures("SAM")[0] - before == 1_234_00 + accrued - 2_47


def test_the_settlement_date_is_the_local_one_to_the_millisecond() -> None:
    floor = Floor()
    midnight = floor.product_terms(floor.note).start_of(VALUE_DATE + 3)
    before, after = floor.locked(settle_at=midnight - 1), floor.locked(settle_at=midnight)
    # 5 % on 1,000.00 for 2 and 3 days: 0.2740, 0.4110
    assert (floor.trade(before).accrued, floor.trade(after).accrued) == (27, 41)


def test_frozen_amounts_are_out_of_reach_of_new_trades_only() -> None:
    floor = Floor()
    locked = floor.locked(quantity=50)
    floor.act("REG", AccountFreeze(floor.ids["SAM"], floor.note, 10, ORDER, None))
    floor.act("BEN", TradeAffirm(floor.propose(quantity=1, settle_at=None)), code=Code.LACK_QTY)
    available = floor.figures("BEN")[0]
    floor.act("REG", AccountFreeze(floor.ids["BEN"], CASH.encode(), available, ORDER, None))
    floor.act("OWN", floor.proposal(counterparty=floor.ids["BEN"], quantity=1, settle_at=None))
    offer = floor.list_offer("OWN", quantity=10)
    floor.take(offer, 5, code=Code.LACK_CASH)
    floor.act("BEN", floor.offering(side=Side.BUY, cash_cap=1), code=Code.LACK_CASH)
    floor.block(at=floor.trade(locked).settle_at)
    assert floor.trade(locked).status is TradeStatus.SETTLED
    assert floor.figures("BEN") == (0, 0, available)
    assert floor.units(floor.note, "SAM").frozen == floor.holds("SAM")[0] == 10

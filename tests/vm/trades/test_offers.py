from __future__ import annotations

from typing import Any

import pytest

from otcnode.errors import Code
from otcnode.vm.accounts.operations import AccountFreeze
from otcnode.vm.contracts.records import ContractKind
from otcnode.vm.keys import OPEN_OFFER, OPEN_TRADE
from otcnode.vm.products.operations import ProductSuspend
from otcnode.vm.products.records import ProductType
from otcnode.vm.trades.events import OfferFilled
from otcnode.vm.trades.operations import OfferCancel, OfferTake
from otcnode.vm.trades.records import TRADING_BY_PRODUCT, OfferStatus, Side, TradeStatus
from tests.vm.ledger import DAY_MS
from tests.vm.trades.floor import HOUR_MS, ORDER, Floor, created

EQUITY: dict[str, Any] = {"type": ProductType.EQUITY, "rate_ppm": 0, "pay_dates": ()}


@pytest.fixture
def floor() -> Floor:
    return Floor()


def buying(floor: Floor, cap: int, **changes: Any) -> bytes:
    """BEN buys 50 units at 101.2345 for at most `cap`."""
    return floor.list_offer("BEN", side=Side.BUY, cash_cap=cap, **changes)


@pytest.mark.parametrize(("fills", "paid"), [((333, 333, 333), 100_233_18), ((999,), 100_233_17)])
def test_every_fill_is_rounded_for_itself(fills: tuple[int, ...], paid: int) -> None:
    floor = Floor(holdings={"SAM": 1_000}, offered=1_000, trade_fee_ppm=0, **EQUITY)
    offer = floor.list_offer(quantity=999, price=100_3335, min_fill=333)
    for quantity in fills:
        floor.take(offer, quantity)
    assert floor.figures("SAM") == (paid, 0, 0)
    assert floor.figures("BEN") == (1_000_000_00 - paid, 0, 0)
    assert floor.offer(offer).status is OfferStatus.FILLED
    assert (floor.holds("SAM"), floor.holds("BEN")) == ((1, 0), (999, 0))


def test_a_sell_offer_locks_units_and_delivers_out_of_its_lock(floor: Floor) -> None:
    offer = floor.list_offer()
    assert floor.holds("SAM") == (60, 50)
    receipt = floor.take(offer, 10)
    assert [(e.quantity, e.remaining) for e in receipt.events if isinstance(e, OfferFilled)] == [(10, 40)]
    trade = floor.trade(created(receipt))
    assert (trade.status, trade.source, trade.settle_at, trade.clean, trade.accrued, trade.fee) == (
        TradeStatus.SETTLED,
        offer,
        None,
        1_012_35,
        0,
        2_02,
    )
    assert (floor.holds("SAM"), floor.holds("BEN")) == ((50, 40), (10, 0))
    assert floor.figures("SAM") == (1_010_33, 0, 0)
    floor.act("SAM", OfferCancel(offer))
    assert floor.holds("SAM") == (50, 0)
    assert floor.nothing_is_open("SAM", "BEN")
    floor.take(offer, 10, code=Code.STATE)


def test_a_buy_offer_pays_out_of_its_cap_and_gives_back_the_rest(floor: Floor) -> None:
    offer = buying(floor, 6_000_00)
    assert floor.figures("BEN") == (994_000_00, 6_000_00, 0)
    floor.take(offer, 10, by="SAM")
    # 1,012.35 + 2.02
    assert floor.figures("BEN") == (994_000_00, 6_000_00 - 1_014_37, 0)
    floor.take(offer, 40, by="SAM")
    # 40 × 101.2345 = 4,049.38, fee 8.10
    assert floor.figures("BEN") == (1_000_000_00 - 1_014_37 - 4_057_48, 0, 0)
    assert floor.offer(offer).status is OfferStatus.FILLED
    assert floor.nothing_is_open("SAM", "BEN")


def test_a_cap_is_never_topped_up(floor: Floor) -> None:
    offer = buying(floor, 1_014_36)
    floor.take(offer, 10, by="SAM", code=Code.LACK_CASH)
    exact = buying(floor, 1_014_37)
    floor.take(exact, 10, by="SAM")
    assert floor.offer(exact).remaining == 40
    floor.take(exact, 40, by="SAM", code=Code.LACK_CASH)
    floor.act("BEN", OfferCancel(exact))
    floor.act("BEN", OfferCancel(offer))
    assert floor.nothing_is_open("SAM", "BEN")


def test_min_fill_does_not_bind_the_last_take(floor: Floor) -> None:
    offer = floor.list_offer(min_fill=20)
    floor.take(offer, 19, code=Code.MIN_QTY)
    floor.take(offer, 51, code=Code.AMOUNT)
    floor.take(offer, 0, code=Code.AMOUNT)
    floor.take(offer, 20)
    floor.take(offer, 29)
    floor.take(offer, 2, code=Code.AMOUNT)
    floor.take(offer, 1)
    assert floor.offer(offer).status is OfferStatus.FILLED


def test_all_or_none_is_taken_whole(floor: Floor) -> None:
    offer = floor.list_offer(all_or_none=True, min_fill=50)
    floor.take(offer, 49, code=Code.MIN_QTY)
    floor.take(offer, 50)
    assert floor.explained("SAM", floor.offering(all_or_none=True, quantity=10), Code.FIELD).startswith("min_fill")


def test_a_least_take_is_worth_a_hundred_unless_it_is_the_whole() -> None:
    floor = Floor(trade_fee_ppm=0, **EQUITY)
    one: dict[str, Any] = {"min_fill": 1, "quantity": 2}
    assert floor.explained("SAM", floor.offering(price=99_9949, **one), Code.FIELD).startswith("min_fill")
    floor.list_offer(price=99_9950, **one)
    floor.list_offer(price=1_0000, min_fill=1, quantity=1)


def test_time_conditions_to_the_millisecond(floor: Floor) -> None:
    start = floor.now + HOUR_MS
    offer = floor.list_offer(not_before=start, until=start + HOUR_MS)
    floor.take(offer, 5, at=start - 1, code=Code.STATE)
    floor.take(offer, 5, at=start)
    floor.take(offer, 5, at=start + HOUR_MS - 1)
    floor.take(offer, 5, at=start + HOUR_MS, code=Code.EXPIRED)
    assert (floor.offer(offer).status, floor.offer(offer).ended_at) == (OfferStatus.EXPIRED, start + HOUR_MS)
    assert floor.holds("SAM") == (50, 0)
    floor.act("SAM", OfferCancel(offer), code=Code.EXPIRED)
    assert floor.nothing_is_open("SAM", "BEN")


def test_what_is_locked_up_until_not_before_can_be_offered_for_then() -> None:
    floor = Floor(lockup_days=5)
    free = floor.product_terms(floor.note).start_of(floor.product_terms(floor.note).value_date + 5)
    floor.act("SAM", floor.offering(until=free + HOUR_MS), code=Code.LOCKUP)
    floor.act("SAM", floor.offering(not_before=free - 1, until=free + HOUR_MS), code=Code.LOCKUP)
    offer = floor.list_offer(not_before=free, until=free + HOUR_MS)
    floor.take(offer, 50, at=free)


def test_a_whitelist_and_the_contract_say_who_may_take(floor: Floor) -> None:
    floor.investor("EVE", 10_000_00)
    offer = floor.list_offer(whitelist=floor.named("OWN"))
    floor.take(offer, 5, code=Code.NOT_PARTY)
    floor.take(offer, 5, by="SAM", code=Code.NOT_PARTY)
    public = floor.list_offer(quantity=10)
    floor.take(public, 5, by="EVE", code=Code.CONTRACT_NOT_EFFECTIVE)
    floor.take(public, 5, by="SAM", code=Code.NOT_PARTY)
    floor.deposit("OWN", 1_000_00)
    floor.take(offer, 5, by="OWN")
    floor.take(bytes(32), 5, code=Code.NOT_FOUND)


def test_a_transfer_contract_covers_one_take(floor: Floor) -> None:
    contract = floor.contract(ContractKind.TRANSFER, floor.note, ("SAM", "BEN"))
    offer = floor.list_offer(contract=contract)
    floor.take(offer, 5)
    floor.take(offer, 5, code=Code.CONTRACT_NOT_EFFECTIVE)


def test_own_checks_of_a_take(floor: Floor) -> None:
    floor.deposit("OWN", 1_00)
    floor.take(floor.list_offer(quantity=10), 5, by="OWN", code=Code.LACK_CASH)
    wanted = buying(floor, 20_000_00, quantity=100)
    floor.take(wanted, 51, by="SAM", code=Code.LACK_QTY)
    floor.take(wanted, 50, by="SAM")


def test_a_frozen_party_neither_lists_nor_takes_nor_is_taken(floor: Floor) -> None:
    offer = floor.list_offer()
    # The FREEZER desk's freeze leaves offers standing; a regulator's ends them.
    floor.act("FRZ", AccountFreeze(floor.ids["SAM"], None, 0, ORDER, floor.now + HOUR_MS))
    floor.take(offer, 5, code=Code.FROZEN)
    floor.act("SAM", floor.offering(quantity=5), code=Code.FROZEN)
    floor.act("SAM", OfferCancel(offer))
    assert floor.holds("SAM") == (60, 0)


def test_a_regulator_s_freeze_cancels_offers_and_releases_them(floor: Floor) -> None:
    before = floor.everything("SAM", "BEN")
    offers = [floor.list_offer(quantity=10), buying(floor, 1_000_00)]
    floor.freeze("SAM")
    floor.freeze("BEN")
    assert [floor.offer(name).status for name in offers] == [OfferStatus.CANCELLED] * 2
    assert floor.everything("SAM", "BEN") == before
    assert floor.nothing_is_open("SAM", "BEN")
    floor.take(offers[0], 5, code=Code.STATE)


def test_nobody_trades_a_suspended_product(floor: Floor) -> None:
    offer = floor.list_offer()
    floor.act("LIST", ProductSuspend(floor.note, "rumours"))
    floor.take(offer, 5, code=Code.STATE)
    floor.act("BEN", floor.offering(), code=Code.STATE)
    floor.act("SAM", OfferCancel(offer))


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"product": bytes(32)}, Code.NOT_FOUND, "product"),
        ({"contract": bytes(32)}, Code.NOT_FOUND, "contract"),
        ({"whitelist": (bytes(32),)}, Code.NOT_FOUND, "account"),
        ({"min_fill": 0}, Code.FIELD, "min_fill"),
        ({"min_fill": 51}, Code.FIELD, "min_fill"),
        ({"until": 0}, Code.FIELD, "not_before"),
        ({"until": 1}, Code.FIELD, "until"),
        ({"cash_cap": 1}, Code.FIELD, "cash_cap"),
        ({"side": Side.BUY}, Code.FIELD, "cash_cap"),
        ({"quantity": 0}, Code.AMOUNT, "the consideration rounds to 0"),
        ({"price": 0}, Code.AMOUNT, "the consideration rounds to 0"),
        ({"quantity": 61}, Code.LACK_QTY, "60 available, 61 needed"),
        ({"side": Side.BUY, "cash_cap": 1}, Code.LACK_CASH, "0 available, 1 needed"),
    ],
)
def test_fields_of_an_offer(floor: Floor, changes: dict[str, Any], code: Code, field: str) -> None:
    assert floor.explained("SAM", floor.offering(**changes), code) == field


def test_times_and_whitelist_of_an_offer(floor: Floor) -> None:
    horizon = 366 * DAY_MS
    for field, changes in (
        ("until", {"until": floor.now + 1 + horizon + 1}),
        ("not_before", {"not_before": floor.now + 9, "until": floor.now + 9}),
        ("whitelist", {"whitelist": floor.named("SAM", "BEN")}),
        ("whitelist", {"whitelist": floor.named("OWN", "BEN")[::-1]}),
        ("whitelist", {"whitelist": floor.named("OWN", "OWN")}),
    ):
        assert (
            floor.explained("SAM", floor.offering(**{"until": floor.now + DAY_MS, **changes}), Code.FIELD) == field
        ), changes
        floor.now -= 1
    floor.act("SAM", floor.offering(until=floor.now + 1 + horizon))


def test_several_takes_in_one_transaction_are_all_or_none(floor: Floor) -> None:
    offer = floor.list_offer()
    before = floor.everything("SAM", "BEN")
    floor.act("BEN", OfferTake(offer, 25), OfferTake(offer, 26), code=Code.AMOUNT)
    assert floor.everything("SAM", "BEN") == before
    floor.act("BEN", OfferTake(offer, 25), OfferTake(offer, 25))
    assert floor.offer(offer).status is OfferStatus.FILLED
    assert len(floor.state.scan(TRADING_BY_PRODUCT, floor.note + OPEN_TRADE)) == 2
    assert len(floor.state.scan(TRADING_BY_PRODUCT, floor.note + OPEN_OFFER)) == 1


def test_maturity_takes_offers_down(floor: Floor) -> None:
    maturity = floor.product_terms(floor.note).maturity_ms
    floor.deposit("ISS", 20_000_00)
    floor.advance(maturity - HOUR_MS)
    offer = floor.list_offer(until=maturity + HOUR_MS)
    floor.advance(maturity)
    assert floor.offer(offer).status is OfferStatus.EXPIRED
    assert floor.nothing_is_open("SAM", "BEN")
    floor.take(offer, 5, code=Code.STATE)

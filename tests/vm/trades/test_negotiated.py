from __future__ import annotations

from typing import Any

import pytest

from otcnode.codec import encode
from otcnode.errors import Code
from otcnode.genesis import KeyPurpose
from otcnode.vm.accounts.events import CashMoved, LotMoved, RecoveryChanged
from otcnode.vm.accounts.operations import (
    AccountRecover,
    AccountRecoverApprove,
    AccountUnfreeze,
    CashWithdraw,
    InvestorCertify,
    NewKey,
)
from otcnode.vm.accounts.records import ACCOUNTS, FREEZES, LOCKS, LOTS, AccountStatus, Category, Lot, Thresholds
from otcnode.vm.arithmetic import half_up
from otcnode.vm.context import PAUSE, Pause
from otcnode.vm.contracts.records import ContractKind, ContractStatus
from otcnode.vm.keys import OPEN_TRADE, integer
from otcnode.vm.products.operations import ProductResume, ProductSuspend
from otcnode.vm.products.records import ProductType
from otcnode.vm.trades.events import TradeChanged
from otcnode.vm.trades.operations import TradeAffirm, TradeCancel, TradeReject, TradeWithdraw
from otcnode.vm.trades.records import TRADES, TRADING_BY_ACCOUNT, TRADING_BY_PRODUCT, Side, TradeStatus
from tests.vm.ledger import CASH, DAY_MS, EVIDENCE, key_of
from tests.vm.products.market import FIRST_PAY, VALUE_DATE
from tests.vm.trades.floor import HOUR_MS, ORDER, PRICE, Floor


@pytest.fixture
def floor() -> Floor:
    return Floor()


def test_a_locked_trade_settles_to_the_minor_unit_at_settle_at(floor: Floor) -> None:
    name = floor.locked()
    trade = floor.trade(name)
    # 10 × 101.2345 = 1,012.345 → 1,012.35; a day of 5 % on 1,000.00 = 0.1370 → 0.14; fee 2.0247 → 2.02
    assert (trade.clean, trade.accrued, trade.fee) == (1_012_35, 14, 2_02)
    assert floor.figures("BEN") == (1_000_000_00 - 1_014_51, 1_014_51, 0)
    assert floor.holds("SAM") == (60, 10)
    assert trade.settle_at is not None
    floor.block(at=trade.settle_at - 1)
    assert floor.trade(name).status is TradeStatus.LOCKED
    result = floor.block(at=trade.settle_at)
    assert [(receipt.kind, receipt.code) for receipt in result.automatic] == [("trade.settle", Code.OK)]
    assert floor.figures("BEN") == (1_000_000_00 - 1_014_51, 0, 0)
    assert floor.figures("SAM") == (1_012_35 + 14 - 2_02, 0, 0)
    assert floor.figures("FEE")[0] == 10_00 + 4_04
    assert (floor.holds("SAM"), floor.holds("BEN")) == ((50, 0), (10, 0))
    after = floor.trade(name)
    assert (after.status, after.failure, after.ended_at) == (TradeStatus.SETTLED, None, trade.settle_at)
    assert floor.nothing_is_open("SAM", "BEN")
    moved = [event for event in result.events if isinstance(event, CashMoved)]
    assert sum(event.balance for event in moved) == 0
    lots = [event for event in result.events if isinstance(event, LotMoved)]
    assert sorted(lot.change for lot in lots) == [-10, 10]


def test_what_is_bought_is_a_lot_of_the_settlement_time_without_lock_up(floor: Floor) -> None:
    name = floor.locked()
    settle_at = floor.trade(name).settle_at
    assert settle_at is not None
    floor.block(at=settle_at + 5_000)
    lots = floor.state.scan(LOTS, floor.ids["BEN"] + floor.note)
    assert lots == [(floor.ids["BEN"] + floor.note + integer(settle_at) + integer(0), Lot(10, 0))]


def test_at_t_plus_0_the_affirming_transaction_settles(floor: Floor) -> None:
    name = floor.propose(settle_at=None)
    receipt = floor.act("BEN", TradeAffirm(name))
    assert [event.status for event in receipt.events if isinstance(event, TradeChanged)] == [TradeStatus.SETTLED]
    trade = floor.trade(name)
    assert (trade.status, trade.settle_at, trade.executed_at, trade.ended_at) == (
        TradeStatus.SETTLED,
        None,
        floor.now,
        floor.now,
    )
    # on the value date nothing has accrued
    assert (trade.clean, trade.accrued, trade.fee) == (1_012_35, 0, 2_02)
    assert floor.figures("SAM") == (1_010_33, 0, 0)
    assert floor.figures("BEN") == (1_000_000_00 - 1_014_37, 0, 0)
    assert floor.nothing_is_open("SAM", "BEN")


def test_a_check_that_fails_at_t_plus_0_fails_the_operation_and_leaves_the_proposal(floor: Floor) -> None:
    name = floor.propose(settle_at=None, quantity=61)
    before = floor.everything("SAM", "BEN", "FEE")
    floor.act("BEN", TradeAffirm(name), code=Code.LACK_QTY)
    assert floor.trade(name).status is TradeStatus.PROPOSED
    assert floor.everything("SAM", "BEN", "FEE") == before


def test_a_frozen_seller_fails_the_settlement_and_everything_is_as_before(floor: Floor) -> None:
    before = floor.everything("SAM", "BEN", "FEE")
    name = floor.locked()
    floor.freeze("SAM")
    settle_at = floor.trade(name).settle_at
    assert settle_at is not None
    result = floor.block(at=settle_at)
    assert not [event for event in result.events if isinstance(event, CashMoved) and event.balance]
    trade = floor.trade(name)
    assert (trade.status, trade.failure) == (TradeStatus.FAILED, Code.FROZEN)
    assert floor.everything("SAM", "BEN", "FEE") == before
    assert floor.nothing_is_open("SAM", "BEN")


def test_a_frozen_buyer_fails_it_too_and_one_unfrozen_in_time_does_not(floor: Floor) -> None:
    first = floor.locked()
    floor.freeze("BEN")
    ((freeze, _),) = floor.state.scan(FREEZES)
    settle_at = floor.trade(first).settle_at
    assert settle_at is not None
    floor.block(at=settle_at)
    assert floor.trade(first).failure is Code.FROZEN
    floor.act("REG", AccountUnfreeze(freeze, ORDER))
    second = floor.locked()
    floor.freeze("SAM")
    ((freeze, _),) = floor.state.scan(FREEZES)
    settle_at = floor.trade(second).settle_at
    assert settle_at is not None
    floor.act("REG", AccountUnfreeze(freeze, ORDER), at=settle_at - 1)
    floor.block(at=settle_at)
    assert floor.trade(second).status is TradeStatus.SETTLED


def test_a_suspended_product_fails_what_falls_due_and_a_resumed_one_settles(floor: Floor) -> None:
    first, second = floor.locked(), floor.locked(settle_at=floor.now + 2 * DAY_MS)
    floor.act("LIST", ProductSuspend(floor.note, "rumours"))
    floor.act("SAM", floor.proposal(), code=Code.STATE)
    floor.block(at=floor.trade(first).settle_at)
    assert (floor.trade(first).status, floor.trade(first).failure) == (TradeStatus.FAILED, Code.STATE)
    floor.act("LIST", ProductResume(floor.note, "answered"))
    floor.block(at=floor.trade(second).settle_at)
    assert floor.trade(second).status is TradeStatus.SETTLED


def test_a_certificate_counts_at_settlement_to_the_millisecond(floor: Floor) -> None:
    name = floor.locked()
    settle_at = floor.trade(name).settle_at
    assert settle_at is not None
    certificate = InvestorCertify(floor.ids["BEN"], 5, Category.PROFESSIONAL, settle_at, 1, EVIDENCE)
    floor.act("KYC", certificate)
    floor.block(at=settle_at)
    assert floor.trade(name).failure is Code.NOT_QUALIFIED
    floor.act("KYC", InvestorCertify(floor.ids["BEN"], 5, Category.PROFESSIONAL, floor.now + DAY_MS, 1, EVIDENCE))
    name = floor.locked()
    settle_at = floor.trade(name).settle_at
    assert settle_at is not None
    floor.act("KYC", InvestorCertify(floor.ids["BEN"], 5, Category.PROFESSIONAL, settle_at + 1, 1, EVIDENCE))
    floor.block(at=settle_at)
    assert floor.trade(name).status is TradeStatus.SETTLED


def test_a_lapsed_certificate_or_a_low_one_refuses_the_affirmation(floor: Floor) -> None:
    name = floor.propose()
    floor.act("KYC", InvestorCertify(floor.ids["BEN"], 5, Category.RETAIL, floor.now + DAY_MS, 1, EVIDENCE))
    floor.act("BEN", TradeAffirm(name), code=Code.NOT_QUALIFIED)
    floor.act("KYC", InvestorCertify(floor.ids["BEN"], 2, Category.QUALIFIED, floor.now + DAY_MS, 1, EVIDENCE))
    floor.act("BEN", TradeAffirm(name), code=Code.SUITABILITY)
    floor.act("KYC", InvestorCertify(floor.ids["BEN"], 3, Category.QUALIFIED, floor.now + DAY_MS, 1, EVIDENCE))
    floor.act("BEN", TradeAffirm(name))


def test_affirm_by_is_exclusive_and_expires_by_itself(floor: Floor) -> None:
    first, second = floor.propose(), floor.propose()
    affirm_by = floor.trade(first).affirm_by
    assert affirm_by is not None
    floor.act("BEN", TradeAffirm(first), at=affirm_by - 1)
    floor.act("BEN", TradeAffirm(second), at=floor.trade(second).affirm_by, code=Code.EXPIRED)
    trade = floor.trade(second)
    assert (trade.status, trade.ended_at) == (TradeStatus.EXPIRED, trade.affirm_by)
    floor.act("SAM", TradeWithdraw(second), code=Code.EXPIRED)
    floor.act("BEN", TradeReject(second), code=Code.EXPIRED)


def test_what_ended_before_its_deadline_is_in_a_wrong_state_ever_after(floor: Floor) -> None:
    rejected, withdrawn = floor.propose(), floor.propose()
    floor.act("BEN", TradeReject(rejected))
    floor.act("SAM", TradeWithdraw(withdrawn))
    for _ in range(2):
        for name in (rejected, withdrawn):
            floor.act("BEN", TradeAffirm(name), code=Code.STATE)
            floor.act("BEN", TradeReject(name), code=Code.STATE)
            floor.act("SAM", TradeWithdraw(name), code=Code.STATE)
            floor.act("SAM", TradeCancel(name), code=Code.STATE)
        floor.block(at=floor.now + 2 * HOUR_MS)
    assert floor.nothing_is_open("SAM", "BEN")


def test_each_act_is_its_own_party_s(floor: Floor) -> None:
    floor.investor("EVE")
    name = floor.propose()
    floor.act("SAM", TradeAffirm(name), code=Code.NOT_PARTY)
    floor.act("SAM", TradeReject(name), code=Code.NOT_PARTY)
    floor.act("BEN", TradeWithdraw(name), code=Code.NOT_PARTY)
    for operation in (TradeAffirm(name), TradeReject(name), TradeWithdraw(name), TradeCancel(name)):
        floor.act("EVE", operation, code=Code.NOT_PARTY)
    for kind in (TradeAffirm, TradeReject, TradeWithdraw, TradeCancel):
        floor.act("SAM", kind(bytes(32)), code=Code.NOT_FOUND)


def test_both_must_ask_to_cancel_and_then_both_legs_are_back(floor: Floor) -> None:
    before = floor.everything("SAM", "BEN", "FEE")
    name = floor.locked()
    floor.act("BEN", TradeCancel(name))
    assert floor.trade(name).status is TradeStatus.LOCKED
    floor.act("BEN", TradeCancel(name), code=Code.DUPLICATE)
    floor.freeze("SAM")
    floor.act("SAM", TradeCancel(name))
    trade = floor.trade(name)
    assert (trade.status, trade.ended_at) == (TradeStatus.CANCELLED, floor.now)
    assert floor.everything("SAM", "BEN", "FEE") == before
    assert floor.nothing_is_open("SAM", "BEN")
    assert trade.settle_at is not None
    assert floor.block(at=trade.settle_at).automatic == ()
    floor.act("SAM", TradeCancel(name), code=Code.STATE)


def test_cancelling_ends_at_settle_at(floor: Floor) -> None:
    name = floor.locked()
    settle_at = floor.trade(name).settle_at
    assert settle_at is not None
    floor.act("BEN", TradeCancel(name), at=settle_at - 1)
    floor.act("SAM", TradeCancel(name), at=settle_at, code=Code.EXPIRED)
    assert floor.trade(name).status is TradeStatus.SETTLED


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"product": bytes(32)}, Code.NOT_FOUND),
        ({"counterparty": bytes(32)}, Code.NOT_FOUND),
        ({"contract": bytes(32)}, Code.NOT_FOUND),
        ({"quantity": 0}, Code.AMOUNT),
        ({"price": 0}, Code.AMOUNT),
        ({"quantity": 2**62, "price": 2**62}, Code.OVERFLOW),
    ],
)
def test_fields_of_a_proposal(floor: Floor, changes: dict[str, Any], code: Code) -> None:
    floor.act("SAM", floor.proposal(**changes), code=code)


@pytest.mark.parametrize(
    ("field", "affirm_by", "settle_at"),
    [
        ("settle_at", 1, 0),
        ("affirm_by", 0, 5),
        ("affirm_by", 6, 5),
        ("affirm_by", DAY_MS + 1, None),
        ("", 1, 1),
        ("", 5, 5),
        ("", DAY_MS, None),
    ],
)
def test_times_of_a_proposal_in_ms_after_it(floor: Floor, field: str, affirm_by: int, settle_at: int | None) -> None:
    now = floor.now + 1
    proposal = floor.proposal(affirm_by=now + affirm_by, settle_at=None if settle_at is None else now + settle_at)
    result = floor.block(floor.sign("SAM", proposal), at=now)
    assert result.explanations[0] == field
    assert result.receipts[0].code is (Code.FIELD if field else Code.OK)


def test_a_trade_settles_before_maturity_and_with_another(floor: Floor) -> None:
    maturity = floor.product_terms(floor.note).maturity_ms
    assert floor.explained("SAM", floor.proposal(settle_at=maturity), Code.FIELD) == "settle_at"
    floor.act("SAM", floor.proposal(settle_at=maturity - 1))
    own = floor.proposal(counterparty=floor.ids["SAM"])
    assert floor.explained("SAM", own, Code.FIELD) == "counterparty"


def test_settlement_may_not_be_beyond_the_horizon() -> None:
    floor = Floor(maturity=VALUE_DATE + 500, pay_dates=(VALUE_DATE + 500,))
    horizon = 366 * DAY_MS
    proposal = floor.proposal(settle_at=floor.now + 1 + horizon + 1)
    assert floor.explained("SAM", proposal, Code.FIELD) == "settle_at"
    floor.act("SAM", floor.proposal(settle_at=floor.now + 1 + horizon))


def test_frozen_accounts_neither_propose_nor_affirm_nor_are_proposed_to(floor: Floor) -> None:
    name = floor.propose()
    floor.freeze("SAM")
    floor.act("SAM", floor.proposal(), code=Code.FROZEN)
    floor.act("BEN", floor.proposal(counterparty=floor.ids["SAM"], side=Side.BUY), code=Code.FROZEN)
    floor.act("BEN", TradeAffirm(name), code=Code.FROZEN)
    floor.act("SAM", TradeWithdraw(name))


def test_the_contract_must_bind_both_and_be_about_this(floor: Floor) -> None:
    floor.investor("EVE", 10_000_00)
    with_eve = floor.contract(ContractKind.MASTER, None, ("SAM", "EVE"))
    floor.act("SAM", floor.proposal(contract=with_eve), code=Code.CONTRACT_NOT_EFFECTIVE)
    floor.act("SAM", floor.proposal(contract=floor.issuance), code=Code.CONTRACT_NOT_EFFECTIVE)


def test_a_transfer_contract_is_fulfilled_by_its_settlement_and_serves_once(floor: Floor) -> None:
    contract = floor.contract(ContractKind.TRANSFER, floor.note, ("SAM", "BEN"))
    first = floor.propose(contract=contract)
    second = floor.propose(contract=contract)
    floor.act("BEN", TradeAffirm(first))
    floor.act("BEN", TradeAffirm(second))
    floor.block(at=floor.trade(second).settle_at)
    assert floor.contract_record(contract).status is ContractStatus.FULFILLED
    assert floor.trade(first).status is TradeStatus.SETTLED
    assert floor.trade(second).failure is Code.CONTRACT_NOT_EFFECTIVE
    floor.act("SAM", floor.proposal(contract=contract), code=Code.CONTRACT_NOT_EFFECTIVE)


def test_the_own_checks_come_in_their_order() -> None:
    """A trade that breaks every rule fails with the first; each repair uncovers the next."""
    floor = Floor(lockup_days=30, turnaround_days=3, max_holders=2)
    floor.investor("EVE")
    master = floor.contract(ContractKind.MASTER, None, ("OWN", "EVE"))
    floor.act("KYC", InvestorCertify(floor.ids["EVE"], 2, Category.RETAIL, floor.now + DAY_MS, 2, EVIDENCE))
    floor.now += 1
    name = floor.propose("OWN", counterparty=floor.ids["EVE"], contract=master, quantity=41, settle_at=None)

    def affirm(code: Code) -> None:
        floor.act("EVE", TradeAffirm(name), code=code)

    affirm(Code.NOT_QUALIFIED)
    floor.act("KYC", InvestorCertify(floor.ids["EVE"], 2, Category.QUALIFIED, floor.now + DAY_MS, 2, EVIDENCE))
    affirm(Code.SUITABILITY)
    floor.act("KYC", InvestorCertify(floor.ids["EVE"], 3, Category.QUALIFIED, floor.now + DAY_MS, 2, EVIDENCE))
    affirm(Code.HOLDER_CAP)
    floor.act("KYC", InvestorCertify(floor.ids["EVE"], 3, Category.QUALIFIED, floor.now + DAY_MS, 1, EVIDENCE))
    affirm(Code.LACK_QTY)
    name = floor.propose("OWN", counterparty=floor.ids["EVE"], contract=master, quantity=40, settle_at=None)
    affirm(Code.LOCKUP)
    start = floor.product_terms(floor.note).start_of(VALUE_DATE + 30)
    name = floor.propose(
        "OWN", counterparty=floor.ids["EVE"], contract=master, quantity=40, affirm_by=start, settle_at=start
    )
    affirm(Code.LACK_CASH)
    floor.deposit("EVE", 5_000_00)
    affirm(Code.OK)


def test_lock_up_is_judged_at_the_settlement_instant() -> None:
    floor = Floor(lockup_days=30)
    ends = floor.product_terms(floor.note).start_of(VALUE_DATE + 30)
    early, late = floor.propose(settle_at=ends - 1), floor.propose(settle_at=ends)
    floor.act("BEN", TradeAffirm(early), code=Code.LOCKUP)
    floor.act("BEN", TradeAffirm(late))
    floor.block(at=ends)
    assert floor.trade(late).status is TradeStatus.SETTLED


def test_after_a_buy_no_sale_before_the_turnaround_and_the_other_way_round() -> None:
    floor = Floor(turnaround_days=2)
    terms = floor.product_terms(floor.note)

    def deal(seller: str, buyer: str, at: int, code: Code = Code.OK) -> None:
        counterparty = floor.ids[buyer]
        proposal = floor.proposal(counterparty=counterparty, settle_at=None, affirm_by=at + 1, quantity=1)
        receipt = floor.act(seller, proposal, at=at - 1)
        name = receipt.events[-1].trade  # type: ignore[union-attr]
        floor.act(buyer, TradeAffirm(name), at=at, code=code)

    bought_at = floor.now + 10
    deal("SAM", "BEN", bought_at)
    free = terms.start_of(terms.date_of(bought_at) + 2)
    deal("BEN", "SAM", free - 2, Code.TURNAROUND)
    deal("SAM", "BEN", free - 1 - 100)
    later = terms.start_of(terms.date_of(free - 101) + 2)
    deal("BEN", "SAM", later - 1, Code.TURNAROUND)
    deal("BEN", "SAM", later + 1)
    # SAM sold until then, and was not allowed to buy; subscribed units never count
    deal("SAM", "BEN", later + 5, Code.TURNAROUND)


def test_the_turnaround_is_judged_again_at_settlement() -> None:
    floor = Floor(turnaround_days=1)
    name = floor.locked(settle_at=floor.now + 3 * HOUR_MS)
    master = floor.contract(ContractKind.MASTER, None, ("SAM", "OWN"))
    floor.deposit("SAM", 1_000_00)
    buy = floor.propose("OWN", counterparty=floor.ids["SAM"], contract=master, settle_at=None, quantity=1)
    floor.act("SAM", TradeAffirm(buy))
    floor.block(at=floor.trade(name).settle_at)
    assert (floor.trade(name).status, floor.trade(name).failure) == (TradeStatus.FAILED, Code.TURNAROUND)
    assert floor.holds("SAM") == (61, 0)


def test_the_last_seat_is_taken_at_settlement_by_the_first_and_the_second_fails() -> None:
    floor = Floor(max_holders=3)
    floor.investor("EVE", 10_000_00)
    master = floor.contract(ContractKind.MASTER, None, ("SAM", "EVE"))
    settle_at = floor.now + DAY_MS
    first = floor.locked(settle_at=settle_at)
    second = floor.propose(counterparty=floor.ids["EVE"], contract=master, settle_at=settle_at)
    floor.act("EVE", TradeAffirm(second))
    floor.block(at=settle_at)
    assert floor.trade(first).status is TradeStatus.SETTLED
    assert floor.trade(second).failure is Code.HOLDER_CAP
    assert floor.figures("EVE") == (10_000_00, 0, 0)


def test_a_seller_of_everything_leaves_its_seat_to_the_buyer() -> None:
    floor = Floor(max_holders=2)
    part, whole = floor.propose(quantity=59, settle_at=None), floor.propose(quantity=60, settle_at=None)
    floor.act("BEN", TradeAffirm(part), code=Code.HOLDER_CAP)
    floor.act("BEN", TradeAffirm(whole))
    assert floor.holds("SAM") == (0, 0)


def test_on_a_pay_date_nothing_is_accrued_and_the_coupon_goes_to_the_seller(floor: Floor) -> None:
    settle_at = floor.product_terms(floor.note).start_of(FIRST_PAY)
    floor.deposit("ISS", 10_000_00)
    name = floor.locked(settle_at=settle_at, quantity=60)
    assert floor.trade(name).accrued == 0
    floor.block(at=settle_at)
    assert floor.trade(name).status is TradeStatus.SETTLED
    coupon = half_up(60 * 100_00 * 50_000 * 91, 365 * 10**6)
    trade = floor.trade(name)
    assert floor.figures("SAM")[0] == coupon + trade.clean - trade.fee


def test_a_settlement_just_before_a_coupon_of_the_same_block_settles(floor: Floor) -> None:
    """Cut into blocks differently, the same happens: the coupon is not due yet when the settlement is."""
    pay = floor.product_terms(floor.note).start_of(FIRST_PAY)
    floor.deposit("ISS", 10_000_00)
    name = floor.locked(settle_at=pay - 1, quantity=60)
    floor.block(at=pay + 1_000)
    assert floor.trade(name).status is TradeStatus.SETTLED
    coupon = half_up(60 * 100_00 * 50_000 * 91, 365 * 10**6)
    assert floor.figures("BEN")[0] == 1_000_000_00 - floor.trade(name).cost + coupon


def test_while_payment_is_overdue_settlements_fail_and_nobody_trades(floor: Floor) -> None:
    pay = floor.product_terms(floor.note).start_of(FIRST_PAY)
    issuer_cash = floor.figures("ISS")[0]
    assert issuer_cash > 0
    floor.act("ISS", CashWithdraw(CASH, issuer_cash, ORDER))
    name = floor.locked(settle_at=pay, affirm_by=pay)
    floor.block(at=pay)
    assert (floor.trade(name).status, floor.trade(name).failure) == (TradeStatus.FAILED, Code.STATE)
    floor.act("SAM", floor.proposal(), code=Code.STATE)


def test_maturity_ends_what_still_waits(floor: Floor) -> None:
    maturity = floor.product_terms(floor.note).maturity_ms
    floor.deposit("ISS", 20_000_00)
    floor.block(at=maturity - HOUR_MS)
    name = floor.propose(settle_at=None, affirm_by=maturity + HOUR_MS)
    floor.advance(maturity)
    assert floor.trade(name).status is TradeStatus.EXPIRED
    assert floor.nothing_is_open("SAM", "BEN")


@pytest.mark.parametrize(
    ("quantity", "price", "clean", "fee"),
    [(1, 100_0050, 100_01, 10), (1, 4_9900, 4_99, 0), (1, 5_0000, 5_00, 1), (333, 100_3335, 33_411_06, 33_41)],
)
def test_pins(quantity: int, price: int, clean: int, fee: int) -> None:
    floor = Floor(
        holdings={"SAM": 1_000},
        offered=1_000,
        trade_fee_ppm=1_000,
        type=ProductType.EQUITY,
        rate_ppm=0,
        pay_dates=(),
    )
    name = floor.propose(quantity=quantity, price=price, settle_at=None)
    floor.act("BEN", TradeAffirm(name))
    trade = floor.trade(name)
    assert (trade.clean, trade.accrued, trade.fee) == (clean, 0, fee)
    assert floor.figures("SAM")[0] == clean - fee


def test_trades_are_found_by_account_and_product_in_the_order_of_time(floor: Floor) -> None:
    names = [floor.propose(price=PRICE + number) for number in range(3)]
    for table, prefix in (
        (TRADING_BY_ACCOUNT, floor.ids["SAM"]),
        (TRADING_BY_ACCOUNT, floor.ids["BEN"]),
        (TRADING_BY_PRODUCT, floor.note),
    ):
        rows = floor.state.scan(table, prefix + OPEN_TRADE)
        assert [suffix[-32:] for suffix, _ in rows] == names
    assert floor.state.scan(LOCKS, floor.ids["BEN"]) == []
    assert [floor.state.get(TRADES, name) is not None for name in names] == [True] * 3


def test_open_trades_are_bounded_for_both_parties() -> None:
    floor = Floor()
    proposals = [floor.propose() for _ in range(2)]
    floor.limit(open_items_per_account_max=2)
    floor.act("SAM", floor.proposal(), code=Code.LIMIT)
    floor.act("BEN", TradeAffirm(proposals[0]))
    floor.act("BEN", TradeAffirm(proposals[1]))
    floor.act("BEN", floor.proposal(counterparty=floor.ids["SAM"], side=Side.BUY), code=Code.LIMIT)


def test_a_paused_market_fails_what_falls_due_and_takes_no_operation(floor: Floor) -> None:
    before = floor.everything("SAM", "BEN")
    name = floor.locked()
    floor.view.write({PAUSE.prefix: encode(Pause(True))})
    floor.act("SAM", floor.proposal(), code=Code.PAUSED)
    floor.block(at=floor.trade(name).settle_at)
    assert (floor.trade(name).status, floor.trade(name).failure) == (TradeStatus.FAILED, Code.PAUSED)
    assert floor.everything("SAM", "BEN") == before


def test_the_first_reason_is_the_one_a_failed_settlement_names(floor: Floor) -> None:
    """Pause, then the product's state, then a frozen party, then the trade's own checks."""
    settle_at = floor.now + DAY_MS
    floor.act("KYC", InvestorCertify(floor.ids["BEN"], 5, Category.PROFESSIONAL, settle_at, 1, EVIDENCE))
    names = [floor.locked(settle_at=settle_at + number, quantity=1) for number in range(4)]
    floor.freeze("SAM")
    ((freeze, _),) = floor.state.scan(FREEZES)
    floor.act("LIST", ProductSuspend(floor.note, "rumours"))
    floor.view.write({PAUSE.prefix: encode(Pause(True))})
    floor.block(at=settle_at)
    floor.view.write({PAUSE.prefix: encode(Pause(False))})
    floor.block(at=settle_at + 1)
    floor.act("LIST", ProductResume(floor.note, "answered"), at=settle_at + 1)
    floor.block(at=settle_at + 2)
    floor.act("REG", AccountUnfreeze(freeze, ORDER), at=settle_at + 2)
    floor.block(at=settle_at + 3)
    assert [floor.trade(name).failure for name in names] == [
        Code.PAUSED,
        Code.STATE,
        Code.FROZEN,
        Code.NOT_QUALIFIED,
    ]


def test_an_account_in_recovery_settles_what_it_agreed_to_but_agrees_to_nothing_new(floor: Floor) -> None:
    name = floor.locked()
    proposed = floor.propose("BEN", counterparty=floor.ids["SAM"], side=Side.BUY)
    keys = tuple(NewKey(purpose, key_of("BEN again", purpose).public) for purpose in KeyPurpose)
    recover = AccountRecover(floor.ids["BEN"], keys, Thresholds(1, 1, 1), bytes(32), ORDER)
    receipt = floor.act("RCV", recover)
    (recovery,) = [event.recovery for event in receipt.events if isinstance(event, RecoveryChanged)]
    floor.act("REG", AccountRecoverApprove(recovery))
    account = floor.state.get(ACCOUNTS, floor.ids["BEN"])
    assert account is not None
    assert account.status is AccountStatus.RECOVERING
    floor.act("SAM", TradeAffirm(proposed), code=Code.STATE)
    floor.act("SAM", floor.proposal(), code=Code.STATE)
    floor.block(at=floor.trade(name).settle_at)
    assert floor.trade(name).status is TradeStatus.SETTLED


def test_an_amended_agreement_still_binds_what_was_agreed_under_it(floor: Floor) -> None:
    name = floor.locked()
    floor.contract(ContractKind.AMENDMENT, None, ("SAM", "BEN", "OWN"), supersedes=floor.master)
    assert floor.contract_record(floor.master).status is ContractStatus.AMENDED
    floor.block(at=floor.trade(name).settle_at)
    assert floor.trade(name).status is TradeStatus.SETTLED


def test_a_terminated_agreement_fails_the_settlement(floor: Floor) -> None:
    before = floor.everything("SAM", "BEN")
    name = floor.locked()
    floor.contract(ContractKind.TERMINATION, None, ("SAM", "BEN", "OWN"), supersedes=floor.master)
    floor.block(at=floor.trade(name).settle_at)
    assert (floor.trade(name).status, floor.trade(name).failure) == (TradeStatus.FAILED, Code.CONTRACT_NOT_EFFECTIVE)
    assert floor.everything("SAM", "BEN") == before

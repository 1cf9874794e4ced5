"""Every checker of states finds what is planted for it; a checker that cannot fail proves nothing.

One corruption per checker at least, and a test that none is left out. More of them, by family: accounts and governance
in governance/test_planted.py, contracts in contracts/test_checks.py, trades in trades/test_checks.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from msgspec.structs import replace

from otcnode.codec import encode
from otcnode.crypto import sha256
from otcnode.vm import invariants, queue_checks
from otcnode.vm.accounts import checks as accounts
from otcnode.vm.accounts.operations import AccountFreeze
from otcnode.vm.accounts.records import (
    ACCOUNTS,
    CASH_BALANCES,
    ENTRUSTMENTS,
    HOLDERS,
    HOLDINGS,
    HOLDINGS_BY_ACCOUNT,
    LOCKS,
    LOTS,
    RECOVERIES,
    TOTALS_AT,
    UNIT_TOTALS,
    WITHDRAWALS,
    LockPurpose,
    RecoveryStatus,
    WithdrawalStatus,
)
from otcnode.vm.contracts import checks as contracts
from otcnode.vm.contracts.records import CONTRACT_SIGNATURES, CONTRACT_TEXTS, CONTRACTS, ContractStatus
from otcnode.vm.due import DUE, DUE_BY_ITEM, DUE_BY_PRODUCT
from otcnode.vm.folding import Fold, differences
from otcnode.vm.governance import checks as governance
from otcnode.vm.governance.records import GOVERNORS, PROPOSALS, SCHEDULE, ForcedTransfer
from otcnode.vm.keys import SINGLE, Table, integer
from otcnode.vm.products import checks as products
from otcnode.vm.products.records import (
    PRODUCTS,
    PRODUCTS_BY_STATUS,
    RECORDED_BALANCES,
    REDEMPTIONS,
    SUBSCRIPTIONS,
    ProductStatus,
    RedemptionStatus,
    SubscriptionStatus,
)
from otcnode.vm.state import State
from otcnode.vm.trades import checks as trades
from otcnode.vm.trades.records import ACTIVE_QUOTES, OFFERS, TRADES, OfferStatus, TradeStatus
from otcnode.vm.view import Overlay, StateView
from tests.vm.governance.council import PAPER, Council
from tests.vm.ledger import DAY_MS
from tests.vm.products.market import FIRST_PAY
from tests.vm.town import Town

Plant = Callable[[State], None]
Checker = Callable[[State], Any]


class Late(Council):
    """A product whose coupon is overdue and whose units were moved meanwhile, and one that has just been allotted."""

    def __init__(self) -> None:
        super().__init__(rate_ppm=50_000)
        pay = self.product_terms(self.note).start_of(FIRST_PAY)
        self.investor("EVE", 9_000_00)
        self.advance(pay - DAY_MS)
        today = self.product_terms(self.note).date_of(self.now)
        close = self.now + 2 * DAY_MS
        terms: dict[str, Any] = {"open": self.now, "close": close, "value_date": today + 5, "min_raise": 1}
        self.second = self.opened("LATE", pay_dates=(today + 9, today + 30), maturity=today + 30, **terms)
        self.subscribe(self.second, "EVE", 5)
        self.act("REG", AccountFreeze(self.ids["ISS"], None, 0, PAPER, None))
        self.advance(pay)
        self.decide(ForcedTransfer(self.ids["SAM"], self.ids["BEN"], self.note, 7, ()))
        self.block(at=close)
        assert self.status(self.note) is ProductStatus.PAYMENT_OVERDUE
        assert self.status(self.second) is ProductStatus.ALLOTTED


@cache
def town() -> StateView:
    return Town().view


@cache
def late() -> StateView:
    return Late().view


def change(table: Table[Any], where: Callable[[Any], bool] = lambda record: True, **fields: Any) -> Plant:
    """The first record of a table for which `where` holds, with other fields."""

    def plant(state: State) -> None:
        key, record = next(entry for entry in state.scan(table) if where(entry[1]))
        state.put(table, key, replace(record, **fields))

    return plant


def remove(table: Table[Any], where: Callable[[Any], bool] = lambda record: True) -> Plant:
    return lambda state: state.delete(table, next(key for key, record in state.scan(table) if where(record)))


def again(table: Table[Any]) -> Plant:
    """The first record of a table once more, under another key of the same shape."""

    def plant(state: State) -> None:
        key, record = state.scan(table)[0]
        state.put(table, key[:-1] + bytes([key[-1] ^ 0xFF]), record)

    return plant


def has(field: str, value: object) -> Callable[[Any], bool]:
    return lambda record: getattr(record, field) == value


def is_signed(record: Any) -> bool:
    return record.status in (ContractStatus.SIGNED, ContractStatus.EFFECTIVE)


PLANTED: tuple[tuple[Checker, int, Callable[[], StateView], Plant], ...] = (
    (invariants.cash_totals, 1, town, change(CASH_BALANCES, balance=1)),
    (invariants.cash_totals, 1, town, again(CASH_BALANCES)),
    (invariants.unit_totals, 2, town, change(HOLDINGS, balance=1)),
    (invariants.unit_totals, 2, town, change(UNIT_TOTALS, redeemed=1)),
    (invariants.parts_within_balance, 3, town, change(HOLDINGS, locked=2**40)),
    (invariants.parts_within_balance, 3, town, change(CASH_BALANCES, frozen=2**60)),
    (invariants.locks_sum, 4, town, change(LOCKS, amount=2**40)),
    (invariants.locks_sum, 4, town, remove(LOCKS)),
    (invariants.lots_sum, 5, town, change(LOTS, quantity=1)),
    (invariants.lots_sum, 5, town, change(LOTS, lockup_until=1)),
    (invariants.lots_sum, 5, town, change(HOLDINGS, lots_held=9)),
    (invariants.holdings_listed, 14, town, remove(HOLDINGS_BY_ACCOUNT)),
    (invariants.holdings_listed, 14, town, again(HOLDINGS_BY_ACCOUNT)),
    (accounts.withdrawals_locked, 4, town, change(WITHDRAWALS, status=WithdrawalStatus.REJECTED)),
    (accounts.entrustments_kept, 22, town, change(ENTRUSTMENTS, used=2**62)),
    (accounts.recoveries_kept, 28, town, change(RECOVERIES, has("status", RecoveryStatus.DELAYED), organisations=())),
    (accounts.accounts_kept, 16, town, change(ACCOUNTS, full_freezes=3)),
    (accounts.accounts_kept, 4, town, change(ACCOUNTS, open_items=99)),
    (accounts.totals_kept, 6, town, change(TOTALS_AT, total=1)),
    (contracts.signed_in_order, 18, town, lambda state: drop_signature(state)),
    (contracts.texts_unchanged, 19, town, change(CONTRACT_TEXTS, terms=())),
    (contracts.endings_final, 20, town, change(CONTRACTS, is_signed, ended_at=1)),
    (contracts.cooling_off_held, 21, town, lambda state: hasten(state)),
    (products.units_issued, 2, town, change(UNIT_TOTALS, issued=2**40)),
    (products.units_issued, 25, town, change(PRODUCTS, has("allotted", 100), status=ProductStatus.MATURED)),
    (products.subscriptions_locked, 12, town, change(LOCKS, has("purpose", LockPurpose.SUBSCRIPTION), amount=1)),
    (products.subscriptions_locked, 4, town, change(SUBSCRIPTIONS, status=SubscriptionStatus.LOCKED)),
    (products.allotments, 13, late, change(SUBSCRIPTIONS, has("status", SubscriptionStatus.ALLOTTED), allotted=4)),
    (products.holders_counted, 14, town, change(HOLDERS, ultimate_holders=0)),
    (products.payments_kept, 24, late, change(PRODUCTS, has("status", ProductStatus.PAYMENT_OVERDUE), unpaid=())),
    (products.payments_kept, 24, town, change(PRODUCTS, has("status", ProductStatus.ACTIVE), unpaid=(1,))),
    (products.records_kept, 24, late, change(RECORDED_BALANCES, has("quantity", 60), quantity=59)),
    (products.records_kept, 24, late, lambda state: record_another_day(state)),
    (products.ends_kept, 20, town, remove(PRODUCTS_BY_STATUS)),
    (products.ends_kept, 4, town, change(PRODUCTS, has("status", ProductStatus.DRAFT), status=ProductStatus.CANCELLED)),
    (products.redemptions_locked, 4, town, change(REDEMPTIONS, status=RedemptionStatus.EXPIRED)),
    (governance.proposals_kept, 28, town, lambda state: approve_twice(state)),
    (governance.governors_listed, 28, town, remove(GOVERNORS)),
    (governance.validators_admitted, 20, town, lambda state: state.delete(SCHEDULE, SINGLE)),
    (trades.locks_belong, 4, town, change(TRADES, has("status", TradeStatus.LOCKED), status=TradeStatus.CANCELLED)),
    (trades.offers_sum, 7, town, change(OFFERS, remaining=1)),
    (trades.offers_sum, 20, town, change(OFFERS, status=OfferStatus.FILLED)),
    (trades.settled_under_contract, 8, town, lambda state: settle_early(state)),
    (trades.open_items_kept, 33, town, change(OFFERS, until=1)),
    (trades.quotes_kept, 20, town, remove(ACTIVE_QUOTES)),
    (
        trades.nothing_stands_on_what_matured,
        25,
        town,
        change(PRODUCTS, has("allotted", 100), status=ProductStatus.MATURED),
    ),
    (trades.agents_within_use, 22, town, lambda state: act_beyond(state)),
    (queue_checks.queue_indexed, 33, town, remove(DUE_BY_ITEM)),
    (queue_checks.queue_indexed, 33, town, remove(DUE_BY_PRODUCT)),
    (queue_checks.everything_scheduled, 33, town, lambda state: schedule_twice(state)),
    (queue_checks.everything_scheduled, 33, town, remove(DUE, has("kind", "contract.phase_end"))),
    (queue_checks.everything_scheduled, 33, town, remove(DUE, has("kind", "product.pay"))),
    (queue_checks.everything_scheduled, 33, town, remove(DUE, has("kind", "entrustment.expire"))),
    (queue_checks.everything_scheduled, 33, town, remove(DUE, has("kind", "redemption.lapse"))),
    (queue_checks.everything_scheduled, 33, town, remove(DUE, has("kind", "account.pending_end"))),
    (queue_checks.everything_scheduled, 33, late, remove(DUE, has("kind", "product.grace"))),
    (queue_checks.everything_scheduled, 33, late, remove(DUE, has("kind", "product.establish"))),
    (queue_checks.overdue_watched, 24, late, lambda state: look_away(state)),
)


def drop_signature(state: State) -> None:
    """A signature under a contract that needs it."""
    name = next(name for name, record in state.scan(CONTRACTS) if record.status is ContractStatus.EFFECTIVE)
    state.delete(CONTRACT_SIGNATURES, state.scan(CONTRACT_SIGNATURES, name)[0][0])


def hasten(state: State) -> None:
    """A contract that was still cooling off is effective at once."""
    name, record = next(
        entry for entry in state.scan(CONTRACTS) if entry[1].cooling_off is not None and entry[1].cooling_off.period_ms
    )
    state.put(CONTRACTS, name, replace(record, status=ContractStatus.EFFECTIVE, effective_at=record.signed_at))


def approve_twice(state: State) -> None:
    name, record = state.scan(PROPOSALS)[0]
    state.put(PROPOSALS, name, replace(record, approvals=record.approvals * 2))


def settle_early(state: State) -> None:
    """A trade that settled before its contract was effective."""
    name, record = state.scan(TRADES)[0]
    state.put(TRADES, name, replace(record, status=TradeStatus.SETTLED, ended_at=1))


def record_another_day(state: State) -> None:
    key, record = state.scan(RECORDED_BALANCES)[0]
    state.put(RECORDED_BALANCES, key[:32] + integer(1) + key[40:], record)


def schedule_twice(state: State) -> None:
    key, entry = next(found for found in state.scan(DUE) if found[1].kind == "product.pay")
    state.put(DUE, key[:-1] + bytes([key[-1] ^ 0xFF]), entry)


def act_beyond(state: State) -> None:
    """A subscription that an agent made under no entrustment."""
    name, record = state.scan(SUBSCRIPTIONS)[0]
    state.put(SUBSCRIPTIONS, name, replace(record, agent=sha256(b"agent")))


def look_away(state: State) -> None:
    for key, balance in state.scan(CASH_BALANCES):
        state.put(CASH_BALANCES, key, replace(balance, watch=None))


@pytest.mark.parametrize("number", range(len(PLANTED)))
def test_what_is_planted_is_found(number: int) -> None:
    checker, invariant, ground, plant = PLANTED[number]
    view = ground()
    assert not list(checker(State(view)))
    state = State(view)
    plant(state)
    overlay = Overlay(view)
    overlay.absorb(state.writes())
    assert invariant in {violation.invariant for violation in checker(State(overlay))}, checker.__name__


def test_something_is_planted_for_every_checker() -> None:
    assert {checker for checker, *_ in PLANTED} == set(invariants.CHECKS)


def test_a_movement_that_no_event_tells_of_is_found() -> None:
    """31, and the same for an event of what did not happen."""
    here = Late()
    assert not list(differences(here.fold, here.view))
    key, balance = here.state.scan(CASH_BALANCES)[0]
    overlay = Overlay(here.view)
    overlay.put(CASH_BALANCES.prefix + key, encode(replace(balance, balance=balance.balance + 1)))
    assert [violation.invariant for violation in differences(here.fold, overlay)] == [31]
    assert list(differences(Fold(), here.view))

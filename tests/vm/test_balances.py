from __future__ import annotations

import pytest

from otcnode.crypto import sha256
from otcnode.errors import Code, Failed
from otcnode.genesis import genesis_account_id
from otcnode.vm import balances
from otcnode.vm.accounts.records import LOTS, LockPurpose
from otcnode.vm.context import Context
from otcnode.vm.due import DUE
from otcnode.vm.executor import environment_at
from otcnode.vm.folding import Fold, state_figures
from otcnode.vm.invariants import check_state
from otcnode.vm.registry import HOOKS
from otcnode.vm.state import State
from tests.vm.ledger import CASH, START_MS, Ledger

ANN, BOB = genesis_account_id("ISS"), genesis_account_id("LIST")
PRODUCT = sha256(b"product")
ITEM = sha256(b"item")


@pytest.fixture
def context() -> Context:
    ledger = Ledger()
    return Context(State(ledger.view), environment_at(ledger.view, ledger.chain, 1, START_MS), START_MS, HOOKS)


def consistent(context: Context) -> None:
    view = Ledger().view
    view.write(context.state.writes())
    fold = Fold()
    fold.add(context.events)
    assert fold.figures() == state_figures(view)
    # cash was credited here without a deposit, so only its total is off
    assert {violation.invariant for violation in check_state(view)} <= {1}


def refused(code: Code, call: object) -> None:
    assert callable(call)
    with pytest.raises(Failed) as caught:
        call()
    assert caught.value.code is code


def test_units_in_lock_up_can_be_promised_for_a_later_day_only(context: Context) -> None:
    until = START_MS + 1_000
    balances.issue(context, ANN, PRODUCT, 70, acquired_at=START_MS, lockup_until=until)
    balances.add_lot(context, ANN, PRODUCT, 30, acquired_at=START_MS)
    refused(Code.LACK_QTY, lambda: balances.check_units(context, ANN, PRODUCT, 101, until))
    refused(Code.LOCKUP, lambda: balances.check_units(context, ANN, PRODUCT, 31, until - 1))
    balances.check_units(context, ANN, PRODUCT, 100, until)
    balances.lock(context, ANN, ITEM, PRODUCT, 100, LockPurpose.TRADE, ITEM, settle_at=until)
    refused(Code.LACK_QTY, lambda: balances.check_units(context, ANN, PRODUCT, 1, until))


def test_lots_are_drawn_first_in_first_out_and_those_in_lock_up_are_skipped(context: Context) -> None:
    balances.issue(context, ANN, PRODUCT, 50, acquired_at=START_MS - 9, lockup_until=START_MS + 1)
    for age, quantity in ((5, 10), (7, 20), (6, 30)):
        balances.issue(context, ANN, PRODUCT, quantity, acquired_at=START_MS - age, lockup_until=0)
    drawn = balances.draw_lots(context, ANN, PRODUCT, 45)
    assert drawn == [(START_MS - 7, 0, 20), (START_MS - 6, 0, 25)]
    refused(Code.LOCKUP, lambda: balances.draw_lots(context, ANN, PRODUCT, 16))
    context.now = START_MS + 1
    assert balances.draw_lots(context, ANN, PRODUCT, 16)[0] == (START_MS - 9, START_MS + 1, 16)


def test_a_locked_delivery_moves_exactly_its_quantity_as_one_free_lot(context: Context) -> None:
    balances.issue(context, ANN, PRODUCT, 50, acquired_at=START_MS - 2, lockup_until=0)
    balances.issue(context, ANN, PRODUCT, 50, acquired_at=START_MS - 1, lockup_until=0)
    balances.lock(context, ANN, ITEM, PRODUCT, 60, LockPurpose.TRADE, ITEM, settle_at=START_MS)
    balances.deliver_from_lock(context, ANN, ITEM, BOB, 55)
    balances.release(context, ANN, ITEM)
    assert balances.holding(context, ANN, PRODUCT).available == 45
    (entry,) = context.state.scan(LOTS, BOB + PRODUCT)
    assert entry[1].quantity == 55
    balances.burn(context, BOB, PRODUCT, 55)
    balances.burn(context, ANN, PRODUCT, 45)
    consistent(context)
    assert context.state.scan(LOTS) == []


def test_a_cash_lock_pays_in_parts_and_gives_back_the_rest(context: Context) -> None:
    balances.move_cash(context, ANN, CASH, 100)
    refused(Code.LACK_CASH, lambda: balances.lock(context, ANN, ITEM, CASH.encode(), 101, LockPurpose.OFFER, ITEM))
    balances.lock(context, ANN, ITEM, CASH.encode(), 100, LockPurpose.OFFER, ITEM)
    refused(Code.LACK_CASH, lambda: balances.pay(context, ANN, BOB, CASH, 1))
    balances.pay_from_lock(context, ANN, ITEM, BOB, 60)
    balances.release(context, ANN, ITEM, 15)
    assert balances.cash_balance(context, ANN, CASH).available == 15
    balances.release(context, ANN, ITEM)
    assert balances.cash_balance(context, ANN, CASH).available == 40
    assert balances.cash_balance(context, BOB, CASH).balance == 60
    with pytest.raises(AssertionError):
        balances.release(context, ANN, ITEM)


def test_paying_out_of_a_lock_wakes_nobody(context: Context) -> None:
    balances.move_cash(context, ANN, CASH, 100)
    balances.lock(context, ANN, ITEM, CASH.encode(), 100, LockPurpose.TRADE, ITEM)
    balances.watch_cash(context, ANN, CASH, ITEM)
    balances.pay_from_lock(context, ANN, ITEM, BOB, 100)
    assert context.state.scan(DUE) == []


def test_a_watched_balance_wakes_its_item_once(context: Context) -> None:
    balances.watch_cash(context, ANN, CASH, ITEM)
    balances.move_cash(context, ANN, CASH, 5)
    balances.move_cash(context, ANN, CASH, 5)
    assert [item.kind for _, item in context.state.scan(DUE)] == [balances.WAKE]
    balances.watch_cash(context, ANN, CASH, ITEM)
    balances.move_cash(context, ANN, CASH, 0, locked=5)
    assert len(context.state.scan(DUE)) == 1
    balances.move_cash(context, ANN, CASH, 0, locked=-5)
    assert len(context.state.scan(DUE)) == 2

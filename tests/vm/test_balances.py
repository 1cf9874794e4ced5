from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from otcnode.vm.keys import integer
from otcnode.vm.registry import HOOKS
from otcnode.vm.state import State
from tests.vm.ledger import CASH, START_MS, DictionaryView, Ledger

ANN, BOB = genesis_account_id("ISS"), genesis_account_id("LIST")
PRODUCT = sha256(b"product")
ITEM = sha256(b"item")


@pytest.fixture
def context() -> Context:
    return new_context(Ledger().view)


def new_context(view: DictionaryView) -> Context:
    return Context(State(view), environment_at(view, bytes(32), 1, START_MS), START_MS, HOOKS)


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


lot_steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 9), st.integers(1, 4), st.sampled_from([0, 0, START_MS + 1])),
        st.tuples(st.sampled_from(["draw", "draw ignoring lock-up"]), st.integers(1, 9), st.just(0), st.just(0)),
    ),
    max_size=30,
)
_Lot = tuple[int, int, int, int]
"""(acquired_at, sequence, lockup_until, quantity)"""


def draw_slowly(lots: list[_Lot], quantity: int, *, ignore_lockup: bool) -> tuple[list[_Lot], list[_Lot]] | None:
    """What is drawn and what is left, both in order; None if there is not enough."""
    drawn, left = [], []
    for acquired_at, sequence, lockup_until, held in lots:
        part = 0 if lockup_until > START_MS and not ignore_lockup else min(held, quantity)
        quantity -= part
        drawn += [(acquired_at, sequence, lockup_until, part)] if part else []
        left += [(acquired_at, sequence, lockup_until, held - part)] if part < held else []
    return None if quantity else (drawn, left)


@given(lot_steps, st.integers(0, 20))
def test_lots_are_drawn_as_from_a_list_by_date_and_creation(script: list[tuple[str, int, int, int]], cut: int) -> None:
    """Lots of older dates may come in later, as forced transfers bring them; from step `cut` on in another block."""
    context = new_context(Ledger().view)
    lots: list[_Lot] = []
    for number, (act, quantity, age, lockup_until) in enumerate(script):
        if number == cut:
            view = DictionaryView(dict(Ledger().view.values))
            view.write(context.state.writes())
            context = new_context(view)
        if act == "add":
            sequence = balances.holding(context, ANN, PRODUCT).lots_created
            lots = sorted([*lots, (START_MS - age, sequence, lockup_until, quantity)])
            balances.issue(context, ANN, PRODUCT, quantity, acquired_at=START_MS - age, lockup_until=lockup_until)
        else:
            ignore = act != "draw"
            expected = draw_slowly(lots, quantity, ignore_lockup=ignore)
            point = context.attempt()
            try:
                drawn = balances.draw_lots(context, ANN, PRODUCT, quantity, ignore_lockup=ignore)
            except Failed:
                assert expected is None
                context.undo(point)
            else:
                assert expected is not None
                assert drawn == [(acquired_at, until, part) for acquired_at, _, until, part in expected[0]]
                lots = expected[1]
        found = [
            (int.from_bytes(key[64:72], "big"), int.from_bytes(key[72:], "big"), lot.lockup_until, lot.quantity)
            for key, lot in context.state.scan(LOTS, ANN + PRODUCT)
        ]
        assert found == lots
        first = integer(lots[0][0]) + integer(lots[0][1]) if lots else b""
        holding = balances.holding(context, ANN, PRODUCT)
        assert (holding.lots_held, holding.first_lot) == (len(lots), first)


def test_lots_of_one_product_in_one_account_are_bounded(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred thousand dust trades made one sale move a hundred thousand lots, in one step of one block."""
    monkeypatch.setattr(balances, "LOTS_HELD_MAX", 3)
    for age in range(3):
        balances.issue(context, ANN, PRODUCT, 2, acquired_at=START_MS - age, lockup_until=0)
    refused(Code.LIMIT, lambda: balances.add_lot(context, ANN, PRODUCT, 1, acquired_at=START_MS))
    balances.draw_lots(context, ANN, PRODUCT, 1)
    refused(Code.LIMIT, lambda: balances.add_lot(context, ANN, PRODUCT, 1, acquired_at=START_MS))
    balances.draw_lots(context, ANN, PRODUCT, 1)
    balances.add_lot(context, ANN, PRODUCT, 1, acquired_at=START_MS)


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

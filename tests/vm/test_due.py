from __future__ import annotations

from otcnode.crypto import sha256
from otcnode.vm import due
from otcnode.vm.accounts.operations import AccountFreeze
from otcnode.vm.due import DueClass, DueItem
from otcnode.vm.state import State
from tests.vm.ledger import CASH, START_MS, DictionaryView, Ledger

DOCUMENT = sha256(b"order")
PRODUCT = sha256(b"product")


def test_what_exceeds_the_budget_runs_in_the_next_blocks_each_once_and_in_order() -> None:
    ledger = Ledger(due_class1_weight_max=2)
    account = ledger.investor("ANN", 100)
    end = START_MS + 1_000_000
    for offset in (4, 2, 0, 3, 1):
        ledger.do("REG", AccountFreeze(account, CASH.encode(), 1 + offset, DOCUMENT, end + offset))
    frozen = []
    for height in range(4):
        result = ledger.block(at=end + 100 + height)
        balance = ledger.cash("ANN")
        assert balance is not None
        frozen.append((len(result.automatic), balance.frozen))
    assert frozen == [(2, 3 + 4 + 5), (2, 5), (1, 0), (0, 0)]


def test_the_same_figures_whichever_way_time_is_cut_into_blocks() -> None:
    def play(times: list[int]) -> dict[bytes, bytes]:
        ledger = Ledger()
        account = ledger.investor("ANN", 100)
        for offset in (30, 10, 20):
            ledger.do("REG", AccountFreeze(account, CASH.encode(), offset, DOCUMENT, START_MS + 1_000 + offset))
        for time in times:
            ledger.block(at=time)
        return ledger.view.values

    end = START_MS + 2_000_000
    assert play([end]) == play([START_MS + 1_010, START_MS + 1_029, START_MS + 1_030, end])


def test_order_is_due_time_then_class_then_creation() -> None:
    state = State(DictionaryView({}))
    plan = [(5, DueClass.SETTLEMENT), (5, DueClass.COUPON), (4, DueClass.SETTLEMENT), (5, DueClass.ISSUANCE)]
    for number, (time, due_class) in enumerate([*plan, (5, DueClass.COUPON)]):
        due.schedule(state, time, due_class, DueItem(str(number), bytes(32), PRODUCT, 1))
    assert [item.kind for _, item in due.first(state, due.LANE_REST, 5, 10)] == ["2", "1", "4", "3", "0"]
    assert [item.kind for _, item in due.first(state, due.LANE_REST, 4, 10)] == ["2"]


def test_a_delayed_coupon_holds_up_its_product_until_it_ran_or_was_cancelled() -> None:
    state = State(DictionaryView({}))
    due.schedule(state, 5, DueClass.SETTLEMENT, DueItem("settle", bytes(32), PRODUCT, 1))
    assert not due.product_has_pending(state, PRODUCT, 5)
    due.schedule(state, 5, DueClass.COUPON, DueItem("coupon", bytes(32), PRODUCT, 1))
    assert not due.product_has_pending(state, PRODUCT, 4)
    assert due.product_has_pending(state, PRODUCT, 5)
    due.cancel(state, bytes(32), "coupon")
    assert not due.product_has_pending(state, PRODUCT, 5)
    due.cancel(state, bytes(32))
    assert due.first(state, due.LANE_REST, 9, 1) == []
    assert state.scan(due.DUE_BY_ITEM) == state.scan(due.DUE_BY_PRODUCT) == []


def test_a_lane_shows_what_is_scheduled_and_not_what_is_cancelled_while_it_is_walked() -> None:
    """More entries than are read at once; each one walked over cancels one ahead and schedules one between others."""
    state = State(DictionaryView({}))
    items = [sha256(bytes([number])) for number in range(200)]
    for number, item in enumerate(items):
        due.schedule(state, 10 * number, DueClass.RELEASE, DueItem("old", item, None, 1))
    lane = due.Lane(state, due.LANE_RELEASE, 1_500)
    walked = []
    while (head := lane.head()) is not None:
        key, entry = head
        lane.take()
        due.remove(state, key, entry)
        number = due.due_time(key) // 10
        walked.append((due.due_time(key), entry.kind))
        if number % 10 == 0 and entry.kind == "old":
            due.cancel(state, items[number + 3])
            due.schedule(state, 10 * number + 15, DueClass.RELEASE, DueItem("new", items[number], None, 1))
    expected = [(10 * number, "old") for number in range(151) if number % 10 != 3]
    expected += [(100 * number + 15, "new") for number in range(15)]
    assert walked == sorted(expected)

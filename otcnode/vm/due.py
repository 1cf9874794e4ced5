"""The due queue: what the ledger will do by itself, in order of (due time, class, creation).

Expiries have a lane of their own, so that nobody can delay a coupon by opening many things that expire.
"""

from __future__ import annotations

from enum import IntEnum

from otcnode.codec import Record
from otcnode.types import Bytes32, Natural
from otcnode.vm.keys import MARKER, SINGLE, Marker, Prefix, Table, integer
from otcnode.vm.state import State
from otcnode.vm.view import StateView


class DueClass(IntEnum):
    """At one due time, the order in which things happen."""

    RELEASE = 1
    """expiries, releases, openings, contracts turning effective by time"""
    COUPON = 2
    """coupons and maturity"""
    ISSUANCE = 3
    """subscription close and establishment"""
    SETTLEMENT = 4


LANE_RELEASE = b"\x01"
LANE_REST = b"\x02"


class DueItem(Record, frozen=True):
    """`kind` names the handler, `item` what it is about; `weight` is about the number of records it touches."""

    kind: str
    item: Bytes32
    product: Bytes32 | None
    weight: Natural


class Counters(Record, frozen=True):
    """Numbers handed out in order, over the whole life of the chain."""

    due_sequence: Natural
    pending_accounts: Natural


DUE = Table(Prefix.DUE, DueItem)
"""lane ‖ due time ‖ class ‖ sequence"""
DUE_BY_ITEM = Table(Prefix.DUE_BY_ITEM, Marker)
"""item id ‖ key in DUE"""
DUE_BY_PRODUCT = Table(Prefix.DUE_BY_PRODUCT, Marker)
"""product id ‖ due time ‖ key in DUE; classes 2 and 3 only"""
COUNTERS = Table(Prefix.COUNTERS, Counters)


def counters(state: State) -> Counters:
    return state.get(COUNTERS, SINGLE) or Counters(0, 0)


def lane(due_class: DueClass) -> bytes:
    return LANE_RELEASE if due_class is DueClass.RELEASE else LANE_REST


def due_time(key: bytes) -> int:
    return int.from_bytes(key[1:9], "big")


def schedule(state: State, due_ms: int, due_class: DueClass, item: DueItem) -> None:
    """Run `item` in the first block whose time is ≥ due_ms. One item may have several entries, of different kinds."""
    numbers = counters(state)
    state.put(COUNTERS, SINGLE, Counters(numbers.due_sequence + 1, numbers.pending_accounts))
    key = lane(due_class) + integer(due_ms) + bytes([due_class]) + integer(numbers.due_sequence)
    state.put(DUE, key, item)
    state.put(DUE_BY_ITEM, item.item + key, MARKER)
    if item.product is not None and _holds_up_trading(key):
        state.put(DUE_BY_PRODUCT, item.product + integer(due_ms) + key, MARKER)


def cancel(state: State, item: bytes, kind: str | None = None) -> None:
    """Take the item's entries (of one kind, or all) off the queue."""
    for suffix, _ in state.scan(DUE_BY_ITEM, item):
        key = suffix[32:]
        entry = state.get(DUE, key)
        assert entry is not None
        if kind is None or entry.kind == kind:
            remove(state, key, entry)


def remove(state: State, key: bytes, entry: DueItem) -> None:
    state.delete(DUE, key)
    state.delete(DUE_BY_ITEM, entry.item + key)
    if entry.product is not None and _holds_up_trading(key):
        state.delete(DUE_BY_PRODUCT, entry.product + key[1:9] + key)


def _holds_up_trading(key: bytes) -> bool:
    return key[9] in (DueClass.COUPON, DueClass.ISSUANCE)


def first(
    state: State, lane_prefix: bytes, until_ms: int, limit: int, after: bytes | None = None
) -> list[tuple[bytes, DueItem]]:
    """The first entries of a lane, after a key, that are due at `until_ms`."""
    entries = state.scan(DUE, lane_prefix, after=after, limit=limit)
    return [entry for entry in entries if due_time(entry[0]) <= until_ms]


def product_has_pending(state: State, product: bytes, block_time_ms: int) -> bool:
    """Whether a coupon, maturity, close or establishment of the product is due and has not run yet."""
    entries = state.scan(DUE_BY_PRODUCT, product, limit=1)
    return bool(entries) and int.from_bytes(entries[0][0][32:40], "big") <= block_time_ms


def next_due(view: StateView) -> int | None:
    """When the next block must run something, in ms; None if nothing is scheduled. For the primary."""
    state = State(view)
    times = [due_time(key) for prefix in (LANE_RELEASE, LANE_REST) for key, _ in state.scan(DUE, prefix, limit=1)]
    return min(times, default=None)

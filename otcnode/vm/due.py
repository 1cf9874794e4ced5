"""The due queue: what the ledger will do by itself, in order of (due time, class, creation).

Expiries have a lane and a budget of their own: many things that expire leave a block its room for coupons. Over both
lanes the order is one; an item of which the budget is used up holds up everything after it, and so do blocks that have
more to run than fits hold up transactions (vm/executor.py).
"""

from __future__ import annotations

from enum import IntEnum

from otcnode.codec import Record
from otcnode.types import Bytes32, Natural
from otcnode.vm.keys import SINGLE, Prefix, Table, integer
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


_HOLDING_UP = frozenset({DueClass.COUPON, DueClass.ISSUANCE})
"""While an entry of these classes waits to run, its product's units do not move."""
LANE_RELEASE = b"\x01"
LANE_REST = b"\x02"


_LANE_BATCH = 64
"""Entries that are read at once: a search in the state costs as much as some twenty reads."""


class DueItem(Record, frozen=True):
    """`kind` names the handler, `item` what it is about; `weight` is about the number of records it touches."""

    kind: str
    item: Bytes32
    product: Bytes32 | None
    weight: Natural


class Place(Record, frozen=True):
    """A key in DUE, and the kind of the entry there."""

    key: bytes
    kind: str


class Entries(Record, frozen=True):
    """Ascending by key; one record and not a key each, so that what an item has is looked up, not searched."""

    places: tuple[Place, ...]


class Counters(Record, frozen=True):
    """Numbers handed out in order, over the whole life of the chain."""

    due_sequence: Natural
    pending_accounts: Natural


DUE = Table(Prefix.DUE, DueItem)
"""lane ‖ due time ‖ class ‖ sequence"""
DUE_BY_ITEM = Table(Prefix.DUE_BY_ITEM, Entries)
"""item id; only while there are any"""
DUE_BY_PRODUCT = Table(Prefix.DUE_BY_PRODUCT, Entries)
"""product id; its entries of classes 2 and 3, only while there are any"""
COUNTERS = Table(Prefix.COUNTERS, Counters)


def counters(state: State) -> Counters:
    return state.get(COUNTERS, SINGLE) or Counters(0, 0)


_AROUND_TIME = {
    due_class: (LANE_RELEASE if due_class is DueClass.RELEASE else LANE_REST, bytes([due_class]))
    for due_class in DueClass
}
"""Lane and class byte, between which the due time stands in a key."""


def due_time(key: bytes) -> int:
    return int.from_bytes(key[1:9], "big")


def schedule(state: State, due_ms: int, due_class: DueClass, item: DueItem) -> None:
    """Run `item` in the first block whose time is ≥ due_ms. One item may have several entries, of different kinds."""
    numbers = counters(state)
    state.put(COUNTERS, SINGLE, Counters(numbers.due_sequence + 1, numbers.pending_accounts))
    before, after = _AROUND_TIME[due_class]
    key = before + integer(due_ms) + after + integer(numbers.due_sequence)
    state.put(DUE, key, item)
    place = Place(key, item.kind)
    _note(state, DUE_BY_ITEM, item.item, place)
    if item.product is not None and due_class in _HOLDING_UP:
        _note(state, DUE_BY_PRODUCT, item.product, place)


def _note(state: State, index: Table[Entries], name: bytes, place: Place) -> None:
    before = state.get(index, name)
    places: tuple[Place, ...] = (place,)
    if before is not None:
        places = tuple(sorted((*before.places, place), key=lambda entry: entry.key))
    state.put(index, name, Entries(places))


def _forget(state: State, index: Table[Entries], name: bytes, key: bytes) -> None:
    before = state.get(index, name)
    assert before is not None
    left = tuple([place for place in before.places if place.key != key])
    assert len(left) == len(before.places) - 1
    if left:
        state.put(index, name, Entries(left))
    else:
        state.delete(index, name)


def places_of(state: State, item: bytes) -> tuple[Place, ...]:
    """Where something is scheduled for the item: the lanes one after the other, each in its order."""
    found = state.get(DUE_BY_ITEM, item)
    return () if found is None else found.places


def cancel(state: State, item: bytes, kind: str | None = None) -> None:
    """Take the item's entries (of one kind, or all) off the queue."""
    for place in places_of(state, item):
        if kind is None or place.kind == kind:
            _remove(state, place.key, item)


def remove(state: State, key: bytes, entry: DueItem) -> None:
    _remove(state, key, entry.item)


def _remove(state: State, key: bytes, item: bytes) -> None:
    if key[9] in _HOLDING_UP:
        entry = state.get(DUE, key)
        assert entry is not None
        if entry.product is not None:
            _forget(state, DUE_BY_PRODUCT, entry.product, key)
    state.delete(DUE, key)
    _forget(state, DUE_BY_ITEM, item, key)


def first(
    state: State, lane_prefix: bytes, until_ms: int, limit: int, after: bytes | None = None
) -> list[tuple[bytes, DueItem]]:
    """The first entries of a lane, after a key, that are due at `until_ms`."""
    entries = state.scan(DUE, lane_prefix, after=after, limit=limit)
    return [entry for entry in entries if due_time(entry[0]) <= until_ms]


class Lane:
    """Walks along what is due in a lane at a moment, in order. It reads many entries at once, and still sees what is
    cancelled or scheduled behind the one it stands at while it walks."""

    __slots__ = ("_after", "_batch", "_more", "_position", "_prefix", "_sequence", "_state", "_until_ms")

    def __init__(self, state: State, prefix: bytes, until_ms: int) -> None:
        self._state = state
        self._prefix = prefix
        self._until_ms = until_ms
        self._after: bytes | None = None
        """Key of the last entry that was taken."""
        self._batch: list[tuple[bytes, DueItem]] = []
        self._position = 0
        self._more = True
        """Whether there may be entries behind the batch."""
        self._sequence = counters(state).due_sequence
        """How much was ever scheduled when the batch was read."""

    def head(self) -> tuple[bytes, DueItem] | None:
        """The next entry; None if nothing else is due."""
        sequence = counters(self._state).due_sequence
        if sequence != self._sequence:
            self._sequence, self._batch, self._position, self._more = sequence, [], 0, True
        while True:
            while self._position < len(self._batch):
                entry = self._batch[self._position]
                if not self._state.is_known_absent(DUE, entry[0]):
                    return entry
                self._position += 1
            if not self._more:
                return None
            self._read()

    def _read(self) -> None:
        if self._batch:
            self._after = self._batch[-1][0]
        self._batch = first(self._state, self._prefix, self._until_ms, _LANE_BATCH, self._after)
        self._position, self._more = 0, len(self._batch) == _LANE_BATCH

    def take(self) -> None:
        """Go on behind the head."""
        self._after = self._batch[self._position][0]
        self._position += 1


def product_has_pending(state: State, product: bytes, block_time_ms: int) -> bool:
    """Whether a coupon, maturity, close or establishment of the product is due and has not run yet."""
    entries = state.get(DUE_BY_PRODUCT, product)
    return entries is not None and due_time(entries.places[0].key) <= block_time_ms


def next_due(view: StateView) -> int | None:
    """When the next block must run something, in ms; None if nothing is scheduled. For the primary."""
    state = State(view)
    times = [due_time(key) for prefix in (LANE_RELEASE, LANE_REST) for key, _ in state.scan(DUE, prefix, limit=1)]
    return min(times, default=None)

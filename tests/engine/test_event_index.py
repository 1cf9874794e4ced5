"""What a committed block leaves in the store's index of events."""

from __future__ import annotations

from otcnode.codec import decode
from otcnode.genesis import genesis_account_id
from otcnode.vm.accounts.events import CashMoved
from otcnode.vm.event_index import entry_key, events_prefix, height_of, places
from otcnode.vm.results import Receipt
from tests.engine.network import HOLDER, alone, deposit


def test_the_events_of_an_account_are_found_block_by_block() -> None:
    station = alone()
    holder = genesis_account_id(HOLDER)
    for number in (1, 2):
        station.submit(deposit(station.genesis, number))
        station.settle()
        station.elapse(5_000)
    entries = list(station.store.index_scan(events_prefix(holder)))
    assert len(entries) == 2
    (_, later) = entries[1]
    height = height_of(entries[0][0])
    assert list(station.store.index_scan(events_prefix(holder), entry_key(holder, height))) == [entries[1]]
    stored = station.store.receipts(height_of(entries[1][0]))
    assert stored is not None
    found = [decode(Receipt, stored.receipts[place.leaf]).events[place.offset] for place in places(later)]
    assert any(isinstance(event, CashMoved) and event.account == holder for event in found)

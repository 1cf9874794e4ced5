"""The checkers of a state find what they are for: each damage is named by its invariant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from otcnode.codec import encode
from otcnode.vm.accounts.records import LOCKS, OPEN_ITEMS
from otcnode.vm.contracts.records import CONTRACTS
from otcnode.vm.due import DUE
from otcnode.vm.invariants import check_state
from otcnode.vm.keys import MARKER, OPEN_OFFER, OPEN_TRADE, Table
from otcnode.vm.products.records import PRODUCTS, ProductStatus
from otcnode.vm.trades.operations import Hit, QuoteRespond
from otcnode.vm.trades.records import (
    ACTIVE_QUOTES,
    OFFERS,
    QUOTES,
    RFQS,
    TRADES,
    TRADING_OPEN,
    OfferStatus,
    QuoteStatus,
    RfqStatus,
    Side,
    TradeStatus,
)
from tests.vm.ledger import DAY_MS
from tests.vm.trades.floor import Floor


class Busy(Floor):
    """A locked trade, a proposal, an offer of each side with a take, a filled request and a live one."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = self.propose(quantity=1)
        self.going = self.locked(quantity=2)
        self.selling = self.list_offer(quantity=10)
        self.buying = self.list_offer("BEN", side=Side.BUY, quantity=10, cash_cap=3_000_00)
        self.take(self.selling, 5)
        self.take(self.buying, 5, by="SAM")
        self.filled = self.ask(quantity=3)
        self.hit = self.submit("OWN", self.filled)
        self.act("BEN", QuoteRespond(self.hit, Hit(3, None)))
        self.asking_still = self.ask(quantity=4)
        self.live = self.submit("OWN", self.asking_still)
        (self.settled,) = [name for name, trade in self.state.scan(TRADES) if trade.source == self.hit]

    def change(self, table: Table[Any], name: bytes, **fields: Any) -> None:
        record = self.state.get(table, name)
        assert record is not None
        self.view.write({table.prefix + name: encode(replace(record, **fields))})

    def drop(self, table: Table[Any], suffix: bytes) -> None:
        assert self.state.get(table, suffix) is not None
        self.view.write({table.prefix + suffix: None})

    def drop_due(self, item: bytes) -> None:
        for key, entry in self.state.scan(DUE):
            if entry.item == item:
                self.drop(DUE, key)


DAMAGES: dict[str, tuple[int, Callable[[Busy], None]]] = {
    "a trade ended and kept its locks": (4, lambda b: b.change(TRADES, b.going, status=TradeStatus.CANCELLED)),
    "a locked trade lost a lock": (4, lambda b: b.drop(LOCKS, b.ids["SAM"] + b.going)),
    "a locked trade's lock is not its price": (12, lambda b: b.change(LOCKS, b.ids["BEN"] + b.going, amount=1)),
    "an offer's lock is not what remains": (12, lambda b: b.change(LOCKS, b.ids["SAM"] + b.selling, amount=6)),
    "a cap was topped up": (12, lambda b: b.change(LOCKS, b.ids["BEN"] + b.buying, amount=3_000_00)),
    "a lock names another item": (4, lambda b: b.change(LOCKS, b.ids["OWN"] + b.live, item=bytes(32))),
    "an offer remains larger than its takes": (7, lambda b: b.change(OFFERS, b.selling, remaining=6)),
    "an offer paid more than its cap": (7, lambda b: b.change(OFFERS, b.buying, cash_cap=1)),
    "a filled offer has a remainder": (20, lambda b: b.change(OFFERS, b.selling, status=OfferStatus.FILLED)),
    "a trade settled before its contract": (8, lambda b: b.change(CONTRACTS, b.master, effective_at=b.now + DAY_MS)),
    "a trade settled after its contract": (8, lambda b: b.change(CONTRACTS, b.master, ended_at=1)),
    "an item stands and is not open": (4, lambda b: b.drop(OPEN_ITEMS, b.ids["SAM"] + OPEN_TRADE + b.waiting)),
    "an item stands and is not listed": (20, lambda b: b.drop(TRADING_OPEN, b.note + OPEN_OFFER + b.selling)),
    "an item will never end": (33, lambda b: b.drop_due(b.going)),
    "an item ends at another time": (33, lambda b: b.change(OFFERS, b.selling, until=b.now + 5)),
    "a live quote of a closed request": (20, lambda b: b.change(RFQS, b.asking_still, status=RfqStatus.PASSED)),
    "a live quote is not indexed": (20, lambda b: b.drop(ACTIVE_QUOTES, b.asking_still + b.ids["OWN"])),
    "a filled request without a hit": (20, lambda b: b.change(QUOTES, b.hit, status=QuoteStatus.COVER)),
    "trading stands on what matured": (25, lambda b: b.change(PRODUCTS, b.note, status=ProductStatus.MATURED)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named(damage: str) -> None:
    busy = Busy()
    assert check_state(busy.view) == []
    number, harm = DAMAGES[damage]
    harm(busy)
    assert number in {violation.invariant for violation in check_state(busy.view)}


def test_an_open_item_of_nothing_is_found() -> None:
    busy = Busy()
    busy.view.write({OPEN_ITEMS.prefix + busy.ids["SAM"] + OPEN_TRADE + bytes(32): encode(MARKER)})
    assert 4 in {violation.invariant for violation in check_state(busy.view)}

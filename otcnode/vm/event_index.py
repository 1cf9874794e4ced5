"""Where an account's events are, and those that tell the life of a contract or trade: per block and account or item,
the places of the events that concern it. Pure.

One entry per account or item that a block touches, so what is written is bounded by what the block did; the events
themselves are in the receipts. Entries lie in the store's index, which only grows: what is asked as of a height is cut
off there.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from otcnode.vm.contracts import events as contracts
from otcnode.vm.events import Event
from otcnode.vm.parties import PARTIES, Records
from otcnode.vm.results import AutomaticReceipt, BlockResult, Receipt
from otcnode.vm.trades import events as trades
from otcnode.vm.view import StateView

_ITEM_FIELD: dict[type[Event], str] = {
    contracts.ContractCreated: "contract",
    contracts.ContractRevised: "contract",
    contracts.ContractConfirmed: "contract",
    contracts.ContractSlotSigned: "contract",
    contracts.ContractCalledBack: "contract",
    contracts.ContractChanged: "contract",
    trades.TradeProposed: "trade",
    trades.TradeExecuted: "trade",
    trades.TradeChanged: "trade",
    trades.TradeCancelAsked: "trade",
}
"""Events that make an item what it is. Accessions to a contract are not among them: there may be any number."""

EVENTS_PREFIX = b"e"
ITEMS_PREFIX = b"i"
ACCOUNT_BYTES = 32
_PLACE = struct.Struct(">III")


class Place(NamedTuple):
    """`number` counts all events of the block from 0, automatic ones first; the event is number `offset` of receipt
    number `leaf` under the receipts root."""

    number: int
    leaf: int
    offset: int


def events_prefix(account: bytes) -> bytes:
    """Begin of the keys of an account's entries; parties.EVERYBODY is for the events open to all."""
    return EVENTS_PREFIX + account.ljust(ACCOUNT_BYTES, b"\x00")


def items_prefix(item: bytes) -> bytes:
    """Begin of the keys of the entries of a contract or trade."""
    assert len(item) == ACCOUNT_BYTES
    return ITEMS_PREFIX + item


def entry_key(account: bytes, height: int) -> bytes:
    return events_prefix(account) + height.to_bytes(8, "big")


def height_of(key: bytes) -> int:
    return int.from_bytes(key[-8:], "big")


def places(entry: bytes) -> Iterator[Place]:
    """The places in an entry, ascending."""
    return map(Place._make, _PLACE.iter_unpack(entry))


def event_index(height: int, result: BlockResult, view: StateView) -> list[tuple[bytes, bytes]]:
    """The entries of a block, by key. `view` is the state after it."""
    return entries_of(height, (*result.automatic, *result.receipts), view)


def entries_of(
    height: int, receipts: Iterable[AutomaticReceipt | Receipt], view: StateView
) -> list[tuple[bytes, bytes]]:
    """The entries of a block with these receipts, automatic ones first. Any state after it will do as `view`, for an
    item's parties never change."""
    found: defaultdict[bytes, list[bytes]] = defaultdict(list)
    items: defaultdict[bytes, list[bytes]] = defaultdict(list)
    records, number = Records(view), 0
    pack = _PLACE.pack
    for leaf, receipt in enumerate(receipts):
        for offset, event in enumerate(receipt.events):
            kind, place = type(event), pack(number, leaf, offset)
            parties = PARTIES[kind](records, event)
            for account in parties if len(parties) == 1 else set(parties):
                found[account].append(place)
            if kind in _ITEM_FIELD:
                items[getattr(event, _ITEM_FIELD[kind])].append(place)
            number += 1
    at = height.to_bytes(8, "big")
    return [
        *[(events_prefix(account) + at, b"".join(found[account])) for account in sorted(found)],
        *[(items_prefix(item) + at, b"".join(items[item])) for item in sorted(items)],
    ]

"""Where an account's events are: per block and account, the places of the events that concern it. Pure.

One entry per account that a block touches, so what is written is bounded by what the block did; the events themselves
are in the receipts. Entries lie in the store's index, which only grows: what is asked as of a height is cut off there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from otcnode.vm.parties import PARTIES, Records
from otcnode.vm.results import AutomaticReceipt, BlockResult, Receipt
from otcnode.vm.view import StateView

EVENTS_PREFIX = b"e"
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


def entry_key(account: bytes, height: int) -> bytes:
    return events_prefix(account) + height.to_bytes(8, "big")


def height_of(key: bytes) -> int:
    return int.from_bytes(key[-8:], "big")


def places(entry: bytes) -> Iterator[Place]:
    """The places in an entry, ascending."""
    return map(Place._make, _PLACE.iter_unpack(entry))


def event_index(height: int, result: BlockResult, view: StateView) -> list[tuple[bytes, bytes]]:
    """The entries of a block, by key. `view` is the state after it."""
    found: dict[bytes, list[bytes]] = {}
    records, number = Records(view), 0
    pack = _PLACE.pack
    receipts: list[AutomaticReceipt | Receipt] = [*result.automatic, *result.receipts]
    for leaf, receipt in enumerate(receipts):
        for offset, event in enumerate(receipt.events):
            place = pack(number, leaf, offset)
            for account in set(PARTIES[type(event)](records, event)):
                found.setdefault(account, []).append(place)
            number += 1
    return [(entry_key(account, height), b"".join(found[account])) for account in sorted(found)]

"""Events of final blocks: who may read which, in the order in which they happened, from a cursor on.

A cursor is `height:number`: the last event that was read, numbered within its block from 0, automatic ones first. What
follows is after it, so an event is read once and none is left out, at whichever node one goes on.

Roles that see everything of a kind walk all blocks; parties walk the blocks in which the index has something of theirs.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import groupby
from typing import Annotated, Any, NamedTuple, get_args

from msgspec import Meta

from otcnode import limits
from otcnode.codec import decode
from otcnode.ids import Prefix
from otcnode.rpc import format as form
from otcnode.rpc.access import Caller, Subject
from otcnode.rpc.json_rpc import CURSOR_INVALID, NOT_READY, RpcError
from otcnode.rpc.listing import optional_id
from otcnode.rpc.method import Context, Params, Result
from otcnode.rpc.render import render
from otcnode.rpc.service import HeightUnavailable, NodeService
from otcnode.vm import events as ledger
from otcnode.vm.accounts import events as accounts
from otcnode.vm.event_index import Place, places
from otcnode.vm.governance import events as governance
from otcnode.vm.parties import EVERYBODY, parties_of
from otcnode.vm.results import AutomaticReceipt, Receipt
from otcnode.vm.trades.events import RfqCreated

BLOCKS_PER_PAGE_MAX = 200
"""A page looks at no more blocks; it may hold fewer events than asked for, and its cursor still moves on."""

EVENT_SUBJECTS: dict[type[Any], Subject] = {
    kind: subject
    for family, subject in (
        (ledger.AccountsEvent, Subject.POSITION),
        (ledger.ContractsEvent, Subject.CONTRACT),
        (ledger.DocumentsEvent, Subject.CONTRACT),
        (ledger.ProductsEvent, Subject.TRADE),
        (ledger.TradesEvent, Subject.TRADE),
        (ledger.GovernanceEvent, Subject.GOVERNANCE),
    )
    for kind in get_args(family)
} | {
    kind: subject
    for subject, kinds in (
        (
            Subject.ACCOUNT,
            (
                accounts.AccountApplied,
                accounts.AccountChanged,
                accounts.InvestorCertified,
                accounts.AccountFrozen,
                accounts.AccountUnfrozen,
                accounts.KeyAdded,
                accounts.KeyRevoked,
                accounts.RecoveryChanged,
                accounts.CloseRequested,
            ),
        ),
        (Subject.ENTRUSTMENT, (accounts.EntrustmentChanged, accounts.EntrustmentUsed)),
        (
            Subject.CUSTODY,
            (accounts.CashTotalMoved, accounts.ReconOk, accounts.ReconBreak, accounts.DepositsResumed),
        ),
        (Subject.POSITION, (governance.CashCorrected, governance.UnitsForced)),
    )
    for kind in kinds
}
"""Event to what it tells about: a role that sees everything of that reads it."""


class EventFilter(Params, frozen=True):
    """What is wanted of all that the caller may read; ANDed. `types` are event types such as trade.changed; `account`
    keeps the events that concern it."""

    types: Annotated[list[str], Meta(max_length=100)] | None = None
    account: form.AccountText | None = None
    product: form.ProductText | None = None


CursorText = Annotated[
    str, Meta(pattern="^[0-9]{1,16}:[0-9]{1,16}$", description="height:number of the last event read")
]


class EventsListParams(Params, frozen=True):
    """Without `cursor` from the beginning of the chain on."""

    cursor: CursorText | None = None
    filter: EventFilter = EventFilter()
    limit: Annotated[int, Meta(ge=1, le=limits.page_entries_max)] = limits.page_entries_default


class EventResult(Result, frozen=True):
    """One event; it is an effect of `transaction`, or of the due item `automatic` (its kind) where that is null."""

    cursor: str
    height: int
    time: form.Time
    transaction: form.TransactionText | None
    automatic: str | None
    event: dict[str, Any]


class EventsListResult(Result, frozen=True):
    """`cursor` is where to go on; `complete` says that nothing more is known at the node's height `height`."""

    height: int
    events: list[EventResult]
    cursor: str
    complete: bool


class Cursor(NamedTuple):
    """Everything up to event `number` of block `height` has been read."""

    height: int
    number: int

    def __str__(self) -> str:
        return f"{self.height}:{self.number}"


AFTER_BLOCK = 2**32 - 1
"""Above the number of any event of a block."""
BEGINNING = Cursor(0, AFTER_BLOCK)


def parse_cursor(text: str | None, tip: int) -> Cursor:
    """Raises RpcError −32005 for one beyond the chain as this node knows it yet: another node may be further."""
    if text is None:
        return BEGINNING
    height, _, number = text.partition(":")
    cursor = Cursor(int(height), int(number))
    if cursor.height == 0:
        return BEGINNING
    if cursor.number > AFTER_BLOCK:
        raise RpcError(CURSOR_INVALID, "no event has that number", {"first": None})
    if cursor.height > tip:
        raise RpcError(NOT_READY, f"height {cursor.height} is not reached yet", {"height": tip})
    return cursor


class Found(NamedTuple):
    """An event of a final block with its origin."""

    cursor: Cursor
    transaction: bytes | None
    automatic: str | None
    event: ledger.Event


class Reach(NamedTuple):
    """What a caller wants and may have. `sees` are the subjects of which it sees everything."""

    account: bytes | None
    sees: frozenset[Subject]
    types: frozenset[str] | None
    wanted_account: bytes | None
    wanted_product: bytes | None

    def holds(self, service: NodeService, event: ledger.Event) -> bool:
        if self.types is not None and str(type(event).__struct_config__.tag) not in self.types:
            return False
        if self.wanted_product is not None and getattr(event, "product", None) != self.wanted_product:
            return False
        parties = parties_of(service.state().view, event)
        if self.wanted_account is not None and self.wanted_account not in parties:
            return False
        own = self.account is not None and self.account in parties
        return own or EVERYBODY in parties or EVENT_SUBJECTS[type(event)] in self.sees

    def owns(self, owner: bytes, subject: Subject) -> bool:
        return self.account == owner or subject in self.sees


def reach_of(caller: Caller | None, wanted: EventFilter) -> Reach:
    """Raises DecodeError for an id that is none."""
    sees = frozenset(subject for subject in Subject if caller is not None and caller.sees_all(subject))
    return Reach(
        None if caller is None else caller.account,
        sees,
        None if wanted.types is None else frozenset(wanted.types),
        optional_id(Prefix.ACCOUNT, wanted.account),
        optional_id(Prefix.PRODUCT, wanted.product),
    )


async def events_list(context: Context, params: EventsListParams) -> EventsListResult:
    """events_list: what the caller may read of the events after the cursor; of products to everybody."""
    service = context.service
    tip = service.state().height
    cursor = parse_cursor(params.cursor, tip)
    reach = reach_of(context.caller(), params.filter)
    shown: list[EventResult] = []
    async for height, found in blocks_after(service, reach, cursor, tip, BLOCKS_PER_PAGE_MAX):
        room = params.limit - len(shown)
        shown += event_results(service, reach, height, found[:room])
        if len(found) > room:
            after = found[room - 1].cursor if room else cursor
            return EventsListResult(tip, shown, str(after), False)
        cursor = Cursor(height, AFTER_BLOCK)
    return EventsListResult(tip, shown, str(cursor), cursor.height >= tip)


async def blocks_after(
    service: NodeService, reach: Reach, cursor: Cursor, tip: int, blocks_max: int, ends: Callable[[], bool] = bool
) -> AsyncIterator[tuple[int, list[Found]]]:
    """Block by block what is reached after the cursor, of at most so many blocks, and after each only until `ends`. A
    height without events closes it when nothing more is known up to `tip`. Raises RpcError −32008 where a block is no
    longer kept."""
    require_kept(service, cursor)
    heights = _heights(service, reach, cursor.height - 1 if cursor.number < AFTER_BLOCK else cursor.height, tip)
    for looked, (height, wanted) in enumerate(heights):
        if looked == blocks_max:
            return
        found = [
            entry
            for entry in _events(service, height, wanted)
            if entry.cursor > cursor and reach.holds(service, entry.event)
        ]
        yield height, found
        # One block may hold tens of thousands of events: others get their turn in between.
        await asyncio.sleep(0)
        if ends():
            return
    yield tip, []


def require_kept(service: NodeService, cursor: Cursor) -> None:
    """Raise RpcError −32008 if blocks after the cursor are no longer kept; `first` is the lowest that is."""
    first = service.blocks_first
    if cursor < Cursor(first - 1, AFTER_BLOCK):
        go_on = Cursor(first - 1, AFTER_BLOCK)
        raise RpcError(CURSOR_INVALID, f"blocks below {first} are pruned: go on from {go_on}", {"first": first})


def _heights(service: NodeService, reach: Reach, after: int, tip: int) -> Iterator[tuple[int, frozenset[Place] | None]]:
    """The heights to look at, ascending, with the places of interest (None: all)."""
    if reach.sees:
        yield from ((height, None) for height in range(after + 1, tip + 1))
        return
    names = {EVERYBODY} if reach.account is None else {EVERYBODY, reach.account}
    entries = heapq.merge(*(service.event_places(name, after) for name in sorted(names)))
    for height, group in groupby(entries, key=lambda entry: entry[0]):
        if height > tip:
            return
        yield height, frozenset(place for _, entry in group for place in places(entry))


def _events(service: NodeService, height: int, wanted: frozenset[Place] | None) -> Iterator[Found]:
    """The events of a block in order, decoding only the receipts that hold them."""
    try:
        receipts = service.receipts(height)
    except HeightUnavailable as error:
        raise RpcError(CURSOR_INVALID, "the blocks of that cursor are pruned", {"first": error.first}) from None
    if wanted is None:
        number = 0
        for leaf in range(len(receipts.automatic) + len(receipts.transactions)):
            receipt = decoded_receipt(receipts.automatic, receipts.transactions, leaf)
            for event in receipt.events:
                yield _found(height, number, receipt, event)
                number += 1
        return
    for leaf, group in groupby(sorted(wanted), key=lambda place: place.leaf):
        receipt = decoded_receipt(receipts.automatic, receipts.transactions, leaf)
        for place in group:
            yield _found(height, place.number, receipt, receipt.events[place.offset])


def decoded_receipt(
    automatic: tuple[bytes, ...], transactions: tuple[bytes, ...], leaf: int
) -> AutomaticReceipt | Receipt:
    """Receipt number `leaf` under the receipts root."""
    if leaf < len(automatic):
        return decode(AutomaticReceipt, automatic[leaf])
    return decode(Receipt, transactions[leaf - len(automatic)])


def _found(height: int, number: int, receipt: AutomaticReceipt | Receipt, event: ledger.Event) -> Found:
    cursor = Cursor(height, number)
    if isinstance(receipt, Receipt):
        return Found(cursor, receipt.transaction, None, event)
    return Found(cursor, None, receipt.kind, event)


def event_results(service: NodeService, reach: Reach, height: int, found: Sequence[Found]) -> Iterator[EventResult]:
    """Events of one block as this caller may see them."""
    if found:
        time = form.time(service.header(height).time_ms)
        for entry in found:
            yield _event_result(reach, entry, time)


def _event_result(reach: Reach, entry: Found, time: form.Time) -> EventResult:
    event = render(entry.event)
    if isinstance(entry.event, RfqCreated) and not reach.owns(entry.event.requester, Subject.TRADE):
        event["responders"] = None
    return EventResult(
        str(entry.cursor),
        entry.cursor.height,
        time,
        None if entry.transaction is None else form.transaction(entry.transaction),
        entry.automatic,
        event,
    )

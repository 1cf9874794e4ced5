"""Methods that read decisions, and what the ledger will do by itself."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from otcnode.errors import DecodeError
from otcnode.ids import Prefix, show
from otcnode.rpc import format as form
from otcnode.rpc.access import Caller, Subject, require_sight
from otcnode.rpc.listing import RangeParams, Rows, Span, answer, by_time, list_type, optional_id, span_of
from otcnode.rpc.method import Context, Result
from otcnode.rpc.reader import Reader
from otcnode.rpc.render import render, shown_type
from otcnode.vm.accounts.records import ENTRUSTMENTS, FREEZES, RECOVERIES
from otcnode.vm.contracts.records import CONTRACTS, Contract
from otcnode.vm.due import DUE, DUE_BY_ITEM, LANE_RELEASE, LANE_REST, DueClass, DueItem, due_time
from otcnode.vm.governance.proposals import kind_of
from otcnode.vm.governance.records import PROPOSALS, PROPOSALS_BY_TIME, Proposal, ProposalStatus
from otcnode.vm.keys import Table, integer
from otcnode.vm.parties import EVERYBODY
from otcnode.vm.products.records import PRODUCTS, REDEMPTIONS, Redemption
from otcnode.vm.trades.records import OFFERS, QUOTES, RFQS, TRADES, Quote

GOVERNANCE_LIST = "governance_list"
DUE_LIST = "due_list"


class GovernanceListParams(RangeParams, frozen=True):
    """Filters are ANDed; `from` and `to` are of the time of proposing. `kind` is the action's, such as ROLE_SET."""

    status: ProposalStatus | None = None
    kind: str | None = None
    proposer: form.AccountText | None = None


class DueListParams(RangeParams, frozen=True):
    """Filters are ANDed; `from` and `to` are of the due time. `item` is the id of anything, `kind` such as
    trade.settle."""

    kind: str | None = None
    item: str | None = None
    product: form.ProductText | None = None


class DueView(Result, frozen=True):
    """`due_class` 1 are expiries and releases, 2 coupons and maturity, 3 close and establishment, 4 settlements; at one
    due time they run in this order."""

    due: form.Time
    due_class: int
    kind: str
    item: str
    product: form.ProductText | None


ProposalView = msgspec.defstruct(
    "ProposalView", [("id", form.ProposalText), ("kind", str), ("proposal", shown_type(Proposal))], frozen=True
)
GovernanceListResult = list_type("GovernanceListResult", "proposals", ProposalView)
DueListResult = list_type("DueListResult", "items", DueView)


async def governance_list(context: Context, params: GovernanceListParams) -> dict[str, Any]:
    """governance_list: for the roles that decide, and the auditor; in the order of proposing."""
    require_sight(context.caller(), Subject.GOVERNANCE)
    proposer = optional_id(Prefix.ACCOUNT, params.proposer)
    span = span_of(params)

    def rows(state: Reader, after: bytes | None) -> Rows:
        for place, name in by_time(state, PROPOSALS_BY_TIME, b"", after, span):
            record = state.get(PROPOSALS, name)
            assert record is not None
            kind = kind_of(record.action)
            wanted = (
                params.status in (None, record.status)
                and params.kind in (None, kind)
                and proposer in (None, record.proposer)
            )
            view = {"id": form.proposal(name), "kind": kind, "proposal": render(record)}
            yield place, view if wanted else None

    return await answer(context, params, GOVERNANCE_LIST, "proposals", rows)


# the due queue

Concerned = Callable[[Reader, Any], tuple[bytes, ...]]


class Kind(msgspec.Struct, frozen=True):
    """How the items of a kind are named and shown: the id's prefix, the table of the record, whom it concerns."""

    prefix: Prefix | None
    table: Table[Any] | None
    parties: Concerned


def _nobody(state: Reader, record: Any) -> tuple[bytes, ...]:
    return ()


def _everybody(state: Reader, record: Any) -> tuple[bytes, ...]:
    return (EVERYBODY,)


def _account(state: Reader, record: Any) -> tuple[bytes, ...]:
    return (record.account,)


def _of_contract(state: Reader, record: Contract) -> tuple[bytes, ...]:
    return (record.creator, *(slot.account for slot in record.slots))


def _of_redemption(state: Reader, record: Redemption) -> tuple[bytes, ...]:
    product = state.get(PRODUCTS, record.product)
    return (record.account,) if product is None else (record.account, product.issuer)


def _of_quote(state: Reader, record: Quote) -> tuple[bytes, ...]:
    request = state.get(RFQS, record.rfq)
    return (record.responder,) if request is None else (record.responder, request.requester)


_product = Kind(Prefix.PRODUCT, PRODUCTS, _everybody)
_contract = Kind(Prefix.CONTRACT, CONTRACTS, _of_contract)
_trade = Kind(Prefix.TRADE, TRADES, lambda state, record: (record.buyer, record.seller))
DUE_SHOWN: dict[str, Kind] = {
    "account.pending_end": Kind(Prefix.ACCOUNT, None, _nobody),
    "freeze.end": Kind(None, FREEZES, _account),
    "recovery.step": Kind(None, RECOVERIES, _account),
    "cash.risen": Kind(None, None, _nobody),
    "entrustment.expire": Kind(
        Prefix.ENTRUSTMENT, ENTRUSTMENTS, lambda state, record: (record.principal, record.agent)
    ),
    "contract.phase_end": _contract,
    "contract.turn": _contract,
    "product.open": _product,
    "product.close": _product,
    "product.establish": _product,
    "product.pay": _product,
    "product.grace": _product,
    "redemption.lapse": Kind(Prefix.REDEMPTION, REDEMPTIONS, _of_redemption),
    "trade.expire": _trade,
    "trade.settle": _trade,
    "offer.expire": Kind(Prefix.OFFER, OFFERS, _account),
    "rfq.expire": Kind(Prefix.RFQ, RFQS, lambda state, record: (record.requester, *record.responders)),
    "quote.expire": Kind(Prefix.QUOTE, QUOTES, _of_quote),
    "proposal.expire": Kind(Prefix.GOVERNANCE, None, _nobody),
}
"""Kind of a due item to how it is shown; those that concern nobody are for the roles that see everything."""


async def due_list(context: Context, params: DueListParams) -> dict[str, Any]:
    """due_list: what comes by itself, in the order in which it will run: of products to everybody, of other things to
    their parties."""
    caller = context.caller()
    product = optional_id(Prefix.PRODUCT, params.product)
    span = span_of(params)
    one = None if params.item is None else _item_id(params.item)

    def rows(state: Reader, after: bytes | None) -> Rows:
        for place, key, entry in _due(state, after, span) if one is None else _due_of(state, one, after, span):
            if span.is_before(due_time(key)):
                return
            shown = DUE_SHOWN[entry.kind]
            item = entry.item.hex() if shown.prefix is None else show(shown.prefix, entry.item)
            wanted = (
                params.kind in (None, entry.kind)
                and params.item in (None, item)
                and product in (None, entry.product)
                and _may_see_due(state, caller, shown, entry)
            )
            yield place, _due_view(key, item, entry) if wanted else None

    return await answer(context, params, DUE_LIST, "items", rows)


def _due(state: Reader, after: bytes | None, span: Span) -> Iterator[tuple[bytes, bytes, DueItem]]:
    """(place, key, entry) over both lanes, by due time, class and sequence; the place is the key without its lane."""
    start = integer(span.first) if after is None else after
    lanes = [state.scan(DUE, lane, lane + start) for lane in (LANE_RELEASE, LANE_REST)]
    merged = heapq.merge(*lanes, key=lambda pair: pair[0][1:])
    return ((key[1:], key, entry) for key, entry in merged)


def _due_of(state: Reader, item: bytes, after: bytes | None, span: Span) -> Iterator[tuple[bytes, bytes, DueItem]]:
    """The same of one item, through its index."""
    start = integer(span.first) if after is None else after
    found = state.get(DUE_BY_ITEM, item)
    keys = sorted((place.key for place in found.places) if found else (), key=lambda key: key[1:])
    for key in keys:
        entry = state.get(DUE, key)
        if entry is not None and key[1:] > start:
            yield key[1:], key, entry


def _item_id(text: str) -> bytes:
    """Of anything: with its prefix, or in hexadecimal if there is none for its kind. Raises DecodeError."""
    prefix = text.partition("1")[0]
    if prefix in {known.value for known in Prefix}:
        return form.parse_id(Prefix(prefix), text)
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise DecodeError(f"item: {text!r} is no identifier") from None


def _may_see_due(state: Reader, caller: Caller | None, shown: Kind, entry: DueItem) -> bool:
    if caller is not None and caller.sees_all(Subject.BLOCK):
        return True
    if shown.table is None:
        return False
    record = state.get(shown.table, entry.item)
    if record is None:
        return False
    parties = shown.parties(state, record)
    return EVERYBODY in parties or (caller is not None and caller.account in parties)


def _due_view(key: bytes, item: str, entry: DueItem) -> dict[str, Any]:
    return {
        "due": form.time(due_time(key)),
        "due_class": DueClass(key[9]).value,
        "kind": entry.kind,
        "item": item,
        "product": None if entry.product is None else form.product(entry.product),
    }

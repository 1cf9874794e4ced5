"""Methods that read offers and requests for quotes: what is disclosed to whom, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from otcnode.ids import Prefix
from otcnode.rpc import format as form
from otcnode.rpc.access import Caller, Subject, forbidden, require_login, whose
from otcnode.rpc.listing import RangeParams, Rows, Span, answer, by_id, by_time, list_type, optional_id, span_of
from otcnode.rpc.method import Context
from otcnode.rpc.reader import Reader
from otcnode.rpc.render import render, shown_type
from otcnode.vm.keys import OPEN_OFFER, OPEN_QUOTE, OPEN_RFQ
from otcnode.vm.trades.records import (
    OFFERS,
    QUOTES,
    RFQS,
    TRADING_BY_ACCOUNT,
    TRADING_BY_PRODUCT,
    Offer,
    OfferStatus,
    Quote,
    Rfq,
    RfqStatus,
    Side,
)

OFFER_LIST = "offer_list"
RFQ_LIST = "rfq_list"
QUOTES_SHOWN_MAX = 1_000

OFFER_HIDDEN = frozenset({"entrustment", "cash_cap", "whitelist"})
"""What the owner of an offer does not disclose to those it is for."""
RFQ_HIDDEN = frozenset({"responders", "quotes"})
"""What a responder does not learn: who else was asked, and how many answered."""


class OfferListParams(RangeParams, frozen=True):
    """Filters are ANDed; `from` and `to` are of the time of listing. `party` is who made the offer."""

    party: form.AccountText | None = None
    product: form.ProductText | None = None
    side: Side | None = None
    status: OfferStatus | None = None


class RfqListParams(RangeParams, frozen=True):
    """Filters are ANDed; `from` and `to` are of the time of the request. Without `rfq` or `party` those that the caller
    made or was asked in are listed, or everybody's for a role that sees trades."""

    rfq: form.RfqText | None = None
    party: form.AccountText | None = None
    product: form.ProductText | None = None
    status: RfqStatus | None = None


OfferView = msgspec.defstruct(
    "OfferView",
    [("id", form.OfferText), ("offer", shown_type(Offer, OFFER_HIDDEN))],
    frozen=True,
    namespace={"__doc__": "`entrustment`, `cash_cap` and `whitelist` are null to all but the owner."},
)
QuoteView = msgspec.defstruct("QuoteView", [("id", form.QuoteText), ("quote", shown_type(Quote))], frozen=True)
RfqView = msgspec.defstruct(
    "RfqView",
    [("id", form.RfqText), ("rfq", shown_type(Rfq, RFQ_HIDDEN)), ("quotes", list[QuoteView])],  # type: ignore[valid-type]
    frozen=True,
    namespace={
        "__doc__": "The requester sees all quotes, the first of them where there are very many; a responder its own"
        " only, and null for `responders` and the number of `quotes`. A sealed price is null until the hit reveals it."
    },
)
OfferListResult = list_type("OfferListResult", "offers", OfferView)
RfqListResult = list_type("RfqListResult", "requests", RfqView)


async def offer_list(context: Context, params: OfferListParams) -> dict[str, Any]:
    """offer_list: open offers to those they are for (all who are logged in, or the whitelist), others to their owner;
    of a party or of a product in the order of listing, else in the order of ids."""
    caller = require_login(context.caller())
    party, product = optional_id(Prefix.ACCOUNT, params.party), optional_id(Prefix.PRODUCT, params.product)
    span = span_of(params)

    def rows(state: Reader, after: bytes | None) -> Rows:
        for place, name in _keys(state, after, OPEN_OFFER, party, product, span):
            record = state.get(OFFERS, name)
            assert record is not None
            wanted = (
                _may_see_offer(caller, record)
                and product in (None, record.product)
                and params.side in (None, record.side)
                and params.status in (None, record.status)
                and span.holds(record.created_at)
            )
            yield place, _offer(caller, name, record) if wanted else None

    return await answer(context, params, OFFER_LIST, "offers", rows)


def _keys(
    state: Reader, after: bytes | None, kind: bytes, party: bytes | None, product: bytes | None, span: Span
) -> Iterator[tuple[bytes, bytes]]:
    if party is not None:
        return by_time(state, TRADING_BY_ACCOUNT, party + kind, after, span)
    if product is not None:
        return by_time(state, TRADING_BY_PRODUCT, product + kind, after, span)
    return by_id(state, OFFERS if kind == OPEN_OFFER else RFQS, after)


def _owns(caller: Caller, owner: bytes) -> bool:
    return caller.account == owner or caller.sees_all(Subject.TRADE)


def _may_see_offer(caller: Caller, record: Offer) -> bool:
    disclosed = record.status is OfferStatus.OPEN and (not record.whitelist or caller.account in record.whitelist)
    return disclosed or _owns(caller, record.account)


def _offer(caller: Caller, name: bytes, record: Offer) -> dict[str, Any]:
    shown = render(record)
    if not _owns(caller, record.account):
        shown |= dict.fromkeys(OFFER_HIDDEN)
    return {"id": form.offer(name), "offer": shown}


async def rfq_list(context: Context, params: RfqListParams) -> dict[str, Any]:
    """rfq_list: for the requester and its responders; the price of a quote stays between the two it concerns."""
    caller = require_login(context.caller())
    party = whose(caller, Subject.TRADE, optional_id(Prefix.ACCOUNT, params.party))
    product = optional_id(Prefix.PRODUCT, params.product)
    only = optional_id(Prefix.RFQ, params.rfq)
    span = span_of(params)

    def rows(state: Reader, after: bytes | None) -> Rows:
        keys = _keys(state, after, OPEN_RFQ, party, product, span)
        if only is not None:
            keys = iter([(only, only)] if after is None else [])
        for place, name in keys:
            record = state.get(RFQS, name)
            if record is None or not _may_see_request(caller, record):
                raise forbidden()
            wanted = (
                (party is None or party in (record.requester, *record.responders))
                and product in (None, record.product)
                and params.status in (None, record.status)
                and span.holds(record.created_at)
            )
            yield place, _request(state, caller, name, record) if wanted else None

    return await answer(context, params, RFQ_LIST, "requests", rows)


def _may_see_request(caller: Caller, record: Rfq) -> bool:
    return _owns(caller, record.requester) or caller.account in record.responders


def _request(state: Reader, caller: Caller, name: bytes, record: Rfq) -> dict[str, Any]:
    shown = render(record)
    owner = _owns(caller, record.requester)
    if not owner:
        shown |= dict.fromkeys(RFQ_HIDDEN)
    quotes = []
    for suffix, _ in state.scan(TRADING_BY_PRODUCT, name + OPEN_QUOTE, limit=QUOTES_SHOWN_MAX):
        quote = state.get(QUOTES, suffix[-32:])
        assert quote is not None
        if owner or quote.responder == caller.account:
            quotes.append({"id": form.quote(suffix[-32:]), "quote": render(quote)})
    return {"id": form.rfq(name), "rfq": shown, "quotes": quotes}

"""Cancelling an open item of any family by decision of governance; a deadline that has passed is E_EXPIRED."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from otcnode.errors import Code
from otcnode.vm.accounts import entrustments, withdrawals
from otcnode.vm.accounts.records import ENTRUSTMENTS, WITHDRAWALS, EntrustmentStatus
from otcnode.vm.context import Context, fail
from otcnode.vm.contracts import lifecycle
from otcnode.vm.contracts.records import CONTRACTS, ContractStatus
from otcnode.vm.governance.records import ItemCancel, ItemKind
from otcnode.vm.keys import Table
from otcnode.vm.products import redemptions, subscriptions
from otcnode.vm.products.eligibility import terms
from otcnode.vm.products.records import REDEMPTIONS, SUBSCRIPTIONS, SubscriptionStatus
from otcnode.vm.trades import books, negotiated, offers, rfqs
from otcnode.vm.trades.records import (
    OFFERS,
    QUOTES,
    RFQS,
    TRADES,
    OfferStatus,
    QuoteStatus,
    RfqStatus,
    TradeStatus,
)

REASON = "cancelled by governance"

_VOIDABLE = frozenset({ContractStatus.DRAFT, ContractStatus.CONFIRMING, ContractStatus.SIGNING})


def _contract(context: Context, name: bytes) -> None:
    record = context.need(CONTRACTS, name, "contract")
    lifecycle.refuse_unless(context, record, _VOIDABLE, lifecycle.phase_deadline(record))
    lifecycle.move(context, name, record, ContractStatus.VOIDED, REASON)


def _subscription(context: Context, name: bytes) -> None:
    entry = context.need(SUBSCRIPTIONS, name, "subscription")
    if entry.status is not SubscriptionStatus.LOCKED:
        fail(Code.STATE, f"subscription is {entry.status.value}")
    if context.now >= terms(context, entry.product).close:
        fail(Code.EXPIRED, "the subscription period is over")
    subscriptions.end_subscription(context, name, entry, SubscriptionStatus.CANCELLED, REASON)


def _trade(context: Context, name: bytes) -> None:
    trade = context.need(TRADES, name, "trade")
    if trade.status is TradeStatus.LOCKED:
        books.refuse_unless(context, trade.status, TradeStatus.LOCKED, trade.settle_at, trade.ended_at)
        negotiated.cancel_locked(context, name, trade)
        return
    books.refuse_unless(context, trade.status, TradeStatus.PROPOSED, trade.affirm_by, trade.ended_at)
    negotiated.drop(context, name, trade, TradeStatus.WITHDRAWN)


def _offer(context: Context, name: bytes) -> None:
    offer = context.need(OFFERS, name, "offer")
    books.refuse_unless(context, offer.status, OfferStatus.OPEN, offer.until, offer.ended_at)
    offers.end(context, name, offer, OfferStatus.CANCELLED)


def _rfq(context: Context, name: bytes) -> None:
    request = context.need(RFQS, name, "request")
    books.refuse_unless(context, request.status, RfqStatus.OPEN, request.until, request.ended_at)
    rfqs.end(context, name, request, RfqStatus.CANCELLED, QuoteStatus.CANCELLED)


def _quote(context: Context, name: bytes) -> None:
    quote = context.need(QUOTES, name, "quote")
    books.refuse_unless(context, quote.status, QuoteStatus.ACTIVE, quote.until, quote.ended_at)
    rfqs.end_quote(context, name, quote, QuoteStatus.CANCELLED)


def _entrustment(context: Context, name: bytes) -> None:
    record = context.need(ENTRUSTMENTS, name, "entrustment")
    entrustments.refuse_unless(context, record, EntrustmentStatus.ACTIVE)
    entrustments.move(context, name, record, EntrustmentStatus.REVOKED)


_CANCEL: dict[ItemKind, Callable[[Context, bytes], None]] = {
    ItemKind.CONTRACT: _contract,
    ItemKind.SUBSCRIPTION: _subscription,
    ItemKind.REDEMPTION: lambda context, name: redemptions.reject_open(context, name, REASON),
    ItemKind.TRADE: _trade,
    ItemKind.OFFER: _offer,
    ItemKind.RFQ: _rfq,
    ItemKind.QUOTE: _quote,
    ItemKind.WITHDRAWAL: lambda context, name: withdrawals.cancel_locked(context, name, REASON),
    ItemKind.ENTRUSTMENT: _entrustment,
}

_TABLES: dict[ItemKind, Table[Any]] = {
    ItemKind.CONTRACT: CONTRACTS,
    ItemKind.SUBSCRIPTION: SUBSCRIPTIONS,
    ItemKind.REDEMPTION: REDEMPTIONS,
    ItemKind.TRADE: TRADES,
    ItemKind.OFFER: OFFERS,
    ItemKind.RFQ: RFQS,
    ItemKind.QUOTE: QUOTES,
    ItemKind.WITHDRAWAL: WITHDRAWALS,
    ItemKind.ENTRUSTMENT: ENTRUSTMENTS,
}


def check_item(context: Context, action: ItemCancel) -> None:
    """Failed(E_NOT_FOUND) if there is no such item of the kind."""
    context.need(_TABLES[action.kind], action.item, action.kind.value)


def cancel_item(context: Context, action: ItemCancel) -> None:
    """Failed(E_NOT_FOUND, E_EXPIRED, E_STATE) unless it is open and its time has not passed."""
    _CANCEL[action.kind](context, action.item)

"""What operations on trades, offers and requests report, beside the movements of cash and units."""

from __future__ import annotations

from otcnode.codec import Record
from otcnode.errors import Code
from otcnode.types import AccountId, Bytes32, Milliseconds, Natural
from otcnode.vm.trades.records import OfferStatus, QuoteStatus, RfqStatus, Side, TradeStatus


class TradeProposed(Record, frozen=True, tag="trade.proposed"):
    """`side` is the proposer's."""

    trade: Bytes32
    proposer: AccountId
    counterparty: AccountId
    side: Side
    product: Bytes32
    quantity: Natural
    price: Natural
    contract: Bytes32
    affirm_by: Milliseconds
    settle_at: Milliseconds | None


class TradeExecuted(Record, frozen=True, tag="trade.executed"):
    """Both parties agreed. Each side pays `fee`; `source` is the offer or quote it came from."""

    trade: Bytes32
    buyer: AccountId
    seller: AccountId
    product: Bytes32
    quantity: Natural
    price: Natural
    clean: Natural
    accrued: Natural
    fee: Natural
    settle_at: Milliseconds | None
    source: Bytes32 | None


class TradeChanged(Record, frozen=True, tag="trade.changed"):
    """The trade reached a status; `failure` says why it FAILED."""

    trade: Bytes32
    buyer: AccountId
    seller: AccountId
    status: TradeStatus
    failure: Code | None


class TradeCancelAsked(Record, frozen=True, tag="trade.cancel_asked"):
    """One party wants to give the trade up; it stands until the other wants so too."""

    trade: Bytes32
    account: AccountId


class OfferListed(Record, frozen=True, tag="offer.listed"):
    offer: Bytes32
    account: AccountId
    side: Side
    product: Bytes32
    quantity: Natural
    price: Natural


class OfferFilled(Record, frozen=True, tag="offer.filled"):
    """A take; the offer stands for what remains."""

    offer: Bytes32
    account: AccountId
    trade: Bytes32
    quantity: Natural
    remaining: Natural


class OfferChanged(Record, frozen=True, tag="offer.changed"):
    offer: Bytes32
    account: AccountId
    status: OfferStatus


class RfqCreated(Record, frozen=True, tag="rfq.created"):
    rfq: Bytes32
    requester: AccountId
    side: Side
    product: Bytes32
    quantity: Natural
    responders: tuple[AccountId, ...]
    until: Milliseconds


class RfqChanged(Record, frozen=True, tag="rfq.changed"):
    rfq: Bytes32
    requester: AccountId
    status: RfqStatus


class QuoteSubmitted(Record, frozen=True, tag="quote.submitted"):
    """The price is not told: of the quotes that lose it stays between the two parties."""

    quote: Bytes32
    rfq: Bytes32
    responder: AccountId
    firm: bool
    until: Milliseconds


class QuoteChanged(Record, frozen=True, tag="quote.changed"):
    quote: Bytes32
    rfq: Bytes32
    responder: AccountId
    status: QuoteStatus

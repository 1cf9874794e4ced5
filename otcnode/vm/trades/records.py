"""What the state holds about trades, offers, requests for quotes and quotes.

Quantities are in 10^-quantity_decimals units, prices in 10^-4 currency per unit, money in minor units of the product's
cash, times in ms.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, TypeAlias

from msgspec import Meta

from otcnode.codec import Record
from otcnode.crypto import tagged_hash
from otcnode.errors import Code
from otcnode.types import AccountId, Bytes32, Hash, Milliseconds, Natural
from otcnode.vm.keys import Marker, Prefix, Table

WHITELIST_MAX = 64
RESPONDERS_MAX = 32
QUOTE_DOMAIN = "otcnode/sealed-quote/1"

Accounts: TypeAlias = Annotated[tuple[AccountId, ...], Meta(max_length=WHITELIST_MAX)]
"""Ascending, each once."""


class Side(StrEnum):
    """What the one who says it does."""

    BUY = "BUY"
    SELL = "SELL"

    @property
    def opposite(self) -> Side:
        return Side.SELL if self is Side.BUY else Side.BUY


class TradeStatus(StrEnum):
    """EXECUTED is passed through inside one transaction: both agreed; it ends LOCKED, or at T+0 SETTLED."""

    PROPOSED = "PROPOSED"
    REJECTED = "REJECTED"
    WITHDRAWN = "WITHDRAWN"
    EXPIRED = "EXPIRED"
    EXECUTED = "EXECUTED"
    LOCKED = "LOCKED"
    SETTLED = "SETTLED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class OfferStatus(StrEnum):
    OPEN = "OPEN"
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"


class RfqStatus(StrEnum):
    OPEN = "OPEN"
    FILLED = "FILLED"
    PASSED = "PASSED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"


class QuoteStatus(StrEnum):
    """COVER is the best live firm quote after the one hit, as far as prices are open; DONE_AWAY are the others."""

    ACTIVE = "ACTIVE"
    HIT = "HIT"
    COUNTERED = "COUNTERED"
    COVER = "COVER"
    DONE_AWAY = "DONE_AWAY"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"


_T, _O, _R, _Q = TradeStatus, OfferStatus, RfqStatus, QuoteStatus

TRADE_TRANSITIONS: dict[TradeStatus, frozenset[TradeStatus]] = {
    _T.PROPOSED: frozenset({_T.REJECTED, _T.WITHDRAWN, _T.EXPIRED, _T.EXECUTED}),
    # SETTLED at once is T+0: both legs change hands in the same step, nothing needs a lock in between
    _T.EXECUTED: frozenset({_T.LOCKED, _T.SETTLED}),
    _T.LOCKED: frozenset({_T.SETTLED, _T.FAILED, _T.CANCELLED}),
}
OFFER_TRANSITIONS: dict[OfferStatus, frozenset[OfferStatus]] = {
    _O.OPEN: frozenset({_O.FILLED, _O.CANCELLED, _O.EXPIRED}),
}
RFQ_TRANSITIONS: dict[RfqStatus, frozenset[RfqStatus]] = {
    _R.OPEN: frozenset({_R.FILLED, _R.PASSED, _R.CANCELLED, _R.EXPIRED}),
}
QUOTE_TRANSITIONS: dict[QuoteStatus, frozenset[QuoteStatus]] = {
    _Q.ACTIVE: frozenset({_Q.HIT, _Q.COUNTERED, _Q.COVER, _Q.DONE_AWAY, _Q.CANCELLED, _Q.EXPIRED}),
}
"""What may follow a status; the statuses that are no key are terminal."""


class Trade(Record, frozen=True):
    """A transfer of units against cash. `proposer` is the party that proposed, took or hit; `agent` did it for the
    proposer, and may not act for the other party.

    `settle_at` None is T+0. `affirm_by` is set for a negotiated trade, `source` (an offer or a quote) for the others.
    `clean`, `accrued` and `fee` (each side's) are fixed when it is executed and 0 before. `failure` says why it FAILED.
    """

    proposer: AccountId
    agent: AccountId | None
    buyer: AccountId
    seller: AccountId
    product: Bytes32
    quantity: Natural
    price: Natural
    contract: Bytes32
    affirm_by: Milliseconds | None
    settle_at: Milliseconds | None
    source: Bytes32 | None
    clean: Natural
    accrued: Natural
    fee: Natural
    status: TradeStatus
    failure: Code | None
    cancel_asked_by: AccountId | None
    created_at: Milliseconds
    executed_at: Milliseconds | None
    ended_at: Milliseconds | None

    @property
    def counterparty(self) -> bytes:
        return self.seller if self.proposer == self.buyer else self.buyer

    @property
    def cost(self) -> int:
        """What the buyer pays, its fee included."""
        return self.clean + self.accrued + self.fee

    @property
    def proceeds(self) -> int:
        """What the seller receives, its fee deducted."""
        return self.clean + self.accrued - self.fee


class Offer(Record, frozen=True):
    """A standing offer. A SELL offer's lock, under its own id, is its `remaining` units; a BUY offer's is what is left
    of its `cash_cap`, which is never topped up. `entrustment` is under which an agent listed it for the account."""

    account: AccountId
    entrustment: Bytes32 | None
    side: Side
    product: Bytes32
    quantity: Natural
    price: Natural
    contract: Bytes32
    min_fill: Natural
    all_or_none: bool
    not_before: Milliseconds
    until: Milliseconds
    whitelist: Accounts
    cash_cap: Natural
    remaining: Natural
    status: OfferStatus
    created_at: Milliseconds
    ended_at: Milliseconds | None


class Rfq(Record, frozen=True):
    """A request for quotes to named responders. `side` is the requester's. `quotes` counts all it ever received."""

    requester: AccountId
    side: Side
    product: Bytes32
    quantity: Natural
    contract: Bytes32
    responders: Accounts
    until: Milliseconds
    settle_at: Milliseconds | None
    quotes: Natural
    status: RfqStatus
    trade: Bytes32 | None
    created_at: Milliseconds
    ended_at: Milliseconds | None


class Quote(Record, frozen=True):
    """An answer to a request, for its whole quantity. A firm one holds its leg in a lock under its own id.

    A sealed quote has a `commitment` and no `price` until it is hit; a sealed buyer's lock is its `cash_cap`.
    `sequence` is its place among the quotes of the request. `agent` quoted for the responder, and may not act for the
    requester.
    """

    rfq: Bytes32
    responder: AccountId
    agent: AccountId | None
    firm: bool
    price: Natural | None
    commitment: Hash | None
    cash_cap: Natural
    until: Milliseconds
    sequence: Natural
    status: QuoteStatus
    counter_price: Natural | None
    created_at: Milliseconds
    ended_at: Milliseconds | None


class Turnaround(Record, frozen=True):
    """When an account last bought and last sold a product; 0 is never."""

    bought_at: Milliseconds
    sold_at: Milliseconds


class ActiveQuote(Record, frozen=True):
    quote: Bytes32


def quote_commitment(rfq: bytes, responder: bytes, price: int, salt: bytes) -> bytes:
    """What a sealed quote commits to; the salt keeps the price from being guessed."""
    return tagged_hash(QUOTE_DOMAIN, rfq + responder + price.to_bytes(8, "big") + salt)


TRADES = Table(Prefix.TRADE, Trade)
"""trade id"""
OFFERS = Table(Prefix.OFFER, Offer)
"""offer id"""
RFQS = Table(Prefix.RFQ, Rfq)
"""request id"""
QUOTES = Table(Prefix.QUOTE, Quote)
"""quote id"""
ACTIVE_QUOTES = Table(Prefix.QUOTE_BY_RFQ, ActiveQuote)
"""request id ‖ responder's account id, while that responder's quote is ACTIVE"""
TURNAROUNDS = Table(Prefix.TURNAROUND, Turnaround)
"""product id ‖ account id, for products with a turnaround"""
TRADING_BY_PRODUCT = Table(Prefix.TRADE_BY_PRODUCT, Marker)
"""product id (for a quote its request's id) ‖ kind byte (keys.OPEN_*) ‖ time of creation ‖ item id"""
TRADING_BY_ACCOUNT = Table(Prefix.TRADE_BY_ACCOUNT, Marker)
"""account id of a party ‖ kind byte ‖ time of creation ‖ item id"""
TRADING_OPEN = Table(Prefix.TRADE_OPEN, Marker)
"""product id ‖ kind byte ‖ id of a trade, offer or request that has not ended"""

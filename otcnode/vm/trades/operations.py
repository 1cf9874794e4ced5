"""Operations on trades, standing offers and requests for quotes.

"The own checks of a trade" are, in this order: E_CONTRACT_NOT_EFFECTIVE (the contract is not effective, not a MASTER or
a TRANSFER about the product, or does not bind both principals); the buyer's E_NOT_QUALIFIED, E_SUITABILITY,
E_HOLDER_CAP; the seller's E_LACK_QTY, E_LOCKUP; E_TURNAROUND (the seller's, then the buyer's); the buyer's E_LACK_CASH.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta

from otcnode.codec import Record
from otcnode.types import AccountId, Bytes32, Hash, Milliseconds, Natural
from otcnode.vm.trades.records import RESPONDERS_MAX, Accounts, Side


class TradePropose(Record, frozen=True, tag="trade.propose"):
    """Propose a negotiated trade to a counterparty. Signed by: a party or its agent with scope TRADE (TRADE key).

    Fields: `counterparty`; `side`, the proposer's; `product`; `quantity` in 10^-quantity_decimals units; `price` in
    10^-4 currency per unit; `contract` that binds both; `settle_at` in ms, after now, before maturity and within
    `settle_horizon`, or nil for T+0; `affirm_by` in ms, after now and at most `settle_at` (T+0: 24 hours ahead).
    Effects: PROPOSED, named by this operation's id; nothing is locked; EXPIRED at `affirm_by`.
    Errors: E_NOT_FOUND, E_STATE (product not tradable, counterparty not ACTIVE), E_FROZEN, E_FIELD{counterparty,
    settle_at, affirm_by}, E_AMOUNT (0, or a consideration that rounds to 0), E_OVERFLOW, E_CONTRACT_NOT_EFFECTIVE,
    E_LIMIT.
    """

    counterparty: AccountId
    side: Side
    product: Bytes32
    quantity: Natural
    price: Natural
    contract: Bytes32
    affirm_by: Milliseconds
    settle_at: Milliseconds | None


class TradeAffirm(Record, frozen=True, tag="trade.affirm"):
    """Agree to a proposed trade. Signed by: the counterparty or its agent with scope TRADE (TRADE key).

    Effects: T+0 settles in this transaction (SETTLED), or the operation fails. Else both legs are locked (LOCKED): the
    buyer's clean price + accrued interest to the settlement date + fee, the seller's units; at `settle_at` all is
    checked again and both legs change hands (SETTLED), or both are released (FAILED).
    Errors: E_NOT_FOUND, E_NOT_PARTY, E_EXPIRED (t ≥ affirm_by), E_STATE (not PROPOSED, product not tradable, a party
    not ACTIVE), E_FROZEN, E_AMOUNT, the own checks of a trade, E_LIMIT.
    """

    trade: Bytes32


class TradeReject(Record, frozen=True, tag="trade.reject"):
    """Refuse a proposed trade. Signed by: the counterparty or its agent with scope TRADE (TRADE key).

    Effects: PROPOSED → REJECTED. Passes under a freeze.
    Errors: E_NOT_FOUND, E_NOT_PARTY, E_EXPIRED (t ≥ affirm_by), E_STATE (not PROPOSED).
    """

    trade: Bytes32


class TradeWithdraw(Record, frozen=True, tag="trade.withdraw"):
    """Take a proposal back. Signed by: the proposer or its agent with scope TRADE (TRADE key).

    Effects: PROPOSED → WITHDRAWN. Passes under a freeze.
    Errors: E_NOT_FOUND, E_NOT_PARTY, E_EXPIRED (t ≥ affirm_by), E_STATE (not PROPOSED).
    """

    trade: Bytes32


class TradeCancel(Record, frozen=True, tag="trade.cancel"):
    """Give up a locked trade; both parties must ask. Signed by: a party or its agent with scope TRADE (TRADE key).

    Effects: the first party's wish is noted; the other's completes it: LOCKED → CANCELLED, both legs are released, no
    fee. Passes under a freeze.
    Errors: E_NOT_FOUND, E_NOT_PARTY, E_EXPIRED (t ≥ settle_at), E_STATE (not LOCKED), E_DUPLICATE (asked already).
    """

    trade: Bytes32


class OfferList(Record, frozen=True, tag="offer.list"):
    """Post a standing offer with conditions. Signed by: its owner or an agent with scope TRADE (TRADE key).

    Fields: `side`, the owner's; `product`; `quantity`; `price`; `contract`; `min_fill`, the least quantity of a take,
    worth at least 100.00 unless it is the whole; `all_or_none`, only the whole at once (then `min_fill` is the whole);
    `not_before` in ms, 0 for at once; `until` in ms, after now and `not_before`, within `settle_horizon`; `whitelist`,
    ascending, who may take, empty for everybody the contract binds; `cash_cap` in minor units for BUY, 0 for SELL.
    Effects: OPEN; SELL locks the units, BUY the cap, which is never topped up.
    Errors: E_NOT_FOUND, E_STATE (product not tradable), E_FROZEN, E_FIELD{min_fill, not_before, until, whitelist,
    cash_cap}, E_AMOUNT, E_OVERFLOW, E_CONTRACT_NOT_EFFECTIVE (for the owner), E_LACK_QTY, E_LOCKUP (at `not_before`),
    E_LACK_CASH, E_LIMIT.
    """

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


class OfferTake(Record, frozen=True, tag="offer.take"):
    """Take all or a part of a standing offer. Signed by: the taker or its agent with scope TRADE (TRADE key).

    Fields: `offer`; `quantity`, at least `min_fill` or the whole remainder.
    Effects: a trade, named by this operation's id, SETTLED in this transaction, rounded for its own quantity; the offer
    is FILLED when nothing remains, and what is left of a cash cap is released.
    Errors: E_NOT_FOUND, E_NOT_PARTY (the owner, or not on the whitelist), E_SELF_DEALING (the agent that listed it, its
    organisation, or whom it represents), E_EXPIRED (t ≥ until), E_STATE (not OPEN, t < not_before, product not
    tradable, owner not ACTIVE), E_FROZEN, E_AMOUNT (0, more than remains, or a consideration that rounds to 0),
    E_MIN_QTY (less than may be taken), the own checks of a trade (E_LACK_CASH also where the cap does not suffice).
    """

    offer: Bytes32
    quantity: Natural


class OfferCancel(Record, frozen=True, tag="offer.cancel"):
    """Take a standing offer down. Signed by: its owner or an agent with scope TRADE (TRADE key).

    Effects: OPEN → CANCELLED, what it locks is released. Passes under a freeze.
    Errors: E_NOT_FOUND, E_NOT_PARTY, E_EXPIRED (t ≥ until), E_STATE (not OPEN).
    """

    offer: Bytes32


class RfqCreate(Record, frozen=True, tag="rfq.create"):
    """Ask named responders for quotes. Signed by: the requester or its agent with scope TRADE (TRADE key).

    Fields: `side`, the requester's; `product`; `quantity`; `contract`; `responders`, ascending, 1 to 32; `until` in ms,
    after now and at most `settle_at` (T+0: within `settle_horizon`); `settle_at` in ms as in trade.propose, or nil for
    T+0.
    Effects: OPEN, EXPIRED at `until` with its quotes.
    Errors: E_NOT_FOUND, E_STATE (product not tradable, a responder not ACTIVE), E_FROZEN, E_FIELD{responders,
    settle_at, until}, E_AMOUNT (0), E_CONTRACT_NOT_EFFECTIVE (for the requester), E_LIMIT.
    """

    side: Side
    product: Bytes32
    quantity: Natural
    contract: Bytes32
    responders: Annotated[tuple[AccountId, ...], Meta(min_length=1, max_length=RESPONDERS_MAX)]
    until: Milliseconds
    settle_at: Milliseconds | None


class RfqCancel(Record, frozen=True, tag="rfq.cancel"):
    """Take a request back. Signed by: the requester or its agent with scope TRADE (TRADE key).

    Effects: OPEN → CANCELLED, its quotes are CANCELLED and released. Passes under a freeze.
    Errors: E_NOT_FOUND, E_NOT_PARTY, E_EXPIRED (t ≥ until), E_STATE (not OPEN).
    """

    rfq: Bytes32


class QuoteSubmit(Record, frozen=True, tag="quote.submit"):
    """Answer a request, for its whole quantity. Signed by: a named responder or its agent with scope TRADE (TRADE key).

    Fields: `rfq`; `firm`, or indicative, which cannot be hit; `price`, or nil for a sealed quote, which is firm and
    gives a `commitment` instead (records.quote_commitment); `cash_cap` in minor units for a sealed quote to buy, else
    0; `until` in ms, after now and at most the request's.
    Effects: ACTIVE, EXPIRED at `until`; a firm quote locks its leg: the units, or the price with accrued interest and
    fee, or the cap.
    Errors: E_NOT_FOUND, E_NOT_PARTY (not a responder), E_EXPIRED (t ≥ the request's until), E_STATE (request not OPEN,
    product not tradable, requester not ACTIVE), E_FROZEN, E_FIELD{until, price, commitment, cash_cap},
    E_ENTRUST_SCOPE (sealed, by an agent whose prices are bounded), E_ENTRUST_CAP (sealed, to sell, by an agent, where
    there is a trade fee), E_AMOUNT, E_OVERFLOW, E_DUPLICATE (this responder has a quote that is ACTIVE),
    E_CONTRACT_NOT_EFFECTIVE, E_LACK_QTY, E_LOCKUP, E_LACK_CASH, E_LIMIT.
    """

    rfq: Bytes32
    firm: bool
    price: Natural | None
    commitment: Hash | None
    cash_cap: Natural
    until: Milliseconds


class QuoteCancel(Record, frozen=True, tag="quote.cancel"):
    """Take a quote back. Signed by: its responder or an agent with scope TRADE (TRADE key).

    Effects: ACTIVE → CANCELLED, what it locks is released. Passes under a freeze.
    Errors: E_NOT_FOUND, E_NOT_PARTY, E_EXPIRED (t ≥ until), E_STATE (not ACTIVE).
    """

    quote: Bytes32


class Reveal(Record, frozen=True):
    """What opens a sealed quote; the responder gives it to the requester off the chain."""

    price: Natural
    salt: Bytes32


class Hit(Record, frozen=True, tag="HIT"):
    """Deal on the quote, for at most the request's quantity. `reveal` opens a sealed quote, and is nil otherwise."""

    quantity: Natural
    reveal: Reveal | None


class Counter(Record, frozen=True, tag="COUNTER"):
    """Name another price: the quote is released, the responder may quote again."""

    price: Natural


class Pass(Record, frozen=True, tag="PASS"):
    """Deal with nobody: the request is closed."""


Response: TypeAlias = Hit | Counter | Pass


class QuoteRespond(Record, frozen=True, tag="quote.respond"):
    """Answer a quote. Signed by: the requester or its agent with scope TRADE (TRADE key).

    Fields: `quote`; `response`: HIT a quantity, COUNTER with a price, or PASS.
    Effects: HIT executes a trade, named by this operation's id, settled in this transaction (T+0) or locked until the
    request's `settle_at`, computed for its own quantity and date; the request is FILLED, the best of the other live
    firm quotes whose price is open (of equals the earlier) becomes COVER, all others DONE_AWAY, all are released.
    COUNTER: → COUNTERED, released. PASS: the request is PASSED, its quotes DONE_AWAY and released.
    Errors: E_NOT_FOUND, E_NOT_PARTY, E_EXPIRED (t ≥ the quote's until), E_STATE (not ACTIVE; HIT: product not tradable,
    responder not ACTIVE), E_FROZEN (not for PASS), E_FIELD{reveal}, E_AMOUNT, E_OVERFLOW; HIT: E_QUOTE_NOT_FIRM, then
    the own checks of a trade (a sealed buyer's cap is not topped up), E_LIMIT.
    """

    quote: Bytes32
    response: Response

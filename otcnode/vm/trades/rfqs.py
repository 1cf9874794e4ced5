"""Requests for quotes: asked of named responders, answered firm or indicative, open or sealed; one hit fills one.

A request and its quotes end together: by a hit, a pass, the requester's cancelling, or time.
"""

from __future__ import annotations

from typing import assert_never

from msgspec.structs import replace

from otcnode.errors import Code
from otcnode.genesis import KeyPurpose
from otcnode.vm import balances
from otcnode.vm.accounts.records import ENTRUSTMENTS, LockPurpose
from otcnode.vm.context import Context, fail
from otcnode.vm.contracts import binding
from otcnode.vm.due import DueClass, DueItem
from otcnode.vm.keys import OPEN_QUOTE, OPEN_RFQ
from otcnode.vm.products.eligibility import product, terms, tradable
from otcnode.vm.rules import DueHandler, DueWeight, Mandate, Rule, Scope
from otcnode.vm.state import State
from otcnode.vm.trades import books, deals, events
from otcnode.vm.trades.operations import (
    Counter,
    Hit,
    Pass,
    QuoteCancel,
    QuoteRespond,
    QuoteSubmit,
    RfqCancel,
    RfqCreate,
)
from otcnode.vm.trades.records import (
    ACTIVE_QUOTES,
    QUOTE_TRANSITIONS,
    QUOTES,
    RFQ_TRANSITIONS,
    RFQS,
    ActiveQuote,
    Quote,
    QuoteStatus,
    Rfq,
    RfqStatus,
    Side,
    TradeStatus,
    quote_commitment,
)

RFQ_EXPIRE = "rfq.expire"
QUOTE_EXPIRE = "quote.expire"

_R, _Q = RfqStatus, QuoteStatus


# requests


def create(context: Context, operation: RfqCreate) -> None:
    product(context, operation.product)
    for account in operation.responders:
        context.account(account)
    binding.require_exists(context, operation.contract)
    tradable(context, operation.product)
    for account in operation.responders:
        context.refuse_unless_active(account)
    books.refuse_frozen(context)
    _check_request(context, operation)
    deals.check_contract(context, operation.contract, operation.product, context.principal)
    name = context.new_id()
    request = Rfq(
        requester=context.principal,
        side=operation.side,
        product=operation.product,
        quantity=operation.quantity,
        contract=operation.contract,
        responders=operation.responders,
        until=operation.until,
        settle_at=operation.settle_at,
        quotes=0,
        status=_R.OPEN,
        trade=None,
        created_at=context.now,
        ended_at=None,
    )
    context.open_item(request.requester, OPEN_RFQ, name)
    context.put(RFQS, name, request)
    books.index(context, OPEN_RFQ, name, request.product, (request.requester, *request.responders))
    books.open_on_product(context, OPEN_RFQ, name, request.product)
    context.schedule(request.until, DueClass.RELEASE, RFQ_EXPIRE, name)
    context.emit(
        events.RfqCreated(
            name,
            request.requester,
            request.side,
            request.product,
            request.quantity,
            request.responders,
            request.until,
        )
    )


def _check_request(context: Context, operation: RfqCreate) -> None:
    if operation.responders != tuple(sorted(set(operation.responders) - {context.principal})):
        fail(Code.FIELD, "responders")
    deals.check_settle_at(context, terms(context, operation.product), operation.settle_at)
    latest = operation.settle_at
    if latest is None:
        latest = context.now + context.environment.parameters.settle_horizon_ms
    if not context.now < operation.until <= latest:
        fail(Code.FIELD, "until")
    if not operation.quantity:
        fail(Code.AMOUNT, "quantity")


def cancel(context: Context, operation: RfqCancel) -> None:
    request = context.need(RFQS, operation.rfq, "request")
    books.refuse_unless_party(context, (request.requester,), "another's request")
    books.refuse_unless(context, request.status, _R.OPEN, request.until, request.ended_at)
    end(context, operation.rfq, request, _R.CANCELLED, _Q.CANCELLED)


def end(
    context: Context, name: bytes, request: Rfq, status: RfqStatus, quotes_end: QuoteStatus, trade: bytes | None = None
) -> None:
    """The request is over; each quote that is still live reaches `quotes_end`. Where a hit made a `trade` the hit quote
    is over already, and the best of the others becomes COVER.

    If its time was over before, it is EXPIRED as of then, whether or not the due queue has got that far.
    """
    if context.now >= request.until:
        status = _R.EXPIRED
    assert status in RFQ_TRANSITIONS[request.status]
    standing = active_quotes(context, name) if request.quotes > (trade is not None) else []
    if trade is not None:
        standing = _mark_cover(context, standing, request.side)
    for quote_name, quote in standing:
        end_quote(context, quote_name, quote, quotes_end)
    context.unschedule(name, RFQ_EXPIRE)
    context.close_item(request.requester, OPEN_RFQ, name)
    books.close_on_product(context, OPEN_RFQ, name, request.product)
    context.put(RFQS, name, replace(request, status=status, trade=trade, ended_at=min(context.now, request.until)))
    context.emit(events.RfqChanged(name, request.requester, status))


def active_quotes(context: Context, rfq: bytes) -> list[tuple[bytes, Quote]]:
    """The quotes of a request that have not ended, in the order in which they came."""
    names = [entry.quote for _, entry in context.state.scan(ACTIVE_QUOTES, rfq)]
    quotes = [(name, context.need(QUOTES, name, "quote")) for name in names]
    return sorted(quotes, key=lambda entry: entry[1].sequence)


# quotes


def submit(context: Context, operation: QuoteSubmit) -> None:
    request = context.need(RFQS, operation.rfq, "request")
    own = context.principal
    books.refuse_unless_party(context, request.responders, "not asked")
    books.refuse_unless(context, request.status, _R.OPEN, request.until, request.ended_at)
    tradable(context, request.product)
    context.refuse_unless_active(request.requester)
    books.refuse_frozen(context, request.requester)
    cost = _check_quote(context, operation, request)
    _refuse_second(context, operation.rfq, own)
    deals.check_contract(context, request.contract, request.product, request.requester, own)
    name = context.new_id()
    if operation.firm:
        _lock(context, name, request, cost)
    context.open_item(own, OPEN_QUOTE, name)
    quote = Quote(
        rfq=operation.rfq,
        responder=own,
        agent=context.agent,
        firm=operation.firm,
        price=operation.price,
        commitment=operation.commitment,
        cash_cap=operation.cash_cap,
        until=operation.until,
        sequence=request.quotes,
        status=_Q.ACTIVE,
        counter_price=None,
        created_at=context.now,
        ended_at=None,
    )
    context.put(QUOTES, name, quote)
    context.put(RFQS, operation.rfq, replace(request, quotes=request.quotes + 1))
    context.put(ACTIVE_QUOTES, operation.rfq + own, ActiveQuote(name))
    books.index(context, OPEN_QUOTE, name, operation.rfq, (own,))
    context.schedule(quote.until, DueClass.RELEASE, QUOTE_EXPIRE, name)
    context.emit(events.QuoteSubmitted(name, operation.rfq, own, quote.firm, quote.until))


def _check_quote(context: Context, operation: QuoteSubmit, request: Rfq) -> int:
    """Failed(E_FIELD, E_AMOUNT, E_OVERFLOW); what a buying quote has to lock, in minor units."""
    if not context.now < operation.until <= request.until:
        fail(Code.FIELD, "until")
    sealed = operation.price is None
    if sealed and not operation.firm:
        fail(Code.FIELD, "price: an indicative quote names one")
    if (operation.commitment is not None) != sealed:
        fail(Code.FIELD, "commitment: instead of a price")
    if (operation.cash_cap > 0) != (sealed and request.side is Side.SELL):
        fail(Code.FIELD, "cash_cap: of a sealed quote to buy")
    if operation.price is None:
        _refuse_unseen_price(context, request)
        return operation.cash_cap
    return deals.amounts(context, request.product, request.quantity, operation.price, request.settle_at).cost


def _refuse_unseen_price(context: Context, request: Rfq) -> None:
    """An agent names a price that nobody sees: Failed(E_ENTRUST_SCOPE) if its prices are bounded, Failed(E_ENTRUST_CAP)
    if a seller's fee follows from it."""
    if context.entrustment is None:
        return
    if request.side is Side.BUY and terms(context, request.product).trade_fee_ppm:
        fail(Code.ENTRUST_CAP, "the fee on a sealed price cannot be held against the entrustment's caps")
    powers = context.need(ENTRUSTMENTS, context.entrustment, "entrustment").powers
    if powers.min_price is not None or powers.max_price is not None:
        fail(Code.ENTRUST_SCOPE, "a sealed price cannot be held against the entrustment's")


def _refuse_second(context: Context, rfq: bytes, responder: bytes) -> None:
    """One live quote per responder; one whose time is over makes room, even if the due queue is behind."""
    entry = context.get(ACTIVE_QUOTES, rfq + responder)
    if entry is None:
        return
    quote = context.need(QUOTES, entry.quote, "quote")
    if context.now < quote.until:
        fail(Code.DUPLICATE, "a quote of this responder stands")
    end_quote(context, entry.quote, quote, _Q.EXPIRED)


def _lock(context: Context, name: bytes, request: Rfq, cost: int) -> None:
    own = context.principal
    if request.side is Side.BUY:
        asset, amount = request.product, request.quantity
    else:
        asset, amount = terms(context, request.product).cash.encode(), cost
    settles = context.now if request.settle_at is None else request.settle_at
    balances.lock(context, own, name, asset, amount, LockPurpose.QUOTE, name, settle_at=settles)


def cancel_quote(context: Context, operation: QuoteCancel) -> None:
    quote = context.need(QUOTES, operation.quote, "quote")
    books.refuse_unless_party(context, (quote.responder,), "another's quote")
    books.refuse_unless(context, quote.status, _Q.ACTIVE, quote.until, quote.ended_at)
    end_quote(context, operation.quote, quote, _Q.CANCELLED)


def end_quote(context: Context, name: bytes, quote: Quote, status: QuoteStatus) -> None:
    """The quote is over; a firm one's leg is released. If its time was over before, it is EXPIRED as of then."""
    if context.now >= quote.until:
        status = _Q.EXPIRED
    assert status in QUOTE_TRANSITIONS[quote.status]
    if quote.firm:
        balances.release(context, quote.responder, name)
    context.unschedule(name, QUOTE_EXPIRE)
    context.close_item(quote.responder, OPEN_QUOTE, name)
    context.delete(ACTIVE_QUOTES, quote.rfq + quote.responder)
    ended_at = min(context.now, quote.until)
    context.put(QUOTES, name, replace(quote, status=status, ended_at=ended_at))
    context.emit(events.QuoteChanged(name, quote.rfq, quote.responder, status))


# responses


def respond(context: Context, operation: QuoteRespond) -> None:
    name = operation.quote
    quote = context.need(QUOTES, name, "quote")
    request = context.need(RFQS, quote.rfq, "request")
    books.refuse_unless_party(context, (request.requester,), "another's request")
    books.refuse_unless(context, quote.status, _Q.ACTIVE, quote.until, quote.ended_at)
    match operation.response:
        case Hit():
            _hit(context, name, quote, request, operation.response)
        case Counter(price):
            books.refuse_frozen(context)
            if not price:
                fail(Code.AMOUNT, "price")
            end_quote(context, name, replace(quote, counter_price=price), _Q.COUNTERED)
        case Pass():
            end(context, quote.rfq, request, _R.PASSED, _Q.DONE_AWAY)
        case _:
            assert_never(operation.response)


def _hit(context: Context, name: bytes, quote: Quote, request: Rfq, hit: Hit) -> None:
    tradable(context, request.product)
    context.refuse_unless_active(quote.responder)
    context.refuse_unless_active(request.requester)
    books.refuse_frozen(context, quote.responder)
    price = _opened_price(quote, hit)
    if not 0 < hit.quantity <= request.quantity:
        fail(Code.AMOUNT, f"1 to {request.quantity}")
    priced = deals.amounts(context, request.product, hit.quantity, price, request.settle_at)
    if not quote.firm:
        fail(Code.QUOTE_NOT_FIRM, "indicative")
    buyer, seller = deals.sides(request.side, request.requester, quote.responder)
    trade_name = context.new_id()
    trade = deals.new_trade(
        context,
        buyer=buyer,
        seller=seller,
        product=request.product,
        quantity=hit.quantity,
        price=price,
        contract=request.contract,
        settle_at=request.settle_at,
        source=name,
        status=TradeStatus.EXECUTED,
    )
    limit = quote.cash_cap if quote.commitment is not None and request.side is Side.SELL else None
    end_quote(context, name, replace(quote, price=price), _Q.HIT)
    deals.execute(context, trade_name, trade, priced, cost_max=limit)
    end(context, quote.rfq, request, _R.FILLED, _Q.DONE_AWAY, trade_name)


def _opened_price(quote: Quote, hit: Hit) -> int:
    """The price of the quote; a sealed one is opened by what its responder revealed. Failed(E_FIELD{reveal})."""
    if (hit.reveal is not None) != (quote.commitment is not None):
        fail(Code.FIELD, "reveal: of a sealed quote, and of no other")
    if hit.reveal is None:
        assert quote.price is not None
        return quote.price
    if quote_commitment(quote.rfq, quote.responder, hit.reveal.price, hit.reveal.salt) != quote.commitment:
        fail(Code.FIELD, "reveal: not what the quote commits to")
    return hit.reveal.price


def _mark_cover(context: Context, standing: list[tuple[bytes, Quote]], side: Side) -> list[tuple[bytes, Quote]]:
    """Of the standing firm quotes the best for the requester becomes COVER, of equals the earlier; the others.

    The price of a sealed one stays unknown, so it is never the cover.
    """
    live = [
        (quote.price if side is Side.BUY else -quote.price, quote.sequence, name, quote)
        for name, quote in standing
        if quote.firm and quote.price is not None and context.now < quote.until
    ]
    if not live:
        return standing
    _, _, best, quote = min(live, key=lambda entry: entry[:2])
    end_quote(context, best, quote, _Q.COVER)
    return [entry for entry in standing if entry[0] != best]


# automatic


def expire(context: Context, item: DueItem) -> None:
    release_for_maturity(context, item.item)


def expire_quote(context: Context, item: DueItem) -> None:
    end_quote(context, item.item, context.need(QUOTES, item.item, "quote"), _Q.EXPIRED)


# where other families end requests and quotes


def release_for_maturity(context: Context, name: bytes) -> None:
    """Its time is over, or its product's."""
    end(context, name, context.need(RFQS, name, "request"), _R.EXPIRED, _Q.EXPIRED)


def cancel_quote_for(context: Context, account: bytes, name: bytes) -> None:
    """The responder was frozen by a regulator, or recovered."""
    end_quote(context, name, context.need(QUOTES, name, "quote"), _Q.CANCELLED)


# what an entrustment is held against


def _mandate_of_request(context: Context, operation: RfqCreate) -> Mandate:
    return Mandate(operation.product, None, 0, operation.responders)


def _mandate_of_rfq_cancel(context: Context, operation: RfqCancel) -> Mandate:
    request = context.get(RFQS, operation.rfq)
    return Mandate() if request is None else Mandate(request.product)


def _mandate_of_submit(context: Context, operation: QuoteSubmit) -> Mandate:
    request = context.get(RFQS, operation.rfq)
    if request is None:
        return Mandate()
    outlay = operation.cash_cap
    if operation.price is not None and operation.firm:
        buys = request.side is Side.SELL
        outlay = deals.outlay(
            context,
            request.product,
            request.quantity,
            operation.price,
            request.settle_at,
            buys=buys,
            until=operation.until,
        )
    return Mandate(request.product, operation.price, outlay, (request.requester,))


def _mandate_of_quote_cancel(context: Context, operation: QuoteCancel) -> Mandate:
    quote = context.get(QUOTES, operation.quote)
    request = None if quote is None else context.get(RFQS, quote.rfq)
    return Mandate() if request is None else Mandate(request.product)


def _mandate_of_respond(context: Context, operation: QuoteRespond) -> Mandate:
    quote = context.get(QUOTES, operation.quote)
    request = None if quote is None else context.get(RFQS, quote.rfq)
    if quote is None or request is None:
        return Mandate()
    others = (quote.responder,) if quote.agent is None else (quote.responder, quote.agent)
    match operation.response:
        case Hit(quantity, reveal):
            price = quote.price if reveal is None else reveal.price
            outlay = 0
            if price is not None:
                buys = request.side is Side.BUY
                outlay = deals.outlay(context, request.product, quantity, price, request.settle_at, buys=buys)
            return Mandate(request.product, price, outlay, others)
        case Counter(price):
            return Mandate(request.product, price, 0, others)
        case Pass():
            return Mandate(request.product)
        case _:
            assert_never(operation.response)


OPERATIONS: dict[type, Rule] = {
    RfqCreate: Rule(create, KeyPurpose.TRADE, scope=Scope.TRADE, mandate=_mandate_of_request),
    RfqCancel: Rule(cancel, KeyPurpose.TRADE, scope=Scope.TRADE, mandate=_mandate_of_rfq_cancel),
    QuoteSubmit: Rule(submit, KeyPurpose.TRADE, scope=Scope.TRADE, mandate=_mandate_of_submit),
    QuoteCancel: Rule(cancel_quote, KeyPurpose.TRADE, scope=Scope.TRADE, mandate=_mandate_of_quote_cancel),
    QuoteRespond: Rule(respond, KeyPurpose.TRADE, scope=Scope.TRADE, mandate=_mandate_of_respond),
}


def _expiry_weight(state: State, item: DueItem) -> int:
    """The request and the quotes that stand, not those that were only asked for: nobody pays for many responders."""
    return 1 + len(state.scan(ACTIVE_QUOTES, item.item))


DUE_WEIGHTS: dict[str, DueWeight] = {RFQ_EXPIRE: _expiry_weight}
DUE_KINDS: dict[str, DueHandler] = {RFQ_EXPIRE: expire, QUOTE_EXPIRE: expire_quote}

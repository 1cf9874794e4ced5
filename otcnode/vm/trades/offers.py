"""Standing offers with conditions: every take that meets them executes by itself, rounded for its own quantity."""

from __future__ import annotations

from msgspec.structs import replace

from otcnode.errors import Code
from otcnode.genesis import KeyPurpose
from otcnode.vm import balances, delegation
from otcnode.vm.accounts.records import ENTRUSTMENTS, LOCKS, LockPurpose
from otcnode.vm.context import Context, fail
from otcnode.vm.contracts import binding
from otcnode.vm.due import DueClass, DueItem
from otcnode.vm.keys import OPEN_OFFER
from otcnode.vm.products.eligibility import product, terms, tradable
from otcnode.vm.products.records import ProductTerms
from otcnode.vm.rules import DueHandler, Mandate, Rule, Scope
from otcnode.vm.trades import books, deals, events
from otcnode.vm.trades.operations import OfferCancel, OfferList, OfferTake
from otcnode.vm.trades.records import OFFER_TRANSITIONS, OFFERS, Offer, OfferStatus, Side, Trade, TradeStatus

EXPIRE = "offer.expire"
MIN_FILL_WORTH = 100
"""In whole units of the currency."""

_S = OfferStatus


def post(context: Context, operation: OfferList) -> None:
    product(context, operation.product)
    binding.require_exists(context, operation.contract)
    for account in operation.whitelist:
        context.account(account)
    tradable(context, operation.product)
    books.refuse_frozen(context)
    rule = terms(context, operation.product)
    _check_fields(context, operation, rule)
    deals.check_contract(context, operation.contract, operation.product, context.principal)
    name = context.new_id()
    offer = Offer(
        account=context.principal,
        entrustment=context.entrustment,
        side=operation.side,
        product=operation.product,
        quantity=operation.quantity,
        price=operation.price,
        contract=operation.contract,
        min_fill=operation.min_fill,
        all_or_none=operation.all_or_none,
        not_before=operation.not_before,
        until=operation.until,
        whitelist=operation.whitelist,
        cash_cap=operation.cash_cap,
        remaining=operation.quantity,
        status=_S.OPEN,
        created_at=context.now,
        ended_at=None,
    )
    _lock(context, name, offer, rule)
    context.open_item(offer.account, OPEN_OFFER, name)
    context.put(OFFERS, name, offer)
    books.index(context, OPEN_OFFER, name, offer.product, (offer.account,))
    books.open_on_product(context, OPEN_OFFER, name, offer.product)
    context.schedule(offer.until, DueClass.RELEASE, EXPIRE, name)
    context.emit(events.OfferListed(name, offer.account, offer.side, offer.product, offer.quantity, offer.price))


def _check_fields(context: Context, operation: OfferList, rule: ProductTerms) -> None:
    latest = context.now + context.environment.parameters.settle_horizon_ms
    if not 1 <= operation.min_fill <= operation.quantity and operation.quantity:
        fail(Code.FIELD, "min_fill")
    if operation.not_before >= operation.until:
        fail(Code.FIELD, "not_before")
    if not context.now < operation.until <= latest:
        fail(Code.FIELD, "until")
    if operation.whitelist != tuple(sorted(set(operation.whitelist) - {context.principal})):
        fail(Code.FIELD, "whitelist")
    if (operation.cash_cap > 0) != (operation.side is Side.BUY):
        fail(Code.FIELD, "cash_cap")
    deals.amounts(context, operation.product, operation.quantity, operation.price, None)
    _check_min_fill(context, operation, rule)


def _check_min_fill(context: Context, operation: OfferList, rule: ProductTerms) -> None:
    """A take must be worth the while unless it is the whole; an all-or-none offer has no smaller take."""
    if operation.min_fill == operation.quantity:
        return
    if operation.all_or_none:
        fail(Code.FIELD, "min_fill: an all-or-none offer is taken as a whole")
    worth = deals.consideration(context, rule, operation.min_fill, operation.price)
    if worth < MIN_FILL_WORTH * 10 ** balances.cash_decimals(context, rule.cash):
        fail(Code.FIELD, f"min_fill: worth less than {MIN_FILL_WORTH}")


def _lock(context: Context, name: bytes, offer: Offer, rule: ProductTerms) -> None:
    if offer.side is Side.SELL:
        asset, amount = offer.product, offer.quantity
    else:
        asset, amount = rule.cash.encode(), offer.cash_cap
    earliest = max(context.now, offer.not_before)
    balances.lock(context, offer.account, name, asset, amount, LockPurpose.OFFER, name, settle_at=earliest)


def take(context: Context, operation: OfferTake) -> None:
    name = operation.offer
    offer = context.need(OFFERS, name, "offer")
    own = context.principal
    if own == offer.account or (offer.whitelist and own not in offer.whitelist):
        fail(Code.NOT_PARTY, "one's own offer, or not on its whitelist")
    _refuse_agent(context, offer)
    books.refuse_unless(context, offer.status, _S.OPEN, offer.until, offer.ended_at)
    if context.now < offer.not_before:
        fail(Code.STATE, f"not before {offer.not_before}")
    tradable(context, offer.product)
    context.refuse_unless_active(offer.account)
    context.refuse_unless_active(own)
    books.refuse_frozen(context, offer.account)
    _check_take(offer, operation.quantity)
    priced = deals.amounts(context, offer.product, operation.quantity, offer.price, None)
    trade_name = context.new_id()
    sells = offer.side is Side.SELL
    deals.execute(
        context,
        trade_name,
        _trade(context, operation, offer),
        priced,
        seller_lock=name if sells else None,
        buyer_lock=None if sells else name,
    )
    _fill(context, name, offer, trade_name, operation.quantity)


def _refuse_agent(context: Context, offer: Offer) -> None:
    """Failed(E_SELF_DEALING) if the agent that listed the offer takes it: itself, its organisation, or whom it
    represents. Nobody knew at the listing who would take."""
    if offer.entrustment is None:
        return
    record = context.need(ENTRUSTMENTS, offer.entrustment, "entrustment")
    if not record.powers.allow_self_dealing and delegation.is_same_hand(context, record.agent, context.principal):
        fail(Code.SELF_DEALING, "the agent that listed the offer is on the other side")


def _check_take(offer: Offer, quantity: int) -> None:
    if not 0 < quantity <= offer.remaining:
        fail(Code.AMOUNT, f"{offer.remaining} remain")
    if quantity < offer.min_fill and quantity != offer.remaining:
        fail(Code.MIN_QTY, f"at least {offer.min_fill}, or all that remains")


def _trade(context: Context, operation: OfferTake, offer: Offer) -> Trade:
    buyer, seller = deals.sides(offer.side, offer.account, context.principal)
    return deals.new_trade(
        context,
        buyer=buyer,
        seller=seller,
        product=offer.product,
        quantity=operation.quantity,
        price=offer.price,
        contract=offer.contract,
        settle_at=None,
        source=operation.offer,
        status=TradeStatus.EXECUTED,
    )


def _fill(context: Context, name: bytes, offer: Offer, trade: bytes, quantity: int) -> None:
    after = replace(offer, remaining=offer.remaining - quantity)
    context.emit(events.OfferFilled(name, offer.account, trade, quantity, after.remaining))
    if after.remaining:
        context.put(OFFERS, name, after)
    else:
        end(context, name, after, _S.FILLED)


def cancel(context: Context, operation: OfferCancel) -> None:
    offer = context.need(OFFERS, operation.offer, "offer")
    books.refuse_unless_party(context, (offer.account,), "another's offer")
    books.refuse_unless(context, offer.status, _S.OPEN, offer.until, offer.ended_at)
    end(context, operation.offer, offer, _S.CANCELLED)


def end(context: Context, name: bytes, offer: Offer, status: OfferStatus) -> None:
    """The offer stands no more; what it still locks is released.

    If its time was over before, it is EXPIRED as of then, whether or not the due queue has got that far.
    """
    if context.now >= offer.until:
        status = _S.EXPIRED
    assert status in OFFER_TRANSITIONS[offer.status]
    # A BUY offer whose cap was used up to the last minor unit has no lock any more.
    if context.get(LOCKS, offer.account + name) is not None:
        balances.release(context, offer.account, name)
    context.unschedule(name, EXPIRE)
    context.close_item(offer.account, OPEN_OFFER, name)
    books.close_on_product(context, OPEN_OFFER, name, offer.product)
    context.put(OFFERS, name, replace(offer, status=status, ended_at=min(context.now, offer.until)))
    context.emit(events.OfferChanged(name, offer.account, status))


def expire(context: Context, item: DueItem) -> None:
    release_for_maturity(context, item.item)


# where other families end offers


def release_for_maturity(context: Context, name: bytes) -> None:
    """Its time is over, or its product's."""
    end(context, name, context.need(OFFERS, name, "offer"), _S.EXPIRED)


def cancel_for(context: Context, account: bytes, name: bytes) -> None:
    """The owner was frozen by a regulator, or recovered."""
    end(context, name, context.need(OFFERS, name, "offer"), _S.CANCELLED)


# what an entrustment is held against


def _mandate_of_list(context: Context, operation: OfferList) -> Mandate:
    outlay = operation.cash_cap
    if operation.side is Side.SELL:
        outlay = deals.outlay(context, operation.product, operation.quantity, operation.price, None, buys=False)
    return Mandate(operation.product, operation.price, outlay, operation.whitelist)


def _mandate_of_take(context: Context, operation: OfferTake) -> Mandate:
    offer = context.get(OFFERS, operation.offer)
    if offer is None:
        return Mandate()
    buys = offer.side is Side.SELL
    outlay = deals.outlay(context, offer.product, operation.quantity, offer.price, None, buys=buys)
    return Mandate(offer.product, offer.price, outlay, (offer.account,))


def _mandate_of_cancel(context: Context, operation: OfferCancel) -> Mandate:
    offer = context.get(OFFERS, operation.offer)
    return Mandate() if offer is None else Mandate(offer.product)


OPERATIONS: dict[type, Rule] = {
    OfferList: Rule(post, KeyPurpose.TRADE, scope=Scope.TRADE, mandate=_mandate_of_list),
    OfferTake: Rule(take, KeyPurpose.TRADE, scope=Scope.TRADE, mandate=_mandate_of_take),
    OfferCancel: Rule(cancel, KeyPurpose.TRADE, scope=Scope.TRADE, mandate=_mandate_of_cancel),
}

DUE_KINDS: dict[str, DueHandler] = {EXPIRE: expire}

"""Negotiated trades: proposed by one party, affirmed by the other, settled by themselves at settle_at."""

from __future__ import annotations

from msgspec.structs import replace

from otcnode.errors import Code, Failed
from otcnode.genesis import KeyPurpose
from otcnode.vm.arithmetic import DAY_MS
from otcnode.vm.context import Context, fail, paused
from otcnode.vm.contracts import binding
from otcnode.vm.due import DueClass, DueItem
from otcnode.vm.products.eligibility import product, terms, tradable
from otcnode.vm.rules import DueHandler, Mandate, Rule, Scope
from otcnode.vm.trades import books, deals, events
from otcnode.vm.trades.operations import TradeAffirm, TradeCancel, TradePropose, TradeReject, TradeWithdraw
from otcnode.vm.trades.records import TRADES, Side, Trade, TradeStatus

EXPIRE = "trade.expire"
AFFIRM_SAME_DAY_MS_MAX = DAY_MS
"""How long a proposal that would settle at once may wait for its affirmation."""

_S = TradeStatus


def propose(context: Context, operation: TradePropose) -> None:
    own, other = context.principal, operation.counterparty
    product(context, operation.product)
    context.account(other)
    binding.require_exists(context, operation.contract)
    tradable(context, operation.product)
    context.refuse_unless_active(other)
    books.refuse_frozen(context, other)
    _check_fields(context, operation)
    deals.check_contract(context, operation.contract, operation.product, own, other)
    buyer, seller = deals.sides(operation.side, own, other)
    name = context.new_id()
    trade = deals.new_trade(
        context,
        buyer=buyer,
        seller=seller,
        product=operation.product,
        quantity=operation.quantity,
        price=operation.price,
        contract=operation.contract,
        settle_at=operation.settle_at,
        affirm_by=operation.affirm_by,
        status=_S.PROPOSED,
    )
    deals.enter(context, name, trade)
    context.schedule(operation.affirm_by, DueClass.RELEASE, EXPIRE, name)
    context.emit(
        events.TradeProposed(
            name,
            own,
            other,
            operation.side,
            operation.product,
            operation.quantity,
            operation.price,
            operation.contract,
            operation.affirm_by,
            operation.settle_at,
        )
    )


def _check_fields(context: Context, operation: TradePropose) -> None:
    if operation.counterparty == context.principal:
        fail(Code.FIELD, "counterparty")
    deals.check_settle_at(context, terms(context, operation.product), operation.settle_at)
    latest = context.now + AFFIRM_SAME_DAY_MS_MAX if operation.settle_at is None else operation.settle_at
    if not context.now < operation.affirm_by <= latest:
        fail(Code.FIELD, "affirm_by")
    deals.amounts(context, operation.product, operation.quantity, operation.price, operation.settle_at)


def _proposed(context: Context, name: bytes, *, by_proposer: bool) -> Trade:
    """The trade, if it is PROPOSED in time and the principal is the party whose act this is."""
    trade = context.need(TRADES, name, "trade")
    party = trade.proposer if by_proposer else trade.counterparty
    books.refuse_unless_party(context, (party,), "the other party's act, or another's trade")
    books.refuse_unless(context, trade.status, _S.PROPOSED, trade.affirm_by, trade.ended_at)
    return trade


def affirm(context: Context, operation: TradeAffirm) -> None:
    trade = _proposed(context, operation.trade, by_proposer=False)
    tradable(context, trade.product)
    for account in (trade.buyer, trade.seller):
        context.refuse_unless_active(account)
    books.refuse_frozen(context, trade.proposer)
    priced = deals.amounts(context, trade.product, trade.quantity, trade.price, trade.settle_at)
    context.unschedule(operation.trade, EXPIRE)
    deals.execute(context, operation.trade, trade, priced)


def reject(context: Context, operation: TradeReject) -> None:
    drop(context, operation.trade, _proposed(context, operation.trade, by_proposer=False), _S.REJECTED)


def withdraw(context: Context, operation: TradeWithdraw) -> None:
    drop(context, operation.trade, _proposed(context, operation.trade, by_proposer=True), _S.WITHDRAWN)


def drop(context: Context, name: bytes, trade: Trade, status: TradeStatus) -> None:
    """End a proposal that nobody affirmed. If its time was over before, it is EXPIRED as of then, whether or not the
    due queue has got that far."""
    assert trade.affirm_by is not None
    if context.now >= trade.affirm_by:
        status = _S.EXPIRED
    context.unschedule(name, EXPIRE)
    deals.move(context, name, trade, status, at=min(context.now, trade.affirm_by))


def cancel(context: Context, operation: TradeCancel) -> None:
    name = operation.trade
    trade = context.need(TRADES, name, "trade")
    books.refuse_unless_party(context, (trade.buyer, trade.seller), "another's trade")
    books.refuse_unless(context, trade.status, _S.LOCKED, trade.settle_at, trade.ended_at)
    if trade.cancel_asked_by == context.principal:
        fail(Code.DUPLICATE, "asked already; the other party has not")
    if trade.cancel_asked_by is None:
        context.put(TRADES, name, replace(trade, cancel_asked_by=context.principal))
        context.emit(events.TradeCancelAsked(name, context.principal))
        return
    cancel_locked(context, name, trade)


def cancel_locked(context: Context, name: bytes, trade: Trade) -> None:
    """LOCKED → CANCELLED: both legs are released, nobody pays a fee."""
    context.unschedule(name, deals.SETTLE)
    deals.release_both(context, name, trade)
    deals.move(context, name, trade, _S.CANCELLED)


# automatic


def settle(context: Context, item: DueItem) -> None:
    """At settle_at: all checks again, then both legs and the fees in one step; else FAILED with the first code."""
    name = item.item
    trade = context.need(TRADES, name, "trade")
    point = context.attempt()
    try:
        _refuse_settlement(context, trade)
        deals.settle(context, name, trade, seller_lock=name, buyer_lock=name)
    except Failed as error:
        context.undo(point)
        deals.fail_locked(context, name, trade, error.code)


def _refuse_settlement(context: Context, trade: Trade) -> None:
    """What holds up a settlement before a trade's own checks: a pause, the product's state, a frozen party.

    An account in recovery settles: what it agreed to before stands.
    """
    if paused(context.state):
        fail(Code.PAUSED, "the market is paused")
    tradable(context, trade.product)
    context.refuse_if_frozen(trade.seller)
    context.refuse_if_frozen(trade.buyer)


def expire(context: Context, item: DueItem) -> None:
    deals.move(context, item.item, context.need(TRADES, item.item, "trade"), _S.EXPIRED)


# where other families end trades


def release_for_maturity(context: Context, name: bytes) -> None:
    """The product is about to mature: a proposal is EXPIRED. Trades settle before maturity, so none is locked."""
    trade = context.need(TRADES, name, "trade")
    assert trade.status is _S.PROPOSED
    drop(context, name, trade, _S.EXPIRED)


def withdraw_for(context: Context, account: bytes, name: bytes) -> None:
    """The account was recovered: a proposal is taken back, a locked trade stands."""
    trade = context.need(TRADES, name, "trade")
    if trade.status is _S.PROPOSED:
        drop(context, name, trade, _S.WITHDRAWN)


# what an entrustment is held against


def _mandate_of_proposal(context: Context, operation: TradePropose) -> Mandate:
    outlay = deals.outlay(
        context,
        operation.product,
        operation.quantity,
        operation.price,
        operation.settle_at,
        buys=operation.side is Side.BUY,
        until=operation.affirm_by,
    )
    return Mandate(operation.product, operation.price, outlay, (operation.counterparty,))


def _mandate_of_trade(context: Context, operation: TradeAffirm | TradeReject | TradeWithdraw | TradeCancel) -> Mandate:
    trade = context.get(TRADES, operation.trade)
    if trade is None:
        return Mandate()
    other = trade.seller if context.principal == trade.buyer else trade.buyer
    if not isinstance(operation, TradeAffirm):
        return Mandate(trade.product, None, 0, (other,))
    outlay = deals.outlay(
        context, trade.product, trade.quantity, trade.price, trade.settle_at, buys=context.principal == trade.buyer
    )
    others = (other,) if trade.agent is None else (other, trade.agent)
    return Mandate(trade.product, trade.price, outlay, others)


OPERATIONS: dict[type, Rule] = {
    TradePropose: Rule(propose, KeyPurpose.TRADE, scope=Scope.TRADE, mandate=_mandate_of_proposal),
    TradeAffirm: Rule(affirm, KeyPurpose.TRADE, scope=Scope.TRADE, mandate=_mandate_of_trade),
    TradeReject: Rule(reject, KeyPurpose.TRADE, scope=Scope.TRADE, mandate=_mandate_of_trade),
    TradeWithdraw: Rule(withdraw, KeyPurpose.TRADE, scope=Scope.TRADE, mandate=_mandate_of_trade),
    TradeCancel: Rule(cancel, KeyPurpose.TRADE, scope=Scope.TRADE, mandate=_mandate_of_trade),
}

DUE_KINDS: dict[str, DueHandler] = {deals.SETTLE: settle, EXPIRE: expire}

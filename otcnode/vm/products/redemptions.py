"""Early redemptions. REQUESTED → PAID | REJECTED | EXPIRED."""

from __future__ import annotations

from msgspec.structs import replace

from otcnode.errors import Code
from otcnode.genesis import KeyPurpose, Role
from otcnode.vm import balances
from otcnode.vm.accounts.records import LockPurpose
from otcnode.vm.arithmetic import fee, principal
from otcnode.vm.context import Context, fail
from otcnode.vm.due import DueClass, DueItem
from otcnode.vm.keys import MARKER, OPEN_REDEMPTION, integer
from otcnode.vm.products import events
from otcnode.vm.products.eligibility import accrued_under, product, terms, tradable
from otcnode.vm.products.operations import RedeemDecide, RedeemRequest
from otcnode.vm.products.records import (
    DECIDED_PART,
    PRODUCTS,
    REDEMPTIONS,
    REDEMPTIONS_BY_PARTY,
    REDEMPTIONS_BY_PRODUCT,
    REQUESTED_PART,
    ProductTerms,
    Redemption,
    RedemptionStatus,
)
from otcnode.vm.rules import DueHandler, Mandate, Rule, Scope

LAPSE = "redemption.lapse"


def request(context: Context, operation: RedeemRequest) -> None:
    name, holder, quantity = operation.product, context.principal, operation.quantity
    record, rule = product(context, name), terms(context, name)
    tradable(context, name)
    for party in sorted({context.actor, holder, record.issuer}):
        context.refuse_if_frozen(party)
    payable_from = rule.start_of(rule.date_of(context.now) + rule.redemption.notice_days)
    if not max(context.now, payable_from) < operation.until <= rule.maturity_ms:
        fail(Code.FIELD, "until")
    if not principal(quantity, rule.face, quantity_decimals=rule.quantity_decimals):
        fail(Code.AMOUNT, "quantity")
    if not rule.redemption.allowed:
        fail(Code.FORBIDDEN, "the product cannot be redeemed early")
    redemption = context.new_id()
    context.open_item(holder, OPEN_REDEMPTION, redemption)
    settle_at = max(context.now, payable_from)
    balances.lock(context, holder, redemption, name, quantity, LockPurpose.REDEMPTION, redemption, settle_at=settle_at)
    entry = Redemption(
        product=name,
        account=holder,
        agent=context.agent,
        quantity=quantity,
        payable_from=payable_from,
        until=operation.until,
        status=RedemptionStatus.REQUESTED,
        reason="",
        paid=0,
        created_at=context.now,
        changed_at=context.now,
    )
    context.put(REDEMPTIONS, redemption, entry)
    context.put(REDEMPTIONS_BY_PRODUCT, name + REQUESTED_PART + redemption, MARKER)
    for party in (holder, record.issuer):
        context.put(REDEMPTIONS_BY_PARTY, party + integer(context.now) + redemption, MARKER)
    context.schedule(operation.until, DueClass.RELEASE, LAPSE, redemption)
    context.emit(events.RedemptionRequested(redemption, name, holder, quantity, operation.until))


def decide(context: Context, operation: RedeemDecide) -> None:
    name = operation.redemption
    entry = context.need(REDEMPTIONS, name, "redemption")
    issuer = product(context, entry.product).issuer
    if issuer != context.actor:
        fail(Code.NOT_PARTY, "another's product")
    decided_before = entry.status is not RedemptionStatus.REQUESTED and entry.changed_at < entry.until
    if context.now >= entry.until and not decided_before:
        fail(Code.EXPIRED, "the request lapsed")
    if entry.status is not RedemptionStatus.REQUESTED:
        fail(Code.STATE, f"redemption is {entry.status.value}")
    if operation.approve:
        _pay(context, name, entry, issuer, operation.reason)
        return
    if not operation.reason:
        fail(Code.FIELD, "reason")
    _release(context, name, entry, RedemptionStatus.REJECTED, operation.reason)


def _pay(context: Context, name: bytes, entry: Redemption, issuer: bytes, reason: str) -> None:
    tradable(context, entry.product)
    if context.now < entry.payable_from:
        fail(Code.STATE, f"payable from {entry.payable_from}")
    for party in sorted({issuer, entry.account}):
        context.refuse_if_frozen(party)
    rule = terms(context, entry.product)
    worth, accrued, penalty = _worth(rule, entry.quantity, rule.date_of(context.now))
    amount = worth + accrued - penalty
    balances.burn_from_lock(context, entry.account, name, entry.quantity)
    balances.pay(context, issuer, entry.account, rule.cash, amount)
    _finish(context, name, entry, RedemptionStatus.PAID, reason, paid=amount, parts=(worth, accrued, penalty))


def _worth(rule: ProductTerms, quantity: int, date: int) -> tuple[int, int, int]:
    """Principal, accrued interest and penalty of a redemption decided on a local day, in minor units."""
    worth = principal(quantity, rule.face, quantity_decimals=rule.quantity_decimals)
    return worth, accrued_under(rule, quantity, date), fee(worth, rule.redemption.penalty_ppm)


def _release(context: Context, name: bytes, entry: Redemption, status: RedemptionStatus, reason: str) -> None:
    balances.release(context, entry.account, name)
    _finish(context, name, entry, status, reason)


def _finish(
    context: Context,
    name: bytes,
    entry: Redemption,
    status: RedemptionStatus,
    reason: str,
    *,
    paid: int = 0,
    parts: tuple[int, int, int] = (0, 0, 0),
) -> None:
    assert entry.status is RedemptionStatus.REQUESTED
    context.unschedule(name)
    context.close_item(entry.account, OPEN_REDEMPTION, name)
    context.delete(REDEMPTIONS_BY_PRODUCT, entry.product + REQUESTED_PART + name)
    context.put(REDEMPTIONS_BY_PRODUCT, entry.product + DECIDED_PART + name, MARKER)
    context.put(REDEMPTIONS, name, replace(entry, status=status, reason=reason, paid=paid, changed_at=context.now))
    context.emit(events.RedemptionChanged(name, entry.product, entry.account, status, *parts, paid, reason))


def lapse(context: Context, item: DueItem) -> None:
    entry = context.need(REDEMPTIONS, item.item, "redemption")
    _release(context, item.item, entry, RedemptionStatus.EXPIRED, "not decided in time")


def expire_open(context: Context, name: bytes, limit: int) -> int:
    """The product's maturity is about to pay: what is still asked for has lapsed, at most `limit` at once; how many."""
    standing = context.state.scan(REDEMPTIONS_BY_PRODUCT, name + REQUESTED_PART, limit=limit)
    for suffix, _ in standing:
        redemption = suffix[33:]
        entry = context.need(REDEMPTIONS, redemption, "redemption")
        _release(context, redemption, entry, RedemptionStatus.EXPIRED, "the product matured")
    return len(standing)


def cancel_for_freeze(context: Context, account: bytes, name: bytes) -> None:
    """A regulator's FULL freeze of the holder ends the request."""
    entry = context.need(REDEMPTIONS, name, "redemption")
    assert entry.account == account
    _release(context, name, entry, RedemptionStatus.REJECTED, "the account was frozen")


def reject_open(context: Context, name: bytes, reason: str) -> None:
    """End a request by decision of governance. Failed(E_NOT_FOUND, E_EXPIRED, E_STATE)."""
    entry = context.need(REDEMPTIONS, name, "redemption")
    if entry.status is RedemptionStatus.REQUESTED and context.now >= entry.until:
        fail(Code.EXPIRED, "the request lapsed")
    if entry.status is not RedemptionStatus.REQUESTED:
        fail(Code.STATE, f"redemption is {entry.status.value}")
    _release(context, name, entry, RedemptionStatus.REJECTED, reason)


def _mandate(context: Context, operation: RedeemRequest) -> Mandate:
    record = context.get(PRODUCTS, operation.product)
    return Mandate(operation.product, others=() if record is None else (record.issuer,))


OPERATIONS: dict[type, Rule] = {
    RedeemRequest: Rule(request, KeyPurpose.TRADE, scope=Scope.REDEEM, mandate=_mandate),
    RedeemDecide: Rule(decide, KeyPurpose.TRADE, frozenset({Role.ISSUER})),
}

DUE_KINDS: dict[str, DueHandler] = {LAPSE: lapse}
CANCELLERS = {OPEN_REDEMPTION: cancel_for_freeze}

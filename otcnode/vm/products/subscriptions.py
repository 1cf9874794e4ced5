"""Subscriptions before the close. LOCKED → CANCELLED | WITHDRAWN, or on to allotment (issuance.py)."""

from __future__ import annotations

from msgspec.structs import replace

from otcnode.errors import Code
from otcnode.genesis import KeyPurpose
from otcnode.vm import balances
from otcnode.vm.accounts.records import LockPurpose
from otcnode.vm.arithmetic import stored
from otcnode.vm.context import Context, fail
from otcnode.vm.contracts import binding
from otcnode.vm.keys import OPEN_SUBSCRIPTION, integer
from otcnode.vm.products import events
from otcnode.vm.products.eligibility import product, require_qualified, terms
from otcnode.vm.products.operations import ProductCancelSubscription, ProductSubscribe
from otcnode.vm.products.records import (
    LIVE_SUBSCRIPTION,
    PRODUCT_TERMS,
    PRODUCTS,
    SUBSCRIPTION_TRANSITIONS,
    SUBSCRIPTIONS,
    SUBSCRIPTIONS_BY_ACCOUNT,
    SUBSCRIPTIONS_BY_CONTRACT,
    SUBSCRIPTIONS_BY_PRODUCT,
    TERMINAL,
    Product,
    ProductStatus,
    ProductTerms,
    Reference,
    Subscription,
    SubscriptionStatus,
    descending,
)
from otcnode.vm.products.terms import cost, subscription_fee
from otcnode.vm.rules import Mandate, Rule, Scope

_LEFT = frozenset({SubscriptionStatus.CANCELLED, SubscriptionStatus.WITHDRAWN})


def subscribe(context: Context, operation: ProductSubscribe) -> None:
    name, investor = operation.product, context.principal
    rule = terms(context, name)
    record = product(context, name)
    binding.require_exists(context, operation.contract)
    account = context.account(investor)
    if investor == record.issuer or account.organisation == context.account(record.issuer).organisation:
        fail(Code.NOT_PARTY, "the issuer cannot subscribe to its own product")
    _refuse_unless_open(context, record, rule)
    for party in sorted({context.actor, investor, record.issuer}):
        context.refuse_if_frozen(party)
    outlay = _outlay(context, rule, operation.quantity)
    if not outlay:
        fail(Code.AMOUNT, "quantity")
    require_qualified(context, account, rule)
    if operation.quantity < rule.min_subscription:
        fail(Code.MIN_QTY, f"at least {rule.min_subscription}")
    if operation.quantity % rule.step:
        fail(Code.STEP, f"in steps of {rule.step}")
    _check_contract(context, operation, record, rule)
    # A live one would be an open item.
    if account.open_items and live_subscription(context, investor, name) is not None:
        fail(Code.DUPLICATE, "this investor has a live subscription")
    people = record.subscriber_holders + account.ultimate_holders
    if people > rule.max_holders:
        fail(Code.HOLDER_CAP, f"{people} holders, at most {rule.max_holders}")
    _accept(context, operation, record, rule, outlay, account.ultimate_holders)


def _refuse_unless_open(context: Context, record: Product, rule: ProductTerms) -> None:
    ended_before = record.status in TERMINAL and record.changed_at < rule.close
    overdue = record.status is ProductStatus.PAYMENT_OVERDUE
    if context.now >= rule.close and not ended_before and not overdue:
        fail(Code.EXPIRED, "the subscription period is over")
    if record.status is not ProductStatus.OPEN:
        fail(Code.STATE, f"product is {record.status.value}")
    if record.suspended:
        fail(Code.STATE, "product is suspended")


def _outlay(context: Context, rule: ProductTerms, quantity: int) -> int:
    """Cost and fee of a quantity, in minor units; 0 if the cost rounds to nothing."""
    amount = cost(rule, quantity, balances.cash_decimals(context, rule.cash))
    return amount + subscription_fee(rule, amount)


def _check_contract(context: Context, operation: ProductSubscribe, record: Product, rule: ProductTerms) -> None:
    contract = binding.subscription_contract(context, operation.contract)
    binding.require_subscription_terms(
        context,
        contract,
        product_id=operation.product,
        issuer=record.issuer,
        investor=context.principal,
        cooling_off_ms=rule.cooling_off.period_ms,
        callback=rule.cooling_off.callback,
    )


def _accept(
    context: Context, operation: ProductSubscribe, record: Product, rule: ProductTerms, outlay: int, people: int
) -> None:
    subscription, investor = context.new_id(), context.principal
    context.open_item(investor, OPEN_SUBSCRIPTION, subscription)
    balances.lock(context, investor, subscription, rule.cash.encode(), outlay, LockPurpose.SUBSCRIPTION, subscription)
    entry = Subscription(
        product=operation.product,
        account=investor,
        contract=operation.contract,
        agent=context.agent,
        quantity=operation.quantity,
        locked=outlay,
        allotted=0,
        ultimate_holders=people,
        sequence=record.accepted,
        status=SubscriptionStatus.LOCKED,
        reason="",
        created_at=context.now,
        changed_at=context.now,
    )
    reference = Reference(subscription)
    context.put(SUBSCRIPTIONS, subscription, entry)
    context.put(SUBSCRIPTIONS_BY_PRODUCT, operation.product + integer(entry.sequence), reference)
    context.put(SUBSCRIPTIONS_BY_ACCOUNT, investor + operation.product + descending(entry.sequence), reference)
    context.put(SUBSCRIPTIONS_BY_CONTRACT, operation.contract, reference)
    after = replace(
        record,
        accepted=record.accepted + 1,
        live=record.live + 1,
        subscribed=stored(record.subscribed + operation.quantity),
        subscriber_holders=stored(record.subscriber_holders + people),
    )
    context.put(PRODUCTS, operation.product, after)
    context.emit(
        events.Subscribed(subscription, operation.product, investor, operation.contract, operation.quantity, outlay)
    )


def live_subscription(context: Context, account: bytes, name: bytes) -> tuple[bytes, Subscription] | None:
    """The account's LOCKED or ALLOTTED subscription for the product; there is at most one."""
    for _, reference in context.state.scan(SUBSCRIPTIONS_BY_ACCOUNT, account + name, limit=1):
        entry = context.get(SUBSCRIPTIONS, reference.item)
        assert entry is not None
        if entry.status in LIVE_SUBSCRIPTION:
            return reference.item, entry
    return None


def participants(context: Context, name: bytes) -> list[tuple[bytes, Subscription]]:
    """The product's subscriptions in the order of acceptance, without those cancelled or withdrawn."""
    found = []
    for _, reference in context.state.scan(SUBSCRIPTIONS_BY_PRODUCT, name):
        entry = context.get(SUBSCRIPTIONS, reference.item)
        assert entry is not None
        found.append((reference.item, entry))
    return found


def cancel(context: Context, operation: ProductCancelSubscription) -> None:
    entry = context.need(SUBSCRIPTIONS, operation.subscription, "subscription")
    if entry.account != context.principal:
        fail(Code.NOT_PARTY, "another's subscription")
    close = terms(context, entry.product).close
    ended_before = entry.status not in LIVE_SUBSCRIPTION and entry.changed_at < close
    if context.now >= close and not ended_before:
        fail(Code.EXPIRED, "the subscription period is over")
    if entry.status is not SubscriptionStatus.LOCKED:
        fail(Code.STATE, f"subscription is {entry.status.value}")
    end_subscription(context, operation.subscription, entry, SubscriptionStatus.CANCELLED)


def release_rescinded(context: Context, contract: bytes) -> None:
    """The investor rescinded the contract: what was subscribed under it is WITHDRAWN."""
    reference = context.get(SUBSCRIPTIONS_BY_CONTRACT, contract)
    if reference is None:
        return
    entry = context.get(SUBSCRIPTIONS, reference.item)
    assert entry is not None
    if entry.status in LIVE_SUBSCRIPTION:
        end_subscription(context, reference.item, entry, SubscriptionStatus.WITHDRAWN, "the contract was rescinded")


def end_subscription(
    context: Context, name: bytes, entry: Subscription, status: SubscriptionStatus, reason: str = ""
) -> None:
    """End a live subscription that gets no units: its whole lock is released."""
    balances.release(context, entry.account, name)
    if status in _LEFT:
        context.delete(SUBSCRIPTIONS_BY_PRODUCT, entry.product + integer(entry.sequence))
    finish_subscription(context, name, entry, status, allotted=0, reason=reason)


def finish_subscription(
    context: Context, name: bytes, entry: Subscription, status: SubscriptionStatus, *, allotted: int, reason: str
) -> None:
    """Bring a live subscription, whose lock is gone, into a terminal status."""
    assert status not in LIVE_SUBSCRIPTION
    context.close_item(entry.account, OPEN_SUBSCRIPTION, name)
    record = product(context, entry.product)
    after = replace(
        record,
        live=record.live - 1,
        subscribed=record.subscribed - entry.quantity,
        subscriber_holders=record.subscriber_holders - entry.ultimate_holders,
    )
    context.put(PRODUCTS, entry.product, after)
    change_subscription(context, name, entry, status, allotted=allotted, reason=reason)


def change_subscription(
    context: Context, name: bytes, entry: Subscription, status: SubscriptionStatus, *, allotted: int, reason: str = ""
) -> None:
    assert status in SUBSCRIPTION_TRANSITIONS[entry.status]
    after = replace(entry, status=status, allotted=allotted, reason=reason, changed_at=context.now)
    context.put(SUBSCRIPTIONS, name, after)
    context.emit(events.SubscriptionChanged(name, entry.product, entry.account, status, allotted, reason))


def _subscribe_mandate(context: Context, operation: ProductSubscribe) -> Mandate:
    record, rule = context.get(PRODUCTS, operation.product), context.get(PRODUCT_TERMS, operation.product)
    if record is None or rule is None:
        return Mandate(operation.product)
    outlay = _outlay(context, rule, operation.quantity)
    return Mandate(operation.product, rule.issue_price, outlay, (record.issuer,))


def _cancel_mandate(context: Context, operation: ProductCancelSubscription) -> Mandate:
    entry = context.get(SUBSCRIPTIONS, operation.subscription)
    return Mandate() if entry is None else Mandate(entry.product)


OPERATIONS: dict[type, Rule] = {
    ProductSubscribe: Rule(subscribe, KeyPurpose.TRADE, scope=Scope.SUBSCRIBE, mandate=_subscribe_mandate),
    ProductCancelSubscription: Rule(cancel, KeyPurpose.TRADE, scope=Scope.SUBSCRIBE, mandate=_cancel_mandate),
}

"""What a product does by itself at the end of its subscription period and at its value date.

Deadlines are compared with the due time, so a step that ran late comes to what it would have come to in time.
"""

from __future__ import annotations

from msgspec.structs import replace

from otcnode.errors import Code, Failed
from otcnode.vm import balances
from otcnode.vm.context import Context, paused
from otcnode.vm.contracts import binding
from otcnode.vm.contracts.records import CONTRACTS, ContractStatus
from otcnode.vm.due import DueClass, DueItem
from otcnode.vm.keys import integer
from otcnode.vm.products import events, lifecycle
from otcnode.vm.products.allotment import allot
from otcnode.vm.products.eligibility import product, require_qualified, terms
from otcnode.vm.products.payments import schedule_payment
from otcnode.vm.products.records import (
    PRODUCTS,
    PRODUCTS_WAITING,
    ProductStatus,
    ProductTerms,
    Reference,
    Subscription,
    SubscriptionStatus,
)
from otcnode.vm.products.subscriptions import (
    change_subscription,
    end_subscription,
    finish_subscription,
    participants,
)
from otcnode.vm.products.terms import cost, subscription_fee
from otcnode.vm.rules import DueHandler, DueWeight
from otcnode.vm.state import State

CLOSE = "product.close"
ESTABLISH = "product.establish"

_Participants = list[tuple[bytes, Subscription]]


def close(context: Context, item: DueItem) -> None:
    """Close the subscription period and allot. A subscription whose contract is not EFFECTIVE is VOID_NOT_EFFECTIVE and
    takes no part; with less than min_raise the product is FAILED; who is allotted nothing is REFUNDED at once."""
    if _waits(context, item):
        return
    name, rule = item.item, terms(context, item.item)
    lifecycle.move(context, name, product(context, name), ProductStatus.CLOSED)
    eligible = _void_without_contract(context, name)
    if sum(entry.quantity for _, entry in eligible) < rule.min_raise:
        _fail_product(context, name, rule, eligible, "less than the minimum was subscribed")
        return
    quantities = [entry.quantity for _, entry in eligible]
    allotments = allot(quantities, offered=rule.offered, step=rule.step, min_allotment=rule.min_allotment)
    if sum(allotments) < rule.min_raise:
        _fail_product(context, name, rule, eligible, "less than the minimum was allotted")
        return
    for (subscription, entry), allotted in zip(eligible, allotments, strict=True):
        if allotted:
            change_subscription(context, subscription, entry, SubscriptionStatus.ALLOTTED, allotted=allotted)
        else:
            end_subscription(context, subscription, entry, SubscriptionStatus.REFUNDED, "nothing was allotted")
    record = replace(product(context, name), allotted=sum(allotments))
    lifecycle.move(context, name, record, ProductStatus.ALLOTTED)
    context.emit(events.ProductAllotted(name, sum(quantities), record.allotted))
    context.schedule(rule.start_of(rule.value_date), DueClass.ISSUANCE, ESTABLISH, name, product=name)


def _void_without_contract(context: Context, name: bytes) -> _Participants:
    """Void the subscriptions whose contract does not stand; the others."""
    eligible = []
    for subscription, entry in participants(context, name):
        if _contract_stands(context, entry.contract):
            eligible.append((subscription, entry))
        else:
            status = SubscriptionStatus.VOID_NOT_EFFECTIVE
            end_subscription(context, subscription, entry, status, "the contract was not effective")
            binding.expire_if_signed(context, entry.contract)
    return eligible


def _contract_stands(context: Context, name: bytes) -> bool:
    """Whether the contract, or what amended it, was effective at the due time, whatever happened to it since."""
    contract = context.need(CONTRACTS, name, "contract")
    while contract.status is ContractStatus.AMENDED and _ended_by(contract.ended_at, context.now):
        assert contract.superseded_by is not None
        contract = context.need(CONTRACTS, contract.superseded_by, "contract")
    since = contract.effective_at
    return since is not None and since <= context.now and not _ended_by(contract.ended_at, context.now)


def _ended_by(ended_at: int | None, now: int) -> bool:
    return ended_at is not None and ended_at <= now


def _fail_product(context: Context, name: bytes, rule: ProductTerms, live: _Participants, reason: str) -> None:
    for subscription, entry in live:
        end_subscription(context, subscription, entry, SubscriptionStatus.REFUNDED, reason)
    record = replace(product(context, name), allotted=0)
    lifecycle.end(context, name, record, rule, ProductStatus.FAILED, reason)


def establish(context: Context, item: DueItem) -> None:
    """Bring the product into being at its value date: cost to the issuer, fee to the payee, the rest released, units
    issued. Who may not hold it now is REFUNDED and not re-allotted; with less than min_raise left it is FAILED."""
    if _waits(context, item):
        return
    name, rule = item.item, terms(context, item.item)
    allotted = [entry for entry in participants(context, name) if entry[1].status is SubscriptionStatus.ALLOTTED]
    accepted, refused = _sort_out(context, allotted, rule)
    if sum(entry.allotted for _, entry in accepted) < rule.min_raise:
        _fail_product(context, name, rule, allotted, "less than the minimum could be established")
        return
    for subscription, entry, reason in refused:
        end_subscription(context, subscription, entry, SubscriptionStatus.REFUNDED, reason)
    decimals = balances.cash_decimals(context, rule.cash)
    raised = fees = 0
    for subscription, entry in accepted:
        amount = cost(rule, entry.allotted, decimals)
        fee = subscription_fee(rule, amount)
        _settle(context, subscription, entry, rule, amount + fee)
        raised += amount
        fees += fee
    record = product(context, name)
    balances.move_cash(context, record.issuer, rule.cash, raised)
    if fees:
        balances.move_cash(context, rule.fee_payee, rule.cash, fees)
    lifecycle.move(context, name, record, ProductStatus.ACTIVE)
    schedule_payment(context, name, rule, 0)


def _sort_out(
    context: Context, allotted: _Participants, rule: ProductTerms
) -> tuple[_Participants, list[tuple[bytes, Subscription, str]]]:
    """Those who may hold the product now, and those who may not with the reason; holders are counted in the order of
    acceptance."""
    accepted: _Participants = []
    refused: list[tuple[bytes, Subscription, str]] = []
    people = 0
    for subscription, entry in allotted:
        reason = _refusal(context, entry, rule)
        after = people + context.account(entry.account).ultimate_holders
        if not reason and after > rule.max_holders:
            reason = Code.HOLDER_CAP.value
        if reason:
            refused.append((subscription, entry, reason))
        else:
            accepted.append((subscription, entry))
            people = after
    return accepted, refused


def _refusal(context: Context, entry: Subscription, rule: ProductTerms) -> str:
    """Why the subscriber cannot become a holder at the due time; empty if nothing stands in the way."""
    account = context.account(entry.account)
    if context.is_frozen(entry.account):
        return Code.FROZEN.value
    try:
        require_qualified(context, account, rule)
    except Failed as refused:
        return refused.code.value
    return "" if _contract_stands(context, entry.contract) else Code.CONTRACT_NOT_EFFECTIVE.value


def _settle(context: Context, name: bytes, entry: Subscription, rule: ProductTerms, paid: int) -> None:
    """One subscriber pays and gets its units; issuer and payee are credited the sums."""
    balances.spend_lock(context, entry.account, name, paid)
    lockup_until = rule.start_of(rule.value_date + rule.lockup_days) if rule.lockup_days else 0
    balances.issue(
        context,
        entry.account,
        entry.product,
        entry.allotted,
        acquired_at=rule.start_of(rule.value_date),
        lockup_until=lockup_until,
    )
    finish_subscription(context, name, entry, SubscriptionStatus.SETTLED, allotted=entry.allotted, reason="")


def _waits(context: Context, item: DueItem) -> bool:
    """While the market is paused the step is put aside; `resume_issuance` brings it back with its own due time."""
    if not paused(context.state):
        return False
    kind_first = b"\x00" if item.kind == CLOSE else b"\x01"
    context.put(PRODUCTS_WAITING, integer(context.now) + kind_first + item.item, Reference(item.item))
    return True


def resume_issuance(context: Context) -> None:
    """The market goes on: the steps that came due while it was paused run in the next block, in their order."""
    for key, reference in context.state.scan(PRODUCTS_WAITING):
        kind = CLOSE if key[8:9] == b"\x00" else ESTABLISH
        context.delete(PRODUCTS_WAITING, key)
        context.schedule(
            int.from_bytes(key[:8], "big"), DueClass.ISSUANCE, kind, reference.item, product=reference.item
        )


def _close_weight(state: State, item: DueItem) -> int:
    record = state.get(PRODUCTS, item.item)
    return 1 if record is None else 1 + record.live


def _establish_weight(state: State, item: DueItem) -> int:
    """Establishing touches some four times as much per subscription as allotting does."""
    return 4 * _close_weight(state, item)


DUE_KINDS: dict[str, DueHandler] = {CLOSE: close, ESTABLISH: establish}
DUE_WEIGHTS: dict[str, DueWeight] = {CLOSE: _close_weight, ESTABLISH: _establish_weight}

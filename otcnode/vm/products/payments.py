"""What the issuer of an ACTIVE product owes its holders: coupons and the principal at maturity.

The coupon of the maturity date and the principal are one obligation. An obligation is paid in full or not at all, to
the balances (locked and frozen included) at 00:00 local of its day: it runs at that instant, before any settlement of
the same instant, and nothing moves units of the product while it waits. What cannot be paid makes the product
PAYMENT_OVERDUE until the issuer's cash suffices or the days of grace end. Meanwhile units move by forced transfer only:
the unpaid coupon stays owed to who held them at 00:00 of its day (RECORDED_BALANCES); the principal, for which they are
burnt, goes with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from msgspec.structs import replace

from otcnode.vm import balances
from otcnode.vm.accounts.records import FREEZES, FREEZES_BY_ACCOUNT, HOLDERS, HOLDINGS, FrozenPart, Holding
from otcnode.vm.arithmetic import principal
from otcnode.vm.context import Context
from otcnode.vm.contracts import binding
from otcnode.vm.due import DueClass, DueItem
from otcnode.vm.keys import MARKER, integer
from otcnode.vm.products import events, lifecycle
from otcnode.vm.products.eligibility import coupon_days, interest_of_days, product, terms
from otcnode.vm.products.records import (
    PRODUCT_TERMS,
    PRODUCTS,
    PRODUCTS_OVERDUE,
    RECORDED_BALANCES,
    RECORDED_BY_ACCOUNT,
    REDEMPTIONS_BY_PRODUCT,
    REQUESTED_PART,
    Product,
    ProductStatus,
    ProductTerms,
    RecordedBalance,
    SubscriptionStatus,
)
from otcnode.vm.products.redemptions import expire_open
from otcnode.vm.products.subscriptions import participants
from otcnode.vm.rules import DueHandler, DueWeight
from otcnode.vm.state import State
from otcnode.vm.trades.records import TRADING_OPEN

PAY = "product.pay"
GRACE = "product.grace"
RELEASED_AT_ONCE = 1_000
"""Open items that one step before a maturity ends."""
RELEASE_WEIGHT = 4
"""About the records that ending one of them touches."""


def schedule_payment(context: Context, name: bytes, rule: ProductTerms, index: int) -> None:
    """Have the payment with this index among `rule.payments` made on its day."""
    due_ms = rule.start_of(rule.payments[index])
    context.schedule(due_ms, DueClass.COUPON, PAY, name, product=name)


class _Share(NamedTuple):
    """What one holder gets."""

    account: bytes
    holding: Holding
    """As it is now; of who held units on the day and has none any more, nothing."""
    coupon: int
    principal: int

    @property
    def amount(self) -> int:
        return self.coupon + self.principal


@dataclass(frozen=True, slots=True)
class _Obligation:
    """What the issuer owes on one day, rounded per holder."""

    date: int
    days: int
    """Of the coupon; 0 if none is due."""
    matures: bool
    shares: tuple[_Share, ...]

    @property
    def total(self) -> int:
        return sum(share.amount for share in self.shares)


def _obligation(context: Context, name: bytes, rule: ProductTerms, date: int) -> _Obligation:
    matures = date == rule.maturity
    days = coupon_days(rule, date) if date in rule.pay_dates else 0
    holdings = {key[32:]: holding for key, holding in context.state.scan(HOLDINGS, name)}
    recorded = {
        key[40:]: record.quantity for key, record in context.state.scan(RECORDED_BALANCES, name + integer(date))
    }
    if recorded:
        holdings = {account: holdings.get(account, balances.NO_UNITS) for account in sorted({*holdings, *recorded})}
    shares = []
    for account, holding in holdings.items():
        on_the_day = recorded.get(account, holding.balance)
        coupon = interest_of_days(rule, on_the_day, days) if days else 0
        worth = principal(holding.balance, rule.face, quantity_decimals=rule.quantity_decimals) if matures else 0
        shares.append(_Share(account, holding, coupon, worth))
    return _Obligation(date, days, matures, tuple(shares))


def pay_due(context: Context, item: DueItem) -> None:
    """A pay date or the maturity came."""
    name = item.item
    record, rule = product(context, name), terms(context, name)
    date = rule.payments[record.next_payment]
    if date == rule.maturity and not _released(context, name):
        context.schedule(context.now, DueClass.COUPON, PAY, name, product=name)
        return
    record = replace(record, next_payment=record.next_payment + 1, unpaid=(*record.unpaid, date))
    context.put(PRODUCTS, name, record)
    if record.next_payment < len(rule.payments):
        schedule_payment(context, name, rule, record.next_payment)
    if record.status is ProductStatus.PAYMENT_OVERDUE:
        _report_overdue(context, name, record, rule, date)
        return
    _pay_in_order(context, name)
    record = product(context, name)
    if record.unpaid:
        record = lifecycle.move(context, name, record, ProductStatus.PAYMENT_OVERDUE)
        _report_overdue(context, name, record, rule, date)
        _enter_grace(context, name, record, rule)


def _released(context: Context, name: bytes) -> bool:
    """Whether nothing is open on the product any more. Of what is, a bounded part ends now; the rest, and with it the
    payment, comes later in the queue, at the same time and in the next blocks: anybody may have opened very much."""
    left = RELEASED_AT_ONCE
    for release in (expire_open, *context.hooks.open_item_releasers):
        left -= release(context, name, left)
        if left <= 0:
            return False
    return True


def _report_overdue(context: Context, name: bytes, record: Product, rule: ProductTerms, date: int) -> None:
    due = _obligation(context, name, rule, date).total
    available = balances.cash_balance(context, record.issuer, rule.cash).available
    until = rule.start_of(date + rule.grace_days)
    context.emit(events.PaymentOverdue(name, date, due, max(0, due - available), until))


def _enter_grace(context: Context, name: bytes, record: Product, rule: ProductTerms) -> None:
    """Wait for the issuer's cash to rise, at most until the grace of the earliest unpaid day ends."""
    first = record.unpaid[0]
    context.put(PRODUCTS_OVERDUE, _overdue_key(name, record, rule), MARKER)
    context.schedule(rule.start_of(first + rule.grace_days), DueClass.COUPON, GRACE, name, product=name)
    balances.watch_cash(context, record.issuer, rule.cash, record.issuer)


def _leave_grace(context: Context, name: bytes, record: Product, rule: ProductTerms) -> None:
    context.delete(PRODUCTS_OVERDUE, _overdue_key(name, record, rule))
    context.unschedule(name, GRACE)


def _overdue_key(name: bytes, record: Product, rule: ProductTerms) -> bytes:
    return record.issuer + integer(rule.start_of(record.unpaid[0])) + name


def _pay_in_order(context: Context, name: bytes) -> None:
    """Pay the unpaid days, the earliest first, as far as the issuer's cash goes."""
    record, rule = product(context, name), terms(context, name)
    while record.unpaid:
        obligation = _obligation(context, name, rule, record.unpaid[0])
        if not _can_pay(context, record, rule, obligation.total):
            return
        _pay(context, name, record, rule, obligation)
        for key, _ in context.state.scan(RECORDED_BALANCES, name + integer(obligation.date)):
            context.delete(RECORDED_BALANCES, key)
            context.delete(RECORDED_BY_ACCOUNT, key[40:] + key[:40])
        record = replace(record, unpaid=record.unpaid[1:])
        context.put(PRODUCTS, name, record)
        if obligation.matures:
            _mature(context, name, record, rule)


def _can_pay(context: Context, record: Product, rule: ProductTerms, total: int) -> bool:
    frozen = context.is_frozen(record.issuer)
    return not frozen and balances.cash_balance(context, record.issuer, rule.cash).available >= total


def _pay(context: Context, name: bytes, record: Product, rule: ProductTerms, obligation: _Obligation) -> None:
    if obligation.total:
        balances.move_cash(context, record.issuer, rule.cash, -obligation.total)
    for share in obligation.shares:
        frozen = _freeze_proceeds(context, name, rule, obligation, share) if share.holding.frozen else 0
        if share.amount:
            balances.move_cash(context, share.account, rule.cash, share.amount, frozen=frozen)
        if obligation.matures and share.holding.balance:
            units = share.holding
            balances.burn(context, share.account, name, units.balance, from_frozen=units.frozen, ignore_lockup=True)
    coupon = sum(share.coupon for share in obligation.shares)
    context.emit(events.ProductPaid(name, obligation.date, coupon, obligation.total - coupon, len(obligation.shares)))


def _freeze_proceeds(context: Context, name: bytes, rule: ProductTerms, obligation: _Obligation, share: _Share) -> int:
    """What frozen units earn is frozen under the same freeze, and at maturity takes their place; how much in all.

    Each freeze's part is rounded by itself; together they never freeze more than the holder gets.
    """
    frozen = 0
    for suffix, _ in context.state.scan(FREEZES_BY_ACCOUNT, share.account):
        freeze_id = suffix[32:]
        record = context.need(FREEZES, freeze_id, "freeze")
        units = sum(part.amount for part in record.parts if part.asset == name)
        if not units:
            continue
        proceeds = interest_of_days(rule, units, obligation.days)
        if obligation.matures:
            proceeds += principal(units, rule.face, quantity_decimals=rule.quantity_decimals)
        proceeds = min(proceeds, share.amount - frozen)
        frozen += proceeds
        amounts = {part.asset: part.amount for part in record.parts}
        if obligation.matures:
            del amounts[name]
        if proceeds:
            cash = rule.cash.encode()
            amounts[cash] = amounts.get(cash, 0) + proceeds
        parts = tuple(FrozenPart(asset, amount) for asset, amount in sorted(amounts.items()))
        context.put(FREEZES, freeze_id, replace(record, parts=parts))
    return frozen


def record_balances(context: Context, name: bytes, *accounts: bytes) -> None:
    """Units are about to move between the accounts: note what each held on the days that are still unpaid."""
    for date in product(context, name).unpaid:
        for account in accounts:
            key = name + integer(date) + account
            if context.get(RECORDED_BALANCES, key) is None:
                held = balances.holding(context, account, name).balance
                context.put(RECORDED_BALANCES, key, RecordedBalance(held))
                if held:
                    context.put(RECORDED_BY_ACCOUNT, account + name + integer(date), MARKER)


def _mature(context: Context, name: bytes, record: Product, rule: ProductTerms) -> None:
    """Nothing is outstanding any more: what the contracts promised is done."""
    lifecycle.end(context, name, record, rule, ProductStatus.MATURED, "")
    binding.fulfil(context, rule.contract)
    for _, entry in participants(context, name):
        if entry.status is SubscriptionStatus.SETTLED:
            binding.fulfil(context, entry.contract)


def _try_overdue(context: Context, name: bytes) -> None:
    """Pay what is overdue as far as the cash goes."""
    before, rule = product(context, name), terms(context, name)
    assert before.status is ProductStatus.PAYMENT_OVERDUE
    _pay_in_order(context, name)
    after = product(context, name)
    if after.unpaid == before.unpaid:
        return
    _leave_grace(context, name, before, rule)
    if after.unpaid:
        _enter_grace(context, name, after, rule)
    elif after.status is ProductStatus.PAYMENT_OVERDUE:
        lifecycle.move(context, name, after, ProductStatus.ACTIVE)


def retry(context: Context, item: DueItem) -> None:
    """The issuer's available cash rose: `item` is the issuer. Its overdue products are tried, the oldest debt first;
    where something stays unpaid, its cash is watched again."""
    for key in _overdue_products(context.state, item.item):
        _try_overdue(context, key[40:])
    for key in _overdue_products(context.state, item.item):
        balances.watch_cash(context, item.item, terms(context, key[40:]).cash, item.item)


def _overdue_products(state: State, issuer: bytes) -> list[bytes]:
    return [key for key, _ in state.scan(PRODUCTS_OVERDUE, issuer)]


def end_grace(context: Context, item: DueItem) -> None:
    """The grace of the earliest unpaid day is over: a last attempt, for an issuer whose cash was there but frozen; then
    the product is DEFAULTED. Its units stay, as the claim they are."""
    name = item.item
    before, rule = product(context, name), terms(context, name)
    _try_overdue(context, name)
    after = product(context, name)
    if after.unpaid == before.unpaid:
        _leave_grace(context, name, after, rule)
        lifecycle.end(context, name, after, rule, ProductStatus.DEFAULTED, "not paid within the days of grace")


def _weight(state: State, item: DueItem) -> int:
    return _weight_of(state, item.item) + RELEASE_WEIGHT * _released_next(state, item.item)


def _released_next(state: State, name: bytes) -> int:
    """How much that stands on the product the next step of its maturity ends."""
    if not _matures_next(state, name):
        return 0
    asked = len(state.scan(REDEMPTIONS_BY_PRODUCT, name + REQUESTED_PART, limit=RELEASED_AT_ONCE))
    left = RELEASED_AT_ONCE - asked
    return asked + (len(state.scan(TRADING_OPEN, name, limit=left)) if left else 0)


def _matures_next(state: State, name: bytes) -> bool:
    record, rule = state.get(PRODUCTS, name), state.get(PRODUCT_TERMS, name)
    return record is not None and rule is not None and record.next_payment == len(rule.payments) - 1


def _retry_weight(state: State, item: DueItem) -> int:
    return 1 + sum(_weight_of(state, key[40:]) for key in _overdue_products(state, item.item))


def _weight_of(state: State, name: bytes) -> int:
    """One per holder for each unpaid coupon; a maturity touches some four times as much, and what was subscribed, whose
    contracts are fulfilled, whoever holds the units by now."""
    record, rule, count = state.get(PRODUCTS, name), state.get(PRODUCT_TERMS, name), state.get(HOLDERS, name)
    if record is None or rule is None:
        return 1
    payments, accounts = 1 + len(record.unpaid), 0 if count is None else count.accounts
    if record.next_payment < len(rule.payments) - 1:
        return 1 + accounts * payments
    return 1 + accounts * (payments + 3) + record.accepted


DUE_KINDS: dict[str, DueHandler] = {PAY: pay_due, GRACE: end_grace, balances.WAKE: retry}
DUE_WEIGHTS: dict[str, DueWeight] = {
    PAY: _weight,
    GRACE: _weight,
    balances.WAKE: _retry_weight,
}

"""The invariants of products, subscriptions and redemptions that can be seen from a state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from otcnode.vm.accounts.records import (
    ACCOUNTS,
    HOLDERS,
    HOLDINGS,
    LOCKS,
    OPEN_ITEMS,
    UNIT_TOTALS,
    HolderCount,
    LockPurpose,
    UnitTotal,
)
from otcnode.vm.due import places_of
from otcnode.vm.keys import OPEN_PRODUCT, OPEN_REDEMPTION, OPEN_SUBSCRIPTION, integer
from otcnode.vm.products.allotment import allot
from otcnode.vm.products.records import (
    LIVE_SUBSCRIPTION,
    PRODUCT_CODES,
    PRODUCT_TERMS,
    PRODUCTS,
    PRODUCTS_BY_STATUS,
    PRODUCTS_OVERDUE,
    RECORDED_BALANCES,
    RECORDED_BY_ACCOUNT,
    REDEMPTIONS,
    REDEMPTIONS_BY_PRODUCT,
    REQUESTED_PART,
    SUBSCRIPTIONS,
    SUBSCRIPTIONS_BY_PRODUCT,
    TERMINAL,
    Product,
    ProductStatus,
    ProductTerms,
    RedemptionStatus,
    Subscription,
    SubscriptionStatus,
    status_key,
)
from otcnode.vm.state import State
from otcnode.vm.violation import Violation

_ISSUED = frozenset(
    {ProductStatus.ACTIVE, ProductStatus.PAYMENT_OVERDUE, ProductStatus.MATURED, ProductStatus.DEFAULTED}
)
_OWING = frozenset({ProductStatus.PAYMENT_OVERDUE, ProductStatus.DEFAULTED})


def _products(state: State) -> Iterator[tuple[bytes, Product, ProductTerms]]:
    for name, record in state.scan(PRODUCTS):
        terms = state.get(PRODUCT_TERMS, name)
        assert terms is not None
        yield name, record, terms


def units_issued(state: State) -> Iterator[Violation]:
    """2: issued ≤ offered, and only an established product has units. 25: MATURED ⇒ outstanding 0."""
    for name, record, terms in _products(state):
        total = state.get(UNIT_TOTALS, name) or UnitTotal(0, 0)
        if total.issued > min(terms.offered, record.allotted if record.status in _ISSUED else 0):
            yield Violation(2, f"product {record.code}: {total.issued} issued")
        if record.status is ProductStatus.MATURED and total.outstanding:
            yield Violation(25, f"product {record.code}: {total.outstanding} outstanding")


def subscriptions_locked(state: State) -> Iterator[Violation]:
    """4, 12: a live subscription has its whole lock, one that ended has none; the product's sums are theirs."""
    sums: Counter[tuple[bytes, str]] = Counter()
    locks = {key[32:]: lock.amount for key, lock in state.scan(LOCKS) if lock.purpose is LockPurpose.SUBSCRIPTION}
    for name, entry in state.scan(SUBSCRIPTIONS):
        live = entry.status in LIVE_SUBSCRIPTION
        if locks.pop(name, 0) != (entry.locked if live else 0):
            yield Violation(12, f"subscription {name.hex()}: lock")
        if (state.get(OPEN_ITEMS, entry.account + OPEN_SUBSCRIPTION + name) is not None) != live:
            yield Violation(4, f"subscription {name.hex()}: open item")
        if live:
            sums[entry.product, "live"] += 1
            sums[entry.product, "subscribed"] += entry.quantity
            sums[entry.product, "holders"] += entry.ultimate_holders
    for name in sorted(locks):
        yield Violation(4, f"lock {name.hex()} belongs to no subscription")
    for name, record in state.scan(PRODUCTS):
        kept = (record.live, record.subscribed, record.subscriber_holders)
        if kept != tuple(sums[name, what] for what in ("live", "subscribed", "holders")):
            yield Violation(12, f"product {record.code}: sums of subscriptions")


def allotments(state: State) -> Iterator[Violation]:
    """11, 13: while ALLOTTED, what was allotted follows from the accepted subscriptions in their order alone, and sums
    to min(offered, eligible) unless small ones were dropped."""
    for name, record, terms in _products(state):
        if record.status is not ProductStatus.ALLOTTED:
            continue
        entries = [
            entry
            for entry in _accepted(state, name)
            if entry.status in (SubscriptionStatus.ALLOTTED, SubscriptionStatus.REFUNDED)
        ]
        quantities = [entry.quantity for entry in entries]
        anew = allot(quantities, offered=terms.offered, step=terms.step, min_allotment=terms.min_allotment)
        if anew != [entry.allotted for entry in entries] or sum(anew) != record.allotted:
            yield Violation(13, f"product {record.code}: allotments do not follow from the subscriptions")
        if not terms.min_allotment and record.allotted != min(terms.offered, sum(quantities)):
            yield Violation(11, f"product {record.code}: {record.allotted} allotted")


def _accepted(state: State, product: bytes) -> list[Subscription]:
    names = [reference.item for _, reference in state.scan(SUBSCRIPTIONS_BY_PRODUCT, product)]
    return [entry for name in names if (entry := state.get(SUBSCRIPTIONS, name)) is not None]


def holders_counted(state: State) -> Iterator[Violation]:
    """14: the count of holders is right, and within the product's cap."""
    accounts: Counter[bytes] = Counter()
    people: Counter[bytes] = Counter()
    for key, _ in state.scan(HOLDINGS):
        account = state.get(ACCOUNTS, key[32:])
        assert account is not None
        accounts[key[:32]] += 1
        people[key[:32]] += account.ultimate_holders
    for name, record, terms in _products(state):
        count = state.get(HOLDERS, name) or HolderCount(0, 0)
        if count != HolderCount(accounts[name], people[name]) or count.ultimate_holders > terms.max_holders:
            yield Violation(14, f"product {record.code}: {people[name]} holders, {count.ultimate_holders} counted")


def payments_kept(state: State) -> Iterator[Violation]:
    """24, 32: what is unpaid has come due, and something is unpaid exactly while PAYMENT_OVERDUE or DEFAULTED."""
    overdue = {key[40:]: key[:40] for key, _ in state.scan(PRODUCTS_OVERDUE)}
    for name, record, terms in _products(state):
        come = terms.payments[: record.next_payment]
        suffix = come[len(come) - len(record.unpaid) :]
        if record.unpaid != suffix or bool(record.unpaid) != (record.status in _OWING):
            yield Violation(24, f"product {record.code}: unpaid {record.unpaid}")
        expected = (
            record.issuer + integer(terms.start_of(record.unpaid[0]))
            if record.status is ProductStatus.PAYMENT_OVERDUE and record.unpaid
            else None
        )
        if overdue.pop(name, None) != expected:
            yield Violation(24, f"product {record.code}: index of what is overdue")
        if record.status is ProductStatus.MATURED and record.next_payment != len(terms.payments):
            yield Violation(24, f"product {record.code}: matured before its last payment")


def records_kept(state: State) -> Iterator[Violation]:
    """24: what was held on a day is recorded only while the day is unpaid, and for each day it is all that is held."""
    sums: Counter[tuple[bytes, int]] = Counter()
    for key, record in state.scan(RECORDED_BALANCES):
        name, date, account = key[:32], int.from_bytes(key[32:40], "big"), key[40:]
        held = state.get(HOLDINGS, name + account)
        sums[name, date] += record.quantity - (0 if held is None else held.balance)
        owner = state.get(PRODUCTS, name)
        if owner is None or date not in owner.unpaid:
            yield Violation(24, f"a balance of {name.hex()} is recorded for the day {date}, which is not unpaid")
    owed = [key[40:] + key[:40] for key, record in state.scan(RECORDED_BALANCES) if record.quantity]
    if sorted(owed) != [key for key, _ in state.scan(RECORDED_BY_ACCOUNT)]:
        yield Violation(24, "index of recorded balances by account")
    for (name, date), difference in sorted(sums.items()):
        if difference:
            yield Violation(24, f"what is recorded of {name.hex()} for the day {date} differs by {difference}")


def ends_kept(state: State) -> Iterator[Violation]:
    """4, 20: a terminal product has nothing scheduled and holds neither its code nor a place among open items."""
    for name, record in state.scan(PRODUCTS):
        ended = record.status in TERMINAL
        code = state.get(PRODUCT_CODES, record.code.encode())
        if ended and places_of(state, name):
            yield Violation(20, f"product {record.code} has ended and has something scheduled")
        if (code is not None and code.item == name) == ended:
            yield Violation(20, f"product {record.code}: code")
        if (state.get(OPEN_ITEMS, record.issuer + OPEN_PRODUCT + name) is None) != ended:
            yield Violation(4, f"product {record.code}: open item")
        if state.get(PRODUCTS_BY_STATUS, status_key(record.status, name)) is None:
            yield Violation(20, f"product {record.code}: index by status")


def redemptions_locked(state: State) -> Iterator[Violation]:
    """4: a requested redemption has its units locked and is listed, one that ended has no lock and is not."""
    locks = {key[32:]: lock.amount for key, lock in state.scan(LOCKS) if lock.purpose is LockPurpose.REDEMPTION}
    for name, entry in state.scan(REDEMPTIONS):
        live = entry.status is RedemptionStatus.REQUESTED
        open_item = state.get(OPEN_ITEMS, entry.account + OPEN_REDEMPTION + name) is not None
        listed = state.get(REDEMPTIONS_BY_PRODUCT, entry.product + REQUESTED_PART + name) is not None
        if locks.pop(name, 0) != (entry.quantity if live else 0) or not live == open_item == listed:
            yield Violation(4, f"redemption {name.hex()}")
    for name in sorted(locks):
        yield Violation(4, f"lock {name.hex()} belongs to no redemption")


CHECKS: tuple[Callable[[State], Iterator[Violation]], ...] = (
    units_issued,
    subscriptions_locked,
    allotments,
    holders_counted,
    payments_kept,
    records_kept,
    ends_kept,
    redemptions_locked,
)

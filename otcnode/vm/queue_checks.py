"""Whether the due queue holds exactly what the records of all families wait for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from otcnode.vm.accounts import entrustments, handlers, recovery
from otcnode.vm.accounts.records import (
    ACCOUNTS,
    CASH_BALANCES,
    ENTRUSTMENTS,
    FREEZES,
    RECOVERIES,
    AccountStatus,
    EntrustmentStatus,
    RecoveryStatus,
)
from otcnode.vm.arithmetic import DAY_MS
from otcnode.vm.balances import WAKE
from otcnode.vm.contracts import lifecycle as contracts
from otcnode.vm.contracts.records import CONTRACTS, Contract, ContractStatus
from otcnode.vm.due import DUE, DUE_BY_ITEM, DUE_BY_PRODUCT, DueClass, Place, due_time
from otcnode.vm.governance import proposals
from otcnode.vm.governance.records import PROPOSALS, ProposalStatus
from otcnode.vm.products import issuance, payments, redemptions
from otcnode.vm.products import lifecycle as products
from otcnode.vm.products.records import (
    PRODUCT_TERMS,
    PRODUCTS,
    PRODUCTS_WAITING,
    REDEMPTIONS,
    Product,
    ProductStatus,
    ProductTerms,
    RedemptionStatus,
)
from otcnode.vm.state import State
from otcnode.vm.trades import family as trades
from otcnode.vm.violation import Violation

Entry: TypeAlias = tuple[bytes, str, int]
"""(item, kind, due time)"""

_ELSEWHERE = frozenset({WAKE, *trades.DUE_KINDS})
"""Kinds that `open_items_kept` of trades and `overdue_watched` look at."""
_P = ProductStatus


def queue_indexed(state: State) -> Iterator[Violation]:
    """33: whatever is due is found by its item, and by the product it holds up; nothing else is."""
    by_item: dict[bytes, list[Place]] = {}
    by_product: dict[bytes, list[Place]] = {}
    for key, item in state.scan(DUE):
        by_item.setdefault(item.item, []).append(Place(key, item.kind))
        if item.product is not None and key[9] in (DueClass.COUPON, DueClass.ISSUANCE):
            by_product.setdefault(item.product, []).append(Place(key, item.kind))
    for table, expected in ((DUE_BY_ITEM, by_item), (DUE_BY_PRODUCT, by_product)):
        if {name: list(entries.places) for name, entries in state.scan(table)} != expected:
            yield Violation(33, f"index {table.name} of the due queue")


def everything_scheduled(state: State) -> Iterator[Violation]:
    """33: what waits for its time is in the queue once, with its time, and nothing else is."""
    queued = [(item.item, item.kind, due_time(key)) for key, item in state.scan(DUE) if item.kind not in _ELSEWHERE]
    expected = [entry for source in _SOURCES for entry in source(state)]
    places, wanted = set(queued), set(expected)
    if len(places) != len(queued):
        yield Violation(33, "something is in the queue twice")
    for item, kind, at in sorted(places ^ wanted):
        missing = (item, kind, at) in wanted
        yield Violation(33, f"{kind} of {item.hex()} at {at}: {'not in' if missing else 'has no place in'} the queue")


def overdue_watched(state: State) -> Iterator[Violation]:
    """24: where payment is overdue, the issuer's cash is watched or an attempt is due."""
    woken = {item.item for _, item in state.scan(DUE) if item.kind == WAKE}
    for name, record in state.scan(PRODUCTS):
        if record.status is _P.PAYMENT_OVERDUE and record.issuer not in woken:
            balance = state.get(CASH_BALANCES, record.issuer + _terms(state, name).cash.encode())
            if balance is None or balance.watch != record.issuer:
                yield Violation(24, f"product {record.code} is overdue and its issuer's cash is not watched")


def _accounts(state: State) -> Iterator[Entry]:
    for name, account in state.scan(ACCOUNTS):
        if account.status is AccountStatus.PENDING:
            yield name, handlers.PENDING_END, account.created_at + handlers.PENDING_DAYS * DAY_MS
    for name, freeze in state.scan(FREEZES):
        if freeze.until is not None:
            yield name, handlers.FREEZE_END, freeze.until
    for name, entrustment in state.scan(ENTRUSTMENTS):
        if entrustment.status in (EntrustmentStatus.PROPOSED, EntrustmentStatus.ACTIVE):
            yield name, entrustments.EXPIRE, entrustment.powers.until
    for name, attempt in state.scan(RECOVERIES):
        if attempt.status in (RecoveryStatus.PROPOSED, RecoveryStatus.DELAYED):
            yield name, recovery.STEP, attempt.deadline


def _proposals(state: State) -> Iterator[Entry]:
    for name, proposal in state.scan(PROPOSALS):
        if proposal.status is ProposalStatus.PROPOSED:
            yield name, proposals.EXPIRE, proposal.expires_at


def _contracts(state: State) -> Iterator[Entry]:
    for name, contract in state.scan(CONTRACTS):
        at = _turning_point(contract)
        if at is not None:
            yield name, contracts.TURN if contract.status is ContractStatus.SIGNED else contracts.PHASE_END, at


def _turning_point(contract: Contract) -> int | None:
    match contract.status:
        case ContractStatus.DRAFT | ContractStatus.CONFIRMING:
            return contract.confirm_by
        case ContractStatus.SIGNING:
            return contract.sign_by
        case ContractStatus.SIGNED:
            return contract.turns_effective_at
    return None


def _terms(state: State, name: bytes) -> ProductTerms:
    terms = state.get(PRODUCT_TERMS, name)
    assert terms is not None
    return terms


def _products(state: State) -> Iterator[Entry]:
    put_aside = {reference.item for _, reference in state.scan(PRODUCTS_WAITING)}
    for name, record in state.scan(PRODUCTS):
        rule = _terms(state, name)
        for kind, at in _steps(record, rule):
            if name not in put_aside or kind not in issuance.DUE_KINDS:
                yield name, kind, at
    for name, redemption in state.scan(REDEMPTIONS):
        if redemption.status is RedemptionStatus.REQUESTED:
            yield name, redemptions.LAPSE, redemption.until


def _steps(record: Product, rule: ProductTerms) -> Iterator[tuple[str, int]]:
    if record.status is _P.APPROVED:
        yield products.OPEN, rule.open
    if record.status in (_P.APPROVED, _P.OPEN):
        yield issuance.CLOSE, rule.close
    if record.status is _P.ALLOTTED:
        yield issuance.ESTABLISH, rule.start_of(rule.value_date)
    if record.status in (_P.ACTIVE, _P.PAYMENT_OVERDUE) and record.next_payment < len(rule.payments):
        yield payments.PAY, rule.start_of(rule.payments[record.next_payment])
    if record.status is _P.PAYMENT_OVERDUE and record.unpaid:
        yield payments.GRACE, rule.start_of(record.unpaid[0] + rule.grace_days)


_SOURCES: tuple[Callable[[State], Iterator[Entry]], ...] = (_accounts, _proposals, _contracts, _products)

CHECKS: tuple[Callable[[State], Iterator[Violation]], ...] = (queue_indexed, everything_scheduled, overdue_watched)

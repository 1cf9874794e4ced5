"""Withdrawals: locked by the holder, paid or rejected by the custodian. LOCKED → PAID | REJECTED | CANCELLED."""

from __future__ import annotations

from msgspec.structs import replace

from otcnode.errors import Code
from otcnode.genesis import KeyPurpose, Role
from otcnode.vm import balances
from otcnode.vm.accounts.events import WithdrawalChanged
from otcnode.vm.accounts.operations import CashWithdraw, CashWithdrawCancel, CashWithdrawResult
from otcnode.vm.accounts.records import (
    BANK_REFERENCES,
    CASH_ASSETS,
    WITHDRAWALS,
    WITHDRAWALS_BY_PARTY,
    LockPurpose,
    Withdrawal,
    WithdrawalStatus,
)
from otcnode.vm.arithmetic import stored
from otcnode.vm.context import Context, fail
from otcnode.vm.keys import MARKER, OPEN_WITHDRAWAL, integer
from otcnode.vm.rules import Rule


def withdraw(context: Context, operation: CashWithdraw) -> None:
    asset = operation.cash.encode()
    custodian = context.need(CASH_ASSETS, asset, "cash").custodian
    context.refuse_if_frozen(context.actor)
    if not operation.amount:
        fail(Code.AMOUNT, "amount")
    name = context.new_id()
    context.open_item(context.actor, OPEN_WITHDRAWAL, name)
    balances.lock(context, context.actor, name, asset, operation.amount, LockPurpose.WITHDRAWAL, name)
    record = Withdrawal(
        context.actor,
        operation.cash,
        operation.amount,
        operation.destination,
        WithdrawalStatus.LOCKED,
        context.now,
        "",
    )
    context.put(WITHDRAWALS, name, record)
    for party in (context.actor, custodian):
        context.put(WITHDRAWALS_BY_PARTY, party + integer(context.now) + name, MARKER)
    context.emit(WithdrawalChanged(context.actor, name, WithdrawalStatus.LOCKED, "", ""))


def cancel(context: Context, operation: CashWithdrawCancel) -> None:
    record = context.need(WITHDRAWALS, operation.withdrawal, "withdrawal")
    if record.account != context.actor:
        fail(Code.NOT_PARTY, "another's withdrawal")
    _refuse_unless_locked(record)
    balances.release(context, record.account, operation.withdrawal)
    _end(context, operation.withdrawal, record, WithdrawalStatus.CANCELLED)


def cancel_locked(context: Context, name: bytes, reason: str) -> None:
    """End a withdrawal by decision of governance. Failed(E_NOT_FOUND, E_STATE)."""
    record = context.need(WITHDRAWALS, name, "withdrawal")
    _refuse_unless_locked(record)
    balances.release(context, record.account, name)
    _end(context, name, record, WithdrawalStatus.CANCELLED, reason=reason)


def decide(context: Context, operation: CashWithdrawResult) -> None:
    record = context.need(WITHDRAWALS, operation.withdrawal, "withdrawal")
    asset = context.need(CASH_ASSETS, record.cash.encode(), "cash")
    if asset.custodian != context.actor:
        fail(Code.NOT_PARTY, "another custodian's cash")
    _refuse_unless_locked(record)
    if not operation.paid:
        if not operation.reason:
            fail(Code.FIELD, "reason")
        balances.release(context, record.account, operation.withdrawal)
        _end(context, operation.withdrawal, record, WithdrawalStatus.REJECTED, reason=operation.reason)
        return
    context.refuse_if_frozen(record.account)
    if not operation.bank_reference:
        fail(Code.FIELD, "bank_reference")
    reference = context.actor + b"O" + operation.bank_reference.encode()
    if context.get(BANK_REFERENCES, reference) is not None:
        fail(Code.DUP_BANK_REF, operation.bank_reference)
    context.put(BANK_REFERENCES, reference, MARKER)
    balances.pay_from_lock(context, record.account, operation.withdrawal, None, record.amount)
    asset = balances.destroy_cash(context, asset, record.cash, record.amount)
    asset = replace(asset, withdrawn=stored(asset.withdrawn + record.amount))
    context.put(CASH_ASSETS, record.cash.encode(), asset)
    _end(context, operation.withdrawal, record, WithdrawalStatus.PAID, bank_reference=operation.bank_reference)


def _refuse_unless_locked(record: Withdrawal) -> None:
    if record.status is not WithdrawalStatus.LOCKED:
        fail(Code.STATE, f"withdrawal is {record.status.value}")


def _end(
    context: Context,
    name: bytes,
    record: Withdrawal,
    status: WithdrawalStatus,
    *,
    bank_reference: str = "",
    reason: str = "",
) -> None:
    context.close_item(record.account, OPEN_WITHDRAWAL, name)
    context.put(WITHDRAWALS, name, replace(record, status=status, reason=reason))
    context.emit(WithdrawalChanged(record.account, name, status, bank_reference, reason))


OPERATIONS: dict[type, Rule] = {
    CashWithdraw: Rule(withdraw, KeyPurpose.TRADE),
    CashWithdrawCancel: Rule(cancel, KeyPurpose.TRADE),
    CashWithdrawResult: Rule(decide, KeyPurpose.TRADE, frozenset({Role.CUSTODIAN})),
}

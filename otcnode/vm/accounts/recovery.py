"""Recovery of an account whose keys are lost or stolen. PROPOSED → DELAYED → COMPLETED | OBJECTED.

The RECOVERY desk proposes, a regulator of another organisation approves; then for 24 hours the account is RECOVERING
and any live MANAGE key may object. A PROPOSED one EXPIRES after 7 days, or is CANCELLED when its desk is recovered.
"""

from __future__ import annotations

from msgspec.structs import replace

from otcnode.errors import Code
from otcnode.genesis import KeyPurpose, Role
from otcnode.vm.accounts import entrustments, handlers, keyring
from otcnode.vm.accounts.events import AccountChanged, RecoveryChanged
from otcnode.vm.accounts.operations import AccountObject, AccountRecover, AccountRecoverApprove
from otcnode.vm.accounts.records import (
    ACCOUNTS,
    KEYS,
    OPEN_ITEMS,
    RECOVERIES,
    RECOVERIES_BY_ACCOUNT,
    Account,
    AccountStatus,
    Recovery,
    RecoveryStatus,
)
from otcnode.vm.arithmetic import DAY_MS, HOUR_MS
from otcnode.vm.context import Context, fail
from otcnode.vm.due import DueClass, DueItem
from otcnode.vm.keys import MARKER, OPEN_RECOVERY
from otcnode.vm.rules import DueHandler, DueWeight, Rule
from otcnode.vm.state import State

STEP = "recovery.step"
APPROVAL_DAYS = 7
DELAY_HOURS = 24

_S = RecoveryStatus

TRANSITIONS: dict[RecoveryStatus, frozenset[RecoveryStatus]] = {
    _S.PROPOSED: frozenset({_S.DELAYED, _S.EXPIRED, _S.CANCELLED}),
    _S.DELAYED: frozenset({_S.COMPLETED, _S.OBJECTED}),
}
"""What may follow a status; the statuses that are no key here are terminal."""


def propose(context: Context, operation: AccountRecover) -> None:
    name, account = operation.account, context.account(operation.account)
    _refuse_unless_active(account)
    handlers.check_new_keys(operation.keys, operation.thresholds)
    if any(context.get(KEYS, name + entry.key) is not None for entry in operation.keys):
        fail(Code.DUPLICATE, "a key that the account has or had")
    _refuse_second(context, name)
    recovery = context.new_id()
    record = Recovery(
        account=name,
        keys=operation.keys,
        thresholds=operation.thresholds,
        encryption_key=operation.encryption_key,
        document=operation.document,
        proposer=context.actor,
        approver=None,
        organisations=(context.account(context.actor).organisation,),
        status=_S.PROPOSED,
        deadline=context.now + APPROVAL_DAYS * DAY_MS,
        created_at=context.now,
        ended_at=None,
    )
    context.open_item(context.actor, OPEN_RECOVERY, recovery)
    context.put(RECOVERIES, recovery, record)
    context.put(RECOVERIES_BY_ACCOUNT, name + recovery, MARKER)
    context.schedule(record.deadline, DueClass.RELEASE, STEP, recovery)
    context.emit(RecoveryChanged(recovery, name, record.status, context.actor))


def _refuse_second(context: Context, account: bytes) -> None:
    """One recovery at a time; one whose time is over makes room, even if the due queue is behind."""
    for suffix, _ in context.state.scan(RECOVERIES_BY_ACCOUNT, account):
        record = context.need(RECOVERIES, suffix[32:], "recovery")
        if record.status is not _S.PROPOSED or context.now < record.deadline:
            fail(Code.DUPLICATE, "a recovery of this account is under way")
        _move(context, suffix[32:], record, _S.EXPIRED, at=record.deadline)


def _refuse_unless_active(account: Account) -> None:
    if account.status is not AccountStatus.ACTIVE:
        fail(Code.STATE, f"account is {account.status.value}")


def _refuse_unless(context: Context, record: Recovery, status: RecoveryStatus, deadline: int) -> None:
    """Failed(E_EXPIRED) from the act's deadline on unless it had ended before; Failed(E_STATE) in any other status."""
    if context.now >= deadline and not (record.ended_at is not None and record.ended_at < deadline):
        fail(Code.EXPIRED, f"possible until {deadline}")
    if record.status is not status:
        fail(Code.STATE, f"the recovery is {record.status.value}")


def approve(context: Context, operation: AccountRecoverApprove) -> None:
    name = operation.recovery
    record = context.need(RECOVERIES, name, "recovery")
    account = context.account(record.account)
    organisation = context.account(context.actor).organisation
    if organisation == record.organisations[0]:
        fail(Code.FOUR_EYES, "proposed by the same organisation")
    _refuse_unless(context, record, _S.PROPOSED, record.created_at + APPROVAL_DAYS * DAY_MS)
    proposer = context.account(record.proposer)
    if proposer.status is not AccountStatus.ACTIVE or Role.RECOVERY not in proposer.roles:
        fail(Code.STATE, "whoever proposed it is the desk no longer")
    _refuse_unless_active(account)
    context.unschedule(name, STEP)
    record = replace(
        record,
        approver=context.actor,
        organisations=(*record.organisations, organisation),
        deadline=context.now + DELAY_HOURS * HOUR_MS,
    )
    _set_status(context, record.account, account, AccountStatus.RECOVERING)
    context.schedule(record.deadline, DueClass.RELEASE, STEP, name)
    _move(context, name, record, _S.DELAYED)


def object_to(context: Context, operation: AccountObject) -> None:
    own = context.actor
    found = context.state.scan(RECOVERIES_BY_ACCOUNT, own, limit=1)
    if not found:
        fail(Code.STATE, "no recovery of this account is under way")
    name = found[0][0][32:]
    record = context.need(RECOVERIES, name, "recovery")
    _refuse_unless(context, record, _S.DELAYED, record.deadline)
    _set_status(context, own, context.account(own), AccountStatus.ACTIVE)
    _move(context, name, record, _S.OBJECTED)


def _set_status(context: Context, name: bytes, account: Account, status: AccountStatus) -> None:
    context.put(ACCOUNTS, name, replace(account, status=status))
    context.emit(AccountChanged(name, status, "recovery"))


def _move(context: Context, name: bytes, record: Recovery, status: RecoveryStatus, *, at: int | None = None) -> None:
    """Bring the recovery into a status, as of `at` (now)."""
    assert status in TRANSITIONS[record.status], f"{record.status} to {status}"
    ended = status not in TRANSITIONS
    if ended:
        context.unschedule(name, STEP)
        context.close_item(record.proposer, OPEN_RECOVERY, name)
        context.delete(RECOVERIES_BY_ACCOUNT, record.account + name)
    ended_at = (context.now if at is None else at) if ended else None
    context.put(RECOVERIES, name, replace(record, status=status, ended_at=ended_at))
    context.emit(RecoveryChanged(name, record.account, status, context.actor or None))


def step(context: Context, item: DueItem) -> None:
    """Nobody approved in time, or nobody objected."""
    record = context.need(RECOVERIES, item.item, "recovery")
    if record.status is _S.PROPOSED:
        _move(context, item.item, record, _S.EXPIRED)
        return
    _change_keys(context, record)
    _end_what_stands(context, record.account)
    account = replace(
        context.account(record.account),
        thresholds=record.thresholds,
        encryption_key=record.encryption_key,
        closing=False,
    )
    _set_status(context, record.account, account, AccountStatus.ACTIVE)
    _move(context, item.item, record, _S.COMPLETED)


def _change_keys(context: Context, record: Recovery) -> None:
    name = record.account
    for key, old in keyring.live_keys(context.state, name).items():
        keyring.revoke(context, name, key, old)
    for entry in record.keys:
        keyring.add(context, name, entry.key, entry.purpose)


def _end_what_stands(context: Context, name: bytes) -> None:
    """What the former keys granted or stand to. Locks, freezes, contracts and locked trades stay."""
    entrustments.end_all_given(context, name)
    for kind, cancel in sorted(context.hooks.recovery_cancellers.items()):
        for suffix, _ in context.state.scan(OPEN_ITEMS, name + kind):
            cancel(context, name, suffix[33:])


def cancel_for(context: Context, account: bytes, name: bytes) -> None:
    """The desk that proposed it was itself recovered: what is not approved yet falls."""
    record = context.need(RECOVERIES, name, "recovery")
    if record.status is _S.PROPOSED:
        _move(context, name, record, _S.CANCELLED)


OPERATIONS: dict[type, Rule] = {
    AccountRecover: Rule(propose, KeyPurpose.TRADE, frozenset({Role.RECOVERY}), while_paused=True),
    AccountRecoverApprove: Rule(approve, KeyPurpose.TRADE, frozenset({Role.REGULATOR}), while_paused=True),
    AccountObject: Rule(object_to, KeyPurpose.MANAGE, one_key=True, while_paused=True, while_recovering=True),
}


def _weight(state: State, item: DueItem) -> int:
    """New keys end what the old ones stand to: up to everything that the account has open."""
    record = state.get(RECOVERIES, item.item)
    account = None if record is None or record.status is _S.PROPOSED else state.get(ACCOUNTS, record.account)
    return 1 if account is None else 1 + account.open_items


DUE_KINDS: dict[str, DueHandler] = {STEP: step}
DUE_WEIGHTS: dict[str, DueWeight] = {STEP: _weight}

CANCELLERS = {OPEN_RECOVERY: cancel_for}

"""The rules of accounts: applications, certificates, keys, freezes, deposits."""

from __future__ import annotations

from collections import Counter

from msgspec.structs import replace

from otcnode.errors import Code
from otcnode.genesis import KeyPurpose, Role
from otcnode.vm import balances, due
from otcnode.vm.accounts import events, keyring
from otcnode.vm.accounts.operations import (
    AccountApply,
    AccountFreeze,
    AccountReview,
    AccountUnfreeze,
    CashDeposit,
    InvestorCertify,
    KeyAdd,
    KeyRevoke,
    KeyRotate,
)
from otcnode.vm.accounts.records import (
    ACCOUNTS,
    BANK_REFERENCES,
    CASH_ASSETS,
    FREEZES,
    FREEZES_BY_ACCOUNT,
    KEYS,
    OPEN_ITEMS,
    RECOVERIES,
    RECOVERIES_BY_ACCOUNT,
    STANDING,
    Account,
    AccountStatus,
    Certificate,
    Freeze,
    FrozenPart,
    Key,
    NewKeys,
    Thresholds,
    is_cash,
)
from otcnode.vm.arithmetic import DAY_MS, HOUR_MS, stored
from otcnode.vm.context import Context, fail
from otcnode.vm.due import COUNTERS, DueClass, DueItem
from otcnode.vm.keys import MARKER, SINGLE
from otcnode.vm.rules import DueHandler, Rule, Signatory

PENDING_DAYS = 30
CERTIFICATE_DAYS_MAX = 3 * 366
FREEZER_HOURS_MAX = 72
FREEZER_PAUSE_DAYS = 30
LIVE_KEYS_MAX = 32
PENDING_END = "account.pending_end"
FREEZE_END = "freeze.end"


# applications


def apply(context: Context, operation: AccountApply) -> None:
    check_new_keys(operation.keys, operation.thresholds)
    if operation.ultimate_holders < 1:
        fail(Code.FIELD, "ultimate_holders")
    numbers = due.counters(context.state)
    if numbers.pending_accounts >= context.environment.parameters.pending_accounts_max:
        fail(Code.LIMIT, "pending accounts")
    context.put(COUNTERS, SINGLE, replace(numbers, pending_accounts=numbers.pending_accounts + 1))
    name = context.new_id()
    for entry in operation.keys:
        keyring.add(context, name, entry.key, entry.purpose)
    account = Account(
        organisation=name,
        kind=operation.kind,
        status=AccountStatus.PENDING,
        roles=(),
        thresholds=operation.thresholds,
        encryption_key=operation.encryption_key,
        identity_commitment=operation.identity_commitment,
        ultimate_holders=operation.ultimate_holders,
        certificate=None,
        full_freezes=0,
        freezer_until=0,
        open_items=0,
        closing=False,
        created_at=context.now,
    )
    context.put(ACCOUNTS, name, account)
    context.schedule(context.now + PENDING_DAYS * DAY_MS, DueClass.RELEASE, PENDING_END, name)
    context.emit(events.AccountApplied(name))


def check_new_keys(keys: NewKeys, thresholds: Thresholds) -> None:
    """Failed(E_FIELD{keys, thresholds}) unless each key is there once and each purpose has the keys it needs."""
    purposes = Counter(entry.purpose for entry in keys)
    if len({entry.key for entry in keys}) != len(keys):
        fail(Code.FIELD, "keys")
    for purpose in KeyPurpose:
        threshold = thresholds.of(purpose)
        if threshold > purposes[purpose] or (threshold == 0 and purposes[purpose]):
            fail(Code.FIELD, "thresholds")
    if thresholds.manage == 0:
        fail(Code.FIELD, "thresholds")


def _no_longer_pending(context: Context, name: bytes) -> None:
    numbers = due.counters(context.state)
    context.put(COUNTERS, SINGLE, replace(numbers, pending_accounts=numbers.pending_accounts - 1))


def review(context: Context, operation: AccountReview) -> None:
    account = context.account(operation.account)
    if account.status is not AccountStatus.PENDING:
        fail(Code.STATE, f"account is {account.status.value}")
    if context.now >= account.created_at + PENDING_DAYS * DAY_MS:
        fail(Code.EXPIRED, "the application lapsed")
    if not operation.approve and not operation.reason:
        fail(Code.FIELD, "reason")
    status = AccountStatus.ACTIVE if operation.approve else AccountStatus.REJECTED
    roles = (Role.INVESTOR,) if operation.approve else ()
    context.put(ACCOUNTS, operation.account, replace(account, status=status, roles=roles))
    _no_longer_pending(context, operation.account)
    context.unschedule(operation.account, PENDING_END)
    context.emit(events.AccountChanged(operation.account, status, operation.reason))


def drop_pending(context: Context, item: DueItem) -> None:
    """An application nobody reviewed leaves nothing behind."""
    context.delete(ACCOUNTS, item.item)
    keyring.forget(context, item.item)
    _no_longer_pending(context, item.item)
    context.emit(events.AccountChanged(item.item, AccountStatus.REJECTED, "not reviewed in time"))


def certify(context: Context, operation: InvestorCertify) -> None:
    account = context.account(operation.account)
    if account.status is not AccountStatus.ACTIVE:
        fail(Code.STATE, f"account is {account.status.value}")
    if not 1 <= operation.risk <= 5:
        fail(Code.FIELD, "risk")
    if not context.now < operation.valid_until <= context.now + CERTIFICATE_DAYS_MAX * DAY_MS:
        fail(Code.FIELD, "valid_until")
    if operation.ultimate_holders < 1:
        fail(Code.FIELD, "ultimate_holders")
    change = operation.ultimate_holders - account.ultimate_holders
    if change:
        for holders_changed in context.hooks.holders_changed:
            holders_changed(context, operation.account, change)
    certificate = Certificate(operation.risk, operation.category, operation.valid_until, operation.evidence)
    account = replace(account, certificate=certificate, ultimate_holders=operation.ultimate_holders)
    context.put(ACCOUNTS, operation.account, account)
    context.emit(
        events.InvestorCertified(
            operation.account,
            operation.risk,
            operation.category.value,
            operation.valid_until,
            operation.ultimate_holders,
        )
    )


# keys


def add_key(context: Context, operation: KeyAdd) -> None:
    _add_key(context, operation.key, operation.purpose)
    account = context.account(context.actor)
    if account.thresholds.of(operation.purpose) == 0:
        context.put(ACCOUNTS, context.actor, replace(account, thresholds=_at_least_one(account, operation.purpose)))
    if len(keyring.live_keys(context.state, context.actor)) > LIVE_KEYS_MAX:
        fail(Code.LIMIT, f"{LIVE_KEYS_MAX} live keys")


def _at_least_one(account: Account, purpose: KeyPurpose) -> Thresholds:
    """The first key of a purpose makes its threshold 1."""
    before = account.thresholds
    return replace(before, trade=1) if purpose is KeyPurpose.TRADE else replace(before, sign=1)


def _add_key(context: Context, key: bytes, purpose: KeyPurpose) -> None:
    if context.get(KEYS, context.actor + key) is not None:
        fail(Code.DUPLICATE, "key")
    for suffix, _ in context.state.scan(RECOVERIES_BY_ACCOUNT, context.actor):
        record = context.need(RECOVERIES, suffix[32:], "recovery")
        if key in [entry.key for entry in record.keys]:
            # or it would begin a second life then, later than what it has signed
            fail(Code.DUPLICATE, "a recovery of this account brings the key")
    keyring.add(context, context.actor, key, purpose)


def _revoke_key(context: Context, key: bytes) -> Key:
    record = context.need(KEYS, context.actor + key, "key")
    if record.revoked_at is not None:
        fail(Code.STATE, "key is revoked already")
    keyring.revoke(context, context.actor, key, record)
    return record


def revoke_key(context: Context, operation: KeyRevoke) -> None:
    purpose = _revoke_key(context, operation.key).purpose
    remaining = sum(1 for key in keyring.live_keys(context.state, context.actor).values() if key.purpose is purpose)
    if remaining < context.account(context.actor).thresholds.of(purpose):
        fail(Code.THRESHOLD, f"{remaining} {purpose.value} keys would remain")


def rotate_key(context: Context, operation: KeyRotate) -> None:
    _add_key(context, operation.new, _revoke_key(context, operation.old).purpose)


# freezes


def freeze(context: Context, operation: AccountFreeze) -> None:
    account = context.account(operation.account)
    _refuse_unknown(context, operation.asset)
    if account.status not in STANDING:
        fail(Code.STATE, f"account is {account.status.value}")
    _check_until(context, operation)
    if (operation.amount > 0) != (operation.asset is not None):
        fail(Code.AMOUNT, "an amount of an asset, or neither for FULL")
    account = _check_freezer(context, account)
    name = context.new_id()
    full = operation.asset is None
    parts = () if operation.asset is None else (FrozenPart(operation.asset, operation.amount),)
    if full:
        account = replace(account, full_freezes=account.full_freezes + 1)
    context.put(ACCOUNTS, operation.account, account)
    for part in parts:
        move_frozen(context, operation.account, part.asset, part.amount)
    record = Freeze(operation.account, context.actor, full, parts, operation.document, context.now, operation.until)
    context.put(FREEZES, name, record)
    context.put(FREEZES_BY_ACCOUNT, operation.account + name, MARKER)
    if operation.until is not None:
        context.schedule(operation.until, DueClass.RELEASE, FREEZE_END, name)
    context.emit(
        events.AccountFrozen(
            operation.account, name, operation.asset, operation.amount, operation.document, operation.until
        )
    )
    if full and Role.REGULATOR in context.actor_roles:
        cancel_open(context, operation.account)


def _refuse_unknown(context: Context, asset: bytes | None) -> None:
    """Failed(E_NOT_FOUND) unless there is such cash or such a product."""
    if asset is None:
        return
    if is_cash(asset):
        context.need(CASH_ASSETS, asset, "cash")
    elif context.hooks.product_issuer(context, asset) is None:
        fail(Code.NOT_FOUND, "product")


def _check_until(context: Context, operation: AccountFreeze) -> None:
    """Failed(E_FIELD{until}): not after now, or beyond what the FREEZER desk may; a regulator has no bound."""
    until = operation.until
    if until is not None and until <= context.now:
        fail(Code.FIELD, "until")
    latest = context.now + FREEZER_HOURS_MAX * HOUR_MS
    if Role.REGULATOR not in context.actor_roles and (until is None or until > latest):
        fail(Code.FIELD, "until")


def _check_freezer(context: Context, account: Account) -> Account:
    """The FREEZER desk does not freeze an account again within 30 days; a regulator does."""
    if Role.REGULATOR in context.actor_roles:
        return account
    if context.now < account.freezer_until:
        fail(Code.FORBIDDEN, "frozen by this desk less than 30 days ago")
    return replace(account, freezer_until=context.now + FREEZER_PAUSE_DAYS * DAY_MS)


def cancel_open(context: Context, account: bytes) -> None:
    """End every open item of the kinds that a freeze or a recovery ends."""
    for kind, cancel in sorted(context.hooks.cancellers.items()):
        for suffix, _ in context.state.scan(OPEN_ITEMS, account + kind):
            cancel(context, account, suffix[33:])


def move_frozen(context: Context, account: bytes, asset: bytes, change: int) -> None:
    """Freeze an amount of an asset, or with a negative change let it go."""
    if is_cash(asset):
        balances.move_cash(context, account, asset.decode(), 0, frozen=change)
    else:
        balances.freeze_units(context, account, asset, change)


def unfreeze(context: Context, operation: AccountUnfreeze) -> None:
    record = context.need(FREEZES, operation.freeze, "freeze")
    if Role.REGULATOR not in context.actor_roles and record.by != context.actor:
        fail(Code.NOT_PARTY, "another's freeze")
    context.unschedule(operation.freeze, FREEZE_END)
    _lift(context, operation.freeze, record)


def end_freeze(context: Context, item: DueItem) -> None:
    _lift(context, item.item, context.need(FREEZES, item.item, "freeze"))


def _lift(context: Context, name: bytes, record: Freeze) -> None:
    for part in record.parts:
        move_frozen(context, record.account, part.asset, -part.amount)
    if record.full:
        account = context.account(record.account)
        context.put(ACCOUNTS, record.account, replace(account, full_freezes=account.full_freezes - 1))
    context.delete(FREEZES, name)
    context.delete(FREEZES_BY_ACCOUNT, record.account + name)
    context.emit(events.AccountUnfrozen(record.account, name))


# cash


def deposit(context: Context, operation: CashDeposit) -> None:
    account = context.account(operation.account)
    key = operation.cash.encode()
    asset = context.need(CASH_ASSETS, key, "cash")
    if asset.custodian != context.actor:
        fail(Code.NOT_PARTY, "another custodian's cash")
    if account.status not in STANDING:
        fail(Code.STATE, f"account is {account.status.value}")
    if asset.stopped:
        fail(Code.STATE, "deposits are stopped by a reconciliation break")
    amount = operation.amount
    if not amount:
        fail(Code.AMOUNT, "amount")
    reference = context.actor + b"I" + operation.bank_reference.encode()
    if context.get(BANK_REFERENCES, reference) is not None:
        fail(Code.DUP_BANK_REF, operation.bank_reference)
    day = context.now // DAY_MS
    day_deposited = amount + (asset.day_deposited if asset.day == day else 0)
    if day_deposited > asset.daily_deposit_limit:
        fail(Code.LIMIT, "daily deposits")
    asset = balances.create_cash(context, asset, operation.account, operation.cash, amount)
    asset = replace(asset, day=day, day_deposited=day_deposited, deposited=stored(asset.deposited + amount))
    context.put(CASH_ASSETS, key, asset)
    context.put(BANK_REFERENCES, reference, MARKER)
    context.emit(events.CashDeposited(operation.account, operation.cash, amount, operation.bank_reference))


_KYC = frozenset({Role.KYC})
_FREEZERS = frozenset({Role.REGULATOR, Role.FREEZER})

OPERATIONS: dict[type, Rule] = {
    AccountApply: Rule(apply, KeyPurpose.MANAGE, signatory=Signatory.APPLICANT),
    AccountReview: Rule(review, KeyPurpose.TRADE, _KYC),
    InvestorCertify: Rule(certify, KeyPurpose.TRADE, _KYC),
    AccountFreeze: Rule(freeze, KeyPurpose.TRADE, _FREEZERS, while_paused=True),
    AccountUnfreeze: Rule(unfreeze, KeyPurpose.TRADE, _FREEZERS, while_paused=True),
    KeyAdd: Rule(add_key, KeyPurpose.MANAGE, while_paused=True),
    KeyRevoke: Rule(revoke_key, KeyPurpose.MANAGE, while_paused=True),
    KeyRotate: Rule(rotate_key, KeyPurpose.MANAGE, while_paused=True),
    CashDeposit: Rule(deposit, KeyPurpose.TRADE, frozenset({Role.CUSTODIAN})),
}

DUE_KINDS: dict[str, DueHandler] = {PENDING_END: drop_pending, FREEZE_END: end_freeze}

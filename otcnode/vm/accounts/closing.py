"""Closing an account: the holder asks, the KYC desk completes, and only where nothing is left behind."""

from __future__ import annotations

from msgspec.structs import replace

from otcnode.errors import Code
from otcnode.genesis import KeyPurpose, Role
from otcnode.vm.accounts.events import AccountChanged, CloseRequested
from otcnode.vm.accounts.operations import AccountClose
from otcnode.vm.accounts.records import (
    ACCOUNTS,
    CASH_ASSETS,
    CASH_BALANCES,
    FREEZES_BY_ACCOUNT,
    HOLDINGS_BY_ACCOUNT,
    LOCKS,
    Account,
    AccountStatus,
)
from otcnode.vm.context import Context, fail
from otcnode.vm.rules import Rule


def close(context: Context, operation: AccountClose) -> None:
    name = operation.account
    account = context.account(name)
    is_holder = context.actor == name
    if not is_holder and Role.KYC not in context.actor_roles:
        fail(Code.NOT_PARTY, "neither the holder nor the desk")
    if account.status is not AccountStatus.ACTIVE:
        fail(Code.STATE, f"account is {account.status.value}")
    if not is_holder and not account.closing:
        fail(Code.STATE, "the holder has not asked")
    context.refuse_if_frozen(name)
    if is_holder and account.closing:
        fail(Code.DUPLICATE, "asked already")
    _refuse_unless_empty(context, name, account)
    if is_holder:
        context.put(ACCOUNTS, name, replace(account, closing=True))
        context.emit(CloseRequested(name))
        return
    context.put(ACCOUNTS, name, replace(account, status=AccountStatus.CLOSED, closing=False))
    context.emit(AccountChanged(name, AccountStatus.CLOSED, ""))


def _refuse_unless_empty(context: Context, name: bytes, account: Account) -> None:
    """Failed(E_STATE) while the account has, owes or is responsible for anything."""
    state = context.state
    if any(balance.balance for _, balance in state.scan(CASH_BALANCES, name)):
        fail(Code.STATE, "it has cash")
    if state.scan(HOLDINGS_BY_ACCOUNT, name, limit=1):
        fail(Code.STATE, "it holds units")
    if account.open_items or state.scan(LOCKS, name, limit=1):
        fail(Code.STATE, "something is open or locked")
    if state.scan(FREEZES_BY_ACCOUNT, name, limit=1):
        fail(Code.STATE, "a freeze is in force")
    if account.roles not in ((), (Role.INVESTOR,)):
        fail(Code.STATE, "it has roles of an operator, custodian, issuer or the like")
    if context.hooks.party_of_live_product(context, name):
        fail(Code.STATE, "issuer, fee payee or custodian of a live product, or owed a coupon")
    if any(asset.custodian == name and asset.total for _, asset in state.scan(CASH_ASSETS)):
        fail(Code.STATE, "custodian of cash that exists")


OPERATIONS: dict[type, Rule] = {AccountClose: Rule(close, KeyPurpose.MANAGE)}

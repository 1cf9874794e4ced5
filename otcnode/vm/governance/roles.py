"""Roles, and who governs by them."""

from __future__ import annotations

from msgspec.structs import replace

from otcnode.errors import Code
from otcnode.genesis import Role
from otcnode.vm.accounts.records import ACCOUNTS, CASH_ASSETS, AccountStatus
from otcnode.vm.context import PARAMETERS, Context, fail
from otcnode.vm.governance.events import RolesSet
from otcnode.vm.governance.records import GOVERNING, GOVERNORS, RoleSet
from otcnode.vm.keys import MARKER, SINGLE


def governing_organisations(context: Context) -> set[bytes]:
    """The organisations with an account that governs."""
    accounts = [context.account(suffix) for suffix, _ in context.state.scan(GOVERNORS)]
    return {account.organisation for account in accounts}


def check_roles(context: Context, action: RoleSet) -> None:
    """Failed(E_NOT_FOUND, E_STATE) unless the account is ACTIVE; Failed(E_FIELD{roles}) unless ascending, each once."""
    if context.account(action.account).status is not AccountStatus.ACTIVE:
        fail(Code.STATE, "account is not active")
    if action.roles != tuple(sorted(set(action.roles))):
        fail(Code.FIELD, "roles")


def set_roles(context: Context, action: RoleSet) -> None:
    """Failed(E_FORBIDDEN) if then too few organisations would be left to govern, or cash without its custodian."""
    check_roles(context, action)
    account = context.account(action.account)
    context.put(ACCOUNTS, action.account, replace(account, roles=action.roles))
    if GOVERNING.isdisjoint(action.roles):
        context.delete(GOVERNORS, action.account)
    else:
        context.put(GOVERNORS, action.account, MARKER)
    parameters = context.need(PARAMETERS, SINGLE, "parameters")
    if len(governing_organisations(context)) < parameters.governance_approvals:
        fail(Code.FORBIDDEN, "too few organisations would govern")
    if Role.CUSTODIAN not in action.roles:
        for cash, asset in context.state.scan(CASH_ASSETS):
            if asset.custodian == action.account:
                fail(Code.FORBIDDEN, f"custodian of {cash.decode()}")
    context.emit(RolesSet(action.account, action.roles))

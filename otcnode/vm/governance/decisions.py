"""What each action does once enough organisations want it, and whose approval counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from msgspec.structs import replace

from otcnode.errors import Code
from otcnode.genesis import Role
from otcnode.vm import balances
from otcnode.vm.accounts.records import CASH_ASSETS, ORGANISATIONS, AccountStatus, Organisation, organisation_id
from otcnode.vm.arithmetic import stored
from otcnode.vm.context import PAUSE, Context, Pause, fail, paused
from otcnode.vm.contracts import binding, lifecycle
from otcnode.vm.contracts.records import ContractStatus
from otcnode.vm.governance import cancellation, parameters, roles, transfers, validators
from otcnode.vm.governance.events import CashCorrected, MarketPaused, NodeAdmitted
from otcnode.vm.governance.records import (
    GOVERNING,
    NODES,
    Action,
    Approval,
    CashCorrect,
    ContractTerminate,
    Direction,
    ForcedTransfer,
    ItemCancel,
    MarketPause,
    Node,
    NodeAdmit,
    ParameterSet,
    RoleSet,
    ValidatorSet,
)
from otcnode.vm.keys import SINGLE
from otcnode.vm.products import issuance


def _check_pause(context: Context, action: MarketPause) -> None:
    """Any pause can be proposed."""


def _pause(context: Context, action: MarketPause) -> None:
    if paused(context.state) is action.paused:
        fail(Code.STATE, "the market is so already")
    context.put(PAUSE, SINGLE, Pause(action.paused))
    context.emit(MarketPaused(action.paused))
    if not action.paused:
        issuance.resume_issuance(context)


def _check_node(context: Context, action: NodeAdmit) -> None:
    if not action.admitted:
        context.need(NODES, action.node, "node")


def _admit(context: Context, action: NodeAdmit) -> None:
    """Failed(E_STATE) if a node to be turned away votes, now or after the pending change."""
    _check_node(context, action)
    if action.admitted:
        organisation = organisation_id(action.organisation)
        context.put(ORGANISATIONS, organisation, Organisation(action.organisation))
        context.put(NODES, action.node, Node(action.name, organisation, action.address))
        context.emit(NodeAdmitted(action.node, action.name, organisation, action.address))
        return
    validators.turn_away(context, action.node)


def _check_correction(context: Context, action: CashCorrect) -> None:
    context.account(action.account)
    context.need(CASH_ASSETS, action.cash.encode(), "cash")
    if not action.amount:
        fail(Code.AMOUNT, "amount")


def _correct(context: Context, action: CashCorrect) -> None:
    """Failed(E_STATE) for an account that is closed or was never open; Failed(E_FROZEN) where cash would leave one
    under a FULL freeze; Failed(E_LACK_CASH, E_OVERFLOW)."""
    _check_correction(context, action)
    if context.account(action.account).status not in (AccountStatus.ACTIVE, AccountStatus.RECOVERING):
        fail(Code.STATE, "account is not active")
    asset, amount = context.need(CASH_ASSETS, action.cash.encode(), "cash"), action.amount
    if action.direction is Direction.RAISE:
        asset = balances.create_cash(context, asset, action.account, action.cash, amount)
        asset = replace(asset, corrected_up=stored(asset.corrected_up + amount))
    else:
        context.refuse_if_frozen(action.account)
        balances.move_cash(context, action.account, action.cash, -amount)
        asset = balances.destroy_cash(context, asset, action.cash, amount)
        asset = replace(asset, corrected_down=stored(asset.corrected_down + amount))
    context.put(CASH_ASSETS, action.cash.encode(), asset)
    change = amount if action.direction is Direction.RAISE else -amount
    context.emit(CashCorrected(action.account, action.cash, change))


def _check_contract(context: Context, action: ContractTerminate) -> None:
    binding.require_exists(context, action.contract)


def _terminate(context: Context, action: ContractTerminate) -> None:
    name, contract = binding.in_force(context, action.contract)
    if contract.status is not ContractStatus.EFFECTIVE:
        fail(Code.STATE, f"the contract is {contract.status.value}")
    lifecycle.end_effective(context, name, ContractStatus.TERMINATED, reason=cancellation.REASON)


@dataclass(frozen=True, slots=True)
class Decision:
    """`check` judges what is proposed, `execute` does it; `together` are roles that must all be among the approvals,
    each in another organisation."""

    check: Callable[[Context, Any], None]
    execute: Callable[[Context, Any], None]
    roles: frozenset[Role] = GOVERNING
    together: tuple[Role, ...] = ()


DECISIONS: dict[type, Decision] = {
    RoleSet: Decision(roles.check_roles, roles.set_roles),
    ParameterSet: Decision(parameters.check_parameters, parameters.set_parameters),
    MarketPause: Decision(_check_pause, _pause),
    ValidatorSet: Decision(validators.check_set, validators.set_validators),
    NodeAdmit: Decision(_check_node, _admit),
    CashCorrect: Decision(_check_correction, _correct, GOVERNING | {Role.CUSTODIAN}),
    ForcedTransfer: Decision(
        transfers.check_transfer,
        transfers.transfer,
        frozenset({Role.REGULATOR, Role.RECOVERY}),
        (Role.REGULATOR, Role.RECOVERY),
    ),
    ContractTerminate: Decision(_check_contract, _terminate),
    ItemCancel: Decision(cancellation.check_item, cancellation.cancel_item),
}
"""Type of the action to how it is decided and done."""

MAY_PROPOSE = frozenset(role for decision in DECISIONS.values() for role in decision.roles)


def decision_on(action: Action) -> Decision:
    return DECISIONS[type(action)]


def needed(context: Context, action: Action) -> int:
    """Organisations that must approve."""
    return max(context.environment.parameters.governance_approvals, len(decision_on(action).together))


def is_approved(context: Context, action: Action, approvals: tuple[Approval, ...]) -> bool:
    """Whether enough organisations approve by accounts that are ACTIVE and still have the role for it."""
    decision = decision_on(action)
    held = []
    for approval in approvals:
        account = context.account(approval.account)
        if account.status is AccountStatus.ACTIVE and not decision.roles.isdisjoint(account.roles):
            held.append(account.roles)
    if len(held) < needed(context, action):
        return False
    chosen = permutations(held, len(decision.together))
    return any(all(role in own for role, own in zip(decision.together, choice, strict=True)) for choice in chosen)

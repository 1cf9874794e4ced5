"""Proposals: made by one organisation, approved by others, executed by the approval that completes the number.

PROPOSED → EXECUTED | EXPIRED | CANCELLED (the proposer's account was recovered).
"""

from __future__ import annotations

from msgspec.structs import replace

from otcnode.errors import Code
from otcnode.genesis import KeyPurpose, Role
from otcnode.vm.context import Context, fail
from otcnode.vm.due import DueClass, DueItem
from otcnode.vm.governance import misconduct, validators
from otcnode.vm.governance.decisions import MAY_PROPOSE, decision_on, is_approved, needed
from otcnode.vm.governance.events import AccessLogged, ProposalApproved, ProposalChanged
from otcnode.vm.governance.operations import AccessLog, GovernanceApprove, GovernancePropose
from otcnode.vm.governance.records import (
    ACCESS_LOG,
    PROPOSAL_OPEN_MS,
    PROPOSALS,
    PROPOSALS_BY_TIME,
    Access,
    Action,
    Approval,
    Proposal,
    ProposalStatus,
)
from otcnode.vm.keys import MARKER, OPEN_PROPOSAL, integer
from otcnode.vm.rules import DueHandler, Rule

EXPIRE = "proposal.expire"

_S = ProposalStatus


def kind_of(action: Action) -> str:
    """The name of an action, as in its encoding."""
    return str(type(action).__struct_config__.tag)


def _refuse_unless_entitled(context: Context, action: Action) -> None:
    if decision_on(action).roles.isdisjoint(context.actor_roles):
        fail(Code.NOT_PARTY, f"the role is not for {kind_of(action)}")


def propose(context: Context, operation: GovernancePropose) -> None:
    action = operation.action
    _refuse_unless_entitled(context, action)
    context.refuse_if_frozen(context.actor)
    if not operation.reason:
        fail(Code.FIELD, "reason")
    decision_on(action).check(context, action)
    name = context.new_id()
    record = Proposal(
        action=action,
        reason=operation.reason,
        document=operation.document,
        approvals=(),
        status=_S.PROPOSED,
        created_at=context.now,
        expires_at=context.now + PROPOSAL_OPEN_MS,
        ended_at=None,
    )
    context.open_item(context.actor, OPEN_PROPOSAL, name)
    context.put(PROPOSALS_BY_TIME, integer(context.now) + name, MARKER)
    context.schedule(record.expires_at, DueClass.RELEASE, EXPIRE, name)
    context.emit(ProposalChanged(name, kind_of(action), record.status))
    _approve(context, name, record)


def approve(context: Context, operation: GovernanceApprove) -> None:
    name = operation.proposal
    record = context.need(PROPOSALS, name, "proposal")
    _refuse_unless_entitled(context, record.action)
    own = context.account(context.actor).organisation
    if own in [approval.organisation for approval in record.approvals]:
        fail(Code.FOUR_EYES, "this organisation has approved")
    if context.now >= record.expires_at and not (record.ended_at is not None and record.ended_at < record.expires_at):
        fail(Code.EXPIRED, f"possible until {record.expires_at}")
    if record.status is not _S.PROPOSED:
        fail(Code.STATE, f"the proposal is {record.status.value}")
    context.refuse_if_frozen(context.actor)
    _approve(context, name, record)


def _approve(context: Context, name: bytes, record: Proposal) -> None:
    """Count the sender's organisation; execute the action if it completes the number."""
    organisation = context.account(context.actor).organisation
    approval = Approval(context.actor, organisation, context.now)
    record = replace(record, approvals=(*record.approvals, approval))
    context.put(PROPOSALS, name, record)
    wanted = needed(context, record.action)
    context.emit(ProposalApproved(name, context.actor, organisation, len(record.approvals), wanted))
    if is_approved(context, record.action, record.approvals):
        decision_on(record.action).execute(context, record.action)
        _end(context, name, record, _S.EXECUTED)


def _end(context: Context, name: bytes, record: Proposal, status: ProposalStatus) -> None:
    assert record.status is _S.PROPOSED
    context.unschedule(name, EXPIRE)
    context.close_item(record.proposer, OPEN_PROPOSAL, name)
    context.put(PROPOSALS, name, replace(record, status=status, ended_at=context.now))
    context.emit(ProposalChanged(name, kind_of(record.action), status))


def expire(context: Context, item: DueItem) -> None:
    _end(context, item.item, context.need(PROPOSALS, item.item, "proposal"), _S.EXPIRED)


def cancel_for(context: Context, account: bytes, name: bytes) -> None:
    """The proposer's account was recovered: what its former keys proposed falls."""
    _end(context, name, context.need(PROPOSALS, name, "proposal"), _S.CANCELLED)


def log_access(context: Context, operation: AccessLog) -> None:
    if not operation.reason:
        fail(Code.FIELD, "reason")
    name = context.new_id()
    entry = Access(context.actor, operation.item, operation.reason, operation.document, context.now)
    context.put(ACCESS_LOG, operation.item + name, entry)
    context.emit(AccessLogged(name, entry.regulator, entry.item, entry.reason, entry.document))


OPERATIONS: dict[type, Rule] = {
    GovernancePropose: Rule(propose, KeyPurpose.MANAGE, MAY_PROPOSE, while_paused=True),
    GovernanceApprove: Rule(approve, KeyPurpose.MANAGE, MAY_PROPOSE, while_paused=True),
    AccessLog: Rule(log_access, KeyPurpose.TRADE, frozenset({Role.REGULATOR}), while_paused=True),
    **validators.OPERATIONS,
    **misconduct.OPERATIONS,
}

DUE_KINDS: dict[str, DueHandler] = {EXPIRE: expire}
CANCELLERS = {OPEN_PROPOSAL: cancel_for}

"""Acting on behalf: what an entrustment allows, judged before the operation's own rules.

The order of refusals: E_NOT_FOUND, E_NOT_PARTY, E_STATE, E_EXPIRED, E_ENTRUST_SCOPE, E_SELF_DEALING, E_ENTRUST_CAP.
The agent signs with its own keys; pause and role are the principal's.
"""

from __future__ import annotations

from otcnode.errors import Code
from otcnode.vm.accounts import entrustments
from otcnode.vm.accounts.records import (
    ACCOUNTS,
    ENTRUSTMENTS,
    ENTRUSTMENTS_ACTIVE,
    Entrustment,
    EntrustmentStatus,
    Powers,
)
from otcnode.vm.context import Context, fail
from otcnode.vm.operations import Operation
from otcnode.vm.rules import Mandate, Rule


def check(context: Context, rule: Rule, operation: Operation, committed: int) -> int:
    """What the operation commits of the principal's money, in minor units, fees included.

    `committed` is what the transaction's earlier operations do. Failed if the entrustment does not allow the act.
    """
    record = _entrustment(context)
    powers = record.powers
    if rule.scope is None or rule.scope not in powers.scopes:
        fail(Code.ENTRUST_SCOPE, "not one of the scopes granted")
    mandate = Mandate() if rule.mandate is None else rule.mandate(context, operation)
    _check_limits(powers, mandate)
    if not powers.allow_self_dealing:
        for other in mandate.others:
            if is_same_hand(context, context.actor, other):
                fail(Code.SELF_DEALING, "the other side is the agent's own, or represented by it")
    if committed + mandate.outlay > powers.per_action_cap:
        fail(Code.ENTRUST_CAP, f"{committed + mandate.outlay} in one transaction, at most {powers.per_action_cap}")
    if record.used + committed + mandate.outlay > powers.total_cap:
        fail(Code.ENTRUST_CAP, f"{record.used} used, at most {powers.total_cap} in all")
    return mandate.outlay


def _entrustment(context: Context) -> Entrustment:
    """The entrustment that the transaction names, if the actor may act for the principal under it now."""
    record = context.get(ENTRUSTMENTS, context.entrustment) if context.entrustment is not None else None
    if record is None:
        fail(Code.NOT_FOUND, "entrustment")
    if (record.agent, record.principal) != (context.actor, context.principal):
        fail(Code.NOT_PARTY, "an entrustment between others")
    entrustments.refuse_unless(context, record, EntrustmentStatus.ACTIVE)
    if context.now < record.powers.valid_from:
        fail(Code.STATE, f"the entrustment holds from {record.powers.valid_from}")
    context.refuse_unless_active(record.principal)
    return record


def _check_limits(powers: Powers, mandate: Mandate) -> None:
    """Failed(E_ENTRUST_SCOPE): about another product than those named, or at a price out of bounds."""
    if powers.products is not None and mandate.product not in powers.products:
        fail(Code.ENTRUST_SCOPE, "another product")
    if mandate.price is None:
        return
    if mandate.price < (powers.min_price or 0) or (powers.max_price is not None and mandate.price > powers.max_price):
        fail(Code.ENTRUST_SCOPE, f"price {mandate.price}")


def is_same_hand(context: Context, agent: bytes, other: bytes) -> bool:
    """Whether the other account is the agent, of its organisation, or represented by it."""
    if other == agent:
        return True
    account, own = context.get(ACCOUNTS, other), context.account(agent)
    if account is not None and account.organisation == own.organisation:
        return True
    return _represents(context, agent, other)


def _represents(context: Context, agent: bytes, other: bytes) -> bool:
    """Whether one of the entrustments between them holds. There may be thousands, and the first almost always does: the
    others are not even listed."""
    cursor: bytes | None = None
    while found := context.state.scan(ENTRUSTMENTS_ACTIVE, agent + other, after=cursor, limit=1):
        cursor = found[0][0]
        if context.now < context.need(ENTRUSTMENTS, cursor[64:], "entrustment").powers.until:
            return True
    return False


def commit(context: Context, committed: int) -> None:
    """All operations of the transaction succeeded: what they committed is used up for good."""
    if committed:
        assert context.entrustment is not None
        entrustments.use(context, context.entrustment, committed)

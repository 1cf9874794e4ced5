"""Entrustments: granted by a principal, accepted by an agent, ended by either, by time or by what was spent.

PROPOSED → DECLINED | EXPIRED | ACTIVE; ACTIVE → EXHAUSTED | EXPIRED | REVOKED. How an act under one is judged is in
vm/delegation.py.
"""

from __future__ import annotations

from msgspec.structs import replace

from otcnode.errors import Code
from otcnode.genesis import KeyPurpose
from otcnode.vm.accounts.events import EntrustmentChanged, EntrustmentUsed
from otcnode.vm.accounts.operations import EntrustAccept, EntrustDecline, EntrustGrant, EntrustRevoke
from otcnode.vm.accounts.records import (
    ENTRUSTMENTS,
    ENTRUSTMENTS_ACTIVE,
    ENTRUSTMENTS_BY_ACCOUNT,
    OPEN_ITEMS,
    Entrustment,
    EntrustmentStatus,
    Powers,
)
from otcnode.vm.arithmetic import DAY_MS
from otcnode.vm.context import Context, fail
from otcnode.vm.due import DueClass, DueItem
from otcnode.vm.keys import MARKER, OPEN_ENTRUSTMENT, integer
from otcnode.vm.rules import DueHandler, Rule

EXPIRE = "entrustment.expire"
DAYS_MAX = 366

_S = EntrustmentStatus

TRANSITIONS: dict[EntrustmentStatus, frozenset[EntrustmentStatus]] = {
    _S.PROPOSED: frozenset({_S.DECLINED, _S.EXPIRED, _S.ACTIVE}),
    _S.ACTIVE: frozenset({_S.EXHAUSTED, _S.EXPIRED, _S.REVOKED}),
}
"""What may follow a status; the statuses that are no key here are terminal."""


def grant(context: Context, operation: EntrustGrant) -> None:
    powers = operation.powers
    context.account(operation.agent)
    for product in powers.products or ():
        if context.hooks.product_issuer(context, product) is None:
            fail(Code.NOT_FOUND, "product")
    context.refuse_unless_active(operation.agent)
    _refuse_frozen(context, context.principal, operation.agent)
    if operation.agent == context.principal:
        fail(Code.FIELD, "agent")
    _check_powers(context, powers)
    name = context.new_id()
    context.open_item(context.principal, OPEN_ENTRUSTMENT, name)
    context.schedule(powers.until, DueClass.RELEASE, EXPIRE, name)
    for party in (context.principal, operation.agent):
        context.put(ENTRUSTMENTS_BY_ACCOUNT, party + integer(context.now) + name, MARKER)
    record = Entrustment(context.principal, operation.agent, powers, _S.PROPOSED, 0, context.now, None)
    context.put(ENTRUSTMENTS, name, record)
    context.emit(EntrustmentChanged(name, record.principal, record.agent, record.status))


def _check_powers(context: Context, powers: Powers) -> None:
    if not powers.scopes or powers.scopes != tuple(sorted(set(powers.scopes))):
        fail(Code.FIELD, "scopes")
    if powers.products is not None and (not powers.products or powers.products != tuple(sorted(set(powers.products)))):
        fail(Code.FIELD, "products")
    if powers.max_price is not None and (powers.min_price or 0) > powers.max_price:
        fail(Code.FIELD, "max_price")
    if not max(context.now, powers.valid_from) < powers.until <= context.now + DAYS_MAX * DAY_MS:
        fail(Code.FIELD, "until")


def _refuse_frozen(context: Context, *accounts: bytes) -> None:
    for account in accounts:
        context.refuse_if_frozen(account)


def refuse_unless(context: Context, record: Entrustment, status: EntrustmentStatus) -> None:
    """Failed(E_EXPIRED) from `until` on unless it had ended before; Failed(E_STATE) in any other status."""
    until = record.powers.until
    if context.now >= until and not (record.ended_at is not None and record.ended_at < until):
        fail(Code.EXPIRED, f"the entrustment held until {until}")
    if record.status is not status:
        fail(Code.STATE, f"the entrustment is {record.status.value}")


def _of_agent(context: Context, name: bytes) -> Entrustment:
    """The entrustment, while the agent may still accept or decline it."""
    record = context.need(ENTRUSTMENTS, name, "entrustment")
    if record.agent != context.principal:
        fail(Code.NOT_PARTY, "offered to another")
    refuse_unless(context, record, _S.PROPOSED)
    return record


def accept(context: Context, operation: EntrustAccept) -> None:
    name = operation.entrustment
    record = _of_agent(context, name)
    context.refuse_unless_active(record.principal)
    _refuse_frozen(context, record.agent, record.principal)
    context.put(ENTRUSTMENTS_ACTIVE, record.agent + record.principal + name, MARKER)
    move(context, name, record, _S.ACTIVE)


def decline(context: Context, operation: EntrustDecline) -> None:
    move(context, operation.entrustment, _of_agent(context, operation.entrustment), _S.DECLINED)


def revoke(context: Context, operation: EntrustRevoke) -> None:
    record = context.need(ENTRUSTMENTS, operation.entrustment, "entrustment")
    if context.principal not in (record.principal, record.agent):
        fail(Code.NOT_PARTY, "another's entrustment")
    refuse_unless(context, record, _S.ACTIVE)
    move(context, operation.entrustment, record, _S.REVOKED)


def move(context: Context, name: bytes, record: Entrustment, status: EntrustmentStatus) -> None:
    """Bring the entrustment into a status; an ended one leaves the queue and the indexes of what is open."""
    assert status in TRANSITIONS[record.status], f"{record.status} to {status}"
    ended = status not in TRANSITIONS
    if ended:
        context.unschedule(name, EXPIRE)
        context.close_item(record.principal, OPEN_ENTRUSTMENT, name)
        if record.status is _S.ACTIVE:
            context.delete(ENTRUSTMENTS_ACTIVE, record.agent + record.principal + name)
    context.put(ENTRUSTMENTS, name, replace(record, status=status, ended_at=context.now if ended else None))
    context.emit(EntrustmentChanged(name, record.principal, record.agent, status))


def use(context: Context, name: bytes, amount: int) -> None:
    """A transaction under the entrustment commits money: once all is used up, it is EXHAUSTED."""
    record = context.need(ENTRUSTMENTS, name, "entrustment")
    record = replace(record, used=record.used + amount)
    assert record.used <= record.powers.total_cap
    context.put(ENTRUSTMENTS, name, record)
    context.emit(EntrustmentUsed(name, record.principal, record.agent, amount, record.used))
    if record.used == record.powers.total_cap:
        move(context, name, record, _S.EXHAUSTED)


def end_all_given(context: Context, principal: bytes) -> None:
    """The principal's account is recovered: whoever held its keys before decides nothing by what it granted."""
    for suffix, _ in context.state.scan(OPEN_ITEMS, principal + OPEN_ENTRUSTMENT):
        record = context.need(ENTRUSTMENTS, suffix[33:], "entrustment")
        over = record.status is _S.PROPOSED or context.now >= record.powers.until
        move(context, suffix[33:], record, _S.EXPIRED if over else _S.REVOKED)


def expire(context: Context, item: DueItem) -> None:
    move(context, item.item, context.need(ENTRUSTMENTS, item.item, "entrustment"), _S.EXPIRED)


OPERATIONS: dict[type, Rule] = {
    EntrustGrant: Rule(grant, KeyPurpose.MANAGE),
    EntrustAccept: Rule(accept, KeyPurpose.MANAGE),
    EntrustDecline: Rule(decline, KeyPurpose.MANAGE),
    EntrustRevoke: Rule(revoke, KeyPurpose.MANAGE),
}

DUE_KINDS: dict[str, DueHandler] = {EXPIRE: expire}

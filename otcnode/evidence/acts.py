"""Who did something to the subject of a package, when, and for whom. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from otcnode.codec import Record
from otcnode.evidence.opened import Opened, ProvenTransaction
from otcnode.evidence.verdict import Outcome, Refused
from otcnode.types import AccountId, Bytes32, Height, Milliseconds, TransactionId
from otcnode.vm.accounts.records import ENTRUSTMENTS
from otcnode.vm.rules import Scope

R = TypeVar("R")


class Act(Record, frozen=True):
    """`account` did something by a transaction, for `principal` where that is another; `entrustment` then names what
    entitled it to."""

    account: AccountId
    principal: AccountId
    entrustment: Bytes32 | None
    time_ms: Milliseconds
    height: Height
    transaction: TransactionId


def act_of(transaction: ProvenTransaction) -> Act:
    body, header = transaction.decoded.transaction.body, transaction.header
    principal = body.sender if body.on_behalf_of is None else body.on_behalf_of
    return Act(body.sender, principal, body.entrustment, header.time_ms, header.height, transaction.decoded.id)


def acts_on(opened: Opened, kind: type[R], field: str = "contract") -> Iterator[tuple[Act, R]]:
    """Every operation of a kind that took effect and names the package's subject in `field`, in the chain's order."""
    for transaction in opened.transactions:
        for _, operation in transaction.operations(kind):
            if getattr(operation, field) == opened.subject:
                yield act_of(transaction), operation


def check_act(opened: Opened, what: str, act: Act, scope: Scope) -> None:
    """Raises Refused(SIGNATURE_INVALID) if an agent acted that was not entitled to."""
    if act.account != act.principal:
        check_mandate(opened, what, act.principal, act.account, act.entrustment, scope, act.time_ms)


def check_mandate(
    opened: Opened,
    what: str,
    principal: bytes,
    agent: bytes,
    entrustment: bytes | None,
    scope: Scope,
    used_at: int,
) -> None:
    """Raises Refused(SIGNATURE_INVALID) unless the principal had entrusted the agent with this then."""
    if entrustment is None:
        raise Refused(Outcome.SIGNATURE_INVALID, f"{what} is by another account, without entrustment")
    granted = opened.get(ENTRUSTMENTS, entrustment, f"the entrustment of {what}")
    powers = granted.powers
    over = granted.ended_at is not None and granted.ended_at < used_at
    if (granted.principal, granted.agent) != (principal, agent) or over:
        raise Refused(Outcome.SIGNATURE_INVALID, f"{what}: the entrustment is another's, or was over")
    if scope not in powers.scopes or not powers.valid_from <= used_at < powers.until:
        raise Refused(Outcome.SIGNATURE_INVALID, f"{what}: the entrustment does not cover it")

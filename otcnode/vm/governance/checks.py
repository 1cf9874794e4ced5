"""The invariants of governance that can be seen from a state."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from otcnode.vm.accounts.records import ACCOUNTS, OPEN_ITEMS
from otcnode.vm.due import places_of
from otcnode.vm.governance.decisions import DECISIONS
from otcnode.vm.governance.records import (
    GOVERNING,
    GOVERNORS,
    NODES,
    PROPOSALS,
    SCHEDULE,
    ProposalStatus,
)
from otcnode.vm.keys import OPEN_PROPOSAL, SINGLE
from otcnode.vm.state import State
from otcnode.vm.violation import Violation


def proposals_kept(state: State) -> Iterator[Violation]:
    """20, 28: an organisation approves once; a forced transfer that was done has two; what ended is nowhere open."""
    for name, record in state.scan(PROPOSALS):
        organisations = {approval.organisation for approval in record.approvals}
        if len(organisations) != len(record.approvals):
            yield Violation(28, f"proposal {name.hex()}: one organisation approved twice")
        done = record.status is ProposalStatus.EXECUTED
        if done and len(organisations) < len(DECISIONS[type(record.action)].together):
            yield Violation(28, f"proposal {name.hex()}: executed with {len(organisations)} approvals")
        live = record.status is ProposalStatus.PROPOSED
        is_open = state.get(OPEN_ITEMS, record.proposer + OPEN_PROPOSAL + name) is not None
        due = bool(places_of(state, name))
        if not live == is_open == due == (record.ended_at is None):
            yield Violation(20, f"proposal {name.hex()}: {record.status.value}, and its indexes say otherwise")


def governors_listed(state: State) -> Iterator[Violation]:
    """28: the accounts that govern are those with a role that does."""
    by_role = {name for name, account in state.scan(ACCOUNTS) if not GOVERNING.isdisjoint(account.roles)}
    if by_role != {name for name, _ in state.scan(GOVERNORS)}:
        yield Violation(28, "accounts listed as governing are not those with such roles")


def validators_admitted(state: State) -> Iterator[Violation]:
    """20: those who decide, now and next, are some, sorted; those of the last change are admitted nodes."""
    schedule = state.get(SCHEDULE, SINGLE)
    if schedule is None:
        yield Violation(20, "there is no schedule of validators")
        return
    last = (schedule.current if schedule.pending is None else schedule.pending).validators
    for members in (schedule.current.validators, last):
        if not members or members != tuple(sorted(set(members))):
            yield Violation(20, "validators are not sorted, each once, at least one")
    if any(state.get(NODES, node) is None for node in last):
        yield Violation(20, "a validator is not an admitted node")


CHECKS: tuple[Callable[[State], Iterator[Violation]], ...] = (
    proposals_kept,
    governors_listed,
    validators_admitted,
)

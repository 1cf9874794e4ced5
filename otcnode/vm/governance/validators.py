"""Who decides which height. A change executed at height h activates at h + 2; at most one is pending.

A joiner must have said lately that it is ready, so that a dead one cannot halt the chain.
"""

from __future__ import annotations

from otcnode.blocks import Epoch
from otcnode.errors import Code
from otcnode.genesis import KeyPurpose
from otcnode.types import NodeId
from otcnode.vm.context import Context, fail
from otcnode.vm.governance.events import ValidatorReadied, ValidatorsChanged
from otcnode.vm.governance.operations import ValidatorReady
from otcnode.vm.governance.records import (
    NODES,
    PROPOSAL_OPEN_MS,
    PROPOSALS,
    PROPOSALS_BY_TIME,
    READINESS,
    SCHEDULE,
    NextValidators,
    Proposal,
    ProposalStatus,
    Readiness,
    Schedule,
    ValidatorSet,
)
from otcnode.vm.keys import SINGLE, integer
from otcnode.vm.rules import Rule, Signatory
from otcnode.vm.state import State
from otcnode.vm.view import StateView

READY_BLOCKS = 64
"""How many blocks old what a joiner said may be."""
ACTIVATION_DISTANCE = 2
"""The header of the block between announces the new validators, so that light verifiers can follow."""


def ready(context: Context, operation: ValidatorReady) -> None:
    here = context.environment.height
    if not here - READY_BLOCKS <= operation.height < here:
        fail(Code.FIELD, "height")
    context.put(READINESS, operation.node, Readiness(operation.height))
    context.emit(ValidatorReadied(operation.node, operation.height))


def schedule_at(state: State, height: int) -> Schedule:
    """Who decides a height and, if one is pending at it, which change follows."""
    schedule = state.get(SCHEDULE, SINGLE)
    assert schedule is not None, "a state begins with its genesis"
    pending = schedule.pending
    if pending is not None and pending.first_height <= height:
        return Schedule(pending.first_height, pending.validators, None)
    return schedule


def check_set(context: Context, action: ValidatorSet) -> None:
    """Failed(E_NOT_FOUND) for a node that is not admitted; Failed(E_FIELD{validators}) for an empty or unsorted set."""
    for node in action.validators:
        context.need(NODES, node, "node")
    if not action.validators or action.validators != tuple(sorted(set(action.validators))):
        fail(Code.FIELD, "validators")


def set_validators(context: Context, action: ValidatorSet) -> None:
    """Failed(E_STATE) while a change is pending or a joiner is not ready; Failed(E_FIELD) if nothing would change."""
    check_set(context, action)
    here = context.environment.height
    schedule = schedule_at(context.state, here)
    if schedule.pending is not None:
        fail(Code.STATE, f"a change is pending until height {schedule.pending.first_height}")
    if action.validators == schedule.validators:
        fail(Code.FIELD, "validators: these decide already")
    for node in sorted(set(action.validators) - set(schedule.validators)):
        said = context.get(READINESS, node)
        if said is None or said.height < here - READY_BLOCKS:
            fail(Code.STATE, f"node {node.hex()} has not said lately that it is ready")
    pending = NextValidators(here + ACTIVATION_DISTANCE, action.validators)
    context.put(SCHEDULE, SINGLE, Schedule(schedule.number, schedule.validators, pending))
    context.emit(ValidatorsChanged(pending.first_height, pending.validators))


def names(proposal: Proposal, node: NodeId) -> bool:
    """Whether the proposal is open and would make the node a validator."""
    action = proposal.action
    return proposal.status is ProposalStatus.PROPOSED and isinstance(action, ValidatorSet) and node in action.validators


def open_proposals_naming(state: State, node: NodeId, time_ms: int) -> list[bytes]:
    """Those of the last days, for what is older has expired."""
    since = integer(max(0, time_ms - PROPOSAL_OPEN_MS))
    recent = [suffix[len(since) :] for suffix, _ in state.scan(PROPOSALS_BY_TIME, after=since)]
    return [name for name in recent if (found := state.get(PROPOSALS, name)) is not None and names(found, node)]


def epoch_after(view: StateView, height: int, epoch: Epoch) -> Epoch:
    """The epoch of height + 1, for the state after the block at `height`, which is of `epoch`."""
    schedule = schedule_at(State(view), height + 1)
    return Epoch(schedule.number, schedule.validators) if schedule.number == height + 1 else epoch


OPERATIONS: dict[type, Rule] = {
    ValidatorReady: Rule(ready, KeyPurpose.TRADE, signatory=Signatory.NODE, while_paused=True)
}

"""Who decides which height, by which parameters. A change executed at height h begins an epoch at h + 2; at most one is
pending.

A joiner must have said lately that it is ready, so that a dead one cannot halt the chain.
"""

from __future__ import annotations

from msgspec.structs import replace

from otcnode.blocks import ConsensusParameters, Epoch
from otcnode.crypto import preimage, verify
from otcnode.errors import Code
from otcnode.genesis import KeyPurpose
from otcnode.types import ChainId, NodeId
from otcnode.vm.context import Context, fail
from otcnode.vm.governance.events import (
    EpochScheduled,
    NodeAdmitted,
    NodeRemoved,
    ValidatorReadied,
    ValidatorsChanged,
    ValidatorSignedOver,
)
from otcnode.vm.governance.operations import ValidatorReady, ValidatorRotate
from otcnode.vm.governance.records import (
    NODES,
    PROPOSAL_OPEN_MS,
    PROPOSALS,
    PROPOSALS_BY_TIME,
    READINESS,
    SCHEDULE,
    Node,
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

ROTATION_DOMAIN = "otcnode/validator-rotation/1"
READY_BLOCKS = 64
"""How many blocks old what a joiner said may be."""
ROTATION_BLOCKS = 20_000
"""For so long after a node has said that it is ready, which it does to become a validator, it signs over to nobody:
every change of keys is followed for ever by whoever believes only the genesis, so a validator that changed its key
without end would make snapshots and evidence too long for everybody. Governance can change the set at any time."""
ACTIVATION_DISTANCE = 2
"""The header of the block between announces the new validators, so that light verifiers can follow."""


def ready(context: Context, operation: ValidatorReady) -> None:
    here = context.environment.height
    if not here - READY_BLOCKS <= operation.height < here:
        fail(Code.FIELD, "height")
    context.put(READINESS, operation.node, Readiness(operation.height))
    context.emit(ValidatorReadied(operation.node, operation.height))
    record = context.need(NODES, operation.node, "node")
    if record.succeeds is not None:
        _take_over(context, operation.node, record, record.succeeds)


def rotation_preimage(chain: ChainId, node: NodeId, successor: NodeId) -> bytes:
    """What the new key signs to follow the old one."""
    return preimage(ROTATION_DOMAIN, chain, node, successor)


def rotate(context: Context, operation: ValidatorRotate) -> None:
    node, successor = operation.node, operation.successor
    schedule = schedule_at(context.state, context.environment.height)
    coming = () if schedule.pending is None else schedule.pending.validators
    if node not in (*schedule.current.validators, *coming):
        fail(Code.STATE, "not a validator")
    said = context.get(READINESS, node)
    if said is not None and context.environment.height - said.height < ROTATION_BLOCKS:
        fail(Code.STATE, f"its key votes since lately: it can be changed from block {said.height + ROTATION_BLOCKS} on")
    if context.get(NODES, successor) is not None:
        fail(Code.DUPLICATE, "successor")
    if not verify(successor, rotation_preimage(context.environment.chain, node, successor), operation.consent):
        fail(Code.FIELD, "consent")
    for other, record in context.state.scan(NODES):
        if record.succeeds == node:
            turn_away(context, other)
    own = context.need(NODES, node, "node")
    context.put(NODES, successor, Node(operation.name, own.organisation, operation.address, node))
    context.emit(NodeAdmitted(successor, operation.name, own.organisation, operation.address))
    context.emit(ValidatorSignedOver(node, successor))


def _take_over(context: Context, node: NodeId, record: Node, former: NodeId) -> None:
    """The successor is ready: it votes in the place of the validator, where that one votes and nothing is pending."""
    schedule = schedule_at(context.state, context.environment.height)
    deciding = set(schedule.current.validators)
    if schedule.pending is not None or former not in deciding or node in deciding:
        return
    epoch = begin_epoch(context, validators=tuple(sorted(deciding - {former} | {node})))
    context.put(NODES, node, replace(record, succeeds=None))
    context.emit(ValidatorsChanged(epoch.number, epoch.validators))


def turn_away(context: Context, node: NodeId) -> None:
    """Failed(E_STATE) if the node votes, now or after the pending change."""
    schedule = schedule_at(context.state, context.environment.height)
    coming = () if schedule.pending is None else schedule.pending.validators
    if node in (*schedule.current.validators, *coming):
        fail(Code.STATE, "a validator")
    context.delete(NODES, node)
    context.delete(READINESS, node)
    context.emit(NodeRemoved(node))


def schedule_at(state: State, height: int) -> Schedule:
    """Who decides a height and, if one is pending at it, which change follows. `state`: after a block one or two below,
    or later."""
    schedule = state.get(SCHEDULE, SINGLE)
    assert schedule is not None, "a state begins with its genesis"
    pending = schedule.pending
    if pending is not None and pending.number <= height:
        return Schedule(pending, None)
    return schedule


def begin_epoch(
    context: Context, *, validators: tuple[NodeId, ...] | None = None, parameters: ConsensusParameters | None = None
) -> Epoch:
    """Schedule an epoch with other validators or parameters. Failed(E_STATE) while another is pending."""
    here = context.environment.height
    schedule = schedule_at(context.state, here)
    if schedule.pending is not None:
        fail(Code.STATE, f"a change is pending until height {schedule.pending.number}")
    current = schedule.current
    pending = Epoch(
        here + ACTIVATION_DISTANCE,
        current.validators if validators is None else validators,
        current.parameters if parameters is None else parameters,
    )
    context.put(SCHEDULE, SINGLE, Schedule(current, pending))
    context.emit(EpochScheduled(pending.number))
    return pending


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
    deciding = schedule.current.validators
    if schedule.pending is None and action.validators == deciding:
        fail(Code.FIELD, "validators: these decide already")
    for node in sorted(set(action.validators) - set(deciding)):
        said = context.get(READINESS, node)
        if said is None or said.height < here - READY_BLOCKS:
            fail(Code.STATE, f"node {node.hex()} has not said lately that it is ready")
    pending = begin_epoch(context, validators=action.validators)
    context.emit(ValidatorsChanged(pending.number, pending.validators))


def names(proposal: Proposal, node: NodeId) -> bool:
    """Whether the proposal is open and would make the node a validator."""
    action = proposal.action
    return proposal.status is ProposalStatus.PROPOSED and isinstance(action, ValidatorSet) and node in action.validators


def open_proposals_naming(state: State, node: NodeId, time_ms: int) -> list[bytes]:
    """Those of the last days, for what is older has expired."""
    since = integer(max(0, time_ms - PROPOSAL_OPEN_MS))
    recent = [suffix[len(since) :] for suffix, _ in state.scan(PROPOSALS_BY_TIME, after=since)]
    return [name for name in recent if (found := state.get(PROPOSALS, name)) is not None and names(found, node)]


def epoch_at(view: StateView, height: int) -> Epoch:
    """The epoch that decides `height`, by the state after the block below it."""
    return schedule_at(State(view), height).current


OPERATIONS: dict[type, Rule] = {
    ValidatorReady: Rule(ready, KeyPurpose.TRADE, signatory=Signatory.NODE, while_paused=True),
    ValidatorRotate: Rule(rotate, KeyPurpose.TRADE, signatory=Signatory.NODE, while_paused=True),
}

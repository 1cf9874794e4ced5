"""Bugs of who belongs to the network: whose word passes a key on, who votes after it, who is let in."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from otcnode.errors import Code, Inadmissible
from otcnode.membership import Membership
from otcnode.simulation.mutants.planting import planted, wherever
from otcnode.types import NodeId
from otcnode.vm import executor, registry
from otcnode.vm.context import Context, fail
from otcnode.vm.governance import decisions, validators
from otcnode.vm.governance.events import ValidatorsChanged
from otcnode.vm.governance.operations import NodeOperation, ValidatorRotate
from otcnode.vm.governance.records import NODES, Node, Schedule, ValidatorSet
from otcnode.vm.rules import Signatory
from otcnode.vm.state import State
from otcnode.vm.view import StateView

Plant = AbstractContextManager[None]


def anybody_signs_over() -> Plant:
    """What a node does by itself may be signed by any key."""

    def admit_node(state: State, operation: NodeOperation, _: Sequence[bytes]) -> None:
        if state.get(NODES, operation.node) is None:
            raise Inadmissible(Code.NOT_FOUND, "node")

    return planted((executor, "ADMISSIONS", {**executor.ADMISSIONS, Signatory.NODE: admit_node}))


def old_key_votes_on() -> Plant:
    """The successor comes to the validators, and nobody leaves them."""

    def take_over(context: Context, node: NodeId, record: Node, former: NodeId) -> None:
        deciding = validators.schedule_at(context.state, context.environment.height).current.validators
        if former in deciding and node not in deciding:
            validators.begin_epoch(context, validators=tuple(sorted({*deciding, node})))

    return planted((validators, "_take_over", take_over))


def turned_away_stays() -> Plant:
    """Who was admitted once is let in for ever."""
    right = Membership.read

    def read(self: Membership, view: StateView) -> dict[bytes, str]:
        before = self._names
        changed = right(self, view)
        self._names = {**before, **self._names}
        return changed

    return planted((Membership, "read", read))


def successor_at_once() -> Plant:
    """Who is signed over to votes in the validator's place without a word of its own."""
    rule = registry.OPERATIONS[ValidatorRotate]

    def rotate(context: Context, operation: ValidatorRotate) -> None:
        rule.handler(context, operation)
        record = context.need(NODES, operation.successor, "node")
        validators._take_over(context, operation.successor, record, operation.node)

    return planted((executor, "OPERATIONS", {**registry.OPERATIONS, ValidatorRotate: replace(rule, handler=rotate)}))


def joiners_unready() -> Plant:
    """Whoever is proposed decides, ready or not."""

    def set_validators(context: Context, action: ValidatorSet) -> None:
        validators.check_set(context, action)
        if action.validators == validators.schedule_at(context.state, context.environment.height).current.validators:
            fail(Code.FIELD, "validators: these decide already")
        pending = validators.begin_epoch(context, validators=action.validators)
        context.emit(ValidatorsChanged(pending.number, pending.validators))

    decision = decisions.DECISIONS[ValidatorSet]
    return planted(
        (decisions, "DECISIONS", {**decisions.DECISIONS, ValidatorSet: replace(decision, execute=set_validators)})
    )


def epoch_begins_early() -> Plant:
    """Who is named decides the very next height, before the block that announces it is final."""
    right = validators.schedule_at

    def schedule_at(state: State, height: int) -> Schedule:
        return right(state, height + 1)

    return planted(*wherever(right, schedule_at))

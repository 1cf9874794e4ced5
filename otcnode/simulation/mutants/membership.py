"""Bugs of who belongs to the network: whose word passes a key on, who votes after it, who is let in."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from otcnode.errors import Code, Inadmissible
from otcnode.membership import Membership
from otcnode.simulation.mutants.planting import planted
from otcnode.types import NodeId
from otcnode.vm import executor
from otcnode.vm.context import Context
from otcnode.vm.governance import validators
from otcnode.vm.governance.operations import NodeOperation
from otcnode.vm.governance.records import NODES, Node
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

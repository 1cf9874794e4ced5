"""Tests of the simulator, and of the node in it."""

from __future__ import annotations

from otcnode.simulation.plan import Plan
from otcnode.simulation.world import Outcome


def report(plan: Plan, outcome: Outcome) -> str:
    """A failure, for whoever has to understand it."""
    tail = "\n".join(outcome.tail)
    return f"otcnode simulate --seed {plan.seed} -v\n{tail}\n{outcome.violation}"

"""Tests of the simulator, and of the node in it."""

from __future__ import annotations

from otcnode.simulation.plan import Plan
from otcnode.simulation.world import Outcome, run


def report(plan: Plan, outcome: Outcome) -> str:
    """A failure, for whoever has to understand it."""
    tail = "\n".join(outcome.tail)
    return f"otcnode simulate --seed {plan.seed} -v\n{tail}\n{outcome.violation}"


def keep_promises(plan: Plan) -> Outcome:
    outcome = run(plan)
    assert outcome.violation is None, report(plan, outcome)
    return outcome

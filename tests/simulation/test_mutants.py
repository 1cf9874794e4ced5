"""Every planted bug is found within its seed budget, and its plan becomes small."""

from __future__ import annotations

import pytest

from otcnode.simulation.generate import Options, generate
from otcnode.simulation.plan import Plan
from otcnode.simulation.shrink import Shrinker
from otcnode.simulation.violation import Promise
from otcnode.simulation.world import run
from tests.simulation import report
from tests.simulation.mutants import MUTANTS, Mutant


def first_found(mutant: Mutant) -> tuple[Plan, Promise]:
    """The first seed that breaks a promise while the bug is planted."""
    for seed in range(1, mutant.seeds + 1):
        plan = generate(seed, Options(validators=mutant.validators))
        violation = run(plan).violation
        if violation is not None:
            return plan, violation.promise
    pytest.fail(f"{mutant.name}: not found in {mutant.seeds} seeds")


@pytest.mark.parametrize("mutant", [mutant for mutant in MUTANTS if not mutant.long], ids=lambda mutant: mutant.name)
def test_a_planted_bug_is_found(mutant: Mutant) -> None:
    with mutant.plant():
        plan, promise = first_found(mutant)
    assert promise in mutant.promises
    outcome = run(plan)
    assert outcome.violation is None, report(plan, outcome)


@pytest.mark.long
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_plan_that_found_it_shrinks_to_a_handful(mutant: Mutant) -> None:
    with mutant.plant():
        plan, promise = first_found(mutant)
        small = Shrinker(promise, attempts_max=200).shrink(plan)
        violation = run(small).violation
    assert violation is not None and violation.promise is promise
    assert len(small.faults) <= 5, small.faults


def test_shrinking_leaves_what_is_needed() -> None:
    """A record that is lost and begun anew: the loss is needed, nearly nothing else is."""
    mutant = next(mutant for mutant in MUTANTS if mutant.name == "votes not saved")
    with mutant.plant():
        plan, promise = first_found(mutant)
        small = Shrinker(promise, attempts_max=30).shrink(plan)
        outcome = run(small)
    assert outcome.violation is not None and outcome.violation.promise is promise
    assert len(small.faults) < len(plan.faults)
    assert len(small.workload) < len(plan.workload)
    assert any(type(fault).__name__ == "Crash" for fault in small.faults)

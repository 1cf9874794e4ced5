"""Liars that put together what is valid by itself: nobody honest is harmed, and who can be named is."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from otcnode.simulation.generate import OF_VALID_PARTS, Options, Swarm, generate
from otcnode.simulation.plan import Habit, Signatures
from otcnode.simulation.world import Outcome, run
from tests.simulation import report

NAMED = {
    Habit.OVERSTATE: "accused: invalid VIEW-CHANGE",
    Habit.MISSIGN: "accused: invalid NEW-VIEW",
    Habit.PAD: "accused: invalid VIEW-CHANGE",
}
SEEDS_MAX = 12


def outcome_of(habit: Habit, seed: int, signatures: Signatures = Signatures.HASH) -> Outcome:
    plan = generate(seed, Options(validators=4, swarm=Swarm.LIARS, habits=(habit,)))
    outcome = run(replace(plan, signatures=signatures))
    assert outcome.violation is None, report(plan, outcome)
    return outcome


@pytest.mark.parametrize("habit", NAMED)
def test_what_is_put_together_is_refused_and_its_author_accused(habit: Habit) -> None:
    for seed in range(1, SEEDS_MAX + 1):
        summary = outcome_of(habit, seed).summary
        if summary.faults.get(habit.value, 0) and summary.marks.get(NAMED[habit], 0):
            return
    pytest.fail(f"nobody is accused in {SEEDS_MAX} plans")


@pytest.mark.parametrize("signatures", Signatures)
def test_a_second_signature_changes_nothing_and_is_no_offence(signatures: Signatures) -> None:
    summary = outcome_of(Habit.DOUBLE, 1, signatures).summary
    assert summary.faults[Habit.DOUBLE.value] > 10
    assert summary.commits > 0
    assert not [mark for mark in summary.marks if "accused" in mark or "banned" in mark]


def test_every_such_habit_is_in_the_mix() -> None:
    plans = [generate(seed, Options(validators=4, swarm=Swarm.LIARS)) for seed in range(1, 150)]
    habits = {getattr(fault, "habit", None) for plan in plans for fault in plan.faults}
    assert set(OF_VALID_PARTS) <= habits

"""Seeds of the fleet, and every plan that ever failed."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from otcnode.blocks import maximum_faulty
from otcnode.simulation import plan as plans
from otcnode.simulation.generate import Options, Swarm, generate
from otcnode.simulation.marks import TOO_MANY_SILENT
from otcnode.simulation.plan import Crash, CrashPoint, Habit, Liar, Plan
from tests.simulation import keep_promises

REGRESSIONS = sorted((Path(__file__).parent.parent / "regressions").glob("*.json"))
SEEDS_PER_TEST = 5
REAL_SEEDS = (1, 5, 9)
"""Run with Ed25519 in place of keyed hashes."""
BESIDE = Options(validators=4, swarm=Swarm.LIARS, habits=(Habit.OPEN,), directories_lost=True)


@pytest.mark.parametrize("first", range(1, 501, SEEDS_PER_TEST))
def test_seeds_of_every_size(first: int) -> None:
    for seed in range(first, first + SEEDS_PER_TEST):
        summary = keep_promises(generate(seed)).summary
        assert summary.commits > 0 or summary.marks[TOO_MANY_SILENT]


@pytest.mark.parametrize("seed", REAL_SEEDS)
def test_a_few_seeds_with_real_signatures(seed: int) -> None:
    plan = replace(generate(seed), signatures=plans.Signatures.ED25519)
    assert keep_promises(plan).summary.commits > 0


@pytest.mark.parametrize("seed", range(1, 7))
def test_a_directory_lost_beside_a_liar_that_opens_views_early_harms_nobody(seed: int) -> None:
    plan = generate(seed, BESIDE)
    assert plan.liars and plan.silenced and not plan.silenced <= plan.weakened
    keep_promises(plan)


@pytest.mark.long
@pytest.mark.parametrize("first", range(1, 1_001, 50))
@pytest.mark.parametrize("swarm", [Swarm.LIARS, Swarm.STORM, Swarm.MIXED])
def test_nor_in_many_more_plans(swarm: Swarm, first: int) -> None:
    for seed in range(first, first + 50):
        keep_promises(generate(seed, Options(validators=4, swarm=swarm, directories_lost=True)))


def test_several_lies_of_one_liar_about_one_view() -> None:
    """It opens the view early, without a VIEW-CHANGE, and would propose again what they prove."""
    plan = generate(39, Options(validators=7, swarm=Swarm.LIARS, directories_lost=True))
    assert {Habit.OPEN, Habit.REWRITE} <= {fault.habit for fault in plan.faults if isinstance(fault, Liar)}
    keep_promises(plan)


def test_progress_is_promised_where_the_f_bear_those_that_are_silent() -> None:
    plan = generate(1, BESIDE)
    (silenced,), everybody = plan.silenced, frozenset(range(plan.validators))
    assert not plan.promises_progress(plan.silenced), "a liar and a silent one of four"
    assert plan.promises_progress(frozenset()) is (len(everybody & set(plan.survivors)) >= 3)
    alone = replace(plan, faults=tuple(fault for fault in plan.faults if not isinstance(fault, Liar)))
    assert replace(alone, survivors=tuple(everybody)).promises_progress(alone.silenced)
    assert not replace(alone, survivors=tuple(everybody - {(silenced + 1) % 4})).promises_progress(alone.silenced)


@pytest.mark.long
@pytest.mark.parametrize("first", range(1_000, 21_000, 100))
def test_many_seeds(first: int) -> None:
    for seed in range(first, first + 100):
        keep_promises(generate(seed))


@pytest.mark.parametrize("path", REGRESSIONS, ids=lambda path: path.stem)
def test_a_plan_that_once_failed(path: Path) -> None:
    keep_promises(plans.load(path))


@pytest.mark.parametrize("count", [1, 4, 5, 6, 7])
def test_a_network_survives_f_crashes_for_good(count: int) -> None:
    """f nodes die in the middle of the work and never come back; everything submitted still becomes final."""
    faulty = maximum_faulty(count)
    base = generate(1, Options(validators=count))
    dead = tuple(range(faulty))
    crashes = tuple(
        Crash(id=node + 1, at_ms=1_000, node=node, point=CrashPoint.EFFECT, count=5 + node, down_ms=10_000_000)
        for node in dead
    )
    workload = tuple(
        plans.Submission(
            at_ms=200 * number, node=(faulty + number) % count, act=plans.Deposit(investor=0, amount=number + 1)
        )
        for number in range(20)
    )
    plan = Plan(
        seed=base.seed,
        validators=count,
        skews_ms=base.skews_ms,
        safety_ms=5_000,
        liveness_ms=60_000,
        survivors=tuple(range(faulty, count)),
        rest_frozen=True,
        workload=workload,
        faults=crashes,
    )
    outcome = keep_promises(plan)
    assert outcome.summary.transactions == len(workload)
    assert outcome.summary.faults["crash"] == faulty

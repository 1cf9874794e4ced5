"""Clocks, windows and proofs that are shown late: what plans make of them, and who objects to it."""

from __future__ import annotations

from collections import Counter

import pytest
from msgspec.structs import replace

from otcnode.simulation import situations
from otcnode.simulation.generate import Options, Swarm, generate
from otcnode.simulation.plan import Habit, Liar, Plan
from otcnode.simulation.situations import SITUATIONS
from otcnode.simulation.violation import Promise
from otcnode.simulation.world import Outcome, run
from tests.simulation import report

CLOCKS = Options(validators=4, swarm=Swarm.CLOCKS)
HOARD = Options(swarm=Swarm.HOARD)
DAY_MS = 86_400_000


def keep_promises(plan: Plan) -> Outcome:
    outcome = run(plan)
    assert outcome.violation is None, report(plan, outcome)
    return outcome


def test_who_waits_for_a_time_is_not_deposed() -> None:
    met: Counter[str] = Counter()
    for seed in range(1, 7):
        met.update(set(keep_promises(generate(seed, CLOCKS)).summary.marks))
    assert met[situations.WAITS] and met[situations.KEPT] and met[situations.LATE_HALF] and met[situations.APART]


def test_a_proof_shown_late_is_proposed_again_or_passed_over() -> None:
    met: Counter[str] = Counter()
    for seed in (1, 2, 3, 4, 8):
        summary = keep_promises(generate(seed, HOARD)).summary
        assert summary.faults["hoard"]
        met.update(set(summary.marks))
    assert met[situations.LONG_AGO] and met[situations.PASSED_OVER]


def test_a_seed_varies_windows_drifts_clocks_and_lies() -> None:
    plans = [generate(seed) for seed in range(1, 300)]
    assert {1, 2, 3, 4, 6, 8, 12, 16} <= {plan.window for plan in plans}
    assert all(plan.drift_ms >= 2 * plan.view_timeout_ms for plan in plans)
    assert len({plan.drift_ms // plan.view_timeout_ms for plan in plans}) > 5
    apart = [max(plan.skews_ms) - min(plan.skews_ms) for plan in plans]
    assert all(most_ms < plan.drift_ms for most_ms, plan in zip(apart, plans, strict=True))
    assert any(4 * most_ms > 3 * plan.drift_ms for most_ms, plan in zip(apart, plans, strict=True))
    lies = [fault for plan in plans for fault in plan.faults if isinstance(fault, Liar)]
    beyond = {lie.beyond_ms for lie in lies if lie.habit is Habit.TIME}
    assert None in beyond and DAY_MS in beyond
    assert any(ms is not None and ms < 0 for ms in beyond) and any(ms is not None and 0 < ms < 1_000 for ms in beyond)
    assert len({lie.views for lie in lies if lie.habit is Habit.HOARD}) > 3


@pytest.mark.parametrize("beyond_ms", [None, DAY_MS])
def test_a_block_of_no_acceptable_time_costs_its_primary_the_view(beyond_ms: int | None) -> None:
    plan = next(plan for plan in (generate(seed, CLOCKS) for seed in range(1, 50)) if plan.liars)
    liar = Liar(id=1, at_ms=0, node=0, habit=Habit.TIME, victims=(), beyond_ms=beyond_ms, for_ms=DAY_MS)
    outcome = keep_promises(replace(plan, view_max=None, faults=(liar,)))
    assert outcome.summary.faults["time"] and outcome.summary.view_max >= 1
    deposed = run(replace(plan, view_max=0, faults=(liar,))).violation
    assert deposed is not None and deposed.promise is Promise.LIVENESS and "is deposed" in deposed.text


def test_situations_have_names_of_their_own() -> None:
    assert len(set(SITUATIONS)) == len(SITUATIONS)

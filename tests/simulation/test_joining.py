"""Whole networks whose nodes prune blocks, lose them, and go on from each other's snapshots."""

from __future__ import annotations

from collections import Counter

from otcnode.simulation.generate import Options, generate
from otcnode.simulation.marks import SNAPSHOTS
from otcnode.simulation.world import run
from tests.simulation import report

OPTIONS = Options(validators=4, snapshots_permille=1_000, safety_ms=24_000)
SEEDS = 14


def test_networks_with_snapshots_keep_every_promise() -> None:
    marks: Counter[str] = Counter()
    for seed in range(1, SEEDS + 1):
        plan = generate(seed, OPTIONS)
        outcome = run(plan)
        assert outcome.violation is None, report(plan, outcome)
        marks.update(outcome.summary.marks)
    assert marks[SNAPSHOTS["snapshot made"]] > SEEDS
    assert marks["a node went on from a snapshot"] > 3
    assert marks["snapshot resumed after a restart"] > 0


def test_a_share_of_all_plans_has_snapshots() -> None:
    plans = [generate(seed) for seed in range(200)]
    assert 30 < sum(plan.snapshot_interval > 0 and plan.blocks_kept > 0 for plan in plans) < 80
    assert len({plan.chunk_bytes for plan in plans if plan.snapshot_interval}) == 2

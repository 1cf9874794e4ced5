"""Whole networks whose nodes prune blocks, lose them, and go on from each other's snapshots."""

from __future__ import annotations

from collections import Counter

from otcnode.simulation.generate import Options, generate
from otcnode.simulation.world import run
from tests.simulation import report

OPTIONS = Options(validators=4, snapshots=True)
NEEDED_PRUNED_BLOCKS = 41
"""A seed in which a node fell behind the blocks that the others kept, while no snapshot above was whole anywhere, and
the others needed its votes to get to the next one."""


def test_networks_with_snapshots_keep_every_promise() -> None:
    faults: Counter[str] = Counter()
    for seed in (2, 7, 11, 14, 16, 19, NEEDED_PRUNED_BLOCKS):
        plan = generate(seed, OPTIONS)
        outcome = run(plan)
        assert outcome.violation is None, report(plan, outcome)
        faults.update(outcome.summary.faults)
    assert faults["snapshot-installed"] > 0

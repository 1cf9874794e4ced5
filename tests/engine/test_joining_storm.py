"""Joining in storms: whatever is lost, lies or dies, the joiner arrives, and never stands anywhere but on the chain.

The storm is itself tested: each planted bug must be found within a few seeds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from otcnode import limits
from otcnode.simulation.mutants import joining
from tests.engine.joining_storm import GROWN, BrokenPromise, Storm

SEEDS = 6
MUTANT_SEEDS = 100
MANIFEST_NEVER_CAME = 1_056
"""A seed in which the only one that was asked for the manifest was gone before it answered."""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "snapshot_chunk_bytes", 400)


def test_a_joiner_arrives_in_every_storm() -> None:
    marks: Counter[str] = Counter()
    for seed in (*range(SEEDS), MANIFEST_NEVER_CAME):
        outcome = Storm(seed).run()
        assert outcome.height > GROWN
        marks += outcome.marks
    assert {"installed", "resumed", "lies", "banned", "lost", "between two events"} <= set(marks)


def test_the_same_seed_is_the_same_storm() -> None:
    assert Storm(3).run() == Storm(3).run()


@pytest.mark.long
def test_a_joiner_arrives_in_many_storms() -> None:
    marks: Counter[str] = Counter()
    for seed in range(1_000, 1_300):
        marks += Storm(seed).run().marks
    assert marks["in a write"] > 20 and marks["installed"] > 250


# ---- planted bugs

MUTANTS = (
    joining.chunk_without_proof,
    pytest.param(joining.history_unchecked, marks=pytest.mark.long),
    joining.uncertified_height,
    joining.installed_before_it_is_whole,
    pytest.param(joining.noted_before_it_is_kept, marks=pytest.mark.long),
)


@pytest.mark.parametrize("plant", MUTANTS, ids=lambda plant: getattr(plant, "__name__", None))
def test_a_planted_bug_is_found(plant: Callable[[], AbstractContextManager[Any]]) -> None:
    with plant():
        for seed in range(MUTANT_SEEDS):
            try:
                Storm(seed).run()
            except BrokenPromise:
                break
        else:
            pytest.fail(f"not found in {MUTANT_SEEDS} seeds")
    Storm(seed).run()

"""Looking for planted bugs: the first seed within a mutant's budget that breaks a promise, and the least that does."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from otcnode.simulation.generate import generate
from otcnode.simulation.mutants import planting
from otcnode.simulation.mutants.planting import Mutant
from otcnode.simulation.plan import Plan
from otcnode.simulation.shrink import Shrinker
from otcnode.simulation.violation import Violation
from otcnode.simulation.world import run

SHRINKING_RUNS_MAX = 250


class Found(msgspec.Struct, frozen=True, tag="found"):
    """`seed` None: not found within the budget. `expected`: whether the promise is one that the bug must break.
    `seconds` of the processor until it was found; `small` is the shrunk plan."""

    mutant: str
    rule: str
    seeds: int
    seed: int | None
    seconds: float
    promise: str = ""
    violation: str = ""
    expected: bool = False
    plan: Plan | None = None
    small: Plan | None = None
    shrinking_seconds: float = 0.0


def hunt(mutant: Mutant, shrink: bool = True, progress: Callable[[int], None] | None = None) -> Found:
    """`progress` is told of every seed before it runs."""
    began = time.process_time()
    with mutant.plant():
        for seed in range(1, mutant.seeds + 1):
            if progress is not None:
                progress(seed)
            plan = generate(seed, mutant.options)
            violation = run(plan).violation
            if violation is None:
                continue
            found_after = time.process_time() - began
            small = Shrinker(violation.promise, SHRINKING_RUNS_MAX).shrink(plan) if shrink else None
            return Found(
                mutant.name,
                mutant.rule,
                mutant.seeds,
                seed,
                found_after,
                violation.promise.value,
                str(violation),
                violation.promise in mutant.promises and not _fails_itself(violation),
                plan,
                small,
                time.process_time() - began - found_after,
            )
    return Found(mutant.name, mutant.rule, mutant.seeds, None, time.process_time() - began)


def _fails_itself(violation: Violation) -> bool:
    """Whether what fails is the planted code, which says nothing of the checkers."""
    frames = [line for line in violation.text.splitlines() if line.lstrip().startswith("File ")]
    return bool(frames) and str(Path(planting.__file__).parent) in frames[-1]

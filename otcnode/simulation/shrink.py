"""The smallest plan that still breaks the same promise (delta debugging: Zeller and Hildebrandt, TSE 28/2, 2002).

Left out are what comes after the break, runs of faults and of submissions; then one node that is away stands for all
that is no lie, pairs of faults are left out, one fault stands for two, a fault is wider than it was, and chance falls
otherwise: what a fault was needed for may be mere timing. All of it again while anything changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations
from typing import TypeVar

from msgspec.structs import replace

from otcnode.simulation.merging import one_away, pairs_merged
from otcnode.simulation.plan import Cut, Fault, Liar, Loss, Partition, Pause, Plan, Signatures
from otcnode.simulation.violation import Promise
from otcnode.simulation.world import run

T = TypeVar("T")

LATER_MS = 3_000
"""A smaller plan that breaks the promise so much later is not looked for: most others would have to run to an end."""
SHRUNK_LIVENESS_MS = 60_000
FAULTS_PAIRED_MAX = 12
"""Of more faults than these no pairs are tried."""
OTHER_CHANCES = 3
"""How many other seeds of chance a plan with a fault less is tried with."""


class Shrinker:
    """Tries at most `attempts_max` plans. `progress` is told how many were tried, and the smallest so far."""

    def __init__(
        self, promise: Promise, attempts_max: int = 300, progress: Callable[[int, Plan], None] | None = None
    ) -> None:
        self._promise = promise
        self._left = attempts_max
        self._progress = progress
        self._tried: set[Plan] = set()
        self._until_ms: int | None = None

    def shrink(self, plan: Plan) -> Plan:
        """`plan` breaks the promise; so does the result, and not much later."""
        outcome = run(plan)
        assert outcome.violation is not None and outcome.violation.promise is self._promise
        broken_ms = outcome.summary.virtual_ms
        if self._promise is not Promise.LIVENESS:
            self._until_ms = broken_ms + LATER_MS
        plan = self._first_of(plan, [_until(plan, broken_ms)])
        plan = self._first_of(plan, [replace(plan, liveness_ms=min(plan.liveness_ms, SHRUNK_LIVENESS_MS))])
        plan = self._first_of(plan, [replace(plan, signatures=Signatures.HASH)])
        plan = self._faults(plan)
        before = None
        while plan != before:
            before = plan
            plan = self._workload(plan)
            plan = self._faults(plan)
            for simpler in (one_away, _without_pairs, pairs_merged, _widened, _by_other_chance):
                plan = self._first_of(plan, simpler(plan))
        return self._durations(plan)

    def _fails(self, plan: Plan) -> bool:
        if len(self._tried) >= self._left or plan in self._tried:
            return False
        self._tried.add(plan)
        violation = run(plan, until_ms=self._until_ms).violation
        fails = violation is not None and violation.promise is self._promise
        if fails and self._progress is not None:
            self._progress(len(self._tried), plan)
        return fails

    def _first_of(self, plan: Plan, others: Iterable[Plan]) -> Plan:
        """The first of the others that fails, or else the plan."""
        return next((other for other in others if other != plan and self._fails(other)), plan)

    def _faults(self, plan: Plan) -> Plan:
        kept = self._fewest(plan.faults, lambda faults: self._fails(replace(plan, faults=tuple(faults))))
        return replace(plan, faults=tuple(kept))

    def _workload(self, plan: Plan) -> Plan:
        kept = self._fewest(plan.workload, lambda work: self._fails(replace(plan, workload=tuple(work))))
        return replace(plan, workload=tuple(kept))

    def _fewest(self, items: Sequence[T], fails: Callable[[Sequence[T]], bool]) -> Sequence[T]:
        """Leave out runs of items, the longest first, as long as it still fails."""
        size = len(items)
        while size and items:
            start = 0
            while start < len(items):
                fewer = [*items[:start], *items[start + size :]]
                if fails(fewer):
                    items = fewer
                else:
                    start += size
            size //= 2
        return items

    def _durations(self, plan: Plan) -> Plan:
        """Halve how long each fault that has a length lasts, while it still fails."""
        for index in range(len(plan.faults)):
            while True:
                fault = plan.faults[index]
                if not isinstance(fault, Pause | Partition | Cut | Loss) or fault.for_ms < 200:
                    break
                smaller = self._first_of(plan, [_changed(plan, index, replace(fault, for_ms=fault.for_ms // 2))])
                if smaller is plan:
                    break
                plan = smaller
        return plan


def _until(plan: Plan, broken_ms: int) -> Plan:
    """Without what comes after the break."""
    return replace(
        plan,
        faults=tuple(fault for fault in plan.faults if fault.at_ms <= broken_ms),
        workload=tuple(submission for submission in plan.workload if submission.at_ms <= broken_ms),
    )


def _without_pairs(plan: Plan) -> Iterator[Plan]:
    if len(plan.faults) <= FAULTS_PAIRED_MAX:
        for left_out in combinations(plan.faults, 2):
            yield replace(plan, faults=tuple(fault for fault in plan.faults if fault not in left_out))


def _widened(plan: Plan) -> Iterator[Plan]:
    """Without one fault, while one of the liars lies to everybody and always, or one loss loses everything."""
    for index, fault in enumerate(plan.faults):
        wide: Fault
        match fault:
            case Liar():
                wide = replace(fault, victims=(), permille=1_000, for_ms=plan.safety_ms)
            case Loss():
                wide = replace(fault, permille=1_000, receivers=())
            case _:
                continue
        wider = _changed(plan, index, wide)
        for left_out in range(len(plan.faults)):
            if left_out != index:
                yield replace(wider, faults=(*wider.faults[:left_out], *wider.faults[left_out + 1 :]))


def _by_other_chance(plan: Plan) -> Iterator[Plan]:
    """Without one fault, and with other seeds of chance."""
    for step in range(1, OTHER_CHANCES + 1):
        for fault in plan.faults:
            yield replace(plan, seed=plan.seed + step, faults=tuple(kept for kept in plan.faults if kept is not fault))


def _changed(plan: Plan, index: int, fault: Fault) -> Plan:
    return replace(plan, faults=(*plan.faults[:index], fault, *plan.faults[index + 1 :]))

"""The smallest plan that still breaks the same promise (delta debugging: Zeller and Hildebrandt, TSE 28/2, 2002)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from msgspec.structs import replace

from otcnode.simulation.plan import Cut, Liar, Loss, Partition, Pause, Plan, RecordLost, Signatures
from otcnode.simulation.violation import Promise
from otcnode.simulation.world import run

T = TypeVar("T")

LATER_MS = 3_000
"""A smaller plan that breaks the promise so much later is not looked for: most others would have to run to an end."""
SHRUNK_LIVENESS_MS = 60_000


class Shrinker:
    """Tries at most `attempts_max` plans. `progress` is told how many faults and submissions are left."""

    def __init__(
        self, promise: Promise, attempts_max: int = 300, progress: Callable[[int, Plan], None] | None = None
    ) -> None:
        self._promise = promise
        self._left = attempts_max
        self._attempts = 0
        self._progress = progress
        self._until_ms: int | None = None

    def shrink(self, plan: Plan) -> Plan:
        """`plan` breaks the promise; so does the result, and not much later."""
        outcome = run(plan)
        assert outcome.violation is not None and outcome.violation.promise is self._promise
        if self._promise is not Promise.LIVENESS:
            self._until_ms = outcome.summary.virtual_ms + LATER_MS
        plan = self._try(plan, replace(plan, liveness_ms=min(plan.liveness_ms, SHRUNK_LIVENESS_MS)))
        plan = self._try(plan, replace(plan, signatures=Signatures.HASH))
        plan = self._faults(plan)
        plan = self._workload(plan)
        plan = self._faults(plan)
        return self._durations(plan)

    def _fails(self, plan: Plan) -> bool:
        if self._attempts >= self._left:
            return False
        self._attempts += 1
        violation = run(plan, until_ms=self._until_ms).violation
        fails = violation is not None and violation.promise is self._promise
        if fails and self._progress is not None:
            self._progress(self._attempts, plan)
        return fails

    def _try(self, plan: Plan, smaller: Plan) -> Plan:
        return smaller if smaller != plan and self._fails(smaller) else plan

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
                shorter = replace(fault, for_ms=fault.for_ms // 2)
                faults = (*plan.faults[:index], shorter, *plan.faults[index + 1 :])
                smaller = self._try(plan, replace(plan, faults=faults))
                if smaller is plan:
                    break
                plan = smaller
        return plan


def needed_faults(plan: Plan) -> tuple[str, ...]:
    """The kinds of a plan's faults, for a line of text."""
    kinds = [
        f"{type(fault).__name__} n{fault.node}" if isinstance(fault, Liar | RecordLost) else type(fault).__name__
        for fault in plan.faults
    ]
    return tuple(kinds)

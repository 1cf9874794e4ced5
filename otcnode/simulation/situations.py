"""Situations of clocks, windows and proofs that are worth having been in, seen in the states of the nodes. They decide
nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from otcnode.blocks import block_hash
from otcnode.consensus import building, effects
from otcnode.consensus.messages import NewView, Status
from otcnode.consensus.state import State
from otcnode.simulation.plan import Plan

APART = "honest clocks more than half a drift apart"
LATE_HALF = "block more than half a drift ahead of the clock"
KEPT = "proposal kept until its time came"
WAITS = "successor waits for the time of the last block"
MANY_IN_FLIGHT = "more than eight blocks in flight"
LONG_AGO = "NEW-VIEW with a proof of four views ago or more"
PASSED_OVER = "VIEW-CHANGE passed over for a block that is not there"
SITUATIONS = (APART, LATE_HALF, KEPT, WAITS, MANY_IN_FLIGHT, LONG_AGO, PASSED_OVER)
VIEWS_AGO = 4
IN_FLIGHT = 8


class Clock(Protocol):
    @property
    def clock_ms(self) -> int: ...


class Situations:
    """Of the honest nodes of one plan; `hit` is told of each."""

    def __init__(self, plan: Plan, hit: Callable[[str], None]) -> None:
        self._hit = hit
        self._early: set[tuple[int, int, int]] = set()
        """(node, view, height) of proposals that came too early."""
        skews_ms = [skew_ms for node, skew_ms in enumerate(plan.skews_ms) if node not in plan.liars]
        if max(skews_ms) - min(skews_ms) > plan.drift_ms // 2:
            hit(APART)

    def effect(self, node: int, state: State, clock: Clock, effect: effects.Effect) -> None:
        """A node does something by its clock."""
        for height, reason in state.refusals.items() if state.refusals else ():
            if reason.startswith("clock +"):
                self._early.add((node, state.view, height))
        match effect:
            case effects.Execute(header):
                if header.time_ms - clock.clock_ms > state.drift_ms // 2:
                    self._hit(LATE_HALF)
                if self._early and (place := (node, state.view, header.height)) in self._early:
                    self._early.remove(place)
                    self._hit(KEPT)
            case effects.Build(height=height) if height > state.committed + IN_FLIGHT:
                self._hit(MANY_IN_FLIGHT)
            case effects.Broadcast(Status()) if state.active and state.own == state.primary:
                if building.has_work(state) and building.waits_rightly(state):
                    self._hit(WAITS)
            case effects.Broadcast(NewView() as opened):
                self._opened(state, opened)
            case _:
                pass

    def _opened(self, state: State, opened: NewView) -> None:
        proofs = [proof for entry in opened.view_changes for proof in entry.proofs]
        if any(opened.view - proof.view >= VIEWS_AGO for proof in proofs):
            self._hit(LONG_AGO)
        used = {entry.validator for entry in opened.view_changes}
        for name, entry in sorted(state.view_changes.items()):
            if name in used or entry.view != opened.view:
                continue
            held = [state.candidates.get(block_hash(proof.header)) for proof in entry.proofs]
            if any(candidate is None or not candidate.complete for candidate in held):
                self._hit(PASSED_OVER)

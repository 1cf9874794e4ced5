"""Plans about clocks, with steady work in calm weather: who waits for a time, and whose time is waited for, must not be
deposed for it. Where anything else fails, views change for other reasons.

With a drift D and view timeouts of at least T, where D >= 2 T, this is granted. While honest clocks differ by less than
D a block of an honest clock's time is accepted as it comes. While they differ by less than T a successor that waits for
the time of the last block, for D / 2 or more, is not deposed. A block whose time is b later than the latest that is
accepted is waited for, while b and the difference of clocks are less than T.
"""

from __future__ import annotations

from enum import IntEnum, auto

from otcnode.simulation.chance import Chance
from otcnode.simulation.plan import Crash, CrashPoint, Deposit, Fault, Habit, Liar, Plan, Submission
from otcnode.simulation.workload import INVESTORS

SIZES = (4, 4, 5, 7)
TIMEOUTS_MS = (1_000, 1_500)
"""Longer than it takes to have a body again that the others have forgotten."""
DRIFTS_TIMEOUTS = (5, 6, 8)
"""Half of it is longer than the two view timeouts of the one who dies and of the one who waits."""
INTERVALS_MS = (120, 200, 300)
DIES_AT_MS = (800, 2_500)
WORK_AFTER_MS = 1_500
LIES_FOR_MS = 10_000_000
LIVES_MS = 300_000
ARRIVES_MS = 200
"""What a proposal may take until it is judged."""


class _Case(IntEnum):
    """What is wrong with the clocks."""

    NEARLY_TOO_EARLY = auto()
    """The first primary gives its blocks the latest times that are accepted, and dies: its successor waits for them."""
    TOO_EARLY = auto()
    """It gives them times that are accepted a little later."""
    APART = auto()
    """Nobody lies, and honest clocks differ by nearly the drift."""


def clocked(seed: int, validators: int, liveness_ms: int) -> Plan:
    """The plan of a seed; `validators` 0: the seed chooses how many."""
    chance = Chance(seed)
    count = validators or chance.choice(SIZES, "validators")
    case = chance.choice(tuple(_Case), "case")
    timeout_ms = chance.choice(TIMEOUTS_MS, "view timeout")
    drift_ms = timeout_ms * chance.choice(DRIFTS_TIMEOUTS, "drift in timeouts")
    dies_ms = chance.between(*DIES_AT_MS, "dies")
    apart_ms = drift_ms - ARRIVES_MS if case is _Case.APART else timeout_ms // 4
    return Plan(
        seed=seed,
        validators=count,
        window=chance.choice((1, 2, 4, 8, 16), "window"),
        drift_ms=drift_ms,
        view_timeout_ms=timeout_ms,
        view_timeout_ms_max=timeout_ms,
        block_transactions_max=chance.choice((1, 3, 2_000), "block transactions"),
        delay_ms=(1, 20),
        skews_ms=_skews_ms(chance, count, apart_ms),
        safety_ms=dies_ms + WORK_AFTER_MS,
        liveness_ms=liveness_ms,
        survivors=tuple(range(0 if case is _Case.APART else 1, count)),
        view_max=1 if case is _Case.NEARLY_TOO_EARLY else 0,
        workload=_workload(chance, count, dies_ms + WORK_AFTER_MS),
        faults=_faults(chance, case, timeout_ms, dies_ms),
    )


def _skews_ms(chance: Chance, count: int, apart_ms: int) -> tuple[int, ...]:
    """Those who are furthest apart are anybody; the clock of a liar, which it lies by, is right."""
    skews_ms = [chance.between(-(apart_ms // 2), apart_ms // 2, "skew", node) for node in range(count)]
    behind, ahead = chance.sample(range(1, count), 2, "furthest apart")
    if chance.happens(500, "the first is"):
        behind = 0
    skews_ms[behind], skews_ms[ahead] = -(apart_ms // 2), apart_ms // 2
    return tuple(skews_ms)


def _workload(chance: Chance, count: int, until_ms: int) -> tuple[Submission, ...]:
    interval_ms = chance.choice(INTERVALS_MS, "interval")
    return tuple(
        Submission(
            at_ms=at_ms,
            node=chance.below(count, "to", at_ms),
            act=Deposit(investor=chance.below(len(INVESTORS), "investor", at_ms), amount=1 + at_ms),
            lives_ms=LIVES_MS,
        )
        for at_ms in range(100, until_ms, interval_ms)
    )


def _faults(chance: Chance, case: _Case, timeout_ms: int, dies_ms: int) -> tuple[Fault, ...]:
    if case is _Case.APART:
        return ()
    beyond_ms = (
        -chance.between(1, 50, "within")
        if case is _Case.NEARLY_TOO_EARLY
        else chance.between(timeout_ms // 4, timeout_ms // 2, "beyond")
    )
    liar = Liar(id=1, at_ms=0, node=0, habit=Habit.TIME, victims=(), beyond_ms=beyond_ms, for_ms=LIES_FOR_MS)
    if case is _Case.TOO_EARLY:
        return (liar,)
    return (liar, Crash(id=2, at_ms=dies_ms, node=0, point=CrashPoint.IDLE, down_ms=LIES_FOR_MS))

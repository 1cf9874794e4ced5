"""One fault in the place of two."""

from __future__ import annotations

from msgspec.structs import replace

from otcnode.simulation.generate import generate
from otcnode.simulation.merging import alone, merged, one_away, pairs_merged
from otcnode.simulation.plan import Crash, CrashPoint, Cut, Habit, Liar, Loss, Partition, Pause

NODES = 4
EARLY = Partition(id=1, at_ms=100, group=(0, 1), for_ms=50)
CUT = Cut(id=3, at_ms=200, sender=2, receivers=(0,), for_ms=100)
LOSS = Loss(id=4, at_ms=250, permille=500, kinds=("commit",), receivers=(1,), for_ms=400)
LIE = Liar(id=5, at_ms=0, node=3, habit=Habit.HIDE, victims=(1,), permille=400, for_ms=10)


def test_it_lasts_from_the_first_to_the_last_moment_of_both() -> None:
    late = Partition(id=2, at_ms=400, group=(3, 2), for_ms=30)
    assert merged(EARLY, late, NODES) == replace(EARLY, for_ms=330)
    assert merged(late, EARLY, NODES) == replace(late, at_ms=100, for_ms=330)
    within = Pause(id=2, at_ms=10, node=1, for_ms=20)
    around = Pause(id=6, at_ms=5, node=1, for_ms=100)
    assert merged(within, around, NODES) == replace(within, at_ms=5, for_ms=100)


def test_it_hits_whatever_either_hits() -> None:
    assert merged(CUT, replace(CUT, receivers=(3, 1)), NODES) == replace(CUT, receivers=(0, 1, 3))
    worse = replace(LOSS, permille=900, kinds=("prepare",), receivers=())
    assert merged(LOSS, worse, NODES) == replace(LOSS, permille=900, kinds=("commit", "prepare"), receivers=())
    assert merged(LIE, replace(LIE, victims=(2,), permille=1_000), NODES) == replace(
        LIE, victims=(1, 2), permille=1_000
    )


def test_what_is_about_others_stays_two() -> None:
    crash = Crash(id=9, at_ms=1, node=2, point=CrashPoint.IDLE, down_ms=5)
    assert merged(EARLY, replace(EARLY, group=(0,)), NODES) is None
    assert merged(CUT, replace(CUT, sender=1), NODES) is None
    assert merged(LIE, replace(LIE, habit=Habit.FORGE), NODES) is None
    assert merged(crash, crash, NODES) is None and merged(EARLY, crash, NODES) is None


def test_who_is_away_in_two_ways_is_away() -> None:
    deaf = replace(LOSS, receivers=(2,))
    assert alone(CUT, deaf, NODES) == Partition(id=3, at_ms=200, group=(2,), for_ms=450)
    others = Partition(id=8, at_ms=0, group=(0, 1, 3), for_ms=10)
    assert alone(others, Pause(id=7, at_ms=5, node=2, for_ms=10), NODES) == replace(others, group=(2,), for_ms=15)
    assert alone(CUT, LOSS, NODES) is None and alone(CUT, LIE, NODES) is None


def test_one_node_that_is_away_stands_for_all_that_is_no_lie() -> None:
    crash = Crash(id=9, at_ms=120, node=2, point=CrashPoint.IDLE, down_ms=1_000)
    plan = replace(generate(3), validators=4, spares=0, faults=(LIE, EARLY, crash, LOSS))
    away = [Partition(id=1, at_ms=100, group=(node,), for_ms=1_020) for node in range(4)]
    assert [other.faults for other in one_away(plan)] == [(LIE, fault) for fault in away]
    assert list(one_away(replace(plan, faults=(LIE, crash)))) == []


def test_a_plan_with_one_for_two_has_one_fault_less_in_order() -> None:
    plan = generate(3)
    smaller = list(pairs_merged(plan))
    assert smaller
    for other in smaller:
        assert len(other.faults) == len(plan.faults) - 1
        assert [fault.at_ms for fault in other.faults] == sorted(fault.at_ms for fault in other.faults)
        assert len({fault.id for fault in other.faults}) == len(other.faults)

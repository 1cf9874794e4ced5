"""Sets of 7, 10, 16 and 31 validators, with as many liars as they bear, who act as one or each for itself."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle

import msgspec
import pytest

from otcnode.blocks import block_hash, maximum_faulty
from otcnode.codec import decode
from otcnode.consensus.messages import Message, Prepare, PrePrepare
from otcnode.crypto import tagged_hash
from otcnode.p2p.framing import Channel
from otcnode.simulation import checkers
from otcnode.simulation.alternatives import Alternatives
from otcnode.simulation.generate import Options, Swarm, generate
from otcnode.simulation.liars import Mouth, Spoken
from otcnode.simulation.marks import TOO_MANY_SILENT
from otcnode.simulation.mutants import voting
from otcnode.simulation.mutants.planting import planted
from otcnode.simulation.plan import (
    Crash,
    CrashPoint,
    Cut,
    Deposit,
    DirectoryLost,
    Fault,
    Habit,
    Liar,
    Partition,
    Plan,
    RecordLost,
    Submission,
)
from otcnode.simulation.summary import Summary
from otcnode.simulation.violation import Promise
from otcnode.simulation.world import run
from tests.simulation import keep_promises

ALL_LIE = tuple(habit for habit in Habit if habit not in (Habit.CENSOR, Habit.OPEN, Habit.OPEN_TWICE, Habit.FLOOD))
FOR_EVER_MS = 10_000_000
WAYS = {
    "storm": Options(swarm=Swarm.STORM),
    "mixed": Options(swarm=Swarm.MIXED),
    "liars": Options(swarm=Swarm.LIARS, league_permille=0),
    "all weak lie": Options(swarm=Swarm.LIARS, habits=ALL_LIE),
    "in league": Options(swarm=Swarm.LIARS, league_permille=1_000),
    "directories lost": Options(swarm=Swarm.LIARS, directories_lost=True),
    "snapshots": Options(swarm=Swarm.MIXED, snapshots_permille=1_000),
    "changing": Options(swarm=Swarm.MIXED, reforms_permille=1_000),
}
QUICK = [(7, way, seed) for way in ("all weak lie", "in league", "directories lost") for seed in (1, 2)] + [
    (10, way, 1) for way in ("all weak lie", "in league")
]
SEEDS = {7: 10, 10: 8, 16: 4, 31: 1}
SEEDS_PER_TEST = 2
LONG = [
    (count, way, first)
    for count, seeds in SEEDS.items()
    for way in WAYS
    for first in range(1, seeds + 1, SEEDS_PER_TEST if count < 31 else 1)
]


def plan_of(count: int, way: str, seed: int) -> Plan:
    return generate(seed, replace(WAYS[way], validators=count))


def keep_promises_and_go_on(plan: Plan) -> Summary:
    summary = keep_promises(plan).summary
    assert summary.commits > 0 or summary.marks[TOO_MANY_SILENT]
    return summary


@pytest.mark.parametrize(("count", "way", "seed"), QUICK)
def test_a_few_plans_of_larger_sets(count: int, way: str, seed: int) -> None:
    keep_promises_and_go_on(plan_of(count, way, seed))


@pytest.mark.long
@pytest.mark.parametrize(("count", "way", "first"), LONG)
def test_many_plans_of_larger_sets(count: int, way: str, first: int) -> None:
    for seed in range(first, first + (SEEDS_PER_TEST if count < 31 else 1)):
        keep_promises_and_go_on(plan_of(count, way, seed))


@pytest.mark.parametrize("count", SEEDS)
def test_these_plans_hold_what_larger_sets_must_bear(count: int) -> None:
    plans = {way: [plan_of(count, way, seed) for seed in range(1, SEEDS[count] + 1)] for way in WAYS}
    every = [plan for some in plans.values() for plan in some]
    assert max(len(plan.liars) for plan in every) == maximum_faulty(count)
    for way in ("all weak lie", "in league"):
        assert all(len(plan.liars) == maximum_faulty(count) for plan in plans[way])
    for plan in plans["in league"]:
        told = {fault.victims for fault in plan.faults if isinstance(fault, Liar) and fault.habit is Habit.EQUIVOCATE}
        assert len(told) == 1, "all liars tell the same ones the same"
    assert all(plan.silenced for plan in plans["directories lost"])
    kinds = Counter(type(fault) for plan in every for fault in plan.faults)
    kinds[RecordLost] += kinds[DirectoryLost]
    assert min(kinds[kind] for kind in (Crash, Cut, Partition, RecordLost)) >= SEEDS[count] // 2 + 1, kinds


def lying_primaries(count: int) -> Plan:
    """The primaries of the first f views lie, each in its own way, and none of them lets a block through."""
    faulty = maximum_faulty(count)
    ways = cycle([Habit.ROOTS, Habit.MUTE, Habit.EQUIVOCATE])
    half = tuple(range(faulty, faulty + (count - faulty) // 2))
    liars = [
        Liar(
            id=node + 1,
            at_ms=0,
            node=node,
            habit=habit,
            victims=half if habit is Habit.EQUIVOCATE else (),
            for_ms=FOR_EVER_MS,
        )
        for node, habit in zip(range(faulty), ways, strict=False)
    ]
    return _one_block_of_work(count, liars, survivors=range(faulty, count))


def dead_primaries(count: int, dead: int) -> Plan:
    crashes = [
        Crash(id=node + 1, at_ms=60, node=node, point=CrashPoint.IDLE, down_ms=FOR_EVER_MS) for node in range(dead)
    ]
    return _one_block_of_work(count, crashes, survivors=range(dead, count))


def _one_block_of_work(count: int, faults: Sequence[Fault], survivors: Iterable[int]) -> Plan:
    return Plan(
        seed=1,
        validators=count,
        view_timeout_ms=500,
        view_timeout_ms_max=1_000,
        skews_ms=(0,) * count,
        safety_ms=500,
        liveness_ms=120_000,
        survivors=tuple(survivors),
        rest_frozen=False,
        workload=(Submission(at_ms=200, node=count - 1, act=Deposit(investor=0, amount=1)),),
        faults=tuple(faults),
    )


@pytest.mark.parametrize(
    "count", [7, 10, pytest.param(16, marks=pytest.mark.long), pytest.param(31, marks=pytest.mark.long)]
)
def test_as_many_lying_primaries_in_a_row_as_a_set_bears(count: int) -> None:
    summary = keep_promises_and_go_on(lying_primaries(count))
    assert summary.transactions == 1 and summary.view_max >= maximum_faulty(count)


def test_thirty_one_validators_of_which_the_first_two_primaries_are_dead() -> None:
    plan = msgspec.structs.replace(dead_primaries(31, 2), rest_frozen=True)
    summary = keep_promises_and_go_on(plan)
    assert summary.transactions == 1 and summary.view_max >= 2


def test_liars_in_league_vote_for_what_one_of_them_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their victims hear of the other block from all of them, and nobody else does."""
    plan = plan_of(10, "in league", 1)
    (victims,) = {fault.victims for fault in plan.faults if isinstance(fault, Liar) and fault.victims}
    proposed: dict[bytes, set[int]] = defaultdict(set)
    voted: dict[tuple[bytes, int], set[bytes]] = defaultdict(set)
    right = Mouth.say

    def say(mouth: Mouth, receiver: int, channel: Channel, payload: bytes) -> Spoken:
        spoken = right(mouth, receiver, channel, payload)
        for raw, _ in spoken if channel is Channel.CONSENSUS else ():
            match decode(Message, raw):
                case PrePrepare(header=header):
                    proposed[block_hash(header)].add(receiver)
                case Prepare(block_hash=name, validator=validator):
                    voted[name, receiver].add(validator)
        return spoken

    monkeypatch.setattr(Mouth, "say", say)
    keep_promises(plan)
    others = [name for name, receivers in proposed.items() if receivers <= set(victims)]
    most = max((len(voted[name, victim]) for name in others for victim in victims), default=0)
    assert most == len(plan.liars) - 1, "the primary's proposal is its vote"


def league(count: int) -> Plan:
    """f liars, the first primary among them, show one half of the others another block, in calm weather."""
    faulty = maximum_faulty(count)
    half = tuple(range(faulty, faulty + (count - faulty) // 2))
    liars = [
        Liar(id=node + 1, at_ms=0, node=node, habit=Habit.EQUIVOCATE, victims=half, for_ms=FOR_EVER_MS)
        for node in range(faulty)
    ]
    return _one_block_of_work(count, liars, survivors=range(faulty, count))


@contextmanager
def quorum_less_one_that_no_rule_sees() -> Iterator[None]:
    """Those who judge from outside count as the nodes do, so that only what comes of it can tell."""
    with (
        voting.quorum_less_one(),
        planted((checkers, "quorum_of", lambda count, right=checkers.quorum_of: right(count) - 1)),
    ):
        yield


@pytest.mark.parametrize("count", [7, 10, 16])
def test_liars_in_league_fork_a_set_whose_quorum_is_one_too_small(count: int) -> None:
    plan = league(count)
    assert keep_promises_and_go_on(plan).faults[Habit.EQUIVOCATE] > 0
    with quorum_less_one_that_no_rule_sees():
        violation = run(plan).violation
    assert violation is not None and violation.promise is Promise.AGREEMENT, violation


def test_liars_that_know_nothing_of_each_other_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """So it takes a league to show whether a quorum of ten is large enough."""

    def own_only(alternatives: Alternatives, name: bytes) -> bytes:
        held = alternatives._proposals.get(name)
        return tagged_hash("alone", name) if held is None else block_hash(held.header)

    monkeypatch.setattr(Alternatives, "name_instead", own_only)
    with quorum_less_one_that_no_rule_sees():
        assert run(league(10)).violation is None

"""Validators and parameters that change while a whole network is at work, calm and under faults."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from msgspec.structs import replace

from otcnode import chain
from otcnode.chain import Parent, Speculation
from otcnode.simulation.generate import Options, generate
from otcnode.simulation.marks import TOO_MANY_SILENT
from otcnode.simulation.mutants.records import ready_while_silent
from otcnode.simulation.plan import (
    Act,
    Admit,
    Crash,
    CrashPoint,
    Deposit,
    Fault,
    Partition,
    Plan,
    RecordLost,
    Reform,
    Rotate,
    Submission,
    Tune,
    check,
)
from otcnode.simulation.summary import Summary
from otcnode.simulation.trace import Trace
from otcnode.simulation.violation import Promise
from otcnode.simulation.workload import clients_of
from otcnode.simulation.world import World, run
from otcnode.vm.executor import environment_at
from tests.simulation import report

WORK = 30


def reformed(*reforms: tuple[int, tuple[int, ...]], faults: tuple[Fault, ...] = (), **changes: Any) -> Plan:
    """Four validators and three spare nodes under work, whose set of validators is changed at these times."""
    work = [
        Submission(at_ms=400 * index, node=index % 7, act=Deposit(investor=index % 4, amount=1 + index))
        for index in range(WORK)
    ]
    work += [Submission(at_ms=at_ms, node=0, act=Reform(members=members)) for at_ms, members in reforms]
    plan = Plan(
        seed=7,
        validators=4,
        spares=3,
        skews_ms=(0,) * 7,
        safety_ms=30_000,
        liveness_ms=120_000,
        survivors=tuple(range(7)),
        workload=tuple(work),
        faults=faults,
    )
    return replace(plan, **changes)


def kept(plan: Plan) -> Summary:
    check(plan)
    outcome = run(plan)
    assert outcome.violation is None, report(plan, outcome)
    return outcome.summary


def test_four_become_seven_and_four_again_under_load() -> None:
    """And other four than before: none of the first primaries is left."""
    summary = kept(reformed((500, tuple(range(7))), (12_000, (3, 4, 5, 6))))
    assert summary.marks["epoch of other validators"] == 2
    assert summary.marks["a node says that it is ready"] >= 3


def test_two_changes_in_quick_succession_come_one_after_the_other() -> None:
    summary = kept(reformed((500, (0, 1, 2, 3, 4)), (600, (1, 2, 3, 5))))
    assert summary.marks["epoch of other validators"] == 2


def test_joiners_without_a_record_hold_nobody_up() -> None:
    """Two of the four that are to decide have lost their records: they say that they are ready only once they may vote,
    and until then nothing comes of the change."""
    lost = tuple(RecordLost(id=node, at_ms=1_000, node=node, down_ms=100) for node in (4, 5))
    plan = reformed((1_600, (0, 1, 4, 5)), (22_000, (0, 1, 4, 5)), faults=lost, safety_ms=2_000, liveness_ms=60_000)
    with ready_while_silent():
        violation = run(plan).violation
    assert violation is not None and violation.promise is Promise.LIVENESS
    summary = kept(plan)
    assert summary.marks["a node says that it is ready"] >= 2 and summary.marks["epoch of other validators"] == 1
    assert not summary.marks[TOO_MANY_SILENT]


def test_a_joiner_that_dies_right_after_it_was_added_halts_nobody() -> None:
    """It is down from before its first height until long after the work has ended."""
    death = Crash(id=1, at_ms=2_600, node=4, point=CrashPoint.IDLE, down_ms=20_000)
    plan = reformed((500, (0, 1, 2, 3, 4)), faults=(death,))
    world = World(plan, Trace())
    world.scheduler.at(20_000, lambda: ended.append(world.checkers.height_of(last)))
    ended: list[int | None] = []
    last = clients_of(plan)[WORK - 1].transaction.id
    world.run()
    assert ended != [None] and world.summary().marks["epoch of other validators"] == 1


@pytest.mark.parametrize("members", [(0, 1, 2, 3, 4), (1, 2, 3, 4), (0, 1, 2)])
@pytest.mark.parametrize("cut_ms", [1_900, 2_600])
def test_the_primary_is_cut_off_while_the_validators_change(members: tuple[int, ...], cut_ms: int) -> None:
    """A view change is in flight when the epoch ends, or begins with it; the primary may be the one that leaves."""
    cut = Partition(id=1, at_ms=cut_ms, group=(0,), for_ms=4_000)
    summary = kept(reformed((500, members), faults=(cut,)))
    assert summary.marks["epoch of other validators"] == 1
    assert summary.marks["the first primary removed"] == (0 not in members)


def test_validators_that_left_come_back() -> None:
    summary = kept(reformed((500, (0, 1, 2, 4)), (10_000, (0, 1, 2, 3)), (20_000, (0, 1, 2, 4))))
    assert summary.marks["epoch of other validators"] == 3


def test_the_window_changes_under_load() -> None:
    tuned = Submission(at_ms=600, node=0, act=Tune(window=1))
    back = Submission(at_ms=6_000, node=1, act=Tune(window=8))
    plan = reformed()
    summary = kept(replace(plan, workload=(*plan.workload, tuned, back)))
    assert summary.marks["epoch of other parameters"] == 2


def test_one_node_that_takes_a_parameter_a_height_early_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps to the new limit of the block that ends the epoch, which the others still make by the old one."""
    honest = chain.check
    early = []

    def check_early(parent: Parent, *rest: Any) -> Speculation:
        limits = environment_at(parent.view, bytes(32), parent.height + 1, 0).parameters.consensus
        if limits != parent.epoch.parameters and not early:
            early.append(parent.height + 1)
            parent = dataclasses.replace(parent, epoch=replace(parent.epoch, parameters=limits))
        return honest(parent, *rest)

    monkeypatch.setattr(chain, "check", check_early)
    tuned = Submission(at_ms=600, node=0, act=Tune(window=1))
    plan = reformed()
    violation = run(replace(plan, workload=(*plan.workload, tuned))).violation
    assert early and violation is not None


def with_a_stranger(*acts: tuple[int, Act], faults: tuple[Fault, ...] = ()) -> Plan:
    """Node 7 is not in the genesis."""
    plan = reformed(faults=faults)
    governing = tuple(Submission(at_ms=at_ms, node=0, act=act) for at_ms, act in acts)
    return replace(
        plan, strangers=1, skews_ms=(0,) * 8, survivors=tuple(range(8)), workload=(*plan.workload, *governing)
    )


def test_a_validator_changes_its_key_under_load() -> None:
    """The new key is let in by that very act, syncs, says that it is ready and votes; the old one does not any more."""
    summary = kept(with_a_stranger((500, Rotate(validator=0, successor=7))))
    assert summary.marks["a successor votes in a validator's place"] == 1
    assert summary.marks["the first primary removed"] == 1 and summary.marks["a node admitted"] > 0


def test_a_key_that_is_lost_in_the_middle_of_its_change_halts_nobody() -> None:
    death = Crash(id=1, at_ms=900, node=0, point=CrashPoint.IDLE, down_ms=40_000)
    summary = kept(with_a_stranger((500, Rotate(validator=0, successor=7)), faults=(death,)))
    assert summary.marks["a successor votes in a validator's place"] == 1


def test_nobody_signs_over_for_a_validator() -> None:
    """Whoever wants its place has not its key, whatever node is asked."""
    plan = with_a_stranger((500, Rotate(validator=0, successor=7, usurped=True)))
    assert plan.sets == ((0, 1, 2, 3),)
    summary = kept(plan)
    assert summary.marks["a usurper refused"] > 3 and summary.marks["a node admitted"] == 0
    assert summary.transactions == WORK


def test_a_node_is_admitted_follows_and_is_turned_away() -> None:
    plan = with_a_stranger((500, Admit(member=7, admitted=True)), (9_000, Admit(member=7, admitted=False)))
    world = World(plan, Trace())
    heights: list[int] = []
    world.scheduler.at(8_900, lambda: heights.append(world.node(7).opened.tip.height))
    world.run()
    assert heights[0] > 5
    assert not any(world.node(index).admits(7) for index in range(7))
    assert world.node(7).opened.tip.height < world.checkers.height
    marks = world.summary().marks
    assert marks["a node admitted"] >= 7 and marks["a node turned away"] >= 7


def test_a_stranger_becomes_a_validator_once_it_is_admitted() -> None:
    summary = kept(with_a_stranger((500, Admit(member=7, admitted=True)), (3_000, Reform(members=(0, 1, 2, 3, 7)))))
    assert summary.marks["epoch of other validators"] == 1


def test_plans_have_every_kind_of_change() -> None:
    plans = [generate(seed) for seed in range(400)]
    acts = [submission.act for plan in plans for submission in plan.workload]
    assert {Admit, Reform, Rotate, Tune} <= {type(act) for act in acts}
    assert any(len(members) == 7 for plan in plans if plan.validators == 4 for members in plan.sets)


def test_no_plan_waits_for_the_word_of_a_node_that_is_turned_away() -> None:
    """The first seed is one whose plan once did."""
    plans = [
        generate(2_000_971),
        *(generate(seed, Options(validators=6, reforms_permille=1_000)) for seed in range(200)),
    ]
    signing_over = 0
    for plan in plans:
        acts = [submission.act for submission in plan.workload]
        turned_away = {act.member for act in acts if isinstance(act, Admit) and not act.admitted}
        signing = {act.validator for act in acts if isinstance(act, Rotate)}
        assert not turned_away & signing, plan.seed
        signing_over += len(signing)
    assert signing_over > 20

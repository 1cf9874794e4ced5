"""The simulator itself: chance, repetition, plans, shrinking."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from otcnode.errors import ConfigurationError
from otcnode.simulation import plan as plans
from otcnode.simulation.chance import Chance
from otcnode.simulation.generate import Options, generate
from otcnode.simulation.plan import Habit, Liar, Plan
from otcnode.simulation.world import run

TRACE = """
import sys
from otcnode.simulation.generate import generate
from otcnode.simulation.world import run
for seed in (3, 7, 25):
    summary = run(generate(seed)).summary
    print(summary.trace_hash, summary.trace_lines)
"""


def test_chance_is_keyed_by_who_asks() -> None:
    one, other = Chance(7), Chance(7)
    assert one.draw("delay", 1, 2) == other.draw("delay", 1, 2)
    first = [one.draw("delay", 1, 2) for _ in range(5)]
    for _ in range(50):
        other.draw("loss", 2, 1)
    assert [other.draw("delay", 1, 2) for _ in range(5)] == first
    assert len(set(first)) == 5
    assert Chance(8).draw("delay", 1, 2) != Chance(7).draw("delay", 1, 2)


def test_chance_is_even_enough() -> None:
    chance = Chance(1)
    happened = sum(chance.happens(300, "x") for _ in range(2_000))
    assert 500 < happened < 700
    assert not any(chance.happens(0, "x") for _ in range(10))
    assert all(chance.happens(1_000, "x") for _ in range(10))
    assert {chance.between(2, 4, "y") for _ in range(100)} == {2, 3, 4}
    sample = chance.sample(range(10), 4, "z")
    assert len(set(sample)) == 4 and sample == sorted(sample)


def test_one_plan_gives_one_trace_under_any_hash_seed() -> None:
    outputs = []
    for hash_seed in ("1", "4711"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", TRACE], env=environment, capture_output=True, text=True, check=True, timeout=120
        )
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1]
    assert len(set(outputs[0].splitlines())) == 3


def test_a_plan_survives_its_file(tmp_path: Path) -> None:
    for seed in range(40):
        plan = generate(seed)
        plans.check(plan)
        plans.save(plan, tmp_path / "plan.json")
        assert plans.load(tmp_path / "plan.json") == plan
    assert run(plans.load(tmp_path / "plan.json")).summary.trace_hash == run(plan).summary.trace_hash


def test_a_seed_always_makes_the_same_plan_and_seeds_differ() -> None:
    plan = [msgspec.json.encode(generate(seed)) for seed in range(30)]
    assert plan == [msgspec.json.encode(generate(seed)) for seed in range(30)]
    assert len(set(plan)) == 30
    assert {generate(seed).validators for seed in range(60)} == {1, 4, 5, 6, 7}
    assert generate(1, Options(validators=10)).validators == 10


def broken(plan: Plan, **changes: object) -> dict[str, object]:
    document = json.loads(msgspec.json.encode(plan))
    return {**document, **changes}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 2}, "version"),
        ({"skews_ms": [0]}, "clock skew"),
        ({"survivors": [9]}, "names a node"),
        ({"unknown": 1}, "not a plan"),
        (
            {"workload": [{"at_ms": 1, "node": 0, "act": {"type": "apply", "applicant": 1}, "within_ms": 0}]},
            "within no time",
        ),
        ({"faults": [{"type": "meteor", "id": 1, "at_ms": 1}]}, "not a plan"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(broken(generate(2, Options(validators=4)), **changes)))
    with pytest.raises(ConfigurationError, match=words):
        plans.load(path)
    with pytest.raises(ConfigurationError, match="cannot read"):
        plans.load(tmp_path / "none.json")


def test_more_than_f_liars_are_refused() -> None:
    plan = replace(generate(2, Options(validators=4)), faults=())
    liars = tuple(Liar(id=node, at_ms=0, node=node, habit=Habit.MUTE, victims=(), for_ms=1_000) for node in (0, 1))
    with pytest.raises(ConfigurationError, match="more than f"):
        plans.check(replace(plan, faults=liars))


def test_leaving_out_work_does_not_change_the_rest() -> None:
    """The transactions of a plan follow from their submissions alone."""
    from otcnode.simulation.workload import clients_of

    plan = generate(5)
    names = {client.submission: client.transaction.id for client in clients_of(plan)}
    half = replace(plan, workload=plan.workload[::2])
    applications = {submission for submission in plan.workload if not isinstance(submission.act, plans.Review)}
    for client in clients_of(half):
        if client.submission in applications:
            assert names[client.submission] == client.transaction.id


def test_two_copies_of_one_transaction_are_one_transaction() -> None:
    """A client signs the same with its other key and hands the copies to different nodes."""
    from otcnode.simulation.workload import clients_of

    plan = replace(generate(2, Options(validators=4)), faults=(), second_key=True)
    work = tuple(
        replace(submission, twin_node=(submission.node + 1) % 4)
        for submission in plan.workload
        if isinstance(submission.act, plans.Deposit)
    )
    plan = replace(plan, workload=work)
    plans.check(plan)
    clients = clients_of(plan)
    assert len({client.transaction.raw for client in clients}) == 2 * len(work)
    assert len({client.transaction.id for client in clients}) == len(work)
    outcome = run(plan)
    assert outcome.violation is None
    assert outcome.summary.transactions == len(work)
    with pytest.raises(ConfigurationError, match="nobody can sign twice"):
        plans.check(replace(plan, second_key=False))


@pytest.mark.parametrize("field", ["window", "block_transactions_max", "rotation_blocks"])
def test_a_plan_whose_chain_could_do_nothing_is_refused(field: str) -> None:
    with pytest.raises(ConfigurationError, match=field):
        plans.check(msgspec.convert({**msgspec.to_builtins(generate(1)), field: 0}, Plan))

"""A link that stays cut for good between two who have to go on."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from otcnode.errors import ConfigurationError
from otcnode.simulation.generate import Options, Swarm, generate
from otcnode.simulation.plan import Crash, Cut, Plan, check
from otcnode.simulation.trace import Trace
from otcnode.simulation.world import World, run
from tests.simulation import report

SEVERED = Options(swarm=Swarm.SEVERED)


def cuts_of(plan: Plan) -> list[Cut]:
    return [fault for fault in plan.faults if isinstance(fault, Cut)]


@pytest.mark.parametrize("seed", range(1, 9))
def test_a_third_node_links_them(seed: int) -> None:
    plan = generate(seed, SEVERED)
    check(plan)
    outcome = run(plan)
    assert outcome.violation is None, report(plan, outcome)


@pytest.mark.long
@pytest.mark.parametrize("first", range(1, 401, 50))
def test_a_third_node_links_them_in_many_more_plans(first: int) -> None:
    for seed in range(first, first + 50):
        plan = generate(seed, SEVERED)
        outcome = run(plan)
        assert outcome.violation is None, report(plan, outcome)


def test_plans_vary_who_is_dead_and_who_is_cut() -> None:
    plans = [generate(seed, SEVERED) for seed in range(1, 80)]
    assert {plan.validators for plan in plans} == {4, 5, 6, 7}
    dead = [{fault.node for fault in plan.faults if isinstance(fault, Crash)} for plan in plans]
    assert {len(nodes) for nodes in dead} == {0, 1, 2}
    assert any(0 in nodes for nodes in dead)
    cuts = [(cut, set(plan.survivors)) for plan in plans for cut in cuts_of(plan)]
    assert all(cut.outlasts and {cut.sender, *cut.receivers} <= survivors for cut, survivors in cuts)


def test_the_heal_ends_all_cuts_but_those_that_outlast_it() -> None:
    plan = generate(1, SEVERED)
    one, other = cuts_of(plan)
    alone = next(node for node in plan.survivors if node not in (one.sender, other.sender))
    rest = tuple(node for node in range(plan.validators) if node != alone)
    passing = replace(one, id=99, sender=alone, receivers=rest, outlasts=False)
    lines: list[str] = []
    world = World(replace(plan, faults=(one, other, passing)), Trace(lines.append))
    world.run()
    healed = next(place for place, line in enumerate(lines) if "heals; survivors" in line)
    again = [line for line in lines[healed:] if "are connected" in line]
    ends = sorted((one.sender, other.sender))
    assert again
    assert not [line for line in again if f"n{ends[0]} and n{ends[1]} are connected" in line]


def test_nobody_is_asked_to_go_on_whom_nobody_links() -> None:
    plan = generate(1, SEVERED)
    first, *others = plan.survivors
    with pytest.raises(ConfigurationError, match="no survivor hears all the others"):
        check(replace(plan, faults=(replace(cuts_of(plan)[0], sender=first, receivers=tuple(others)),)))

"""Primaries that are alive and do not do their part are replaced; honest ones under load are not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial

import pytest
from msgspec.structs import replace

from otcnode.consensus.throughput import Throughput
from otcnode.engine.engine import Engine
from otcnode.simulation.censorship import RESCUED
from otcnode.simulation.generate import Options, Swarm, generate
from otcnode.simulation.plan import Deposit, Fault, Habit, Liar, Plan, Submission
from otcnode.simulation.trace import Trace
from otcnode.simulation.violation import Promise
from otcnode.simulation.workload import Client
from otcnode.simulation.world import World, run
from tests.simulation import report

WITNESS = 3
SLOW_FROM_MS = 15_000


class Closed(World):
    """Clients that each have one transaction under way at a time: client i submits deposits i, i + clients, …"""

    def __init__(self, plan: Plan, clients: int) -> None:
        super().__init__(plan, Trace(None))
        self._lanes = clients
        self._place = {client.transaction.id: place for place, client in enumerate(self._clients)}
        self.done_ms: dict[int, int] = {}
        """Place of a transaction in the workload, to when the witness committed it."""
        self.submitted_ms: dict[int, int] = {}

    def _submit(self, client: Client, index: int) -> None:
        place = self._place[client.transaction.id]
        if place < self._lanes or place - self._lanes in self.done_ms:
            self.submitted_ms.setdefault(place, self.scheduler.now_ms)
            super()._submit(client, index)

    def committed(self, node: int, height: int, transactions: Sequence[bytes]) -> None:
        super().committed(node, height, transactions)
        if node != WITNESS:
            return
        for transaction in transactions:
            place = self._place[transaction]
            self.done_ms[place] = self.scheduler.now_ms
            if place + self._lanes < len(self._clients):
                following = self._clients[place + self._lanes]
                self.scheduler.after(1, partial(self._submit, following, following.submission.node))

    def play(self, until_ms: int) -> None:
        if not self.scheduler.now_ms:
            self._schedule()
        if self.scheduler.now_ms < until_ms:
            self.scheduler.perform_until(until_ms)

    def engine(self, index: int) -> Engine:
        engine = self.node(index).engine
        assert engine is not None
        return engine

    def views(self) -> list[int]:
        return [self.engine(index).replica.state.view for index in range(self.plan.validators)]

    def per_second(self, first_ms: int, last_ms: int) -> float:
        return 1_000 * sum(first_ms <= at_ms < last_ms for at_ms in self.done_ms.values()) / (last_ms - first_ms)


def _plan(transactions: int, *faults: Fault, **options: object) -> Plan:
    workload = tuple(
        Submission(at_ms=100 + place % 97, node=place % 4, act=Deposit(investor=place % 4, amount=1 + place))
        for place in range(transactions)
    )
    return Plan(
        seed=1,
        validators=4,
        skews_ms=(0, 0, 0, 0),
        safety_ms=10_000_000,
        liveness_ms=1,
        survivors=(1, 2, 3),
        workload=workload,
        faults=faults,
        **options,  # type: ignore[arg-type]
    )


def test_a_primary_that_leaves_one_client_out_is_replaced() -> None:
    """While all others are served. Without the inclusion time-out that client waits for as long as they come: that is
    a planted bug."""
    plan = generate(1, Options(validators=4, swarm=Swarm.CENSORED))
    outcome = run(plan)
    assert outcome.violation is None, report(plan, outcome)
    assert outcome.summary.faults["censor"] == outcome.summary.marks[RESCUED] == 2
    assert outcome.summary.view_max == 1


def test_what_is_left_out_for_too_long_breaks_its_bound() -> None:
    plan = generate(1, Options(validators=4, swarm=Swarm.CENSORED))
    impatient = [replace(submission, within_ms=submission.within_ms and 4_000) for submission in plan.workload]
    violation = run(replace(plan, workload=tuple(impatient))).violation
    assert violation is not None and violation.promise is Promise.LIVENESS
    assert "is not final on n1, n2, n3 within 4000 ms" in violation.text


def _slow_primary(transactions: int) -> Closed:
    """Node 0, the first primary, says everything late, but just within the view timeout."""
    slow = Liar(id=1, at_ms=SLOW_FROM_MS, node=0, habit=Habit.SLOW, victims=(), late_ms=1_500, for_ms=10_000_000)
    return Closed(_plan(transactions, slow, delay_ms=(80, 100)), 8)


def test_throughput_comes_back_from_a_primary_just_below_its_timeout() -> None:
    world = _slow_primary(1_200)
    world.play(SLOW_FROM_MS + 35_000)
    healthy = world.per_second(5_000, SLOW_FROM_MS)
    assert world.per_second(SLOW_FROM_MS + 1_000, SLOW_FROM_MS + 5_000) < healthy / 4
    assert world.per_second(SLOW_FROM_MS + 30_000, SLOW_FROM_MS + 35_000) > healthy / 2
    assert min(world.views()) >= 1


@pytest.mark.long
def test_without_the_comparison_of_views_it_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Throughput, "_judge", lambda self, pace: None)
    world = _slow_primary(900)
    world.play(SLOW_FROM_MS + 20_000)
    healthy = world.per_second(5_000, SLOW_FROM_MS)
    assert world.per_second(SLOW_FROM_MS + 5_000, SLOW_FROM_MS + 20_000) < healthy / 4
    assert world.views() == [0] * 4


@pytest.mark.parametrize(("clients", "entries"), [(150, 4), (12, 4), (150, 1)])
def test_an_honest_primary_under_load_is_not_deposed(clients: int, entries: int) -> None:
    """With many clients and small, slow blocks everybody waits longer than the inclusion time-out; also where all of
    them hand in at the primary."""
    plan = _plan(900, block_transactions_max=4, window=1, delay_ms=(30, 60))
    handed_in = tuple(replace(submission, node=submission.node % entries) for submission in plan.workload)
    world = Closed(replace(plan, workload=handed_in), clients)
    world.play(40_000)
    waits = Counter(
        (at_ms - world.submitted_ms[place]) // 4_000 for place, at_ms in world.done_ms.items() if place >= clients
    )
    assert world.views() == [0] * 4
    assert len(world.done_ms) > 300
    assert (max(waits) >= 1) is (clients == 150)

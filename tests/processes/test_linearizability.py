"""Clients write and read through different nodes while nodes are killed, stand still and are cut off; what they saw
must have happened in one order.

What holds for which read: a transaction takes effect between its submission and its proven outcome. A read shows the
state of one height, always that of the one chain. With `min_height` at least the greatest height that anybody has been
shown before, by an outcome or a read, it is linearizable. Without, it may be old, as a node that is behind is.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest

from otcnode import localnet
from otcnode.bench import workload
from otcnode.client import ClientError
from otcnode.client.client import Client
from otcnode.crypto import SigningKey, sha256
from otcnode.genesis import (
    ChainParameters,
    GenesisAccount,
    GenesisKey,
    KeyPurpose,
    Role,
    genesis_account_id,
)
from otcnode.localnet import Cluster
from otcnode.rpc import format as form
from otcnode.rpc.accounts import PositionsParams, PositionsResult
from otcnode.vm.accounts.operations import CashDeposit
from tests.processes import cluster as daemons
from tests.processes.history import Kind, Operation, contradictions
from tests.processes.relays import Relays
from tests.processes.test_operations import otcnode

pytestmark = pytest.mark.process

AUDITOR, AUDITOR_KEY = "auditor", SigningKey(sha256(b"the auditor of the test"))
HOLDERS = ("holder0", "holder1")
CASH = "CNY@BENCH0"
PATIENCE_MS = 60_000
LONG_S = 30.0


def cluster_of(directory: Path, base_port: int) -> Cluster:
    auditor = GenesisAccount(
        name=AUDITOR,
        organisation="Audit",
        roles=(Role.AUDITOR,),
        keys=(GenesisKey(purpose=KeyPurpose.TRADE, key=AUDITOR_KEY.public),),
    )
    localnet.create(
        localnet.Plan(
            directory=directory,
            validators=4,
            base_port=base_port,
            accounts=(*workload.accounts()[:20], auditor),
            cash=workload.cash(),
            parameters=ChainParameters(state_buckets=256, max_transaction_ttl_ms=daemons.TTL_MS),
            view_timeout_ms=1_000,
        )
    )
    return Cluster(directory)


class Fault(NamedTuple):
    """What befalls a node that is chosen by chance."""

    kind: Literal["kill", "pause", "cut"]
    lasts_s: float


@dataclass
class Run:
    """What several clients do, and what they saw."""

    cluster: Cluster
    chance: random.Random
    history: list[Operation] = field(default_factory=list)
    seen: list[tuple[str, int, int]] = field(default_factory=list)
    """(holder, height, balance) of reads that asked for no height."""
    height: int = 0
    """The greatest that anybody has been shown."""
    faults: list[str] = field(default_factory=list)
    stopped: bool = False

    async def write(self, index: int) -> None:
        urls = self.cluster.urls
        key = SigningKey(b"otcnode bench custodian" + bytes(9))
        async with Client(urls[index:] + urls[:index], self.cluster.genesis) as client:
            number = 0
            while not self.stopped:
                number += 1
                holder, amount = self.chance.choice(HOLDERS), self.chance.randint(1, 9)
                deposit = CashDeposit(genesis_account_id(holder), CASH, amount, f"{index}-{number}")
                transaction = client.sign(client.build(genesis_account_id("custodian0"), [deposit]), [key])
                began = time.monotonic()
                outcome = await client.execute(transaction, PATIENCE_MS)
                self.height = max(self.height, outcome.height)
                self.history.append(Operation(holder, Kind.ADD, amount, began, time.monotonic()))
                await asyncio.sleep(self.chance.uniform(0, 0.2))

    async def read(self, *, recent: bool) -> None:
        clients = [Client([url], self.cluster.genesis) for url in self.cluster.urls]
        for client in clients:
            await client.__aenter__()
            client.identify(genesis_account_id(AUDITOR), AUDITOR_KEY)
        try:
            while not self.stopped:
                holder, began = self.chance.choice(HOLDERS), time.monotonic()
                floor = self.height if recent else None
                result = await self._read_somewhere(clients, holder, floor)
                if result is not None:
                    self._note(holder, result, began, recent)
                await asyncio.sleep(self.chance.uniform(0, 0.2))
        finally:
            for client in clients:
                await client.__aexit__(None, None, None)

    async def _read_somewhere(self, clients: list[Client], holder: str, floor: int | None) -> PositionsResult | None:
        """At a node chosen by chance; None if it is down, stands still or is behind."""
        params = PositionsParams(form.account(genesis_account_id(holder)), min_height=floor)
        try:
            async with asyncio.timeout(2):
                return await self.chance.choice(clients).call("account_positions", params, PositionsResult)
        except (ClientError, TimeoutError):
            return None

    def _note(self, holder: str, result: PositionsResult, began: float, recent: bool) -> None:
        balance = balance_in(result)
        if recent:
            self.history.append(Operation(holder, Kind.READ, balance, began, time.monotonic()))
            self.height = max(self.height, result.height)
        else:
            self.seen.append((holder, result.height, balance))

    async def disturb(self, relays: Relays, plan: Sequence[Fault]) -> None:
        """One fault after another."""
        for fault in plan:
            name = self.chance.choice(self.cluster.members).name
            self.faults.append(f"{fault.kind} {name} {fault.lasts_s:.0f} s")
            if fault.kind == "kill":
                await asyncio.to_thread(self.cluster.kill, name)
                await asyncio.sleep(fault.lasts_s)
                self.cluster.start(name)
            elif fault.kind == "pause":
                self.cluster.signal(name, signal.SIGSTOP)
                await self._lasts(fault, name, "pause")
                self.cluster.signal(name, signal.SIGCONT)
            else:
                relays.cut([name])
                await self._lasts(fault, name, "cut")
                relays.mend()
            await asyncio.sleep(self.chance.uniform(0, 1))
        self.stopped = True

    async def _lasts(self, fault: Fault, name: str, kind: str) -> None:
        """A long one is explained at its end, from every side; the others went on meanwhile."""
        if fault.lasts_s < LONG_S:
            await asyncio.sleep(fault.lasts_s)
            return
        before = len(self.history)
        await asyncio.sleep(fault.lasts_s)
        assert len(self.history) > before + fault.lasts_s, "nothing goes on beside a node that is away"
        await asyncio.to_thread(explained, self.cluster, name, kind)


def explained(cluster: Cluster, away: str, kind: str) -> None:
    """The command line names who is away: the others say so together, and the one that is cut off says so itself."""
    others = [member.name for member in cluster.members if member.name != away]

    def conclusion(*names: str) -> dict[str, Any]:
        urls = [part for name in names for part in ("--url", cluster.member(name).url)]
        return dict(json.loads(otcnode("explain", "--json", *urls))["conclusion"])

    majority = conclusion(*others)
    assert majority["goes_on"], majority
    assert majority["nodes"] == {away: f"is not heard by {others[0]}, {others[1]} and {others[2]}"}, majority
    if kind == "cut":
        alone = conclusion(away)
        assert not alone["goes_on"] and set(alone["nodes"]) >= set(others), alone
        everybody = conclusion(away, *others)
        assert everybody["goes_on"] and everybody["nodes"] == majority["nodes"], everybody


def balance_in(result: PositionsResult) -> int:
    return next((int(entry.balance) for entry in result.cash if entry.cash == CASH), 0)


async def states_at(cluster: Cluster, seen: set[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """What the final chain says of these holders at these heights."""
    async with Client(cluster.urls, cluster.genesis) as client:
        client.identify(genesis_account_id(AUDITOR), AUDITOR_KEY)
        found = {}
        for holder, height in sorted(seen):
            params = PositionsParams(form.account(genesis_account_id(holder)), at_height=height)
            found[holder, height] = balance_in(await client.call("account_positions", params, PositionsResult))
        return found


async def play(run: Run, relays: Relays, plan: Sequence[Fault]) -> None:
    async with relays:
        await asyncio.to_thread(run.cluster.start_all)
        await asyncio.to_thread(run.cluster.wait_ready)
        async with asyncio.TaskGroup() as group:
            for index in range(3):
                group.create_task(run.write(index))
            for recent in (True, True, False):
                group.create_task(run.read(recent=recent))
            group.create_task(run.disturb(relays, plan))
        await asyncio.to_thread(run.cluster.wait_ready)
        final = await states_at(run.cluster, {(holder, height) for holder, height, _ in run.seen})
        await asyncio.to_thread(run.cluster.stop_all)
    for holder, height, balance in run.seen:
        assert final[holder, height] == balance, f"{holder} at height {height}"


def short_faults(rounds: int) -> list[Fault]:
    return [Fault(kind, lasts_s) for _ in range(rounds) for kind, lasts_s in (("kill", 1), ("pause", 3), ("cut", 2))]


LONG_PLAN = [
    *short_faults(3),
    Fault("cut", 130),
    *short_faults(2),
    Fault("pause", 65),
    *short_faults(2),
    Fault("kill", 60),
    *short_faults(2),
]


@pytest.mark.parametrize(
    "plan", [pytest.param(short_faults(1), id="seconds"), pytest.param(LONG_PLAN, id="minutes", marks=pytest.mark.long)]
)
def test_what_clients_see_happened_in_one_order(tmp_path: Path, plan: list[Fault]) -> None:
    base_port = daemons.free_ports(8 + 12)
    with cluster_of(tmp_path / "net", base_port) as cluster:
        run = Run(cluster, random.Random(len(plan)))
        asyncio.run(play(run, Relays(cluster, base_port + 8), plan))
    kinds = [sum(operation.kind is kind for operation in run.history) for kind in Kind]
    print(f"{kinds[0]} deposits, {kinds[1]} linearizable reads, {len(run.seen)} others; {', '.join(run.faults)}")
    assert kinds[0] > 10 and kinds[1] > 10 and run.seen and len(run.faults) == len(plan)
    assert contradictions(run.history) == []
    _, roots = daemons.audit(cluster, [])
    assert all(len(seen) == 1 for seen in roots.values())

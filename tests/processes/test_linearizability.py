"""Clients write and read through different nodes while nodes are killed, stand still and are cut off; what they saw
must have happened in one order.

What holds for which read: a transaction takes effect between its submission and its proven outcome. A read shows the
state of one height, always that of the one chain. With `min_height` at least the greatest height that anybody has been
shown before, by an outcome or a read, it is linearizable. Without, it may be old, as a node that is behind is.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

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

pytestmark = pytest.mark.process

AUDITOR, AUDITOR_KEY = "auditor", SigningKey(sha256(b"the auditor of the test"))
HOLDERS = ("holder0", "holder1")
CASH = "CNY@BENCH0"
PATIENCE_MS = 60_000


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

    async def disturb(self, relays: Relays, seconds: float) -> None:
        """One node after another is killed, stands still or is cut off, each for a few seconds."""
        ends = time.monotonic() + seconds
        kinds = ("kill", "pause", "cut")
        while time.monotonic() < ends:
            kind, name = kinds[len(self.faults) % 3], self.chance.choice(self.cluster.members).name
            self.faults.append(f"{kind} {name}")
            lasts_s = self.chance.uniform(1, 3)
            if kind == "kill":
                await asyncio.to_thread(self.cluster.kill, name)
                await asyncio.sleep(lasts_s)
                self.cluster.start(name)
            elif kind == "pause":
                self.cluster.signal(name, signal.SIGSTOP)
                await asyncio.sleep(lasts_s)
                self.cluster.signal(name, signal.SIGCONT)
            else:
                relays.cut([name])
                await asyncio.sleep(lasts_s)
                relays.mend()
            await asyncio.sleep(self.chance.uniform(0, 1))
        self.stopped = True


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


async def play(run: Run, relays: Relays, seconds: float) -> None:
    async with relays:
        await asyncio.to_thread(run.cluster.start_all)
        await asyncio.to_thread(run.cluster.wait_ready)
        async with asyncio.TaskGroup() as group:
            for index in range(3):
                group.create_task(run.write(index))
            for recent in (True, True, False):
                group.create_task(run.read(recent=recent))
            group.create_task(run.disturb(relays, seconds))
        await asyncio.to_thread(run.cluster.wait_ready)
        final = await states_at(run.cluster, {(holder, height) for holder, height, _ in run.seen})
        await asyncio.to_thread(run.cluster.stop_all)
    for holder, height, balance in run.seen:
        assert final[holder, height] == balance, f"{holder} at height {height}"


@pytest.mark.parametrize("seconds", [12, pytest.param(240, marks=pytest.mark.long)])
def test_what_clients_see_happened_in_one_order(tmp_path: Path, seconds: float) -> None:
    base_port = daemons.free_ports(8 + 12)
    with cluster_of(tmp_path / "net", base_port) as cluster:
        run = Run(cluster, random.Random(int(seconds)))
        asyncio.run(play(run, Relays(cluster, base_port + 8), seconds))
    kinds = [sum(operation.kind is kind for operation in run.history) for kind in Kind]
    print(f"{kinds[0]} deposits, {kinds[1]} linearizable reads, {len(run.seen)} others; {', '.join(run.faults)}")
    assert kinds[0] > 10 and kinds[1] > 10 and run.seen and len(run.faults) >= 3
    assert contradictions(run.history) == []
    _, roots = daemons.audit(cluster, [])
    assert all(len(seen) == 1 for seen in roots.values())

"""Clients write and read through different nodes while nodes are killed, stand still and are cut off, one or two of
four at a time; what they saw must have happened in one order.

What holds for which read: a transaction takes effect between its submission and its proven outcome. A read shows the
state of one height, always that of the one chain. With `min_height` at least the greatest height that anybody has been
shown before, by an outcome or a read, it is linearizable. Without, it may be old, as a node that is behind is; but one
node never goes back. A client that gives up knows nothing: what it began may happen any time later, or never.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest

from otcnode import localnet
from otcnode.bench import workload
from otcnode.client import ClientError, RpcFailure, TransactionRefused
from otcnode.client.client import Client
from otcnode.crypto import SigningKey, sha256
from otcnode.errors import Code
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
from otcnode.rpc.chain import ChainParamsResult
from otcnode.rpc.method import ReadParams
from otcnode.rpc.service import Stage
from otcnode.vm.accounts.operations import CashDeposit, CashWithdraw, CashWithdrawCancel, CashWithdrawResult
from otcnode.vm.context import created_id
from otcnode.vm.operations import Operation as LedgerOperation
from otcnode.vm.transactions import Decoded
from tests.processes import cluster as daemons
from tests.processes.cash import Action, Cancel, Cash, Deposit, Pay, Read, Withdraw
from tests.processes.history import Operation, Place, against_heights, contradictions, goes_back
from tests.processes.relays import Relays
from tests.processes.test_operations import otcnode

pytestmark = pytest.mark.process

AUDITOR = "auditor"
CUSTODIAN, CUSTODIAN_KEY = "custodian0", SigningKey(b"otcnode bench custodian" + bytes(9))
HOLDERS = tuple(f"investor{index}" for index in range(6))
CASH = "CNY@BENCH0"
LONG_S = 30.0
GOES_ON_S = 60.0


class Habit(NamedTuple):
    """How long a client waits for an outcome, and how long what it sends is valid."""

    patience_s: float
    ttl_ms: int | None = None


WRITERS = (Habit(4), Habit(4), Habit(4), Habit(150), Habit(150, 15_000))
"""Those who give up soon, one who waits for everything, and one whose transactions do not outlive a lost quorum."""


def key_of(name: str) -> SigningKey:
    return SigningKey(sha256(name.encode()))


def cluster_of(directory: Path, base_port: int) -> Cluster:
    def account(name: str, role: Role) -> GenesisAccount:
        key = GenesisKey(purpose=KeyPurpose.TRADE, key=key_of(name).public)
        return GenesisAccount(name=name, organisation=name, roles=(role,), keys=(key,))

    investors = [account(name, Role.INVESTOR) for name in HOLDERS]
    localnet.create(
        localnet.Plan(
            directory=directory,
            validators=4,
            base_port=base_port,
            accounts=(workload.accounts()[0], *investors, account(AUDITOR, Role.AUDITOR)),
            cash=workload.cash()[:1],
            parameters=ChainParameters(state_buckets=256, max_transaction_ttl_ms=daemons.TTL_MS),
            view_timeout_ms=1_000,
        )
    )
    return Cluster(directory)


class Fault(NamedTuple):
    """What befalls so many nodes that are chosen by chance. Those that are cut hear nobody, those that are parted from
    the others still hear each other."""

    kind: Literal["kill", "pause", "cut", "part"]
    lasts_s: float
    nodes: int = 1

    @property
    def stops_everything(self) -> bool:
        return self.nodes > 1


@dataclass
class Run:
    """What several clients do, and what they saw."""

    cluster: Cluster
    chance: random.Random
    written: list[tuple[bytes, Operation]] = field(default_factory=list)
    """With the ids of the transactions."""
    read: list[tuple[str, Operation]] = field(default_factory=list)
    """Reads for the latest, with the nodes that answered."""
    read_old: list[tuple[str, Operation]] = field(default_factory=list)
    """Reads that asked for no height."""
    never: list[bytes] = field(default_factory=list)
    """Transactions that, as a node said, will certainly never happen."""
    withdrawals: dict[str, list[bytes]] = field(default_factory=lambda: {name: [] for name in HOLDERS})
    height: int = 0
    """The greatest that anybody has been shown."""
    news: asyncio.Event = field(default_factory=asyncio.Event)
    """Somebody has been shown a greater height."""
    faults: list[str] = field(default_factory=list)
    stopped: bool = False

    def show(self, height: int) -> None:
        if height > self.height:
            self.height = height
            self.news.set()

    async def write(self, index: int, habit: Habit) -> None:
        first = index % len(self.cluster.urls)
        urls = self.cluster.urls[first:] + self.cluster.urls[:first]
        async with Client(urls, self.cluster.genesis) as client:
            number = 0
            while not self.stopped:
                number += 1
                holder = self.chance.choice(HOLDERS)
                action, transaction = self._something(client, holder, f"{index}-{number}", habit)
                began = time.monotonic()
                answer, height = await outcome_of(client, transaction, habit.patience_s)
                if answer is None and habit.ttl_ms is not None:
                    answer = await expired(client, transaction.id, habit.patience_s)
                self.show(height)
                if answer is Code.TX_EXPIRED:
                    self.never.append(transaction.id)
                    continue
                row = Operation(holder, action, answer, began, *(() if answer is None else (time.monotonic(),)))
                self.written.append((transaction.id, row))
                await asyncio.sleep(2 if answer is None else self.chance.uniform(0, 0.2))

    def _something(self, client: Client, holder: str, reference: str, habit: Habit) -> tuple[Action, Decoded]:
        """A withdrawal is soon ended, by the custodian or by the holder, perhaps by both at once and perhaps before
        anybody knows whether there is one."""
        chance, account = self.chance, genesis_account_id(holder)

        def signed(name: str, key: SigningKey, operation: LedgerOperation) -> Decoded:
            body = client.build(genesis_account_id(name), [operation], ttl_ms=habit.ttl_ms)
            return client.sign(body, [key])

        kind = chance.choice(("deposit", "deposit", "withdraw", "withdraw", "withdraw", "pay", "cancel"))
        amount = chance.randint(1, 12)
        if kind == "withdraw":
            transaction = signed(holder, key_of(holder), CashWithdraw(CASH, amount, bytes(32)))
            name = created_id(transaction.id, 0)
            self.withdrawals[holder].append(name)
            return Withdraw(name.hex(), amount), transaction
        if kind == "deposit" or not self.withdrawals[holder]:
            return Deposit(amount), signed(CUSTODIAN, CUSTODIAN_KEY, CashDeposit(account, CASH, amount, reference))
        name = chance.choice(self.withdrawals[holder][-3:])
        if kind == "cancel":
            return Cancel(name.hex()), signed(holder, key_of(holder), CashWithdrawCancel(name))
        return Pay(name.hex()), signed(CUSTODIAN, CUSTODIAN_KEY, CashWithdrawResult(name, True, reference, ""))

    async def look(self, *, recent: bool) -> None:
        clients = {member.name: Client([member.url], self.cluster.genesis) for member in self.cluster.members}
        for client in clients.values():
            await client.__aenter__()
            client.identify(genesis_account_id(AUDITOR), key_of(AUDITOR))
        try:
            while not self.stopped:
                node, holder = self.chance.choice([*clients]), self.chance.choice(HOLDERS)
                began = time.monotonic()
                result = await positions(clients[node], holder, min_height=self.height if recent else None)
                if result is not None:
                    row = Operation(
                        holder, Read(), cash_in(result), began, time.monotonic(), Place.of_read(result.height)
                    )
                    (self.read if recent else self.read_old).append((node, row))
                    if recent:
                        self.show(result.height)
                await asyncio.sleep(self.chance.uniform(0, 0.2))
        finally:
            for client in clients.values():
                await client.__aexit__(None, None, None)

    async def disturb(self, relays: Relays, plan: Sequence[Fault]) -> None:
        """One fault after another."""
        for fault in plan:
            names = self.chance.sample([member.name for member in self.cluster.members], fault.nodes)
            await self._begin(relays, fault, names)
            if fault.stops_everything:
                await self._stands_still(fault, names)
            else:
                await self._goes_on_beside(fault, names[0])
            self._end(relays, fault, names)
            again_s = await self._goes_on() if fault.stops_everything else 0.0
            self.faults.append(f"{fault.kind} {' and '.join(names)} {fault.lasts_s:.0f} s (+{again_s:.1f})")
            await asyncio.sleep(self.chance.uniform(0, 1))
        self.stopped = True

    async def _begin(self, relays: Relays, fault: Fault, names: list[str]) -> None:
        if fault.kind == "cut":
            relays.cut(names)
        elif fault.kind == "part":
            relays.part(names)
        for name in names:
            if fault.kind == "kill":
                await asyncio.to_thread(self.cluster.kill, name)
            elif fault.kind == "pause":
                self.cluster.signal(name, signal.SIGSTOP)

    def _end(self, relays: Relays, fault: Fault, names: list[str]) -> None:
        relays.mend()
        for name in names:
            if fault.kind == "kill":
                self.cluster.start(name)
            elif fault.kind == "pause":
                self.cluster.signal(name, signal.SIGCONT)

    async def _stands_still(self, fault: Fault, names: list[str]) -> None:
        """Without a quorum nothing that is begun is decided; of what was begun before, an answer may still be on its
        way. A long fault is explained at its end by whoever answers."""
        lost = time.monotonic()
        await asyncio.sleep(fault.lasts_s)
        if fault.lasts_s >= LONG_S:
            silent = names if fault.kind in ("kill", "pause") else []
            others = [member.name for member in self.cluster.members if member.name not in silent]
            told = await asyncio.to_thread(conclusion, self.cluster, others)
            assert not told["goes_on"] and set(told["nodes"]) >= set(silent), told
        decided = [row for _, row in self.written if row.began > lost and row.answer is not None]
        assert decided == [], f"without a quorum, while {names} are away"

    async def _goes_on(self) -> float:
        """How long it takes until somebody is shown a block that was decided after all can hear each other again."""
        began, before = time.monotonic(), self.height
        async with asyncio.timeout(GOES_ON_S):
            while self.height <= before + 1:
                self.news.clear()
                await self.news.wait()
        return time.monotonic() - began

    async def _goes_on_beside(self, fault: Fault, name: str) -> None:
        """A long one is explained at its end, from every side; the others went on meanwhile."""
        before = self._answered
        await asyncio.sleep(fault.lasts_s)
        if fault.lasts_s >= LONG_S:
            assert self._answered > before + fault.lasts_s, "nothing goes on beside a node that is away"
            await asyncio.to_thread(explained, self.cluster, name, fault.kind)

    @property
    def _answered(self) -> int:
        return sum(row.answer is not None for _, row in self.written)

    async def place(self) -> None:
        """Where the chain holds what was written, as a node says at the end. What clients were told is there as they
        were told it, what will never happen is not."""
        async with Client(self.cluster.urls, self.cluster.genesis) as client:
            await client.call("chain_params", ReadParams(min_height=self.height), ChainParamsResult)
            names = [name for name, _ in self.written]
            for index, state in enumerate(await client.wait_many(names, 0)):
                assert not isinstance(state, RpcFailure), state
                name, row = self.written[index]
                assert row.answer in (None, state.code), (row, state)
                if state.height is not None and state.index is not None and (row.answer or state.code is Code.OK):
                    self.written[index] = (name, replace(row, place=Place(state.height, state.index)))
            for state in await client.wait_many(self.never, 0):
                assert not isinstance(state, RpcFailure) and state.state is not Stage.COMMITTED, state

    @property
    def history(self) -> list[Operation]:
        return [row for _, row in (*self.written, *self.read)]

    def told(self) -> Counter[str]:
        """How often a client was told what."""
        told = Counter(f"{type(row.action).__name__} {row.answer}" for _, row in self.written)
        told["unknown, and happened"] = sum(row.answer is None and row.place is not None for _, row in self.written)
        told["never"] = len(self.never)
        return told


async def outcome_of(client: Client, transaction: Decoded, patience_s: float) -> tuple[Code | None, int]:
    """What the client learns, None if nothing that lasts, and the height that this shows it."""
    try:
        async with asyncio.timeout(patience_s):
            outcome = await client.execute(transaction, int(patience_s * 1_000))
    except TransactionRefused as refused:
        return (Code(refused.code), refused.height or 0) if refused.definite else (None, 0)
    except (ClientError, TimeoutError):
        return None, 0
    return Code.OK, outcome.height


async def expired(client: Client, transaction: bytes, patience_s: float) -> Code | None:
    """What a node says once a final block's time is past the validity of a transaction that it knows; else None."""
    with suppress(TimeoutError):
        async with asyncio.timeout(patience_s):
            while True:
                with suppress(ClientError):
                    state = await client.transaction(transaction)
                    if state.definite and state.state is Stage.EXPIRED:
                        return Code.TX_EXPIRED
                await asyncio.sleep(0.5)
    return None


async def positions(client: Client, holder: str, *, min_height: int | None) -> PositionsResult | None:
    """None if the node is down, stands still or is behind."""
    params = PositionsParams(form.account(genesis_account_id(holder)), min_height=min_height)
    try:
        async with asyncio.timeout(2):
            return await client.call("account_positions", params, PositionsResult)
    except (ClientError, TimeoutError):
        return None


def cash_in(result: PositionsResult) -> Cash:
    shown = [Cash(int(entry.available), int(entry.locked)) for entry in result.cash if entry.cash == CASH]
    return shown[0] if shown else Cash(0, 0)


def conclusion(cluster: Cluster, names: Sequence[str]) -> dict[str, Any]:
    """What the command line makes of these nodes' answers."""
    urls = [part for name in names for part in ("--url", cluster.member(name).url)]
    return dict(json.loads(otcnode("explain", "--json", *urls))["conclusion"])


def explained(cluster: Cluster, away: str, kind: str) -> None:
    """The command line names who is away: the others say so together, and the one that is cut off says so itself."""
    others = [member.name for member in cluster.members if member.name != away]
    majority = conclusion(cluster, others)
    assert majority["goes_on"], majority
    assert majority["nodes"] == {away: f"is not heard by {others[0]}, {others[1]} and {others[2]}"}, majority
    if kind == "cut":
        alone = conclusion(cluster, [away])
        assert not alone["goes_on"] and set(alone["nodes"]) >= set(others), alone
        everybody = conclusion(cluster, [away, *others])
        assert everybody["goes_on"] and everybody["nodes"] == majority["nodes"], everybody


async def states_at(cluster: Cluster, seen: set[tuple[str, int]]) -> dict[tuple[str, int], Cash]:
    """What the final chain says of these holders at these heights."""
    async with Client(cluster.urls, cluster.genesis) as client:
        client.identify(genesis_account_id(AUDITOR), key_of(AUDITOR))
        found = {}
        for holder, height in sorted(seen):
            params = PositionsParams(form.account(genesis_account_id(holder)), at_height=height)
            found[holder, height] = cash_in(await client.call("account_positions", params, PositionsResult))
        return found


async def play(run: Run, relays: Relays, plan: Sequence[Fault]) -> None:
    async with relays:
        await asyncio.to_thread(run.cluster.start_all)
        await asyncio.to_thread(run.cluster.wait_ready)
        async with asyncio.TaskGroup() as group:
            for index, habit in enumerate(WRITERS):
                group.create_task(run.write(index, habit))
            for recent in (True, True, False):
                group.create_task(run.look(recent=recent))
            group.create_task(run.disturb(relays, plan))
        await asyncio.to_thread(run.cluster.wait_ready)
        await run.place()
        seen = {(row.key, row.place.height): row.answer for _, row in run.read_old if row.place is not None}
        assert await states_at(run.cluster, set(seen)) == seen
        await asyncio.to_thread(run.cluster.stop_all)


def short_faults(rounds: int) -> list[Fault]:
    one = [Fault("kill", 1), Fault("pause", 3), Fault("cut", 2)]
    return one * rounds


LONG_PLAN = [
    *short_faults(2),
    Fault("pause", 65, 2),
    Fault("cut", 130),
    *short_faults(1),
    Fault("part", 65, 2),
    Fault("pause", 65),
    *short_faults(1),
    Fault("cut", 65, 2),
    Fault("kill", 60),
    *short_faults(1),
    Fault("kill", 31, 2),
]


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param([*short_faults(1), Fault("pause", 10, 2)], id="seconds"),
        pytest.param(LONG_PLAN, id="minutes", marks=pytest.mark.long),
    ],
)
def test_what_clients_see_happened_in_one_order(tmp_path: Path, plan: list[Fault]) -> None:
    base_port = daemons.free_ports(8 + 12)
    with cluster_of(tmp_path / "net", base_port) as cluster:
        run = Run(cluster, random.Random(len(plan)))
        asyncio.run(play(run, Relays(cluster, base_port + 8), plan))
    told = run.told()
    print(f"{len(run.read)} linearizable reads, {len(run.read_old)} others; {dict(told)}; {', '.join(run.faults)}")
    assert contradictions(run.history) == []
    assert against_heights(run.history, [row for _, row in run.read_old]) == []
    assert goes_back([*run.read, *run.read_old]) == []
    _, roots = daemons.audit(cluster, [])
    assert all(len(seen) == 1 for seen in roots.values())
    assert len(run.read) > 10 and run.read_old and len(run.faults) == len(plan)
    happened = ("Deposit OK", "Withdraw OK", "Withdraw E_LACK_CASH", "unknown, and happened")
    ended = ("Pay OK", "Pay E_STATE", "Cancel OK", "Cancel E_STATE", "never") if plan is LONG_PLAN else ()
    assert all(told[name] for name in (*happened, *ended)), told

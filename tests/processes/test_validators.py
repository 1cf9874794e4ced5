"""Validators change while real daemons decide under load: what the operations guide says, by its commands.

4 → 5 → 4 and a rotation of keys. Nobody is restarted for it, and traffic never stops.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from otcnode import localnet
from otcnode.bench import workload
from otcnode.client.client import Client
from otcnode.demo.cast import KEYS_DIRECTORY, PASSPHRASE, new_cast
from otcnode.genesis import ChainParameters
from otcnode.localnet import Cluster
from otcnode.vm.transactions import decode_transaction
from tests.processes import cluster as daemons
from tests.processes.test_operations import otcnode

pytestmark = pytest.mark.process

PATIENCE_S = 60.0


class Council:
    """A cluster whose REGULATOR and RECOVERY desk decide on the command line."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        cast = new_cast(directory)
        localnet.create(
            localnet.Plan(
                directory=directory,
                validators=4,
                base_port=daemons.free_ports(8),
                accounts=(*workload.accounts()[:20], *cast.accounts),
                cash=(*workload.cash(), *cast.cash),
                parameters=ChainParameters(state_buckets=256, max_transaction_ttl_ms=daemons.TTL_MS),
                view_timeout_ms=1_000,
            )
        )
        (directory / KEYS_DIRECTORY / "passphrase").write_bytes(PASSPHRASE)
        self.cluster = Cluster(directory)
        self.genesis = self.cluster.members[0].home.genesis

    def act(self, who: str, *command: str, code: int = 0) -> dict[str, Any]:
        keys = self.directory / KEYS_DIRECTORY
        urls = [part for member in self.cluster.members[:4] for part in ("--url", member.url)]
        printed = otcnode(
            "governance", *command, "--genesis", str(self.genesis), "--account", who,
            "--keys", str(keys / f"{who}.json"), "--passphrase-file", str(keys / "passphrase"), "--json", *urls,
            code=code,
        )  # fmt: skip
        return json.loads(printed) if printed else {}

    def decide(self, *command: str) -> dict[str, Any]:
        """Proposed by one, approved by the other as soon as that is possible: a joiner has to say first that it is
        ready."""
        name = str(self.act("REGULATOR", "propose", *command, "--reason", "as agreed")["proposal"])
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self.act("RECOVERY", "approve", name)
            except AssertionError:
                assert time.monotonic() < deadline
                time.sleep(0.2)

    def home(self, name: str) -> tuple[str, str]:
        """A home for a new node; its id and its address."""
        base = daemons.free_ports(2)
        node = otcnode("init", "--home", str(self.directory / name), "--name", name)
        p2p, rpc = f"127.0.0.1:{base}", f"127.0.0.1:{base + 1}"
        self.finish = lambda: otcnode(
            "init", "--home", str(self.directory / name), "--name", name, "--genesis", str(self.genesis), "--joining",
            "--p2p", p2p, "--rpc", rpc,
        )  # fmt: skip
        return node, p2p

    def run(self, name: str) -> None:
        self.finish()
        self.cluster.members = localnet.members(self.directory)
        self.cluster.start(name)
        self.cluster.wait_ready([name])

    def ask(self, name: str, method: str) -> dict[str, Any]:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": {}}).encode()
        request = urllib.request.Request(self.cluster.member(name).url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as response:
            return dict(json.load(response)["result"])

    def status(self, name: str) -> dict[str, Any]:
        return self.ask(name, "node_status")

    def until(self, name: str, condition: Callable[[dict[str, Any]], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition(self.status(name)):
            assert time.monotonic() < deadline, f"{name}: {self.status(name)}"
            time.sleep(0.1)


@contextmanager
def traffic(council: Council) -> Iterator[Callable[[int], None]]:
    """Deposits one after another, from several clients at the first four nodes. Yields a function that waits for so
    many more of them to be proven final; leaving it stops the clients."""
    cluster = council.cluster
    raws = daemons.deposits(cluster, 5_000)
    final: list[bytes] = []
    stop = threading.Event()
    urls = cluster.urls

    async def client(first: int) -> None:
        async with Client(urls[first:] + urls[:first], cluster.genesis) as connection:
            for raw in raws[first::4]:
                if stop.is_set():
                    return
                final.append((await connection.execute(decode_transaction(raw), timeout_ms=90_000)).id)
                # A newcomer has all these blocks to catch up with.
                await asyncio.sleep(0.2)

    async def clients() -> None:
        async with asyncio.TaskGroup() as group:
            for first in range(4):
                group.create_task(client(first))

    thread = threading.Thread(target=lambda: asyncio.run(clients()))
    thread.start()

    def more(count: int) -> None:
        wanted, deadline = len(final) + count, time.monotonic() + PATIENCE_S
        while len(final) < wanted:
            assert thread.is_alive() and time.monotonic() < deadline, "no progress"
            time.sleep(0.02)

    try:
        yield more
    finally:
        stop.set()
        thread.join(PATIENCE_S)
    assert not thread.is_alive()


def agree(council: Council, *names: str) -> None:
    """The nodes reach one height, and the stores of all hold the same states."""
    target = council.status(names[0])["height"]
    for name in names:
        council.until(name, lambda status: status["height"] >= target)
    council.cluster.stop_all()
    _, roots = daemons.audit(council.cluster, [])
    assert all(len(seen) == 1 for seen in roots.values()), "state roots differ"


def votes(status: dict[str, Any]) -> bool:
    return bool(status["validator"]) and status["mode"] == "active"


def kill_and_start(council: Council, name: str, more: Callable[[int], None]) -> None:
    """The others go on without it, which with four of five means that every other one votes."""
    council.cluster.kill(name)
    more(5)
    council.cluster.start(name)
    council.cluster.wait_ready([name])


def test_a_fifth_validator_joins_and_the_first_leaves_under_load(tmp_path: Path) -> None:
    council = Council(tmp_path / "net")
    with council.cluster as cluster:
        cluster.start_all()
        cluster.wait_ready()
        with traffic(council) as more:
            more(5)
            ids = [council.status(member.name)["node"] for member in cluster.members]
            node5, address = council.home("node5")
            council.decide("admit", node5, "--name", "node5", "--organisation", "Fifth Bank", "--address", address)
            council.run("node5")
            council.decide("validator-set", *ids, node5)
            kinds = [entry["kind"] for entry in council.act("REGULATOR", "list")["proposals"]]
            assert kinds == ["NODE_ADMIT", "VALIDATOR_SET"]
            council.until("node5", votes)
            kill_and_start(council, "node4", more)
            council.decide("validator-set", *ids[1:], node5)
            council.until("node1", lambda status: not status["validator"])
            more(10)
            council.until("node1", lambda status: status["synced"] and status["peers_connected"] == 4)
            while "it may be stopped" not in council.ask("node1", "node_explain")["text"]:
                more(1)
            council.decide("turn-away", ids[0])
            council.until("node1", lambda status: status["peers_connected"] == 0)
            more(5)
        agree(council, "node2", "node3", "node4", "node5")


@pytest.mark.long
def test_a_validator_changes_its_key_and_the_parameters_change_under_load(tmp_path: Path) -> None:
    council = Council(tmp_path / "net")
    with council.cluster as cluster:
        cluster.start_all()
        cluster.wait_ready()
        with traffic(council) as more:
            more(5)
            _, address = council.home("node5")
            old, new = cluster.member("node2").home.path, council.directory / "node5"
            otcnode(
                "validator", "rotate", "--home", str(old), "--successor", str(new), "--name", "node5",
                "--address", address, "--url", cluster.member("node3").url,
            )  # fmt: skip
            council.run("node5")
            council.until("node5", votes)
            council.until("node2", lambda status: not status["validator"])
            cluster.stop("node2")
            more(10)
            kill_and_start(council, "node3", more)
            changed = council.decide("parameters", "window=8", "rotation_blocks=50")
            assert changed["first_height"] == changed["height"] + 2
            more(10)
        agree(council, "node1", "node3", "node4", "node5")

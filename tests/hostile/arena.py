"""A network of real daemons that makes blocks while somebody attacks it, and what an operator would see of it.

Three of four validators run: the least that can decide. The key of the fourth, and those of many admitted full nodes,
are the attackers'.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import statistics
import time
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from otcnode import genesis as genesis_module
from otcnode import localnet
from otcnode.bench import workload
from otcnode.blocks import Certificate
from otcnode.client.client import Client
from otcnode.codec import decode
from otcnode.crypto import SigningKey, sha256
from otcnode.genesis import ChainParameters, GenesisNode, chain_id
from otcnode.node_key import NodeKey
from otcnode.p2p.handshake import Identity
from otcnode.vm.transactions import decode_transaction
from tests.hostile.raw_peer import Target
from tests.processes import cluster as daemons

FULL_NODES = 64
MEGABYTE = 1 << 20


def attacker(index: int) -> Identity:
    """The key of an admitted full node."""
    return Identity(SigningKey(sha256(b"attacker %d" % index)), sha256(b"static of attacker %d" % index))


def stranger(index: int) -> Identity:
    """A key that nobody has admitted."""
    return Identity(SigningKey(sha256(b"stranger %d" % index)), sha256(b"static of stranger %d" % index))


@dataclass
class Pace:
    """How the chain went over a while: seconds per block, and seconds from sending to finality for the client."""

    block_s: float
    finality_s: float
    transactions: int


class Arena:
    def __init__(self, directory: Path) -> None:
        localnet.create(
            localnet.Plan(
                directory=directory,
                validators=4,
                base_port=daemons.free_ports(8),
                accounts=workload.accounts()[:20],
                cash=workload.cash(),
                parameters=ChainParameters(state_buckets=256, max_transaction_ttl_ms=daemons.TTL_MS),
                view_timeout_ms=2_000,
            )
        )
        members = localnet.members(directory)
        genesis = genesis_module.load(members[0].home.genesis)
        nodes = tuple(
            GenesisNode(name=f"attacker{index}", id=attacker(index).node, organisation="nobody")
            for index in range(FULL_NODES)
        )
        for member in members:
            member.home.genesis.write_bytes(genesis_module.dump(msgspec.structs.replace(genesis, nodes=nodes)))
        self.cluster = localnet.Cluster(directory)
        self.chain = chain_id(self.cluster.genesis)
        order = sorted(members, key=lambda member: member.id)
        liar = order[-1]
        """Not the primary of view 0, nor of the first rotations."""
        key = NodeKey.load(liar.home.key)
        self.liar = Identity(key.signing, key.static_secret)
        self.liar_name = liar.name
        self.honest = [member for member in members if member is not liar]
        self._raws = iter(daemons.deposits(self.cluster, 6_000))
        self.newcomers = 0

    def start(self) -> None:
        names = [member.name for member in self.honest]
        for name in names:
            self.cluster.start(name)
        self.cluster.wait_ready(names)

    def newcomer(self) -> tuple[str, Identity]:
        """An admitted full node that has done nothing yet, and its name."""
        index = self.newcomers
        self.newcomers += 1
        assert index < FULL_NODES
        return f"attacker{index}", attacker(index)

    def target(self, member: localnet.Member) -> Target:
        return Target(member.p2p_port, self.chain)

    def transaction(self) -> bytes:
        """One that every node admits, not sent yet."""
        return next(self._raws)

    # ---- what an operator sees

    def metrics(self, member: localnet.Member) -> dict[str, float]:
        text = urllib.request.urlopen(f"{member.url}/metrics", timeout=20).read().decode()
        rows = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in rows}

    def offences(self, member: localnet.Member, name: str) -> dict[str, int]:
        """Bans of one peer by code, as the metrics tell."""
        pattern = re.compile(r'otcnode_peer_offences_total\{code="(\w+)",peer="' + name + r'"\}')
        found = {pattern.fullmatch(row): value for row, value in self.metrics(member).items()}
        return {match[1]: int(value) for match, value in found.items() if match is not None}

    def log_lines(self, member: localnet.Member, *words: str) -> list[str]:
        lines = member.home.log.read_text(errors="replace").splitlines()
        return [line for line in lines if all(word in line for word in words)]

    def memory_bytes(self, member: localnet.Member) -> int:
        """Resident, of the daemon itself."""
        status = Path(f"/proc/{self.cluster.process_id(member.name)}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1_024  # type: ignore[index]

    def ask(self, member: localnet.Member, method: str, **params: object) -> dict[str, object]:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        request = urllib.request.Request(member.url, body, {"Content-Type": "application/json"})
        answer = json.loads(urllib.request.urlopen(request, timeout=20).read())
        assert "result" in answer, answer
        return dict(answer["result"])

    def certificate(self, member: localnet.Member) -> Certificate:
        """Of the last block."""
        height = self.ask(member, "node_status")["height"]
        text = self.ask(member, "certificate_get", height=height)["raw"]
        assert isinstance(text, str)
        return decode(Certificate, base64.b64decode(text))

    # ---- the chain's pace

    @asynccontextmanager
    async def measured(self, members: Sequence[localnet.Member] | None = None) -> AsyncIterator[Pace]:
        """One client that sends a transaction, waits until it is final, and sends the next, while the body runs."""
        pace = Pace(0.0, 0.0, 0)
        asked = list(members or self.honest)
        stop = asyncio.Event()
        times: list[float] = []

        async def trade(client: Client) -> None:
            while not stop.is_set():
                began = time.monotonic()
                await client.execute(decode_transaction(self.transaction()), timeout_ms=50_000)
                times.append(time.monotonic() - began)
                await asyncio.sleep(0.02)

        async with Client([member.url for member in asked], self.cluster.genesis) as client:
            first, began = (await client.status()).height, time.monotonic()
            trading = asyncio.create_task(trade(client))
            try:
                yield pace
            finally:
                stop.set()
                await trading
            last, ended = (await client.status()).height, time.monotonic()
        pace.block_s = (ended - began) / max(1, last - first)
        pace.finality_s = statistics.median(times)
        pace.transactions = len(times)

"""A network of real daemons that makes blocks while somebody attacks it, and what an operator would see of it.

Three of four validators run: the least that can decide. The key of the fourth, and those of many admitted full nodes,
are the attackers'.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import re
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from otcnode import genesis as genesis_module
from otcnode import limits, localnet
from otcnode.bench import workload
from otcnode.blocks import Certificate
from otcnode.codec import decode
from otcnode.crypto import SigningKey, random_bytes, sha256
from otcnode.genesis import ChainParameters, GenesisNode, chain_id
from otcnode.node_key import NodeKey
from otcnode.p2p.handshake import Identity
from otcnode.rpc import format as form
from otcnode.vm.transactions import decode_transaction
from tests.hostile.raw_peer import Target
from tests.processes import cluster as daemons

VALIDATORS, FULL_NODES = 4, 128
WAIT_S = 60
MEGABYTE = 1 << 20


def attacker(index: int) -> Identity:
    """The key of an admitted full node."""
    return Identity(SigningKey(sha256(b"attacker %d" % index)), sha256(b"static of attacker %d" % index))


def stranger(index: int) -> Identity:
    """A key that nobody has admitted."""
    return Identity(SigningKey(sha256(b"stranger %d" % index)), sha256(b"static of stranger %d" % index))


@dataclass
class Pace:
    """How the chain went over a while: the time from each block's header to the next, in milliseconds."""

    intervals_ms: tuple[int, ...]

    @property
    def median_ms(self) -> float:
        return statistics.median(self.intervals_ms)

    @property
    def longest_ms(self) -> int:
        return max(self.intervals_ms)

    def __add__(self, other: Pace) -> Pace:
        return Pace(self.intervals_ms + other.intervals_ms)

    def __str__(self) -> str:
        return f"{self.median_ms:.0f} ms (longest {self.longest_ms}, {len(self.intervals_ms)} blocks)"


class Arena:
    def __init__(self, directory: Path, *, full_nodes: int = 0, settings: str = "") -> None:
        """`settings` are added to the configuration of every node; the full nodes are not started by `start`."""
        localnet.create(
            localnet.Plan(
                directory=directory,
                validators=VALIDATORS,
                full_nodes=full_nodes,
                base_port=daemons.free_ports(2 * (VALIDATORS + full_nodes)),
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
        genesis = msgspec.structs.replace(genesis, nodes=(*genesis.nodes, *nodes))
        for member in members:
            member.home.genesis.write_bytes(genesis_module.dump(genesis))
            with member.home.configuration.open("a") as file:
                file.write(settings)
        self.cluster = localnet.Cluster(directory)
        self.chain = chain_id(self.cluster.genesis)
        validators, self.followers = members[:VALIDATORS], members[VALIDATORS:]
        order = sorted(validators, key=lambda member: member.id)
        liar = order[-1]
        """Not the primary of view 0, nor of the first rotations."""
        key = NodeKey.load(liar.home.key)
        self.liar = Identity(key.signing, key.static_secret)
        self.liar_name = liar.name
        self.honest = [member for member in validators if member is not liar]
        valid_until_ms = time.time_ns() // 1_000_000 + daemons.TTL_MS // 2
        self._deposits = iter(workload.signed_deposits(self.chain, 0, 2_000, valid_until_ms, random_bytes(24), 10))
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
        return next(self._deposits).raw

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

    def bans_among_the_honest(self) -> list[str]:
        """There must be none, whatever anybody makes them do to each other."""
        pairs = itertools.permutations(self.honest, 2)
        return [line for member, peer in pairs for line in self.log_of_peer(member, peer.name, "peer banned")]

    def misled(self, member: localnet.Member, name: str) -> int:
        """How often somebody else was found where this peer said to be."""
        return int(self.metrics(member).get(f'otcnode_peer_misled_total{{peer="{name}"}}', 0))

    def log_lines(self, member: localnet.Member, *words: str) -> list[str]:
        lines = member.home.log.read_text(errors="replace").splitlines()
        return [line for line in lines if all(word in line for word in words)]

    def log_of_peer(self, member: localnet.Member, name: str, *words: str) -> list[str]:
        """Those that name one peer, and none whose name begins alike."""
        named = re.compile(rf" peer={name}(?!\w)")
        return [line for line in self.log_lines(member, *words) if named.search(line)]

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

    def wait_final(self, member: localnet.Member, raw: bytes) -> dict[str, object]:
        name = form.transaction(decode_transaction(raw).id)
        return self.ask(member, "tx_wait", id=name, timeout_ms=15_000)

    def certificate(self, member: localnet.Member) -> Certificate:
        """Of the last block."""
        height = self.height(member)
        text = self.ask(member, "certificate_get", height=height)["raw"]
        assert isinstance(text, str)
        return decode(Certificate, base64.b64decode(text))

    # ---- the chain's pace

    @contextmanager
    def trading(self, members: Sequence[localnet.Member]) -> Iterator[None]:
        """A client in a process of its own trades through these, so that a next block is always wanted."""
        names = [member.name for member in members]
        command = [sys.executable, "-m", "tests.hostile.trading", str(self.cluster.directory), *names]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            first, deadline = self.height(members[0]), time.monotonic() + WAIT_S
            while self.height(members[0]) < first + 10 and process.poll() is None:
                assert time.monotonic() < deadline, self.ask(members[0], "node_explain")["text"]
                time.sleep(0.05)
            if process.poll() is None:
                yield
        finally:
            ended = process.poll()
            process.kill()
            _, said = process.communicate()
            assert (ended, said) == (None, ""), f"the client of the chain ended with {ended}: {said}"

    def height(self, member: localnet.Member) -> int:
        height = self.ask(member, "node_status")["height"]
        assert isinstance(height, int)
        return height

    @asynccontextmanager
    async def measured(self, witness: localnet.Member) -> AsyncIterator[Pace]:
        """The blocks that were made while the body ran, as the headers tell that this node has. The tests' process is
        asked for nothing meanwhile: however busy it is, the figures are those of the chain."""
        pace = Pace(())
        first = await asyncio.to_thread(self.height, witness)
        yield pace
        last = await asyncio.to_thread(self.height, witness)
        times = await asyncio.to_thread(self._header_times_ms, witness, first, last)
        pace.intervals_ms = tuple(later - earlier for earlier, later in itertools.pairwise(times))

    def _header_times_ms(self, member: localnet.Member, first: int, last: int) -> list[int]:
        found: dict[int, int] = {}
        params: dict[str, object] = {"newest_first": True, "limit": limits.page_entries_max}
        while min(found, default=last) > first:
            page = self.ask(member, "block_list", **params)
            assert isinstance(page["blocks"], list)
            found.update({row["height"]: row["time"]["ms"] for row in page["blocks"]})
            params["next"] = page["next"]
        return [found[height] for height in range(first, last + 1)]

"""A daemon takes a snapshot in many chunks: one server falls silent and one dies in the middle, then it is killed
itself. Its servers are scripted, so that the middle is where the test says; they serve nothing but the truth."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from otcnode import limits
from otcnode.bench import chain, large_state
from otcnode.codec import decode, encode
from otcnode.config import Home
from otcnode.crypto import SigningKey, sha256
from otcnode.genesis import Genesis, GenesisNode, chain_id
from otcnode.home import create_home, create_key
from otcnode.localnet import Cluster
from otcnode.node_key import NodeKey
from otcnode.p2p.framing import Channel
from otcnode.p2p.handshake import Identity
from otcnode.snapshot import Manifest
from otcnode.storage.folder import MemoryFolder
from otcnode.storage.kv import MemoryKeyValue
from otcnode.storage.level import LevelKeyValue
from otcnode.storage.snapshot_maker import MANIFEST, chunk_name, make, offer_of, read_manifest, source_of
from otcnode.storage.state_proof import PAIR_BYTES
from otcnode.storage.store import Store
from otcnode.sync_messages import (
    ChunkRequest,
    ChunkResponse,
    ManifestRequest,
    ManifestResponse,
    Offers,
    OffersRequest,
    SyncMessage,
    TipNotice,
)
from tests.hostile.raw_peer import RawPeer, Target, connected
from tests.processes import cluster as daemons
from tests.processes.test_joining import height_reaches, status_of, until

pytestmark = pytest.mark.process

ACCOUNTS = 24_000
JOINER = "node1"
MUTE, DYING, STEADY = "mute", "dying", "steady"
EACH, HALF = 20, 150
"""So many chunks are served by the two that fail, and by the other one before the joiner is killed."""


class Network(NamedTuple):
    genesis: Genesis
    folder: MemoryFolder
    manifest: Manifest
    servers: dict[str, Identity]


@pytest.fixture
def network() -> Network:
    """A network whose validators do not run, and a snapshot of its large state."""
    names = (JOINER, MUTE, DYING, STEADY)
    servers = {name: Identity(SigningKey(sha256(name.encode())), sha256(b"static" + name.encode())) for name in names}
    nodes = tuple(GenesisNode(name=name, id=who.node, organisation=name) for name, who in servers.items())
    builder = chain.ChainBuilder(
        MemoryKeyValue(), replace(chain.genesis_of(), nodes=nodes), history_blocks=0, blocks_kept=1
    )
    large_state.grow(builder, ACCOUNTS)
    folder = MemoryFolder()
    for _ in make(source_of(builder.store), folder):
        pass
    manifest = read_manifest(folder)
    assert manifest is not None and manifest.chunks == 256
    return Network(builder.genesis, folder, manifest, servers)


def home_of(joiner: Identity, genesis: Genesis, directory: Path) -> Cluster:
    home, port = Home(directory / JOINER), daemons.free_ports(2)
    create_key(home, NodeKey(joiner.signing.seed, joiner.static_secret))
    listen = (f"127.0.0.1:{port}", f"127.0.0.1:{port + 1}")
    create_home(home, name=JOINER, genesis=genesis, p2p_listen=listen[0], rpc_listen=listen[1])
    with home.configuration.open("a") as file:
        file.write("[snapshots]\nbehind_blocks = 1\n")
    return Cluster(directory)


class Server:
    """Answers the first `patience` requests for a chunk; those above it are heard in silence, or end it."""

    def __init__(self, network: Network, name: str, patience: int, *, dies: bool = False) -> None:
        self._folder = network.folder
        self._manifest = network.manifest
        self._who = network.servers[name]
        self._patience = patience
        self._dies = dies
        self.asked: list[int] = []

    async def serve(self, target: Target) -> None:
        height = self._manifest.header.height
        async with connected(target, self._who) as peer:
            with suppress(ConnectionError):
                await peer.send(Channel.SYNC, encode(TipNotice(height, height + 1)))
                await self._answer(peer)

    async def _answer(self, peer: RawPeer) -> None:
        while peer.closed is None:
            while peer.heard:
                message = peer.heard.popleft()
                answer = self._answer_to(message.payload) if message.channel is Channel.SYNC else None
                if answer is not None:
                    await peer.send(Channel.SYNC, encode(answer))
                elif self._dies and len(self.asked) > self._patience:
                    return
            await peer.until(lambda: bool(peer.heard) or peer.closed is not None)

    def _answer_to(self, payload: bytes) -> SyncMessage | None:
        request: SyncMessage = decode(SyncMessage, payload)
        match request:
            case OffersRequest():
                return Offers((offer_of(self._manifest),))
            case ManifestRequest(snapshot):
                return ManifestResponse(snapshot, self._folder.read(MANIFEST) or b"")
            case ChunkRequest(snapshot, index):
                self.asked.append(index)
                if len(self.asked) <= self._patience:
                    return ChunkResponse(snapshot, index, self._folder.read(chunk_name(index)) or b"")
        return None


@asynccontextmanager
async def serving(cluster: Cluster, *servers: Server) -> AsyncIterator[None]:
    target = Target(cluster.member(JOINER).p2p_port, chain_id(cluster.genesis))
    tasks = [asyncio.create_task(server.serve(target)) for server in servers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def chunks_taken(cluster: Cluster, count: int) -> None:
    async def reached() -> bool:
        syncing = (await status_of(cluster, JOINER)).syncing
        return syncing is not None and syncing.what == "snapshot" and syncing.done == count

    await until(reached, f"the joiner never has {count} chunks")


def lost_by_a_kill_max(network: Network) -> int:
    """How many chunks may be proven and not written; one more is on top of it, and one comes while it is written."""
    chunks = [network.folder.read(chunk_name(index)) or b"" for index in range(network.manifest.chunks)]
    leaves_bytes = PAIR_BYTES * network.manifest.keys // network.manifest.chunks
    return limits.snapshot_unwritten_bytes_max // (min(map(len, chunks)) + leaves_bytes // 2) + 2


async def story(cluster: Cluster, network: Network) -> None:
    mute = Server(network, MUTE, EACH)
    dying = Server(network, DYING, EACH, dies=True)
    steady = Server(network, STEADY, HALF)
    taken = 2 * EACH + HALF
    cluster.start(JOINER)
    await asyncio.to_thread(cluster.wait_answering, JOINER)
    async with serving(cluster, mute, dying, steady):
        await chunks_taken(cluster, taken)
        await asyncio.to_thread(cluster.kill, JOINER)
    cluster.start(JOINER)
    await asyncio.to_thread(cluster.wait_answering, JOINER)
    mute, steady = Server(network, MUTE, 0), Server(network, STEADY, network.manifest.chunks)
    async with serving(cluster, mute, steady):
        await height_reaches(cluster, JOINER, network.manifest.header.height)
    missing = network.manifest.chunks - taken
    assert len(steady.asked) == len(set(steady.asked)), "nothing is fetched twice"
    assert missing <= len(steady.asked) <= missing + lost_by_a_kill_max(network) < network.manifest.chunks / 2
    assert set(mute.asked) <= set(steady.asked), "what one is silent about comes from another"


def test_a_joiner_goes_on_without_servers_that_fail_and_after_its_own_kill_with_what_it_has(
    network: Network, tmp_path: Path
) -> None:
    with home_of(network.servers[JOINER], network.genesis, tmp_path) as cluster:
        asyncio.run(story(cluster, network))
    home = cluster.member(JOINER).home
    assert "false snapshot" not in home.log.read_text()
    kv = LevelKeyValue(home.database)
    store = Store.open(kv, chain_id(network.genesis), 0)
    assert store.tip.header == network.manifest.header
    assert sum(1 for _ in store.state.scan(b"")) == network.manifest.keys
    store.close()

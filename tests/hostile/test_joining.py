"""A node that joins from the genesis file meets liars first: each is named and banned, and it joins from the others."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError

import pytest
from msgspec.structs import replace

from otcnode.codec import decode, encode
from otcnode.crypto import random_bytes
from otcnode.localnet import Member
from otcnode.p2p.close import CloseCode
from otcnode.p2p.framing import Channel
from otcnode.p2p.handshake import Identity
from otcnode.snapshot import Chunk, Manifest, Offer
from otcnode.sync_messages import (
    ChunkRequest,
    ChunkResponse,
    ManifestRequest,
    ManifestResponse,
    Offers,
    OffersRequest,
    SyncMessage,
)
from tests.hostile import words
from tests.hostile.arena import WAIT_S, Arena
from tests.hostile.raw_peer import RawPeer, connected

pytestmark = pytest.mark.process

INTERVAL, BEHIND = 20, 30


class Snapshot(NamedTuple):
    """A true one, as a validator serves it; the state is small enough for one chunk."""

    offer: Offer
    manifest: Manifest
    chunk: Chunk


class Lie(NamedTuple):
    """What is offered and served, made from what is true."""

    offer: Callable[[Snapshot], Offer]
    manifest: Callable[[Snapshot], bytes]
    chunk: Callable[[Snapshot], bytes]


def _true_offer(true: Snapshot) -> Offer:
    return true.offer


def _true_manifest(true: Snapshot) -> bytes:
    return encode(true.manifest)


def _richer(true: Snapshot) -> bytes:
    """Another value under one of the keys."""
    (key, value), *others = true.chunk.pairs
    return encode(replace(true.chunk, pairs=((key, value + b"\0"), *others)))


def _unborn(true: Snapshot) -> bytes:
    """Of the height that is offered, under the certificate of another."""
    return encode(replace(true.manifest, header=replace(true.manifest.header, height=10**6)))


def _ignorant(true: Snapshot) -> bytes:
    return random_bytes(500)


LIES: dict[str, Lie] = {
    "a manifest that is none": Lie(_true_offer, _ignorant, _ignorant),
    "a height that never was": Lie(lambda true: replace(true.offer, height=10**6), _unborn, _ignorant),
    "a certificate without signatures": Lie(
        _true_offer,
        lambda true: encode(replace(true.manifest, certificate=replace(true.manifest.certificate, signatures=()))),
        _ignorant,
    ),
    "another state root": Lie(
        _true_offer,
        lambda true: encode(replace(true.manifest, header=replace(true.manifest.header, state_root=random_bytes(32)))),
        _ignorant,
    ),
    "a chunk that is none": Lie(_true_offer, _true_manifest, _ignorant),
    "a chunk with another value": Lie(_true_offer, _true_manifest, _richer),
    "a chunk without keys": Lie(_true_offer, _true_manifest, lambda true: encode(replace(true.chunk, pairs=()))),
}


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[Arena]:
    settings = f"[snapshots]\ninterval_blocks = {INTERVAL}\nbehind_blocks = {BEHIND}\n"
    arena = Arena(tmp_path / "net", full_nodes=1, settings=settings)
    with arena.cluster:
        arena.start()
        yield arena


def heard(peer: RawPeer) -> Iterator[SyncMessage]:
    """What has come on the channel, once."""
    while peer.heard:
        message = peer.heard.popleft()
        if message.channel is Channel.SYNC:
            yield decode(SyncMessage, message.payload)


async def answer_to(peer: RawPeer, request: SyncMessage, kind: type) -> SyncMessage:
    await peer.send(Channel.SYNC, encode(request))
    async with asyncio.timeout(WAIT_S):
        while True:
            for message in heard(peer):
                if isinstance(message, kind):
                    return message
            await asyncio.sleep(0.02)


async def true_snapshot(arena: Arena, who: Identity) -> Snapshot:
    async with connected(arena.target(arena.honest[0]), who) as peer:
        offers = await answer_to(peer, OffersRequest(), Offers)
        assert isinstance(offers, Offers)
        offer = max(offers.offers, key=lambda offer: offer.height)
        manifest = await answer_to(peer, ManifestRequest(offer.block_hash), ManifestResponse)
        chunk = await answer_to(peer, ChunkRequest(offer.block_hash, 0), ChunkResponse)
        assert isinstance(manifest, ManifestResponse) and isinstance(chunk, ChunkResponse)
        return Snapshot(offer, decode(Manifest, manifest.manifest), decode(Chunk, chunk.chunk))


async def lie_to(arena: Arena, joiner: Member, who: Identity, lie: Lie, true: Snapshot) -> CloseCode:
    """Offers, and serves whatever it is asked for, until the joiner hangs up."""
    async with connected(arena.target(joiner), who) as peer:
        offer = lie.offer(true)
        with contextlib.suppress(ConnectionError):
            await peer.send(Channel.SYNC, words.tip(offer.height + 100, offer.height))
            await peer.send(Channel.SYNC, encode(Offers((offer,))))
            async with asyncio.timeout(WAIT_S):
                while peer.closed is None:
                    for message in heard(peer):
                        match message:
                            case OffersRequest():
                                await peer.send(Channel.SYNC, encode(Offers((offer,))))
                            case ManifestRequest(snapshot):
                                served = encode(ManifestResponse(snapshot, lie.manifest(true)))
                                await peer.send(Channel.SYNC, served)
                            case ChunkRequest(snapshot, index):
                                await peer.send(Channel.SYNC, encode(ChunkResponse(snapshot, index, lie.chunk(true))))
                    await asyncio.sleep(0.02)
        return await peer.until_closed()


async def until_height(arena: Arena, member: Member, height: int) -> None:
    """A node does not answer for the moment in which a snapshot takes the place of its chain."""
    async with asyncio.timeout(WAIT_S):
        while True:
            with contextlib.suppress(URLError, ConnectionError):
                if await asyncio.to_thread(arena.height, member) >= height:
                    return
            await asyncio.sleep(0.1)


async def test_whoever_serves_a_false_snapshot_is_banned_and_the_node_joins_from_others(arena: Arena) -> None:
    """The validators stand still until the joining node has heard every lie, so that it depends on the liars alone."""
    honest, joiner = arena.honest, arena.followers[0]
    with arena.trading(honest):
        await until_height(arena, honest[0], 2 * BEHIND)
    true = await true_snapshot(arena, arena.newcomer()[1])
    assert true.offer.height >= 2 * INTERVAL and true.manifest.chunks == 1
    liars = {kind: arena.newcomer() for kind in LIES}
    for member in honest:
        arena.cluster.signal(member.name, signal.SIGSTOP)
    try:
        arena.cluster.start(joiner.name)
        await asyncio.to_thread(arena.cluster.wait_answering, joiner.name)
        for kind, (name, who) in liars.items():
            closed = await lie_to(arena, joiner, who, LIES[kind], true)
            assert closed is CloseCode.PENALTY, kind
            assert await asyncio.to_thread(arena.offences, joiner, name) == {"penalty": 1}, kind
            assert len(arena.log_of_peer(joiner, name, "peer banned", "false snapshot")) == 1, kind
        assert arena.height(joiner) == 0
    finally:
        for member in honest:
            arena.cluster.signal(member.name, signal.SIGCONT)
    await until_height(arena, joiner, arena.height(honest[0]))
    status = arena.ask(joiner, "node_status")
    assert status["blocks_first"] > true.offer.height, "it joined by a true snapshot"
    height = arena.height(joiner)
    assert arena.ask(joiner, "header_get", height=height) == arena.ask(honest[0], "header_get", height=height)

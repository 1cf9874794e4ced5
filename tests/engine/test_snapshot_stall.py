"""Whoever offers snapshots that do not exist, or never come, must not keep a node from what others have."""

from __future__ import annotations

from collections import deque

import pytest

from otcnode import limits
from otcnode.codec import decode, encode
from otcnode.crypto import sha256
from otcnode.p2p.framing import Channel
from otcnode.snapshot import Offer
from otcnode.snapshot_sync import PACE_WINDOW_MS
from otcnode.sync_messages import (
    ChunkResponse,
    ManifestRequest,
    ManifestResponse,
    Offers,
    OffersRequest,
    SyncMessage,
    TipNotice,
)
from tests.engine.network import Station
from tests.engine.test_snapshots import full_node, leader_at, link, second_server

LIAR = b"l" * 32
ANSWER_AFTER_MS = 9_000
"""Just before a request is given up."""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "snapshot_chunk_bytes", 200)


class Liar:
    """Claims a billion, offers a new snapshot of it whenever asked, and says late that it has it no longer."""

    def __init__(self, victim: Station, name: bytes = LIAR) -> None:
        self._victim = victim
        self._name = name
        self._count = 0
        self._pending: list[tuple[int, bytes]] = []
        self._inbox: list[bytes] = []
        self._others = victim.send
        victim.send = self._take  # type: ignore[method-assign]
        victim.engine.connected(name)
        self._say(TipNotice(10**9, 10**9))
        self.act()

    def _say(self, message: SyncMessage) -> None:
        self._victim.engine.received(self._name, Channel.SYNC, encode(message))
        self._victim.settle()

    def _take(self, peer: bytes, channel: Channel, payload: bytes) -> None:
        if peer != self._name:
            self._others(peer, channel, payload)
        elif channel is Channel.SYNC:
            self._inbox.append(payload)

    def act(self) -> None:
        due = [snapshot for at_ms, snapshot in self._pending if at_ms <= self._victim.now_ms]
        self._pending = [entry for entry in self._pending if entry[0] > self._victim.now_ms]
        for snapshot in due:
            self._say(ManifestResponse(snapshot, b""))
            self._offer()
            self._say(TipNotice(10**9, 10**9))
        inbox, self._inbox = self._inbox, []
        for payload in inbox:
            message: SyncMessage = decode(SyncMessage, payload)
            if isinstance(message, OffersRequest):
                self._offer()
            elif isinstance(message, ManifestRequest):
                self._pending.append((self._victim.now_ms + ANSWER_AFTER_MS, message.snapshot))

    def _offer(self) -> None:
        self._count += 1
        self._say(Offers((Offer(10**9, sha256(b"same" + self._count.to_bytes(4, "big")), 1),)))


@pytest.mark.parametrize(("liars", "behind_blocks"), [(0, 1_000), (1, 1_000), (2, 15)])
def test_offers_of_heights_that_do_not_exist_hold_nobody_up_for_long(liars: int, behind_blocks: int) -> None:
    """None; one liar against a node that needs blocks only; two that agree against one that wants a snapshot."""
    leader = leader_at(34)
    joiner = full_node(leader.genesis, "joiner", leader, behind_blocks=behind_blocks)
    acting = [Liar(joiner, bytes([index + 1]) * 32) for index in range(liars)]
    net = link(leader, joiner)
    for _ in range(300_000 // 50):
        for liar in acting:
            liar.act()
        net.elapse(50)
        if joiner.height == leader.height or joiner.shelf.installed is not None:
            return
    pytest.fail(f"at height {joiner.height} after five minutes; {joiner.penalised}")


def test_a_true_snapshot_in_many_chunks_that_drip_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its server answers each request for a chunk just before it would be late; another one has the blocks."""
    with monkeypatch.context() as patched:
        patched.setattr(limits, "snapshot_chunk_bytes", 1)
        leader = leader_at(34, buckets=256)
    dripping = second_server(leader)
    keeper = full_node(leader.genesis, "keeper", leader)
    link(leader, keeper).elapse(2_000)
    assert keeper.height == 34
    late = deque[tuple[int, bytes, bytes]]()
    at_once = dripping.send

    def send(peer: bytes, channel: Channel, payload: bytes) -> None:
        if channel is Channel.SYNC and isinstance(decode(SyncMessage, payload), ChunkResponse):
            late.append((dripping.now_ms + ANSWER_AFTER_MS, peer, payload))
        else:
            at_once(peer, channel, payload)

    monkeypatch.setattr(dripping, "send", send)
    joiner = full_node(leader.genesis, "joiner", leader, behind_blocks=15)
    net = link(dripping, joiner)
    taker = joiner.engine.catch_up.snapshot_taker
    assert taker is not None
    net.elapse(200)
    assert taker.incoming is not None and taker.incoming.manifest.chunks == 256
    net = link(dripping, keeper, joiner)
    for _ in range(2 * PACE_WINDOW_MS // 50):
        while late and late[0][0] <= dripping.now_ms:
            _, peer, payload = late.popleft()
            at_once(peer, Channel.SYNC, payload)
        net.elapse(50)
        if joiner.height == 34:
            break
    assert joiner.height == 34 and joiner.penalised == []
    assert taker.incoming is None and not joiner.shelf.begun()

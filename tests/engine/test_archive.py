"""A node that keeps all blocks does not give up those it has for a snapshot while others serve what it lacks."""

from __future__ import annotations

import pytest

from otcnode import limits, sync_choice
from otcnode.blocks import CertifiedBlock
from otcnode.codec import decode, encode
from otcnode.p2p.framing import Channel
from otcnode.snapshot_sync import PACE_WINDOW_MS, WHOLE_MS
from otcnode.storage.tools import verify
from otcnode.sync import REQUEST_TIMEOUT_MS
from otcnode.sync_choice import PATIENCE_MS
from otcnode.sync_messages import BlocksRequest, BlocksResponse, SyncMessage, TipNotice
from tests.engine.network import Net, Station, deposit, stations
from tests.engine.test_snapshots import (
    BEHIND,
    INTERVAL,
    LIAR,
    full_node,
    leader_at,
    link,
    reborn,
    slowly,
    started,
    until_installed,
)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "snapshot_chunk_bytes", 200)


@pytest.fixture(autouse=True)
def five_blocks_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "blocks_kept_min", 5)


def part(*stations: Station) -> None:
    for one in stations:
        for other in stations:
            if one is not other:
                one.engine.disconnected(other.own)
        one.sent.clear()


def grow(leader: Station, height: int) -> None:
    """Until it is this high, and has made its snapshots."""
    net = Net([leader])
    number = 10_000
    while leader.height < height:
        leader.submit(deposit(leader.genesis, number))
        number += 1
        net.elapse(100)
    net.elapse(3_000)


def archive_left_behind(leader: Station) -> Station:
    """It took every block up to the height of the leader, and was then cut off until it was far behind."""
    archive = full_node(leader.genesis, "archive", leader, behind_blocks=BEHIND)
    link(leader, archive).elapse(3_000)
    assert (archive.height, archive.store.blocks_first) == (leader.height, 1)
    part(leader, archive)
    grow(leader, archive.height + 2 * BEHIND)
    archive.now_ms = leader.now_ms
    return archive


def restarted(station: Station, blocks_kept: int | None = None, behind_blocks: int = BEHIND) -> Station:
    return started(
        Station(
            station.genesis,
            station.key,
            kv=station.kv,
            votes=station.votes,
            now_ms=station.now_ms,
            shelf=station.shelf,
            behind_blocks=behind_blocks,
            blocks_kept=blocks_kept,
        )
    )


def pruned_server(leader: Station) -> Station:
    """A full node that came by the last snapshot, and has made one since."""
    joiner = full_node(leader.genesis, "joiner", leader, behind_blocks=BEHIND)
    until_installed(link(leader, joiner), joiner)
    server = reborn(joiner)
    part(leader, joiner)
    net = link(leader, server)
    while leader.height % INTERVAL != 1:
        leader.submit(deposit(leader.genesis, leader.height))
        net.elapse(100)
    net.elapse(3_000)
    assert server.height == leader.height and server.store.blocks_first > BEHIND and server.shelf.made.names()
    part(leader, server)
    return server


@pytest.mark.parametrize("restarts", [False, True])
def test_an_archive_that_was_away_takes_the_blocks(restarts: bool) -> None:
    leader = leader_at(5)
    archive = archive_left_behind(leader)
    if restarts:
        archive = restarted(archive)
    link(leader, archive).elapse(5_000)
    assert (archive.height, archive.store.blocks_first) == (leader.height, 1)
    assert not archive.shelf.begun() and archive.shelf.installed is None
    assert verify(archive.kv, archive.chain).blocks_first == 1


def test_whoever_keeps_a_window_of_blocks_takes_the_snapshot() -> None:
    leader = leader_at(5)
    follower = restarted(archive_left_behind(leader), blocks_kept=1_000)
    until_installed(link(leader, follower), follower, 10_000)


def test_an_archive_takes_a_snapshot_only_where_nobody_has_served_the_blocks_for_minutes() -> None:
    leader = leader_at(5)
    archive = archive_left_behind(leader)
    server = pruned_server(leader)
    net = link(server, archive)
    net.elapse(PATIENCE_MS - 5_000)
    assert archive.height == 5 and not archive.shelf.begun()
    until_installed(net, archive, 30_000)
    assert (archive.height, archive.store.blocks_first) == (5, 1), "its own chain is untouched"
    assert reborn(archive).height > 5


def test_a_few_blocks_are_not_worth_minutes() -> None:
    leader = leader_at(4)
    archive = archive_left_behind(leader)
    server = pruned_server(leader)
    until_installed(link(server, archive), archive, PACE_WINDOW_MS + 5_000)


def test_an_archive_waits_for_the_one_peer_that_has_the_blocks_and_comes_back() -> None:
    """It is gone while it is started again; meanwhile only those are there who have pruned."""
    leader = leader_at(5)
    archive = archive_left_behind(leader)
    server = pruned_server(leader)
    link(server, archive).elapse(PATIENCE_MS // 2)
    assert archive.height == 5
    leader.now_ms = archive.now_ms
    link(leader, server, archive).elapse(5_000)
    assert (archive.height, archive.store.blocks_first) == (leader.height, 1)


def test_time_without_any_peer_is_not_counted() -> None:
    leader = leader_at(5)
    archive = archive_left_behind(leader)
    server = pruned_server(leader)
    link(server, archive).elapse(PATIENCE_MS // 2)
    part(server, archive)
    Net([archive]).elapse(2 * PATIENCE_MS, 1_000)
    leader.now_ms = server.now_ms = archive.now_ms
    link(server, archive).elapse(PATIENCE_MS // 2)
    link(leader, server, archive).elapse(5_000)
    assert (archive.height, archive.store.blocks_first) == (leader.height, 1)


def test_a_fresh_node_takes_no_blocks_before_it_has_looked_for_a_snapshot() -> None:
    leader = leader_at(34)
    joiner = full_node(leader.genesis, "joiner", leader, behind_blocks=BEHIND)
    until_installed(link(leader, joiner), joiner, 2_000)
    assert joiner.height == 0, "what it had taken would be given up, or keep it from the snapshot"


def test_a_fresh_node_that_hears_first_of_one_that_is_behind_itself_still_takes_the_snapshot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "sync_blocks_per_request_max", 4)
    leader = leader_at(8)
    slow = full_node(leader.genesis, "slow", leader)
    link(leader, slow).elapse(2_000)
    part(leader, slow)
    grow(leader, 34)
    joiner = full_node(leader.genesis, "joiner", leader, behind_blocks=BEHIND)
    slow.now_ms = joiner.now_ms
    net = link(slow, joiner)
    slowly(net, lambda: joiner.height >= 4)
    assert 4 <= joiner.height < slow.height
    until_installed(link(leader, joiner), joiner, 10_000)


@pytest.mark.parametrize("restarts", [False, True])
def test_who_has_only_come_as_far_as_one_that_is_behind_itself_is_no_archive(
    monkeypatch: pytest.MonkeyPatch, restarts: bool
) -> None:
    """Its only peer has just begun as well: what both have is older than the top of any chain that goes on."""
    monkeypatch.setattr(sync_choice, "YOUNG_MS", 10_000)
    leader = leader_at(4)
    fresh = full_node(leader.genesis, "fresh", leader)
    link(leader, fresh).elapse(2_000)
    part(leader, fresh)
    leader.now_ms += sync_choice.YOUNG_MS
    grow(leader, 34)
    joiner = full_node(leader.genesis, "joiner", leader, behind_blocks=BEHIND)
    fresh.now_ms = joiner.now_ms
    link(fresh, joiner).elapse(2_000)
    assert joiner.height == fresh.height == 4
    part(fresh, joiner)
    leader.now_ms = joiner.now_ms
    if restarts:
        joiner = restarted(joiner)
    until_installed(link(leader, joiner), joiner, 10_000)


def test_a_node_that_was_started_again_on_its_first_way_up_is_no_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "sync_blocks_per_request_max", 2)
    leader = leader_at(8)
    joiner = full_node(leader.genesis, "joiner", leader, behind_blocks=BEHIND)
    slowly(link(leader, joiner), lambda: joiner.height >= 4)
    assert joiner.height < leader.height
    part(leader, joiner)
    grow(leader, 34)
    joiner.now_ms = leader.now_ms
    joiner = restarted(joiner)
    until_installed(link(leader, joiner), joiner, 10_000)


def test_who_came_by_a_snapshot_is_an_archive_of_what_is_above_once_it_has_caught_up() -> None:
    leader = leader_at(34)
    joiner = full_node(leader.genesis, "joiner", leader, behind_blocks=BEHIND)
    until_installed(link(leader, joiner), joiner)
    archive = reborn(joiner)
    assert archive.store.first_way_up
    part(leader, joiner)
    link(leader, archive).elapse(3_000)
    assert archive.height == leader.height and not archive.store.first_way_up
    first = archive.store.blocks_first
    part(leader, archive)
    grow(leader, archive.height + 2 * BEHIND)
    archive.now_ms = leader.now_ms
    archive = restarted(archive)
    link(leader, archive).elapse(5_000)
    assert (archive.height, archive.store.blocks_first) == (leader.height, first)


def test_a_node_that_takes_no_snapshots_is_an_archive_also_where_it_is_to_take_them_later() -> None:
    leader = leader_at(5)
    archive = full_node(leader.genesis, "archive", leader)
    link(leader, archive).elapse(3_000)
    part(leader, archive)
    grow(leader, archive.height + 2 * BEHIND)
    archive.now_ms = leader.now_ms
    archive = restarted(archive)
    link(leader, archive).elapse(5_000)
    assert (archive.height, archive.store.blocks_first) == (leader.height, 1)


@pytest.mark.parametrize(("whole_ms", "is_too_slow"), [(2 * PACE_WINDOW_MS, True), (WHOLE_MS, False)])
def test_who_drips_blocks_does_not_hold_up_a_node_whose_other_peers_have_pruned(
    monkeypatch: pytest.MonkeyPatch, whole_ms: int, is_too_slow: bool
) -> None:
    """It keeps all, and answers each request just before it would be late, with one block. The node is not so far
    behind that it wants a snapshot for that alone. Where all blocks will be there in time even so, it goes on."""
    monkeypatch.setattr(sync_choice, "WHOLE_MS", whole_ms)
    leader = leader_at(5)
    archive = archive_left_behind(leader)
    server = pruned_server(leader)
    follower = restarted(archive, blocks_kept=1_000, behind_blocks=1_000)
    drip = Drip(follower, leader)
    net = link(server, follower)
    for _ in range((PACE_WINDOW_MS + 5_000) // 50):
        drip.act()
        net.elapse(50)
        if follower.shelf.installed is not None:
            break
    assert (follower.shelf.installed is not None) == is_too_slow, follower.height
    assert 5 < follower.height < 20 and follower.penalised == []


def test_validators_tell_each_other_which_blocks_they_have_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "sync_blocks_per_request_max", 4)
    net = Net(stations(4))
    for station in net.stations.values():
        station.store.blocks_kept = 2
    net.start()
    one, other, *_ = net.stations.values()
    for number in range(12):
        one.submit(deposit(one.genesis, number))
        net.elapse(200)
    first = other.store.blocks_first
    assert other.height == one.height >= 10 and first > 5
    assert one.engine.catch_up.sync._first_kept[other.own] > first - limits.sync_blocks_per_request_max


def test_who_is_asked_for_what_it_has_dropped_says_what_it_keeps_and_is_not_blamed() -> None:
    leader = leader_at(34)
    server = pruned_server(leader)
    joiner = full_node(leader.genesis, "late", leader)
    server.engine.connected(joiner.own)
    joiner.engine.connected(server.own)
    joiner.engine.received(server.own, Channel.SYNC, encode(TipNotice(server.height, 1)))
    server.sent.clear()
    Net([server, joiner]).elapse(1_000)
    sync = joiner.engine.catch_up.sync
    assert sync.lacking(0, joiner.now_ms)
    assert sync.trusted_claims(joiner.now_ms) == {server.own: server.height} and joiner.penalised == []


class Drip:
    def __init__(self, victim: Station, chain: Station) -> None:
        self._victim, self._chain = victim, chain
        self._others = victim.send
        self._due: list[tuple[int, BlocksRequest]] = []
        victim.send = self._take  # type: ignore[method-assign]
        victim.engine.connected(LIAR)
        self._say(TipNotice(chain.height, 1))

    def _say(self, message: SyncMessage) -> None:
        self._victim.engine.received(LIAR, Channel.SYNC, encode(message))
        self._victim.settle()

    def _take(self, peer: bytes, channel: Channel, payload: bytes) -> None:
        if peer != LIAR:
            self._others(peer, channel, payload)
        elif channel is Channel.SYNC and isinstance(message := decode(SyncMessage, payload), BlocksRequest):
            self._due.append((self._victim.now_ms + REQUEST_TIMEOUT_MS - 100, message))

    def act(self) -> None:
        while self._due and self._due[0][0] <= self._victim.now_ms:
            _, request = self._due.pop(0)
            store = self._chain.store
            block, certificate = store.block(request.first), store.certificate(request.first)
            assert block is not None and certificate is not None
            self._say(BlocksResponse(request.first, (CertifiedBlock(block, certificate),)))

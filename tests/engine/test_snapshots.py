"""Joining by a snapshot: from several peers, against liars, after a stop, and where nobody keeps the blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import msgspec
import pytest

from otcnode import limits, snapshot_sync
from otcnode.codec import decode, encode
from otcnode.consensus.messages import Accusation
from otcnode.engine.snapshot_taking import SnapshotTaker
from otcnode.genesis import Genesis
from otcnode.p2p.framing import Channel
from otcnode.snapshot import Chunk, Manifest, Offer
from otcnode.storage import incoming
from otcnode.sync import ANSWERS_UNASKED_MAX
from otcnode.sync_messages import (
    BlocksResponse,
    ChunkRequest,
    ChunkResponse,
    ManifestRequest,
    ManifestResponse,
    Offers,
    OffersRequest,
    SyncMessage,
    TipNotice,
)
from tests.engine.network import MemoryShelf, Net, Station, deposit, genesis_of, key_of
from tests.engine.test_evidence import double

INTERVAL, BEHIND = 10, 15


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "snapshot_chunk_bytes", 200)


def started(station: Station) -> Station:
    station.engine.start()
    station.settle()
    return station


def leader_at(height: int, buckets: int = 16) -> Station:
    """A network of one, this high, that has made its snapshots; the state tree has so many buckets."""
    genesis = genesis_of(1)
    parameters = msgspec.structs.replace(genesis.parameters, state_buckets=buckets)
    genesis = msgspec.structs.replace(genesis, parameters=parameters)
    station = started(Station(genesis, key_of("node 0"), interval_blocks=INTERVAL))
    for number in range(height):
        station.now_ms += 10
        station.submit(deposit(station.genesis, number))
        station.settle()
        for _ in range(2 * buckets if station.height % INTERVAL == 0 else 0):
            station.elapse(800 // buckets)
    assert station.height == height
    station.sent.clear()
    return station


def full_node(genesis: Genesis, name: str, leader: Station, **kwargs: object) -> Station:
    station = Station(genesis, key_of(name), **kwargs)  # type: ignore[arg-type]
    station.now_ms = leader.now_ms
    return started(station)


def reborn(station: Station) -> Station:
    """The next engine of a node whose snapshot is whole."""
    assert station.shelf.installed is not None
    kv, station.shelf.installed = station.shelf.installed, None
    return started(
        Station(
            station.genesis,
            station.key,
            kv=kv,
            votes=station.votes,
            now_ms=station.now_ms,
            shelf=station.shelf,
            interval_blocks=INTERVAL,
            behind_blocks=BEHIND,
        )
    )


def link(*stations: Station) -> Net:
    net = Net(stations)
    for one in stations:
        for other in stations:
            if one is not other:
                one.engine.connected(other.own)
    return net


def until_installed(net: Net, joiner: Station, limit_ms: int = 60_000) -> None:
    for _ in range(limit_ms // 50):
        if joiner.shelf.installed is not None:
            return
        net.elapse(50)
    raise AssertionError("the snapshot never became whole")


def second_server(leader: Station) -> Station:
    """A full node that has the same snapshots."""
    shelf = MemoryShelf()
    shelf.made = leader.shelf.made
    station = full_node(leader.genesis, "second server", leader, shelf=shelf)
    link(leader, station).elapse(2_000)
    assert station.height == leader.height
    for one, other in ((leader, station), (station, leader)):
        one.engine.disconnected(other.own)
        one.sent.clear()
    return station


def slowly(net: Net, done: Callable[[], bool]) -> None:
    """One message of each station at a time, until it is done."""
    for _ in range(5_000):
        if done():
            return
        for station in net.stations.values():
            station.elapse(1)
            if station.sent:
                peer, channel, payload = station.sent.popleft()
                if peer in net.stations:
                    net.stations[peer].engine.received(station.own, channel, payload)
    raise AssertionError("it is never done")


def chunk_requests(station: Station) -> Counter[bytes]:
    """Whom a joiner has asked for chunks in what waits to be sent."""
    return Counter(
        peer
        for peer, channel, payload in station.sent
        if channel is Channel.SYNC and isinstance(decode(SyncMessage, payload), ChunkRequest)
    )


def test_a_fresh_node_joins_from_several_peers_and_takes_the_rest_as_blocks() -> None:
    leader = leader_at(34)
    assert leader.shelf.made.names() == ["000000000020", "000000000030"]
    other = second_server(leader)
    joiner = full_node(leader.genesis, "joiner", leader, behind_blocks=BEHIND)
    net = link(leader, other, joiner)
    asked: Counter[bytes] = Counter()

    def whole() -> bool:
        asked.update(chunk_requests(joiner))
        return joiner.shelf.installed is not None

    slowly(net, whole)
    assert asked[leader.own] > 0 and asked[other.own] > 0
    follower = reborn(joiner)
    assert (follower.height, follower.store.blocks_first) == (30, 31)
    link(leader, follower).elapse(2_000)
    assert follower.store.tip.block_hash == leader.store.tip.block_hash
    assert follower.store.tree.root == leader.store.tree.root
    assert leader.penalised == other.penalised == joiner.penalised == []


def test_a_joiner_serves_what_it_has_made_since() -> None:
    leader = leader_at(34)
    joiner = full_node(leader.genesis, "joiner", leader, behind_blocks=BEHIND)
    until_installed(link(leader, joiner), joiner)
    follower = reborn(joiner)
    net = link(leader, follower)
    for number in range(100, 110):
        leader.submit(deposit(leader.genesis, number))
        net.elapse(100)
    net.elapse(3_000)
    assert follower.height == leader.height >= 40
    assert "000000000040" in follower.shelf.made.names()
    last = full_node(leader.genesis, "last joiner", follower, behind_blocks=BEHIND)
    until_installed(link(follower, last), last)
    assert reborn(last).store.tip.block_hash == follower.store.header(41).parent  # type: ignore[union-attr]
    assert last.penalised == []


def test_a_node_that_is_not_far_behind_takes_blocks() -> None:
    leader = leader_at(14)
    joiner = full_node(leader.genesis, "joiner", leader, behind_blocks=BEHIND)
    link(leader, joiner).elapse(2_000)
    assert joiner.height == 14 and joiner.shelf.installed is None and not joiner.shelf.begun()


def test_a_node_that_never_wants_one_takes_blocks() -> None:
    leader = leader_at(34)
    joiner = full_node(leader.genesis, "archive", leader, behind_blocks=0)
    link(leader, joiner).elapse(3_000)
    assert joiner.height == 34 and joiner.shelf.installed is None


def test_a_snapshot_is_taken_where_nobody_keeps_the_blocks() -> None:
    leader = leader_at(34)
    first = full_node(leader.genesis, "joiner", leader, behind_blocks=BEHIND)
    until_installed(link(leader, first), first)
    server = reborn(first)
    link(leader, server).elapse(500)
    for number in range(100, 110):
        leader.submit(deposit(leader.genesis, number))
        net = Net([leader, server])
        net.elapse(100)
    net.elapse(2_000)
    assert server.store.blocks_first == 31 and server.shelf.made.names()
    late = full_node(leader.genesis, "late", leader, behind_blocks=1_000_000)
    until_installed(link(server, late), late)
    assert reborn(late).height == 40


@pytest.mark.parametrize("unwritten_bytes", [0, 1 << 20], ids=["killed", "stopped"])
def test_a_stop_loses_no_chunk(unwritten_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does a kill lose what was written; see test_chunks_are_written_several_at_a_time_each_with_its_note."""
    monkeypatch.setattr(limits, "snapshot_unwritten_bytes_max", unwritten_bytes)
    leader = leader_at(34)
    shelf = MemoryShelf()
    joiner = full_node(leader.genesis, "joiner", leader, behind_blocks=BEHIND, shelf=shelf)
    net = link(leader, joiner)
    taker = joiner.engine.catch_up.snapshot_taker
    assert taker is not None
    slowly(net, lambda: taker.incoming is not None and 0 < len(taker.incoming.missing) < 12)
    assert taker.incoming is not None
    missing = set(taker.incoming.missing)
    if unwritten_bytes:
        joiner.engine.close()
    leader.engine.disconnected(joiner.own)
    leader.sent.clear()
    again = full_node(leader.genesis, "joiner", leader, behind_blocks=BEHIND, shelf=shelf)
    asked: set[int] = set()
    right = again.send

    def send(peer: bytes, channel: Channel, payload: bytes) -> None:
        message = decode(SyncMessage, payload) if channel is Channel.SYNC else None
        if isinstance(message, ChunkRequest):
            asked.add(message.index)
        right(peer, channel, payload)

    monkeypatch.setattr(again, "send", send)
    until_installed(link(leader, again), again)
    assert asked == missing
    assert reborn(again).height == 30


def test_what_was_gathered_is_thrown_away_once_the_chain_is_past_it() -> None:
    leader = leader_at(34)
    shelf = MemoryShelf()
    joiner = full_node(leader.genesis, "joiner", leader, behind_blocks=BEHIND, shelf=shelf)
    until_installed(link(leader, joiner), joiner)
    shelf.gathered, shelf.installed = shelf.installed, None
    assert shelf.gathered is not None
    further = full_node(leader.genesis, "archive", leader)
    link(leader, further).elapse(3_000)
    assert further.height == 34
    kept = Station(leader.genesis, key_of("archive"), kv=further.kv, shelf=shelf, behind_blocks=BEHIND)
    started(kept)
    assert not shelf.begun() and kept.height == 34


def test_a_snapshot_never_takes_the_chain_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chain comes past it in another way, as a validator's does that takes part in consensus again."""
    leader = leader_at(34)
    joiner = with_liar(leader, offer_of(leader))
    say(joiner, ManifestResponse(offer_of(leader).block_hash, encode(manifest_of(leader))))
    taker = joiner.engine.catch_up.snapshot_taker
    assert taker is not None and taker.keeps_from_blocks
    joiner.engine.connected(leader.own)
    joiner.engine.catch_up.sync.hint(leader.own, 34, 1)
    ((peer, request),) = joiner.engine.catch_up.sync.poll(0, joiner.now_ms)
    assert peer == leader.own
    leader.engine.connected(joiner.own)
    leader.engine.received(joiner.own, Channel.SYNC, encode(request))
    for payload in leader.payloads(joiner.own, Channel.SYNC):
        if isinstance(decode(SyncMessage, payload), BlocksResponse):
            with monkeypatch.context() as patched:
                patched.setattr(SnapshotTaker, "keeps_from_blocks", False)
                assert joiner.engine.catch_up._choice is not None
                joiner.engine.catch_up._choice.holds_blocks = False
                joiner.engine.received(leader.own, Channel.SYNC, payload)
                joiner.settle()
    assert joiner.height == 34
    for message in asked_of_liar(joiner):
        if isinstance(message, ChunkRequest):
            say(joiner, ChunkResponse(message.snapshot, message.index, encode(_first_chunk(leader, message.index))))
    assert not taker.keeps_from_blocks and not joiner.shelf.begun() and joiner.shelf.installed is None


def test_nothing_is_committed_once_a_snapshot_takes_the_chains_place() -> None:
    leader = leader_at(34)
    joiner = full_node(leader.genesis, "joiner", leader, behind_blocks=BEHIND)
    net = link(leader, joiner)
    until_installed(net, joiner)
    joiner.engine.catch_up.sync.hint(leader.own, 34, 1)
    net.elapse(2_000)
    taker = joiner.engine.catch_up.snapshot_taker
    assert joiner.height == 0 and taker is not None and taker.handed_over


# ---- liars

LIAR = b"l" * 32


def say(station: Station, message: SyncMessage) -> None:
    station.engine.received(LIAR, Channel.SYNC, encode(message))
    station.settle()


def asked_of_liar(station: Station) -> list[SyncMessage]:
    return [decode(SyncMessage, payload) for payload in station.payloads(LIAR, Channel.SYNC)]


def manifest_of(leader: Station) -> Manifest:
    raw = leader.shelf.made.open("000000000030").read("manifest")
    assert raw is not None
    return decode(Manifest, raw)


def offer_of(leader: Station) -> Offer:
    manifest = manifest_of(leader)
    return Offer(30, manifest.certificate.block_hash, manifest.chunk_depth)


def with_liar(leader: Station, offer: Offer) -> Station:
    """A joiner whose only peer offers this and is asked for its manifest."""
    joiner = full_node(leader.genesis, "joiner", leader, behind_blocks=BEHIND)
    joiner.engine.connected(LIAR)
    say(joiner, TipNotice(10**9, 10**9))
    assert OffersRequest() in asked_of_liar(joiner)
    say(joiner, Offers((offer,)))
    assert asked_of_liar(joiner) == [ManifestRequest(offer.block_hash)]
    return joiner


def test_offers_that_nobody_asked_for_make_no_work_and_cost_their_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes of an offer is done later and counts against nobody, so each is to be an answer."""
    joiner = full_node(leader_at(34).genesis, "joiner", leader_at(34), behind_blocks=BEHIND)
    joiner.engine.connected(LIAR)
    say(joiner, TipNotice(10**9, 10**9))
    later: list[object] = []
    monkeypatch.setattr(joiner, "later", later.append)
    asked = asked_of_liar(joiner).count(OffersRequest())
    assert asked == 1
    offers = encode(Offers((Offer(10**6, bytes(32), 1),)))
    for number in range(1 + ANSWERS_UNASKED_MAX):
        joiner.engine.received(LIAR, Channel.SYNC, offers)
        assert len(later) == asked, number
    assert joiner.penalised == []
    joiner.engine.received(LIAR, Channel.SYNC, offers)
    assert len(later) == asked and [peer for peer, _ in joiner.penalised] == [LIAR]


def _unsigned(manifest: Manifest) -> Manifest:
    signatures = manifest.certificate.signatures[:0]
    return msgspec.structs.replace(
        manifest, certificate=msgspec.structs.replace(manifest.certificate, signatures=signatures)
    )


def _forged(manifest: Manifest) -> Manifest:
    """Only whoever verifies the signature knows."""
    (signed,) = manifest.certificate.signatures
    false = msgspec.structs.replace(signed, signature=bytes(64))
    return msgspec.structs.replace(
        manifest, certificate=msgspec.structs.replace(manifest.certificate, signatures=(false,))
    )


FALSE_MANIFESTS: dict[str, Callable[[Manifest], bytes]] = {
    "forged": lambda manifest: encode(_forged(manifest)),
    "junk": lambda manifest: b"junk",
    "uncertified": lambda manifest: encode(_unsigned(manifest)),
    "of another chain": lambda manifest: encode(msgspec.structs.replace(manifest, chain=bytes(32))),
    "of another depth": lambda manifest: encode(msgspec.structs.replace(manifest, chunk_depth=0)),
    "too deep": lambda manifest: encode(msgspec.structs.replace(manifest, chunk_depth=2**62)),
}


@pytest.mark.parametrize("case", FALSE_MANIFESTS)
def test_a_false_manifest_costs_its_server_and_another_is_asked(case: str) -> None:
    leader = leader_at(34)
    joiner = with_liar(leader, offer_of(leader))
    say(joiner, ManifestResponse(offer_of(leader).block_hash, FALSE_MANIFESTS[case](manifest_of(leader))))
    assert [peer for peer, _ in joiner.penalised] == [LIAR]
    joiner.engine.disconnected(LIAR)
    until_installed(link(leader, joiner), joiner)
    assert [peer for peer, _ in joiner.penalised] == [LIAR]
    assert reborn(joiner).height == 30


def _first_chunk(leader: Station, index: int) -> Chunk:
    raw = leader.shelf.made.open("000000000030").read(f"chunk-{index:06x}")
    assert raw is not None
    return decode(Chunk, raw)


FALSE_CHUNKS: dict[str, Callable[[Chunk], bytes]] = {
    "junk": lambda chunk: b"junk",
    "truncated": lambda chunk: encode(chunk)[:-1],
    "with another value": lambda chunk: encode(
        msgspec.structs.replace(chunk, pairs=tuple((key, b"mine") for key, _ in chunk.pairs))
    ),
    "with a pair left out": lambda chunk: encode(msgspec.structs.replace(chunk, pairs=chunk.pairs[1:])),
    "of another index": lambda chunk: encode(msgspec.structs.replace(chunk, index=chunk.index ^ 1)),
}


@pytest.mark.parametrize("case", FALSE_CHUNKS)
def test_a_false_chunk_costs_its_server_and_another_is_asked(case: str) -> None:
    leader = leader_at(34)
    offer = offer_of(leader)
    joiner = with_liar(leader, offer)
    say(joiner, ManifestResponse(offer.block_hash, encode(manifest_of(leader))))
    victim = None
    while victim is None:
        asked = [message for message in asked_of_liar(joiner) if isinstance(message, ChunkRequest)]
        assert 0 < len(asked) <= limits.snapshot_chunks_asked_max
        victim = next((message.index for message in asked if _first_chunk(leader, message.index).pairs), None)
        for message in asked if victim is None else []:
            say(joiner, ChunkResponse(message.snapshot, message.index, encode(_first_chunk(leader, message.index))))
    say(joiner, ChunkResponse(offer.block_hash, victim, FALSE_CHUNKS[case](_first_chunk(leader, victim))))
    assert [peer for peer, _ in joiner.penalised] == [LIAR]
    joiner.engine.disconnected(LIAR)
    until_installed(link(leader, joiner), joiner)
    assert [peer for peer, _ in joiner.penalised] == [LIAR]
    assert reborn(joiner).store.tree.root == leader.store.header(30).state_root  # type: ignore[union-attr]


def test_a_silent_server_holds_nobody_up() -> None:
    leader = leader_at(34)
    joiner = with_liar(leader, offer_of(leader))
    link(leader, joiner).elapse(snapshot_sync.REQUEST_TIMEOUT_MS)
    assert joiner.height == leader.height, "by blocks, which nobody waits with for long"
    assert joiner.penalised == []


def test_an_offer_of_a_height_that_does_not_exist_is_given_up() -> None:
    leader = leader_at(34)
    joiner = with_liar(leader, Offer(10**9, bytes(32), 1))
    say(joiner, ManifestResponse(bytes(32), encode(manifest_of(leader))))
    assert [peer for peer, _ in joiner.penalised] == [LIAR]
    until_installed(link(leader, joiner), joiner, 10_000)


def test_chunks_that_nobody_asked_for_are_not_looked_at() -> None:
    leader = leader_at(34)
    offer = offer_of(leader)
    joiner = full_node(leader.genesis, "joiner", leader, behind_blocks=BEHIND)
    joiner.engine.connected(LIAR)
    for message in (ChunkResponse(offer.block_hash, 0, b"junk"), ManifestResponse(offer.block_hash, b"junk")):
        say(joiner, message)
        joiner.engine.received(LIAR, Channel.SYNC, encode(message) + b"not even decoded")
    assert joiner.shelf.gathered is None and joiner.penalised == []


def test_a_server_whose_snapshot_is_gone_is_not_blamed() -> None:
    leader = leader_at(34)
    offer = offer_of(leader)
    joiner = with_liar(leader, offer)
    say(joiner, ManifestResponse(offer.block_hash, encode(manifest_of(leader))))
    index = next(message.index for message in asked_of_liar(joiner) if isinstance(message, ChunkRequest))
    say(joiner, ChunkResponse(offer.block_hash, index, b""))
    assert joiner.penalised == []
    until_installed(link(leader, joiner), joiner, 10_000)


def test_a_snapshot_that_nobody_offers_any_more_is_given_up() -> None:
    leader = leader_at(34)
    offer = offer_of(leader)
    joiner = with_liar(leader, offer)
    say(joiner, ManifestResponse(offer.block_hash, encode(manifest_of(leader))))
    joiner.engine.disconnected(LIAR)
    for number in range(200, 226):
        leader.submit(deposit(leader.genesis, number))
        for _ in range(4):
            leader.elapse(50)
    leader.elapse(50)
    for _ in range(40):
        leader.elapse(50)
    assert "000000000030" not in leader.shelf.made.names()
    until_installed(link(leader, joiner), joiner, snapshot_sync.ABANDON_MS + 20_000)
    assert reborn(joiner).height > 30


# ---- serving


def test_an_asker_gets_so_many_bytes_a_second_and_so_many_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "sync_served_bytes_per_second", 5_000)
    leader = leader_at(10)
    snapshot = decode(Manifest, leader.shelf.made.open("000000000010").read("manifest")).certificate.block_hash  # type: ignore[arg-type]
    leader.engine.connected(LIAR)
    for index in range(1_000):
        say(leader, ChunkRequest(snapshot, index % 16))
    assert len(leader.payloads(LIAR, Channel.SYNC)) < 10
    for _ in range(20):
        leader.elapse(1_000)
    answers = [decode(SyncMessage, payload) for payload in leader.payloads(LIAR, Channel.SYNC)]
    assert sum(isinstance(answer, ChunkResponse) for answer in answers) == limits.snapshot_requests_waiting_max
    assert leader.penalised == []


def test_half_a_snapshot_is_thrown_away_at_the_start() -> None:
    leader = leader_at(10)
    leader.shelf.made.open("000000000010").remove("manifest")
    again = Station(leader.genesis, leader.key, kv=leader.kv, votes=leader.votes, shelf=leader.shelf)
    started(again)
    assert leader.shelf.made.names() == []


def test_what_was_held_against_validators_goes_along_also_what_came_while_the_snapshot_became_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(incoming, "BUCKETS_PER_STEP", 4)
    leader = leader_at(34)
    joiner = full_node(leader.genesis, "joiner", leader, behind_blocks=BEHIND)
    net = link(leader, joiner)
    right = joiner.later
    came: list[bool] = []

    def later(action: Callable[[], None]) -> None:
        taker = joiner.engine.catch_up.snapshot_taker
        if taker is not None and taker._finishing is not None and not came:
            came.append(True)
            _accuse(joiner, leader, view=1)
        right(action)

    joiner.later = later  # type: ignore[method-assign]
    _accuse(joiner, leader, view=0)
    until_installed(net, joiner)
    held = [kept.offence.view for kept in joiner.engine.evidence.all()]
    assert [kept.offence.view for kept in reborn(joiner).engine.evidence.all()] == held
    assert held == [0, 1]


def _accuse(station: Station, liar: Station, view: int) -> None:
    station.engine.received(liar.own, Channel.CONSENSUS, encode(Accusation(double(liar.chain, liar.key, view))))

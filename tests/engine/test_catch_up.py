"""Serving and taking committed blocks: nodes behind by any number, liars, and nodes that stopped."""

from __future__ import annotations

from functools import cache

import msgspec
import pytest

from otcnode import limits
from otcnode.blocks import Block, Certificate, CertifiedBlock, block_hash, commit_preimage
from otcnode.codec import decode, encode
from otcnode.consensus.effects import Sync
from otcnode.engine import preparing
from otcnode.engine.host import Stage
from otcnode.genesis import Genesis
from otcnode.p2p.framing import Channel
from otcnode.sync import ANSWERS_UNASKED_MAX
from otcnode.sync_messages import (
    BLOCKS_RESPONSE_START,
    SNAPSHOT_ANSWER_STARTS,
    BlocksRequest,
    BlocksResponse,
    SyncMessage,
    TipNotice,
)
from tests.engine.network import Net, Station, alone, deposit, genesis_of, key_of, stations

FOLLOWER = key_of("follower")


def follower(genesis: Genesis) -> Station:
    """A full node: it follows and signs nothing."""
    station = Station(genesis, FOLLOWER)
    station.engine.start()
    station.settle()
    return station


def with_blocks(count: int) -> Station:
    """A network of one that has committed this many blocks."""
    station = alone()
    for number in range(count):
        station.now_ms += 10
        station.submit(deposit(station.genesis, number))
        station.settle()
    assert station.height == count
    station.sent.clear()
    return station


@cache
def served(count: int) -> tuple[CertifiedBlock, ...]:
    station = with_blocks(count)
    blocks = []
    for height in range(1, count + 1):
        block, certificate = station.store.block(height), station.store.certificate(height)
        assert block is not None and certificate is not None
        blocks.append(CertifiedBlock(block, certificate))
    return tuple(blocks)


def give(station: Station, peer: bytes, message: SyncMessage) -> None:
    station.engine.received(peer, Channel.SYNC, encode(message))
    station.settle()


def said(station: Station, peer: bytes) -> list[SyncMessage]:
    return [decode(SyncMessage, payload) for payload in station.payloads(peer, Channel.SYNC)]


PEER, OTHER = b"a" * 32, b"b" * 32


def asked(station: Station, height: int, *peers: bytes) -> None:
    """Peers claim a height and have been asked."""
    for peer in peers:
        station.engine.connected(peer)
        give(station, peer, TipNotice(height, 1))
        assert any(isinstance(message, BlocksRequest) for message in said(station, peer))


@pytest.mark.parametrize("behind", [1, 64, 65, 300])
def test_a_node_that_is_behind_catches_up_while_blocks_are_committed(behind: int) -> None:
    leader = with_blocks(behind)
    station = follower(leader.genesis)
    station.now_ms = leader.now_ms
    for one, other in ((leader, station), (station, leader)):
        one.engine.connected(other.own)
    net = Net([leader, station])
    number = behind
    for _ in range(10):
        for each in net.stations.values():
            if each.sent:
                peer, channel, payload = each.sent.popleft()
                net.stations[peer].engine.received(each.own, channel, payload)
        leader.submit(deposit(leader.genesis, number))
        number += 1
        leader.settle()
    net.elapse(1_000)
    assert station.height == leader.height >= behind + 1
    assert station.store.tip.block_hash == leader.store.tip.block_hash
    assert leader.penalised == station.penalised == []


def test_a_full_node_follows_and_knows_what_is_committed() -> None:
    leader = with_blocks(0)
    station = follower(leader.genesis)
    net = Net([leader, station])
    for one, other in ((leader, station), (station, leader)):
        one.engine.connected(other.own)
    transaction = deposit(leader.genesis, 1)
    station.submit(transaction)
    net.elapse(500)
    assert station.height == 1
    assert station.engine.state_of(transaction.id).stage is Stage.COMMITTED
    assert len(station.engine.intake.pool) == 0


def test_false_blocks_cost_their_server_and_another_is_asked() -> None:
    blocks = served(3)
    station = follower(genesis_of(1))
    asked(station, 3, PEER)
    certificate = blocks[0].certificate
    false = CertifiedBlock(
        msgspec.structs.replace(
            blocks[0].block, header=msgspec.structs.replace(blocks[0].block.header, time_ms=certificate.height)
        ),
        certificate,
    )
    give(station, PEER, BlocksResponse(1, (false, *blocks[1:])))
    assert station.height == 0
    assert [peer for peer, _ in station.penalised] == [PEER]
    asked(station, 3, OTHER)
    give(station, OTHER, BlocksResponse(1, blocks))
    assert station.height == 3
    assert [peer for peer, _ in station.penalised] == [PEER]


@pytest.mark.parametrize(
    "lie", ["other bodies", "no bodies", "foreign votes", "another epoch", "another view", "undecodable"]
)
def test_every_kind_of_false_block_is_refused(lie: str) -> None:
    block = served(2)[0]
    replace = msgspec.structs.replace
    certificate = block.certificate
    lies: dict[str, CertifiedBlock] = {
        "other bodies": CertifiedBlock(Block(block.block.header, served(2)[1].block.transactions), certificate),
        "no bodies": CertifiedBlock(Block(block.block.header, ()), certificate),
        "foreign votes": CertifiedBlock(
            block.block, replace(certificate, signatures=served(2)[1].certificate.signatures)
        ),
        "another epoch": CertifiedBlock(block.block, replace(certificate, epoch=2)),
        "another view": CertifiedBlock(block.block, replace(certificate, view=1)),
        "undecodable": CertifiedBlock(Block(block.block.header, (b"junk",)), certificate),
    }
    station = follower(genesis_of(1))
    asked(station, 2, PEER)
    give(station, PEER, BlocksResponse(1, (lies[lie],)))
    assert station.height == 0
    assert [peer for peer, _ in station.penalised] == [PEER]
    assert station.engine.halted is None


@pytest.mark.parametrize(
    ("bodies", "transactions_max", "bytes_max", "said"),
    [
        (3, 2, 1 << 20, "3 transactions, at most 2"),
        (2, 2, 1 << 16, "bytes of transactions, at most 65536"),
        (2, 3, 1 << 20, "2 bodies for a header of 1"),
    ],
)
def test_what_no_block_of_the_chain_holds_is_not_decoded(
    monkeypatch: pytest.MonkeyPatch, bodies: int, transactions_max: int, bytes_max: int, said: str
) -> None:
    """One message has room for tens of thousands of bodies, and for millions of empty ones."""
    replace = msgspec.structs.replace
    genesis = genesis_of(1)
    parameters = replace(genesis.parameters, block_transactions_max=transactions_max, block_bytes_max=bytes_max)
    station = follower(replace(genesis, parameters=parameters))
    decoded: list[bytes] = []
    monkeypatch.setattr(preparing, "decode_transaction", lambda raw, full_hash: decoded.append(raw))
    true = served(1)[0]
    count = 1 if "header" in said else bodies
    header = replace(true.block.header, transaction_count=count, parent=station.engine.flight.tip().block_hash)
    junk = Block(header, tuple(bytes(40_000) for _ in range(bodies)))
    asked(station, 1, PEER)
    certificate = replace(true.certificate, block_hash=block_hash(header))
    give(station, PEER, BlocksResponse(1, (CertifiedBlock(junk, certificate),)))
    assert [(peer, said in reason) for peer, reason in station.penalised] == [(PEER, True)], station.penalised
    assert decoded == [] and station.height == 0


def test_an_answer_of_more_bodies_than_any_block_has_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "block_transactions_max", 5)
    blocks = tuple(CertifiedBlock(Block(entry.block.header, (b"",) * 3), entry.certificate) for entry in served(2))
    station = follower(genesis_of(1))
    asked(station, 2, PEER)
    give(station, PEER, BlocksResponse(1, blocks))
    assert [peer for peer, _ in station.penalised] == [PEER]
    assert not station.engine.catch_up.sync.holds_blocks


def with_false_vote(block: CertifiedBlock) -> CertifiedBlock:
    """Of the right form, by the right validator, over the right block."""
    (vote,) = block.certificate.signatures
    certificate = msgspec.structs.replace(
        block.certificate, signatures=(msgspec.structs.replace(vote, signature=vote.signature[::-1]),)
    )
    return CertifiedBlock(block.block, certificate)


@pytest.mark.parametrize("place", [0, 1, 6, 7, 8, 11])
def test_every_certificate_of_those_verified_together_counts(place: int) -> None:
    """Blocks are committed up to the false one and no further; then the true one is taken from another."""
    blocks = served(12)
    station = follower(genesis_of(1))
    asked(station, 12, PEER)
    false = [*blocks[:place], with_false_vote(blocks[place]), *blocks[place + 1 :]]
    give(station, PEER, BlocksResponse(1, tuple(false)))
    assert station.height == place
    assert station.penalised == [(PEER, "served a false block: a signature in its certificate is false")]
    asked(station, 12, OTHER)
    give(station, OTHER, BlocksResponse(place + 1, blocks[place:]))
    assert station.height == 12 and len(station.penalised) == 1


def test_nothing_is_executed_before_its_certificate_is_verified() -> None:
    blocks = served(3)
    station = follower(genesis_of(1))
    asked(station, 3, PEER)
    station.engine.received(PEER, Channel.SYNC, encode(BlocksResponse(1, blocks)))
    for _ in range(100):
        while station.put_off:
            station.put_off.popleft()()
        votes = [job for job in station.jobs if any(len(check.message) != 32 for check in job[0])]
        others = [job for job in station.jobs if job not in votes]
        if not others:
            break
        station.jobs.remove(others[0])
        others[0][1]([True] * len(others[0][0]))
    assert votes and station.height == 0 and not len(station.engine.flight)
    station.settle()
    assert station.height == 3


def test_who_serves_what_does_not_fit_a_false_block_below_it_is_not_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two blocks do not fit, and neither's certificate is verified yet: it is the lower one that is judged first."""
    monkeypatch.setattr(limits, "sync_blocks_per_request_max", 1)
    blocks = served(2)
    station = follower(genesis_of(1))
    asked(station, 2, PEER)
    asked(station, 2, OTHER)
    header = msgspec.structs.replace(blocks[0].block.header, time_ms=blocks[0].block.header.time_ms + 1)
    certificate = msgspec.structs.replace(blocks[0].certificate, block_hash=block_hash(header))
    false = CertifiedBlock(Block(header, blocks[0].block.transactions), certificate)
    station.engine.received(OTHER, Channel.SYNC, encode(BlocksResponse(2, (blocks[1],))))
    give(station, PEER, BlocksResponse(1, (false,)))
    assert [peer for peer, _ in station.penalised] == [PEER]
    station.elapse(50)
    give(station, OTHER, BlocksResponse(1, (blocks[0],)))
    assert station.height == 2 and [peer for peer, _ in station.penalised] == [PEER]


def test_a_certified_block_that_executes_differently_stops_the_node_once() -> None:
    """Here the validators certified a state that this ledger does not reach: never repaired, never asked for again."""
    true = served(1)[0]
    header = msgspec.structs.replace(true.block.header, state_root=bytes(32))
    name = block_hash(header)
    signature = key_of("node 0").sign(commit_preimage(alone().chain, 1, 0, 1, name))
    vote = msgspec.structs.replace(true.certificate.signatures[0], signature=signature)
    certificate = Certificate(1, 0, 1, name, (vote,))
    station = follower(genesis_of(1))
    asked(station, 1, PEER)
    give(station, PEER, BlocksResponse(1, (CertifiedBlock(Block(header, true.block.transactions), certificate),)))
    assert station.engine.halted is not None and "executes differently" in station.engine.halted
    assert len(station.engine.alarms) == 1
    assert station.penalised == []
    station.engine.tick()
    station.settle()
    assert len(station.engine.alarms) == 1


@pytest.mark.parametrize("start", [BLOCKS_RESPONSE_START, *SNAPSHOT_ANSWER_STARTS], ids=["blocks", "manifest", "chunk"])
def test_what_nobody_asked_for_is_not_even_decoded_and_costs_its_sender(start: bytes) -> None:
    station = alone()
    station.engine.connected(PEER)
    for _ in range(ANSWERS_UNASKED_MAX):
        station.engine.received(PEER, Channel.SYNC, start + b"not looked at")
    assert station.penalised == []
    station.engine.received(PEER, Channel.SYNC, start + b"nor this")
    assert [peer for peer, _ in station.penalised] == [PEER]


def test_a_peer_that_was_asked_may_answer_once() -> None:
    station = alone()
    asked(station, 5, PEER)
    for answer in range(ANSWERS_UNASKED_MAX + 2):
        assert station.penalised == [], answer
        give(station, PEER, BlocksResponse(1, ()))
    assert [peer for peer, _ in station.penalised] == [PEER]


def test_a_flood_of_requests_is_not_answered_without_bound() -> None:
    station = with_blocks(70)
    station.engine.connected(PEER)
    station.sent.clear()
    for _ in range(2_000):
        station.engine.received(PEER, Channel.SYNC, encode(BlocksRequest(1, 64)))
    sent_bytes = sum(len(payload) for _, _, payload in station.sent)
    assert 0 < sent_bytes <= 2 * limits.sync_served_bytes_per_second


def test_who_asked_too_much_is_served_a_little_later(monkeypatch: pytest.MonkeyPatch) -> None:
    station = with_blocks(70)
    monkeypatch.setattr(limits, "sync_served_bytes_per_second", 100_000)
    station.engine.connected(PEER)
    answers = 0
    for _ in range(20):
        give(station, PEER, BlocksRequest(1, 64))
        answers += sum(isinstance(message, BlocksResponse) for message in said(station, PEER))
    assert answers < 20
    station.elapse(2_000)
    assert [type(message) for message in said(station, PEER)] == [BlocksResponse]


def test_claims_far_beyond_the_chain_do_not_stall_others() -> None:
    """The liar answers with nothing just before it would be given up, and claims again."""
    blocks = served(70)
    station = follower(genesis_of(1))
    for peer in (PEER, OTHER):
        station.engine.connected(peer)
    for _ in range(5):
        give(station, PEER, TipNotice(10**9, 1))
        for _ in range(29):
            give(station, OTHER, TipNotice(70, 1))
            for message in said(station, OTHER):
                if isinstance(message, BlocksRequest) and message.first <= 70:
                    first = message.first
                    give(station, OTHER, BlocksResponse(first, blocks[first - 1 : first - 1 + message.count]))
            station.elapse(100)
        for message in said(station, PEER):
            if isinstance(message, BlocksRequest):
                give(station, PEER, BlocksResponse(message.first, ()))
    assert station.height == 70
    assert station.penalised == []


def test_an_effect_that_asks_for_sync_applies_nothing_between_events() -> None:
    blocks = served(2)
    station = follower(genesis_of(1))
    asked(station, 2, PEER)
    assert PEER in station.engine._peers
    station.engine.catch_up.sync.received(PEER, BlocksResponse(1, blocks), 0)
    station.engine._stepping = True
    station.engine._perform(Sync(PEER, 2))
    assert station.height == 0
    station.engine._stepping = False
    station.settle()
    assert station.height == 2


def test_a_validator_behind_takes_blocks_and_votes_again() -> None:
    net = Net(stations(4))
    net.start()
    first, *_, last = net.stations.values()
    for other in net.stations:
        net.cut |= {(last.own, other), (other, last.own)}
    for number in range(30):
        first.submit(deposit(first.genesis, number))
        net.elapse(50)
    assert last.height < first.height
    net.cut.clear()
    net.elapse(3_000)
    assert last.height == first.height
    assert all(station.penalised == [] for station in net.stations.values())
    assert all(station.engine.halted is None for station in net.stations.values())

"""What waits for its signatures to be verified: no source keeps another's out, or makes it wait for long."""

from __future__ import annotations

import pytest

from otcnode import limits
from otcnode.blocks import Entry
from otcnode.codec import encode
from otcnode.engine.arrivals import Arrival, Arrivals
from otcnode.engine.host import Stage
from otcnode.p2p.framing import Channel
from otcnode.p2p.gossip import Push
from otcnode.vm.transactions import Decoded
from tests.engine.network import Station, deposit, forged, stations

ROOM = 300
TRUE = 20


def _push(station: Station, peer: bytes, transactions: list[Decoded]) -> None:
    payload = encode(Push(tuple(transaction.raw for transaction in transactions)))
    station.engine.received(peer, Channel.TRANSACTIONS, payload)


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> tuple[Station, bytes, bytes]:
    """A validator with little room, a liar and an honest peer of it. Nothing is verified before a test lets it."""
    monkeypatch.setattr(limits, "mempool_transactions_max", ROOM)
    station, liar, honest, _ = stations(4)
    station.engine.start()
    for peer in (liar, honest):
        station.engine.connected(peer.own)
    station.settle()
    station.engine.intake._batch_signatures = 64
    return station, liar.own, honest.own


def _forgeries(station: Station, count: int) -> list[Decoded]:
    true = deposit(station.genesis, 0)
    return [forged(true, number) for number in range(count)]


def _verify_batches(station: Station, count: int) -> None:
    for _ in range(count):
        while not station.jobs:
            station.put_off.popleft()()
        station.verify_next()


def test_a_peer_that_floods_keeps_nobody_out(node: tuple[Station, bytes, bytes]) -> None:
    station, liar, honest = node
    _push(station, liar, _forgeries(station, 2 * ROOM))
    relayed = [deposit(station.genesis, number) for number in range(1, 1 + TRUE)]
    _push(station, honest, relayed)
    submitted = [deposit(station.genesis, number) for number in range(101, 101 + TRUE)]
    answers = [station.submit(each) for each in submitted]
    _verify_batches(station, 2)
    pooled = {decoded.id for decoded in station.engine.intake.pool}
    assert pooled == {decoded.id for decoded in relayed + submitted}
    assert [answer.stage for got in answers for answer in got] == [Stage.POOLED] * TRUE
    assert {who for who, _ in station.penalised} == {liar}


def test_a_flood_makes_nobody_forget_what_came(node: tuple[Station, bytes, bytes]) -> None:
    """What had no room may have had some at the primary, which is not to blame for it."""
    station, liar, _ = node
    station.now_ms = 23_456
    flood = _forgeries(station, 2 * ROOM)
    _push(station, liar, flood)
    intake, last = station.engine.intake, flood[-1]
    assert not intake._arrivals.holds(last.full_hash)
    assert intake.seen_ms(Entry(last.id, last.full_hash)) == 20_000
    assert intake.seen_ms(Entry(last.id, bytes(32))) is None
    assert intake.lacked_room_ms is None


def test_a_client_that_floods_keeps_no_other_out(node: tuple[Station, bytes, bytes]) -> None:
    station, _, honest = node
    refused = [station.submit(each, "10.0.0.1") for each in _forgeries(station, 2 * ROOM)]
    assert [answer.stage for answer in refused[-1]] == [Stage.DROPPED] and not refused[-1][0].definite
    assert "waits to be verified" in refused[-1][0].reason
    relayed = [deposit(station.genesis, number) for number in range(1, 1 + TRUE)]
    _push(station, honest, relayed)
    submitted = [deposit(station.genesis, number) for number in range(101, 101 + TRUE)]
    answers = [station.submit(each, "10.0.0.2") for each in submitted]
    _verify_batches(station, 2)
    assert [answer.stage for got in answers for answer in got] == [Stage.POOLED] * TRUE
    assert {decoded.id for decoded in relayed} <= {decoded.id for decoded in station.engine.intake.pool}


def test_clients_of_many_addresses_have_one_share_beside_the_peers(node: tuple[Station, bytes, bytes]) -> None:
    station, _, honest = node
    for number, each in enumerate(_forgeries(station, 2 * ROOM)):
        station.submit(each, f"10.0.{number % 100}.1")
    relayed = [deposit(station.genesis, number) for number in range(1, 1 + TRUE)]
    _push(station, honest, relayed)
    _verify_batches(station, 1)
    assert [decoded.id for decoded in station.engine.intake.pool] == [decoded.id for decoded in relayed]


def test_what_a_validator_pushes_has_room_beside_what_it_relays(node: tuple[Station, bytes, bytes]) -> None:
    """It relays what others send, and pushes what has waited for too long."""
    station, busy, _ = node
    _push(station, busy, _forgeries(station, 2 * ROOM))
    urgent = deposit(station.genesis, 1)
    station.engine.intake.urgent(busy, [urgent.raw])
    _verify_batches(station, 1)
    assert urgent.id in station.engine.intake.pool


def test_liars_in_number_leave_a_part_for_everybody_once_they_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten of them refill whatever becomes free, before anybody else does."""
    monkeypatch.setattr(limits, "mempool_transactions_max", ROOM)
    (station,) = stations(1)
    arrivals, number, liars = Arrivals(), 0, 10
    true = deposit(station.genesis, 0)
    for _ in range(20):
        for liar in range(liars):
            while arrivals.add(Arrival(forged(true, number), 0, 0, b"liar %d" % liar)):
                number += 1
            number += 1
        for arrival in arrivals.take(40):
            arrivals.release(arrival)
    free = ROOM - len(arrivals)
    assert free >= ROOM // (liars + 1)
    assert arrivals.add(Arrival(true, 0, 0, b"honest"))


def test_what_is_taken_together_leaves_in_the_order_in_which_it_came() -> None:
    arrivals = Arrivals()
    (station,) = stations(1)
    sent = [deposit(station.genesis, number) for number in range(30)]
    for number, decoded in enumerate(sent):
        arrivals.add(Arrival(decoded, 0, 0, (b"a", b"b", None)[number % 3], client=str(number % 2)))
    assert [arrival.decoded for arrival in arrivals.take(100)] == sent

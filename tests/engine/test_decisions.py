"""Who lacks only a certificate gets it from any node's store, also after a restart of all of them."""

from __future__ import annotations

from otcnode import limits
from otcnode.blocks import prepare_preimage
from otcnode.codec import decode, encode
from otcnode.consensus.messages import Decision, Message, Prepare
from otcnode.p2p.framing import Channel
from otcnode.storage.store import Store
from tests.engine.network import Net, Station, deposit, stations
from tests.engine.test_evidence import in_the_next_epoch


def _prepare(station: Station, height: int, epoch: int = 1) -> bytes:
    """What one says who still works on a height."""
    signature = station.key.sign(prepare_preimage(station.chain, epoch, 0, height, b"B" * 32))
    return encode(Prepare(epoch, 0, height, b"B" * 32, station.own, signature))


def _decision(store: Store, height: int) -> Decision:
    header, certificate = store.header(height), store.certificate(height)
    assert header is not None and certificate is not None
    return Decision(header, certificate)


def _restarted(station: Station) -> Station:
    again = Station(station.genesis, station.key, kv=station.kv, votes=station.votes, now_ms=station.now_ms)
    again.engine.start()
    again.settle()
    again.sent.clear()
    return again


def _answers(station: Station, peer: bytes) -> list[Message]:
    said = [decode(Message, payload) for payload in station.payloads(peer, Channel.CONSENSUS)]
    return [message for message in said if isinstance(message, Decision)]


def _chain(blocks: int) -> list[Station]:
    all_of_them = stations(4)
    net = Net(all_of_them)
    net.start()
    for number in range(blocks):
        all_of_them[0].submit(deposit(all_of_them[0].genesis, number))
        net.deliver()
        net.elapse(100)
    assert {station.height for station in all_of_them} == {blocks}
    return all_of_them


def test_a_message_of_any_committed_height_is_answered_with_its_certificate_after_a_restart() -> None:
    behind, station, *_ = _chain(20)
    again = _restarted(station)
    for height in (1, 20):
        again.engine.received(behind.own, Channel.CONSENSUS, _prepare(behind, height))
        assert _answers(again, behind.own) == [_decision(station.store, height)]
    assert again.penalised == []


def test_so_many_in_a_second_are_answered_to_each_peer() -> None:
    behind, station, other, _ = _chain(2)
    again = _restarted(station)
    for _ in range(limits.decisions_sent_per_second_max + 10):
        again.engine.received(behind.own, Channel.CONSENSUS, _prepare(behind, 1))
    again.engine.received(other.own, Channel.CONSENSUS, _prepare(other, 2))
    assert len(_answers(again, behind.own)) == limits.decisions_sent_per_second_max
    assert _answers(again, other.own) == [_decision(station.store, 2)]


def test_a_message_of_an_epoch_that_is_over_is_answered_with_its_end_after_a_restart() -> None:
    liar, (station, *_) = in_the_next_epoch()
    ended = station.store.epochs()[-1].number - 1
    again = _restarted(station)
    again.engine.received(liar.own, Channel.CONSENSUS, _prepare(liar, ended))
    assert _answers(again, liar.own) == [_decision(station.store, ended)]
    again.engine.received(liar.own, Channel.CONSENSUS, _prepare(liar, 1, epoch=0))
    assert _answers(again, liar.own) == [], "nobody voted for the genesis"
    assert again.penalised == []

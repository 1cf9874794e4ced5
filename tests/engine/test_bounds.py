"""What one small message, or a stranger, may cost."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from otcnode import limits
from otcnode.codec import encode
from otcnode.consensus.effects import Build, Sync
from otcnode.consensus.messages import HeightStatus, Mode, Status
from otcnode.engine.documents import DocumentContent
from otcnode.engine.host import Stage
from otcnode.mempool import Limits, Mempool
from otcnode.p2p.framing import Channel
from otcnode.p2p.gossip import Push
from otcnode.snapshot import Offer
from otcnode.sync_messages import Offers, TipNotice
from otcnode.vm.documents.records import SEALED_BYTES_MAX
from otcnode.vm.transactions import Decoded
from tests.engine.network import START_MS, Net, alone, deposit, key_add, key_revoke, stations


def test_whoever_is_not_connected_is_not_asked_for_blocks() -> None:
    """A validator is named by the VIEW-CHANGE that somebody passed on; a request to it would only be lost, and the
    validator distrusted for its silence once it is there."""
    (station, other, *_) = stations(4)
    station.engine.start()
    station.engine._perform(Sync(other.own, 10))
    station.settle()
    assert station.payloads(other.own, Channel.SYNC) == []
    station.engine.connected(other.own)
    station.engine.received(other.own, Channel.SYNC, encode(TipNotice(10, 1)))
    station.settle()
    assert len(station.payloads(other.own, Channel.SYNC)) == 2


def test_a_peer_that_comes_back_without_having_gone_is_asked_anew() -> None:
    """The transport replaces a dead connection by the peer's new one; what was asked over the old one is lost."""
    (station, other, *_) = stations(4)
    station.engine.start()
    for _ in range(2):
        station.engine.connected(other.own)
        station.engine.received(other.own, Channel.SYNC, encode(TipNotice(10, 1)))
        station.settle()
        assert len(station.payloads(other.own, Channel.SYNC)) == 2


def test_what_a_build_finds_inadmissible_is_no_longer_called_work() -> None:
    """Else a primary is asked for blocks, and deposed, over a transaction that no block can hold."""
    station = alone()
    station.submit(key_add(station.genesis, "second"))
    station.settle()
    station.submit(key_revoke(station.genesis, "bank"))
    station.settle()
    station.elapse(1_000)
    revoked = deposit(station.genesis, 1)
    station.engine.intake.pool.add(revoked)
    station.engine._work_changed()
    station.settle()
    assert station.engine.state_of(revoked.id).stage is Stage.DROPPED
    assert station.engine.replica.state.work.waiting == 0


def test_a_build_stops_in_time_whatever_the_transactions_before_cost() -> None:
    """A hundred operations each, after thousands of single ones: by their number all were to fit, and the block took a
    hundred times as long as the view had."""
    station = alone()
    most_ms = station.engine.replica.core.configuration.view_timeout_ms_base // 4
    executed: list[int] = []
    build = station.engine.flight.build

    def slowly(parent: Any, proposer: Any, time_ms: int, candidates: Iterator[Decoded], most: int) -> Any:
        """Each transaction takes a third of what a block may."""

        def each() -> Iterator[Decoded]:
            for decoded in candidates:
                yield decoded
                station.now_ms += most_ms // 3 + 1

        speculation, refused = build(parent, proposer, time_ms, each(), most)
        executed.append(len(speculation.transactions))
        return speculation, refused

    station.engine.flight.build = slowly  # type: ignore[method-assign]
    for number in range(7):
        station.engine.intake.pool.add(deposit(station.genesis, number))
    station.engine._work_changed()
    for _ in range(20):
        station.elapse(50)
    assert sum(executed) == 7 and max(executed) == 3
    most_ms *= 100
    station.engine.intake.pool.add(deposit(station.genesis, 7))
    station.engine._work_changed()
    station.settle()
    assert sum(executed) == 8, "one is always tried"


def test_a_build_on_an_unknown_parent_is_answered() -> None:
    station = alone()
    asked: list[object] = []
    feed = station.engine._feed
    station.engine._feed = lambda event: (asked.append(event), feed(event))[1]  # type: ignore[func-returns-value, method-assign]
    station.engine._perform(Build(7, 5, bytes(32), START_MS, 10, True))
    assert [type(event).__name__ for event in asked] == ["Built"]


def test_expiry_looks_only_at_what_expires() -> None:
    pool = Mempool(Limits(per_account_max=10_000))
    genesis = stations(1)[0].genesis
    for number in range(300):
        pool.add(deposit(genesis, number, valid_until_ms=START_MS + 1_000 + number))
    looked = 0

    class Counting(dict):  # type: ignore[type-arg]
        def items(self):  # type: ignore[no-untyped-def]
            nonlocal looked
            looked += len(self)
            return super().items()

        def get(self, key, default=None):  # type: ignore[no-untyped-def]
            nonlocal looked
            looked += 1
            return super().get(key, default)

    pool._waiting = Counting(pool._waiting)  # type: ignore[assignment]
    for _ in range(100):
        assert pool.expired(START_MS + 999) == []
    assert looked <= 100
    assert len(pool.expired(START_MS + 1_001)) == 2


def test_expiry_forgets_what_left_the_pool_before() -> None:
    pool = Mempool()
    genesis = stations(1)[0].genesis
    signed = deposit(genesis, 0)
    for number in range(3_000):
        name = number.to_bytes(32, "big")
        transaction = msgspec.structs.replace(signed, id=name, full_hash=name)
        pool.add(transaction)
        pool.remove([transaction.id])
    assert len(pool._by_end) <= 2_000
    assert pool.expired(START_MS + 10**9) == []


def test_blocks_in_flight_stay_few_while_nothing_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "blocks_in_flight_kept", 2)
    net = Net(stations(4))
    net.start()
    first, second, *rest = net.stations.values()
    for other in rest:
        for each in net.stations:
            net.cut |= {(other.own, each), (each, other.own)}
    for number in range(20):
        first.submit(deposit(first.genesis, number))
        net.elapse(200)
    for station in (first, second):
        assert station.height == 0
        assert len(station.engine.flight) <= max(2, len(station.engine.replica.state.candidates))


def test_a_thousand_hostile_hints_leave_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    (station, other, *_) = stations(4)
    station.engine.start()
    station.engine.connected(other.own)
    station.sent.clear()
    for height in range(1_000):
        station.engine.received(other.own, Channel.SYNC, encode(TipNotice(10**9 + height, 1)))
    station.settle()
    assert len(station.payloads(other.own, Channel.SYNC)) == 1


@pytest.mark.parametrize("channel", [Channel.CONSENSUS, Channel.SYNC, Channel.TRANSACTIONS, Channel.DOCUMENTS])
def test_a_small_kind_of_message_made_large_costs_its_sender(channel: Channel) -> None:
    """Well formed, and a hundred times as large as an honest one."""
    station, other, *_ = stations(4)
    station.engine.start()
    station.engine.connected(other.own)
    heights = tuple(HeightStatus(height, bytes(32), True, b"", b"") for height in range(1, 20_000))
    large: dict[Channel, Any] = {
        Channel.CONSENSUS: Status(1, 0, Mode.ACTIVE, 0, heights, b"", other.own, bytes(64)),
        Channel.SYNC: Offers((Offer(1, bytes(32), 1),) * 20_000),
        Channel.TRANSACTIONS: Push((bytes(limits.transaction_bytes_max),) * 17),
        Channel.DOCUMENTS: DocumentContent(bytes(32), bytes(SEALED_BYTES_MAX + 1_000)),
    }
    station.engine.received(other.own, channel, encode(large[channel]))
    ((peer, reason),) = station.penalised
    assert peer == other.own
    assert re.search(r"a [a-z]+ message of \d+ bytes, the largest of its kind has \d+", reason)


def test_a_message_full_of_inadmissible_transactions_is_not_read_to_its_end() -> None:
    (station, peer, honest, *_) = stations(4)
    station.engine.start()
    for other in (peer, honest):
        station.engine.connected(other.own)
    true = deposit(station.genesis, 1)
    body = true.transaction.body
    unknown = [
        encode(
            msgspec.structs.replace(
                true.transaction, body=msgspec.structs.replace(body, sender=number.to_bytes(32, "big"))
            )
        )
        for number in range(3 * limits.gossip_refused_per_second)
    ]
    looked_at = 0
    check = station.engine.intake.check

    def counted(decoded: Decoded) -> None:
        nonlocal looked_at
        looked_at += 1
        check(decoded)

    station.engine.intake.check = counted  # type: ignore[method-assign]
    for _ in range(3):
        station.engine.received(peer.own, Channel.TRANSACTIONS, encode(Push((*unknown, true.raw))))
    assert looked_at <= limits.gossip_refused_per_second + 1
    assert station.penalised == []
    station.engine.received(honest.own, Channel.TRANSACTIONS, encode(Push((true.raw,))))
    station.settle()
    assert true.id in station.engine.intake.pool
    station.now_ms += 1_000
    later = deposit(station.genesis, 2)
    station.engine.received(peer.own, Channel.TRANSACTIONS, encode(Push((later.raw,))))
    station.settle()
    assert later.id in station.engine.intake.pool

"""A primary that leaves a client out, and keeps its proposals from one validator after the other, so that each is fed
blocks by sync every few seconds and seems to itself to have been away."""

from __future__ import annotations

import pytest

from otcnode.codec import decode
from otcnode.consensus.messages import Message, PrePrepare
from otcnode.engine import primary_watch
from otcnode.engine.host import Stage
from otcnode.engine.primary_watch import AWAY_AGAIN_MS, PrimaryWatch
from otcnode.p2p.framing import Channel
from otcnode.vm.transactions import Decoded
from tests.engine.network import Net, alone, deposit, stations
from tests.engine.test_primary_watch import watching

INTERVAL_MS = 500


class Censor:
    """The primary of view 0. Every half second it proposes one transaction of an accomplice, and nothing else; every
    fourth of these proposals does not come to one of the others, each in its turn."""

    def __init__(self) -> None:
        self.members = stations(4)
        self.net = Net(self.members)
        self.net.start()
        self.liar, self.other = self.members[0], self.members[1]
        assert self.other.engine.replica.state.primary == self.liar.own
        self._kept_from: bytes | None = None
        self._number = 100
        self._send = self.liar.send
        self._add = self.liar.engine.intake.pool.add
        self.liar.send = self._choosily  # type: ignore[method-assign]
        self.liar.engine.intake.pool.add = lambda *_: None  # type: ignore[method-assign]

    def _choosily(self, peer: bytes, channel: Channel, payload: bytes) -> None:
        kept = peer == self._kept_from and channel is Channel.CONSENSUS
        if not (kept and isinstance(decode(Message, payload), PrePrepare)):
            self._send(peer, channel, payload)

    def deposit(self, number: int) -> Decoded:
        return deposit(self.liar.genesis, number, valid_until_ms=self.liar.now().ledger_ms + 500_000)

    def propose_one(self) -> None:
        self._number += 1
        turn, place = divmod(self._number, 4)
        self._kept_from = self.members[1 + turn % 3].own if place == 0 else None
        self._add(self.deposit(self._number), self.liar.now_ms)
        self.liar.engine._work_changed()
        self.net.elapse(INTERVAL_MS, 10)

    def views(self) -> list[int]:
        return [member.engine.replica.state.view for member in self.members]


def _waited_ms(limit_ms: int) -> int | None:
    """How long a client's transaction took that another validator had; None: longer."""
    censor = Censor()
    for _ in range(20):
        censor.propose_one()
    assert censor.views() == [0] * 4 and censor.other.height > 10
    began_ms, waiting = censor.other.now_ms, censor.deposit(1)
    assert censor.other.submit(waiting) == []
    while censor.other.now_ms < began_ms + limit_ms:
        censor.propose_one()
        if censor.other.engine.state_of(waiting.id).stage is Stage.COMMITTED:
            assert min(censor.views()) > 0
            return censor.other.now_ms - began_ms
    assert censor.views() == [0] * 4
    return None


def test_blocks_by_sync_do_not_keep_a_censor_in_its_place() -> None:
    """Pushed after 2 s, overdue after 4 s more; once a minute the clocks may begin anew."""
    waited_ms = _waited_ms(20_000)
    assert waited_ms is not None and waited_ms < 2 * (2_000 + 4_000) + 3_000


@pytest.mark.long
def test_if_each_begins_the_clocks_anew_they_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted bug."""
    monkeypatch.setattr(primary_watch, "AWAY_AGAIN_MS", 0)
    assert _waited_ms(30_000) is None


def test_only_from_time_to_time_a_block_by_sync_forgets_what_was_pushed() -> None:
    station = alone()
    engine = station.engine
    timeout_ms = engine.replica.state.parameters.inclusion_timeout_real_ms
    parent = engine.flight.parent(engine.flight.tip().block_hash)
    assert parent is not None
    speculation, _ = engine.flight.build(parent, station.key.public, parent.time_ms + 1, iter(()), 100)

    def pushes(watch: PrimaryWatch) -> int:
        again = [(deposit(station.genesis, 2).id, station.now_ms - timeout_ms)]
        return len(watch._inclusion.to_push(again, station.now_ms + timeout_ms, timeout_ms))

    watch = watching(station, timeout_ms)
    watch.synced(speculation, 0)
    assert len(watch._inclusion) == 0 and pushes(watch) == 1
    station.now_ms += AWAY_AGAIN_MS - 1
    watch.synced(speculation, 0)
    assert len(watch._inclusion) == 1
    station.now_ms += 1
    watch.synced(speculation, 0)
    assert len(watch._inclusion) == 0


def test_a_block_by_sync_whose_proposal_had_come_is_judged_like_any_other() -> None:
    """The primary kept back only its COMMIT."""
    station = alone()
    engine = station.engine
    watch = watching(station, engine.replica.state.parameters.inclusion_timeout_real_ms)
    parent = engine.flight.parent(engine.flight.tip().block_hash)
    assert parent is not None
    speculation, _ = engine.flight.build(parent, station.key.public, parent.time_ms + 1, iter(()), 100)
    watch.proposed(speculation.header, speculation.entries)
    watch.synced(speculation, 0)
    assert len(watch._passed_over) == 1

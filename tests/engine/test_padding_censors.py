"""A primary that leaves a client out, and whose blocks others take to be full."""

from __future__ import annotations

import pytest

from otcnode.codec import encode
from otcnode.consensus import inclusion
from otcnode.consensus.messages import Bodies
from otcnode.engine.host import Stage
from otcnode.p2p.framing import Channel
from tests.engine.network import Net, deposit, stations

BODIES_START = encode(Bodies(1, bytes(32), ()))[:7]
INTERVAL_MS = 500


class Censor:
    """The primary of view 0. Every half second it proposes one transaction of an accomplice that nobody has seen
    before, and nothing else; it answers requests for its body after `hold_ms`. A block could hold a thousand."""

    def __init__(self, hold_ms: int) -> None:
        self.members = stations(4)
        self.net = Net(self.members)
        self.net.start()
        self.liar, self.other = self.members[0], self.members[1]
        assert self.other.engine.replica.state.primary == self.liar.own
        self._hold_ms = hold_ms
        self._held: list[tuple[int, tuple[bytes, Channel, bytes]]] = []
        self._number = 100
        self._send = self.liar.send
        self._add = self.liar.engine.intake.pool.add
        self.liar.send = self._slowly  # type: ignore[method-assign]
        self.liar.engine.intake.pool.add = lambda *_: None  # type: ignore[method-assign]

    def _slowly(self, peer: bytes, channel: Channel, payload: bytes) -> None:
        if payload.startswith(BODIES_START):
            self._held.append((self.liar.now_ms + self._hold_ms, (peer, channel, payload)))
        else:
            self._send(peer, channel, payload)

    def propose_one(self) -> None:
        until_ms = self.liar.now().ledger_ms + 500_000
        self._number += 1
        self._add(deposit(self.liar.genesis, self._number, valid_until_ms=until_ms), self.liar.now_ms)
        self.liar.engine._work_changed()
        for _ in range(INTERVAL_MS // 10):
            self.net.elapse(10, 10)
            for entry in [entry for entry in self._held if entry[0] <= self.liar.now_ms]:
                self._held.remove(entry)
                self._send(*entry[1])
            self.net.deliver()

    def views(self) -> list[int]:
        return [member.engine.replica.state.view for member in self.members]


def _waited_ms(hold_ms: int) -> int | None:
    """How long a client's transaction took that another validator had; None: a minute was too short."""
    censor = Censor(hold_ms)
    for _ in range(140):
        censor.propose_one()
    assert censor.views() == [0] * 4 and censor.other.height >= 140
    until_ms, began_ms = censor.other.now().ledger_ms + 500_000, censor.other.now_ms
    victim = deposit(censor.other.genesis, 1, valid_until_ms=until_ms)
    censor.other.submit(victim)
    censor.net.deliver()
    while censor.other.now_ms < began_ms + 60_000:
        censor.propose_one()
        if censor.other.engine.state_of(victim.id).stage is Stage.COMMITTED:
            assert min(censor.views()) > 0
            return censor.other.now_ms - began_ms
    assert censor.views() == [0] * 4
    return None


def test_blocks_that_look_full_and_hold_what_nobody_had_seen_depose_a_censor() -> None:
    """Pushed after 2 s; from 8 s later nine such blocks."""
    waited_ms = _waited_ms(100)
    assert waited_ms is not None and 2_000 + 8_000 < waited_ms < 2_500 + 8_000 + 9 * INTERVAL_MS + 3_000


@pytest.mark.long
def test_blocks_of_one_transaction_that_come_at_once_have_room() -> None:
    waited_ms = _waited_ms(0)
    assert waited_ms is not None and waited_ms < 10_000


@pytest.mark.long
def test_if_what_nobody_had_seen_does_not_count_the_censor_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inclusion, "UNSEEN_BLOCKS_MAX", 1_000)
    assert _waited_ms(100) is None

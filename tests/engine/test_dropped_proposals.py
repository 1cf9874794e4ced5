"""A transaction in a proposal that was dropped waits like any other."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from otcnode.blocks import prepare_preimage
from otcnode.codec import encode
from otcnode.consensus.messages import Commit, Prepare, PrePrepare
from otcnode.engine.host import Stage
from otcnode.p2p.framing import Channel
from otcnode.vm.transactions import Decoded
from tests.engine.network import START_MS, Net, Station, deposit, genesis_of, key_of

VOTES = tuple(encode(kind(1, 0, 1, bytes(32), bytes(32), bytes(64)))[:8] for kind in (Prepare, Commit))


def _members() -> list[Station]:
    """Seven validators, two of which may lie, and a heartbeat of ten minutes."""
    genesis = genesis_of(7)
    genesis = replace(genesis, parameters=replace(genesis.parameters, heartbeat_real_ms=600_000))
    keys = {key_of(f"node {index}").public: key_of(f"node {index}") for index in range(7)}
    return [Station(genesis, keys[validator.id]) for validator in genesis.validators]


def _proposal(liar: Station, waiting: Decoded, later_ms: int) -> bytes:
    flight = liar.engine.flight
    block, _ = flight.build(flight.committed(), liar.own, START_MS + 1_000 + later_ms, iter([waiting]), 10)
    signed = prepare_preimage(liar.chain, 1, 0, 1, block.block_hash)
    return encode(PrePrepare(1, 0, block.header, block.entries, liar.key.sign(signed)))


@pytest.mark.parametrize("proposed", [False, True])
def test_a_primary_that_does_nothing_is_replaced_for_what_a_dropped_proposal_held(proposed: bool) -> None:
    """The primary of view 0 proposes two blocks with it, and stops (or proposes nothing). That of view 1 opens its
    view, takes nothing into its pool and casts no vote."""
    liar, idle, *honest = _members()
    liar.engine.start()
    liar.settle()
    net = Net([idle, *honest])
    send = idle.send

    def without_votes(peer: bytes, channel: Channel, payload: bytes) -> None:
        if not payload.startswith(VOTES):
            send(peer, channel, payload)

    idle.send = without_votes  # type: ignore[method-assign]
    idle.engine.intake.pool.add = lambda *_: None  # type: ignore[method-assign]
    net.start()
    net.elapse(1_000)
    waiting = deposit(liar.genesis, 1, valid_until_ms=START_MS + 300_000)
    honest[0].submit(waiting)
    net.elapse(300)
    net.deliver()
    assert all(waiting.id in station.engine.intake.pool for station in honest)
    if proposed:
        first, second = _proposal(liar, waiting, 0), _proposal(liar, waiting, 1)
        for station in [idle, *honest]:
            station.engine.received(liar.own, Channel.CONSENSUS, first if station in honest[:3] else second)
        net.deliver()
    for _ in range(60):
        net.elapse(1_000)
    assert {station.engine.state_of(waiting.id).stage for station in honest} == {Stage.COMMITTED}

"""What a primary is told, and what it is not blamed for."""

from __future__ import annotations

import dataclasses

import pytest
from msgspec.structs import replace

from otcnode import limits
from otcnode.blocks import Entry, block_hash
from otcnode.codec import encode
from otcnode.consensus import building
from otcnode.consensus.throughput import STRETCH_MS, Pace
from otcnode.crypto import sha256
from otcnode.engine.host import Stage
from otcnode.engine.primary_watch import NEWCOMER_MS, PrimaryWatch
from otcnode.mempool import Limits
from otcnode.p2p.framing import Channel
from otcnode.p2p.gossip import Have
from tests.engine.network import START_MS, Net, Station, alone, deposit, key_of, stations


def watching(station: Station, timeout_ms: int) -> PrimaryWatch:
    """A transaction has been pushed to the primary of this view for longer than the time-out."""
    engine = station.engine
    watch = PrimaryWatch(engine.replica, engine.intake, engine.flight, station)
    watch._view = (1, 0)
    watch._inclusion.restart(-20 * timeout_ms)
    waiting = deposit(station.genesis, 1)
    assert watch._inclusion.to_push([(waiting.id, -10 * timeout_ms)], -5 * timeout_ms, timeout_ms) == [waiting.id]
    return watch


@pytest.mark.parametrize("is_behind", [False, True])
def test_a_block_that_due_items_fill_passes_nothing_over(is_behind: bool) -> None:
    """While something due is left over nobody may put a transaction into a block; otherwise an empty one is held
    against its primary."""
    station = alone()
    engine = station.engine
    watch = watching(station, engine.replica.state.parameters.inclusion_timeout_real_ms)
    parent = engine.flight.parent(engine.flight.tip().block_hash)
    assert parent is not None
    speculation, _ = engine.flight.build(parent, station.key.public, parent.time_ms + 1, iter(()), 100)
    result = dataclasses.replace(speculation.result, is_behind=is_behind)
    watch.proposed(speculation.header, speculation.entries)
    watch.committed(dataclasses.replace(speculation, result=result), 0)
    assert bool(watch._passed_over) is not is_behind


def test_a_primary_that_proposes_much_that_never_commits_is_judged_all_the_same() -> None:
    station = alone()
    engine = station.engine
    watch = watching(station, engine.replica.state.parameters.inclusion_timeout_real_ms)
    parent = engine.flight.parent(engine.flight.tip().block_hash)
    assert parent is not None
    speculation, _ = engine.flight.build(parent, station.key.public, parent.time_ms + 1, iter(()), 100)
    most = engine.replica.state.window + limits.blocks_in_flight_kept
    for number in range(2, most + 2):
        watch.proposed(replace(speculation.header, time_ms=parent.time_ms + number), ())
    watch.committed(speculation, 0)
    assert watch._passed_over == [], "nothing is known of when it was proposed"
    header = replace(speculation.header, height=speculation.header.height + 1, parent=speculation.block_hash)
    following = dataclasses.replace(speculation, header=header, block_hash=block_hash(header))
    watch.proposed(following.header, ())
    watch.committed(following, 0)
    assert watch._passed_over != []


@pytest.mark.parametrize("ahead_ms", [0, 60_000])
def test_who_must_wait_for_the_time_of_the_last_block_is_not_slow(ahead_ms: int) -> None:
    """Its predecessor's clock was ahead. Without that, a primary that proposes nothing for so long is."""
    nodes = stations(4)
    net = Net(nodes)
    net.start()
    net.elapse(600)
    station = nodes[1]
    engine = station.engine
    state = engine.replica.state
    watch = PrimaryWatch(engine.replica, engine.intake, engine.flight, station)
    watch._throughput._views.append(Pace(60_000, 6_000, 6_000, 600_000))
    assert station.submit(deposit(station.genesis, 1)) == []
    station.settle()
    assert len(engine.intake.pool) == 1 and state.own != state.primary
    state.tip = replace(state.tip, time_ms=station.now().ledger_ms + ahead_ms)
    complaints = []
    for _ in range(2 * STRETCH_MS // 500 + 2):
        complaints.append(watch.tick())
        station.now_ms += 500
        state.now = station.now()
    assert building.waits_rightly(state) is bool(ahead_ms)
    assert all(complaint is None for complaint in complaints) is bool(ahead_ms)


def test_what_waits_too_long_is_pushed_and_comes_past_the_primarys_quotas() -> None:
    """The primary's pool has no room for this account, and others keep the chain going."""
    nodes = stations(4)
    net = Net(nodes)
    net.start()
    net.elapse(600)
    primary, other = nodes[0], nodes[1]
    assert primary.engine.replica.state.primary == primary.own
    primary.engine.intake.pool._bounds = Limits(per_account_max=0)
    waiting = deposit(other.genesis, 1)
    assert other.submit(waiting) == []
    other.settle()
    committed_ms = None
    for number in range(2, 8):
        primary.engine.intake.urgent(nodes[2].own, [deposit(primary.genesis, number).raw])
        net.elapse(500)
        if committed_ms is None and other.engine.state_of(waiting.id).stage is Stage.COMMITTED:
            committed_ms = 500 * (number - 1)
    assert committed_ms in (2_000, 2_500)
    assert [station.engine.replica.state.view for station in nodes] == [0] * 4


@pytest.mark.parametrize(("is_blind", "earlier_ms"), [(False, 1), (True, 1), (False, 0)])
def test_who_could_not_remember_does_not_judge_by_when_others_came(
    monkeypatch: pytest.MonkeyPatch, is_blind: bool, earlier_ms: int
) -> None:
    """A full block of what was seen here long after the one it leaves out; unless it may have been turned away here
    before and forgotten, or came with the proposal: then the primary may have had it all the time."""
    station = alone()
    engine = station.engine
    timeout_ms = engine.replica.state.parameters.inclusion_timeout_real_ms
    watch = watching(station, timeout_ms)
    watch._has_room = lambda header, size_bytes: False  # type: ignore[method-assign]
    later = deposit(station.genesis, 2)
    if earlier_ms:
        assert engine.intake.pool.add(later, station.now_ms - earlier_ms) is None
    parent = engine.flight.parent(engine.flight.tip().block_hash)
    assert parent is not None
    speculation, _ = engine.flight.build(parent, station.key.public, parent.time_ms + 1, iter([later]), 100)
    if is_blind:
        monkeypatch.setattr(limits, "refused_transactions_remembered_max", 0)
        monkeypatch.setattr(limits, "sightings_per_outline_max", 0)
        engine.intake.pool._bounds = Limits(transactions_max=0)
        engine.submit(deposit(station.genesis, 3), lambda state: None)
        station.settle()
    watch.proposed(speculation.header, speculation.entries)
    engine.intake.from_proposal([later])
    watch.committed(speculation, 0)
    judged = not is_blind and earlier_ms > 0
    assert [reason.partition(" seen")[0] for _, reason in watch._passed_over] == ["a transaction"] * judged


@pytest.mark.parametrize(
    ("named", "age_ms", "judges"), [(4, 0, True), (5, 0, False), (5, NEWCOMER_MS, True)], ids=["few", "all", "later"]
)
def test_who_has_just_started_does_not_judge_by_when_others_came_where_more_wait_than_it_is_told_of(
    monkeypatch: pytest.MonkeyPatch, named: int, age_ms: int, judges: bool
) -> None:
    """Whoever connects is told of five transactions at most. What a primary proposes beside these may have waited with
    it before: here what came when it was already known, and what did not come before its proposal at all."""
    monkeypatch.setattr(limits, "gossip_announced_at_connect_max", 5)
    station = alone()
    engine = station.engine
    timeout_ms = engine.replica.state.parameters.inclusion_timeout_real_ms
    watch = watching(station, timeout_ms)
    watch._has_room = lambda header, size_bytes: False  # type: ignore[method-assign]
    peer = key_of("another").public
    engine.connected(peer)
    names = tuple(sha256(b"waits with the peer %d" % number) for number in range(named))
    engine.received(peer, Channel.TRANSACTIONS, encode(Have(names)))
    station.now_ms += age_ms
    later = deposit(station.genesis, 2, valid_until_ms=START_MS + age_ms + 60_000)
    assert engine.intake.pool.add(later, station.now_ms - 1) is None
    parent = engine.flight.parent(engine.flight.tip().block_hash)
    assert parent is not None
    speculation, _ = engine.flight.build(parent, station.key.public, parent.time_ms + 1, iter([later]), 100)
    watch.proposed(speculation.header, speculation.entries)
    watch.committed(speculation, 0)
    assert bool(watch._passed_over) is judges
    assert station.penalised == []


def test_room_is_what_a_primary_that_is_four_times_as_slow_would_have_used() -> None:
    """Where blocks take long here, an honest primary's are small, and small ones are not held against it."""
    station = alone()
    engine = station.engine
    watch = watching(station, engine.replica.state.parameters.inclusion_timeout_real_ms)
    parent = engine.flight.parent(engine.flight.tip().block_hash)
    assert parent is not None
    speculation, _ = engine.flight.build(parent, station.key.public, parent.time_ms + 1, iter(()), 100)
    header = replace(speculation.header, height=1_000)

    def rooms() -> list[bool]:
        return [watch._has_room(replace(header, transaction_count=count), 0) for count in (5, 50)]

    for count in (200, 400) * 20:
        engine.replica.core.latency.note(count, 5 + count // 10, 2_000)
    assert rooms() == [True, True]
    for count in (20, 40) * 20:
        engine.replica.core.latency.note(count, 5 + count * 10, 2_000)
    assert rooms() == [True, False]


def test_what_had_no_place_here_has_been_seen_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its author has too much waiting. So a primary that proposes it goes by what came when it was turned away, at
    least by the slice of time; only if that is forgotten too, and a block may hold it yet, can nothing be said."""
    station = alone()
    engine = station.engine
    watch = watching(station, engine.replica.state.parameters.inclusion_timeout_real_ms)
    watch._has_room = lambda header, size_bytes: False  # type: ignore[method-assign]
    engine.intake.pool._bounds = Limits(per_account_max=0)
    refused = deposit(station.genesis, 2)
    came_ms = station.now_ms
    engine.submit(refused, lambda state: None)
    station.settle()
    entry = Entry(refused.id, refused.full_hash)
    assert refused.id not in engine.intake.pool and engine.intake.seen_ms(entry) == came_ms
    assert not watch._is_blind(station.now_ms)
    parent = engine.flight.committed()
    speculation, _ = engine.flight.build(parent, station.key.public, parent.time_ms + 1, iter([refused]), 100)
    watch.proposed(speculation.header, speculation.entries)
    watch.committed(speculation, 0)
    assert [reason.partition(" seen")[0] for _, reason in watch._passed_over] == ["a transaction"]
    monkeypatch.setattr(limits, "refused_transactions_remembered_max", 1)
    engine.submit(deposit(station.genesis, 3), lambda state: None)
    station.settle()
    slice_ms = came_ms - came_ms % limits.sightings_slice_ms
    assert engine.intake.seen_ms(entry) == slice_ms and not watch._is_blind(station.now_ms)
    monkeypatch.setattr(limits, "sightings_per_outline_max", 1)
    engine.submit(deposit(station.genesis, 4), lambda state: None)
    station.settle()
    assert watch._is_blind(station.now_ms)

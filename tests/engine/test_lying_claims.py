"""What one peer claims to have must not decide whether a node says that it is synced, nor what it waits for."""

from __future__ import annotations

import pytest

from otcnode.codec import encode
from otcnode.genesis import first_epoch
from otcnode.p2p.framing import Channel
from otcnode.sync import supported_height
from otcnode.sync_messages import TipNotice
from tests.engine.network import Net, Station, alone, deposit, genesis_of, key_of, stations

LIAR = b"l" * 32


@pytest.mark.parametrize("first", [1, 10**9])
def test_a_node_in_step_with_a_quorum_is_synced_whatever_one_peer_claims(first: int) -> None:
    members = stations(4)
    net = Net(members)
    net.start()
    victim = members[0]
    victim.submit(deposit(victim.genesis, 1))
    net.elapse(2_000)
    assert victim.height >= 1
    victim.engine.connected(LIAR)
    unsynced = 0
    for _ in range(60):
        victim.engine.received(LIAR, Channel.SYNC, encode(TipNotice(10**9, first)))
        net.elapse(500)
        unsynced += victim.engine.catch_up.target() > victim.height
    assert unsynced == 0, f"{unsynced} of 60 looks say: catching up to {10**9}"


class TestSupportedHeight:
    """By claims alone; f = 1 of four validators."""

    EPOCH = first_epoch(genesis_of(4))
    A, B, C, D = EPOCH.validators

    def supported(self, claims: dict[bytes, int]) -> int:
        return supported_height(claims, claims, self.EPOCH)

    def test_one_validator_decides_nothing_and_two_do(self) -> None:
        assert self.supported({self.A: 10**9, self.B: 7, self.C: 7, self.D: 5}) == 7
        assert self.supported({self.A: 9, self.B: 9, self.C: 7, self.D: 5}) == 9

    def test_others_decide_nothing_where_enough_validators_are_heard(self) -> None:
        assert self.supported({self.A: 7, self.B: 6, LIAR: 10**9, bytes(32): 10**9}) == 6

    def test_who_hears_full_nodes_only_or_knows_the_validators_of_long_ago_goes_by_two_of_them(self) -> None:
        assert self.supported({LIAR: 10**9, b"1" * 32: 80, b"2" * 32: 79}) == 80
        assert self.supported({LIAR: 10**9, self.A: 80}) == 80

    def test_a_single_peer_is_all_there_is_to_go_by(self) -> None:
        assert self.supported({b"1" * 32: 80}) == 80
        assert self.supported({}) == 0

    def test_who_is_not_trusted_counts_only_among_validators(self) -> None:
        claims = {self.A: 9, self.B: 8, LIAR: 10**9}
        assert supported_height(claims, {}, self.EPOCH) == 8
        assert supported_height({self.A: 9, LIAR: 10**9}, {self.A: 9}, self.EPOCH) == 9


def test_the_only_validator_is_not_told_by_full_nodes_how_high_its_chain_is() -> None:
    station = alone()
    station.engine.connected(LIAR)
    station.engine.received(LIAR, Channel.SYNC, encode(TipNotice(10**9, 10**9)))
    station.elapse(500)
    assert station.engine.catch_up.target() == station.height


def test_a_single_peer_that_is_ahead_is_followed_and_its_blocks_say_how_far_behind_the_node_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two of four validators would have to say so; one that has the blocks proves it."""
    net = Net(stations(4))
    net.start()
    members = list(net.stations.values())
    for number in range(90):
        members[0].submit(deposit(members[0].genesis, number))
        net.elapse(50)
    ahead = members[0]
    follower = Station(ahead.genesis, key_of("follower"), now_ms=ahead.now_ms)
    follower.engine.start()
    for station in members[1:]:
        follower.engine.connected(station.own)
        follower.engine.received(station.own, Channel.SYNC, encode(TipNotice(1, 1)))
    assert follower.engine.catch_up.target() == 1
    gaps = []
    monkeypatch.setattr(
        follower, "block_committed", lambda height, _: gaps.append(follower.engine.catch_up.target() - height)
    )
    ahead.sent.clear()
    net = Net([ahead, follower])
    for one, other in ((ahead, follower), (follower, ahead)):
        one.engine.connected(other.own)
    net.elapse(2_000)
    assert follower.height == ahead.height >= 60
    assert max(gaps) > 1 and follower.engine.catch_up.target() == follower.height

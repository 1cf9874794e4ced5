"""What others have not must not hide that a node is behind, and what a liar claims must not keep it behind for good."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from otcnode import limits
from otcnode.blocks import Block, Certificate, CertifiedBlock, Header, ValidatorSignature, block_hash, transactions_root
from otcnode.codec import encode
from otcnode.p2p.framing import Channel
from otcnode.sync import DISTRUST_MS, REQUEST_TIMEOUT_MS, BlockSync
from otcnode.sync_messages import BlocksResponse, TipNotice
from tests.engine.network import Station, genesis_of, key_of

AHEAD, ALSO_AHEAD, FRESH, FRESH_TOO, LIAR = b"1" * 32, b"2" * 32, b"3" * 32, b"4" * 32, b"l" * 32
FAR = 10**9


def _follower(validators: int) -> Station:
    station = Station(genesis_of(validators), key_of("follower"), behind_blocks=1_000)
    station.engine.start()
    station.settle()
    return station


def _told(station: Station, claims: Mapping[bytes, int], first: int = 1) -> None:
    for peer, height in claims.items():
        if peer not in station.engine._peers:
            station.engine.connected(peer)
        station.engine.received(peer, Channel.SYNC, encode(TipNotice(height, first)))
        station.settle()


def _is_behind(station: Station) -> bool:
    return station.engine.catch_up.target() > station.height


@pytest.mark.parametrize(
    ("validators", "claims"),
    [
        (4, {AHEAD: 100_000, FRESH: 0}),
        (4, {FRESH: 0, FRESH_TOO: 0, AHEAD: 100_000}),
        (7, {AHEAD: 100_000, ALSO_AHEAD: 100_000, FRESH: 0}),
        (7, {AHEAD: 100_000, FRESH: 0}),
    ],
)
def test_a_full_node_beside_another_that_has_nothing_knows_that_it_is_behind(
    validators: int, claims: dict[bytes, int]
) -> None:
    """It is connected to full nodes, as full nodes may be, or knows only validators that have left; nobody lies."""
    station = _follower(validators)
    _told(station, claims)
    assert station.engine.catch_up._snapshot_wanted(station.now_ms) is not None
    assert station.engine.catch_up.target() == 100_000


def test_who_claims_what_it_does_not_prove_makes_no_node_look_behind_for_long() -> None:
    """A node in step with honest full nodes."""
    station = _follower(4)
    _told(station, {LIAR: FAR, FRESH: 0})
    assert _is_behind(station)
    station.elapse(REQUEST_TIMEOUT_MS)
    behind = 0
    for _ in range(2 * DISTRUST_MS // 500):
        _told(station, {LIAR: FAR, FRESH: 0})
        station.elapse(500)
        behind += _is_behind(station)
    assert behind == 0


def test_what_only_a_snapshot_could_prove_is_believed_of_no_single_peer_beside_another() -> None:
    station = _follower(4)
    _told(station, {FRESH: 0})
    _told(station, {LIAR: FAR}, first=FAR)
    assert not _is_behind(station)


class TestHavingASay:
    def said(self, sync: BlockSync, committed: int, now_ms: int = 0) -> set[bytes]:
        return set(sync.having_a_say(committed, now_ms, {b"o" * 32: committed}))

    def answered(self, sync: BlockSync, count: int, body: bytes, now_ms: int = 0) -> None:
        requests = dict(sync.poll(4, now_ms))
        first = requests[LIAR].first
        assert requests[LIAR].count == limits.sync_blocks_per_request_max
        zero = bytes(32)
        blocks = [
            CertifiedBlock(
                Block(Header(1, zero, height, zero, height, zero, 0, zero, zero, zero, zero, zero), (body,)),
                Certificate(1, 0, height, zero, ()),
            )
            for height in range(first, first + count)
        ]
        assert sync.received(LIAR, BlocksResponse(first, tuple(blocks)), now_ms) is None

    def sync(self) -> BlockSync:
        sync = BlockSync()
        sync.hint(LIAR, FAR)
        sync.hint(FRESH, 4)
        return sync

    def test_only_those_that_are_further_while_they_may_prove_it(self) -> None:
        assert self.said(self.sync(), 4) == {LIAR}

    def test_all_once_a_peer_has_fewer_blocks_than_it_said(self) -> None:
        """It may go on for ever with the next block of those that everybody has."""
        sync = self.sync()
        self.answered(sync, 1, b"")
        assert self.said(sync, 4) == {LIAR, FRESH, b"o" * 32}

    def test_who_gives_all_or_as_much_as_fits_has_kept_its_word(self) -> None:
        sync = self.sync()
        self.answered(sync, limits.sync_blocks_per_request_max, b"")
        assert self.said(sync, 4) == {LIAR}
        sync = self.sync()
        self.answered(sync, 1, bytes(limits.sync_response_bytes_max // 2))
        assert self.said(sync, 4) == {LIAR}

    def test_who_was_late_has_a_say_again_when_it_gives_what_it_said(self) -> None:
        sync = self.sync()
        sync.poll(4, 0)
        sync.poll(4, REQUEST_TIMEOUT_MS)
        assert self.said(sync, 4, REQUEST_TIMEOUT_MS) == {FRESH, b"o" * 32}
        later_ms = REQUEST_TIMEOUT_MS + DISTRUST_MS
        assert self.said(sync, 4, later_ms) == {LIAR, FRESH, b"o" * 32}
        self.answered(sync, limits.sync_blocks_per_request_max, b"", later_ms)
        assert self.said(sync, 4, later_ms) == {LIAR}


def test_a_block_whose_certificate_is_not_judged_yet_proves_no_height() -> None:
    """Junk that a liar serves is held until its signatures are looked at."""
    station = _follower(4)
    validators = [validator.id for validator in station.genesis.validators]
    _told(station, dict.fromkeys(validators, 0))
    _told(station, {LIAR: FAR})
    assert not _is_behind(station)
    tip = station.engine.flight.tip()
    junk, parent = [], tip.block_hash
    for height in range(1, 4):
        zero = bytes(32)
        header = Header(
            1, station.chain, height, parent, height, zero, 0, transactions_root(()), zero, zero, zero, zero
        )
        parent = block_hash(header)
        votes = tuple(ValidatorSignature(name, bytes(64)) for name in sorted(validators)[:3])
        junk.append(CertifiedBlock(Block(header, ()), Certificate(1, 0, height, parent, votes)))
    station.engine.received(LIAR, Channel.SYNC, encode(BlocksResponse(1, tuple(junk))))
    looks = 0
    while station.put_off or station.jobs:
        if station.put_off:
            station.put_off.popleft()()
        else:
            looks += station.engine.catch_up._preparation.holds_blocks
            assert not _is_behind(station)
            station.verify_next()
        assert not _is_behind(station)
    assert looks, "nothing was held while its signatures were looked at"
    assert next(peer for peer, _ in station.penalised) == LIAR

"""Catching up: who is asked for what, and what liars cost."""

import pytest

from otcnode import limits
from otcnode.blocks import Block, Certificate, CertifiedBlock, Header
from otcnode.sync import (
    DISTRUST_MS,
    HEDGE_MS,
    HEIGHTS_AHEAD_MAX,
    REQUEST_TIMEOUT_MS,
    BlocksRequest,
    BlocksResponse,
    BlockSync,
)

ALICE, BOB, LIAR = b"a" * 32, b"b" * 32, b"l" * 32
ZERO = bytes(32)


def block(height: int) -> CertifiedBlock:
    header = Header(1, ZERO, height, ZERO, height, ZERO, 0, ZERO, ZERO, ZERO, ZERO, ZERO)
    return CertifiedBlock(Block(header, ()), Certificate(1, 0, height, ZERO, ()))


def blocks(first: int, count: int) -> BlocksResponse:
    return BlocksResponse(first, tuple(block(height) for height in range(first, first + count)))


def test_two_peers_are_asked_for_different_heights_in_parallel() -> None:
    sync = BlockSync()
    sync.hint(ALICE, 1_000)
    sync.hint(BOB, 1_000)
    ranges = {peer: (request.first, request.count) for peer, request in sync.poll(0, 0)}
    assert ranges == {ALICE: (1, 64), BOB: (65, 64)}
    assert sync.poll(0, 1) == []


def test_blocks_come_out_in_order_whatever_order_they_came_in() -> None:
    sync = BlockSync()
    sync.hint(ALICE, 128)
    sync.hint(BOB, 128)
    sync.poll(0, 0)
    assert sync.received(BOB, blocks(65, 64), 0) is None
    assert sync.next(0) is None
    assert sync.received(ALICE, blocks(1, 64), 0) is None
    for height in range(128):
        following = sync.next(height)
        assert following is not None
        assert following[0].block.header.height == height + 1


def test_fetched_but_unexecuted_blocks_are_bounded() -> None:
    sync = BlockSync()
    sync.hint(ALICE, 10**9)
    for now_ms in range(100):
        for peer, request in sync.poll(0, now_ms):
            assert sync.received(peer, blocks(request.first, request.count), 0) is None
    assert sync.buffered == HEIGHTS_AHEAD_MAX


def test_who_claims_a_billion_and_stays_silent_is_left_for_others() -> None:
    sync = BlockSync()
    sync.hint(LIAR, 10**9)
    assert [peer for peer, _ in sync.poll(0, 0)] == [LIAR]
    sync.hint(ALICE, 10)
    sync.poll(0, 1)
    requests = sync.poll(0, REQUEST_TIMEOUT_MS)
    assert sync.trusted_claims(REQUEST_TIMEOUT_MS) == {ALICE: 10}
    assert [(peer, request.first) for peer, request in requests] in ([], [(ALICE, 1)])
    sync.hint(LIAR, 10**9)
    assert LIAR not in [peer for peer, _ in sync.poll(0, REQUEST_TIMEOUT_MS + DISTRUST_MS - 1)]
    assert LIAR in [peer for peer, _ in sync.poll(0, REQUEST_TIMEOUT_MS + DISTRUST_MS)]


def test_a_rejected_peer_loses_all_it_served_and_the_next_is_asked() -> None:
    sync = BlockSync()
    sync.hint(LIAR, 64)
    sync.poll(0, 0)
    assert sync.received(LIAR, blocks(1, 64), 0) is None
    sync.hint(ALICE, 64)
    sync.reject(LIAR, 1)
    assert sync.next(0) is None
    assert [(peer, request.first) for peer, request in sync.poll(0, 2)] == [(ALICE, 1)]


def test_answers_that_were_not_asked_for_are_refused() -> None:
    sync = BlockSync()
    assert sync.received(ALICE, blocks(1, 1), 0) is not None
    sync.hint(ALICE, 5)
    sync.poll(0, 0)
    assert sync.received(ALICE, blocks(2, 3), 0) is not None
    sync.poll(0, REQUEST_TIMEOUT_MS + DISTRUST_MS)
    sync.hint(ALICE, 5)
    sync.poll(0, REQUEST_TIMEOUT_MS + DISTRUST_MS)
    assert sync.received(ALICE, BlocksResponse(1, (block(1), block(3))), 0) is not None
    assert sync.next(0) is None


def test_an_empty_answer_lowers_the_claim() -> None:
    sync = BlockSync()
    sync.hint(ALICE, 50)
    sync.poll(0, 0)
    assert sync.received(ALICE, BlocksResponse(1, ()), 0) is None
    assert sync.trusted_claims(1) == {}
    assert sync.poll(0, 1) == []


def test_a_height_that_somebody_sits_on_is_asked_for_from_another() -> None:
    sync = BlockSync()
    sync.hint(LIAR, 10)
    assert sync.poll(0, 0) == [(LIAR, BlocksRequest(1, 10))]
    sync.hint(ALICE, 10)
    assert sync.poll(0, HEDGE_MS - 1) == []
    assert sync.poll(0, HEDGE_MS) == [(ALICE, BlocksRequest(1, 10))]


def test_who_claims_blocks_and_serves_none_is_not_asked_again_for_a_while() -> None:
    sync = BlockSync()
    sync.hint(LIAR, 10**9)
    sync.poll(0, 0)
    assert sync.received(LIAR, BlocksResponse(1, ()), 5) is None
    sync.hint(LIAR, 10**9)
    assert sync.poll(0, 5 + DISTRUST_MS - 1) == []
    assert sync.poll(0, 5 + DISTRUST_MS) != []


def test_a_late_answer_over_a_slow_link_is_taken() -> None:
    sync = BlockSync()
    sync.hint(ALICE, 10)
    sync.poll(0, 0)
    assert sync.poll(0, REQUEST_TIMEOUT_MS) == []
    assert sync.received(ALICE, blocks(1, 10), REQUEST_TIMEOUT_MS + 1) is None
    assert sync.next(0) is not None
    assert sync.received(ALICE, blocks(1, 10), REQUEST_TIMEOUT_MS + 2) is not None


def test_the_buffer_is_bounded_in_bytes_and_keeps_what_comes_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "sync_buffer_bytes_max", 1_000)
    sync = BlockSync()
    sync.hint(LIAR, 1_000)
    sync.hint(ALICE, 1_000)
    assert {peer: request.first for peer, request in sync.poll(0, 0)} == {ALICE: 1, LIAR: 65}
    large = tuple(
        CertifiedBlock(Block(block(h).block.header, (bytes(400),)), block(h).certificate) for h in range(65, 129)
    )
    assert sync.received(LIAR, BlocksResponse(65, large), 0) is None
    assert sync.buffered == 2
    assert sync.received(ALICE, BlocksResponse(1, large[:0] + blocks(1, 64).blocks), 0) is None
    assert sync.next(0) is not None and sync.next(63) is not None
    junk = CertifiedBlock(Block(block(1).block.header, (bytes(2_000),)), block(1).certificate)
    alone = BlockSync()
    alone.hint(LIAR, 1)
    alone.poll(0, 0)
    assert alone.received(LIAR, BlocksResponse(1, (junk,)), 0) is None
    assert alone.next(0) is not None


def test_an_empty_answer_says_that_the_block_is_not_kept() -> None:
    """Honest peers that have pruned since they said what they keep: at once it is known that nobody has the block."""
    sync = BlockSync()
    for peer in (ALICE, BOB):
        sync.hint(peer, 20_000, 9_001)
    asked = sync.poll(9_000, 0)
    assert [(peer, request.first) for peer, request in asked] == [(ALICE, 9_001), (BOB, 9_065)]
    for peer, request in asked:
        assert not sync.lacking(9_000, 5)
        assert sync.received(peer, BlocksResponse(request.first, ()), 5) is None
        for known in (ALICE, BOB):
            sync.hint(known, 20_001)
    assert sync.lacking(9_000, 5) and sync.lacking(9_000, 5 + DISTRUST_MS - 1)
    assert not sync.lacking(9_000, 5 + DISTRUST_MS), "they are asked again, for they may have got it since"
    assert {peer for peer, _ in sync.poll(9_000, 5 + DISTRUST_MS)} == {ALICE, BOB}


def test_what_a_peer_has_dropped_it_cannot_talk_back() -> None:
    sync = BlockSync()
    sync.hint(LIAR, 1_000, 500)
    sync.hint(LIAR, 1_000, 1)
    assert sync.lacking(4, 0) and sync.poll(4, 0) == []
    sync.disconnected(LIAR)
    sync.hint(LIAR, 1_000, 1)
    sync.poll(4, 0)
    assert sync.received(LIAR, BlocksResponse(5, ()), 0) is None
    sync.hint(LIAR, 1_000, 1)
    assert sync.lacking(4, DISTRUST_MS - 1) and not sync.lacking(5, DISTRUST_MS - 1), "above it there may be more"


def test_one_that_keeps_the_block_is_enough_unless_it_is_silent() -> None:
    sync = BlockSync()
    sync.hint(ALICE, 1_000, 500)
    assert sync.lacking(4, 0)
    sync.hint(BOB, 1_000, 1)
    assert not sync.lacking(4, 0)
    sync.poll(4, 0)
    sync.poll(4, REQUEST_TIMEOUT_MS)
    assert sync.lacking(4, REQUEST_TIMEOUT_MS)
    sync.disconnected(ALICE)
    assert not sync.lacking(4, REQUEST_TIMEOUT_MS), "nobody says that it is gone"


def test_who_says_before_the_answer_that_it_keeps_less_now_is_believed_as_before() -> None:
    sync = BlockSync()
    sync.hint(ALICE, 1_000, 1)
    sync.poll(4, 0)
    sync.hint(ALICE, 1_000, 500)
    assert sync.received(ALICE, BlocksResponse(5, ()), 0) is None
    assert sync.trusted_claims(0) == {ALICE: 1_000}
    assert sync.lacking(4, 0)
    assert sync.poll(499, 0) == [(ALICE, BlocksRequest(500, 64))]

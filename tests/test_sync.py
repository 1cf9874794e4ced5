"""Catching up: who is asked for what, and what liars cost."""

from otcnode.blocks import Block, Certificate, CertifiedBlock, Header
from otcnode.sync import DISTRUST_MS, HEIGHTS_AHEAD_MAX, REQUEST_TIMEOUT_MS, BlocksResponse, BlockSync

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
    assert sync.received(BOB, blocks(65, 64)) is None
    assert sync.next(0) is None
    assert sync.received(ALICE, blocks(1, 64)) is None
    for height in range(128):
        following = sync.next(height)
        assert following is not None
        assert following[0].block.header.height == height + 1


def test_fetched_but_unexecuted_blocks_are_bounded() -> None:
    sync = BlockSync()
    sync.hint(ALICE, 10**9)
    for now_ms in range(100):
        for peer, request in sync.poll(0, now_ms):
            assert sync.received(peer, blocks(request.first, request.count)) is None
    assert sync.progress(0, 100).buffered == HEIGHTS_AHEAD_MAX


def test_who_claims_a_billion_and_stays_silent_is_left_for_others() -> None:
    sync = BlockSync()
    sync.hint(LIAR, 10**9)
    assert [peer for peer, _ in sync.poll(0, 0)] == [LIAR]
    sync.hint(ALICE, 10)
    sync.poll(0, 1)
    requests = sync.poll(0, REQUEST_TIMEOUT_MS)
    assert sync.progress(0, REQUEST_TIMEOUT_MS).target == 10
    assert [(peer, request.first) for peer, request in requests] in ([], [(ALICE, 1)])
    sync.hint(LIAR, 10**9)
    assert LIAR not in [peer for peer, _ in sync.poll(0, REQUEST_TIMEOUT_MS + DISTRUST_MS - 1)]
    assert LIAR in [peer for peer, _ in sync.poll(0, REQUEST_TIMEOUT_MS + DISTRUST_MS)]


def test_a_rejected_peer_loses_all_it_served_and_the_next_is_asked() -> None:
    sync = BlockSync()
    sync.hint(LIAR, 64)
    sync.poll(0, 0)
    assert sync.received(LIAR, blocks(1, 64)) is None
    sync.hint(ALICE, 64)
    sync.reject(LIAR, 1)
    assert sync.next(0) is None
    assert [(peer, request.first) for peer, request in sync.poll(0, 2)] == [(ALICE, 1)]


def test_answers_that_were_not_asked_for_are_refused() -> None:
    sync = BlockSync()
    assert sync.received(ALICE, blocks(1, 1)) is not None
    sync.hint(ALICE, 5)
    sync.poll(0, 0)
    assert sync.received(ALICE, blocks(2, 3)) is not None
    sync.poll(0, REQUEST_TIMEOUT_MS + DISTRUST_MS)
    sync.hint(ALICE, 5)
    sync.poll(0, REQUEST_TIMEOUT_MS + DISTRUST_MS)
    assert sync.received(ALICE, BlocksResponse(1, (block(1), block(3)))) is not None
    assert sync.next(0) is None


def test_an_empty_answer_lowers_the_claim() -> None:
    sync = BlockSync()
    sync.hint(ALICE, 50)
    sync.poll(0, 0)
    assert sync.received(ALICE, BlocksResponse(1, ())) is None
    assert sync.progress(0, 1).target == 0
    assert sync.poll(0, 1) == []

"""A liar a few blocks ahead of the truth: what it made up, the chain has before the liar has to serve it."""

from __future__ import annotations

import pytest

from otcnode import limits
from otcnode.blocks import Block, Certificate, CertifiedBlock, Header
from otcnode.genesis import first_epoch
from otcnode.sync import DISTRUST_MS, REQUEST_TIMEOUT_MS, BlockSync, supported_height
from otcnode.sync_messages import BlocksRequest, BlocksResponse
from tests.engine.network import genesis_of

LIAR, HONEST = b"l" * 32, (b"1" * 32, b"2" * 32, b"3" * 32)
A_REQUEST = limits.sync_blocks_per_request_max


def _block(height: int) -> CertifiedBlock:
    zero = bytes(32)
    header = Header(1, zero, height, zero, height, zero, 0, zero, zero, zero, zero, zero)
    return CertifiedBlock(Block(header, ()), Certificate(1, 0, height, zero, ()))


def _answer(request: BlocksRequest) -> BlocksResponse:
    return BlocksResponse(request.first, tuple(_block(request.first + number) for number in range(request.count)))


class _Follower:
    """In step with three honest full nodes, two blocks a second; it hears no validators."""

    def __init__(self) -> None:
        self.sync, self.height, self.now_ms = BlockSync(), 10, 0
        self._epoch = first_epoch(genesis_of(4))
        self._asked: BlocksRequest | None = None

    def next_block(self, ahead: int) -> None:
        """The liar claims `ahead` blocks more than there are, and answers once the chain has what it is asked for."""
        self.now_ms += 500
        self.height += 1
        for peer in HONEST:
            self.sync.hint(peer, self.height)
        if self._asked is None:
            self.sync.hint(LIAR, self.height + ahead)
        for peer, request in self.sync.poll(self.height, self.now_ms):
            assert peer == LIAR
            self._asked = request
        if self._asked is not None and self._asked.first + self._asked.count - 1 <= self.height:
            assert self.sync.received(LIAR, _answer(self._asked), self.now_ms) is None
            self._asked = None

    @property
    def is_behind(self) -> bool:
        others = self.sync.having_a_say(self.height, self.now_ms, {})
        return supported_height(self.sync.claims(), others, self._epoch) > self.height


@pytest.mark.parametrize("ahead", [1, 4, A_REQUEST])
def test_who_is_always_a_few_blocks_ahead_of_the_truth_makes_no_node_in_step_look_behind(ahead: int) -> None:
    follower = _Follower()
    behind = 0
    for _ in range(120):
        follower.next_block(ahead)
        behind += follower.is_behind
    assert behind == 0


def test_who_claims_more_than_one_request_brings_has_a_say_until_the_time_out() -> None:
    follower = _Follower()
    behind = []
    for _ in range(120):
        follower.next_block(10**6)
        behind.append(follower.is_behind)
    assert all(behind[: REQUEST_TIMEOUT_MS // 500])
    assert not any(behind[REQUEST_TIMEOUT_MS // 500 :])


def test_who_did_not_give_what_it_said_has_no_say_again_for_the_few_blocks_it_gives_after_a_new_connection() -> None:
    sync = BlockSync()
    sync.hint(HONEST[0], 10)
    sync.hint(LIAR, 10**9)
    sync.poll(10, 0)
    sync.poll(10, REQUEST_TIMEOUT_MS)
    sync.disconnected(LIAR)
    later_ms = REQUEST_TIMEOUT_MS + DISTRUST_MS
    sync.hint(LIAR, 14)
    [(_, request)] = sync.poll(10, later_ms)
    assert request == BlocksRequest(11, 4)
    assert sync.received(LIAR, _answer(request), later_ms) is None
    sync.hint(LIAR, 10**9)
    assert set(sync.having_a_say(14, later_ms, {})) == {LIAR, HONEST[0]}

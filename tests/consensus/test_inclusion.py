"""A transaction is overdue when a later proposal passed it over, and never because it has waited long."""

from __future__ import annotations

import pytest

from otcnode import limits
from otcnode.consensus.inclusion import UNSEEN_BLOCKS_MAX, InclusionWatch, Proposed

TIMEOUT_MS = 4_000
X = b"x" * 32


def _pushed(seen_ms: int = 0, pushed_ms: int = 2_000) -> InclusionWatch:
    watch = InclusionWatch()
    assert watch.to_push([(X, seen_ms)], pushed_ms, TIMEOUT_MS) == [X]
    return watch


def _block(since_ms: int, *transactions: bytes, has_room: bool = False, youngest_ms: int | None = None) -> Proposed:
    return Proposed(set(transactions), since_ms, has_room, youngest_ms)


def test_a_body_is_pushed_after_half_the_time_out_and_once() -> None:
    watch = InclusionWatch()
    assert watch.to_push([(X, 0)], 1_999, TIMEOUT_MS) == []
    assert watch.to_push([(X, 0)], 2_000, TIMEOUT_MS) == [X]
    assert watch.to_push([(X, 0)], 2_500, TIMEOUT_MS) == []


def test_a_new_view_restarts_the_clocks() -> None:
    watch = _pushed()
    watch.restart(5_000)
    assert watch.committed(_block(60_000, has_room=True), TIMEOUT_MS) == []
    assert watch.to_push([(X, 0)], 6_999, TIMEOUT_MS) == []
    assert watch.to_push([(X, 0)], 7_000, TIMEOUT_MS) == [X]


def test_at_most_so_many_are_pushed_the_oldest_first_and_others_follow_when_they_have_ended() -> None:
    watch = InclusionWatch()
    waiting = [(bytes([number]) * 32, number) for number in range(limits.urgent_per_validator_max + 5)]
    chosen = watch.to_push(waiting, 10_000, TIMEOUT_MS)
    assert chosen == [name for name, _ in waiting[: limits.urgent_per_validator_max]]
    assert watch.to_push(waiting, 11_000, TIMEOUT_MS) == []
    watch.ended(chosen[:2])
    assert watch.to_push(waiting[2:], 12_000, TIMEOUT_MS) == [name for name, _ in waiting[-5:-3]]


@pytest.mark.parametrize(
    ("block", "overdue"),
    [
        (_block(6_000, has_room=True), True),
        (_block(5_999, has_room=True), False),  # proposed before the primary has had it for a whole time-out
        (_block(6_000), False),  # full, of what is older: so it is under load
        (_block(6_000, youngest_ms=4_000), False),
        (_block(6_000, youngest_ms=4_001), True),  # full, but of what came more than a time-out later
        (_block(6_000, X, has_room=True), False),
    ],
)
def test_overdue_is_what_a_later_proposal_passed_over(block: Proposed, overdue: bool) -> None:
    assert [name for name, _ in _pushed().committed(block, TIMEOUT_MS)] == [X] * overdue


def test_what_has_ended_is_not_overdue() -> None:
    watch = _pushed()
    watch.ended([X])
    assert watch.committed(_block(60_000, has_room=True), TIMEOUT_MS) == [] and len(watch) == 0


def test_what_nobody_had_seen_speaks_against_a_primary_a_time_out_later_and_not_at_once() -> None:
    """Full blocks. What the primary got before the pushed body has come here by then; a few may have been lost."""
    watch = _pushed(pushed_ms=2_000)
    unseen = [Proposed((), since_ms, False, None, True) for since_ms in range(6_000, 30_000, 500)]
    early = [block for block in unseen if block.since_ms < 2_000 + 2 * TIMEOUT_MS]
    judged = [bool(watch.committed(block, TIMEOUT_MS)) for block in unseen]
    first = len(early) + UNSEEN_BLOCKS_MAX
    assert judged == [False] * first + [True] * (len(unseen) - first)


def test_a_new_view_forgets_what_nobody_had_seen() -> None:
    watch = _pushed()
    blocks = [Proposed((), 20_000 + number, False, None, True) for number in range(UNSEEN_BLOCKS_MAX)]
    assert not any(watch.committed(block, TIMEOUT_MS) for block in blocks)
    watch.restart(21_000)
    assert watch.to_push([(X, 0)], 23_000, TIMEOUT_MS) == [X]
    assert watch.committed(Proposed((), 60_000, False, None, True), TIMEOUT_MS) == []

"""Blocks or a snapshot: what a node that is behind takes, by what it keeps and how fast blocks come."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from otcnode import limits
from otcnode.snapshot_sync import MANIFEST_HOLD_MS, PACE_WINDOW_MS, WHOLE_MS, Wanted
from otcnode.sync_choice import PATIENCE_MS, STEP_MS_MAX, YOUNG_MS, Seen, SyncChoice, caught_up

BEHIND = 20_000
MANY = limits.blocks_kept_min


def seen(height: int, supported: int, **other: object) -> Seen:
    known: dict[str, object] = {
        "blocks_first": 1,
        "furthest": supported,
        "lacking": False,
        "waits": True,
        "first_way_up": False,
    }
    return Seen(height=height, supported=supported, **(known | other))  # type: ignore[arg-type]


class Node:
    """One that looks every 50 ms, and gets a block so often."""

    def __init__(self, choice: SyncChoice, height: int, supported: int) -> None:
        self.choice = choice
        self.height, self.supported, self.now_ms = height, supported, 0
        self.grows_every_ms: int | None = None
        self.block_ms = 1_000
        """How much time lies between two blocks."""
        self.waits = True

    def until_wanted(self, block_every_ms: int | None, for_ms: int, size_bytes: int = 0) -> int | None:
        """How long it took until a snapshot was wanted; None: it never was."""
        began_ms = self.now_ms
        while self.now_ms < began_ms + for_ms:
            self.now_ms += 50
            if block_every_ms is not None and self.now_ms % block_every_ms == 0:
                self.height += 1
                self.choice.pace.took(size_bytes, self.height * self.block_ms)
            if self.grows_every_ms is not None and self.now_ms % self.grows_every_ms == 0:
                self.supported += 1
            if self.choice.snapshot(seen(self.height, self.supported, waits=self.waits), self.now_ms) is not None:
                return self.now_ms - began_ms
        return None


def window(height: int = 0, supported: int = 0) -> Node:
    return Node(SyncChoice(BEHIND, keeps_all=False), height, supported)


def archive(height: int, supported: int) -> Node:
    return Node(SyncChoice(BEHIND, keeps_all=True), height, supported)


def test_far_behind_is_said_by_the_configuration() -> None:
    choice = window().choice
    assert choice.snapshot(seen(5, BEHIND + 4), 0) is None
    assert choice.snapshot(seen(5, BEHIND + 5), 0) == Wanted(5 + BEHIND - 1, BEHIND + 5, beyond=False)
    assert choice.snapshot(seen(5, 9, lacking=True), 0) == Wanted(5, 9, beyond=True)


def test_an_archive_takes_blocks_however_far_behind_it_is_and_while_its_peers_are_being_told_apart() -> None:
    choice = archive(0, 0).choice
    assert choice.snapshot(seen(MANY, 10**9), 0) is None
    assert choice.snapshot(seen(MANY, 10**9, lacking=True), 50) is None


def test_a_node_is_no_archive_before_it_was_once_caught_up() -> None:
    choice = SyncChoice(BEHIND, keeps_all=True)
    far = 2 * BEHIND
    assert choice.snapshot(seen(0, far, first_way_up=True), 0) is not None
    assert choice.snapshot(seen(300, far, first_way_up=True), 50) is not None
    assert choice.snapshot(seen(MANY, 0, furthest=0, first_way_up=True), 100) is None
    assert choice.snapshot(seen(MANY, far + MANY, first_way_up=True), 150) is not None
    assert choice.snapshot(seen(300, far), 200) is None


def test_who_has_a_young_block_and_hears_of_nobody_further_has_caught_up() -> None:
    assert caught_up(300, 300, age_ms=YOUNG_MS - 1) and caught_up(300, 200, age_ms=-1)
    assert not caught_up(3, 3, age_ms=YOUNG_MS), "its peer has just begun itself"
    assert not caught_up(300, 301, age_ms=0) and not caught_up(300, 0, age_ms=0)


def test_who_came_by_a_snapshot_and_has_no_block_yet_may_take_another_one() -> None:
    choice = SyncChoice(BEHIND, keeps_all=True)
    assert choice.snapshot(seen(300, 300, blocks_first=301), 0) is None
    assert choice.snapshot(seen(300, 2 * BEHIND, blocks_first=301), 50) is not None


def test_the_first_blocks_are_held_while_a_fresh_node_looks_for_a_snapshot_and_not_again() -> None:
    choice = SyncChoice(BEHIND, keeps_all=True)

    def holds(height: int, supported: int, now_ms: int) -> bool:
        choice.snapshot(seen(height, supported), now_ms)
        return choice.holds_blocks

    assert not holds(0, 100, 0)
    assert holds(0, BEHIND, 1_000)
    assert holds(0, BEHIND, 1_000 + MANIFEST_HOLD_MS - 1)
    assert not holds(0, 100, 1_000 + MANIFEST_HOLD_MS - 1)
    assert not holds(1, BEHIND + 1, 1_000 + MANIFEST_HOLD_MS - 1)
    assert not any(holds(0, BEHIND, now_ms) for now_ms in range(1_000 + MANIFEST_HOLD_MS, 60_000, 50))


@pytest.mark.parametrize(
    ("make", "patience_ms"),
    [(window, PACE_WINDOW_MS), (archive, PATIENCE_MS), (lambda height, to: archive(9, to), PACE_WINDOW_MS)],
    ids=["window", "archive", "small archive"],
)
def test_who_serves_one_block_just_before_it_would_be_late_does_not_hold_up_for_long(
    make: Callable[[int, int], Node], patience_ms: int
) -> None:
    """The others have pruned. It would take eight hours, and the chain is faster."""
    node = make(MANY, MANY + 11_000)
    node.grows_every_ms = 1_000
    assert node.until_wanted(2_900, 600_000) == pytest.approx(patience_ms, abs=100)


@pytest.mark.parametrize("make", [window, archive])
def test_blocks_that_will_all_be_there_in_ten_minutes_are_fast_enough(make: Callable[[int, int], Node]) -> None:
    missing = 2_000
    node = make(MANY, MANY + missing)
    assert node.until_wanted(WHOLE_MS // missing, WHOLE_MS - PACE_WINDOW_MS) is None


def test_an_archive_goes_on_for_hours_with_what_an_honest_peer_gives_over_a_slow_link() -> None:
    """64 blocks, or an answer that is full of fewer, each quarter of a minute."""
    assert window(MANY, MANY + 15_000).until_wanted(200, 3_600_000) == PACE_WINDOW_MS + 50
    assert archive(MANY, 10**7).until_wanted(200, 3_600_000) is None
    full = limits.sync_response_bytes_max // 2
    assert archive(MANY, 10**7).until_wanted(10_000, 3_600_000, full) is None
    assert archive(MANY, 10**7).until_wanted(10_000, 3_600_000, full // 4) is not None


@pytest.mark.parametrize(("every_ms", "size_bytes", "block_ms"), [(200, 100, 100), (10_000, 1 << 20, 1_000)])
def test_a_slow_link_is_no_reason_to_wait_where_the_chain_is_faster(
    every_ms: int, size_bytes: int, block_ms: int
) -> None:
    """The others have pruned, and the only one that has the blocks is or plays slow: the node would never get there."""
    node = archive(MANY, MANY + 10_000)
    node.grows_every_ms = node.block_ms = block_ms
    assert node.until_wanted(every_ms, 3_600_000, size_bytes) == pytest.approx(PATIENCE_MS, abs=100)


def test_blocks_by_which_a_node_gets_nearer_to_the_present_suffice_whatever_height_others_make_up() -> None:
    node = archive(MANY, 10**7)
    node.grows_every_ms, node.block_ms = 50, 1_000
    assert node.until_wanted(200, 3_600_000) is None


def test_blocks_of_a_busy_time_suffice_where_fewer_and_fewer_are_missing() -> None:
    node = archive(MANY, 10**7)
    node.grows_every_ms, node.block_ms = 1_000, 10
    assert node.until_wanted(200, 3_600_000) is None


def test_an_archive_that_was_stopped_meanwhile_has_not_fallen_back_by_the_fault_of_others() -> None:
    node = archive(MANY, 10**7)
    assert node.until_wanted(200, PATIENCE_MS // 2) is None
    node.now_ms += 86_400_000
    node.supported += 86_400
    node.grows_every_ms = node.block_ms
    assert node.until_wanted(200, 3_600_000) is None


def test_the_time_it_takes_to_execute_is_not_held_against_anybody() -> None:
    node = window(MANY, MANY + 15_000)
    node.waits = False
    assert node.until_wanted(10_000, 600_000) is None


def test_who_was_stopped_for_minutes_did_not_wait() -> None:
    node = archive(MANY, 10**6)
    assert node.until_wanted(None, PATIENCE_MS - 2 * STEP_MS_MAX) is None
    node.now_ms += 10 * PATIENCE_MS
    assert node.until_wanted(None, STEP_MS_MAX // 2) is None
    assert node.until_wanted(None, 2 * STEP_MS_MAX) is not None


def test_silence_and_a_chain_that_is_no_further_begin_the_window_anew() -> None:
    for supported, furthest in ((0, 0), (MANY, 10**9), (0, MANY)):
        node = archive(MANY, 10**6)
        assert node.until_wanted(None, PATIENCE_MS - STEP_MS_MAX) is None
        assert node.choice.snapshot(seen(MANY, supported, furthest=furthest), node.now_ms) is None
        assert node.until_wanted(None, PATIENCE_MS - STEP_MS_MAX) is None
        assert node.until_wanted(None, 2 * STEP_MS_MAX) is not None


def test_peers_that_are_not_believed_for_a_moment_do_not_begin_it_anew() -> None:
    """All were silent, and nobody has a say."""
    node = archive(MANY, MANY + 100)
    assert node.until_wanted(None, PATIENCE_MS - STEP_MS_MAX) is None
    for _ in range(2 * STEP_MS_MAX // 50):
        node.now_ms += 50
        node.choice.snapshot(seen(MANY, 0, furthest=MANY + 100), node.now_ms)
    assert node.choice.pace.slow


def test_a_window_that_is_good_ends_the_wish() -> None:
    node = window(MANY, MANY + 1_000)
    assert node.until_wanted(None, PACE_WINDOW_MS + 100) is not None
    for _ in range(2 * PACE_WINDOW_MS // 50):
        node.until_wanted(100, 50)
    assert node.until_wanted(100, PACE_WINDOW_MS) is None

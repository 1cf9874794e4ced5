"""A primary is slow when much less is committed than lately, although others waited for it."""

from __future__ import annotations

from itertools import pairwise

from otcnode.consensus.throughput import Throughput

LOOK_MS = 50


class Watched:
    """A Throughput that is fed a steady load."""

    def __init__(self, validators: int = 4) -> None:
        self.throughput = Throughput()
        self.validators = validators
        self.now_ms = 0

    def view(self) -> None:
        self.throughput.enter(self.now_ms, self.validators)

    def busy(self, for_ms: int, every_ms: int, wait_ms: int, backlog: bool = False) -> list[int]:
        """One operation committed each `every_ms` after `wait_ms`; the times of complaints."""
        complaints = []
        for _ in range(0, for_ms, LOOK_MS):
            self.now_ms += LOOK_MS
            for _ in range(self.now_ms // every_ms - (self.now_ms - LOOK_MS) // every_ms):
                self.throughput.committed(1, 1, wait_ms)
            if self.throughput.look(self.now_ms, 10, 9 if backlog else 10) is not None:
                complaints.append(self.now_ms)
        return complaints


def test_half_the_pace_with_longer_waits_is_slow_once_a_stretch_is_over() -> None:
    watched = Watched()
    watched.view()
    assert watched.busy(20_000, 10, 100) == []
    assert watched.busy(10_000, 100, 1_000) == [25_000]


def test_a_little_more_than_half_is_not() -> None:
    watched = Watched()
    watched.view()
    watched.busy(20_000, 10, 100)
    assert watched.busy(20_000, 19, 1_000) == []


def test_blocks_by_sync_count_and_no_other_primary_is_measured_by_them() -> None:
    """A slow primary keeps proposals from one validator after the other; who was cut off gets many blocks at once."""
    watched = Watched()
    watched.view()
    watched.busy(20_000, 10, 100)
    complaints = []
    for _ in range(10):
        watched.throughput.synced(1, 1, 1_000)
        complaints += watched.busy(1_000, 100, 1_000)
    assert complaints == [25_000]
    burst = Watched()
    burst.view()
    burst.throughput.synced(100_000, 100_000, 100)
    burst.busy(5_000, 10, 100)
    assert burst.busy(20_000, 19, 1_000) == []


def test_clients_that_send_less_do_not_depose_a_primary() -> None:
    watched = Watched()
    watched.view()
    watched.busy(20_000, 10, 100)
    assert watched.busy(60_000, 100, 100) == []


def test_nor_does_a_pool_that_is_empty_now_and_then() -> None:
    watched = Watched()
    watched.view()
    watched.busy(20_000, 10, 100)
    for _ in range(10):
        assert watched.busy(4_000, 100, 1_000) == []
        watched.throughput.look(watched.now_ms, 0, 0)


def test_a_backlog_at_every_look_shows_it_too_however_long_it_was_before() -> None:
    watched = Watched()
    watched.view()
    watched.busy(20_000, 10, 10_000, backlog=True)
    assert watched.busy(6_000, 100, 10_000, backlog=True) == [25_000]


def test_the_first_view_of_all_has_nothing_to_be_measured_by() -> None:
    watched = Watched()
    watched.view()
    assert watched.busy(60_000, 1_900, 1_900) == []


def test_at_most_one_change_in_ten_seconds_and_after_n_slow_views_the_best_of_them_counts() -> None:
    watched = Watched(4)
    watched.view()
    watched.busy(20_000, 10, 100)
    asked = []
    for _ in range(8):
        watched.view()
        found = watched.busy(20_000, 100, 1_000)
        asked.append(len(found))
        assert all(later - sooner >= 10_000 for sooner, later in pairwise(found))
    assert [count > 0 for count in asked] == [True] * 4 + [False] * 4

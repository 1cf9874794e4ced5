"""Whom to ask for a snapshot, for how much at a time, and how long one may keep a node from blocks."""

from __future__ import annotations

import pytest

from otcnode import limits
from otcnode.snapshot import Offer
from otcnode.snapshot_sync import (
    ABANDON_MS,
    DISTRUST_MS_FIRST,
    DISTRUST_MS_MAX,
    LATE_MS_MAX,
    MANIFEST_HOLD_MS,
    PACE_WINDOW_MS,
    REQUEST_TIMEOUT_MS,
    SOON_MS,
    WHOLE_MS,
    Phase,
    SnapshotSync,
    Wanted,
)
from otcnode.sync_messages import ChunkRequest, ManifestRequest, OffersRequest

ONE, OTHER = b"1" * 32, b"2" * 32
OFFER = Offer(40, bytes(32), 1)
HIGHER = Offer(50, b"h" * 32, 1)
WANTED = Wanted(0, 100, beyond=False)


def offered_by(*peers: bytes, offer: Offer = OFFER) -> SnapshotSync:
    sync = SnapshotSync()
    for peer in peers:
        sync.connected(peer)
        sync.offered(peer, (offer,))
    return sync


def asked_for_manifest(sync: SnapshotSync, now_ms: int, wanted: Wanted = WANTED) -> list[bytes]:
    return [peer for peer, request in sync.poll(now_ms, wanted) if isinstance(request, ManifestRequest)]


def asked_for_chunks(sync: SnapshotSync, now_ms: int, peer: bytes = ONE) -> list[int]:
    requests = sync.poll(now_ms, WANTED)
    return [request.index for asked, request in requests if asked == peer and isinstance(request, ChunkRequest)]


def gathering(*peers: bytes, offer: Offer = OFFER) -> SnapshotSync:
    """The manifest is proven at 0."""
    sync = offered_by(*peers, offer=offer)
    (peer,) = asked_for_manifest(sync, 0)
    assert sync.awaited_manifest(peer, offer.block_hash)
    sync.proving()
    sync.proven(set(range(16**offer.chunk_depth)), 0)
    return sync


def answer(sync: SnapshotSync, peer: bytes, index: int, now_ms: int) -> None:
    assert sync.awaited(peer, index, now_ms)
    sync.kept(peer, index)


def test_whoever_was_asked_for_the_manifest_and_is_gone_holds_nobody_up() -> None:
    sync = offered_by(ONE, OTHER)
    assert asked_for_manifest(sync, 0) == [ONE]
    sync.disconnected(ONE)
    assert [peer for now_ms in (50, 100) for peer in asked_for_manifest(sync, now_ms)] == [OTHER]


def test_the_same_after_a_new_connection() -> None:
    sync = offered_by(ONE)
    assert asked_for_manifest(sync, 0) == [ONE]
    sync.disconnected(ONE)
    sync.connected(ONE)
    sync.offered(ONE, (OFFER,))
    assert [peer for now_ms in (50, 100) for peer in asked_for_manifest(sync, now_ms)] == [ONE]
    assert sync.phase is Phase.MANIFEST


def test_a_server_is_not_late_for_how_long_its_manifest_is_judged_and_no_other_is_asked() -> None:
    """Blocks are taken meanwhile, once it takes long."""
    sync = offered_by(ONE, OTHER)
    assert asked_for_manifest(sync, 0) == [ONE]
    assert sync.awaited_manifest(ONE, OFFER.block_hash)
    sync.proving()
    end_ms = LATE_MS_MAX + 2 * ABANDON_MS
    for now_ms in range(100, end_ms, 100):
        assert asked_for_manifest(sync, now_ms) == [] and asked_for_chunks(sync, now_ms) == []
        assert sync.keeps_from_blocks(now_ms) == (now_ms < MANIFEST_HOLD_MS)
    sync.disconnected(ONE)
    sync.proven(set(range(16)), end_ms)
    assert sync.chosen == OFFER and sync.keeps_from_blocks(end_ms)
    sync.offered(OTHER, (OFFER,))
    assert asked_for_chunks(sync, end_ms, OTHER) == [0]


# ---- which one


@pytest.mark.parametrize("beyond", [False, True])
def test_what_is_believed_to_exist_is_chosen_before_what_is_only_offered(beyond: bool) -> None:
    sync = offered_by(ONE, OTHER, offer=Offer(10**9, b"l" * 32, 1))
    sync.connected(b"3" * 32)
    sync.offered(b"3" * 32, (OFFER,))
    assert asked_for_manifest(sync, 0, Wanted(0, 45, beyond)) == [b"3" * 32]


def test_what_is_only_offered_is_chosen_by_a_node_that_has_no_other_way_on() -> None:
    assert asked_for_manifest(offered_by(ONE), 0, Wanted(0, 0, beyond=False)) == []
    assert asked_for_manifest(offered_by(ONE), 0, Wanted(0, 0, beyond=True)) == [ONE]


def test_distrust_grows_with_everything_that_costs_time_and_ends_with_a_proven_chunk() -> None:
    """So those who take turns offering what they have not are asked less and less often, and others get a turn."""
    sync = offered_by(ONE)
    now_ms = 0
    for strikes in range(10):
        sync.offered(ONE, (OFFER,))
        assert asked_for_manifest(sync, now_ms) == [ONE]
        now_ms += SOON_MS + 1
        assert sync.awaited_manifest(ONE, OFFER.block_hash)
        sync.lacks(ONE, now_ms)
        sync.offered(ONE, (OFFER,))
        pause_ms = min(DISTRUST_MS_FIRST * 2**strikes, DISTRUST_MS_MAX)
        assert asked_for_manifest(sync, now_ms + pause_ms - 1) == []
        now_ms += pause_ms
    sync = gathering(ONE)
    sync.distrust(ONE, 0)
    sync.offered(ONE, (OFFER,))
    (index,) = asked_for_chunks(sync, DISTRUST_MS_FIRST)
    answer(sync, ONE, index, DISTRUST_MS_FIRST)
    sync.distrust(ONE, DISTRUST_MS_FIRST)
    sync.offered(ONE, (OFFER,))
    assert asked_for_chunks(sync, 2 * DISTRUST_MS_FIRST) != []


def test_one_true_chunk_does_not_make_up_for_a_lie() -> None:
    sync = gathering(ONE)
    (index,) = asked_for_chunks(sync, 0)
    answer(sync, ONE, index, 0)
    sync.lied(ONE, 0)
    sync.offered(ONE, (OFFER,))
    index, *_ = asked_for_chunks(sync, DISTRUST_MS_FIRST)
    answer(sync, ONE, index, DISTRUST_MS_FIRST)
    sync.lied(ONE, DISTRUST_MS_FIRST)
    sync.offered(ONE, (OFFER,))
    assert asked_for_chunks(sync, 3 * DISTRUST_MS_FIRST - 1) == []
    assert asked_for_chunks(sync, 3 * DISTRUST_MS_FIRST) != []


def test_a_server_whose_snapshots_are_soon_replaced_is_asked_for_those_it_has_then() -> None:
    sync = offered_by(ONE)
    now_ms = 0
    for _ in range(10):
        assert asked_for_manifest(sync, now_ms) == [ONE]
        assert sync.awaited_manifest(ONE, OFFER.block_hash)
        sync.lacks(ONE, now_ms)
        now_ms += DISTRUST_MS_FIRST
        assert sync.poll(now_ms, WANTED) == [(ONE, OffersRequest())], "not for the one that it had no longer"
        sync.offered(ONE, (OFFER,))


def test_a_manifest_that_comes_late_is_taken_once() -> None:
    sync = offered_by(ONE)
    asked_for_manifest(sync, 0)
    assert asked_for_manifest(sync, REQUEST_TIMEOUT_MS) == [] and sync.phase is Phase.IDLE
    assert sync.may_answer(ONE)
    assert sync.awaited_manifest(ONE, OFFER.block_hash)
    assert sync.phase is Phase.MANIFEST and sync.chosen == OFFER
    assert not sync.awaited_manifest(ONE, OFFER.block_hash) and not sync.may_answer(ONE)


def test_a_manifest_that_never_comes_is_not_waited_for_without_end() -> None:
    sync = offered_by(ONE)
    asked_for_manifest(sync, 0)
    sync.offered(ONE, ())
    sync.poll(LATE_MS_MAX, WANTED)
    assert not sync.may_answer(ONE) and not sync.awaited_manifest(ONE, OFFER.block_hash)


# ---- chunks over links of any speed


def test_more_chunks_are_asked_for_at_a_time_while_they_come_soon_and_fewer_while_they_do_not() -> None:
    sync = gathering(ONE, offer=Offer(40, bytes(32), 2))
    now_ms = 0
    asked = asked_for_chunks(sync, now_ms)
    widths = []
    for took_ms in [*([100] * 6), *([REQUEST_TIMEOUT_MS * 3 // 4] * 8)]:
        widths.append(len(asked))
        now_ms += took_ms
        answer(sync, ONE, asked.pop(0), now_ms)
        asked += asked_for_chunks(sync, now_ms)
    assert widths[0] == 1 and max(widths) == limits.snapshot_chunks_asked_max and widths[-1] == 1


@pytest.mark.parametrize("chunk_ms", [50, 2_000, 9_000, 11_000, 50_000])
def test_a_server_over_a_link_of_any_speed_serves_the_whole_snapshot_and_each_chunk_once(chunk_ms: int) -> None:
    """It sends what is asked one after the other, each in so many milliseconds."""
    sync = gathering(ONE)
    asked: list[int] = []
    served: list[int] = []
    free_ms = chunk_ms
    for now_ms in range(0, 20 * chunk_ms + 1_000, 50):
        for _, request in sync.poll(now_ms, None):
            if isinstance(request, ChunkRequest):
                free_ms = max(free_ms, now_ms + chunk_ms) if not asked else free_ms
                asked.append(request.index)
        if asked and now_ms >= free_ms:
            served.append(asked[0])
            answer(sync, ONE, asked.pop(0), now_ms)
            free_ms = now_ms + chunk_ms
    assert sync.phase is Phase.WHOLE
    assert sorted(served) == list(range(16))


def test_a_chunk_that_is_late_is_asked_for_elsewhere_and_taken_from_whoever_is_first() -> None:
    sync = gathering(ONE, offer=Offer(40, bytes(32), 0))
    assert asked_for_chunks(sync, 0) == [0]
    sync.offered(OTHER, (Offer(40, bytes(32), 0),))
    assert asked_for_chunks(sync, REQUEST_TIMEOUT_MS, OTHER) == [0]
    assert asked_for_chunks(sync, REQUEST_TIMEOUT_MS + 1) == [], "nothing more of it before it has come"
    answer(sync, ONE, 0, REQUEST_TIMEOUT_MS + 2)
    assert sync.phase is Phase.WHOLE


def test_whoever_never_sends_a_chunk_is_not_asked_for_a_while() -> None:
    sync = gathering(ONE)
    assert asked_for_chunks(sync, 0) == [0]
    for now_ms in (REQUEST_TIMEOUT_MS, LATE_MS_MAX - 1, LATE_MS_MAX, LATE_MS_MAX + DISTRUST_MS_FIRST - 1):
        assert asked_for_chunks(sync, now_ms) == []
    sync.offered(ONE, (OFFER,))
    assert asked_for_chunks(sync, LATE_MS_MAX + DISTRUST_MS_FIRST) != []


# ---- how long a snapshot may keep a node from blocks


def test_manifests_that_do_not_come_keep_a_node_from_blocks_for_a_moment_however_many_are_offered() -> None:
    sync = SnapshotSync()
    sync.connected(ONE)
    held_ms = 0
    for now_ms in range(0, 600_000, 50):
        sync.offered(ONE, (Offer(60, now_ms.to_bytes(32, "big"), 1),))
        sync.poll(now_ms, WANTED)
        held_ms += 50 * sync.keeps_from_blocks(now_ms)
    assert 0 < held_ms <= MANIFEST_HOLD_MS


def test_chunks_keep_a_node_from_blocks_as_long_as_they_come_at_a_pace() -> None:
    sync = gathering(ONE, offer=Offer(40, bytes(32), 2))
    due = 256 * PACE_WINDOW_MS // WHOLE_MS
    missing = iter(range(256))
    for window, count in enumerate([due, due - 1, due]):
        sync.connected(ONE)
        sync.offered(ONE, (sync.chosen or OFFER,))
        assert sync.keeps_from_blocks(window * PACE_WINDOW_MS) == (window < 2)
        for _ in range(count):
            sync.kept(ONE, next(missing))
        sync.poll((window + 1) * PACE_WINDOW_MS, WANTED)
    assert sync.keeps_from_blocks(3 * PACE_WINDOW_MS)


def drip(sync: SnapshotSync, peer: bytes, since_ms: int) -> None:
    """Three chunks, each later than a window is long."""
    for chunk in range(3):
        began_ms = since_ms + chunk * (PACE_WINDOW_MS + 1_000)
        asked = asked_for_chunks(sync, began_ms, peer)
        for now_ms in range(began_ms, began_ms + PACE_WINDOW_MS + 1_000, 50):
            asked += asked_for_chunks(sync, now_ms, peer)
        answer(sync, peer, asked[0], now_ms)


def test_a_true_snapshot_in_very_many_chunks_that_drip_is_left_for_one_that_comes() -> None:
    sync = gathering(ONE, offer=Offer(60, b"d" * 32, 4))
    sync.connected(OTHER)
    sync.offered(OTHER, (OFFER,))
    for now_ms in range(0, PACE_WINDOW_MS + 100, 50):
        for index in asked_for_chunks(sync, now_ms):
            answer(sync, ONE, index, now_ms)
    assert sync.chosen == OFFER and sync.phase is Phase.MANIFEST
    assert sync.awaited_manifest(OTHER, OFFER.block_hash)
    sync.proving()
    sync.proven(set(range(16)), now_ms)
    drip(sync, OTHER, now_ms)
    assert sync.chosen == OFFER, "as slow as the other, which does not come back for that"


def test_a_slow_server_of_two_snapshots_is_not_made_to_begin_again() -> None:
    sync = gathering(ONE)
    sync.offered(ONE, (OFFER, HIGHER))
    drip(sync, ONE, 0)
    assert sync.chosen == OFFER and sync.phase is Phase.CHUNKS


# ---- what may come


def test_an_answer_is_owed_once_and_over_the_same_connection_only() -> None:
    """However late it comes: a peer whose line is slow does nothing wrong."""
    sync = offered_by(ONE)
    assert not sync.owes(ONE) and not sync.owes(OTHER)
    assert asked_for_manifest(sync, 0) == [ONE]
    assert sync.owes(ONE) and not sync.owes(ONE)
    again = offered_by(ONE)
    assert asked_for_manifest(again, 0) == [ONE]
    again.disconnected(ONE)
    again.connected(ONE)
    assert not again.owes(ONE)

"""Whom to ask for a snapshot."""

from __future__ import annotations

from otcnode.snapshot import Offer
from otcnode.snapshot_sync import Phase, SnapshotSync
from otcnode.sync_messages import ManifestRequest

ONE, OTHER = b"1" * 32, b"2" * 32
OFFER = Offer(40, bytes(32), 1)


def offered_by(*peers: bytes) -> SnapshotSync:
    sync = SnapshotSync()
    for peer in peers:
        sync.connected(peer)
        sync.offered(peer, (OFFER,))
    return sync


def asked_for_manifest(sync: SnapshotSync, now_ms: int) -> list[bytes]:
    return [peer for peer, request in sync.poll(now_ms, 0) if isinstance(request, ManifestRequest)]


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

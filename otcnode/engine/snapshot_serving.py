"""Making snapshots at regular heights, a little at every tick, and serving them to whoever joins."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from typing import NamedTuple

from otcnode import limits
from otcnode.codec import encode
from otcnode.engine.host import Host
from otcnode.errors import ConfigurationError, FolderDamage, NoRoom
from otcnode.p2p.framing import Channel
from otcnode.p2p.rates import Rate, TokenBucket
from otcnode.snapshot import Offer
from otcnode.storage.folder import Folder, Folders
from otcnode.storage.snapshot_maker import MANIFEST, Source, Step, chunk_name, make, offer_of, read_manifest, source_of
from otcnode.storage.store import Store
from otcnode.sync_messages import (
    ChunkRequest,
    ChunkResponse,
    ManifestRequest,
    ManifestResponse,
    Offers,
    OffersRequest,
    SnapshotAnswer,
    SnapshotRequest,
)

ANSWER_OVERHEAD_BYTES = 2_000
"""What the smallest answer costs."""


class _Made(NamedTuple):
    name: str
    offer: Offer
    folder: Folder


class _Work(NamedTuple):
    name: str
    source: Source
    folder: Folder
    steps: Generator[Step, None, None]


class SnapshotServer:
    """`interval_blocks` 0: none are made, those that are there are served. `chunk_bytes` None: as limits.py says. A
    snapshot that cannot be kept or read is given up with a note: no other node depends on this one's."""

    def __init__(
        self, store: Store, folders: Folders, host: Host, interval_blocks: int, chunk_bytes: int | None = None
    ) -> None:
        self._store = store
        self._folders = folders
        self._host = host
        self._interval_blocks = interval_blocks
        self._chunk_bytes = chunk_bytes
        self._made: dict[bytes, _Made] = {}
        self._work: _Work | None = None
        self._missed_height = 0
        """The last of which a snapshot was to be made and could not be."""
        self._served: dict[bytes, TokenBucket] = {}
        self._waiting: dict[bytes, deque[SnapshotRequest]] = {}

    def start(self) -> None:
        """Find what is there; half a snapshot is thrown away."""
        for name in self._names():
            folder = self._folders.open(name)
            try:
                manifest = read_manifest(folder)
                if manifest is None:
                    self._delete(name)
                else:
                    self._keep(_Made(name, offer_of(manifest), folder))
            except FolderDamage as damage:
                self._give_up(name, damage)
        self._keep_blocks()

    def _names(self) -> list[str]:
        try:
            return self._folders.names()
        except FolderDamage as damage:
            self._host.note("error", "the snapshots made here cannot be listed", reason=str(damage))
            return []

    def _keep_blocks(self) -> None:
        """A node that is behind must get on by what somebody has: a snapshot, and every block above it. So blocks are
        not pruned before there is a snapshot above them, or it has turned out that there will be none of a height above
        them: all nodes may find the same, and disks that fill up would halt them all. What is lost by that is little,
        for the last two are always among the blocks that are to be kept (`NodeConfiguration`): only who is behind while
        none could be made twice needs another node."""
        if self._interval_blocks:
            tip = self._store.tip.height
            heights = [made.offer.height for made in self._made.values()] + [self._missed_height]
            self._store.blocks_needed_above = max((height for height in heights if height <= tip), default=0)

    def committed(self, height: int) -> None:
        """Begin a snapshot of this height if its turn has come, none is being made and it is not here already."""
        if not self._interval_blocks or height % self._interval_blocks or self._work is not None:
            return
        if self._store.tip.block_hash in self._made:
            return
        name = f"{height:012d}"
        for block, made in list(self._made.items()):
            if made.name == name:
                # Of another block: the chain was taken back below it.
                del self._made[block]
                self._delete(name)
        source = source_of(self._store)
        folder = self._folders.open(name)
        self._work = _Work(name, source, folder, make(source, folder, self._chunk_bytes, self._room_bytes))

    def _room_bytes(self) -> int:
        return self._folders.free_bytes() - limits.snapshot_spare_bytes

    def poll(self) -> None:
        """One piece of the work that is to be done, and answers whose time has come."""
        self._go_on()
        waiting, self._waiting = self._waiting, {}
        for peer, requests in waiting.items():
            for request in requests:
                self.request(peer, request)

    def close(self) -> None:
        """Let go of the store."""
        self._end_work()

    def disconnected(self, peer: bytes) -> None:
        self._served.pop(peer, None)
        self._waiting.pop(peer, None)

    def request(self, peer: bytes, request: SnapshotRequest) -> None:
        """Answer now, or when the peer has had less lately."""
        now_ms = self._host.now().monotonic_ms
        served = self._served.get(peer)
        if served is None:
            rate = limits.sync_served_bytes_per_second
            served = self._served[peer] = TokenBucket(Rate(rate, rate), now_ms)
        if served.take(0, now_ms):
            waiting = self._waiting.setdefault(peer, deque(maxlen=limits.snapshot_requests_waiting_max))
            waiting.append(request)
            return
        payload = encode(self._answer(request))
        served.take(max(len(payload), ANSWER_OVERHEAD_BYTES), now_ms)
        self._host.send(peer, Channel.SYNC, payload)

    def _answer(self, request: SnapshotRequest) -> SnapshotAnswer:
        match request:
            case OffersRequest():
                return Offers(tuple(made.offer for made in self._made.values()))
            case ManifestRequest(snapshot):
                return ManifestResponse(snapshot, self._read(snapshot, MANIFEST))
            case ChunkRequest(snapshot, index):
                return ChunkResponse(snapshot, index, self._read(snapshot, chunk_name(index)))

    def _read(self, snapshot: bytes, name: str) -> bytes:
        made = self._made.get(snapshot)
        if made is None:
            return b""
        try:
            return made.folder.read(name) or b""
        except FolderDamage as damage:
            del self._made[snapshot]
            self._keep_blocks()
            self._give_up(made.name, damage)
            return b""

    def _go_on(self) -> None:
        if self._work is None:
            return
        work = self._work
        try:
            if next(work.steps, None) is not None:
                return
            manifest = read_manifest(work.folder)
            assert manifest is not None, "its maker has come to its end"
            self._end_work()
            self._keep(_Made(work.name, offer_of(manifest), work.folder))
            self._host.note("info", "snapshot made", height=manifest.header.height, chunks=manifest.chunks)
        except (FolderDamage, ConfigurationError) as error:
            self._end_work()
            self._give_up(work.name, error)
            if isinstance(error, NoRoom):
                self._make_room()
            self._missed_height = work.source.header.height
            self._keep_blocks()

    def _make_room(self) -> None:
        """For the snapshot of the next height: the newest one stays, while the blocks that are here lead on from it."""
        for block, made in sorted(self._made.items(), key=lambda entry: self._worth(entry[1]))[:-1]:
            self._let_go(block, made)
        for block, made in list(self._made.items()):
            if made.offer.height + 1 < self._store.blocks_first:
                self._let_go(block, made)

    def _let_go(self, block: bytes, made: _Made) -> None:
        del self._made[block]
        self._host.note("info", "a snapshot is deleted, to make room for the next", snapshot=made.name)
        self._delete(made.name)

    def _end_work(self) -> None:
        if self._work is not None:
            self._work.steps.close()
            self._work.source.reader.close()
            self._work = None

    def _keep(self, made: _Made) -> None:
        """The oldest go when there are too many; before them those above the chain, which was taken back since."""
        kept = sorted([*self._made.values(), made], key=self._worth)
        for old in kept[: -limits.snapshots_kept]:
            self._delete(old.name)
        self._made = {entry.offer.block_hash: entry for entry in kept[-limits.snapshots_kept :]}
        self._keep_blocks()

    def _worth(self, made: _Made) -> tuple[bool, int]:
        return made.offer.height <= self._store.tip.height, made.offer.height

    def _give_up(self, name: str, error: Exception) -> None:
        self._host.note("error", "a snapshot is given up", snapshot=name, reason=str(error))
        self._delete(name)

    def _delete(self, name: str) -> None:
        """One that stays is found, and served or deleted, by the next start."""
        try:
            self._folders.remove(name)
        except FolderDamage as damage:
            self._host.note("error", "a snapshot cannot be deleted", snapshot=name, reason=str(damage))

"""Taking a snapshot from peers: the messages of `snapshot_sync`, and the store in which the snapshot is gathered."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from otcnode import limits
from otcnode.codec import encode
from otcnode.crypto import SignatureCheck
from otcnode.engine.host import Host
from otcnode.errors import DiskFull, FolderDamage, GatheredDamage, ProofError, StorageDamage, StorageRefused
from otcnode.p2p.framing import Channel
from otcnode.snapshot import Manifest, Proven, decode_chunk, decode_manifest, manifest_steps
from otcnode.snapshot_sync import Phase, SnapshotSync, Wanted
from otcnode.storage.folder import Folders
from otcnode.storage.incoming import Incoming, Roots, begun
from otcnode.storage.kv import KeyValue
from otcnode.storage.leaves import depth_of
from otcnode.storage.snapshot_maker import offer_of
from otcnode.storage.store import Store
from otcnode.sync_messages import ChunkResponse, ManifestResponse, Offers, SnapshotAnswer

_DONE = object()
NO_ROOM = (
    "a snapshot is given up, and taken later: the disk has no room for it beside what is left to the chain. What may "
    "go elsewhere: former chains, where this node has put any aside in data/archives or data/archives-beside"
)
REFUSED = "a snapshot waits, and is gone on with later: the system refuses what gathering it needs"
CLAIMED_TOO_LARGE = (
    "a peer is not asked for a snapshot for a while: the disk has no room for it, by the size that the peer tells and "
    "nobody proves. If all peers tell it, what may go elsewhere: former chains, where this node has put any aside in "
    "data/archives or data/archives-beside"
)
GATHERED_TIMES = 2
"""LevelDB writes what is gathered twice, to its log and to tables, and tables again before the old ones go."""
LEAF_BYTES = 100
"""What a key costs beside its bytes: its leaf of the state tree, and LevelDB's own."""
DAMAGED = "a snapshot is given up: what was gathered of it is damaged"


class Shelf(Protocol):
    """Where a node keeps the snapshots that it serves, and gathers the one that it takes."""

    @property
    def made(self) -> Folders: ...

    def begun(self) -> bool:
        """Whether something has been gathered."""
        ...

    def incoming(self) -> KeyValue:
        """The store in which a snapshot is gathered: empty, or as it was left. Raises StorageRefused."""
        ...

    def discard(self) -> None:
        """Give up what has been gathered."""
        ...

    def close(self) -> None:
        """Let go of what has been gathered, which stays as it is."""
        ...

    def install(self) -> None:
        """The gathered store is whole: end this engine, soon, and start another one on that store."""
        ...


class DamagePause:
    """For how long no snapshot is gathered, where some were damaged on this disk: it is fetched again at once the first
    time, and then ever later, for a disk that goes on harming it must not make the node take it without end. It
    outlives the engine: what is found damaged when it is to take the chain's place ends one engine and begins
    another."""

    def __init__(self) -> None:
        self.until_ms = 0
        self._next_ms = 0

    def begin(self, now_ms: int) -> None:
        """One was damaged. `now_ms`: monotonic."""
        self.until_ms = now_ms + self._next_ms
        longer_ms = max(limits.snapshot_damage_pause_ms, 2 * self._next_ms)
        self._next_ms = min(longer_ms, limits.snapshot_damage_pause_ms_max)

    def end(self) -> None:
        """A sound one has taken the chain's place."""
        self.until_ms = self._next_ms = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Proving:
    """A manifest that is being judged. `server`: None where it was on the disk."""

    server: bytes | None
    steps: Generator[list[SignatureCheck], None, Proven]


class SnapshotTaker:
    """Nothing of the node's own chain is touched before the whole snapshot is there and proven."""

    def __init__(
        self,
        store: Store,
        shelf: Shelf,
        host: Host,
        unwritten_bytes: int | None = None,
        pause: DamagePause | None = None,
    ) -> None:
        self._store = store
        self._shelf = shelf
        self._host = host
        self._unwritten_bytes = unwritten_bytes
        first_epoch = store.epochs()[0]
        self._roots = Roots(store.chain, store.genesis_state_root, store.tree.buckets, first_epoch)
        self._incoming: Incoming | None = None
        self._proving: _Proving | None = None
        self._finishing: Generator[None, None, None] | None = None
        self._not_before_ms = 0
        self._set_aside = False
        """What has been gathered waits on the disk until the system refuses it no more."""
        self._pause = pause or DamagePause()
        self.handed_over = False
        """The snapshot is whole and takes the chain's place: this engine must not add to that chain any more."""
        self.sync = SnapshotSync()

    @property
    def keeps_from_blocks(self) -> bool:
        """Whether no blocks are taken: a snapshot gets on, or takes the chain's place."""
        return self.handed_over or self.sync.keeps_from_blocks(self._host.now().monotonic_ms)

    @property
    def incoming(self) -> Incoming | None:
        """What has been gathered of the chosen snapshot."""
        return self._incoming

    def start(self) -> None:
        """Go on with what was gathered before a stop or a refusal, if it is still ahead of the chain."""
        if not self._shelf.begun():
            return
        try:
            manifest = begun(self._shelf.incoming())
        except ProofError:
            self._shelf.discard()
            return
        except GatheredDamage as damage:
            self._give_up_damaged(damage)
            return
        except DiskFull as refused:
            self._give_up_for_now(_why(refused), reason=str(refused))
            return
        except StorageRefused as refused:
            self._put_aside(refused)
            return
        if manifest is None or manifest.header.height <= self._store.tip.height:
            self._shelf.discard()
            return
        self.sync.resume(offer_of(manifest))
        self._prove(manifest, None)

    def poll(self, wanted: Wanted | None) -> None:
        """Ask for what is missing. None: no snapshot is wanted."""
        self._give_up_if_passed()
        now_ms = self._host.now().monotonic_ms
        may_begin = max(self._not_before_ms, self._pause.until_ms) <= now_ms
        if may_begin and self._set_aside:
            self._set_aside = False
            self.start()
            may_begin = not self._set_aside
        for peer, request in self.sync.poll(now_ms, wanted if may_begin else None):
            self._host.send(peer, Channel.SYNC, encode(request))
        if self.sync.phase is Phase.IDLE and self._incoming is not None:
            reason = "nobody offers it any more, or another one promises to come sooner"
            self._host.note("warning", f"a snapshot is given up: {reason}", height=self._height())
            self._forget()
        self._install_if_whole()

    def received(self, peer: bytes, answer: SnapshotAnswer) -> None:
        match answer:
            case Offers(offers):
                self.sync.offered(peer, offers)
            case ManifestResponse(snapshot, raw):
                if not self._set_aside and self.sync.awaited_manifest(peer, snapshot):
                    self._begin(peer, raw)
            case ChunkResponse(snapshot, index, raw):
                if self.sync.awaited(peer, index, self._host.now().monotonic_ms) and self._is_chosen(snapshot):
                    self._take(peer, index, raw)

    def _is_chosen(self, snapshot: bytes) -> bool:
        return self.sync.chosen is not None and self.sync.chosen.block_hash == snapshot

    def _begin(self, peer: bytes, raw: bytes) -> None:
        """The manifest of the chosen snapshot, or what pretends to be."""
        chosen = self.sync.chosen
        if not raw:
            self.sync.lacks(peer, self._host.now().monotonic_ms)
            return
        try:
            manifest = decode_manifest(raw)
            if offer_of(manifest) != chosen:
                raise ProofError("the manifest is of another snapshot than was offered")
        except ProofError as error:
            self._blame(peer, error)
            return
        self.sync.proving()
        self._prove(manifest, peer)

    def _prove(self, manifest: Manifest, server: bytes | None) -> None:
        roots = self._roots
        steps = manifest_steps(manifest, roots.chain, roots.first_epoch, depth_of(roots.buckets))
        self._proving = _Proving(server, steps)
        self._go_on_proving(self._proving)

    def _go_on_proving(self, proving: _Proving) -> None:
        """A piece of it, whose signatures are verified beside the loop; the rest later."""
        if self._proving is not proving:
            return

        def verified(verdicts: Sequence[bool]) -> None:
            if all(verdicts):
                self._go_on_proving(proving)
            elif self._proving is proving:
                self._end_proving(proving, ProofError("the manifest: a signature of a validator is wrong"))

        try:
            signatures = next(proving.steps)
        except StopIteration as end:
            self._proving = None
            self._gather(end.value, proving.server)
        except ProofError as error:
            self._end_proving(proving, error)
        else:
            self._host.verify_votes(signatures, verified)

    def _end_proving(self, proving: _Proving, error: ProofError) -> None:
        """The manifest is false. What was on the disk under it is of no use."""
        self.sync.abandon()
        self._forget()
        if proving.server is not None:
            self._blame(proving.server, error)

    def _gather(self, proven: Proven, server: bytes | None) -> None:
        """`server`: of the manifest, None where it was on the disk, with what has been gathered."""
        try:
            if server is not None:
                self._shelf.discard()
                if not self._has_room():
                    return
            self._incoming = Incoming(self._shelf.incoming(), self._roots, proven, self._unwritten_bytes)
        except GatheredDamage as damage:
            self._give_up_damaged(damage)
            return
        except StorageRefused as refused:
            if server is None:
                self._put_aside(refused)
            else:
                self._give_up_for_now(_why(refused), reason=str(refused))
            return
        if server is not None and not self._has_room_for_claim(server, proven.manifest):
            return
        self.sync.proven(self._incoming.missing, self._host.now().monotonic_ms)
        if server is not None:
            self._host.note("info", "taking a snapshot", height=self._height(), chunks=proven.manifest.chunks)
        self.poll(None)

    def _take(self, peer: bytes, index: int, raw: bytes) -> None:
        if self._incoming is None:
            return
        if not raw:
            self.sync.lacks(peer, self._host.now().monotonic_ms)
            return
        if not self._has_room():
            return
        try:
            self._incoming.put(index, decode_chunk(raw))
        except ProofError as error:
            self._blame(peer, error)
            return
        except GatheredDamage as damage:
            self._give_up_damaged(damage)
            return
        except StorageRefused as refused:
            self._refused(refused)
            return
        self.sync.kept(peer, index)
        self._install_if_whole()

    def _has_room_for_claim(self, peer: bytes, manifest: Manifest) -> bool:
        """Whether a snapshot of the size that its proven manifest tells fits beside what is left to the chain. The size
        is not proven, so where not it speaks only against asking this peer: the next may tell another one. A size that
        is told too small is found out by the room that is left when chunks come."""
        gathered_bytes = GATHERED_TIMES * (manifest.size_bytes + LEAF_BYTES * manifest.keys)
        needed_bytes, free_bytes = gathered_bytes + limits.snapshot_spare_bytes, self._free_bytes()
        if free_bytes is not None and free_bytes >= needed_bytes:
            return True
        known = {"height": self._height(), "needed_bytes": needed_bytes, "free_bytes": free_bytes}
        self._host.note("warning", CLAIMED_TOO_LARGE, peer=peer.hex()[:12], **known)
        self.sync.distrust(peer, self._host.now().monotonic_ms)
        self.sync.abandon()
        self._forget()
        return False

    def _has_room(self) -> bool:
        """Whether there is more room than what is left to the chain. Where not, the snapshot is given up, and blocks
        are taken for a while."""
        free_bytes = self._free_bytes()
        if free_bytes is None or free_bytes >= limits.snapshot_spare_bytes:
            return True
        self._give_up_for_now(NO_ROOM, free_bytes=free_bytes, needed_bytes=limits.snapshot_spare_bytes)
        return False

    def _refused(self, refused: StorageRefused) -> None:
        """What is there of a snapshot is as it was, and waits. But it gives way on a full disk; and whether it has
        become a chain is not known where that was refused: then it would take the place of one that is further."""
        assert self._incoming is not None
        if isinstance(refused, DiskFull) or self._incoming.may_be_a_chain:
            self._give_up_for_now(_why(refused), reason=str(refused))
        else:
            self._put_aside(refused)

    def _put_aside(self, refused: StorageRefused) -> None:
        """Blocks are taken meanwhile. What was not written is lost, and asked for again."""
        self._wait(_why(refused), reason=str(refused))
        self.sync.abandon()
        self.stop()
        self._incoming = None
        self._set_aside = True
        self._shelf.close()

    def _give_up_for_now(self, why: str, **known: object) -> None:
        self._wait(why, **known)
        self.sync.abandon()
        self._forget()

    def _wait(self, why: str, **known: object) -> None:
        self._host.note("error", why, height=self._height(), **known)
        self._not_before_ms = self._host.now().monotonic_ms + limits.snapshot_no_room_pause_ms

    def _free_bytes(self) -> int | None:
        """As the disk says; None if it does not."""
        try:
            return self._shelf.made.free_bytes()
        except FolderDamage as damage:
            self._host.note("error", "how much room the disk has cannot be told", reason=str(damage))
            return None

    def _give_up_if_passed(self) -> None:
        """Consensus may have brought the chain as far meanwhile: it never goes back."""
        if self._incoming is not None and self._incoming.height <= self._store.tip.height:
            self._host.note("info", "a snapshot is not needed any more", height=self._height())
            self.sync.abandon()
            self._forget()

    def _install_if_whole(self) -> None:
        self._give_up_if_passed()
        if self.sync.phase is Phase.WHOLE and self._incoming is not None and self._finishing is None:
            self._host.note("info", "the snapshot is whole", height=self._height())
            self._finishing = self._incoming.finishing(self._store.beside)
            self._go_on_finishing()

    def _go_on_finishing(self) -> None:
        """A piece of it, the rest later: a node that votes has other things to do."""
        if self._finishing is None:
            return
        try:
            if next(self._finishing, _DONE) is not _DONE:
                self._host.later(self._go_on_finishing)
                return
        except GatheredDamage as damage:
            self._give_up_damaged(damage)
            return
        except StorageRefused as refused:
            self._refused(refused)
            return
        self._incoming = self._finishing = None
        self.handed_over = True
        self._shelf.install()

    def close(self) -> None:
        """What has come is kept, and gone on with after the next start; what cannot be kept is fetched again."""
        self.stop()
        if self._incoming is not None:
            with suppress(StorageDamage):
                self._incoming.write()

    def stop(self) -> None:
        """Nothing takes the chain's place any more."""
        self._proving = None
        if self._finishing is not None:
            self._finishing.close()
            self._finishing = None

    def _height(self) -> int:
        return 0 if self._incoming is None else self._incoming.height

    def _give_up_damaged(self, damage: GatheredDamage) -> None:
        """It is fetched again: another start would find the same, and nothing else of the node stands on it."""
        self._host.note("error", DAMAGED, height=self._height(), reason=str(damage))
        self._pause.begin(self._host.now().monotonic_ms)
        self.sync.abandon()
        self._forget()

    def _forget(self) -> None:
        self.stop()
        self._incoming = None
        self._shelf.discard()

    def _blame(self, peer: bytes, error: ProofError) -> None:
        self.sync.lied(peer, self._host.now().monotonic_ms)
        self._host.penalise(peer, f"served a false snapshot: {error}")


def _why(refused: StorageRefused) -> str:
    return NO_ROOM if isinstance(refused, DiskFull) else REFUSED

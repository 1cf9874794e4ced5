"""Making a snapshot of a store and gathering it into another: equal states, stops at any moment, liars and damage."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import msgspec
import pytest

from otcnode import limits
from otcnode.blocks import Epoch
from otcnode.codec import encode
from otcnode.crypto import SigningKey, sha256
from otcnode.errors import (
    ConfigurationError,
    FolderDamage,
    GatheredDamage,
    NoRoom,
    ProofError,
    StorageDamage,
    UnservableState,
)
from otcnode.snapshot import Chunk, Manifest, decode_chunk, part_of
from otcnode.storage import snapshot_maker
from otcnode.storage.directory import DirectoryFolder, DirectoryFolders
from otcnode.storage.faulty import FaultKind, FaultyKeyValue, SimulatedCrash
from otcnode.storage.folder import Folder, MemoryFolder, MemoryFolders
from otcnode.storage.incoming import Incoming, Roots, begun, finished
from otcnode.storage.kv import KeyValue, MemoryKeyValue
from otcnode.storage.schema import Table
from otcnode.storage.snapshot_maker import BLOCK, MANIFEST, chunk_name, make, read_manifest, source_of
from otcnode.storage.state_proof import key_hash
from otcnode.storage.state_tree import empty_root
from otcnode.storage.store import Store
from otcnode.storage.tools import verify
from tests.storage.chain import BUCKETS, CHAIN, EPOCH, KEY, append, create, expected_state, reopen
from tests.storage.test_tools import ROOTS

HEIGHT = 9
NEXT = Epoch(6, tuple(sorted((KEY.public, SigningKey(sha256(b"a second validator")).public))), EPOCH.parameters)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks and portions so small that there are many, each chunk written when it has come."""
    monkeypatch.setattr(limits, "snapshot_chunk_bytes", 200)
    monkeypatch.setattr(limits, "snapshot_unwritten_bytes_max", 0)
    monkeypatch.setattr(snapshot_maker, "STEP_KEYS", 3)


def chain_of(height: int, kv: KeyValue | None = None) -> Store:
    store = create(kv or MemoryKeyValue())
    for _ in range(height):
        append(store)
    return store


def roots() -> Roots:
    return Roots(CHAIN, chain_of(0).tree.root, BUCKETS, EPOCH)


def made(store: Store, folder: Folder) -> Manifest:
    steps = list(make(source_of(store), folder))
    assert steps[-1].done == steps[-1].whole
    manifest = read_manifest(folder)
    assert manifest is not None
    return manifest


def chunk_of(folder: Folder, index: int) -> Chunk:
    raw = folder.read(chunk_name(index))
    assert raw is not None
    return decode_chunk(raw)


def gather(kv: KeyValue, folder: Folder, manifest: Manifest) -> None:
    incoming = Incoming.of(kv, roots(), manifest)
    for index in sorted(incoming.missing):
        incoming.put(index, chunk_of(folder, index))
    incoming.finish()


def state_of(store: Store) -> dict[bytes, bytes]:
    return dict(store.state.scan(b""))


class _RottenScratch(MemoryFolder):
    """One bit of a scratch file is not what was written, or its end is missing."""

    def __init__(self, place: int | None) -> None:
        super().__init__()
        self._place = place

    def scratch(self, name: str) -> bytes:
        raw = super().scratch(name)
        if self._place is None:
            return raw[:-1]
        place = self._place % len(raw) if raw else 0
        return raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :] if raw else raw


@pytest.mark.parametrize("place", [0, 3, 7, 40, 60, -1, None])
def test_what_rots_while_a_snapshot_is_made_is_never_part_of_it(
    place: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server of such a chunk would be taken for a liar."""
    monkeypatch.setattr(snapshot_maker, "MEMORY_BYTES", 0)
    with pytest.raises(FolderDamage, match=r"scratch-.. is damaged; a snapshot can be made again"):
        made(chain_of(HEIGHT), _RottenScratch(place))


@pytest.mark.parametrize("memory_bytes", [0, 16 << 20], ids=["over scratch files", "in memory"])
def test_a_gathered_store_is_the_chain_at_that_height(memory_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_maker, "MEMORY_BYTES", memory_bytes)
    source, folder, kv = chain_of(HEIGHT), MemoryFolder(), MemoryKeyValue()
    manifest = made(source, folder)
    assert manifest.chunks == 16 and folder.names() == sorted([*map(chunk_name, range(16)), BLOCK, MANIFEST])
    assert manifest.keys == len(expected_state(HEIGHT))
    gather(kv, folder, manifest)
    store = reopen(kv)
    assert store.tip == source.tip
    assert (store.blocks_first, store.history_first) == (HEIGHT + 1, HEIGHT)
    assert state_of(store) == expected_state(HEIGHT)
    found = verify(kv, CHAIN, ROOTS)
    assert (found.height, found.state_keys) == (HEIGHT, len(expected_state(HEIGHT)))
    for _ in range(3):
        assert append(store) == append(source)
    assert verify(kv, CHAIN, ROOTS).height == HEIGHT + 3
    assert state_of(reopen(kv)) == expected_state(HEIGHT + 3)


def test_a_snapshot_of_a_gathered_store_is_the_same() -> None:
    """The history of the validators goes on from node to node."""
    source = chain_of(4)
    append(source, next_epoch=NEXT)
    folder, again, kv = MemoryFolder(), MemoryFolder(), MemoryKeyValue()
    manifest = made(source, folder)
    assert [change.epoch for change in manifest.changes] == [NEXT]
    gather(kv, folder, manifest)
    store = reopen(kv)
    assert store.epochs() == (EPOCH, NEXT)
    assert made(store, again) == manifest
    assert {name: again.read(name) for name in again.names()} == {name: folder.read(name) for name in folder.names()}


def test_the_snapshot_is_of_its_height_whatever_is_committed_meanwhile() -> None:
    source, folder, kv = chain_of(HEIGHT), MemoryFolder(), MemoryKeyValue()
    work = make(source_of(source), folder)
    for _ in work:
        append(source)
    manifest = read_manifest(folder)
    assert manifest is not None and source.tip.height > HEIGHT + 10
    gather(kv, folder, manifest)
    assert state_of(reopen(kv)) == expected_state(HEIGHT)


@pytest.mark.parametrize("stop_after", range(0, 60, 7))
def test_making_goes_on_where_it_was_stopped(stop_after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_maker, "MEMORY_BYTES", 1_000)
    source, folder = chain_of(HEIGHT), MemoryFolder()
    for count, _ in enumerate(make(source_of(source), folder)):
        if count == stop_after:
            break
    kept = {name: folder.read(name) for name in folder.names() if name.startswith("chunk-")}
    manifest = made(source, folder)
    assert all(folder.read(name) == content for name, content in kept.items())
    kv = MemoryKeyValue()
    gather(kv, folder, manifest)
    assert state_of(reopen(kv)) == expected_state(HEIGHT)


def test_a_folder_with_anything_else_is_refused() -> None:
    source, folder = chain_of(HEIGHT), MemoryFolder()
    made(source, folder)
    append(source)
    with pytest.raises(ConfigurationError, match="something else"):
        made(source, folder)
    other = MemoryFolder()
    other.write("photo", b"")
    with pytest.raises(ConfigurationError, match="something else"):
        made(source, other)


def test_there_is_no_snapshot_of_the_genesis() -> None:
    with pytest.raises(ConfigurationError, match="no block yet"):
        source_of(chain_of(0))


def test_a_bucket_that_no_message_can_carry_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "snapshot_chunk_bytes_max", 100)
    with pytest.raises(ConfigurationError, match="too large for a snapshot"):
        made(chain_of(HEIGHT), MemoryFolder())


def crowded(nibbles: int) -> Store:
    """A state 40 of whose keys have hashes that begin with the same so many nibbles, all zero."""
    store, names, number = chain_of(HEIGHT), set[bytes](), 0
    while len(names) < 40:
        name = b"chosen/%d" % number
        if part_of(key_hash(name), nibbles) == 0:
            names.add(name)
        number += 1
    append(store, writes=dict.fromkeys(names, bytes(100)))
    return store


@pytest.mark.parametrize("bound", [("snapshot_chunk_pairs_max", 39), ("snapshot_chunk_bytes_max", 4_400)])
@pytest.mark.parametrize("nibbles", [0, 1])
def test_keys_that_crowd_below_one_node_are_cut_deeper(
    bound: tuple[str, int], nibbles: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alike by all nodes, over scratch files or in memory; whoever joins takes the depth from the manifest."""
    monkeypatch.setattr(limits, "snapshot_chunk_bytes", 1 << 20)
    source, folder, again, kv = crowded(nibbles), MemoryFolder(), MemoryFolder(), MemoryKeyValue()
    assert made(source, MemoryFolder()).chunk_depth == 0
    monkeypatch.setattr(limits, *bound)
    manifest = made(source, folder)
    assert manifest.chunk_depth == nibbles + 1
    monkeypatch.setattr(snapshot_maker, "MEMORY_BYTES", 0)
    assert made(source, again) == manifest
    assert {name: again.read(name) for name in again.names()} == {name: folder.read(name) for name in folder.names()}
    gather(kv, folder, manifest)
    assert state_of(reopen(kv)) == state_of(source)


def test_a_bucket_with_more_keys_than_a_chunk_may_have_is_refused_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "snapshot_chunk_pairs_max", 39)
    folder = MemoryFolder()
    with pytest.raises(UnservableState, match="too large for a snapshot"):
        made(crowded(2), folder)
    assert folder.names() == [BLOCK]


def test_a_manifest_that_no_message_can_carry_is_refused_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever joins would ban the server that sends it."""
    folder, store = MemoryFolder(), chain_of(HEIGHT)
    size_bytes = len(encode(made(store, MemoryFolder())))
    monkeypatch.setattr(limits, "snapshot_manifest_bytes_max", size_bytes - 1)
    with pytest.raises(UnservableState, match="the validators have changed too often"):
        made(store, folder)
    assert folder.names() == [BLOCK]
    monkeypatch.setattr(limits, "snapshot_manifest_bytes_max", size_bytes)
    made(store, folder)


def test_chunks_of_an_attempt_at_another_depth_are_made_again() -> None:
    source, folder, expected, kv = chain_of(HEIGHT), MemoryFolder(), MemoryFolder(), MemoryKeyValue()
    list(make(source_of(source), folder, chunk_bytes=20))
    assert len(folder.names()) == 258
    folder.remove(MANIFEST)
    manifest = made(source, folder)
    assert made(source, expected) == manifest and manifest.chunk_depth == 1
    assert {name: folder.read(name) for name in folder.names()} == {
        name: expected.read(name) for name in expected.names()
    }
    gather(kv, folder, manifest)


# ---- gathering


def test_false_chunks_are_named_and_leave_nothing() -> None:
    folder, kv = MemoryFolder(), MemoryKeyValue()
    manifest = made(chain_of(HEIGHT), folder)
    incoming = Incoming.of(kv, roots(), manifest)
    full = next(index for index in range(16) if len(chunk_of(folder, index).pairs) > 1)
    before = list(kv.scan(b""))
    good = chunk_of(folder, full)
    for false in (
        msgspec.structs.replace(good, pairs=good.pairs[1:]),
        msgspec.structs.replace(good, pairs=((good.pairs[0][0], b"mine"), *good.pairs[1:])),
        chunk_of(folder, (full + 1) % 16),
    ):
        with pytest.raises(ProofError, match=f"chunk {full}|instead of chunk {full}"):
            incoming.put(full, false)
    assert list(kv.scan(b"")) == before and full in incoming.missing


def test_a_manifest_of_another_chain_begins_nothing() -> None:
    manifest = made(chain_of(HEIGHT), MemoryFolder())
    kv = MemoryKeyValue()
    with pytest.raises(ProofError, match="another chain"):
        Incoming.of(kv, roots()._replace(chain=sha256(b"other")), manifest)
    assert next(kv.scan(b""), None) is None


def test_gathering_is_no_chain_before_its_end() -> None:
    folder, kv = MemoryFolder(), MemoryKeyValue()
    manifest = made(chain_of(HEIGHT), folder)
    incoming = Incoming.of(kv, roots(), manifest)
    assert begun(kv) == manifest and not finished(kv)
    with pytest.raises(AssertionError):
        incoming.finish()
    for index in sorted(incoming.missing):
        incoming.put(index, chunk_of(folder, index))
        with pytest.raises(StorageDamage):
            reopen(kv)
    incoming.finish()
    assert finished(kv) and begun(kv) is None
    assert list(kv.scan(b"m/incoming")) == []


@pytest.mark.parametrize("kind", [FaultKind.CRASH_BEFORE, FaultKind.TORN, FaultKind.CRASH_AFTER])
def test_gathering_goes_on_after_a_stop_at_any_write(kind: FaultKind) -> None:
    folder = MemoryFolder()
    manifest = made(chain_of(HEIGHT), folder)
    for write in range(1, manifest.chunks + 3):
        kv = FaultyKeyValue()
        kv.arm(kind, write)
        with pytest.raises(SimulatedCrash):
            gather(kv, folder, manifest)
        kv.reopen()
        if not finished(kv):
            incoming = Incoming.of(kv, roots(), begun(kv) or manifest)
            assert incoming.missing != set() or write == manifest.chunks + 2 or kind is FaultKind.CRASH_AFTER
            gather(kv, folder, manifest)
        assert state_of(reopen(kv)) == expected_state(HEIGHT)


def test_chunks_are_written_several_at_a_time_each_with_its_note(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is killed lacks the last few and nothing else; whoever is stopped lacks nothing."""
    monkeypatch.setattr(limits, "snapshot_unwritten_bytes_max", 400)
    folder, kv = MemoryFolder(), FaultyKeyValue()
    manifest = made(chain_of(HEIGHT), folder)
    incoming = Incoming.of(kv, roots(), manifest)
    written = []
    for index in range(10):
        incoming.put(index, chunk_of(folder, index))
        kv.crash()
        kv.reopen()
        after = Incoming.of(kv, roots(), manifest)
        written.append(16 - len(after.missing))
        for there in set(range(16)) - after.missing:
            assert all(kv.get(Table.STATE.value + key) == value for key, value in chunk_of(folder, there).pairs)
    assert written == sorted(written) and 2 < len(set(written)) < 10, "several at a time"
    incoming.write()
    assert Incoming.of(kv, roots(), manifest).missing == set(range(10, 16))


def test_what_rots_meanwhile_does_not_become_a_chain() -> None:
    folder, kv = MemoryFolder(), MemoryKeyValue()
    manifest = made(chain_of(HEIGHT), folder)
    incoming = Incoming.of(kv, roots(), manifest)
    for index in sorted(incoming.missing):
        incoming.put(index, chunk_of(folder, index))
    leaf, _ = next(kv.scan(Table.TREE.value))
    kv.write([(leaf, bytes(32))])
    with pytest.raises(StorageDamage, match="state of the snapshot"):
        incoming.finish()
    assert not finished(kv)


@pytest.mark.parametrize("seed", range(3))
def test_chunks_come_in_any_order_and_twice(seed: int) -> None:
    folder, kv = MemoryFolder(), MemoryKeyValue()
    manifest = made(chain_of(HEIGHT), folder)
    incoming = Incoming.of(kv, roots(), manifest)
    order = list(range(16)) * 2
    random.Random(seed).shuffle(order)
    for index in order:
        incoming.put(index, chunk_of(folder, index))
    incoming.finish()
    assert state_of(reopen(kv)) == expected_state(HEIGHT)


def test_an_empty_state_has_a_root_too() -> None:
    store = Store.create(MemoryKeyValue(), CHAIN, {}, BUCKETS, EPOCH, 0)
    assert store.tree.root == empty_root(BUCKETS)
    append(store, writes={})
    folder, kv = MemoryFolder(), MemoryKeyValue()
    manifest = made(store, folder)
    incoming = Incoming.of(kv, roots()._replace(state_root=store.tree.root), manifest)
    assert incoming.put(0, chunk_of(folder, 0)) == 0
    incoming.finish()
    assert reopen(kv).tip.height == 1


# ---- folders


@pytest.mark.parametrize("kind", ["memory", "directory"])
def test_a_folder_keeps_files_by_name(kind: str, tmp_path: Path) -> None:
    folders = MemoryFolders() if kind == "memory" else DirectoryFolders(tmp_path / "made")
    assert folders.names() == []
    folder = folders.open("12")
    assert folder.names() == [] and folder.read("a") is None
    folder.write("b", b"one")
    folder.write("a", b"")
    folder.write("b", b"two")
    folder.append("c", b"12")
    folder.append("c", b"34")
    assert (folder.read("a"), folder.read("b"), folder.scratch("c")) == (b"", b"two", b"1234")
    assert folder.names() == ["a", "b", "c"] and folders.names() == ["12"]
    folder.remove("a")
    folder.remove("a")
    assert folders.open("12").names() == ["b", "c"]
    folders.remove("12")
    folders.remove("12")
    assert folders.names() == []


def test_a_flipped_bit_in_a_file_is_found(tmp_path: Path) -> None:
    folder = DirectoryFolder(tmp_path)
    made(chain_of(HEIGHT), folder)
    for name in (MANIFEST, chunk_name(3)):
        raw = bytearray((tmp_path / name).read_bytes())
        raw[len(raw) // 2] ^= 1
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(StorageDamage, match=f"{name} is damaged"):
            folder.read(name)


def test_a_chunk_torn_by_a_crash_is_made_again(tmp_path: Path) -> None:
    source, folder = chain_of(HEIGHT), DirectoryFolder(tmp_path)
    for count, _ in enumerate(make(source_of(source), folder)):
        if count == 20:
            break
    torn = [path for path in tmp_path.iterdir() if path.name.startswith("chunk-")]
    assert torn
    for path in torn:
        path.write_bytes(b"")
    kv = MemoryKeyValue()
    gather(kv, folder, made(source, folder))
    assert state_of(reopen(kv)) == expected_state(HEIGHT)


def test_a_manifest_that_does_not_decode_is_damage() -> None:
    folder = MemoryFolder()
    folder.write(MANIFEST, encode([1, 2]))
    with pytest.raises(StorageDamage, match="the manifest"):
        read_manifest(folder)


def test_how_much_room_there_is_is_known_before_anything_is_written(tmp_path: Path) -> None:
    found = DirectoryFolders(tmp_path / "not" / "there").free_bytes()
    assert 0.5 < found / shutil.disk_usage(tmp_path).free < 2
    assert not (tmp_path / "not").exists()


def test_a_snapshot_for_which_there_is_no_room_is_not_begun() -> None:
    source, folder = chain_of(HEIGHT), MemoryFolder()
    with pytest.raises(FolderDamage, match="has no room for it: 0 MiB are needed, 0 MiB are free"):
        list(make(source_of(source), folder, room_bytes=lambda: 100))
    assert folder.names() == [BLOCK]
    list(make(source_of(source), folder, room_bytes=lambda: 10_000))
    assert read_manifest(folder) is not None


@pytest.mark.parametrize("spread", [False, True])
def test_what_is_there_of_a_snapshot_needs_no_room_again(spread: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped anywhere, and one chunk has become unsound: as much room as the others take is not asked for."""
    if spread:
        monkeypatch.setattr(snapshot_maker, "MEMORY_BYTES", 300)
    source, whole = chain_of(HEIGHT), MemoryFolder()
    size_bytes, scratch = made(source, whole).size_bytes, made(source, whole).size_bytes if spread else 0
    names = [name for name in whole.names() if name.startswith("chunk-")]
    for there in range(len(names)):
        folder = MemoryFolder()
        for name in (BLOCK, *names[: there + 1]):
            folder.write(name, whole.read(name) or b"")
        folder.write(names[there], b"unsound")
        pairs = [pair for index in range(there) for pair in chunk_of(whole, index).pairs]
        needed_bytes = scratch + size_bytes - sum(len(key) + len(value) for key, value in pairs)
        with pytest.raises(NoRoom):
            list(make(source_of(source), folder, room_bytes=lambda room=needed_bytes - 1: room))  # type: ignore[misc]
        assert folder.names() == [BLOCK, *names[:there]]
        list(make(source_of(source), folder, room_bytes=lambda room=needed_bytes: room))  # type: ignore[misc]
        assert [folder.read(name) for name in whole.names()] == [whole.read(name) for name in whole.names()]


@pytest.mark.parametrize("missing", [(), (MANIFEST,)])
def test_a_snapshot_of_which_all_chunks_are_there_needs_no_room(missing: tuple[str, ...]) -> None:
    """Stopped while it was synced, or the same command again; the chain has less than what is left to it."""
    source, folder = chain_of(HEIGHT), MemoryFolder()
    made(source, folder)
    for name in missing:
        folder.remove(name)
    list(make(source_of(source), folder, room_bytes=lambda: -1))
    assert read_manifest(folder) is not None


def test_a_chunk_under_the_name_of_another_is_made_again() -> None:
    source, folder = chain_of(HEIGHT), MemoryFolder()
    manifest = made(source, folder)
    folder.write(chunk_name(1), folder.read(chunk_name(0)) or b"")
    assert made(source, folder) == manifest
    assert [chunk_of(folder, index).index for index in range(manifest.chunks)] == list(range(manifest.chunks))


@pytest.mark.parametrize("change", ["lost", "unreadable", "too many"])
def test_a_state_that_is_not_what_was_written_is_noticed_before_it_passes_for_a_chain(change: str) -> None:
    folder, kv = MemoryFolder(), FaultyKeyValue()
    incoming = Incoming.of(kv, roots(), made(chain_of(HEIGHT), folder))
    for index in sorted(incoming.missing):
        incoming.put(index, chunk_of(folder, index))
    match change:
        case "lost":
            kv.write([(next(kv.scan(Table.STATE.value))[0], None)])
        case "unreadable":
            assert kv.rot(3, 9, Table.STATE.value)
        case _:
            kv.write([(Table.STATE.value + b"more", b"")])
    with pytest.raises(GatheredDamage):
        incoming.finish()
    with kv.seen_from_outside():
        assert not finished(kv)

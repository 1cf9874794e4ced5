"""Making a snapshot of a store as it is now, piece by piece, and reading one that is whole.

The state lies in the order of its keys, chunks are in the order of the keys' hashes: what does not fit into memory is
spread over scratch files by the first nibbles of the hash, which are then read one after the other. Each piece of work
is small, so that whoever makes a snapshot can do other things in between.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

from otcnode import limits
from otcnode.blocks import Certificate, Header
from otcnode.codec import decode, encode
from otcnode.crypto import sha256
from otcnode.epochs import EpochChange
from otcnode.errors import ConfigurationError, FolderDamage, NoRoom, ProofError, UnservableState
from otcnode.snapshot import (
    SNAPSHOT_VERSION,
    Manifest,
    Offer,
    chunks_of,
    decode_chunk,
    decode_manifest,
    make_chunk,
    part_of,
)
from otcnode.storage.chunk_layout import StateSizes
from otcnode.storage.folder import Folder
from otcnode.storage.kv import Reader
from otcnode.storage.records import read_changes
from otcnode.storage.schema import Table
from otcnode.storage.state_proof import HASH_BYTES, key_hash
from otcnode.storage.state_tree import TreeHashes
from otcnode.storage.store import Store

MANIFEST = "manifest"
BLOCK = "block"
"""The file that names the block that a snapshot is, or will be, of."""
STEP_KEYS = 1_000
"""How many keys are looked at in one piece of work."""
STEP_BYTES = 64 << 10
"""At most so much, and a chunk, is written in one."""
CHUNK_STEPS = 1_024
"""More chunks than so many are written several in one."""
STEP_SYNCS = 8
MEMORY_BYTES = 16 << 20
"""A state that is not larger needs no scratch files; a larger one is spread in such portions."""
SPREAD_DEPTH_MAX = 2
_LENGTH_BYTES = 4
_PAIR_BYTES = 200
"""What a pair of a portion costs beside its bytes, roughly."""

_Pairs = list[tuple[bytes, bytes]]


class Step(NamedTuple):
    """How far the part of the work is that is being done."""

    part: str
    done: int
    whole: int


class Source(NamedTuple):
    """A committed height, held still."""

    reader: Reader
    """To be closed."""
    hashes: TreeHashes
    chain: bytes
    header: Header
    certificate: Certificate
    changes: tuple[EpochChange, ...]


def source_of(store: Store) -> Source:
    """The store as it is now, whatever is committed later. Raises ConfigurationError at the genesis, which nobody
    needs a snapshot of."""
    tip = store.tip
    if tip.header is None or tip.certificate is None:
        raise ConfigurationError("there is no block yet: everybody has the state of the genesis")
    reader, hashes = store.frozen()
    changes = read_changes(reader, store.epochs()[1:])
    return Source(reader, hashes, store.chain, tip.header, tip.certificate, changes)


def chunk_name(index: int) -> str:
    return f"chunk-{index:06x}"


def make(
    source: Source, folder: Folder, chunk_bytes: int | None = None, room_bytes: Callable[[], int] | None = None
) -> Generator[Step, None, None]:
    """Make the snapshot in `folder`, in chunks of about `chunk_bytes` (see StateSizes.chunk_depth); it is whole
    once its manifest is there, which comes last. Chunks that are there already, of an attempt that was stopped, are not
    made again. They are synced when all are there: by then the system
    has written most of them by itself, and nobody waits for the disk once per chunk.

    `room_bytes`: what may be written, asked before anything is and again at every step, unless all chunks are there.

    Raises NoRoom if there is not so much room, FolderDamage if the disk refuses; ConfigurationError if the folder holds
    anything else; UnservableState if a bucket is too large for a message (keys crowd in it, or the
    chain has too few), or all changes of the validators are.
    """
    _claim(folder, source.certificate.block_hash)
    sizes = StateSizes(source.hashes.depth)
    for count, (key, value) in enumerate(source.reader.scan(Table.STATE.value), 1):
        sizes.add(key[1:], value)
        if count % (4 * STEP_KEYS) == 0:
            yield Step("keys", count, 0)
    keys, size_bytes = sizes.keys, sizes.size_bytes
    yield Step("keys", keys, keys)
    depth = sizes.chunk_depth(chunk_bytes)
    manifest = _manifest(source, depth, sizes)
    _discard_scratch(folder)
    there = _sound_chunks(folder, depth)
    if len(there) < manifest.chunks:
        spread = size_bytes + _PAIR_BYTES * keys > MEMORY_BYTES
        if room_bytes is not None:
            _check_room(room_bytes(), (2 if spread else 1) * size_bytes - sum(there.values()))
        chunks = _Chunks(source, folder, depth, set(there))
        for step in _from_scratch(source, chunks, keys) if spread else _from_memory(source, chunks, keys):
            if room_bytes is not None:
                _check_room(room_bytes(), 0)
            yield step
        _discard_scratch(folder)
    for index in range(manifest.chunks):
        folder.sync(chunk_name(index))
        if index % STEP_SYNCS == STEP_SYNCS - 1:
            yield Step("syncing", index + 1, manifest.chunks)
    folder.write(MANIFEST, encode(manifest))
    folder.sync(MANIFEST)
    yield Step("syncing", manifest.chunks, manifest.chunks)


def _manifest(source: Source, depth: int, sizes: StateSizes) -> Manifest:
    """Raises UnservableState where no message carries it."""
    manifest = Manifest(
        SNAPSHOT_VERSION,
        source.chain,
        source.changes,
        source.header,
        source.certificate,
        depth,
        sizes.keys,
        sizes.size_bytes,
    )
    size_bytes = len(encode(manifest))
    if size_bytes > limits.snapshot_manifest_bytes_max:
        raise UnservableState(f"the validators have changed too often for a snapshot ({size_bytes} bytes)")
    return manifest


def _check_room(room_bytes: int, needed_bytes: int) -> None:
    if room_bytes < needed_bytes:
        raise NoRoom(
            f"the disk has no room for it: {needed_bytes >> 20} MiB are needed, {max(0, room_bytes) >> 20} MiB are "
            "free beside what is left to the chain"
        )


def _claim(folder: Folder, block: bytes) -> None:
    if folder.read(BLOCK) == block:
        return
    if folder.names():
        raise ConfigurationError("this directory holds something else than a snapshot of the same block")
    folder.write(BLOCK, block)
    folder.sync(BLOCK)


def _sound_chunks(folder: Folder, depth: int) -> dict[str, int]:
    """Those that are there already, and how many bytes their pairs have; the others are removed."""
    names = [name for name in folder.names() if name.startswith("chunk-")]
    made = {name: _made_bytes(folder, name, depth) for name in names}
    for name, size_bytes in made.items():
        if size_bytes is None:
            folder.remove(name)
    return {name: size_bytes for name, size_bytes in made.items() if size_bytes is not None}


def _made_bytes(folder: Folder, name: str, depth: int) -> int | None:
    """None: the chunk is not sound, or not one of a snapshot that is cut at this depth."""
    try:
        raw = folder.read(name)
        chunk = None if raw is None else decode_chunk(raw)
    except (FolderDamage, ProofError):
        return None
    if (
        chunk is None
        or len(chunk.siblings) != depth
        or chunk_name(chunk.index) != name
        or chunk.index >= chunks_of(depth)
    ):
        return None
    return sum(len(key) + len(value) for key, value in chunk.pairs)


class _Chunks:
    """Writes the chunks of one snapshot."""

    def __init__(self, source: Source, folder: Folder, depth: int, there: set[str]) -> None:
        self.folder = folder
        self.depth = depth
        self._hashes = source.hashes
        self._there = there

    def write(self, first: int, count: int, pairs: _Pairs) -> Iterator[Step]:
        """The chunks from `first` on, which hold exactly these pairs."""
        parts: list[_Pairs] = [[] for _ in range(count)]
        for pair in pairs:
            parts[part_of(key_hash(pair[0]), self.depth) - first].append(pair)
        at_once, written_bytes = max(1, chunks_of(self.depth) // CHUNK_STEPS), 0
        for index, part in enumerate(parts, first):
            if chunk_name(index) in self._there:
                continue
            assert len(part) <= limits.snapshot_chunk_pairs_max, "the depth was chosen so"
            raw = encode(make_chunk(index, part, self._hashes.siblings(self.depth, index)))
            if len(raw) > limits.snapshot_chunk_bytes_max:
                raise UnservableState(f"a bucket of the state is too large for a snapshot ({len(raw)} bytes)")
            self.folder.write(chunk_name(index), raw)
            written_bytes += len(raw)
            if written_bytes >= STEP_BYTES or index % at_once == at_once - 1:
                written_bytes = 0
                yield Step("chunks", index + 1, chunks_of(self.depth))


def _from_memory(source: Source, chunks: _Chunks, keys: int) -> Iterator[Step]:
    pairs: _Pairs = []
    for key, value in source.reader.scan(Table.STATE.value):
        pairs.append((key[1:], value))
        if len(pairs) % STEP_KEYS == 0:
            yield Step("reading", len(pairs), keys)
    yield from chunks.write(0, chunks_of(chunks.depth), pairs)


def _from_scratch(source: Source, chunks: _Chunks, keys: int) -> Iterator[Step]:
    depth = min(SPREAD_DEPTH_MAX, chunks.depth)
    portion: list[_Pairs] = [[] for _ in range(chunks_of(depth))]
    held_bytes = 0
    for done, (stored, value) in enumerate(source.reader.scan(Table.STATE.value), 1):
        key = stored[1:]
        portion[part_of(key_hash(key), depth)].append((key, value))
        held_bytes += len(key) + len(value) + _PAIR_BYTES
        if held_bytes > MEMORY_BYTES:
            yield from _spread(chunks.folder, portion, done, keys)
            held_bytes = 0
        if done % STEP_KEYS == 0:
            yield Step("reading", done, keys)
    yield from _spread(chunks.folder, portion, keys, keys)
    below = chunks_of(chunks.depth - depth)
    for part in range(chunks_of(depth)):
        pairs = _gathered(_scratch_name(part), chunks.folder)
        yield Step("chunks", part * below, chunks_of(chunks.depth))
        yield from chunks.write(part * below, below, pairs)
        chunks.folder.remove(_scratch_name(part))


def _spread(folder: Folder, portion: list[_Pairs], done: int, keys: int) -> Iterator[Step]:
    for part, pairs in enumerate(portion):
        if pairs:
            raw = encode(pairs)
            folder.append(_scratch_name(part), len(raw).to_bytes(_LENGTH_BYTES, "big") + sha256(raw) + raw)
            pairs.clear()
        if part % 16 == 15:
            yield Step("reading", done, keys)


def _gathered(name: str, folder: Folder) -> _Pairs:
    """What was spread to a scratch file. Raises FolderDamage where it is not all there as it was written."""
    raw, pairs, start = folder.scratch(name), _Pairs(), 0
    while start < len(raw):
        begin = start + _LENGTH_BYTES + HASH_BYTES
        end = begin + int.from_bytes(raw[start : start + _LENGTH_BYTES], "big")
        portion = raw[begin:end]
        if end > len(raw) or sha256(portion) != raw[start + _LENGTH_BYTES : begin]:
            raise FolderDamage(f"{name} is damaged; a snapshot can be made again")
        pairs += decode(_Pairs, portion)
        start = end
    return pairs


def _scratch_name(part: int) -> str:
    return f"scratch-{part:02x}"


def _discard_scratch(folder: Folder) -> None:
    for name in folder.names():
        if name.startswith("scratch-"):
            folder.remove(name)


def read_manifest(folder: Folder) -> Manifest | None:
    """None if there is no whole snapshot in the folder. Raises FolderDamage if its manifest does not decode."""
    raw = folder.read(MANIFEST)
    if raw is None:
        return None
    try:
        return decode_manifest(raw)
    except ProofError as error:
        raise FolderDamage(f"{error}; delete the snapshot, it can be made again") from None


def offer_of(manifest: Manifest) -> Offer:
    return Offer(manifest.header.height, manifest.certificate.block_hash, manifest.chunk_depth)

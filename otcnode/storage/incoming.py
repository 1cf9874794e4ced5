"""Gathering a snapshot in a store of its own, chunk by chunk in any order, until that store is a chain's.

Each chunk is checked when it comes. Chunks are written several at a time, in one synced write together with the note
that they are there: whoever is stopped goes on where he was, but for what `snapshot_unwritten_bytes_max` permits. The
head is written last; before it the store is no chain's, and nobody takes it for one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple

from otcnode import limits
from otcnode.blocks import Epoch, Verify
from otcnode.codec import encode
from otcnode.crypto import verify as ed25519_verify
from otcnode.errors import ConfigurationError, GatheredDamage, ProofError, StorageDamage, StorageRefused
from otcnode.snapshot import (
    SNAPSHOT_VERSION,
    Chunk,
    Leaf,
    Manifest,
    Proven,
    check_chunk,
    check_manifest,
    decode_manifest,
)
from otcnode.storage.foundation import foundation
from otcnode.storage.kv import KeyValue, Reader, Write
from otcnode.storage.leaves import PAIRS_AT_ONCE, depth_of, read_bucket_hashes, read_buckets, shift_of
from otcnode.storage.records import ADVICE, Head, read_changes, read_epochs, read_record, read_tip
from otcnode.storage.schema import Meta, Table
from otcnode.storage.state_proof import KEY_PREFIX, PAIR_BYTES, VALUE_PREFIX, bucket_hash
from otcnode.storage.state_tree import StateTree

_INDEX_BYTES = 4
BUCKETS_PER_STEP = 256
"""Of the state tree, read again in one piece of work at the end: 16,000 keys of 4,000,000."""
KEYS_PER_STEP = 16_000
"""The same of the state."""
_STATE = Table.STATE.value
_TREE = Table.TREE.value


class Roots(NamedTuple):
    """What the genesis file says, by which everything else is judged."""

    chain: bytes
    state_root: bytes
    buckets: int
    first_epoch: Epoch


class Incoming:
    """One snapshot on its way into a store that holds nothing else."""

    def __init__(
        self,
        kv: KeyValue,
        roots: Roots,
        proven: Proven,
        unwritten_bytes: int | None = None,
    ) -> None:
        """Goes on with what the store holds of this snapshot; raises GatheredDamage, as all that writes to it, where
        that cannot be read: LevelDB meets damage also when it writes, for it reads its tables to merge them.
        `unwritten_bytes`: how much may wait to be written; None: as limits.py says."""
        self._kv = kv
        self._roots = roots
        self._tree_depth = depth_of(roots.buckets)
        self._proven = proven
        self.manifest = manifest = proven.manifest
        if _begun_raw(kv) != encode(manifest):
            with _of_what_is_gathered():
                assert next(kv.scan(b"", limit=1), None) is None, "an empty store, or one with this snapshot"
                kv.write([(Meta.INCOMING.value, encode(manifest))])
        skip = len(Meta.INCOMING_CHUNK.value)
        with _of_what_is_gathered():
            there = {int.from_bytes(key[skip:], "big") for key, _ in kv.scan(Meta.INCOMING_CHUNK.value)}
        self.missing = set(range(manifest.chunks)) - there
        """Chunks that have not come yet."""
        self.may_be_a_chain = False
        """Whether the write that makes it one has begun."""
        self._unwritten: list[Write] = []
        self._unwritten_bytes = 0
        self._unwritten_bytes_max = limits.snapshot_unwritten_bytes_max if unwritten_bytes is None else unwritten_bytes

    @classmethod
    def of(cls, kv: KeyValue, roots: Roots, manifest: Manifest) -> Incoming:
        """Raises ProofError unless the manifest is true."""
        return cls(kv, roots, check_manifest(manifest, roots.chain, roots.first_epoch, depth_of(roots.buckets)))

    @property
    def height(self) -> int:
        return self.manifest.header.height

    @property
    def whole(self) -> bool:
        return not self.missing

    def put(self, index: int, chunk: Chunk) -> int:
        """Check and keep a chunk; returns the number of its keys. Raises ProofError naming what is wrong with it, and
        keeps nothing then."""
        root = self.manifest.header.state_root
        leaves = check_chunk(chunk, index, self.manifest.chunk_depth, self._tree_depth, root)
        if index in self.missing:
            self.missing.remove(index)
            self._unwritten += _writes(chunk, leaves)
            self._unwritten.append((_mark(index), b""))
            self._unwritten_bytes += sum(len(key) + len(value) for key, value in chunk.pairs) + PAIR_BYTES * len(leaves)
            if self._unwritten_bytes >= self._unwritten_bytes_max:
                self.write()
        return len(leaves)

    def write(self) -> None:
        """Make durable what has come."""
        if not self._unwritten:
            return
        unwritten, self._unwritten, self._unwritten_bytes = self._unwritten, [], 0
        with _of_what_is_gathered():
            self._kv.write(unwritten)

    def finish(self, beside: Callable[[], list[Write]] = list) -> None:
        """All of `finishing`."""
        for _ in self.finishing(beside):
            pass

    def finishing(self, beside: Callable[[], list[Write]] = list) -> Generator[None, None, None]:
        """Make the store that of the chain at the snapshot's height, in one write, after pieces of work between which
        other things can be done. What lies `beside` the chain whose place it takes, and goes along, is asked for
        last. Raises GatheredDamage if what was written is not what is there: all of it is read once more, and the state
        tree is built from that."""
        assert self.whole
        self.write()
        hashes: dict[int, bytes] = {}
        buckets = self._roots.buckets
        leaves = keys = 0
        with _of_what_is_gathered():
            for bucket, page in read_buckets(self._kv, shift_of(self._tree_depth), 0, buckets):
                hashes[bucket] = bucket_hash(page)
                leaves += len(page) // PAIR_BYTES
                if len(hashes) % BUCKETS_PER_STEP == 0:
                    yield
            for _ in self._kv.scan(_STATE):
                keys += 1
                if keys % KEYS_PER_STEP == 0:
                    yield
        if StateTree(self._kv, buckets, hashes).root != self.manifest.header.state_root or keys != leaves:
            raise GatheredDamage("the state of the snapshot is not what was written")
        batch = _foundation(self._proven, self._roots, hashes)
        batch += ((_mark(index), None) for index in range(self.manifest.chunks))
        batch += [(Meta.INCOMING.value, None), (Meta.FIRST_WAY_UP.value, b""), *beside()]
        self.may_be_a_chain = True
        with _of_what_is_gathered():
            self._kv.write(batch)


def begun(kv: Reader) -> Manifest | None:
    """The manifest of the snapshot that is being gathered in this store. Raises ProofError if it does not decode,
    GatheredDamage if it cannot be read."""
    raw = _begun_raw(kv)
    return None if raw is None else decode_manifest(raw)


def _begun_raw(kv: Reader) -> bytes | None:
    with _of_what_is_gathered():
        return kv.get(Meta.INCOMING.value)


@contextmanager
def _of_what_is_gathered() -> Iterator[None]:
    """Damage that is met inside is of nothing that a chain stands on. What the system refuses is none."""
    try:
        yield
    except StorageRefused:
        raise
    except StorageDamage as damage:
        # To verify the chain helps nobody here.
        raise GatheredDamage(str(damage).removesuffix(f"; {ADVICE}")) from None


def finished(kv: Reader) -> bool:
    """Whether the store has become a chain's."""
    return kv.get(Meta.HEAD.value) is not None


def check_finished(kv: Reader, roots: Roots, verify: Verify = ed25519_verify, *, just_read: bool = False) -> None:
    """Read all of a finished store once more and judge it by the genesis: whatever has changed on the disk since it was
    written must not take the place of a sound chain. `just_read`: state and leaves have been by this process, when it
    finished, and are not again. Raises GatheredDamage naming what is wrong, StorageRefused where it is not told."""
    try:
        proven = _proven_again(kv, roots, verify)
    except StorageRefused:
        raise
    except (StorageDamage, ConfigurationError, ProofError) as error:
        raise GatheredDamage(f"the snapshot is damaged: {str(error).removesuffix(f'; {ADVICE}')}") from None
    header = proven.manifest.header
    with _of_what_is_gathered():
        tree = None if just_read else _leaves_of_tree(kv, roots.buckets)
        hashes = read_bucket_hashes(kv, roots.buckets) if tree is None else tree.hashes
        if StateTree(kv, roots.buckets, hashes).root != header.state_root:
            raise GatheredDamage(f"the state of the snapshot has another root than its header {header.height}")
        if tree is not None and _leaves_of_state(kv) != tree.leaves:
            raise GatheredDamage("the state of the snapshot has other keys or values than its tree")
        expected = set(_foundation(proven, roots, hashes))
        found = {pair for table in set(Table) - {Table.STATE, Table.TREE} for pair in kv.scan(table.value)}
        # What lies beside the chain proves itself when it is used; here it has been read.
        found = {pair for pair in found if not pair[0].startswith(Table.EVIDENCE.value)}
        # Nothing stands on it, and an earlier version wrote none.
        found.discard((Meta.FIRST_WAY_UP.value, b""))
        if found != expected:
            table = Table(min(found ^ expected)[0][:1])
            raise GatheredDamage(f"table {table.name} of the snapshot is not what was written")


def _proven_again(kv: Reader, roots: Roots, verify: Verify) -> Proven:
    """What the store says of its height, as a manifest proves it."""
    tip = read_tip(kv, read_record(kv, Meta.HEAD.value, Head, "the head"))
    if tip.header is None or tip.certificate is None:
        raise ProofError("a snapshot of no block")
    epochs = read_epochs(kv)
    changes = read_changes(kv, [epochs[number] for number in sorted(epochs)[1:]])
    manifest = Manifest(SNAPSHOT_VERSION, roots.chain, changes, tip.header, tip.certificate, 0, 0, 0)
    return check_manifest(manifest, roots.chain, roots.first_epoch, depth_of(roots.buckets), verify)


class _Leaves(NamedTuple):
    """Their number, and their sum as numbers: of two collections of hashes both are the same by a chance that nobody
    meets, in whatever order they come. To look each of millions up would cost four times as much."""

    number: int
    total: int


class _Tree(NamedTuple):
    hashes: dict[int, bytes]
    """Of every bucket that is not empty."""
    leaves: _Leaves


def _leaves_of_tree(kv: Reader, buckets: int) -> _Tree:
    hashes: dict[int, bytes] = {}
    number = total = 0
    for bucket, page in read_buckets(kv, shift_of(depth_of(buckets)), 0, buckets):
        hashes[bucket] = bucket_hash(page)
        leaves = [page[start : start + PAIR_BYTES] for start in range(0, len(page), PAIR_BYTES)]
        number += len(leaves)
        total += sum(map(int.from_bytes, leaves))
    return _Tree(hashes, _Leaves(number, total))


def _leaves_of_state(kv: Reader) -> _Leaves:
    """What the tree is to have."""
    sha256, skip = hashlib.sha256, len(_STATE)
    number = total = 0
    pairs = kv.scan(_STATE)
    while portion := list(islice(pairs, PAIRS_AT_ONCE)):
        leaves = [
            sha256(KEY_PREFIX + key[skip:]).digest() + sha256(VALUE_PREFIX + value).digest() for key, value in portion
        ]
        number += len(leaves)
        total += sum(map(int.from_bytes, leaves))
    return _Leaves(number, total)


def _foundation(proven: Proven, roots: Roots, hashes: Mapping[int, bytes]) -> list[Write]:
    manifest = proven.manifest
    return foundation(
        roots.chain,
        roots.buckets,
        hashes,
        roots.state_root,
        proven.epochs,
        [(change.header, change.certificate) for change in manifest.changes],
        manifest.header,
        manifest.certificate,
    )


def _mark(index: int) -> bytes:
    return Meta.INCOMING_CHUNK.value + index.to_bytes(_INDEX_BYTES, "big")


def _writes(chunk: Chunk, leaves: list[Leaf]) -> list[Write]:
    batch: list[Write] = [(_STATE + key, value) for key, value in chunk.pairs]
    batch += [(_TREE + name, digest) for name, digest in leaves]
    return batch

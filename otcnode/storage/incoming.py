"""Gathering a snapshot in a store of its own, chunk by chunk in any order, until that store is a chain's.

Each chunk is checked when it comes. Chunks are written several at a time, in one synced write together with the note
that they are there: whoever is stopped goes on where he was, but for what `snapshot_unwritten_bytes_max` permits. The
head is written last; before it the store is no chain's, and nobody takes it for one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from otcnode import limits
from otcnode.blocks import Epoch, Verify
from otcnode.codec import encode
from otcnode.crypto import verify as ed25519_verify
from otcnode.errors import GatheredDamage, StorageDamage
from otcnode.snapshot import Chunk, Leaf, Manifest, check_chunk, check_manifest, decode_manifest
from otcnode.storage.kv import KeyValue, Reader, Write
from otcnode.storage.leaves import bucket_writes, depth_of, read_buckets, shift_of
from otcnode.storage.records import ChainMeta, Head
from otcnode.storage.schema import FORMAT, Meta, Table, height_key
from otcnode.storage.state_proof import PAIR_BYTES, bucket_hash
from otcnode.storage.state_tree import StateTree

_INDEX_BYTES = 4
BUCKETS_PER_STEP = 256
"""Read again in one piece of work at the end: 16,000 keys of 4,000,000."""
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
        manifest: Manifest,
        verify: Verify = ed25519_verify,
        unwritten_bytes: int | None = None,
    ) -> None:
        """Raises ProofError unless the manifest is true. Goes on with what the store holds of this snapshot; raises
        GatheredDamage where that cannot be read.
        `unwritten_bytes`: how much may wait to be written; None: as limits.py says."""
        self._kv = kv
        self._roots = roots
        self._tree_depth = depth_of(roots.buckets)
        self._proven = check_manifest(manifest, roots.chain, roots.first_epoch, self._tree_depth, verify)
        self.manifest = manifest
        if _begun_raw(kv) != encode(manifest):
            assert next(kv.scan(b"", limit=1), None) is None, "an empty store, or one with this snapshot"
            kv.write([(Meta.INCOMING.value, encode(manifest))])
        skip = len(Meta.INCOMING_CHUNK.value)
        with _of_what_is_gathered():
            there = {int.from_bytes(key[skip:], "big") for key, _ in kv.scan(Meta.INCOMING_CHUNK.value)}
        self.missing = set(range(manifest.chunks)) - there
        """Chunks that have not come yet."""
        self._unwritten: list[Write] = []
        self._unwritten_bytes = 0
        self._unwritten_bytes_max = limits.snapshot_unwritten_bytes_max if unwritten_bytes is None else unwritten_bytes

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
        if self._unwritten:
            self._kv.write(self._unwritten)
            self._unwritten, self._unwritten_bytes = [], 0

    def finish(self) -> None:
        """All of `finishing`."""
        for _ in self.finishing():
            pass

    def finishing(self, beside: Callable[[], list[Write]] = list) -> Generator[None, None, None]:
        """Make the store that of the chain at the snapshot's height, in one write, after pieces of work between which
        other things can be done. What lies `beside` the chain whose place it takes, and goes along, is asked for
        last. Raises GatheredDamage if what was written is not what is there: the state tree is
        built from it once more."""
        assert self.whole
        self.write()
        hashes: dict[int, bytes] = {}
        buckets = self._roots.buckets
        with _of_what_is_gathered():
            for bucket, page in read_buckets(self._kv, shift_of(self._tree_depth), 0, buckets):
                hashes[bucket] = bucket_hash(page)
                if len(hashes) % BUCKETS_PER_STEP == 0:
                    yield
        header, certificate = self.manifest.header, self.manifest.certificate
        if StateTree(self._kv, buckets, hashes).root != header.state_root:
            raise GatheredDamage("the state of the snapshot is not what was written")
        name = self._proven.block_hash
        batch = bucket_writes(hashes)
        for change in self.manifest.changes:
            below = change.header.height
            batch.append((height_key(Table.HEADER, below), encode(change.header)))
            batch.append((height_key(Table.CERTIFICATE, below), encode(change.certificate)))
        batch += [(height_key(Table.EPOCH, epoch.number), encode(epoch)) for epoch in self._proven.epochs]
        meta = ChainMeta(FORMAT, self._roots.chain, self._roots.buckets, self._roots.state_root)
        batch += [
            (height_key(Table.HEADER, header.height), encode(header)),
            (height_key(Table.CERTIFICATE, header.height), encode(certificate)),
            *((_mark(index), None) for index in range(self.manifest.chunks)),
            (Meta.INCOMING.value, None),
            (Meta.CHAIN.value, encode(meta)),
            (Meta.HEAD.value, encode(Head(header.height, name, header.height, header.height + 1))),
            *beside(),
        ]
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
    """Damage that is met inside is of nothing that a chain stands on."""
    try:
        yield
    except StorageDamage as damage:
        raise GatheredDamage(str(damage)) from None


def finished(kv: Reader) -> bool:
    """Whether the store has become a chain's."""
    return kv.get(Meta.HEAD.value) is not None


def _mark(index: int) -> bytes:
    return Meta.INCOMING_CHUNK.value + index.to_bytes(_INDEX_BYTES, "big")


def _writes(chunk: Chunk, leaves: list[Leaf]) -> list[Write]:
    batch: list[Write] = [(_STATE + key, value) for key, value in chunk.pairs]
    batch += [(_TREE + name, digest) for name, digest in leaves]
    return batch

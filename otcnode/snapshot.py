"""Snapshots: the whole state of a certified height, in chunks that are each proven against its header. Pure.

A manifest proves its header final from the genesis on: it carries every change of the validators with the certified
header that announces it. A chunk holds the pairs of consecutive buckets of the state tree, those whose key hashes begin
with the same nibbles, and the hashes beside its way up to the state root. So nothing a server says is believed, every
chunk can come from another one, and what is wrong with which is known at once. The ids that replay protection needs
are in the state, like everything else that the ledger remembers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Annotated, NamedTuple

from msgspec import Meta

from otcnode import limits
from otcnode.blocks import Certificate, Epoch, Header, Verify
from otcnode.codec import Record, decode
from otcnode.crypto import verify as ed25519_verify
from otcnode.epochs import EpochChange, ProvenEpochs
from otcnode.errors import DecodeError, ProofError
from otcnode.storage.state_proof import (
    DEPTH_MAX,
    HASH_BYTES,
    KEY_PREFIX,
    VALUE_PREFIX,
    bucket_hash,
    node_hash,
)
from otcnode.types import BlockHash, ChainId, Height, Natural

SNAPSHOT_VERSION = 1
SIBLINGS_BYTES = 15 * HASH_BYTES


class Manifest(Record, frozen=True):
    """What a snapshot is of. `chunk_depth`: a chunk holds the keys whose hashes begin with the same so many nibbles;
    there are 16^chunk_depth chunks, empty ones included. `keys` and `size_bytes` (of all keys and values) tell how long
    it may take; they are not proven."""

    version: Natural
    chain: ChainId
    changes: tuple[EpochChange, ...]
    """Every change of the validators up to the one that the header announces, in order."""
    header: Header
    certificate: Certificate
    chunk_depth: Natural
    keys: Natural
    size_bytes: Natural

    @property
    def chunks(self) -> int:
        return chunks_of(self.chunk_depth)


class Chunk(Record, frozen=True):
    """The pairs of one part of the state, ascending by key hash, and from there up to the root at every level the 15
    other hashes of its group, joined."""

    index: Natural
    pairs: tuple[tuple[bytes, bytes], ...]
    siblings: Annotated[tuple[bytes, ...], Meta(max_length=DEPTH_MAX)]


class Pair(NamedTuple):
    """One key of the state with everything a store keeps of it."""

    key_hash: bytes
    value_hash: bytes
    key: bytes
    value: bytes


class Proven(NamedTuple):
    """What a manifest proves."""

    manifest: Manifest
    block_hash: BlockHash
    epochs: tuple[Epoch, ...]
    """From the genesis' on; the last decides the height above the snapshot, or an earlier one and those after it."""


class Offer(Record, frozen=True):
    """One snapshot that a node can serve."""

    height: Height
    block_hash: BlockHash
    chunk_depth: Natural


def chunks_of(chunk_depth: int) -> int:
    return int(16**chunk_depth)


def chunk_depth_for(size_bytes: int, tree_depth: int) -> int:
    """The fewest chunks that are not larger on average than `snapshot_chunk_bytes`; never smaller than a bucket."""
    depth = 0
    while depth < tree_depth and size_bytes > limits.snapshot_chunk_bytes << 4 * depth:
        depth += 1
    return depth


def decode_manifest(raw: bytes) -> Manifest:
    """Raises ProofError."""
    try:
        return decode(Manifest, raw)
    except DecodeError as error:
        raise ProofError(f"the manifest: {error}") from None


def check_manifest(
    manifest: Manifest, chain: bytes, first_epoch: Epoch, tree_depth: int, verify: Verify = ed25519_verify
) -> Proven:
    """What the manifest proves to whoever has the genesis file. Raises ProofError naming what is wrong."""
    if manifest.version != SNAPSHOT_VERSION:
        raise ProofError(f"a snapshot of version {manifest.version}: version {SNAPSHOT_VERSION} is known here")
    if manifest.chain != chain:
        raise ProofError("a snapshot of another chain")
    if manifest.chunk_depth > tree_depth:
        raise ProofError(f"chunks at depth {manifest.chunk_depth} of a state tree of depth {tree_depth}")
    header = manifest.header
    epochs = ProvenEpochs(chain, first_epoch, verify)
    for change in manifest.changes:
        if change.header.height > header.height:
            raise ProofError("a change of the validators above the height of the snapshot")
        epochs.extend(change)
    epochs.check(header, manifest.certificate)
    announced = header.next_validators_hash != header.validators_hash
    if announced and epochs.last.number != header.height + 1:
        raise ProofError("the validators that the header announces are missing")
    return Proven(manifest, manifest.certificate.block_hash, epochs.all())


def make_chunk(index: int, pairs: Iterable[tuple[bytes, bytes]], siblings: Sequence[bytes]) -> Chunk:
    """`pairs` in any order."""
    ordered = sorted(pairs, key=lambda pair: hashlib.sha256(KEY_PREFIX + pair[0]).digest())
    return Chunk(index, tuple(ordered), tuple(siblings))


def decode_chunk(raw: bytes) -> Chunk:
    """Raises ProofError."""
    try:
        return decode(Chunk, raw)
    except DecodeError as error:
        raise ProofError(f"the chunk: {error}") from None


def check_chunk(chunk: Chunk, index: int, chunk_depth: int, tree_depth: int, state_root: bytes) -> list[Pair]:
    """The chunk's pairs, which are all that the state with this root holds in its part. Raises ProofError naming what
    is wrong."""
    if chunk.index != index:
        raise ProofError(f"chunk {chunk.index} instead of chunk {index}")
    if len(chunk.siblings) != chunk_depth or any(len(others) != SIBLINGS_BYTES for others in chunk.siblings):
        raise ProofError(f"chunk {index}: its path does not lead to the root from depth {chunk_depth}")
    sha256 = hashlib.sha256
    pairs = [
        Pair(sha256(KEY_PREFIX + key).digest(), sha256(VALUE_PREFIX + value).digest(), key, value)
        for key, value in chunk.pairs
    ]
    _check_places(pairs, index, chunk_depth)
    top = _part_hash(pairs, index, chunk_depth, tree_depth)
    if _climb(top, index, chunk.siblings) != state_root:
        raise ProofError(f"chunk {index} is not a part of the state under the header's state root")
    return pairs


def _check_places(pairs: list[Pair], index: int, chunk_depth: int) -> None:
    before = b""
    for pair in pairs:
        if pair.key_hash <= before:
            raise ProofError(f"chunk {index}: its keys are not in order, each once")
        before = pair.key_hash
    for pair in (pairs[0], pairs[-1]) if pairs else ():
        if part_of(pair.key_hash, chunk_depth) != index:
            raise ProofError(f"chunk {index} holds a key of another chunk")


def part_of(key_hash: bytes, depth: int) -> int:
    """Which of the 16^depth parts of the state a key belongs to."""
    return int.from_bytes(key_hash[:4], "big") >> 4 * (DEPTH_MAX - depth)


def _part_hash(pairs: list[Pair], index: int, chunk_depth: int, tree_depth: int) -> bytes:
    """The hash of the tree's node over the chunk's buckets."""
    pages: dict[int, list[bytes]] = {}
    shift = 4 * (DEPTH_MAX - tree_depth)
    for pair in pairs:
        pages.setdefault(int.from_bytes(pair.key_hash[:4], "big") >> shift, []).append(pair.key_hash + pair.value_hash)
    levels = tree_depth - chunk_depth
    first = index << 4 * levels
    empty = bucket_hash(b"")
    level = [
        bucket_hash(b"".join(pages[bucket])) if bucket in pages else empty
        for bucket in range(first, first + chunks_of(levels))
    ]
    for _ in range(levels):
        level = [node_hash(b"".join(level[start : start + 16])) for start in range(0, len(level), 16)]
    return level[0]


def _climb(top: bytes, index: int, siblings: Sequence[bytes]) -> bytes:
    current = top
    for others in siblings:
        index, place = divmod(index, 16)
        cut = place * HASH_BYTES
        current = node_hash(others[:cut] + current + others[cut:])
    return current

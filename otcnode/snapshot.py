"""Snapshots: the whole state of a certified height, in chunks that are each proven against its header. Pure.

A manifest proves its header final from the genesis on: it carries every change of the validators with the certified
header that announces it. A chunk holds the pairs of consecutive buckets of the state tree, those whose key hashes begin
with the same nibbles, and the hashes beside its way up to the state root. So nothing a server says is believed, every
chunk can come from another one, and what is wrong with which is known at once. The ids that replay protection needs
are in the state, like everything else that the ledger remembers.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Generator, Iterable, Sequence
from itertools import chain as chained
from itertools import pairwise
from typing import Annotated, NamedTuple, TypeAlias

from msgspec import Meta

from otcnode import limits
from otcnode.blocks import Certificate, Epoch, Header, Verify
from otcnode.codec import Record, decode
from otcnode.crypto import SignatureCheck
from otcnode.crypto import verify as ed25519_verify
from otcnode.epochs import EpochChange, ProvenEpochs
from otcnode.errors import DecodeError, ProofError
from otcnode.storage.state_proof import (
    DEPTH_MAX,
    HASH_BYTES,
    KEY_PREFIX,
    PAIR_BYTES,
    VALUE_PREFIX,
    bucket_hash,
    node_hash,
)
from otcnode.types import BlockHash, ChainId, Height, Natural

SNAPSHOT_VERSION = 1
CHANGES_PER_STEP = 64
"""Of the validators, looked at in one piece of work, ..."""
SIGNATURES_PER_STEP = 256
"""... or fewer with so many signatures."""
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
    pairs: Annotated[tuple[tuple[bytes, bytes], ...], Meta(max_length=limits.snapshot_chunk_pairs_max)]
    siblings: Annotated[tuple[bytes, ...], Meta(max_length=DEPTH_MAX)]


Leaf: TypeAlias = tuple[bytes, bytes]
"""The hash of a key and that of its value."""


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


def chunk_depth_for(size_bytes: int, keys: int, tree_depth: int, chunk_bytes: int | None = None) -> int:
    """The fewest chunks that are on average not larger than `chunk_bytes` (by default `snapshot_chunk_bytes`) and hold
    no more keys than `snapshot_chunk_pairs`; never smaller than a bucket."""
    bound_bytes = limits.snapshot_chunk_bytes if chunk_bytes is None else chunk_bytes
    depth = 0
    while depth < tree_depth and (
        size_bytes > bound_bytes << 4 * depth or keys > limits.snapshot_chunk_pairs << 4 * depth
    ):
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
    steps = manifest_steps(manifest, chain, first_epoch, tree_depth)
    while True:
        try:
            signatures = next(steps)
        except StopIteration as end:
            proven: Proven = end.value
            return proven
        for signature in signatures:
            if not verify(*signature):
                raise ProofError(f"the signature of validator {signature.public.hex()[:12]} is wrong")


def manifest_steps(
    manifest: Manifest, chain: bytes, first_epoch: Epoch, tree_depth: int
) -> Generator[list[SignatureCheck], None, Proven]:
    """The same in pieces of work, for a chain may have changed its validators thousands of times. Each yields the
    signatures that it rests on: only if they hold is the next one of use, and what is returned proven. Raises
    ProofError."""
    if manifest.version != SNAPSHOT_VERSION:
        raise ProofError(f"a snapshot of version {manifest.version}: version {SNAPSHOT_VERSION} is known here")
    if manifest.chain != chain:
        raise ProofError("a snapshot of another chain")
    if manifest.chunk_depth > tree_depth:
        raise ProofError(f"chunks at depth {manifest.chunk_depth} of a state tree of depth {tree_depth}")
    header = manifest.header
    signatures: list[SignatureCheck] = []

    def put_down(public: bytes, message: bytes, signature: bytes) -> bool:
        signatures.append(SignatureCheck(public, message, signature))
        return True

    epochs = ProvenEpochs(chain, first_epoch, put_down)
    for number, change in enumerate(manifest.changes, 1):
        if change.header.height > header.height:
            raise ProofError("a change of the validators above the height of the snapshot")
        epochs.extend(change)
        if number % CHANGES_PER_STEP == 0 or len(signatures) >= SIGNATURES_PER_STEP:
            yield signatures[:]
            signatures.clear()
    epochs.check(header, manifest.certificate)
    announced = header.next_validators_hash != header.validators_hash
    if announced and epochs.last.number != header.height + 1:
        raise ProofError("the validators that the header announces are missing")
    yield signatures
    return Proven(manifest, manifest.certificate.block_hash, epochs.all())


def make_chunk(index: int, pairs: Iterable[tuple[bytes, bytes]], siblings: Sequence[bytes]) -> Chunk:
    """`pairs` in any order."""
    ordered = sorted(pairs, key=lambda pair: hashlib.sha256(KEY_PREFIX + pair[0]).digest())
    return Chunk(index, tuple(ordered), tuple(siblings))


def decode_chunk(raw: bytes) -> Chunk:
    """Raises ProofError. MessagePack says how many pairs there are ahead of them: of too many none is decoded."""
    try:
        return decode(Chunk, raw)
    except DecodeError as error:
        raise ProofError(f"the chunk: {error}") from None


def check_chunk(chunk: Chunk, index: int, chunk_depth: int, tree_depth: int, state_root: bytes) -> list[Leaf]:
    """The leaves of the chunk's pairs, in their order; the pairs are all that the state with this root holds in its
    part. Raises ProofError naming what is wrong; nothing is hashed behind the first key that is not in its place."""
    if chunk.index != index:
        raise ProofError(f"chunk {chunk.index} instead of chunk {index}")
    if len(chunk.siblings) != chunk_depth or any(len(others) != SIBLINGS_BYTES for others in chunk.siblings):
        raise ProofError(f"chunk {index}: its path does not lead to the root from depth {chunk_depth}")
    names = _names_in_place(chunk, chunk_depth)
    sha256, of_value = hashlib.sha256, VALUE_PREFIX
    leaves = [(name, sha256(of_value + pair[1]).digest()) for name, pair in zip(names, chunk.pairs, strict=True)]
    top = _part_hash(names, leaves, index, chunk_depth, tree_depth)
    if _climb(top, index, chunk.siblings) != state_root:
        raise ProofError(f"chunk {index} is not a part of the state under the header's state root")
    return leaves


def _names_in_place(chunk: Chunk, chunk_depth: int) -> list[bytes]:
    """The hashes of the keys, ascending and all of the chunk's part. Raises ProofError at the first that is not."""
    sha256, of_key = hashlib.sha256, KEY_PREFIX
    names: list[bytes] = []
    below, beyond = b"", _first_name(chunk.index + 1, chunk_depth)
    for key, _ in chunk.pairs:
        name = sha256(of_key + key).digest()
        if not below < name < beyond or (not names and part_of(name, chunk_depth) != chunk.index):
            what = "its keys are not in order, each once" if name <= below else "it holds a key of another chunk"
            raise ProofError(f"chunk {chunk.index}: {what}")
        names.append(name)
        below = name
    return names


def _first_name(index: int, depth: int) -> bytes:
    """The least that the hash of a key of this part can be; of the part behind the last, what none is."""
    number = index << 4 * (DEPTH_MAX - depth)
    return number.to_bytes(4, "big") if number < 1 << 4 * DEPTH_MAX else b"\xff" * (HASH_BYTES + 1)


def part_of(key_hash: bytes, depth: int) -> int:
    """Which of the 16^depth parts of the state a key belongs to."""
    return int.from_bytes(key_hash[:4], "big") >> 4 * (DEPTH_MAX - depth)


def _part_hash(names: list[bytes], leaves: list[Leaf], index: int, chunk_depth: int, tree_depth: int) -> bytes:
    """The hash of the tree's node over the chunk's buckets, which lie side by side."""
    joined = b"".join(chained.from_iterable(leaves))
    levels, shift = tree_depth - chunk_depth, 4 * (DEPTH_MAX - tree_depth)
    first = index << 4 * levels
    starts = [bisect_left(names, (bucket << shift).to_bytes(4, "big")) for bucket in range(first, first + 16**levels)]
    level = [
        bucket_hash(joined[start * PAIR_BYTES : stop * PAIR_BYTES]) for start, stop in pairwise([*starts, len(names)])
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

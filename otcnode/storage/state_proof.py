"""State proofs: that a key has a value, or has none, in a state whose root a certified header names. Pure.

The state is cut into buckets by the first nibbles of the key's hash. A bucket's hash covers its (key hash, value
hash) pairs in order; every 16 hashes are hashed together, level by level, up to the root. Keys, values, buckets and
nodes have domains of their own, so nothing can be passed off as something else, a wrong depth included.
"""

from __future__ import annotations

import hashlib
from itertools import pairwise
from typing import Annotated

from msgspec import Meta

from otcnode.codec import Record
from otcnode.types import Hash

KEY_DOMAIN = "otcnode/state-key/1"
VALUE_DOMAIN = "otcnode/state-value/1"
BUCKET_DOMAIN = "otcnode/state-bucket/1"
NODE_DOMAIN = "otcnode/state-node/1"

HASH_BYTES = 32
PAIR_BYTES = 2 * HASH_BYTES
DEPTH_MAX = 8


def _prefix(domain: str) -> bytes:
    """The constant part of `crypto.tagged_hash`, worked out once: hashing is what the state root spends its time on."""
    return bytes([len(domain)]) + domain.encode()


KEY_PREFIX = _prefix(KEY_DOMAIN)
VALUE_PREFIX = _prefix(VALUE_DOMAIN)
BUCKET_PREFIX = _prefix(BUCKET_DOMAIN)
NODE_PREFIX = _prefix(NODE_DOMAIN)


def key_hash(key: bytes) -> bytes:
    return hashlib.sha256(KEY_PREFIX + key).digest()


def value_hash(value: bytes) -> bytes:
    return hashlib.sha256(VALUE_PREFIX + value).digest()


def bucket_hash(pairs: bytes) -> bytes:
    """`pairs`: key hash ‖ value hash of every key in the bucket, ascending."""
    return hashlib.sha256(BUCKET_PREFIX + pairs).digest()


def node_hash(children: bytes) -> bytes:
    """`children`: the 16 hashes below, joined."""
    return hashlib.sha256(NODE_PREFIX + children).digest()


class StateProof(Record, frozen=True):
    """The key's whole bucket, and at every level from the bucket up the 15 other hashes of its group, joined."""

    pairs: bytes
    siblings: Annotated[tuple[bytes, ...], Meta(min_length=1, max_length=DEPTH_MAX)]


def verify_state_proof(root: Hash, proof: StateProof, key: bytes, value: bytes | None) -> bool:
    """Whether the state with this root holds `value` under `key` (None: holds nothing under it). Total."""
    name = key_hash(key)
    depth = len(proof.siblings)
    if not 1 <= depth <= DEPTH_MAX or len(proof.pairs) % PAIR_BYTES:
        return False
    names = [proof.pairs[start : start + HASH_BYTES] for start in range(0, len(proof.pairs), PAIR_BYTES)]
    if any(lower >= upper for lower, upper in pairwise(names)):
        return False
    if value is None:
        if name in names:
            return False
    elif name not in names or _value_at(proof.pairs, names.index(name)) != value_hash(value):
        return False
    return _climb(bucket_hash(proof.pairs), name.hex()[:depth], proof.siblings) == root


def _value_at(pairs: bytes, position: int) -> bytes:
    start = position * PAIR_BYTES + HASH_BYTES
    return pairs[start : start + HASH_BYTES]


def _climb(leaf: bytes, nibbles: str, siblings: tuple[bytes, ...]) -> bytes | None:
    current = leaf
    for nibble, others in zip(reversed(nibbles), siblings, strict=True):
        if len(others) != 15 * HASH_BYTES:
            return None
        cut = int(nibble, 16) * HASH_BYTES
        current = node_hash(others[:cut] + current + others[cut:])
    return current

"""The roots that a header names, by their definitions and in code of its own: everything is hashed anew."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from otcnode.crypto import tagged_hash
from otcnode.remembered import remembered
from otcnode.storage.state_proof import BUCKET_DOMAIN, KEY_DOMAIN, NODE_DOMAIN, VALUE_DOMAIN

FANOUT = 16
LEAVES_REMEMBERED = 4_096


def list_root_of(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962, section 2.1: a list of more than one entry is split below its largest power of two."""
    if len(leaves) < 2:
        return hashlib.sha256(b"".join(b"\x00" + leaf for leaf in leaves)).digest()
    left = 1 << ((len(leaves) - 1).bit_length() - 1)
    return hashlib.sha256(b"\x01" + list_root_of(leaves[:left]) + list_root_of(leaves[left:])).digest()


def state_root_of(pairs: Iterable[tuple[bytes, bytes]], buckets: int) -> bytes:
    """`buckets` is a power of 16; a key is in the bucket that the first nibbles of its hash name."""
    members: list[list[bytes]] = [[] for _ in range(buckets)]
    for leaf in sorted(_leaf_of(key, value) for key, value in pairs):
        members[int.from_bytes(leaf[:8], "big") * buckets >> 64].append(leaf)
    level = [tagged_hash(BUCKET_DOMAIN, b"".join(page)) for page in members]
    while len(level) > 1:
        level = [
            tagged_hash(NODE_DOMAIN, b"".join(level[start : start + FANOUT])) for start in range(0, len(level), FANOUT)
        ]
    return level[0]


@remembered(LEAVES_REMEMBERED)
def _leaf_of(key: bytes, value: bytes) -> bytes:
    """The same pairs are in the states of many heights."""
    return tagged_hash(KEY_DOMAIN, key) + tagged_hash(VALUE_DOMAIN, value)

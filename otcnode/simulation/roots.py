"""The state root by its definition, in code of its own: every key and value hashed anew, nothing kept from before."""

from __future__ import annotations

from collections.abc import Iterable

from otcnode.crypto import tagged_hash
from otcnode.storage.state_proof import BUCKET_DOMAIN, KEY_DOMAIN, NODE_DOMAIN, VALUE_DOMAIN

FANOUT = 16


def state_root_of(pairs: Iterable[tuple[bytes, bytes]], buckets: int) -> bytes:
    """`buckets` is a power of 16; a key is in the bucket that the first nibbles of its hash name."""
    hashed = sorted((tagged_hash(KEY_DOMAIN, key), tagged_hash(VALUE_DOMAIN, value)) for key, value in pairs)
    members: list[list[bytes]] = [[] for _ in range(buckets)]
    for name, digest in hashed:
        members[int.from_bytes(name[:8], "big") * buckets >> 64].append(name + digest)
    level = [tagged_hash(BUCKET_DOMAIN, b"".join(page)) for page in members]
    while len(level) > 1:
        level = [
            tagged_hash(NODE_DOMAIN, b"".join(level[start : start + FANOUT])) for start in range(0, len(level), FANOUT)
        ]
    return level[0]

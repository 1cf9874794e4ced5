"""Binary Merkle trees over lists (the shape of RFC 6962, section 2.1) and their inclusion proofs.

A leaf is SHA-256(0x00 ‖ data), a node SHA-256(0x01 ‖ left ‖ right); a list of n > 1 leaves splits at the largest
power of two below n; the empty list has the root SHA-256(). Leaves and nodes can therefore never be confused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def leaf_hash(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """The root over the data of the leaves, in order."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    sha256 = hashlib.sha256
    level = [sha256(b"\x00" + data).digest() for data in leaves]
    # Pairing from the left and carrying an odd last node up gives exactly the RFC's split.
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        paired = [sha256(b"\x01" + left + right).digest() for left, right in pairs]
        if len(level) % 2:
            paired.append(level[-1])
        level = paired
    return level[0]


def path(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """The sibling hashes from the leaf at `index` up to the root (RFC 6962, section 2.1.1)."""
    return paths(leaves, [index])[0]


def paths(leaves: Sequence[bytes], indexes: Sequence[int]) -> list[tuple[bytes, ...]]:
    """The path of each of these leaves; the tree is made once."""
    assert all(0 <= index < len(leaves) for index in indexes)
    level = [leaf_hash(data) for data in leaves]
    siblings: list[list[bytes]] = [[] for _ in indexes]
    positions = list(indexes)
    while len(level) > 1:
        for found, position in zip(siblings, positions, strict=True):
            if position ^ 1 < len(level):
                found.append(level[position ^ 1])
        paired = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        if len(level) % 2:
            paired.append(level[-1])
        level = paired
        positions = [position // 2 for position in positions]
    return [tuple(found) for found in siblings]


def root_from_path(data: bytes, index: int, count: int, siblings: Sequence[bytes]) -> bytes | None:
    """The root that a path leads to, or None if the path has the wrong length for leaf `index` of `count`."""
    if not 0 <= index < count:
        return None
    value = leaf_hash(data)
    position, width = index, count
    remaining = iter(siblings)
    while width > 1:
        if position ^ 1 < width:
            sibling = next(remaining, None)
            if sibling is None:
                return None
            value = node_hash(sibling, value) if position % 2 else node_hash(value, sibling)
        position //= 2
        width = (width + 1) // 2
    return value if next(remaining, None) is None else None

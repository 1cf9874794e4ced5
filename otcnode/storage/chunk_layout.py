"""How deep the state is cut into the chunks of a snapshot. It follows from the state alone, so all nodes cut alike."""

from __future__ import annotations

from array import array
from typing import NamedTuple

from otcnode import limits
from otcnode.errors import UnservableState
from otcnode.snapshot import SIBLINGS_BYTES, chunk_depth_for, part_of
from otcnode.storage.state_proof import key_hash

PAIR_ENCODED_BYTES = 11
"""What the encoding of a pair adds to its bytes, at most."""
CHUNK_ENCODED_BYTES = 20
"""What the encoding of a chunk adds to its pairs and hashes, at most."""
SIBLINGS_ENCODED_BYTES = SIBLINGS_BYTES + 3


class _Largest(NamedTuple):
    """Of the parts of the state at one depth."""

    keys: int
    encoded_bytes: int


class StateSizes:
    """What there is in each bucket of a state."""

    def __init__(self, tree_depth: int) -> None:
        self.keys = 0
        self.size_bytes = 0
        self._tree_depth = tree_depth
        self._keys = array("Q", bytes(8 * 16**tree_depth))
        self._encoded_bytes = array("Q", bytes(8 * 16**tree_depth))

    def add(self, key: bytes, value: bytes) -> None:
        size_bytes = len(key) + len(value)
        bucket = part_of(key_hash(key), self._tree_depth)
        self.keys += 1
        self.size_bytes += size_bytes
        self._keys[bucket] += 1
        self._encoded_bytes[bucket] += size_bytes + PAIR_ENCODED_BYTES

    def chunk_depth(self, chunk_bytes: int | None = None) -> int:
        """The least at which chunks are small on average (see chunk_depth_for) and none is too large for a message:
        whoever chooses the names of keys can crowd them below one node of the state tree, which is then cut deeper.

        Raises UnservableState where a single bucket, which cannot be cut, has more keys than a chunk may."""
        largest = self._largest()
        if largest[-1].keys > limits.snapshot_chunk_pairs_max:
            raise UnservableState(f"a bucket of the state is too large for a snapshot ({largest[-1].keys} keys)")
        depth = chunk_depth_for(self.size_bytes, self.keys, self._tree_depth, chunk_bytes)
        while depth < self._tree_depth and not _fits(largest[depth], depth):
            depth += 1
        return depth

    def _largest(self) -> list[_Largest]:
        """By depth."""
        keys, encoded_bytes = list(self._keys), list(self._encoded_bytes)
        largest = [_Largest(max(keys), max(encoded_bytes))]
        while len(keys) > 1:
            keys, encoded_bytes = _sums(keys), _sums(encoded_bytes)
            largest.append(_Largest(max(keys), max(encoded_bytes)))
        return largest[::-1]


def _fits(part: _Largest, depth: int) -> bool:
    encoded_bytes = part.encoded_bytes + CHUNK_ENCODED_BYTES + SIBLINGS_ENCODED_BYTES * depth
    return part.keys <= limits.snapshot_chunk_pairs_max and encoded_bytes <= limits.snapshot_chunk_bytes_max


def _sums(level: list[int]) -> list[int]:
    return [sum(level[first : first + 16]) for first in range(0, len(level), 16)]

"""The leaves of the state tree on disk (table TREE), and the hashes of their buckets beside them (table BUCKET).

A start reads the hashes alone: 65,536 of them, however many keys the state has. Leaves are read bucket by bucket when
they are needed, and judged by the hash of their bucket, which the state root covers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice, takewhile

from otcnode.storage.kv import Reader, Write, prefix_end
from otcnode.storage.records import damaged
from otcnode.storage.schema import Table
from otcnode.storage.state_proof import DEPTH_MAX, HASH_BYTES, PAIR_BYTES, bucket_hash

PAIRS_AT_ONCE = 8_192
_NUMBER_BYTES = DEPTH_MAX // 2
_LEAF = Table.TREE.value
_BUCKET = Table.BUCKET.value
_LEAF_END = prefix_end(_LEAF) or b"\xff"


def depth_of(buckets: int) -> int:
    """Levels under the root of a tree with this many buckets, a power of 16."""
    depth = (buckets.bit_length() - 1) // 4
    assert 16**depth == buckets and 1 <= depth <= DEPTH_MAX, "a power of 16"
    return depth


def shift_of(depth: int) -> int:
    """By how much the first four bytes of a key's hash are shifted to give the number of its bucket."""
    return 4 * (DEPTH_MAX - depth)


def read_buckets(reader: Reader, shift: int, first: int, end: int) -> Iterator[tuple[int, bytes]]:
    """The buckets from `first` to below `end` that are not empty, in order, as they are on disk: of each, key hash ‖
    value hash of its keys, ascending. Judged by nothing here.

    There may be millions of pairs: they are taken by thousands, and the end of a bucket is searched for and not looked
    for pair by pair.
    """
    beyond = _first_leaf(end, shift)
    pairs = takewhile((beyond, b"").__gt__, reader.scan(_LEAF, after=_first_leaf(first, shift)))
    bucket, parts = -1, list[bytes]()
    while portion := list(islice(pairs, PAIRS_AT_ONCE)):
        start = 0
        while start < len(portion):
            own = int.from_bytes(portion[start][0][1 : 1 + _NUMBER_BYTES], "big") >> shift
            stop = bisect_left(portion, (_first_leaf(own + 1, shift), b""), start)
            if own != bucket:
                if parts:
                    yield bucket, b"".join(parts)
                bucket, parts = own, []
            parts.append(_joined(portion[start:stop]))
            start = stop
    if parts:
        yield bucket, b"".join(parts)


def read_bucket(reader: Reader, shift: int, bucket: int) -> bytes:
    """One bucket as it is on disk, empty where it has no keys; judged by nothing here."""
    if shift % 8:
        return dict(read_buckets(reader, shift, bucket, bucket + 1)).get(bucket, b"")
    # Its leaves are all that begin so: LevelDB looks for their end, half as dear as looking for it here.
    prefix = _first_leaf(bucket, shift)[: 1 + _NUMBER_BYTES - shift // 8]
    return _joined(list(reader.scan(prefix)))


def hashes_of_leaves(reader: Reader, buckets: int) -> dict[int, bytes]:
    """The hash of every bucket that is not empty, worked out from all leaves on disk."""
    found = read_buckets(reader, shift_of(depth_of(buckets)), 0, buckets)
    return {bucket: bucket_hash(page) for bucket, page in found}


def read_bucket_hashes(reader: Reader, buckets: int) -> dict[int, bytes]:
    """The hash of every bucket that is not empty, as it is kept on disk: judged by the state root above them alone.
    Raises StorageDamage where an entry has not the form of one."""
    hashes: dict[int, bytes] = {}
    for key, digest in reader.scan(_BUCKET):
        bucket = int.from_bytes(key[1:], "big")
        if len(key) != 1 + _NUMBER_BYTES or bucket >= buckets or len(digest) != HASH_BYTES:
            raise damaged(f"the hash of bucket {bucket} of the state tree")
        hashes[bucket] = digest
    return hashes


def leaf_writes(pairs: Iterable[tuple[bytes, bytes | None]]) -> list[Write]:
    """What keeps these leaves: key hash and value hash, or None where the key has gone."""
    return [(_LEAF + name, digest) for name, digest in pairs]


def bucket_writes(hashes: Mapping[int, bytes]) -> list[Write]:
    """What keeps these hashes of buckets; an empty bucket has no entry."""
    empty = bucket_hash(b"")
    return [
        (_BUCKET + bucket.to_bytes(_NUMBER_BYTES, "big"), None if digest == empty else digest)
        for bucket, digest in hashes.items()
    ]


def _first_leaf(bucket: int, shift: int) -> bytes:
    """Where the leaves of a bucket begin; for the bucket beyond the last, the end of the table."""
    number = bucket << shift
    return _LEAF + number.to_bytes(_NUMBER_BYTES, "big") if number < 1 << 8 * _NUMBER_BYTES else _LEAF_END


def _joined(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Keys and values without the table's prefix, which is cut out of all of them at once."""
    assert len(_LEAF) == 1, "one byte ahead of every pair is cut out"
    page = bytearray(b"".join(chain.from_iterable(pairs)))
    del page[:: PAIR_BYTES + 1]
    return bytes(page)

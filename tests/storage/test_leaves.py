"""Leaves of the state tree are cut into buckets in the same way, one by one and all at once."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otcnode.storage import leaves
from otcnode.storage.kv import MemoryKeyValue
from otcnode.storage.leaves import (
    bucket_writes,
    depth_of,
    hashes_of_leaves,
    leaf_writes,
    read_bucket,
    read_bucket_hashes,
    read_buckets,
    shift_of,
)
from otcnode.storage.state_proof import bucket_hash

NAMES = st.binary(min_size=1, max_size=1).map(lambda start: start + bytes(31)) | st.binary(min_size=32, max_size=32)


@pytest.fixture
def small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaves, "PAIRS_AT_ONCE", 3)


@pytest.mark.usefixtures("small_portions")
@given(
    pairs=st.dictionaries(NAMES, st.binary(min_size=32, max_size=32), max_size=40),
    depth=st.integers(1, 3),
    cuts=st.tuples(st.integers(0), st.integers(0)),
)
@settings(max_examples=100, deadline=None)
def test_every_bucket_holds_the_pairs_whose_hash_begins_with_its_number(
    pairs: dict[bytes, bytes], depth: int, cuts: tuple[int, int]
) -> None:
    kv = MemoryKeyValue()
    kv.write([(b"s", b"before"), *leaf_writes(pairs.items()), (b"u", b"behind")])
    expected: dict[int, bytes] = {}
    for name, digest in sorted(pairs.items()):
        bucket = int(name.hex()[:depth], 16)
        expected[bucket] = expected.get(bucket, b"") + name + digest
    shift = shift_of(depth)
    assert list(read_buckets(kv, shift, 0, 16**depth)) == list(expected.items())
    first, end = sorted(cut % (16**depth + 1) for cut in cuts)
    within = [(bucket, page) for bucket, page in expected.items() if first <= bucket < end]
    assert list(read_buckets(kv, shift, first, end)) == within
    for bucket in {0, 16**depth - 1, *expected}:
        assert dict(read_buckets(kv, shift, bucket, bucket + 1)).get(bucket) == expected.get(bucket)
        assert read_bucket(kv, shift, bucket) == expected.get(bucket, b"")


def test_hashes_of_buckets_are_kept_as_long_as_they_are_not_empty() -> None:
    kv = MemoryKeyValue()
    hashes = {3: bucket_hash(b"3"), 255: bucket_hash(b"255")}
    kv.write(bucket_writes({**hashes, 4: bucket_hash(b"")}))
    assert read_bucket_hashes(kv, 256) == hashes
    kv.write(bucket_writes({3: bucket_hash(b"")}))
    assert read_bucket_hashes(kv, 256) == {255: hashes[255]}
    assert hashes_of_leaves(kv, 256) == {}


@pytest.mark.parametrize("buckets", [1, 8, 17, 32, 16**9])
def test_the_number_of_buckets_is_a_power_of_sixteen(buckets: int) -> None:
    with pytest.raises(AssertionError, match="a power of 16"):
        depth_of(buckets)

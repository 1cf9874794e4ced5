"""Every key-value store behaves like a sorted dictionary."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otcnode.storage.faulty import FaultyKeyValue
from otcnode.storage.kv import KeyValue, MemoryKeyValue, Write, prefix_end
from otcnode.storage.level import LevelKeyValue

KINDS = ("memory", "level", "faulty")

keys = st.lists(st.sampled_from([b"\x00", b"a", b"b", b"\xfe", b"\xff"]), max_size=4).map(b"".join)
values = st.binary(max_size=4)
batches = st.lists(st.tuples(keys, st.none() | values), max_size=40)


@contextmanager
def opened(kind: str) -> Iterator[KeyValue]:
    if kind == "memory":
        yield MemoryKeyValue()
    elif kind == "faulty":
        yield FaultyKeyValue()
    else:
        with tempfile.TemporaryDirectory() as directory:
            level = LevelKeyValue(Path(directory), create=True)
            yield level
            level.close()


@pytest.fixture(params=KINDS)
def kv(request: pytest.FixtureRequest) -> Iterator[KeyValue]:
    with opened(request.param) as store:
        yield store


def model_scan(
    model: dict[bytes, bytes], prefix: bytes, after: bytes | None, limit: int | None, reverse: bool
) -> list[tuple[bytes, bytes]]:
    found = sorted((key, value) for key, value in model.items() if key.startswith(prefix))
    if reverse:
        found = [pair for pair in reversed(found) if after is None or pair[0] < after]
    else:
        found = [pair for pair in found if after is None or pair[0] > after]
    return found if limit is None else found[:limit]


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    written=st.lists(batches, max_size=4),
    scans=st.lists(
        st.tuples(keys, st.none() | keys, st.none() | st.integers(0, 5), st.booleans()), min_size=1, max_size=8
    ),
)
def test_any_writes_and_scans_are_those_of_a_sorted_dictionary(
    kv: KeyValue, written: list[list[Write]], scans: list[tuple[bytes, bytes | None, int | None, bool]]
) -> None:
    """One store for all examples, emptied before each: to make sixty databases takes hundreds of syncs, seconds where
    the disk has other things to do."""
    kv.write([(key, None) for key, _ in kv.scan(b"")])
    model: dict[bytes, bytes] = {}
    for batch in written:
        kv.write(batch)
        for key, value in batch:
            model.pop(key, None)
            if value is not None:
                model[key] = value
    for key in [b"", *model]:
        assert kv.get(key) == model.get(key)
    for prefix, after, limit, reverse in scans:
        assert list(kv.scan(prefix, after, limit, reverse)) == model_scan(model, prefix, after, limit, reverse)


def test_of_several_writes_to_one_key_the_last_one_counts(kv: KeyValue) -> None:
    kv.write([(b"c", b"2"), (b"b", b"1"), (b"a", b"1"), (b"c", b"1"), (b"b", None), (b"a", None), (b"a", b"")])
    assert list(kv.scan(b"")) == [(b"a", b""), (b"c", b"1")]


def test_a_snapshot_and_a_running_scan_do_not_see_later_writes(kv: KeyValue) -> None:
    kv.write([(b"a", b"1"), (b"b", b"1")])
    snapshot = kv.snapshot()
    running = kv.scan(b"")
    assert next(running) == (b"a", b"1")
    kv.write([(b"a", None), (b"b", b"2"), (b"c", b"2")])
    assert list(running) == [(b"b", b"1")]
    assert list(snapshot.scan(b"")) == [(b"a", b"1"), (b"b", b"1")]
    assert (snapshot.get(b"a"), snapshot.get(b"c")) == (b"1", None)
    snapshot.close()
    assert list(kv.scan(b"")) == [(b"b", b"2"), (b"c", b"2")]


def test_many_keys_in_one_batch_are_sorted(kv: KeyValue) -> None:
    names = [bytes([n * 37 % 256]) for n in range(256)]
    kv.write([(name, name) for name in names])
    kv.write([(name, None) for name in names[::2]])
    assert [key for key, _ in kv.scan(b"")] == sorted(names[1::2])


def test_a_key_that_is_the_whole_prefix_is_found_backwards(kv: KeyValue) -> None:
    """plyvel 1.5.1 does not."""
    kv.write([(b"", b"0"), (b"a", b"1"), (b"b", b"2")])
    assert list(kv.scan(b"a", reverse=True)) == [(b"a", b"1")]
    assert list(kv.scan(b"", after=b"a", reverse=True)) == [(b"", b"0")]


@pytest.mark.parametrize(
    ("prefix", "end"), [(b"", None), (b"a", b"b"), (b"a\xff", b"b"), (b"\xff\xff", None), (b"a\x00", b"a\x01")]
)
def test_prefix_end(prefix: bytes, end: bytes | None) -> None:
    assert prefix_end(prefix) == end

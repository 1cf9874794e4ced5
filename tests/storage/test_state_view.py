"""The committed state as it is read: through a cache, and without searching again where nothing was."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice

import pytest

from otcnode.storage.kv import MemoryKeyValue, Reader
from otcnode.storage.schema import Table
from otcnode.storage.state_view import CommittedState

STATE = Table.STATE.value


def test_the_cache_of_the_committed_state_is_bounded_and_right() -> None:
    kv = MemoryKeyValue()
    kv.write([(STATE + b"%d" % number, b"value %d" % number) for number in range(300)])
    state = CommittedState(kv, cache_bytes=4_000)
    for number in [*range(300), *range(300, 0, -7)]:
        assert state.get(b"%d" % number) == (b"value %d" % number if number < 300 else None)
        assert len(state._young) + len(state._old) <= 20
    kv.write([(STATE + b"1", b"new"), (STATE + b"2", None)])
    state.update({b"1": b"new", b"2": None})
    assert (state.get(b"1"), state.get(b"2")) == (b"new", None)


@pytest.mark.parametrize("seed", range(20))
def test_a_scan_of_the_committed_state_gives_what_is_there_whatever_was_scanned_and_written_before(seed: int) -> None:
    chance = random.Random(seed)
    kv = MemoryKeyValue()
    state = CommittedState(kv, cache_bytes=4_000)
    names = [bytes([table, lane, place]) for table in b"ab\xff" for lane in b"\x00\x01\xff" for place in (0, 7)]
    names += [b"a", b"b\x01"]
    bounds: list[bytes | None] = [None, b"", b"\x00", *names, *(name + b"\x00" for name in names)]
    for number in range(300):
        if chance.random() < 0.3:
            writes = {
                key: None if chance.random() < 0.8 else b"%d" % number
                for key in chance.sample(names, chance.randint(0, 8))
            }
            kv.write([(STATE + key, value) for key, value in writes.items()])
            state.update(writes)
        prefix = chance.choice([b"", *names])[: chance.randint(0, 3)]
        after, limit = chance.choice(bounds), chance.choice([None, 1, 2, 5])
        stored = kv.scan(STATE + prefix, None if after is None else STATE + after, limit)
        expected = [(key[1:], value) for key, value in stored]
        taken = chance.choice([None, 1])
        assert list(islice(state.scan(prefix, after, limit), taken)) == expected[:taken]
        key = chance.choice(names)
        assert state.get(key) == kv.get(STATE + key)


class Watched:
    """A reader that keeps what it was asked for."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.asked: list[bytes] = []
        self.scanned_beyond: list[bytes | None] = []

    def get(self, key: bytes) -> bytes | None:
        self.asked.append(key)
        return self._reader.get(key)

    def scan(
        self, prefix: bytes, after: bytes | None = None, limit: int | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        self.scanned_beyond.append(after)
        return self._reader.scan(prefix, after, limit, reverse)

    def close(self) -> None:
        self._reader.close()


def test_what_was_deleted_at_the_front_of_a_table_is_not_searched_again() -> None:
    kv = MemoryKeyValue()
    state = CommittedState(reader := Watched(kv))
    queue = [b"q%03d" % number for number in range(300)]
    kv.write([(STATE + key, b"") for key in queue])
    for first in range(0, 300, 100):
        assert list(state.scan(b"q", limit=100)) == [(key, b"") for key in queue[first : first + 100]]
        writes = dict.fromkeys(queue[first : first + 100])
        kv.write([(STATE + key, None) for key in writes])
        state.update(writes)
    assert reader.scanned_beyond == [None, STATE + b"q00", STATE + b"q10"]
    assert list(state.scan(b"q")) == list(state.scan(b"q")) == []
    kv.write([(STATE + b"q005", b"again")])
    state.update({b"q005": b"again"})
    assert list(state.scan(b"q", limit=1)) == [(b"q005", b"again")]


def test_what_a_bounded_scan_found_is_not_read_again() -> None:
    kv = MemoryKeyValue()
    state = CommittedState(reader := Watched(kv))
    kv.write([(STATE + b"%d" % number, b"value %d" % number) for number in range(9)])
    found = dict(state.scan(b"", limit=5))
    assert state.values(found) == [*found.values()] == [b"value %d" % number for number in range(5)]
    assert reader.asked == []
    assert state.get(b"5") == b"value 5" and reader.asked == [STATE + b"5"]


@pytest.mark.parametrize("limit", [None, 5])
def test_a_scan_that_is_gone_on_with_after_a_commit_leaves_nothing_outdated_behind(limit: int | None) -> None:
    kv = MemoryKeyValue()
    state = CommittedState(kv, cache_bytes=1)
    kv.write([(STATE + b"%d" % number, b"before") for number in range(5)])
    scan = state.scan(b"", limit=limit)
    assert next(scan) == (b"0", b"before")
    writes: dict[bytes, bytes | None] = {b"3": b"after", b"4": None}
    kv.write([(STATE + key, value) for key, value in writes.items()])
    state.update(writes)
    assert dict(scan) == dict.fromkeys([b"1", b"2", b"3", b"4"], b"before"), "as it was when it began"
    assert (state.get(b"4"), state.get(b"3")) == (None, b"after")

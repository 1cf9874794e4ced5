"""What the ledger and queries read: the committed state, and states of past heights."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from otcnode.storage.kv import Reader, Write, prefix_end
from otcnode.storage.schema import HEIGHT_BYTES, Table, terminated, unterminated

CACHE_BYTES = 32 << 20
_ENTRY_BYTES = 200
"""What a cached entry costs beside its bytes (two objects and a place in a dictionary), roughly."""
BEGINNINGS_PREFIX_BYTES = 2
"""Of so long prefixes, tables and the lanes of the due queue, it is remembered where their keys begin."""
_END = b"\x00\x01"
"""How `schema.terminated` ends a key."""

# Looked up once: an attribute of an enumeration costs as much as a read from the cache.
_STATE = Table.STATE.value
_HISTORY = Table.HISTORY.value

_ABSENT = b"\x00"
_PRESENT = b"\x01"


class CommittedState:
    """The latest state, with a cache of what was read or written lately, bounded in bytes (or by one block's writes).

    The cache has two generations: when the young one is full it becomes the old one, and what is still used moves up.

    A table whose first keys are deleted block after block, such as ids that expire, is not searched from its beginning
    each time: LevelDB would step over every deletion that it has not merged away yet, tens of thousands of them.
    """

    def __init__(self, reader: Reader, cache_bytes: int = CACHE_BYTES) -> None:
        self._reader = reader
        self._young: dict[bytes, bytes | None] = {}
        self._old: dict[bytes, bytes | None] = {}
        self._young_bytes = 0
        self._generation_bytes_max = cache_bytes // 2
        self._empty_until: dict[bytes, bytes] = {}
        """Per prefix that was scanned: no key that begins with it is this one or lies below."""

    def get(self, key: bytes) -> bytes | None:
        if key in self._young:
            return self._young[key]
        value = self._old[key] if key in self._old else self._reader.get(_STATE + key)
        self._remember(key, value)
        return value

    def _remember(self, key: bytes, value: bytes | None) -> None:
        self._young[key] = value
        self._young_bytes += _ENTRY_BYTES + len(key) + (0 if value is None else len(value))
        if self._young_bytes > self._generation_bytes_max:
            self._old, self._young, self._young_bytes = self._young, {}, 0

    def scan(
        self, prefix: bytes, after: bytes | None = None, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """A bounded one is read at once and remembered: a block deletes much of what it finds so, and the history asks
        what was there."""
        assert limit is None or limit >= 1
        empty_until = self._empty_until.get(prefix, b"")
        from_beginning = after is None or after <= empty_until
        beyond = empty_until if after is None or from_beginning else after
        stored = self._reader.scan(_STATE + prefix, _STATE + beyond if beyond else None, limit)
        pairs: Iterator[tuple[bytes, bytes]] = ((key[len(_STATE) :], value) for key, value in stored)
        if limit is not None:
            pairs = self._taken(pairs)
        if from_beginning and 0 < len(prefix) <= BEGINNINGS_PREFIX_BYTES:
            first = next(pairs, None)
            if first is None:
                self._empty_until[prefix] = prefix_end(prefix) or b""
                return
            self._empty_until[prefix] = first[0][:-1]
            yield first
        yield from pairs

    def _taken(self, pairs: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        found = list(pairs)
        for key, value in found:
            if key not in self._young:
                self._remember(key, value)
        return iter(found)

    def values(self, keys: Iterable[bytes]) -> list[bytes | None]:
        """What is there under each of the keys."""
        known, get = self._young, self.get
        return [known[key] if key in known else get(key) for key in keys]

    def update(self, writes: Mapping[bytes, bytes | None]) -> None:
        """Remember these values, which are in the store."""
        values = [value for value in writes.values() if value is not None]
        size = _ENTRY_BYTES * len(writes) + sum(map(len, writes)) + sum(map(len, values))
        if self._young_bytes + size > self._generation_bytes_max:
            self._old, self._young, self._young_bytes = self._young, {}, 0
        self._young.update(writes)
        self._young_bytes += size
        self._note_beginnings(writes)

    def _note_beginnings(self, writes: Mapping[bytes, bytes | None]) -> None:
        keys = sorted(writes)
        for prefix, empty_until in self._empty_until.items():
            for key in keys[bisect_left(keys, prefix) : bisect_right(keys, empty_until)]:
                if writes[key] is not None:
                    self._empty_until[prefix] = key[:-1]
                    break


def history_writes(height: int, keys: Collection[bytes], before: CommittedState) -> list[Write]:
    """The HISTORY entries of the keys that the block at `height` writes on the state `before` it."""
    at = height.to_bytes(HEIGHT_BYTES, "big")
    return [
        (_HISTORY + terminated(key) + at, _ABSENT if value is None else _PRESENT + value)
        for key, value in zip(keys, before.values(keys), strict=True)
    ]


def replaced_value(entry: bytes) -> bytes | None:
    """The value in a HISTORY entry."""
    return entry[1:] if entry[:1] == _PRESENT else None


def is_replaced_value(entry: bytes) -> bool:
    """Whether a HISTORY entry has the form of one."""
    return entry[:1] == _PRESENT or entry == _ABSENT


class PastState:
    """The state after the block at `height`: of each key what the first later block replaced, else its latest value."""

    def __init__(self, reader: Reader, height: int, check_kept: Callable[[int], None]) -> None:
        """`check_kept` raises LookupError once the history of the height has been dropped."""
        self._reader = reader
        self._height = height
        self._at = height.to_bytes(HEIGHT_BYTES, "big")
        self._check_kept = check_kept

    def get(self, key: bytes) -> bytes | None:
        self._check_kept(self._height)
        places = _HISTORY + terminated(key)
        for _, entry in self._reader.scan(places, places + self._at, 1):
            return replaced_value(entry)
        return self._reader.get(_STATE + key)

    def scan(
        self, prefix: bytes, after: bytes | None = None, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Merges the latest pairs with the keys that were replaced since; consistent once it has begun."""
        self._check_kept(self._height)
        count = 0
        for key, value in self._merged(prefix, after):
            if limit is not None and count >= limit:
                return
            if value is not None:
                count += 1
                yield key, value

    def _merged(self, prefix: bytes, after: bytes | None) -> Iterator[tuple[bytes, bytes | None]]:
        latest = self._reader.scan(_STATE + prefix, None if after is None else _STATE + after)
        replaced = self._replaced(prefix, after)
        past = next(replaced, None)
        for stored, value in latest:
            key = stored[len(_STATE) :]
            while past is not None and past[0] < key:
                yield past
                past = next(replaced, None)
            if past is not None and past[0] == key:
                yield past
                past = next(replaced, None)
            else:
                yield key, value
        if past is not None:
            yield past
            yield from replaced

    def _replaced(self, prefix: bytes, after: bytes | None) -> Iterator[tuple[bytes, bytes | None]]:
        """Keys written since, in order, with what they held at the height."""
        start = _HISTORY + terminated(prefix)[: -len(_END)]
        # Beyond every entry of the key `after` itself: no height is 2^64 - 1.
        beyond = None if after is None else _HISTORY + terminated(after) + b"\xff" * HEIGHT_BYTES
        seen = None
        for place, entry in self._reader.scan(start, beyond):
            form = place[len(_HISTORY) : -HEIGHT_BYTES]
            if form != seen and place[-HEIGHT_BYTES:] > self._at:
                seen = form
                yield unterminated(form), replaced_value(entry)

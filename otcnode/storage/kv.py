"""The small ordered key-value interface under everything that is on disk, and the in-memory store behind it.

Stores on LevelDB are in level.py, stores with injected faults in faulty.py: this module imports no disk.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from typing import Protocol, TypeAlias

Write: TypeAlias = tuple[bytes, bytes | None]
"""A key and its new value, None to delete it."""

_SORT_AT_ONCE_KEYS = 16
"""From this many new keys on, one sort is cheaper than inserting each in place."""


class Reader(Protocol):
    """Consistent reads. Raises StorageDamage where what is stored is not what was written."""

    def get(self, key: bytes) -> bytes | None: ...

    def scan(
        self, prefix: bytes, after: bytes | None = None, limit: int | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """At most `limit` pairs whose key begins with `prefix`, in order of key, beyond `after` (which need not
        exist): keys > `after` ascending or, with `reverse`, keys < `after` descending.

        A scan sees the store as it was when its first pair was asked for.
        """
        ...

    def close(self) -> None:
        """Free what the reader holds; it must not be used afterwards."""
        ...


class KeyValue(Reader, Protocol):
    """An ordered store of bytes whose writes are atomic and durable; there is no switch that makes them less."""

    def write(self, batch: Sequence[Write]) -> None:
        """All of `batch` or nothing of it, durable on return; of several writes to one key the last one counts.

        Raises StorageDamage where the disk refuses; such a store takes no further writes.
        """
        ...

    def snapshot(self) -> Reader:
        """The store as it is now, whatever is written later; to be closed."""
        ...


def prefix_end(prefix: bytes) -> bytes | None:
    """The first key after all that begin with `prefix`; None if there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else None


class _Contents:
    """One version of the contents: shared by its readers, and replaced by a copy if written to meanwhile."""

    __slots__ = ("keys", "readers", "values")

    def __init__(self, keys: list[bytes], values: dict[bytes, bytes]) -> None:
        self.keys = keys
        self.values = values
        self.readers = 0

    def scan(
        self, prefix: bytes, after: bytes | None, limit: int | None, reverse: bool
    ) -> Iterator[tuple[bytes, bytes]]:
        end = prefix_end(prefix)
        first = bisect_left(self.keys, prefix)
        last = len(self.keys) if end is None else bisect_left(self.keys, end)
        if after is not None and reverse:
            last = min(last, bisect_left(self.keys, after))
        elif after is not None:
            first = max(first, bisect_left(self.keys, after + b"\x00"))
        count = max(0, last - first) if limit is None else max(0, min(last - first, limit))
        positions = range(last - 1, last - 1 - count, -1) if reverse else range(first, first + count)
        self.readers += 1
        try:
            for position in positions:
                key = self.keys[position]
                yield key, self.values[key]
        finally:
            self.readers -= 1

    def apply(self, batch: Sequence[Write]) -> None:
        added: dict[bytes, None] = {}
        removed: set[bytes] = set()
        for key, value in dict(batch).items():
            if value is None:
                if self.values.pop(key, None) is not None:
                    removed.add(key)
                continue
            if key not in self.values:
                added[key] = None
            self.values[key] = value
        if removed:
            self.keys = [key for key in self.keys if key not in removed]
        if len(added) >= _SORT_AT_ONCE_KEYS:
            self.keys.extend(added)
            self.keys.sort()
        else:
            for key in added:
                insort(self.keys, key)


class _MemorySnapshot:
    def __init__(self, contents: _Contents) -> None:
        self._contents = contents
        contents.readers += 1

    def get(self, key: bytes) -> bytes | None:
        return self._contents.values.get(key)

    def scan(
        self, prefix: bytes, after: bytes | None = None, limit: int | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        return self._contents.scan(prefix, after, limit, reverse)

    def close(self) -> None:
        self._contents.readers -= 1


class MemoryKeyValue:
    """A KeyValue in memory: what survives is what the owner keeps. Closing it loses nothing."""

    def __init__(self) -> None:
        self._contents = _Contents([], {})

    def get(self, key: bytes) -> bytes | None:
        return self._contents.values.get(key)

    def scan(
        self, prefix: bytes, after: bytes | None = None, limit: int | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        return self._contents.scan(prefix, after, limit, reverse)

    def write(self, batch: Sequence[Write]) -> None:
        if self._contents.readers:
            self._contents = _Contents(list(self._contents.keys), dict(self._contents.values))
        self._contents.apply(batch)

    def snapshot(self) -> Reader:
        return _MemorySnapshot(self._contents)

    def close(self) -> None:
        """Nothing is held."""

"""Typed, journaled access to the state while one block executes.

Values are decoded once per block and encoded once, at its end, however often they change in between. What is written
without having been read is not read for that. A savepoint costs nothing; rolling back undoes the writes since, one by
one. Reads and writes go through tables (vm/keys.py).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from itertools import islice
from typing import Any, TypeVar

from otcnode.codec import encode
from otcnode.vm.keys import Table
from otcnode.vm.view import StateView

R = TypeVar("R")

_UNREAD: Any = object()
"""In place of a value that this block has not read."""
_SORT_AT_ONCE_KEYS = 32
"""From so many new keys on, sorting them into the rest at once costs less than one by one."""


class State:
    """The state as the block sees it so far: the parent's view and everything written since."""

    __slots__ = ("_base", "_heads", "_journal", "_sorted", "_unsorted", "_values", "_written")

    def __init__(self, base: StateView) -> None:
        self._base = base
        self._values: dict[bytes, Any] = {}
        """Key to decoded value, None where there is none; read or written in this block."""
        self._written: set[bytes] = set()
        self._sorted: dict[bytes, list[bytes]] = {}
        """Written keys by prefix byte, ascending, without those that are still unsorted."""
        self._unsorted: dict[bytes, dict[bytes, None]] = {}
        """Keys by prefix byte that were written since it was last scanned: most tables are never scanned in a block."""
        self._heads: dict[tuple[bytes, bytes | None], tuple[bytes, bytes] | None] = {}
        """(prefix, after) to the first pair of the parent's view there: many transactions ask for the same."""
        self._journal: list[tuple[bytes, Any, bool]] = []
        """(key, value before, whether it was already written) per write, so that it can be undone."""

    def get(self, table: Table[R], suffix: bytes) -> R | None:
        key = table.prefix + suffix
        value: R | None = self._values.get(key, _UNREAD)
        if value is not _UNREAD:
            return value
        raw = self._base.get(key)
        value = None if raw is None else table.decode(raw)
        self._values[key] = value
        return value

    def put(self, table: Table[R], suffix: bytes, value: R) -> None:
        self._write(table, suffix, value)

    def delete(self, table: Table[R], suffix: bytes) -> None:
        self._write(table, suffix, None)

    def _write(self, table: Table[R], suffix: bytes, value: R | None) -> None:
        key = table.prefix + suffix
        if key in self._written:
            self._journal.append((key, self._values[key], True))
        else:
            self._journal.append((key, self._values.get(key, _UNREAD), False))
            self._written.add(key)
            try:
                self._unsorted[table.prefix][key] = None
            except KeyError:
                self._unsorted[table.prefix] = {key: None}
        self._values[key] = value

    def savepoint(self) -> int:
        return len(self._journal)

    def rollback(self, savepoint: int) -> None:
        """Undo every write since `savepoint`."""
        journal = self._journal
        while len(journal) > savepoint:
            key, value, was_written = journal.pop()
            if value is _UNREAD:
                del self._values[key]
            else:
                self._values[key] = value
            if not was_written:
                self._written.remove(key)
                self._forget(key)

    def _forget(self, key: bytes) -> None:
        unsorted = self._unsorted[key[:1]]
        if key in unsorted:
            del unsorted[key]
        else:
            keys = self._sorted[key[:1]]
            del keys[bisect_left(keys, key)]

    def _keys(self, prefix: bytes) -> list[bytes]:
        """The written keys under a prefix byte, ascending."""
        keys = self._sorted.setdefault(prefix, [])
        if unsorted := self._unsorted.get(prefix):
            if len(unsorted) < _SORT_AT_ONCE_KEYS:
                for key in unsorted:
                    insort(keys, key)
            else:
                keys += unsorted
                keys.sort()
            unsorted.clear()
        return keys

    def scan(
        self, table: Table[R], prefix: bytes = b"", after: bytes | None = None, limit: int | None = None
    ) -> list[tuple[bytes, R]]:
        """(suffix, record) pairs whose suffix begins with `prefix`, ascending, suffixes > `after`, at most `limit`.

        The list is a copy: what it names may be written while it is walked.
        """
        entries = self._merged(table, table.prefix + prefix, None if after is None else table.prefix + after, limit)
        # Not one entry further than asked for: behind the last may lie a long run of what this block has deleted.
        return [(key[1:], value) for key, value in islice(entries, limit)]

    def _merged(
        self, table: Table[R], prefix: bytes, after: bytes | None, limit: int | None
    ) -> Iterator[tuple[bytes, R]]:
        own = self._keys(table.prefix)
        position = bisect_left(own, prefix if after is None or after < prefix else after + b"\x00")
        rest = None if limit == 1 else self._base.scan(prefix, after)
        pending = self._head(prefix, after) if rest is None else next(rest, None)
        while True:
            key = own[position] if position < len(own) and own[position].startswith(prefix) else None
            if pending is None and key is None:
                return
            if pending is not None and (key is None or pending[0] <= key):
                if key is None or pending[0] < key:
                    yield pending[0], self._decoded(table, *pending)
                if rest is None:
                    rest = self._base.scan(prefix, pending[0])
                pending = next(rest, None)
                continue
            assert key is not None
            position += 1
            value = self._values[key]
            if value is not None:
                yield key, value

    def _head(self, prefix: bytes, after: bytes | None) -> tuple[bytes, bytes] | None:
        place = prefix, after
        if place not in self._heads:
            self._heads[place] = next(self._base.scan(prefix, after, 1), None)
        return self._heads[place]

    def _decoded(self, table: Table[R], key: bytes, raw: bytes) -> R:
        value: R | None = self._values.get(key)
        return table.decode(raw) if value is None else value

    def writes(self) -> dict[bytes, bytes | None]:
        """The block's writes in canonical bytes, ascending by key; None deletes."""
        values = self._values
        return {key: None if (value := values[key]) is None else encode(value) for key in sorted(self._written)}

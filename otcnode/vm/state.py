"""Typed, journaled access to the state while one block executes.

Values are decoded once per block and encoded once, at its end, however often they change in between. What is written
without having been read is not read for that. A savepoint costs nothing; rolling back undoes the writes since, one by
one. Reads and writes go through tables (vm/keys.py).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice, takewhile
from typing import Any, Protocol, TypeVar

from otcnode.codec import encode
from otcnode.vm.keys import Table
from otcnode.vm.view import StateView

R = TypeVar("R")

_UNREAD: Any = object()
"""In place of a value that this block has not read."""
_SORT_AT_ONCE_KEYS = 32
"""From so many new keys on, sorting them into the rest at once costs less than one by one."""


class Getter(Protocol):
    """The type of `State.get`, for whoever keeps it at hand."""

    def __call__(self, table: Table[R], suffix: bytes, /) -> R | None: ...


class Putter(Protocol):
    """The type of `State.put`."""

    def __call__(self, table: Table[R], suffix: bytes, value: R, /) -> None: ...


class Deleter(Protocol):
    """The type of `State.delete`."""

    def __call__(self, table: Table[R], suffix: bytes, /) -> None: ...


class State:
    """The state as the block sees it so far: the parent's view and everything written since."""

    __slots__ = ("_base", "_journal", "_known", "_listed", "_sorted", "_unsorted", "_values")

    def __init__(self, base: StateView) -> None:
        self._base = base
        self._values: defaultdict[Table[Any], dict[bytes, Any]] = defaultdict(dict)
        """Per table, suffix to decoded value, None where there is none; read or written in this block."""
        self._journal: list[tuple[Table[Any], dict[bytes, Any], bytes, Any]] = []
        """(table, its values, suffix, value before) per write: so that it can be undone, and to know what was
        written."""
        self._listed = 0
        """How much of the journal is in the two lists below: a block that scans little sorts little."""
        self._unsorted: defaultdict[Table[Any], list[bytes]] = defaultdict(list)
        """Suffixes written since their table was last scanned."""
        self._sorted: defaultdict[Table[Any], list[bytes]] = defaultdict(list)
        """The other suffixes that were written, ascending, each once. A write that was undone may leave its own here:
        that hides nothing, as the values say what holds."""
        self._known: defaultdict[Table[Any], set[bytes]] = defaultdict(set)
        """What is in `_sorted`."""

    def get(self, table: Table[R], suffix: bytes, /) -> R | None:
        values = self._values[table]
        value: R | None = values.get(suffix, _UNREAD)
        if value is _UNREAD:
            raw = self._base.get(table.prefix + suffix)
            value = values[suffix] = None if raw is None else table.decode(raw)
        return value

    def put(self, table: Table[R], suffix: bytes, value: R, /) -> None:
        values = self._values[table]
        self._journal.append((table, values, suffix, values.get(suffix, _UNREAD)))
        values[suffix] = value

    def delete(self, table: Table[R], suffix: bytes, /) -> None:
        values = self._values[table]
        self._journal.append((table, values, suffix, values.get(suffix, _UNREAD)))
        values[suffix] = None

    def is_known_absent(self, table: Table[R], suffix: bytes) -> bool:
        """Whether the record was deleted in this block, or looked for in vain; reads nothing."""
        return self._values[table].get(suffix, _UNREAD) is None

    def savepoint(self) -> int:
        return len(self._journal)

    def rollback(self, savepoint: int) -> None:
        """Undo every write since `savepoint`."""
        journal = self._journal
        while len(journal) > savepoint:
            _, values, suffix, value = journal.pop()
            if value is _UNREAD:
                del values[suffix]
            else:
                values[suffix] = value
        self._listed = min(self._listed, savepoint)

    def _written(self, table: Table[R]) -> list[bytes]:
        """The suffixes that were written under a table, ascending."""
        for written, _, suffix, _ in self._journal[self._listed :]:
            self._unsorted[written].append(suffix)
        self._listed = len(self._journal)
        suffixes = self._sorted[table]
        if table in self._unsorted:
            known = self._known[table]
            new = [suffix for suffix in dict.fromkeys(self._unsorted.pop(table)) if suffix not in known]
            known.update(new)
            if len(new) >= _SORT_AT_ONCE_KEYS:
                suffixes += new
                suffixes.sort()
            else:
                for suffix in new:
                    insort(suffixes, suffix)
        return suffixes

    def scan(
        self, table: Table[R], prefix: bytes = b"", after: bytes | None = None, limit: int | None = None
    ) -> list[tuple[bytes, R]]:
        """(suffix, record) pairs whose suffix begins with `prefix`, ascending, suffixes > `after`, at most `limit`.

        The list is a copy: what it names may be written while it is walked.
        """
        written = self._written(table)
        first = bisect_left(written, prefix if after is None or after < prefix else after + b"\x00")
        start, beyond = table.prefix + prefix, None if after is None else table.prefix + after
        if first < len(written) and written[first].startswith(prefix):
            own = takewhile(lambda suffix: suffix.startswith(prefix), islice(written, first, None))
            # Not one entry further than asked for: behind the last may lie a long run of what this block has deleted.
            return list(islice(self._merged(table, own, self._base.scan(start, beyond)), limit))
        known, decode = self._values[table], table.decode
        return [
            (suffix := key[1:], known.get(suffix) or decode(raw)) for key, raw in self._base.scan(start, beyond, limit)
        ]

    def _merged(
        self, table: Table[R], own: Iterator[bytes], base: Iterator[tuple[bytes, bytes]]
    ) -> Iterator[tuple[bytes, R]]:
        """The pairs of the parent's view as this block has left them, and those at its `own` suffixes."""
        values = self._values[table]
        mine = next(own, None)
        for key, raw in base:
            suffix = key[1:]
            while mine is not None and mine < suffix:
                if (value := values.get(mine)) is not None:
                    yield mine, value
                mine = next(own, None)
            if mine == suffix:
                mine = next(own, None)
            value = values.get(suffix, _UNREAD)
            if value is _UNREAD:
                yield suffix, table.decode(raw)
            elif value is not None:
                yield suffix, value
        while mine is not None:
            if (value := values.get(mine)) is not None:
                yield mine, value
            mine = next(own, None)

    def writes(self) -> dict[bytes, bytes | None]:
        """The block's writes in canonical bytes, ascending by key; None deletes."""
        written = {table.prefix + suffix: values[suffix] for table, values, suffix, _ in self._journal}
        return {key: None if (value := written[key]) is None else encode(value) for key in sorted(written)}

"""Typed, lazy reading of a committed state. Pure; a page reads no more rows than it shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from otcnode.vm.keys import Table
from otcnode.vm.view import StateView

R = TypeVar("R")


class Reader:
    """Records of a view, through the ledger's tables."""

    __slots__ = ("_view",)

    def __init__(self, view: StateView) -> None:
        self._view = view

    def get(self, table: Table[R], suffix: bytes) -> R | None:
        raw = self._view.get(table.prefix + suffix)
        return None if raw is None else table.decode(raw)

    def scan(
        self, table: Table[R], prefix: bytes = b"", after: bytes | None = None, limit: int | None = None
    ) -> Iterator[tuple[bytes, R]]:
        """(suffix, record) pairs whose suffix begins with `prefix`, ascending, suffixes > `after`, at most `limit`."""
        start = None if after is None else table.prefix + after
        for key, raw in self._view.scan(table.prefix + prefix, start, limit):
            yield key[1:], table.decode(raw)

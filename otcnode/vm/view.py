"""The ledger's whole world: a key-value view, and overlays that collect writes on top of one."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Protocol


class StateView(Protocol):
    """What the ledger may see of a state."""

    def get(self, key: bytes) -> bytes | None: ...

    def scan(
        self, prefix: bytes, after: bytes | None = None, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) pairs whose key begins with `prefix`, ascending, keys > `after`, at most `limit`."""
        ...


class Overlay:
    """Writes on top of a view that do not touch it: blocks in flight, and one transaction inside a block."""

    __slots__ = ("_base", "_sorted", "writes")

    def __init__(self, base: StateView) -> None:
        self._base = base
        self.writes: dict[bytes, bytes | None] = {}
        """Key to new value, None for a deleted key; in the order of the first write."""
        self._sorted: list[bytes] = []

    def get(self, key: bytes) -> bytes | None:
        if key in self.writes:
            return self.writes[key]
        return self._base.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        self._note(key)
        self.writes[key] = value

    def delete(self, key: bytes) -> None:
        self._note(key)
        self.writes[key] = None

    def absorb(self, writes: dict[bytes, bytes | None]) -> None:
        """Take over the writes of an overlay above this one."""
        known = self.writes
        self._sorted += [key for key in writes if key not in known]
        self._sorted.sort()
        known.update(writes)

    def rebase(self, base: StateView) -> None:
        """Stand on another view, which must show what the old one did."""
        self._base = base

    def _note(self, key: bytes) -> None:
        if key not in self.writes:
            insort(self._sorted, key)

    def scan(
        self, prefix: bytes, after: bytes | None = None, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Merges the base's pairs with the writes. The overlay must not be written to while a scan is consumed."""
        if limit is not None and limit <= 0:
            return
        start = prefix if after is None or after < prefix else after + b"\x00"
        position = bisect_left(self._sorted, start)
        count = 0
        base = self._base.scan(prefix, after)
        pending = next(base, None)
        while True:
            own = self._sorted[position] if position < len(self._sorted) else None
            if own is not None and not own.startswith(prefix):
                own = None
            if own is None and pending is None:
                return
            if own is None or (pending is not None and pending[0] < own):
                assert pending is not None
                yield pending
                count += 1
                pending = next(base, None)
            else:
                if pending is not None and pending[0] == own:
                    pending = next(base, None)
                position += 1
                value = self.writes[own]
                if value is None:
                    continue
                yield own, value
                count += 1
            if limit is not None and count >= limit:
                return

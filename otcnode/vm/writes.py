"""Finding in the writes of a block those of one table."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import Any

from otcnode.vm.keys import Table


def writes_to(table: Table[Any], writes: Mapping[bytes, bytes | None]) -> Iterator[tuple[bytes, bytes | None]]:
    """(suffix, value) of the writes to a table, None for a deletion. `writes` are ascending by key, as a block's."""
    keys, length = list(writes), len(table.prefix)
    for position in range(bisect_left(keys, table.prefix), len(keys)):
        key = keys[position]
        if not key.startswith(table.prefix):
            return
        yield key[length:], writes[key]

"""How much a machine keeps: every collection that can be reached from it, by name."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import msgspec

_COLLECTIONS = (dict, list, set, deque)
_LEAVES = (str, bytes, bytearray, int, float, type(None), tuple, frozenset, msgspec.Struct)


def collections_of(root: object, stop: tuple[type, ...]) -> Iterator[tuple[str, int]]:
    """(path of attributes, entries) of each mutable collection in the objects of this package under `root`. Objects of
    the types in `stop` are not entered; frozen values count as one entry wherever they are kept. What can be reached on
    several ways is named by the shortest."""
    seen: set[int] = set()
    waiting: deque[tuple[str, object]] = deque([(type(root).__name__, root)])
    while waiting:
        path, value = waiting.popleft()
        if id(value) in seen or isinstance(value, (*_LEAVES, *stop)):
            continue
        seen.add(id(value))
        if isinstance(value, _COLLECTIONS):
            yield path, len(value)
            members = value.values() if isinstance(value, dict) else value
            waiting += [(f"{path}[]", member) for member in members]
        elif type(value).__module__.startswith("otcnode."):
            waiting += [(f"{path}.{name}", member) for name, member in _attributes(value)]


def _attributes(value: Any) -> list[tuple[str, object]]:
    names = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    found = [(name, getattr(value, name)) for name in names if hasattr(value, name)]
    return [*found, *getattr(value, "__dict__", {}).items()]

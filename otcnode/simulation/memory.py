"""How much a machine keeps: every collection that can be reached from it, by name."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import cache
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
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, _COLLECTIONS):
            yield path, len(value)
            members = value.values() if isinstance(value, dict) else value
            path += "[]"
            waiting += [(path, member) for member in members if _is_entered(type(member), stop)]
        else:
            waiting += [
                (f"{path}.{name}", member) for name, member in _attributes(value) if _is_entered(type(member), stop)
            ]


@cache
def _is_entered(kind: Any, stop: tuple[type, ...]) -> bool:
    if issubclass(kind, (*_LEAVES, *stop)):
        return False
    return issubclass(kind, _COLLECTIONS) or kind.__module__.startswith("otcnode.")


def _attributes(value: Any) -> list[tuple[str, object]]:
    found = [(name, getattr(value, name)) for name in _slots(type(value)) if hasattr(value, name)]
    return [*found, *getattr(value, "__dict__", {}).items()]


@cache
def _slots(kind: Any) -> tuple[str, ...]:
    return tuple(name for base in kind.__mro__ for name in getattr(base, "__slots__", ()))

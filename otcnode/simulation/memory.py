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
    kinds: dict[type, bool] = {}

    def is_entered(value: object) -> bool:
        kind = type(value)
        known = kinds.get(kind)
        if known is None:
            frozen = issubclass(kind, (*_LEAVES, *stop))
            ours = issubclass(kind, _COLLECTIONS) or kind.__module__.startswith("otcnode.")
            known = kinds[kind] = ours and not frozen
        return known

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
            waiting += [(path, member) for member in members if is_entered(member)]
        else:
            waiting += [(f"{path}.{name}", member) for name, member in _attributes(value) if is_entered(member)]


_slots_of: dict[type, tuple[str, ...]] = {}


def _attributes(value: Any) -> list[tuple[str, object]]:
    kind = type(value)
    names = _slots_of.get(kind)
    if names is None:
        names = tuple(name for base in kind.__mro__ for name in getattr(base, "__slots__", ()))
        _slots_of[kind] = names
    found = [(name, getattr(value, name)) for name in names if hasattr(value, name)]
    return [*found, *getattr(value, "__dict__", {}).items()]

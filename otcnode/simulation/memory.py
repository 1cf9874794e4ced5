"""How much a machine keeps: every collection that can be reached from it, by name."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import cache

import msgspec

_COLLECTIONS = (dict, list, set, deque)
_LEAVES = (str, bytes, bytearray, int, float, type(None), tuple, frozenset, msgspec.Struct)


def collections_of(root: object, stop: tuple[type, ...]) -> Iterator[tuple[str, int]]:
    """(path of attributes, entries) of each mutable collection in the objects of this package under `root`. Objects of
    the types in `stop` are not entered; frozen values count as one entry wherever they are kept. What can be reached on
    several ways is named by the shortest."""
    seen: set[int] = set()
    entered = _entered(stop)
    waiting: deque[tuple[str, object]] = deque([(type(root).__name__, root)])
    while waiting:
        path, value = waiting.popleft()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, _COLLECTIONS):
            yield path, len(value)
            path += "[]"
            members = value.values() if isinstance(value, dict) else value
            # Most collections hold frozen values alone, and their kinds are few.
            if any(map(entered.__getitem__, set(map(type, members)))):
                waiting.extend([(path, member) for member in members if entered[type(member)]])
            continue
        for name in _slots_of[type(value)]:
            # An empty slot reads as None, which is not entered.
            member = getattr(value, name, None)
            if entered[type(member)]:
                waiting.append((f"{path}.{name}", member))
        for name, member in getattr(value, "__dict__", {}).items():
            if entered[type(member)]:
                waiting.append((f"{path}.{name}", member))


class _Entered(dict[type, bool]):
    """Whether objects of a type are walked through, worked out when the type is first met."""

    def __init__(self, stop: tuple[type, ...]) -> None:
        super().__init__()
        self._stop = stop

    def __missing__(self, kind: type) -> bool:
        frozen = issubclass(kind, (*_LEAVES, *self._stop))
        ours = issubclass(kind, _COLLECTIONS) or kind.__module__.startswith("otcnode.")
        self[kind] = ours and not frozen
        return self[kind]


@cache
def _entered(stop: tuple[type, ...]) -> _Entered:
    return _Entered(stop)


class _Slots(dict[type, tuple[str, ...]]):
    """The slots of a type and its bases, listed when it is first met."""

    def __missing__(self, kind: type) -> tuple[str, ...]:
        self[kind] = tuple(name for base in kind.__mro__ for name in getattr(base, "__slots__", ()))
        return self[kind]


_slots_of = _Slots()

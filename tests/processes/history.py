"""Whether what clients saw of counters could have happened in one order: a checker of linearizability. Pure.

Wing and Gong's search ("Testing and verifying concurrent objects", JPDC 17, 1993) with Lowe's memory of states.
Accounts are independent (Herlihy and Wing, TOPLAS 12/3, 1990: the property is local), so each is searched by itself. An
addition commutes with every other, so the state is the set of additions that have happened; a read that fits now can
always be taken now, for it changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    ADD = "add"
    READ = "read"


@dataclass(frozen=True)
class Operation:
    """What a client did to the counter `key` between two moments of one clock: added `value`, or read it."""

    key: str
    kind: Kind
    value: int
    began: float
    ended: float


def contradictions(history: Iterable[Operation]) -> list[str]:
    """The keys whose operations fit no order in which each takes effect between its beginning and its end."""
    by_key: dict[str, list[Operation]] = {}
    for operation in history:
        by_key.setdefault(operation.key, []).append(operation)
    return [key for key, operations in sorted(by_key.items()) if not is_linearizable(operations)]


def is_linearizable(operations: Sequence[Operation]) -> bool:
    """For one counter that begins at 0."""
    rows = sorted(operations, key=lambda operation: operation.began)
    waiting: list[frozenset[int]] = [frozenset(range(len(rows)))]
    seen: set[frozenset[int]] = set()
    everything = sum(row.value for row in rows if row.kind is Kind.ADD)
    while waiting:
        left = _without_fitting_reads(rows, waiting.pop(), everything)
        if not left:
            return True
        if left in seen:
            continue
        seen.add(left)
        waiting += [left - {index} for index in _next(rows, left) if rows[index].kind is Kind.ADD]
    return False


def _next(rows: Sequence[Operation], left: frozenset[int]) -> list[int]:
    """Those that may come first: none of the others had ended before they began."""
    horizon = min(rows[index].ended for index in left)
    return [index for index in left if rows[index].began <= horizon]


def _without_fitting_reads(rows: Sequence[Operation], left: frozenset[int], everything: int) -> frozenset[int]:
    total = everything - sum(rows[index].value for index in left if rows[index].kind is Kind.ADD)
    while left:
        fitting = {index for index in _next(rows, left) if rows[index].kind is Kind.READ and rows[index].value == total}
        if not fitting:
            break
        left -= fitting
    return left

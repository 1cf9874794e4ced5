"""The checker of linearizability accepts what can have happened in one order, and nothing else."""

from __future__ import annotations

from random import Random

import pytest

from tests.processes.history import Kind, Operation, contradictions, is_linearizable


def add(value: int, began: float, ended: float) -> Operation:
    return Operation("a", Kind.ADD, value, began, ended)


def read(value: int, began: float, ended: float) -> Operation:
    return Operation("a", Kind.READ, value, began, ended)


@pytest.mark.parametrize(
    "history",
    [
        [],
        [read(0, 0, 1), add(5, 2, 3), read(5, 4, 5)],
        [add(5, 0, 10), read(0, 1, 2), read(5, 3, 4)],
        [add(5, 0, 10), add(7, 0, 10), read(7, 1, 2), read(12, 3, 4)],
        [add(5, 0, 3), read(5, 2, 6), read(0, 1, 5)],
    ],
)
def test_what_can_have_happened(history: list[Operation]) -> None:
    assert is_linearizable(history)


@pytest.mark.parametrize(
    ("history", "what"),
    [
        ([add(5, 0, 1), read(0, 2, 3)], "a stale read: it began after the addition had been acknowledged"),
        ([add(5, 0, 10), read(5, 1, 2), read(0, 3, 4)], "new, then old"),
        ([add(5, 0, 10), add(7, 0, 10), read(5, 1, 2), read(7, 3, 4)], "an addition that was lost again"),
        ([add(5, 0, 1), read(10, 2, 3)], "an addition that happened twice"),
        ([read(5, 0, 1), add(5, 2, 3)], "a read of what had not begun"),
        ([add(5, 0, 2), add(7, 3, 4), read(7, 5, 6)], "the second of two without the first"),
    ],
)
def test_what_cannot_have_happened(history: list[Operation], what: str) -> None:
    assert contradictions(history) == ["a"], what


def true_history(seed: int, count: int = 120) -> list[Operation]:
    """Operations that take effect one after the other, each at a moment within its own time."""
    chance, total, history = Random(seed), {"a": 0, "b": 0}, []
    for moment in range(count):
        key = chance.choice("ab")
        began, ended = moment - chance.uniform(0, 6), moment + chance.uniform(0, 6)
        if chance.random() < 0.5:
            value = chance.randint(1, 3)
            total[key] += value
            history.append(Operation(key, Kind.ADD, value, began, ended))
        else:
            history.append(Operation(key, Kind.READ, total[key], began, ended))
    return history


@pytest.mark.parametrize("seed", range(20))
def test_true_histories_are_accepted_and_a_planted_stale_read_is_not(seed: int) -> None:
    history = true_history(seed)
    assert contradictions(history) == []
    end = max(operation.ended for operation in history) + 1
    total = sum(operation.value for operation in history if operation.key == "a" and operation.kind is Kind.ADD)
    assert contradictions([*history, Operation("a", Kind.READ, total, end, end + 1)]) == []
    assert contradictions([*history, Operation("a", Kind.READ, total - 1, end, end + 1)]) == ["a"]

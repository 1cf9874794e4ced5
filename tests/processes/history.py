"""Whether what clients saw could have happened in one order: a checker of linearizability. Pure.

Wing and Gong's search ("Testing and verifying concurrent objects", JPDC 17, 1993) with Lowe's memory of states
("Testing for linearizability", Concurrency and Computation 29/4, 2017). Accounts are independent (Herlihy and Wing,
TOPLAS 12/3, 1990: the property is local), so each is searched by itself. An operation without an answer is an interval
that is open to the end: it took effect at some moment after its beginning, or never.

What fits now and changes nothing can always be taken now, so only what changes the account is tried in more than one
order. The search tries first what the chain's own places suggest. Where these are right it comes to the end without a
wrong turn, and where they are wrong it tries everything else too: what it answers does not rest on them. It gives up,
and says so, after a number of states.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate
from typing import NamedTuple

from tests.processes.cash import Account, Action, Answer, Read, perform

STATES_MAX = 200_000


class Place(NamedTuple):
    """Where the chain says that something happened; a read of a height comes after all of its block."""

    height: int
    index: float

    @classmethod
    def of_read(cls, height: int) -> Place:
        return cls(height, math.inf)


@dataclass(frozen=True)
class Operation:
    """What a client did to the account `key` between two moments of one clock, and what it was answered: None if
    nobody ever told it. `ended` is infinite then, and `place` is only there if the chain holds it as successful."""

    key: str
    action: Action
    answer: Answer | None
    began: float
    ended: float = math.inf
    place: Place | None = None

    def __post_init__(self) -> None:
        assert self.began <= self.ended
        assert (self.answer is None) == (self.ended == math.inf)


class Verdict(Enum):
    POSSIBLE = "an order was found"
    IMPOSSIBLE = "there is no order"
    UNDECIDED = "given up"


@dataclass(frozen=True)
class Finding:
    """What the search found of one account, after how many states, and where it came furthest, if not to the end."""

    verdict: Verdict
    states: int
    furthest: str = ""


def contradictions(history: Iterable[Operation], states_max: int = STATES_MAX) -> list[str]:
    """Of each account whose operations fit no order in which each takes effect between its beginning and its end, or
    of which that was not decided: its key, and why."""
    by_key: dict[str, list[Operation]] = {}
    for operation in history:
        by_key.setdefault(operation.key, []).append(operation)
    findings = {key: search(operations, states_max) for key, operations in sorted(by_key.items())}
    return [
        f"{key}: {finding.verdict.value} after {finding.states} states; {finding.furthest}"
        for key, finding in findings.items()
        if finding.verdict is not Verdict.POSSIBLE
    ]


def search(operations: Sequence[Operation], states_max: int = STATES_MAX) -> Finding:
    """For one account that begins empty."""
    return _Search(operations, states_max).run()


class _At(NamedTuple):
    """What has taken effect, a bit for each, and what that made of the account."""

    taken: int
    account: Account


class _Search:
    """The answered operations by their beginnings, then the others."""

    def __init__(self, operations: Sequence[Operation], states_max: int) -> None:
        answered = sorted((row for row in operations if row.answer is not None), key=lambda row: row.began)
        unknown = sorted((row for row in operations if row.answer is None), key=lambda row: row.began)
        self._rows = (*answered, *unknown)
        self._answered = len(answered)
        self._all_answered = (1 << len(answered)) - 1
        self._states_max = states_max

    def run(self) -> Finding:
        seen: set[_At] = set()
        furthest = _At(0, Account())
        waiting = [iter([furthest])]
        while waiting:
            at = next(waiting[-1], None)
            if at is None:
                waiting.pop()
                continue
            at = self._without_what_changes_nothing(at)
            if at.taken & self._all_answered == self._all_answered:
                return Finding(Verdict.POSSIBLE, len(seen))
            if at in seen:
                continue
            if len(seen) == self._states_max:
                return Finding(Verdict.UNDECIDED, len(seen), self._told(furthest))
            seen.add(at)
            furthest = max(furthest, at, key=lambda one: (one.taken & self._all_answered).bit_count())
            waiting.append(self._onwards(at))
        return Finding(Verdict.IMPOSSIBLE, len(seen), self._told(furthest))

    def _next(self, taken: int) -> tuple[list[int], float]:
        """Answered operations that may come next, and the moment by which one of them must: none of the others had
        ended before they began."""
        must, found = math.inf, []
        index = ((taken + 1) & ~taken).bit_length() - 1
        while index < self._answered and self._rows[index].began <= must:
            if not taken >> index & 1:
                found.append(index)
                must = min(must, self._rows[index].ended)
            index += 1
        return [index for index in found if self._rows[index].began <= must], must

    def _without_what_changes_nothing(self, at: _At) -> _At:
        while True:
            taken = at.taken
            for index in self._next(taken)[0]:
                if perform(self._rows[index].action, at.account) == (at.account, self._rows[index].answer):
                    taken |= 1 << index
            if taken == at.taken:
                return at
            at = _At(taken, at.account)

    def _onwards(self, at: _At) -> Iterator[_At]:
        """Everything that may change the account next, the likeliest first."""
        answered, must = self._next(at.taken)
        unknown = [
            index
            for index in range(self._answered, len(self._rows))
            if not at.taken >> index & 1 and self._rows[index].began <= must
        ]
        for index in sorted([*answered, *unknown], key=self._likelihood):
            row = self._rows[index]
            after, answer = perform(row.action, at.account)
            if after != at.account and row.answer in (None, answer):
                yield _At(at.taken | 1 << index, after)

    def _likelihood(self, index: int) -> tuple[float, float, float]:
        row = self._rows[index]
        return (*(row.place or (math.inf, math.inf)), row.began)

    def _told(self, at: _At) -> str:
        rows = [self._rows[index] for index in self._next(at.taken)[0]]
        following = "; ".join(
            f"{row.action} from {row.began:.3f} to {row.ended:.3f} was answered {row.answer}" for row in rows
        )
        _, shown = perform(Read(), at.account)
        return f"at the furthest it holds {shown}, and next would come one of: {following}"


def against_heights(history: Iterable[Operation], old_reads: Iterable[Operation]) -> list[str]:
    """What contradicts the promise that things take effect in the order of heights: done in the order of their places,
    every operation is answered as it was, and none comes behind one that began after it had ended. Reads that asked for
    no height show the account as it was at theirs, and may be old."""
    told = []
    accounts: dict[str, Account] = {}
    latest = -math.inf
    rows = [(row, True) for row in history] + [(row, False) for row in old_reads]
    placed = [(row.place, row, recent) for row, recent in rows if row.place is not None]
    for place, row, recent in sorted(placed, key=lambda entry: (*entry[0], entry[1].began)):
        before = accounts.get(row.key, Account())
        accounts[row.key], answer = perform(row.action, before)
        if row.answer not in (None, answer):
            told.append(f"{row.key} at {place}: {row.action} on {before} was answered {row.answer}")
        if recent:
            if row.ended < latest:
                told.append(f"{row.key} at {place}: {row.action} had ended before something below it began")
            latest = max(latest, row.began)
    return told


def goes_back(reads: Iterable[tuple[str, Operation]]) -> list[str]:
    """Reads at a node, which is named with each, that show less than one that had ended there before they began."""
    at_node: dict[str, list[Operation]] = {}
    for node, row in reads:
        at_node.setdefault(node, []).append(row)
    told = []
    for node, rows in at_node.items():
        rows.sort(key=lambda row: row.ended)
        heights = [0, *accumulate((_height(row) for row in rows), max)]
        for row in rows:
            shown = heights[bisect_left(rows, row.began, key=lambda other: other.ended)]
            if _height(row) < shown:
                told.append(f"{node} showed height {shown} and then {_height(row)}")
    return told


def _height(row: Operation) -> int:
    assert row.place is not None
    return row.place.height

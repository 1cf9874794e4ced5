"""The checker of linearizability accepts what can have happened in one order, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from random import Random

import pytest

from otcnode.errors import Code
from tests.processes.cash import Account, Action, Answer, Cancel, Cash, Deposit, Pay, Read, Withdraw, perform
from tests.processes.history import Operation, Place, Verdict, against_heights, contradictions, goes_back, search

OK, LACK_CASH, STATE, NOT_FOUND = Code.OK, Code.LACK_CASH, Code.STATE, Code.NOT_FOUND


def add(amount: int, began: float, ended: float) -> Operation:
    return Operation("a", Deposit(amount), OK, began, ended)


def take(name: str, amount: int, answer: Code, began: float, ended: float) -> Operation:
    return Operation("a", Withdraw(name, amount), answer, began, ended)


def pay(name: str, answer: Code, began: float, ended: float) -> Operation:
    return Operation("a", Pay(name), answer, began, ended)


def cancel(name: str, answer: Code, began: float, ended: float) -> Operation:
    return Operation("a", Cancel(name), answer, began, ended)


def read(available: int, began: float, ended: float, locked: int = 0) -> Operation:
    return Operation("a", Read(), Cash(available, locked), began, ended)


def unknown(action: Action, began: float) -> Operation:
    return Operation("a", action, None, began)


@pytest.mark.parametrize(
    ("history", "what"),
    [
        ([], "nothing at all"),
        ([read(0, 0, 1), add(5, 2, 3), read(5, 4, 5)], "one after the other"),
        ([add(5, 0, 10), read(0, 1, 2), read(5, 3, 4)], "seen before it was acknowledged"),
        ([add(5, 0, 10), add(7, 0, 10), read(7, 1, 2), read(12, 3, 4)], "the second of two first"),
        ([add(5, 0, 3), read(5, 2, 6), read(0, 1, 5)], "two reads at once, on both sides of it"),
        ([unknown(Deposit(5), 0), read(0, 1, 2), read(0, 9, 10)], "an unknown outcome that never happened"),
        ([unknown(Deposit(5), 0), read(0, 1, 2), read(0, 7, 8), read(5, 9, 10)], "one that happened much later"),
        ([unknown(Deposit(5), 0), unknown(Deposit(7), 0), read(7, 1, 2)], "one of two"),
        ([unknown(Withdraw("w", 5), 0), add(5, 1, 2), read(0, 3, 4, locked=5)], "one that waited until it could"),
        ([unknown(Withdraw("w", 5), 0), read(0, 1, 2), add(5, 3, 4), read(5, 5, 6)], "one that was refused unheard"),
        ([add(5, 0, 1), take("v", 4, OK, 2, 9), take("w", 3, LACK_CASH, 2, 9)], "the poorer one was second"),
        ([add(5, 0, 9), take("v", 4, OK, 0, 9), take("w", 3, LACK_CASH, 0, 9)], "all three at once"),
        ([add(5, 0, 1), take("w", 5, OK, 2, 3), pay("w", OK, 4, 9), cancel("w", STATE, 4, 9)], "paid, then cancelled"),
        ([add(5, 0, 1), take("w", 5, OK, 2, 8), pay("w", NOT_FOUND, 2, 8), read(0, 9, 10, locked=5)], "too early"),
        (
            [add(5, 0, 1), take("w", 5, OK, 2, 3), unknown(Pay("w"), 4), cancel("w", STATE, 5, 6), read(0, 7, 8)],
            "a payment without an answer, of which another's refusal tells",
        ),
    ],
)
def test_what_can_have_happened(history: list[Operation], what: str) -> None:
    assert contradictions(history) == [], what


IMPOSSIBLE = [
    ([add(5, 0, 1), read(0, 2, 3)], "a stale read, or a lost write: it began after the deposit had been acknowledged"),
    ([add(5, 0, 1), add(7, 2, 3), read(7, 4, 5), read(7, 6, 7)], "a deposit that was lost for good"),
    ([add(5, 0, 10), read(5, 1, 2), read(0, 3, 4)], "new, then old"),
    ([add(5, 0, 10), add(7, 0, 10), read(5, 1, 2), read(7, 3, 4)], "a deposit that was lost again"),
    ([add(5, 0, 1), read(10, 2, 3)], "a deposit that happened twice"),
    ([read(5, 0, 1), add(5, 2, 3)], "a read of what had not begun"),
    ([add(5, 0, 2), add(7, 3, 4), read(7, 5, 6)], "the second of two without the first"),
    ([read(5, 0, 1), unknown(Deposit(5), 2)], "an unknown outcome seen before its beginning"),
    ([unknown(Deposit(5), 0), read(10, 1, 2)], "an unknown outcome that happened twice"),
    ([unknown(Deposit(5), 0), read(5, 1, 2), read(0, 3, 4)], "an unknown outcome that was undone"),
    ([add(5, 0, 1), take("v", 4, OK, 2, 3), take("w", 3, OK, 4, 5)], "more withdrawn than there was"),
    ([add(5, 0, 1), take("v", 4, OK, 2, 9), take("w", 3, OK, 2, 9)], "more withdrawn at once than there was"),
    ([add(5, 0, 1), take("w", 5, LACK_CASH, 2, 3)], "refused although it was there"),
    ([add(5, 0, 1), take("v", 4, LACK_CASH, 2, 9), take("w", 3, LACK_CASH, 2, 9)], "both refused, one had to be first"),
    ([take("w", 5, OK, 0, 1), add(5, 2, 3)], "a withdrawal ahead of the deposit it lives on"),
    ([add(5, 0, 1), take("w", 5, OK, 2, 3), pay("w", OK, 4, 9), cancel("w", OK, 4, 9)], "paid and cancelled"),
    ([add(5, 0, 1), take("w", 5, OK, 2, 3), cancel("w", OK, 4, 5), pay("w", OK, 6, 7)], "paid after it was cancelled"),
    ([add(5, 0, 1), take("w", 5, OK, 2, 3), pay("w", STATE, 4, 9), cancel("w", STATE, 4, 9)], "ended by nobody"),
    ([add(5, 0, 1), take("w", 5, OK, 2, 3), pay("w", OK, 4, 5), read(5, 6, 7)], "paid, and still there"),
    ([add(5, 0, 1), take("w", 5, OK, 2, 3), cancel("w", NOT_FOUND, 4, 5)], "forgotten"),
    ([add(5, 0, 1), take("w", 5, OK, 2, 3), read(0, 4, 5)], "not locked"),
    ([add(5, 0, 1), replace(add(5, 2, 3), answer=Code.LIMIT)], "an answer that the ledger never gives here"),
]


@pytest.mark.parametrize(("history", "what"), IMPOSSIBLE, ids=[what for _, what in IMPOSSIBLE])
def test_what_cannot_have_happened(history: list[Operation], what: str) -> None:
    assert search(history).verdict is Verdict.IMPOSSIBLE, what
    (told,) = contradictions(history)
    assert told.startswith("a: there is no order")


def by_trying_everything(history: Sequence[Operation]) -> bool:
    answered = [row for row in history if row.answer is not None]
    unknown = [row for row in history if row.answer is None]
    for chosen in range(1 << len(unknown)):
        rows = answered + [row for index, row in enumerate(unknown) if chosen >> index & 1]
        if any(_happens(order) for order in permutations(rows)):
            return True
    return False


def _happens(order: Sequence[Operation]) -> bool:
    account, latest = Account(), -math.inf
    for row in order:
        account, answer = perform(row.action, account)
        latest = max(latest, row.began)
        if row.answer not in (None, answer) or row.ended < latest:
            return False
    return True


def test_it_agrees_with_trying_everything() -> None:
    """On small histories by chance, of which one in eight can have happened."""
    verdicts = [0, 0]
    for seed in range(600):
        chance = Random(seed)
        history = []
        for _ in range(5):
            name, began = chance.choice("vw"), chance.randrange(6)
            action: Action = chance.choice([Deposit(2), Deposit(3), Withdraw(name, 3), Pay(name), Cancel(name), Read()])
            answers: Sequence[Answer] = (OK, OK, LACK_CASH, STATE, NOT_FOUND)
            if isinstance(action, Read):
                answers = [Cash(available, locked) for available in (0, 2, 3) for locked in (0, 0, 3)]
            if isinstance(action, Deposit):
                answers = [OK]
            if chance.random() < 0.3 and not isinstance(action, Read):
                history.append(unknown(action, began))
            else:
                history.append(Operation("a", action, chance.choice(answers), began, began + chance.randrange(6)))
        possible = by_trying_everything(history)
        verdicts[possible] += 1
        assert search(history).verdict is (Verdict.POSSIBLE if possible else Verdict.IMPOSSIBLE), seed
    assert min(verdicts) > 60


class Ledger:
    """One that keeps its word: operations take effect one after the other, each at a moment within its own time. With
    `outages` clients hear nothing for a while; what they had begun happens all the same, or never."""

    def __init__(self, seed: int, count: int, *, outages: bool) -> None:
        self.chance = Random(seed)
        self.accounts = {"a": Account(), "b": Account()}
        self.history: list[Operation] = []
        for moment in range(count):
            self._one(moment, lost=outages and moment % 40 >= 36)

    def _one(self, moment: int, *, lost: bool) -> None:
        chance = self.chance
        key, name = chance.choice("ab"), f"{moment - chance.randrange(3, 12)}"
        action = chance.choice(
            [
                Deposit(chance.randint(1, 9)),
                Withdraw(f"{moment}", chance.randint(1, 12)),
                Pay(name),
                Cancel(name),
                Read(),
            ]
        )
        began, ended = moment - chance.uniform(0, 6), moment + chance.uniform(0, 6)
        place = Place(moment, 0)
        if lost and not isinstance(action, Read):
            happens = chance.random() < 0.5 and perform(action, self.accounts[key])[1] is OK
            if happens:
                self.accounts[key], _ = perform(action, self.accounts[key])
            self.history.append(Operation(key, action, None, began, place=place if happens else None))
            return
        self.accounts[key], answer = perform(action, self.accounts[key])
        self.history.append(Operation(key, action, answer, began, ended, place))


@pytest.mark.parametrize("places", [True, False])
@pytest.mark.parametrize("outages", [True, False])
def test_true_histories_are_accepted_and_what_is_planted_is_not(outages: bool, places: bool) -> None:
    """The chain's places make the search quick; without them it comes to the same."""
    for seed in range(20):
        history = Ledger(seed, 120 if places else 60, outages=outages).history
        assert against_heights(history, []) == []
        shown = history if places else [replace(row, place=None) for row in history]
        assert contradictions(shown) == []
        wrong = planted(shown, Random(seed))
        assert [told for told in contradictions(wrong) if "no order" in told], seed


def planted(history: list[Operation], chance: Random) -> list[Operation]:
    """With one read at the end that shows one coin more than could be there."""
    end = max(row.ended for row in history if row.ended < math.inf) + 1
    total = sum(row.action.amount for row in history if isinstance(row.action, Deposit))
    return [*history, Operation(chance.choice("ab"), Read(), Cash(total + 1, 0), end, end + 1)]


def test_with_the_chains_places_a_long_history_takes_no_wrong_turn() -> None:
    history = Ledger(1, 5_000, outages=True).history
    unknown_outcomes = sum(row.answer is None for row in history)
    assert unknown_outcomes > 300
    for key in "ab":
        rows = [row for row in history if row.key == key]
        finding = search(rows)
        assert finding.verdict is Verdict.POSSIBLE and finding.states <= len(rows)


def test_wrong_places_mislead_nobody() -> None:
    history = Ledger(2, 60, outages=False).history
    misled = [replace(row, place=Place(-row.place.height, 0)) for row in history if row.place is not None]
    assert len(misled) == len(history) and contradictions(misled) == []


def test_a_search_that_gives_up_says_so_and_passes_nothing() -> None:
    """Twenty deposits of which nobody heard, and a read of an amount that no sum of them makes."""
    rows = [*(unknown(Deposit(2 << index), 0) for index in range(20)), read(1, 1, 2)]
    assert search(rows, 1_000).verdict is Verdict.UNDECIDED
    (told,) = contradictions(rows, 1_000)
    assert told.startswith("a: given up after 1000 states") and "was answered Cash(available=1" in told


def at(height: int, row: Operation, index: float = math.inf) -> Operation:
    return replace(row, place=Place(height, index))


def test_the_order_of_heights_is_held_to_what_it_promises() -> None:
    first, second = at(1, add(5, 0, 1), 0), at(2, take("w", 5, OK, 2, 3), 0)
    assert against_heights([first, second, at(2, read(0, 4, 5, locked=5))], []) == []
    assert against_heights([first, second, at(1, read(5, 4, 5))], []), "old, and asked for the latest"
    assert against_heights([first, second], [at(1, read(5, 4, 5))]) == [], "old, and asked for no height"
    assert against_heights([first, second], [at(2, read(5, 4, 5))]), "not what that height holds"
    assert against_heights([at(2, add(5, 0, 1), 0), at(1, take("w", 5, OK, 2, 3), 0)], []), "withdrawn from nothing"
    assert against_heights([at(2, add(5, 0, 1), 0), at(1, add(5, 2, 3), 0)], []), "below what had ended before"
    assert against_heights([at(1, add(5, 0, 1), 0), at(1, read(5, 2, 3)), at(1, add(5, 4, 5), 1)], []), (
        "final, and grew"
    )
    happened = at(1, unknown(Deposit(5), 0), 0)
    assert against_heights([happened, at(1, read(5, 2, 3))], []) == []
    assert against_heights([happened, at(2, read(0, 2, 3))], [])


def test_a_node_never_goes_back() -> None:
    rows = [("n", at(3, read(0, 0, 1))), ("n", at(2, read(0, 0.5, 2))), ("m", at(1, read(0, 5, 6)))]
    assert goes_back(rows) == [], "at once, or at another node"
    assert goes_back([*rows, ("n", at(3, read(0, 3, 4)))]) == []
    assert goes_back([*rows, ("n", at(2, read(0, 3, 4)))]) == ["n showed height 3 and then 2"]

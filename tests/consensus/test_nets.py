"""Nets of few links go on for ever; and with one rule of passing on left out, some net stands still."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from otcnode.consensus import status
from otcnode.consensus.messages import Commit, Message, Prepare, Status, ViewChange
from otcnode.consensus.state import State
from tests.consensus import nets
from tests.consensus.cluster import Violation


@pytest.mark.parametrize("first", range(0, 50, 10))
def test_four_that_reach_each_other_somehow_go_on(first: int) -> None:
    for seed in range(first, first + 10):
        nets.run(seed)


@pytest.mark.parametrize("count", [5, 7])
def test_more_of_which_one_is_linked_to_enough_for_a_quorum_go_on(count: int) -> None:
    for seed in range(10):
        nets.run(seed, count)


@pytest.mark.long
@pytest.mark.parametrize("count", [4, 5, 7])
@pytest.mark.parametrize("first", range(1_000, 1_500, 50))
def test_many_more_nets(first: int, count: int) -> None:
    for seed in range(first, first + 50):
        nets.run(seed, count)


def test_finds_that_who_hears_too_few_does_not_go_with_who_hears_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(State, "may_form_quorum", property(lambda state: state.hears(state.quorum - 1)))
    with pytest.raises(Violation, match="stands still"):
        for seed in range(10):
            nets.run(seed)


@pytest.mark.parametrize("what", ["height_messages", "view_messages"])
def test_finds_that_no_vote_of_others_is_passed_on(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    right: Callable[[State, Status], Iterator[Message]] = getattr(status, what)

    def own(state: State, shown: Status) -> Iterator[Message]:
        for message in right(state, shown):
            others = isinstance(message, Prepare | Commit | ViewChange) and message.validator != state.own
            if not others:
                yield message

    monkeypatch.setattr(status, what, own)
    with pytest.raises(Violation, match="stands still"):
        for seed in range(10):
            nets.run(seed)

"""So many transactions of each validator go past the others, and what was pushed first goes first."""

from __future__ import annotations

from collections.abc import Iterable

from otcnode import limits
from otcnode.vm.transactions import Decoded
from tests.engine.network import Station, deposit, stations

MAX = limits.urgent_per_validator_max


def _busy() -> tuple[Station, Station, Station]:
    """A primary at which nothing that arrives is verified yet, and two other validators."""
    primary, liar, honest, _ = stations(4)
    primary.engine.start()
    primary.settle()
    return primary, liar, honest


def _deposits(station: Station, numbers: Iterable[int]) -> list[Decoded]:
    return [deposit(station.genesis, number) for number in numbers]


def _push(primary: Station, validator: Station, pushed: list[Decoded]) -> None:
    for start in range(0, len(pushed), MAX):
        primary.engine.intake.urgent(validator.own, [decoded.raw for decoded in pushed[start : start + MAX]])


def test_no_validator_has_more_on_their_way_than_it_may_push() -> None:
    primary, liar, _ = _busy()
    arrivals = primary.engine.intake._arrivals
    _push(primary, liar, _deposits(primary, range(4 * MAX)))
    assert arrivals.pushed_by(liar.own) == MAX
    taken = arrivals.take(4 * MAX)
    assert [arrival.urgent for arrival in taken] == [True] * MAX
    _push(primary, liar, _deposits(primary, range(4 * MAX, 5 * MAX)))
    assert not arrivals.waiting, "what is being verified no longer counts"
    for arrival in taken:
        arrivals.release(arrival)
    assert arrivals.pushed_by(liar.own) == 0


def test_what_came_before_as_one_of_many_counts_once_it_is_pushed() -> None:
    primary, liar, honest = _busy()
    intake = primary.engine.intake
    intake.connected(honest.own, mesh=True)
    flood = _deposits(primary, range(2 * MAX))
    for decoded in flood:
        intake._relayed(honest.own, decoded)
    for _ in range(2):
        _push(primary, liar, flood[::-1])
    assert intake._arrivals.pushed_by(liar.own) == MAX
    taken = [arrival.decoded.id for arrival in intake._arrivals.take(4 * MAX)]
    assert taken == [decoded.id for decoded in flood[: MAX - 1 : -1] + flood[:MAX]]


def test_what_is_in_the_pool_and_what_is_on_its_way_are_counted_together() -> None:
    primary, liar, _ = _busy()
    intake = primary.engine.intake
    pushed = _deposits(primary, range(2 * MAX))
    for decoded in pushed[: MAX - 10]:
        assert intake.pool.add(decoded, bearer=liar.own) is None
    _push(primary, liar, pushed[MAX - 10 :])
    assert intake._arrivals.pushed_by(liar.own) == 10


def test_what_one_validator_pushes_later_does_not_go_before_what_another_pushed_first() -> None:
    primary, liar, honest = _busy()
    [waiting] = _deposits(primary, [10 * MAX])
    _push(primary, honest, [waiting])
    _push(primary, liar, _deposits(primary, range(2 * MAX)))
    assert primary.engine.intake._arrivals.take(1)[0].decoded.id == waiting.id

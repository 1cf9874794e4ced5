"""What is urgent goes past what waits, also where it came before as one of many."""

from __future__ import annotations

import pytest

from otcnode.engine.arrivals import Arrivals
from tests.engine.network import deposit, stations


@pytest.mark.parametrize("came_before", [False, True])
def test_what_a_validator_pushes_is_verified_next(came_before: bool) -> None:
    """A flood waits for its signatures to be verified, and somewhere in it what a validator has waited with for half
    of the inclusion time-out: of course the primary has been told of it before."""
    station, other, *_ = stations(4)
    station.engine.start()
    station.settle()
    intake = station.engine.intake
    intake.connected(other.own, mesh=True)
    for number in range(100, 400):
        intake._relayed(other.own, deposit(station.genesis, number))
    waiting = deposit(station.genesis, 1)
    if came_before:
        intake._relayed(other.own, waiting)
    intake.urgent(other.own, [waiting.raw])
    arrivals: Arrivals = intake._arrivals
    assert [arrival.decoded.id for arrival in arrivals.take(1)] == [waiting.id]

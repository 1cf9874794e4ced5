"""What a primary is not blamed for."""

from __future__ import annotations

import dataclasses

import pytest

from otcnode.engine.primary_watch import PrimaryWatch
from tests.engine.network import Station, alone, deposit


def watching(station: Station, timeout_ms: int) -> PrimaryWatch:
    """A transaction has been pushed to the primary of this view for longer than the time-out."""
    engine = station.engine
    watch = PrimaryWatch(engine.replica, engine.intake, engine.flight, station)
    watch._view = (1, 0)
    watch._inclusion.restart(-20 * timeout_ms)
    waiting = deposit(station.genesis, 1)
    assert watch._inclusion.to_push([(waiting.id, -10 * timeout_ms)], -5 * timeout_ms, timeout_ms) == [waiting.id]
    return watch


@pytest.mark.parametrize("is_behind", [False, True])
def test_a_block_that_due_items_fill_passes_nothing_over(is_behind: bool) -> None:
    """While something due is left over nobody may put a transaction into a block; otherwise an empty one is held
    against its primary."""
    station = alone()
    engine = station.engine
    watch = watching(station, engine.replica.state.parameters.inclusion_timeout_real_ms)
    parent = engine.flight.parent(engine.flight.tip().block_hash)
    assert parent is not None
    speculation, _ = engine.flight.build(parent, station.key.public, parent.time_ms + 1, iter(()), 100)
    result = dataclasses.replace(speculation.result, is_behind=is_behind)
    watch.proposed(speculation.block_hash)
    watch.committed(dataclasses.replace(speculation, result=result), 0)
    assert bool(watch._passed_over) is not is_behind

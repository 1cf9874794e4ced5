"""What found no place here is remembered for as long as a block may hold it, and it is told when that fails."""

from __future__ import annotations

import pytest

from otcnode import limits
from otcnode.engine.sightings import Sightings
from tests.engine.network import START_MS, deposit, genesis_of


def test_the_first_time_counts_until_a_block_holds_it() -> None:
    sightings, decoded = Sightings(), deposit(genesis_of(4), 1)
    assert sightings.note(decoded, 10, START_MS) and sightings.note(decoded, 20, START_MS)
    assert sightings.seen_ms(decoded.id) == 10
    sightings.forget([decoded.id])
    assert sightings.seen_ms(decoded.id) is None


@pytest.mark.parametrize(("block_time_ms", "is_certain"), [(START_MS + 999, False), (START_MS + 1_000, True)])
def test_forgetting_what_a_block_may_hold_is_told(
    monkeypatch: pytest.MonkeyPatch, block_time_ms: int, is_certain: bool
) -> None:
    monkeypatch.setattr(limits, "refused_transactions_remembered_max", 2)
    genesis = genesis_of(4)
    sightings = Sightings()
    for number, lasts_ms in ((1, 1_000), (2, 2_000)):
        assert sightings.note(deposit(genesis, number, valid_until_ms=START_MS + lasts_ms), number, START_MS)
    last = deposit(genesis, 3, valid_until_ms=START_MS + 3_000)
    assert sightings.note(last, 3, block_time_ms) is is_certain
    assert len(sightings) == 2

"""What found no place here is remembered for as long as a block may hold it, and it is told when that fails."""

from __future__ import annotations

import pytest

from otcnode import limits
from otcnode.engine.sightings import Sightings, _Outline
from tests.engine.network import START_MS, deposit, genesis_of

SECRET = bytes(32)


def test_the_first_time_counts_until_a_block_holds_it() -> None:
    sightings, decoded = Sightings(SECRET), deposit(genesis_of(4), 1)
    assert sightings.note(decoded, 10, START_MS) and sightings.note(decoded, 20, START_MS)
    assert sightings.seen_ms(decoded.id) == 10
    sightings.forget([decoded.id])
    assert sightings.seen_ms(decoded.id) is None


@pytest.mark.parametrize(("block_time_ms", "is_certain"), [(START_MS + 999, False), (START_MS + 1_000, True)])
def test_forgetting_what_a_block_may_hold_is_told(
    monkeypatch: pytest.MonkeyPatch, block_time_ms: int, is_certain: bool
) -> None:
    """Where even its slice of time is full."""
    monkeypatch.setattr(limits, "refused_transactions_remembered_max", 2)
    monkeypatch.setattr(limits, "sightings_per_outline_max", 0)
    genesis = genesis_of(4)
    sightings = Sightings(SECRET)
    for number, lasts_ms in ((1, 1_000), (2, 2_000)):
        assert sightings.note(deposit(genesis, number, valid_until_ms=START_MS + lasts_ms), number, START_MS)
    last = deposit(genesis, 3, valid_until_ms=START_MS + 3_000)
    assert sightings.note(last, 3, block_time_ms) is is_certain
    assert len(sightings) == 2


def test_beyond_the_bound_the_slice_of_time_is_known_and_what_never_came_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "refused_transactions_remembered_max", 2)
    genesis, sightings, slice_ms = genesis_of(4), Sightings(SECRET), limits.sightings_slice_ms
    came = [deposit(genesis, number, valid_until_ms=START_MS + 600_000) for number in range(1, 61)]
    for number, decoded in enumerate(came):
        assert sightings.note(decoded, number * 1_000 + 500, START_MS)
    assert sightings.note(came[0], 60_000, START_MS), "the first counts"
    slices_ms = [(number * 1_000 // slice_ms) * slice_ms for number in range(58)]
    assert [sightings.seen_ms(decoded.id) for decoded in came] == [*slices_ms, 58_500, 59_500]
    others = [deposit(genesis, number) for number in range(100, 200)]
    assert all(sightings.seen_ms(decoded.id) is None for decoded in others)
    assert len(sightings) == 2


def test_a_full_outline_takes_few_others_for_what_came() -> None:
    outline = _Outline()
    sightings = Sightings(SECRET)
    for number in range(limits.sightings_per_outline_max):
        assert outline.add(sightings._places(number.to_bytes(32, "big")))
    assert not outline.add(sightings._places(bytes(32)))
    assert all(outline.holds(sightings._places(number.to_bytes(32, "big"))) for number in range(0, 160_000, 100))
    others = range(1_000_000, 1_010_000)
    mistaken = sum(outline.holds(sightings._places(number.to_bytes(32, "big"))) for number in others)
    assert 0 < mistaken < len(others) / 200


def test_so_many_slices_are_kept_and_what_came_before_them_makes_nobody_blind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "refused_transactions_remembered_max", 0)
    monkeypatch.setattr(limits, "sightings_slices_max", 2)
    genesis, sightings, slice_ms = genesis_of(4), Sightings(SECRET), limits.sightings_slice_ms
    came = [deposit(genesis, number, valid_until_ms=START_MS + 600_000) for number in range(1, 5)]
    for decoded, number in zip(came, (5, 6, 7, 5), strict=True):
        assert sightings.note(decoded, number * slice_ms, START_MS)
    assert [sightings.seen_ms(decoded.id) for decoded in came] == [None, 6 * slice_ms, 7 * slice_ms, None]

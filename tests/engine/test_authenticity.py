"""Signatures are verified once per copy, in batches, and nothing bad is remembered."""

from __future__ import annotations

import pytest

from otcnode import limits
from otcnode.engine.arrivals import Arrival, Arrivals
from otcnode.engine.authenticity import Authenticity
from otcnode.engine.proving import Proving
from tests.engine.network import Station, deposit, forged, genesis_of, signed_by_stranger, stations

GENESIS = genesis_of(1)


def asked() -> tuple[Authenticity, Station, list[list[bool]]]:
    (station,) = stations(1)
    return Authenticity(station, Proving(station.chain, station.store.epochs, station)), station, []


def test_each_copy_has_its_own_verdict_and_is_verified_once() -> None:
    authenticity, station, verdicts = asked()
    true = deposit(GENESIS, 1)
    batch = [true, forged(true), signed_by_stranger(true), true]
    authenticity.require(batch, verdicts.append)
    station.settle()
    assert verdicts == [[True, False, True, True]]
    authenticity.require([true, signed_by_stranger(true)], verdicts.append)
    assert verdicts[1:] == [[True, True]], "at once, without another verification"
    assert not station.jobs
    assert authenticity.known(true) and not authenticity.known(forged(true))


def test_a_false_one_is_judged_again_each_time() -> None:
    authenticity, station, verdicts = asked()
    for _ in range(2):
        authenticity.require([forged(deposit(GENESIS, 1))], verdicts.append)
        station.settle()
    assert verdicts == [[False], [False]]


def test_nothing_to_verify_is_answered_at_once() -> None:
    authenticity, station, verdicts = asked()
    authenticity.require([], verdicts.append)
    assert verdicts == [[]] and not station.jobs


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "verified_cache_entries_max", 3)
    authenticity, station, verdicts = asked()
    batch = [deposit(GENESIS, number) for number in range(5)]
    authenticity.require(batch, verdicts.append)
    station.settle()
    assert verdicts == [[True] * 5], "the verdict does not depend on what is remembered"
    assert [authenticity.known(each) for each in batch] == [False, False, True, True, True]


def test_arrivals_leave_in_order_with_all_their_copies_counted() -> None:
    arrivals = Arrivals()
    true = deposit(GENESIS, 1)
    copy = forged(true)
    for decoded in (true, copy):
        arrivals.add(Arrival(decoded, 0, 0))
    assert arrivals.holds(true.full_hash) and arrivals.holds(copy.full_hash) and arrivals.holds_id(true.id)
    batch = arrivals.take(limits.signatures_per_batch_max)
    assert [arrival.decoded for arrival in batch] == [true, copy]
    assert not arrivals.waiting and len(arrivals) == 2
    assert arrivals.bytes_held == len(true.raw) + len(copy.raw)
    arrivals.release(batch[0])
    assert not arrivals.holds(true.full_hash) and arrivals.holds_id(true.id)
    arrivals.release(batch[1])
    assert not arrivals.holds_id(true.id)
    assert (len(arrivals), arrivals.bytes_held) == (0, 0)


def test_arrivals_have_room_up_to_the_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    arrivals = Arrivals()
    one, two = deposit(GENESIS, 1), deposit(GENESIS, 2)
    monkeypatch.setattr(limits, "mempool_bytes_max", len(one.raw) + len(two.raw))
    assert arrivals.add(Arrival(one, 0, 0))
    other = Arrival(two, 0, 0, source=b"another")
    monkeypatch.setattr(limits, "mempool_bytes_max", len(one.raw) + len(two.raw) - 1)
    assert not arrivals.add(other)
    monkeypatch.setattr(limits, "mempool_bytes_max", len(one.raw) + len(two.raw))
    assert arrivals.add(other)

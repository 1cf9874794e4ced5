"""A transaction that was dropped says so, with the reason, to whoever asks later; what is forged says nothing."""

from __future__ import annotations

import pytest

from otcnode import limits
from otcnode.engine.host import Stage
from otcnode.errors import Code
from otcnode.mempool import Limits, Mempool
from otcnode.vm.transactions import Decoded
from tests.engine.network import START_MS, Station, alone, deposit, forged, key_add, key_revoke, stations


def crowded(bounds: Limits) -> Station:
    """A started validator of four that hears nobody, with such a pool."""
    _, station, *_ = stations(4)
    station.engine.start()
    station.engine.intake.pool = Mempool(bounds)
    station.settle()
    return station


def refused(station: Station, transaction: Decoded) -> str:
    """Why it is told to be dropped, at once and afterwards."""
    answers = station.submit(transaction)
    station.settle()
    assert [(answer.stage, answer.definite) for answer in answers] == [(Stage.DROPPED, False)]
    assert station.engine.state_of(transaction.id) == answers[0]
    return answers[0].reason


@pytest.mark.parametrize(
    ("bounds", "reason"),
    [
        (Limits(transactions_max=0), "the pool is full"),
        (Limits(bytes_max=10), "the pool is full"),
        (Limits(per_account_max=0), "its author has too many transactions waiting"),
        (
            Limits(transactions_max=2, few_max=0),
            "its author has too many transactions waiting for how full the pool is",
        ),
    ],
)
def test_what_found_no_room_is_known_as_dropped_afterwards(bounds: Limits, reason: str) -> None:
    station = crowded(bounds)
    assert refused(station, deposit(station.genesis, 1)) == reason


def test_what_became_inadmissible_while_it_was_verified_is_known_as_dropped_afterwards() -> None:
    station = alone()
    station.submit(key_add(station.genesis, "second"))
    station.settle()
    station.elapse(1_000)
    station.submit(key_revoke(station.genesis, "bank"))
    station.put_off.popleft()()
    transaction = deposit(station.genesis, 1)
    station.submit(transaction)
    station.settle()
    state = station.engine.state_of(transaction.id)
    assert (state.stage, state.code, state.definite) == (Stage.DROPPED, Code.KEY_REVOKED, False)


def test_a_forged_copy_writes_no_memory() -> None:
    station = crowded(Limits(transactions_max=0))
    true = deposit(station.genesis, 1)
    for number in range(3):
        station.submit(forged(true, number))
        station.settle()
        assert station.engine.state_of(true.id).stage is Stage.UNKNOWN
    assert len(station.engine.intake._refusals) == 0


def test_what_was_dropped_may_come_again_and_is_then_what_it_is() -> None:
    station = crowded(Limits(transactions_max=0))
    transaction = deposit(station.genesis, 1)
    refused(station, transaction)
    station.engine.intake.pool = Mempool()
    station.submit(transaction)
    station.settle()
    assert station.engine.state_of(transaction.id).stage is Stage.POOLED
    assert len(station.engine.intake._refusals) == 0


def test_what_was_dropped_here_and_is_in_a_block_of_another_is_committed() -> None:
    station = alone()
    transaction = deposit(station.genesis, 1)
    intake, flight = station.engine.intake, station.engine.flight
    intake.pool = Mempool(Limits(transactions_max=0))
    refused(station, transaction)
    flight.build(flight.committed(), station.own, START_MS + 1, iter([transaction]), 10)
    assert station.engine.state_of(transaction.id).stage is Stage.PROPOSED
    intake.committed([transaction.id], [""], START_MS + 1, [], [])
    flight.keep_only(())
    assert station.engine.state_of(transaction.id).stage is Stage.UNKNOWN, "what the store does not say, nobody says"


def test_that_it_never_happened_is_definite_only_once_a_block_says_so() -> None:
    station = alone()
    transaction = deposit(station.genesis, 1, valid_until_ms=START_MS + 5_000)
    station.engine.intake.pool = Mempool(Limits(transactions_max=0))
    refused(station, transaction)
    station.engine.intake.pool = Mempool()
    station.now_ms = 5_000
    station.engine.tick()
    assert not station.engine.state_of(transaction.id).definite
    station.submit(deposit(station.genesis, 2))
    station.settle()
    state = station.engine.state_of(transaction.id)
    assert (state.stage, state.definite, state.code) == (Stage.EXPIRED, True, Code.TX_EXPIRED)


def test_so_many_are_remembered_and_they_push_out_nothing_that_was_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "refused_transactions_remembered_max", 3)
    monkeypatch.setattr(limits, "ended_transactions_remembered_max", 3)
    station = crowded(Limits(transactions_max=1))
    accepted = deposit(station.genesis, 0, valid_until_ms=START_MS + 100)
    station.submit(accepted)
    station.settle()
    many = [deposit(station.genesis, number) for number in range(1, 9)]
    for transaction in many:
        refused(station, transaction)
    station.now_ms = 100
    station.engine.tick()
    assert station.engine.state_of(accepted.id).stage is Stage.EXPIRED
    stages = [station.engine.state_of(transaction.id).stage for transaction in many]
    assert stages == [Stage.UNKNOWN] * 5 + [Stage.DROPPED] * 3

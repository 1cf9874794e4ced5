"""The way of transactions into the pool: forged copies, repetition, expiry, and what is told about each."""

import pytest

from otcnode import limits
from otcnode.codec import encode
from otcnode.engine import intake
from otcnode.engine.host import Stage
from otcnode.errors import Code, Inadmissible
from otcnode.mempool import Limits, Mempool
from otcnode.p2p.framing import Channel
from otcnode.p2p.gossip import Have, Push
from otcnode.vm.executor import SEEN
from otcnode.vm.transactions import Decoded
from tests.engine.network import (
    START_MS,
    Net,
    Station,
    alone,
    deposit,
    forged,
    key_add,
    key_revoke,
    signed_by_stranger,
    stations,
)


def backup() -> tuple[Station, bytes]:
    """A started validator of four that hears only one peer, and that peer's id: nothing is committed."""
    other, station, *_ = stations(4)
    station.engine.start()
    station.engine.connected(other.own)
    station.settle()
    station.sent.clear()
    return station, other.own


def push(station: Station, peer: bytes, *transactions: Decoded) -> None:
    payload = encode(Push(tuple(transaction.raw for transaction in transactions)))
    station.engine.received(peer, Channel.TRANSACTIONS, payload)


def test_a_submitted_transaction_is_received_then_pooled_then_committed() -> None:
    station = alone()
    transaction = deposit(station.genesis, 1)
    answers = station.submit(transaction)
    assert station.engine.state_of(transaction.id).stage is Stage.RECEIVED and answers == []
    station.settle()
    assert [answer.stage for answer in answers] == [Stage.POOLED]
    state = station.engine.state_of(transaction.id)
    assert (state.stage, state.height, state.position, state.definite) == (Stage.COMMITTED, 1, 0, True)
    assert station.committed == [(1, (transaction.id,))]


def test_submitting_again_never_harms() -> None:
    station, _ = backup()
    transaction = deposit(station.genesis, 1)
    first, second = station.submit(transaction), station.submit(transaction)
    assert [answer.stage for answer in second] == [Stage.RECEIVED]
    station.settle()
    assert [answer.stage for answer in first + station.submit(transaction)] == [Stage.POOLED, Stage.POOLED]
    assert len(station.engine.intake.pool) == 1


def test_a_forged_copy_that_came_first_does_not_swallow_the_true_transaction() -> None:
    station, _ = backup()
    true = deposit(station.genesis, 1)
    false_answers, true_answers = station.submit(forged(true)), station.submit(true)
    station.settle()
    assert [answer.stage for answer in true_answers] == [Stage.POOLED]
    assert station.engine.intake.pool.get(true.id) == true
    assert [answer.stage for answer in false_answers] != [Stage.POOLED]


def test_a_forged_copy_being_verified_does_not_swallow_the_true_transaction() -> None:
    station, _ = backup()
    true = deposit(station.genesis, 1)
    station.submit(forged(true))
    station.put_off.popleft()()
    answers = station.submit(true)
    station.settle()
    assert [answer.stage for answer in answers] == [Stage.POOLED]


def test_nothing_definite_is_said_of_an_id_that_waits_here_because_of_a_forged_copy() -> None:
    station, _ = backup()
    true = deposit(station.genesis, 1)
    false_answers = station.submit(forged(true))
    station.submit(true)
    station.settle()
    assert not any(answer.definite for answer in station.submit(forged(true)))
    assert station.engine.state_of(true.id).stage is Stage.POOLED
    assert len(false_answers) == 1


def test_a_false_signature_is_refused_and_remembered_of_no_id() -> None:
    station, _ = backup()
    true = deposit(station.genesis, 1)
    answers = station.submit(forged(true))
    station.settle()
    assert [(answer.stage, answer.code, answer.definite) for answer in answers] == [(Stage.DROPPED, Code.AUTH, True)]
    assert station.engine.state_of(true.id).stage is Stage.UNKNOWN
    again = station.submit(true)
    station.settle()
    assert [answer.stage for answer in again] == [Stage.POOLED]


def test_a_forged_copy_by_gossip_costs_its_sender_and_hides_nothing() -> None:
    station, peer = backup()
    true = deposit(station.genesis, 1)
    push(station, peer, forged(true), true)
    station.settle()
    assert [who for who, _ in station.penalised] == [peer]
    assert true.id in station.engine.intake.pool


def test_junk_in_a_batch_does_not_hide_what_came_with_it() -> None:
    station, peer = backup()
    other = sorted(station.engine.flight.tip().next_epoch.validators)[-1]
    station.engine.connected(other)
    true = deposit(station.genesis, 1)
    foreign = deposit(stations(1)[0].genesis, 1)
    push(station, peer, foreign, true)
    station.settle()
    assert [who for who, _ in station.penalised] == [peer]
    push(station, other, true)
    station.settle()
    assert true.id in station.engine.intake.pool


def test_a_peer_that_is_ahead_is_not_punished_for_a_key_not_known_here_yet() -> None:
    station, peer = backup()
    push(station, peer, deposit(station.genesis, 1, key="a key added one block ago"))
    station.settle()
    assert station.penalised == []


def test_a_key_that_is_not_known_yet_is_refused_but_may_come_again() -> None:
    station = alone()
    transaction = deposit(station.genesis, 1, key="second")
    with pytest.raises(Inadmissible) as refusal:
        station.submit(transaction)
    assert refusal.value.code is Code.AUTH
    station.submit(key_add(station.genesis, "second"))
    station.settle()
    station.elapse(1_000)
    answers = station.submit(transaction)
    station.settle()
    assert [answer.stage for answer in answers] == [Stage.POOLED]
    assert station.engine.state_of(transaction.id).stage is Stage.COMMITTED


def test_what_became_inadmissible_while_it_was_verified_does_not_enter_the_pool() -> None:
    station = alone()
    station.submit(key_add(station.genesis, "second"))
    station.settle()
    station.elapse(1_000)
    station.submit(key_revoke(station.genesis, "bank"))
    station.put_off.popleft()()
    transaction = deposit(station.genesis, 1)
    answers = station.submit(transaction)
    station.verify_next()
    assert station.height == 2
    station.settle()
    assert [(answer.stage, answer.code) for answer in answers] == [(Stage.DROPPED, Code.KEY_REVOKED)]
    assert len(station.engine.intake.pool) == 0


def test_each_block_is_checked_against_anew() -> None:
    """What a check has read is kept until the next block, and no longer."""
    station = alone()
    signed = deposit(station.genesis, 1, key="another")

    def refusal() -> Code | None:
        try:
            station.engine.intake.check(signed)
        except Inadmissible as error:
            return error.code
        return None

    found = [refusal(), refusal()]
    for transaction in (key_add(station.genesis, "another"), signed):
        station.submit(transaction)
        station.settle()
        found.append(refusal())
    assert found == [Code.AUTH, Code.AUTH, None, Code.TX_DUPLICATE]


def test_what_checks_have_read_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "CHECKS_PER_STATE", 3)
    station, _ = backup()
    for number in range(10):
        station.engine.intake.check(deposit(station.genesis, number))
        assert len(station.engine.intake._state._values[SEEN]) <= 3


def test_a_transaction_is_good_until_the_millisecond_before_its_end() -> None:
    station, _ = backup()
    transaction = deposit(station.genesis, 1, valid_until_ms=START_MS + 100)
    station.now_ms = 99
    station.submit(transaction)
    station.settle()
    station.engine.tick()
    assert station.engine.state_of(transaction.id).stage is Stage.POOLED
    station.now_ms = 100
    station.engine.tick()
    state = station.engine.state_of(transaction.id)
    assert (state.stage, state.definite) == (Stage.EXPIRED, False)
    with pytest.raises(Inadmissible):
        station.submit(transaction)


def test_expiry_is_definite_from_the_block_on_whose_time_has_reached_it() -> None:
    station = alone()
    late = deposit(station.genesis, 1, valid_until_ms=START_MS + 5_000)
    station.engine.intake.pool.add(late)
    station.now_ms = 5_000
    station.engine.tick()
    assert not station.engine.state_of(late.id).definite
    station.submit(deposit(station.genesis, 2))
    station.settle()
    assert station.height == 1
    assert station.engine.flight.time_ms == START_MS + 5_000
    state = station.engine.state_of(late.id)
    assert (state.stage, state.definite) == (Stage.EXPIRED, True)


def test_what_is_given_up_undecided_is_remembered_in_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ended_transactions_remembered_max", 10)
    station, _ = backup()
    for number in range(100):
        station.submit(deposit(station.genesis, number, valid_until_ms=START_MS + station.now_ms + 10))
        station.settle()
        station.now_ms += 10
        station.engine.tick()
    assert len(station.ended) == 100
    assert len(station.engine.intake._undecided) <= 20


def test_arrivals_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "mempool_bytes_max", 1_000)
    station, peer = backup()
    for number in range(100):
        push(station, peer, deposit(station.genesis, number))
    answers = [answer for number in range(100, 110) for answer in station.submit(deposit(station.genesis, number))]
    assert [(answer.stage, answer.definite) for answer in answers][:1] == [(Stage.DROPPED, False)]
    assert 0 < station.engine.intake._arrivals.bytes_held <= 1_000


def test_arrivals_that_found_no_room_may_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "mempool_bytes_max", 500)
    station, peer = backup()
    transactions = [deposit(station.genesis, number) for number in range(20)]
    for transaction in transactions:
        push(station, peer, transaction)
    monkeypatch.setattr(limits, "mempool_bytes_max", 1 << 20)
    station.settle()
    for transaction in transactions:
        push(station, peer, transaction)
    station.settle()
    assert len(station.engine.intake.pool) == len(transactions)


def test_one_batch_of_verifications_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "signatures_per_batch_max", 8, raising=False)
    station, peer = backup()
    transactions = [deposit(station.genesis, number) for number in range(50)]
    push(station, peer, *transactions)
    most = 0
    while station.put_off or station.jobs:
        if station.put_off:
            station.put_off.popleft()()
        else:
            most = max(most, len(station.jobs[0][0]))
            station.verify_next()
    assert most <= 8
    assert [decoded.id for decoded in station.engine.intake.pool] == [decoded.id for decoded in transactions]


def test_batches_are_as_large_as_the_workers_manage_in_a_tenth_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "signatures_per_batch_min", 2)
    monkeypatch.setattr(limits, "signatures_per_batch_max", 64)
    station, peer = backup()
    station.engine.intake._batch_signatures = 8
    push(station, peer, *[deposit(station.genesis, number) for number in range(120)])
    sizes: list[int] = []
    for took_ms in (10, 10, 250, 900, 100, 100):
        while not station.jobs:
            station.put_off.popleft()()
        sizes.append(len(station.jobs[0][0]))
        station.now_ms += took_ms
        station.verify_next()
    assert sizes == [8, 16, 32, 16, 8, 8]


def test_what_a_validator_pushes_is_verified_before_what_waits() -> None:
    """It has waited for too long elsewhere already."""
    station, peer = backup()
    station.engine.intake._batch_signatures = 4
    push(station, peer, *[deposit(station.genesis, number) for number in range(30)])
    station.put_off.popleft()()
    urgent = deposit(station.genesis, 30)
    station.engine.intake.urgent(peer, [urgent.raw])
    while station.put_off or station.jobs:
        if station.put_off:
            station.put_off.popleft()()
        else:
            station.verify_next()
    place = station.engine.intake.pool.place(urgent.id)
    assert place == 4


def test_a_full_pool_refuses_without_saying_anything_definite() -> None:
    station, peer = backup()
    station.engine.intake.pool = Mempool(Limits(transactions_max=3))
    push(station, peer, *[deposit(station.genesis, number) for number in range(3)])
    answers = station.submit(deposit(station.genesis, 3))
    station.settle()
    assert [(answer.stage, answer.definite) for answer in answers] == [(Stage.DROPPED, False)]


def test_a_revoked_key_takes_its_waiting_transactions_out_of_the_pool() -> None:
    station = alone()
    station.submit(key_add(station.genesis, "second"))
    station.settle()
    transaction = deposit(station.genesis, 1)
    station.engine.intake.pool.add(transaction)
    station.submit(key_revoke(station.genesis, "bank"))
    taken = station.engine.intake.pool.of_author(transaction.transaction.body.sender)
    assert taken == [transaction]
    station.engine.intake.committed([], [], START_MS, [transaction.transaction.body.sender], [])
    assert station.engine.state_of(transaction.id).stage is Stage.POOLED
    station.engine.intake.pool.remove([transaction.id])
    station.settle()
    station.engine.intake.pool.add(transaction)
    station.engine.intake.committed([], [], START_MS, [transaction.transaction.body.sender], [])
    state = station.engine.state_of(transaction.id)
    assert (state.stage, state.code, state.definite) == (Stage.DROPPED, Code.KEY_REVOKED, False)


def test_gossip_reaches_every_validator_once() -> None:
    net = Net(stations(4))
    net.start()
    first, *others = net.stations.values()
    transaction = deposit(first.genesis, 1)
    first.submit(transaction)
    first.settle()
    first.sent.clear()
    for other in others:
        push(other, first.own, transaction)
        other.settle()
        assert other.engine.state_of(transaction.id).stage is Stage.POOLED
        told = other.payloads(first.own, Channel.TRANSACTIONS)
        assert told == []
        assert other.payloads(others[0].own, Channel.TRANSACTIONS) in ([], [encode(Have((transaction.full_hash,)))])


def test_a_copy_signed_by_a_stranger_is_not_taken_for_the_transaction() -> None:
    station, peer = backup()
    true = deposit(station.genesis, 1)
    push(station, peer, signed_by_stranger(true))
    with pytest.raises(Inadmissible):
        station.submit(signed_by_stranger(true))
    answers = station.submit(true)
    station.settle()
    assert [answer.stage for answer in answers] == [Stage.POOLED]


def test_what_was_dropped_is_told_again_when_it_comes_again() -> None:
    """Gossip remembers who knows of it; whoever dropped it knows of it no more."""
    station = alone()
    peer = bytes(32)
    transaction = deposit(station.genesis, 1, key="second")
    station.engine.intake.pool.add(transaction)
    station.engine.intake.gossip.local([(transaction.full_hash, transaction.raw)])
    station.engine.connected(peer)
    station.engine.intake.committed([], [], START_MS, [transaction.transaction.body.sender], [])
    assert station.engine.state_of(transaction.id).stage is Stage.DROPPED
    station.submit(key_add(station.genesis, "second"))
    station.settle()
    station.elapse(1_000)
    station.sent.clear()
    station.submit(transaction)
    station.settle()
    assert encode(Have((transaction.full_hash,))) in station.payloads(peer, Channel.TRANSACTIONS)


def test_what_only_a_block_in_flight_holds_is_proposed() -> None:
    """The pool may have no room for what a proposal brings."""
    station, *_ = stations(4)
    station.engine.start()
    transaction = deposit(station.genesis, 1)
    flight = station.engine.flight
    flight.build(flight.committed(), station.own, START_MS + 1, iter([transaction]), 10)
    assert station.engine.state_of(transaction.id).stage is Stage.PROPOSED
    flight.keep_only(())
    assert station.engine.state_of(transaction.id).stage is Stage.UNKNOWN

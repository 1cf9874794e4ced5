"""What no block can hold any more is no work that a primary leaves undone."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from otcnode import limits
from otcnode.consensus.messages import Mode
from otcnode.crypto import sha256, tagged_hash
from otcnode.engine.host import Stage
from otcnode.errors import Code
from otcnode.genesis import GenesisAccount, GenesisKey, KeyPurpose, Role
from otcnode.vm.context import ITEM_DOMAIN
from otcnode.vm.governance.operations import GovernanceApprove, GovernancePropose
from otcnode.vm.governance.records import ParameterChange, ParameterSet
from otcnode.vm.transactions import Decoded, sign_transaction
from tests.engine.network import (
    START_MS,
    Net,
    Station,
    alone,
    body,
    deposit,
    genesis_of,
    key_add,
    key_of,
    stations,
)

HOUR_MS = 3_600_000
DRIFT_MS = 5_000
GOVERNING = ("desk", "regulator")


def governed() -> list[Station]:
    """Four validators; blocks hold one transaction, one at a time; validities of an hour; two organisations govern."""
    genesis = genesis_of(4, window=1, transactions_max=1)
    accounts = [
        GenesisAccount(
            name=name,
            organisation=name,
            roles=(role,),
            keys=(GenesisKey(purpose=KeyPurpose.MANAGE, key=key_of(name).public),),
        )
        for name, role in zip(GOVERNING, (Role.KYC, Role.REGULATOR), strict=True)
    ]
    genesis = replace(
        genesis,
        accounts=(*genesis.accounts, *accounts),
        parameters=replace(genesis.parameters, max_transaction_ttl_ms=HOUR_MS),
    )
    keys = sorted((key_of(f"node {index}") for index in range(4)), key=lambda key: key.public)
    return [Station(genesis, key) for key in keys]


def decision(station: Station, change: ParameterChange) -> tuple[Decoded, Decoded]:
    """A proposal and the approval that executes it."""
    proposer, approver = GOVERNING
    proposal = GovernancePropose(ParameterSet((change,)), "shorter", sha256(b"minutes"))
    proposed = sign_transaction(body(station.genesis, proposal, sender=proposer), [key_of(proposer)])
    approval = GovernanceApprove(tagged_hash(ITEM_DOMAIN, proposed.id + bytes(4)))
    return proposed, sign_transaction(body(station.genesis, approval, sender=approver), [key_of(approver)])


def shown(members: list[Station]) -> list[tuple[int, Mode]]:
    return [(member.engine.replica.state.view, member.engine.replica.mode) for member in members]


def test_what_was_admissible_before_the_parameters_changed_leaves_every_pool_with_the_reason() -> None:
    members = governed()
    net = Net(members)
    net.start()
    first = members[0]
    stale = deposit(first.genesis, 1, valid_until_ms=START_MS + HOUR_MS // 2)
    brief = deposit(first.genesis, 2)
    for transaction in (*decision(first, ParameterChange("max_transaction_ttl_ms", 600_000)), stale, brief):
        first.submit(transaction)
    first.settle()
    assert stale.id in first.engine.intake.pool
    net.deliver()
    assert [member.height for member in members] == [3] * 4
    assert [len(member.engine.intake.pool) for member in members] == [0] * 4
    states = [member.engine.state_of(stale.id) for member in members]
    assert [(state.stage, state.code, state.definite) for state in states] == [
        (Stage.DROPPED, Code.TX_EXPIRED, False)
    ] * 4
    assert members[0].engine.state_of(brief.id).stage is Stage.COMMITTED
    net.elapse(8_000)
    assert shown(members) == [(0, Mode.ACTIVE)] * 4


def test_what_no_block_can_hold_deposes_no_primary_however_it_came_to_wait() -> None:
    members = stations(4)
    net = Net(members)
    net.start()
    # As after a proposal that was dropped together with what made these admissible.
    orphans = [deposit(members[0].genesis, number, key="a key whose addition was dropped") for number in range(3)]
    for member in members:
        for orphan in orphans:
            member.engine.intake.pool.add(orphan, member.now_ms)
        member.engine._work_changed()
    net.elapse(40_000)
    assert shown(members) == [(0, Mode.ACTIVE)] * 4
    assert [len(member.engine.intake.pool) for member in members] == [0] * 4


def test_what_is_valid_for_as_long_as_can_be_deposes_no_primary_whose_clock_is_behind() -> None:
    """Within the drift that is allowed. To it the validity is too long, and it does not take the transaction."""
    members = stations(4)
    net = Net(members)
    net.start()
    primary = next(
        member for member in members if member.engine.replica.state.own == member.engine.replica.state.primary
    )
    (other, *_) = [member for member in members if member is not primary]
    primary.skew_ms = -1_000
    net.elapse(1_500)
    longest_ms = members[0].genesis.parameters.max_transaction_ttl_ms
    for number in range(3):
        longest = deposit(other.genesis, number, valid_until_ms=other.now().ledger_ms + longest_ms)
        other.submit(longest)
        other.settle()
        net.deliver()
        assert longest.id in other.engine.intake.pool and longest.id not in primary.engine.intake.pool
        net.elapse(3_000)
        assert shown(members) == [(0, Mode.ACTIVE)] * 4
    net.elapse(DRIFT_MS)
    assert [len(member.engine.intake.pool) for member in members] == [0] * 4
    assert members[0].height > 0 and shown(members) == [(0, Mode.ACTIVE)] * 4
    plain = deposit(other.genesis, 9)
    other.submit(plain)
    net.elapse(1_000)
    assert other.engine.state_of(plain.id).stage is Stage.COMMITTED


def test_a_dead_primary_is_deposed_for_what_is_valid_for_as_long_as_can_be_too() -> None:
    """Once no clock within the drift can be an excuse; and nothing is lost."""
    members = stations(4)
    _, *others = sorted(members, key=lambda member: member.own)
    net = Net(others)
    net.start()
    net.elapse(1_000)
    first = others[0]
    longest_ms = first.genesis.parameters.max_transaction_ttl_ms
    waiting = deposit(first.genesis, 1, valid_until_ms=first.now().ledger_ms + longest_ms)
    first.submit(waiting)
    net.elapse(4_500)
    assert [view for view, _ in shown(others)] == [0] * 3
    net.elapse(3_500)
    assert [view for view, _ in shown(others)] == [1] * 3
    assert first.engine.state_of(waiting.id).stage is Stage.COMMITTED


def test_what_a_block_in_flight_holds_is_not_dropped_for_what_only_that_flight_knows() -> None:
    station = alone()
    flight, intake = station.engine.flight, station.engine.intake
    added, used = key_add(station.genesis, "second"), deposit(station.genesis, 1, key="second")
    block, _ = flight.build(flight.committed(), station.own, START_MS + 1, iter([added, used]), 10)
    assert [entry.id for entry in block.entries] == [added.id, used.id]
    intake.pool.add(used)
    intake.reconsider(DRIFT_MS, ())
    assert used.id in intake.pool
    flight.keep_only(())
    intake.reconsider(DRIFT_MS, ())
    assert (used.id in intake.pool, intake.state(used.id).code) == (False, Code.AUTH)


def test_only_so_much_is_reconsidered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "reconsidered_transactions_max", 2)
    station, *_ = stations(4)
    intake = station.engine.intake
    for number in range(5):
        intake.pool.add(deposit(station.genesis, number, key="nobody's"))
    for left in (3, 1, 0, 0):
        intake.reconsider(DRIFT_MS, ())
        assert len(intake.pool) == left


def test_nothing_is_reconsidered_behind_what_is_work() -> None:
    station, *_ = stations(4)
    pool = station.engine.intake.pool
    waiting = [deposit(station.genesis, 1, key="nobody's"), deposit(station.genesis, 2)]
    waiting.append(deposit(station.genesis, 3, key="nobody's"))
    for transaction in waiting:
        pool.add(transaction)
    station.engine.intake.reconsider(DRIFT_MS, ())
    assert list(pool) == waiting[1:]

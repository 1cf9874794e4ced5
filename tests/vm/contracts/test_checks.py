"""The checkers of contracts find what they are for, and nothing in an honest state."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from otcnode.vm.contracts.checks import signatures_verify
from otcnode.vm.contracts.operations import ContractVoid
from otcnode.vm.contracts.records import (
    CONTRACT_SIGNATURES,
    CONTRACT_TEXTS,
    CONTRACTS,
    AtTime,
    ContractStatus,
    ContractText,
    Term,
)
from otcnode.vm.invariants import check_state
from otcnode.vm.state import State
from tests.vm.contracts.desk import Desk
from tests.vm.ledger import DAY_MS

S = ContractStatus


def kept(desk: Desk, state: State) -> None:
    desk.view.write(state.writes())


def found(desk: Desk) -> set[int]:
    return {violation.invariant for violation in check_state(desk.view)}


def test_honest_signatures_verify(desk: Desk) -> None:
    desk.bring_to(desk.create(), S.SIGNING)
    desk.effective()
    assert list(signatures_verify(desk.state, desk.chain)) == []
    assert len(list(signatures_verify(desk.state, bytes(32)))) == 2


def test_a_forged_signature_is_found(desk: Desk) -> None:
    desk.effective()
    state = desk.state
    key, record = state.scan(CONTRACT_SIGNATURES)[0]
    state.put(CONTRACT_SIGNATURES, key, replace(record, signature=bytes(64)))
    kept(desk, state)
    assert [violation.invariant for violation in signatures_verify(desk.state, desk.chain)] == [18]


@pytest.mark.parametrize("changes", [{"position": 9}, {"version": 2}])
def test_a_signature_out_of_order_or_over_another_version_is_found(desk: Desk, changes: dict[str, Any]) -> None:
    desk.effective()
    state = desk.state
    key, record = state.scan(CONTRACT_SIGNATURES)[0]
    state.put(CONTRACT_SIGNATURES, key, replace(record, **changes))
    kept(desk, state)
    assert found(desk) == {18}


def test_a_missing_signature_is_found(desk: Desk) -> None:
    desk.effective()
    state = desk.state
    state.delete(CONTRACT_SIGNATURES, state.scan(CONTRACT_SIGNATURES)[0][0])
    kept(desk, state)
    assert found(desk) == {18}


def test_a_changed_text_is_found(desk: Desk) -> None:
    name = desk.effective()
    state = desk.state
    state.put(CONTRACT_TEXTS, name, ContractText((Term("amount", 1),), ()))
    kept(desk, state)
    assert found(desk) == {19}


def planted(desk: Desk, name: bytes, **changes: Any) -> set[int]:
    state = desk.state
    state.put(CONTRACTS, name, replace(desk.contract(name), **changes))
    kept(desk, state)
    return found(desk)


def test_an_ended_contract_that_opens_again_is_found(desk: Desk) -> None:
    """And nothing in the queue would ever end it."""
    name = desk.create()
    desk.act("ISS", ContractVoid(name, "why"))
    assert planted(desk, name, status=S.DRAFT) == {20, 33}


def test_an_open_contract_that_claims_to_have_ended_is_found(desk: Desk) -> None:
    """And the queue still means to end it."""
    assert planted(desk, desk.create(), status=S.VOIDED, ended_at=desk.now) == {20, 33}


def test_a_miscounted_successor_is_found(desk: Desk) -> None:
    old = desk.effective()
    desk.amendment(old)
    assert planted(desk, old, successors_open=0) == {20}


def test_an_effect_before_its_time_is_found(desk: Desk) -> None:
    at = desk.now + DAY_MS
    name = desk.bring_to(desk.create(effective=AtTime(at)), S.SIGNED)
    desk.block(at=at)
    assert planted(desk, name, effective_at=at) == set()
    assert planted(desk, name, effective_at=at - 1) == {21}


def test_cooling_off_cut_short_by_a_millisecond_is_found(desk: Desk) -> None:
    name = desk.bring_to(desk.created(desk.act("ISS", desk.subscription(DAY_MS, False))), S.SIGNED)
    end = desk.now + DAY_MS
    desk.block(at=end)
    assert planted(desk, name, effective_at=end) == set()
    assert planted(desk, name, effective_at=end - 1) == {21}
    assert planted(desk, name, effective_at=None, status=S.RESCINDED, ended_at=end - 1) == set()
    assert planted(desk, name, effective_at=None, status=S.RESCINDED, ended_at=end) == {21}

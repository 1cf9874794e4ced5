"""The checkers of accounts and governance find what is planted; a checker that cannot fail proves nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from otcnode.crypto import sha256
from otcnode.genesis import KeyPurpose, Role
from otcnode.vm.accounts.operations import AccountFreeze, AccountRecover, AccountRecoverApprove, CashWithdraw, NewKey
from otcnode.vm.accounts.records import (
    ACCOUNTS,
    BANK_REFERENCES,
    ENTRUSTMENTS,
    ENTRUSTMENTS_ACTIVE,
    FREEZES_BY_ACCOUNT,
    OPEN_ITEMS,
    RECOVERIES,
    TOTALS_AT,
    WITHDRAWALS,
    AccountStatus,
    EntrustmentStatus,
    Thresholds,
    WithdrawalStatus,
)
from otcnode.vm.governance.records import (
    GOVERNORS,
    NODES,
    PROPOSALS,
    SCHEDULE,
    MarketPause,
    ProposalStatus,
    RoleSet,
)
from otcnode.vm.invariants import check_state
from otcnode.vm.keys import MARKER, OPEN_OFFER, SINGLE, Table
from otcnode.vm.state import State
from tests.vm.governance.council import PAPER, Council
from tests.vm.ledger import CASH, key_of

Plant = Callable[[Council, State], None]


def change(table: Table[Any], name: bytes, **fields: Any) -> Plant:
    def plant(council: Council, state: State) -> None:
        record = state.get(table, name)
        assert record is not None
        state.put(table, name, replace(record, **fields))

    return plant


def change_first(table: Table[Any], **fields: Any) -> Plant:
    def plant(council: Council, state: State) -> None:
        name, record = state.scan(table)[0]
        state.put(table, name, replace(record, **fields))

    return plant


def end_an_open_proposal(council: Council, state: State) -> None:
    """Its due entry and its places in the indexes stay."""
    open_ones = [entry for entry in state.scan(PROPOSALS) if entry[1].status is ProposalStatus.PROPOSED]
    name, record = open_ones[0]
    state.put(PROPOSALS, name, replace(record, status=ProposalStatus.EXPIRED))


def change_account(who: str, **fields: Any) -> Plant:
    return lambda council, state: change(ACCOUNTS, council.ids[who], **fields)(council, state)


def remove_first(table: Table[Any]) -> Plant:
    return lambda council, state: state.delete(table, state.scan(table)[0][0])


def approve_twice(council: Council, state: State) -> None:
    name, record = state.scan(PROPOSALS)[0]
    state.put(PROPOSALS, name, replace(record, approvals=record.approvals * 2))


def nobody_decides(council: Council, state: State) -> None:
    schedule = state.get(SCHEDULE, SINGLE)
    assert schedule is not None
    state.put(SCHEDULE, SINGLE, replace(schedule, current=replace(schedule.current, validators=())))


def unknown_validator(council: Council, state: State) -> None:
    schedule = state.get(SCHEDULE, SINGLE)
    assert schedule is not None
    state.put(SCHEDULE, SINGLE, replace(schedule, current=replace(schedule.current, validators=(sha256(b"nobody"),))))


PLANTED: dict[str, tuple[int, Plant]] = {
    "a withdrawal decided without its lock": (4, change_first(WITHDRAWALS, status=WithdrawalStatus.REJECTED)),
    "paid without a reference": (26, change_first(WITHDRAWALS, status=WithdrawalStatus.PAID)),
    "a reference without a payment": (
        26,
        lambda council, state: state.put(BANK_REFERENCES, council.ids["BANK"] + b"Ox", MARKER),
    ),
    "more used than the cap": (22, change_first(ENTRUSTMENTS, used=2**62)),
    "exhausted with something left": (22, change_first(ENTRUSTMENTS, status=EntrustmentStatus.EXHAUSTED)),
    "used before it was accepted": (23, change_first(ENTRUSTMENTS, status=EntrustmentStatus.PROPOSED, used=1)),
    "an active entrustment that is not listed": (20, remove_first(ENTRUSTMENTS_ACTIVE)),
    "a recovery approved by one organisation": (28, change_first(RECOVERIES, organisations=(bytes(32), bytes(32)))),
    "recovering without a recovery": (28, change_account("OWN", status=AccountStatus.RECOVERING)),
    "a delayed recovery of an active account": (28, change_account("SAM", status=AccountStatus.ACTIVE)),
    "an open item nobody counted": (
        4,
        lambda council, state: state.put(OPEN_ITEMS, council.ids["OWN"] + OPEN_OFFER + bytes(32), MARKER),
    ),
    "a freeze that is not counted": (16, change_account("OWN", full_freezes=0)),
    "a freeze that is not listed": (16, remove_first(FREEZES_BY_ACCOUNT)),
    "an account with too few keys": (18, change_account("BEN", thresholds=Thresholds(9, 1, 1))),
    "a total that is not remembered": (6, change_first(TOTALS_AT, total=1)),
    "an organisation that approved twice": (28, approve_twice),
    "a proposal that ended and is still open": (20, end_an_open_proposal),
    "a governor who is not listed": (28, remove_first(GOVERNORS)),
    "governing without a role": (28, change_account("LIST", roles=())),
    "no validators": (20, nobody_decides),
    "a validator that is no node": (20, unknown_validator),
    "no schedule": (20, lambda council, state: state.delete(SCHEDULE, SINGLE)),
    "a validator turned away": (20, lambda council, state: state.delete(NODES, key_of("v").public)),
}


@pytest.fixture(scope="module")
def busy() -> Council:
    """One of everything."""
    council = Council()
    council.entrusted()
    council.act("BEN", CashWithdraw(CASH, 40, PAPER))
    council.act("REG", AccountFreeze(council.ids["OWN"], None, 0, PAPER, None))
    keys = tuple(NewKey(purpose, key_of("SAM/new", purpose).public) for purpose in KeyPurpose)
    receipt = council.act("RCV", AccountRecover(council.ids["SAM"], keys, Thresholds(1, 1, 1), bytes(32), PAPER))
    council.act("REG", AccountRecoverApprove(next(e.recovery for e in receipt.events if hasattr(e, "recovery"))))
    council.put_forward(MarketPause(True))
    council.decide(RoleSet(council.ids["BEN"], (Role.INVESTOR,)))
    assert check_state(council.view) == []
    return council


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_is_found(busy: Council, name: str) -> None:
    invariant, plant = PLANTED[name]
    state = busy.state
    plant(busy, state)
    view = type(busy.view)(dict(busy.view.values))
    view.write(state.writes())
    assert invariant in {violation.invariant for violation in check_state(view)}

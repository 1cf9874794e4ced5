"""Every operation on a withdrawal in every status: a listed move, or refused and nothing changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from otcnode.crypto import sha256
from otcnode.errors import Code
from otcnode.vm.accounts.events import WithdrawalChanged
from otcnode.vm.accounts.operations import CashWithdraw, CashWithdrawCancel, CashWithdrawResult
from otcnode.vm.accounts.records import WITHDRAWALS, Withdrawal, WithdrawalStatus
from tests.vm.ledger import CASH, Ledger

S = WithdrawalStatus

ACTS: dict[str, tuple[str, Callable[[bytes], Any]]] = {
    "cancel": ("ANN", CashWithdrawCancel),
    "pay": ("BANK", lambda name: CashWithdrawResult(name, True, "out-2", "")),
    "reject": ("BANK", lambda name: CashWithdrawResult(name, False, "", "no such account")),
}
WAYS = {S.PAID: ("BANK", lambda name: CashWithdrawResult(name, True, "out-1", "")), S.REJECTED: ACTS["reject"]}
MOVES = {"cancel": S.CANCELLED, "pay": S.PAID, "reject": S.REJECTED}
FIGURES = {S.LOCKED: (100, 40), S.PAID: (60, 0), S.REJECTED: (100, 0), S.CANCELLED: (100, 0)}
"""(balance, locked) of the holder, who had 100 and asked for 40."""


def reached(ledger: Ledger, status: WithdrawalStatus) -> bytes:
    ledger.investor("ANN", 100)
    receipt = ledger.do("ANN", CashWithdraw(CASH, 40, sha256(b"bank account")))
    (name,) = [event.withdrawal for event in receipt.events if isinstance(event, WithdrawalChanged)]
    if status is not S.LOCKED:
        by, operation = WAYS.get(status, ACTS["cancel"])
        ledger.do(by, operation(name))
    return name


def record(ledger: Ledger, name: bytes) -> Withdrawal:
    found = ledger.state.get(WITHDRAWALS, name)
    assert found is not None
    return found


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("status", S)
def test_every_operation_in_every_status(status: WithdrawalStatus, act: str) -> None:
    ledger = Ledger()
    name = reached(ledger, status)
    before = record(ledger, name)
    assert before.status is status
    by, operation = ACTS[act]
    live = status is S.LOCKED
    ledger.do(by, operation(name), code=Code.OK if live else Code.STATE)
    after = record(ledger, name)
    assert after.status is (MOVES[act] if live else status)
    if not live:
        assert after == before
    cash = ledger.cash("ANN")
    assert cash is not None
    assert (cash.balance, cash.locked) == FIGURES[after.status]

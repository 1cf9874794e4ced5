from __future__ import annotations

import pytest

from otcnode.crypto import sha256
from otcnode.errors import Code
from otcnode.vm.accounts.events import WithdrawalChanged
from otcnode.vm.accounts.operations import (
    AccountFreeze,
    CashWithdraw,
    CashWithdrawCancel,
    CashWithdrawResult,
)
from otcnode.vm.accounts.records import ACCOUNTS, CASH_ASSETS, CashBalance
from tests.vm.ledger import CASH, Ledger

DESTINATION = sha256(b"bank account")


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger()
    ledger.investor("ANN", 1_000)
    return ledger


def request(ledger: Ledger, amount: int) -> bytes:
    receipt = ledger.do("ANN", CashWithdraw(CASH, amount, DESTINATION))
    return next(event.withdrawal for event in receipt.events if isinstance(event, WithdrawalChanged))


def test_paid_burns_exactly_what_was_locked(ledger: Ledger) -> None:
    name = request(ledger, 400)
    assert ledger.cash("ANN") == CashBalance(1_000, 400, 0, None)
    ledger.do("ANN", CashWithdraw(CASH, 601, DESTINATION), code=Code.LACK_CASH)
    ledger.do("BANK", CashWithdrawResult(name, True, "", ""), code=Code.FIELD)
    ledger.do("BANK", CashWithdrawResult(name, True, "out-1", ""))
    assert ledger.cash("ANN") == CashBalance(600, 0, 0, None)
    asset = ledger.state.get(CASH_ASSETS, CASH.encode())
    assert asset is not None
    assert (asset.total, asset.deposited, asset.withdrawn) == (600, 1_000, 400)
    ledger.do("BANK", CashWithdrawResult(name, False, "", "late"), code=Code.STATE)
    ledger.do("ANN", CashWithdrawCancel(name), code=Code.STATE)
    other = request(ledger, 1)
    ledger.do("BANK", CashWithdrawResult(other, True, "out-1", ""), code=Code.DUP_BANK_REF)
    ledger.deposit("ANN", 1, "out-1")


def test_rejected_and_cancelled_release(ledger: Ledger) -> None:
    rejected, cancelled = request(ledger, 400), request(ledger, 600)
    ledger.investor("BOB")
    ledger.do("BOB", CashWithdrawCancel(cancelled), code=Code.NOT_PARTY)
    ledger.do("BANK", CashWithdrawResult(rejected, False, "", ""), code=Code.FIELD)
    ledger.do("BANK", CashWithdrawResult(rejected, False, "", "closed account"))
    ledger.do("ANN", CashWithdrawCancel(cancelled))
    assert ledger.cash("ANN") == CashBalance(1_000, 0, 0, None)
    account = ledger.state.get(ACCOUNTS, ledger.ids["ANN"])
    assert account is not None
    assert account.open_items == 0


def test_a_full_freeze_stops_paying_and_asking_but_not_cancelling(ledger: Ledger) -> None:
    first, second = request(ledger, 1), request(ledger, 2)
    ledger.do("REG", AccountFreeze(ledger.ids["ANN"], None, 0, DESTINATION, None))
    ledger.do("ANN", CashWithdraw(CASH, 1, DESTINATION), code=Code.FROZEN)
    ledger.do("BANK", CashWithdrawResult(first, True, "out", ""), code=Code.FROZEN)
    ledger.do("BANK", CashWithdrawResult(first, False, "", "frozen"))
    ledger.do("ANN", CashWithdrawCancel(second))
    assert ledger.cash("ANN") == CashBalance(1_000, 0, 0, None)


def test_open_items_are_bounded() -> None:
    ledger = Ledger(open_items_per_account_max=1)
    ledger.investor("ANN", 1_000)
    name = request(ledger, 1)
    ledger.do("ANN", CashWithdraw(CASH, 1, DESTINATION), code=Code.LIMIT)
    ledger.do("ANN", CashWithdrawCancel(name))
    request(ledger, 1)

from __future__ import annotations

import pytest

from otcnode.crypto import sha256
from otcnode.errors import Code
from otcnode.vm.accounts.events import AccountFrozen, CashMoved
from otcnode.vm.accounts.operations import (
    AccountFreeze,
    AccountReview,
    AccountUnfreeze,
    CashDeposit,
    InvestorCertify,
)
from otcnode.vm.accounts.records import ACCOUNTS, KEYS, AccountStatus, CashBalance, Category
from otcnode.vm.due import next_due
from otcnode.vm.results import Receipt
from tests.vm.ledger import CASH, DAY_MS, EVIDENCE, Ledger

HOUR_MS = 3_600_000
DOCUMENT = sha256(b"order")


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger()
    ledger.investor("ANN", 1_000)
    return ledger


def freeze_id(receipt: Receipt) -> bytes:
    return next(event.freeze for event in receipt.events if isinstance(event, AccountFrozen))


def test_an_application_lapses_after_thirty_days_to_the_millisecond(ledger: Ledger) -> None:
    account = ledger.apply_for("BOB")
    deadline = ledger.now + 30 * DAY_MS
    assert next_due(ledger.view) == deadline
    ledger.block(at=deadline - 1)
    assert ledger.state.get(ACCOUNTS, account) is not None
    result = ledger.block(at=deadline)
    assert [receipt.kind for receipt in result.automatic] == ["account.pending_end"]
    assert ledger.state.get(ACCOUNTS, account) is None
    assert ledger.state.scan(KEYS, account) == []
    assert next_due(ledger.view) is None


def test_a_review_decides_once(ledger: Ledger) -> None:
    account = ledger.apply_for("BOB")
    ledger.do("REG", AccountReview(account, True, ""), code=Code.ROLE)
    ledger.do("KYC", AccountReview(account, False, ""), code=Code.FIELD)
    ledger.do("KYC", AccountReview(account, False, "no papers"))
    record = ledger.state.get(ACCOUNTS, account)
    assert record is not None
    assert record.status is AccountStatus.REJECTED
    ledger.do("KYC", AccountReview(account, True, ""), code=Code.STATE)
    ledger.deposit("BOB", 1, code=Code.STATE)


@pytest.mark.parametrize(("risk", "days", "holders"), [(0, 1, 1), (6, 1, 1), (1, 0, 1), (1, 4 * 365, 1), (1, 1, 0)])
def test_certificates_are_bounded(ledger: Ledger, risk: int, days: int, holders: int) -> None:
    until = ledger.now + days * DAY_MS
    operation = InvestorCertify(ledger.ids["ANN"], risk, Category.RETAIL, until, holders, EVIDENCE)
    ledger.do("KYC", operation, code=Code.FIELD)


def test_deposits(ledger: Ledger) -> None:
    receipt = ledger.deposit("ANN", 234, "b-1")
    assert CashMoved(ledger.ids["ANN"], CASH, 234, 0, 0) in receipt.events
    assert ledger.cash("ANN") == CashBalance(1_234, 0, 0, None)
    ledger.deposit("ANN", 1, "b-1", code=Code.DUP_BANK_REF)
    ledger.deposit("ANN", 0, code=Code.AMOUNT)
    ledger.deposit("ANN", 10**12, code=Code.LIMIT)
    ledger.do("BANK", CashDeposit(bytes(32), CASH, 1, "x"), code=Code.NOT_FOUND)
    ledger.do("BANK", CashDeposit(ledger.ids["ANN"], "EUR@BANK", 1, "x"), code=Code.NOT_FOUND)


def test_the_daily_limit_starts_again_at_midnight(ledger: Ledger) -> None:
    ledger.deposit("ANN", 10**12 - 1_000)
    ledger.deposit("ANN", 1, code=Code.LIMIT)
    ledger.block(at=(ledger.now // DAY_MS + 1) * DAY_MS - 2)
    ledger.deposit("ANN", 1, code=Code.LIMIT)
    ledger.deposit("ANN", 1)


def test_a_partial_freeze_takes_what_is_available_and_gives_exactly_that_back(ledger: Ledger) -> None:
    account = ledger.ids["ANN"]
    ledger.do("REG", AccountFreeze(account, CASH.encode(), 1_001, DOCUMENT, None), code=Code.LACK_CASH)
    name = freeze_id(ledger.do("REG", AccountFreeze(account, CASH.encode(), 1_000, DOCUMENT, None)))
    assert ledger.cash("ANN") == CashBalance(1_000, 0, 1_000, None)
    ledger.do("FRZ", AccountUnfreeze(name, DOCUMENT), code=Code.NOT_PARTY)
    ledger.do("REG", AccountUnfreeze(name, DOCUMENT))
    assert ledger.cash("ANN") == CashBalance(1_000, 0, 0, None)
    ledger.do("REG", AccountUnfreeze(name, DOCUMENT), code=Code.NOT_FOUND)


def test_the_freezer_desk_is_bounded_and_its_freeze_ends_by_itself(ledger: Ledger) -> None:
    account = ledger.ids["ANN"]
    ledger.do("FRZ", AccountFreeze(account, None, 0, DOCUMENT, None), code=Code.FIELD)
    too_long = ledger.now + 1 + 72 * HOUR_MS + 1
    ledger.do("FRZ", AccountFreeze(account, None, 0, DOCUMENT, too_long), code=Code.FIELD)
    until = ledger.now + 1 + 72 * HOUR_MS
    ledger.do("FRZ", AccountFreeze(account, None, 0, DOCUMENT, until))
    frozen_at = ledger.now
    record = ledger.state.get(ACCOUNTS, account)
    assert record is not None
    assert record.shown_status == "FROZEN"
    ledger.deposit("ANN", 1)
    ledger.block(at=until)
    record = ledger.state.get(ACCOUNTS, account)
    assert record is not None
    assert record.shown_status == "ACTIVE"
    again = AccountFreeze(account, None, 0, DOCUMENT, until + 29 * DAY_MS)
    ledger.block(at=frozen_at + 30 * DAY_MS - 2)
    ledger.do("FRZ", AccountFreeze(account, None, 0, DOCUMENT, ledger.now + HOUR_MS), code=Code.FORBIDDEN)
    ledger.do("FRZ", AccountFreeze(account, None, 0, DOCUMENT, ledger.now + HOUR_MS))
    ledger.do("REG", again)

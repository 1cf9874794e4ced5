"""Attestations of custody: totals by height, breaks, and what goes on when."""

from __future__ import annotations

import pytest

from otcnode.crypto import sha256
from otcnode.errors import Code
from otcnode.vm.accounts.events import DepositsResumed, ReconBreak, ReconOk
from otcnode.vm.accounts.operations import CashWithdraw, CashWithdrawResult, CustodyAttest, CustodyResume
from otcnode.vm.accounts.records import CASH_ASSETS, TOTALS_AT
from otcnode.vm.accounts.totals import note_total, total_at
from otcnode.vm.state import State
from tests.vm.ledger import CASH, DictionaryView, Ledger

STATEMENT = sha256(b"statement")


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger(attest_window_blocks=20)
    ledger.investor("ANN", 1_000)
    return ledger


def attestation(ledger: Ledger, total: int, height: int) -> CustodyAttest:
    return CustodyAttest(CASH, height, total, STATEMENT)


def test_the_total_of_a_height_is_what_was_there_when_its_block_was_final(ledger: Ledger) -> None:
    before = ledger.height
    ledger.deposit("ANN", 1)
    ledger.deposit("ANN", 1)
    for height, total in ((before, 1_000), (before + 1, 1_001), (before + 2, 1_002)):
        receipt = ledger.do("BANK", attestation(ledger, total, height))
        (event,) = [event for event in receipt.events if isinstance(event, ReconOk)]
        assert (event.cash, event.height, event.total) == (CASH, height, total)


def test_only_closed_heights_inside_the_window_can_be_attested(ledger: Ledger) -> None:
    ledger.do("BANK", attestation(ledger, 1_000, ledger.height + 1), code=Code.FIELD)
    ledger.do("BANK", attestation(ledger, 1_000, ledger.height))
    while ledger.height < 30:
        ledger.block()
    ledger.do("BANK", attestation(ledger, 1_000, ledger.height + 1 - 21), code=Code.FIELD)
    ledger.do("BANK", attestation(ledger, 1_000, ledger.height + 1 - 20))


def test_a_break_stops_deposits_until_the_regulator_resumes_them(ledger: Ledger) -> None:
    receipt = ledger.do("BANK", attestation(ledger, 999, ledger.height))
    (event,) = [event for event in receipt.events if isinstance(event, ReconBreak)]
    assert (event.bank_total, event.ledger_total, event.difference) == (999, 1_000, -1)
    ledger.deposit("ANN", 1, code=Code.STATE)
    ledger.do("ANN", CashWithdraw(CASH, 300, STATEMENT))
    (name,) = [event.withdrawal for event in ledger.last.receipts[0].events if hasattr(event, "withdrawal")]  # type: ignore[union-attr]
    ledger.do("BANK", CashWithdrawResult(name, True, "out-1", ""))
    ledger.do("BANK", attestation(ledger, 700, ledger.height))
    ledger.deposit("ANN", 1, code=Code.STATE)
    ledger.do("BANK", CustodyResume(CASH, STATEMENT), code=Code.ROLE)
    receipt = ledger.do("REG", CustodyResume(CASH, STATEMENT))
    assert receipt.events == (DepositsResumed(CASH, STATEMENT),)
    ledger.deposit("ANN", 1)
    ledger.do("REG", CustodyResume(CASH, STATEMENT), code=Code.STATE)


def test_who_may_attest_what(ledger: Ledger) -> None:
    ledger.do("REG", attestation(ledger, 1_000, 1), code=Code.ROLE)
    ledger.do("BANK", CustodyAttest("EUR@BANK", 1, 0, STATEMENT), code=Code.NOT_FOUND)
    ledger.do("REG", CustodyResume("EUR@BANK", STATEMENT), code=Code.NOT_FOUND)
    state = ledger.state
    asset = state.get(CASH_ASSETS, CASH.encode())
    assert asset is not None
    assert not asset.stopped


def test_what_is_older_than_the_window_is_forgotten_but_for_the_entry_that_still_holds(ledger: Ledger) -> None:
    for _ in range(60):
        ledger.deposit("ANN", 1)
    assert len(ledger.state.scan(TOTALS_AT)) == 20 + 1
    while ledger.height < 200:
        ledger.block()
    ledger.do("BANK", attestation(ledger, 1_060, ledger.height - 10))


def test_totals_of_two_cash_ids_do_not_meet() -> None:
    state = State(DictionaryView({}))
    note_total(state, "CNY@BANK", 0, 0, 10)
    note_total(state, "CNY@BANK2", 5, 7, 10)
    note_total(state, "CNY@BANK", 9, 3, 10)
    assert [total_at(state, "CNY@BANK", height) for height in (0, 8, 9, 100)] == [0, 0, 3, 3]
    assert [total_at(state, "CNY@BANK2", height) for height in (4, 5, 100)] == [None, 7, 7]

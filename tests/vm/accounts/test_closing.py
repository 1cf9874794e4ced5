"""Closing an account: two steps, and nothing left behind."""

from __future__ import annotations

from copy import deepcopy

import pytest

from otcnode.crypto import sha256
from otcnode.errors import Code, Inadmissible
from otcnode.vm.accounts.operations import (
    AccountClose,
    AccountFreeze,
    AccountUnfreeze,
    CashWithdraw,
    CashWithdrawResult,
    EntrustDecline,
)
from otcnode.vm.accounts.records import ACCOUNTS, FREEZES, FREEZES_BY_ACCOUNT, WITHDRAWALS, AccountStatus
from otcnode.vm.governance.records import ForcedTransfer
from tests.vm.accounts.agency import MANAGE, Agency
from tests.vm.governance.council import Council
from tests.vm.ledger import CASH
from tests.vm.products.market import FIRST_PAY

ORDER = sha256(b"order")


@pytest.fixture(scope="module")
def ready() -> Agency:
    return Agency(rate_ppm=0)


@pytest.fixture
def agency(ready: Agency) -> Agency:
    return deepcopy(ready)


def ask(agency: Agency, name: str = "AGT", by: str = "AGT", code: Code = Code.OK) -> None:
    agency.act(by, AccountClose(agency.ids[name]), purpose=MANAGE, code=code)


def test_the_holder_asks_and_the_desk_completes(agency: Agency) -> None:
    ask(agency, by="KYC", code=Code.STATE)
    ask(agency, by="BEN", code=Code.NOT_PARTY)
    ask(agency)
    ask(agency, code=Code.DUPLICATE)
    ask(agency, by="KYC")
    account = agency.state.get(ACCOUNTS, agency.ids["AGT"])
    assert account is not None
    assert account.status is AccountStatus.CLOSED
    with pytest.raises(Inadmissible) as caught:
        agency.act("AGT", CashWithdraw(CASH, 1, ORDER))
    assert caught.value.code is Code.ACCOUNT_STATE
    ask(agency, by="KYC", code=Code.STATE)
    agency.deposit("AGT", 1, code=Code.STATE)


def test_what_came_since_keeps_it_open(agency: Agency) -> None:
    ask(agency)
    agency.deposit("AGT", 1)
    ask(agency, by="KYC", code=Code.STATE)


def test_who_is_still_owed_a_coupon_stays_open() -> None:
    """All its units were moved by a court while the coupon was unpaid; it would have been paid to a closed account."""
    council = Council(rate_ppm=50_000)
    pay = council.product_terms(council.note).start_of(FIRST_PAY)
    council.act("REG", AccountFreeze(council.ids["ISS"], None, 0, ORDER, None))
    council.advance(pay)
    council.decide(ForcedTransfer(council.ids["SAM"], council.ids["BEN"], council.note, 60, ()))
    assert (council.figures("SAM"), council.holds("SAM")) == ((0, 0, 0), (0, 0))
    council.act("SAM", AccountClose(council.ids["SAM"]), purpose=MANAGE, code=Code.STATE)
    ((freeze, _),) = council.state.scan(FREEZES)
    council.act("REG", AccountUnfreeze(freeze, ORDER))
    council.deposit("ISS", 1)
    council.block()
    # 6,000.00 × 5 % × 91 / 365 = 74.7945
    assert council.figures("SAM") == (74_79, 0, 0)
    council.act("SAM", CashWithdraw(CASH, 74_79, ORDER))
    ((withdrawal, _),) = council.state.scan(WITHDRAWALS)
    council.act("BANK", CashWithdrawResult(withdrawal, True, "out", ""))
    council.act("SAM", AccountClose(council.ids["SAM"]), purpose=MANAGE)


def test_nothing_held_open_locked_or_owed(agency: Agency) -> None:
    for name in ("BEN", "SAM", "ISS", "FEE", "BANK", "REG"):
        ask(agency, name, name, code=Code.STATE)
    offered = agency.grant("AGT", "BEN")
    ask(agency, code=Code.STATE)
    agency.act("BEN", EntrustDecline(offered), purpose=MANAGE)
    agency.act("REG", AccountFreeze(agency.ids["AGT"], None, 0, ORDER, None))
    ask(agency, code=Code.FROZEN)
    ((suffix, _),) = agency.state.scan(FREEZES_BY_ACCOUNT, agency.ids["AGT"])
    agency.act("REG", AccountUnfreeze(suffix[32:], ORDER))
    ask(agency)

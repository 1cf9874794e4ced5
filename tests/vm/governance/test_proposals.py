"""Proposals: who may make and approve them, what counts, when they end."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from otcnode.crypto import sha256
from otcnode.errors import Code, Inadmissible
from otcnode.genesis import KeyPurpose, Role
from otcnode.vm.accounts.operations import AccountFreeze, AccountRecover, AccountRecoverApprove, NewKey
from otcnode.vm.accounts.records import ACCOUNTS, Thresholds
from otcnode.vm.context import paused
from otcnode.vm.governance.events import AccessLogged
from otcnode.vm.governance.operations import AccessLog, GovernanceApprove, GovernancePropose
from otcnode.vm.governance.records import (
    ACCESS_LOG,
    CashCorrect,
    Direction,
    ForcedTransfer,
    MarketPause,
    ParameterChange,
    ParameterSet,
    ProposalStatus,
    RoleSet,
)
from tests.vm.accounts.agency import MANAGE
from tests.vm.governance.council import PAPER, Council
from tests.vm.ledger import CASH, DAY_MS, key_of

S = ProposalStatus
PAUSE = MarketPause(True)


def test_two_organisations_execute_in_the_second_ones_transaction(council: Council) -> None:
    name = council.put_forward(PAUSE)
    assert council.proposal_status(name) is S.PROPOSED
    assert not paused(council.state)
    council.approve(name, "REG", Code.FOUR_EYES)
    council.approve(name, "LIST")
    assert council.proposal_status(name) is S.EXECUTED
    assert paused(council.state)
    organisations = [approval.organisation for approval in council.proposal_record(name).approvals]
    assert len(set(organisations)) == 2


def test_another_account_of_the_same_organisation_is_not_another_pair_of_eyes(council: Council) -> None:
    state = council.state
    listing, regulator = (state.get(ACCOUNTS, council.ids[who]) for who in ("LIST", "REG"))
    assert listing is not None and regulator is not None
    state.put(ACCOUNTS, council.ids["LIST"], replace(listing, organisation=regulator.organisation))
    council.view.write(state.writes())
    name = council.put_forward(PAUSE)
    council.approve(name, "LIST", Code.FOUR_EYES)


def test_who_may_decide_what(council: Council) -> None:
    council.put_forward(PAUSE, "BEN", Code.ROLE)
    council.put_forward(PAUSE, "ISS", Code.ROLE)
    council.put_forward(PAUSE, "BANK", Code.NOT_PARTY)
    correction = CashCorrect(council.ids["BEN"], CASH, 1, Direction.RAISE)
    council.approve(council.put_forward(correction, "BANK"), "REG")
    transfer = ForcedTransfer(council.ids["SAM"], council.ids["BEN"], council.note, 1, ())
    council.put_forward(transfer, "LIST", Code.NOT_PARTY)
    name = council.put_forward(transfer, "REG")
    council.approve(name, "KYC", Code.NOT_PARTY)
    council.approve(name, "RCV")


def test_a_proposal_expires_after_seven_days_to_the_millisecond(council: Council) -> None:
    late, later = council.put_forward(PAUSE), council.put_forward(MarketPause(True))
    expires_at = council.proposal_record(late).expires_at
    assert expires_at == council.now - 1 + 7 * DAY_MS
    council.approve(late, "LIST", at=expires_at - 1)
    council.approve(later, "LIST", code=Code.STATE)
    council.block(at=council.proposal_record(later).expires_at)
    assert council.proposal_status(later) is S.EXPIRED
    council.approve(later, "LIST", Code.EXPIRED)


def test_an_approval_that_cannot_be_executed_does_not_count_and_can_be_repeated(council: Council) -> None:
    sam = council.ids["SAM"]
    name = council.put_forward(CashCorrect(sam, CASH, 10, Direction.LOWER))
    available = council.figures("SAM")[0]
    assert available == 0
    council.approve(name, code=Code.LACK_CASH)
    assert len(council.proposal_record(name).approvals) == 1
    council.deposit("SAM", 10)
    council.approve(name)
    assert council.figures("SAM") == (0, 0, 0)


def test_more_organisations_can_be_asked_for_but_never_one_and_never_more_than_there_are(council: Council) -> None:
    def approvals(number: int) -> ParameterSet:
        return ParameterSet((ParameterChange("governance_approvals", number),))

    council.put_forward(approvals(1), code=Code.FIELD)
    council.put_forward(approvals(7), code=Code.FIELD)
    council.decide(approvals(3))
    name = council.put_forward(PAUSE)
    council.approve(name, "LIST")
    assert council.proposal_status(name) is S.PROPOSED
    council.approve(name, "KYC")
    assert council.proposal_status(name) is S.EXECUTED


def test_an_approval_whose_role_is_gone_does_not_count(council: Council) -> None:
    name = council.put_forward(PAUSE, "LIST")
    council.decide(RoleSet(council.ids["LIST"], ()))
    council.approve(name, "KYC")
    assert council.proposal_status(name) is S.PROPOSED
    council.approve(name, "FRZ")
    assert council.proposal_status(name) is S.EXECUTED


def test_a_frozen_desk_does_not_govern(council: Council) -> None:
    council.act("REG", AccountFreeze(council.ids["LIST"], None, 0, PAPER, None))
    council.put_forward(PAUSE, "LIST", Code.FROZEN)
    council.approve(council.put_forward(PAUSE), "LIST", Code.FROZEN)


def test_a_proposal_says_why(council: Council) -> None:
    council.act("REG", GovernancePropose(PAUSE, "", PAPER), purpose=MANAGE, code=Code.FIELD)
    council.approve(sha256(b"none"), code=Code.NOT_FOUND)


def recovered(council: Council) -> bytes:
    name = council.put_forward(PAUSE)
    keys = tuple(NewKey(purpose, key_of("REG/new", purpose).public) for purpose in KeyPurpose)
    operation = AccountRecover(council.ids["REG"], keys, Thresholds(1, 1, 1), bytes(32), PAPER)
    receipt = council.act("RCV", operation)
    recovery = next(event.recovery for event in receipt.events if hasattr(event, "recovery"))
    council.decide(RoleSet(council.ids["FRZ"], (Role.REGULATOR,)), first="LIST", second="KYC")
    council.act("FRZ", AccountRecoverApprove(recovery))
    council.advance(council.now + DAY_MS)
    return name


def executed(council: Council) -> bytes:
    return council.decide(PAUSE)[0]


def expired(council: Council) -> bytes:
    name = council.put_forward(PAUSE)
    council.advance(council.proposal_record(name).expires_at)
    return name


WAYS: dict[ProposalStatus, Callable[[Council], bytes]] = {
    S.PROPOSED: lambda council: council.put_forward(PAUSE),
    S.EXECUTED: executed,
    S.EXPIRED: expired,
    S.CANCELLED: recovered,
}
CODES = {S.PROPOSED: Code.OK, S.EXPIRED: Code.EXPIRED}


@pytest.mark.parametrize("status", S)
def test_approving_in_every_status(council: Council, status: ProposalStatus) -> None:
    name = WAYS[status](council)
    before = council.proposal_record(name)
    assert before.status is status
    council.approve(name, "LIST", CODES.get(status, Code.STATE))
    assert council.proposal_status(name) is (S.EXECUTED if status is S.PROPOSED else status)
    if status is not S.PROPOSED:
        assert council.proposal_record(name) == before
        council.block(at=council.now + 10 * DAY_MS)
        assert council.proposal_record(name) == before


def test_governance_is_signed_with_manage_keys(council: Council) -> None:
    with pytest.raises(Inadmissible) as caught:
        council.act("REG", GovernanceApprove(PAPER))
    assert caught.value.code is Code.KEY_PURPOSE


def test_access_is_logged_by_the_regulator_alone(council: Council) -> None:
    item = sha256(b"contract")
    council.act("LIST", AccessLog(item, "audit", PAPER), code=Code.ROLE)
    council.act("REG", AccessLog(item, "", PAPER), code=Code.FIELD)
    receipt = council.act("REG", AccessLog(item, "audit", PAPER))
    (event,) = receipt.events
    assert isinstance(event, AccessLogged)
    record = council.state.get(ACCESS_LOG, item + event.entry)
    assert record is not None
    assert (record.regulator, record.reason, record.logged_at) == (council.ids["REG"], "audit", council.now)

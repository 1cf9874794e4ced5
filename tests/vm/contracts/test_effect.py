"""When a signed contract takes effect: at once, at a time, after cooling off, by a call, or never."""

from __future__ import annotations

import pytest

from otcnode.errors import Code, Inadmissible
from otcnode.genesis import KeyPurpose
from otcnode.vm.contracts import binding
from otcnode.vm.contracts.events import ContractAcceded
from otcnode.vm.contracts.operations import ContractAccede, ContractCallback, ContractRescind
from otcnode.vm.contracts.records import AtTime, ContractKind, ContractStatus
from tests.vm.contracts.desk import HOUR_MS, PRODUCT, SIGN, Desk, slot_of
from tests.vm.ledger import DAY_MS, EVIDENCE

S = ContractStatus
AROUND = [(-1, S.SIGNED), (0, S.EFFECTIVE), (1, S.EFFECTIVE)]


@pytest.mark.parametrize(("late_ms", "status"), AROUND)
def test_effective_at_a_time(desk: Desk, late_ms: int, status: ContractStatus) -> None:
    at = desk.now + 3 * DAY_MS
    name = desk.bring_to(desk.create(effective=AtTime(at)), S.SIGNED)
    result = desk.block(at=at + late_ms)
    assert desk.status(name) is status
    assert desk.contract(name).effective_at == (at if status is S.EFFECTIVE else None)
    assert len(result.automatic) == (1 if status is S.EFFECTIVE else 0)


def test_effective_at_a_time_that_has_passed_is_effective_at_once(desk: Desk) -> None:
    name = desk.effective(effective=AtTime(desk.now))
    assert desk.contract(name).effective_at == desk.now
    assert desk.block(at=desk.now + DAY_MS).automatic == ()


def test_a_time_that_comes_while_signing_does_not_hurry_anybody(desk: Desk) -> None:
    at = desk.now + HOUR_MS // 2
    name = desk.bring_to(desk.create(effective=AtTime(at)), S.SIGNING)
    desk.block(at=at)
    assert desk.status(name) is S.SIGNING
    desk.bring_to(name, S.EFFECTIVE)


@pytest.mark.parametrize(("late_ms", "status"), AROUND)
def test_cooling_off_ends_by_itself(desk: Desk, late_ms: int, status: ContractStatus) -> None:
    name = desk.bring_to(desk.created(desk.act("ISS", desk.subscription(DAY_MS, False))), S.SIGNED)
    signed_at = desk.contract(name).signed_at
    assert signed_at == desk.now
    desk.block(at=signed_at + DAY_MS + late_ms)
    assert desk.status(name) is status


def test_no_cooling_off_is_effective_with_the_last_signature(desk: Desk) -> None:
    name = desk.created(desk.act("ISS", desk.subscription(0, False)))
    desk.bring_to(name, S.EFFECTIVE)
    desk.act("ANN", ContractRescind(name), Code.EXPIRED)


@pytest.mark.parametrize(("late_ms", "code"), [(-1, Code.OK), (0, Code.EXPIRED), (1, Code.EXPIRED)])
def test_rescinding_ends_with_the_period(desk: Desk, late_ms: int, code: Code) -> None:
    name = desk.bring_to(desk.created(desk.act("ISS", desk.subscription(DAY_MS, False))), S.SIGNED)
    desk.act("ANN", ContractRescind(name), code, at=desk.now + DAY_MS + late_ms)
    assert desk.status(name) is (S.RESCINDED if code is Code.OK else S.EFFECTIVE)
    assert desk.rescinded == ([name] if code is Code.OK else [])
    assert desk.block(at=desk.now + DAY_MS).automatic == ()


@pytest.mark.parametrize(("late_ms", "code"), [(-1, Code.COOLING_OFF_OPEN), (0, Code.OK), (1, Code.OK)])
def test_the_call_comes_after_the_period(desk: Desk, late_ms: int, code: Code) -> None:
    name = desk.bring_to(desk.created(desk.act("ISS", desk.subscription(DAY_MS, True))), S.SIGNED)
    at = desk.now + DAY_MS + late_ms
    desk.act("CALL", ContractCallback(name, EVIDENCE), code, at=at, purpose=KeyPurpose.TRADE)
    assert desk.last is not None and desk.last.automatic == ()
    assert desk.status(name) is (S.EFFECTIVE if code is Code.OK else S.SIGNED)


def test_with_a_callback_the_investor_may_rescind_however_late(desk: Desk) -> None:
    name = desk.bring_to(desk.created(desk.act("ISS", desk.subscription(DAY_MS, True))), S.SIGNED)
    desk.act("ANN", ContractRescind(name), at=desk.now + 30 * DAY_MS)
    assert desk.status(name) is S.RESCINDED
    desk.do("CALL", ContractCallback(name, EVIDENCE), code=Code.STATE)


@pytest.mark.parametrize("call_first", [True, False])
def test_of_callback_and_rescission_in_one_block_the_first_wins(desk: Desk, call_first: bool) -> None:
    name = desk.bring_to(desk.created(desk.act("ISS", desk.subscription(DAY_MS, True))), S.SIGNED)
    desk.block(at=desk.now + DAY_MS)
    call = desk.sign("CALL", ContractCallback(name, EVIDENCE))
    rescission = desk.sign("ANN", ContractRescind(name), purpose=SIGN)
    result = desk.block(*((call, rescission) if call_first else (rescission, call)))
    assert [receipt.code for receipt in result.receipts] == [Code.OK, Code.STATE]
    assert desk.status(name) is (S.EFFECTIVE if call_first else S.RESCINDED)


def test_only_an_investor_who_signed_rescinds(desk: Desk) -> None:
    name = desk.bring_to(desk.created(desk.act("ISS", desk.subscription(DAY_MS, False))), S.SIGNED)
    for other in ("ISS", "BEN"):
        desk.act(other, ContractRescind(name), Code.NOT_PARTY)
    waiting = desk.bring_to(desk.create(effective=AtTime(desk.now + DAY_MS)), S.SIGNED)
    desk.act("ANN", ContractRescind(waiting), Code.STATE)
    no_product = desk.create(kind=ContractKind.CUSTODY, subject=None)
    desk.act("ANN", ContractRescind(no_product), Code.NOT_PARTY)


def test_who_sold_or_signed_does_not_make_the_call(desk: Desk) -> None:
    draft = desk.subscription(DAY_MS, True, salesperson=desk.ids["CALL"])
    sold = desk.bring_to(desk.created(desk.act("ISS", draft)), S.SIGNED)
    desk.do("CALL", ContractCallback(sold, EVIDENCE), code=Code.FOUR_EYES)
    slots = (slot_of(desk.ids["ISS"]), slot_of(desk.ids["CALL"]), slot_of(desk.ids["ANN"]))
    signed = desk.bring_to(desk.created(desk.act("ISS", desk.subscription(DAY_MS, True, slots=slots))), S.SIGNED)
    desk.do("CALL", ContractCallback(signed, EVIDENCE), code=Code.FOUR_EYES)


def test_a_call_is_for_its_desk_and_for_contracts_that_need_one(desk: Desk) -> None:
    name = desk.bring_to(desk.created(desk.act("ISS", desk.subscription(DAY_MS, False))), S.SIGNED)
    desk.do("KYC", ContractCallback(name, EVIDENCE), code=Code.ROLE)
    desk.do("CALL", ContractCallback(name, EVIDENCE), code=Code.STATE)
    desk.do("CALL", ContractCallback(PRODUCT, EVIDENCE), code=Code.NOT_FOUND)


def test_a_frozen_investor_may_rescind(desk: Desk) -> None:
    name = desk.bring_to(desk.created(desk.act("ISS", desk.subscription(DAY_MS, False))), S.SIGNED)
    desk.freeze("ANN")
    desk.act("ANN", ContractRescind(name))
    assert desk.status(name) is S.RESCINDED


def test_a_contract_whose_time_has_come_is_effective_since_then(desk: Desk) -> None:
    at = desk.now + 3 * DAY_MS
    name = desk.bring_to(desk.create(effective=AtTime(at)), S.SIGNED)
    desk.block(at=at - 1)
    assert not binding.contract_is_effective(desk.context(), name)
    desk.block(at=at + DAY_MS)
    context = desk.context()
    assert binding.contract_is_effective(context, name)
    assert binding.in_force(context, name)[1].effective_at == at


def behind(desk: Desk, at: int) -> None:
    """Expiries that keep the queue busy for the blocks to come at `at`, before what is due then; transactions wait."""
    for _ in range(3):
        desk.create(confirm_by=at - 1, sign_by=at - 1)
    desk.slow_down()


def test_who_joins_rules_whose_time_has_come_comes_after_what_is_due_before(desk: Desk) -> None:
    at = desk.now + HOUR_MS // 2
    rules = desk.create(kind=ContractKind.MASTER, open=True, subject=None, effective=AtTime(at))
    desk.bring_to(rules, S.SIGNED)
    behind(desk, at)
    joining = desk.sign("CAT", ContractAccede(rules), purpose=SIGN, valid_until=at + 1)
    with pytest.raises(Inadmissible) as refused:
        desk.begin(at).apply(joining)
    assert refused.value.code is Code.STATE
    assert desk.catch_up(at) == 3
    result = desk.block(joining, at=at)
    assert [entry.kind for entry in result.automatic] == ["contract.turn"]
    assert [type(event) for event in result.receipts[0].events] == [ContractAcceded]
    assert (desk.status(rules), desk.contract(rules).effective_at) == (S.EFFECTIVE, at)


@pytest.mark.parametrize(("late_ms", "code"), [(-1, Code.OK), (0, Code.EXPIRED)])
def test_a_busy_queue_lengthens_no_cooling_off(desk: Desk, late_ms: int, code: Code) -> None:
    name = desk.bring_to(desk.created(desk.act("ISS", desk.subscription(HOUR_MS, False))), S.SIGNED)
    signed_at = desk.now
    behind(desk, signed_at + HOUR_MS - 1)
    desk.act("ANN", ContractRescind(name), code, at=signed_at + HOUR_MS + late_ms)
    for _ in range(4):
        desk.block(at=signed_at + HOUR_MS)
    contract = desk.contract(name)
    assert contract.status is (S.RESCINDED if code is Code.OK else S.EFFECTIVE)
    assert contract.effective_at == (None if code is Code.OK else signed_at + HOUR_MS)

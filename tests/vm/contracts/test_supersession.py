"""Amending and terminating: by a new contract of all SIGNERs; references follow to the contract in force."""

from __future__ import annotations

from otcnode.errors import Code
from otcnode.vm.contracts import binding, lifecycle
from otcnode.vm.contracts.drafting import SUCCESSORS_PER_CREATOR_MAX
from otcnode.vm.contracts.operations import ContractAccede, ContractSubmit, ContractVoid
from otcnode.vm.contracts.records import SUCCESSORS, AtTime, ContractKind, ContractStatus
from otcnode.vm.due import DUE
from otcnode.vm.registry import DUE_WEIGHTS
from tests.vm.contracts.desk import HOUR_MS, Desk, slot_of
from tests.vm.ledger import DAY_MS

S = ContractStatus


def test_an_amendment_takes_the_place_of_what_it_amends(desk: Desk) -> None:
    old = desk.effective()
    new = desk.bring_to(desk.amendment(old), S.EFFECTIVE)
    contract = desk.contract(new)
    assert (contract.kind, contract.nature) == (ContractKind.AMENDMENT, ContractKind.TRANSFER)
    assert (contract.subject, contract.root) == (desk.contract(old).subject, old)
    assert (desk.status(old), desk.contract(old).superseded_by) == (S.AMENDED, new)
    newer = desk.bring_to(desk.amendment(new), S.EFFECTIVE)
    assert desk.contract(newer).root == old
    for name in (old, new, newer):
        assert binding.in_force(desk.context(), name)[0] == newer


def test_a_termination_ends_it_and_nothing_amends_a_termination(desk: Desk) -> None:
    old = desk.effective()
    end = desk.bring_to(desk.amendment(old, kind=ContractKind.TERMINATION), S.EFFECTIVE)
    assert desk.status(old) is S.TERMINATED
    assert binding.in_force(desk.context(), old)[0] == old
    slots = desk.creation().slots
    again = desk.creation(kind=ContractKind.AMENDMENT, supersedes=end, subject=None, slots=slots)
    desk.act("ISS", again, Code.FIELD)
    desk.act("ISS", desk.creation(kind=ContractKind.AMENDMENT, supersedes=old, subject=None, slots=slots), Code.STATE)


def test_only_what_is_effective_can_be_superseded_and_only_by_its_parties(desk: Desk) -> None:
    old = desk.create()
    draft = desk.creation(kind=ContractKind.AMENDMENT, supersedes=old, subject=None)
    desk.act("BEN", draft, Code.NOT_PARTY)
    desk.act("ANN", draft, Code.STATE)
    desk.bring_to(old, S.EFFECTIVE)
    draft = desk.creation(kind=ContractKind.AMENDMENT, supersedes=old, subject=None)
    desk.act("ANN", draft)


def test_every_original_signer_has_to_sign(desk: Desk) -> None:
    old = desk.effective()
    ids = desk.ids
    for slots in ((slot_of(ids["ISS"]),), (slot_of(ids["ISS"]), slot_of(ids["BEN"]))):
        draft = desk.creation(kind=ContractKind.AMENDMENT, supersedes=old, subject=None, slots=slots)
        desk.act("ISS", draft, Code.FIELD)
    joined = (slot_of(ids["BEN"]), slot_of(ids["ISS"]), slot_of(ids["ANN"]))
    desk.bring_to(desk.amendment(old, slots=joined), S.EFFECTIVE)
    assert desk.status(old) is S.AMENDED


def test_an_amendment_is_about_the_same_product(desk: Desk) -> None:
    old = desk.effective(kind=ContractKind.MASTER, subject=None)
    draft = desk.creation(kind=ContractKind.AMENDMENT, supersedes=old)
    desk.act("ISS", draft, Code.FIELD)


def test_of_two_amendments_the_first_effective_wins(desk: Desk) -> None:
    old = desk.effective()
    first, second, third = desk.amendment(old), desk.amendment(old), desk.amendment(old)
    desk.bring_to(second, S.CONFIRMING)
    desk.bring_to(third, S.SIGNING)
    assert desk.contract(old).successors_open == 3
    desk.bring_to(first, S.EFFECTIVE)
    assert (desk.status(second), desk.status(third)) == (S.VOIDED, S.VOIDED)
    assert desk.contract(old).successors_open == 0
    assert desk.state.scan(SUCCESSORS, old) == []
    desk.put_signature(third, 0, Code.STATE)
    assert desk.context().account(desk.ids["ISS"]).open_items == 0
    assert desk.block(at=desk.now + DAY_MS).automatic == ()


def test_an_amendment_that_waits_for_its_time_can_lose_too(desk: Desk) -> None:
    old = desk.effective()
    waiting = desk.bring_to(desk.amendment(old, effective=AtTime(desk.now + DAY_MS)), S.SIGNED)
    desk.bring_to(desk.amendment(old), S.EFFECTIVE)
    assert desk.status(waiting) is S.VOIDED
    assert desk.block(at=desk.now + 2 * DAY_MS).automatic == ()


def test_what_is_fulfilled_cannot_be_amended_any_more(desk: Desk) -> None:
    old = desk.effective()
    new = desk.bring_to(desk.amendment(old, effective=AtTime(desk.now + DAY_MS)), S.SIGNED)
    context = desk.context()
    binding.fulfil(context, old)
    assert binding.in_force(context, old)[1].status is S.FULFILLED
    assert binding.in_force(context, new)[1].status is S.VOIDED


def test_a_voided_amendment_leaves_the_contract_as_it_was(desk: Desk) -> None:
    old = desk.effective()
    before = desk.contract(old)
    new = desk.amendment(old)
    desk.act("ISS", ContractVoid(new, "not agreed"))
    assert desk.contract(old) == before


def test_open_amendments_are_bounded_per_creator(desk: Desk) -> None:
    old = desk.effective()
    names = [desk.amendment(old) for _ in range(SUCCESSORS_PER_CREATOR_MAX)]
    draft = desk.creation(kind=ContractKind.AMENDMENT, supersedes=old, subject=None)
    desk.act("ISS", draft, Code.LIMIT)
    desk.act("ANN", draft)
    desk.act("ISS", ContractVoid(names[0], "make room"))
    desk.act("ISS", draft)


def test_acceded_parties_stay_bound_by_the_amended_rules(desk: Desk) -> None:
    rules = desk.effective(kind=ContractKind.MASTER, open=True, subject=None, slots=(slot_of(desk.ids["LIST"]),))
    for name in ("ANN", "BEN"):
        desk.act(name, ContractAccede(rules))
    desk.act("ANN", ContractAccede(rules), Code.DUPLICATE)
    desk.act("LIST", ContractAccede(rules), Code.DUPLICATE)
    amended = desk.bring_to(desk.amendment(rules, by="LIST"), S.EFFECTIVE)
    desk.act("CAT", ContractAccede(rules), Code.STATE)
    desk.act("ANN", ContractAccede(amended), Code.DUPLICATE)
    desk.act("CAT", ContractAccede(amended))
    contract = binding.in_force(desk.context(), rules)[1]
    for name, bound in (("ANN", True), ("BEN", True), ("CAT", True), ("LIST", True), ("BANK", False)):
        assert binding.binds(desk.context(), contract, desk.ids[name]) is bound


def test_acceding_is_for_open_masters_in_effect(desk: Desk) -> None:
    closed = desk.effective(kind=ContractKind.MASTER, subject=None)
    desk.act("BEN", ContractAccede(closed), Code.FIELD)
    pending = desk.create(kind=ContractKind.MASTER, open=True, subject=None)
    desk.act("BEN", ContractAccede(pending), Code.STATE)
    desk.bring_to(pending, S.EFFECTIVE)
    desk.freeze("BEN")
    desk.act("BEN", ContractAccede(pending), Code.FROZEN)
    desk.act("CAT", ContractAccede(desk.ids["CAT"]), Code.NOT_FOUND)


def test_overdue_amendments_take_effect_in_the_order_of_their_times(desk: Desk) -> None:
    """In one block both, the earlier one wins."""
    old = desk.effective()
    late = desk.bring_to(desk.amendment(old, effective=AtTime(desk.now + 2 * DAY_MS)), S.SIGNED)
    early = desk.bring_to(desk.amendment(old, effective=AtTime(desk.now + DAY_MS)), S.SIGNED)
    desk.block(at=desk.now + 3 * DAY_MS)
    assert [desk.status(each) for each in (old, early, late)] == [S.AMENDED, S.EFFECTIVE, S.VOIDED]


def test_a_rival_that_was_late_expired_and_was_not_voided(desk: Desk) -> None:
    """In whatever order the queue has the two of one moment, the same contract ends in the same way."""
    old = desk.effective()
    rival = desk.amendment(old)
    winner = desk.bring_to(desk.amendment(old, effective=AtTime(desk.now + DAY_MS)), S.SIGNED)
    deadline = desk.contract(rival).confirm_by
    desk.block(at=desk.now + 2 * DAY_MS)
    assert desk.status(winner) is S.EFFECTIVE
    assert (desk.status(rival), desk.contract(rival).ended_at) == (S.EXPIRED, deadline)
    desk.act("ISS", ContractSubmit(rival), Code.EXPIRED, at=desk.now + 2 * HOUR_MS)


def test_an_amendment_in_the_queue_weighs_what_it_touches(desk: Desk) -> None:
    old = desk.effective()
    desk.amendment(old)
    amendment = desk.bring_to(desk.amendment(old, effective=AtTime(desk.now + DAY_MS)), S.SIGNED)
    alone = desk.bring_to(desk.create(effective=AtTime(desk.now + DAY_MS)), S.SIGNED)
    items = {item.item: item for _, item in desk.state.scan(DUE) if item.kind == lifecycle.TURN}
    weigh = DUE_WEIGHTS[lifecycle.TURN]
    assert (weigh(desk.state, items[amendment]), weigh(desk.state, items[alone])) == (3, 1)

"""Drafting, confirming and signing: the way of a contract to its effect, and every refusal on it."""

from __future__ import annotations

import pytest

from otcnode.crypto import SigningKey, sha256
from otcnode.errors import Code, Inadmissible
from otcnode.genesis import KeyPurpose
from otcnode.vm.accounts.events import AccountApplied
from otcnode.vm.accounts.operations import AccountApply, AccountReview, KeyRevoke, NewKey
from otcnode.vm.accounts.records import AccountKind, Thresholds
from otcnode.vm.context import PAUSE, Pause
from otcnode.vm.contracts.events import ContractChanged, ContractConfirmed, ContractSlotSigned
from otcnode.vm.contracts.operations import (
    ContractReject,
    ContractRevise,
    ContractSubmit,
    ContractVoid,
    NewSlot,
)
from otcnode.vm.contracts.preimages import terms_hash
from otcnode.vm.contracts.records import (
    CONTRACTS,
    CONTRACTS_BY_PARTY,
    ContractKind,
    ContractStatus,
    CoolingOff,
    SlotRole,
    Term,
)
from otcnode.vm.keys import SINGLE
from tests.vm.contracts.desk import DOCUMENT, HOUR_MS, PRODUCT, SIGN, TERMS, Desk, second_key, slot_of
from tests.vm.ledger import START_MS, key_of

S = ContractStatus
NEW_TERMS = (Term("amount", 2_000_000), Term("purpose", "bridge loan"))


def statuses(receipt: object) -> list[ContractStatus]:
    return [event.status for event in receipt.events if isinstance(event, ContractChanged)]  # type: ignore[attr-defined]


# the way


def test_three_parties_confirm_and_sign_in_order(desk: Desk) -> None:
    ids = desk.ids
    slots = (slot_of(ids["ISS"], 0), slot_of(ids["BANK"], 1), slot_of(ids["LIST"], 2))
    name = desk.create(kind=ContractKind.ISSUANCE, subject=None, slots=slots)
    assert desk.status(name) is S.DRAFT and desk.contract(name).version == 1
    desk.act("ISS", ContractSubmit(name))
    for slot in (2, 0):
        desk.confirm(name, slot)
    assert desk.contract(name).waiting_for == (1,)
    receipt = desk.confirm(name, 1)
    assert statuses(receipt) == [S.SIGNING]
    assert [type(event) for event in receipt.events] == [ContractConfirmed, ContractChanged]
    desk.put_signature(name, 1, Code.SIGN_TURN)
    desk.put_signature(name, 0)
    desk.put_signature(name, 2, Code.SIGN_TURN)
    assert desk.contract(name).waiting_for == (1,)
    desk.put_signature(name, 1)
    receipt = desk.put_signature(name, 2)
    assert statuses(receipt) == [S.SIGNED, S.EFFECTIVE]
    contract = desk.contract(name)
    assert contract.signing_at is not None
    assert contract.signing_at < (contract.signed_at or 0) == contract.effective_at == desk.now


def test_equal_order_signs_in_any_order_and_copies_block_nobody(desk: Desk) -> None:
    ids = desk.ids
    slots = (
        slot_of(ids["ISS"], 5),
        slot_of(ids["ANN"], 5),
        NewSlot(ids["BEN"], SlotRole.APPROVER, 0, 0),
        NewSlot(ids["CAT"], SlotRole.CC, 0, 0),
    )
    name = desk.create(slots=slots)
    desk.act("ISS", ContractSubmit(name))
    assert desk.contract(name).waiting_for == (0, 1, 2)
    desk.confirm(name, 3, Code.NOT_PARTY)
    for slot in (0, 1, 2):
        desk.confirm(name, slot)
    assert desk.contract(name).waiting_for == (0, 1)
    desk.act("BEN", desk.signature(name, 2), Code.NOT_PARTY)
    desk.act("CAT", desk.signature(name, 3), Code.NOT_PARTY)
    desk.put_signature(name, 1)
    desk.put_signature(name, 0)
    assert desk.status(name) is S.EFFECTIVE


def test_a_company_signs_with_two_distinct_keys(desk: Desk) -> None:
    seal = desk.add_seal("ISS")
    third = key_of("ISS", KeyPurpose.TRADE)
    slots = (slot_of(desk.ids["ISS"], 0, 2), slot_of(desk.ids["ANN"], 1))
    name = desk.bring_to(desk.create(slots=slots), S.SIGNING)
    desk.put_signature(name, 0)
    desk.put_signature(name, 0, Code.ALREADY_SIGNED)
    desk.put_signature(name, 1, Code.SIGN_TURN)
    desk.act("ISS", desk.signature(name, 0, third), Code.KEY_PURPOSE)
    desk.act("ISS", desk.signature(name, 0, seal))
    assert desk.contract(name).slots[0].keys_signed == 2
    desk.act("ISS", desk.signature(name, 0, third), Code.ALREADY_SIGNED)
    desk.put_signature(name, 1)
    assert desk.status(name) is S.EFFECTIVE
    desk.put_signature(name, 1, Code.ALREADY_SIGNED)


def test_both_keys_of_a_slot_in_one_transaction(desk: Desk) -> None:
    seal = desk.add_seal("ISS")
    slots = (slot_of(desk.ids["ISS"], 0, 2), slot_of(desk.ids["ANN"], 1))
    name = desk.bring_to(desk.create(slots=slots), S.SIGNING)
    both = desk.sign("ISS", desk.signature(name, 0), desk.signature(name, 0, seal), purpose=SIGN)
    result = desk.block(both)
    assert [receipt.code for receipt in result.receipts] == [Code.OK]
    signed = [event for event in result.events if isinstance(event, ContractSlotSigned)]
    assert [event.key for event in signed] == [key_of("ISS", SIGN).public, seal.public]


def test_everybody_named_finds_the_contract(desk: Desk) -> None:
    slots = (slot_of(desk.ids["ANN"]), NewSlot(desk.ids["CAT"], SlotRole.CC, 0, 0))
    name = desk.create(slots=slots)
    for party in ("ISS", "ANN", "CAT"):
        found = desk.state.scan(CONTRACTS_BY_PARTY, desk.ids[party])
        assert [suffix[32:] for suffix, _ in found] == [name]
    assert desk.state.scan(CONTRACTS_BY_PARTY, desk.ids["BEN"]) == []


def test_a_contract_is_open_for_its_creator_until_it_is_effective_or_ended(desk: Desk) -> None:
    def count() -> int:
        return desk.context().account(desk.ids["ISS"]).open_items

    first = desk.create()
    second = desk.create()
    assert count() == 2
    desk.bring_to(first, S.EFFECTIVE)
    assert count() == 1
    desk.act("ISS", ContractVoid(second, "not needed"))
    assert count() == 0


# creating


def test_creation_refuses_what_does_not_exist(desk: Desk) -> None:
    nobody = sha256(b"nobody")
    for changes in (
        {"slots": (slot_of(nobody),)},
        {"salesperson": nobody},
        {"subject": nobody},
        {"supersedes": nobody, "kind": ContractKind.AMENDMENT},
    ):
        desk.act("ISS", desk.creation(**changes), Code.NOT_FOUND)


def test_creation_refuses_a_party_that_is_not_active(desk: Desk) -> None:
    pending = desk.apply_for("DAN")
    desk.act("ISS", desk.creation(slots=(slot_of(pending),)), Code.STATE)


@pytest.mark.parametrize(
    "changes",
    [
        {"open": True},
        {"subject": None},
        {"kind": ContractKind.SUBSCRIPTION, "subject": None},
        {"kind": ContractKind.AMENDMENT},
        {"kind": ContractKind.TERMINATION},
        {"terms": NEW_TERMS},
        {"terms": TERMS[::-1], "terms_hash": terms_hash(TERMS[::-1])},
        {"terms": TERMS[:1] * 2, "terms_hash": terms_hash(TERMS[:1] * 2)},
        {"confirm_by": START_MS},
        {"sign_by": START_MS + 1},
        {"effective": CoolingOff(2**63 - 1, False)},
        {"effective": CoolingOff(1, False), "kind": ContractKind.CUSTODY, "subject": None},
    ],
)
def test_creation_refuses_fields(desk: Desk, changes: dict[str, object]) -> None:
    desk.act("ISS", desk.creation(**changes), Code.FIELD)


def test_creation_refuses_slots(desk: Desk) -> None:
    iss, ann = desk.ids["ISS"], desk.ids["ANN"]
    for slots in (
        (NewSlot(iss, SlotRole.APPROVER, 0, 0),),
        (NewSlot(iss, SlotRole.CC, 0, 0),),
        (slot_of(iss, 0, 0),),
        (slot_of(iss), NewSlot(ann, SlotRole.APPROVER, 0, 1)),
        (slot_of(iss), slot_of(iss, 1)),
    ):
        desk.act("ISS", desk.creation(slots=slots), Code.FIELD)
    desk.act("ISS", desk.creation(slots=(slot_of(iss), NewSlot(iss, SlotRole.APPROVER, 0, 0))))


def test_cooling_off_needs_an_investor(desk: Desk) -> None:
    only_issuer = (slot_of(desk.ids["ISS"]),)
    desk.act("ISS", desk.subscription(HOUR_MS, False, slots=only_issuer), Code.FIELD)


def test_missing_fields_are_listed(desk: Desk) -> None:
    terms = (Term("amount", 0), Term("purpose", ""))
    draft = desk.creation(terms=terms, terms_hash=terms_hash(terms), required_fields=("rate", "purpose", "amount"))
    result = desk.block(desk.sign("ISS", draft, purpose=SIGN))
    assert result.receipts[0].code is Code.FIELDS_MISSING
    assert result.explanations[0] == "purpose, rate"


def test_confirm_by_one_millisecond_ahead_is_enough(desk: Desk) -> None:
    at = desk.now + 10
    desk.act("ISS", desk.creation(confirm_by=at, sign_by=at), Code.FIELD, at=at)
    at = desk.now + 10
    desk.act("ISS", desk.creation(confirm_by=at + 1, sign_by=at + 1), at=at)


# revising


def test_a_revision_clears_confirmations_and_outdates_them(desk: Desk) -> None:
    name = desk.bring_to(desk.create(), S.CONFIRMING)
    desk.confirm(name, 0)
    old_ann = desk.confirmation(name, 1)
    desk.act("ISS", ContractRevise(name, NEW_TERMS, terms_hash(NEW_TERMS), DOCUMENT))
    contract = desk.contract(name)
    assert (contract.version, contract.status, contract.waiting_for) == (2, S.CONFIRMING, (0, 1))
    desk.act("ANN", old_ann, Code.CONTRACT_VERSION)
    wrong_hash = desk.confirmation(name, 1)
    wrong_hash = type(wrong_hash)(name, 1, 2, terms_hash(TERMS))
    desk.act("ANN", wrong_hash, Code.CONTRACT_VERSION)
    desk.confirm(name, 1)
    desk.confirm(name, 1, Code.DUPLICATE)
    assert desk.status(name) is S.CONFIRMING
    desk.confirm(name, 0)
    assert desk.status(name) is S.SIGNING


def test_a_new_document_alone_is_a_revision_but_nothing_new_is_none(desk: Desk) -> None:
    name = desk.create()
    desk.act("ISS", ContractRevise(name, TERMS, terms_hash(TERMS), DOCUMENT), Code.FIELD)
    desk.act("ISS", ContractRevise(name, TERMS, terms_hash(NEW_TERMS), DOCUMENT), Code.FIELD)
    desk.act("ISS", ContractRevise(name, TERMS, terms_hash(TERMS), sha256(b"other document")))
    assert (desk.contract(name).version, desk.status(name)) == (2, S.DRAFT)


def test_a_revision_keeps_the_required_fields(desk: Desk) -> None:
    name = desk.create(required_fields=("purpose",))
    terms = TERMS[:1]
    desk.act("ISS", ContractRevise(name, terms, terms_hash(terms), DOCUMENT), Code.FIELDS_MISSING)


def test_the_text_is_immutable_once_all_confirmed(desk: Desk) -> None:
    name = desk.bring_to(desk.create(), S.SIGNING)
    before = desk.contract(name)
    desk.act("ISS", ContractRevise(name, NEW_TERMS, terms_hash(NEW_TERMS), DOCUMENT), Code.STATE)
    assert desk.contract(name) == before


# wrong party, wrong key, wrong signature


def test_only_the_creator_drives_the_draft(desk: Desk) -> None:
    name = desk.create()
    for operation in (
        ContractSubmit(name),
        ContractVoid(name, "why"),
        ContractRevise(name, NEW_TERMS, terms_hash(NEW_TERMS), DOCUMENT),
    ):
        desk.act("ANN", operation, Code.NOT_PARTY)
    desk.act("BEN", ContractReject(name, "why"), Code.NOT_PARTY)


def test_a_slot_is_its_accounts_own(desk: Desk) -> None:
    name = desk.bring_to(desk.create(), S.CONFIRMING)
    desk.act("BEN", desk.confirmation(name, 1), Code.NOT_PARTY)
    desk.act("ANN", desk.confirmation(name, 0), Code.NOT_PARTY)
    missing = type(desk.confirmation(name, 0))(name, 2, 1, desk.contract(name).terms_hash)
    desk.act("ANN", missing, Code.NOT_FOUND)
    for slot in (0, 1):
        desk.confirm(name, slot)
    desk.act("ANN", desk.signature(name, 0), Code.NOT_PARTY)


@pytest.mark.parametrize(
    "changes",
    [
        {"chain": bytes(32)},
        {"contract": bytes(32)},
        {"version": 2},
        {"terms_hash": bytes(32)},
        {"document": bytes(32)},
        {"slot": 1},
        {"principal": bytes(32)},
        {"entrustment": bytes(32)},
    ],
)
def test_a_signature_binds_everything(desk: Desk, changes: dict[str, object]) -> None:
    name = desk.bring_to(desk.create(), S.SIGNING)
    desk.act("ISS", desk.signature(name, 0, changes=changes), Code.AUTH)
    assert desk.contract(name).slots[0].keys_signed == 0
    desk.put_signature(name, 0)


def test_a_signature_is_made_by_a_live_signing_key_of_the_account(desk: Desk) -> None:
    seal = desk.add_seal("ISS")
    name = desk.bring_to(desk.create(), S.SIGNING)
    desk.act("ISS", desk.signature(name, 0, key_of("ANN", SIGN)), Code.AUTH)
    desk.do("ISS", KeyRevoke(seal.public), purpose=KeyPurpose.MANAGE)
    desk.act("ISS", desk.signature(name, 0, seal), Code.KEY_REVOKED)
    desk.act("ISS", desk.signature(name, 0, key_of("ISS", KeyPurpose.MANAGE)), Code.KEY_PURPOSE)


def test_a_signature_survives_the_revocation_of_its_key(desk: Desk) -> None:
    seal = desk.add_seal("ISS")
    name = desk.bring_to(desk.create(), S.SIGNING)
    desk.act("ISS", desk.signature(name, 0, seal))
    desk.do("ISS", KeyRevoke(seal.public), purpose=KeyPurpose.MANAGE)
    desk.put_signature(name, 1)
    assert desk.status(name) is S.EFFECTIVE


def test_refusals_of_a_signature_come_in_their_order(desk: Desk) -> None:
    """Each step takes one cause of refusal away; what is left is refused for the next."""
    name = desk.bring_to(desk.create(), S.SIGNING)
    wrong_key = desk.signature(name, 1, key_of("BEN", SIGN))
    wrong_version = type(wrong_key)(name, 1, 9, wrong_key.key, wrong_key.signature)
    desk.act("BEN", wrong_version, Code.NOT_PARTY)
    freeze = desk.freeze("ANN")
    desk.act("ANN", wrong_version, Code.FROZEN)
    desk.unfreeze(freeze)
    desk.act("ANN", wrong_version, Code.CONTRACT_VERSION)
    desk.act("ANN", wrong_key, Code.SIGN_TURN)
    desk.put_signature(name, 0)
    desk.act("ANN", wrong_key, Code.AUTH)
    desk.put_signature(name, 1)
    desk.act("ANN", wrong_version, Code.ALREADY_SIGNED)


def test_a_frozen_party_may_reject_and_void_but_not_confirm(desk: Desk) -> None:
    name = desk.bring_to(desk.create(), S.CONFIRMING)
    other = desk.create()
    for party in ("ANN", "ISS"):
        desk.freeze(party)
    desk.confirm(name, 1, Code.FROZEN)
    desk.act("ANN", ContractReject(name, "under investigation"))
    desk.act("ISS", ContractVoid(other, "under investigation"))
    assert (desk.status(name), desk.status(other)) == (S.REJECTED, S.VOIDED)


def test_replaying_a_step_changes_nothing(desk: Desk) -> None:
    name = desk.bring_to(desk.create(), S.SIGNING)
    signature = desk.signature(name, 0)
    desk.act("ISS", signature)
    before = desk.contract(name)
    desk.act("ISS", signature, Code.ALREADY_SIGNED)
    assert desk.contract(name) == before


# ending early


@pytest.mark.parametrize("status", [S.CONFIRMING, S.SIGNING])
def test_a_party_rejects_for_good(desk: Desk, status: ContractStatus) -> None:
    name = desk.bring_to(desk.create(), status)
    desk.act("ANN", ContractReject(name, ""), Code.FIELD)
    desk.act("ANN", ContractReject(name, "too dear"))
    assert (desk.status(name), desk.contract(name).reason) == (S.REJECTED, "too dear")
    desk.act("ANN", ContractReject(name, "again"), Code.STATE)
    desk.act("ISS", ContractVoid(name, "again"), Code.STATE)


def test_collected_signatures_are_void_with_the_contract(desk: Desk) -> None:
    name = desk.bring_to(desk.create(), S.SIGNING)
    desk.put_signature(name, 0)
    desk.act("ISS", ContractVoid(name, ""), Code.FIELD)
    desk.act("ISS", ContractVoid(name, "withdrawn"))
    desk.put_signature(name, 0, Code.STATE)
    desk.put_signature(name, 1, Code.STATE)
    assert desk.status(name) is S.VOIDED


def test_a_contract_that_does_not_exist(desk: Desk) -> None:
    for operation in (ContractSubmit(PRODUCT), ContractReject(PRODUCT, "why")):
        desk.act("ISS", operation, Code.NOT_FOUND)
    assert desk.state.get(CONTRACTS, PRODUCT) is None


# deadlines


@pytest.mark.parametrize(("late_ms", "code"), [(-1, Code.OK), (0, Code.EXPIRED), (1, Code.EXPIRED)])
def test_confirming_ends_at_its_deadline(desk: Desk, late_ms: int, code: Code) -> None:
    name = desk.bring_to(desk.create(), S.CONFIRMING)
    desk.confirm(name, 0)
    deadline = desk.contract(name).confirm_by
    desk.confirm(name, 1, code, at=deadline + late_ms)
    assert desk.status(name) is (S.SIGNING if code is Code.OK else S.EXPIRED)


@pytest.mark.parametrize(("late_ms", "code"), [(-1, Code.OK), (0, Code.EXPIRED), (1, Code.EXPIRED)])
def test_a_draft_ends_at_the_deadline_of_confirming(desk: Desk, late_ms: int, code: Code) -> None:
    name = desk.create()
    desk.act("ISS", ContractSubmit(name), code, at=desk.contract(name).confirm_by + late_ms)


@pytest.mark.parametrize(("late_ms", "code"), [(-1, Code.OK), (0, Code.EXPIRED), (1, Code.EXPIRED)])
def test_signing_ends_at_its_deadline(desk: Desk, late_ms: int, code: Code) -> None:
    name = desk.bring_to(desk.create(), S.SIGNING)
    desk.put_signature(name, 0)
    contract = desk.contract(name)
    desk.put_signature(name, 1, code, at=contract.sign_by + late_ms)
    assert desk.status(name) is (S.EFFECTIVE if code is Code.OK else S.EXPIRED)
    if code is Code.EXPIRED:
        desk.put_signature(name, 0, Code.ALREADY_SIGNED)
        desk.act("ISS", ContractVoid(name, "late"), Code.EXPIRED)
        desk.act("ANN", ContractReject(name, "late"), Code.EXPIRED)
        assert desk.contract(name).ended_at == contract.sign_by


def test_confirmed_in_time_a_contract_outlives_confirm_by(desk: Desk) -> None:
    name = desk.bring_to(desk.create(), S.SIGNING)
    desk.block(at=desk.contract(name).confirm_by)
    assert desk.status(name) is S.SIGNING
    desk.act("ISS", desk.confirmation(name, 0), Code.EXPIRED)


def test_what_ended_before_its_deadline_did_not_expire(desk: Desk) -> None:
    name = desk.bring_to(desk.create(), S.CONFIRMING)
    desk.act("ANN", ContractReject(name, "no"))
    desk.block(at=desk.contract(name).confirm_by)
    desk.confirm(name, 0, Code.STATE)
    assert desk.status(name) is S.REJECTED
    assert desk.contract(name).ended_at is not None


def test_expiry_ends_the_open_item_once(desk: Desk) -> None:
    name = desk.create()
    result = desk.block(at=desk.contract(name).sign_by + 1)
    assert [(entry.item, entry.kind, entry.code) for entry in result.automatic] == [
        (name, "contract.phase_end", Code.OK)
    ]
    assert desk.status(name) is S.EXPIRED
    assert desk.context().account(desk.ids["ISS"]).open_items == 0
    assert desk.block(at=desk.now + HOUR_MS).automatic == ()


# keys, bounds, the market's pause


def two_key_account(desk: Desk, name: str) -> SigningKey:
    """An ACTIVE account whose SIGN threshold is 2; its second SIGN key."""
    seal = second_key(name)
    keys = (*(NewKey(purpose, key_of(name, purpose).public) for purpose in KeyPurpose), NewKey(SIGN, seal.public))
    application = AccountApply(AccountKind.COMPANY, sha256(b"id"), keys, bytes(32), Thresholds(1, 1, 2), 1)
    receipt = desk.block(desk.sign(name, application, purpose=KeyPurpose.MANAGE, sender=b"")).receipts[0]
    (account,) = [event.account for event in receipt.events if isinstance(event, AccountApplied)]
    desk.do("KYC", AccountReview(account, True, ""))
    desk.ids[name] = account
    return seal


def test_all_but_a_signature_needs_the_accounts_threshold(desk: Desk) -> None:
    seal = two_key_account(desk, "FUND")
    both = [key_of("FUND", SIGN), seal]
    slots = (slot_of(desk.ids["FUND"], 0, 2),)
    creation = desk.creation(slots=slots)
    with pytest.raises(Inadmissible) as refusal:
        desk.act("FUND", creation)
    assert refusal.value.code is Code.THRESHOLD
    name = desk.created(desk.block(desk.sign("FUND", creation, keys=both)).receipts[0])
    assert desk.block(desk.sign("FUND", ContractSubmit(name), keys=both)).receipts[0].code is Code.OK
    with pytest.raises(Inadmissible):
        desk.confirm(name, 0)
    assert desk.block(desk.sign("FUND", desk.confirmation(name, 0), keys=both)).receipts[0].code is Code.OK
    desk.act("FUND", desk.signature(name, 0))
    desk.act("FUND", desk.signature(name, 0, seal))
    assert desk.status(name) is S.EFFECTIVE


def test_a_trading_key_drafts_nothing(desk: Desk) -> None:
    with pytest.raises(Inadmissible) as refusal:
        desk.act("ISS", desk.creation(), purpose=KeyPurpose.TRADE)
    assert refusal.value.code is Code.KEY_PURPOSE


def test_open_contracts_are_bounded_per_creator(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(monkeypatch, open_items_per_account_max=2)
    names = [desk.create(), desk.create()]
    desk.act("ISS", desk.creation(), Code.LIMIT)
    desk.act("ANN", desk.creation())
    desk.act("ISS", ContractVoid(names[0], "make room"))
    desk.act("ISS", desk.creation())


def test_a_failed_step_takes_the_whole_transaction_with_it(desk: Desk) -> None:
    name = desk.bring_to(desk.create(), S.SIGNING)
    twice = desk.sign("ISS", desk.signature(name, 0), desk.signature(name, 0), purpose=SIGN)
    receipt = desk.block(twice).receipts[0]
    assert (receipt.code, receipt.operation, receipt.events) == (Code.ALREADY_SIGNED, 1, ())
    assert desk.contract(name).slots[0].keys_signed == 0


def test_contracts_wait_while_the_market_is_paused(desk: Desk) -> None:
    name = desk.create()
    state = desk.state
    state.put(PAUSE, SINGLE, Pause(True))
    desk.view.write(state.writes())
    desk.act("ISS", ContractSubmit(name), Code.PAUSED)
    assert desk.status(name) is S.DRAFT

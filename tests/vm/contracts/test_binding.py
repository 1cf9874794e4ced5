"""What products and trades are told about contracts."""

from __future__ import annotations

import pytest

from otcnode.crypto import sha256
from otcnode.errors import Code, Failed
from otcnode.vm.contracts import binding, handlers
from otcnode.vm.contracts.operations import ContractAccede, ContractCallback
from otcnode.vm.contracts.records import AtTime, ContractKind, ContractStatus, Immediately
from otcnode.vm.due import DueClass
from tests.vm.contracts.desk import HOUR_MS, PRODUCT, Desk, slot_of
from tests.vm.ledger import DAY_MS, EVIDENCE

S = ContractStatus
OTHER = sha256(b"another product")


def refused(code: Code, detail: str = "") -> pytest.RaisesExc[Failed]:
    return pytest.raises(Failed, check=lambda error: error.code is code and detail in error.detail)


def trading(desk: Desk, name: bytes, product: bytes, *parties: str) -> None:
    binding.require_trading_contract(desk.context(), name, product, [desk.ids[party] for party in parties])


def test_a_transfer_contract_binds_its_signers_for_its_product(desk: Desk) -> None:
    name = desk.effective()
    trading(desk, name, PRODUCT, "ISS", "ANN")
    with refused(Code.CONTRACT_NOT_EFFECTIVE, "product"):
        trading(desk, name, OTHER, "ISS", "ANN")
    with refused(Code.CONTRACT_NOT_EFFECTIVE, "bind"):
        trading(desk, name, PRODUCT, "ISS", "BEN")
    with refused(Code.NOT_FOUND):
        trading(desk, PRODUCT, PRODUCT, "ISS", "ANN")
    with refused(Code.NOT_FOUND):
        binding.require_exists(desk.context(), PRODUCT)
    binding.require_exists(desk.context(), name)


def test_a_master_covers_every_product_unless_it_names_one(desk: Desk) -> None:
    rules = desk.effective(kind=ContractKind.MASTER, open=True, subject=None)
    trading(desk, rules, OTHER, "ISS", "ANN")
    with refused(Code.CONTRACT_NOT_EFFECTIVE):
        trading(desk, rules, OTHER, "ANN", "BEN")
    desk.act("BEN", ContractAccede(rules))
    trading(desk, rules, OTHER, "ANN", "BEN")
    narrow = desk.effective(kind=ContractKind.MASTER)
    trading(desk, narrow, PRODUCT, "ISS", "ANN")
    with refused(Code.CONTRACT_NOT_EFFECTIVE):
        trading(desk, narrow, OTHER, "ISS", "ANN")


def test_other_kinds_and_other_statuses_bind_no_trade(desk: Desk) -> None:
    subscription = desk.bring_to(desk.created(desk.act("ISS", desk.subscription(0, False))), S.EFFECTIVE)
    custody = desk.effective(kind=ContractKind.CUSTODY)
    signed = desk.bring_to(desk.create(effective=AtTime(desk.now + DAY_MS)), S.SIGNED)
    for name in (subscription, custody, signed, desk.create()):
        with refused(Code.CONTRACT_NOT_EFFECTIVE):
            trading(desk, name, PRODUCT, "ISS", "ANN")


def test_a_terminated_transfer_binds_no_more_and_an_amended_one_does(desk: Desk) -> None:
    name = desk.effective()
    desk.bring_to(desk.amendment(name), S.EFFECTIVE)
    trading(desk, name, PRODUCT, "ISS", "ANN")
    in_force, _ = binding.in_force(desk.context(), name)
    desk.bring_to(desk.amendment(in_force, kind=ContractKind.TERMINATION), S.EFFECTIVE)
    assert not binding.contract_is_effective(desk.context(), name)
    with refused(Code.CONTRACT_NOT_EFFECTIVE):
        trading(desk, name, PRODUCT, "ISS", "ANN")


def subscribe(desk: Desk, name: bytes, investor: str, cooling_off_ms: int, callback: bool, product: bytes) -> None:
    context = desk.context()
    binding.require_subscription_terms(
        context,
        binding.subscription_contract(context, name),
        product_id=product,
        issuer=desk.ids["ISS"],
        investor=desk.ids[investor],
        cooling_off_ms=cooling_off_ms,
        callback=callback,
    )


def test_a_subscription_rests_on_a_contract_of_issuer_and_investor(desk: Desk) -> None:
    name = desk.bring_to(desk.created(desk.act("ISS", desk.subscription(DAY_MS, True))), S.SIGNED)
    for cooling_off_ms, callback in ((DAY_MS, True), (DAY_MS, False), (0, False)):
        subscribe(desk, name, "ANN", cooling_off_ms, callback, PRODUCT)
    for investor, cooling_off_ms, product in (
        ("BEN", DAY_MS, PRODUCT),
        ("ANN", DAY_MS + 1, PRODUCT),
        ("ANN", DAY_MS, OTHER),
    ):
        with refused(Code.CONTRACT_TERMS):
            subscribe(desk, name, investor, cooling_off_ms, True, product)


def test_a_subscription_contract_without_the_callback_or_with_a_third_signer_does_not_fit(desk: Desk) -> None:
    silent = desk.bring_to(desk.created(desk.act("ISS", desk.subscription(DAY_MS, False))), S.SIGNED)
    slots = (*desk.creation().slots, slot_of(desk.ids["BEN"]))
    crowded = desk.bring_to(desk.created(desk.act("ISS", desk.subscription(DAY_MS, True, slots=slots))), S.SIGNED)
    at_once = desk.effective(kind=ContractKind.SUBSCRIPTION, effective=Immediately())
    transfer = desk.effective()
    for name in (silent, crowded, at_once, transfer):
        with refused(Code.CONTRACT_TERMS):
            subscribe(desk, name, "ANN", DAY_MS, True, PRODUCT)
    subscribe(desk, at_once, "ANN", 0, False, PRODUCT)


def test_an_amended_subscription_contract_keeps_the_cooling_off_it_had(desk: Desk) -> None:
    name = desk.bring_to(desk.created(desk.act("ISS", desk.subscription(HOUR_MS, False))), S.SIGNED)
    desk.block(at=desk.now + HOUR_MS)
    amended = desk.bring_to(desk.amendment(name), S.EFFECTIVE)
    for each in (name, amended):
        subscribe(desk, each, "ANN", HOUR_MS, False, PRODUCT)


def test_an_unsigned_contract_carries_no_subscription(desk: Desk) -> None:
    name = desk.bring_to(desk.created(desk.act("ISS", desk.subscription(DAY_MS, False))), S.SIGNING)
    with refused(Code.CONTRACT_NOT_EFFECTIVE):
        binding.subscription_contract(desk.context(), name)


def test_a_product_is_issued_under_an_effective_issuance_contract_of_its_issuer(desk: Desk) -> None:
    name = desk.effective(kind=ContractKind.ISSUANCE, subject=None)
    draft = desk.create(kind=ContractKind.ISSUANCE, subject=None)
    narrow = desk.effective(kind=ContractKind.ISSUANCE)
    issuer, bank = desk.ids["ISS"], desk.ids["BANK"]
    context = desk.context()
    assert binding.issuance_is_effective(context, name, OTHER, issuer)
    assert binding.issuance_is_effective(context, narrow, PRODUCT, issuer)
    assert not binding.issuance_is_effective(context, narrow, OTHER, issuer)
    assert not binding.issuance_is_effective(context, name, OTHER, bank)
    assert not binding.issuance_is_effective(context, draft, OTHER, issuer)
    assert not binding.issuance_is_effective(context, desk.effective(), PRODUCT, issuer)


def test_fulfilment_ends_what_was_promised_once_and_leaves_rules_alone(desk: Desk) -> None:
    transfer = desk.effective()
    rules = desk.effective(kind=ContractKind.MASTER, subject=None)
    signed = desk.bring_to(desk.create(effective=AtTime(desk.now + DAY_MS)), S.SIGNED)
    context = desk.context()
    for _ in range(2):
        for name in (transfer, rules, signed):
            binding.fulfil(context, name)
    found = [binding.in_force(context, name)[1].status for name in (transfer, rules, signed)]
    assert found == [S.FULFILLED, S.EFFECTIVE, S.SIGNED]
    assert len(context.events) == 1


def test_a_voided_subscription_expires_its_contract_only_while_it_is_signed(desk: Desk) -> None:
    signed = desk.bring_to(desk.created(desk.act("ISS", desk.subscription(DAY_MS, True))), S.SIGNED)
    effective = desk.effective(kind=ContractKind.SUBSCRIPTION)
    context = desk.context()
    for _ in range(2):
        binding.expire_if_signed(context, signed)
        binding.expire_if_signed(context, effective)
    assert binding.in_force(context, signed)[1].status is S.EXPIRED
    assert binding.in_force(context, effective)[1].status is S.EFFECTIVE


def test_a_late_close_does_not_expire_what_was_signed_after_it_was_due(desk: Desk) -> None:
    name = desk.bring_to(desk.created(desk.act("ISS", desk.subscription(DAY_MS, True))), S.SIGNED)
    context = desk.context(desk.now - 1)
    binding.expire_if_signed(context, name)
    assert binding.in_force(context, name)[1].status is S.SIGNED
    context = desk.context()
    binding.expire_if_signed(context, name)
    assert binding.in_force(context, name)[1].status is S.EXPIRED


def test_nobody_is_called_back_while_a_close_that_is_due_waits(desk: Desk) -> None:
    name = desk.bring_to(desk.created(desk.act("ISS", desk.subscription(DAY_MS, True))), S.SIGNED)
    at = desk.now + DAY_MS
    for waits in (True, False):
        context = desk.context(at)
        context.principal = context.actor = desk.ids["CALL"]
        if waits:
            context.schedule(at, DueClass.ISSUANCE, "close", PRODUCT, product=PRODUCT)
            with refused(Code.STATE):
                handlers.call_back(context, ContractCallback(name, EVIDENCE))
        else:
            handlers.call_back(context, ContractCallback(name, EVIDENCE))
            assert binding.contract_is_effective(context, name)

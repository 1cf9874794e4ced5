"""Confirming and signing for a principal: once the entrustment has been judged, and through the whole ledger."""

from __future__ import annotations

from typing import Any

import pytest

from otcnode.errors import Code, Failed
from otcnode.genesis import KeyPurpose
from otcnode.vm.accounts.events import EntrustmentChanged
from otcnode.vm.accounts.operations import EntrustAccept, EntrustGrant, EntrustRevoke
from otcnode.vm.accounts.records import Powers
from otcnode.vm.context import Context
from otcnode.vm.contracts import signing
from otcnode.vm.contracts.checks import signatures_verify
from otcnode.vm.contracts.events import ContractConfirmed, ContractSlotSigned
from otcnode.vm.contracts.operations import ContractReject
from otcnode.vm.contracts.records import CONTRACT_SIGNATURES, CONTRACTS, ContractStatus
from otcnode.vm.registry import OPERATIONS
from otcnode.vm.rules import Mandate, Scope
from tests.vm.contracts.desk import PRODUCT, SIGN, Desk, slot_of
from tests.vm.ledger import DAY_MS, EVIDENCE, key_of

S = ContractStatus
ENTRUSTMENT = bytes(range(32))


def acting(desk: Desk, agent: str, principal: str) -> Context:
    context = desk.context()
    context.actor, context.principal = desk.ids[agent], desk.ids[principal]
    context.entrustment = ENTRUSTMENT
    return context


def signed_by(desk: Desk, name: bytes, slot: int, agent: str, **changes: Any) -> Any:
    return desk.signature(name, slot, key_of(agent, SIGN), {"entrustment": ENTRUSTMENT} | changes)


def refused(code: Code, context: Context, operation: Any) -> None:
    with pytest.raises(Failed) as error:
        OPERATIONS[type(operation)].handler(context, operation)
    assert error.value.code is code


def test_an_agent_confirms_and_signs_with_its_own_key(desk: Desk) -> None:
    name = desk.bring_to(desk.create(), S.CONFIRMING)
    context = acting(desk, "BEN", "ANN")
    signing.confirm(context, desk.confirmation(name, 1))
    assert context.events == [ContractConfirmed(name, 1, 1, desk.ids["BEN"])]
    assert context.need(CONTRACTS, name, "contract").slots[1].confirmed_by == desk.ids["BEN"]
    desk.bring_to(name, S.SIGNING)
    desk.put_signature(name, 0)
    context = acting(desk, "BEN", "ANN")
    operation = signed_by(desk, name, 1, "BEN")
    signing.sign(context, operation)
    expected = ContractSlotSigned(name, 1, 1, key_of("BEN", SIGN).public, desk.ids["BEN"], ENTRUSTMENT)
    assert context.events[0] == expected
    record = context.need(CONTRACT_SIGNATURES, name + b"\x01" + operation.key, "signature")
    assert (record.by, record.entrustment) == (desk.ids["BEN"], ENTRUSTMENT)
    assert context.need(CONTRACTS, name, "contract").status is S.EFFECTIVE
    assert list(signatures_verify(context.state, desk.chain)) == []


def test_an_agents_signature_names_its_entrustment_and_its_principal(desk: Desk) -> None:
    name = desk.bring_to(desk.create(), S.SIGNING)
    desk.put_signature(name, 0)
    context = acting(desk, "BEN", "ANN")
    for changes in ({"entrustment": None}, {"entrustment": bytes(32)}, {"principal": desk.ids["BEN"]}):
        refused(Code.AUTH, context, signed_by(desk, name, 1, "BEN", **changes))
    refused(Code.AUTH, context, signed_by(desk, name, 1, "ANN"))
    refused(Code.NOT_PARTY, acting(desk, "BEN", "CAT"), signed_by(desk, name, 1, "BEN"))


def test_a_freeze_of_the_agent_or_of_the_principal_stops_both_acts(desk: Desk) -> None:
    confirming = desk.bring_to(desk.create(), S.CONFIRMING)
    signing_now = desk.bring_to(desk.create(), S.SIGNING)
    desk.put_signature(signing_now, 0)
    for frozen in ("BEN", "ANN"):
        freeze = desk.freeze(frozen)
        refused(Code.FROZEN, acting(desk, "BEN", "ANN"), desk.confirmation(confirming, 1))
        refused(Code.FROZEN, acting(desk, "BEN", "ANN"), signed_by(desk, signing_now, 1, "BEN"))
        desk.unfreeze(freeze)


def test_only_confirming_and_signing_can_be_entrusted(desk: Desk) -> None:
    scopes = {kind.__name__: rule.scope for kind, rule in OPERATIONS.items() if kind.__name__.startswith("Contract")}
    assert {kind for kind, scope in scopes.items() if scope is None} == {
        "ContractCreate",
        "ContractRevise",
        "ContractSubmit",
        "ContractReject",
        "ContractVoid",
        "ContractRescind",
        "ContractCallback",
        "ContractAccede",
    }
    assert (scopes["ContractConfirm"], scopes["ContractSign"]) == (Scope.CONFIRM, Scope.SIGN)


def test_the_mandate_names_the_product_and_every_other_side(desk: Desk) -> None:
    ids = desk.ids
    slots = (slot_of(ids["ISS"]), slot_of(ids["ANN"]), slot_of(ids["CAT"]))
    name = desk.bring_to(desk.create(slots=slots), S.CONFIRMING)
    confirmation = desk.confirmation(name, 1)
    others = (ids["ISS"], ids["CAT"])
    assert signing.mandate(acting(desk, "BEN", "ANN"), confirmation) == Mandate(PRODUCT, others=tuple(sorted(others)))
    context = acting(desk, "BEN", "CAT")
    signing.confirm(context, desk.confirmation(name, 2))
    desk.view.write(context.state.writes())
    mandate = signing.mandate(acting(desk, "BEN", "ANN"), confirmation)
    assert mandate.others == tuple(sorted((*others, ids["BEN"])))
    assert signing.mandate(acting(desk, "BEN", "CAT"), confirmation).others == tuple(sorted((ids["ISS"], ids["ANN"])))


def test_an_agent_that_signed_for_another_is_the_other_side(desk: Desk) -> None:
    slots = tuple([slot_of(desk.ids[name]) for name in ("ISS", "ANN", "CAT")])
    name = desk.bring_to(desk.create(slots=slots), S.SIGNING)
    context = acting(desk, "BEN", "CAT")
    signing.sign(context, signed_by(desk, name, 2, "BEN"))
    desk.view.write(context.state.writes())
    mandate = signing.mandate(acting(desk, "BEN", "ANN"), desk.signature(name, 1))
    assert desk.ids["BEN"] in mandate.others


def test_the_mandate_for_a_contract_that_does_not_exist_is_empty(desk: Desk) -> None:
    name = desk.bring_to(desk.create(), S.CONFIRMING)
    operation = type(desk.confirmation(name, 0))(PRODUCT, 0, 1, bytes(32))
    assert signing.mandate(acting(desk, "BEN", "ANN"), operation) == Mandate()


def entrust(desk: Desk, scopes: tuple[Scope, ...], principal: str = "ANN", agent: str = "BEN") -> bytes:
    """An ACTIVE entrustment that commits no money."""
    powers = Powers(scopes, None, None, None, 0, 0, desk.now, desk.now + DAY_MS, EVIDENCE, False)
    receipt = desk.act(principal, EntrustGrant(desk.ids[agent], powers), purpose=KeyPurpose.MANAGE)
    (name,) = [event.entrustment for event in receipt.events if isinstance(event, EntrustmentChanged)]
    desk.act(agent, EntrustAccept(name), purpose=KeyPurpose.MANAGE)
    return name


def on_behalf(desk: Desk, entrustment: bytes, operation: Any, principal: str = "ANN") -> Code:
    transaction = desk.sign("BEN", operation, purpose=SIGN, on_behalf_of=desk.ids[principal], entrustment=entrustment)
    return desk.block(transaction).receipts[0].code


def test_an_agent_carries_a_contract_to_its_effect(desk: Desk) -> None:
    entrustment = entrust(desk, (Scope.CONFIRM, Scope.SIGN))
    name = desk.bring_to(desk.create(), S.CONFIRMING)
    assert on_behalf(desk, entrustment, desk.confirmation(name, 1)) is Code.OK
    desk.bring_to(name, S.SIGNING)
    desk.put_signature(name, 0)
    operation = signed_by(desk, name, 1, "BEN", entrustment=entrustment)
    assert on_behalf(desk, entrustment, operation) is Code.OK
    assert desk.status(name) is S.EFFECTIVE
    assert list(signatures_verify(desk.state, desk.chain)) == []


def test_confirming_does_not_include_signing_nor_anything_else(desk: Desk) -> None:
    entrustment = entrust(desk, (Scope.CONFIRM,))
    name = desk.bring_to(desk.create(), S.SIGNING)
    desk.put_signature(name, 0)
    operation = signed_by(desk, name, 1, "BEN", entrustment=entrustment)
    assert on_behalf(desk, entrustment, operation) is Code.ENTRUST_SCOPE
    assert on_behalf(desk, entrustment, ContractReject(name, "why")) is Code.ENTRUST_SCOPE


def test_an_agent_does_not_sign_for_both_sides(desk: Desk) -> None:
    both = (Scope.CONFIRM, Scope.SIGN)
    for_ann, for_cat = entrust(desk, both), entrust(desk, both, principal="CAT")
    slots = tuple([slot_of(desk.ids[name]) for name in ("ANN", "CAT")])
    name = desk.bring_to(desk.create(slots=slots), S.CONFIRMING)
    assert on_behalf(desk, for_ann, desk.confirmation(name, 0)) is Code.SELF_DEALING
    desk.act("CAT", EntrustRevoke(for_cat), purpose=KeyPurpose.MANAGE)
    assert on_behalf(desk, for_ann, desk.confirmation(name, 0)) is Code.OK
    desk.act("ANN", EntrustRevoke(for_ann), purpose=KeyPurpose.MANAGE)
    for_cat = entrust(desk, both, principal="CAT")
    assert on_behalf(desk, for_cat, desk.confirmation(name, 1), "CAT") is Code.SELF_DEALING
    desk.confirm(name, 1)
    assert desk.status(name) is S.SIGNING


def test_a_signature_outlives_the_entrustment_it_was_made_under(desk: Desk) -> None:
    entrustment = entrust(desk, (Scope.SIGN,))
    slots = tuple([slot_of(desk.ids[name]) for name in ("ANN", "ISS")])
    name = desk.bring_to(desk.create(slots=slots), S.SIGNING)
    assert on_behalf(desk, entrustment, signed_by(desk, name, 0, "BEN", entrustment=entrustment)) is Code.OK
    desk.act("ANN", EntrustRevoke(entrustment), purpose=KeyPurpose.MANAGE)
    desk.put_signature(name, 1)
    assert desk.status(name) is S.EFFECTIVE

"""The parties' part: confirming the text, signing it in order, rejecting it."""

from __future__ import annotations

from msgspec.structs import replace

from otcnode.crypto import verify
from otcnode.errors import Code
from otcnode.genesis import KeyPurpose
from otcnode.vm.accounts.records import KEYS
from otcnode.vm.context import Context, fail
from otcnode.vm.contracts import events, lifecycle
from otcnode.vm.contracts.lifecycle import phase_deadline, refuse_unless
from otcnode.vm.contracts.operations import ContractConfirm, ContractReject, ContractSign
from otcnode.vm.contracts.preimages import contract_signature_preimage
from otcnode.vm.contracts.records import (
    CONTRACT_SIGNATURES,
    CONTRACTS,
    Contract,
    ContractSignature,
    ContractStatus,
    Slot,
    SlotRole,
)
from otcnode.vm.rules import Mandate, Rule, Scope

_CONFIRMING = frozenset({ContractStatus.CONFIRMING})
_SIGNING = frozenset({ContractStatus.SIGNING})
_REJECTABLE = _CONFIRMING | _SIGNING
_SIGNATURES_VOID = frozenset({ContractStatus.REJECTED, ContractStatus.VOIDED})


def _slot(context: Context, contract: Contract, index: int, roles: tuple[SlotRole, ...]) -> Slot:
    """Failed(E_NOT_FOUND) if there is no such slot, Failed(E_NOT_PARTY) if it is not the principal's in these roles."""
    if index >= len(contract.slots):
        fail(Code.NOT_FOUND, f"slot {index}")
    slot = contract.slots[index]
    if slot.account != context.principal or slot.role not in roles:
        fail(Code.NOT_PARTY, f"slot {index} is another's, or not there for this")
    return slot


def _with_slot(contract: Contract, index: int, slot: Slot) -> Contract:
    return replace(contract, slots=(*contract.slots[:index], slot, *contract.slots[index + 1 :]))


def _refuse_if_frozen(context: Context) -> None:
    context.refuse_if_frozen(context.principal)
    if context.agent is not None:
        context.refuse_if_frozen(context.agent)


def confirm(context: Context, operation: ContractConfirm) -> None:
    contract = context.need(CONTRACTS, operation.contract, "contract")
    slot = _slot(context, contract, operation.slot, (SlotRole.SIGNER, SlotRole.APPROVER))
    refuse_unless(context, contract, _CONFIRMING, contract.confirm_by)
    _refuse_if_frozen(context)
    if (operation.version, operation.terms_hash) != (contract.version, contract.terms_hash):
        fail(Code.CONTRACT_VERSION, f"the current version is {contract.version}")
    if slot.confirmed:
        fail(Code.DUPLICATE, "this slot has confirmed already")
    contract = _with_slot(contract, operation.slot, replace(slot, confirmed_by=context.actor))
    context.put(CONTRACTS, operation.contract, contract)
    context.emit(events.ContractConfirmed(operation.contract, operation.slot, contract.version, context.actor))
    if all(entry.confirmed for entry in contract.slots):
        lifecycle.begin_signing(context, operation.contract, contract)


def sign(context: Context, operation: ContractSign) -> None:
    contract = context.need(CONTRACTS, operation.contract, "contract")
    slot = _slot(context, contract, operation.slot, (SlotRole.SIGNER,))
    place = operation.contract + bytes([operation.slot]) + operation.key
    signed = slot.signed or context.get(CONTRACT_SIGNATURES, place) is not None
    if signed and contract.status not in _SIGNATURES_VOID:
        fail(Code.ALREADY_SIGNED, "by this key, or the slot is full")
    deadline = contract.confirm_by if contract.signing_at is None else contract.sign_by
    refuse_unless(context, contract, _SIGNING, deadline)
    _refuse_if_frozen(context)
    if operation.version != contract.version:
        fail(Code.CONTRACT_VERSION, f"the current version is {contract.version}")
    if slot.order != contract.signing_order:
        fail(Code.SIGN_TURN, f"slots of order {contract.signing_order} sign first")
    _check_signature(context, operation, contract)
    record = ContractSignature(
        version=contract.version,
        signature=operation.signature,
        signed_at=context.now,
        position=sum(entry.keys_signed for entry in contract.slots),
        by=context.actor,
        entrustment=context.entrustment,
    )
    context.put(CONTRACT_SIGNATURES, place, record)
    contract = _with_slot(contract, operation.slot, replace(slot, keys_signed=slot.keys_signed + 1))
    context.put(CONTRACTS, operation.contract, contract)
    context.emit(
        events.ContractSlotSigned(
            operation.contract,
            operation.slot,
            contract.version,
            operation.key,
            context.actor,
            context.entrustment,
        )
    )
    if contract.signing_order is None:
        lifecycle.complete_signing(context, operation.contract, contract)


def _check_signature(context: Context, operation: ContractSign, contract: Contract) -> None:
    """The key is a live SIGN key of who acts, and made this signature."""
    key = context.get(KEYS, context.actor + operation.key)
    if key is None:
        fail(Code.AUTH, "not a key of the account that signs")
    if key.revoked_at is not None:
        fail(Code.KEY_REVOKED, "the signing key")
    if key.purpose is not KeyPurpose.SIGN:
        fail(Code.KEY_PURPOSE, "contracts are signed with SIGN keys")
    message = contract_signature_preimage(
        chain=context.environment.chain,
        contract=operation.contract,
        version=contract.version,
        terms_hash=contract.terms_hash,
        document=contract.document,
        slot=operation.slot,
        principal=context.principal,
        entrustment=context.entrustment,
    )
    if not verify(operation.key, message, operation.signature):
        fail(Code.AUTH, "the signature is not one of this contract, version and slot by this key")


def reject(context: Context, operation: ContractReject) -> None:
    contract = context.need(CONTRACTS, operation.contract, "contract")
    parties = [slot.account for slot in contract.slots if slot.role is not SlotRole.CC]
    if context.principal not in parties:
        fail(Code.NOT_PARTY, "neither SIGNER nor APPROVER")
    refuse_unless(context, contract, _REJECTABLE, phase_deadline(contract))
    if not operation.reason:
        fail(Code.FIELD, "reason")
    lifecycle.move(context, operation.contract, contract, ContractStatus.REJECTED, operation.reason)


def mandate(context: Context, operation: ContractConfirm | ContractSign) -> Mandate:
    """The other side of a contract: every other SIGNER, and whoever confirmed or signed for one."""
    contract = context.get(CONTRACTS, operation.contract)
    if contract is None:
        return Mandate()
    others = set(contract.signers)
    others.update(
        slot.confirmed_by for slot in contract.slots if slot.confirmed_by and slot.account != context.principal
    )
    for suffix, signature in context.state.scan(CONTRACT_SIGNATURES, operation.contract):
        if contract.slots[suffix[32]].account != context.principal:
            others.add(signature.by)
    return Mandate(product=contract.subject, others=tuple(sorted(others - {context.principal})))


OPERATIONS: dict[type, Rule] = {
    ContractConfirm: Rule(confirm, KeyPurpose.SIGN, scope=Scope.CONFIRM, mandate=mandate),
    ContractSign: Rule(sign, KeyPurpose.SIGN, scope=Scope.SIGN, mandate=mandate, one_key=True),
    ContractReject: Rule(reject, KeyPurpose.SIGN),
}

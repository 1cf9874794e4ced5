"""What products and trades ask about contracts.

A contract is named once, at the start; amendments are followed to the contract in force, so a reference never needs
changing. SIGNERs and acceded accounts are bound.
"""

from __future__ import annotations

from collections.abc import Sequence

from otcnode.errors import Code
from otcnode.types import AccountId, Bytes32
from otcnode.vm.context import Context, fail
from otcnode.vm.contracts import lifecycle
from otcnode.vm.contracts.records import (
    ACCESSIONS,
    CONTRACTS,
    IN_FORCE,
    Contract,
    ContractKind,
    ContractStatus,
    SlotRole,
)

_SUBSCRIBABLE = frozenset({ContractStatus.SIGNED, ContractStatus.EFFECTIVE})
_FULFILLABLE = frozenset({ContractKind.TRANSFER, ContractKind.SUBSCRIPTION, ContractKind.ISSUANCE})


def require_exists(context: Context, contract_id: Bytes32) -> None:
    """Failed(E_NOT_FOUND) unless there is such a contract; to be asked before any other rule of an operation."""
    context.need(CONTRACTS, contract_id, "contract")


def in_force(context: Context, contract_id: Bytes32) -> tuple[Bytes32, Contract]:
    """The contract that stands for `contract_id` now: itself, or the last of its effective amendments.

    Failed(E_NOT_FOUND) if there is no such contract. Whether it is effective is for the caller to see.
    """
    contract = context.need(CONTRACTS, contract_id, "contract")
    while contract.status is ContractStatus.AMENDED:
        # not link by link: a line of amendments may be of any length
        contract_id = context.need(IN_FORCE, contract.root, "contract in force").contract
        contract = context.need(CONTRACTS, contract_id, "contract")
    return contract_id, contract


def contract_is_effective(context: Context, contract_id: Bytes32) -> bool:
    """Whether the contract in force for `contract_id` is EFFECTIVE. Failed(E_NOT_FOUND)."""
    return in_force(context, contract_id)[1].status is ContractStatus.EFFECTIVE


def binds(context: Context, contract: Contract, account: AccountId) -> bool:
    """Whether the account is bound as SIGNER or by accession."""
    for slot in contract.slots:
        if slot.account == account and slot.role is SlotRole.SIGNER:
            return True
    return context.get(ACCESSIONS, contract.root + account) is not None


def require_trading_contract(
    context: Context, contract_id: Bytes32, product_id: Bytes32, principals: Sequence[AccountId]
) -> None:
    """Failed(E_CONTRACT_NOT_EFFECTIVE) unless trades of the product between the principals may rest on the contract.

    It must be EFFECTIVE, be a MASTER (without a subject, or about the product) or a TRANSFER about the product, and
    bind every one of the principals. Failed(E_NOT_FOUND) if there is no such contract.
    """
    _, contract = in_force(context, contract_id)
    if contract.status is not ContractStatus.EFFECTIVE:
        fail(Code.CONTRACT_NOT_EFFECTIVE, f"the contract is {contract.status.value}")
    covers = contract.nature is ContractKind.TRANSFER and contract.subject == product_id
    covers |= contract.nature is ContractKind.MASTER and contract.subject in (None, product_id)
    if not covers:
        fail(Code.CONTRACT_NOT_EFFECTIVE, "the contract is not about trading this product")
    for account in principals:
        if not binds(context, contract, account):
            fail(Code.CONTRACT_NOT_EFFECTIVE, f"the contract does not bind {account.hex()}")


def subscription_contract(context: Context, contract_id: Bytes32) -> Contract:
    """The contract in force that a subscription rests on: Failed(E_CONTRACT_NOT_EFFECTIVE) unless SIGNED or EFFECTIVE.

    Failed(E_NOT_FOUND) if there is none.
    """
    _, contract = in_force(context, contract_id)
    if contract.status not in _SUBSCRIBABLE:
        fail(Code.CONTRACT_NOT_EFFECTIVE, f"the contract is {contract.status.value}")
    return contract


def require_subscription_terms(
    context: Context,
    contract: Contract,
    *,
    product_id: Bytes32,
    issuer: AccountId,
    investor: AccountId,
    cooling_off_ms: int,
    callback: bool,
) -> None:
    """Failed(E_CONTRACT_TERMS) unless a contract from `subscription_contract` fits the product and the investor.

    It must be a SUBSCRIPTION contract about the product, signed by the issuer and the investor and nobody else, whose
    cooling-off (that of the original, where it was amended) is at least the product's, with callback if the
    product's has one.
    """
    if contract.nature is not ContractKind.SUBSCRIPTION or contract.subject != product_id:
        fail(Code.CONTRACT_TERMS, "not a subscription contract about this product")
    if set(contract.signers) != {issuer, investor}:
        fail(Code.CONTRACT_TERMS, "its SIGNERs are not the issuer and this investor")
    cooling_off = context.need(CONTRACTS, contract.root, "contract").cooling_off
    if (cooling_off.period_ms if cooling_off else 0) < cooling_off_ms:
        fail(Code.CONTRACT_TERMS, "its cooling-off is shorter than the product's")
    if callback and not (cooling_off and cooling_off.callback):
        fail(Code.CONTRACT_TERMS, "the product demands a callback")


def issuance_is_effective(context: Context, contract_id: Bytes32, product_id: Bytes32, issuer: AccountId) -> bool:
    """Whether the product may be issued under the contract: an EFFECTIVE ISSUANCE contract that the issuer signed, with
    no other product as its subject. Failed(E_NOT_FOUND)."""
    _, contract = in_force(context, contract_id)
    return (
        contract.status is ContractStatus.EFFECTIVE
        and contract.nature is ContractKind.ISSUANCE
        and contract.subject in (None, product_id)
        and issuer in contract.signers
    )


def fulfil(context: Context, contract_id: Bytes32) -> None:
    """What the contract promised is done: a TRANSFER at settlement, a SUBSCRIPTION or ISSUANCE at maturity.

    Contracts of other kinds, and those not EFFECTIVE any more, stay as they are, so a settlement need not look.
    """
    name, contract = in_force(context, contract_id)
    if contract.status is ContractStatus.EFFECTIVE and contract.nature in _FULFILLABLE:
        lifecycle.end_effective(context, name, ContractStatus.FULFILLED)


def expire_if_signed(context: Context, contract_id: Bytes32) -> None:
    """The subscription was voided: its contract, if it was SIGNED at the due time and still is, is EXPIRED."""
    name, contract = in_force(context, contract_id)
    if contract.status is not ContractStatus.SIGNED:
        return
    assert contract.signed_at is not None
    if contract.signed_at <= context.now:
        lifecycle.move(context, name, contract, ContractStatus.EXPIRED, "its subscription was voided")

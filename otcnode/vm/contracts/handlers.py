"""The rules of contracts once all have signed: cooling off, the callback, joining; and the family's tables."""

from __future__ import annotations

from otcnode.errors import Code
from otcnode.genesis import KeyPurpose, Role
from otcnode.vm.context import Context, fail
from otcnode.vm.contracts import drafting, events, lifecycle, signing
from otcnode.vm.contracts.binding import binds
from otcnode.vm.contracts.lifecycle import refuse_unless
from otcnode.vm.contracts.operations import ContractAccede, ContractCallback, ContractRescind
from otcnode.vm.contracts.records import (
    ACCESSIONS,
    CONTRACTS,
    CONTRACTS_BY_PARTY,
    Contract,
    ContractKind,
    ContractStatus,
    CoolingOff,
)
from otcnode.vm.keys import MARKER
from otcnode.vm.rules import DueHandler, DueWeight, Rule

_SIGNED = frozenset({ContractStatus.SIGNED})
_EFFECTIVE = frozenset({ContractStatus.EFFECTIVE})


def rescind(context: Context, operation: ContractRescind) -> None:
    contract = context.need(CONTRACTS, operation.contract, "contract")
    if context.principal not in _investors(context, contract):
        fail(Code.NOT_PARTY, "only an investor who signed may rescind")
    if contract.cooling_off is None:
        fail(Code.STATE, "the contract has no cooling-off")
    refuse_unless(context, contract, _SIGNED, contract.turns_effective_at)
    assert contract.subject is not None
    # a close that was put off by a pause voids what is not effective yet
    context.refuse_if_due_pending(contract.subject)
    lifecycle.move(context, operation.contract, contract, ContractStatus.RESCINDED)
    for rescinded in context.hooks.contract_rescinded:
        rescinded(context, operation.contract)


def _investors(context: Context, contract: Contract) -> set[bytes]:
    """The SIGNERs but the subject's issuer; without a product nobody is an investor."""
    if contract.subject is None:
        return set()
    return set(contract.signers) - {context.hooks.product_issuer(context, contract.subject)}


def call_back(context: Context, operation: ContractCallback) -> None:
    contract = context.need(CONTRACTS, operation.contract, "contract")
    if context.principal in (contract.salesperson, *contract.signers):
        fail(Code.FOUR_EYES, "who sold or signed the contract does not make the call")
    refuse_unless(context, contract, _SIGNED, None)
    if contract.subject is not None:
        # a close that was put off by a pause finds the contract not called back
        context.refuse_if_due_pending(contract.subject)
    match contract.effective:
        case CoolingOff(period_ms, True):
            assert contract.signed_at is not None
            if context.now < contract.signed_at + period_ms:
                fail(Code.COOLING_OFF_OPEN, f"until {contract.signed_at + period_ms}")
        case _:
            fail(Code.STATE, "the contract requires no callback")
    context.emit(events.ContractCalledBack(operation.contract, context.principal, operation.evidence))
    lifecycle.turn_effective(context, operation.contract)


def accede(context: Context, operation: ContractAccede) -> None:
    contract = context.need(CONTRACTS, operation.contract, "contract")
    refuse_unless(context, contract, _EFFECTIVE, None)
    context.refuse_if_frozen(context.principal)
    if not contract.open or contract.nature is not ContractKind.MASTER:
        fail(Code.FIELD, "contract: not an open MASTER")
    if binds(context, contract, context.principal):
        fail(Code.DUPLICATE, "bound by it already")
    context.put(ACCESSIONS, contract.root + context.principal, MARKER)
    context.put(CONTRACTS_BY_PARTY, context.principal + operation.contract, MARKER)
    context.emit(events.ContractAcceded(operation.contract, context.principal))


OPERATIONS: dict[type, Rule] = {
    **drafting.OPERATIONS,
    **signing.OPERATIONS,
    ContractRescind: Rule(rescind, KeyPurpose.SIGN),
    ContractCallback: Rule(call_back, KeyPurpose.TRADE, frozenset({Role.CALLBACK})),
    ContractAccede: Rule(accede, KeyPurpose.SIGN),
}

DUE_KINDS: dict[str, DueHandler] = lifecycle.DUE_KINDS
DUE_WEIGHTS: dict[str, DueWeight] = lifecycle.DUE_WEIGHTS

"""The creator's part: drafting a contract, revising it, submitting it, voiding it."""

from __future__ import annotations

from msgspec.structs import replace

from otcnode.errors import Code
from otcnode.genesis import KeyPurpose
from otcnode.types import INTEGER_MAX
from otcnode.vm.context import Context, fail
from otcnode.vm.contracts import events, lifecycle
from otcnode.vm.contracts.lifecycle import phase_deadline, refuse_unless
from otcnode.vm.contracts.operations import ContractCreate, ContractRevise, ContractSubmit, ContractVoid
from otcnode.vm.contracts.preimages import terms_hash
from otcnode.vm.contracts.records import (
    CONTRACT_TEXTS,
    CONTRACTS,
    CONTRACTS_BY_PARTY,
    SUCCESSORS,
    Contract,
    ContractKind,
    ContractStatus,
    ContractText,
    CoolingOff,
    Slot,
    SlotRole,
    Terms,
)
from otcnode.vm.keys import MARKER
from otcnode.vm.rules import Rule

SUCCESSORS_PER_CREATOR_MAX = 4

_ABOUT_A_PRODUCT = frozenset({ContractKind.SUBSCRIPTION, ContractKind.TRANSFER})
_SUPERSEDING = frozenset({ContractKind.AMENDMENT, ContractKind.TERMINATION})
_DRAFT = frozenset({ContractStatus.DRAFT})
_REVISABLE = frozenset({ContractStatus.DRAFT, ContractStatus.CONFIRMING})
_VOIDABLE = frozenset({ContractStatus.DRAFT, ContractStatus.CONFIRMING, ContractStatus.SIGNING})


def create(context: Context, operation: ContractCreate) -> None:
    issuer = _check_named(context, operation)
    old = None
    if operation.supersedes is not None:
        old = context.need(CONTRACTS, operation.supersedes, "contract")
        if context.principal not in (*old.signers, old.creator):
            fail(Code.NOT_PARTY, "of the contract to be superseded")
        if old.status is not ContractStatus.EFFECTIVE:
            fail(Code.STATE, f"the contract to be superseded is {old.status.value}")
    for slot in operation.slots:
        context.refuse_unless_active(slot.account)
    _check_supersession(operation, old)
    _check_subject(operation, old)
    _check_slots(operation, old)
    _check_times(context, operation, issuer, old)
    _check_text(operation.terms, operation.terms_hash, operation.required_fields)
    _check_successors(context, operation)
    name = context.new_id()
    contract = _draft(context, operation, old, name)
    lifecycle.store_new(context, name, contract)
    context.put(CONTRACT_TEXTS, name, ContractText(operation.terms, operation.required_fields))
    parties = tuple([slot.account for slot in contract.slots])
    for account in (contract.creator, *parties):
        context.put(CONTRACTS_BY_PARTY, account + name, MARKER)
    context.emit(
        events.ContractCreated(
            name,
            contract.kind,
            contract.creator,
            contract.subject,
            contract.supersedes,
            parties,
            contract.terms_hash,
            contract.document,
        )
    )


def _check_named(context: Context, operation: ContractCreate) -> bytes | None:
    """Failed(E_NOT_FOUND) unless everything named exists. The issuer of the product named as the subject."""
    for slot in operation.slots:
        context.account(slot.account)
    if operation.salesperson is not None:
        context.account(operation.salesperson)
    issuer = None
    if operation.subject is not None:
        issuer = context.hooks.product_issuer(context, operation.subject)
        if issuer is None:
            fail(Code.NOT_FOUND, "subject")
    if operation.supersedes is not None:
        context.need(CONTRACTS, operation.supersedes, "superseded contract")
    return issuer


def _check_supersession(operation: ContractCreate, old: Contract | None) -> None:
    if (operation.kind in _SUPERSEDING) != (old is not None):
        fail(Code.FIELD, "supersedes: what an AMENDMENT or TERMINATION replaces, and no other kind")
    if old is not None and old.kind is ContractKind.TERMINATION:
        fail(Code.FIELD, "supersedes: a termination is final")
    if operation.open and operation.kind is not ContractKind.MASTER:
        fail(Code.FIELD, "open: only a MASTER can be acceded to")


def _check_subject(operation: ContractCreate, old: Contract | None) -> None:
    if operation.kind in _ABOUT_A_PRODUCT and operation.subject is None:
        fail(Code.FIELD, f"subject: a {operation.kind.value} is about a product")
    if old is not None and operation.subject not in (None, old.subject):
        fail(Code.FIELD, "subject: another than that of the superseded contract")


def _check_slots(operation: ContractCreate, old: Contract | None) -> None:
    places = [(slot.account, slot.role) for slot in operation.slots]
    if len(set(places)) != len(places):
        fail(Code.FIELD, "slots: an account twice in the same role")
    for slot in operation.slots:
        if (slot.keys_needed > 0) != (slot.role is SlotRole.SIGNER):
            fail(Code.FIELD, "slots: a SIGNER signs with at least one key, others with none")
    signers = {slot.account for slot in operation.slots if slot.role is SlotRole.SIGNER}
    if not signers:
        fail(Code.FIELD, "slots: nobody signs")
    if old is not None and not signers.issuperset(old.signers):
        fail(Code.FIELD, "slots: every SIGNER of the superseded contract has to sign")


def _check_times(context: Context, operation: ContractCreate, issuer: bytes | None, old: Contract | None) -> None:
    if operation.confirm_by <= context.now:
        fail(Code.FIELD, "confirm_by: not after now")
    if operation.sign_by < operation.confirm_by:
        fail(Code.FIELD, "sign_by: before confirm_by")
    if not isinstance(operation.effective, CoolingOff):
        return
    if operation.sign_by + operation.effective.period_ms > INTEGER_MAX:
        fail(Code.FIELD, "effective: the period is too long")
    if issuer is None and old is not None and old.subject is not None:
        issuer = context.hooks.product_issuer(context, old.subject)
    investors = {slot.account for slot in operation.slots if slot.role is SlotRole.SIGNER} - {issuer}
    if issuer is None or not investors:
        fail(Code.FIELD, "effective: cooling off needs a product, and an investor who could rescind")


def _check_text(terms: Terms, claimed: bytes, required_fields: tuple[str, ...]) -> None:
    names = [term.name for term in terms]
    if names != sorted(set(names)):
        fail(Code.FIELD, "terms: not ascending by name, each once")
    if terms_hash(terms) != claimed:
        fail(Code.FIELD, "terms_hash: not the hash of the terms")
    missing = set(required_fields) - {term.name for term in terms if term.value != ""}
    if missing:
        fail(Code.FIELDS_MISSING, ", ".join(sorted(missing)))


def _check_successors(context: Context, operation: ContractCreate) -> None:
    """One who drafts ever more amendments of a contract cannot make its amendment costly."""
    if operation.supersedes is None:
        return
    rivals = [suffix[32:] for suffix, _ in context.state.scan(SUCCESSORS, operation.supersedes)]
    own = sum(1 for rival in rivals if context.need(CONTRACTS, rival, "contract").creator == context.principal)
    if own >= SUCCESSORS_PER_CREATOR_MAX:
        fail(Code.LIMIT, f"{SUCCESSORS_PER_CREATOR_MAX} open successors of one contract")


def _draft(context: Context, operation: ContractCreate, old: Contract | None, name: bytes) -> Contract:
    amends = operation.kind is ContractKind.AMENDMENT
    return Contract(
        kind=operation.kind,
        nature=old.nature if old is not None and amends else operation.kind,
        open=old.open if old is not None and amends else operation.open,
        creator=context.principal,
        subject=operation.subject if old is None else old.subject,
        root=old.root if old is not None and amends else name,
        supersedes=operation.supersedes,
        superseded_by=None,
        successors_open=0,
        salesperson=operation.salesperson,
        effective=operation.effective,
        confirm_by=operation.confirm_by,
        sign_by=operation.sign_by,
        version=1,
        terms_hash=operation.terms_hash,
        document=operation.document,
        slots=tuple([Slot(s.account, s.role, s.order, s.keys_needed, 0, None) for s in operation.slots]),
        status=ContractStatus.DRAFT,
        reason="",
        created_at=context.now,
        signing_at=None,
        signed_at=None,
        effective_at=None,
        ended_at=None,
    )


def own_contract(context: Context, name: bytes) -> Contract:
    """Failed(E_NOT_FOUND, E_NOT_PARTY) unless it is the sender's own draft."""
    contract = context.need(CONTRACTS, name, "contract")
    if contract.creator != context.principal:
        fail(Code.NOT_PARTY, "not its creator")
    return contract


def revise(context: Context, operation: ContractRevise) -> None:
    contract = own_contract(context, operation.contract)
    refuse_unless(context, contract, _REVISABLE, contract.confirm_by)
    text = context.need(CONTRACT_TEXTS, operation.contract, "text")
    if (operation.terms_hash, operation.document) == (contract.terms_hash, contract.document):
        fail(Code.FIELD, "terms: neither the terms nor the document are new")
    _check_text(operation.terms, operation.terms_hash, text.required_fields)
    contract = replace(
        contract,
        version=contract.version + 1,
        terms_hash=operation.terms_hash,
        document=operation.document,
        slots=tuple([replace(slot, confirmed_by=None) for slot in contract.slots]),
    )
    context.put(CONTRACTS, operation.contract, contract)
    context.put(CONTRACT_TEXTS, operation.contract, replace(text, terms=operation.terms))
    context.emit(events.ContractRevised(operation.contract, contract.version, contract.terms_hash, contract.document))


def submit(context: Context, operation: ContractSubmit) -> None:
    contract = own_contract(context, operation.contract)
    refuse_unless(context, contract, _DRAFT, contract.confirm_by)
    lifecycle.move(context, operation.contract, contract, ContractStatus.CONFIRMING)


def void(context: Context, operation: ContractVoid) -> None:
    contract = own_contract(context, operation.contract)
    refuse_unless(context, contract, _VOIDABLE, phase_deadline(contract))
    if not operation.reason:
        fail(Code.FIELD, "reason")
    lifecycle.move(context, operation.contract, contract, ContractStatus.VOIDED, operation.reason)


OPERATIONS: dict[type, Rule] = {
    ContractCreate: Rule(create, KeyPurpose.SIGN),
    ContractRevise: Rule(revise, KeyPurpose.SIGN),
    ContractSubmit: Rule(submit, KeyPurpose.SIGN),
    ContractVoid: Rule(void, KeyPurpose.SIGN),
}

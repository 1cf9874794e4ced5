"""What a package must show of a contract: its text, who confirmed it, all signatures, and the keys' right to sign.

Pure. The state says how many signatures there are, so one that was taken out is noticed; the transactions say who
handed each of them in, and when.
"""

from __future__ import annotations

from otcnode.codec import Record
from otcnode.crypto import verify
from otcnode.evidence.acts import Act, act_of, acts_on, check_act, check_mandate
from otcnode.evidence.opened import Opened
from otcnode.evidence.verdict import Outcome, Refused
from otcnode.genesis import KeyPurpose
from otcnode.types import AccountId, Bytes32, Hash, Height, Milliseconds, Natural, PublicKey
from otcnode.vm.accounts.records import KEYS
from otcnode.vm.context import created_id
from otcnode.vm.contracts.operations import (
    ContractCallback,
    ContractConfirm,
    ContractCreate,
    ContractRescind,
    ContractRevise,
    ContractSign,
    ContractSubmit,
)
from otcnode.vm.contracts.preimages import contract_signature_preimage, terms_hash
from otcnode.vm.contracts.records import (
    CONTRACT_SIGNATURES,
    CONTRACT_TEXTS,
    CONTRACTS,
    Contract,
    ContractKind,
    ContractSignature,
    ContractStatus,
    SlotRole,
    Terms,
)
from otcnode.vm.rules import Scope


class SignatureFact(Record, frozen=True):
    """`act.account` signed with `key`, for the slot's account under `act.entrustment` where it is another."""

    key: PublicKey
    act: Act


class SlotFact(Record, frozen=True):
    account: AccountId
    role: SlotRole
    order: Natural
    confirmed: Act | None
    signatures: tuple[SignatureFact, ...]


class ContractFacts(Record, frozen=True):
    """What is proven of a contract as of the block at `as_of_height`. Times are ledger milliseconds."""

    contract: Bytes32
    kind: ContractKind
    status: ContractStatus
    version: Natural
    terms: Terms
    terms_hash: Hash
    document: Hash
    created: Act
    called_back: Act | None
    rescinded: Act | None
    slots: tuple[SlotFact, ...]
    signing_at: Milliseconds | None
    signed_at: Milliseconds | None
    effective_at: Milliseconds | None
    ended_at: Milliseconds | None
    as_of_height: Height
    as_of_ms: Milliseconds


def contract_facts(opened: Opened) -> ContractFacts:
    """Raises Refused."""
    name = opened.subject
    contract = opened.get(CONTRACTS, name, "the contract")
    text = opened.get(CONTRACT_TEXTS, name, "the contract's text")
    if terms_hash(text.terms) != contract.terms_hash:
        raise Refused(Outcome.PROOF_INVALID, "the terms are not those that the contract names")
    signatures = _signatures(opened, contract)
    return ContractFacts(
        name,
        contract.kind,
        contract.status,
        contract.version,
        text.terms,
        contract.terms_hash,
        contract.document,
        _creation(opened, contract),
        _callback(opened, contract),
        _one(opened, ContractRescind, "the rescission") if contract.status is ContractStatus.RESCINDED else None,
        tuple(_slot(opened, contract, index, signatures) for index in range(len(contract.slots))),
        contract.signing_at,
        contract.signed_at,
        contract.effective_at,
        contract.ended_at,
        opened.last.height,
        opened.last.time_ms,
    )


def _one(opened: Opened, kind: type, what: str) -> Act:
    for act, _ in acts_on(opened, kind):
        return act
    raise Refused(Outcome.INCOMPLETE, f"the transaction with {what} is not in the package")


def _creation(opened: Opened, contract: Contract) -> Act:
    """The draft, and as many revisions and submissions as the state speaks of."""
    for transaction in opened.transactions:
        for index, _ in transaction.operations(ContractCreate):
            if created_id(transaction.decoded.id, index) == opened.subject:
                revisions = sum(1 for _ in acts_on(opened, ContractRevise))
                if revisions != contract.version - 1:
                    raise Refused(
                        Outcome.INCOMPLETE, f"{revisions} of {contract.version - 1} revisions are in the package"
                    )
                if contract.signing_at is not None:
                    _one(opened, ContractSubmit, "the submission")
                return act_of(transaction)
    raise Refused(Outcome.INCOMPLETE, "the transaction that made the contract is not in the package")


def _callback(opened: Opened, contract: Contract) -> Act | None:
    cooling_off = contract.cooling_off
    if cooling_off is None or not cooling_off.callback or contract.effective_at is None:
        return None
    return _one(opened, ContractCallback, "the callback")


def _signatures(opened: Opened, contract: Contract) -> dict[tuple[int, bytes], ContractSignature]:
    """By slot and key. All that the state counts are there, each by a key that could sign, in the right order."""
    found = {(suffix[32], suffix[33:]): record for suffix, record in opened.scan(CONTRACT_SIGNATURES, opened.subject)}
    for index, slot in enumerate(contract.slots):
        given = sum(1 for at, _ in found if at == index)
        if given != slot.keys_signed:
            raise Refused(
                Outcome.INCOMPLETE, f"{given} of {slot.keys_signed} signatures of slot {index} are in the package"
            )
    in_order = sorted(found, key=lambda place: found[place].position)
    orders = [contract.slots[index].order for index, _ in in_order]
    if orders != sorted(orders):
        raise Refused(Outcome.SIGNATURE_INVALID, "a slot signed before its turn")
    for (index, key), record in found.items():
        _check_signature(opened, contract, index, key, record)
    return found


def _check_signature(opened: Opened, contract: Contract, index: int, key: bytes, record: ContractSignature) -> None:
    place = f"the signature of slot {index} by key {key.hex()[:16]}…"
    principal = contract.slots[index].account
    message = contract_signature_preimage(
        chain=opened.chain,
        contract=opened.subject,
        version=record.version,
        terms_hash=contract.terms_hash,
        document=contract.document,
        slot=index,
        principal=principal,
        entrustment=record.entrustment,
    )
    if record.version != contract.version or not verify(key, message, record.signature):
        raise Refused(Outcome.SIGNATURE_INVALID, f"{place} is not of this text")
    history = opened.get(KEYS, record.by + key, f"the history of the key of {place}")
    used_at = record.signed_at
    revoked = history.revoked_at is not None and history.revoked_at < used_at
    if history.purpose is not KeyPurpose.SIGN or history.added_at > used_at or revoked:
        raise Refused(Outcome.SIGNATURE_INVALID, f"{place}: the key could not sign then")
    if record.by != principal:
        check_mandate(opened, place, principal, record.by, record.entrustment, Scope.SIGN, used_at)


def _slot(
    opened: Opened, contract: Contract, index: int, signatures: dict[tuple[int, bytes], ContractSignature]
) -> SlotFact:
    slot = contract.slots[index]
    confirmed = None
    if slot.confirmed_by is not None:
        confirmed = _confirmation(opened, contract, index, slot.confirmed_by)
    mine = sorted((record.position, key, record) for (at, key), record in signatures.items() if at == index)
    facts = tuple(SignatureFact(key, _signing(opened, index, key, record)) for _, key, record in mine)
    return SlotFact(slot.account, slot.role, slot.order, confirmed, facts)


def _confirmation(opened: Opened, contract: Contract, index: int, by: bytes) -> Act:
    principal = contract.slots[index].account
    for act, operation in acts_on(opened, ContractConfirm):
        if (operation.slot, operation.version, act.account, act.principal) == (index, contract.version, by, principal):
            check_act(opened, f"the confirmation of slot {index}", act, Scope.CONFIRM)
            return act
    raise Refused(Outcome.INCOMPLETE, f"the transaction that confirmed slot {index} is not in the package")


def _signing(opened: Opened, index: int, key: bytes, record: ContractSignature) -> Act:
    wanted = (index, key, record.signature, record.by)
    for act, operation in acts_on(opened, ContractSign):
        if (operation.slot, operation.key, operation.signature, act.account) == wanted:
            return act
    raise Refused(Outcome.INCOMPLETE, f"the transaction that signed slot {index} is not in the package")

"""Operations on contracts."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from otcnode.codec import Record
from otcnode.types import AccountId, Bytes32, Ed25519Signature, Hash, Milliseconds, Natural, PublicKey
from otcnode.vm.accounts.operations import Text
from otcnode.vm.contracts.records import (
    SLOT_KEYS_MAX,
    SLOT_ORDER_MAX,
    SLOTS_MAX,
    TERMS_MAX,
    ContractKind,
    Effectiveness,
    SlotRole,
    TermName,
    Terms,
)

SlotIndex = Annotated[int, Meta(ge=0, lt=SLOTS_MAX)]


class NewSlot(Record, frozen=True):
    """A place for one account. `keys_needed` is 1 to 32 for a SIGNER and 0 for APPROVER and CC."""

    account: AccountId
    role: SlotRole
    order: Annotated[int, Meta(ge=0, le=SLOT_ORDER_MAX)]
    keys_needed: Annotated[int, Meta(ge=0, le=SLOT_KEYS_MAX)]


class ContractCreate(Record, frozen=True, tag="contract.create"):
    """Draft a contract, version 1. Signed by: the creator (SIGN keys), who need not be a party.

    Fields: `kind`; `open`, for a MASTER that others may accede to; `subject`, the product it is about or nil (required
    for SUBSCRIPTION and TRANSFER; nil or the same for what supersedes another); `document` commitment; `terms`,
    ascending by name, each once, and their `terms_hash`; `slots`, each account once per role, at least one SIGNER;
    `salesperson`, who sold it, or nil; `confirm_by` ≤ `sign_by`, in ms, after now; `effective` immediately, at a time
    or after cooling off (only with a subject: the investor is the SIGNER that is not its issuer); `required_fields`,
    names of terms that must be filled in; `supersedes`, the EFFECTIVE contract that an AMENDMENT or TERMINATION
    replaces, all of whose SIGNERs must be SIGNERs here.
    Effects: a DRAFT, that expires at `confirm_by` unless all confirmed it.
    Errors: E_NOT_FOUND (an account, the subject, the superseded contract), E_NOT_PARTY (neither SIGNER nor creator of
    the superseded contract), E_STATE (a slot's account not ACTIVE; the superseded contract not EFFECTIVE),
    E_FIELD{open, subject, terms, terms_hash, slots, confirm_by, sign_by, effective, supersedes}, E_FIELDS_MISSING
    (lists them), E_LIMIT (open items; open successors of one contract by one creator).
    """

    kind: ContractKind
    open: bool
    subject: Bytes32 | None
    document: Hash
    terms: Terms
    terms_hash: Hash
    slots: Annotated[tuple[NewSlot, ...], Meta(min_length=1, max_length=SLOTS_MAX)]
    salesperson: AccountId | None
    confirm_by: Milliseconds
    sign_by: Milliseconds
    effective: Effectiveness
    required_fields: Annotated[tuple[TermName, ...], Meta(max_length=TERMS_MAX)]
    supersedes: Bytes32 | None


class ContractRevise(Record, frozen=True, tag="contract.revise"):
    """Give a contract a new text. Signed by: its creator (SIGN keys).

    Fields: `contract`; `terms` with `terms_hash` and `document`, at least one of them new.
    Effects: version + 1, status kept, all confirmations cleared.
    Errors: E_NOT_FOUND, E_NOT_PARTY (not the creator), E_EXPIRED (t ≥ confirm_by), E_STATE (neither DRAFT nor
    CONFIRMING), E_FIELD{terms, terms_hash}, E_FIELDS_MISSING (lists them).
    """

    contract: Bytes32
    terms: Terms
    terms_hash: Hash
    document: Hash


class ContractSubmit(Record, frozen=True, tag="contract.submit"):
    """Ask the parties to confirm a draft. Signed by: its creator (SIGN keys).

    Effects: DRAFT → CONFIRMING. Errors: E_NOT_FOUND, E_NOT_PARTY, E_EXPIRED (t ≥ confirm_by), E_STATE (not DRAFT).
    """

    contract: Bytes32


class ContractConfirm(Record, frozen=True, tag="contract.confirm"):
    """Agree to the text. Signed by: a SIGNER's or APPROVER's account, or its agent with scope CONFIRM (SIGN keys).

    Fields: `contract`; `slot`, counted from 0; `version` and `terms_hash` that are agreed to.
    Effects: the slot is confirmed; the last one makes the text immutable, CONFIRMING → SIGNING.
    Errors: E_NOT_FOUND, E_NOT_PARTY (another's slot, or a CC), E_EXPIRED (t ≥ confirm_by), E_STATE (not CONFIRMING),
    E_FROZEN, E_CONTRACT_VERSION (the text has changed), E_DUPLICATE (confirmed already).
    """

    contract: Bytes32
    slot: SlotIndex
    version: Natural
    terms_hash: Hash


class ContractSign(Record, frozen=True, tag="contract.sign"):
    """Put one key's signature to a contract. Signed by: one SIGN key of the slot's account, or of its agent with scope
    SIGN.

    Fields: `contract`; `slot`, counted from 0; `version`; `key`, a live SIGN key of the account that acts; `signature`
    by that key over what preimages.contract_signature_preimage says.
    Effects: the slot counts one more key; when all SIGNER slots have theirs, SIGNING → SIGNED, and → EFFECTIVE in the
    same transaction if the contract is effective at once or its time has passed.
    Errors, in this order: E_NOT_FOUND, E_NOT_PARTY (another's slot, or not a SIGNER's), E_ALREADY_SIGNED (that key, or
    the slot is full), E_EXPIRED (t ≥ sign_by), E_STATE (not SIGNING), E_FROZEN, E_CONTRACT_VERSION, E_SIGN_TURN (a
    slot of lower order is incomplete), E_AUTH (not a key of the account, or a wrong signature), E_KEY_REVOKED,
    E_KEY_PURPOSE.
    """

    contract: Bytes32
    slot: SlotIndex
    version: Natural
    key: PublicKey
    signature: Ed25519Signature


class ContractReject(Record, frozen=True, tag="contract.reject"):
    """Refuse a contract for good. Signed by: the account of a SIGNER or APPROVER slot (SIGN keys).

    Fields: `contract`; `reason`, not empty. Effects: CONFIRMING or SIGNING → REJECTED, collected signatures are void.
    Errors: E_NOT_FOUND, E_NOT_PARTY, E_EXPIRED (t ≥ the deadline of its phase), E_STATE, E_FIELD{reason}.
    """

    contract: Bytes32
    reason: Text


class ContractVoid(Record, frozen=True, tag="contract.void"):
    """Withdraw a contract before it is signed by all. Signed by: its creator (SIGN keys).

    Fields: `contract`; `reason`, not empty. Effects: DRAFT, CONFIRMING or SIGNING → VOIDED, collected signatures are
    void. Errors: E_NOT_FOUND, E_NOT_PARTY, E_EXPIRED (t ≥ the deadline of its phase), E_STATE, E_FIELD{reason}.
    """

    contract: Bytes32
    reason: Text


class ContractRescind(Record, frozen=True, tag="contract.rescind"):
    """Step back from a contract while it cools off. Signed by: a SIGNER that is not the subject's issuer (SIGN keys).

    Effects: SIGNED → RESCINDED; a subscription that rests on it is WITHDRAWN, its cash released. Possible for the
    cooling-off period after the last signature, and with a callback until that is made, however late.
    Errors: E_NOT_FOUND, E_NOT_PARTY (no SIGNER, or the issuer), E_EXPIRED (the period is over, no callback required),
    E_STATE (not SIGNED, or without cooling-off, or the product's close is due and has not run).
    """

    contract: Bytes32


class ContractCallback(Record, frozen=True, tag="contract.callback"):
    """Record that the investor was called after cooling off and stood by the contract. Signed by: OPERATOR.CALLBACK
    (TRADE key).

    Fields: `contract`; `evidence`, the hash of the call's record. Effects: SIGNED → EFFECTIVE.
    Errors: E_NOT_FOUND, E_FOUR_EYES (the salesperson or a SIGNER), E_STATE (not SIGNED, or no callback required, or
    the product's close is due and has not run), E_COOLING_OFF_OPEN (t < last signature + period).
    """

    contract: Bytes32
    evidence: Hash


class ContractAccede(Record, frozen=True, tag="contract.accede"):
    """Join an open MASTER contract, such as market rules. Signed by: any ACTIVE account (SIGN keys).

    Effects: the account is bound by the contract and by its later amendments.
    Errors: E_NOT_FOUND, E_STATE (not EFFECTIVE: of an amended contract, join the one in force), E_FROZEN,
    E_FIELD{contract} (not an open MASTER), E_DUPLICATE (bound already).
    """

    contract: Bytes32

"""What the state holds about contracts: the contract, its current text, its signatures and who is bound by it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, TypeAlias

from msgspec import Meta

from otcnode.codec import Record
from otcnode.types import AccountId, Bytes32, Ed25519Signature, Hash, Milliseconds, Natural
from otcnode.vm.keys import Marker, Prefix, Table

SLOTS_MAX = 32
SLOT_KEYS_MAX = 32
SLOT_ORDER_MAX = 255
TERMS_MAX = 64
TERM_NAME_MAX = 64
TERM_TEXT_MAX = 2_048


class ContractKind(StrEnum):
    ISSUANCE = "ISSUANCE"
    SUBSCRIPTION = "SUBSCRIPTION"
    TRANSFER = "TRANSFER"
    CUSTODY = "CUSTODY"
    MASTER = "MASTER"
    AMENDMENT = "AMENDMENT"
    TERMINATION = "TERMINATION"


class ContractStatus(StrEnum):
    DRAFT = "DRAFT"
    CONFIRMING = "CONFIRMING"
    SIGNING = "SIGNING"
    SIGNED = "SIGNED"
    EFFECTIVE = "EFFECTIVE"
    AMENDED = "AMENDED"
    TERMINATED = "TERMINATED"
    FULFILLED = "FULFILLED"
    VOIDED = "VOIDED"
    EXPIRED = "EXPIRED"
    REJECTED = "REJECTED"
    RESCINDED = "RESCINDED"


class SlotRole(StrEnum):
    """A SIGNER confirms the text and signs it, an APPROVER confirms it only, a CC is informed."""

    SIGNER = "SIGNER"
    APPROVER = "APPROVER"
    CC = "CC"


class Immediately(Record, frozen=True, tag="IMMEDIATE"):
    """Effective in the transaction of the last signature."""


class AtTime(Record, frozen=True, tag="AT"):
    """Effective from an instant on, in ms; at the last signature if that is later."""

    time_ms: Milliseconds


class CoolingOff(Record, frozen=True, tag="COOLING_OFF"):
    """The investor may rescind for `period_ms` from the last signature on; then the contract turns effective.

    With `callback` it turns effective only by a successful call after the period, and may be rescinded until then.
    """

    period_ms: Milliseconds
    callback: bool


Effectiveness: TypeAlias = Immediately | AtTime | CoolingOff

TermName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=TERM_NAME_MAX)]


class Term(Record, frozen=True):
    """One named term: a text, or a number in the units its name says."""

    name: TermName
    value: Annotated[str, Meta(max_length=TERM_TEXT_MAX)] | Natural


Terms: TypeAlias = Annotated[tuple[Term, ...], Meta(max_length=TERMS_MAX)]
"""Ascending by name, each name once."""


class Slot(Record, frozen=True):
    """One party's place. Slots of equal `order` sign in parallel, a lower order signs before a higher one.

    `keys_needed` distinct keys make a SIGNER's signature complete; it is 0 for APPROVER and CC.
    `confirmed_by` is who confirmed the current version: the account itself or its agent.
    """

    account: AccountId
    role: SlotRole
    order: Natural
    keys_needed: Natural
    keys_signed: Natural
    confirmed_by: AccountId | None

    @property
    def signed(self) -> bool:
        return self.role is not SlotRole.SIGNER or self.keys_signed >= self.keys_needed

    @property
    def confirmed(self) -> bool:
        return self.role is SlotRole.CC or self.confirmed_by is not None


class Contract(Record, frozen=True):
    """`nature` is what the contract is once effective: that of the amended contract for an AMENDMENT, else its kind.

    `root` is the first contract of its line of amendments (itself if it amends nothing); accessions are to it.
    `successors_open` counts the contracts that would supersede this one and have not ended.
    """

    kind: ContractKind
    nature: ContractKind
    open: bool
    creator: AccountId
    subject: Bytes32 | None
    """The product it is about."""
    root: Bytes32
    supersedes: Bytes32 | None
    superseded_by: Bytes32 | None
    successors_open: Natural
    salesperson: AccountId | None
    effective: Effectiveness
    confirm_by: Milliseconds
    sign_by: Milliseconds
    version: Natural
    terms_hash: Hash
    document: Hash
    slots: tuple[Slot, ...]
    status: ContractStatus
    reason: str
    created_at: Milliseconds
    signing_at: Milliseconds | None
    """When the last confirmation made the text immutable."""
    signed_at: Milliseconds | None
    effective_at: Milliseconds | None
    ended_at: Milliseconds | None

    @property
    def signers(self) -> tuple[AccountId, ...]:
        return tuple([slot.account for slot in self.slots if slot.role is SlotRole.SIGNER])

    @property
    def cooling_off(self) -> CoolingOff | None:
        return self.effective if isinstance(self.effective, CoolingOff) else None

    @property
    def turns_effective_at(self) -> int | None:
        """When a SIGNED contract turns effective by time alone; None if it never does."""
        match self.effective:
            case AtTime(time_ms):
                return time_ms
            case CoolingOff(period_ms, False) if self.signed_at is not None:
                return self.signed_at + period_ms
        return None

    @property
    def waiting_for(self) -> tuple[int, ...]:
        """The slots whose turn it is: to confirm while CONFIRMING, to sign while SIGNING."""
        if self.status is ContractStatus.CONFIRMING:
            return tuple([index for index, slot in enumerate(self.slots) if not slot.confirmed])
        if self.status is ContractStatus.SIGNING:
            turn = self.signing_order
            return tuple([i for i, slot in enumerate(self.slots) if not slot.signed and slot.order == turn])
        return ()

    @property
    def signing_order(self) -> int | None:
        """The lowest order group that is incomplete; None when every SIGNER slot is full."""
        return min((slot.order for slot in self.slots if not slot.signed), default=None)


class ContractText(Record, frozen=True):
    """The current version's terms. `required_fields` are names of terms that every version must fill in."""

    terms: Terms
    required_fields: tuple[TermName, ...]


class InForce(Record, frozen=True):
    contract: Bytes32


class ContractSignature(Record, frozen=True):
    """One key's signature. `position` counts all signatures of the contract; `by` differs from the slot's account
    where an agent signed under `entrustment`."""

    version: Natural
    signature: Ed25519Signature
    signed_at: Milliseconds
    position: Natural
    by: AccountId
    entrustment: Bytes32 | None


CONTRACTS = Table(Prefix.CONTRACT, Contract)
"""contract id"""
CONTRACT_TEXTS = Table(Prefix.CONTRACT_TEXT, ContractText)
"""contract id"""
CONTRACT_SIGNATURES = Table(Prefix.CONTRACT_SIGNATURE, ContractSignature)
"""contract id ‖ slot (1 byte) ‖ public key"""
CONTRACTS_BY_PARTY = Table(Prefix.CONTRACT_PARTY, Marker)
"""account id ‖ contract id: the creator and every slot's account; one that acceded, with the contract it joined"""
SUCCESSORS = Table(Prefix.CONTRACT_SUCCESSOR, Marker)
"""contract id ‖ id of a contract that would supersede it and has not ended or turned effective"""
IN_FORCE = Table(Prefix.CONTRACT_IN_FORCE, InForce)
"""root contract id to its latest amendment that turned effective; none if it was never amended"""
ACCESSIONS = Table(Prefix.CONTRACT_ACCESSION, Marker)
"""root contract id ‖ account id"""

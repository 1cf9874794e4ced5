"""What contract operations report."""

from __future__ import annotations

from otcnode.codec import Record
from otcnode.types import AccountId, Bytes32, Hash, Natural, PublicKey
from otcnode.vm.contracts.records import ContractKind, ContractStatus


class ContractCreated(Record, frozen=True, tag="contract.created"):
    contract: Bytes32
    kind: ContractKind
    creator: AccountId
    subject: Bytes32 | None
    supersedes: Bytes32 | None
    parties: tuple[AccountId, ...]
    """The accounts of the slots, in slot order."""
    terms_hash: Hash
    document: Hash


class ContractRevised(Record, frozen=True, tag="contract.revised"):
    """A new version; every confirmation of the earlier one is gone."""

    contract: Bytes32
    version: Natural
    terms_hash: Hash
    document: Hash


class ContractConfirmed(Record, frozen=True, tag="contract.confirmed"):
    """`by` is the slot's account or its agent."""

    contract: Bytes32
    slot: Natural
    version: Natural
    by: AccountId


class ContractSlotSigned(Record, frozen=True, tag="contract.slot_signed"):
    """One key's signature in a slot, by the slot's account or by its agent under `entrustment`."""

    contract: Bytes32
    slot: Natural
    version: Natural
    key: PublicKey
    by: AccountId
    entrustment: Bytes32 | None


class ContractCalledBack(Record, frozen=True, tag="contract.called_back"):
    contract: Bytes32
    by: AccountId
    evidence: Hash


class ContractAcceded(Record, frozen=True, tag="contract.acceded"):
    contract: Bytes32
    account: AccountId


class ContractChanged(Record, frozen=True, tag="contract.changed"):
    """The contract reached a status; `reason` is the party's, or says what ended it."""

    contract: Bytes32
    status: ContractStatus
    reason: str

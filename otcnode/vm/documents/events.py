"""What document operations report."""

from __future__ import annotations

from otcnode.codec import Record
from otcnode.types import AccountId, Bytes32, Hash, Natural


class DocumentFiled(Record, frozen=True, tag="document.filed"):
    document: Bytes32
    owner: AccountId
    commitment: Hash
    size_bytes: Natural
    recipients: tuple[AccountId, ...]
    belongs_to: Bytes32 | None


class DocumentWithdrawn(Record, frozen=True, tag="document.withdrawn"):
    document: Bytes32
    owner: AccountId
    recipients: tuple[AccountId, ...]

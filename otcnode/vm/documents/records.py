"""What the state holds about documents: a commitment, the hash of the sealed file, who may have it. Never its text."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta

from otcnode.codec import Record
from otcnode.crypto import tagged_hash
from otcnode.types import AccountId, Bytes32, Hash, Milliseconds, Natural
from otcnode.vm.keys import Marker, Prefix, Table

SEALED_DOMAIN = "otcnode/sealed-document/1"
RECIPIENTS_MAX = 64
SEALED_BYTES_MAX = 2 << 20
"""Of one sealed file."""
SPACE_BYTES_MAX = 256 << 20
"""Of all sealed files that one account has filed and not withdrawn."""
FILING_BYTES = 4 << 10
"""What a file counts at least, so that small ones are bounded in number too: 65,536 for one account."""

Recipients: TypeAlias = Annotated[tuple[AccountId, ...], Meta(min_length=1, max_length=RECIPIENTS_MAX)]


class Filing(Record, frozen=True):
    """`commitment` binds to the text as in contracts; `belongs_to` is the id of what the document belongs to."""

    owner: AccountId
    commitment: Hash
    size_bytes: Natural
    recipients: Recipients
    belongs_to: Bytes32 | None
    filed_at: Milliseconds


class Space(Record, frozen=True):
    used_bytes: Natural


def charge_bytes(size_bytes: int) -> int:
    """What a sealed file takes of its owner's space."""
    return max(size_bytes, FILING_BYTES)


def sealed_name(raw: bytes) -> Hash:
    """What names a sealed file: the hash of its bytes."""
    return tagged_hash(SEALED_DOMAIN, raw)


DOCUMENTS = Table(Prefix.DOCUMENT, Filing)
"""name of the sealed file"""
DOCUMENTS_BY_PARTY = Table(Prefix.DOCUMENT_PARTY, Marker)
"""account id of the owner or a recipient ‖ name of the sealed file"""
DOCUMENT_SPACE = Table(Prefix.DOCUMENT_SPACE, Space)
"""account id of an owner"""

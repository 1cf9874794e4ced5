"""Operations on documents."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from otcnode.codec import Record
from otcnode.types import Bytes32, Hash
from otcnode.vm.documents.records import SEALED_BYTES_MAX, Recipients


class DocumentFile(Record, frozen=True, tag="document.file"):
    """Tell the nodes to keep a sealed document, and who may have it. Signed by: any ACTIVE account (TRADE key).

    Fields: `document`, the name of the sealed file (the hash of its bytes); `size_bytes` of it, 1 to 2 MiB;
    `commitment` to the text inside; `recipients`, ascending, 1 to 64 accounts; `belongs_to`, the id of what it belongs
    to, or nil.
    Effects: every node fetches and keeps the file; the owner and the recipients may have it, a REGULATOR after an
    access.log entry for the document or what it belongs to.
    Errors: E_NOT_FOUND (a recipient), E_FIELD{recipients, size_bytes}, E_DUPLICATE (filed already), E_LIMIT (256 MiB
    for one owner; a file counts at least 4 KiB).
    """

    document: Bytes32
    size_bytes: Annotated[int, Meta(ge=1, le=SEALED_BYTES_MAX)]
    commitment: Hash
    recipients: Recipients
    belongs_to: Bytes32 | None


class DocumentWithdraw(Record, frozen=True, tag="document.withdraw"):
    """Have the nodes delete a sealed document. Signed by: its owner (TRADE key).

    Fields: `document`. Effects: the file is no longer kept or handed out; the commitment stays in the block that filed
    it. Errors: E_NOT_FOUND, E_NOT_PARTY.
    """

    document: Bytes32

"""Sealing a document to those who may read it, and opening one. Pure but for the randomness of keys and nonces.

A sealed file is the canonical array `[format, ciphertext, [[account, sealed key], …]]`. A random data key seals the
canonical array `[salt, content]` (XSalsa20-Poly1305), and is itself sealed to each reader's X25519 key (libsodium's
sealed box). The commitment over salt and content is what contracts and the chain name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from otcnode.client.errors import ClientError
from otcnode.codec import Record, decode, encode
from otcnode.crypto import open_sealed, open_with_key, random_bytes, seal_to, seal_with_key
from otcnode.errors import DecodeError
from otcnode.types import AccountId, Bytes32, Hash
from otcnode.vm.contracts.preimages import document_commitment
from otcnode.vm.documents.operations import DocumentFile
from otcnode.vm.documents.records import RECIPIENTS_MAX, SEALED_BYTES_MAX, sealed_name

Format: TypeAlias = Literal["otcnode/sealed/1"]
FORMAT: Format = "otcnode/sealed/1"


class DocumentError(ClientError):
    """A document that cannot be sealed, or a sealed file that this reader cannot open."""


class SealedKey(Record, frozen=True):
    account: AccountId
    key: bytes


class SealedDocument(Record, frozen=True):
    """`keys` ascending by account."""

    format: Format
    ciphertext: bytes
    keys: Annotated[tuple[SealedKey, ...], Meta(min_length=1, max_length=RECIPIENTS_MAX + 1)]


class Document(Record, frozen=True):
    """What is inside."""

    salt: Bytes32
    content: bytes


class Sealed(Record, frozen=True):
    """A sealed file, and what the chain is told of it. The salt is needed to show the document to anybody else."""

    raw: bytes
    name: Hash
    commitment: Hash
    salt: Bytes32
    recipients: tuple[AccountId, ...]

    def filing(self, belongs_to: Bytes32 | None = None) -> DocumentFile:
        """The operation that has the nodes keep the file; `belongs_to` is the id of what it belongs to."""
        return DocumentFile(self.name, len(self.raw), self.commitment, self.recipients, belongs_to)


def seal(content: bytes, recipients: Mapping[bytes, bytes], salt: bytes | None = None) -> Sealed:
    """Seal `content` to accounts, given with their X25519 keys. Raises DocumentError if it is too large or a key is of
    no use. `salt` is given again where the commitment is in a contract already."""
    if not 1 <= len(recipients) <= RECIPIENTS_MAX:
        raise DocumentError(f"{len(recipients)} recipients: 1 to {RECIPIENTS_MAX} are possible")
    salt = random_bytes(32) if salt is None else salt
    data_key = random_bytes(32)
    try:
        keys = tuple([SealedKey(account, seal_to(recipients[account], data_key)) for account in sorted(recipients)])
    except ValueError as error:
        raise DocumentError(str(error)) from None
    ciphertext = seal_with_key(data_key, encode(Document(salt, content)))
    raw = encode(SealedDocument(FORMAT, ciphertext, keys))
    if len(raw) > SEALED_BYTES_MAX:
        raise DocumentError(f"{len(raw)} bytes when sealed, at most {SEALED_BYTES_MAX}")
    return Sealed(raw, sealed_name(raw), document_commitment(salt, content), salt, tuple(sorted(recipients)))


def open_document(raw: bytes, account: bytes, secret: bytes, commitment: bytes) -> Document:
    """What is inside a sealed file, for a reader with this X25519 secret. Raises DocumentError if it is not sealed to
    the account, was changed, or holds another document than was committed to."""
    try:
        sealed = decode(SealedDocument, raw)
    except DecodeError as error:
        raise DocumentError(f"no sealed document: {error}") from None
    own = [entry.key for entry in sealed.keys if entry.account == account]
    data_key = open_sealed(secret, own[0]) if own else None
    if data_key is None or len(data_key) != 32:
        raise DocumentError("the document is not sealed to this account and key")
    plain = open_with_key(data_key, sealed.ciphertext)
    if plain is None:
        raise DocumentError("the document was changed after it was sealed")
    try:
        document = decode(Document, plain)
    except DecodeError as error:
        raise DocumentError(f"not a document inside: {error}") from None
    if document_commitment(document.salt, document.content) != commitment:
        raise DocumentError("another document than the one that was committed to")
    return document

"""The signed envelope of one or more operations.

The id is the hash of everything but the signatures; the full hash covers the signatures too, and blocks commit to
both, so that two replicas never judge different signature sets under one id.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from otcnode import limits
from otcnode.blocks import Entry, transaction_full_hash
from otcnode.codec import Record, decode, encode
from otcnode.crypto import SignatureCheck, SigningKey, tagged_hash
from otcnode.errors import Code, DecodeError, Inadmissible
from otcnode.types import (
    Bytes32,
    ChainId,
    Ed25519Signature,
    FullHash,
    Milliseconds,
    Natural,
    PublicKey,
    TransactionId,
)
from otcnode.vm.operations import Operation

TRANSACTION_DOMAIN = "otcnode/transaction/1"
TRANSACTION_VERSION = 1


class KeySignature(Record, frozen=True):
    """An Ed25519 signature of the transaction id by an account key."""

    key: PublicKey
    signature: Ed25519Signature


class Body(Record, frozen=True):
    """Everything the id covers. `sender` is empty where no account acts: an application for one, a node's operation."""

    version: Natural
    chain: ChainId
    sender: Annotated[bytes, Meta(max_length=32)]
    salt: Bytes32
    valid_until: Milliseconds
    on_behalf_of: Bytes32 | None
    entrustment: Bytes32 | None
    operations: Annotated[tuple[Operation, ...], Meta(min_length=1, max_length=limits.operations_per_transaction_max)]


class Transaction(Record, frozen=True):
    """`signatures` are sorted by key, each key once (canonical: one set of signatures has one encoding)."""

    body: Body
    signatures: Annotated[
        tuple[KeySignature, ...], Meta(min_length=1, max_length=limits.signatures_per_transaction_max)
    ]


class Decoded(Record, frozen=True):
    """A transaction with its names worked out once."""

    transaction: Transaction
    raw: bytes
    id: TransactionId
    full_hash: FullHash


_PARTS = msgspec.msgpack.Decoder(tuple[msgspec.Raw, msgspec.Raw])
"""The encodings of a transaction's body and signatures."""


def transaction_id(body: Body) -> TransactionId:
    return tagged_hash(TRANSACTION_DOMAIN, encode(body))


def decode_transaction(raw: bytes, full_hash: FullHash | None = None) -> Decoded:
    """Raises Inadmissible(E_DECODE) unless `raw` is one canonical transaction within the size limits.

    `full_hash` is that of `raw`, for who has worked it out; never what somebody says it is.
    """
    if len(raw) > limits.transaction_bytes_max:
        raise Inadmissible(Code.DECODE, f"{len(raw)} bytes, at most {limits.transaction_bytes_max}")
    try:
        transaction = decode(Transaction, raw)
    except DecodeError as error:
        raise Inadmissible(Code.DECODE, str(error)) from None
    body = transaction.body
    if body.version != TRANSACTION_VERSION:
        raise Inadmissible(Code.DECODE, f"version {body.version}, this ledger knows {TRANSACTION_VERSION}")
    if len(body.sender) not in (0, 32):
        raise Inadmissible(Code.DECODE, "sender is neither empty nor an account id")
    if len(transaction.signatures) > 1:
        keys = [signature.key for signature in transaction.signatures]
        if keys != sorted(set(keys)):
            raise Inadmissible(Code.DECODE, "signatures are not sorted by key, each key once")
    return Decoded(transaction, raw, transaction_id(body), full_hash or transaction_full_hash(raw))


def entry_of(raw: bytes) -> Entry:
    """What a block's transactions root says of a transaction that is in it: nothing is decoded that is not needed."""
    body, _ = _PARTS.decode(raw)
    return Entry(tagged_hash(TRANSACTION_DOMAIN, bytes(body)), transaction_full_hash(raw))


def sign_transaction(body: Body, keys: list[SigningKey]) -> Decoded:
    """The transaction signed by each of `keys`."""
    name = transaction_id(body)
    signatures = tuple(KeySignature(key.public, key.sign(name)) for key in sorted(keys, key=lambda key: key.public))
    return decode_transaction(encode(Transaction(body, signatures)))


def sign_as_node(chain: ChainId, operation: Operation, key: SigningKey, salt: bytes, valid_until: int) -> Decoded:
    """The transaction by which a node does something by itself (rules.Signatory.NODE)."""
    return sign_transaction(
        Body(TRANSACTION_VERSION, chain, b"", salt, valid_until, None, None, (operation,)),
        [key],
    )


def signature_checks(decoded: Decoded) -> list[SignatureCheck]:
    """The verifications that make the envelope authentic; whether the keys may sign is the processor's question."""
    return [SignatureCheck(entry.key, decoded.id, entry.signature) for entry in decoded.transaction.signatures]

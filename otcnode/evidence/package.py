"""The evidence package: one file that shows what became of a contract or a trade to somebody who has only the genesis
hash. Pure.

A package is the canonical array of its fields. Everything in it hangs on two roots: the state after the block of
`header`, and the blocks in which the transactions are. Headers are believed because the validators certified them, the
validators because the genesis document names the first of them and every later set is named by a certified header.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from otcnode import limits
from otcnode.blocks import Certificate, Epoch, Header
from otcnode.codec import Record, decode, encode
from otcnode.errors import DecodeError, OtcnodeError
from otcnode.evidence.verdict import Outcome, Refused
from otcnode.storage.state_proof import StateProof
from otcnode.types import Bytes32, Hash, Height, Natural

Format: TypeAlias = Literal["otcnode/evidence/1"]
FORMAT: Format = "otcnode/evidence/1"


class Kind(StrEnum):
    CONTRACT = "contract"
    TRADE = "trade"


class CertifiedHeader(Record, frozen=True):
    header: Header
    certificate: Certificate


class EpochStep(Record, frozen=True):
    """A validator set and the certified header before it, which names its hash."""

    epoch: Epoch
    announced_by: CertifiedHeader


class StateEntry(Record, frozen=True):
    """What the state after the package's last block holds under a key; `value` None: nothing."""

    key: Annotated[bytes, Meta(max_length=limits.evidence_key_bytes_max)]
    value: bytes | None
    proof: StateProof


class Leaf(Record, frozen=True):
    """Place `index` of `count` under a Merkle root, and the hashes from there up."""

    index: Natural
    count: Natural
    path: Annotated[tuple[Hash, ...], Meta(max_length=64)]


class TransactionProof(Record, frozen=True):
    """A transaction as it is in the block at `height`, and its receipt."""

    height: Height
    raw: bytes
    entry: Leaf
    receipt: bytes
    outcome: Leaf


class AutomaticProof(Record, frozen=True):
    """The receipt of something that the ledger did by itself in the block at `height`."""

    height: Height
    receipt: bytes
    outcome: Leaf


class Document(Record, frozen=True):
    """The document whose commitment the contract holds, for whoever is entitled to it."""

    salt: Bytes32
    content: bytes


class Package(Record, frozen=True):
    """`genesis` is the canonical genesis document. `blocks` are those of the transactions, ascending; `last` is the
    block whose state the entries are of. `document` is added by a party, never by a node."""

    format: Format
    kind: Kind
    subject: Bytes32
    genesis: bytes
    epochs: tuple[EpochStep, ...]
    last: CertifiedHeader
    state: tuple[StateEntry, ...]
    blocks: tuple[CertifiedHeader, ...]
    transactions: tuple[TransactionProof, ...]
    automatic: tuple[AutomaticProof, ...]
    document: Document | None


class TooLarge(OtcnodeError):
    """More made an item than a package may hold."""


def write(package: Package) -> bytes:
    """Raises TooLarge where no reader would take it."""
    raw = encode(package)
    if len(raw) > limits.evidence_package_bytes_max:
        raise TooLarge(f"{len(raw)} bytes, a package has at most {limits.evidence_package_bytes_max}")
    return raw


def read(raw: bytes) -> Package:
    """Raises Refused(PROOF_INVALID) if this is no package."""
    if len(raw) > limits.evidence_package_bytes_max:
        raise Refused(
            Outcome.PROOF_INVALID, f"{len(raw)} bytes, a package has at most {limits.evidence_package_bytes_max}"
        )
    try:
        return decode(Package, raw)
    except DecodeError as error:
        raise Refused(Outcome.PROOF_INVALID, f"no evidence package: {error}") from None

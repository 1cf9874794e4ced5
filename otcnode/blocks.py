"""Blocks, certificates and validator sets: what the nodes agree on and anyone can check.

The header holds nothing that may differ between honest replicas (no view, no certificate), so a block keeps its hash
when a later view proposes it again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeAlias

from otcnode import limits, merkle
from otcnode.codec import Record, encode
from otcnode.crypto import SignatureCheck, preimage, tagged_hash, verify
from otcnode.errors import ProofError
from otcnode.remembered import remembered
from otcnode.types import (
    BlockHash,
    Bytes32,
    ChainId,
    Ed25519Signature,
    EpochNumber,
    FullHash,
    Hash,
    Height,
    Milliseconds,
    Natural,
    NodeId,
    TransactionId,
    View,
)

BLOCK_DOMAIN = "otcnode/block/1"
COMMIT_DOMAIN = "otcnode/commit/1"
PREPARE_DOMAIN = "otcnode/prepare/1"
VALIDATORS_DOMAIN = "otcnode/validators/2"
TRANSACTION_FULL_DOMAIN = "otcnode/transaction-full/1"
HEADER_VERSION = 1
SIGNATURE_BYTES_MAX = 104
HEADER_BYTES_MAX = 512
"""What a validator's signature, and a header or any other part of a message beside signatures, takes at most."""

Verify: TypeAlias = Callable[[bytes, bytes, bytes], bool]
"""Whether (public key, message, signature) is a valid signature; total. Injected where a simulation replaces it."""


class Header(Record, frozen=True):
    """What a block commits to. `proposer` is the original one, also when a later view re-proposes the block."""

    version: Natural
    chain: ChainId
    height: Height
    parent: BlockHash
    time_ms: Milliseconds
    proposer: NodeId
    transaction_count: Natural
    transactions_root: Hash
    receipts_root: Hash
    state_root: Hash
    validators_hash: Hash
    next_validators_hash: Hash


@remembered(limits.block_hashes_remembered_max)
def block_hash(header: Header) -> BlockHash:
    """Asked of one header in every step from its proposal to its commit, so worked out once."""
    return tagged_hash(BLOCK_DOMAIN, encode(header))


def transaction_full_hash(raw: bytes) -> FullHash:
    """Names one copy of a transaction, signatures included, by its bytes alone."""
    return tagged_hash(TRANSACTION_FULL_DOMAIN, raw)


class Entry(Record, frozen=True):
    """One transaction of a block, named so that its body, signatures included, is fixed."""

    id: TransactionId
    full_hash: FullHash


def transactions_root(entries: Sequence[Entry]) -> Hash:
    """Merkle root over id ‖ full hash, in block order: it commits to the full bodies, signatures included."""
    return merkle.root([entry.id + entry.full_hash for entry in entries])


class ValidatorSignature(Record, frozen=True):
    validator: NodeId
    signature: Ed25519Signature


class Certificate(Record, frozen=True):
    """q to n COMMIT signatures of ONE view over one block hash, sorted by validator: finality.

    Nodes may hold different certificates for one block; they are never compared. `epoch` is signed too and is
    carried so that a verifier needs nothing but the validator set.
    """

    epoch: EpochNumber
    view: View
    height: Height
    block_hash: BlockHash
    signatures: tuple[ValidatorSignature, ...]


class Block(Record, frozen=True):
    """A header and the raw canonical transactions it commits to."""

    header: Header
    transactions: tuple[bytes, ...]


class CertifiedBlock(Record, frozen=True):
    block: Block
    certificate: Certificate


@lru_cache(maxsize=limits.validators_max)
def maximum_faulty(count: int) -> int:
    """f = ⌊(n − 1) / 3⌋."""
    return (count - 1) // 3


@lru_cache(maxsize=limits.validators_max)
def quorum(count: int) -> int:
    """q = ⌊(n + f) / 2⌋ + 1: any two quorums share an honest validator, for every n ≥ 1 (1→1, 4→3, 5→4, 6→4, 7→5)."""
    return (count + maximum_faulty(count)) // 2 + 1


class ConsensusParameters(Record, frozen=True):
    """What validators must agree on to agree on blocks; see genesis.ChainParameters for each. They are an epoch's, so
    that all messages of one epoch are judged by one set of them."""

    window: Natural
    drift_real_ms: Natural
    heartbeat_real_ms: Natural
    rotation_blocks: Natural
    inclusion_timeout_real_ms: Natural
    block_transactions_max: Natural
    block_bytes_max: Natural


class Epoch(Record, frozen=True):
    """The validators, sorted by id, that decide heights `number` and above until the next epoch, and by which
    parameters they do."""

    number: EpochNumber
    validators: tuple[NodeId, ...]
    parameters: ConsensusParameters

    @property
    def quorum(self) -> int:
        return quorum(len(self.validators))

    @property
    def window(self) -> int:
        """Heights in flight at most: as the parameter says, or as many as fit (it is read at every step)."""
        return min(self.parameters.window, _heights_fitting(len(self.validators)))

    @property
    def weak_quorum(self) -> int:
        """f + 1: at least one of them is honest."""
        return maximum_faulty(len(self.validators)) + 1

    def primary(self, view: int) -> bytes:
        return self.validators[view % len(self.validators)]


@lru_cache(maxsize=limits.validators_max)
def _heights_fitting(validators: int) -> int:
    """The proofs of so many heights, in the VIEW-CHANGEs of a quorum, make no NEW-VIEW larger than a message may be."""
    certificates_bytes = quorum(validators) * (validators * SIGNATURE_BYTES_MAX + HEADER_BYTES_MAX)
    height_bytes = quorum(validators) * (quorum(validators) * SIGNATURE_BYTES_MAX + HEADER_BYTES_MAX) + HEADER_BYTES_MAX
    return (limits.message_bytes_max - certificates_bytes - HEADER_BYTES_MAX) // height_bytes


@remembered(limits.validators_hashes_remembered_max)
def validators_hash(epoch: Epoch) -> Hash:
    """Names who decides, from which height on and by which parameters: a header says so of itself and of the block
    after it, so that nobody needs to execute a block to see that an epoch ends with it."""
    assert list(epoch.validators) == sorted(set(epoch.validators))
    return tagged_hash(VALIDATORS_DOMAIN, encode(epoch))


@remembered(limits.vote_preimages_remembered_max)
def commit_preimage(chain: bytes, epoch: int, view: int, height: int, block: Bytes32) -> bytes:
    """What every COMMIT of one view for one block signs."""
    return preimage(COMMIT_DOMAIN, chain, epoch, view, height, block)


@remembered(limits.vote_preimages_remembered_max)
def prepare_preimage(chain: bytes, epoch: int, view: int, height: int, block: Bytes32) -> bytes:
    """What every PREPARE of one view for one block signs."""
    return preimage(PREPARE_DOMAIN, chain, epoch, view, height, block)


def vote_checks(signatures: Sequence[ValidatorSignature], message: bytes, epoch: Epoch) -> list[SignatureCheck]:
    """What is to be verified of q to n signatures of `message`, sorted, by members of `epoch`. Raises ProofError where
    they are not that."""
    names = [entry.validator for entry in signatures]
    if names != sorted(set(names)):
        raise ProofError("signatures are not sorted by validator, each once")
    if not epoch.quorum <= len(names) <= len(epoch.validators):
        raise ProofError(f"{len(names)} signatures, a quorum is {epoch.quorum}")
    if not set(names) <= set(epoch.validators):
        raise ProofError("a signer is not a validator of this epoch")
    return [SignatureCheck(entry.validator, message, entry.signature) for entry in signatures]


def check_signatures(
    signatures: Sequence[ValidatorSignature], message: bytes, epoch: Epoch, verify: Verify = verify
) -> None:
    """Raise ProofError unless `signatures` are q to n valid signatures of `message`, sorted, by members of `epoch`."""
    for check in vote_checks(signatures, message, epoch):
        if not verify(*check):
            raise ProofError(f"the signature of validator {check.public.hex()[:12]} is wrong")


def certificate_checks(certificate: Certificate, chain: bytes, epoch: Epoch) -> list[SignatureCheck]:
    """What is to be verified of a certificate by the validators of `epoch`. Raises ProofError where it is none."""
    if certificate.epoch != epoch.number:
        raise ProofError(f"certificate of epoch {certificate.epoch}, expected {epoch.number}")
    message = commit_preimage(chain, certificate.epoch, certificate.view, certificate.height, certificate.block_hash)
    return vote_checks(certificate.signatures, message, epoch)


def check_certificate(certificate: Certificate, chain: bytes, epoch: Epoch, verify: Verify = verify) -> None:
    """Raise ProofError unless the certificate is valid for the validators of `epoch`."""
    for check in certificate_checks(certificate, chain, epoch):
        if not verify(*check):
            raise ProofError(f"the signature of validator {check.public.hex()[:12]} is wrong")

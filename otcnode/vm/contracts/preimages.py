"""What is hashed and signed about a contract; clients build the same bytes with these functions.

Preimages are canonical MessagePack arrays that begin with a domain, absent parts nil.
"""

from __future__ import annotations

from otcnode.codec import encode
from otcnode.crypto import preimage, sha256, tagged_hash
from otcnode.types import AccountId, Bytes32, ChainId, Hash
from otcnode.vm.contracts.records import Term

CONTRACT_SIGNATURE_DOMAIN = "otcnode/contract-signature/1"
CONTRACT_TERMS_DOMAIN = "otcnode/contract-terms/1"
DOCUMENT_DOMAIN = "otcnode/document/1"


def contract_signature_preimage(
    *,
    chain: ChainId,
    contract: Bytes32,
    version: int,
    terms_hash: Hash,
    document: Hash,
    slot: int,
    principal: AccountId,
    entrustment: Bytes32 | None = None,
) -> bytes:
    """What one SIGN key signs to sign a contract in a slot.

    `principal` is the slot's account, whoever signs; `entrustment` is nil unless an agent signs for it.
    """
    return preimage(
        CONTRACT_SIGNATURE_DOMAIN, chain, contract, version, terms_hash, document, slot, principal, entrustment
    )


def terms_hash(terms: tuple[Term, ...]) -> Hash:
    """SHA-256(domain ‖ canonical terms); terms are ascending by name."""
    return tagged_hash(CONTRACT_TERMS_DOMAIN, encode(terms))


def document_commitment(salt: Bytes32, document: bytes) -> Hash:
    """Binds to a document without revealing it: SHA-256(domain ‖ salt ‖ SHA-256(document)), the salt being secret."""
    assert len(salt) == 32
    return tagged_hash(DOCUMENT_DOMAIN, salt + sha256(document))

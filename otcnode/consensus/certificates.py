"""Certificates and proofs: made from votes held, and checked when others send them."""

from __future__ import annotations

from otcnode.blocks import (
    Certificate,
    Epoch,
    Header,
    ValidatorSignature,
    Verify,
    block_hash,
    check_signatures,
    prepare_preimage,
)
from otcnode.consensus.messages import Proof
from otcnode.consensus.votes import VoteBook
from otcnode.errors import ProofError


def certificate_from(commits: VoteBook, epoch: Epoch, height: int) -> Certificate | None:
    """A quorum of COMMITs of one view for one block, if the book holds one (PBFT, OSDI '99, section 4.2)."""
    voters = commits.voters(height)
    if not voters or voters < epoch.quorum:
        return None
    for view, block in commits.choices(height):
        signatures = commits.signatures(height, view, block)
        if len(signatures) >= epoch.quorum:
            return Certificate(epoch.number, view, height, block, signatures)
    return None


def proof_from(prepares: VoteBook, epoch: Epoch, view: int, header: Header, block: bytes) -> Proof | None:
    """q PREPAREs of `view` for the block, the primary's among them; None while they are fewer."""
    if prepares.voters(header.height) < epoch.quorum:
        return None
    signatures = prepares.signatures(header.height, view, block)
    primary = epoch.primary(view)
    leading = [entry for entry in signatures if entry.validator == primary]
    if not leading or len(signatures) < epoch.quorum:
        return None
    others = [entry for entry in signatures if entry.validator != primary]
    chosen: list[ValidatorSignature] = sorted(
        [*leading, *others[: epoch.quorum - 1]], key=lambda entry: entry.validator
    )
    return Proof(view, header, tuple(chosen))


def check_proof(proof: Proof, chain: bytes, epoch: Epoch, verify: Verify) -> None:
    """Raise ProofError unless q validators of `epoch`, the primary of its view among them, prepared its header. More
    of them prove nothing more, and a NEW-VIEW of such proofs could be larger than a message (see Epoch.window)."""
    if proof.header.chain != chain:
        raise ProofError("a proof for another chain")
    if len(proof.signatures) != epoch.quorum:
        raise ProofError(f"a proof of {len(proof.signatures)} PREPAREs, not of exactly {epoch.quorum}")
    if epoch.primary(proof.view) not in [entry.validator for entry in proof.signatures]:
        raise ProofError("a proof without the primary's own signature")
    message = prepare_preimage(chain, epoch.number, proof.view, proof.header.height, block_hash(proof.header))
    check_signatures(proof.signatures, message, epoch, verify)

"""What follows from VIEW-CHANGEs, as pure functions that the new primary and every other replica compute alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from otcnode import limits
from otcnode.blocks import Epoch, Header, Verify, block_hash, check_certificate, prepare_preimage
from otcnode.consensus.certificates import check_proof
from otcnode.consensus.messages import NewView, Proof, ViewChange, new_view_preimage, view_change_preimage
from otcnode.errors import ProofError


@dataclass(frozen=True, slots=True)
class Selection:
    """`base`: the highest certified height; `headers`: what must be proposed again directly above it, in order."""

    base: int
    headers: tuple[Header, ...]


def select(view_changes: Iterable[ViewChange]) -> Selection:
    """For each height above the base, the proof of the highest view; stop at the first height that has none, or whose
    best proof does not extend the block chosen below.

    Dropping a proof that does not extend is safe: had its block been committed, q − f honest replicas would hold
    proofs of every height below it from that view or later, and the selection would have reached it.
    """
    messages = list(view_changes)
    base = max(message.committed for message in messages)
    certificates = [message.certificate for message in messages if message.committed == base]
    below = next((certificate.block_hash for certificate in certificates if certificate is not None), None)
    chosen: list[Header] = []
    while True:
        best = _best_proof(messages, base + 1 + len(chosen))
        # Where the epoch begins, its base has no certificate of this epoch, and nothing was accepted on another block.
        if best is None or (below is not None and best.header.parent != below):
            return Selection(base, tuple(chosen))
        chosen.append(best.header)
        below = block_hash(best.header)


def _best_proof(messages: Sequence[ViewChange], height: int) -> Proof | None:
    proofs = [proof for message in messages for proof in message.proofs if proof.header.height == height]
    return max(proofs, key=lambda proof: (proof.view, block_hash(proof.header)), default=None)


def is_signed_view_change(message: ViewChange, chain: bytes, epoch: Epoch, verify: Verify) -> bool:
    """Whether it is a VIEW-CHANGE of this epoch, right or wrong, signed by its validator."""
    if message.validator not in epoch.validators or not _fits_view_change(message, epoch):
        return False
    return verify(message.validator, view_change_preimage(chain, message), message.signature)


def _fits_view_change(message: ViewChange, epoch: Epoch) -> bool:
    """With no more proofs and signatures than a right one can have. What is larger is none, whoever signed it: nobody
    takes it or passes it on. So whatever wrong one anybody looks at is evidence as small as a right one, and its author
    cannot pad it until no transaction holds it."""
    certificate = message.certificate
    return (
        len(message.proofs) <= epoch.window
        and all(len(proof.signatures) <= epoch.quorum for proof in message.proofs)
        and (certificate is None or len(certificate.signatures) <= len(epoch.validators))
    )


def is_signed_new_view(message: NewView, chain: bytes, epoch: Epoch, verify: Verify) -> bool:
    """The same of a NEW-VIEW."""
    if message.validator not in epoch.validators or not _fits_new_view(message, epoch):
        return False
    return verify(message.validator, new_view_preimage(chain, message), message.signature)


def _fits_new_view(message: NewView, epoch: Epoch) -> bool:
    return (
        len(message.view_changes) <= epoch.quorum
        and len(message.reproposals) <= epoch.window
        and all(_fits_view_change(entry, epoch) for entry in message.view_changes)
    )


def check_view_change(message: ViewChange, chain: bytes, epoch: Epoch, verify: Verify) -> None:
    """Raise ProofError unless what the (already authentic) message claims is proved in it.

    Nothing is looked at but the message and its epoch, so that everybody judges it alike, at any time.
    """
    if message.epoch != epoch.number:
        raise ProofError(f"VIEW-CHANGE of epoch {message.epoch}")
    if not 0 < message.view < limits.view_max:
        raise ProofError(f"VIEW-CHANGE for view {message.view}")
    _check_committed(message, chain, epoch, verify)
    heights = [proof.header.height for proof in message.proofs]
    if heights != list(range(message.committed + 1, message.committed + 1 + len(heights))):
        raise ProofError("the proofs are not of contiguous heights above the committed one")
    for proof in message.proofs:
        if proof.view >= message.view:
            raise ProofError("a proof of a view that is not below the one asked for")
        check_proof(proof, chain, epoch, verify)


def _check_committed(message: ViewChange, chain: bytes, epoch: Epoch, verify: Verify) -> None:
    """The height where the epoch began is known to all; any other is shown by a certificate."""
    certificate = message.certificate
    if message.committed == epoch.number - 1:
        if certificate is not None:
            raise ProofError("a certificate for the height where the epoch began")
        return
    if certificate is None or message.committed < epoch.number:
        raise ProofError("the committed height has no certificate")
    if certificate.height != message.committed:
        raise ProofError("the certificate is for another height")
    if certificate.view >= limits.view_max:
        raise ProofError("a certificate of a view that cannot be")
    check_certificate(certificate, chain, epoch, verify)


def check_new_view(
    message: NewView,
    chain: bytes,
    epoch: Epoch,
    verify: Verify,
    known: Callable[[ViewChange], bool] = lambda _: False,
) -> Selection:
    """The selection that the (already authentic) message rightly makes; raises ProofError if anything is wrong.

    `known` says which VIEW-CHANGEs this replica has already checked, byte for byte.
    """
    if message.validator != epoch.primary(message.view):
        raise ProofError("NEW-VIEW by another than the primary of its view")
    if not 0 < message.view < limits.view_max:
        raise ProofError(f"NEW-VIEW for view {message.view}")
    names = [entry.validator for entry in message.view_changes]
    if len(names) != epoch.quorum or names != sorted(set(names)):
        raise ProofError(f"{len(names)} VIEW-CHANGEs; exactly {epoch.quorum}, sorted, each validator once, are needed")
    for entry in message.view_changes:
        if entry.view != message.view:
            raise ProofError("a VIEW-CHANGE for another view")
        if known(entry):
            continue
        if not is_signed_view_change(entry, chain, epoch, verify):
            raise ProofError("a VIEW-CHANGE with a false signature")
        check_view_change(entry, chain, epoch, verify)
    selection = select(message.view_changes)
    if tuple(entry.header for entry in message.reproposals) != selection.headers:
        raise ProofError("the re-proposals are not those that follow from the VIEW-CHANGEs")
    for again in message.reproposals:
        preimage = prepare_preimage(chain, epoch.number, message.view, again.header.height, block_hash(again.header))
        if not verify(message.validator, preimage, again.signature):
            raise ProofError("a re-proposal with a false signature")
    return selection

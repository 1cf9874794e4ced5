"""Misbehaviour that anyone can check: what an honest validator never signs. Pure; verified without a node or a network.

A piece of evidence is one value of a closed set, and `check_evidence` is all there is to believe: it needs the chain
and the epoch (its validators, and its parameters, which never change within one).

Two different VIEW-CHANGEs for one view are no evidence: a replica may have committed more in between. Nor is what is
larger than any VIEW-CHANGE or NEW-VIEW of its epoch: nobody takes it for one.
"""

from __future__ import annotations

from enum import StrEnum
from typing import assert_never

from otcnode import limits
from otcnode.blocks import Epoch, Verify, block_hash, commit_preimage, prepare_preimage
from otcnode.codec import Record, encode
from otcnode.consensus.messages import (
    Commit,
    DoubleCommit,
    DoublePrepare,
    Evidence,
    HiddenProof,
    InvalidNewView,
    InvalidViewChange,
    NewView,
    Prepare,
    ViewChange,
)
from otcnode.consensus.view_change import (
    check_new_view,
    check_view_change,
    is_signed_new_view,
    is_signed_view_change,
)
from otcnode.errors import ProofError
from otcnode.types import EpochNumber, Height, NodeId, View


class Kind(StrEnum):
    """What a validator did. A PRE-PREPARE is its primary's PREPARE, so two of them are shown as two PREPAREs."""

    DOUBLE_PRE_PREPARE = "double PRE-PREPARE"
    DOUBLE_PREPARE = "double PREPARE"
    DOUBLE_COMMIT = "double COMMIT"
    INVALID_VIEW_CHANGE = "invalid VIEW-CHANGE"
    INVALID_NEW_VIEW = "invalid NEW-VIEW"
    HIDDEN_PROOF = "hidden proof"


class Offence(Record, frozen=True):
    """Who did what, and where: one offence counts once, however many messages show it. Height 0: of a whole view."""

    validator: NodeId
    kind: Kind
    epoch: EpochNumber
    view: View
    height: Height


def double_vote(first: Prepare | Commit, second: Prepare | Commit) -> Evidence:
    """The one form in which two contradicting votes of one kind are shown."""
    if isinstance(first, Prepare) and isinstance(second, Prepare):
        return DoublePrepare(*sorted((first, second), key=lambda vote: vote.block_hash))
    assert isinstance(first, Commit) and isinstance(second, Commit)
    return DoubleCommit(*sorted((first, second), key=lambda vote: vote.block_hash))


def epoch_of(evidence: Evidence) -> int:
    """The epoch whose validators are needed to check it."""
    match evidence:
        case DoublePrepare() | DoubleCommit():
            return evidence.first.epoch
        case InvalidViewChange(message):
            return message.epoch
        case InvalidNewView(message):
            return message.epoch
        case HiddenProof(commit):
            return commit.epoch
        case _:
            assert_never(evidence)


def is_large(evidence: Evidence) -> bool:
    """Whether no transaction can hold it: there is little room for such evidence, and it is apart."""
    return len(encode(evidence)) > limits.evidence_in_transaction_bytes_max


def claimed_offence(evidence: Evidence, epoch: Epoch) -> Offence:
    """The offence that the evidence proves if it proves any in its epoch; nothing is verified."""
    match evidence:
        case DoublePrepare(first):
            is_primary = epoch.primary(first.view) == first.validator
            kind = Kind.DOUBLE_PRE_PREPARE if is_primary else Kind.DOUBLE_PREPARE
            return Offence(first.validator, kind, epoch.number, first.view, first.height)
        case DoubleCommit(first):
            return Offence(first.validator, Kind.DOUBLE_COMMIT, epoch.number, first.view, first.height)
        case InvalidViewChange(message):
            return Offence(message.validator, Kind.INVALID_VIEW_CHANGE, epoch.number, message.view, 0)
        case InvalidNewView(message):
            return Offence(message.validator, Kind.INVALID_NEW_VIEW, epoch.number, message.view, 0)
        case HiddenProof(commit):
            return Offence(commit.validator, Kind.HIDDEN_PROOF, epoch.number, commit.view, commit.height)
        case _:
            assert_never(evidence)


def check_evidence(evidence: Evidence, chain: bytes, epoch: Epoch, verify: Verify) -> Offence:
    """The offence that the evidence proves; raises ProofError unless it proves one of a validator of `epoch`."""
    match evidence:
        case DoublePrepare(first, second) | DoubleCommit(first, second):
            _check_double_vote(first, second, chain, epoch, verify)
        case InvalidViewChange(message):
            _check_invalid_view_change(message, chain, epoch, verify)
        case InvalidNewView(message):
            _check_invalid_new_view(message, chain, epoch, verify)
        case HiddenProof(commit, view_change):
            _check_hidden_proof(commit, view_change, chain, epoch, verify)
        case _:
            assert_never(evidence)
    return claimed_offence(evidence, epoch)


def _check_double_vote(
    first: Prepare | Commit, second: Prepare | Commit, chain: bytes, epoch: Epoch, verify: Verify
) -> None:
    if (first.validator, first.epoch, first.view, first.height) != (
        second.validator,
        second.epoch,
        second.view,
        second.height,
    ):
        raise ProofError("the votes are not of one validator at one epoch, view and height")
    if first.block_hash >= second.block_hash:
        raise ProofError("the votes are not for two blocks in ascending order of their hashes")
    for vote in (first, second):
        _require_vote(vote, chain, epoch, verify)


def _check_invalid_view_change(message: ViewChange, chain: bytes, epoch: Epoch, verify: Verify) -> None:
    _require_view_change(message, chain, epoch, verify)
    try:
        check_view_change(message, chain, epoch, verify)
    except ProofError:
        return
    raise ProofError("the VIEW-CHANGE is valid")


def _check_invalid_new_view(message: NewView, chain: bytes, epoch: Epoch, verify: Verify) -> None:
    if message.epoch != epoch.number or not is_signed_new_view(message, chain, epoch, verify):
        raise ProofError("not a NEW-VIEW signed by a validator of this epoch")
    try:
        check_new_view(message, chain, epoch, verify)
    except ProofError:
        return
    raise ProofError("the NEW-VIEW is valid")


def _check_hidden_proof(commit: Commit, view_change: ViewChange, chain: bytes, epoch: Epoch, verify: Verify) -> None:
    """COMMIT(w, h, B) beside VIEW-CHANGE(v' > w, c < h) whose proof at h is absent, of a view below w, or of view w
    for another block. A proof of a view above w clears it, whatever its block."""
    if commit.validator != view_change.validator:
        raise ProofError("messages of two validators")
    _require_vote(commit, chain, epoch, verify)
    _require_view_change(view_change, chain, epoch, verify)
    if shows_proof(commit, view_change):
        raise ProofError("the VIEW-CHANGE shows the proof, or owed none")


def shows_proof(commit: Commit, view_change: ViewChange) -> bool:
    """Whether the VIEW-CHANGE is such as an honest replica could send that has sent the COMMIT."""
    if commit.view >= view_change.view or view_change.committed >= commit.height:
        return True
    for proof in view_change.proofs:
        if proof.header.height != commit.height:
            continue
        same = proof.view == commit.view and block_hash(proof.header) == commit.block_hash
        if proof.view > commit.view or same:
            return True
    return False


def _require_view_change(message: ViewChange, chain: bytes, epoch: Epoch, verify: Verify) -> None:
    if message.epoch != epoch.number or not is_signed_view_change(message, chain, epoch, verify):
        raise ProofError("not a VIEW-CHANGE signed by a validator of this epoch")


def _require_vote(vote: Prepare | Commit, chain: bytes, epoch: Epoch, verify: Verify) -> None:
    preimage = prepare_preimage if isinstance(vote, Prepare) else commit_preimage
    signed = preimage(chain, vote.epoch, vote.view, vote.height, vote.block_hash)
    if vote.epoch != epoch.number or vote.validator not in epoch.validators:
        raise ProofError("not a vote of a validator of this epoch")
    if not verify(vote.validator, signed, vote.signature):
        raise ProofError("a vote with a false signature")

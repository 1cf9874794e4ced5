"""Misbehaviour that anyone can check: what an honest validator never signs. Pure; verified without a node or a network.

Each function raises ProofError unless the messages prove exactly what it says of one validator of `epoch`.
"""

from __future__ import annotations

from otcnode.blocks import Epoch, Verify, block_hash, commit_preimage, prepare_preimage
from otcnode.consensus.messages import Commit, NewView, Prepare, ViewChange
from otcnode.consensus.view_change import (
    check_new_view,
    check_view_change,
    is_signed_new_view,
    is_signed_view_change,
)
from otcnode.errors import ProofError


def check_double_vote(
    first: Prepare | Commit, second: Prepare | Commit, chain: bytes, epoch: Epoch, verify: Verify
) -> None:
    """Two PREPAREs or two COMMITs for different blocks at one view and height. A PRE-PREPARE is its primary's PREPARE,
    so two PRE-PREPAREs are shown in the same form."""
    if type(first) is not type(second):
        raise ProofError("votes of two kinds")
    _require_same_place(first, second)
    if first.block_hash == second.block_hash:
        raise ProofError("both votes are for one block")
    for vote in (first, second):
        _require_vote(vote, chain, epoch, verify)


def check_invalid_view_change(message: ViewChange, chain: bytes, epoch: Epoch, window: int, verify: Verify) -> None:
    """A signed VIEW-CHANGE that claims what it does not prove."""
    if message.epoch != epoch.number or not is_signed_view_change(message, chain, epoch, verify):
        raise ProofError("not a VIEW-CHANGE signed by a validator of this epoch")
    try:
        check_view_change(message, chain, epoch, window, verify)
    except ProofError:
        return
    raise ProofError("the VIEW-CHANGE is valid")


def check_invalid_new_view(message: NewView, chain: bytes, epoch: Epoch, window: int, verify: Verify) -> None:
    """A signed NEW-VIEW with an invalid VIEW-CHANGE in it, or with wrong re-proposals."""
    if message.epoch != epoch.number or not is_signed_new_view(message, chain, epoch, verify):
        raise ProofError("not a NEW-VIEW signed by a validator of this epoch")
    try:
        check_new_view(message, chain, epoch, window, verify)
    except ProofError:
        return
    raise ProofError("the NEW-VIEW is valid")


def check_hidden_proof(commit: Commit, view_change: ViewChange, chain: bytes, epoch: Epoch, verify: Verify) -> None:
    """COMMIT(w, h, B) beside VIEW-CHANGE(v' > w, c < h) whose proof at h is absent, of a view below w, or of view w
    for another block. A proof of a view above w clears it, whatever its block."""
    if commit.validator != view_change.validator:
        raise ProofError("messages of two validators")
    _require_vote(commit, chain, epoch, verify)
    if view_change.epoch != epoch.number or not is_signed_view_change(view_change, chain, epoch, verify):
        raise ProofError("not a VIEW-CHANGE signed by a validator of this epoch")
    if commit.view >= view_change.view or view_change.committed >= commit.height:
        raise ProofError("the VIEW-CHANGE owed no proof for that COMMIT")
    for proof in view_change.proofs:
        if proof.header.height != commit.height:
            continue
        shown = proof.view == commit.view and block_hash(proof.header) == commit.block_hash
        if proof.view > commit.view or shown:
            raise ProofError("the VIEW-CHANGE shows the proof")


def _require_same_place(first: Prepare | Commit, second: Prepare | Commit) -> None:
    if (first.validator, first.epoch, first.view, first.height) != (
        second.validator,
        second.epoch,
        second.view,
        second.height,
    ):
        raise ProofError("the votes are not of one validator at one epoch, view and height")


def _require_vote(vote: Prepare | Commit, chain: bytes, epoch: Epoch, verify: Verify) -> None:
    preimage = prepare_preimage if isinstance(vote, Prepare) else commit_preimage
    signed = preimage(chain, vote.epoch, vote.view, vote.height, vote.block_hash)
    if vote.epoch != epoch.number or vote.validator not in epoch.validators:
        raise ProofError("not a vote of a validator of this epoch")
    if not verify(vote.validator, signed, vote.signature):
        raise ProofError("a vote with a false signature")

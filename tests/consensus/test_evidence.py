"""Evidence proves what it says, and honest messages are never evidence."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from otcnode.blocks import block_hash
from otcnode.codec import decode, encode
from otcnode.consensus.evidence import Kind, Offence, check_evidence, double_vote
from otcnode.consensus.messages import (
    Commit,
    DoubleCommit,
    DoublePrepare,
    Evidence,
    HiddenProof,
    InvalidNewView,
    InvalidViewChange,
    Prepare,
    ViewChange,
)
from otcnode.errors import ProofError
from tests.consensus.cluster import commit_of, prepare_of
from tests.consensus.test_view_change import A1, A2, B1, EPOCH, NAMES, QUORUM, asking, certificate, opening, proof
from tests.consensus.toy import CHAIN, fake_verify

A, B = sorted((block_hash(A1), block_hash(B1)))
COMMIT = commit_of(NAMES[0], 1, 1, 1, block_hash(A1))


def _check(evidence: Evidence) -> Offence:
    """As whoever reads it from a file."""
    return check_evidence(decode(Evidence, encode(evidence)), CHAIN, EPOCH, fake_verify)


@pytest.mark.parametrize(
    ("validator", "make", "kind"),
    [
        (NAMES[0], prepare_of, Kind.DOUBLE_PRE_PREPARE),
        (NAMES[1], prepare_of, Kind.DOUBLE_PREPARE),
        (NAMES[0], commit_of, Kind.DOUBLE_COMMIT),
    ],
)
def test_two_votes_for_two_blocks_are_evidence(validator: bytes, make: object, kind: Kind) -> None:
    assert callable(make)
    first, second = make(validator, 1, 0, 1, A), make(validator, 1, 0, 1, B)
    for evidence in (double_vote(first, second), double_vote(second, first)):
        assert _check(evidence) == Offence(validator, kind, 1, 0, 1)


@pytest.mark.parametrize(
    "second",
    [
        prepare_of(NAMES[0], 1, 0, 1, A),
        prepare_of(NAMES[0], 1, 1, 1, B),
        prepare_of(NAMES[0], 1, 0, 2, B),
        prepare_of(NAMES[1], 1, 0, 1, B),
        prepare_of(NAMES[0], 2, 0, 1, B),
        Prepare(1, 0, 1, B, NAMES[0], bytes(64)),
    ],
)
def test_these_votes_are_not_evidence(second: Prepare) -> None:
    first = prepare_of(NAMES[0], 1, 0, 1, A)
    for evidence in (DoublePrepare(first, second), DoublePrepare(second, first)):
        with pytest.raises(ProofError):
            _check(evidence)


def test_the_same_votes_in_the_other_order_are_not_a_second_piece_of_evidence() -> None:
    with pytest.raises(ProofError, match="ascending"):
        _check(DoubleCommit(commit_of(NAMES[0], 1, 0, 1, B), commit_of(NAMES[0], 1, 0, 1, A)))


def test_votes_of_nobody_in_the_epoch_are_not_evidence() -> None:
    stranger = b"S" * 32
    with pytest.raises(ProofError, match="of this epoch"):
        _check(DoubleCommit(commit_of(stranger, 1, 0, 1, A), commit_of(stranger, 1, 0, 1, B)))


@pytest.mark.parametrize(
    "view_change",
    [
        asking(NAMES[0], 2),
        asking(NAMES[0], 2, (proof(A1, 0),)),
        asking(NAMES[0], 2, (proof(B1, 1),)),
    ],
)
def test_a_hidden_proof_is_evidence(view_change: ViewChange) -> None:
    assert _check(HiddenProof(COMMIT, view_change)) == Offence(NAMES[0], Kind.HIDDEN_PROOF, 1, 1, 1)


@pytest.mark.parametrize(
    "view_change",
    [
        asking(NAMES[0], 2, (proof(A1, 1),)),
        asking(NAMES[0], 3, (proof(B1, 2),)),
        asking(NAMES[0], 1),
        asking(NAMES[0], 2, (), certificate(A1)),
        asking(NAMES[1], 2),
    ],
)
def test_a_shown_or_superseded_proof_is_not_evidence(view_change: ViewChange) -> None:
    with pytest.raises(ProofError):
        _check(HiddenProof(COMMIT, view_change))


def test_a_hidden_proof_needs_both_signatures() -> None:
    unsigned = Commit(1, 1, 1, COMMIT.block_hash, NAMES[0], bytes(64))
    with pytest.raises(ProofError, match="false signature"):
        _check(HiddenProof(unsigned, asking(NAMES[0], 2)))
    framed = ViewChange(1, 2, 0, None, (), NAMES[0], asking(NAMES[1], 2).signature)
    with pytest.raises(ProofError, match="not a VIEW-CHANGE signed"):
        _check(HiddenProof(COMMIT, framed))


def test_invalid_view_messages_are_evidence_and_valid_ones_are_not() -> None:
    message = asking(NAMES[0], 2, (proof(A2, 0),))
    assert _check(InvalidViewChange(message)) == Offence(NAMES[0], Kind.INVALID_VIEW_CHANGE, 1, 2, 0)
    opened = opening(1, QUORUM, ())
    assert _check(InvalidNewView(opened)) == Offence(opened.validator, Kind.INVALID_NEW_VIEW, 1, 1, 0)
    with pytest.raises(ProofError, match="is valid"):
        _check(InvalidViewChange(QUORUM[0]))
    with pytest.raises(ProofError, match="is valid"):
        _check(InvalidNewView(opening(1, QUORUM, (A1,))))


def _padded(message: ViewChange) -> list[ViewChange]:
    """Signed by its author, with a proof more than there are heights in flight, a PREPARE more than a proof has, or a
    certificate by more than all validators."""
    certified = certificate(A1)
    (first, *_) = message.proofs
    twice = (*certified.signatures, *certified.signatures)
    return [
        asking(NAMES[0], 2, message.proofs * (EPOCH.window + 1)),
        asking(NAMES[0], 2, (replace(first, signatures=(*first.signatures, first.signatures[0])),)),
        asking(NAMES[0], 2, (), replace(certified, signatures=twice)),
    ]


def test_what_is_larger_than_any_view_change_of_the_epoch_is_none_and_so_no_evidence() -> None:
    """Nobody takes it; or its author could make what is held against it larger than what the chain takes."""
    wrong = asking(NAMES[0], 2, (proof(A2, 0),))
    assert _check(InvalidViewChange(wrong)).kind is Kind.INVALID_VIEW_CHANGE
    for padded in _padded(wrong):
        with pytest.raises(ProofError, match="not a VIEW-CHANGE"):
            _check(InvalidViewChange(padded))
        with pytest.raises(ProofError, match="not a VIEW-CHANGE"):
            _check(HiddenProof(COMMIT, padded))
        others = [message for message in QUORUM if message.validator != padded.validator]
        with pytest.raises(ProofError, match="not a NEW-VIEW"):
            _check(InvalidNewView(opening(1, (padded, *others), ())))


def test_who_opens_a_view_with_too_many_view_changes_or_proposals_has_opened_none() -> None:
    for opened in (opening(1, (*QUORUM, QUORUM[0]), ()), opening(1, QUORUM, (A1,) * (EPOCH.window + 1))):
        with pytest.raises(ProofError, match="not a NEW-VIEW"):
            _check(InvalidNewView(opened))


def test_what_its_alleged_author_did_not_sign_is_not_evidence() -> None:
    message = asking(NAMES[0], 2, (proof(A2, 0),))
    framed = ViewChange(1, 2, 0, None, message.proofs, NAMES[1], message.signature)
    with pytest.raises(ProofError, match="not a VIEW-CHANGE signed"):
        _check(InvalidViewChange(framed))

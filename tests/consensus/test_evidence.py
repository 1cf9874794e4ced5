"""Evidence proves what it says, and honest messages are never evidence."""

from __future__ import annotations

import pytest

from otcnode.blocks import block_hash
from otcnode.consensus.evidence import (
    check_double_vote,
    check_hidden_proof,
    check_invalid_new_view,
    check_invalid_view_change,
)
from otcnode.consensus.messages import ViewChange
from otcnode.errors import ProofError
from tests.consensus.cluster import commit_of, prepare_of
from tests.consensus.test_view_change import A1, A2, B1, EPOCH, NAMES, QUORUM, asking, certificate, opening, proof
from tests.consensus.toy import CHAIN, fake_verify

A, B = block_hash(A1), block_hash(B1)
COMMIT = commit_of(NAMES[0], 1, 1, 1, A)


def test_two_votes_for_two_blocks_are_evidence() -> None:
    for make in (prepare_of, commit_of):
        check_double_vote(make(NAMES[0], 1, 0, 1, A), make(NAMES[0], 1, 0, 1, B), CHAIN, EPOCH, fake_verify)


@pytest.mark.parametrize(
    "second",
    [
        prepare_of(NAMES[0], 1, 0, 1, A),
        prepare_of(NAMES[0], 1, 1, 1, B),
        prepare_of(NAMES[0], 1, 0, 2, B),
        prepare_of(NAMES[1], 1, 0, 1, B),
        prepare_of(NAMES[0], 2, 0, 1, B),
        commit_of(NAMES[0], 1, 0, 1, B),
    ],
)
def test_these_votes_are_not_evidence(second: object) -> None:
    with pytest.raises(ProofError):
        check_double_vote(prepare_of(NAMES[0], 1, 0, 1, A), second, CHAIN, EPOCH, fake_verify)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "view_change",
    [
        asking(NAMES[0], 2),
        asking(NAMES[0], 2, (proof(A1, 0),)),
        asking(NAMES[0], 2, (proof(B1, 1),)),
    ],
)
def test_a_hidden_proof_is_evidence(view_change: ViewChange) -> None:
    check_hidden_proof(COMMIT, view_change, CHAIN, EPOCH, fake_verify)


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
        check_hidden_proof(COMMIT, view_change, CHAIN, EPOCH, fake_verify)


def test_invalid_view_messages_are_evidence_and_valid_ones_are_not() -> None:
    check_invalid_view_change(asking(NAMES[0], 2, (proof(A2, 0),)), CHAIN, EPOCH, 4, fake_verify)
    check_invalid_new_view(opening(1, QUORUM, ()), CHAIN, EPOCH, 4, fake_verify)
    with pytest.raises(ProofError):
        check_invalid_view_change(QUORUM[0], CHAIN, EPOCH, 4, fake_verify)
    with pytest.raises(ProofError):
        check_invalid_new_view(opening(1, QUORUM, (A1,)), CHAIN, EPOCH, 4, fake_verify)

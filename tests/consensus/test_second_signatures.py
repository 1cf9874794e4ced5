"""Ed25519 gives its signer as many valid signatures under one message as it likes: a quorum is of validators."""

from __future__ import annotations

import pytest

from otcnode.blocks import (
    Certificate,
    Epoch,
    Header,
    ValidatorSignature,
    block_hash,
    check_certificate,
    commit_preimage,
    prepare_preimage,
)
from otcnode.consensus.certificates import certificate_from, check_proof, proof_from
from otcnode.consensus.messages import Proof
from otcnode.consensus.votes import Added, Vote, VoteBook
from otcnode.crypto import SigningKey
from otcnode.errors import ProofError
from otcnode.genesis import ChainParameters
from otcnode.simulation.signing import RealSignatures
from tests.consensus.toy import CHAIN, execute, first_state

KEYS = sorted((SigningKey(bytes([number]) * 32) for number in range(1, 5)), key=lambda key: key.public)
PRIMARY, HONEST, LIAR, ABSENT = KEYS
GENESIS = first_state(tuple(key.public for key in KEYS), ChainParameters().consensus)
EPOCH: Epoch = GENESIS.epoch
HEADER: Header = execute(GENESIS, (b"a",), GENESIS.time_ms + 1, PRIMARY.public)[0]
NAME = block_hash(HEADER)
COMMITS = commit_preimage(CHAIN, 1, 0, 1, NAME)
PREPARES = prepare_preimage(CHAIN, 1, 0, 1, NAME)


def signatures_of(message: bytes, *honest: SigningKey) -> list[ValidatorSignature]:
    """Of these, and two of the liar."""
    again = RealSignatures().second_signer(LIAR)
    found = [ValidatorSignature(key.public, key.sign(message)) for key in (*honest, LIAR)]
    return sorted([*found, ValidatorSignature(LIAR.public, again(message))], key=lambda entry: entry.validator)


def book_of(signatures: list[ValidatorSignature]) -> tuple[VoteBook, list[Added]]:
    book = VoteBook()
    return book, [book.add(1, entry.validator, Vote(0, NAME, entry.signature), 0) for entry in signatures]


def test_a_certificate_of_one_validator_too_few_is_none_however_often_that_one_has_signed() -> None:
    padded = tuple(signatures_of(COMMITS, PRIMARY))
    assert len({entry.signature for entry in padded}) == EPOCH.quorum
    with pytest.raises(ProofError, match="each once"):
        check_certificate(Certificate(1, 0, 1, NAME, padded), CHAIN, EPOCH)
    either = [entry for entry in signatures_of(COMMITS, PRIMARY, HONEST) if entry.validator == LIAR.public]
    for chosen in either:
        rest = [entry for entry in signatures_of(COMMITS, PRIMARY, HONEST) if entry.validator != LIAR.public]
        whole = tuple(sorted([*rest, chosen], key=lambda entry: entry.validator))
        check_certificate(Certificate(1, 0, 1, NAME, whole), CHAIN, EPOCH)


def test_nor_is_a_proof_of_so_few() -> None:
    padded = tuple(signatures_of(PREPARES, PRIMARY))
    with pytest.raises(ProofError, match="each once"):
        check_proof(Proof(0, HEADER, padded), CHAIN, EPOCH, RealSignatures().verify)


def test_a_book_keeps_the_first_signature_and_counts_it_once() -> None:
    few, added = book_of(signatures_of(PREPARES, PRIMARY))
    assert sorted(outcome.value for outcome in added) == ["duplicate", "new", "new"]
    assert proof_from(few, EPOCH, 0, HEADER, NAME) is None
    assert certificate_from(book_of(signatures_of(COMMITS, PRIMARY))[0], EPOCH, 1) is None

    whole = proof_from(book_of(signatures_of(PREPARES, PRIMARY, HONEST))[0], EPOCH, 0, HEADER, NAME)
    assert whole is not None
    check_proof(whole, CHAIN, EPOCH, RealSignatures().verify)
    certificate = certificate_from(book_of(signatures_of(COMMITS, PRIMARY, HONEST))[0], EPOCH, 1)
    assert certificate is not None
    check_certificate(certificate, CHAIN, EPOCH)

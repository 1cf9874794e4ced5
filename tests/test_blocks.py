"""Quorums and certificates."""

import msgspec
import pytest

from otcnode.blocks import (
    Certificate,
    Epoch,
    ValidatorSignature,
    check_certificate,
    commit_preimage,
    maximum_faulty,
    quorum,
)
from otcnode.crypto import SigningKey
from otcnode.errors import ProofError
from otcnode.genesis import ChainParameters

CHAIN = b"c" * 32
BLOCK = b"b" * 32
KEYS = sorted((SigningKey(bytes([index]) * 32) for index in range(1, 8)), key=lambda key: key.public)


@pytest.mark.parametrize(
    ("count", "expected"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 4), (6, 4), (7, 5), (10, 7), (31, 21)]
)
def test_quorum_sizes(count: int, expected: int) -> None:
    assert quorum(count) == expected


@pytest.mark.parametrize("count", range(1, 101))
def test_two_quorums_share_an_honest_validator_and_the_honest_can_form_one(count: int) -> None:
    faulty = maximum_faulty(count)
    assert 2 * quorum(count) - count >= faulty + 1
    assert count - faulty >= quorum(count)


def certificate(count: int, *, view: int = 3, block: bytes = BLOCK) -> tuple[Certificate, Epoch]:
    epoch = Epoch(1, tuple(key.public for key in KEYS[:4]), ChainParameters().consensus)
    message = commit_preimage(CHAIN, 1, view, 9, block)
    signatures = tuple(ValidatorSignature(key.public, key.sign(message)) for key in KEYS[:count])
    return Certificate(1, view, 9, block, signatures), epoch


@pytest.mark.parametrize("count", [3, 4])
def test_a_quorum_to_all_of_one_view_is_a_certificate(count: int) -> None:
    good, epoch = certificate(count)
    check_certificate(good, CHAIN, epoch)


def test_what_is_not_a_certificate() -> None:
    good, epoch = certificate(4)
    replace = msgspec.structs.replace
    other_view, _ = certificate(4, view=4)
    stranger = ValidatorSignature(KEYS[5].public, KEYS[5].sign(commit_preimage(CHAIN, 1, 3, 9, BLOCK)))
    with_stranger = tuple(sorted((*good.signatures[:2], stranger), key=lambda entry: entry.validator))
    bad = {
        "one too few": replace(good, signatures=good.signatures[:2]),
        "one signature twice": replace(good, signatures=(good.signatures[0],) * 3),
        "not sorted": replace(good, signatures=good.signatures[::-1]),
        "another block": replace(good, block_hash=b"x" * 32),
        "another height": replace(good, height=10),
        "another view": replace(good, view=4),
        "votes of two views": replace(good, signatures=good.signatures[:2] + other_view.signatures[2:]),
        "another epoch": replace(good, epoch=2),
        "a stranger's vote": replace(good, signatures=with_stranger),
    }
    for what, forged in bad.items():
        with pytest.raises(ProofError):
            check_certificate(forged, CHAIN, epoch)
            pytest.fail(what)
    with pytest.raises(ProofError):
        check_certificate(good, b"d" * 32, epoch)

"""A signer has more than one valid signature under one message, and only a liar uses the second."""

from __future__ import annotations

import pytest

from otcnode import crypto
from otcnode.crypto import SigningKey
from otcnode.simulation.signing import HashSignatures, RealSignatures

KEYS = [SigningKey(bytes([number]) * 32) for number in (1, 2)]
MESSAGES = (b"", b"vote", bytes(1_000))


@pytest.mark.parametrize("signatures", [HashSignatures(KEYS), RealSignatures()], ids=["hash", "ed25519"])
def test_both_signatures_are_valid_for_this_message_of_this_signer_and_for_nothing_else(
    signatures: HashSignatures | RealSignatures,
) -> None:
    key, other = KEYS
    for message in MESSAGES:
        found = [sign(message) for sign in (signatures.signer(key), signatures.second_signer(key))]
        assert len(set(found)) == 2
        for signature in found:
            assert len(signature) == 64
            assert signatures.verify(key.public, message, signature)
            assert not signatures.verify(key.public, message + b"x", signature)
            assert not signatures.verify(other.public, message, signature)
            assert not signatures.verify(key.public, message, signature[:-1] + bytes([signature[-1] ^ 1]))


def test_the_node_itself_takes_a_signature_with_another_nonce() -> None:
    """Why a double signature is no thing of the simulator alone."""
    sign = RealSignatures().second_signer(KEYS[0])
    for message in MESSAGES:
        assert crypto.verify(KEYS[0].public, message, sign(message))
        assert sign(message) != KEYS[0].sign(message)

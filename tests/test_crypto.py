"""The one rule for signatures, pinned by published vectors."""

import json
from pathlib import Path

import pytest

from otcnode import crypto

SPECCHECK = json.loads((Path(__file__).parent / "vectors" / "ed25519_speccheck.json").read_text())

# RFC 8032, section 7.1: (seed, public key, message, signature)
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
]


@pytest.mark.parametrize(("seed", "public", "message", "signature"), RFC_8032)
def test_rfc_8032_vectors(seed: str, public: str, message: str, signature: str) -> None:
    key = crypto.SigningKey(bytes.fromhex(seed))
    assert key.public.hex() == public
    assert key.sign(bytes.fromhex(message)).hex() == signature
    assert crypto.verify(key.public, bytes.fromhex(message), bytes.fromhex(signature))


@pytest.mark.parametrize("case", range(len(SPECCHECK)))
def test_edge_cases_follow_libsodium(case: int) -> None:
    """Of the twelve edge cases only number 3 (mixed-order components, canonical, cofactorless) is valid."""
    vector = SPECCHECK[case]
    accepted = crypto.verify(
        bytes.fromhex(vector["pub_key"]), bytes.fromhex(vector["message"]), bytes.fromhex(vector["signature"])
    )
    assert accepted == (case == 3)


def test_a_changed_bit_anywhere_is_refused() -> None:
    key = crypto.SigningKey(bytes(32))
    signature = key.sign(b"message")
    for position in range(64):
        forged = bytearray(signature)
        forged[position] ^= 1
        assert not crypto.verify(key.public, b"message", bytes(forged))
    assert not crypto.verify(key.public, b"massage", signature)


@pytest.mark.parametrize(("public", "signature"), [(b"", bytes(64)), (bytes(31), bytes(64)), (bytes(32), bytes(63))])
def test_wrong_sizes_are_refused_not_raised(public: bytes, signature: bytes) -> None:
    assert not crypto.verify(public, b"message", signature)


def test_domains_never_share_a_preimage() -> None:
    assert crypto.tagged_hash("ab", b"c") != crypto.tagged_hash("a", b"bc")


def test_small_order_x25519_points_give_no_secret() -> None:
    assert crypto.x25519(bytes(range(32)), bytes(32)) is None


def test_a_wrong_passphrase_opens_nothing() -> None:
    salt = bytes(crypto.SALT_BYTES)
    sealed = crypto.seal_with_passphrase(b"right", salt, b"secret", memory_bytes=8192 * 8, operations=1)
    opened = crypto.open_with_passphrase(b"right", salt, sealed, memory_bytes=8192 * 8, operations=1)
    assert opened == b"secret"
    assert crypto.open_with_passphrase(b"wrong", salt, sealed, memory_bytes=8192 * 8, operations=1) is None

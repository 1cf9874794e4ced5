"""Signatures for the fleet: Ed25519, or a keyed hash that is as unforgeable for whoever lives inside the simulation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import TypeAlias

from otcnode import crypto
from otcnode.crypto import SigningKey

Sign: TypeAlias = Callable[[bytes], bytes]
Verify: TypeAlias = Callable[[bytes, bytes, bytes], bool]


ORDER = 2**252 + 27742317777372353535851937790883648493
"""Of the group that Ed25519 signs in (RFC 8032, section 5.1)."""
AGAIN = b"again"


class HashSignatures:
    """BLAKE2b keyed by the signer's seed. Sixty times as fast as Ed25519; only this object can check them. As with
    Ed25519 one message has more than one valid signature by one signer: here two."""

    def __init__(self, keys: Iterable[SigningKey]) -> None:
        self._signers = {key.public: (self.signer(key), self.second_signer(key)) for key in keys}

    def signer(self, key: SigningKey) -> Sign:
        return _keyed(key, b"")

    def second_signer(self, key: SigningKey) -> Sign:
        """The same signer's other signature."""
        return _keyed(key, AGAIN)

    def verify(self, public: bytes, message: bytes, signature: bytes) -> bool:
        signers = self._signers.get(public)
        return signers is not None and (signers[0](message) == signature or signers[1](message) == signature)


def _keyed(key: SigningKey, person: bytes) -> Sign:
    """The key is taken in once, and goes on from there with every message."""
    begun = hashlib.blake2b(key=key.seed, person=person)

    def sign(message: bytes) -> bytes:
        digest = begun.copy()
        digest.update(message)
        return digest.digest()

    return sign


class Remembered:
    """Ed25519 verdicts, worked out once for all nodes of one simulation."""

    def __init__(self) -> None:
        self._verdicts: dict[tuple[bytes, bytes, bytes], bool] = {}

    def verify(self, public: bytes, message: bytes, signature: bytes) -> bool:
        question = (public, message, signature)
        verdict = self._verdicts.get(question)
        if verdict is None:
            verdict = self._verdicts[question] = crypto.verify(*question)
        return verdict


class RealSignatures(Remembered):
    """Ed25519."""

    def signer(self, key: SigningKey) -> Sign:
        return key.sign

    def second_signer(self, key: SigningKey) -> Sign:
        """The same signer's signature with another nonce than RFC 8032 prescribes; nobody who verifies can tell."""
        return lambda message: _signed_with_another_nonce(key, message)


def _signed_with_another_nonce(key: SigningKey, message: bytes) -> bytes:
    """R ‖ S with R = r·B and S = r + k·a (RFC 8032, section 5.1.6), r being the scalar of another key."""
    nonce = SigningKey(hashlib.blake2b(message, key=key.seed, person=AGAIN, digest_size=32).digest())
    challenge = int.from_bytes(hashlib.sha512(nonce.public + key.public + message).digest(), "little")
    s = (_scalar(nonce) + challenge * _scalar(key)) % ORDER
    return nonce.public + s.to_bytes(32, "little")


def _scalar(key: SigningKey) -> int:
    """RFC 8032, section 5.1.5."""
    low = bytearray(hashlib.sha512(key.seed).digest()[:32])
    low[0] &= 0xF8
    low[31] = low[31] & 0x7F | 0x40
    return int.from_bytes(low, "little")

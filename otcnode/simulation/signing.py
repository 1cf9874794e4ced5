"""Signatures for the fleet: Ed25519, or a keyed hash that is as unforgeable for whoever lives inside the simulation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import TypeAlias

from otcnode import crypto
from otcnode.crypto import SigningKey

Sign: TypeAlias = Callable[[bytes], bytes]
Verify: TypeAlias = Callable[[bytes, bytes, bytes], bool]


class HashSignatures:
    """BLAKE2b keyed by the signer's seed. Sixty times as fast as Ed25519; only this object can check them."""

    def __init__(self, keys: Iterable[SigningKey]) -> None:
        self._seeds = {key.public: key.seed for key in keys}

    def signer(self, key: SigningKey) -> Sign:
        seed = key.seed
        return lambda message: hashlib.blake2b(message, key=seed).digest()

    def verify(self, public: bytes, message: bytes, signature: bytes) -> bool:
        seed = self._seeds.get(public)
        return seed is not None and hashlib.blake2b(message, key=seed).digest() == signature


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

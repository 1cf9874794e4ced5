"""The only module that touches cryptography: SHA-256, Ed25519, X25519, ChaCha20-Poly1305, sealed secrets.

Ed25519 is libsodium's rule (RFC 8032 with its rejection of small-order and non-canonical points), on every node; the
edge cases are pinned by tests/test_crypto.py so that an upgrade which changes the rule is noticed.
"""

from __future__ import annotations

import hashlib
import hmac as _hmac
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

import nacl.bindings as _sodium
import nacl.exceptions
import nacl.public
import nacl.pwhash
import nacl.secret
import nacl.utils

from otcnode.codec import encode

SEED_BYTES = 32
AEAD_TAG_BYTES = 16
SALT_BYTES = nacl.pwhash.argon2id.SALTBYTES


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def tagged_hash(domain: str, data: bytes) -> bytes:
    """SHA-256(length of domain ‖ domain ‖ data): two domains can never share a preimage."""
    return hashlib.sha256(_domain_prefix(domain) + data).digest()


@cache
def _domain_prefix(domain: str) -> bytes:
    name = domain.encode()
    assert len(name) < 256
    return bytes([len(name)]) + name


def preimage(domain: str, *parts: object) -> bytes:
    """What is signed: the canonical MessagePack array [domain, parts...], absent parts as None."""
    return encode([domain, *parts])


def hmac_sha256(key: bytes, data: bytes) -> bytes:
    return _hmac.digest(key, data, "sha256")


def random_bytes(count: int) -> bytes:
    """From the operating system. Only shells call this: the pure core is given its randomness."""
    return nacl.utils.random(count)


class SigningKey:
    """An Ed25519 private key. Signing is deterministic (RFC 8032)."""

    __slots__ = ("_secret", "public")

    def __init__(self, seed: bytes) -> None:
        assert len(seed) == SEED_BYTES
        self.public, self._secret = _sodium.crypto_sign_seed_keypair(seed)

    @classmethod
    def generate(cls) -> SigningKey:
        return cls(random_bytes(SEED_BYTES))

    @property
    def seed(self) -> bytes:
        return self._secret[:SEED_BYTES]

    def sign(self, message: bytes) -> bytes:
        return _sodium.crypto_sign(message, self._secret)[:64]

    def __repr__(self) -> str:
        return f"SigningKey(public={self.public.hex()[:16]}…)"


class SignatureCheck(NamedTuple):
    """One Ed25519 verification to be done."""

    public: bytes
    message: bytes
    signature: bytes


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` is a valid Ed25519 signature of `message`; total, never raises on bad input."""
    if len(public) != 32 or len(signature) != 64:
        return False
    try:
        _sodium.crypto_sign_open(signature + message, public)
    except nacl.exceptions.BadSignatureError:
        return False
    return True


def verify_all(checks: Iterable[SignatureCheck]) -> list[bool]:
    """One result per check; meant for one thread job over many (libsodium runs without the interpreter lock)."""
    return [verify(*check) for check in checks]


def x25519_public(secret: bytes) -> bytes:
    return _sodium.crypto_scalarmult_base(secret)


def x25519(secret: bytes, public: bytes) -> bytes | None:
    """The shared secret, or None if `public` is a small-order point."""
    try:
        return _sodium.crypto_scalarmult(secret, public)
    except (nacl.exceptions.RuntimeError, nacl.exceptions.CryptoError):
        return None


def aead_encrypt(key: bytes, nonce: bytes, associated: bytes, plaintext: bytes) -> bytes:
    """ChaCha20-Poly1305 as in RFC 8439."""
    return _sodium.crypto_aead_chacha20poly1305_ietf_encrypt(plaintext, associated, nonce, key)


def aead_decrypt(key: bytes, nonce: bytes, associated: bytes, ciphertext: bytes) -> bytes | None:
    """The plaintext, or None if the ciphertext was not made with this key, nonce and associated data."""
    if len(ciphertext) < AEAD_TAG_BYTES:
        return None
    try:
        return _sodium.crypto_aead_chacha20poly1305_ietf_decrypt(ciphertext, associated, nonce, key)
    except (nacl.exceptions.CryptoError, nacl.exceptions.ValueError):
        return None


def seal_to(public: bytes, plaintext: bytes) -> bytes:
    """Sealed to an X25519 public key, by an ephemeral key (libsodium's sealed box). Raises ValueError for a key that
    nothing can be sealed to."""
    try:
        return nacl.public.SealedBox(nacl.public.PublicKey(public)).encrypt(plaintext)
    except (nacl.exceptions.CryptoError, nacl.exceptions.RuntimeError) as error:
        raise ValueError(f"not a usable X25519 key: {error}") from None


def open_sealed(secret: bytes, sealed: bytes) -> bytes | None:
    """The plaintext, or None if it was not sealed to the public key of this X25519 secret."""
    try:
        return nacl.public.SealedBox(nacl.public.PrivateKey(secret)).decrypt(sealed)
    except nacl.exceptions.CryptoError:
        return None


def seal_with_key(key: bytes, plaintext: bytes) -> bytes:
    """XSalsa20-Poly1305 under a key of 32 bytes, with a random nonce in front."""
    return bytes(nacl.secret.SecretBox(key).encrypt(plaintext))


def open_with_key(key: bytes, sealed: bytes) -> bytes | None:
    """The plaintext, or None if it was sealed under another key or changed."""
    try:
        return nacl.secret.SecretBox(key).decrypt(sealed)
    except nacl.exceptions.CryptoError:
        return None


def seal_with_passphrase(
    passphrase: bytes, salt: bytes, plaintext: bytes, *, memory_bytes: int, operations: int
) -> bytes:
    """XSalsa20-Poly1305 under an Argon2id key. Raises MemoryError."""
    key = _derive(passphrase, salt, memory_bytes, operations)
    return bytes(nacl.secret.SecretBox(key).encrypt(plaintext))


def _derive(passphrase: bytes, salt: bytes, memory_bytes: int, operations: int) -> bytes:
    """Argon2id (RFC 9106). Raises MemoryError if the machine does not give as much: nothing else can fail."""
    try:
        return nacl.pwhash.argon2id.kdf(32, passphrase, salt, opslimit=operations, memlimit=memory_bytes)
    except nacl.exceptions.RuntimeError:
        raise MemoryError from None


def open_with_passphrase(
    passphrase: bytes, salt: bytes, sealed: bytes, *, memory_bytes: int, operations: int
) -> bytes | None:
    """The plaintext, or None if the passphrase is wrong or the bytes were changed. Raises MemoryError."""
    key = _derive(passphrase, salt, memory_bytes, operations)
    try:
        return bytes(nacl.secret.SecretBox(key).decrypt(sealed))
    except nacl.exceptions.CryptoError:
        return None

"""Noise_XX_25519_ChaChaPoly_SHA256 (Noise Protocol Framework, revision 34), sans-IO and without chance of its own.

XX hides both static keys from a passive listener and authenticates both; names and numbers of sections below are
those of the framework's text.
"""

from __future__ import annotations

from enum import Enum

from otcnode.crypto import AEAD_TAG_BYTES, aead_decrypt, aead_encrypt, hmac_sha256, sha256, x25519, x25519_public
from otcnode.errors import OtcnodeError

PROTOCOL_NAME = b"Noise_XX_25519_ChaChaPoly_SHA256"
KEY_BYTES = 32
TAG_BYTES = AEAD_TAG_BYTES
MESSAGE_BYTES_MAX = 65_535
"""Section 3: no Noise message is longer."""
NONCE_MAX = 2**64 - 1
"""Section 5.1: reserved, never used for a message."""


class NoiseError(OtcnodeError):
    """A message that was not made by the holder of the expected keys, or a key that gives no secrecy."""


class CipherState:
    """A key and the number of the next message under it (section 5.1). Without a key it passes text through."""

    __slots__ = ("_key", "_nonce")

    def __init__(self, key: bytes | None = None, nonce: int = 0) -> None:
        self._key = key
        self._nonce = nonce

    @property
    def has_key(self) -> bool:
        return self._key is not None

    def encrypt(self, associated: bytes, plaintext: bytes) -> bytes:
        """Raises NoiseError once all nonces are used."""
        if self._key is None:
            return plaintext
        ciphertext = aead_encrypt(self._key, self._nonce_bytes(), associated, plaintext)
        self._nonce += 1
        return ciphertext

    def decrypt(self, associated: bytes, ciphertext: bytes) -> bytes:
        """Raises NoiseError if the text was changed, replayed, reordered or made under another key; the nonce then
        stays where it was."""
        if self._key is None:
            return ciphertext
        plaintext = aead_decrypt(self._key, self._nonce_bytes(), associated, ciphertext)
        if plaintext is None:
            raise NoiseError("a message does not authenticate under the session's key")
        self._nonce += 1
        return plaintext

    def _nonce_bytes(self) -> bytes:
        if self._nonce >= NONCE_MAX:
            raise NoiseError("every nonce of this key is used")
        return b"\0\0\0\0" + self._nonce.to_bytes(8, "little")


class SymmetricState:
    """The running hash and chaining key of a handshake (section 5.2)."""

    __slots__ = ("_chaining_key", "_cipher", "hash")

    def __init__(self, protocol_name: bytes) -> None:
        padded = protocol_name.ljust(32, b"\0") if len(protocol_name) <= 32 else sha256(protocol_name)
        self.hash = padded
        self._chaining_key = padded
        self._cipher = CipherState()

    @property
    def has_key(self) -> bool:
        return self._cipher.has_key

    def mix_key(self, material: bytes) -> None:
        self._chaining_key, key = _hkdf(self._chaining_key, material)
        self._cipher = CipherState(key)

    def mix_hash(self, data: bytes) -> None:
        self.hash = sha256(self.hash + data)

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        ciphertext = self._cipher.encrypt(self.hash, plaintext)
        self.mix_hash(ciphertext)
        return ciphertext

    def decrypt_and_hash(self, ciphertext: bytes) -> bytes:
        plaintext = self._cipher.decrypt(self.hash, ciphertext)
        self.mix_hash(ciphertext)
        return plaintext

    def split(self) -> tuple[CipherState, CipherState]:
        first, second = _hkdf(self._chaining_key, b"")
        return CipherState(first), CipherState(second)


class Token(Enum):
    """Section 7.1. The first letter of a Diffie-Hellman token is the initiator's key, the second the responder's."""

    E = "e"
    S = "s"
    EE = "ee"
    ES = "es"
    SE = "se"


PATTERN = ((Token.E,), (Token.E, Token.EE, Token.S, Token.ES), (Token.S, Token.SE))
"""XX (section 7.5): -> e; <- e, ee, s, es; -> s, se. Even messages are the initiator's."""


class HandshakeState:
    """One side of one handshake (section 5.3). The caller supplies the ephemeral secret: fresh, random, used once."""

    def __init__(self, *, initiator: bool, prologue: bytes, static_secret: bytes, ephemeral_secret: bytes) -> None:
        self._initiator = initiator
        self._static = static_secret
        self.static_public = x25519_public(static_secret)
        self._ephemeral = ephemeral_secret
        self._ephemeral_public = x25519_public(ephemeral_secret)
        self._remote_static: bytes | None = None
        self._remote_ephemeral: bytes | None = None
        self._step = 0
        self._symmetric = SymmetricState(PROTOCOL_NAME)
        self._symmetric.mix_hash(prologue)

    @property
    def handshake_hash(self) -> bytes:
        """Covers everything said so far, both ways; after the last message it names the session (section 11.2)."""
        return self._symmetric.hash

    @property
    def finished(self) -> bool:
        return self._step == len(PATTERN)

    @property
    def my_turn(self) -> bool:
        return not self.finished and (self._step % 2 == 0) == self._initiator

    @property
    def remote_static(self) -> bytes:
        """Known to the initiator after message 2, to the responder after message 3."""
        assert self._remote_static is not None
        return self._remote_static

    def write_message(self, payload: bytes) -> bytes:
        assert self.my_turn
        parts = []
        for token in PATTERN[self._step]:
            if token is Token.E:
                self._symmetric.mix_hash(self._ephemeral_public)
                parts.append(self._ephemeral_public)
            elif token is Token.S:
                parts.append(self._symmetric.encrypt_and_hash(self.static_public))
            else:
                self._symmetric.mix_key(self._agree(token))
        parts.append(self._symmetric.encrypt_and_hash(payload))
        self._step += 1
        message = b"".join(parts)
        assert len(message) <= MESSAGE_BYTES_MAX
        return message

    def read_message(self, message: bytes) -> bytes:
        """The payload. Raises NoiseError if the message is too short, too long, changed, or carries a key of small
        order; the state is of no use after an error."""
        assert not self.my_turn and not self.finished
        if len(message) > MESSAGE_BYTES_MAX:
            raise NoiseError(f"a handshake message of {len(message)} bytes")
        offset = 0
        for token in PATTERN[self._step]:
            if token is Token.E:
                self._remote_ephemeral = _take(message, offset, KEY_BYTES)
                offset += KEY_BYTES
                self._symmetric.mix_hash(self._remote_ephemeral)
            elif token is Token.S:
                size = KEY_BYTES + (TAG_BYTES if self._symmetric.has_key else 0)
                self._remote_static = self._symmetric.decrypt_and_hash(_take(message, offset, size))
                offset += size
            else:
                self._symmetric.mix_key(self._agree(token))
        payload = self._symmetric.decrypt_and_hash(message[offset:])
        self._step += 1
        return payload

    def split(self) -> tuple[CipherState, CipherState]:
        """(for sending, for receiving)."""
        assert self.finished
        first, second = self._symmetric.split()
        return (first, second) if self._initiator else (second, first)

    def _agree(self, token: Token) -> bytes:
        initiators, responders = token.value[0], token.value[1]
        mine, theirs = (initiators, responders) if self._initiator else (responders, initiators)
        remote = self._remote_ephemeral if theirs == "e" else self._remote_static
        assert remote is not None
        shared = x25519(self._ephemeral if mine == "e" else self._static, remote)
        if shared is None:
            raise NoiseError("a public key of small order")
        return shared


def _hkdf(chaining_key: bytes, material: bytes) -> tuple[bytes, bytes]:
    """Two outputs of HKDF (RFC 5869) with the chaining key as salt (section 4.3)."""
    temporary = hmac_sha256(chaining_key, material)
    first = hmac_sha256(temporary, b"\x01")
    return first, hmac_sha256(temporary, first + b"\x02")


def _take(message: bytes, offset: int, size: int) -> bytes:
    part = message[offset : offset + size]
    if len(part) != size:
        raise NoiseError("a handshake message that ends too early")
    return part

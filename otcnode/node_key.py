"""A node's own secrets: the Ed25519 key that names it and signs votes, and the X25519 key of its connections."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from otcnode.crypto import SEED_BYTES, SigningKey, random_bytes, tagged_hash
from otcnode.errors import ConfigurationError

KEY_FILE_VERSION = 2
_CHECK_DOMAIN = "otcnode/node-key-check/1"


class _KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """In hexadecimal. `check` covers both secrets: a key with one bit wrong is a key too, and nobody's."""

    version: int
    signing_seed: str
    static_secret: str
    check: str


_ADVICE = "put back a copy of it, or make a new key with otcnode init and let governance admit it"


class NodeKey:
    """Kept unencrypted, readable by its owner only, because a validator must start unattended; whoever can read the
    file can vote in the node's name."""

    def __init__(self, signing_seed: bytes, static_secret: bytes) -> None:
        self.signing = SigningKey(signing_seed)
        self.static_secret = static_secret

    @property
    def id(self) -> bytes:
        return self.signing.public

    @classmethod
    def generate(cls) -> NodeKey:
        return cls(random_bytes(SEED_BYTES), random_bytes(32))

    def save(self, path: Path) -> None:
        """Create the file, whole or not at all. Raises ConfigurationError; an existing one is never overwritten."""
        seed, secret = self.signing.seed, self.static_secret
        content = msgspec.json.encode(_KeyFile(KEY_FILE_VERSION, seed.hex(), secret.hex(), _check(seed, secret).hex()))
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise ConfigurationError(f"{path} exists already: a node's key is never overwritten") from None
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            path.unlink()
            raise ConfigurationError(f"cannot write {path}: {error.strerror}") from None
        except BaseException:
            path.unlink()
            raise

    @classmethod
    def load(cls, path: Path) -> NodeKey:
        """Raises ConfigurationError with one readable line."""
        try:
            content = msgspec.json.decode(path.read_bytes(), type=_KeyFile)
            seed, secret = bytes.fromhex(content.signing_seed), bytes.fromhex(content.static_secret)
        except OSError as error:
            raise ConfigurationError(f"cannot read the node key {path}: {error.strerror}; {_ADVICE}") from None
        except (msgspec.DecodeError, ValueError) as error:
            raise ConfigurationError(f"{path} is not a node key: {error}; {_ADVICE}") from None
        if content.version != KEY_FILE_VERSION or len(seed) != SEED_BYTES or len(secret) != 32:
            raise ConfigurationError(f"{path} is not a node key of version {KEY_FILE_VERSION}")
        if content.check.lower() != _check(seed, secret).hex():
            raise ConfigurationError(f"{path} is damaged: its secrets do not fit its check; {_ADVICE}")
        return cls(seed, secret)


def _check(seed: bytes, secret: bytes) -> bytes:
    return tagged_hash(_CHECK_DOMAIN, seed + secret)

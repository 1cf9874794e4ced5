"""Keys at rest: one file of named keys, sealed under a passphrase (Argon2id, then XSalsa20-Poly1305).

The file is versioned JSON that carries its own parameters, so that they can be raised for new files without losing old
ones. Names and public keys are readable without the passphrase; they are checked against the sealed ones on opening.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from otcnode.client.errors import KeystoreError
from otcnode.crypto import (
    SALT_BYTES,
    SigningKey,
    open_with_passphrase,
    random_bytes,
    seal_with_passphrase,
    x25519_public,
)
from otcnode.types import Bytes32

MEMORY_BYTES = 256 << 20
OPERATIONS = 3
MEMORY_BYTES_MAX = 4 << 30
OPERATIONS_MAX = 64
FILE_BYTES_MAX = 1 << 20


class KeyKind(StrEnum):
    """What a key is for: signing, or opening what was sealed to its owner."""

    ED25519 = "ed25519"
    X25519 = "x25519"


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kind: KeyKind
    public: Bytes32


class _Derivation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file cannot ask for more memory or time than the bounds: opening a stranger's file does no harm."""

    memory_bytes: Annotated[int, Meta(ge=8192, le=MEMORY_BYTES_MAX)]
    operations: Annotated[int, Meta(ge=1, le=OPERATIONS_MAX)]
    salt: Annotated[bytes, Meta(min_length=SALT_BYTES, max_length=SALT_BYTES)]
    algorithm: Literal["argon2id13"] = "argon2id13"


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: Literal[1]
    derivation: _Derivation
    cipher: Literal["xsalsa20-poly1305"]
    keys: dict[str, _Entry]
    sealed: bytes


class Secret(msgspec.Struct, frozen=True):
    """A private key: the seed of an Ed25519 key, or an X25519 scalar."""

    kind: KeyKind
    seed: Bytes32

    @classmethod
    def generate(cls, kind: KeyKind) -> Secret:
        return cls(kind, random_bytes(32))

    @property
    def public(self) -> bytes:
        return x25519_public(self.seed) if self.kind is KeyKind.X25519 else SigningKey(self.seed).public

    def signing_key(self) -> SigningKey:
        """Raises KeystoreError for a key that cannot sign."""
        if self.kind is not KeyKind.ED25519:
            raise KeystoreError(f"a key of kind {self.kind.value} cannot sign")
        return SigningKey(self.seed)

    def __repr__(self) -> str:
        return f"Secret({self.kind.value})"


def write(
    path: Path,
    secrets: Mapping[str, Secret],
    passphrase: bytes,
    *,
    memory_bytes: int = MEMORY_BYTES,
    operations: int = OPERATIONS,
    replace: bool = False,
) -> None:
    """Seal `secrets` into `path`: readable by its owner only, and written whole or not at all.

    Raises KeystoreError if the file exists (unless `replace`) or cannot be written, or memory is short.
    """
    derivation = _Derivation(memory_bytes, operations, random_bytes(SALT_BYTES))
    try:
        sealed = seal_with_passphrase(
            passphrase,
            derivation.salt,
            msgspec.json.encode(dict(secrets)),
            memory_bytes=memory_bytes,
            operations=operations,
        )
    except MemoryError:
        raise _too_little_memory(path, derivation) from None
    entries = {name: _Entry(secret.kind, secret.public) for name, secret in secrets.items()}
    file = _File(1, derivation, "xsalsa20-poly1305", entries, sealed)
    try:
        _write_atomically(path, msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n", replace)
    except FileExistsError:
        raise KeystoreError(f"{path} exists; a keystore is never overwritten by mistake") from None
    except OSError as error:
        raise KeystoreError(f"cannot write {path}: {error.strerror}") from None


def public_keys(path: Path) -> dict[str, tuple[KeyKind, bytes]]:
    """Names, kinds and public keys, without a passphrase; whether they are true shows on opening."""
    return {name: (entry.kind, entry.public) for name, entry in _load(path).keys.items()}


def read(path: Path, passphrase: bytes) -> dict[str, Secret]:
    """Every key of the file. Raises KeystoreError: unreadable, wrong passphrase, changed since it was written, or too
    little memory."""
    file = _load(path)
    try:
        plain = open_with_passphrase(
            passphrase,
            file.derivation.salt,
            file.sealed,
            memory_bytes=file.derivation.memory_bytes,
            operations=file.derivation.operations,
        )
    except MemoryError:
        raise _too_little_memory(path, file.derivation) from None
    if plain is None:
        raise KeystoreError(f"{path}: the passphrase is wrong, or the file was changed")
    try:
        secrets = msgspec.json.decode(plain, type=dict[str, Secret])
    except msgspec.DecodeError as error:
        raise KeystoreError(f"{path}: the sealed keys are damaged: {error}") from None
    shown = {name: (entry.kind, entry.public) for name, entry in file.keys.items()}
    if {name: (secret.kind, secret.public) for name, secret in secrets.items()} != shown:
        raise KeystoreError(f"{path}: the public keys in the file are not those of the sealed keys")
    return secrets


def _too_little_memory(path: Path, derivation: _Derivation) -> KeystoreError:
    wanted = derivation.memory_bytes >> 20
    return KeystoreError(f"{path}: sealing and opening take {wanted} MiB of memory, which this machine does not give")


def _load(path: Path) -> _File:
    try:
        with path.open("rb") as handle:
            raw = handle.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise KeystoreError(f"cannot read {path}: {error.strerror}") from None
    if len(raw) > FILE_BYTES_MAX:
        raise KeystoreError(f"{path} is too large for a keystore")
    try:
        return msgspec.json.decode(raw, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise KeystoreError(f"{path} is not a keystore of version 1: {error}") from None


def _write_atomically(path: Path, content: bytes, replace: bool) -> None:
    """mkstemp makes the file 0600 from its first moment; the new name is durable once the directory is synced.

    Linking, other than renaming, refuses a name that is taken.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        if replace:
            os.replace(temporary, path)
        else:
            os.link(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)

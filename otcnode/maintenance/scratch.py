"""A replay's own directory: `begun.json`, which says where it began and by which code, and beside it its store.

Whatever is not a replay's is never touched. What another code has executed, or what began above the height that is
asked for, is not gone on with: a replay that passes has checked all of it by this very code.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from functools import cache
from pathlib import Path

import msgspec

import otcnode
from otcnode.errors import ConfigurationError, StorageDamage, StorageRefused
from otcnode.maintenance.replay import NOTHING_ELSE
from otcnode.storage.level import LevelKeyValue
from otcnode.storage.records import advised

_NOTE = "begun.json"
_DRAFT = "begun.json.draft"
_STORE = "chain"


class Begun(msgspec.Struct, frozen=True):
    """The state after `height` is what the replay began with; `code` is the hash of the sources that execute it."""

    height: int
    version: str
    code: str


class Scratch:
    """Owned by one process, from when it is made until it is closed or removed."""

    kv: LevelKeyValue
    """The store; empty where the replay has just begun."""

    def __init__(self, path: Path, height: int) -> None:
        """For a replay of everything above `height`: as an earlier one left it where that serves, else begun anew.
        Raises ConfigurationError for a directory that is no replay's own, or that cannot be used."""
        self._path = path
        self.set_aside: str | None = None
        """Why an earlier replay is not gone on with; None if there was none, or if it is."""
        self.begun = self._note() or self._begin(height)
        try:
            self.kv = LevelKeyValue(path / _STORE, create=True)
        except StorageRefused:
            raise
        except StorageDamage as damage:
            self._begin_anew(height, f"damaged ({advised(damage, NOTHING_ELSE)})")
            return
        if (self.begun.version, self.begun.code) != (otcnode.__version__, code_hash()):
            self.begin_anew(height, f"made by another code of otcnode (version {self.begun.version})")
        elif self.begun.height > height:
            self.begin_anew(height, f"begun above it, at height {self.begun.height}")

    def begin_anew(self, height: int, why: str) -> None:
        """Give up what an earlier replay has left, because it was such."""
        self.close()
        self._begin_anew(height, why)

    def _begin_anew(self, height: int, why: str) -> None:
        self.set_aside = f"an earlier replay was {why}"
        self._remove()
        self.begun = self._begin(height)
        self.kv = LevelKeyValue(self._path / _STORE, create=True)

    def close(self) -> None:
        self.kv.close()

    def remove(self) -> None:
        """Close it and leave nothing behind."""
        self.close()
        self._remove()

    def _remove(self) -> None:
        """The note goes last: as long as anything is there, it is known whose it is."""
        try:
            for name in (_STORE, _STORE + ".draft"):
                if (self._path / name).exists():
                    shutil.rmtree(self._path / name)
            (self._path / _NOTE).unlink()
            self._path.rmdir()
        except OSError as error:
            raise ConfigurationError(f"cannot remove {self._path}: {error.strerror}") from None

    def _note(self) -> Begun | None:
        try:
            names = {entry.name for entry in self._path.iterdir()} - {_DRAFT} if self._path.exists() else set()
            raw = (self._path / _NOTE).read_bytes() if _NOTE in names else None
        except OSError as error:
            raise ConfigurationError(f"cannot use {self._path}: {error.strerror}") from None
        if raw is None and not names:
            return None
        try:
            return msgspec.json.decode(raw or b"", type=Begun)
        except msgspec.DecodeError:
            raise ConfigurationError(
                f"{self._path} is not a replay's own directory: remove it or name another"
            ) from None

    def _begin(self, height: int) -> Begun:
        begun = Begun(height, otcnode.__version__, code_hash())
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            draft = self._path / _DRAFT
            with draft.open("wb") as file:
                file.write(msgspec.json.encode(begun))
                file.flush()
                os.fsync(file.fileno())
            draft.rename(self._path / _NOTE)
        except OSError as error:
            raise ConfigurationError(f"cannot use {self._path}: {error.strerror}") from None
        return begun


@cache
def code_hash() -> str:
    """Of all sources of this package: two builds of one version may execute differently."""
    root = Path(otcnode.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\x00" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()

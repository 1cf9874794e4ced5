"""Folders on a disk. A file is the SHA-256 of its content and the content, so that a flipped bit is never served."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from otcnode.crypto import sha256
from otcnode.errors import FolderDamage

_DRAFT = ".draft"
_CHECKSUM_BYTES = 32


class DirectoryFolder:
    """One directory, made with the first file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> list[str]:
        try:
            return sorted(entry.name for entry in self._path.iterdir() if entry.suffix != _DRAFT)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _damage(self._path, error) from None

    def read(self, name: str) -> bytes | None:
        path = self._path / name
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _damage(path, error) from None
        content = raw[_CHECKSUM_BYTES:]
        if sha256(content) != raw[:_CHECKSUM_BYTES]:
            raise FolderDamage(f"{path} is damaged; delete {self._path}, a snapshot can be made again")
        return content

    def write(self, name: str, content: bytes) -> None:
        path = self._path / name
        draft = path.with_name(name + _DRAFT)
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            with draft.open("wb") as file:
                file.write(sha256(content))
                file.write(content)
            os.replace(draft, path)
        except OSError as error:
            raise _damage(path, error) from None

    def sync(self, name: str) -> None:
        path = self._path / name
        try:
            _sync(path, os.O_RDONLY)
            _sync(self._path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise _damage(path, error) from None

    def append(self, name: str, content: bytes) -> None:
        path = self._path / name
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(content)
        except OSError as error:
            raise _damage(path, error) from None

    def scratch(self, name: str) -> bytes:
        path = self._path / name
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise _damage(path, error) from None

    def remove(self, name: str) -> None:
        try:
            (self._path / name).unlink(missing_ok=True)
        except OSError as error:
            raise _damage(self._path / name, error) from None


class DirectoryFolders:
    """The directories below one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> list[str]:
        try:
            return sorted(entry.name for entry in self._path.iterdir() if entry.is_dir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _damage(self._path, error) from None

    def free_bytes(self) -> int:
        path = self._there()
        try:
            found = os.statvfs(path)
        except OSError as error:
            raise _damage(path, error) from None
        return found.f_bavail * found.f_frsize

    def is_beside(self, other: Path) -> bool:
        """Whether they lie, or would, on the file system of `other`, which is there. Raises FolderDamage where the
        disk does not say."""
        path = self._there()
        try:
            return path.stat().st_dev == other.stat().st_dev
        except OSError as error:
            raise _damage(path, error) from None

    def _there(self) -> Path:
        """This directory, or the one in which it would be made."""
        path = self._path.absolute()
        while not path.exists() and path != path.parent:
            path = path.parent
        return path

    def open(self, name: str) -> DirectoryFolder:
        return DirectoryFolder(self._path / name)

    def remove(self, name: str) -> None:
        try:
            shutil.rmtree(self._path / name)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _damage(self._path / name, error) from None


def _sync(path: Path, flags: int) -> None:
    number = os.open(path, flags)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _damage(path: Path, error: OSError) -> FolderDamage:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return FolderDamage(f"the disk of {path} is full; free space, then try again")
    return FolderDamage(f"cannot use {path}: {error.strerror}")

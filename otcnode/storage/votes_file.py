"""The voting record on disk (see votes_log.py for its form and its rules)."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from otcnode.crypto import random_bytes
from otcnode.errors import ConfigurationError, StorageDamage
from otcnode.storage.votes_log import SALT_BYTES, VERSION, frame, parse, version_of, whole

_MODE = 0o600


class FileVotesLog:
    """A VotesLog in one file, owned by one process (the lock of the block store keeps others away)."""

    def __init__(self, path: Path) -> None:
        """Name the file; `load` or `replace` opens it."""
        self._path = path
        self._file: int | None = None
        self._salt = b""
        self._length = 0
        self._pending: list[bytes] = []
        self._failed = False
        """A sync or a replacement failed: what was to be durable is not, and is not said to be when asked again."""
        self.trouble: str | None = None
        """Why `load` found nothing to vote on."""
        self.cut_bytes = 0
        """How much `load` cut off: a frame that was never written whole."""

    @classmethod
    def create(cls, path: Path, entries: Sequence[bytes] = ()) -> FileVotesLog:
        """Bear an intact record of these entries, in the act that makes the key; it is open. Raises ConfigurationError
        if there is a file already: a record is born once. Of a birth cut short nothing is left that would pass for a
        record."""
        log = cls(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            log._bear(entries)
        except FileExistsError:
            raise ConfigurationError(f"the voting record {path} exists already; it is never made anew") from None
        except OSError as error:
            raise ConfigurationError(f"cannot create the voting record {path}: {error.strerror}") from None
        return log

    def _bear(self, entries: Sequence[bytes]) -> None:
        draft = _draft_of(self._path)
        try:
            self._write_draft(entries)
            os.link(draft, self._path)
            draft.unlink()
            _sync_directory(self._path.parent)
        except BaseException:
            if self._has_its_name():
                self._path.unlink()
            draft.unlink(missing_ok=True)
            self.close()
            raise

    def _has_its_name(self) -> bool:
        """And not another record."""
        if self._file is None or not self._path.exists():
            return False
        return os.path.samestat(os.fstat(self._file), self._path.stat())

    def load(self) -> tuple[bytes, ...] | None:
        """As of every VotesLog. The record is written anew: what a killed process wrote, or a failed sync left, is
        there to be read and may not be on the disk, and no later sync of the same file is sure to put it there (Linux
        takes pages whose writing failed for written)."""
        self.close()
        self.trouble, self.cut_bytes = None, 0
        try:
            raw = self._path.read_bytes()
        except FileNotFoundError:
            self.trouble = f"the voting record {self._path} is missing"
            return None
        except OSError as error:
            raise self._damage(error) from None
        parsed = parse(raw)
        if parsed is None:
            self.trouble = f"the voting record {self._path} {_unusable(version_of(raw))}"
            return None
        self.cut_bytes = len(raw) - parsed.length
        self.replace(parsed.entries)
        return parsed.entries

    def append(self, entries: Sequence[bytes]) -> None:
        assert self._file is not None, "the record is missing, damaged or closed"
        self._pending += entries

    def sync(self) -> None:
        if self._failed:
            raise StorageDamage(f"an earlier write to {self._path} failed; restart the node once the disk is well")
        if not self._pending:
            return
        assert self._file is not None
        raw = frame(self._salt, self._length, self._pending)
        try:
            _write_at(self._file, raw, self._length)
            os.fdatasync(self._file)
        except OSError as error:
            # After a failed sync nobody knows what is on disk: only reading it again tells.
            self.close()
            self._failed = True
            raise self._damage(error) from None
        self._length += len(raw)
        self._pending = []

    def replace(self, entries: Sequence[bytes]) -> None:
        self.close()
        try:
            self._write_draft(entries)
            os.replace(_draft_of(self._path), self._path)
            _sync_directory(self._path.parent)
        except OSError as error:
            self.close()
            self._failed = True
            raise self._damage(error) from None
        self._failed = False

    def _write_draft(self, entries: Sequence[bytes]) -> None:
        """A whole record beside its name, durable and open."""
        salt = random_bytes(SALT_BYTES)
        raw = whole(salt, entries)
        self._file = _write_new(_draft_of(self._path), raw)
        self._salt, self._length = salt, len(raw)

    def close(self) -> None:
        """What was not synced is forgotten."""
        self._pending = []
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _damage(self, error: OSError) -> StorageDamage:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            advice = "the disk is full; free space, then start the node again"
        else:
            advice = "check the disk, then start the node again"
        return StorageDamage(f"the voting record {self._path} cannot be kept ({error.strerror}); {advice}")


def _unusable(version: int | None) -> str:
    """Why a record is not used, which begins as one of that version."""
    if version is None or version == VERSION:
        return "is damaged"
    which = "an earlier" if version < VERSION else "a later"
    return (
        f"was written by {which} version of otcnode and is not used: change the version of a network's validators one "
        "after the other, each once the one before votes again"
    )


def _draft_of(path: Path) -> Path:
    return path.with_name(path.name + ".draft")


def _write_new(path: Path, raw: bytes) -> int:
    """A new durable file with these contents, open for writing; its name is durable only with its directory."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        file = os.open(path, flags, _MODE)
    except FileExistsError:
        # A process that was killed left it, and may have left the record itself under this name too.
        path.unlink()
        file = os.open(path, flags, _MODE)
    try:
        _write_at(file, raw, 0)
        os.fsync(file)
    except BaseException:
        os.close(file)
        raise
    return file


def _write_at(file: int, raw: bytes, offset: int) -> None:
    written = 0
    while written < len(raw):
        written += os.pwrite(file, raw[written:] if written else raw, offset + written)


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)

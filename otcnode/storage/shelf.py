"""Where a node keeps, on its disk, the snapshots that it serves and the one that it gathers; and how that one takes the
place of the chain's database.

The gathered store is a directory of its own beside the chain's. When it is whole the two directories change places by
renaming: at any instant either the old chain is there in full or the new one. The old one is deleted afterwards.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from otcnode.errors import ConfigurationError, StorageDamage
from otcnode.storage.directory import DirectoryFolders
from otcnode.storage.folder import Folders
from otcnode.storage.incoming import finished
from otcnode.storage.kv import KeyValue
from otcnode.storage.level import LevelKeyValue

INCOMING_CACHE_BYTES = 8 << 20


class DiskShelf:
    """Owned by one process. `installed` is called when a gathered store is whole and is to take the chain's place."""

    def __init__(self, made: Path, incoming: Path, installed: Callable[[], None]) -> None:
        self._installed = installed
        self.made: Folders = DirectoryFolders(made)
        self._path = incoming
        self._incoming: LevelKeyValue | None = None

    def begun(self) -> bool:
        """Whether something has been gathered."""
        return self._incoming is not None or self._path.exists()

    def incoming(self) -> KeyValue:
        """The store in which a snapshot is gathered: empty, or as it was left."""
        if self._incoming is None:
            try:
                self._incoming = LevelKeyValue(self._path, create=True, cache_bytes=INCOMING_CACHE_BYTES)
            except StorageDamage:
                # Nothing in it is needed: it is gathered again.
                shutil.rmtree(self._path)
                self._incoming = LevelKeyValue(self._path, create=True, cache_bytes=INCOMING_CACHE_BYTES)
        return self._incoming

    def discard(self) -> None:
        """Give up what has been gathered."""
        self.close()
        shutil.rmtree(self._path, ignore_errors=True)

    def install(self) -> None:
        self._installed()

    def close(self) -> None:
        if self._incoming is not None:
            self._incoming.close()
            self._incoming = None


def complete_installation(incoming: Path, database: Path) -> bool:
    """Let a gathered store that is whole take the place of `database`; whether there was one. Neither is open.

    Called at every start: whoever was stopped in the middle of it goes on here.
    """
    old = database.with_name(database.name + ".old")
    whole = _is_whole(incoming)
    if whole:
        if database.exists():
            shutil.rmtree(old, ignore_errors=True)
            _rename(database, old)
        _rename(incoming, database)
    if database.exists():
        shutil.rmtree(old, ignore_errors=True)
    return whole


def _is_whole(incoming: Path) -> bool:
    if not incoming.exists():
        return False
    try:
        kv = LevelKeyValue(incoming, cache_bytes=INCOMING_CACHE_BYTES)
        try:
            return finished(kv)
        finally:
            kv.close()
    except StorageDamage:
        return False


def _rename(source: Path, target: Path) -> None:
    try:
        os.rename(source, target)
        directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise ConfigurationError(f"cannot rename {source} to {target.name}: {error.strerror}") from None

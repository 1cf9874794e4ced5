"""Where a node keeps, on its disk, the snapshots that it serves and the one that it gathers; and how that one takes the
place of the chain's database.

The gathered store is a directory of its own beside the chain's. When it is whole the two directories change places by
renaming: at any instant either the old chain is there in full or the new one. The old one is disposed of afterwards.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from otcnode.errors import ConfigurationError, DiskFull, StorageDamage
from otcnode.storage.directory import DirectoryFolders
from otcnode.storage.folder import Folders
from otcnode.storage.incoming import Roots, check_finished, finished
from otcnode.storage.kv import KeyValue
from otcnode.storage.level import LevelKeyValue, NoDatabase

INCOMING_CACHE_BYTES = 8 << 20
INCOMING_FILES_OPEN_MAX = 74
"""The fewest that LevelDB takes: 64 tables, each mapped, of which nothing is read at random."""


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
        """The store in which a snapshot is gathered: empty, or as it was left. Raises DiskFull."""
        if self._incoming is None:
            try:
                self._incoming = self._opened()
            except DiskFull:
                raise
            except (StorageDamage, NoDatabase):
                # Nothing in it is needed: it is gathered again.
                shutil.rmtree(self._path, ignore_errors=True)
                self._incoming = self._opened()
        return self._incoming

    def _opened(self) -> LevelKeyValue:
        return LevelKeyValue(
            self._path, create=True, cache_bytes=INCOMING_CACHE_BYTES, files_open_max=INCOMING_FILES_OPEN_MAX
        )

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


class Installation(NamedTuple):
    """`taken`: a gathered store is the chain's now. `damage`: why there was one that was deleted instead."""

    taken: bool
    damage: str | None


def complete_installation(
    incoming: Path,
    database: Path,
    roots: Callable[[], Roots],
    dispose: Callable[[Path], None] | None = None,
    *,
    just_read: bool = False,
) -> Installation:
    """Let a gathered store that is whole and sound take the place of `database`. Neither is open. What is damaged of a
    gathered one is deleted, be it half or whole: it is never needed, and a sound chain is never given for it. `dispose`
    removes the old chain from where it was moved, by default for good. `just_read`: see check_finished. Raises
    ConfigurationError where files cannot be moved or deleted, DiskFull where nothing can be opened: then nothing was
    changed.

    Called at every start: whoever was stopped in the middle of it goes on here.
    """
    old, dispose = former(database), dispose or delete_chain
    whole, damage = False, None
    try:
        whole = _is_whole(incoming, roots, just_read)
    except DiskFull:
        raise
    except (StorageDamage, NoDatabase) as error:
        damage = str(error).partition(";")[0]
        shutil.rmtree(incoming, ignore_errors=True)
    if whole:
        if database.exists():
            if old.exists():
                _dispose(old, dispose)
            rename(database, old)
        rename(incoming, database)
    if old.exists() and not database.exists():
        # Stopped between the two renamings, and what was to come is of no use, or was deleted by whoever found that.
        rename(old, database)
    if database.exists() and old.exists():
        _dispose(old, dispose)
    return Installation(whole, damage)


def _dispose(old: Path, dispose: Callable[[Path], None]) -> None:
    try:
        dispose(old)
    except OSError as error:
        raise ConfigurationError(f"cannot dispose of the former chain in {old}: {error.strerror or error}") from None


def delete_chain(path: Path) -> None:
    """Where an operator has put it elsewhere and a link in its place, there: the link goes first, so that a process
    that is stopped leaves none that leads nowhere. Raises OSError."""
    target = path.resolve()
    if path.is_symlink():
        path.unlink()
    shutil.rmtree(target)


def former(database: Path) -> Path:
    """Where a chain lies from when it makes way until it is disposed of."""
    return database.with_name(database.name + ".old")


def _is_whole(incoming: Path, roots: Callable[[], Roots], just_read: bool) -> bool:
    """Raises StorageDamage where it is damaged, NoDatabase where nothing is left of it."""
    if not incoming.exists():
        return False
    kv = LevelKeyValue(incoming, cache_bytes=INCOMING_CACHE_BYTES, files_open_max=INCOMING_FILES_OPEN_MAX)
    try:
        if not finished(kv):
            return False
        check_finished(kv, roots(), just_read=just_read)
        return True
    finally:
        kv.close()


def rename(source: Path, target: Path) -> None:
    """Durably. Raises ConfigurationError."""
    try:
        os.rename(source, target)
        directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise ConfigurationError(f"cannot rename {source} to {target.name}: {error.strerror}") from None

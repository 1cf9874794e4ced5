"""Where a node keeps, on its disk, the snapshots that it serves and the one that it gathers; and how that one takes the
place of the chain's database.

The gathered store is a directory of its own beside the chain's. When it is whole the two directories change places by
renaming: at any instant either the old chain is there in full or the new one. The old one is disposed of afterwards.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from otcnode.errors import ConfigurationError, StorageDamage, StorageRefused
from otcnode.storage.directory import DirectoryFolders
from otcnode.storage.folder import Folders
from otcnode.storage.incoming import Roots, check_finished, finished
from otcnode.storage.kv import KeyValue
from otcnode.storage.level import LevelKeyValue, NoDatabase

INCOMING_CACHE_BYTES = 8 << 20
INCOMING_FILES_OPEN_MAX = 74
"""The fewest that LevelDB takes: 64 tables, each mapped, of which nothing is read at random."""


class OtherFileSystem(ConfigurationError):
    """Renaming does not reach so far."""


class DiskShelf:
    """Owned by one process. `installed` is called when a gathered store is whole and is to take the chain's place."""

    def __init__(self, made: Path, incoming: Path, installed: Callable[[], None]) -> None:
        self._installed = installed
        self.made: Folders = DirectoryFolders(made)
        self._path = incoming
        self._incoming: LevelKeyValue | None = None
        self._given_up = False
        """What has been gathered is to be deleted, also if the system has refused that."""

    def begun(self) -> bool:
        """Whether something has been gathered."""
        return self._incoming is not None or self._path.exists()

    def incoming(self) -> KeyValue:
        """The store in which a snapshot is gathered: empty, or as it was left. Raises StorageRefused."""
        if self._incoming is None:
            try:
                self._incoming = self._opened()
            except StorageRefused:
                raise
            except (StorageDamage, NoDatabase):
                # Nothing in it is needed: it is gathered again.
                self.discard()
                self._incoming = self._opened()
        return self._incoming

    def _opened(self) -> LevelKeyValue:
        if self._given_up:
            _delete_gathered(self._path)
            self._given_up = False
        try:
            return LevelKeyValue(
                self._path, create=True, cache_bytes=INCOMING_CACHE_BYTES, files_open_max=INCOMING_FILES_OPEN_MAX
            )
        except NoDatabase:
            raise
        except ConfigurationError as refusal:
            # No chain is here: what ends a node at its start is no more than a snapshot that must wait.
            raise StorageRefused(str(refusal)) from None

    def discard(self) -> None:
        """Give up what has been gathered."""
        self.close()
        self._given_up = True
        with suppress(StorageRefused):
            _delete_gathered(self._path)

    def install(self) -> None:
        self._installed()

    def close(self) -> None:
        if self._incoming is not None:
            self._incoming.close()
            self._incoming = None


def _delete_gathered(path: Path) -> None:
    """Raises StorageRefused."""
    try:
        if path.exists():
            _delete(path)
    except OSError as error:
        raise StorageRefused(f"{path} cannot be deleted ({error.strerror or error})") from None


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
    ConfigurationError where files cannot be moved or deleted, StorageRefused where nothing can be opened or read, which
    is no damage: then nothing was changed.

    Called at every start: whoever was stopped in the middle of it goes on here.
    """
    end_deletion(database)
    old, dispose = former(database), dispose or delete_chain
    whole, damage = False, None
    try:
        whole = _is_whole(incoming, roots, just_read)
    except StorageRefused:
        raise
    except (StorageDamage, NoDatabase) as error:
        damage = str(error).partition(";")[0]
        shutil.rmtree(incoming, ignore_errors=True)
    if whole:
        if database.exists():
            if os.path.lexists(old):
                _dispose(old, dispose)
            rename(database, old)
        rename(incoming, database)
    if old.exists() and not os.path.lexists(database):
        # Stopped between the two renamings, and what was to come is of no use, or was deleted by whoever found that.
        rename(old, database)
    if database.exists() and old.exists():
        _dispose(old, dispose)
    return Installation(whole, damage)


def may_be_replaced(incoming: Path, database: Path) -> bool:
    """Whether `complete_installation` has something to look at: a gathered store, or a chain that has made way."""
    return incoming.exists() or os.path.lexists(former(database))


def end_deletion(database: Path) -> None:
    """Of a former chain, where a process was stopped over it: that takes no room and gives some. Raises
    ConfigurationError."""
    doomed = _doomed(former(database))
    if doomed.exists():
        _dispose(doomed, _delete)


def _dispose(old: Path, dispose: Callable[[Path], None]) -> None:
    """Of a link to a disk that is not there nothing is known, so neither does another chain come under its name."""
    try:
        old.stat()
        dispose(old)
    except OSError as error:
        raise ConfigurationError(f"cannot dispose of the former chain in {old}: {error.strerror or error}") from None


def delete_chain(path: Path) -> None:
    """Under a name that says so: what a process that is stopped over it leaves is no chain that somebody may have to
    keep, and the next start goes on. Raises OSError."""
    os.rename(path, _doomed(path))
    _sync(path.parent)
    _delete(_doomed(path))


def _doomed(old: Path) -> Path:
    """Where a former chain lies while it is deleted."""
    return old.with_name(old.name + ".deleted")


def _delete(path: Path) -> None:
    """Where an operator has put a chain elsewhere and a link in its place, there: its files go, for LevelDB has nothing
    else, then the link, so that it is found again until then, and at last the directory, unless it is a mount point or
    holds what is not the chain's. Raises OSError."""
    if not path.is_symlink():
        shutil.rmtree(path)
        return
    target = path.resolve()
    for entry in target.iterdir():
        if entry.is_symlink() or not entry.is_dir():
            entry.unlink()
    _sync(target)
    path.unlink()
    with suppress(OSError):
        target.rmdir()


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
    """Durably. Raises ConfigurationError, of it OtherFileSystem where only copying would do."""
    try:
        os.rename(source, target)
        _sync(target.parent)
    except OSError as error:
        kind = OtherFileSystem if error.errno == errno.EXDEV else ConfigurationError
        raise kind(f"cannot rename {source} to {target.name}: {error.strerror}") from None


def _sync(path: Path) -> None:
    """What the directory holds by name is durable on return."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)

"""What a node that keeps all blocks had before a snapshot took the place of its chain: it is put aside, never deleted.

Each chain that is put aside is a home of its own, `data/archives/FIRST-LAST` with the genesis file beside the chain, so
that every command for a stopped node's data works on it, and so that it can be moved back. One that cannot be read, as
it is damaged or of another version, is `data/archives/unread`. Where `data/archives` is on another
file system, which no renaming reaches, `data/archives-beside` takes its place: the node starts, and copies no chain.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import NamedTuple

from otcnode.config import Home
from otcnode.errors import StorageDamage, StorageRefused
from otcnode.home import sync_directory, write_atomically
from otcnode.storage.level import LevelKeyValue, NoDatabase, directory_bytes
from otcnode.storage.records import Head, read_record
from otcnode.storage.schema import Meta
from otcnode.storage.shelf import OtherFileSystem, delete_chain, rename

READING_CACHE_BYTES = 1 << 20
UNREAD = "unread"
LOOKED_AT_MS = 60_000
"""For so long it is not looked again what archives there are: an operator may move one away."""
_NAME = re.compile(r"(?P<first>\d+)-(?P<last>\d+)(\.\d+)?")


class Archive(NamedTuple):
    """A chain in `path`, a home."""

    path: Path
    size_bytes: int

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def place(self) -> str:
        """Where it lies in the node's home."""
        return f"data/{self.path.parent.name}"

    @property
    def heights(self) -> tuple[int, int] | None:
        """First and last of its blocks, as its name tells them; None: it could not be read."""
        found = _NAME.fullmatch(self.name)
        return None if found is None else (int(found["first"]), int(found["last"]))

    def __str__(self) -> str:
        return f"{self.path} ({self.size_bytes / 1e6:.1f} MB)"


def putting_aside(home: Home, note: Callable[[str], None], *, documents_left: bool = False) -> Callable[[Path], None]:
    """What to do with a chain whose place was taken, for `complete_installation`: only one without a block is deleted,
    and not if there may be documents in it that nobody else has. Stopped at any instant, the same chain is put aside at
    the next start. Raises OSError or StorageDamage where the disk refuses."""

    def put_aside(old: Path) -> None:
        try:
            head = _head_of(old)
        except NoDatabase:
            head = None
        except StorageRefused:
            raise
        except StorageDamage as damage:
            _keep(home, old, UNREAD, f"what cannot be read of it ({damage})", note)
            return
        if head is None or (head.blocks_first > head.height and not documents_left):
            delete_chain(old)
            return
        if head.blocks_first > head.height:
            _keep(home, old, UNREAD, "its documents that could not be moved", note)
            return
        first, last = head.blocks_first, head.height
        _keep(home, old, f"{first}-{last}", f"its blocks {first} to {last}", note)

    return put_aside


def archives_of(home: Home) -> list[Archive]:
    """Those that are there, by path."""
    databases = [path for place in (home.archives, home.archives_beside) for path in sorted(place.glob("*/data/chain"))]
    return [Archive(database.parent.parent, directory_bytes(database)) for database in databases]


def _in_thread(look: Callable[[], None]) -> None:
    """One that ends with the process, whatever the disk does."""
    threading.Thread(target=look, name="otcnode-archives", daemon=True).start()


class ArchivesSeen:
    """What is put aside in a running node's home, for whoever asks often. Who asks waits for no disk: it is looked at
    in a thread, again only once it has answered. Where the disk refuses, what was seen last stands. `told` hears in
    that thread of what was there when it could first be seen."""

    def __init__(
        self,
        home: Home,
        told: Callable[[list[Archive]], None],
        begin: Callable[[Callable[[], None]], None] = _in_thread,
    ) -> None:
        self._home = home
        self._told = told
        self._begin = begin
        self._archives: list[Archive] | None = None
        self._looked_ms: int | None = None
        self._looking = False

    def at(self, now_ms: int) -> list[Archive] | None:
        """As of the last look, None before the first has ended. `now_ms`: monotonic."""
        if not self._looking and (self._looked_ms is None or now_ms - self._looked_ms >= LOOKED_AT_MS):
            self._looked_ms, self._looking = now_ms, True
            self._begin(self._look)
        return self._archives

    def _look(self) -> None:
        try:
            found = archives_of(self._home)
        except OSError:
            return
        finally:
            self._looking = False
        first, self._archives = self._archives is None, found
        if first:
            self._told(found)


def _keep(home: Home, old: Path, name: str, what: str, note: Callable[[str], None]) -> None:
    if old.is_symlink():
        _make_absolute(old)
    apart = ""
    try:
        archive = _moved(home, old, home.archives / name)
    except OtherFileSystem:
        archive = _moved(home, old, home.archives_beside / name)
        apart = f", as {home.archives} is on another file system: move it there, if you wish"
    note(f"a snapshot took the place of the chain; {what} are kept in {archive}{apart}, see the operations guide")


def _moved(home: Home, old: Path, path: Path) -> Archive:
    """Raises OtherFileSystem, and then leaves nothing there."""
    target = Home(_free(path))
    target.database.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target.genesis, home.genesis.read_bytes())
    # The chain is nowhere else once it is moved: what leads to it is durable first.
    for directory in (path.parent, path.parent.parent):
        sync_directory(directory)
    try:
        rename(old, target.database)
    except OtherFileSystem:
        with suppress(OSError):
            target.genesis.unlink()
            target.database.parent.rmdir()
            target.path.rmdir()
        raise
    return Archive(target.path, directory_bytes(target.database))


def _make_absolute(link: Path) -> None:
    """A relative one would lead elsewhere from another directory."""
    draft = link.with_name(link.name + ".draft")
    draft.unlink(missing_ok=True)
    draft.symlink_to(link.resolve())
    draft.replace(link)


def _head_of(database: Path) -> Head:
    """Raises StorageDamage or NoDatabase."""
    kv = LevelKeyValue(database, cache_bytes=READING_CACHE_BYTES)
    try:
        return read_record(kv, Meta.HEAD.value, Head, "the head")
    finally:
        kv.close()


def _free(path: Path) -> Path:
    """The path, or one that is told from it where a chain lies there already, or a link to one whose disk may not be
    there now."""
    names = (path if not number else path.with_name(f"{path.name}.{number}") for number in count())
    return next(name for name in names if not os.path.lexists(Home(name).database))

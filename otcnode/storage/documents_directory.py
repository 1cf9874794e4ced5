"""The database of sealed documents in a node's directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from otcnode.errors import StorageDamage, StorageRefused
from otcnode.storage.documents import ADVICE_DOCUMENTS, DocumentStore
from otcnode.storage.level import LevelKeyValue, NoDatabase
from otcnode.storage.records import advised
from otcnode.storage.schema import Table
from otcnode.storage.shelf import former

CACHE_BYTES = 4 << 20

Note: TypeAlias = Callable[[str], None]


def open_documents(path: Path, database: Path, note: Note = lambda text: None, spare_bytes: int = 0) -> DocumentStore:
    """The documents of the node whose chain is in `database`, which is not open: what earlier versions kept there, or
    in the one that was moved away for a snapshot, is moved here once. To be called ahead of whatever takes the chain's
    place or takes blocks back. `note` is told of what could not be moved; there is another try at the next start.
    `spare_bytes`: see LevelKeyValue. Raises ConfigurationError if another process uses them, StorageDamage if they
    cannot be read."""
    store = _opened(path, note, spare_bytes)
    try:
        _take_over(store, lambda: _take_from_closed(store, database), database, note)
    except BaseException:
        store.close()
        raise
    return store


def move_documents(path: Path, database: Path, chain: LevelKeyValue, note: Note) -> None:
    """The same where `database` is open as `chain`."""
    store = _opened(path, note)
    try:
        _take_over(store, lambda: store.take_from(chain, chain.readable(Table.DOCUMENT.value)), database, note)
    finally:
        store.close()


def _opened(path: Path, note: Note, spare_bytes: int = 0) -> DocumentStore:
    try:
        kv = LevelKeyValue(path, create=True, cache_bytes=CACHE_BYTES, spare_bytes=spare_bytes)
    except StorageRefused:
        raise
    except StorageDamage as damage:
        raise advised(damage, ADVICE_DOCUMENTS) from None
    if kv.cut is not None:
        note(kv.cut)
    return DocumentStore(kv)


def _take_over(store: DocumentStore, take: Callable[[], None], database: Path, note: Note) -> None:
    """`take` what the chain has. Damage of it is no reason to end here: it may be about to be replaced."""
    if store.has_taken_over:
        return
    sound = True
    for taking in (take, lambda: _take_from_closed(store, former(database))):
        try:
            taking()
        except StorageRefused:
            raise
        except StorageDamage as damage:
            sound = False
            found = str(damage).partition(";")[0]
            note(f"sealed documents that an earlier version kept with the chain could not all be moved: {found}")
    if sound:
        store.end_taking_over()


def _take_from_closed(store: DocumentStore, database: Path) -> None:
    """Raises StorageDamage."""
    try:
        chain = LevelKeyValue(database)
    except NoDatabase:
        return
    try:
        store.take_from(chain, chain.readable(Table.DOCUMENT.value))
    finally:
        chain.close()

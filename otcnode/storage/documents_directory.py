"""The database of sealed documents in a node's directory."""

from __future__ import annotations

from pathlib import Path

from otcnode.errors import DiskFull, StorageDamage
from otcnode.storage.documents import ADVICE_DOCUMENTS, DocumentStore
from otcnode.storage.kv import KeyValue
from otcnode.storage.level import LevelKeyValue, NoDatabase
from otcnode.storage.records import advised

CACHE_BYTES = 4 << 20


def open_documents(path: Path, database: Path) -> DocumentStore:
    """The documents of the node whose chain is in `database`, which is not open: what earlier versions kept there is
    moved here once. To be called ahead of whatever takes the chain's place or takes blocks back. Raises
    ConfigurationError if another process uses them, StorageDamage if they cannot be read."""
    store = _opened(path)
    try:
        if not store.has_taken_over:
            _take_over(store, database)
    except BaseException:
        store.close()
        raise
    return store


def move_documents(path: Path, chain: KeyValue) -> None:
    """The same where the chain's database is open."""
    store = _opened(path)
    try:
        if not store.has_taken_over:
            store.take_over(chain)
    finally:
        store.close()


def _opened(path: Path) -> DocumentStore:
    try:
        return DocumentStore(LevelKeyValue(path, create=True, cache_bytes=CACHE_BYTES))
    except DiskFull:
        raise
    except StorageDamage as damage:
        raise advised(damage, ADVICE_DOCUMENTS) from None


def _take_over(store: DocumentStore, database: Path) -> None:
    """A chain that is damaged is for others to report, for it may be about to be replaced: there is another try at the
    next start."""
    try:
        chain = LevelKeyValue(database)
    except NoDatabase:
        store.take_over(None)
        return
    except DiskFull:
        raise
    except StorageDamage:
        return
    try:
        store.take_over(chain)
    except DiskFull:
        raise
    except StorageDamage:
        return
    finally:
        chain.close()

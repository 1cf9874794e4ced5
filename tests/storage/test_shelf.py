"""Wherever a process was stopped while a gathered store took the chain's place, the next one finds a chain there."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from otcnode import archives
from otcnode.archives import putting_aside
from otcnode.bench.chain import ChainBuilder, genesis_of
from otcnode.config import Home
from otcnode.errors import DiskFull, StorageRefused
from otcnode.roots import Roots, roots_of
from otcnode.storage.level import LevelKeyValue
from otcnode.storage.schema import Table
from otcnode.storage.shelf import DiskShelf, complete_installation
from otcnode.storage.store import Store
from tests.storage.few_files import files_left, refused

GENESIS = genesis_of(1, buckets=256)
HEIGHT = 2
KEY = Table.STATE.value + b"key"


def roots() -> Roots:
    return roots_of(GENESIS)


def chain_at(path: Path) -> None:
    kv = LevelKeyValue(path, create=True)
    ChainBuilder(kv, GENESIS).grow(HEIGHT, 1)
    kv.close()


def deleted(incoming: Path) -> None:
    """It was damaged, and whoever found that was stopped once it had deleted it."""


def half(incoming: Path) -> None:
    kv = LevelKeyValue(incoming, create=True)
    kv.write([(KEY, b"value")])
    kv.close()


def damaged(incoming: Path) -> None:
    half(incoming)
    (incoming / "CURRENT").write_bytes(b"MANIFEST-999999\n")


@contextmanager
def full_disk(file_bytes: int = 16) -> Iterator[None]:
    """No file takes more than a few bytes: the kernel refuses as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("left", [deleted, half, damaged])
def test_a_chain_that_was_to_make_way_comes_back_whatever_is_left_of_the_gathered_one(
    tmp_path: Path, left: Callable[[Path], None]
) -> None:
    """Stopped between the two renamings, and what was to come is of no use: at no later start is the chain lost."""
    incoming, database = tmp_path / "incoming", tmp_path / "chain"
    chain_at(tmp_path / "chain.old")
    left(incoming)
    for _ in range(2):
        assert not complete_installation(incoming, database, roots).taken
        kv = LevelKeyValue(database)
        assert Store.exists(kv) and ChainBuilder(kv, GENESIS).store.tip.height == HEIGHT
        kv.close()
    assert not (tmp_path / "chain.old").exists() and incoming.exists() == (left is half)


def test_a_full_disk_costs_nothing_of_what_was_gathered(tmp_path: Path) -> None:
    """It is no damage: neither at a start, nor where gathering is to go on."""
    incoming, database = tmp_path / "incoming", tmp_path / "chain"
    chain_at(database)
    half(incoming)
    shelf = DiskShelf(tmp_path / "made", incoming, lambda: None)
    for act in (lambda: complete_installation(incoming, database, roots), shelf.incoming):
        with full_disk(), pytest.raises(DiskFull, match="full"):
            act()
    assert shelf.incoming().get(KEY) == b"value"
    shelf.close()


def test_a_full_disk_makes_no_chain_unreadable(tmp_path: Path) -> None:
    """It stays where it is until the disk has room."""
    home = Home(tmp_path)
    chain_at(home.database)
    with full_disk(), pytest.raises(DiskFull, match="full"):
        putting_aside(home, lambda text: None)(home.database)
    assert home.database.exists() and not home.archives.exists()


def test_too_many_open_files_cost_nothing_of_what_was_gathered_and_are_no_mistake_of_the_node(tmp_path: Path) -> None:
    """Whichever file it is that the system does not open."""
    half(tmp_path / "incoming")
    shelf = DiskShelf(tmp_path / "made", tmp_path / "incoming", lambda: None)
    for count in range(20):
        with files_left(count):
            try:
                shelf.incoming()
                break
            except StorageRefused as refused:
                assert "too many open files" in str(refused).lower()
    assert 3 <= count < 20
    assert shelf.incoming().get(KEY) == b"value"
    shelf.close()


def test_what_the_system_did_not_let_be_deleted_is_deleted_before_another_is_gathered(tmp_path: Path) -> None:
    """Two snapshots in one store are none."""
    half(tmp_path / "incoming")
    shelf = DiskShelf(tmp_path / "made", tmp_path / "incoming", lambda: None)
    with files_left(0):
        shelf.discard()
        assert shelf.begun()
        with pytest.raises(StorageRefused, match=r"cannot be deleted .*Too many open files"):
            shelf.incoming()
    assert list(shelf.incoming().scan(b"")) == []
    shelf.close()


def test_too_many_open_files_make_no_chain_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path)
    chain_at(home.database)
    LevelKeyValue(home.database).close()
    monkeypatch.setattr(archives, "read_record", refused(archives.read_record))
    with pytest.raises(StorageRefused, match="Too many open files"):
        putting_aside(home, lambda text: None)(home.database)
    assert home.database.exists() and not home.archives.exists()

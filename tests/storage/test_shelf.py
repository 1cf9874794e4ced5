"""Wherever a process was stopped while a gathered store took the chain's place, the next one finds a chain there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from otcnode.bench.chain import ChainBuilder, genesis_of
from otcnode.roots import Roots, roots_of
from otcnode.storage.level import LevelKeyValue
from otcnode.storage.schema import Table
from otcnode.storage.shelf import complete_installation
from otcnode.storage.store import Store

GENESIS = genesis_of(1, buckets=256)
HEIGHT = 2


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
    kv.write([(Table.STATE.value + b"key", b"value")])
    kv.close()


def damaged(incoming: Path) -> None:
    half(incoming)
    (incoming / "CURRENT").write_bytes(b"MANIFEST-999999\n")


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

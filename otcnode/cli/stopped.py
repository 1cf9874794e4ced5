"""What the commands on a stopped node's data directory share: options, opening it, and showing an answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import click

from otcnode import genesis as genesis_module
from otcnode import limits
from otcnode.config import Home
from otcnode.errors import ConfigurationError, DiskFull, StorageDamage
from otcnode.genesis import Genesis, chain_id
from otcnode.storage.level import LevelKeyValue
from otcnode.storage.records import advised
from otcnode.storage.shelf import former

home_option = click.option(
    "--home", "directory", type=click.Path(path_type=Path), required=True, help="The node's home directory."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


class Stopped(NamedTuple):
    """A home whose database is open here, and so in use for everybody else."""

    home: Home
    genesis: Genesis
    chain: bytes
    kv: LevelKeyValue


@contextmanager
def opened(directory: Path) -> Iterator[Stopped]:
    """Raises ConfigurationError if a node is using it, StorageDamage if it cannot be read."""
    home = Home(directory)
    genesis = genesis_module.load(home.genesis)
    kv = open_chain(home)
    try:
        with _room_advised(home):
            yield Stopped(home, genesis, chain_id(genesis), kv)
    finally:
        kv.close()


def open_chain(home: Home) -> LevelKeyValue:
    """Raises ConfigurationError if a node is using it or there is none, StorageDamage if it cannot be read."""
    if not home.database.exists() and former(home.database).exists():
        raise ConfigurationError(
            f"{home.path}: the node was stopped while a snapshot took the place of its chain, which lies in "
            f"{former(home.database)}: start the node once, it goes on with that"
        )
    with _room_advised(home):
        kv = LevelKeyValue(home.database)
    if kv.cut is not None:
        click.echo(kv.cut, err=True)
    return kv


@contextmanager
def _room_advised(home: Home) -> Iterator[None]:
    """Where the disk is full, even to open a database takes room: say what there is that may go."""
    try:
        yield
    except DiskFull as full:
        made_again = [f"data/{path.name}" for path in (home.snapshots, home.replay, home.incoming) if path.exists()]
        archives = [f"data/{path.name}" for path in (home.archives, home.archives_beside) if path.exists()]
        delete = f"delete what is made again ({', '.join(made_again)}), or " if made_again else ""
        raise DiskFull(
            f"{str(full).partition(';')[0]}; commands need some {limits.disk_spare_bytes >> 20} MiB: {delete}move "
            f"{' and '.join(archives) or 'other files'} away, then run the command again"
        ) from None


@contextmanager
def verifying(advice: str) -> Iterator[None]:
    """The damage that `verify` itself meets comes with the advice that follows it."""
    try:
        yield
    except StorageDamage as damage:
        raise advised(damage, advice) from None


def readable(fields: dict[str, object]) -> str:
    """One line per field."""
    return "\n".join(f"{name.replace('_', ' '):<18} {value}" for name, value in fields.items())

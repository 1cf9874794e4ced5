"""What the commands on a stopped node's data directory share: opening it, and a bar per part of long work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from otcnode import genesis as genesis_module
from otcnode.config import Home
from otcnode.genesis import Genesis, chain_id
from otcnode.storage import progress
from otcnode.storage.level import LevelKeyValue

home_option = click.option(
    "--home", "directory", type=click.Path(path_type=Path), required=True, help="The node's home directory."
)
LINE_SECONDS = 2.0
"""Between lines of progress where nobody watches a bar."""

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
    kv = LevelKeyValue(home.database)
    try:
        yield Stopped(home, genesis, chain_id(genesis), kv)
    finally:
        kv.close()


@contextmanager
def bars() -> Iterator[progress.Progress]:
    """A bar per part on standard error; where that is no terminal, a line every few seconds."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _lines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.completed}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as shown:
        tasks: dict[str, TaskID] = {}

        def show(part: str, done: int, whole: int) -> None:
            if part not in tasks:
                tasks[part] = shown.add_task(part, total=whole or None)
            shown.update(tasks[part], completed=done, total=whole or None)

        yield show


def _lines() -> progress.Progress:
    told = time.monotonic()

    def show(part: str, done: int, whole: int) -> None:
        nonlocal told
        if time.monotonic() - told >= LINE_SECONDS:
            told = time.monotonic()
            click.echo(f"{part}: {done} of {whole}" if whole else f"{part}: {done}", err=True)

    return show


def readable(fields: dict[str, object]) -> str:
    """One line per field."""
    return "\n".join(f"{name.replace('_', ' '):<18} {value}" for name, value in fields.items())

"""How far long work is: a bar per part where standard error is a terminal, else a line every few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich import progress as rich_progress
from rich.console import Console
from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from otcnode.storage.progress import Progress

LINE_SECONDS = 2.0


@contextmanager
def bars(check: Callable[[], None]) -> Iterator[Progress]:
    """A bar per part on standard error; where that is no terminal, a line every few seconds. `check` raises where the
    work is to stop."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _lines(check)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.completed}"),
        TimeElapsedColumn(),
    )
    with rich_progress.Progress(*columns, console=console, transient=True) as shown:
        tasks: dict[str, TaskID] = {}

        def show(part: str, done: int, whole: int) -> None:
            check()
            if part not in tasks:
                tasks[part] = shown.add_task(part, total=whole or None)
            shown.update(tasks[part], completed=done, total=whole or None)

        yield show


def _lines(check: Callable[[], None]) -> Progress:
    told = time.monotonic()

    def show(part: str, done: int, whole: int) -> None:
        nonlocal told
        check()
        if time.monotonic() - told >= LINE_SECONDS:
            told = time.monotonic()
            click.echo(f"{part}: {done} of {whole}" if whole else f"{part}: {done}", err=True)

    return show

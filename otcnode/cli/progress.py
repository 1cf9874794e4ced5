"""How far long work is: a bar per part, where the output is a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich import progress as rich_progress
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn

from otcnode.storage.progress import Progress


@contextmanager
def bars(console: Console) -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}"), TimeElapsedColumn())
    with rich_progress.Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        tasks: dict[str, TaskID] = {}

        def show(part: str, done: int, whole: int) -> None:
            if part not in tasks:
                tasks[part] = shown.add_task(part, total=whole or None)
            shown.update(tasks[part], completed=done, total=whole or None)

        yield show

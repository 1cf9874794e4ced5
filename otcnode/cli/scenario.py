"""`otcnode scenario`: stories about the ledger, from files."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.text import Text

from otcnode.cli.exits import EXIT_NO, EXIT_USAGE
from otcnode.vm.scenario.malformed import ScenarioError
from otcnode.vm.scenario.runner import Played, play


@click.group()
def scenario() -> None:
    """Play ledger stories from files (docs/scenarios.md)."""


@scenario.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("-v", "--verbose", is_flag=True, help="Print receipts and events.")
@click.option("--json", "as_json", is_flag=True, help="Print what was played as JSON.")
def run(files: tuple[str, ...], verbose: bool, as_json: bool) -> None:
    """Play each FILE on a ledger of its own.

    A story ends at the first step that does not hold; then the exit code is 1. A file that cannot be played at all is
    told in one line; then it is 2.
    """
    console = Console(highlight=False, soft_wrap=True)
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    stories: list[dict[str, Any]] = []
    worst = 0
    for file in files:
        steps: list[Played] = []
        error = None
        try:
            for played in play(file, read):
                steps.append(played)
                if not as_json:
                    show(console, played, verbose)
        except ScenarioError as problem:
            error = str(problem)
            errors.print(Text(f"otcnode: {error}", "red"))
        held = error is None and all(played.held for played in steps)
        worst = max(worst, EXIT_USAGE if error is not None else 0 if held else EXIT_NO)
        stories.append({"file": file, "held": held, "error": error, "steps": [asdict(played) for played in steps]})
        if not as_json and error is None:
            verdict = Text("holds", "green") if held else Text("does not hold", "bold red")
            console.print(Text(f"{file}: ") + verdict + Text(f", {len(steps)} steps\n"))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(stories), indent=2))
    sys.exit(worst)


def read(path: str) -> str:
    """The text of a file. Raises ScenarioError."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ScenarioError(f"cannot be read: {error.strerror}", file=path) from None
    except UnicodeDecodeError:
        raise ScenarioError("is not UTF-8", file=path) from None


def show(console: Console, played: Played, verbose: bool) -> None:
    """One line, and what a failing step expected."""
    mark = Text("✓ ", "green") if played.held else Text("✗ ", "bold red")
    codes = [receipt.code for receipt in played.transactions if receipt.code != "OK"]
    happened = ", ".join([receipt.code for receipt in played.automatic])
    line = mark + Text(f"{played.height:>4} ", "dim") + Text(f"{played.at}  ", "cyan") + Text(played.step)
    if codes:
        line += Text(f"  {' '.join(codes)}", "yellow")
    if happened:
        line += Text(f"  [{happened}]", "magenta")
    console.print(line)
    if verbose:
        for receipt in (*played.automatic, *played.transactions):
            console.print(Text(f"       {receipt.code}  {receipt.explanation}".rstrip(), "bold"))
            for event in receipt.events:
                console.print(Text(f"         {event}", "dim"))
    for mismatch in played.mismatches:
        console.print(Text(f"       {mismatch.where}", "bold red"))
        console.print(Text(f"         expected  {mismatch.expected}", "green"))
        console.print(Text(f"         actual    {mismatch.actual}", "red"))
    if not played.held:
        console.print(Text(f"       in {played.file}, step {played.step!r}", "red"))

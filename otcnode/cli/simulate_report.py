"""What `otcnode simulate` shows: progress, broken promises, the summary, found bugs, measurements."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from otcnode.simulation.fleet import Ran
from otcnode.simulation.hunting import Found
from otcnode.simulation.marks import MARKS
from otcnode.simulation.measure import Measurement
from otcnode.simulation.summary import Summary

LINE_SECONDS = 10.0


class Watch:
    """A bar where standard error is a terminal, else a line every few seconds."""

    def __init__(self, console: Console, count: int, noun: str, hidden: bool) -> None:
        self._console = console
        self._count = count
        self._noun = noun
        self._hidden = hidden
        self._done = 0
        self._told = time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        hides_bar = hidden or not console.is_terminal
        self._progress = Progress(*columns, console=console, transient=True, disable=hides_bar)
        self._task = self._progress.add_task(noun, total=count)

    def __enter__(self) -> Watch:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def done(self, name: object) -> None:
        self._done += 1
        self._progress.update(self._task, advance=1, description=f"{self._noun} {name}")
        now = time.monotonic()
        if not self._hidden and not self._console.is_terminal and now - self._told >= LINE_SECONDS:
            self._told = now
            self._console.print(f"{self._done} of {self._count}: {self._noun} {name}", markup=False)


def violation(console: Console, report: Ran, path: Path) -> None:
    """The broken promise, the end of the trace, and how to see it again."""
    for line in report.tail:
        click.echo(line, err=True)
    console.print(f"[bold red]seed {report.plan.seed}, {report.plan.validators} validators[/]: ", end="")
    console.print(str(report.violation), markup=False)
    console.print(f"the plan is {path}; to see it again:", markup=False)
    click.echo(f"otcnode simulate --plan {path} -v", err=True)


def summary(total: Summary, seconds: float, broken: int, last: Ran | None, as_json: bool) -> None:
    figures = {
        "seeds": total.seeds,
        "seeds per second": round(total.seeds / max(seconds, 1e-9), 2),
        "processor seconds per seed": round(total.seconds / max(total.seeds, 1), 3),
        "broken promises": broken,
        "virtual hours": round(total.virtual_ms / 3_600_000, 3),
        "events": total.events,
        "messages": total.messages,
        "commits": total.commits,
        "transactions": total.transactions,
        "highest view": total.view_max,
    }
    if last is not None:
        figures["trace lines"] = last.summary.trace_lines
    missing = [mark for mark in MARKS if not total.marks[mark]]
    if as_json:
        report = {
            **{name.replace(" ", "_"): value for name, value in figures.items()},
            "faults": dict(sorted(total.faults.items())),
            "marks": dict(sorted(total.marks.items())),
            "seeds_with": dict(sorted(total.seeds_with.items())),
            "marks_never_hit": missing,
            "trace_hash": None if last is None else last.summary.trace_hash,
            "violation": None if last is None else last.violation,
        }
        click.echo(msgspec.json.format(msgspec.json.encode(report), indent=2))
        return
    table = Table("", "", "seeds", show_header=False, box=None)
    for name, value in figures.items():
        table.add_row(name, f"{value:,}")
    if last is not None:
        table.add_row("trace hash", last.summary.trace_hash)
    table.add_section()
    table.add_row("[bold]faults injected[/]", "")
    for name, count in sorted(total.faults.items()):
        table.add_row(f"  {name}", f"{count:,}")
    table.add_section()
    table.add_row("[bold]situations[/]", "", "in seeds")
    for name, count in sorted(total.marks.items()):
        table.add_row(f"  {name}", f"{count:,}", f"{total.seeds_with[name]:,}")
    for name in missing:
        table.add_row(f"  {name}", "never")
    Console().print(table)


def hunted(found: Sequence[Found], as_json: bool) -> None:
    if as_json:
        rows = [
            {
                **{name: getattr(report, name) for name in report.__struct_fields__ if name not in ("plan", "small")},
                "faults": None if report.plan is None else len(report.plan.faults),
                "shrunk_faults": None if report.small is None else len(report.small.faults),
                "shrunk_submissions": None if report.small is None else len(report.small.workload),
            }
            for report in found
        ]
        click.echo(msgspec.json.format(msgspec.json.encode(rows), indent=2))
        return
    table = Table("planted bug", "found by", "seed", "CPU s", "faults", "shrunk to", box=None)
    for report in found:
        if report.seed is None:
            table.add_row(report.mutant, "[bold red]not found[/]", f"none of {report.seeds}", f"{report.seconds:.1f}")
            continue
        promise = report.promise if report.expected else f"[bold red]{report.promise}[/]"
        faults = "" if report.plan is None else str(len(report.plan.faults))
        small = report.small
        shrunk = "" if small is None else f"{len(small.faults)} faults, {len(small.workload)} submissions"
        table.add_row(report.mutant, promise, str(report.seed), f"{report.seconds:.1f}", faults, shrunk)
    console = Console(width=None if Console().is_terminal else 140)
    console.print(table)
    missed = [report.mutant for report in found if not report.expected]
    console.print(f"{len(found) - len(missed)} of {len(found)} planted bugs found as they should be")


def measurements(rows: Sequence[Measurement], as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(rows), indent=2))
        return
    click.echo(as_table(rows))


def as_table(rows: Sequence[Measurement]) -> str:
    """As it stands in the documents."""
    lines = [
        "| n | quorum | messages per block | per node | signatures made | verified | bytes per block | per node |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        blocks, nodes = row.blocks, row.validators
        lines.append(
            f"| {nodes} | {row.quorum} | {row.messages / blocks:.0f} | {row.messages / blocks / nodes:.1f} "
            f"| {row.signatures_made / blocks:.0f} | {row.signatures_verified / blocks:.0f} "
            f"| {row.bytes / blocks:,.0f} | {row.bytes / blocks / nodes:,.0f} |"
        )
    return "\n".join(lines)

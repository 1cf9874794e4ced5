"""`otcnode simulate`: whole networks in virtual time under faults, judged by everything the nodes promise."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from otcnode.cli.exits import EXIT_NO
from otcnode.simulation import plan as plans
from otcnode.simulation.generate import Options, generate
from otcnode.simulation.plan import Plan
from otcnode.simulation.shrink import Shrinker
from otcnode.simulation.summary import Summary
from otcnode.simulation.world import Outcome, run


@click.command()
@click.option("--seed", "first_seed", type=click.IntRange(min=0), default=1, show_default=True, help="The first seed.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="How many seeds from there.")
@click.option(
    "--validators", type=click.IntRange(0, 100), default=0, help="The size of every network; by default the seed's."
)
@click.option("--plan", "plan_file", type=click.Path(path_type=Path), help="Carry out this plan instead of seeds.")
@click.option(
    "--out",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Where the plan of a failure is written; by default the current directory.",
)
@click.option("--shrink", is_flag=True, help="Find the smallest plan that still fails. May take minutes.")
@click.option("-v", "--verbose", is_flag=True, help="Print the trace line by line.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def simulate(
    first_seed: int,
    seeds: int,
    validators: int,
    plan_file: Path | None,
    directory: Path,
    shrink: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Run whole networks in virtual time under faults.

    Every seed makes a plan: a network, its clients' work, crashes, lost and late messages, partitions, liars. All nodes
    are real ones but for the world around them. After the faults a quorum is healed and every transaction must end.
    The first broken promise stops the run with exit code 1 and is written to a plan file that reproduces it.
    """
    console = Console(stderr=True)
    show = click.echo if verbose else None
    total = Summary()
    began = time.monotonic()
    done = 0
    if plan_file is not None:
        work: Iterable[Plan] = [plans.load(plan_file)]
        seeds = 1
    else:
        options = Options(validators=validators)
        work = (generate(seed, options) for seed in range(first_seed, first_seed + seeds))
    try:
        for plan in _with_progress(console, work, seeds, hidden=verbose or as_json or seeds == 1):
            outcome = run(plan, show)
            total.add(outcome.summary)
            done += 1
            if outcome.violation is not None:
                _report(console, plan, outcome, directory, plan_file)
                if shrink:
                    _shrink(console, plan, outcome, directory)
                _print_summary(total, done, time.monotonic() - began, outcome, as_json)
                sys.exit(EXIT_NO)
    except KeyboardInterrupt:
        _print_summary(total, done, time.monotonic() - began, None, as_json)
        raise click.Abort from None
    _print_summary(total, done, time.monotonic() - began, outcome if done == 1 else None, as_json)


def _with_progress(console: Console, work: Iterable[Plan], count: int, hidden: bool) -> Iterator[Plan]:
    columns = (TextColumn("seed {task.fields[seed]}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task("", total=count, seed="")
        for plan in work:
            progress.update(task, seed=plan.seed)
            yield plan
            progress.advance(task)


def _report(console: Console, plan: Plan, outcome: Outcome, directory: Path, plan_file: Path | None) -> None:
    """The violation, the end of the trace, and how to see it again."""
    if plan_file is None:
        plan_file = directory / f"plan-{plan.seed}-{plan.validators}.json"
        directory.mkdir(parents=True, exist_ok=True)
        plans.save(plan, plan_file)
    for line in outcome.tail:
        click.echo(line, err=True)
    console.print(f"[bold red]seed {plan.seed}, {plan.validators} validators[/]: ", end="")
    console.print(str(outcome.violation), markup=False, highlight=False)
    console.print(f"the plan is {plan_file}; to see it again:", markup=False, highlight=False)
    click.echo(f"otcnode simulate --plan {plan_file} -v", err=True)


def _shrink(console: Console, plan: Plan, outcome: Outcome, directory: Path) -> None:
    assert outcome.violation is not None
    with console.status("shrinking") as status:

        def progress(attempts: int, smaller: Plan) -> None:
            status.update(
                f"shrinking: {len(smaller.faults)} faults, {len(smaller.workload)} submissions after {attempts} runs"
            )

        small = Shrinker(outcome.violation.promise, progress=progress).shrink(plan)
    path = directory / f"plan-{plan.seed}-{plan.validators}-shrunk.json"
    plans.save(small, path)
    console.print(
        f"{len(plan.faults)} faults and {len(plan.workload)} submissions became {len(small.faults)} and "
        f"{len(small.workload)}: {path}",
        markup=False,
        highlight=False,
    )


def _print_summary(total: Summary, done: int, seconds: float, outcome: Outcome | None, as_json: bool) -> None:
    figures = {
        "seeds": done,
        "seeds per second": round(done / max(seconds, 1e-9), 2),
        "virtual hours": round(total.virtual_ms / 3_600_000, 3),
        "events": total.events,
        "messages": total.messages,
        "commits": total.commits,
        "transactions": total.transactions,
        "highest view": total.view_max,
    }
    if outcome is not None:
        figures["trace lines"] = outcome.summary.trace_lines
    if as_json:
        report = {
            **{name.replace(" ", "_"): value for name, value in figures.items()},
            "faults": dict(sorted(total.faults.items())),
            "marks": dict(sorted(total.marks.items())),
            "trace_hash": None if outcome is None else outcome.summary.trace_hash,
            "violation": None if outcome is None or outcome.violation is None else str(outcome.violation),
        }
        click.echo(msgspec.json.format(msgspec.json.encode(report), indent=2))
        return
    table = Table("", "", show_header=False, box=None)
    for name, value in figures.items():
        table.add_row(name, f"{value:,}")
    if outcome is not None:
        table.add_row("trace hash", outcome.summary.trace_hash)
    for title, counts in (("faults injected", total.faults), ("situations", total.marks)):
        table.add_section()
        table.add_row(f"[bold]{title}[/]", "")
        for name, count in sorted(counts.items()):
            table.add_row(f"  {name}", f"{count:,}")
    Console().print(table)

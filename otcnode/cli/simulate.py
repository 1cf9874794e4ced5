"""`otcnode simulate`: whole networks in virtual time under faults, judged by everything the nodes promise."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path

import click
from rich.console import Console

from otcnode.cli import simulate_report as reporting
from otcnode.cli.exits import EXIT_INTERRUPTED, EXIT_NO
from otcnode.cli.simulate_report import Watch
from otcnode.simulation import plan as plans
from otcnode.simulation.fleet import Hunt, Ran, Report, Seed, carry_out, reports
from otcnode.simulation.generate import Swarm
from otcnode.simulation.hunting import Found
from otcnode.simulation.measure import SIZES, measured
from otcnode.simulation.mutants.catalogue import MUTANTS
from otcnode.simulation.plan import Plan
from otcnode.simulation.shrink import Shrinker
from otcnode.simulation.summary import Summary
from otcnode.simulation.violation import Promise


@click.command()
@click.option("--seed", "first_seed", type=click.IntRange(min=0), default=1, show_default=True, help="The first seed.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="How many seeds from there.")
@click.option(
    "--jobs", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes that work at the same time."
)
@click.option(
    "--validators", type=click.IntRange(0, 100), default=0, help="The size of every network; by default the seed's."
)
@click.option(
    "--swarm",
    type=click.Choice([swarm.value for swarm in Swarm]),
    help="What kinds of faults the plans mix; by default as each seed chooses.",
)
@click.option("--plan", "plan_file", type=click.Path(path_type=Path), help="Carry out this plan instead of seeds.")
@click.option("--mutants", is_flag=True, help="Plant every known bug, one after the other, and look for it.")
@click.option("--mutant", "names", multiple=True, metavar="NAME", help="Plant only this bug. May be given repeatedly.")
@click.option("--measure", is_flag=True, help="Messages, signatures and bytes per block against the number of nodes.")
@click.option(
    "--out",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Where plans of failures are written; by default the current directory.",
)
@click.option("--keep-going", is_flag=True, help="Go on after a broken promise.")
@click.option(
    "--shrink/--no-shrink",
    default=None,
    help="Find the smallest plan that still fails: may take minutes. [mutants: on]",
)
@click.option("-v", "--verbose", is_flag=True, help="Print the trace line by line.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def simulate(
    first_seed: int,
    seeds: int,
    jobs: int,
    validators: int,
    swarm: str | None,
    plan_file: Path | None,
    mutants: bool,
    names: tuple[str, ...],
    measure: bool,
    directory: Path,
    keep_going: bool,
    shrink: bool | None,
    verbose: bool,
    as_json: bool,
) -> None:
    """Run whole networks in virtual time under faults.

    Every seed makes a plan: a network, its clients' work, crashes, lost and late messages, partitions, liars. All nodes
    are real ones but for the world around them. After the faults a quorum is healed and every transaction must end.
    The first broken promise stops the run and is written to a plan file that reproduces it. Ctrl-C stops it too, with
    the summary of what was done and the seed to go on with.

    Exit codes: 0 every promise was kept (with --mutants: every bug was found); 1 a promise was broken (a bug was not
    found); 2 wrong usage or a plan that cannot be carried out; 130 Ctrl-C.
    """
    console = Console(stderr=True, highlight=False)
    if measure:
        reporting.measurements(measured((validators,) if validators else SIZES), as_json)
        return
    if mutants or names:
        _hunt(console, names, jobs, shrink is not False, as_json)
        return
    wanted = None if swarm is None else Swarm(swarm)
    if plan_file is not None or verbose:
        plan = plans.load(plan_file) if plan_file is not None else Seed(first_seed, validators, wanted).plan()
        work, seeds = _one(plan, verbose), 1
    else:
        work = reports((Seed(seed, validators, wanted) for seed in range(first_seed, first_seed + seeds)), jobs)
    session = _Session(console, directory, plan_file, bool(shrink), as_json)
    with closing(work):
        session.watch(work, seeds, keep_going)


def _one(plan: Plan, verbose: bool) -> Generator[Report, None, None]:
    yield carry_out(plan, click.echo if verbose else None)


class _Session:
    """A run over seeds: what is told of each, and of all."""

    def __init__(self, console: Console, directory: Path, plan_file: Path | None, shrinks: bool, as_json: bool) -> None:
        self._console = console
        self._directory = directory
        self._plan_file = plan_file
        self._shrinks = shrinks
        self._as_json = as_json
        self._total = Summary()
        self._broken: list[Ran] = []
        self._last: Ran | None = None

    def watch(self, work: Iterator[Report], seeds: int, keep_going: bool) -> None:
        began = time.monotonic()
        try:
            with Watch(self._console, seeds, "seed", hidden=self._as_json or seeds == 1) as watch:
                for report in work:
                    assert isinstance(report, Ran)
                    self._take(report)
                    watch.done(report.plan.seed)
                    if report.violation is not None and not keep_going:
                        break
        except KeyboardInterrupt:
            self._summarise(began)
            click.echo(f"stopped; {self._advice(seeds)}", err=True)
            sys.exit(EXIT_INTERRUPTED)
        self._summarise(began)
        if self._broken:
            sys.exit(EXIT_NO)

    def _advice(self, seeds: int) -> str:
        """What goes on behind the seeds that are in the summary, which come in their order."""
        if self._last is None or seeds == 1:
            return "begin again with the same command"
        left = seeds - self._total.seeds
        return f"go on with --seed {self._last.plan.seed + 1} --seeds {left}" if left else "every seed was carried out"

    def _take(self, report: Ran) -> None:
        self._last = report
        self._total.add(report.summary)
        if report.violation is None:
            return
        self._broken.append(report)
        path = self._plan_file
        if path is None:
            path = self._directory / f"plan-{report.plan.seed}-{report.plan.validators}.json"
            self._directory.mkdir(parents=True, exist_ok=True)
            plans.save(report.plan, path)
        reporting.violation(self._console, report, path)
        if self._shrinks:
            self._shrink(report)

    def _shrink(self, report: Ran) -> None:
        assert report.promise is not None
        plan, promise = report.plan, Promise(report.promise)
        with self._console.status("shrinking") as status:

            def progress(attempts: int, smaller: Plan) -> None:
                status.update(
                    f"shrinking: {len(smaller.faults)} faults, {len(smaller.workload)} submissions "
                    f"after {attempts} runs"
                )

            small = Shrinker(promise, progress=progress).shrink(plan)
        path = self._directory / f"plan-{plan.seed}-{plan.validators}-shrunk.json"
        plans.save(small, path)
        self._console.print(
            f"{len(plan.faults)} faults and {len(plan.workload)} submissions became {len(small.faults)} and "
            f"{len(small.workload)}: {path}",
            markup=False,
        )

    def _summarise(self, began: float) -> None:
        last = self._last if self._total.seeds == 1 else None
        reporting.summary(self._total, time.monotonic() - began, len(self._broken), last, self._as_json)


def _hunt(console: Console, names: tuple[str, ...], jobs: int, shrink: bool, as_json: bool) -> None:
    known = [mutant.name for mutant in MUTANTS]
    for name in names:
        if name not in known:
            raise click.UsageError(f"no planted bug is called {name!r}; there are: {', '.join(known)}")
    wanted = list(names) or known
    found: list[Found] = []
    work = reports((Hunt(name, shrink) for name in wanted), jobs)
    interrupted = False
    try:
        with closing(work), Watch(console, len(wanted), "bug", hidden=as_json) as watch:
            for report in work:
                assert isinstance(report, Found)
                found.append(report)
                watch.done(report.mutant)
    except KeyboardInterrupt:
        interrupted = True
    reporting.hunted(found, as_json)
    if interrupted:
        click.echo("stopped; look for the other bugs with --mutant NAME", err=True)
        sys.exit(EXIT_INTERRUPTED)
    if not all(report.expected for report in found):
        sys.exit(EXIT_NO)

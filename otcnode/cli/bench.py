"""`otcnode bench`: honest measurements of a local cluster, and of the processor alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from otcnode.bench import joining, ledger, soak, storage
from otcnode.bench.result import BenchResult
from otcnode.bench.run import Options, measure

_CLUSTER_OPTIONS = (
    click.option("--validators", default=4, show_default=True, type=click.IntRange(1, 31), help="Daemons that vote."),
    click.option(
        "--transactions",
        default=20_000,
        show_default=True,
        type=click.IntRange(1, 10_000_000),
        help="How many, all signed before the load begins.",
    ),
    click.option("--rate", type=float, help="Open loop at this many per second; without it, closed loop."),
    click.option(
        "--clients", default=16, show_default=True, type=click.IntRange(1, 1_000), help="Closed loop: callers."
    ),
    click.option(
        "--per-request",
        default=100,
        show_default=True,
        type=click.IntRange(1, 100),
        help="Closed loop: transactions that a caller sends at a time, and waits for.",
    ),
    click.option("--profile", type=click.Path(path_type=Path), help="Write a cProfile of the first validator here."),
    click.option("--output", type=click.Path(path_type=Path), help="Write the result as JSON here too."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON for programs."),
)


def _cluster_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_CLUSTER_OPTIONS):
        command = option(command)
    return command


@click.group(invoke_without_command=True)
@_cluster_options
@click.pass_context
def bench(context: click.Context, /, **options: Any) -> None:
    """Measure this program on this machine; without a command, as `cluster` does."""
    if context.invoked_subcommand is None:
        context.invoke(cluster, **options)


@bench.command()
@_cluster_options
def cluster(
    validators: int,
    transactions: int,
    rate: float | None,
    clients: int,
    per_request: int,
    profile: Path | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Start a cluster on this machine, load it with signed transactions, print what it did.

    Every transaction is signed by its client, verified by every validator, executed, and synced to disk before it
    counts. The load generator shares the machine with the validators.
    """
    console = Console(highlight=False, stderr=as_json)
    options = Options(validators, transactions, rate, clients, per_request, profile)
    result = measure(options, lambda text: console.print(f"[dim]{text}[/dim]"))
    _show(console, result, _table(result), output, as_json)


@bench.command("ledger")
@click.option("--accounts", default=100_000, show_default=True, type=click.IntRange(1_000, 1_000_000))
@click.option("--holders", default=10_000, show_default=True, type=click.IntRange(30, 100_000), help="Of one product.")
@click.option("--open-items", default=10_000, show_default=True, type=click.IntRange(30, 100_000))
@click.option("--sample", default=500, show_default=True, type=click.IntRange(10, 2_000), help="Of a kind.")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1, 100))
@click.option("--output", type=click.Path(path_type=Path), help="Write the result as JSON here too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def ledger_command(
    accounts: int, holders: int, open_items: int, sample: int, rounds: int, output: Path | None, as_json: bool
) -> None:
    """Microseconds of CPU per operation, due item and holder in the transaction processor.

    The state is read as a node reads it, over a dictionary in memory; no envelope's signature is verified and nothing
    is written to disk.
    """
    console = Console(highlight=False, stderr=as_json)
    options = ledger.Options(accounts, holders, open_items, sample, rounds)
    try:
        result = ledger.measure(options, lambda text: console.print(f"[dim]{text}[/dim]"))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    _show(console, result, _ledger_table(result), output, as_json)


@bench.command("joining")
@click.option("--validators", default=4, show_default=True, type=click.IntRange(1, 31))
@click.option("--blocks", default=100, show_default=True, type=click.IntRange(0, 100_000), help="0: not by blocks.")
@click.option("--transactions", default=500, show_default=True, type=click.IntRange(1, 2_000), help="In a block.")
@click.option(
    "--accounts", default=100_000, show_default=True, type=click.IntRange(0, 1_000_000), help="0: not by a snapshot."
)
@click.option("--output", type=click.Path(path_type=Path), help="Write the result as JSON here too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def joining_command(
    validators: int, blocks: int, transactions: int, accounts: int, output: Path | None, as_json: bool
) -> None:
    """How fast a node joins that has nothing but the genesis file: by blocks, and by a snapshot.

    Every block is verified and executed by the joiner, every chunk proven; both daemons share the machine.
    """
    console = Console(highlight=False, stderr=as_json)
    options = joining.Options(validators, blocks, transactions, accounts)
    result = joining.measure(options, lambda text: console.print(f"[dim]{text}[/dim]"))
    _show(console, result, _joining_table(result), output, as_json)


@bench.command("soak")
@click.option("--validators", default=4, show_default=True, type=click.IntRange(1, 31))
@click.option("--minutes", default=60, show_default=True, type=click.IntRange(1, 10_000))
@click.option("--rate", default=50.0, show_default=True, type=click.FloatRange(1, 10_000), help="Per second.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the result as JSON here too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def soak_command(validators: int, minutes: int, rate: float, output: Path | None, as_json: bool) -> None:
    """A steady load for long: does memory stay flat, does finality stay short?

    A line is printed every minute.
    """
    console = Console(highlight=False, stderr=as_json)
    options = soak.Options(validators, minutes, rate)
    result = soak.measure(options, lambda text: console.print(f"[dim]{text}[/dim]", soft_wrap=True))
    _show(console, result, _soak_table(result), output, as_json)


@bench.command("storage")
@click.option(
    "--accounts",
    multiple=True,
    default=(10_000, 100_000, 1_000_000),
    show_default=True,
    type=click.IntRange(1_000, 4_000_000),
    help="Size of the state; give it several times.",
)
@click.option("--blocks", default=20, show_default=True, type=click.IntRange(3, 1_000), help="Measured at each size.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the result as JSON here too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def storage_command(accounts: tuple[int, ...], blocks: int, output: Path | None, as_json: bool) -> None:
    """State root, commit, start after SIGKILL, memory and disk against the size of the state.

    On LevelDB, with checksums and syncs as in a node; each account has four records in the state.
    """
    console = Console(highlight=False, stderr=as_json)
    result = storage.measure(storage.Options(accounts, blocks), lambda text: console.print(f"[dim]{text}[/dim]"))
    _show(console, result, _storage_table(result), output, as_json)


def _storage_table(result: storage.StorageResult) -> Table:
    table = Table(
        title=f"{result.touched} keys touched, {result.disk_bytes_per_transaction:.0f} bytes of disk per transaction, "
        f"{result.hardware}"
    )
    for heading in (
        "accounts",
        "keys",
        "root best ms",
        "median",
        "first",
        "commit ms",
        "start ms",
        "CPU",
        "MB started",
        "MB later",
    ):
        table.add_column(heading, no_wrap=True, justify="right")
    for size in result.sizes:
        roots = (size.state_root_best_ms, size.state_root_median_ms, size.first_state_root_ms)
        memory = (size.memory_after_start_bytes, size.memory_after_blocks_bytes)
        table.add_row(
            str(size.accounts),
            str(size.keys),
            *(f"{value:.1f}" for value in (*roots, size.commit_median_ms)),
            *(f"{value:.0f}" for value in (size.start_wall_ms, size.start_cpu_ms)),
            *(f"{value / 1e6:.0f}" for value in memory),
        )
    return table


def _soak_table(result: soak.SoakResult) -> Table:
    table = Table(show_header=False, title=f"{result.validators} validators, {result.rate:g}/s, {result.hardware}")
    latency, last = result.latency, result.minutes[-1]
    table.add_row("committed", f"{result.committed} in {last.number} minutes")
    table.add_row("latency to finality", f"p50 {latency.p50} ms, p99 {latency.p99} ms, longest {latency.maximum} ms")
    table.add_row("memory of a node", f"{last.own_bytes / 1e6:.1f} MB own, {last.resident_bytes / 1e6:.1f} MB resident")
    grown = "not known below six minutes" if result.own_growth is None else f"{result.own_growth:+.1%}"
    table.add_row("own memory since a sixth of the time", grown)
    table.add_row("disk of a node", f"{last.disk_bytes / 1e6:.1f} MB")
    table.add_row("failures", _failures(result.failures))
    table.add_row("view changes", str(result.view_changes))
    return table


def _failures(failures: dict[str, int]) -> str:
    return ", ".join(f"{count} × {reason}" for reason, count in failures.items()) or "none"


def _joining_table(result: joining.JoiningResult) -> Table:
    table = Table(show_header=False, title=f"joining, {result.hardware}")
    if result.blocks is not None:
        found = result.blocks
        table.add_row("by blocks", f"{found.transactions} transactions in {found.seconds} s")
        table.add_row("", f"{found.transactions_per_second} transactions/s, one core verifies")
        table.add_row("", f"{found.verifications_per_second}/s: {found.ratio:.1%}")
        table.add_row("CPU per transaction", f"{found.cpu_us} µs, {found.loop_cpu_us} µs of it the loop's")
        table.add_row("", f"workers {found.workers_cpu_us} µs, server {found.server_cpu_us} µs")
    if result.snapshot is not None:
        shot = result.snapshot
        table.add_row("by a snapshot", f"{shot.keys} keys, {shot.size_bytes / 1e6:.0f} MB, {shot.chunks} chunks")
        table.add_row("", f"{shot.seconds} s, {shot.keys_per_second} keys/s, CPU {shot.cpu_seconds} s")
        table.add_row("making it", f"{shot.making_seconds} s")
        for name, peak in (("server's memory", shot.server_memory), ("joiner's memory", shot.joiner_memory)):
            table.add_row(name, f"{peak.own_bytes >> 20} MB its own, {peak.resident_bytes >> 20} MB resident at most")
    return table


def _show(console: Console, result: object, table: Table, output: Path | None, as_json: bool) -> None:
    raw = msgspec.json.format(msgspec.json.encode(result), indent=2)
    if output is not None:
        output.write_bytes(raw + b"\n")
    if as_json:
        click.echo(raw)
    else:
        console.print(table)


def _ledger_table(result: ledger.LedgerResult) -> Table:
    table = Table(title=f"{result.accounts} accounts, {result.open_items} open items, {result.hardware}")
    for heading in ("work", "per", "times", "best µs", "median µs", "encode µs", f"÷ {result.target:g} µs"):
        table.add_column(heading, no_wrap=True, justify="left" if heading in ("work", "per") else "right")
    for figure in result.figures:
        times = [f"{value:.1f}" for value in (figure.best, figure.median, figure.encode)]
        table.add_row(figure.name, figure.per, str(figure.count), *times, f"{figure.best / result.target:.2f}")
    return table


def _table(result: BenchResult) -> Table:
    table = Table(show_header=False, title=f"{result.validators} validators, {result.mode}, {result.hardware}")
    latency = result.latency
    resources = result.resources
    for name, value in (
        ("committed", f"{result.committed} of {result.sent} in {result.seconds} s"),
        ("throughput", f"{result.throughput} transactions/s (steady window)"),
        (
            "latency to finality",
            f"p50 {latency.p50} ms, p95 {latency.p95} ms, p99 {latency.p99} ms, p99.9 {latency.p999} ms",
        ),
        (
            "signature bound",
            f"{result.signature_bound}/s ({result.verifications_per_second} verifications/s ÷ validators)",
        ),
        ("ratio to the bound", f"{result.ratio:.1%}"),
        ("validators' CPU", f"{resources.cpu_seconds} s"),
        ("memory per node", f"{resources.memory_bytes_per_node / 1e6:.0f} MB"),
        ("disk", f"{resources.disk_bytes_per_transaction} bytes per transaction and node"),
        ("failures", _failures(result.failures)),
        ("view changes", str(result.view_changes)),
    ):
        table.add_row(name, value)
    return table

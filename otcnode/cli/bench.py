"""`otcnode bench`: one honest measurement of a local cluster."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from otcnode.bench.result import BenchResult
from otcnode.bench.run import Options, measure


@click.command()
@click.option("--validators", default=4, show_default=True, type=click.IntRange(1, 31))
@click.option("--transactions", default=20_000, show_default=True, type=click.IntRange(1, 10_000_000))
@click.option("--rate", type=float, help="Open loop at this many per second; without it, closed loop.")
@click.option("--clients", default=16, show_default=True, type=click.IntRange(1, 1_000), help="Closed loop: callers.")
@click.option("--per-request", default=100, show_default=True, type=click.IntRange(1, 100))
@click.option("--profile", type=click.Path(path_type=Path), help="Write a cProfile of the first validator here.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the result as JSON here too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def bench(
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
    raw = msgspec.json.format(msgspec.json.encode(result), indent=2)
    if output is not None:
        output.write_bytes(raw + b"\n")
    if as_json:
        click.echo(raw)
    else:
        console.print(_table(result))


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
        ("failures", ", ".join(f"{count} × {reason}" for reason, count in result.failures.items()) or "none"),
    ):
        table.add_row(name, value)
    return table

"""One measurement from beginning to end: cluster, signed load, figures."""

from __future__ import annotations

import asyncio
import platform
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from otcnode import __version__, localnet
from otcnode.bench import bound, load, processes, workload
from otcnode.bench.result import BenchResult, Resources, hardware, percentiles, steady_throughput
from otcnode.errors import ConfigurationError
from otcnode.genesis import ChainParameters, chain_id

BOUND_SECONDS = 2.0
PORT = 27650
VALID_FOR_MS = 3_000_000


@dataclass(frozen=True)
class Options:
    """`rate` None: closed loop with `clients` callers of `per_request` transactions each."""

    validators: int = 4
    transactions: int = 20_000
    rate: float | None = None
    clients: int = 16
    per_request: int = 100
    profile: Path | None = None


def measure(options: Options, say: Callable[[str], None]) -> BenchResult:
    """Run a cluster in a temporary directory, load it, and stop it again."""
    say("measuring the signature bound …")
    verifications = bound.verifications_per_second(BOUND_SECONDS)
    parameters = ChainParameters(max_transaction_ttl_ms=VALID_FOR_MS)
    with tempfile.TemporaryDirectory(prefix="otcnode-bench-") as directory:
        genesis = localnet.create(
            localnet.Plan(
                directory=Path(directory) / "net",
                validators=options.validators,
                base_port=PORT,
                accounts=workload.accounts(),
                cash=workload.cash(),
                parameters=parameters,
            )
        )
        say(f"signing {options.transactions} transactions …")
        valid_until = time.time_ns() // 1_000_000 + VALID_FOR_MS - 60_000
        raws = list(workload.deposits(chain_id(genesis), options.transactions, valid_until))
        with localnet.Cluster(Path(directory) / "net") as cluster:
            for index, member in enumerate(cluster.members):
                cluster.start(member.name, profile=options.profile if index == 0 else None)
            cluster.wait_ready()
            say("loading …")
            before, views = _resources(cluster), asyncio.run(load.views(cluster.urls))
            outcomes = load.Outcomes()
            asyncio.run(_load(cluster.urls, raws, options, outcomes))
            after, views_after = _resources(cluster), asyncio.run(load.views(cluster.urls))
    if not outcomes.finals:
        raise ConfigurationError(f"no transaction became final: {outcomes.failures}")
    times = [moment for moment, _ in outcomes.finals]
    throughput = steady_throughput(times, outcomes.started)
    signature_bound = verifications / options.validators
    return BenchResult(
        validators=options.validators,
        mode="closed loop" if options.rate is None else "open loop",
        rate=options.rate,
        sent=len(raws),
        committed=len(outcomes.finals),
        failures=outcomes.failures,
        view_changes=max(views_after) - max(views),
        seconds=round(max(times) - outcomes.started, 2),
        throughput=round(throughput, 1),
        latency=percentiles([latency for _, latency in outcomes.finals]),
        verifications_per_second=round(verifications),
        signature_bound=round(signature_bound),
        ratio=round(throughput / signature_bound, 3),
        resources=Resources(
            cpu_seconds=round(after.cpu_seconds - before.cpu_seconds, 2),
            memory_bytes_per_node=after.memory_bytes / options.validators,
            disk_bytes_per_transaction=round(
                (after.disk_bytes - before.disk_bytes) / options.validators / len(outcomes.finals), 1
            ),
        ),
        hardware=hardware(),
        python=platform.python_version(),
        version=__version__,
        configuration={
            "window": parameters.window,
            "block_transactions_max": parameters.block_transactions_max,
            "clients": options.clients,
            "per_request": options.per_request,
        },
    )


async def _load(urls: list[str], raws: list[bytes], options: Options, outcomes: load.Outcomes) -> None:
    if options.rate is None:
        await load.closed_loop(urls, raws, options.clients, options.per_request, outcomes)
    else:
        await load.open_loop(urls, _one_by_one(raws), options.rate, outcomes)


async def _one_by_one(raws: list[bytes]) -> AsyncIterator[bytes]:
    for raw in raws:
        yield raw


@dataclass(frozen=True)
class _Usage:
    cpu_seconds: float
    memory_bytes: int
    disk_bytes: int


def _resources(cluster: localnet.Cluster) -> _Usage:
    cpu, memory, disk = 0.0, 0, 0
    for member in cluster.members:
        used = processes.family_usage(cluster.process_id(member.name))
        cpu += used.cpu_seconds
        memory += used.resident_bytes
        disk += processes.disk_bytes(member.home.database.parent)
    return _Usage(cpu, memory, disk)

"""A steady load for a long time: memory must stay flat but for what the state grows by, finality
short, and no view may end but by the turn of its primary.

Transactions are signed while the load runs, a second's worth ahead and in a process beside, as one that was signed an
hour ago would no longer be valid. A deposit leaves one record in the state for ever, its bank reference; its id is
remembered until it has expired.
"""

from __future__ import annotations

import asyncio
import platform
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from otcnode import __version__, localnet
from otcnode.bench import load, processes, workload
from otcnode.bench.result import Latency, hardware, percentiles
from otcnode.crypto import random_bytes
from otcnode.errors import ConfigurationError
from otcnode.genesis import ChainParameters, chain_id

PORT = 27_950
MINUTE_S = 60.0
VALID_FOR_MS = 120_000


@dataclass(frozen=True)
class Options:
    """`rate`: transactions per second, sent whatever the cluster does."""

    validators: int = 4
    minutes: int = 60
    rate: float = 50.0


class Minute(msgspec.Struct, frozen=True, kw_only=True):
    """What was final in it, and how the nodes were at its end. Memory is of the node that has most, its workers
    included: what no file backs, and all that is resident. `disk_bytes` is a node's on average."""

    number: int
    committed: int
    latency: Latency | None
    own_bytes: int
    resident_bytes: int
    disk_bytes: int
    view: int


class SoakResult(msgspec.Struct, frozen=True, kw_only=True):
    """`own_growth` compares the last minute's memory with that of the minute after a sixth of the time, by when caches
    are full: 0.05 is five hundredths more. None where there were fewer than six minutes."""

    validators: int
    rate: float
    minutes: tuple[Minute, ...]
    committed: int
    failures: dict[str, int]
    view_changes: int
    latency: Latency
    own_growth: float | None
    hardware: str
    python: str
    version: str


def measure(options: Options, say: Callable[[str], None]) -> SoakResult:
    """Run a cluster in a temporary directory under the load and look at it every minute; Ctrl-C stops both.

    Raises ConfigurationError if nothing became final.
    """
    with tempfile.TemporaryDirectory(prefix="otcnode-soak-") as directory:
        genesis = localnet.create(
            localnet.Plan(
                directory=Path(directory) / "net",
                validators=options.validators,
                base_port=PORT,
                accounts=workload.accounts(),
                cash=workload.cash(),
                parameters=ChainParameters(max_transaction_ttl_ms=2 * VALID_FOR_MS),
            )
        )
        with localnet.Cluster(Path(directory) / "net") as cluster:
            cluster.start_all()
            cluster.wait_ready()
            say(f"{options.rate:g} transactions a second for {options.minutes} minutes …")
            watched = _Watched(cluster)
            asyncio.run(_soak(watched, chain_id(genesis), options, say))
    outcomes, minutes = watched.outcomes, tuple(watched.minutes)
    if not outcomes.finals:
        raise ConfigurationError(f"no transaction became final: {outcomes.failures}")
    return SoakResult(
        validators=options.validators,
        rate=options.rate,
        minutes=minutes,
        committed=len(outcomes.finals),
        failures=outcomes.failures,
        view_changes=minutes[-1].view - watched.first_view,
        latency=percentiles([latency for _, latency in outcomes.finals]),
        own_growth=growth(minutes),
        hardware=hardware(),
        python=platform.python_version(),
        version=__version__,
    )


def growth(minutes: tuple[Minute, ...]) -> float | None:
    """As `SoakResult.own_growth`."""
    if len(minutes) < 6:
        return None
    settled = minutes[len(minutes) // 6]
    return round(minutes[-1].own_bytes / settled.own_bytes - 1, 4)


class _Watched:
    def __init__(self, cluster: localnet.Cluster) -> None:
        self.cluster = cluster
        self.outcomes = load.Outcomes()
        self.minutes: list[Minute] = []
        self.first_view = 0
        self._seen = 0

    async def look(self) -> Minute:
        """At what has happened since the last look."""
        finals = self.outcomes.finals[self._seen :]
        self._seen += len(finals)
        members = self.cluster.members
        memory = [processes.family_usage(self.cluster.process_id(member.name)) for member in members]
        disk = sum(processes.disk_bytes(member.home.database.parent) for member in members)
        minute = Minute(
            number=len(self.minutes) + 1,
            committed=len(finals),
            latency=percentiles([latency for _, latency in finals]) if finals else None,
            own_bytes=max(used.own_bytes for used in memory),
            resident_bytes=max(used.resident_bytes for used in memory),
            disk_bytes=disk // len(members),
            view=max(await load.views(self.cluster.urls)),
        )
        self.minutes.append(minute)
        return minute


async def _soak(watched: _Watched, chain: bytes, options: Options, say: Callable[[str], None]) -> None:
    watched.first_view = max(await load.views(watched.cluster.urls))
    async with asyncio.TaskGroup() as group:
        group.create_task(load.open_loop(watched.cluster.urls, _signed(chain, options), options.rate, watched.outcomes))
        started = time.perf_counter()
        for number in range(1, options.minutes + 1):
            await asyncio.sleep(max(0.0, started + number * MINUTE_S - time.perf_counter()))
            say(describe(await watched.look()))


async def _signed(chain: bytes, options: Options) -> AsyncIterator[bytes]:
    """All transactions of the load, each valid from when it is sent."""
    count = round(options.rate * options.minutes * MINUTE_S)
    size = max(1, round(options.rate))
    salt = random_bytes(24)
    loop = asyncio.get_running_loop()
    with workload.signers(1) as pool:

        def sign(first: int) -> asyncio.Future[list[bytes]]:
            valid_until_ms = time.time_ns() // 1_000_000 + VALID_FOR_MS
            job = (chain, first, min(size, count - first), valid_until_ms, salt, workload.HOLDERS)
            return loop.run_in_executor(pool, workload.sign_chunk, job)

        coming = sign(0)
        for first in range(size, count + size, size):
            part = await coming
            if first < count:
                coming = sign(first)
            for raw in part:
                yield raw


def describe(minute: Minute) -> str:
    """A minute in a line."""
    latency = "nothing final" if minute.latency is None else f"p50 {minute.latency.p50} ms, p99 {minute.latency.p99} ms"
    return (
        f"minute {minute.number}: {minute.committed} final, {latency}, "
        f"memory {minute.own_bytes / 1e6:.1f} MB own, {minute.resident_bytes / 1e6:.1f} MB resident, "
        f"disk {minute.disk_bytes / 1e6:.1f} MB, view {minute.view}"
    )

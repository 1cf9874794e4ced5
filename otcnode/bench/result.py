"""What a run says: figures over all transactions, never over a chosen few, and what they were measured on."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path

import msgspec


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds to finality, as seen by the client."""

    p50: float
    p95: float
    p99: float
    p999: float
    maximum: float


class Resources(msgspec.Struct, frozen=True):
    """Of all validators together, workers included, over the load."""

    cpu_seconds: float
    memory_bytes_per_node: float
    disk_bytes_per_transaction: float


class BenchResult(msgspec.Struct, frozen=True, kw_only=True):
    """One run. `throughput` is committed transactions per second in the steady window, without its first and last
    tenth; `view_changes`: how many views ended under the load, where all primaries are honest and rotation is far;
    `ratio` is throughput ÷ (verifications per second ÷ validators)."""

    validators: int
    mode: str
    rate: float | None
    sent: int
    committed: int
    failures: dict[str, int]
    view_changes: int
    seconds: float
    throughput: float
    latency: Latency
    verifications_per_second: float
    signature_bound: float
    ratio: float
    resources: Resources
    hardware: str
    python: str
    version: str
    configuration: dict[str, int]


def percentiles(values: Sequence[float]) -> Latency:
    """Nearest-rank percentiles of seconds, in milliseconds."""
    ordered = sorted(values)

    def rank(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, max(0, -(-int(len(ordered) * share * 1000) // 1000) - 1))] * 1000, 2)

    return Latency(rank(0.50), rank(0.95), rank(0.99), rank(0.999), round(ordered[-1] * 1000, 2))


def steady_throughput(times: Sequence[float], started: float) -> float:
    """Transactions per second between the first and the last tenth of the time in which any became final."""
    last = max(times)
    span = last - started
    low, high = started + 0.1 * span, started + 0.9 * span
    return sum(low <= moment < high for moment in times) / (high - low)


def hardware() -> str:
    """The processor's name and the number of cores."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return f"{model}, {len(_cores())} cores"


def _cores() -> list[str]:
    return [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("processor")]

"""What processes use, from proc(5), and what they keep on disk."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Usage:
    """`own_bytes`: memory that no file backs (RssAnon); `resident_bytes`: mapped files too, which the system takes back
    when it needs room (VmRSS)."""

    cpu_seconds: float
    own_bytes: int
    resident_bytes: int


def usage(*processes: int) -> Usage:
    """Of all of them together; ProcessLookupError or FileNotFoundError where one has ended."""
    cpu, own, resident = 0.0, 0, 0
    for process in processes:
        cpu += _cpu_seconds(Path(f"/proc/{process}/stat"))
        status = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
        own += _bytes(status["RssAnon"])
        resident += _bytes(status["VmRSS"])
    return Usage(cpu, own, resident)


def main_thread_seconds(process: int) -> float:
    """CPU of a node's loop alone: without the thread of LevelDB."""
    return _cpu_seconds(Path(f"/proc/{process}/task/{process}/stat"))


def children(process: int) -> list[int]:
    """Those that its main thread started."""
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def family_usage(process: int) -> Usage:
    """Of a process and its children."""
    return usage(process, *children(process))


def disk_bytes(directory: Path) -> int:
    """Of all files below, as far as they are still there: a node that runs deletes some at any time."""
    size = 0
    for place, _, names in os.walk(directory):
        for name in names:
            with suppress(OSError):
                size += (Path(place) / name).stat().st_size
    return size


def _cpu_seconds(stat: Path) -> float:
    fields = stat.read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _bytes(text: str) -> int:
    number, unit = text.split()
    assert unit == "kB"
    return int(number) * 1024

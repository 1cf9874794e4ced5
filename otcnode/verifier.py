"""Verifying many signatures beside the loop, in worker processes.

Threads will not do: each verification gives the interpreter lock back and must win it again, and against a busy loop
that costs milliseconds per signature (measured: a batch of 500 took 1.5 s instead of 0.04 s). A process has its own.
The workers are plain subprocesses on pipes: the executors of the standard library can deadlock when a worker dies
while it is being written to (CPython issue 94777, not fixed in every 3.11).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from typing import NamedTuple

from otcnode.crypto import SignatureCheck, verify
from otcnode.verify_worker import LENGTH_BYTES, pack, verify_packed

WORKERS_MAX = 4
INLINE_MAX = 6
"""So few are verified at once on the loop: half a millisecond, less than the way to a worker and back when idle."""
ATTEMPTS_MAX = 3
"""A batch whose workers died so often is verified on the loop: slowly, but it is."""

Done = Callable[[Sequence[bool]], None]


class _Job(NamedTuple):
    packed: bytes
    checks: int
    done: Done


class Verifier:
    """Owns the worker processes. They start with the first batch that needs them; `close` ends them, and they end by
    themselves when this process dies."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue()
        self._keepers: list[asyncio.Task[None]] = []
        self._processes: dict[int, Process] = {}
        self._closed = False

    def verify(self, checks: Sequence[SignatureCheck], done: Done) -> None:
        """Call `done` on the loop with a verdict per check, unless `close` comes first."""
        if len(checks) <= INLINE_MAX:
            verdicts = [verify(*check) for check in checks]
            self._loop.call_soon(self._tell, done, verdicts)
            return
        if not self._keepers and not self._closed:
            count = min(WORKERS_MAX, os.cpu_count() or 1)
            self._keepers = [self._loop.create_task(self._keep_worker(place)) for place in range(count)]
        self._jobs.put_nowait(_Job(pack(checks), len(checks), done))

    def process_ids(self) -> list[int]:
        """Of the workers that run now."""
        return sorted(process.pid for process in self._processes.values() if process.returncode is None)

    async def close(self) -> None:
        """End every worker and wait for it; nothing is told any more. Safe to call twice."""
        self._closed = True
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)

    async def _keep_worker(self, place: int) -> None:
        """One worker after another, one job after another; a job whose worker died is given to the next worker."""
        try:
            while True:
                job = await self._jobs.get()
                verdicts = None
                for _ in range(ATTEMPTS_MAX):
                    verdicts = await self._ask(place, job)
                    if verdicts is not None:
                        break
                self._tell(job.done, [bool(verdict) for verdict in verdicts or verify_packed(job.packed)])
        finally:
            process = self._processes.pop(place, None)
            if process is not None:
                await _end(process)

    async def _ask(self, place: int, job: _Job) -> bytes | None:
        """The worker's verdicts, None if it died over them or could not be started."""
        try:
            process = await self._worker(place)
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(len(job.packed).to_bytes(LENGTH_BYTES, "big") + job.packed)
            await process.stdin.drain()
            return await process.stdout.readexactly(job.checks)
        except (OSError, asyncio.IncompleteReadError):
            dead = self._processes.pop(place, None)
            if dead is not None:
                await _end(dead)
            return None

    async def _worker(self, place: int) -> Process:
        process = self._processes.get(place)
        if process is None or process.returncode is not None:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "otcnode.verify_worker", stdin=PIPE, stdout=PIPE, start_new_session=True
            )
            self._processes[place] = process
        return process

    def _tell(self, done: Done, verdicts: Sequence[bool]) -> None:
        if not self._closed:
            done(verdicts)


async def _end(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()

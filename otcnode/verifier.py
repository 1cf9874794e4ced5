"""Verifying many signatures beside the loop, in worker processes.

Threads will not do: each verification gives the interpreter lock back and must win it again, and against a busy loop
that costs milliseconds per signature (measured: a batch of 500 took 1.5 s instead of 0.04 s). A process has its own.
The workers are plain subprocesses on pipes: the executors of the standard library can deadlock when a worker dies
while it is being written to (CPython issue 94777, not fixed in every 3.11).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import structlog

from otcnode.crypto import SignatureCheck, verify
from otcnode.verify_worker import LENGTH_BYTES, pack, verify_packed

WORKERS_MAX = 4
INLINE_MAX = 6
"""So few are verified at once on the loop: half a millisecond, less than the way to a worker and back when idle."""
JOBS_PER_WORKER_MAX = 4
"""One that a worker is at, and what it finds behind it. A loop that executes one block after another hears of an answer
two or three blocks later: a worker that had to be given its next batch then would wait for longer than it verifies."""
PIPE_BYTES = 1 << 20
"""To a worker: all its jobs fit, even of large blocks. Linux gives 64 kB unasked, and what does not fit waits for the
loop as well. As much as everybody may have (pipe-max-size in proc(5)); with less it is slower, and no worse."""
ATTEMPTS_MAX = 3
"""A batch whose workers died so often is verified on the loop: slowly, but it is."""
PATIENCE_SECONDS = 10.0
PATIENCE_SECONDS_PER_CHECK = 0.002
"""So long a worker may take for its oldest job. That is thirty times what a verification takes, for the machine may be
busy; whoever needs longer has been stopped, or will never answer, and holds up every block that it has a part of."""

_log = structlog.get_logger()

Done = Callable[[Sequence[bool]], None]
Failed = Callable[[Exception], None]
"""Told of what must never happen to a keeper of workers: the batches that it was to have verified have no answer."""


class _Job(NamedTuple):
    packed: bytes
    checks: int
    done: Done


@dataclass
class _Worker:
    """A place for one process after another, with the jobs that it has been given, the oldest first."""

    jobs: deque[_Job] = field(default_factory=deque)
    has_jobs: asyncio.Event = field(default_factory=asyncio.Event)
    process: Process | None = None

    @property
    def load(self) -> tuple[bool, int]:
        """What it would be given another job by: only as many may be there, and the signatures are what takes time."""
        return len(self.jobs) >= JOBS_PER_WORKER_MAX, sum(job.checks for job in self.jobs)

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.returncode is None

    def take(self, job: _Job) -> None:
        self.jobs.append(job)
        self.has_jobs.set()
        if self.process is not None:
            _write(self.process, job)

    def finish(self) -> _Job:
        job = self.jobs.popleft()
        if not self.jobs:
            self.has_jobs.clear()
        return job


class Verifier:
    """Owns the worker processes. They start with the first batch that needs them; `close` ends them, and they end by
    themselves when this process dies."""

    def __init__(self, loop: asyncio.AbstractEventLoop, failed: Failed) -> None:
        self._loop = loop
        self._failed = failed
        self._waiting: deque[_Job] = deque()
        self._workers: list[_Worker] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._closed = False

    def verify(self, checks: Sequence[SignatureCheck], done: Done) -> None:
        """Call `done` on the loop with a verdict per check, unless `close` comes first."""
        if len(checks) <= INLINE_MAX:
            verdicts = [verify(*check) for check in checks]
            self._loop.call_soon(self._tell, done, verdicts)
            return
        if not self._workers and not self._closed:
            self._workers = [_Worker() for _ in range(min(WORKERS_MAX, os.cpu_count() or 1))]
            self._keepers = [self._loop.create_task(self._keep(worker)) for worker in self._workers]
        self._waiting.append(_Job(pack(checks), len(checks), done))
        self._hand_out()

    def process_ids(self) -> list[int]:
        """Of the workers that run now."""
        return sorted(worker.process.pid for worker in self._workers if worker.process is not None and worker.runs)

    async def close(self) -> None:
        """End every worker and wait for it; nothing is told any more. Safe to call twice."""
        self._closed = True
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await asyncio.gather(*map(_end, self._workers))

    def _hand_out(self) -> None:
        """In order, each to the worker with the fewest signatures before it."""
        while self._waiting and not self._closed:
            worker = min(self._workers, key=lambda worker: worker.load)
            if len(worker.jobs) >= JOBS_PER_WORKER_MAX:
                return
            worker.take(self._waiting.popleft())

    async def _keep(self, worker: _Worker) -> None:
        """One process after another, one answer after another."""
        try:
            while True:
                await worker.has_jobs.wait()
                verdicts = await _verdicts(worker)
                job = worker.finish()
                self._hand_out()
                self._tell(job.done, [bool(verdict) for verdict in verdicts])
        except Exception as error:
            self._failed(error)
        finally:
            await _end(worker)

    def _tell(self, done: Done, verdicts: Sequence[bool]) -> None:
        if not self._closed:
            done(verdicts)


async def _verdicts(worker: _Worker) -> bytes:
    """Of the worker's oldest job. What a process that dies or hangs has not answered, the next one is given."""
    job = worker.jobs[0]
    for _ in range(ATTEMPTS_MAX):
        try:
            process = await _process(worker)
            assert process.stdout is not None
            async with asyncio.timeout(PATIENCE_SECONDS + PATIENCE_SECONDS_PER_CHECK * job.checks):
                return await process.stdout.readexactly(job.checks)
        except (OSError, asyncio.IncompleteReadError) as error:
            reason = "does not answer" if isinstance(error, TimeoutError) else "has died"
            _log.warning("verifying process replaced", reason=reason, signatures=job.checks)
            await _end(worker)
    return verify_packed(job.packed)


async def _process(worker: _Worker) -> Process:
    """The one that runs, or a new one with all the worker's jobs."""
    if not worker.runs:
        await _end(worker)
        worker.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "otcnode.verify_worker", stdin=PIPE, stdout=PIPE, start_new_session=True
        )
        assert worker.process.stdin is not None
        # ValueError: it has died already, and its pipe is closed.
        with contextlib.suppress(OSError, ValueError):
            fcntl.fcntl(worker.process.stdin.get_extra_info("pipe").fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        for job in worker.jobs:
            _write(worker.process, job)
    assert worker.process is not None
    return worker.process


def _write(process: Process, job: _Job) -> None:
    """Never waits: what the pipe does not hold yet is in memory anyway, as long as the job is not done."""
    assert process.stdin is not None
    process.stdin.write(len(job.packed).to_bytes(LENGTH_BYTES, "big") + job.packed)


async def _end(worker: _Worker) -> None:
    """Also after an earlier call that was cancelled while it waited."""
    if worker.process is not None:
        with contextlib.suppress(ProcessLookupError):
            worker.process.kill()
        await worker.process.wait()
        worker.process = None

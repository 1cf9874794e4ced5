"""Many simulations in several processes. Jobs and reports travel as lines of JSON over the pipes of plain subprocesses;
reports come back in the order of the jobs, so that the first failure is the same however many processes there are."""

from __future__ import annotations

import gc
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import IO, TypeAlias, assert_never, cast

import msgspec

from otcnode.errors import OtcnodeError
from otcnode.simulation.generate import Options, Swarm, generate
from otcnode.simulation.hunting import Found, hunt
from otcnode.simulation.mutants.catalogue import mutant_named
from otcnode.simulation.plan import Plan
from otcnode.simulation.summary import Summary
from otcnode.simulation.world import run

AHEAD_PER_PROCESS = 16
"""How many jobs may be done ahead of one that takes long."""
OBJECTS_BEFORE_COLLECTION = 50_000
"""A simulation leaves some 5,000 objects behind in cycles: they are looked for every few simulations."""


class Seed(msgspec.Struct, frozen=True, tag="seed"):
    """Run the plan of a seed."""

    seed: int
    validators: int = 0
    swarm: Swarm | None = None

    def plan(self) -> Plan:
        return generate(self.seed, Options(validators=self.validators, swarm=self.swarm))


class Hunt(msgspec.Struct, frozen=True, tag="hunt"):
    """Look for a planted bug from its first seed on; `shrink` the plan that finds it."""

    mutant: str
    shrink: bool = True


Job: TypeAlias = Seed | Hunt


class Ran(msgspec.Struct, frozen=True, tag="ran"):
    """What became of a seed; `violation` None: every promise was kept."""

    plan: Plan
    summary: Summary
    promise: str | None
    violation: str | None
    tail: tuple[str, ...]


Report: TypeAlias = Ran | Found


class WorkerDied(OtcnodeError):
    """A process of the fleet ended by itself."""


def carry_out(plan: Plan, show: Callable[[str], None] | None = None) -> Ran:
    """`show` is given the trace line by line."""
    began = time.process_time()
    outcome = run(plan, show)
    summary, violation = outcome.summary, outcome.violation
    summary.seconds = time.process_time() - began
    if violation is None:
        return Ran(plan, summary, None, None, ())
    return Ran(plan, summary, violation.promise.value, str(violation), outcome.tail)


def perform(job: Job) -> Report:
    match job:
        case Seed():
            return carry_out(job.plan())
        case Hunt(name, shrink):
            return hunt(mutant_named(name), shrink)
        case _:
            assert_never(job)


def reports(jobs: Iterable[Job], processes: int) -> Generator[Report, None, None]:
    """The report of each job, in order. Raises WorkerDied. Closing the iterator ends the processes."""
    if processes <= 1:
        yield from map(perform, jobs)
        return
    workers = [_Worker() for _ in range(processes)]
    try:
        yield from _in_order(iter(jobs), workers)
    finally:
        for worker in workers:
            worker.end()


def _in_order(jobs: Iterator[Job], workers: list[_Worker]) -> Iterator[Report]:
    ready: dict[int, Report] = {}
    given, wanted = 0, 0
    with selectors.DefaultSelector() as selector:
        for worker in workers:
            selector.register(worker.answers, selectors.EVENT_READ, worker)
        idle = list(workers)
        while True:
            while idle and given < wanted + AHEAD_PER_PROCESS * len(workers):
                job = next(jobs, None)
                if job is None:
                    break
                idle.pop().give(given, job)
                given += 1
            while wanted in ready:
                yield ready.pop(wanted)
                wanted += 1
            if wanted == given:
                return
            for key, _ in selector.select():
                worker = cast(_Worker, key.data)
                number, report = worker.take()
                ready[number] = report
                idle.append(worker)


class _Worker:
    """One process with one job at a time. It ends when its input does."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "otcnode.simulation.fleet"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._jobs: IO[bytes] = self._process.stdin
        self.answers: IO[bytes] = self._process.stdout
        self._number = 0
        self._job: Job | None = None

    def give(self, number: int, job: Job) -> None:
        self._number, self._job = number, job
        self._jobs.write(msgspec.json.encode(job) + b"\n")
        self._jobs.flush()

    def take(self) -> tuple[int, Report]:
        line = self.answers.readline()
        if not line.endswith(b"\n"):
            raise WorkerDied(f"the process that worked on {self._job} ended with code {self._process.wait()}")
        report: Report = msgspec.json.decode(line, type=Report, dec_hook=lambda kind, value: kind(value))
        return self._number, report

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._jobs.close()
        self.answers.close()


def work() -> None:
    """A worker's life: Ctrl-C is its parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()
    gc.set_threshold(OBJECTS_BEFORE_COLLECTION)
    for line in sys.stdin.buffer:
        job: Job = msgspec.json.decode(line, type=Job)
        sys.stdout.buffer.write(msgspec.json.encode(perform(job)) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    work()

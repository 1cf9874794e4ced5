"""The verifying processes: one that dies costs nothing, and none outlives the node."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Sequence

import pytest

from otcnode.crypto import SignatureCheck, SigningKey
from otcnode.verifier import INLINE_MAX, WORKERS_MAX, Verifier

pytestmark = pytest.mark.process

KEY = SigningKey(bytes(range(32)))
MESSAGE = bytes(32)
GOOD = SignatureCheck(KEY.public, MESSAGE, KEY.sign(MESSAGE))
BAD = SignatureCheck(KEY.public, MESSAGE, bytes(64))

WORKER_OF_A_NODE = """
import asyncio, sys
from tests.processes.test_verifier import BAD, GOOD, fail, verdicts
from otcnode.verifier import Verifier

async def serve():
    verifier = Verifier(asyncio.get_running_loop(), fail)
    await verdicts(verifier, [GOOD, BAD] * 50)
    print(*verifier.process_ids(), flush=True)
    await asyncio.sleep(600)

if __name__ == "__main__":
    asyncio.run(serve())
"""


def fail(error: Exception) -> None:
    raise AssertionError from error


async def verdicts(verifier: Verifier, checks: Sequence[SignatureCheck]) -> list[bool]:
    answer: asyncio.Future[Sequence[bool]] = asyncio.get_running_loop().create_future()
    verifier.verify(checks, answer.set_result)
    return list(await asyncio.wait_for(answer, 60))


@pytest.mark.parametrize("count", [1, INLINE_MAX, INLINE_MAX + 1, 100])
def test_a_verdict_for_each(count: int) -> None:
    async def ask() -> None:
        verifier = Verifier(asyncio.get_running_loop(), fail)
        try:
            checks = [GOOD if index % 3 else BAD for index in range(count)]
            assert await verdicts(verifier, checks) == [bool(index % 3) for index in range(count)]
        finally:
            await verifier.close()

    asyncio.run(ask())


def test_killed_workers_lose_no_batch() -> None:
    async def ask() -> None:
        verifier = Verifier(asyncio.get_running_loop(), fail)
        try:
            await verdicts(verifier, [GOOD] * 50)
            batches = [asyncio.create_task(verdicts(verifier, [GOOD, BAD] * 2_000)) for _ in range(4)]
            await asyncio.sleep(0)
            assert verifier.process_ids()
            for worker in verifier.process_ids():
                os.kill(worker, signal.SIGKILL)
            assert await asyncio.gather(*batches) == [[True, False] * 2_000] * 4
        finally:
            await verifier.close()

    asyncio.run(ask())


def test_stopped_workers_lose_no_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """They live, and never answer."""
    monkeypatch.setattr("otcnode.verifier.PATIENCE_SECONDS", 1.0)

    async def ask() -> None:
        verifier = Verifier(asyncio.get_running_loop(), fail)
        try:
            await asyncio.gather(*[verdicts(verifier, [GOOD] * 50) for _ in range(WORKERS_MAX)])
            stopped = verifier.process_ids()
            for worker in stopped:
                os.kill(worker, signal.SIGSTOP)
            batches = [verdicts(verifier, [GOOD, BAD] * 50) for _ in range(2 * WORKERS_MAX)]
            assert await asyncio.gather(*batches) == [[True, False] * 50] * 2 * WORKERS_MAX
            assert stopped and not set(stopped) & set(verifier.process_ids())
            assert not [worker for worker in stopped if _runs(worker)]
        finally:
            await verifier.close()

    asyncio.run(ask())


@pytest.mark.parametrize("busy_ms", [0, 20])
def test_workers_that_die_at_once_lose_no_batch(busy_ms: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their pipes are closed before the loop comes back to them."""
    monkeypatch.setattr("otcnode.verifier.sys.executable", shutil.which("false"))

    async def ask() -> None:
        loop, failures = asyncio.get_running_loop(), list[Exception]()
        verifier = Verifier(loop, failures.append)
        busy = [loop.create_task(_busy(busy_ms))] if busy_ms else []
        try:
            checks = [GOOD, BAD] * INLINE_MAX
            assert (
                await asyncio.gather(*[verdicts(verifier, checks) for _ in range(6)])
                == [[True, False] * INLINE_MAX] * 6
            )
            assert not failures
        finally:
            for task in busy:
                task.cancel()
            await verifier.close()

    asyncio.run(ask())


async def _busy(busy_ms: int) -> None:
    while True:
        until = time.monotonic() + busy_ms / 1_000
        while time.monotonic() < until:
            pass
        await asyncio.sleep(0)


def test_a_keeper_that_fails_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> Exception:
        failed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        verifier = Verifier(asyncio.get_running_loop(), lambda error: failed.done() or failed.set_result(error))
        try:
            monkeypatch.setattr("otcnode.verifier.LENGTH_BYTES", "four")
            verifier.verify([GOOD] * 50, lambda _: None)
            return await asyncio.wait_for(failed, 60)
        finally:
            await verifier.close()

    assert isinstance(asyncio.run(ask()), TypeError)


def test_a_small_batch_does_not_wait_behind_a_large_one() -> None:
    async def ask() -> None:
        verifier = Verifier(asyncio.get_running_loop(), fail)
        try:
            await asyncio.gather(*[verdicts(verifier, [GOOD] * 50) for _ in range(2)])
            large = asyncio.create_task(verdicts(verifier, [GOOD] * 5_000))
            await asyncio.sleep(0)
            await asyncio.gather(*[verdicts(verifier, [GOOD] * 50) for _ in range(3)])
            assert not large.done()
            await large
        finally:
            await verifier.close()

    if min(WORKERS_MAX, os.cpu_count() or 1) == 1:
        pytest.skip("there is one worker for all on a machine of one core")
    asyncio.run(ask())


def test_workers_go_on_while_the_loop_is_busy() -> None:
    """A loop that executes blocks comes to hand out batches only now and then: each worker has another one by then."""

    async def ask() -> None:
        verifier = Verifier(asyncio.get_running_loop(), fail)
        workers = min(WORKERS_MAX, os.cpu_count() or 1)
        try:
            await asyncio.gather(*[verdicts(verifier, [GOOD] * 50) for _ in range(workers)])
            answers = [os.open(f"/proc/{process}/fd/1", os.O_RDONLY) for process in verifier.process_ids()]
            batches = [asyncio.create_task(verdicts(verifier, [GOOD] * 50)) for _ in range(2 * workers)]
            await asyncio.sleep(0)
            deadline = time.monotonic() + 20
            while sum(map(_bytes_unread, answers)) < 2 * workers * 50 and time.monotonic() < deadline:
                os.sched_yield()
            assert [_bytes_unread(answer) for answer in answers] == [100] * workers
            assert await asyncio.gather(*batches) == [[True] * 50] * 2 * workers
            for answer in answers:
                os.close(answer)
        finally:
            await verifier.close()

    asyncio.run(ask())


@pytest.mark.parametrize("count", [1, 2_000])
def test_nothing_is_told_after_the_end(count: int) -> None:
    async def ask() -> list[Sequence[bool]]:
        told: list[Sequence[bool]] = []
        verifier = Verifier(asyncio.get_running_loop(), fail)
        await verdicts(verifier, [GOOD] * 50)
        verifier.verify([GOOD] * count, told.append)
        await verifier.close()
        await asyncio.get_running_loop().run_in_executor(None, time.sleep, 0)
        for _ in range(100):
            await asyncio.sleep(0)
        return told

    assert asyncio.run(ask()) == []


def test_no_worker_outlives_a_killed_node(tmp_path_factory: pytest.TempPathFactory) -> None:
    program = tmp_path_factory.mktemp("node") / "node.py"
    program.write_text(WORKER_OF_A_NODE)
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    node = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True, env=environment)
    assert node.stdout is not None
    with node, node.stdout:
        workers = [int(worker) for worker in node.stdout.readline().split()]
        assert workers
        node.kill()
        node.wait()
    deadline = time.monotonic() + 10
    while any(_runs(worker) for worker in workers) and time.monotonic() < deadline:
        os.sched_yield()
    assert not [worker for worker in workers if _runs(worker)]


def _runs(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _bytes_unread(pipe: int) -> int:
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)

"""Verifying many signatures beside the loop, in worker processes.

Threads will not do: each verification gives the interpreter lock back and must win it again, and against a busy loop
that costs milliseconds per signature (measured: a batch of 500 took 1.5 s instead of 0.04 s). A process has its own.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from otcnode.crypto import SignatureCheck, verify

WORKERS_MAX = 4
INLINE_MAX = 6
"""So few are verified at once on the loop: half a millisecond, less than the way to a worker and back when idle."""
_PUBLIC, _MESSAGE, _SIGNATURE = 32, 32, 64
_ITEM = _PUBLIC + _MESSAGE + _SIGNATURE


class Verifier:
    """Owns the worker processes; `close` ends them, and they end by themselves when this process dies."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._workers = min(WORKERS_MAX, os.cpu_count() or 1)
        self._pool = self._new_pool()
        self._closed = False

    def verify(self, checks: Sequence[SignatureCheck], done: Callable[[Sequence[bool]], None]) -> None:
        """Call `done` on the loop with a verdict per check, unless `close` comes first; messages are 32 bytes
        (transaction ids)."""
        if len(checks) <= INLINE_MAX:
            verdicts = [verify(*check) for check in checks]
            self._loop.call_soon(self._tell, done, verdicts)
            return
        packed = b"".join([check.public + check.message + check.signature for check in checks])
        assert len(packed) == _ITEM * len(checks)
        self._submit(packed, done)

    def close(self) -> None:
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _submit(self, packed: bytes, done: Callable[[Sequence[bool]], None]) -> None:
        try:
            future = self._loop.run_in_executor(self._pool, _verify_packed, packed)
        except BrokenProcessPool:
            self._pool = self._new_pool()
            future = self._loop.run_in_executor(self._pool, _verify_packed, packed)

        def finished(result: asyncio.Future[bytes]) -> None:
            if self._closed or result.cancelled():
                return
            if isinstance(result.exception(), BrokenProcessPool):
                # Somebody ended a worker. The batch is not lost: a new pool does it.
                self._submit(packed, done)
            else:
                done([bool(verdict) for verdict in result.result()])

        future.add_done_callback(finished)

    def _tell(self, done: Callable[[Sequence[bool]], None], verdicts: Sequence[bool]) -> None:
        if not self._closed:
            done(verdicts)

    def _new_pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self._workers, mp_context=multiprocessing.get_context("spawn"), initializer=_begin_worker
        )


def _begin_worker() -> None:
    """Ctrl-C at a terminal, and a service manager's SIGTERM, reach the whole group: the node ends its workers itself.
    Where it cannot, because it was killed, they end as soon as it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(0)


def _verify_packed(packed: bytes) -> bytes:
    """One byte, 0 or 1, per packed check."""
    return bytes(
        verify(
            packed[start : start + _PUBLIC],
            packed[start + _PUBLIC : start + _PUBLIC + _MESSAGE],
            packed[start + _PUBLIC + _MESSAGE : start + _ITEM],
        )
        for start in range(0, len(packed), _ITEM)
    )

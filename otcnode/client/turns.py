"""Several nodes asked in turn: the next one as soon as one has failed, or has an answer overdue.

Who is late may still answer, so a slow node costs a second question and nothing else, and a paused one a second of time
(J. Dean and L. A. Barroso, The Tail at Scale, Communications of the ACM 56, 2013: hedged requests).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any, Generic, TypeVar

from otcnode.client.connection import OVERDUE_SECONDS, Connection
from otcnode.client.errors import ClientError, NodeUnavailable

T = TypeVar("T")


async def ask_in_turn(
    connections: Iterable[Connection],
    ask: Callable[[Connection], Coroutine[Any, Any, T]],
    goes_on: Callable[[ClientError], bool],
    passed_over: dict[str, ClientError],
) -> tuple[Connection, T]:
    """The first answer and whose it is; the other questions are given up then. An error with which it does not go on is
    raised at once, and the last one when all have failed. `passed_over` says at every moment, by URL, which nodes
    failed or are late, and how."""
    asked = _Asked[T](goes_on, passed_over)
    try:
        for connection in connections:
            overdue: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            newest = asyncio.create_task(ask(connection.watched(partial(_is_overdue, overdue))))
            asked.running[newest] = connection
            while newest in asked.running and not overdue.done():
                awaited: set[asyncio.Future[Any]] = {overdue, *asked.running}
                await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
                if (answer := asked.answer()) is not None:
                    return answer
            if newest in asked.running:
                reason = f"no answer within {OVERDUE_SECONDS:g} s, and still waited for"
                passed_over[connection.url] = NodeUnavailable(connection.url, reason)
        while asked.running:
            await asyncio.wait(asked.running, return_when=asyncio.FIRST_COMPLETED)
            if (answer := asked.answer()) is not None:
                return answer
    finally:
        for task in asked.running:
            task.cancel()
        await asyncio.gather(*asked.running, return_exceptions=True)
    assert asked.last is not None, "nobody was asked"
    raise asked.last


def _is_overdue(overdue: asyncio.Future[None]) -> None:
    if not overdue.done():
        overdue.set_result(None)


class _Asked(Generic[T]):
    """The questions that are out."""

    def __init__(self, goes_on: Callable[[ClientError], bool], passed_over: dict[str, ClientError]) -> None:
        self.running: dict[asyncio.Task[T], Connection] = {}
        self.last: ClientError | None = None
        self._goes_on = goes_on
        self._passed_over = passed_over

    def answer(self) -> tuple[Connection, T] | None:
        """The first of those that have come, if any is one. Raises what is not gone on with."""
        for task in [task for task in self.running if task.done()]:
            connection = self.running.pop(task)
            try:
                answer = task.result()
            except ClientError as error:
                if not self._goes_on(error):
                    raise
                self._passed_over[connection.url] = self.last = error
                continue
            self._passed_over.pop(connection.url, None)
            return connection, answer
        return None

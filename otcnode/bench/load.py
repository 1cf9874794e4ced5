"""The load generator: sends at set instants (open loop) or as answers come (closed loop), and times finality.

A transaction's latency runs from the instant it was meant to be sent, so a stalled cluster cannot hide its stall, to
the arrival of the answer that says it is final. Transactions of one request share one answer, which comes when the
last of them is final: the figures err on the slow side.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass, field

import aiohttp
import msgspec

from otcnode.client.errors import RpcFailure
from otcnode.client.wire import Malformed, Request, decode_batch, encode_batch
from otcnode.rpc.node_status import NodeStatusResult

SLICE_S = 0.02
"""Transactions meant for the same 20 ms go in one request."""
ANSWER_TIMEOUT_S = 60.0


@dataclass
class Outcomes:
    """Seconds on one monotonic clock."""

    started: float = 0.0
    finals: list[tuple[float, float]] = field(default_factory=list)
    """(when final, latency) per committed transaction."""
    failures: dict[str, int] = field(default_factory=dict)

    def failed(self, reason: str, count: int = 1) -> None:
        self.failures[reason] = self.failures.get(reason, 0) + count


async def open_loop(urls: Sequence[str], raws: AsyncIterable[bytes], per_second: float, outcomes: Outcomes) -> None:
    """Send all of `raws` at the rate, spread over the nodes in turn, whatever the cluster does meanwhile."""
    per_slice = max(1, round(per_second * SLICE_S))
    interval = per_slice / per_second
    last_of_slice = (per_slice - 1) / per_second
    number = 0
    async with _session() as session, asyncio.TaskGroup() as group:
        async for part in _slices(raws, per_slice):
            if number == 0:
                outcomes.started = time.perf_counter()
            meant = outcomes.started + number * interval
            await asyncio.sleep(max(0.0, meant + last_of_slice - time.perf_counter()))
            sent = [meant + index / per_second for index in range(len(part))]
            group.create_task(_send(session, urls[number % len(urls)], part, sent, outcomes))
            number += 1


async def _slices(raws: AsyncIterable[bytes], size: int) -> AsyncIterator[list[bytes]]:
    part: list[bytes] = []
    async for raw in raws:
        part.append(raw)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


async def closed_loop(
    urls: Sequence[str], raws: Sequence[bytes], clients: int, per_request: int, outcomes: Outcomes
) -> None:
    """`clients` callers, each sending its next request when the last one is answered."""
    parts = iter([raws[first : first + per_request] for first in range(0, len(raws), per_request)])

    async def caller(url: str) -> None:
        for part in parts:
            now = time.perf_counter()
            await _send(session, url, part, [now] * len(part), outcomes)

    async with _session() as session, asyncio.TaskGroup() as group:
        outcomes.started = time.perf_counter()
        for number in range(clients):
            group.create_task(caller(urls[number % len(urls)]))


async def views(urls: Sequence[str]) -> list[int]:
    """The view that each node is in."""
    async with _session() as session:
        return [await _view(session, url) for url in urls]


async def _view(session: aiohttp.ClientSession, url: str) -> int:
    async with session.post(url, data=encode_batch([Request("node_status", {})])) as response:
        (answer,) = decode_batch(await response.read(), 1)
    if isinstance(answer, RpcFailure):
        raise answer
    return msgspec.json.decode(answer, type=NodeStatusResult).view


def _session() -> aiohttp.ClientSession:
    timeout = aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S)
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout)


async def _send(
    session: aiohttp.ClientSession, url: str, part: Sequence[bytes], sent: Sequence[float], outcomes: Outcomes
) -> None:
    body = encode_batch([Request("tx_submitAndWait", {"transaction": base64.b64encode(raw).decode()}) for raw in part])
    try:
        async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as response:
            answers = decode_batch(await response.read(), len(part))
    except (aiohttp.ClientError, TimeoutError, Malformed, RpcFailure) as error:
        outcomes.failed(f"no answer: {type(error).__name__} {error}", len(part))
        return
    now = time.perf_counter()
    for answer, meant in zip(answers, sent, strict=True):
        if isinstance(answer, RpcFailure):
            outcomes.failed(str(answer))
        elif b'"committed"' not in answer:
            outcomes.failed("not final in time")
        else:
            outcomes.finals.append((now, now - meant))

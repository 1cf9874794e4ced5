"""What all callers of a kind may ask for together: however many come, the rest of the thread is left to consensus."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest

from otcnode import limits
from otcnode.rpc.dispatch import watcher
from otcnode.rpc.methods import METHODS
from otcnode.rpc.server import RpcServer
from otcnode.rpc.together import Together
from tests.rpc.fake import FakeNode

RATE_LIMIT = -32004
STATUS = {"jsonrpc": "2.0", "method": "node_status", "id": 1}
PARAMS = {"jsonrpc": "2.0", "method": "chain_params", "id": 1}
PRICE = limits.rpc_request_cost + METHODS["chain_params"].cost


class Clock:
    def __init__(self) -> None:
        self.now_ms = 0

    def __call__(self) -> int:
        return self.now_ms


async def test_who_comes_while_nothing_is_owed_is_admitted_at_once() -> None:
    together = Together(1_000, Clock())
    assert await together.admit() == 0
    together.charge(1_000)
    assert together.owed_ms == 0 and await together.admit() == 0


async def test_who_waited_is_admitted_in_order_and_one_at_a_time() -> None:
    """The first begins to spend before the second is asked in."""
    clock = Clock()
    together = Together(1_000, clock)
    together.charge(1_005)
    assert together.owed_ms == 6
    admitted: list[int] = []
    turn: asyncio.Queue[int] = asyncio.Queue()

    async def come(number: int) -> None:
        assert await together.admit() == 0
        admitted.append(number)
        together.charge(20)
        turn.put_nowait(number)

    tasks = [asyncio.create_task(come(number)) for number in range(3)]
    await asyncio.sleep(0)
    assert admitted == []
    for number in range(3):
        clock.now_ms += together.owed_ms
        assert await turn.get() == number and admitted == list(range(number + 1))
        assert together.owed_ms > 0
    await asyncio.gather(*tasks)


async def test_no_more_is_owed_than_half_of_what_one_waits() -> None:
    """Or a price that was taken for nothing would refuse everybody for long, and the queue would not move."""
    clock = Clock()
    together = Together(1_000, clock)
    together.charge(10**9)
    assert together.owed_ms == limits.rpc_debt_wait_ms_max // 2 + 1
    clock.now_ms += together.owed_ms
    assert await together.admit() == 0


async def test_who_waits_too_long_is_told_when_to_come_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "rpc_debt_wait_ms_max", 10)
    clock = Clock()
    together = Together(1_000, clock)
    together.charge(5_000)
    assert await asyncio.gather(together.admit(), together.admit()) == [6, 6]
    clock.now_ms += 6
    assert await together.admit() == 0


@pytest.fixture
def no_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """For budgets; and only prices count."""
    now_ns = time.monotonic_ns()
    monkeypatch.setattr(time, "monotonic_ns", lambda: now_ns)
    monkeypatch.setattr(limits, "rpc_debt_wait_ms_max", 100)
    monkeypatch.setattr(limits, "rpc_cost_unit_ns", 10**12)


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[RpcServer, int]]:
    server = RpcServer(FakeNode())
    port = await server.start("127.0.0.1", 0)
    yield server, port
    await server.stop()


async def asked(port: int, number: int, body: object) -> Any:
    """By another address of this machine each."""
    connector = aiohttp.TCPConnector(local_addr=(f"127.0.0.{number}", 0))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post(f"http://127.0.0.1:{port}", json=body) as response,
    ):
        return await response.json()


@pytest.mark.usefixtures("no_time_passes")
async def test_many_addresses_have_no_more_than_all_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has spent nothing yet. Who looks at the node is answered all the same, and so are accounts."""
    monkeypatch.setattr(limits, "rpc_cost_per_second_of_addresses", 3 * PRICE)
    async with serving() as (server, port):
        answers = [await asked(port, number, PARAMS) for number in range(2, 8)]
        assert "result" in await asked(port, 9, STATUS)
        assert await server.dispatcher.out_of_debt(bytes(32).hex()) is None
    codes = [answer.get("error", {}).get("code") for answer in answers]
    assert codes == [None] * 3 + [RATE_LIMIT] * 3
    assert answers[-1]["error"]["data"]["retry_after_ms"] > 0


@pytest.mark.usefixtures("no_time_passes")
async def test_who_looks_without_end_keeps_nobody_from_calls_nor_the_operator_from_looking() -> None:
    async with serving() as (server, port):
        server.dispatcher.charge(watcher("127.0.0.2"), limits.rpc_cost_per_second_of_watchers + 10_000)
        assert (await asked(port, 3, STATUS))["error"]["code"] == RATE_LIMIT
        assert "result" in await asked(port, 1, STATUS)
        assert "result" in await asked(port, 3, PARAMS)
        assert await server.dispatcher.out_of_debt(bytes(32).hex()) is None


@pytest.mark.usefixtures("no_time_passes")
async def test_a_body_that_comes_late_waits_for_its_turn_again() -> None:
    """All of many could be let in before anything of them is charged."""
    body = msgspec.json.encode([PARAMS] * 50)
    assert len(body) > limits.rpc_look_bytes_max
    async with serving() as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body))
        answer = await asked(port, 2, PARAMS)
        assert "result" in answer
        server.dispatcher.charge("127.0.0.3", limits.rpc_cost_per_second_of_addresses + 1_000)
        writer.write(body)
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"200 OK" in head
        said = await reader.readuntil(b"}}")
        writer.close()
    assert b"%d" % RATE_LIMIT in said

"""What all callers may ask for together: however many come, they leave the rest of the thread to consensus."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from otcnode import limits
from otcnode.rpc.methods import METHODS
from otcnode.rpc.server import RpcServer
from otcnode.rpc.together import Together
from tests.rpc.fake import FakeNode

RATE_LIMIT = -32004
STATUS = {"jsonrpc": "2.0", "method": "node_status", "id": 1}
PARAMS = {"jsonrpc": "2.0", "method": "chain_params", "id": 1}


class Clock:
    def __init__(self) -> None:
        self.now_ms = 0

    def __call__(self) -> int:
        return self.now_ms


async def test_who_comes_while_nothing_is_owed_is_admitted_at_once() -> None:
    together = Together(1_000, 10, Clock())
    assert await together.admit() == 0
    together.charge(10)
    assert together.owed_ms == 0 and await together.admit() == 0


async def test_who_waited_is_admitted_in_order_and_one_at_a_time() -> None:
    """The first begins to spend before the second is asked in."""
    clock = Clock()
    together = Together(1_000, 10, clock)
    together.charge(15)
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


async def test_who_waits_too_long_is_told_when_to_come_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "rpc_debt_wait_ms_max", 10)
    clock = Clock()
    together = Together(1_000, 10, clock)
    together.charge(5_010)
    assert await asyncio.gather(together.admit(), together.admit()) == [5_001, 5_001]
    clock.now_ms += 5_001
    assert await together.admit() == 0


async def test_many_addresses_have_no_more_than_all_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has spent nothing yet. Who watches the node is answered all the same."""
    monkeypatch.setattr(limits, "rpc_debt_wait_ms_max", 10)
    monkeypatch.setattr(limits, "rpc_cost_unit_ns", 10**12)
    monkeypatch.setattr(limits, "rpc_cost_per_second_of_all", 1)
    price = limits.rpc_request_cost + METHODS["chain_params"].cost
    monkeypatch.setattr(limits, "rpc_cost_burst_of_all", 3 * price)
    server = RpcServer(FakeNode())
    port = await server.start("127.0.0.1", 0)

    async def asked(number: int, body: object) -> Any:
        connector = aiohttp.TCPConnector(local_addr=(f"127.0.0.{number}", 0))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.post(f"http://127.0.0.1:{port}", json=body) as response,
        ):
            return await response.json()

    answers = [await asked(number, PARAMS) for number in range(2, 8)]
    codes = [answer.get("error", {}).get("code") for answer in answers]
    assert codes == [None] * 4 + [RATE_LIMIT] * 2
    assert answers[-1]["error"]["data"]["retry_after_ms"] > 0
    assert "result" in await asked(9, STATUS)
    await server.stop()

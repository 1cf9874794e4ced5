"""What calls cost: their prices, and what they took beyond them. Time passes only where a test says so."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import msgspec
import pytest

from otcnode import limits
from otcnode.rpc import format as form
from otcnode.rpc import json_rpc
from otcnode.rpc.charging import Bill
from otcnode.rpc.dispatch import watcher
from otcnode.rpc.methods import METHODS
from otcnode.rpc.server import RpcServer
from otcnode.rpc.service import NodeStatus
from tests.engine.network import forged
from tests.rpc.calls import Api
from tests.rpc.fake import INVESTOR, FakeNode, account_of
from tests.rpc.serving import served

RATE_LIMIT = -32004
UNIT_NS = limits.rpc_cost_unit_ns
SOCKET = limits.rpc_request_cost + limits.rpc_websocket_cost
STATUS = {"jsonrpc": "2.0", "method": "node_status", "id": 1}
PARAMS = {"jsonrpc": "2.0", "method": "chain_params", "id": 1}


class Slow(FakeNode):
    """Each look at its status takes so many units of the processor's time."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.units = units
        self.looks = 0
        self.api: Api | None = None

    def status(self) -> NodeStatus:
        self.looks += 1
        if self.api is not None:
            self.api.processor_ns += self.units * UNIT_NS
        return super().status()


def slow_api(units: int, *, per_second: int, burst: int) -> tuple[Slow, Api]:
    node = Slow(units)
    node.api = Api(node, cost_per_second=per_second, burst=burst)
    return node, node.api


def spent_by(*steps_ns: int, paid: int = 0) -> int:
    """What is charged for work of so many steps."""
    charged: list[int] = []
    now_ns = 0

    async def work() -> None:
        nonlocal now_ns
        for step_ns in steps_ns:
            now_ns += step_ns
            await asyncio.sleep(0)

    async def run() -> None:
        bill = Bill(charged.append, lambda: now_ns)
        bill.paid(paid)
        await bill.metered(work())

    asyncio.run(run())
    return sum(charged)


def test_every_step_counts_and_a_price_covers_what_it_paid_for() -> None:
    assert spent_by(3 * UNIT_NS, 4 * UNIT_NS) == 7
    assert spent_by(UNIT_NS // 2, UNIT_NS // 2) == 1
    assert spent_by(3 * UNIT_NS, 4 * UNIT_NS, paid=5) == 2
    assert spent_by(3 * UNIT_NS, 4 * UNIT_NS, paid=8) == 0


async def test_what_others_do_while_it_waits_is_not_counted() -> None:
    charged: list[int] = []
    now_ns = 0
    waiting, woken = asyncio.Event(), asyncio.Event()

    async def work() -> str:
        waiting.set()
        await woken.wait()
        return "done"

    task = asyncio.create_task(_awaited(Bill(charged.append, lambda: now_ns), work()))
    await waiting.wait()
    now_ns += 1_000 * UNIT_NS
    woken.set()
    assert await task == "done" and charged == []


async def test_who_is_cancelled_or_fails_is_charged_and_cleans_up() -> None:
    charged: list[int] = []
    now_ns = 0
    waiting, cleaned = asyncio.Event(), asyncio.Event()

    async def work(*, fails: bool) -> str:
        nonlocal now_ns
        try:
            now_ns += 2 * UNIT_NS
            if fails:
                raise ZeroDivisionError
            waiting.set()
            await asyncio.Event().wait()
        finally:
            now_ns += 3 * UNIT_NS
            cleaned.set()
        return ""

    task = asyncio.create_task(_awaited(Bill(charged.append, lambda: now_ns), work(fails=False)))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned.is_set() and sum(charged) == 5
    with pytest.raises(ZeroDivisionError):
        await Bill(charged.append, lambda: now_ns).metered(work(fails=True))
    assert sum(charged) == 10


async def _awaited(bill: Bill, work: Any) -> object:
    return await bill.metered(work)


async def test_a_call_that_takes_more_than_its_price_is_charged_what_it_took() -> None:
    node, api = slow_api(1_000, per_second=1_000, burst=2_000)
    assert "height" in await api.call("node_status")
    assert "height" in await api.call("node_status")
    # 2,000 units are spent, though two calls have a price of 4 each.
    error = await api.call("node_status")
    assert error["code"] == RATE_LIMIT and node.looks == 2
    node.clock_ms += error["data"]["retry_after_ms"]
    assert "height" in await api.call("node_status")


async def test_in_a_batch_each_call_is_charged_before_the_next_is_admitted() -> None:
    node, api = slow_api(1_000, per_second=1_000, burst=2_000)
    batch = [{**STATUS, "id": number} for number in range(20)]
    answers = await api.raw(msgspec.json.encode(batch))
    assert [entry["id"] for entry in answers] == list(range(20))
    assert node.looks == 2 and sum("error" in entry for entry in answers) == 18


async def test_what_is_cheaper_than_its_price_costs_its_price() -> None:
    _, api = slow_api(METHODS["node_status"].cost - 1, per_second=1, burst=12)
    answers = [await api.call("node_status") for _ in range(4)]
    assert [answer.get("code") for answer in answers] == [None, None, None, RATE_LIMIT]


async def test_who_comes_again_when_told_is_admitted() -> None:
    """Though the request that asks again has a price, and reading it takes time before any of its calls is known."""
    node, api = slow_api(500, per_second=1_000, burst=1_000)
    real = json_rpc.parse

    def costly(raw: bytes, entries_max: int) -> Any:
        api.processor_ns += 50 * UNIT_NS
        return real(raw, entries_max)

    batch = msgspec.json.encode([STATUS, {**STATUS, "id": 2}])

    async def asked() -> list[Any]:
        reading = limits.rpc_request_cost
        api.dispatcher.charge("test", reading)
        answer = await api.dispatcher.answer(batch, "test", None, reading=reading)
        assert answer is not None
        return list(msgspec.json.decode(answer))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_rpc, "parse", costly)
        api.dispatcher._rates.charge("test", 1_000, node.clock_ms)
        for _ in range(3):
            refused = (await asked())[0]
            assert refused["error"]["code"] == RATE_LIMIT
            node.clock_ms += refused["error"]["data"]["retry_after_ms"]
            assert "result" in (await asked())[0]


async def test_a_budget_is_filled_by_a_clock_that_is_never_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Slow(0)
    now_ns = 10**12
    monkeypatch.setattr(time, "monotonic_ns", lambda: now_ns)
    dispatcher = RpcServer(node, cost_per_second=1_000, cost_burst=4).dispatcher
    body = msgspec.json.encode(STATUS)

    async def is_refused() -> bool:
        answer = await dispatcher.answer(body, "a", None)
        assert answer is not None
        return "error" in msgspec.json.decode(answer)

    assert not await is_refused() and await is_refused()
    node.clock_ms -= 3_600_000
    now_ns += 10**9
    assert not await is_refused()


async def test_who_owes_is_not_even_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real clock of the processor, and a budget that any call overdraws. Over HTTP and over a WebSocket."""
    monkeypatch.setattr(limits, "rpc_debt_wait_ms_max", 10)
    monkeypatch.setattr(limits, "rpc_cost_unit_ns", 100)
    node = Slow(0)
    budget = SOCKET + limits.rpc_request_cost + METHODS["chain_params"].cost
    async with (
        served(node, cost_per_second=1, cost_burst=budget) as (url, session),
        session.ws_connect(url + "/ws") as connection,
    ):
        async with session.post(url, json=PARAMS) as response:
            assert "result" in await response.json()
        async with session.post(url, data=b"[" * 1_000) as response:
            answer = await response.json()
        assert (answer["error"]["code"], answer["id"]) == (RATE_LIMIT, None)
        assert answer["error"]["data"]["retry_after_ms"] > 0
        await connection.send_json(PARAMS)
        answer = await connection.receive_json()
        assert (answer["error"]["code"], answer["id"]) == (RATE_LIMIT, None)


@pytest.mark.parametrize("over_websocket", [False, True])
async def test_looks_at_the_node_are_charged_as_its_pages_are(
    monkeypatch: pytest.MonkeyPatch, *, over_websocket: bool
) -> None:
    """Alone in a message, and as long as the budget of the pages lasts. What they are mixed with has none of it."""
    monkeypatch.setattr(limits, "rpc_debt_wait_ms_max", 10)
    node = Slow(0)
    server = RpcServer(node, cost_per_second=1, cost_burst=100)
    port = await server.start("127.0.0.1", 0)
    url = f"http://127.0.0.1:{port}"
    mixed = [STATUS, {**PARAMS, "id": 2}]
    lengthy = {**STATUS, "id": "x" * limits.rpc_look_bytes_max}
    async with aiohttp.ClientSession() as session, session.ws_connect(url + "/ws") as connection:

        async def answer(body: object) -> Any:
            if over_websocket:
                await connection.send_json(body)
                return await connection.receive_json()
            async with session.post(url, json=body) as response:
                return await response.json()

        server.dispatcher.charge("127.0.0.1", 1_000)
        assert "result" in await answer(STATUS)
        assert "result" in (await answer([STATUS]))[0]
        for other in (mixed, lengthy, PARAMS, {**PARAMS, "id": "node_status"}):
            assert (await answer(other))["error"]["code"] == RATE_LIMIT
        server.dispatcher.charge(watcher("127.0.0.1"), 1_000)
        assert (await answer(STATUS))["error"]["code"] == RATE_LIMIT
    await server.stop()
    assert node.looks == 2


async def test_looks_of_who_has_logged_in_have_a_budget_that_no_stranger_spends() -> None:
    node = FakeNode()
    api = Api(node, cost_per_second=1, burst=2_000)
    token = await api.login(INVESTOR)
    account = account_of(INVESTOR).hex()
    api.dispatcher.charge(watcher("test"), 2_000)
    api.dispatcher.charge(account, 2_000)
    assert (await api.call("node_status"))["code"] == RATE_LIMIT
    assert (await api.call("chain_params", token=token))["code"] == RATE_LIMIT
    assert "height" in await api.call("node_status", token=token)
    api.dispatcher.charge(watcher(account), 2_000)
    assert (await api.call("node_status", token=token))["code"] == RATE_LIMIT


async def test_pages_that_look_at_the_node_are_charged_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "rpc_debt_wait_ms_max", 10)
    monkeypatch.setattr(limits, "rpc_cost_unit_ns", 100)
    node = Slow(0)
    async with served(node, cost_per_second=1, cost_burst=limits.rpc_request_cost + METHODS["chain_params"].cost) as (
        url,
        session,
    ):
        statuses = []
        for page in ("/healthz", "/metrics", "/readyz", "/metrics", "/healthz", "/version"):
            async with session.get(url + page) as response:
                statuses.append(response.status)
        assert statuses == [200, 200, 429, 429, 200, 200]
        async with session.post(url, json=PARAMS) as response:
            assert "result" in await response.json()


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/x", {}, 404),
        ("POST", "/x", {}, 404),
        ("GET", "/", {}, 405),
        ("PUT", "/ws", {}, 405),
        ("GET", "/ws", {}, 503),
        ("GET", "/x", {"Expect": "x"}, 417),
        ("GET", "/", {"Expect": "x"}, 417),
        ("GET", "/ws", {"Expect": "x"}, 417),
        ("POST", "/x", {"Content-Encoding": "gzip"}, 415),
    ],
)
async def test_a_request_takes_its_price_whatever_comes_of_it(
    method: str, path: str, headers: dict[str, str], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood of what is not there is refused as a flood of calls is, and its author with all that it asks."""
    monkeypatch.setattr(limits, "rpc_debt_wait_ms_max", 10)
    monkeypatch.setattr(limits, "rpc_connections_per_caller_max", 0)
    body = b"no gzip" if method == "POST" else None
    async with served(FakeNode(), cost_per_second=1, cost_burst=3 * limits.rpc_request_cost) as (url, session):
        statuses = []
        for _ in range(6):
            async with session.request(method, url + path, headers=headers, data=body) as response:
                statuses.append(response.status)
        assert statuses == [status] * 4 + [429] * 2
        async with session.post(url, json=PARAMS) as response:
            assert (await response.json())["error"]["code"] == RATE_LIMIT
        async with session.get(url + "/metrics") as response:
            assert response.status == 200


async def test_who_hangs_up_in_the_middle_of_a_request_has_paid_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "rpc_debt_wait_ms_max", 10)
    budget = 2 * limits.rpc_request_cost + METHODS["chain_params"].cost
    page = b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n"
    async with served(FakeNode(), cost_per_second=1, cost_burst=budget) as (url, session):

        async def look() -> None:
            async with session.get(url + "/version") as response:
                await response.read()

        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1]))
            writer.write(page)
            await reader.readuntil(b"}\n")
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            # What comes later is answered, so this has begun.
            await look()
            writer.close()
            await writer.wait_closed()
            await look()
        async with session.post(url, json=PARAMS) as response:
            assert (await response.json())["error"]["code"] == RATE_LIMIT


async def test_who_opens_websockets_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "rpc_debt_wait_ms_max", 10)
    async with served(FakeNode(), cost_per_second=1, cost_burst=3 * SOCKET) as (url, session):
        for _ in range(4):
            await (await session.ws_connect(url + "/ws")).close()
        with pytest.raises(aiohttp.WSServerHandshakeError, match="429"):
            await session.ws_connect(url + "/ws")


async def test_a_message_over_a_websocket_has_a_price_whatever_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "rpc_debt_wait_ms_max", 10)
    monkeypatch.setattr(limits, "rpc_cost_unit_ns", 10**12)
    budget = SOCKET + 3 * limits.rpc_message_cost
    async with (
        served(FakeNode(), cost_per_second=1, cost_burst=budget) as (url, session),
        session.ws_connect(url + "/ws") as connection,
    ):
        codes = []
        for _ in range(6):
            await connection.send_bytes(b"[]")
            codes.append((await connection.receive_json())["error"]["code"])
    assert codes == [json_rpc.INVALID_REQUEST] * 4 + [RATE_LIMIT] * 2


async def test_a_ping_has_the_price_of_a_message_and_is_always_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "rpc_debt_wait_ms_max", 10)
    async with (
        served(FakeNode(), cost_per_second=1, cost_burst=SOCKET) as (url, session),
        session.ws_connect(url + "/ws", autoping=False) as connection,
    ):
        for number in range(3):
            await connection.ping(b"%d" % number)
            message = await connection.receive()
            assert (message.type, bytes(message.data)) == (aiohttp.WSMsgType.PONG, b"%d" % number)
        await connection.pong()
        await connection.send_json(PARAMS)
        assert (await connection.receive_json())["error"]["code"] == RATE_LIMIT


async def test_each_signature_that_a_simulation_verifies_has_a_price() -> None:
    node = FakeNode()
    cost = METHODS["tx_simulate"].cost
    api = Api(node, cost_per_second=1, burst=3 * cost + limits.rpc_signature_cost - 1)
    true = {"transaction": form.base64_text(node.deposit(1, "a").raw)}
    inadmissible = {"transaction": form.base64_text(node.deposit(1, "b", valid_until=1).raw)}
    assert (await api.call("tx_simulate", inadmissible))["data"]["code"] == "E_TX_EXPIRED"
    assert "height" in await api.call("tx_simulate", true)
    # Of the third, one unit is lacking.
    assert (await api.call("tx_simulate", true))["code"] == RATE_LIMIT


async def test_each_signature_that_a_submission_has_verified_for_nothing_has_a_price() -> None:
    node = FakeNode()
    cost = METHODS["tx_submit"].cost
    api = Api(node, cost_per_second=1, burst=2 * cost + limits.rpc_signature_cost - 1)
    true, other = node.deposit(1, "a"), node.deposit(1, "b")

    async def submit(raw: bytes) -> Any:
        return await api.call("tx_submit", {"transaction": form.base64_text(raw)})

    assert (await submit(true.raw))["state"] == "committed"
    assert (await submit(forged(other).raw))["data"]["code"] == "E_AUTH"
    # Of the third, one unit is lacking.
    assert (await submit(other.raw))["code"] == RATE_LIMIT

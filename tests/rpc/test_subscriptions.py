"""Subscriptions over a WebSocket: nothing is lost, nothing comes twice, nobody is waited for, nobody sees too much."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest

from otcnode import limits
from otcnode.crypto import SigningKey
from otcnode.errors import StorageDamage
from otcnode.rpc.access import TOKEN_MS, login_preimage
from otcnode.rpc.auth import parse_token
from otcnode.rpc.events import AFTER_BLOCK, Cursor, EventFilter
from otcnode.rpc.reader import Reader
from otcnode.rpc.server import RpcServer
from otcnode.rpc.subscriptions import MessageListener
from tests.rpc.fake import INVESTOR, OTHER, FakeNode, account_of, key_of


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


@asynccontextmanager
async def connected(
    node: FakeNode, by: str | None = INVESTOR
) -> AsyncIterator[tuple[aiohttp.ClientWebSocketResponse, RpcServer]]:
    server = RpcServer(node)
    port = await server.start("127.0.0.1", 0)
    headers = {} if by is None else {"Authorization": f"Bearer {token_of(server, node, by)}"}
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"http://127.0.0.1:{port}/ws", headers=headers) as socket,
        ):
            yield socket, server
    finally:
        await server.stop()


def token_of(server: RpcServer, node: FakeNode, by: str, key: SigningKey | None = None) -> str:
    account, signer = account_of(by), key or key_of(by)
    authenticator = server.dispatcher._authenticator
    made = authenticator.challenge(account, node.now_ms())
    message = login_preimage(node.chain, node.node, account, made.nonce, made.expires_ms)
    token, _ = authenticator.login(
        Reader(node.state().view),
        account,
        signer.public,
        made.nonce,
        made.expires_ms,
        signer.sign(message),
        node.now_ms(),
    )
    return base64.urlsafe_b64encode(token).decode()


async def call(socket: aiohttp.ClientWebSocketResponse, method: str, **params: Any) -> Any:
    await socket.send_json({"jsonrpc": "2.0", "method": method, "params": params, "id": method})
    answer = await socket.receive_json()
    assert answer["id"] == method
    return answer.get("result") or answer["error"]


async def notified(socket: aiohttp.ClientWebSocketResponse, count: int) -> list[tuple[str, str, str]]:
    """(subscription, cursor, type) of the next notifications."""
    found = []
    for _ in range(count):
        message = await socket.receive_json()
        assert message["method"] == "events_event" and "id" not in message and message["jsonrpc"] == "2.0"
        params = message["params"]
        assert params["cursor"] == params["event"]["cursor"]
        found.append((params["subscription"], params["cursor"], params["event"]["event"]["type"]))
    return found


DEPOSITED = {"types": ["cash.deposited"]}


async def test_events_come_in_order_as_they_become_final_and_resume_by_cursor(node: FakeNode) -> None:
    await node.submit([node.deposit(1, "before").raw])
    async with connected(node) as (socket, _):
        subscribed = await call(socket, "events_subscribe", filter=DEPOSITED)
        assert subscribed == {"subscription": "1", "cursor": f"1:{AFTER_BLOCK}"}
        for place in range(3):
            await node.submit([node.deposit(1, f"r{place}").raw])
            await node.submit([node.deposit(1, f"o{place}", OTHER).raw])
        seen = await notified(socket, 3)
        assert [cursor.split(":")[0] for _, cursor, _ in seen] == ["2", "4", "6"]
    async with connected(node) as (socket, _):
        again = await call(socket, "events_subscribe", filter=DEPOSITED, cursor=seen[0][1])
        assert await notified(socket, 2) == seen[1:]
        assert again["cursor"] == seen[0][1]
        everything = await call(socket, "events_subscribe", filter=DEPOSITED, cursor="0:0")
        assert [entry[0] for entry in await notified(socket, 4)] == [everything["subscription"]] * 4


async def test_unsubscribing_ends_one_subscription_and_no_other(node: FakeNode) -> None:
    async with connected(node) as (socket, _):
        names = [(await call(socket, "events_subscribe", filter=DEPOSITED))["subscription"] for _ in range(2)]
        assert names == ["1", "2"]
        assert await call(socket, "events_unsubscribe", subscription="1") == {"unsubscribed": True}
        assert await call(socket, "events_unsubscribe", subscription="1") == {"unsubscribed": False}
        await node.submit([node.deposit(1, "r").raw])
        assert [entry[0] for entry in await notified(socket, 1)] == ["2"]


async def test_a_connection_has_only_so_many(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "rpc_subscriptions_per_connection_max", 2)
    async with connected(node, None) as (socket, _):
        for _ in range(2):
            assert "subscription" in await call(socket, "events_subscribe")
        assert (await call(socket, "events_subscribe"))["code"] == -32006
        assert await call(socket, "events_unsubscribe", subscription="2") == {"unsubscribed": True}
        assert (await call(socket, "events_subscribe"))["subscription"] == "3"


async def test_a_token_that_ends_ends_the_connection(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "rpc_subscription_wait_ms", 1)
    async with connected(node) as (socket, _):
        await call(socket, "events_subscribe")
        node.clock_ms += TOKEN_MS
        message = await socket.receive()
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 4001)


class Stage:
    """One connection's subscriptions, with what is sent on it in the test's hands."""

    def __init__(self, node: FakeNode) -> None:
        self.sent: list[Any] = []
        self.closed: list[int] = []
        self.room = asyncio.Event()
        self.room.set()
        self.arrived = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []
        server = RpcServer(node)
        self.subscriptions = server.dispatcher.subscriptions(None, send=self.send, close=self.close, spawn=self.spawn)

    async def send(self, text: str) -> None:
        await self.room.wait()
        self.sent.append(msgspec.json.decode(text))
        self.arrived.set()

    async def close(self, code: int, reason: bytes) -> None:
        self.closed.append(code)

    def spawn(self, work: Any) -> asyncio.Task[None]:
        self.tasks.append(asyncio.create_task(work))
        return self.tasks[-1]


READIED = EventFilter(types=["product.changed", "validator.readied"])


async def test_nothing_is_notified_before_the_answer_that_names_the_subscription(node: FakeNode) -> None:
    stage = Stage(node)
    first, second = MessageListener(stage.subscriptions), MessageListener(stage.subscriptions)
    first.subscribe(Cursor(0, AFTER_BLOCK), READIED)
    second.answered()
    assert stage.tasks == []
    first.answered()
    assert len(stage.tasks) == 1
    stage.tasks[0].cancel()


async def test_a_reader_too_slow_is_closed_with_4008_and_nothing_is_lost(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "rpc_subscriber_stall_ms_max", 1)
    await node.submit([node.deposit(1, "r").raw])
    async with connected(node) as (_, server):
        token = token_of(server, node, INVESTOR)
        stage = Stage(node)
        stage.subscriptions = server.dispatcher.subscriptions(
            parse_token(token), send=stage.send, close=stage.close, spawn=stage.spawn
        )
        stage.room.clear()
        listener = MessageListener(stage.subscriptions)
        listener.subscribe(Cursor(0, AFTER_BLOCK), EventFilter(types=["cash.deposited"]))
        listener.answered()
        await asyncio.gather(*stage.tasks)
        assert (stage.closed, stage.sent) == ([4008], [])
        stage.room.set()
        listener.subscribe(Cursor(0, AFTER_BLOCK), EventFilter(types=["cash.deposited"]))
        listener.answered()
        await stage.arrived.wait()
        assert stage.sent[0]["params"]["event"]["event"]["type"] == "cash.deposited"
        stage.tasks[-1].cancel()


async def test_damage_that_a_subscription_meets_ends_the_node(node: FakeNode) -> None:
    told: list[StorageDamage] = []
    damage = StorageDamage("receipts 1")

    def broken(*arguments: Any) -> Any:
        raise damage

    node.event_places = broken  # type: ignore[assignment]
    node.damaged = told.append  # type: ignore[assignment]
    await node.commit()
    stage = Stage(node)
    listener = MessageListener(stage.subscriptions)
    listener.subscribe(Cursor(0, AFTER_BLOCK), EventFilter())
    listener.answered()
    await asyncio.gather(*stage.tasks)
    assert told == [damage]


async def test_what_a_subscription_tells_holds_up_no_call_and_stops_where_it_owes(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks that are dear to read, each more than a budget that is filled by one unit a second; all callers together
    have enough."""
    monkeypatch.setattr(limits, "rpc_cost_unit_ns", 1)
    monkeypatch.setattr(limits, "rpc_cost_per_second_of_accounts", 10**11)
    for place in range(10):
        await node.submit([node.deposit(1, f"r{place}").raw])
    budget = 10**9
    server = RpcServer(node, cost_per_second=1, cost_burst=budget)
    dispatcher = server.dispatcher
    dispatcher._processor_ns = clock = Counting()
    stage, token = Stage(node), parse_token(token_of(server, node, INVESTOR))
    stage.subscriptions = dispatcher.subscriptions(token, send=stage.send, close=stage.close, spawn=stage.spawn)
    read = node.receipts

    def costly(height: int) -> Any:
        clock.now_ns += budget * 2 // 3
        return read(height)

    node.receipts = costly  # type: ignore[method-assign]
    listener = MessageListener(stage.subscriptions)
    name = listener.subscribe(Cursor(0, AFTER_BLOCK), EventFilter(types=["cash.deposited"]))
    listener.answered()
    for _ in range(100):
        await asyncio.sleep(0)
    assert [entry["params"]["cursor"].split(":")[0] for entry in stage.sent] == ["1", "2"]
    assert not stage.tasks[0].done(), "it goes on when it has paid"
    caller = dispatcher.caller("", token)
    assert await dispatcher.out_of_debt(caller) is None
    submit = {"transaction": base64.b64encode(node.deposit(1, "s").raw).decode()}
    body = {"jsonrpc": "2.0", "method": "tx_submit", "params": submit, "id": 1}
    answer = await dispatcher.answer(msgspec.json.encode(body), "", token)
    assert answer is not None and "result" in msgspec.json.decode(answer)
    assert listener.unsubscribe(name)
    await asyncio.gather(*stage.tasks, return_exceptions=True)


async def test_where_all_together_owe_subscriptions_wait_too(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "rpc_cost_per_second_of_accounts", 1_000)
    for place in range(3):
        await node.submit([node.deposit(1, f"r{place}").raw])
    server = RpcServer(node)
    dispatcher = server.dispatcher
    stage, token = Stage(node), parse_token(token_of(server, node, INVESTOR))
    stage.subscriptions = dispatcher.subscriptions(token, send=stage.send, close=stage.close, spawn=stage.spawn)
    dispatcher.charge(bytes(32).hex(), 1_100)
    listener = MessageListener(stage.subscriptions)
    name = listener.subscribe(Cursor(0, AFTER_BLOCK), EventFilter(types=["cash.deposited"]))
    listener.answered()
    for _ in range(100):
        await asyncio.sleep(0)
    assert not stage.sent
    await stage.arrived.wait()
    assert listener.unsubscribe(name)
    await asyncio.gather(*stage.tasks, return_exceptions=True)


class Counting:
    """A processor whose time passes only where a test says so."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


async def test_the_time_of_a_block_is_read_once_for_all_its_events(node: FakeNode) -> None:
    await node.submit([node.deposit(1, f"r{place}").raw for place in range(5)])
    heights: list[int] = []
    read = node.header

    def counted(height: int) -> Any:
        heights.append(height)
        return read(height)

    node.header = counted  # type: ignore[method-assign]
    async with connected(node) as (socket, _):
        await call(socket, "events_subscribe", filter=DEPOSITED, cursor="0:0")
        assert len(await notified(socket, 5)) == 5
    assert heights == [1]

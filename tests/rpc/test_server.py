"""The sockets: HTTP and WebSocket on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import json
import socket
import ssl
from pathlib import Path

import aiohttp
import pytest
from aiohttp.http_parser import DeflateBuffer

from otcnode import limits
from otcnode.errors import ConfigurationError
from otcnode.rpc import format as form
from otcnode.rpc.server import RpcServer
from tests.rpc.fake import FakeNode
from tests.rpc.serving import served

TLS = Path(__file__).parent / "tls"
"""A key that protects nothing: self-signed for 127.0.0.1, for tests only."""
STATUS = {"jsonrpc": "2.0", "method": "node_status", "id": 1}
FLOOD_BYTES = 64 << 20
"""More than the system takes for a connection that nobody reads."""


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


async def test_post_answers_and_notifications_are_silent(node: FakeNode) -> None:
    async with served(node) as (url, session):
        async with session.post(url, json=STATUS) as response:
            assert response.status == 200 and response.content_type == "application/json"
            assert (await response.json())["result"]["height"] == 0
        async with session.post(url, json={"jsonrpc": "2.0", "method": "node_status"}) as response:
            assert response.status == 204 and await response.read() == b""
        async with session.post(url, data=b"{") as response:
            assert response.status == 200
            assert (await response.json())["error"]["code"] == -32700
        async with session.get(url) as response:
            assert response.status == 405


async def test_a_request_too_large_is_refused_and_nothing_of_it_is_called(node: FakeNode) -> None:
    deposit = node.deposit(1, "a")
    body = {"jsonrpc": "2.0", "method": "tx_submit", "params": [form.base64_text(deposit.raw)], "id": "x" * 5_000}
    async with served(node, request_bytes_max=4_096) as (url, session):
        async with session.post(url, json=body) as response:
            assert response.status == 413
            answer = await response.json()
            assert (answer["error"]["code"], answer["id"]) == (-32600, None)
        async with session.ws_connect(url + "/ws") as connection:
            await connection.send_json(body)
            message = await connection.receive()
            assert message.type is aiohttp.WSMsgType.CLOSE and message.data == 1009
        async with session.post(url, json=STATUS) as response:
            assert response.status == 200
    assert node.submissions == 0


async def test_who_sends_far_more_than_is_read_learns_why(node: FakeNode) -> None:
    """Though the answer comes while it is still sending, and closes the connection."""
    async with served(node, request_bytes_max=4_096) as (url, session):
        async with session.post(url, data=io.BytesIO(bytes(FLOOD_BYTES // 2))) as response:
            assert response.status == 413 and response.headers["Connection"] == "close"
            assert (await response.json())["error"]["code"] == -32600
        async with session.post(url, json=STATUS) as response:
            assert response.status == 200


async def test_what_comes_behind_an_early_answer_is_not_read(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otcnode.rpc.server.CLOSE_SECONDS_MAX", 0.1)
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    async with served(node) as (url, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1]))
        writer.write(b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk)
        assert (await reader.readline()).startswith(b"HTTP/1.1 404")
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < FLOOD_BYTES:
                writer.write(chunk)
                await writer.drain()
                sent += len(chunk)
        writer.close()
        assert sent < FLOOD_BYTES, "somebody takes all of it"


@pytest.mark.parametrize("coding", ["gzip", "DEFLATE", "identity, gzip", "no such coding"])
async def test_a_body_with_a_coding_is_refused_and_nothing_of_it_is_inflated(
    node: FakeNode, coding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inflated: list[bytes] = []
    monkeypatch.setattr(DeflateBuffer, "feed_data", lambda self, data, size=0: inflated.append(data))
    body = gzip.compress(json.dumps(STATUS).encode())
    async with served(node) as (url, session):
        for path in ("/", "/x", "/healthz"):
            async with session.post(url + path, data=body, headers={"Content-Encoding": coding}) as response:
                assert response.status == 415 and response.headers["Accept-Encoding"] == "identity"
                assert (await response.json())["error"]["code"] == -32600
        async with session.post(url, json=STATUS, headers={"Content-Encoding": "Identity"}) as response:
            assert "result" in await response.json()
    assert inflated == []


async def test_who_asks_whether_to_send_is_told_so(node: FakeNode) -> None:
    """Also where what it will send is small enough to be read before anything else."""
    async with (
        asyncio.timeout(10),
        served(node) as (url, session),
        session.post(url, json=STATUS, expect100=True) as response,
    ):
        assert "result" in await response.json()


async def test_what_is_no_http_is_answered_and_fills_no_log_but_a_mistake_of_ours_is_told(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(node) as (url, session):
        for raw in (b"GET / HTTP/1.1\r\nHost x\r\n\r\n", b"\x16\x03\x01\r\n\r\n", b"GET /" + b"x" * 9_000):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1]))
            writer.write(raw)
            assert (await reader.readline()).startswith(b"HTTP/1.0 400")
            writer.close()
        assert caplog.records == []
        monkeypatch.setattr(node, "status", lambda: 1 // 0)
        async with session.get(url + "/readyz") as response:
            assert response.status == 500
    (record,) = caplog.records
    assert record.exc_info is not None and isinstance(record.exc_info[1], ZeroDivisionError)


async def test_websocket_messages_are_answered_side_by_side(node: FakeNode) -> None:
    node.automatic = False
    deposit = node.deposit(1, "a")
    name = form.transaction(deposit.id)
    async with served(node) as (url, session), session.ws_connect(url + "/ws") as connection:
        wait = {"jsonrpc": "2.0", "method": "tx_wait", "params": {"id": name, "timeout_ms": 60_000}, "id": "wait"}
        await connection.send_json(wait)
        await connection.send_json(STATUS)
        assert (await connection.receive_json())["id"] == 1
        await connection.send_bytes(b"[]")
        assert (await connection.receive_json())["error"]["code"] == -32600
        await node.submit([deposit.raw])
        await node.commit()
        answer = await connection.receive_json()
        assert (answer["id"], answer["result"]["state"]) == ("wait", "committed")


async def test_stopping_closes_websockets_and_is_not_held_up_by_a_wait(node: FakeNode) -> None:
    server = RpcServer(node)
    port = await server.start("127.0.0.1", 0)
    async with aiohttp.ClientSession() as session, session.ws_connect(f"http://127.0.0.1:{port}/ws") as connection:
        wait = {"jsonrpc": "2.0", "method": "tx_wait", "params": {"id": form.transaction(bytes(32))}, "id": "wait"}
        await connection.send_json(wait)
        await node.waiting.wait()
        stopping = asyncio.create_task(server.stop())
        message = await connection.receive()
        assert message.type is aiohttp.WSMsgType.CLOSE and message.data == 1001
        await stopping
        assert server.dispatcher.in_flight == 0
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.post(f"http://127.0.0.1:{port}", json=STATUS)


async def test_a_client_that_goes_away_leaves_nothing_behind(node: FakeNode) -> None:
    server = RpcServer(node)
    port = await server.start("127.0.0.1", 0)
    async with aiohttp.ClientSession() as session:
        connection = await session.ws_connect(f"http://127.0.0.1:{port}/ws")
        wait = {"jsonrpc": "2.0", "method": "tx_wait", "params": {"id": form.transaction(bytes(32))}, "id": "wait"}
        await connection.send_json(wait)
        await node.waiting.wait()
        await connection.close()
        await node.left.wait()
    await server.stop()


async def test_a_post_that_hangs_up_waits_no_longer(node: FakeNode) -> None:
    wait = {"jsonrpc": "2.0", "method": "tx_wait", "params": {"id": form.transaction(bytes(32))}, "id": "wait"}
    async with served(node) as (url, session):
        asking = asyncio.create_task(session.post(url, json=wait))
        await node.waiting.wait()
        asking.cancel()
        await node.left.wait()


async def test_a_port_in_use_is_one_readable_line(node: FakeNode) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"^cannot listen on 127.0.0.1:{port}: the port is in use$"):
            await RpcServer(node).start("127.0.0.1", port)


async def test_the_pages_that_machines_look_at(node: FakeNode) -> None:
    async with served(node) as (url, session):
        async with session.get(url + "/healthz") as response:
            assert (response.status, await response.json()) == (200, {"status": "ok"})
        async with session.get(url + "/readyz") as response:
            assert (response.status, await response.json()) == (200, {"ready": True, "reasons": []})
        node.synced = node.disk_writable = False
        async with session.get(url + "/readyz") as response:
            reasons = (await response.json())["reasons"]
            assert response.status == 503
            assert reasons == ["catching up: height 0 of 7", "the disk is not writable"]
        async with session.get(url + "/version") as response:
            assert (await response.json())["network"] == "api-test"


async def test_metrics_are_those_of_this_moment(node: FakeNode) -> None:
    async with served(node) as (url, session):
        await node.commit()
        async with session.post(url, json=STATUS) as response:
            await response.read()
        async with session.post(url, json={**STATUS, "method": "header_get", "params": [5]}) as response:
            await response.read()
        async with session.get(url + "/metrics") as response:
            lines = (await response.text()).splitlines()
            assert response.content_type == "text/plain"
    assert "otcnode_height 1.0" in lines
    assert "otcnode_blocks_committed_total 1.0" in lines
    assert 'otcnode_peer_offences_total{code="flood",peer="v1"} 2.0' in lines
    assert 'otcnode_peer_misled_total{peer="v1"} 4.0' in lines
    assert 'otcnode_peer_banned_seconds{peer="v1"} 1.5' in lines
    assert 'otcnode_peer_dropped_messages{channel="transactions",peer="v1"} 3.0' in lines
    assert 'otcnode_rpc_calls_total{method="node_status"} 1.0' in lines
    assert 'otcnode_rpc_errors_total{code="-32007"} 1.0' in lines


async def test_a_caller_above_its_rate_gets_an_error(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "rpc_debt_wait_ms_max", 10)
    async with served(node, cost_per_second=1, cost_burst=limits.rpc_request_cost + 4) as (url, session):
        codes = []
        for _ in range(2):
            async with session.post(url, json=STATUS) as response:
                codes.append((await response.json()).get("error", {}).get("code"))
    assert codes == [None, -32004]


async def test_connections_are_bounded_per_address_and_room_comes_back(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "rpc_connections_per_address_max", 2)
    server = RpcServer(node)
    port = await server.start("127.0.0.1", 0)
    try:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        elsewhere, other = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
        other.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await elsewhere.readline()).startswith(b"HTTP/1.1 200")
        other.close()
        for _, writer in idle:
            writer.close()
            await writer.wait_closed()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()
    finally:
        await server.stop()


async def test_tls_by_configuration(node: FakeNode) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "certificate.pem", TLS / "key.pem")
    async with served(node, tls=context) as (url, session):
        trusting = ssl.create_default_context(cafile=str(TLS / "certificate.pem"))
        secure = url.replace("http:", "https:")
        async with session.post(secure, json=STATUS, ssl=trusting) as response:
            assert response.status == 200
        with pytest.raises(aiohttp.ClientError):
            await session.post(secure, json=STATUS)


async def test_a_submission_counts_against_the_address_that_it_came_from(node: FakeNode) -> None:
    """Nobody's flood keeps other clients out."""
    body = {"jsonrpc": "2.0", "method": "tx_submit", "params": [form.base64_text(node.deposit(1, "a").raw)], "id": 1}
    async with served(node) as (url, session), session.post(url, json=body) as response:
        assert "result" in await response.json()
    assert node.submitters == ["127.0.0.1"]

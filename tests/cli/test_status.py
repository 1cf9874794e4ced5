"""How the table of `otcnode status` shows a node."""

from __future__ import annotations

import asyncio
import socket
from io import StringIO
from typing import Any

import aiohttp
import click
import msgspec
import pytest
from aiohttp import web
from click.testing import CliRunner
from rich.console import Console

from otcnode import limits
from otcnode.cli import node
from otcnode.cli.exits import EXIT_NO
from otcnode.cli.node import _ask, _ask_one, _status_table, explain, status
from otcnode.rpc.dispatch import watcher
from otcnode.rpc.server import RpcServer
from tests.rpc.fake import FakeNode

URL = "http://127.0.0.1:26651"


ANSWER: dict[str, Any] = {
    "name": "node1",
    "mode": "following",
    "height": 12,
    "view": 0,
    "peers_connected": 3,
    "peers_expected": 4,
    "full_nodes_connected": 0,
    "mempool_transactions": 0,
    "synced": False,
    "syncing": None,
    "archives": [],
}


def shown(**fields: Any) -> str:
    return shown_of(ANSWER | fields)


def shown_of(answer: dict[str, Any]) -> str:
    console = Console(width=160, record=True, file=StringIO())
    console.print(_status_table({URL: answer}))
    return console.export_text()


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"synced": True}, "synced"),
        ({}, "halted"),
        (
            {"syncing": {"what": "snapshot", "height": 40_000, "done": 17, "whole": 256}},
            "17/256 chunks to height 40,000",
        ),
        (
            {"syncing": {"what": "blocks", "height": 40_000, "done": 12, "whole": 40_000}},
            "12/40,000 blocks to height 40,000",
        ),
    ],
)
def test_a_node_says_how_far_it_is(fields: dict[str, Any], text: str) -> None:
    assert text in shown(**fields)


def test_what_former_chains_take_is_shown_beside() -> None:
    archives = [
        {"name": "1-900", "place": "data/archives", "first": 1, "last": 900, "size_bytes": 3_000_000_000},
        {"name": "unread", "place": "data/archives-beside", "first": None, "last": None, "size_bytes": 500_000},
    ]
    text = "former chains: 2, 3,000.5 MB in data/archives, data/archives-beside"
    assert text in " ".join(shown(synced=True, archives=archives).split())
    assert "former chains" not in shown(synced=True) + shown(synced=True, archives=None)


def test_a_node_that_does_not_answer_is_named() -> None:
    console = Console(width=160, record=True, file=StringIO())
    console.print(_status_table({URL: {"error": "no answer"}}))
    assert "no answer" in console.export_text()


def test_full_nodes_are_counted_beside_the_validators() -> None:
    assert "3/4 " in shown() and "+" not in shown()
    assert "3/4 +2" in shown(full_nodes_connected=2)


@pytest.mark.parametrize("method", ["node_status", "node_explain"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html></html>",
        b"[]",
        b"7",
        b"{}",
        b"[" * 5_000 + b"]" * 5_000,
        b'{"id":1,"result":[]}',
        b'{"id":1,"result":{"name":"x"}}',
        b'{"id":1,"error":"no"}',
        b"\xff",
    ],
    ids=lambda body: str(body[:12]),
)
async def test_whoever_asks_something_else_than_a_node_is_told_so(method: str, body: bytes) -> None:
    assert "is no node" in (await asked(body, method))["error"]


async def test_a_node_that_does_not_say_what_former_chains_take_is_a_node() -> None:
    """Those of an earlier version do not."""
    said = {name: value for name, value in ANSWER.items() if name != "archives"}
    body = msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "result": said | {"synced": True}})
    assert "synced" in shown_of(await asked(body, "node_status"))


async def asked(body: bytes, method: str, *, then: bytes | None = None) -> dict[str, Any]:
    """What is made of an answer, and of another one that comes after it."""
    bodies = [body] if then is None else [then, body]

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=bodies[-1] if len(bodies) == 1 else bodies.pop(), content_type="application/json")

    application = web.Application()
    application.router.add_post("/", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with asyncio.timeout(10):
            return (await _ask((url,), method))[url]
    finally:
        await runner.cleanup()


def refusal(wait_ms: object) -> bytes:
    error = {"code": -32004, "message": "too many requests", "data": {"retry_after_ms": wait_ms}}
    return msgspec.json.encode({"jsonrpc": "2.0", "id": None, "error": error})


async def test_a_node_that_is_busy_is_asked_again_when_it_says() -> None:
    said = {"jsonrpc": "2.0", "id": 1, "result": ANSWER}
    assert await asked(refusal(1), "node_status", then=msgspec.json.encode(said)) == ANSWER


@pytest.mark.parametrize(("command", "said"), [(status, "busy"), (explain, "some are reached, but busy")])
def test_a_node_that_stays_busy_is_reached(command: click.Command, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answered, and there is no answer: exit code 1, not 3."""

    async def ask(urls: tuple[str, ...], method: str) -> dict[str, dict[str, Any]]:
        return {urls[0]: await asked(refusal(3_600_000), method)}

    monkeypatch.setattr(node, "_ask", ask)
    result = CliRunner().invoke(command, ["--json"])
    assert result.exit_code == EXIT_NO
    assert "reached, but busy with others (too many requests; ask again in 3600.0 s)" in result.output
    assert said in result.output


@pytest.mark.parametrize("wait_ms", [None, "1", 0, -5])
async def test_a_refusal_that_names_no_time_to_come_again_is_not_waited_for(wait_ms: object) -> None:
    assert "too many requests" in (await asked(refusal(wait_ms), "node_status"))["error"]


async def test_an_operator_is_answered_while_somebody_at_the_same_address_owes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who owes an hour keeps nobody from asking how the node is, and why it stands still."""
    monkeypatch.setattr(limits, "rpc_debt_wait_ms_max", 10)
    server = RpcServer(FakeNode())
    url = f"http://127.0.0.1:{await server.start('127.0.0.1', 0)}"
    try:
        server.dispatcher.charge("127.0.0.1", 3_600 * limits.rpc_cost_per_second)
        assert (await _ask((url,), "node_status"))[url]["height"] == 0
        assert (await _ask((url,), "node_explain"))[url]["name"]
        server.dispatcher.charge(watcher("127.0.0.1"), 3_600 * limits.rpc_cost_per_second)
        assert "busy" in (await _ask((url,), "node_explain"))[url]["error"]
    finally:
        await server.stop()


async def test_a_node_that_says_nothing_is_told_so() -> None:
    """A process that was stopped: the system takes the connection for it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.05)) as session:
            assert await _ask_one(session, url, "node_status") == {"error": "no answer (timed out)"}


async def test_where_nobody_listens_is_told_in_words() -> None:
    (answer,) = (await _ask(("http://127.0.0.1:9",), "node_status")).values()
    assert answer == {"error": "no answer (connection refused)"}

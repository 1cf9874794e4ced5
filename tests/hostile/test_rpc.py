"""Callers that attack the API of a validator: it answers with errors, keeps its memory, and goes on making blocks."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from otcnode import limits
from otcnode.ids import Prefix, show
from otcnode.localnet import Member
from otcnode.rpc import json_rpc
from tests.hostile.arena import MEGABYTE, Arena
from tests.hostile.siege import withstands

pytestmark = pytest.mark.process

MEMORY_GROWTH_BYTES_MAX = 256 * MEGABYTE
ATTACK_S, ROUNDS = 5, 2


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    arena = Arena(tmp_path_factory.mktemp("hostile-rpc") / "net")
    with arena.cluster:
        arena.start()
        yield arena


@asynccontextmanager
async def session(source: str) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(local_addr=(source, 0), limit=0, force_close=False)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


def call(method: str, number: int = 1, **params: object) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


async def codes(http: aiohttp.ClientSession, victim: Member, body: bytes) -> Counter[int]:
    """Error codes in the answer, 0 for results."""
    async with http.post(victim.url, data=io.BytesIO(body), headers={"Content-Type": "application/json"}) as response:
        answer = json.loads(await response.read())
    entries = answer if isinstance(answer, list) else [answer]
    return Counter(entry["error"]["code"] if "error" in entry else 0 for entry in entries)


async def batches(victim: Member, source: str) -> None:
    """Full batches of dear calls on several connections, as fast as they are answered."""
    body = json.dumps([call("rpc.discover", number) for number in range(limits.rpc_batch_entries_max)]).encode()
    seen: Counter[int] = Counter()

    async def once(http: aiohttp.ClientSession) -> None:
        seen.update(await codes(http, victim, body))

    await floods(source, once)
    assert set(seen) <= {0, json_rpc.RATE_LIMIT} and seen[json_rpc.RATE_LIMIT] > 0, seen


async def long_lists(victim: Member, source: str) -> None:
    """Calls that take far more than their price: a thousand headers each, for whoever asks."""
    body = json.dumps([call("block_list", number, limit=1_000) for number in range(10)]).encode()

    async def ask(http: aiohttp.ClientSession) -> None:
        async with http.post(victim.url, data=body) as response:
            await response.read()

    await floods(source, ask)


async def pages(victim: Member, source: str) -> None:
    """What machines look at, by one that does not stop looking."""

    async def look(http: aiohttp.ClientSession) -> None:
        async with http.get(f"{victim.url}/metrics") as response:
            assert response.status in (200, 429)
            await response.read()

    await floods(source, look)


async def floods(source: str, once: Callable[[aiohttp.ClientSession], Awaitable[object]]) -> None:
    """The same again and again on several connections."""

    async def one(http: aiohttp.ClientSession) -> None:
        while True:
            await once(http)

    async with session(source) as http:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ATTACK_S):
                await asyncio.gather(*(one(http) for _ in range(5)))


async def giants(victim: Member, source: str) -> None:
    """Bodies above the bound, said and unsaid."""
    async with session(source) as http:
        for _ in range(5):
            with contextlib.suppress(aiohttp.ClientError):
                async with http.post(victim.url, data=io.BytesIO(bytes(limits.rpc_request_bytes_max + 1))) as response:
                    # Or it is refused unread, for what all addresses together have spent.
                    refused = response.status == 200 and b"%d" % json_rpc.RATE_LIMIT in await response.read()
                    assert refused or response.status == 413


async def depths(victim: Member, source: str) -> None:
    """Nesting that a careless parser follows to the end of its stack."""
    async with session(source) as http:
        for opening in (b"[", b'{"a":'):
            for depth in (100, 10_000, 500_000):
                seen = await codes(http, victim, opening * depth)
                assert set(seen) <= {json_rpc.PARSE_ERROR, json_rpc.INVALID_REQUEST, json_rpc.RATE_LIMIT}, seen


async def slow_requests(victim: Member, source: str) -> None:
    """Three hundred requests of which a byte comes now and then."""

    async def one() -> None:
        with contextlib.suppress(ConnectionError, TimeoutError):
            _, writer = await asyncio.open_connection("127.0.0.1", victim.rpc_port, local_addr=(source, 0))
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
            for _ in range(ATTACK_S):
                writer.write(b"{")
                await asyncio.sleep(1)
            writer.transport.abort()

    await asyncio.gather(*(one() for _ in range(300)))


async def sockets(victim: Member, source: str) -> None:
    """Hundreds of WebSockets, each with every subscription it may have, none of which is read."""
    async with session(source) as http, contextlib.AsyncExitStack() as open_sockets:
        for _ in range(200):
            try:
                socket = await open_sockets.enter_async_context(http.ws_connect(f"{victim.url}/ws"))
            except aiohttp.ClientError:
                break
            for number in range(limits.rpc_subscriptions_per_connection_max + 1):
                await socket.send_json(call("events_subscribe", number))
        await asyncio.sleep(ATTACK_S / 2)


async def guesses(victim: Member, source: str) -> None:
    """Nobody learns from an error whether something is there: not without a token, for any identifier."""
    async with session(source) as http:
        for method, field, prefix in (
            ("account_get", "account", Prefix.ACCOUNT),
            ("contract_get", "contract", Prefix.CONTRACT),
        ):
            answers = set()
            for number in range(50):
                body = json.dumps(call(method, **{field: show(prefix, bytes([number]) * 32)})).encode()
                answers.update(await codes(http, victim, body))
            assert len(answers - {json_rpc.RATE_LIMIT}) <= 1, (method, answers)


ATTACKS = (batches, long_lists, pages, giants, depths, slow_requests, sockets, guesses)


async def test_callers_that_attack_are_answered_and_the_chain_goes_on(arena: Arena) -> None:
    """All at once, from several addresses, against one validator without which the others cannot decide."""
    victim = arena.honest[0]

    def attacks() -> list[Awaitable[None]]:
        return [attack(victim, f"127.6.0.{place}") for place, attack in enumerate(ATTACKS, 1)]

    await withstands(arena, [victim], [attacks] * ROUNDS, MEMORY_GROWTH_BYTES_MAX)
    metrics = await asyncio.to_thread(arena.metrics, victim)
    assert metrics['otcnode_rpc_errors_total{code="-32004"}'] > 0


async def test_the_limit_says_when_to_come_again(arena: Arena) -> None:
    """More is asked for at once than a caller has saved up, so that how fast the node answers plays no part."""
    victim = arena.honest[0]
    body = json.dumps([call("rpc.discover", number) for number in range(limits.rpc_batch_entries_max)]).encode()

    async def refused(http: aiohttp.ClientSession) -> list[dict[str, Any]]:
        async with http.post(victim.url, data=body) as response:
            answer = await response.json()
        answers = answer if isinstance(answer, list) else [answer]
        return [entry["error"] for entry in answers if "error" in entry]

    async with session("127.6.1.1") as http:
        errors = [error for found in await asyncio.gather(*(refused(http) for _ in range(8))) for error in found]
    assert {error["code"] for error in errors} == {json_rpc.RATE_LIMIT}
    assert all(error["data"]["retry_after_ms"] > 0 for error in errors)

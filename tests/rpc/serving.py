"""A node's API served on loopback, and a session to call it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from otcnode.rpc.server import RpcServer
from tests.rpc.fake import FakeNode


@asynccontextmanager
async def served(node: FakeNode, **options: Any) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    server = RpcServer(node, **options)
    port = await server.start("127.0.0.1", 0)
    async with aiohttp.ClientSession() as session:
        try:
            yield f"http://127.0.0.1:{port}", session
        finally:
            await server.stop()

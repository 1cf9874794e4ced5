"""Lines between daemons on one host that a test can cut: a TCP relay for each way in which a node may dial another."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from contextlib import AsyncExitStack
from functools import partial

from otcnode.localnet import Cluster

READ_BYTES = 1 << 16


class Relays:
    """Every node dials every other through a relay of its own, so that nothing passes between two but through here.
    What is cut stays open and silent, as a line that is down does: bytes wait until it is mended."""

    def __init__(self, cluster: Cluster, first_port: int) -> None:
        names = [member.name for member in cluster.members]
        self._targets = {member.name: member.p2p_port for member in cluster.members}
        pairs = [(one, two) for one in names for two in names if one != two]
        self._ports = {pair: first_port + index for index, pair in enumerate(pairs)}
        self._cut: set[frozenset[str]] = set()
        self._names = names
        self._mended = asyncio.Event()
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        for member in cluster.members:
            others = ", ".join(
                f'{two} = "127.0.0.1:{port}"' for (one, two), port in self._ports.items() if one == member.name
            )
            text = member.home.configuration.read_text()
            member.home.configuration.write_text(text.replace("[p2p]\n", f"[p2p]\npeers = {{ {others} }}\n"))

    async def __aenter__(self) -> Relays:
        for pair, port in self._ports.items():
            server = await asyncio.start_server(partial(self._accept, pair), "127.0.0.1", port)
            self._servers.append(server)
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self, names: Iterable[str]) -> None:
        """These hear nobody and nobody hears them."""
        self._cut.update(frozenset((one, two)) for one in names for two in self._names if one != two)

    def part(self, names: Iterable[str]) -> None:
        """These hear each other and none of the rest, and the rest none of these."""
        group = frozenset(names)
        self._cut.update(frozenset((one, two)) for one in group for two in self._names if two not in group)

    def mend(self) -> None:
        self._cut.clear()
        self._mended.set()
        self._mended = asyncio.Event()

    def _accept(self, pair: tuple[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(pair, reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, pair: tuple[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with AsyncExitStack() as closing:
            closing.push_async_callback(_close, writer)
            await self._passable(pair)
            try:
                onward, back = await asyncio.open_connection("127.0.0.1", self._targets[pair[1]])
            except OSError:
                return
            closing.push_async_callback(_close, back)
            pumps = [asyncio.create_task(self._pump(pair, *ends)) for ends in ((reader, back), (onward, writer))]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, pair: tuple[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until one side hangs up."""
        with contextlib.suppress(OSError):
            while content := await reader.read(READ_BYTES):
                await self._passable(pair)
                writer.write(content)
                await writer.drain()

    async def _passable(self, pair: tuple[str, str]) -> None:
        while frozenset(pair) in self._cut:
            await self._mended.wait()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()

"""Who is let in to the API at all: TCP connections are bounded in all and per address, before a byte is read of them.

Each costs a file descriptor, and a process without any left can neither meet its peers nor write its blocks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from otcnode import limits


class Gate(asyncio.Protocol):
    """Stands before one connection and, if there is room, hands it to a handler of `server`."""

    def __init__(self, server: web.Server) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        if not self._has_room(_address(transport)):
            transport.abort()
            return
        handler = self._server()
        transport.set_protocol(handler)
        handler.connection_made(transport)

    def _has_room(self, address: str) -> bool:
        present = self._server.connections
        if len(present) >= limits.rpc_connections_max:
            return False
        of_address = sum(each.transport is not None and _address(each.transport) == address for each in present)
        return of_address < limits.rpc_connections_per_address_max


def _address(transport: asyncio.BaseTransport) -> str:
    name = transport.get_extra_info("peername")
    return str(name[0]) if name else ""


def gate_of(server: web.Server) -> Callable[[], Gate]:
    return lambda: Gate(server)

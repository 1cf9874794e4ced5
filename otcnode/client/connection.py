"""One node, as a client reaches it: JSON-RPC over HTTP keep-alive, with its own bearer token."""

from __future__ import annotations

import asyncio
import copy
import os
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp

from otcnode.client import wire
from otcnode.client.errors import NodeUnavailable, RpcFailure
from otcnode.client.wire import Malformed, Request

T = TypeVar("T")
RESPONSE_BYTES_MAX = 64 << 20
MARGIN_SECONDS = 10.0
"""Time for an answer to travel, beyond what the call itself may wait."""
OVERDUE_SECONDS = 1.0
"""An answer that has not come by then, beyond what the call itself may wait, is looked for at another node too."""


@dataclass
class _Login:
    token: str | None = None


class Connection:
    """Calls to one URL. Raises NodeUnavailable for everything that another node may do better, RpcFailure for error
    objects."""

    def __init__(self, url: str, session: aiohttp.ClientSession, tls: ssl.SSLContext | None) -> None:
        self.url = url
        self._session = session
        self._tls = tls
        self._login = _Login()
        self._overdue: Callable[[], None] | None = None

    @property
    def token(self) -> str | None:
        return self._login.token

    @token.setter
    def token(self, token: str | None) -> None:
        self._login.token = token

    def watched(self, overdue: Callable[[], None]) -> Connection:
        """The same node, with the same login; `overdue` is called when one of its answers is."""
        watched = copy.copy(self)
        watched._overdue = overdue
        return watched

    async def call(self, method: str, params: Any, result: type[T], wait_ms: int = 0) -> T:
        raw = await self._post(wire.encode_one(Request(method, params)), wait_ms)
        try:
            outcome = wire.decode_one(raw)
        except Malformed as error:
            raise NodeUnavailable(self.url, f"its answer is no JSON-RPC: {error}") from None
        return self._typed(outcome, result)

    async def batch(self, requests: Sequence[Request], result: type[T], wait_ms: int = 0) -> list[T | RpcFailure]:
        """One outcome per call, in order; at most as many as the node takes in one batch."""
        raw = await self._post(wire.encode_batch(requests), wait_ms)
        try:
            outcomes = wire.decode_batch(raw, len(requests))
        except Malformed as error:
            raise NodeUnavailable(self.url, f"its answer is no JSON-RPC: {error}") from None
        return [entry if isinstance(entry, RpcFailure) else self._typed(entry, result) for entry in outcomes]

    def _typed(self, outcome: bytes | RpcFailure, result: type[T]) -> T:
        if isinstance(outcome, RpcFailure):
            raise outcome
        try:
            return wire.decode_result(outcome, result)
        except Malformed as error:
            raise NodeUnavailable(self.url, f"its answer has another form: {error}") from None

    async def _post(self, body: bytes, wait_ms: int) -> bytes:
        headers = {"Content-Type": "application/json"}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        seconds = wait_ms / 1000
        timeout = aiohttp.ClientTimeout(total=seconds + MARGIN_SECONDS, sock_connect=MARGIN_SECONDS / 2)
        tell = self._overdue or _nobody
        timer = asyncio.get_running_loop().call_later(seconds + OVERDUE_SECONDS, tell)
        try:
            async with self._session.post(
                self.url, data=body, headers=headers, timeout=timeout, ssl=self._tls or True
            ) as response:
                return await self._read(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NodeUnavailable(self.url, _reason(error, seconds)) from None
        finally:
            timer.cancel()

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > RESPONSE_BYTES_MAX:
                raise NodeUnavailable(self.url, f"its answer is larger than {RESPONSE_BYTES_MAX} bytes")
            chunks.append(chunk)
        if response.status not in (200, 413):
            raise NodeUnavailable(self.url, f"HTTP status {response.status}")
        return b"".join(chunks)


def _nobody() -> None:
    pass


def _reason(error: Exception, seconds: float) -> str:
    if type(error) is TimeoutError:  # of the whole call; that of connecting says so itself
        return f"no answer within {seconds + MARGIN_SECONDS:g} s"
    return in_words(error)


def in_words(error: Exception) -> str:
    """What kept a node from being reached, without its address, which whoever asks knows."""
    if isinstance(error, aiohttp.ClientConnectorError) and (error.os_error.errno or 0) > 0:
        return os.strerror(error.os_error.errno or 0).lower()
    return str(error) or type(error).__name__

"""The API's sockets: HTTP POST and WebSocket on one port, and the four pages that machines look at.

Small and dumb: bodies and messages go through Dispatcher.answer. What is limited here is what costs memory before a
call is even known: connections, the size of a request, messages in flight per WebSocket.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
from aiohttp import WSCloseCode, WSMessage, WSMsgType, web
from aiohttp.http import HttpProcessingError

from otcnode import __version__, limits
from otcnode.crypto import random_bytes
from otcnode.errors import ConfigurationError
from otcnode.rpc import json_rpc
from otcnode.rpc.access import Authenticator
from otcnode.rpc.auth import parse_token
from otcnode.rpc.dispatch import Dispatcher, watcher
from otcnode.rpc.gate import gate_of
from otcnode.rpc.json_rpc import NULL_ID, RpcError
from otcnode.rpc.metrics import NodeMetrics
from otcnode.rpc.rates import RateLimiter
from otcnode.rpc.service import NodeService, NodeStatus
from otcnode.rpc.subscriptions import MessageListener

_JSON = "application/json"
_METRICS = "text/plain; version=0.0.4; charset=utf-8"
_BEARER = "Bearer "
_PAGES = ("/healthz", "/readyz", "/metrics", "/version")
_NEVER_REFUSED = ("/healthz", "/version")
_MESSAGES = (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG)
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
WEBSOCKET_HEARTBEAT_SECONDS = 30.0
CLOSE_SECONDS_MAX = 1.0


def _is_own_mistake(record: logging.LogRecord) -> bool:
    """What is no HTTP is answered with 400: whoever sends it could fill the disk with lines that say so."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_log = logging.getLogger("otcnode.http")
_log.addFilter(_is_own_mistake)


class RpcServer:
    """Serves a node. `start` binds, `stop` closes gracefully: what is being answered has `rpc_stop_ms` to finish."""

    def __init__(
        self,
        service: NodeService,
        *,
        tls: ssl.SSLContext | None = None,
        cost_per_second: int = limits.rpc_cost_per_second,
        cost_burst: int = limits.rpc_cost_burst,
        request_bytes_max: int = limits.rpc_request_bytes_max,
    ) -> None:
        self._service = service
        self._tls = tls
        self._request_bytes_max = request_bytes_max
        authenticator = Authenticator(service.chain, service.node, random_bytes)
        rates = RateLimiter(cost_per_second, cost_burst, limits.rpc_callers_remembered_max)
        self.dispatcher = Dispatcher(service, authenticator, rates)
        self._metrics = NodeMetrics(service, self.dispatcher)
        self._sockets: set[web.WebSocketResponse] = set()
        self._sockets_of: Counter[str] = Counter()
        self._runner: web.AppRunner | None = None
        self._listening: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen, and say on which port (0 asks for a free one). Raises ConfigurationError with one readable line."""
        assert self._runner is None
        application = web.Application(client_max_size=self._request_bytes_max)
        application.add_routes(
            [
                web.post("/", self._post),
                web.get("/ws", self._websocket),
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics_page),
                web.get("/version", self._version),
            ]
        )
        application.on_shutdown.append(self._close_sockets)
        runner = web.AppRunner(
            application,
            access_log=None,
            logger=_log,
            handler_cancellation=True,  # who hangs up no longer waits for anything
            shutdown_timeout=limits.rpc_stop_ms / 1000,
            auto_decompress=False,  # or a kilobyte of a body becomes a megabyte before anybody is asked
            lingering_time=0.0,  # what comes behind an answer is not read
        )
        await runner.setup()
        assert runner.server is not None
        # Not as a middleware: aiohttp answers an Expect that it does not know ahead of all of them.
        runner.server.request_handler = partial(self._served, runner.server.request_handler)
        loop = asyncio.get_running_loop()
        try:
            listening = await loop.create_server(gate_of(runner.server), host, port, ssl=self._tls, backlog=512)
        except OSError as error:
            await runner.cleanup()
            reason = "the port is in use" if error.errno == errno.EADDRINUSE else str(error)
            raise ConfigurationError(f"cannot listen on {host}:{port}: {reason}") from None
        self._runner, self._listening = runner, listening
        return int(listening.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Take no more connections, close the WebSockets (code 1001), let running calls finish for a moment."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            assert self._listening is not None
            self._listening.close()
            await runner.cleanup()

    async def _served(self, handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        """Around all that is done with a request, also by aiohttp alone."""
        try:
            response = await self._charged(handler, request)
        except web.HTTPException as answer:
            await _hand_over(request, answer)
            raise
        await _hand_over(request, response)
        return response

    async def _charged(self, handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        """Every request takes its price, whatever comes of it, also where there is nothing to ask for. Who owes is not
        answered before it has paid, and then refused if it still does."""
        payer = await self._payer(request)
        error = await self.dispatcher.out_of_debt(payer)
        if error and request.path not in _NEVER_REFUSED:
            return _refusal(request, error)
        self.dispatcher.charge(payer, limits.rpc_request_cost)
        return await handler(request) if _is_plain(request) else _coded()

    async def _payer(self, request: web.BaseRequest) -> str:
        """Whom a request counts against. One as small as a look at the node is read before it is known what it is."""
        address, token = _address(request), _token(request)
        if request.path in _PAGES:
            return watcher(address)
        try:
            raw = await self._read_ahead(request)
        except BaseException:
            # Most of them hang up in the middle of it, which cancels this.
            self.dispatcher.charge(self.dispatcher.caller(address, token), limits.rpc_request_cost)
            raise
        return self.dispatcher.payer(raw, address, token)

    async def _read_ahead(self, request: web.BaseRequest) -> bytes:
        """A small body; nothing of one that is larger, is not read at all, or is sent only once it is asked for."""
        length = request.content_length
        small = length is not None and length <= min(limits.rpc_look_bytes_max, self._request_bytes_max)
        return await request.read() if small and _is_plain(request) and "Expect" not in request.headers else b""

    async def _post(self, request: web.Request) -> web.Response:
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return self._too_large()
        address, token = _address(request), _token(request)
        # Others may have spent what there was while the body was on its way.
        if error := await self.dispatcher.out_of_turn(self.dispatcher.payer(body, address, token)):
            return _refusal(request, error)
        answer = await self.dispatcher.answer(body, address, token, reading=limits.rpc_request_cost)
        if answer is None:
            return web.Response(status=204)
        return web.Response(body=answer, content_type=_JSON)

    def _too_large(self) -> web.Response:
        error = RpcError(json_rpc.INVALID_REQUEST, f"the request is larger than {self._request_bytes_max} bytes")
        return web.Response(status=413, body=json_rpc.failure(NULL_ID, error), content_type=_JSON)

    async def _websocket(self, request: web.Request) -> web.WebSocketResponse | web.Response:
        address = _address(request)
        if (
            len(self._sockets) >= limits.rpc_connections_max
            or self._sockets_of[address] >= limits.rpc_connections_per_caller_max
        ):
            return web.Response(status=503, text="too many WebSocket connections\n")
        self.dispatcher.charge(self.dispatcher.caller(address, _token(request)), limits.rpc_websocket_cost)
        socket = web.WebSocketResponse(
            max_msg_size=self._request_bytes_max,
            heartbeat=WEBSOCKET_HEARTBEAT_SECONDS,
            compress=False,
            autoping=False,
        )
        await socket.prepare(request)
        self._sockets.add(socket)
        self._sockets_of[address] += 1
        try:
            await self._converse(socket, request)
        finally:
            self._sockets.discard(socket)
            self._sockets_of[address] -= 1
            if not self._sockets_of[address]:
                del self._sockets_of[address]
        return socket

    async def _converse(self, socket: web.WebSocketResponse, request: web.Request) -> None:
        """Answer messages side by side (one may wait for a minute), reading no further ahead than the bound; notify of
        what is subscribed."""
        address, token = _address(request), _token(request)
        room = asyncio.Semaphore(limits.rpc_websocket_messages_in_flight_max)

        async def serve(raw: bytes) -> None:
            listener = MessageListener(subscriptions)
            try:
                answer = await self.dispatcher.answer(raw, address, token, listener, reading=limits.rpc_message_cost)
                if answer is not None and not socket.closed:
                    await socket.send_str(answer.decode())
                listener.answered()
            except ConnectionError:
                pass
            finally:
                room.release()

        async with asyncio.TaskGroup() as group:
            tasks: set[asyncio.Task[None]] = set()

            def spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
                task = group.create_task(work)
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                return task

            subscriptions = self.dispatcher.subscriptions(
                token, send=socket.send_str, close=partial(_close, socket, request), spawn=spawn, address=address
            )
            async for message in socket:
                if message.type not in _MESSAGES:
                    break
                raw = message.data.encode() if message.type is WSMsgType.TEXT else bytes(message.data)
                said = message.type in (WSMsgType.TEXT, WSMsgType.BINARY)
                payer = self.dispatcher.payer(raw if said else b"", address, token)
                error = await self.dispatcher.out_of_debt(payer)
                if error and said:
                    await socket.send_str(json_rpc.failure(NULL_ID, error).decode())
                    continue
                self.dispatcher.charge(payer, limits.rpc_message_cost)
                if not said:
                    await _echo(socket, message)
                    continue
                await room.acquire()
                spawn(serve(raw))
            for task in tasks:
                task.cancel()

    async def _close_sockets(self, application: web.Application) -> None:
        for socket in list(self._sockets):
            await socket.close(code=WSCloseCode.GOING_AWAY, message=b"the node is stopping")

    async def _healthz(self, request: web.Request) -> web.Response:
        """The process answers: never refused, but who asks without end waits for it."""
        return _page(200, {"status": "ok"})

    async def _readyz(self, request: web.Request) -> web.Response:
        """200 when this node can serve: synced, connected, disk writable, not halted; else 503 with the reasons."""
        return self._counted(request, self._readiness)

    async def _metrics_page(self, request: web.Request) -> web.Response:
        return self._counted(request, self._measurements)

    def _readiness(self) -> web.Response:
        reasons = unready(self._service.status())
        return _page(503 if reasons else 200, {"ready": not reasons, "reasons": reasons})

    def _measurements(self) -> web.Response:
        return web.Response(body=self._metrics.render(), headers={"Content-Type": _METRICS})

    async def _version(self, request: web.Request) -> web.Response:
        return _page(200, {"name": "otcnode", "version": __version__, "network": self._service.genesis.network})

    def _counted(self, request: web.Request, page: Callable[[], web.Response]) -> web.Response:
        """A page that looks at the node: what that takes counts too."""
        with self.dispatcher.bill(watcher(_address(request))).counted():
            return page()


def unready(status: NodeStatus) -> list[str]:
    """Why a node should get no traffic; empty when it is ready."""
    reasons = []
    if status.halted is not None:
        reasons.append(f"halted: {status.halted}")
    if not status.synced:
        reasons.append(f"catching up: height {status.height} of {status.target_height}")
    if status.peers_connected + int(status.validator) < status.quorum:
        reasons.append(
            f"connected to {status.peers_connected} of {status.peers_expected} peers, a quorum is {status.quorum}"
        )
    if not status.disk_writable:
        reasons.append("the disk is not writable")
    return reasons


async def _close(socket: web.WebSocketResponse, request: web.Request, code: int, reason: bytes) -> None:
    """Close with a code; who does not even take that loses the connection."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS_MAX):
            await socket.close(code=code, message=reason)
    except TimeoutError:
        pass
    finally:
        if request.transport is not None:
            request.transport.abort()


async def _echo(socket: web.WebSocketResponse, message: WSMessage) -> None:
    """A ping is answered, a pong is not."""
    if message.type is WSMsgType.PING and not socket.closed:
        with suppress(ConnectionError):
            await socket.pong(bytes(message.data))


async def _hand_over(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """An answer to what has not come to its end: no more of that is read than there is room for anyway, and the
    connection is closed a little later, or whoever is still sending would lose the answer (RFC 9112, section 9.6)."""
    if response.prepared or request.content.is_eof():
        return
    response.force_close()
    with suppress(ConnectionError, TimeoutError):
        await response.prepare(request)
        await response.write_eof()
        async with asyncio.timeout(CLOSE_SECONDS_MAX):
            await request.content.wait_eof()


def _is_plain(request: web.BaseRequest) -> bool:
    return all(coding.strip().lower() == "identity" for coding in request.headers.getall("Content-Encoding", ()))


def _coded() -> web.Response:
    """Nothing is inflated here: a little of it would become a lot of work for a node that has other work."""
    error = RpcError(json_rpc.INVALID_REQUEST, "a body with a Content-Encoding other than identity is not read")
    headers = {"Accept-Encoding": "identity"}
    return web.Response(status=415, body=json_rpc.failure(NULL_ID, error), content_type=_JSON, headers=headers)


def _refusal(request: web.BaseRequest, error: RpcError) -> web.Response:
    """In the form that whoever asks there can read."""
    if (request.method, request.path) == ("POST", "/"):
        return web.Response(body=json_rpc.failure(NULL_ID, error), content_type=_JSON)
    return web.Response(status=429, text=f"{error.message}\n")


def _page(status: int, content: object) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(content) + b"\n", content_type=_JSON)


def _address(request: web.BaseRequest) -> str:
    return request.remote or ""


def _token(request: web.BaseRequest) -> bytes | None:
    header = request.headers.get("Authorization", "")
    return parse_token(header[len(_BEARER) :]) if header.startswith(_BEARER) else None

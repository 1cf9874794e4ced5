"""Subscriptions to events: every event that the caller may read, once and in order, as notifications `events_event`.

A subscription keeps nothing but its cursor and reads what follows from the store, so a slow reader costs no memory. One
that takes nothing for too long is closed with code 4008, one whose token ends with 4001; both go on from their cursor
on a new connection, at any node.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from otcnode import limits
from otcnode.errors import StorageDamage
from otcnode.rpc.access import Authenticator, Caller
from otcnode.rpc.charging import Bill
from otcnode.rpc.events import (
    AFTER_BLOCK,
    BLOCKS_PER_PAGE_MAX,
    Cursor,
    CursorText,
    EventFilter,
    EventResult,
    blocks_after,
    event_results,
    parse_cursor,
    reach_of,
)
from otcnode.rpc.json_rpc import INVALID_REQUEST, OVERLOADED, UNAUTHENTICATED, RpcError
from otcnode.rpc.method import Context, Listener, Params, Result
from otcnode.rpc.reader import Reader
from otcnode.rpc.service import Frozen, NodeService

CLOSE_TOO_SLOW = 4008
CLOSE_UNAUTHENTICATED = 4001
CLOSE_CURSOR_INVALID = 4010
NOTIFICATION = "events_event"


class SubscribeParams(Params, frozen=True):
    """Without `cursor` from the next block on; the cursor of the last event that was read resumes after it."""

    filter: EventFilter = EventFilter()
    cursor: CursorText | None = None


class SubscribeResult(Result, frozen=True):
    """Notifications `events_event` {subscription, cursor, event} follow this answer, of what is after `cursor`."""

    subscription: str
    cursor: str


class UnsubscribeParams(Params, frozen=True):
    subscription: Annotated[str, Meta(max_length=20)]


class UnsubscribeResult(Result, frozen=True):
    """False: this connection has no such subscription."""

    unsubscribed: bool


class EventNotification(Frozen, frozen=True):
    """The parameters of a notification; `cursor` is the event's own, to go on after it."""

    subscription: str
    cursor: str
    event: EventResult


class _Notification(Frozen, frozen=True):
    params: EventNotification
    method: str = NOTIFICATION
    jsonrpc: str = "2.0"


class Subscription(NamedTuple):
    name: str
    cursor: Cursor
    wanted: EventFilter


async def subscribe(context: Context, params: SubscribeParams) -> SubscribeResult:
    """events_subscribe: RpcError −32600 over HTTP, −32005 for a cursor beyond this node's chain, −32006 above
    the bound."""
    listener = _listener(context)
    tip = context.service.state().height
    cursor = Cursor(tip, AFTER_BLOCK) if params.cursor is None else parse_cursor(params.cursor, tip)
    reach_of(context.caller(), params.filter)
    return SubscribeResult(listener.subscribe(cursor, params.filter), str(cursor))


async def unsubscribe(context: Context, params: UnsubscribeParams) -> UnsubscribeResult:
    """events_unsubscribe: no notification of it follows the answer."""
    return UnsubscribeResult(_listener(context).unsubscribe(params.subscription))


def _listener(context: Context) -> Listener:
    if context.listener is None:
        raise RpcError(INVALID_REQUEST, "subscriptions need a WebSocket")
    return context.listener


class MessageListener:
    """What one message subscribes; nothing is notified before its answer has been sent."""

    def __init__(self, subscriptions: Subscriptions) -> None:
        self._subscriptions = subscriptions
        self._names: list[str] = []

    def subscribe(self, cursor: Cursor, wanted: EventFilter) -> str:
        name = self._subscriptions.subscribe(cursor, wanted)
        self._names.append(name)
        return name

    def unsubscribe(self, name: str) -> bool:
        return self._subscriptions.unsubscribe(name)

    def answered(self) -> None:
        self._subscriptions.begin(self._names)


class Subscriptions:
    """Those of one connection. `send` puts a text on it; `close` ends it with a code and a reason; `spawn` runs a
    coroutine as long as the connection lives; `pay` takes the price of a look from the budget for this, or says in how
    many milliseconds nothing will be owed; `bill` charges what a look took beyond it, which it `owes` then."""

    def __init__(
        self,
        service: NodeService,
        authenticator: Authenticator,
        token: bytes | None,
        *,
        send: Callable[[str], Awaitable[None]],
        close: Callable[[int, bytes], Awaitable[None]],
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        pay: Callable[[int], int],
        owes: Callable[[], bool],
        bill: Callable[[], Bill],
    ) -> None:
        self._pay = pay
        self._owes = owes
        self._bill = bill
        self._service = service
        self._authenticator = authenticator
        self._token = token
        self._send = send
        self._close = close
        self._spawn = spawn
        self._named = 0
        self._begun: dict[str, asyncio.Task[None]] = {}
        self._waiting: dict[str, Subscription] = {}

    def subscribe(self, cursor: Cursor, wanted: EventFilter) -> str:
        if len(self._begun) + len(self._waiting) >= limits.rpc_subscriptions_per_connection_max:
            raise RpcError(OVERLOADED, "too many subscriptions on this connection")
        self._named += 1
        name = str(self._named)
        self._waiting[name] = Subscription(name, cursor, wanted)
        return name

    def unsubscribe(self, name: str) -> bool:
        task = self._begun.pop(name, None)
        if task is not None:
            task.cancel()
        return self._waiting.pop(name, None) is not None or task is not None

    def begin(self, names: Sequence[str]) -> None:
        """The answer that names these has been sent: they may notify now."""
        for name in names:
            subscription = self._waiting.pop(name, None)
            if subscription is not None:
                self._begun[name] = self._spawn(self._follow(subscription))

    async def _follow(self, subscription: Subscription) -> None:
        try:
            await self._notify_for_ever(subscription)
        except TimeoutError:
            await self._close(CLOSE_TOO_SLOW, b"too slow; resume by cursor")
        except RpcError as error:
            code = CLOSE_UNAUTHENTICATED if error.code == UNAUTHENTICATED else CLOSE_CURSOR_INVALID
            await self._close(code, error.message.encode()[:100])
        except StorageDamage as error:
            self._service.damaged(error)
        except ConnectionError:
            pass  # the reader is gone, and the connection with it

    async def _notify_for_ever(self, subscription: Subscription) -> None:
        name, cursor, wanted = subscription
        while True:
            if wait_ms := self._pay(limits.rpc_subscription_look_cost):
                await asyncio.sleep(wait_ms / 1_000)
                continue
            bill = self._bill()
            bill.paid(limits.rpc_subscription_look_cost)
            tip = self._service.state().height
            cursor = await bill.metered(self._look(Subscription(name, cursor, wanted), tip))
            if cursor.height >= tip:
                await self._service.await_height(tip + 1, limits.rpc_subscription_wait_ms)

    async def _look(self, subscription: Subscription, tip: int) -> Cursor:
        """Tell what follows the cursor, of a page of blocks or up to the one at which it owes; the cursor after it."""
        name, cursor, wanted = subscription
        service = self._service
        reach = reach_of(self._caller(), wanted)
        async for height, found in blocks_after(service, reach, cursor, tip, BLOCKS_PER_PAGE_MAX, self._owes):
            for shown in event_results(service, reach, height, found):
                notification = _Notification(EventNotification(name, shown.cursor, shown))
                async with asyncio.timeout(limits.rpc_subscriber_stall_ms_max / 1000):
                    await self._send(msgspec.json.encode(notification).decode())
            cursor = Cursor(height, AFTER_BLOCK)
        return cursor

    def _caller(self) -> Caller | None:
        """Raises RpcError(−32002) once the token no longer holds."""
        if self._token is None:
            return None
        state = Reader(self._service.state().view)
        return self._authenticator.caller(state, self._token, self._service.now_ms())

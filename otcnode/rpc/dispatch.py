"""From bytes to bytes: parse, charge, call, answer. No sockets here; the server feeds it bodies and messages."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any

import structlog

from otcnode import limits
from otcnode.errors import DecodeError, LedgerError, StorageDamage
from otcnode.rpc import json_rpc
from otcnode.rpc.access import Authenticator
from otcnode.rpc.charging import Bill
from otcnode.rpc.json_rpc import Call, Reply, RpcError
from otcnode.rpc.method import Context, Listener, Method
from otcnode.rpc.methods import METHODS
from otcnode.rpc.rates import RateLimiter
from otcnode.rpc.service import HeightUnavailable, NodeService
from otcnode.rpc.subscriptions import Subscriptions
from otcnode.rpc.together import Shares, Together
from otcnode.rpc.transactions import ledger_error

_log = structlog.get_logger()
_LOOKS = {name: name.encode() for name, method in METHODS.items() if method.look}
_WATCHER = "watcher "
_READER = "subscriptions of "
_OPERATORS = (f"{_WATCHER}127.0.0.1", f"{_WATCHER}::1")
_ORDER = {name: place for place, name in enumerate(METHODS)}
Outcome = Any
"""A result, or the RpcError that stands for one."""


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class Dispatcher:
    """All of the API but its sockets. `calls` and `errors` count for the metrics: by method, and by error code."""

    def __init__(
        self,
        service: NodeService,
        authenticator: Authenticator,
        rates: RateLimiter,
        processor_ns: Callable[[], int] = time.thread_time_ns,
        monotonic_ms: Callable[[], int] = _monotonic_ms,
    ) -> None:
        """Budgets are filled by a clock that nobody sets back."""
        self._service = service
        self._monotonic_ms = monotonic_ms
        self._processor_ns = processor_ns
        self._authenticator = authenticator
        self._rates = rates
        self._shares = Shares(monotonic_ms)
        self.in_flight = 0
        self._in_flight_of: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.errors: Counter[int] = Counter()

    async def answer(
        self, raw: bytes, address: str, token: bytes | None, listener: Listener | None = None, *, reading: int = 0
    ) -> bytes | None:
        """The answer to one body or message, None where there must be none; `reading`: what its caller has been charged
        for it already."""
        caller = self.payer(raw, address, token)
        bill = self.bill(caller, reading)
        context = Context(self._service, self._authenticator, token, partial(self.charge, caller), listener, caller)
        return await bill.metered(self._answer(raw, context, bill))

    def caller(self, address: str, token: bytes | None) -> str:
        """Whom it counts against: an account that has logged in, or an address."""
        return self._authenticator.name_of(token) or address

    def payer(self, raw: bytes, address: str, token: bytes | None) -> str:
        """Whom a message counts against: its caller, who has a budget of its own for messages that only look."""
        caller = self.caller(address, token)
        return watcher(caller) if _only_looks(raw) else caller

    def bill(self, caller: str, reading: int = 0) -> Bill:
        """For one message of `caller`."""
        return Bill(partial(self.charge, caller), self._processor_ns, reading)

    def charge(self, caller: str, cost: int) -> None:
        """What has been spent, or is spent whatever comes of it."""
        self._rates.charge(caller, cost, self._monotonic_ms())
        self._charge_share(caller, cost)

    def _take(self, caller: str, cost: int, again: int = 0) -> int:
        """0 if the caller may spend it, else the milliseconds until it may."""
        retry_after_ms = self._rates.take(caller, cost, self._monotonic_ms(), again=again)
        if not retry_after_ms:
            self._charge_share(caller, cost)
        return retry_after_ms

    def _charge_share(self, caller: str, cost: int) -> None:
        share = self._share_of(caller)
        if share is not None:
            share.charge(cost)

    def _share_of(self, caller: str) -> Together | None:
        """What it shares with others of its kind. None: whoever looks from the machine itself waits for nobody."""
        if caller in _OPERATORS:
            return None
        if caller.startswith(_WATCHER):
            return self._shares.watchers
        name = caller.removeprefix(_READER)
        # An address has a point or a colon.
        return self._shares.accounts if name.isalnum() else self._shares.addresses

    async def out_of_debt(self, caller: str) -> RpcError | None:
        """Wait until `caller` has paid for what its messages took, before another one is read, and until all of its
        kind together have; the error where that takes too long."""
        if owed_ms := self._rates.debt_ms(caller, self._monotonic_ms()):
            await asyncio.sleep(min(owed_ms, limits.rpc_debt_wait_ms_max) / 1_000)
            owed_ms = self._rates.debt_ms(caller, self._monotonic_ms())
        return _too_many(owed_ms) if owed_ms else await self.out_of_turn(caller)

    async def out_of_turn(self, caller: str) -> RpcError | None:
        """Wait until all of its kind together have paid; the error where that takes too long."""
        share = self._share_of(caller)
        owed_ms = 0 if share is None else await share.admit()
        return _too_many(owed_ms) if owed_ms else None

    async def _answer(self, raw: bytes, context: Context, bill: Bill) -> bytes | None:
        message = json_rpc.parse(raw, limits.rpc_batch_entries_max)
        calls = [entry for entry in message.entries if isinstance(entry, Call)]
        if not self._has_room(context.name, len(calls)):
            outcomes: list[Outcome] = [RpcError(json_rpc.OVERLOADED, "too many calls in flight")] * len(calls)
        else:
            self._enter(context.name, len(calls))
            try:
                outcomes = await self._perform(calls, context, bill)
            finally:
                self._enter(context.name, -len(calls))
        pending = iter(outcomes)
        answers = [
            entry.raw if isinstance(entry, Reply) else self._shown(entry, next(pending)) for entry in message.entries
        ]
        return json_rpc.join(answers, message.batch)

    def subscriptions(
        self,
        token: bytes | None,
        *,
        send: Callable[[str], Awaitable[None]],
        close: Callable[[int, bytes], Awaitable[None]],
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        address: str = "",
    ) -> Subscriptions:
        """Those of a new connection. They have a budget of their own: what is told to a caller holds up no call."""
        reader = _READER + self.caller(address, token)
        share = self._share_of(reader)
        assert share is not None
        return Subscriptions(
            self._service,
            self._authenticator,
            token,
            send=send,
            close=close,
            spawn=spawn,
            pay=lambda cost: share.owed_ms or self._take(reader, cost),
            owes=lambda: (self._rates.debt_ms(reader, self._monotonic_ms()) or share.owed_ms) > 0,
            bill=lambda: self.bill(reader),
        )

    def _has_room(self, caller: str, count: int) -> bool:
        """Calls that wait hold memory: bounded in all, and per caller, so that nobody takes it all."""
        return (
            self.in_flight + count <= limits.rpc_calls_in_flight_max
            and self._in_flight_of.get(caller, 0) + count <= limits.rpc_calls_in_flight_per_caller_max
        )

    def _enter(self, caller: str, count: int) -> None:
        self.in_flight += count
        self._in_flight_of[caller] += count
        if not self._in_flight_of[caller]:
            del self._in_flight_of[caller]

    async def _perform(self, calls: Sequence[Call], context: Context, bill: Bill) -> list[Outcome]:
        """One outcome per call. Calls of a method that takes many go together, first; the others run side by side, and
        each is admitted when those before it have begun, so that what they took counts."""
        outcomes: list[Outcome] = [None] * len(calls)
        grouped: dict[str, list[tuple[int, Any]]] = {}
        single: list[tuple[int, Call]] = []
        for place, call in enumerate(calls):
            method = METHODS.get(call.method)
            if method is None or method.handle_many is None:
                single.append((place, call))
                continue
            try:
                params = self._admit(call, method, context.name, bill)
            except RpcError as error:
                outcomes[place] = error
            else:
                grouped.setdefault(call.method, []).append((place, params))
        for name in sorted(grouped, key=_ORDER.__getitem__):
            answers = await self._call_many(context, name, [params for _, params in grouped[name]])
            for (place, _), outcome in zip(grouped[name], answers, strict=True):
                outcomes[place] = outcome
        if len(single) == 1:
            place, call = single[0]
            outcomes[place] = await self._call_one(context, call, bill)
        elif single:
            async with asyncio.TaskGroup() as group:
                tasks = []
                for place, call in single:
                    tasks.append((place, group.create_task(self._metered_call(context, call, bill))))
                    # One after another, so that whatever else the node has to do comes in between.
                    await asyncio.sleep(0)
            for place, task in tasks:
                outcomes[place] = task.result()
        return outcomes

    def _admit(self, call: Call, method: Method | None, caller: str, bill: Bill) -> Any:
        """Its parameters, once its price has been taken; who is refused is told when to come again with all of this."""
        cost = 1 if method is None else method.cost
        if retry_after_ms := self._take(caller, cost, bill.reading):
            raise _too_many(retry_after_ms)
        bill.paid(cost)
        if method is None:
            raise RpcError(json_rpc.METHOD_NOT_FOUND, f"there is no method {call.method[:64]!r}")
        self.calls[call.method] += 1
        return json_rpc.decode_params(method.params, call)

    async def _metered_call(self, context: Context, call: Call, bill: Bill) -> Outcome:
        """In a task of its own."""
        return await bill.metered(self._call_one(context, call, bill))

    async def _call_one(self, context: Context, call: Call, bill: Bill) -> Outcome:
        method = METHODS.get(call.method)
        try:
            params = self._admit(call, method, context.name, bill)
            assert method is not None and method.handle is not None
            return await method.handle(context, params)
        except Exception as error:
            return self._translated(error)

    async def _call_many(self, context: Context, name: str, params: Sequence[Any]) -> Sequence[Outcome]:
        handle = METHODS[name].handle_many
        assert handle is not None
        try:
            return await handle(context, params)
        except Exception as error:
            return [self._translated(error)] * len(params)

    def _translated(self, error: Exception) -> RpcError:
        if isinstance(error, StorageDamage):
            self._service.damaged(error)
        return _translated(error)

    def _shown(self, call: Call, outcome: Outcome) -> bytes | None:
        if isinstance(outcome, RpcError):
            self.errors[outcome.code] += 1
            return None if call.id is None else json_rpc.failure(call.id, outcome)
        return None if call.id is None else json_rpc.success(call.id, outcome)


def watcher(caller: str) -> str:
    """Looks at the node, by its pages and by calls, have a budget of their own: nobody is kept from watching a node, or
    from asking it why it stands still, by who calls it from the same address, nor who has logged in by who looks from
    there. The pages know addresses only."""
    return _WATCHER + caller


def _only_looks(raw: bytes) -> bool:
    """Whether this is one call that looks at the node; a long message is none."""
    if len(raw) > limits.rpc_look_bytes_max or not any(name in raw for name in _LOOKS.values()):
        return False
    entries = json_rpc.parse(raw, 1).entries
    return all(isinstance(entry, Call) and entry.method in _LOOKS for entry in entries)


def _too_many(retry_after_ms: int) -> RpcError:
    return RpcError(json_rpc.RATE_LIMIT, "too many requests", {"retry_after_ms": retry_after_ms})


def _translated(error: Exception) -> RpcError:
    """What others did wrong as its error object; our own mistakes as −32603, with the details in the log only."""
    match error:
        case RpcError():
            return error
        case HeightUnavailable(first=first, last=last):
            return RpcError(json_rpc.HEIGHT_UNAVAILABLE, str(error), {"first": first, "last": last})
        case LedgerError(code=code, detail=detail):
            return ledger_error(code, detail, definite=False)
        case DecodeError():
            return RpcError(json_rpc.INVALID_PARAMS, str(error))
        case _:
            _log.error("rpc_failed", exc_info=error)
            return RpcError(json_rpc.INTERNAL_ERROR, "internal error; the node's log has the details")

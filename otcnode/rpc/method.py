"""What a method of the API is, and what its handlers share: reading at a height, and paging."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Protocol, TypeVar

import msgspec
from msgspec import Meta

from otcnode import limits
from otcnode.codec import Record, decode, encode
from otcnode.errors import DecodeError
from otcnode.rpc import format as form
from otcnode.rpc.access import Authenticator, Caller
from otcnode.rpc.json_rpc import CURSOR_INVALID, NOT_READY, RpcError
from otcnode.rpc.reader import Reader
from otcnode.rpc.service import HeightUnavailable, NodeService, Snapshot
from otcnode.types import Height

R = TypeVar("R")
rows_scanned_per_page_max = 10_000


class Access(StrEnum):
    """Who may call a method at all; for ROWS what is seen is decided per row (access.py)."""

    OPEN = "open"
    ROWS = "rows"
    SEES_ALL = "sees-all"


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters; a name that the method does not know is refused, so a typing error never passes for a filter."""


class ReadParams(Params, frozen=True, kw_only=True):
    """`at_height` asks for the state as of a past height; `min_height` waits briefly until this node has reached it,
    so that a caller reads its own writes after changing nodes."""

    at_height: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    min_height: Annotated[int, Meta(ge=0, le=2**53)] | None = None


class PageParams(ReadParams, frozen=True, kw_only=True):
    """`next` is the opaque value of the page before; it continues at the same height."""

    limit: Annotated[int, Meta(ge=1, le=limits.page_entries_max)] = limits.page_entries_default
    next: Annotated[str, Meta(max_length=1_024)] | None = None


class Result(msgspec.Struct, frozen=True):
    """A result; every field is always present unless its type says otherwise."""


class ReadResult(Result, frozen=True, kw_only=True):
    """`height`, `block_hash` and `time` say which state was read; height 0 is the genesis."""

    height: int
    block_hash: form.BlockText
    time: form.Time


class Listener(Protocol):
    """A connection that takes notifications (rpc/subscriptions.py)."""

    def subscribe(self, cursor: Any, wanted: Any) -> str:
        """Its name; notifications begin once the answer with it has been sent. Raises RpcError above the bound."""
        ...

    def unsubscribe(self, name: str) -> bool:
        """Whether there was one of this name."""
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """One caller's call."""

    service: NodeService
    authenticator: Authenticator
    token: bytes | None
    pay: Callable[[int], None]
    """Takes units of the caller's budget, into debt if need be, for what is done in another thread than the call."""
    listener: Listener | None = None
    """Where notifications can be sent; None over HTTP."""
    name: str = ""
    """Whom the call counts against: an account that has logged in, or an address."""

    def caller(self) -> Caller | None:
        """Who is asking, by the roles of the latest state; None without a token. Raises RpcError(−32002)."""
        if self.token is None:
            return None
        state = Reader(self.service.state().view)
        return self.authenticator.caller(state, self.token, self.service.now_ms())


Handler = Callable[[Context, Any], Awaitable[Any]]
BatchHandler = Callable[[Context, Sequence[Any]], Awaitable[Sequence[Any]]]


@dataclass(frozen=True, slots=True)
class Method:
    """A row of the table. `handle_many` serves all calls of one batch at once and answers each with a result or an
    RpcError; it stands for `handle` where work is done per batch."""

    summary: str
    params: type[Params]
    result: Any
    access: Access
    example: Mapping[str, Any]
    cost: int
    handle: Handler | None = None
    handle_many: BatchHandler | None = None
    look: bool = False
    """It looks at the node alone, for those who run it: asked by itself, it takes of the budget of the pages."""

    def __post_init__(self) -> None:
        assert (self.handle is None) != (self.handle_many is None)


async def read(context: Context, params: ReadParams) -> Snapshot:
    """The state to read. Raises HeightUnavailable, and RpcError −32005 if `min_height` is not reached soon."""
    if params.min_height is not None:
        reached = await context.service.await_height(params.min_height, limits.rpc_min_height_wait_ms_max)
        if not reached:
            height = context.service.state().height
            raise RpcError(NOT_READY, f"height {params.min_height} is not reached yet", {"height": height})
    return context.service.state(params.at_height)


def origin(snapshot: Snapshot) -> dict[str, Any]:
    """The fields of ReadResult."""
    return {
        "height": snapshot.height,
        "block_hash": form.block(snapshot.block_hash),
        "time": form.time(snapshot.time_ms),
    }


class _Cursor(Record, frozen=True):
    method: str
    height: Height
    after: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """Where a list goes on: the state it is bound to, and the key to start after."""

    snapshot: Snapshot
    after: bytes | None


async def open_page(context: Context, params: PageParams, method: str) -> Page:
    """The page that `params` ask for. Raises RpcError −32008 for a `next` of another method, or pruned meanwhile."""
    if params.next is None:
        return Page(await read(context, params), None)
    try:
        cursor = decode(_Cursor, base64.urlsafe_b64decode(params.next.encode("ascii")))
    except (DecodeError, binascii.Error, UnicodeEncodeError, ValueError):
        raise RpcError(CURSOR_INVALID, "next is not one that this method gave", {"first": None}) from None
    if cursor.method != method or params.at_height not in (None, cursor.height):
        raise RpcError(CURSOR_INVALID, "next belongs to another method or height", {"first": None})
    try:
        return Page(context.service.state(cursor.height), cursor.after)
    except HeightUnavailable as error:
        raise RpcError(CURSOR_INVALID, "the state of that page is pruned", {"first": error.first}) from None


def following(page: Page, method: str, last: bytes) -> str:
    """The `next` of a page that ended at the key `last`."""
    return base64.urlsafe_b64encode(encode(_Cursor(method, page.snapshot.height, last))).decode()


def take(rows: Iterator[tuple[bytes, R | None]], page: Page, limit: int, method: str) -> tuple[list[R], str | None]:
    """Up to `limit` rows that are not None (None: filtered out or not for this caller), and the `next` after them.

    Rows looked at are bounded too: a page may hold fewer than `limit` and still have a `next`.
    """
    taken: list[R] = []
    last = b""
    for scanned, (key, row) in enumerate(rows):
        if len(taken) == limit or scanned == rows_scanned_per_page_max:
            return taken, following(page, method, last)
        last = key
        if row is not None:
            taken.append(row)
    return taken, None

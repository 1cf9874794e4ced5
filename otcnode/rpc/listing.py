"""What lists of items share: ranges of time, identifiers as filters, and the shape of a page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec

from otcnode.ids import Prefix
from otcnode.rpc import format as form
from otcnode.rpc.method import Context, Page, PageParams, ReadResult, open_page, origin, take
from otcnode.rpc.reader import Reader
from otcnode.vm.keys import Table, integer

ID_BYTES = 32
TIME_BYTES = 8
Rows = Iterator[tuple[bytes, dict[str, Any] | None]]
"""(place in the scan, row); None for a row that is filtered out or not for this caller."""


class RangeParams(PageParams, frozen=True, kw_only=True):
    """`from` and `to` are a half-open range of time: from ≤ t < to."""

    from_: form.TimeInput | None = msgspec.field(default=None, name="from")
    to: form.TimeInput | None = None


class Span(NamedTuple):
    """first ≤ t < end, without an end if that is None."""

    first: int
    end: int | None

    def holds(self, time_ms: int) -> bool:
        return self.first <= time_ms and not self.is_before(time_ms)

    def is_before(self, time_ms: int) -> bool:
        """Whether the span is over at this time."""
        return self.end is not None and time_ms >= self.end


def span_of(params: RangeParams) -> Span:
    """Raises DecodeError for a time without offset."""
    first = 0 if params.from_ is None else form.parse_time(params.from_)
    return Span(first, None if params.to is None else form.parse_time(params.to))


def optional_id(prefix: Prefix, text: str | None) -> bytes | None:
    """Raises DecodeError."""
    return None if text is None else form.parse_id(prefix, text)


def by_time(
    state: Reader, table: Table[Any], start: bytes, after: bytes | None, span: Span
) -> Iterator[tuple[bytes, bytes]]:
    """(place, item id) of an index whose suffixes are `start` ‖ time ‖ item id, for the times in the span."""
    for suffix, _ in state.scan(table, start, after or start + integer(span.first)):
        if span.is_before(int.from_bytes(suffix[-ID_BYTES - TIME_BYTES : -ID_BYTES], "big")):
            return
        yield suffix, suffix[-ID_BYTES:]


def by_id(state: Reader, table: Table[Any], after: bytes | None) -> Iterator[tuple[bytes, bytes]]:
    """(place, item id) of a table whose suffixes are the items' ids."""
    return ((suffix, suffix) for suffix, _ in state.scan(table, b"", after))


def just(name: bytes, after: bytes | None) -> Iterator[tuple[bytes, bytes]]:
    """(place, item id) of one item, once."""
    return iter([(name, name)] if after is None else [])


def list_type(name: str, field: str, row: Any, about: str = "") -> Any:
    """The result type of a list: ReadResult, the rows in `field`, and `next`."""
    fields = [(field, list[row]), ("next", str | None)]
    namespace = {"__doc__": about} if about else None
    return msgspec.defstruct(name, fields, bases=(ReadResult,), frozen=True, kw_only=True, namespace=namespace)


async def answer(
    context: Context, params: PageParams, method: str, field: str, rows: Callable[[Reader, bytes | None], Rows]
) -> dict[str, Any]:
    """The page that `params` ask for, of `rows(state, place to start after)`."""
    page: Page = await open_page(context, params, method)
    taken, following = take(rows(Reader(page.snapshot.view), page.after), page, params.limit, method)
    return {**origin(page.snapshot), field: taken, "next": following}

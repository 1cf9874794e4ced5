"""Methods that read trades: for their parties and for the roles that see trades."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from otcnode.ids import Prefix
from otcnode.rpc import format as form
from otcnode.rpc.access import Caller, Subject, forbidden, may_see_parties, require_login, whose
from otcnode.rpc.listing import optional_id
from otcnode.rpc.method import Context, PageParams, ReadResult, open_page, origin, take
from otcnode.rpc.reader import Reader
from otcnode.rpc.render import render, shown_type
from otcnode.vm.keys import OPEN_TRADE, integer
from otcnode.vm.trades.records import TRADES, TRADING_BY_ACCOUNT, TRADING_BY_PRODUCT, Trade, TradeStatus

TRADE_LIST = "trade_list"


class TradeListParams(PageParams, frozen=True):
    """Filters are ANDed; `from` and `to` are a half-open range of the time of creation. Without `trade` or `party` the
    caller's own trades are listed, or everybody's for a role that sees trades."""

    trade: form.TradeText | None = None
    party: form.AccountText | None = None
    product: form.ProductText | None = None
    status: TradeStatus | None = None
    from_: form.TimeInput | None = msgspec.field(default=None, name="from")
    to: form.TimeInput | None = None


TradeView = msgspec.defstruct("TradeView", [("id", form.TradeText), ("trade", shown_type(Trade))], frozen=True)
TradeListResult = msgspec.defstruct(
    "TradeListResult",
    [("trades", list[TradeView]), ("next", str | None)],  # type: ignore[valid-type]
    bases=(ReadResult,),
    frozen=True,
    kw_only=True,
)


async def trade_list(context: Context, params: TradeListParams) -> dict[str, Any]:
    """trade_list: of a party or of a product in the order of creation, else in the order of ids."""
    caller = require_login(context.caller())
    party = whose(caller, Subject.TRADE, optional_id(Prefix.ACCOUNT, params.party))
    page = await open_page(context, params, TRADE_LIST)
    rows = _rows(Reader(page.snapshot.view), caller, party, page.after, params)
    trades, following = take(rows, page, params.limit, TRADE_LIST)
    return {**origin(page.snapshot), "trades": trades, "next": following}


def _rows(
    state: Reader, caller: Caller, party: bytes | None, after: bytes | None, params: TradeListParams
) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
    product = None if params.product is None else form.parse_id(Prefix.PRODUCT, params.product)
    first = 0 if params.from_ is None else form.parse_time(params.from_)
    end = None if params.to is None else form.parse_time(params.to)
    ordered = params.trade is None and (party is not None or product is not None)
    for key, name in _keys(state, after, params, party, product, first):
        record = state.get(TRADES, name)
        if record is None:
            raise forbidden()
        if ordered and end is not None and record.created_at >= end:
            return
        parties = frozenset({record.buyer, record.seller})
        if params.trade is not None and not may_see_parties(caller, Subject.TRADE, parties):
            raise forbidden()
        wanted = (
            (party is None or party in parties)
            and product in (None, record.product)
            and params.status in (None, record.status)
            and first <= record.created_at
            and (end is None or record.created_at < end)
        )
        yield key, _view(name, record) if wanted else None


def _keys(
    state: Reader,
    after: bytes | None,
    params: TradeListParams,
    party: bytes | None,
    product: bytes | None,
    first: int,
) -> Iterator[tuple[bytes, bytes]]:
    """(place in the scan, trade id) pairs, through the index that the filters allow, from the first time on."""
    if params.trade is not None:
        name = form.parse_id(Prefix.TRADE, params.trade)
        yield from [(name, name)] if after is None else []
    elif party is not None:
        start = party + OPEN_TRADE
        for suffix, _ in state.scan(TRADING_BY_ACCOUNT, start, after or start + integer(first)):
            yield suffix, suffix[-32:]
    elif product is not None:
        start = product + OPEN_TRADE
        for suffix, _ in state.scan(TRADING_BY_PRODUCT, start, after or start + integer(first)):
            yield suffix, suffix[-32:]
    else:
        for suffix, _ in state.scan(TRADES, b"", after):
            yield suffix, suffix


def _view(name: bytes, record: Trade) -> dict[str, Any]:
    return {"id": form.trade(name), "trade": render(record)}

"""The method that reads an account's movements: for the holder, and row by row for custodians and issuers."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from otcnode.ids import Prefix
from otcnode.rpc import format as form
from otcnode.rpc.access import Caller, Subject, forbidden, may_see_parties, require_login
from otcnode.rpc.events import AFTER_BLOCK, Cursor, decoded_receipt, require_kept
from otcnode.rpc.listing import RangeParams, span_of
from otcnode.rpc.method import Context, Page, ReadResult, Result, following, open_page, origin
from otcnode.rpc.reader import Reader
from otcnode.rpc.service import HeightUnavailable, NodeService
from otcnode.vm.accounts.events import CashMoved, UnitsMoved
from otcnode.vm.accounts.records import CASH_ASSETS
from otcnode.vm.event_index import places
from otcnode.vm.products.records import PRODUCTS_BY_ISSUER
from otcnode.vm.results import AutomaticReceipt, Receipt

ACCOUNT_STATEMENT = "account_statement"
BLOCKS_PER_PAGE_MAX = 500
_KEY = struct.Struct(">QI")
"""A place in a statement: height, number of the event in its block."""


class StatementParams(RangeParams, frozen=True):
    """Filters are ANDed; `from` and `to` are of block time. `asset` is a cash id or a product id."""

    account: form.AccountText
    asset: str | None = None


class Movement(Result, frozen=True):
    """Signed changes, in the units of `asset`, by `transaction`, or by the due item `automatic` (its kind) where that
    is null. `cursor` is the event's, as in events_list."""

    cursor: str
    height: int
    time: form.Time
    transaction: form.TransactionText | None
    automatic: str | None
    asset: str
    balance: form.Integer
    locked: form.Integer
    frozen: form.Integer


class StatementResult(ReadResult, frozen=True, kw_only=True):
    """Movements in the order in which they happened, those a custodian or an issuer may see where it is one of them
    that asks. A page may hold fewer than `limit` and still have a `next`."""

    account: form.AccountText
    movements: list[Movement]
    next: str | None


class _Sight(NamedTuple):
    """The assets whose movements the caller sees; None is all of them."""

    assets: frozenset[bytes] | None
    wanted: str | None

    def holds(self, asset: bytes) -> bool:
        return (self.assets is None or asset in self.assets) and self.wanted in (None, form.asset(asset))


async def account_statement(context: Context, params: StatementParams) -> StatementResult:
    """account_statement: from the index of events, which is kept as long as the blocks. Raises HeightUnavailable where
    the statement would begin in blocks that are no longer kept, so that a part never passes for the whole."""
    caller, service = require_login(context.caller()), context.service
    account = form.parse_id(Prefix.ACCOUNT, params.account)
    page = await open_page(context, params, ACCOUNT_STATEMENT)
    sight = _Sight(_assets(Reader(page.snapshot.view), caller, account), params.asset)
    span, tip = span_of(params), page.snapshot.height
    if page.after is None:
        _require_kept(service, span.first, tip)
        last = Cursor(first_height(service, span.first, tip) - 1, AFTER_BLOCK)
    else:
        last = Cursor(*_KEY.unpack(page.after))
        require_kept(service, last)
    movements: list[Movement] = []
    after = last
    for looked, (height, entry) in enumerate(service.event_places(account, max(0, after.height - 1))):
        if height > tip or span.is_before(service.header(height).time_ms):
            break
        if looked == BLOCKS_PER_PAGE_MAX:
            return _result(page, account, movements, last)
        for movement in _movements(service, account, height, entry, after, sight):
            if len(movements) == params.limit:
                return _result(page, account, movements, last)
            last = movement[0]
            movements.append(movement[1])
        last = Cursor(height, AFTER_BLOCK)
        await asyncio.sleep(0)  # a page may read many blocks: others get their turn in between
    return _result(page, account, movements, None)


def _require_kept(service: NodeService, first_ms: int, tip: int) -> None:
    below = service.blocks_first - 1
    if below and service.header(below).time_ms >= first_ms:
        raise HeightUnavailable(service.blocks_first, tip)


def first_height(service: NodeService, time_ms: int, tip: int) -> int:
    """The lowest kept height whose block is at `time_ms` or later; tip + 1 where there is none."""
    low, high = service.blocks_first, tip + 1
    while low < high:
        middle = (low + high) // 2
        if service.header(middle).time_ms < time_ms:
            low = middle + 1
        else:
            high = middle
    return low


def _result(page: Page, account: bytes, movements: list[Movement], last: Cursor | None) -> StatementResult:
    return StatementResult(
        **origin(page.snapshot),
        account=form.account(account),
        movements=movements,
        next=None if last is None else following(page, ACCOUNT_STATEMENT, _KEY.pack(*last)),
    )


def _assets(state: Reader, caller: Caller, account: bytes) -> frozenset[bytes] | None:
    """What `caller` may see of the account. Raises RpcError(−32003) where that can never be anything."""
    if may_see_parties(caller, Subject.POSITION, frozenset({account})):
        return None
    cash = {name for name, asset in state.scan(CASH_ASSETS) if asset.custodian == caller.account}
    products = {suffix[32:] for suffix, _ in state.scan(PRODUCTS_BY_ISSUER, caller.account)}
    if not cash and not products:
        raise forbidden()
    return frozenset(cash | products)


def _movements(
    service: NodeService, account: bytes, height: int, entry: bytes, after: Cursor, sight: _Sight
) -> Iterator[tuple[Cursor, Movement]]:
    """The account's movements in one block, after the cursor, with their own cursors."""
    receipts, time = service.receipts(height), form.time(service.header(height).time_ms)
    for leaf, group in groupby(places(entry), key=lambda place: place.leaf):
        receipt = decoded_receipt(receipts.automatic, receipts.transactions, leaf)
        for place in group:
            event, cursor = receipt.events[place.offset], Cursor(height, place.number)
            if not isinstance(event, CashMoved | UnitsMoved) or event.account != account or cursor <= after:
                continue
            asset = event.cash.encode() if isinstance(event, CashMoved) else event.product
            if sight.holds(asset):
                yield cursor, _shown(cursor, time, receipt, asset, event)


def _shown(
    cursor: Cursor, time: form.Time, receipt: AutomaticReceipt | Receipt, asset: bytes, event: CashMoved | UnitsMoved
) -> Movement:
    return Movement(
        str(cursor),
        cursor.height,
        time,
        form.transaction(receipt.transaction) if isinstance(receipt, Receipt) else None,
        None if isinstance(receipt, Receipt) else receipt.kind,
        form.asset(asset),
        str(event.balance),
        str(event.locked),
        str(event.frozen),
    )

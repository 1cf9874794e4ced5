"""What a package must show of a trade: who agreed to it, under which contract, and how it ended. Pure."""

from __future__ import annotations

from msgspec.structs import asdict

from otcnode.codec import Record
from otcnode.evidence.acts import Act, act_of, acts_on, check_act
from otcnode.evidence.opened import Opened
from otcnode.evidence.verdict import Outcome, Refused
from otcnode.types import AccountId, Bytes32, Height, Milliseconds, Natural
from otcnode.vm.accounts.events import CashMoved, UnitsMoved
from otcnode.vm.context import created_id
from otcnode.vm.events import Event
from otcnode.vm.rules import Scope
from otcnode.vm.trades.events import TradeChanged, TradeExecuted
from otcnode.vm.trades.operations import OfferTake, QuoteRespond, TradeAffirm, TradePropose
from otcnode.vm.trades.records import TRADES, Trade, TradeStatus


class CashChange(Record, frozen=True):
    account: AccountId
    cash: str
    change: int


class UnitsChange(Record, frozen=True):
    account: AccountId
    product: Bytes32
    change: int


class Settlement(Record, frozen=True):
    """The one step in which both legs changed hands; `cash` and `units` are the parties' signed changes of balance, in
    minor units and in the product's smallest units, and whatever else that step moved."""

    height: Height
    time_ms: Milliseconds
    cash: tuple[CashChange, ...]
    units: tuple[UnitsChange, ...]


class TradeFacts(Record, frozen=True):
    """What is proven of a trade as of the block at `as_of_height`. Money is in minor units, `price` in 10^-4, times are
    ledger milliseconds. `source` is the offer or quote it came from, whose taking is then the proposal."""

    trade: Bytes32
    buyer: AccountId
    seller: AccountId
    product: Bytes32
    quantity: Natural
    price: Natural
    clean: Natural
    accrued: Natural
    fee: Natural
    contract: Bytes32
    source: Bytes32 | None
    status: TradeStatus
    proposed: Act
    affirmed: Act | None
    settlement: Settlement | None
    as_of_height: Height
    as_of_ms: Milliseconds


def trade_facts(opened: Opened) -> TradeFacts:
    """Raises Refused."""
    trade = opened.get(TRADES, opened.subject, "the trade")
    proposed = _proposal(opened, trade)
    check_act(opened, "the proposal", proposed, Scope.TRADE)
    affirmed = None
    if trade.source is None and trade.executed_at is not None:
        affirmed = _affirmation(opened)
        check_act(opened, "the affirmation", affirmed, Scope.TRADE)
    if trade.executed_at is not None and not _told(opened, trade):
        raise Refused(Outcome.INCOMPLETE, "the receipt that says that the trade was agreed is not in the package")
    return TradeFacts(
        opened.subject,
        trade.buyer,
        trade.seller,
        trade.product,
        trade.quantity,
        trade.price,
        trade.clean,
        trade.accrued,
        trade.fee,
        trade.contract,
        trade.source,
        trade.status,
        proposed,
        affirmed,
        _settlement(opened) if trade.status is TradeStatus.SETTLED else None,
        opened.last.height,
        opened.last.time_ms,
    )


def _proposal(opened: Opened, trade: Trade) -> Act:
    """The operation that the trade's id is made of."""
    wanted: tuple[type, ...] = (TradePropose,) if trade.source is None else (OfferTake, QuoteRespond)
    for transaction in opened.transactions:
        for kind in wanted:
            for index, _ in transaction.operations(kind):
                if created_id(transaction.decoded.id, index) == opened.subject:
                    return act_of(transaction)
    raise Refused(Outcome.INCOMPLETE, "the transaction that made the trade is not in the package")


def _affirmation(opened: Opened) -> Act:
    for act, _ in acts_on(opened, TradeAffirm, "trade"):
        return act
    raise Refused(Outcome.INCOMPLETE, "the transaction that affirmed the trade is not in the package")


def _told(opened: Opened, trade: Trade) -> bool:
    """Whether a receipt tells of exactly this agreement."""
    wanted = asdict(trade)
    for _, events in _receipts(opened):
        for event in events:
            if isinstance(event, TradeExecuted) and event.trade == opened.subject:
                return all(wanted[field] == value for field, value in asdict(event).items() if field != "trade")
    return False


def _receipts(opened: Opened) -> list[tuple[tuple[int, int], tuple[Event, ...]]]:
    """((height, time), events) of every receipt in the package."""
    automatic = [((header.height, header.time_ms), receipt.events) for header, receipt in opened.automatic]
    return automatic + [((t.header.height, t.header.time_ms), t.receipt.events) for t in opened.transactions]


def _settlement(opened: Opened) -> Settlement:
    for (height, time_ms), events in _receipts(opened):
        if any(_says_settled(event, opened.subject) for event in events):
            cash = [CashChange(e.account, e.cash, e.balance) for e in events if isinstance(e, CashMoved) and e.balance]
            units = [UnitsChange(e.account, e.product, e.balance) for e in events if isinstance(e, UnitsMoved)]
            return Settlement(height, time_ms, tuple(cash), tuple([leg for leg in units if leg.change]))
    raise Refused(Outcome.INCOMPLETE, "the receipt of the settlement is not in the package")


def _says_settled(event: Event, trade: bytes) -> bool:
    return isinstance(event, TradeChanged) and event.trade == trade and event.status is TradeStatus.SETTLED

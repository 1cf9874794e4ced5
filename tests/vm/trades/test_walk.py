"""Every state of every machine against every operation: a transition of its table, or refused without a trace."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TypeAlias, TypeVar

import pytest

from otcnode.errors import Code
from otcnode.vm.operations import Operation
from otcnode.vm.trades.operations import (
    Counter,
    Hit,
    OfferCancel,
    OfferTake,
    Pass,
    QuoteCancel,
    QuoteRespond,
    RfqCancel,
    TradeAffirm,
    TradeCancel,
    TradeReject,
    TradeWithdraw,
)
from otcnode.vm.trades.records import (
    OFFER_TRANSITIONS,
    QUOTE_TRANSITIONS,
    RFQ_TRANSITIONS,
    TRADE_TRANSITIONS,
    Offer,
    OfferStatus,
    Quote,
    QuoteStatus,
    Rfq,
    RfqStatus,
    Trade,
    TradeStatus,
)
from tests.vm.ledger import DAY_MS
from tests.vm.trades.floor import HOUR_MS, Floor

S = TypeVar("S", bound=StrEnum)
_T, _O, _R, _Q = TradeStatus, OfferStatus, RfqStatus, QuoteStatus
Acts: TypeAlias = dict[str, tuple[str, Callable[[bytes], Operation]]]
"""Name of an act to who does it and the operation on the item."""

TRADE_ACTS: Acts = {
    "affirm": ("BEN", TradeAffirm),
    "reject": ("BEN", TradeReject),
    "withdraw": ("SAM", TradeWithdraw),
    "cancel": ("SAM", TradeCancel),
}
TRADE_TABLE: dict[TradeStatus, dict[str, Code]] = {
    _T.PROPOSED: {"affirm": Code.OK, "reject": Code.OK, "withdraw": Code.OK, "cancel": Code.STATE},
    _T.REJECTED: dict.fromkeys(TRADE_ACTS, Code.STATE),
    _T.WITHDRAWN: dict.fromkeys(TRADE_ACTS, Code.STATE),
    _T.EXPIRED: {**dict.fromkeys(TRADE_ACTS, Code.EXPIRED), "cancel": Code.STATE},
    _T.LOCKED: {**dict.fromkeys(TRADE_ACTS, Code.STATE), "cancel": Code.OK},
    # settled or failed at settle_at, when the time for all acts on it was over
    _T.SETTLED: dict.fromkeys(TRADE_ACTS, Code.EXPIRED),
    _T.FAILED: dict.fromkeys(TRADE_ACTS, Code.EXPIRED),
    _T.CANCELLED: dict.fromkeys(TRADE_ACTS, Code.STATE),
}


def trade_in(floor: Floor, status: TradeStatus) -> bytes:
    name = floor.propose()
    trade = floor.trade(name)
    assert trade.affirm_by is not None and trade.settle_at is not None
    match status:
        case _T.REJECTED:
            floor.act("BEN", TradeReject(name))
        case _T.WITHDRAWN:
            floor.act("SAM", TradeWithdraw(name))
        case _T.EXPIRED:
            floor.block(at=trade.affirm_by)
        case _T.LOCKED | _T.SETTLED | _T.FAILED | _T.CANCELLED:
            floor.act("BEN", TradeAffirm(name))
    match status:
        case _T.FAILED:
            floor.freeze("SAM")
            floor.block(at=trade.settle_at)
        case _T.SETTLED:
            floor.block(at=trade.settle_at)
        case _T.CANCELLED:
            floor.act("SAM", TradeCancel(name))
            floor.act("BEN", TradeCancel(name))
    assert floor.trade(name).status is status
    return name


OFFER_ACTS: Acts = {"take": ("BEN", lambda name: OfferTake(name, 5)), "cancel": ("SAM", OfferCancel)}
OFFER_TABLE: dict[OfferStatus, dict[str, Code]] = {
    _O.OPEN: dict.fromkeys(OFFER_ACTS, Code.OK),
    _O.FILLED: dict.fromkeys(OFFER_ACTS, Code.STATE),
    _O.CANCELLED: dict.fromkeys(OFFER_ACTS, Code.STATE),
    _O.EXPIRED: dict.fromkeys(OFFER_ACTS, Code.EXPIRED),
}


def offer_in(floor: Floor, status: OfferStatus) -> bytes:
    name = floor.list_offer()
    match status:
        case _O.FILLED:
            floor.take(name, 50)
        case _O.CANCELLED:
            floor.act("SAM", OfferCancel(name))
        case _O.EXPIRED:
            floor.block(at=floor.offer(name).until)
    assert floor.offer(name).status is status
    return name


def rfq_in(floor: Floor, status: RfqStatus) -> bytes:
    name = floor.ask()
    quote = floor.submit("SAM", name)
    match status:
        case _R.FILLED:
            floor.act("BEN", QuoteRespond(quote, Hit(20, None)))
        case _R.PASSED:
            floor.act("BEN", QuoteRespond(quote, Pass()))
        case _R.CANCELLED:
            floor.act("BEN", RfqCancel(name))
        case _R.EXPIRED:
            floor.block(at=floor.rfq(name).until)
    assert floor.rfq(name).status is status
    return name


QUOTE_ACTS: Acts = {
    "cancel": ("SAM", QuoteCancel),
    "hit": ("BEN", lambda name: QuoteRespond(name, Hit(20, None))),
    "counter": ("BEN", lambda name: QuoteRespond(name, Counter(1))),
    "pass": ("BEN", lambda name: QuoteRespond(name, Pass())),
}
QUOTE_TABLE: dict[QuoteStatus, dict[str, Code]] = {
    **{status: dict.fromkeys(QUOTE_ACTS, Code.STATE) for status in QuoteStatus},
    _Q.ACTIVE: dict.fromkeys(QUOTE_ACTS, Code.OK),
    _Q.EXPIRED: dict.fromkeys(QUOTE_ACTS, Code.EXPIRED),
}


def quote_in(floor: Floor, status: QuoteStatus) -> bytes:
    rfq = floor.ask()
    name = floor.submit("SAM", rfq)
    other = floor.submit("OWN", rfq, firm=status is not _Q.DONE_AWAY)
    match status:
        case _Q.HIT:
            floor.act("BEN", QuoteRespond(name, Hit(20, None)))
        case _Q.COUNTERED:
            floor.act("BEN", QuoteRespond(name, Counter(1)))
        case _Q.COVER:
            floor.act("BEN", QuoteRespond(other, Hit(20, None)))
        case _Q.DONE_AWAY:
            floor.act("BEN", QuoteRespond(other, Pass()))
        case _Q.CANCELLED:
            floor.act("SAM", QuoteCancel(name))
        case _Q.EXPIRED:
            floor.block(at=floor.quote(name).until)
    assert floor.quote(name).status is status
    return name


def check(floor: Floor, acts: Acts, expected: dict[str, Code], name: bytes, act: str) -> None:
    by, make = acts[act]
    before = {key: value for key, value in floor.view.values.items() if key[:1] != b"\x02"}
    floor.act(by, make(name), code=expected[act])
    after = {key: value for key, value in floor.view.values.items() if key[:1] != b"\x02"}
    assert (before == after) == (expected[act] is not Code.OK)


@pytest.mark.parametrize("act", TRADE_ACTS)
@pytest.mark.parametrize("status", TRADE_TABLE)
def test_trades(status: TradeStatus, act: str) -> None:
    floor = Floor()
    name = trade_in(floor, status)
    check(floor, TRADE_ACTS, TRADE_TABLE[status], name, act)
    assert floor.trade(name).status in reached(TRADE_TRANSITIONS, status, through=_T.EXECUTED)


@pytest.mark.parametrize("act", OFFER_ACTS)
@pytest.mark.parametrize("status", OFFER_TABLE)
def test_offers(status: OfferStatus, act: str) -> None:
    floor = Floor()
    name = offer_in(floor, status)
    check(floor, OFFER_ACTS, OFFER_TABLE[status], name, act)
    assert floor.offer(name).status in reached(OFFER_TRANSITIONS, status)


@pytest.mark.parametrize("status", RfqStatus)
@pytest.mark.parametrize("act", ["cancel", "quote"])
def test_requests(status: RfqStatus, act: str) -> None:
    floor = Floor()
    name = rfq_in(floor, status)
    acts: Acts = {
        "cancel": ("BEN", RfqCancel),
        "quote": ("OWN", lambda name: floor.quoting(name, until=max(floor.rfq(name).until, floor.now + 2))),
    }
    code = {_R.OPEN: Code.OK, _R.EXPIRED: Code.EXPIRED}.get(status, Code.STATE)
    check(floor, acts, {act: code}, name, act)
    assert floor.rfq(name).status in reached(RFQ_TRANSITIONS, status)


@pytest.mark.parametrize("act", QUOTE_ACTS)
@pytest.mark.parametrize("status", QuoteStatus)
def test_quotes(status: QuoteStatus, act: str) -> None:
    floor = Floor()
    name = quote_in(floor, status)
    check(floor, QUOTE_ACTS, QUOTE_TABLE[status], name, act)
    assert floor.quote(name).status in reached(QUOTE_TRANSITIONS, status)


def reached(transitions: dict[S, frozenset[S]], status: S, through: S | None = None) -> set[S]:
    """The status itself and what may follow it, also through one that is only passed."""
    following = set(transitions.get(status, ()))
    if through in following:
        following |= transitions[through]
    return {status, *following}


def test_the_tables_name_every_state_that_is_ever_stored() -> None:
    assert set(TRADE_TABLE) == set(TradeStatus) - {_T.EXECUTED}
    assert set(OFFER_TABLE) == set(OfferStatus)
    assert set(QUOTE_TABLE) == set(QuoteStatus)


def test_an_act_after_its_deadline_is_expired_even_while_the_queue_is_behind() -> None:
    """With a budget of one item per block the queue marks them one after the other; the answers are the same."""
    floor = Floor()
    trades = [floor.propose() for _ in range(4)]
    until = floor.now + HOUR_MS
    rfq = floor.ask(until=until)
    quotes = [floor.submit(name, rfq, until=until) for name in ("SAM", "OWN")]
    offer = floor.list_offer(quantity=5, until=until)
    floor.limit(due_class1_weight_max=1)
    floor.block(at=until + DAY_MS)
    assert floor.trade(trades[-1]).status is _T.PROPOSED
    assert floor.offer(offer).status is _O.OPEN
    for operation in (TradeAffirm(trades[-1]), TradeReject(trades[-1]), OfferTake(offer, 5), RfqCancel(rfq)):
        floor.act("BEN", operation, code=Code.EXPIRED)
    for response in (Hit(20, None), Counter(1), Pass()):
        floor.act("BEN", QuoteRespond(quotes[0], response), code=Code.EXPIRED)
    floor.act("SAM", TradeWithdraw(trades[-1]), code=Code.EXPIRED)
    floor.act("OWN", QuoteCancel(quotes[1]), code=Code.EXPIRED)
    floor.limit(due_class1_weight_max=100)
    floor.block()
    assert floor.nothing_is_open("SAM", "BEN", "OWN")
    assert floor.quote(quotes[0]).ended_at == until


def test_a_trade_whose_settlement_is_late_can_no_longer_be_cancelled() -> None:
    floor = Floor()
    settle_at = floor.now + HOUR_MS
    trades = [floor.locked(quantity=1, affirm_by=settle_at, settle_at=settle_at) for _ in range(3)]
    floor.limit(due_weight_max=1)
    floor.block(at=settle_at)
    assert [floor.trade(name).status for name in trades] == [_T.SETTLED, _T.LOCKED, _T.LOCKED]
    floor.act("BEN", TradeCancel(trades[2]), at=settle_at, code=Code.EXPIRED)
    assert [floor.trade(name).ended_at for name in trades] == [settle_at] * 3


def lagging(floor: Floor, until: int) -> tuple[bytes, bytes, bytes, bytes]:
    """An offer, a request with a quote, and a proposal of SAM, all over at `until`, by a queue that takes its time."""
    offer, rfq = floor.list_offer(quantity=5, until=until), floor.ask(until=until, quantity=5)
    quote = floor.submit("SAM", rfq, until=until)
    trade = floor.propose(affirm_by=until, settle_at=until + DAY_MS)
    floor.limit(due_class1_weight_max=1)
    return offer, rfq, quote, trade


def test_what_is_ended_from_outside_after_its_time_had_expired_before() -> None:
    floor = Floor()
    until = floor.now + HOUR_MS
    offer, rfq, quote, _ = lagging(floor, until)
    floor.freeze_at("SAM", until)
    assert (floor.offer(offer).status, floor.offer(offer).ended_at) == (_O.EXPIRED, until)
    assert (floor.quote(quote).status, floor.quote(quote).ended_at) == (_Q.EXPIRED, until)
    assert (floor.rfq(rfq).status, floor.rfq(rfq).ended_at) == (_R.EXPIRED, until)


def test_maturity_finds_what_had_expired_before_it() -> None:
    floor = Floor()
    maturity = floor.product_terms(floor.note).maturity_ms
    floor.deposit("ISS", 20_000_00)
    floor.advance(maturity - DAY_MS - HOUR_MS)
    until = maturity - DAY_MS - 1
    offer, rfq, quote, trade = lagging(floor, until)
    assert floor.catch_up(maturity) == 2
    floor.block(at=maturity)
    found: list[Offer | Rfq | Quote | Trade] = [
        floor.offer(offer),
        floor.rfq(rfq),
        floor.quote(quote),
        floor.trade(trade),
    ]
    assert [(item.status.value, item.ended_at) for item in found] == [("EXPIRED", until)] * 4

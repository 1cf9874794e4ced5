"""Random trading: whatever is tried, every invariant holds after every block, and the cut into blocks is no matter."""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache, partial
from random import Random
from typing import Any, TypeAlias, TypeVar

import pytest

from otcnode.crypto import sha256
from otcnode.vm.accounts.events import AccountUnfrozen, CashMoved, UnitsMoved, UnitsTotalMoved
from otcnode.vm.accounts.operations import AccountFreeze, AccountUnfreeze, InvestorCertify
from otcnode.vm.accounts.records import ACCOUNTS, FREEZES, Category
from otcnode.vm.contracts.records import ContractKind
from otcnode.vm.due import next_due
from otcnode.vm.keys import Table
from otcnode.vm.operations import Operation
from otcnode.vm.products.operations import ProductResume, ProductSuspend
from otcnode.vm.results import AutomaticReceipt, BlockResult, Receipt
from otcnode.vm.trades.events import OfferChanged, QuoteChanged, RfqChanged, TradeChanged
from otcnode.vm.trades.operations import (
    Counter,
    Hit,
    OfferCancel,
    OfferList,
    OfferTake,
    Pass,
    QuoteCancel,
    QuoteRespond,
    QuoteSubmit,
    Response,
    Reveal,
    RfqCancel,
    RfqCreate,
    TradeAffirm,
    TradeCancel,
    TradePropose,
    TradeReject,
    TradeWithdraw,
)
from otcnode.vm.trades.records import (
    OFFER_TRANSITIONS,
    OFFERS,
    QUOTE_TRANSITIONS,
    QUOTES,
    RFQ_TRANSITIONS,
    RFQS,
    TRADE_TRANSITIONS,
    TRADES,
    Offer,
    OfferStatus,
    Quote,
    QuoteStatus,
    Rfq,
    RfqStatus,
    Side,
    Trade,
    TradeStatus,
    quote_commitment,
)
from tests.vm.ledger import DAY_MS, EVIDENCE
from tests.vm.products.market import FIRST_PAY
from tests.vm.trades.floor import HOUR_MS, ORDER, Floor

TRADERS = ("SAM", "OWN", "BEN", "EVE")
R = TypeVar("R", Trade, Offer, Rfq, Quote)
V = TypeVar("V")
TradeAct: TypeAlias = TradeAffirm | TradeCancel | TradeReject | TradeWithdraw
SALT = sha256(b"salt")
SEALED_PRICE = 100_5000
STARTING = {OfferStatus.OPEN, RfqStatus.OPEN, QuoteStatus.ACTIVE}
SPANS = (1, 999, 1_000, HOUR_MS, HOUR_MS + 1, DAY_MS - 1, DAY_MS, 3 * DAY_MS)
MACHINES: tuple[tuple[Table[Any], Mapping[Any, object]], ...] = (
    (TRADES, TRADE_TRANSITIONS),
    (OFFERS, OFFER_TRANSITIONS),
    (RFQS, RFQ_TRANSITIONS),
    (QUOTES, QUOTE_TRANSITIONS),
)


@cache
def ready() -> Floor:
    """Two holders and two with cash; a cap of three holders, a lock-up, a turnaround, and a coupon in four days."""
    floor = Floor(
        lockup_days=1,
        turnaround_days=1,
        max_holders=3,
        pay_dates=(FIRST_PAY - 87, FIRST_PAY + 91),
        trade_fee_ppm=3_333,
    )
    floor.investor("EVE", 7_500_00)
    for name in ("SAM", "OWN"):
        floor.deposit(name, 1_234_56)
    floor.deposit("ISS", 2_000_00)
    floor.block(at=floor.now + 23 * HOUR_MS)
    floor.master = floor.contract(ContractKind.MASTER, None, TRADERS)
    return floor


@dataclass(slots=True)
class Play:
    """What was sent when, so that it can be sent again with other empty blocks in between."""

    floor: Floor
    eager: bool
    sent: list[tuple[int, str, Operation]] = field(default_factory=list)
    ended: dict[bytes, object] = field(default_factory=dict)

    def send(self, at: int, by: str, operation: Operation) -> None:
        self.sent.append((at, by, operation))
        decoded = self.floor.sign(by, operation, valid_until=at + 1)
        while self.eager and (due := next_due(self.floor.view)) is not None and due < at:
            self.watch(partial(self.floor.block, at=due))
        self.watch(partial(self.floor.block, decoded, at=at))

    def watch(self, run: Callable[[], BlockResult]) -> None:
        floor = self.floor
        frozen = {
            name: floor.figures(name)
            for name in TRADERS
            if (account := floor.state.get(ACCOUNTS, floor.ids[name])) is not None and account.full_freezes
        }
        suspended = floor.product(floor.note).suspended
        result = run()
        self.conserved(result)
        freed = {event.account for event in result.events if isinstance(event, AccountUnfrozen)}
        for name, before in frozen.items():
            assert floor.ids[name] in freed or sum(floor.figures(name)) >= sum(before), f"16: {name}"
        for event in result.events:
            if isinstance(event, TradeChanged) and event.status is TradeStatus.SETTLED:
                assert not suspended, "32"
                account = floor.state.get(ACCOUNTS, event.buyer)
                assert account is not None and account.certificate is not None, "17"
        self.terminal()

    def conserved(self, result: BlockResult) -> None:
        """7, 24: no cash is made or burnt here, and units only at maturity, so every movement has its other side."""
        receipts: list[AutomaticReceipt | Receipt] = [*result.automatic, *result.receipts]
        for receipt in receipts:
            sums: Count[bytes | str] = Count()
            for event in receipt.events:
                if isinstance(event, CashMoved):
                    sums[event.cash] += event.balance
                elif isinstance(event, UnitsMoved):
                    sums[event.product] += event.balance
                elif isinstance(event, UnitsTotalMoved):
                    sums[event.product] -= event.issued - event.redeemed
            assert not any(sums.values())

    def terminal(self) -> None:
        """20: what has ended never changes."""
        for table, transitions in MACHINES:
            for name, record in self.floor.state.scan(table):
                if record.status not in transitions:
                    assert self.ended.setdefault(name, record) == record


class Chooser:
    """Plausible acts of somebody, on the right item more often than not. The same seed makes the same acts."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def pick(self, values: Iterable[V]) -> V:
        return self._random.choice(list(values))

    def rarely(self) -> bool:
        return self._random.random() < 0.1

    def span(self) -> int:
        return self.pick((*[1] * 40, *SPANS))

    def act(self, floor: Floor) -> tuple[str, Operation]:
        acts: list[Callable[[Floor], tuple[str, Operation] | None]] = [self._propose, self._list, self._ask, self._ask]
        acts += [self._on_trade] * 5 + [self._on_offer] * 4 + [self._on_request] * 7 + [self._on_quote] * 3
        if self.rarely():
            acts = [self._supervise]
        found = None
        while found is None:
            found = self.pick(acts)(floor)
        return found

    def _terms(self, floor: Floor) -> tuple[str, Side, int, int, int, int | None]:
        """(who, its side, quantity, price, until, settle_at); who holds units sells more often than not."""
        by = self.pick(TRADERS)
        side = Side.SELL if floor.holds(by)[0] and not self.rarely() else self.pick(Side)
        until = floor.now + self.pick(SPANS[3:]) + 1
        settle_at = self.pick((None, until, until + 1, until + DAY_MS))
        return by, side, self.pick((1, 2, 7, 20, 40)), self.pick((99_9999, 101_2345, 150_0001)), until, settle_at

    def _others(self, by: str) -> list[str]:
        return [name for name in TRADERS if name != by]

    def _propose(self, floor: Floor) -> tuple[str, Operation]:
        by, side, quantity, price, until, settle_at = self._terms(floor)
        other = floor.ids[self.pick(self._others(by))]
        if settle_at is None:
            until = min(until, floor.now + DAY_MS)
        return by, TradePropose(other, side, floor.note, quantity, price, floor.master, until, settle_at)

    def _list(self, floor: Floor) -> tuple[str, Operation]:
        by, side, quantity, price, until, _ = self._terms(floor)
        cap = self.pick((500_00, 1_000_00, 4_000_00)) if side is Side.BUY else 0
        least = self.pick((min(2, quantity), quantity))
        not_before = self.pick((0, 0, until - 1))
        return by, OfferList(
            side, floor.note, quantity, price, floor.master, least, least == quantity, not_before, until, (), cap
        )

    def _ask(self, floor: Floor) -> tuple[str, Operation]:
        by, side, quantity, _, until, settle_at = self._terms(floor)
        responders = floor.named(*self._others(by))
        return by, RfqCreate(side.opposite, floor.note, quantity, floor.master, responders, until, settle_at)

    def _item(self, floor: Floor, table: Table[R], transitions: Mapping[Any, object]) -> tuple[bytes, R] | None:
        """One that stands, rarely one that has ended."""
        standing = [entry for entry in floor.state.scan(table) if entry[1].status in transitions]
        if standing and not self.rarely():
            return self.pick(standing)
        entries = floor.state.scan(table)
        return self.pick(entries) if entries and self.rarely() else None

    def _on_trade(self, floor: Floor) -> tuple[str, Operation] | None:
        found = self._item(floor, TRADES, TRADE_TRANSITIONS)
        if found is None:
            return None
        name, trade = found
        kinds: list[type[TradeAct]] = [*[TradeAffirm] * 9, *[TradeCancel] * 3, TradeReject, TradeWithdraw]
        kind = self.pick(kinds)
        by = trade.proposer if kind is TradeWithdraw else trade.counterparty
        if kind is TradeCancel:
            by = self.pick((trade.buyer, trade.seller))
        return _name(floor, by), kind(name)

    def _on_offer(self, floor: Floor) -> tuple[str, Operation] | None:
        found = self._item(floor, OFFERS, OFFER_TRANSITIONS)
        if found is None:
            return None
        name, offer = found
        if self.rarely():
            return _name(floor, offer.account), OfferCancel(name)
        by = self.pick(self._others(_name(floor, offer.account)))
        return by, OfferTake(name, self.pick((2, 7, offer.min_fill, offer.remaining or 1)))

    def _on_request(self, floor: Floor) -> tuple[str, Operation] | None:
        found = self._item(floor, RFQS, RFQ_TRANSITIONS)
        if found is None:
            return None
        name, request = found
        if self.rarely():
            return _name(floor, request.requester), RfqCancel(name)
        by = _name(floor, self.pick(request.responders))
        price = self.pick((99_9999, 100_0000))
        valid = self.pick((request.until, request.until, min(floor.now + 1_000, request.until)))
        if self.rarely():
            return by, QuoteSubmit(name, False, price, None, 0, valid)
        if not self.rarely():
            return by, QuoteSubmit(name, True, price, None, 0, valid)
        commitment = quote_commitment(name, floor.ids[by], SEALED_PRICE, SALT)
        cap = 3_000_00 if request.side is Side.SELL else 0
        return by, QuoteSubmit(name, True, None, commitment, cap, valid)

    def _on_quote(self, floor: Floor) -> tuple[str, Operation] | None:
        found = self._item(floor, QUOTES, QUOTE_TRANSITIONS)
        if found is None:
            return None
        name, quote = found
        if self.rarely():
            return _name(floor, quote.responder), QuoteCancel(name)
        request = floor.rfq(quote.rfq)
        reveal = Reveal(SEALED_PRICE, SALT) if quote.commitment is not None else None
        response: Response = Hit(self.pick((1, request.quantity)), reveal)
        if self.rarely():
            response = Counter(SEALED_PRICE) if self.pick((True, False)) else Pass()
        return _name(floor, request.requester), QuoteRespond(name, response)

    def _supervise(self, floor: Floor) -> tuple[str, Operation]:
        account = floor.ids[self.pick(TRADERS)]
        until = floor.now + self.pick(SPANS[1:])
        freezes = [key for key, _ in floor.state.scan(FREEZES)]
        certificate = InvestorCertify(account, 3, Category.QUALIFIED, until + DAY_MS, self.pick((1, 2)), EVIDENCE)
        choices: list[tuple[str, Operation]] = [
            ("FRZ", AccountFreeze(account, None, 0, ORDER, until)),
            ("REG", AccountFreeze(account, None, 0, ORDER, until)),
            ("REG", AccountUnfreeze(self.pick([*freezes, bytes(32)]), ORDER)),
            ("KYC", certificate),
            ("LIST", ProductSuspend(floor.note, "rumours")),
            *[("LIST", ProductResume(floor.note, "answered"))] * 6,
        ]
        return self.pick(choices)


def _name(floor: Floor, account: bytes) -> str:
    return next(name for name, known in floor.ids.items() if known == account)


@pytest.mark.parametrize("seed", range(16))
def test_random_trading_keeps_every_invariant_however_it_is_cut_into_blocks(seed: int) -> None:
    chooser = Chooser(seed)
    lazy = Play(deepcopy(ready()), eager=False)
    for _ in range(100):
        by, operation = chooser.act(lazy.floor)
        lazy.send(lazy.floor.now + chooser.span(), by, operation)
    end = lazy.floor.now + 400 * DAY_MS
    lazy.send(end, "LIST", ProductResume(lazy.floor.note, "over"))
    eager = Play(deepcopy(ready()), eager=True)
    for at, by, operation in lazy.sent:
        eager.send(at, by, operation)
    assert remembered(eager.floor) == remembered(lazy.floor)
    assert lazy.floor.nothing_is_open(*TRADERS)


def remembered(floor: Floor) -> dict[bytes, bytes]:
    """The state but for the ids of transactions, which are forgotten block by block."""
    return {key: value for key, value in floor.view.values.items() if key[:1] != b"\x02"}


def test_random_trading_gets_everywhere() -> None:
    """A property over lives that never reach a status would say nothing about it."""
    seen: set[StrEnum] = set()
    for seed in range(16):
        chooser = Chooser(seed)
        floor = deepcopy(ready())
        for _ in range(100):
            by, operation = chooser.act(floor)
            at = floor.now + chooser.span()
            result = floor.block(floor.sign(by, operation, valid_until=at + 1), at=at)
            seen |= {
                event.status
                for event in result.events
                if isinstance(event, (TradeChanged, OfferChanged, RfqChanged, QuoteChanged))
            }
    trades = set(TradeStatus) - {TradeStatus.PROPOSED, TradeStatus.EXECUTED}
    assert seen >= trades | {*OfferStatus, *RfqStatus, *QuoteStatus} - STARTING

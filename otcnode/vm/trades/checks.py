"""The invariants of trades, offers, requests and quotes that can be seen from a state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from otcnode.vm.accounts.records import ENTRUSTMENTS, LOCKS, OPEN_ITEMS, Lock, LockPurpose
from otcnode.vm.contracts.records import CONTRACTS, ContractStatus
from otcnode.vm.due import DUE, due_time, places_of
from otcnode.vm.keys import OPEN_OFFER, OPEN_QUOTE, OPEN_RFQ, OPEN_TRADE
from otcnode.vm.products.records import PRODUCT_TERMS, PRODUCTS, SUBSCRIPTIONS, ProductStatus
from otcnode.vm.state import State
from otcnode.vm.trades import deals, negotiated, offers, rfqs
from otcnode.vm.trades.records import (
    ACTIVE_QUOTES,
    OFFERS,
    QUOTES,
    RFQS,
    TRADES,
    TRADING_OPEN,
    ActiveQuote,
    OfferStatus,
    Quote,
    QuoteStatus,
    RfqStatus,
    Side,
    Trade,
    TradeStatus,
)
from otcnode.vm.violation import Violation

_KINDS = (OPEN_TRADE, OPEN_OFFER, OPEN_RFQ, OPEN_QUOTE)
_PURPOSES = frozenset({LockPurpose.TRADE, LockPurpose.OFFER, LockPurpose.QUOTE})

Name = tuple[bytes, ...]


def locks_belong(state: State) -> Iterator[Violation]:
    """4, 10, 12: what stands holds exactly its legs, and what ended holds nothing."""
    expected = dict(_expected_locks(state))
    for key, lock in state.scan(LOCKS):
        if lock.purpose not in _PURPOSES:
            continue
        wanted = expected.pop((key[:32], key[32:]), None)
        # A sealed or capped buyer's lock is what it declared, whatever is left of it.
        if wanted is None or (wanted.asset, wanted.purpose) != (lock.asset, lock.purpose) or wanted.item != lock.item:
            yield Violation(4, f"lock {key[32:].hex()} belongs to nothing that stands")
        elif lock.amount > wanted.amount or (lock.amount < wanted.amount and lock.purpose is not LockPurpose.OFFER):
            yield Violation(12, f"lock {key[32:].hex()}: {lock.amount} instead of {wanted.amount}")
    for (_, name), lock in sorted(expected.items(), key=lambda entry: entry[0]):
        if lock.purpose is not LockPurpose.OFFER or len(lock.asset) == 32:
            yield Violation(4, f"item {name.hex()} stands without its lock")


def _expected_locks(state: State) -> Iterator[tuple[Name, Lock]]:
    for name, trade in state.scan(TRADES):
        if trade.status is TradeStatus.LOCKED:
            cash = _cash(state, trade.product)
            yield (trade.seller, name), Lock(trade.product, trade.quantity, LockPurpose.TRADE, name)
            yield (trade.buyer, name), Lock(cash, trade.cost, LockPurpose.TRADE, name)
    for name, offer in state.scan(OFFERS):
        if offer.status is OfferStatus.OPEN:
            sells = offer.side is Side.SELL
            asset = offer.product if sells else _cash(state, offer.product)
            amount = offer.remaining if sells else offer.cash_cap
            yield (offer.account, name), Lock(asset, amount, LockPurpose.OFFER, name)
    for name, quote in state.scan(QUOTES):
        if quote.status is QuoteStatus.ACTIVE and quote.firm:
            request = state.get(RFQS, quote.rfq)
            assert request is not None
            held = state.get(LOCKS, quote.responder + name)
            asset, amount = request.product, request.quantity
            if request.side is Side.SELL:
                asset, amount = _cash(state, request.product), quote.cash_cap or (held.amount if held else 0)
            yield (quote.responder, name), Lock(asset, amount, LockPurpose.QUOTE, name)


def _cash(state: State, product: bytes) -> bytes:
    terms = state.get(PRODUCT_TERMS, product)
    assert terms is not None
    return terms.cash.encode()


def offers_sum(state: State) -> Iterator[Violation]:
    """7: what was taken of an offer is what its settled trades say, and only FILLED leaves nothing."""
    taken: Counter[bytes] = Counter()
    paid: Counter[bytes] = Counter()
    for _, trade in state.scan(TRADES):
        if trade.source is not None and trade.status is TradeStatus.SETTLED:
            taken[trade.source] += trade.quantity
            paid[trade.source] += trade.cost
    for name, offer in state.scan(OFFERS):
        if offer.remaining != offer.quantity - taken[name]:
            yield Violation(7, f"offer {name.hex()}: {taken[name]} taken, {offer.remaining} remain")
        if (offer.remaining == 0) != (offer.status is OfferStatus.FILLED):
            yield Violation(20, f"offer {name.hex()}: {offer.remaining} remain, {offer.status.value}")
        if offer.side is Side.BUY and paid[name] > offer.cash_cap:
            yield Violation(7, f"offer {name.hex()}: {paid[name]} paid, the cap is {offer.cash_cap}")
        if offer.side is Side.BUY and offer.status is OfferStatus.OPEN:
            held = state.get(LOCKS, offer.account + name)
            if (0 if held is None else held.amount) != offer.cash_cap - paid[name]:
                yield Violation(12, f"offer {name.hex()}: its lock is not what is left of its cap")


def settled_under_contract(state: State) -> Iterator[Violation]:
    """8: what settled rests on a contract of the line it names that was effective at that moment."""
    for name, trade in state.scan(TRADES):
        if trade.status is TradeStatus.SETTLED and not _was_effective(state, trade):
            yield Violation(8, f"trade {name.hex()} settled without an effective contract")


def _was_effective(state: State, trade: Trade) -> bool:
    assert trade.ended_at is not None
    at, name = trade.ended_at, trade.contract
    while True:
        contract = state.get(CONTRACTS, name)
        if contract is None or contract.effective_at is None or contract.effective_at > at:
            return False
        if contract.ended_at is None or contract.ended_at >= at:
            return True
        if contract.status is not ContractStatus.AMENDED or contract.superseded_by is None:
            return False
        name = contract.superseded_by


def open_items_kept(state: State) -> Iterator[Violation]:
    """4, 20, 33: what stands is an open item of its parties, is listed on its product and will end once, at its time;
    what ended is none of this."""
    owners, listed, times = _standing(state)
    for kind in _KINDS:
        found = sorted(key for key, _ in state.scan(OPEN_ITEMS) if key[32:33] == kind)
        if found != sorted(key for key in owners if key[32:33] == kind):
            yield Violation(4, f"open items of kind {kind!r}")
    if sorted(key for key, _ in state.scan(TRADING_OPEN)) != sorted(listed):
        yield Violation(20, "what stands on products")
    for name, (what, due_at) in sorted(times.items()):
        entries = [(place.key, state.get(DUE, place.key)) for place in places_of(state, name)]
        plan = [(entry.kind, due_time(key)) for key, entry in entries if entry is not None]
        if plan != ([(what, due_at)] if due_at else []):
            yield Violation(33, f"item {name.hex()} is scheduled as {plan}")


def _standing(state: State) -> tuple[set[bytes], set[bytes], dict[bytes, tuple[str, int]]]:
    """(account ‖ kind ‖ item, product ‖ kind ‖ item, item to what is scheduled for it; 0 is nothing)."""
    owners: set[bytes] = set()
    listed: set[bytes] = set()
    times: dict[bytes, tuple[str, int]] = {}
    for name, trade in state.scan(TRADES):
        times[name] = ("", 0)
        if trade.status is TradeStatus.PROPOSED:
            owners.add(trade.proposer + OPEN_TRADE + name)
            times[name] = (negotiated.EXPIRE, trade.affirm_by or 0)
        elif trade.status is TradeStatus.LOCKED:
            owners |= {party + OPEN_TRADE + name for party in (trade.buyer, trade.seller)}
            times[name] = (deals.SETTLE, trade.settle_at or 0)
        else:
            continue
        listed.add(trade.product + OPEN_TRADE + name)
    for name, offer in state.scan(OFFERS):
        stands = offer.status is OfferStatus.OPEN
        times[name] = (offers.EXPIRE, offer.until if stands else 0)
        if stands:
            owners.add(offer.account + OPEN_OFFER + name)
            listed.add(offer.product + OPEN_OFFER + name)
    for name, request in state.scan(RFQS):
        stands = request.status is RfqStatus.OPEN
        times[name] = (rfqs.RFQ_EXPIRE, request.until if stands else 0)
        if stands:
            owners.add(request.requester + OPEN_RFQ + name)
            listed.add(request.product + OPEN_RFQ + name)
    for name, quote in state.scan(QUOTES):
        stands = quote.status is QuoteStatus.ACTIVE
        times[name] = (rfqs.QUOTE_EXPIRE, quote.until if stands else 0)
        if stands:
            owners.add(quote.responder + OPEN_QUOTE + name)
    return owners, listed, times


def quotes_kept(state: State) -> Iterator[Violation]:
    """20: a live quote belongs to an open request and is its responder's only one; a request is filled by one hit."""
    active = {quote.rfq + quote.responder: name for name, quote in _quotes(state, QuoteStatus.ACTIVE)}
    if state.scan(ACTIVE_QUOTES) != [(key, ActiveQuote(name)) for key, name in sorted(active.items())]:
        yield Violation(20, "index of live quotes")
    hits = Counter(quote.rfq for _, quote in _quotes(state, QuoteStatus.HIT))
    covers = Counter(quote.rfq for _, quote in _quotes(state, QuoteStatus.COVER))
    live = {quote.rfq for _, quote in _quotes(state, QuoteStatus.ACTIVE)}
    for name, request in state.scan(RFQS):
        filled = request.status is RfqStatus.FILLED
        if hits[name] != filled or covers[name] > filled or (request.trade is not None) != filled:
            yield Violation(20, f"request {name.hex()}: {hits[name]} hits, {covers[name]} covers")
        if name in live and request.status is not RfqStatus.OPEN:
            yield Violation(20, f"request {name.hex()} is over and has live quotes")


def _quotes(state: State, status: QuoteStatus) -> Iterator[tuple[bytes, Quote]]:
    for name, quote in state.scan(QUOTES):
        if quote.status is status:
            yield name, quote


def nothing_stands_on_what_matured(state: State) -> Iterator[Violation]:
    """25: before maturity pays, everything open on the product is released."""
    for key, _ in state.scan(TRADING_OPEN):
        record = state.get(PRODUCTS, key[:32])
        if record is None or record.status is ProductStatus.MATURED:
            yield Violation(25, f"item {key[33:].hex()} stands on a product that matured")


def agents_within_use(state: State) -> Iterator[Violation]:
    """22: what agents committed for a principal, by executed trades and subscriptions, is within what is used of their
    entrustments. Not the fees of a standing offer's fills: they are rounded one by one."""
    spent: Counter[tuple[bytes, bytes]] = Counter()
    for _, trade in state.scan(TRADES):
        for principal, agent in _acting(state, trade):
            spent[principal, agent] += trade.cost if principal == trade.buyer else trade.fee
    for _, entry in state.scan(SUBSCRIPTIONS):
        if entry.agent is not None:
            spent[entry.account, entry.agent] += entry.locked
    used: Counter[tuple[bytes, bytes]] = Counter()
    for _, entrustment in state.scan(ENTRUSTMENTS):
        used[entrustment.principal, entrustment.agent] += entrustment.used
    for parties, amount in sorted(spent.items()):
        if amount > used[parties]:
            yield Violation(22, f"agent {parties[1].hex()}: {amount} committed, {used[parties]} used")


def _acting(state: State, trade: Trade) -> Iterator[tuple[bytes, bytes]]:
    """(principal, agent) of every side of a trade that an agent entered into."""
    if trade.agent is not None:
        yield trade.proposer, trade.agent
    quote = None if trade.source is None else state.get(QUOTES, trade.source)
    if quote is not None and quote.agent is not None:
        yield quote.responder, quote.agent
    offer = None if trade.source is None else state.get(OFFERS, trade.source)
    if offer is not None and offer.entrustment is not None and offer.side is Side.BUY:
        entrustment = state.get(ENTRUSTMENTS, offer.entrustment)
        assert entrustment is not None
        yield offer.account, entrustment.agent


CHECKS: tuple[Callable[[State], Iterator[Violation]], ...] = (
    locks_belong,
    offers_sum,
    settled_under_contract,
    open_items_kept,
    quotes_kept,
    nothing_stands_on_what_matured,
    agents_within_use,
)

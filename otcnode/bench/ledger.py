"""Speed of the processor alone: microseconds of CPU per operation, per due item and per holder of a product.

No signature of an envelope is verified and nothing reaches a disk; contract.sign verifies the one signature that it
carries. Every figure is of CPU time of this process, the best and the median of several rounds of the same block on the
same state: what else runs on the machine disturbs them little.
"""

from __future__ import annotations

import platform
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import msgspec

from otcnode import __version__
from otcnode.bench.market import (
    CASH,
    DAY_MS,
    EVIDENCE,
    LIFE_MS,
    PRICE,
    TEXT,
    UNITS_EACH,
    Market,
    Sender,
    created,
    key_of,
)
from otcnode.bench.result import hardware
from otcnode.crypto import SigningKey, sha256, verify
from otcnode.genesis import KeyPurpose
from otcnode.vm.accounts.operations import (
    AccountApply,
    AccountFreeze,
    AccountReview,
    AccountUnfreeze,
    CashDeposit,
    CashWithdraw,
    CashWithdrawResult,
    EntrustAccept,
    EntrustGrant,
    InvestorCertify,
    KeyRotate,
    NewKey,
)
from otcnode.vm.accounts.records import AccountKind, Category, Powers, Thresholds
from otcnode.vm.contracts.operations import ContractAccede, ContractConfirm, ContractSubmit
from otcnode.vm.contracts.preimages import terms_hash
from otcnode.vm.contracts.records import ContractKind
from otcnode.vm.products.allotment import allot
from otcnode.vm.products.operations import ProductSubscribe, RedeemDecide, RedeemRequest
from otcnode.vm.products.records import ProductTerms
from otcnode.vm.rules import Scope
from otcnode.vm.trades.operations import (
    Hit,
    OfferList,
    OfferTake,
    QuoteRespond,
    QuoteSubmit,
    RfqCreate,
    TradeAffirm,
    TradePropose,
)
from otcnode.vm.trades.records import Side
from otcnode.vm.transactions import Decoded

TARGET_MICROSECONDS = 40
"""For a transaction of one operation, without signature and storage; no more for a due item."""
HOUR_MS = 3_600_000
QUANTITY = 5
"""Units of one trade, one take, one redemption."""
BLOCK = 2_000
"""Transactions per block where nothing is measured."""


class Options(msgspec.Struct, frozen=True):
    """`sample` transactions of a kind are measured in one block; `holders` subscribe to the product and keep it;
    `open_items` offers stand while the rest is measured."""

    accounts: int = 100_000
    holders: int = 10_000
    open_items: int = 10_000
    sample: int = 500
    rounds: int = 3

    @property
    def signers(self) -> int:
        """Two parties per contract, and those who rotate a key."""
        return 3 * self.sample


class Figure(msgspec.Struct, frozen=True):
    """Microseconds of CPU per piece of work (operation, due item or holder): executing, and `encode`, writing what a
    block changed in canonical bytes when it is finished."""

    name: str
    per: str
    count: int
    best: float
    median: float
    encode: float


class LedgerResult(msgspec.Struct, frozen=True, kw_only=True):
    accounts: int
    open_items: int
    rounds: int
    target: float
    figures: tuple[Figure, ...]
    hardware: str
    python: str
    version: str


def measure(options: Options, say: Callable[[str], None]) -> LedgerResult:
    """Build the ledger, then play a product's life in it, measuring each kind of work where it occurs."""
    if min(options.holders, options.open_items) < options.signers or options.accounts < 2 * options.holders:
        raise ValueError("needs 3 × sample ≤ holders and open items, 2 × holders ≤ accounts")
    say(f"building a state of {options.accounts} accounts")
    run = _Run(options, Market(options.accounts, options.signers, say), [])
    for part in (_accounts, _cash, _contracts, _life):
        say(f"measuring {part.__name__.strip('_')}")
        part(run)
    return LedgerResult(
        accounts=options.accounts,
        open_items=options.open_items,
        rounds=options.rounds,
        target=TARGET_MICROSECONDS,
        figures=tuple(run.figures),
        hardware=hardware(),
        python=platform.python_version(),
        version=__version__,
    )


@dataclass(frozen=True, slots=True)
class _Run:
    options: Options
    market: Market
    figures: list[Figure]

    @property
    def sample(self) -> range:
        return range(self.options.sample)

    def operations(self, name: str, transactions: Sequence[Decoded]) -> list[bytes]:
        """Measure a block of them, then make it the last; the ids of what they create."""
        spent, encoding = [], []
        for _ in range(self.options.rounds):
            execution = self.market.begin()
            execution.run_due()
            start = time.process_time()
            for transaction in transactions:
                execution.apply(transaction)
            done = time.process_time()
            result = execution.finish()
            encoding.append(time.process_time() - done)
            spent.append(done - start)
        self.market.commit(result)
        self._note(name, "operation", len(transactions), spent, encoding)
        return [created(transaction) for transaction in transactions]

    def due(self, name: str, at: int, holders: int | None = None) -> None:
        """Measure what a block at a time does by itself, then make it the last: one item about so many holders, or as
        many items of one kind as fit."""
        self.market.block(at=at - 1)
        self.forget()
        spent, encoding = [], []
        for _ in range(self.options.rounds):
            execution = self.market.begin(at)
            start = time.process_time()
            automatic = execution.run_due()
            done = time.process_time()
            result = execution.finish()
            encoding.append(time.process_time() - done)
            spent.append(done - start)
        assert len({item.kind for item in automatic}) == 1 and (not holders or len(automatic) == 1), name
        self.market.commit(result, at)
        if holders:
            self._note(name, "holder", holders, spent, encoding)
        else:
            self._note(name, "due item", len(automatic), spent, encoding)

    def verifications(self, signed: Sequence[tuple[SigningKey, bytes]]) -> None:
        """What of contract.sign is the verification of the signature it carries, by libsodium."""
        checks = [(key.public, message, key.sign(message)) for key, message in signed]
        spent = []
        for _ in range(self.options.rounds):
            start = time.process_time()
            valid = [verify(*check) for check in checks]
            spent.append(time.process_time() - start)
            assert all(valid)
        self._note("of contract.sign: verification", "signature", len(checks), spent, [0])

    def allotment_with_drops(self) -> None:
        """The rule alone, where it is hardest: thousands of different sizes, few large and most small, of which a
        minimum of the mean drops two thirds one by one."""
        chance = random.Random(1)
        holders = self.options.holders
        quantities = [1 + int(chance.lognormvariate(6, 1.5)) for _ in range(holders)]
        offered = sum(quantities) // 2
        spent = []
        for _ in range(self.options.rounds):
            start = time.process_time()
            allotted = allot(quantities, offered=offered, step=1, min_allotment=offered // holders)
            spent.append(time.process_time() - start)
        assert 0 < sum(allotted) <= offered
        self._note("allotment rule, many dropped", "holder", holders, spent, [0])

    def forgetting(self) -> None:
        """Measure a block that only forgets ids of transactions that are over: it comes once for every transaction."""
        at, spent, encoding = self.market.now + LIFE_MS + 1, [], []
        for _ in range(self.options.rounds):
            execution = self.market.begin(at)
            start = time.process_time()
            assert not execution.run_due()
            done = time.process_time()
            result = execution.finish()
            encoding.append(time.process_time() - done)
            spent.append(done - start)
        self.market.commit(result, at)
        self._note("forgetting an id", "transaction", len(result.writes), spent, encoding)
        self.forget()

    def _note(self, name: str, per: str, count: int, spent: list[float], encoding: list[float]) -> None:
        best, middle, encode = [round(value / count * 1e6, 1) for value in (min(spent), median(spent), min(encoding))]
        self.figures.append(Figure(name, per, count, best, middle, encode))

    def unmeasured(self, transactions: Sequence[Decoded]) -> list[bytes]:
        for first in range(0, len(transactions), BLOCK):
            self.market.block(transactions[first : first + BLOCK])
        return [created(transaction) for transaction in transactions]

    def forget(self) -> None:
        """Blocks until the ids of all transactions that are over are forgotten, which is no work of a due item."""
        while self.market.block(at=self.market.now).writes:
            pass

    def until_idle(self) -> None:
        """Blocks in which only what is due runs, until nothing is left."""
        while self.market.block().automatic:
            pass


def _accounts(run: _Run) -> None:
    market, make = run.market, run.market.transaction
    manage = KeyPurpose.MANAGE
    applications = []
    for number in run.sample:
        key = sha256(b"applicant" + number.to_bytes(4, "big"))
        application = AccountApply(
            AccountKind.PERSON, EVIDENCE, (NewKey(manage, key),), bytes(32), Thresholds(1, 0, 0), 1
        )
        applications.append(make(None, application, key=key))
    names = run.operations("account.apply", applications)
    run.operations("account.review", [make("KYC", AccountReview(name, True, "")) for name in names])
    until = market.now + 365 * DAY_MS
    certificates = [InvestorCertify(name, 3, Category.QUALIFIED, until, 1, EVIDENCE) for name in names]
    run.operations("investor.certify", [make("KYC", operation) for operation in certificates])
    freezes = run.operations(
        "account.freeze (full)",
        [make("REGULATOR", AccountFreeze(name, None, 0, EVIDENCE, None)) for name in names],
    )
    run.operations("account.unfreeze", [make("REGULATOR", AccountUnfreeze(name, EVIDENCE)) for name in freezes])
    partial = [AccountFreeze(market.id_of(number), CASH.encode(), 1, EVIDENCE, None) for number in run.sample]
    run.operations("account.freeze (cash)", [make("REGULATOR", operation) for operation in partial])
    rotations = [
        make(
            number, KeyRotate(market.public(number, manage), sha256(b"new" + number.to_bytes(4, "big"))), purpose=manage
        )
        for number in range(2 * run.options.sample, run.options.signers)
    ]
    run.operations("key.rotate", rotations)


def _cash(run: _Run) -> None:
    market, make = run.market, run.market.transaction
    deposits = [CashDeposit(market.id_of(number), CASH, 100_00, f"in {number}") for number in run.sample]
    run.operations("cash.deposit", [make("BANK", operation) for operation in deposits])
    withdraw = CashWithdraw(CASH, 50_00, EVIDENCE)
    names = run.operations("cash.withdraw", [make(number, withdraw) for number in run.sample])
    results = [CashWithdrawResult(name, True, f"out {name.hex()[:16]}", "") for name in names]
    run.operations("cash.withdraw_result", [make("BANK", operation) for operation in results])


def _contracts(run: _Run) -> None:
    market, sign = run.market, KeyPurpose.SIGN
    firsts: list[Sender] = list(run.sample)
    seconds: list[Sender] = [number + run.options.sample for number in run.sample]

    def make(by: Sender, operation: object) -> Decoded:
        return market.transaction(by, operation, purpose=sign)  # type: ignore[arg-type]

    pairs = list(zip(firsts, seconds, strict=True))
    names = run.operations(
        "contract.create", [make(first, market.draft(ContractKind.MASTER, first, second)) for first, second in pairs]
    )
    run.operations(
        "contract.submit", [make(first, ContractSubmit(name)) for first, name in zip(firsts, names, strict=True)]
    )
    for slot, (what, parties) in enumerate((("first", firsts), ("last", seconds))):
        confirmations = [
            make(party, ContractConfirm(name, slot, 1, terms_hash(TEXT)))
            for party, name in zip(parties, names, strict=True)
        ]
        run.operations(f"contract.confirm ({what} party)", confirmations)
    for slot, (what, parties) in enumerate((("first", firsts), ("last", seconds))):
        signatures = [
            make(party, market.signature(name, slot, party)) for party, name in zip(parties, names, strict=True)
        ]
        run.operations(f"contract.sign ({what} party)", signatures)
    run.verifications(
        [(key_of(party, sign), market.preimage(name, 0, party)) for party, name in zip(firsts, names, strict=True)]
    )
    run.forgetting()


def _life(run: _Run) -> None:
    """A product from subscription to maturity, and trading in it."""
    market, holders = run.market, run.options.holders
    product, terms = market.product(holders)
    _subscriptions(run, product)
    run.due("allotment", terms.close, holders)
    run.allotment_with_drops()
    run.due("establishment", terms.start_of(terms.value_date), holders)
    _trading(run, product, terms)
    for what, date in zip(("coupon", "maturity"), terms.payments, strict=True):
        at = terms.start_of(date)
        market.block(at=at - HOUR_MS)
        run.until_idle()
        run.due(what, at, holders)


def _subscriptions(run: _Run, product: bytes) -> None:
    market, sample = run.market, run.options.sample
    contracts = market.subscription_contracts(product, range(run.options.holders))
    transactions = [
        market.transaction(number, ProductSubscribe(product, UNITS_EACH, contract))
        for number, contract in enumerate(contracts)
    ]
    run.operations("product.subscribe", transactions[:sample])
    run.unmeasured(transactions[sample:])


def _trading(run: _Run, product: bytes, terms: ProductTerms) -> None:
    """Holders sell to as many others, all under one master agreement."""
    market, holders = run.market, run.options.holders
    master = market.conclude(ContractKind.MASTER, "ISSUER", "BANK", joinable=True)
    accede = ContractAccede(master)
    run.operations(
        "contract.accede",
        [market.transaction(number, accede, purpose=KeyPurpose.SIGN) for number in run.sample],
    )
    market.join(master, range(run.options.sample, 2 * holders))
    floor = _Floor(run, product, terms, master)
    floor.redemptions()
    offers_end = market.now + HOUR_MS
    offers = floor.offers(offers_end)
    settle_at = floor.negotiated()
    floor.takes(offers)
    floor.requests()
    floor.entrusted()
    run.due("offer.expire", offers_end)
    run.until_idle()
    run.due("trade.settle", settle_at)
    run.until_idle()


@dataclass(frozen=True, slots=True)
class _Floor:
    run: _Run
    product: bytes
    terms: ProductTerms
    master: bytes

    @property
    def market(self) -> Market:
        return self.run.market

    def buyer(self, seller: int) -> int:
        return seller + self.run.options.holders

    def selling(self, until: int) -> OfferList:
        """To everybody the master agreement binds, in two takes."""
        return OfferList(Side.SELL, self.product, 2 * QUANTITY, PRICE, self.master, QUANTITY, False, 0, until, (), 0)

    def offers(self, until: int) -> list[bytes]:
        """The items that stand while all else is measured."""
        run, make = self.run, self.market.transaction
        holders, selling = run.options.holders, self.selling(until)
        listings = [make(number % holders, selling) for number in range(run.options.open_items)]
        names = run.operations("offer.list", listings[: run.options.sample])
        return names + run.unmeasured(listings[run.options.sample :])

    def takes(self, offers: list[bytes]) -> None:
        takes = [OfferTake(offers[number], QUANTITY) for number in self.run.sample]
        self.run.operations(
            "offer.take",
            [self.market.transaction(self.buyer(n), take) for n, take in zip(self.run.sample, takes, strict=True)],
        )

    def negotiated(self) -> int:
        """When those settle that do not at once."""
        run, make = self.run, self.market.transaction
        affirm_by = self.market.now + HOUR_MS
        later = affirm_by + HOUR_MS
        for what, settle_at in (("T+0", None), ("locked", later)):
            proposals = [
                TradePropose(
                    self.market.id_of(self.buyer(number)),
                    Side.SELL,
                    self.product,
                    QUANTITY,
                    PRICE,
                    self.master,
                    affirm_by,
                    settle_at,
                )
                for number in run.sample
            ]
            names = run.operations(
                f"trade.propose ({what})",
                [make(number, proposal) for number, proposal in enumerate(proposals)],
            )
            run.operations(
                f"trade.affirm ({what})",
                [make(self.buyer(number), TradeAffirm(name)) for number, name in enumerate(names)],
            )
        return later

    def requests(self) -> None:
        run, market = self.run, self.market
        until = market.now + HOUR_MS
        asking = []
        for number in run.sample:
            responders = tuple(sorted([market.id_of(number + step) for step in range(3)]))
            request = RfqCreate(Side.BUY, self.product, QUANTITY, self.master, responders, until, None)
            asking.append(market.transaction(self.buyer(number), request))
        names = run.operations("rfq.create", asking)
        quotes = [QuoteSubmit(name, True, PRICE, None, 0, until) for name in names]
        answers = run.operations(
            "quote.submit", [market.transaction(number, quote) for number, quote in enumerate(quotes)]
        )
        hits = [QuoteRespond(name, Hit(QUANTITY, None)) for name in answers]
        run.operations(
            "quote.respond (hit)",
            [market.transaction(self.buyer(number), hit) for number, hit in enumerate(hits)],
        )

    def redemptions(self) -> None:
        run, make = self.run, self.market.transaction
        request = RedeemRequest(self.product, QUANTITY, self.market.now + HOUR_MS)
        names = run.operations("redeem.request", [make(number, request) for number in run.sample])
        run.operations("redeem.decide (paid)", [make("ISSUER", RedeemDecide(name, True, "")) for name in names])

    def entrusted(self) -> None:
        """Agents list offers for their principals."""
        run, market, manage = self.run, self.market, KeyPurpose.MANAGE
        agents = [number + run.options.sample for number in run.sample]
        powers = Powers(
            (Scope.TRADE,), None, None, None, 10**9, 10**9, market.now, market.now + DAY_MS, EVIDENCE, False
        )
        names = run.operations(
            "entrust.grant",
            [
                market.transaction(number, EntrustGrant(market.id_of(agent), powers), purpose=manage)
                for number, agent in enumerate(agents)
            ],
        )
        run.operations(
            "entrust.accept",
            [
                market.transaction(agent, EntrustAccept(name), purpose=manage)
                for agent, name in zip(agents, names, strict=True)
            ],
        )
        selling = self.selling(market.now + 4 * HOUR_MS)
        run.operations(
            "offer.list (by an agent)",
            [
                market.transaction(agent, selling, on_behalf_of=number, entrustment=name)
                for number, (agent, name) in enumerate(zip(agents, names, strict=True))
            ],
        )

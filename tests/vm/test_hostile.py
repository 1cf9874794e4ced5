"""What somebody tried to stop or to drown the ledger with, or to act without a key. Each of these succeeded once."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from otcnode.codec import encode
from otcnode.crypto import sha256
from otcnode.errors import Code, Inadmissible
from otcnode.genesis import KeyPurpose
from otcnode.types import INTEGER_MAX
from otcnode.vm import due, executor
from otcnode.vm.accounts.events import RecoveryChanged
from otcnode.vm.accounts.keyring import live_keys
from otcnode.vm.accounts.operations import (
    AccountFreeze,
    AccountRecover,
    AccountRecoverApprove,
    CashWithdraw,
    CashWithdrawResult,
    InvestorCertify,
    KeyAdd,
    KeyRotate,
)
from otcnode.vm.accounts.records import (
    ACCOUNTS,
    CASH_ASSETS,
    ENTRUSTMENTS_ACTIVE,
    FREEZES,
    KEYS,
    WITHDRAWALS,
    CashAsset,
    Category,
    NewKey,
    Thresholds,
)
from otcnode.vm.accounts.recovery import STEP
from otcnode.vm.context import PARAMETERS
from otcnode.vm.contracts import binding
from otcnode.vm.contracts.operations import ContractRescind
from otcnode.vm.contracts.records import ContractStatus, CoolingOff
from otcnode.vm.delegation import is_same_hand
from otcnode.vm.due import DueItem
from otcnode.vm.governance.records import CashCorrect, Direction
from otcnode.vm.keys import SINGLE, Prefix
from otcnode.vm.products import payments
from otcnode.vm.products.records import ProductStatus, SubscriptionStatus
from otcnode.vm.registry import DUE_WEIGHTS
from otcnode.vm.state import State
from otcnode.vm.trades.operations import OfferList, QuoteCancel
from otcnode.vm.trades.records import TRADING_OPEN, Side, TradeStatus
from otcnode.vm.trades.rfqs import RFQ_EXPIRE
from tests.vm.accounts.agency import Agency
from tests.vm.contracts.desk import SIGN, Desk
from tests.vm.governance.council import Council
from tests.vm.ledger import CASH, DAY_MS, EVIDENCE, Ledger, key_of
from tests.vm.products.market import Market
from tests.vm.trades.floor import PRICE, Floor

# keys


def test_a_purpose_without_keys_is_nobodys_to_act_for() -> None:
    """A MANAGE key alone carried TRADE operations beside its own: none of the 0 TRADE keys needed was missing."""
    ledger = Ledger()
    ledger.investor("ANN", 100)
    account = ledger.state.get(ACCOUNTS, ledger.ids["ANN"])
    assert account is not None
    state = ledger.state
    trade = key_of("ANN").public
    record = state.get(KEYS, ledger.ids["ANN"] + trade)
    assert record is not None
    state.put(ACCOUNTS, ledger.ids["ANN"], replace(account, thresholds=Thresholds(1, 0, 1)))
    ledger.view.write(state.writes())
    more = KeyAdd(KeyPurpose.SIGN, sha256(b"more"))
    pay_out = CashWithdraw(CASH, 100, bytes(32))
    with pytest.raises(Inadmissible) as refused:
        ledger.block(ledger.sign("ANN", more, pay_out, purpose=KeyPurpose.MANAGE))
    assert refused.value.code is Code.THRESHOLD


def test_revoked_keys_cost_the_next_change_nothing() -> None:
    ledger = Ledger()
    ledger.investor("ANN")
    old = key_of("ANN", KeyPurpose.SIGN).public
    for number in range(5):
        new = [sha256(bytes([number, index])) for index in range(40)]
        steps = [KeyRotate(before, after) for before, after in zip([old, *new], new, strict=False)]
        ledger.do("ANN", *steps, purpose=KeyPurpose.MANAGE)
        old = new[-1]
    state = Counting(ledger)
    assert set(live_keys(state, ledger.ids["ANN"])) == {
        key_of("ANN").public,
        key_of("ANN", KeyPurpose.MANAGE).public,
        old,
    }
    assert state.decoded <= 6
    assert len(ledger.state.scan(KEYS, ledger.ids["ANN"])) == 203


class Counting(State):
    """Counts the records that are looked at."""

    __slots__ = ("decoded",)

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger.view)
        self.decoded = 0

    def get(self, table, suffix):  # type: ignore[no-untyped-def]
        self.decoded += 1
        return super().get(table, suffix)

    def scan(self, table, prefix=b"", after=None, limit=None):  # type: ignore[no-untyped-def]
        found = super().scan(table, prefix, after, limit)
        self.decoded += len(found)
        return found


# integers that leave their range over the years


def asset_of(ledger: Ledger) -> CashAsset:
    asset = ledger.state.get(CASH_ASSETS, CASH.encode())
    assert asset is not None
    return asset


def with_asset(ledger: Ledger, **changes: int) -> None:
    """The cash id after years of use."""
    ledger.view.write({Prefix.CASH_ASSET.value + CASH.encode(): encode(replace(asset_of(ledger), **changes))})


def test_deposits_of_a_lifetime_stay_an_integer() -> None:
    """What was deposited and withdrawn again only rises; one more deposit than fits stopped the chain for good."""
    ledger = Ledger()
    ledger.investor("ANN")
    with_asset(ledger, deposited=INTEGER_MAX - 1, withdrawn=INTEGER_MAX - 1)
    ledger.deposit("ANN", 1)
    ledger.deposit("ANN", 1, code=Code.OVERFLOW)
    assert asset_of(ledger).deposited == INTEGER_MAX
    name = ledger.do("ANN", CashWithdraw(CASH, 1, bytes(32)))
    (withdrawal,) = [key for key, _ in ledger.state.scan(WITHDRAWALS)]
    ledger.do("BANK", CashWithdrawResult(withdrawal, True, "paid", ""))
    assert name.code is Code.OK and asset_of(ledger).withdrawn == INTEGER_MAX


def test_corrections_of_a_lifetime_stay_integers() -> None:
    council = Council()
    ben = council.ids["BEN"]
    with_asset(council, corrected_up=INTEGER_MAX, corrected_down=INTEGER_MAX)
    council.decide(CashCorrect(ben, CASH, 1, Direction.RAISE), code=Code.OVERFLOW)
    council.decide(CashCorrect(ben, CASH, 1, Direction.LOWER), code=Code.OVERFLOW)


def test_a_certificate_for_mankind_and_more_is_refused() -> None:
    """The sum of the subscribers' ultimate holders left the integer range, and no later block could be executed."""
    market = Market()
    product = market.opened(max_holders=10)
    for name in ("ANN", "BEN"):
        market.investor(name, 1_000_00)
        market.subscribe(product, name, 1)
    until = market.now + DAY_MS
    for name, code in (("ANN", Code.OK), ("BEN", Code.OVERFLOW)):
        certificate = InvestorCertify(market.ids[name], 5, Category.PROFESSIONAL, until, INTEGER_MAX - 1, EVIDENCE)
        market.act("KYC", certificate, code=code)
    market.block()


# work that somebody else prepared


def test_a_line_of_amendments_is_not_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(monkeypatch)
    first = latest = desk.effective()
    for _ in range(12):
        latest = desk.bring_to(desk.amendment(latest), ContractStatus.EFFECTIVE)
    counting = Counting(desk)
    context = desk.context()
    context.state = counting
    assert binding.in_force(context, first)[0] == latest
    assert counting.decoded <= 4


def test_many_entrustments_to_one_agent_are_not_all_looked_at() -> None:
    agency = Agency()
    for _ in range(12):
        agency.entrusted()
    counting = Counting(agency)
    context = agency.context()
    context.state = counting
    assert is_same_hand(context, agency.ids["AGT"], agency.ids["BEN"])
    assert len(agency.state.scan(ENTRUSTMENTS_ACTIVE)) == 12
    assert counting.decoded <= 6


# a queue that is behind


def slowed(ledger: Ledger, weight: int = 1) -> None:
    """From now on the queue's first lane runs one thing per block."""
    parameters = ledger.state.get(PARAMETERS, SINGLE)
    assert parameters is not None
    ledger.view.write({PARAMETERS.prefix: encode(replace(parameters, due_class1_weight_max=weight))})


def test_a_freeze_is_over_at_its_time_however_much_is_due_before() -> None:
    """Whoever lists many short offers kept another's account frozen beyond the desk's 72 hours."""
    floor = Floor()
    until = floor.now + DAY_MS
    for _ in range(3):
        floor.list_offer("OWN", quantity=5, until=until - 1)
    slowed(floor)
    floor.act("FRZ", AccountFreeze(floor.ids["SAM"], None, 0, EVIDENCE, until))
    offering = OfferList(Side.SELL, floor.note, 5, PRICE, floor.master, 5, False, 0, until + DAY_MS, (), 0)
    assert floor.catch_up(until - 1) == 2
    floor.act("SAM", offering, code=Code.FROZEN, at=until - 1)
    floor.act("SAM", offering, at=until)
    assert not floor.state.scan(FREEZES)


def lanes_apart(lanes: Sequence[due.Lane]) -> tuple[bytes, DueItem] | None:
    """The queue as it was: each lane goes on by itself, expiries first."""
    return next((head for lane in lanes if (head := lane.head()) is not None), None)


@pytest.mark.parametrize("late_ms", [0, 1, DAY_MS])
@pytest.mark.parametrize("planted", [False, True])
def test_a_late_settlement_sees_nothing_that_came_after_it(
    late_ms: int, planted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seller's freeze ends a millisecond after the settlement: it failed, in whatever block it is run."""
    if planted:
        monkeypatch.setattr(executor, "_next_due", lanes_apart)
    floor = Floor()
    trade = floor.locked()
    settle_at = floor.trade(trade).settle_at
    assert settle_at is not None
    floor.act("FRZ", AccountFreeze(floor.ids["SAM"], None, 0, EVIDENCE, settle_at + 1))
    floor.block(at=settle_at + late_ms)
    expected = TradeStatus.SETTLED if planted and late_ms else TradeStatus.FAILED
    assert floor.trade(trade).status is expected


@pytest.mark.parametrize("budget", [1, 20_000])
def test_what_happens_after_a_late_settlement_waits_for_it(budget: int) -> None:
    """The buyer's certificate has ended, and it is certified anew in the block that has no room for its settlement."""
    floor = Floor()
    settle_at = floor.now + DAY_MS
    first, second = (floor.locked(quantity=quantity, settle_at=settle_at) for quantity in (1, 2))

    def certificate(until: int) -> InvestorCertify:
        return InvestorCertify(floor.ids["BEN"], 5, Category.PROFESSIONAL, until, 1, EVIDENCE)

    floor.act("KYC", certificate(settle_at))
    floor.limit(due_weight_max=budget)
    floor.act("KYC", certificate(settle_at + DAY_MS), at=settle_at)
    for name in (first, second):
        assert (floor.trade(name).status, floor.trade(name).failure) == (TradeStatus.FAILED, Code.NOT_QUALIFIED)


def test_nothing_is_rescinded_under_a_close_that_waits() -> None:
    """The close voids the subscription; rescinding first made it WITHDRAWN, as blocks happened to be cut."""
    market = Market(due_weight_max=1)
    market.investor("ANN", 1_000_00)
    other = market.opened("NOTE-2")
    product = market.opened()
    close = market.product_terms(product).close
    contract = market.subscription_contract(product, "ANN", CoolingOff(30 * DAY_MS, True))
    subscription = market.subscribe(product, "ANN", 1, contract)
    result = market.block(market.sign("ANN", ContractRescind(contract), purpose=SIGN, valid_until=close + 1), at=close)
    assert other and result.receipts[0].code is Code.STATE
    market.advance(market.now + 1)
    assert market.subscription(subscription).status is SubscriptionStatus.VOID_NOT_EFFECTIVE
    assert market.contract_record(contract).status is ContractStatus.EXPIRED


def test_a_recovery_weighs_what_it_ends() -> None:
    """Ten thousand offers and one recovery were to be done beside a block's worth of other things."""
    floor = Floor()
    for _ in range(5):
        floor.list_offer("SAM", quantity=5, until=floor.now + 9 * DAY_MS)
    keys = tuple(NewKey(purpose, key_of("SAM'", purpose).public) for purpose in KeyPurpose)
    recovery = AccountRecover(floor.ids["SAM"], keys, Thresholds(1, 1, 1), bytes(32), EVIDENCE)
    receipt = floor.act("RCV", recovery)
    name = next(event.recovery for event in receipt.events if isinstance(event, RecoveryChanged))
    entry = DueItem(STEP, name, None, 1)
    assert DUE_WEIGHTS[STEP](floor.state, entry) == 1, "nobody has approved it: it lapses"
    floor.act("REG", AccountRecoverApprove(name))
    assert DUE_WEIGHTS[STEP](floor.state, entry) == 6


def test_a_maturity_ends_what_stands_on_it_by_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offers to buy for a cent each, by the ten thousand, were all ended within the block of the maturity."""
    monkeypatch.setattr(payments, "RELEASED_AT_ONCE", 3)
    floor = Floor(rate_ppm=0)
    floor.deposit("ISS", 20_000_00)
    maturity = floor.product_terms(floor.note).maturity_ms
    for _ in range(7):
        floor.list_offer("BEN", side=Side.BUY, quantity=1, min_fill=1, cash_cap=1, until=maturity + DAY_MS)
    floor.advance(maturity - 1_000)
    floor.limit(due_weight_max=1)
    floor.block(at=maturity)
    assert len(floor.state.scan(TRADING_OPEN, floor.note)) == 4
    assert floor.begin(maturity).is_behind
    floor.block(at=maturity)
    assert len(floor.state.scan(TRADING_OPEN, floor.note)) == 1
    assert floor.status(floor.note) is ProductStatus.ACTIVE
    floor.act("SAM", floor.offering(until=maturity + DAY_MS), code=Code.STATE)
    assert floor.status(floor.note) is ProductStatus.MATURED
    assert floor.nothing_is_open("BEN", "SAM", "OWN")


def test_a_request_counts_at_maturity_with_its_quotes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand requests with thirty-two quotes each were ended as a thousand items."""
    monkeypatch.setattr(payments, "RELEASED_AT_ONCE", 3)
    floor = Floor(rate_ppm=0)
    floor.deposit("ISS", 20_000_00)
    maturity = floor.product_terms(floor.note).maturity_ms
    floor.advance(maturity - 10_000)
    for _ in range(3):
        request = floor.ask(quantity=5, until=maturity + DAY_MS)
        for responder in ("SAM", "OWN"):
            floor.submit(responder, request, until=maturity + DAY_MS)
    floor.limit(due_weight_max=1)
    for left in (2, 1):
        floor.block(at=maturity)
        assert len(floor.state.scan(TRADING_OPEN, floor.note)) == left
    floor.catch_up(maturity)
    floor.block(at=maturity + 1)
    assert floor.status(floor.note) is ProductStatus.MATURED
    assert floor.nothing_is_open("BEN", "SAM", "OWN")


def test_a_maturity_weighs_the_redemptions_that_it_ends() -> None:
    """They weighed nothing, so a hundred thousand of them were all ended within one block."""
    floor = Floor(rate_ppm=0)
    floor.deposit("ISS", 20_000_00)
    maturity = floor.product_terms(floor.note).maturity_ms
    floor.advance(maturity - 20 * DAY_MS)
    entry = DueItem(payments.PAY, floor.note, floor.note, 1)
    before = DUE_WEIGHTS[payments.PAY](floor.state, entry)
    for _ in range(3):
        floor.request(floor.note, "SAM", 1, maturity)
    floor.list_offer("SAM", quantity=5)
    floor.list_offer("OWN", quantity=5)
    assert DUE_WEIGHTS[payments.PAY](floor.state, entry) == before + 5 * payments.RELEASE_WEIGHT


def test_a_maturity_weighs_what_was_subscribed_whoever_holds_it() -> None:
    """Ten thousand subscriptions, whose contracts are fulfilled at maturity, weighed as their one last buyer."""
    floor = Floor(rate_ppm=0)
    for seller, quantity in (("SAM", 60), ("OWN", 40)):
        floor.take(floor.list_offer(seller, quantity=quantity), quantity)
    floor.advance(floor.product_terms(floor.note).maturity_ms - DAY_MS)
    entry = DueItem(payments.PAY, floor.note, floor.note, 1)
    assert DUE_WEIGHTS[payments.PAY](floor.state, entry) == 1 + 4 * 1 + 2


# what is named must exist


@pytest.mark.parametrize("asset", [b"EUR@BANK", b"\xff\xfe", bytes(32)])
def test_only_what_exists_is_frozen(asset: bytes) -> None:
    ledger = Ledger()
    ledger.investor("ANN", 100)
    ledger.do("REG", AccountFreeze(ledger.ids["ANN"], asset, 1, EVIDENCE, None), code=Code.NOT_FOUND)
    ledger.do("REG", AccountFreeze(ledger.ids["ANN"], asset, 0, EVIDENCE, 1), code=Code.NOT_FOUND)


def test_an_expired_request_weighs_the_quotes_that_stand() -> None:
    """Each named responder weighed as much as a quote: requests to many, which nobody answers, filled block after block
    while everybody waited."""
    floor = Floor()
    for name in "ABCDEF":
        floor.investor(name)
    rfq = floor.ask(responders=floor.named("SAM", "OWN", *"ABCDEF"))
    entry = DueItem(RFQ_EXPIRE, rfq, None, 1)
    assert DUE_WEIGHTS[RFQ_EXPIRE](floor.state, entry) == 1
    quote = floor.submit("SAM", rfq)
    floor.submit("OWN", rfq)
    assert DUE_WEIGHTS[RFQ_EXPIRE](floor.state, entry) == 3
    floor.act("SAM", QuoteCancel(quote))
    assert DUE_WEIGHTS[RFQ_EXPIRE](floor.state, entry) == 2

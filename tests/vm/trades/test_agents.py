"""What an agent commits by offers and quotes, and whom it must not deal with."""

from __future__ import annotations

from fractions import Fraction

import pytest
from msgspec.structs import replace

from otcnode.crypto import sha256
from otcnode.errors import Code
from otcnode.types import INTEGER_MAX
from otcnode.vm.contracts.records import ContractKind
from otcnode.vm.trades.events import TradeProposed
from otcnode.vm.trades.operations import (
    Counter,
    Hit,
    OfferCancel,
    OfferTake,
    Pass,
    QuoteCancel,
    QuoteRespond,
    Reveal,
    RfqCancel,
    TradeAffirm,
    TradeCancel,
    TradeReject,
    TradeWithdraw,
)
from otcnode.vm.trades.records import OfferStatus, QuoteStatus, RfqStatus, Side, TradeStatus, quote_commitment
from tests.vm.accounts.agency import Agency
from tests.vm.ledger import DAY_MS
from tests.vm.trades.floor import HOUR_MS, PRICE, created

SALT = sha256(b"salt")


@pytest.fixture
def agency() -> Agency:
    return Agency()


def used(agency: Agency, entrustment: bytes) -> int:
    return agency.entrustment(entrustment).used


def test_a_buy_offer_commits_its_cap_and_a_sell_offer_its_fee(agency: Agency) -> None:
    mandate = agency.entrusted(per_action_cap=1_000_00)
    listing = agency.offering(side=Side.BUY, cash_cap=1_000_01)
    agency.act_for("BEN", mandate, listing, code=Code.ENTRUST_CAP)
    offer = created(agency.act_for("BEN", mandate, agency.offering(side=Side.BUY, cash_cap=1_000_00)))
    assert (used(agency, mandate), agency.figures("BEN")[1]) == (1_000_00, 1_000_00)
    assert agency.offer(offer).account == agency.ids["BEN"]
    selling = agency.entrusted("SAM", per_action_cap=10_12)
    # 50 × 101.2345 = 5,061.725 → 5,061.73; 2,000 ppm of it is 10.12
    agency.act_for("SAM", selling, agency.offering())
    assert used(agency, selling) == 10_12


def test_a_take_commits_what_the_buyer_pays(agency: Agency) -> None:
    offer = agency.list_offer()
    mandate = agency.entrusted(per_action_cap=1_014_37)
    agency.act_for("BEN", mandate, OfferTake(offer, 11), code=Code.ENTRUST_CAP)
    agency.act_for("BEN", mandate, OfferTake(offer, 10))
    assert (used(agency, mandate), agency.holds("BEN")) == (1_014_37, (10, 0))


def test_who_listed_for_another_is_not_the_one_that_takes(agency: Agency) -> None:
    master = agency.contract(ContractKind.MASTER, None, ("SAM", "BEN", "OWN", "AGT"))
    agency.deposit("AGT", 10_000_00)
    agency.deposit("OWN", 10_000_00)
    mandate = agency.entrusted("SAM")
    offer = created(agency.act_for("SAM", mandate, agency.offering(contract=master)))
    agency.take(offer, 5, by="AGT", code=Code.SELF_DEALING)
    other = agency.entrusted("OWN")
    agency.act_for("OWN", other, OfferTake(offer, 5), code=Code.SELF_DEALING)
    agency.take(offer, 5, by="OWN", code=Code.SELF_DEALING)
    agency.take(offer, 5, by="BEN")
    allowed = agency.entrusted("SAM", allow_self_dealing=True)
    offer = created(agency.act_for("SAM", allowed, agency.offering(contract=master, quantity=5)))
    agency.take(offer, 5, by="AGT")


def test_quotes_and_hits_commit_the_buyer_s_cost(agency: Agency) -> None:
    rfq = agency.ask()
    quote = agency.submit("SAM", rfq)
    mandate = agency.entrusted(per_action_cap=2_028_73)
    agency.act_for("BEN", mandate, QuoteRespond(quote, Hit(20, None)), code=Code.ENTRUST_CAP)
    agency.act_for("BEN", mandate, QuoteRespond(quote, Hit(19, None)))
    # 19 × 101.2345 = 1,923.4555 → 1,923.46, fee 3.85
    assert used(agency, mandate) == 1_927_31
    selling = agency.ask("SAM", side=Side.SELL, quantity=20, responders=agency.named("BEN"))
    exact = agency.entrusted(per_action_cap=2_028_74)
    agency.act_for("BEN", exact, agency.quoting(selling))
    assert used(agency, exact) == 2_028_74


def test_an_indicative_quote_commits_nothing(agency: Agency) -> None:
    rfq = agency.ask()
    mandate = agency.entrusted("SAM", per_action_cap=0)
    agency.act_for("SAM", mandate, agency.quoting(rfq), code=Code.ENTRUST_CAP)
    agency.act_for("SAM", mandate, agency.quoting(rfq, firm=False))
    assert used(agency, mandate) == 0


def test_a_bounded_agent_names_no_price_that_nobody_sees(agency: Agency) -> None:
    rfq = agency.ask("SAM", side=Side.SELL, responders=agency.named("BEN"))
    commitment = quote_commitment(rfq, agency.ids["BEN"], PRICE, SALT)
    sealed = agency.quoting(rfq, None, commitment=commitment, cash_cap=3_000_00)
    bounded = agency.entrusted(max_price=PRICE)
    agency.act_for("BEN", bounded, sealed, code=Code.ENTRUST_SCOPE)
    agency.act_for("BEN", bounded, agency.quoting(rfq, PRICE + 1), code=Code.ENTRUST_SCOPE)
    free = agency.entrusted()
    quote = created(agency.act_for("BEN", free, sealed))
    assert used(agency, free) == 3_000_00
    seller = agency.entrusted("SAM", min_price=PRICE + 1, agent="FEE")
    opened = QuoteRespond(quote, Hit(20, Reveal(PRICE, SALT)))
    agency.act_for("SAM", seller, opened, code=Code.ENTRUST_SCOPE, agent="FEE")
    agency.act("SAM", opened)


def test_an_agent_steps_back_for_its_principal_at_no_cost(agency: Agency) -> None:
    sam, ben = (
        agency.entrusted("SAM", per_action_cap=20_00),
        agency.entrusted("BEN", agent="FEE", per_action_cap=9_999_00),
    )
    offer = created(agency.act_for("SAM", sam, agency.offering(quantity=10)))
    agency.act_for("SAM", sam, OfferCancel(offer))
    assert agency.offer(offer).status is OfferStatus.CANCELLED
    rfq = created(agency.act_for("BEN", ben, agency.asking(), agent="FEE"))
    quote = created(agency.act_for("SAM", sam, agency.quoting(rfq)))
    agency.act_for("BEN", ben, QuoteRespond(quote, Counter(PRICE)), agent="FEE")
    quote = created(agency.act_for("SAM", sam, agency.quoting(rfq)))
    agency.act_for("SAM", sam, QuoteCancel(quote))
    assert agency.quote(quote).status is QuoteStatus.CANCELLED
    agency.act_for("BEN", ben, RfqCancel(rfq), agent="FEE")
    rfq = created(agency.act_for("BEN", ben, agency.asking(), agent="FEE"))
    quote = created(agency.act_for("SAM", sam, agency.quoting(rfq)))
    agency.act_for("BEN", ben, QuoteRespond(quote, Pass()), agent="FEE")
    assert agency.rfq(rfq).status is RfqStatus.PASSED
    before = used(agency, ben)
    rejected, withdrawn, cancelled = agency.propose(), agency.propose(), agency.propose()
    agency.act_for("BEN", ben, TradeReject(rejected), agent="FEE")
    agency.act_for("SAM", sam, TradeWithdraw(withdrawn))
    assert used(agency, ben) == before
    agency.act_for("BEN", ben, TradeAffirm(cancelled), agent="FEE")
    agency.act_for("BEN", ben, TradeCancel(cancelled), agent="FEE")
    agency.act_for("SAM", sam, TradeCancel(cancelled))
    assert agency.trade(cancelled).status is TradeStatus.CANCELLED
    # the affirmation alone: 1,012.35 + 0.14 + 2.02
    assert used(agency, ben) == before + 1_014_51


def test_an_agent_asks_and_quotes_nobody_of_its_own(agency: Agency) -> None:
    buyer, seller = agency.entrusted("BEN"), agency.entrusted("SAM")
    agency.act_for("BEN", buyer, agency.asking(responders=agency.named("SAM")), code=Code.SELF_DEALING)
    rfq = agency.ask()
    agency.act_for("SAM", seller, agency.quoting(rfq), code=Code.SELF_DEALING)
    quote = agency.submit("SAM", rfq)
    agency.act_for("BEN", buyer, QuoteRespond(quote, Hit(20, None)), code=Code.SELF_DEALING)


def test_what_the_other_side_may_still_agree_to_counts_at_its_dearest(agency: Agency) -> None:
    """A buyer's agent committed the cost of the day; affirmed or hit a day later it cost a day's interest more."""
    start = agency.product_terms(agency.note).start_of(agency.product_terms(agency.note).date_of(agency.now) + 1)
    agency.advance(start + HOUR_MS)
    day_later = agency.now + DAY_MS
    fields = {"side": Side.BUY, "counterparty": agency.ids["SAM"], "affirm_by": day_later, "settle_at": None}
    # 10 units: 1,012.35 clean, 2.02 fee, and 5 % on 1,000.00, 0.137 a day: the second day's is on the way to the next
    today, tomorrow = agency.proposal(**fields), day_later - 1
    limits = [agency.entrusted(per_action_cap=1_014_37 + interest(agency, 10, at)) for at in (agency.now, tomorrow)]
    agency.act_for("BEN", limits[0], today, code=Code.ENTRUST_CAP)
    receipt = agency.act_for("BEN", limits[1], agency.proposal(**fields | {"affirm_by": tomorrow + 1}), at=agency.now)
    (name,) = [event.trade for event in receipt.events if isinstance(event, TradeProposed)]
    before = agency.figures("BEN")[0]
    agency.act("SAM", TradeAffirm(name), at=tomorrow)
    assert before - agency.figures("BEN")[0] == used(agency, limits[1])
    rfq = agency.ask("SAM", side=Side.SELL, quantity=10, responders=agency.named("BEN"), until=agency.now + 3 * DAY_MS)
    late = agency.now + 3 * DAY_MS - 10
    mandate = agency.entrusted(per_action_cap=1_014_37 + interest(agency, 10, late))
    quote = created(agency.act_for("BEN", mandate, agency.quoting(rfq, until=late + 1)))
    before = agency.figures("BEN")
    agency.act("SAM", QuoteRespond(quote, Hit(10, None)), at=late)
    assert sum(before) - sum(agency.figures("BEN")) == used(agency, mandate)


def test_a_dearest_day_beyond_the_integer_range_does_not_hide_todays_cost(agency: Agency) -> None:
    """What costs just under 2^63 today costs more tomorrow, which nobody can pay; today it was held against no cap."""
    quantity, fee = 10_000, Fraction(2_000, 1_000_000)
    room = INTEGER_MAX - interest(agency, quantity, agency.now) - 1_000
    price = int(Fraction(room) / (1 + fee) * 100 / quantity)
    proposal = agency.proposal(
        side=Side.BUY,
        counterparty=agency.ids["SAM"],
        quantity=quantity,
        price=price,
        affirm_by=agency.now + DAY_MS,
        settle_at=None,
    )
    agency.act_for("BEN", agency.entrusted(per_action_cap=1_000_00), proposal, code=Code.ENTRUST_CAP)
    agency.act("BEN", proposal)
    agency.act("BEN", replace(proposal, price=price + 1_000), code=Code.OVERFLOW)


def interest(agency: Agency, quantity: int, at: int) -> int:
    """Half-up of quantity × 100.00 × 5 % × days / 365, days since the value date."""
    rule = agency.product_terms(agency.note)
    assert (rule.face, rule.rate_ppm) == (100_00, 50_000) and rule.date_of(at) < rule.pay_dates[0]
    exact = Fraction(quantity * 100_00 * 5 * (rule.date_of(at) - rule.value_date), 100 * 365)
    return int(exact + Fraction(1, 2))


def test_an_agent_seals_no_price_whose_fee_nobody_sees() -> None:
    """The seller's fee follows from the price: it was paid on top of what the entrustment allows."""
    agency = Agency()
    rfq = agency.ask()
    commitment = quote_commitment(rfq, agency.ids["SAM"], PRICE, SALT)
    sealed = agency.quoting(rfq, None, commitment=commitment)
    agency.act_for("SAM", agency.entrusted("SAM", per_action_cap=1), sealed, code=Code.ENTRUST_CAP)
    agency.act("SAM", sealed)
    free = Agency(trade_fee_ppm=0)
    rfq = free.ask()
    commitment = quote_commitment(rfq, free.ids["SAM"], PRICE, SALT)
    free.act_for("SAM", free.entrusted("SAM", per_action_cap=0), free.quoting(rfq, None, commitment=commitment))

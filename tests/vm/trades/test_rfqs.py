from __future__ import annotations

from typing import Any

import pytest

from otcnode.crypto import sha256
from otcnode.errors import Code
from otcnode.vm.keys import OPEN_QUOTE, OPEN_RFQ
from otcnode.vm.products.operations import ProductSuspend
from otcnode.vm.trades.operations import (
    Counter,
    Hit,
    Pass,
    QuoteCancel,
    QuoteRespond,
    QuoteSubmit,
    Reveal,
    RfqCancel,
    TradeCancel,
)
from otcnode.vm.trades.records import (
    TRADING_BY_ACCOUNT,
    TRADING_BY_PRODUCT,
    QuoteStatus,
    RfqStatus,
    Side,
    TradeStatus,
    quote_commitment,
)
from tests.vm.ledger import DAY_MS
from tests.vm.trades.floor import HOUR_MS, PRICE, Floor, created

SALT = sha256(b"salt")
_Q, _R = QuoteStatus, RfqStatus


@pytest.fixture
def floor() -> Floor:
    return Floor()


def hit(floor: Floor, quote: bytes, quantity: int = 20, by: str = "BEN", **options: Any) -> bytes:
    return created(floor.act(by, QuoteRespond(quote, Hit(quantity, None)), **options))


def refused(floor: Floor, quote: bytes, code: Code, quantity: int = 20, reveal: Reveal | None = None) -> None:
    floor.act("BEN", QuoteRespond(quote, Hit(quantity, reveal)), code=code)


def statuses(floor: Floor, *quotes: bytes) -> list[QuoteStatus]:
    return [floor.quote(name).status for name in quotes]


@pytest.fixture
def wide() -> Floor:
    return Floor(holdings={"SAM": 20, "OWN": 20, "TOM": 20, "UMA": 20})


def test_a_hit_at_t_plus_0_settles_and_releases_what_the_quote_held_too_much(floor: Floor) -> None:
    rfq = floor.ask()
    quote = floor.submit("SAM", rfq)
    assert floor.holds("SAM") == (60, 20)
    trade = floor.trade(hit(floor, quote, 12))
    # 12 × 101.2345 = 1,214.814 → 1,214.81, fee 2.43
    assert (trade.status, trade.quantity, trade.clean, trade.fee, trade.source) == (
        TradeStatus.SETTLED,
        12,
        1_214_81,
        2_43,
        quote,
    )
    assert (floor.holds("SAM"), floor.holds("BEN")) == ((48, 0), (12, 0))
    assert floor.figures("SAM") == (1_212_38, 0, 0)
    assert floor.figures("BEN") == (1_000_000_00 - 1_217_24, 0, 0)
    request = floor.rfq(rfq)
    assert (request.status, request.trade is not None, request.ended_at) == (_R.FILLED, True, floor.now)
    assert floor.quote(quote).status is _Q.HIT
    assert floor.nothing_is_open("SAM", "BEN", "OWN")


def test_a_hit_for_later_locks_both_legs_until_settle_at(floor: Floor) -> None:
    settle_at = floor.now + 2 * DAY_MS
    rfq = floor.ask(settle_at=settle_at)
    name = hit(floor, floor.submit("SAM", rfq))
    trade = floor.trade(name)
    # 20 × 101.2345 = 2,024.69; 2 days of 5 % on 2,000.00 = 0.5479 → 0.55; fee 4.05
    assert (trade.status, trade.clean, trade.accrued, trade.fee) == (TradeStatus.LOCKED, 2_024_69, 55, 4_05)
    assert floor.figures("BEN") == (1_000_000_00 - 2_029_29, 2_029_29, 0)
    assert floor.holds("SAM") == (60, 20)
    floor.block(at=settle_at - 1)
    assert floor.trade(name).status is TradeStatus.LOCKED
    floor.block(at=settle_at)
    assert floor.trade(name).status is TradeStatus.SETTLED
    assert floor.figures("SAM") == (2_021_19, 0, 0)
    assert floor.nothing_is_open("SAM", "BEN", "OWN")


def test_what_was_hit_for_later_can_be_cancelled_by_both(floor: Floor) -> None:
    name = hit(floor, floor.submit("SAM", floor.ask(settle_at=floor.now + DAY_MS)))
    floor.act("BEN", TradeCancel(name))
    floor.act("SAM", TradeCancel(name))
    assert floor.everything("BEN")[0] == ((1_000_000_00, 0, 0), floor.units(floor.note, "BEN"))
    assert floor.nothing_is_open("SAM", "BEN", "OWN")


def test_a_buying_quote_locks_price_accrued_and_fee_and_a_later_hit_recomputes() -> None:
    floor = Floor()
    rfq = floor.ask("SAM", side=Side.SELL, responders=floor.named("BEN"), until=floor.now + 2 * DAY_MS)
    quote = floor.submit("BEN", rfq)
    # on the value date: 2,024.69 + 0.00 + 4.05
    assert floor.figures("BEN")[1] == 2_028_74
    floor.block(at=floor.now + DAY_MS)
    trade = floor.trade(hit(floor, quote, by="SAM"))
    # a day later 0.2740 → 0.27 more come from what is available
    assert (trade.accrued, floor.figures("BEN")) == (27, (1_000_000_00 - 2_029_01, 0, 0))


def test_a_shortfall_without_cash_is_refused(floor: Floor) -> None:
    floor.deposit("OWN", 2_028_74)
    rfq = floor.ask("SAM", side=Side.SELL, responders=floor.named("OWN"), until=floor.now + 2 * DAY_MS)
    quote = floor.submit("OWN", rfq)
    assert floor.figures("OWN") == (0, 2_028_74, 0)
    floor.block(at=floor.now + DAY_MS)
    floor.act("SAM", QuoteRespond(quote, Hit(20, None)), code=Code.LACK_CASH)
    hit(floor, quote, 19, by="SAM")


def test_an_indicative_quote_locks_nothing_and_cannot_be_hit(floor: Floor) -> None:
    rfq = floor.ask()
    quote = floor.submit("SAM", rfq, firm=False)
    assert floor.holds("SAM") == (60, 0)
    refused(floor, quote, Code.QUOTE_NOT_FIRM)
    floor.act("BEN", QuoteRespond(quote, Counter(PRICE - 1)))
    assert (floor.quote(quote).status, floor.quote(quote).counter_price) == (_Q.COUNTERED, PRICE - 1)
    hit(floor, floor.submit("SAM", rfq, PRICE - 1))


@pytest.mark.parametrize(("side", "prices", "cover"), [(Side.BUY, (5, 3, 3, 4), 1), (Side.SELL, (5, 6, 7, 7), 2)])
def test_the_best_of_the_others_is_the_cover_and_of_equals_the_earlier(
    side: Side, prices: tuple[int, ...], cover: int
) -> None:
    """The first quote is hit whatever it costs; ties go to the one that came earlier, not to the smaller account id."""
    for order in (("SAM", "OWN", "TOM", "UMA"), ("UMA", "TOM", "OWN", "SAM")):
        floor = Floor(holdings={"SAM": 20, "OWN": 20, "TOM": 20, "UMA": 20})
        for name in order:
            floor.deposit(name, 1_000_00)
        if side is Side.SELL:
            hit(floor, floor.submit("SAM", floor.ask(quantity=5), PRICE), 5)
        rfq = floor.ask("BEN", side=side, quantity=5, responders=floor.named(*order))
        quotes = [floor.submit(name, rfq, 100_0000 + price) for name, price in zip(order, prices, strict=True)]
        hit(floor, quotes[0], 5)
        expected = [_Q.HIT] + [_Q.DONE_AWAY] * 3
        expected[cover] = _Q.COVER
        assert statuses(floor, *quotes) == expected
        assert floor.nothing_is_open("BEN", *order)


def test_indicative_sealed_and_lapsed_quotes_are_never_the_cover(wide: Floor) -> None:
    rfq = wide.ask(quantity=5, responders=wide.named("SAM", "OWN", "TOM", "UMA"))
    sealed = quote_commitment(rfq, wide.ids["OWN"], 1, SALT)
    quotes = [
        wide.submit("SAM", rfq, 100_0000),
        wide.submit("OWN", rfq, None, commitment=sealed),
        wide.submit("TOM", rfq, 1_0000, firm=False),
        wide.submit("UMA", rfq, 2_0000, until=wide.now + 10),
    ]
    hit(wide, quotes[0], 5, at=wide.quote(quotes[3]).until)
    assert statuses(wide, *quotes) == [_Q.HIT, _Q.DONE_AWAY, _Q.DONE_AWAY, _Q.EXPIRED]
    assert wide.quote(quotes[1]).price is None
    assert wide.nothing_is_open("BEN", "SAM", "OWN", "TOM", "UMA")


def test_a_quote_is_hit_until_its_last_millisecond(floor: Floor) -> None:
    rfq = floor.ask()
    until = floor.now + 1_000
    first, second = floor.submit("SAM", rfq, until=until), floor.submit("OWN", rfq)
    floor.act("BEN", QuoteRespond(first, Hit(20, None)), code=Code.EXPIRED, at=until)
    assert (floor.quote(first).status, floor.quote(first).ended_at) == (_Q.EXPIRED, until)
    assert floor.holds("SAM") == (60, 0)
    floor.act("SAM", QuoteCancel(first), code=Code.EXPIRED)
    again = floor.submit("SAM", rfq, until=until + 1_000)
    hit(floor, again, at=until + 999)
    assert statuses(floor, again, second) == [_Q.HIT, _Q.COVER]


def test_a_request_expires_with_its_quotes(floor: Floor) -> None:
    rfq = floor.ask()
    quotes = [floor.submit("SAM", rfq), floor.submit("OWN", rfq, firm=False)]
    until = floor.rfq(rfq).until
    floor.act("OWN", floor.quoting(rfq), code=Code.DUPLICATE, at=until - 1)
    floor.block(at=until)
    assert floor.rfq(rfq).status is _R.EXPIRED
    assert statuses(floor, *quotes) == [_Q.EXPIRED] * 2
    floor.act("OWN", floor.quoting(rfq, until=until + 5), code=Code.EXPIRED)
    floor.act("BEN", RfqCancel(rfq), code=Code.EXPIRED)
    refused(floor, quotes[0], Code.EXPIRED)
    assert floor.nothing_is_open("SAM", "BEN", "OWN")


def test_a_pass_closes_the_request(floor: Floor) -> None:
    rfq = floor.ask()
    quotes = [floor.submit("SAM", rfq), floor.submit("OWN", rfq)]
    floor.freeze("BEN")
    floor.act("BEN", QuoteRespond(quotes[0], Counter(PRICE)), code=Code.FROZEN)
    floor.act("BEN", QuoteRespond(quotes[1], Pass()))
    assert floor.rfq(rfq).status is _R.PASSED
    assert statuses(floor, *quotes) == [_Q.DONE_AWAY] * 2
    assert floor.nothing_is_open("SAM", "BEN", "OWN")


def test_the_requester_and_the_responder_may_take_theirs_back(floor: Floor) -> None:
    rfq = floor.ask()
    first, second = floor.submit("SAM", rfq), floor.submit("OWN", rfq)
    floor.act("SAM", QuoteCancel(first))
    assert floor.holds("SAM") == (60, 0)
    floor.act("SAM", QuoteCancel(first), code=Code.STATE)
    refused(floor, first, Code.STATE)
    floor.act("BEN", RfqCancel(rfq))
    assert (floor.rfq(rfq).status, floor.quote(second).status) == (_R.CANCELLED, _Q.CANCELLED)
    floor.act("BEN", RfqCancel(rfq), code=Code.STATE)
    floor.act("OWN", floor.quoting(rfq), code=Code.STATE)
    assert floor.nothing_is_open("SAM", "BEN", "OWN")


def test_each_act_is_its_own_party_s(floor: Floor) -> None:
    rfq = floor.ask(responders=floor.named("SAM"))
    quote = floor.submit("SAM", rfq)
    floor.act("OWN", floor.quoting(rfq), code=Code.NOT_PARTY)
    for name in ("SAM", "OWN"):
        floor.act(name, RfqCancel(rfq), code=Code.NOT_PARTY)
        floor.act(name, QuoteRespond(quote, Pass()), code=Code.NOT_PARTY)
    floor.act("BEN", QuoteCancel(quote), code=Code.NOT_PARTY)
    floor.act("BEN", QuoteRespond(bytes(32), Pass()), code=Code.NOT_FOUND)
    floor.act("BEN", RfqCancel(bytes(32)), code=Code.NOT_FOUND)
    floor.act("SAM", QuoteCancel(bytes(32)), code=Code.NOT_FOUND)
    floor.act("SAM", QuoteSubmit(bytes(32), True, 1, None, 0, floor.now + 5), code=Code.NOT_FOUND)


def test_a_sealed_quote_to_sell_is_opened_by_its_price_and_salt(floor: Floor) -> None:
    rfq = floor.ask()
    commitment = quote_commitment(rfq, floor.ids["SAM"], PRICE, SALT)
    quote = floor.submit("SAM", rfq, None, commitment=commitment)
    refused(floor, quote, Code.FIELD)
    refused(floor, quote, Code.FIELD, reveal=Reveal(PRICE - 1, SALT))
    refused(floor, quote, Code.FIELD, reveal=Reveal(PRICE, sha256(b"other")))
    floor.act("BEN", QuoteRespond(quote, Hit(20, Reveal(PRICE, SALT))))
    assert (floor.quote(quote).price, floor.figures("SAM")[0]) == (PRICE, 2_024_69 - 4_05)


def test_an_open_quote_is_not_revealed(floor: Floor) -> None:
    refused(floor, floor.submit("SAM", floor.ask()), Code.FIELD, reveal=Reveal(PRICE, SALT))


@pytest.mark.parametrize(("cap", "code"), [(2_028_73, Code.LACK_CASH), (2_028_74, Code.OK), (9_000_00, Code.OK)])
def test_a_sealed_buyer_pays_at_most_its_cap_and_gets_the_rest_back(floor: Floor, cap: int, code: Code) -> None:
    rfq = floor.ask("SAM", side=Side.SELL, responders=floor.named("BEN"))
    commitment = quote_commitment(rfq, floor.ids["BEN"], PRICE, SALT)
    quote = floor.submit("BEN", rfq, None, commitment=commitment, cash_cap=cap)
    assert floor.figures("BEN") == (1_000_000_00 - cap, cap, 0)
    floor.act("SAM", QuoteRespond(quote, Hit(20, Reveal(PRICE, SALT))), code=code)
    if code is Code.OK:
        assert floor.figures("BEN") == (1_000_000_00 - 2_028_74, 0, 0)
    else:
        assert floor.figures("BEN") == (1_000_000_00 - cap, cap, 0)
        assert floor.quote(quote).status is _Q.ACTIVE


def test_the_own_leg_of_a_quote(floor: Floor) -> None:
    floor.act("OWN", floor.quoting(floor.ask(quantity=41)), code=Code.LACK_QTY)
    rfq = floor.ask("SAM", side=Side.SELL, responders=floor.named("OWN"))
    floor.act("OWN", floor.quoting(rfq), code=Code.LACK_CASH)
    floor.investor("EVE")
    floor.act("EVE", floor.quoting(floor.ask(responders=floor.named("EVE"))), code=Code.CONTRACT_NOT_EFFECTIVE)


def test_a_regulator_s_freeze_of_the_responder_cancels_its_quote(floor: Floor) -> None:
    rfq = floor.ask()
    first, second = floor.submit("SAM", rfq), floor.submit("OWN", rfq)
    floor.freeze("SAM")
    assert statuses(floor, first, second) == [_Q.CANCELLED, _Q.ACTIVE]
    floor.act("SAM", floor.quoting(rfq), code=Code.FROZEN)
    floor.freeze("BEN")
    refused(floor, second, Code.FROZEN)
    floor.act("OWN", QuoteCancel(second))
    floor.act("BEN", RfqCancel(rfq))
    assert floor.nothing_is_open("SAM", "BEN", "OWN")


def test_while_suspended_nobody_asks_quotes_or_hits_but_all_may_step_back(floor: Floor) -> None:
    rfq = floor.ask()
    quote = floor.submit("SAM", rfq)
    floor.act("LIST", ProductSuspend(floor.note, "rumours"))
    floor.act("BEN", floor.asking(), code=Code.STATE)
    floor.act("OWN", floor.quoting(rfq), code=Code.STATE)
    refused(floor, quote, Code.STATE)
    floor.act("BEN", QuoteRespond(quote, Counter(PRICE)))
    floor.act("BEN", RfqCancel(rfq))


@pytest.mark.parametrize("quantity", [0, 21])
def test_a_hit_is_for_at_most_what_was_asked(floor: Floor, quantity: int) -> None:
    refused(floor, floor.submit("SAM", floor.ask()), Code.AMOUNT, quantity)


def test_a_hit_that_fails_leaves_all_as_it_was(floor: Floor) -> None:
    floor.deposit("OWN", 2_000_00)
    rfq = floor.ask("OWN", responders=floor.named("SAM"))
    quote = floor.submit("SAM", rfq)
    before = floor.everything("SAM", "OWN")
    floor.act("OWN", QuoteRespond(quote, Hit(20, None)), code=Code.LACK_CASH)
    assert floor.everything("SAM", "OWN") == before
    assert (floor.rfq(rfq).status, floor.quote(quote).status) == (_R.OPEN, _Q.ACTIVE)


def test_fields_of_a_request(floor: Floor) -> None:
    cases: tuple[tuple[str, dict[str, Any]], ...] = (
        ("responders", {"responders": floor.named("SAM", "BEN")}),
        ("responders", {"responders": floor.named("SAM", "OWN")[::-1]}),
        ("settle_at", {"settle_at": floor.now + 1}),
        ("until", {"until": floor.now + 1}),
        ("until", {"until": floor.now + HOUR_MS, "settle_at": floor.now + HOUR_MS - 1}),
    )
    for field, changes in cases:
        assert floor.explained("BEN", floor.asking(**changes), Code.FIELD) == field, changes
        floor.now -= 1
    floor.act("BEN", floor.asking(quantity=0), code=Code.AMOUNT)
    for named in ("product", "contract"):
        floor.act("BEN", floor.asking(**{named: bytes(32)}), code=Code.NOT_FOUND)
    floor.act("BEN", floor.asking(responders=(bytes(32),)), code=Code.NOT_FOUND)
    floor.act("BEN", floor.asking(contract=floor.issuance), code=Code.CONTRACT_NOT_EFFECTIVE)
    floor.act("BEN", floor.asking(until=floor.now + HOUR_MS, settle_at=floor.now + HOUR_MS))


def test_fields_of_a_quote(floor: Floor) -> None:
    rfq = floor.ask()
    sealed: dict[str, Any] = {"price": None, "commitment": SALT}
    for field, changes in (
        ("until", {"until": floor.now + 1}),
        ("until", {"until": floor.rfq(rfq).until + 1}),
        ("price", {"price": None, "firm": False}),
        ("price", {**sealed, "firm": False}),
        ("commitment", {"price": None}),
        ("commitment", {"commitment": SALT}),
        ("cash_cap", {"cash_cap": 1}),
        ("cash_cap", {**sealed, "cash_cap": 1}),
    ):
        quoting = floor.quoting(rfq, **changes)
        assert floor.explained("SAM", quoting, Code.FIELD).split(":")[0] == field, changes
        floor.now -= 1
    floor.act("SAM", floor.quoting(rfq, 0), code=Code.AMOUNT)
    floor.act("SAM", floor.quoting(floor.ask(quantity=101), 2**63 - 1), code=Code.OVERFLOW)
    selling = floor.ask("SAM", side=Side.SELL, responders=floor.named("BEN"))
    assert floor.explained("BEN", floor.quoting(selling, **sealed), Code.FIELD).startswith("cash_cap")


def test_a_responder_has_one_live_quote_at_a_time(floor: Floor) -> None:
    rfq = floor.ask()
    first = floor.submit("SAM", rfq, until=floor.now + 10)
    floor.act("SAM", floor.quoting(rfq), code=Code.DUPLICATE)
    floor.act("SAM", floor.quoting(rfq), at=floor.quote(first).until)
    assert (floor.quote(first).status, floor.rfq(rfq).quotes) == (_Q.EXPIRED, 2)


def test_maturity_ends_requests_and_quotes(floor: Floor) -> None:
    maturity = floor.product_terms(floor.note).maturity_ms
    floor.deposit("ISS", 20_000_00)
    floor.advance(maturity - HOUR_MS)
    rfq = floor.ask(until=maturity + HOUR_MS)
    quote = floor.submit("SAM", rfq)
    floor.advance(maturity)
    assert (floor.rfq(rfq).status, floor.quote(quote).status) == (_R.EXPIRED, _Q.EXPIRED)
    assert floor.nothing_is_open("SAM", "BEN", "OWN")


def test_requests_and_quotes_are_found_by_all_who_take_part(floor: Floor) -> None:
    rfq = floor.ask()
    quotes = [floor.submit("OWN", rfq), floor.submit("SAM", rfq)]
    for name in ("BEN", "SAM", "OWN"):
        rows = floor.state.scan(TRADING_BY_ACCOUNT, floor.ids[name] + OPEN_RFQ)
        assert [suffix[-32:] for suffix, _ in rows] == [rfq]
    rows = floor.state.scan(TRADING_BY_PRODUCT, rfq + OPEN_QUOTE)
    assert [suffix[-32:] for suffix, _ in rows] == quotes

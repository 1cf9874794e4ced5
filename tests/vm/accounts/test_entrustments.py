"""Entrustments: their life to the millisecond, and what may be done under them to the minor unit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from otcnode.crypto import sha256
from otcnode.errors import Code, Failed, Inadmissible
from otcnode.genesis import KeyPurpose
from otcnode.vm import delegation
from otcnode.vm.accounts import entrustments
from otcnode.vm.accounts.events import EntrustmentUsed
from otcnode.vm.accounts.operations import (
    AccountFreeze,
    CashWithdraw,
    EntrustAccept,
    EntrustDecline,
    EntrustGrant,
    EntrustRevoke,
    KeyRevoke,
)
from otcnode.vm.accounts.records import ACCOUNTS, ENTRUSTMENTS_ACTIVE, OPEN_ITEMS, EntrustmentStatus, Scope
from otcnode.vm.contracts.events import ContractCreated
from otcnode.vm.contracts.operations import ContractConfirm, ContractCreate, ContractSign, ContractSubmit, NewSlot
from otcnode.vm.contracts.preimages import contract_signature_preimage, terms_hash
from otcnode.vm.contracts.records import (
    CONTRACT_SIGNATURES,
    ContractKind,
    ContractStatus,
    Immediately,
    SlotRole,
)
from otcnode.vm.keys import OPEN_ENTRUSTMENT
from otcnode.vm.products.operations import ProductSubscribe, RedeemRequest
from otcnode.vm.trades.operations import Hit, QuoteRespond, TradeAffirm, TradeReject
from otcnode.vm.trades.records import Side, TradeStatus
from tests.vm.accounts.agency import MANAGE, Agency
from tests.vm.ledger import CASH, DAY_MS, key_of
from tests.vm.products.market import DOCUMENT, SIGN, TEXT, outlay
from tests.vm.trades.floor import ORDER

S = EntrustmentStatus
COST = 1_012_35 + 2_02
"""Ten units at 101.2345 are 1,012.345, and 2,000 ppm of the rounded price 2.0247, on the value date."""


@pytest.fixture
def agency() -> Agency:
    return Agency(rate_ppm=0)


# life


def test_a_grant_is_an_open_item_of_the_principal_until_it_ends(agency: Agency) -> None:
    name = agency.grant()
    own = agency.ids["BEN"]
    assert agency.standing(name) == (S.PROPOSED, 0)
    assert agency.state.get(OPEN_ITEMS, own + OPEN_ENTRUSTMENT + name) is not None
    agency.act("AGT", EntrustDecline(name), purpose=MANAGE)
    assert agency.standing(name) == (S.DECLINED, 0)
    account = agency.state.get(ACCOUNTS, own)
    assert account is not None
    assert account.open_items == 0


@pytest.mark.parametrize("accepted", [False, True])
def test_an_entrustment_expires_at_its_end_to_the_millisecond(agency: Agency, accepted: bool) -> None:
    name = agency.entrusted() if accepted else agency.grant()
    before = S.ACTIVE if accepted else S.PROPOSED
    until = agency.entrustment(name).powers.until
    agency.block(at=until - 1)
    assert agency.standing(name) == (before, 0)
    result = agency.block(at=until)
    assert [receipt.kind for receipt in result.automatic] == [entrustments.EXPIRE]
    assert agency.standing(name) == (S.EXPIRED, 0)
    assert agency.state.scan(ENTRUSTMENTS_ACTIVE) == []


def test_the_end_counts_even_where_the_queue_is_behind(agency: Agency) -> None:
    """Seen by an operation of a block in which the queue did not get to the entrustment."""
    record = agency.entrustment(agency.entrusted())
    context = agency.context()
    context.now = record.powers.until - 1
    entrustments.refuse_unless(context, record, S.ACTIVE)
    context.now = record.powers.until
    with pytest.raises(Failed) as caught:
        entrustments.refuse_unless(context, record, S.ACTIVE)
    assert caught.value.code is Code.EXPIRED


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("scopes", {"scopes": ()}),
        ("scopes", {"scopes": (Scope.TRADE, Scope.SIGN)}),
        ("scopes", {"scopes": (Scope.SIGN, Scope.SIGN)}),
        ("products", {"products": ()}),
        ("max_price", {"min_price": 2, "max_price": 1}),
        ("until", {"until": 1}),
        ("until", {"valid_from": 2**62, "until": 2**62}),
    ],
)
def test_powers_are_bounded(agency: Agency, field: str, changes: dict[str, Any]) -> None:
    operation = EntrustGrant(agency.ids["AGT"], agency.powers(**changes))
    agency.act("BEN", operation, purpose=MANAGE, code=Code.FIELD)
    assert agency.last is not None
    assert agency.last.explanations == (field,)


def test_an_entrustment_lasts_a_year_at_most(agency: Agency) -> None:
    year = agency.now + 1 + 366 * DAY_MS
    agency.grant(until=year + 1, code=Code.FIELD)
    agency.grant(until=agency.now + 1 + 366 * DAY_MS)


def test_whom_one_may_entrust(agency: Agency) -> None:
    agency.apply_for("NEW")
    agency.grant(agent="BEN", code=Code.FIELD)
    agency.grant(agent="NEW", code=Code.STATE)
    agency.grant(products=(sha256(b"no product"),), code=Code.NOT_FOUND)
    missing = EntrustGrant(sha256(b"nobody"), agency.powers())
    agency.act("BEN", missing, purpose=MANAGE, code=Code.NOT_FOUND)
    agency.freeze("AGT")
    agency.grant(code=Code.FROZEN)


# (state × operation)


def declined(agency: Agency) -> bytes:
    name = agency.grant()
    agency.act("AGT", EntrustDecline(name), purpose=MANAGE)
    return name


def exhausted(agency: Agency) -> bytes:
    name = agency.entrusted(total_cap=COST)
    agency.act_for("BEN", name, agency.proposal(counterparty=agency.ids["SAM"], side=Side.BUY))
    return name


def expired(agency: Agency) -> bytes:
    name = agency.entrusted()
    agency.block(at=agency.entrustment(name).powers.until)
    return name


def revoked(agency: Agency) -> bytes:
    name = agency.entrusted()
    agency.act("BEN", EntrustRevoke(name), purpose=MANAGE)
    return name


WAYS: dict[EntrustmentStatus, Callable[[Agency], bytes]] = {
    S.PROPOSED: lambda agency: agency.grant(),
    S.DECLINED: declined,
    S.ACTIVE: lambda agency: agency.entrusted(),
    S.EXHAUSTED: exhausted,
    S.EXPIRED: expired,
    S.REVOKED: revoked,
}
ACTS: dict[str, tuple[str, Callable[[bytes], Any]]] = {
    "accept": ("AGT", EntrustAccept),
    "decline": ("AGT", EntrustDecline),
    "revoke": ("BEN", EntrustRevoke),
    "give back": ("AGT", EntrustRevoke),
}
MOVES = {
    (S.PROPOSED, "accept"): S.ACTIVE,
    (S.PROPOSED, "decline"): S.DECLINED,
    (S.ACTIVE, "revoke"): S.REVOKED,
    (S.ACTIVE, "give back"): S.REVOKED,
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("status", S)
def test_every_operation_in_every_status(agency: Agency, status: EntrustmentStatus, act: str) -> None:
    name = WAYS[status](agency)
    before = agency.entrustment(name)
    assert before.status is status
    by, operation = ACTS[act]
    after = MOVES.get((status, act))
    refusal = Code.EXPIRED if status is S.EXPIRED else Code.STATE
    agency.act("SAM", operation(name), purpose=MANAGE, code=Code.NOT_PARTY)
    agency.act(by, operation(name), purpose=MANAGE, code=refusal if after is None else Code.OK)
    assert agency.entrustment(name).status is (after or status)
    if after is None:
        assert agency.entrustment(name) == before
    else:
        assert after in entrustments.TRANSITIONS[status]


@pytest.mark.parametrize("status", S)
def test_only_an_active_entrustment_lets_an_agent_act(agency: Agency, status: EntrustmentStatus) -> None:
    name = WAYS[status](agency)
    code = {S.ACTIVE: Code.OK, S.EXPIRED: Code.EXPIRED}.get(status, Code.STATE)
    agency.act_for("BEN", name, agency.proposal(counterparty=agency.ids["SAM"], side=Side.BUY), code=code)


def test_a_terminal_entrustment_stays_as_it_is(agency: Agency) -> None:
    for status in sorted(set(S) - set(entrustments.TRANSITIONS)):
        name = WAYS[status](agency)
        before = agency.entrustment(name)
        agency.block(at=agency.now + 400)
        assert agency.entrustment(name) == before


# the order of refusals


def test_each_refusal_comes_before_the_next(agency: Agency) -> None:
    """An act with every fault at once; one after the other is mended."""
    later = agency.now + DAY_MS
    name = agency.entrusted(
        scopes=(Scope.SIGN,), products=(agency.note,), valid_from=later, per_action_cap=COST - 1, until=later + DAY_MS
    )
    other = agency.entrusted("OWN")
    bad = agency.proposal(counterparty=agency.ids["AGT"], side=Side.BUY, settle_at=later + 3 * DAY_MS)
    agency.act_for("BEN", sha256(b"none"), bad, code=Code.NOT_FOUND)
    agency.act_for("BEN", None, bad, code=Code.NOT_FOUND)
    agency.act_for("BEN", other, bad, code=Code.NOT_PARTY)
    agency.act_for("BEN", name, bad, agent="SAM", code=Code.NOT_PARTY)
    agency.act_for("BEN", name, bad, at=later - 1, code=Code.STATE)
    agency.act_for("BEN", name, bad, at=later, code=Code.ENTRUST_SCOPE)
    agency.act("BEN", EntrustRevoke(name), purpose=MANAGE)
    trading = agency.entrusted(products=(agency.note,), per_action_cap=COST - 1)
    agency.act_for("BEN", trading, bad, code=Code.SELF_DEALING)
    good = agency.proposal(counterparty=agency.ids["SAM"], side=Side.BUY, settle_at=later + DAY_MS)
    agency.act_for("BEN", trading, good, code=Code.ENTRUST_CAP)
    wide = agency.entrusted()
    agency.freeze("BEN")
    agency.act_for("BEN", wide, good, code=Code.FROZEN)
    assert agency.standing(wide) == (S.ACTIVE, 0)


def test_pause_and_role_are_the_principals(agency: Agency) -> None:
    name = agency.entrusted()
    missing = agency.sign(
        "AGT", agency.proposal(), on_behalf_of=sha256(b"nobody"), entrustment=name, valid_until=agency.now + 60_000
    )
    assert agency.block(missing).receipts[0].code is Code.NOT_FOUND


def test_what_is_outside_the_five_scopes_cannot_be_done_for_another(agency: Agency) -> None:
    name = agency.entrusted()
    agency.act_for("BEN", name, CashWithdraw(CASH, 1, DOCUMENT), code=Code.ENTRUST_SCOPE)
    passed_on = EntrustGrant(agency.ids["SAM"], agency.powers())
    agency.act_for("BEN", name, passed_on, purpose=MANAGE, code=Code.ENTRUST_SCOPE)
    agency.act_for("BEN", name, KeyRevoke(key_of("BEN").public), purpose=MANAGE, code=Code.ENTRUST_SCOPE)


def test_an_entrustment_without_a_principal_named_is_not_the_agents_own(agency: Agency) -> None:
    name = agency.entrusted()
    decoded = agency.sign("AGT", agency.proposal(), entrustment=name)
    assert agency.block(decoded).receipts[0].code is Code.NOT_PARTY


# products, prices


def test_products_and_prices_bound_what_an_agent_may_trade(agency: Agency) -> None:
    sam = agency.ids["SAM"]
    name = agency.entrusted(products=(agency.note,), min_price=101_2345, max_price=101_2345)
    agency.act_for(
        "BEN", name, agency.proposal(counterparty=sam, side=Side.BUY, price=101_2344), code=Code.ENTRUST_SCOPE
    )
    agency.act_for(
        "BEN", name, agency.proposal(counterparty=sam, side=Side.BUY, price=101_2346), code=Code.ENTRUST_SCOPE
    )
    agency.act_for("BEN", name, agency.proposal(counterparty=sam, side=Side.BUY))
    other = sha256(b"another product")
    agency.act_for("BEN", name, agency.proposal(counterparty=sam, product=other), code=Code.ENTRUST_SCOPE)


# caps


def test_a_purchase_counts_with_its_fee_to_the_minor_unit(agency: Agency) -> None:
    buy = agency.proposal(counterparty=agency.ids["SAM"], side=Side.BUY)
    short = agency.entrusted(per_action_cap=COST - 1)
    agency.act_for("BEN", short, buy, code=Code.ENTRUST_CAP)
    exact = agency.entrusted(per_action_cap=COST)
    receipt = agency.act_for("BEN", exact, buy)
    used = EntrustmentUsed(exact, agency.ids["BEN"], agency.ids["AGT"], COST, COST)
    assert used in receipt.events
    assert agency.standing(exact) == (S.ACTIVE, COST)


def test_a_sale_counts_with_its_fee_alone(agency: Agency) -> None:
    name = agency.entrusted("SAM", total_cap=2 * 2_02)
    agency.act_for("SAM", name, agency.proposal())
    assert agency.standing(name) == (S.ACTIVE, 2_02)
    agency.act_for("SAM", name, agency.proposal())
    assert agency.standing(name) == (S.EXHAUSTED, 2 * 2_02)


def test_one_transaction_is_one_action_however_many_operations_it_has(agency: Agency) -> None:
    name = agency.entrusted(per_action_cap=2 * COST - 1)
    buy = agency.proposal(counterparty=agency.ids["SAM"], side=Side.BUY)
    receipt = agency.act_for("BEN", name, buy, buy, code=Code.ENTRUST_CAP)
    assert receipt.operation == 1
    assert agency.standing(name) == (S.ACTIVE, 0)
    agency.act_for("BEN", name, buy)
    agency.act_for("BEN", name, buy)
    assert agency.standing(name) == (S.ACTIVE, 2 * COST)


def test_the_total_is_used_up_by_the_whole_transaction_and_not_before_its_end(agency: Agency) -> None:
    name = agency.entrusted(total_cap=2 * COST)
    buy = agency.proposal(counterparty=agency.ids["SAM"], side=Side.BUY)
    agency.act_for("BEN", name, buy, buy, buy, code=Code.ENTRUST_CAP)
    receipt = agency.act_for("BEN", name, buy, buy)
    assert [event.amount for event in receipt.events if isinstance(event, EntrustmentUsed)] == [2 * COST]
    assert agency.standing(name) == (S.EXHAUSTED, 2 * COST)


def test_what_is_used_never_comes_back(agency: Agency) -> None:
    """The other party rejects what the agent proposed; the cap stays used."""
    name = agency.entrusted(total_cap=2 * COST - 1)
    buy = agency.proposal(counterparty=agency.ids["SAM"], side=Side.BUY)
    receipt = agency.act_for("BEN", name, buy)
    trade = next(event.trade for event in receipt.events if hasattr(event, "trade"))
    agency.act("SAM", TradeReject(trade))
    agency.act_for("BEN", name, buy, code=Code.ENTRUST_CAP)
    assert agency.standing(name) == (S.ACTIVE, COST)


def test_revoking_undoes_nothing(agency: Agency) -> None:
    """A trade the agent affirmed settles after the entrustment is gone: to the unit, to the minor unit, to the ms."""
    name = agency.entrusted()
    trade = agency.propose()
    agency.act_for("BEN", name, TradeAffirm(trade))
    agency.act("BEN", EntrustRevoke(name), purpose=MANAGE)
    assert agency.standing(name) == (S.REVOKED, COST)
    settle_at = agency.trade(trade).settle_at
    assert settle_at is not None
    assert agency.figures("BEN") == (1_000_000_00 - COST, COST, 0)
    agency.block(at=settle_at - 1)
    assert agency.trade(trade).status is TradeStatus.LOCKED
    agency.block(at=settle_at)
    assert agency.trade(trade).status is TradeStatus.SETTLED
    assert agency.figures("BEN") == (1_000_000_00 - COST, 0, 0)
    assert agency.holds("BEN") == (10, 0)
    assert agency.figures("AGT") == (0, 0, 0)


# self-dealing


def test_an_agent_does_not_deal_with_itself_nor_with_whom_else_it_represents(agency: Agency) -> None:
    name = agency.entrusted()
    agency.act_for("BEN", name, agency.proposal(counterparty=agency.ids["AGT"]), code=Code.SELF_DEALING)
    other = agency.entrusted("SAM")
    buy = agency.proposal(counterparty=agency.ids["SAM"], side=Side.BUY)
    agency.act_for("BEN", name, buy, code=Code.SELF_DEALING)
    agency.act("SAM", EntrustRevoke(other), purpose=MANAGE)
    agency.act_for("BEN", name, buy)


def test_an_agent_does_not_affirm_for_another_what_it_proposed_itself(agency: Agency) -> None:
    for_seller, for_buyer = agency.entrusted("SAM"), agency.grant("BEN")
    receipt = agency.act_for("SAM", for_seller, agency.proposal())
    trade = next(event.trade for event in receipt.events if hasattr(event, "trade"))
    agency.act("AGT", EntrustAccept(for_buyer), purpose=MANAGE)
    agency.act_for("BEN", for_buyer, TradeAffirm(trade), code=Code.SELF_DEALING)


def test_what_an_agent_did_for_one_side_it_does_not_answer_for_the_other_even_later(agency: Agency) -> None:
    """The first entrustment is over, but its acts stand: a proposal, and a quote."""
    for_sam = agency.entrusted("SAM")
    rfq = agency.ask()
    receipt = agency.act_for("SAM", for_sam, agency.proposal())
    trade = next(event.trade for event in receipt.events if hasattr(event, "trade"))
    receipt = agency.act_for("SAM", for_sam, agency.quoting(rfq))
    quote = next(event.quote for event in receipt.events if hasattr(event, "quote"))
    agency.act("SAM", EntrustRevoke(for_sam), purpose=MANAGE)
    for_ben = agency.entrusted("BEN")
    agency.act_for("BEN", for_ben, TradeAffirm(trade), code=Code.SELF_DEALING)
    agency.act_for("BEN", for_ben, QuoteRespond(quote, Hit(20, None)), code=Code.SELF_DEALING)
    assert agency.standing(for_ben) == (S.ACTIVE, 0)
    agency.act("BEN", QuoteRespond(quote, Hit(20, None)))
    agency.act("BEN", TradeAffirm(trade))


def test_self_dealing_may_be_allowed(agency: Agency) -> None:
    name = agency.entrusted(allow_self_dealing=True)
    agency.entrusted("SAM")
    agency.act_for("BEN", name, agency.proposal(counterparty=agency.ids["SAM"], side=Side.BUY))


def test_representation_ends_with_its_time_even_where_the_queue_is_behind(agency: Agency) -> None:
    agency.entrusted("SAM")
    context = agency.context()
    agent, other = agency.ids["AGT"], agency.ids["SAM"]
    until = agency.now + 40 * DAY_MS
    assert delegation.is_same_hand(context, agent, other)
    context.now = until
    assert not delegation.is_same_hand(context, agent, other)
    assert delegation.is_same_hand(context, agent, agent)


# every scope


def test_an_agent_subscribes_for_its_principal(agency: Agency) -> None:
    product = agency.opened("NOTE-2", open=agency.now, **later(agency))
    terms = agency.product_terms(product)
    contract = agency.subscription_contract(product, "BEN")
    cost = outlay(terms, 20)
    order = ProductSubscribe(product, 20, contract)
    agency.act_for("BEN", agency.entrusted(per_action_cap=cost - 1), order, code=Code.ENTRUST_CAP)
    name = agency.entrusted(per_action_cap=cost, scopes=(Scope.SUBSCRIBE,))
    agency.act_for("BEN", name, order, at=terms.close, code=Code.EXPIRED)


def test_a_subscription_counts_and_locks_the_principals_money(agency: Agency) -> None:
    product = agency.opened("NOTE-2", open=agency.now, **later(agency))
    cost = outlay(agency.product_terms(product), 20)
    contract = agency.subscription_contract(product, "BEN")
    name = agency.entrusted(total_cap=cost, scopes=(Scope.SUBSCRIBE,))
    agency.act_for("BEN", name, ProductSubscribe(product, 20, contract))
    assert agency.figures("BEN") == (1_000_000_00 - cost, cost, 0)
    assert agency.standing(name) == (S.EXHAUSTED, cost)


def later(agency: Agency) -> dict[str, Any]:
    """Dates of a product that opens now."""
    day = agency.product_terms(agency.note).date_of(agency.now)
    return {
        "close": agency.now + 5 * DAY_MS,
        "value_date": day + 10,
        "maturity": day + 100,
        "pay_dates": (day + 100,),
    }


def test_an_agent_redeems_for_its_principal(agency: Agency) -> None:
    refused = agency.entrusted("SAM", scopes=(Scope.TRADE,))
    until = agency.now + 10 * DAY_MS
    agency.act_for("SAM", refused, RedeemRequest(agency.note, 60, until), code=Code.ENTRUST_SCOPE)
    name = agency.entrusted("SAM", scopes=(Scope.REDEEM,), total_cap=0, per_action_cap=0)
    agency.act_for("SAM", name, RedeemRequest(agency.note, 60, until))
    assert agency.holds("SAM") == (60, 60)
    assert agency.standing(name) == (S.ACTIVE, 0)


def drafted(agency: Agency) -> bytes:
    """A contract between SAM and BEN, submitted for confirmation."""
    draft = ContractCreate(
        kind=ContractKind.TRANSFER,
        open=False,
        subject=agency.note,
        document=DOCUMENT,
        terms=TEXT,
        terms_hash=terms_hash(TEXT),
        slots=tuple(NewSlot(agency.ids[name], SlotRole.SIGNER, 0, 1) for name in ("SAM", "BEN")),
        salesperson=None,
        confirm_by=agency.now + DAY_MS,
        sign_by=agency.now + 2 * DAY_MS,
        effective=Immediately(),
        required_fields=(),
        supersedes=None,
    )
    receipt = agency.act("SAM", draft, purpose=SIGN)
    name = next(event.contract for event in receipt.events if isinstance(event, ContractCreated))
    agency.act("SAM", ContractSubmit(name), purpose=SIGN)
    return name


def signature_for(agency: Agency, contract: bytes, entrustment: bytes | None, by: str = "AGT") -> ContractSign:
    message = contract_signature_preimage(
        chain=agency.chain,
        contract=contract,
        version=1,
        terms_hash=terms_hash(TEXT),
        document=DOCUMENT,
        slot=1,
        principal=agency.ids["BEN"],
        entrustment=entrustment,
    )
    key = key_of(by, SIGN)
    return ContractSign(contract, 1, 1, key.public, key.sign(message))


def test_an_agent_confirms_and_signs_with_its_own_key(agency: Agency) -> None:
    name = agency.entrusted(scopes=(Scope.CONFIRM, Scope.SIGN), per_action_cap=0, total_cap=0)
    contract = drafted(agency)
    agency.act("SAM", ContractConfirm(contract, 0, 1, terms_hash(TEXT)), purpose=SIGN)
    agency.act_for("BEN", name, ContractConfirm(contract, 1, 1, terms_hash(TEXT)), purpose=SIGN)
    agency.act("SAM", agency.signature(contract, 0, "SAM"), purpose=SIGN)
    without = signature_for(agency, contract, None)
    agency.act_for("BEN", name, without, purpose=SIGN, code=Code.AUTH)
    agency.act_for("BEN", name, signature_for(agency, contract, name), purpose=SIGN)
    assert agency.contract_record(contract).status is ContractStatus.EFFECTIVE
    record = agency.state.get(CONTRACT_SIGNATURES, contract + b"\x01" + key_of("AGT", SIGN).public)
    assert record is not None
    assert (record.by, record.entrustment) == (agency.ids["AGT"], name)


def test_an_agent_does_not_sign_for_both_sides(agency: Agency) -> None:
    for_ben, for_sam = agency.entrusted("BEN"), agency.entrusted("SAM")
    contract = drafted(agency)
    confirmation = ContractConfirm(contract, 1, 1, terms_hash(TEXT))
    agency.act_for("BEN", for_ben, confirmation, purpose=SIGN, code=Code.SELF_DEALING)
    agency.act("SAM", EntrustRevoke(for_sam), purpose=MANAGE)
    agency.act_for("BEN", for_ben, confirmation, purpose=SIGN)


def test_whoever_confirmed_for_one_side_does_not_sign_for_the_other(agency: Agency) -> None:
    """The first entrustment is over, but its act stands in the contract."""
    for_sam = agency.entrusted("SAM")
    contract = drafted(agency)
    agency.act_for("SAM", for_sam, ContractConfirm(contract, 0, 1, terms_hash(TEXT)), purpose=SIGN)
    agency.act("SAM", EntrustRevoke(for_sam), purpose=MANAGE)
    for_ben = agency.entrusted("BEN")
    confirmation = ContractConfirm(contract, 1, 1, terms_hash(TEXT))
    agency.act_for("BEN", for_ben, confirmation, purpose=SIGN, code=Code.SELF_DEALING)


def test_an_agents_keys_of_the_wrong_purpose_do_not_reach_the_ledger(agency: Agency) -> None:
    name = agency.entrusted()
    with pytest.raises(Inadmissible) as caught:
        agency.act_for("BEN", name, agency.proposal(), purpose=KeyPurpose.SIGN)
    assert caught.value.code is Code.KEY_PURPOSE


def test_a_frozen_agent_does_not_act(agency: Agency) -> None:
    name = agency.entrusted()
    agency.act("REG", AccountFreeze(agency.ids["AGT"], None, 0, ORDER, None))
    buy = agency.proposal(counterparty=agency.ids["SAM"], side=Side.BUY)
    agency.act_for("BEN", name, buy, code=Code.FROZEN)

"""Recovery of an account: two organisations, a day to object, and what the former keys leave behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from otcnode.crypto import sha256
from otcnode.errors import Code, Failed, Inadmissible
from otcnode.genesis import KeyPurpose
from otcnode.vm.accounts import recovery
from otcnode.vm.accounts.events import RecoveryChanged
from otcnode.vm.accounts.operations import (
    AccountFreeze,
    AccountObject,
    AccountRecover,
    AccountRecoverApprove,
    CashWithdraw,
    EntrustAccept,
    KeyAdd,
    KeyRotate,
    NewKey,
)
from otcnode.vm.accounts.records import (
    ACCOUNTS,
    FREEZES_BY_ACCOUNT,
    LOCKS,
    RECOVERIES,
    AccountStatus,
    EntrustmentStatus,
    Recovery,
    RecoveryStatus,
    Thresholds,
)
from otcnode.vm.governance.records import GOVERNORS
from otcnode.vm.products.operations import RedeemRequest
from otcnode.vm.products.records import RedemptionStatus
from otcnode.vm.trades.operations import OfferTake, TradeAffirm
from otcnode.vm.trades.records import OfferStatus, QuoteStatus, Side, TradeStatus
from tests.vm.accounts.agency import MANAGE, Agency
from tests.vm.ledger import CASH, DAY_MS, key_of

S = RecoveryStatus
ORDER = sha256(b"death certificate")
TRADE = KeyPurpose.TRADE


@pytest.fixture
def agency() -> Agency:
    return Agency(rate_ppm=0)


def request(agency: Agency, name: str = "SAM", **changes: Any) -> AccountRecover:
    keys = tuple(NewKey(purpose, key_of(f"{name}/new", purpose).public) for purpose in KeyPurpose)
    operation = AccountRecover(agency.ids[name], keys, Thresholds(1, 1, 1), sha256(b"enc"), ORDER)
    return replace(operation, **changes)


def proposed(agency: Agency, name: str = "SAM") -> bytes:
    receipt = agency.act("RCV", request(agency, name))
    return next(event.recovery for event in receipt.events if isinstance(event, RecoveryChanged))


def delayed(agency: Agency, name: str = "SAM") -> bytes:
    recovery_name = proposed(agency, name)
    agency.act("REG", AccountRecoverApprove(recovery_name))
    return recovery_name


def record(agency: Agency, name: bytes) -> Recovery:
    found = agency.state.get(RECOVERIES, name)
    assert found is not None
    return found


def status_of(agency: Agency, name: str = "SAM") -> AccountStatus:
    found = agency.state.get(ACCOUNTS, agency.ids[name])
    assert found is not None
    return found.status


def test_two_organisations_and_a_day_change_the_keys_to_the_millisecond(agency: Agency) -> None:
    name = proposed(agency)
    assert status_of(agency) is AccountStatus.ACTIVE
    agency.act("REG", AccountRecoverApprove(name))
    approved_at = agency.now
    assert status_of(agency) is AccountStatus.RECOVERING
    agency.block(at=approved_at + DAY_MS - 1)
    assert record(agency, name).status is S.DELAYED
    agency.block(at=approved_at + DAY_MS)
    assert record(agency, name).status is S.COMPLETED
    assert status_of(agency) is AccountStatus.ACTIVE
    with pytest.raises(Inadmissible) as caught:
        agency.act("SAM", CashWithdraw(CASH, 1, ORDER))
    assert caught.value.code is Code.KEY_REVOKED
    new = agency.sign("SAM", CashWithdraw(CASH, 1, ORDER), keys=[key_of("SAM/new")])
    assert agency.block(new).receipts[0].code is Code.LACK_CASH
    account = agency.state.get(ACCOUNTS, agency.ids["SAM"])
    assert account is not None
    assert (account.encryption_key, account.open_items) == (sha256(b"enc"), 0)


def test_while_recovering_only_the_objection_passes(agency: Agency) -> None:
    agency.deposit("SAM", 5)
    delayed(agency)
    for operation, purpose in ((CashWithdraw(CASH, 1, ORDER), TRADE), (EntrustAccept(ORDER), MANAGE)):
        with pytest.raises(Inadmissible) as caught:
            agency.act("SAM", operation, purpose=purpose)
        assert caught.value.code is Code.ACCOUNT_STATE
    agency.deposit("SAM", 7)
    agency.act("SAM", AccountObject(), purpose=MANAGE)
    assert status_of(agency) is AccountStatus.ACTIVE
    agency.act("SAM", CashWithdraw(CASH, 12, ORDER))


def test_an_objection_comes_in_time_to_the_millisecond(agency: Agency) -> None:
    name = delayed(agency)
    end = record(agency, name).deadline
    agency.act("SAM", AccountObject(), purpose=MANAGE, at=end - 1)
    assert record(agency, name).status is S.OBJECTED
    again = delayed(agency)
    end = record(agency, again).deadline
    context = agency.context()
    context.actor = context.principal = agency.ids["SAM"]
    context.now = end
    with pytest.raises(Failed) as caught:
        recovery.object_to(context, AccountObject())
    assert caught.value.code is Code.EXPIRED
    assert record(agency, again).status is S.DELAYED


def test_one_organisation_cannot_do_both(agency: Agency) -> None:
    """The regulator belongs to the desk's organisation."""
    name = proposed(agency)
    writes = agency.state
    regulator, desk = (writes.get(ACCOUNTS, agency.ids[who]) for who in ("REG", "RCV"))
    assert regulator is not None and desk is not None
    writes.put(ACCOUNTS, agency.ids["REG"], replace(regulator, organisation=desk.organisation))
    agency.view.write(writes.writes())
    agency.act("REG", AccountRecoverApprove(name), code=Code.FOUR_EYES)
    agency.act("RCV", AccountRecoverApprove(name), code=Code.ROLE)


def test_bad_requests(agency: Agency) -> None:
    agency.act("RCV", request(agency, account=sha256(b"nobody")), code=Code.NOT_FOUND)
    agency.act("RCV", request(agency, thresholds=Thresholds(2, 1, 1)), code=Code.FIELD)
    agency.act("RCV", request(agency, thresholds=Thresholds(0, 1, 1)), code=Code.FIELD)
    known = NewKey(MANAGE, key_of("SAM", MANAGE).public)
    agency.act("RCV", request(agency, keys=(known,), thresholds=Thresholds(1, 0, 0)), code=Code.DUPLICATE)
    agency.apply_for("NEW")
    agency.act("RCV", request(agency, account=agency.ids["NEW"]), code=Code.STATE)
    proposed(agency)
    agency.act("RCV", request(agency), code=Code.DUPLICATE)
    agency.act("REG", AccountRecoverApprove(sha256(b"none")), code=Code.NOT_FOUND)
    agency.act("BEN", AccountObject(), purpose=MANAGE, code=Code.STATE)


def test_keys_that_a_recovery_brings_are_added_by_nothing_else(agency: Agency) -> None:
    """Added meanwhile, such a key would begin a second life when the recovery completes, later than what it had signed:
    the signature would seem to be of a key that was not there yet."""
    new = key_of("SAM/new", KeyPurpose.SIGN).public
    old = key_of("SAM", KeyPurpose.SIGN).public
    name = proposed(agency)
    agency.act("SAM", KeyAdd(KeyPurpose.SIGN, new), purpose=MANAGE, code=Code.DUPLICATE)
    agency.act("SAM", KeyAdd(TRADE, new), purpose=MANAGE, code=Code.DUPLICATE)
    agency.act("SAM", KeyRotate(old, new), purpose=MANAGE, code=Code.DUPLICATE)
    agency.act("SAM", KeyAdd(KeyPurpose.SIGN, key_of("SAM/other").public), purpose=MANAGE)
    agency.act("BEN", KeyAdd(KeyPurpose.SIGN, new), purpose=MANAGE)
    agency.advance(record(agency, name).deadline)
    assert record(agency, name).status is S.EXPIRED
    agency.act("SAM", KeyAdd(KeyPurpose.SIGN, new), purpose=MANAGE)


def test_what_a_former_desk_proposed_is_not_approved(agency: Agency) -> None:
    name = proposed(agency)
    writes = agency.state
    desk = writes.get(ACCOUNTS, agency.ids["RCV"])
    assert desk is not None
    writes.put(ACCOUNTS, agency.ids["RCV"], replace(desk, roles=()))
    writes.delete(GOVERNORS, agency.ids["RCV"])
    agency.view.write(writes.writes())
    agency.act("REG", AccountRecoverApprove(name), code=Code.STATE)
    assert (record(agency, name).status, status_of(agency)) == (S.PROPOSED, AccountStatus.ACTIVE)


# what stays and what ends


def test_what_the_former_keys_granted_and_stand_to_ends(agency: Agency) -> None:
    given, offered = agency.entrusted("SAM"), agency.grant("SAM")
    received = agency.entrusted("BEN", "SAM")
    offer = agency.list_offer("SAM", quantity=10)
    quote = agency.submit("SAM", agency.ask(quantity=10))
    proposal = agency.propose("SAM")
    own_trade = agency.locked(quantity=5)
    redemption = agency.request(agency.note, "SAM", 3, agency.now + 30 * DAY_MS)
    agency.deposit("SAM", 100)
    agency.act("SAM", CashWithdraw(CASH, 40, ORDER))
    agency.act("REG", AccountFreeze(agency.ids["SAM"], CASH.encode(), 10, ORDER, None))
    name = delayed(agency)
    assert agency.offer(offer).status is OfferStatus.OPEN
    agency.act("BEN", OfferTake(offer, 5), code=Code.STATE)
    agency.act("BEN", TradeAffirm(proposal), code=Code.EXPIRED, at=agency.trade(proposal).affirm_by)
    agency.act_for("SAM", given, RedeemRequest(agency.note, 1, agency.now + 30 * DAY_MS), code=Code.STATE)
    agency.advance(record(agency, name).deadline)
    assert record(agency, name).status is S.COMPLETED
    assert agency.entrustment(given).status is EntrustmentStatus.REVOKED
    assert agency.entrustment(offered).status is EntrustmentStatus.EXPIRED
    assert agency.entrustment(received).status is EntrustmentStatus.ACTIVE
    assert agency.offer(offer).status in (OfferStatus.CANCELLED, OfferStatus.EXPIRED)
    assert agency.quote(quote).status in (QuoteStatus.CANCELLED, QuoteStatus.EXPIRED)
    assert agency.trade(own_trade).status is TradeStatus.SETTLED
    assert agency.redemption(redemption).status is RedemptionStatus.REQUESTED
    assert agency.state.scan(FREEZES_BY_ACCOUNT, agency.ids["SAM"])
    assert [key for key, lock in agency.state.scan(LOCKS, agency.ids["SAM"]) if lock.item != redemption]
    assert agency.holds("SAM") == (55, 3)


def test_proposals_offers_and_quotes_that_outlive_the_delay_are_withdrawn(agency: Agency) -> None:
    far = agency.now + 3 * DAY_MS
    proposal = agency.propose("SAM", affirm_by=far, settle_at=far + DAY_MS)
    locked = agency.propose("SAM", settle_at=far + DAY_MS)
    agency.act("BEN", TradeAffirm(locked))
    offer = agency.list_offer("SAM", quantity=10, until=far)
    quote = agency.submit("SAM", agency.ask(until=far))
    agency.act("SAM", RedeemRequest(agency.note, 3, far))
    agency.advance(record(agency, delayed(agency)).deadline)
    assert agency.trade(proposal).status is TradeStatus.WITHDRAWN
    assert agency.trade(locked).status is TradeStatus.LOCKED
    assert agency.offer(offer).status is OfferStatus.CANCELLED
    assert agency.quote(quote).status is QuoteStatus.CANCELLED
    assert agency.holds("SAM") == (60, 10 + 3)


def test_an_objection_leaves_everything_as_it_was(agency: Agency) -> None:
    far = agency.now + 3 * DAY_MS
    given = agency.entrusted("SAM")
    offer = agency.list_offer("SAM", quantity=10, until=far)
    delayed(agency)
    agency.act("SAM", AccountObject(), purpose=MANAGE)
    agency.take(offer, 10)
    buy = agency.proposal(counterparty=agency.ids["BEN"], side=Side.SELL)
    agency.act_for("SAM", given, buy)


def test_a_recovered_desk_loses_its_unapproved_recoveries(agency: Agency) -> None:
    first = proposed(agency, "SAM")
    second_desk = request(agency, "RCV")
    receipt = agency.act("RCV", second_desk)
    own = next(event.recovery for event in receipt.events if isinstance(event, RecoveryChanged))
    agency.act("REG", AccountRecoverApprove(own))
    agency.advance(record(agency, own).deadline)
    assert record(agency, own).status is S.COMPLETED
    assert record(agency, first).status is S.CANCELLED


# (state × operation)


def objected(agency: Agency) -> bytes:
    name = delayed(agency)
    agency.act("SAM", AccountObject(), purpose=MANAGE)
    return name


def at_deadline(way: Callable[[Agency], bytes]) -> Callable[[Agency], bytes]:
    def reached(agency: Agency) -> bytes:
        name = way(agency)
        agency.advance(record(agency, name).deadline)
        return name

    return reached


def cancelled(agency: Agency) -> bytes:
    name = proposed(agency)
    receipt = agency.act("RCV", request(agency, "RCV"))
    own = next(event.recovery for event in receipt.events if isinstance(event, RecoveryChanged))
    agency.act("REG", AccountRecoverApprove(own))
    agency.advance(record(agency, own).deadline)
    return name


WAYS: dict[RecoveryStatus, Callable[[Agency], bytes]] = {
    S.PROPOSED: proposed,
    S.DELAYED: delayed,
    S.COMPLETED: at_deadline(delayed),
    S.OBJECTED: objected,
    S.EXPIRED: at_deadline(proposed),
    S.CANCELLED: cancelled,
}
MOVES = {(S.PROPOSED, "approve"): S.DELAYED, (S.DELAYED, "object"): S.OBJECTED}
LATE = {(S.EXPIRED, "approve")}
"""Its deadline has passed and nothing else had ended it before."""


@pytest.mark.parametrize("act", ["approve", "object"])
@pytest.mark.parametrize("status", S)
def test_every_operation_in_every_status(agency: Agency, status: RecoveryStatus, act: str) -> None:
    name = WAYS[status](agency)
    before = record(agency, name)
    assert before.status is status
    after = MOVES.get((status, act))
    code = Code.OK if after is not None else Code.EXPIRED if (status, act) in LATE else Code.STATE
    if act == "approve":
        agency.act("REG", AccountRecoverApprove(name), code=code)
    else:
        keys = [key_of("SAM/new", MANAGE)] if status is S.COMPLETED else [key_of("SAM", MANAGE)]
        result = agency.block(agency.sign("SAM", AccountObject(), keys=keys))
        assert result.receipts[0].code is code
    assert record(agency, name).status is (after or status)
    if after is None:
        assert record(agency, name) == before
    else:
        assert after in recovery.TRANSITIONS[status]

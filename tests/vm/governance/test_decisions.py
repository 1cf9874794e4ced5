"""What the actions of governance do, to the unit and the minor unit."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from otcnode.crypto import sha256
from otcnode.errors import Code
from otcnode.genesis import PARAMETER_BOUNDS, Role
from otcnode.vm.accounts.operations import AccountFreeze, CashWithdraw, EntrustRevoke
from otcnode.vm.accounts.records import (
    ACCOUNTS,
    CASH_ASSETS,
    FREEZES,
    LOTS,
    WITHDRAWALS,
    EntrustmentStatus,
    Lot,
    WithdrawalStatus,
)
from otcnode.vm.context import PARAMETERS
from otcnode.vm.contracts.operations import ContractCreate, ContractSubmit, NewSlot
from otcnode.vm.contracts.preimages import terms_hash
from otcnode.vm.contracts.records import ContractKind, ContractStatus, Immediately, SlotRole
from otcnode.vm.executor import environment_at
from otcnode.vm.governance.events import UnitsForced
from otcnode.vm.governance.records import (
    NODES,
    CashCorrect,
    ContractTerminate,
    Direction,
    ForcedTransfer,
    ItemCancel,
    ItemKind,
    MarketPause,
    NodeAdmit,
    ParameterChange,
    ParameterSet,
    RoleSet,
)
from otcnode.vm.keys import SINGLE
from otcnode.vm.products.records import ProductStatus, RedemptionStatus, SubscriptionStatus
from otcnode.vm.trades.operations import TradeAffirm
from otcnode.vm.trades.records import OfferStatus, QuoteStatus, RfqStatus, TradeStatus
from tests.vm.accounts.agency import MANAGE
from tests.vm.governance.council import PAPER, Council
from tests.vm.ledger import CASH, DAY_MS, key_of
from tests.vm.products.market import DOCUMENT, SIGN, TEXT

# roles and parameters


def test_roles_are_given_and_taken(council: Council) -> None:
    council.decide(RoleSet(council.ids["BEN"], (Role.DEALER, Role.INVESTOR)))
    account = council.state.get(ACCOUNTS, council.ids["BEN"])
    assert account is not None
    assert account.roles == (Role.DEALER, Role.INVESTOR)
    council.put_forward(RoleSet(council.ids["BEN"], (Role.INVESTOR, Role.DEALER)), code=Code.FIELD)
    council.put_forward(RoleSet(sha256(b"nobody"), ()), code=Code.NOT_FOUND)
    council.apply_for("NEW")
    council.put_forward(RoleSet(council.ids["NEW"], ()), code=Code.STATE)


def test_nobody_can_take_away_the_last_two_who_govern(council: Council) -> None:
    for name in ("LIST", "KYC", "CALL", "FRZ"):
        council.decide(RoleSet(council.ids[name], ()))
    council.decide(RoleSet(council.ids["RCV"], ()), code=Code.FORBIDDEN)
    council.decide(RoleSet(council.ids["BANK"], ()), code=Code.FORBIDDEN)


def test_parameters_change_from_the_next_block_on(council: Council) -> None:
    change = ParameterSet((ParameterChange("max_transaction_ttl_ms", 20_000), ParameterChange("window", 2)))
    council.decide(change)
    environment = environment_at(council.view, council.chain, council.height + 1, council.now + 1)
    assert (environment.parameters.max_transaction_ttl_ms, environment.parameters.window) == (20_000, 2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (name, edge)
        for name, (least, most) in sorted(PARAMETER_BOUNDS.items())
        for edge in (least - 1, most + 1)
        if edge >= 0
    ],
)
def test_no_parameter_leaves_its_bounds(council: Council, name: str, value: int) -> None:
    council.put_forward(ParameterSet((ParameterChange(name, value),)), code=Code.FIELD)


def test_two_parameters_are_not_raised_one_after_the_other_beyond_what_both_may_be(council: Council) -> None:
    """A window of 50 full blocks of 10,000 transactions is the most; the second decision sees the first."""

    def both(window: int, transactions: int) -> ParameterSet:
        return ParameterSet(
            (ParameterChange("block_transactions_max", transactions), ParameterChange("window", window))
        )

    council.put_forward(both(50, 10_001), code=Code.FIELD)
    before = council.put_forward(ParameterSet((ParameterChange("window", 64),)))
    council.decide(both(50, 10_000))
    council.approve(before, code=Code.FIELD)
    council.put_forward(ParameterSet((ParameterChange("window", 51),)), code=Code.FIELD)
    council.put_forward(ParameterSet((ParameterChange("block_transactions_max", 10_001),)), code=Code.FIELD)


def test_the_defaults_are_within_the_bounds_and_one_parameter_never_changes(council: Council) -> None:
    parameters = council.state.get(PARAMETERS, SINGLE)
    assert parameters is not None
    assert set(parameters.__struct_fields__) - set(PARAMETER_BOUNDS) == {"state_buckets"}
    for name, (least, most) in PARAMETER_BOUNDS.items():
        assert least <= getattr(parameters, name) <= most
    council.put_forward(ParameterSet((ParameterChange("state_buckets", 256),)), code=Code.FIELD)
    twice = (ParameterChange("window", 2), ParameterChange("window", 3))
    council.put_forward(ParameterSet(twice), code=Code.FIELD)


# pause


def test_a_pause_stops_users_and_settlements_and_can_be_ended(council: Council) -> None:
    trade = council.locked()
    council.decide(MarketPause(True))
    council.act("SAM", council.proposal(), code=Code.PAUSED)
    council.act("BEN", EntrustRevoke(sha256(b"none")), purpose=MANAGE, code=Code.PAUSED)
    settle_at = council.trade(trade).settle_at
    assert settle_at is not None
    council.block(at=settle_at)
    assert (council.trade(trade).status, council.trade(trade).failure) == (TradeStatus.FAILED, Code.PAUSED)
    council.decide(MarketPause(True), code=Code.STATE)
    council.decide(MarketPause(False))
    council.act("SAM", council.proposal())


def test_a_product_that_came_due_in_a_pause_closes_after_it(council: Council) -> None:
    day = council.product_terms(council.note).date_of(council.now)
    name = council.opened(
        "NOTE-2",
        open=council.now,
        close=council.now + DAY_MS,
        value_date=day + 10,
        maturity=day + 99,
        pay_dates=(day + 99,),
    )
    council.decide(MarketPause(True))
    council.advance(council.product_terms(name).close)
    assert council.status(name) is ProductStatus.OPEN
    council.decide(MarketPause(False))
    council.block()
    assert council.status(name) is ProductStatus.FAILED


# cash


def test_corrections_move_cash_and_its_total(council: Council) -> None:
    before = council.state.get(CASH_ASSETS, CASH.encode())
    assert before is not None
    council.decide(CashCorrect(council.ids["SAM"], CASH, 7, Direction.RAISE))
    council.decide(CashCorrect(council.ids["SAM"], CASH, 8, Direction.LOWER), code=Code.LACK_CASH)
    council.decide(CashCorrect(council.ids["SAM"], CASH, 5, Direction.LOWER))
    after = council.state.get(CASH_ASSETS, CASH.encode())
    assert after is not None
    assert council.figures("SAM") == (2, 0, 0)
    assert (after.total, after.corrected_up, after.corrected_down) == (before.total + 2, 7, 5)
    council.put_forward(CashCorrect(council.ids["SAM"], CASH, 0, Direction.RAISE), code=Code.AMOUNT)
    council.put_forward(CashCorrect(council.ids["SAM"], "EUR@X", 1, Direction.RAISE), code=Code.NOT_FOUND)
    council.decide(CashCorrect(council.ids["SAM"], CASH, 2**63 - 1, Direction.RAISE), code=Code.OVERFLOW)
    council.freeze("SAM")
    council.decide(CashCorrect(council.ids["SAM"], CASH, 1, Direction.LOWER), code=Code.FROZEN)
    council.decide(CashCorrect(council.ids["SAM"], CASH, 1, Direction.RAISE))


# forced transfers


def order(council: Council, quantity: int, **changes: Any) -> ForcedTransfer:
    action = ForcedTransfer(council.ids["SAM"], council.ids["BEN"], council.note, quantity, ())
    return replace(action, **changes)


def test_frozen_units_go_first_then_available_ones_and_lots_keep_their_dates() -> None:
    council = Council(lockup_days=50)
    sam, ben = council.ids["SAM"], council.ids["BEN"]
    council.act("REG", AccountFreeze(sam, council.note, 20, PAPER, None))
    _, receipt = council.decide(order(council, 25))
    assert UnitsForced(sam, ben, council.note, 25, 20) in receipt.events
    sender, recipient = council.units(council.note, "SAM"), council.units(council.note, "BEN")
    assert (sender.balance, sender.frozen, recipient.balance, recipient.frozen) == (35, 0, 25, 0)
    ((key, given),) = council.state.scan(LOTS, ben + council.note)
    ((own_key, own),) = council.state.scan(LOTS, sam + council.note)
    assert given == Lot(25, own.lockup_until)
    assert key[64:72] == own_key[64:72]
    assert own.lockup_until > council.now
    ((_, freeze),) = [entry for entry in council.state.scan(FREEZES) if entry[1].account == sam]
    assert freeze.parts == ()
    council.decide(order(council, 36), code=Code.LACK_QTY)
    council.decide(order(council, 35))
    assert council.holds("SAM") == (0, 0)


def test_locked_units_stay_unless_their_trades_are_named(council: Council) -> None:
    trade = council.propose(quantity=50, settle_at=council.now + 2 * DAY_MS)
    council.act("BEN", TradeAffirm(trade))
    council.decide(order(council, 11), code=Code.LACK_QTY)
    before = council.figures("BEN")
    council.decide(order(council, 11, trades=(trade,)))
    assert (council.trade(trade).status, council.trade(trade).failure) == (TradeStatus.FAILED, Code.FORBIDDEN)
    assert council.holds("SAM") == (49, 0)
    assert council.figures("BEN") == (sum(before), 0, 0)
    council.decide(order(council, 1, trades=(trade,)), code=Code.STATE)


def test_who_may_receive_and_what(council: Council) -> None:
    council.put_forward(order(council, 0), code=Code.AMOUNT)
    council.put_forward(order(council, 1, recipient=council.ids["SAM"]), code=Code.FIELD)
    council.put_forward(order(council, 1, product=sha256(b"none")), code=Code.NOT_FOUND)
    council.put_forward(order(council, 1, trades=(sha256(b"none"),)), code=Code.NOT_FOUND)
    council.decide(order(council, 1, recipient=council.ids["ISS"]), code=Code.NOT_QUALIFIED)
    others = council.propose("OWN", quantity=5)
    council.act("BEN", TradeAffirm(others))
    council.decide(order(council, 1, trades=(others,)), code=Code.FIELD)
    council.freeze("SAM")
    council.freeze("BEN")
    council.decide(order(council, 60))
    assert council.holds("BEN")[0] == 60


def test_the_cap_on_holders_holds_for_a_forced_transfer_too() -> None:
    council = Council(max_holders=2)
    council.decide(order(council, 59), code=Code.HOLDER_CAP)
    council.decide(order(council, 60))
    council.decide(order(council, 1, sender=council.ids["OWN"]))


# contracts and items


def test_a_contract_is_terminated(council: Council) -> None:
    council.decide(ContractTerminate(council.master))
    assert council.contract_record(council.master).status is ContractStatus.TERMINATED
    council.act("SAM", council.proposal(), code=Code.CONTRACT_NOT_EFFECTIVE)
    council.decide(ContractTerminate(council.master), code=Code.STATE)
    council.put_forward(ContractTerminate(sha256(b"none")), code=Code.NOT_FOUND)


def test_every_kind_of_item_can_be_cancelled_once(council: Council) -> None:
    far = council.now + 5 * DAY_MS
    day = council.product_terms(council.note).date_of(council.now)
    product = council.opened(
        "NOTE-2", open=council.now, close=far, value_date=day + 10, maturity=day + 99, pay_dates=(day + 99,)
    )
    slots = tuple(NewSlot(council.ids[name], SlotRole.SIGNER, 0, 1) for name in ("SAM", "BEN"))
    draft = ContractCreate(
        ContractKind.TRANSFER, False, council.note, DOCUMENT, TEXT, terms_hash(TEXT), slots, None, far, far,
        Immediately(), (), None,
    )  # fmt: skip
    receipt = council.act("SAM", draft, purpose=SIGN)
    contract = next(event.contract for event in receipt.events if hasattr(event, "contract"))
    council.act("SAM", ContractSubmit(contract), purpose=SIGN)
    subscription = council.subscribe(product, "BEN", 10)
    redemption = council.request(council.note, "SAM", 3, council.now + 30 * DAY_MS)
    offered = council.list_offer("SAM", quantity=10, until=far)
    quote = council.submit("SAM", council.ask(until=far))
    request = council.ask(until=far)
    proposed = council.propose(affirm_by=far, settle_at=far + DAY_MS)
    locked = council.propose(settle_at=far)
    council.act("BEN", TradeAffirm(locked))
    council.act("BEN", CashWithdraw(CASH, 40, PAPER))
    assert council.last is not None
    withdrawal = next(event.withdrawal for event in council.last.events if hasattr(event, "withdrawal"))
    entrustment = council.entrusted()
    items = [
        (ItemKind.CONTRACT, contract), (ItemKind.SUBSCRIPTION, subscription), (ItemKind.REDEMPTION, redemption),
        (ItemKind.OFFER, offered), (ItemKind.QUOTE, quote), (ItemKind.RFQ, request), (ItemKind.TRADE, proposed),
        (ItemKind.TRADE, locked), (ItemKind.WITHDRAWAL, withdrawal), (ItemKind.ENTRUSTMENT, entrustment),
    ]  # fmt: skip
    assert {kind for kind, _ in items} == set(ItemKind)
    for kind, item in items:
        council.decide(ItemCancel(kind, item))
        council.decide(ItemCancel(kind, item), code=Code.STATE)
        council.put_forward(ItemCancel(kind, sha256(b"none")), code=Code.NOT_FOUND)
    assert council.contract_record(contract).status is ContractStatus.VOIDED
    assert council.subscription(subscription).status is SubscriptionStatus.CANCELLED
    assert council.redemption(redemption).status is RedemptionStatus.REJECTED
    assert council.offer(offered).status is OfferStatus.CANCELLED
    assert council.quote(quote).status is QuoteStatus.CANCELLED
    assert council.rfq(request).status is RfqStatus.CANCELLED
    assert council.trade(proposed).status is TradeStatus.WITHDRAWN
    assert council.trade(locked).status is TradeStatus.CANCELLED
    found = council.state.get(WITHDRAWALS, withdrawal)
    assert found is not None
    assert found.status is WithdrawalStatus.CANCELLED
    assert council.entrustment(entrustment).status is EntrustmentStatus.REVOKED
    assert council.figures("BEN")[1] == 0
    assert council.holds("SAM") == (60, 0)


# nodes


def test_nodes_are_admitted_and_turned_away_unless_they_vote(council: Council) -> None:
    node, voting = key_of("joiner").public, key_of("v").public
    council.decide(NodeAdmit(node, True, "joiner", "Some bank", "host:1"))
    found = council.state.get(NODES, node)
    assert found is not None
    assert (found.name, found.address) == ("joiner", "host:1")
    council.decide(NodeAdmit(node, False, "joiner", "Some bank", ""))
    assert council.state.get(NODES, node) is None
    council.put_forward(NodeAdmit(node, False, "joiner", "Some bank", ""), code=Code.NOT_FOUND)
    council.decide(NodeAdmit(voting, False, "v", "V", ""), code=Code.STATE)

"""Forced transfers: units move by order of a court or regulator, without the holder and without cash."""

from __future__ import annotations

from msgspec.structs import replace

from otcnode.errors import Code
from otcnode.vm import balances
from otcnode.vm.accounts.records import FREEZES, FREEZES_BY_ACCOUNT, FrozenPart
from otcnode.vm.context import Context, fail
from otcnode.vm.governance.events import UnitsForced
from otcnode.vm.governance.records import ForcedTransfer
from otcnode.vm.products import payments
from otcnode.vm.products.eligibility import product, require_buyer
from otcnode.vm.products.records import ProductStatus
from otcnode.vm.trades import deals
from otcnode.vm.trades.records import TRADES, TradeStatus

_MOVABLE = frozenset({ProductStatus.ACTIVE, ProductStatus.PAYMENT_OVERDUE, ProductStatus.DEFAULTED})


def check_transfer(context: Context, action: ForcedTransfer) -> None:
    """Failed(E_NOT_FOUND) for what is not there; Failed(E_FIELD{recipient, trades}, E_AMOUNT)."""
    context.account(action.sender)
    context.account(action.recipient)
    product(context, action.product)
    for name in action.trades:
        context.need(TRADES, name, "trade")
    if action.recipient == action.sender:
        fail(Code.FIELD, "recipient")
    if action.trades != tuple(sorted(set(action.trades))):
        fail(Code.FIELD, "trades")
    if not action.quantity:
        fail(Code.AMOUNT, "quantity")


def transfer(context: Context, action: ForcedTransfer) -> None:
    """Frozen units first, then available ones; lots keep their dates, lock-up does not matter. A coupon that is unpaid
    stays owed to who held the units on its day.

    Failed(E_STATE): the product's units cannot move, the recipient is not ACTIVE, or a trade named is not LOCKED.
    Failed(E_FIELD{trades}): a trade in which the sender does not sell this product. Failed(E_NOT_QUALIFIED,
    E_SUITABILITY, E_HOLDER_CAP) for the recipient, Failed(E_LACK_QTY) for the sender.
    """
    check_transfer(context, action)
    name, sender, recipient = action.product, action.sender, action.recipient
    status = product(context, name).status
    if status not in _MOVABLE:
        fail(Code.STATE, f"product is {status.value}")
    context.refuse_if_due_pending(name)
    context.refuse_unless_active(recipient)
    _fail_trades(context, action)
    require_buyer(context, recipient, name, seller=sender, quantity=action.quantity)
    payments.record_balances(context, name, sender, recipient)
    from_frozen = min(action.quantity, balances.holding(context, sender, name).frozen)
    drawn = balances.draw_lots(context, sender, name, action.quantity, from_frozen=from_frozen, ignore_lockup=True)
    for acquired_at, lockup_until, quantity in drawn:
        balances.add_lot(context, recipient, name, quantity, acquired_at=acquired_at, lockup_until=lockup_until)
    _take_from_freezes(context, sender, name, from_frozen)
    context.emit(UnitsForced(sender, recipient, name, action.quantity, from_frozen))


def _fail_trades(context: Context, action: ForcedTransfer) -> None:
    for name in action.trades:
        trade = context.need(TRADES, name, "trade")
        if (trade.seller, trade.product) != (action.sender, action.product):
            fail(Code.FIELD, "trades")
        if trade.status is not TradeStatus.LOCKED:
            fail(Code.STATE, f"trade is {trade.status.value}")
        deals.fail_locked(context, name, trade, Code.FORBIDDEN)


def _take_from_freezes(context: Context, account: bytes, name: bytes, quantity: int) -> None:
    """Freezes stay, but for the units that are gone from under them."""
    for suffix, _ in context.state.scan(FREEZES_BY_ACCOUNT, account):
        record = context.need(FREEZES, suffix[32:], "freeze")
        parts = []
        for part in record.parts:
            taken = min(part.amount, quantity) if part.asset == name else 0
            quantity -= taken
            if part.amount > taken:
                parts.append(FrozenPart(part.asset, part.amount - taken))
        context.put(FREEZES, suffix[32:], replace(record, parts=tuple(parts)))
    assert not quantity

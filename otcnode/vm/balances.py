"""Every movement of cash and units. Nothing else writes balances, lots or locks, and each movement emits its event.

Order of refusals for units: E_LACK_QTY (quantity > balance − locked − frozen), then E_LOCKUP (quantity > units in lots
free at the settlement time − locked − frozen). Amounts are minor units or 10^-quantity_decimals units, above 0.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from otcnode.errors import Code
from otcnode.types import INTEGER_MAX
from otcnode.vm.accounts.events import (
    CashMoved,
    CashTotalMoved,
    LockOpened,
    LockReduced,
    LotMoved,
    UnitsMoved,
    UnitsTotalMoved,
)
from otcnode.vm.accounts.records import (
    CASH_ASSETS,
    CASH_BALANCES,
    HOLDERS,
    HOLDINGS,
    HOLDINGS_BY_ACCOUNT,
    LOCKS,
    LOTS,
    UNIT_TOTALS,
    Asset,
    CashAsset,
    CashBalance,
    HolderCount,
    Holding,
    Lock,
    LockPurpose,
    Lot,
    Restricted,
    UnitTotal,
    is_cash,
)
from otcnode.vm.accounts.totals import note_total
from otcnode.vm.context import Context, fail
from otcnode.vm.due import DueClass
from otcnode.vm.keys import MARKER, integer

NO_CASH = CashBalance(0, 0, 0, None)
NO_UNITS = Holding(0, 0, 0, (), 0, 0, b"")
NO_TOTAL = UnitTotal(0, 0)
NO_HOLDERS = HolderCount(0, 0)
LOTS_AT_ONCE_MAX = 64
LOTS_HELD_MAX = 4_096
"""Lots of one product in one account: one sale, or the maturity, may draw on all of them."""
WAKE = "cash.risen"
"""Kind of the due item that a watched balance schedules when its available cash rises."""


# cash


def cash_balance(context: Context, account: bytes, cash: str) -> CashBalance:
    return context.get(CASH_BALANCES, account + cash.encode()) or NO_CASH


def move_cash(context: Context, account: bytes, cash: str, balance: int, locked: int = 0, frozen: int = 0) -> None:
    """Add signed changes to one account's cash. Failed(E_LACK_CASH) if less than nothing would be available."""
    key = account + cash.encode()
    before = context.get(CASH_BALANCES, key) or NO_CASH
    after = CashBalance(before.balance + balance, before.locked + locked, before.frozen + frozen, before.watch)
    rise, available = balance - locked - frozen, after.available
    if rise < 0 and available < 0:
        fail(Code.LACK_CASH, f"{before.available} available, {-rise} needed")
    assert after.balance >= 0 <= after.locked and after.frozen >= 0 <= available
    if after.balance > INTEGER_MAX:
        fail(Code.OVERFLOW, "balance")
    if rise > 0 and after.watch is not None:
        context.schedule(context.now, DueClass.SETTLEMENT, WAKE, after.watch)
        after = replace(after, watch=None)
    if not after.balance and after.watch is None:
        context.delete(CASH_BALANCES, key)
    else:
        context.put(CASH_BALANCES, key, after)
    context.emit(CashMoved(account, cash, balance, locked, frozen))


def watch_cash(context: Context, account: bytes, cash: str, item: bytes) -> None:
    """Schedule a WAKE item for `item`, once, when the account's available cash next rises.

    It is due at the moment of the rise, in the last class: then it runs after whatever raised the cash and before
    everything later, however blocks are cut.
    """
    balance = cash_balance(context, account, cash)
    context.put(CASH_BALANCES, account + cash.encode(), replace(balance, watch=item))


def create_cash(context: Context, asset: CashAsset, account: bytes, cash: str, amount: int) -> CashAsset:
    """Credit cash that comes into being; the caller stores the returned asset, with its own counters raised.

    Failed(E_OVERFLOW) if the total leaves the integer range, so that no later credit can.
    """
    if asset.total + amount > INTEGER_MAX:
        fail(Code.OVERFLOW, f"total of {cash}")
    move_cash(context, account, cash, amount)
    return _move_total(context, asset, cash, amount)


def destroy_cash(context: Context, asset: CashAsset, cash: str, amount: int) -> CashAsset:
    """Lower a total for cash that was burnt; the caller stores the returned asset, with its own counters raised."""
    return _move_total(context, asset, cash, -amount)


def _move_total(context: Context, asset: CashAsset, cash: str, change: int) -> CashAsset:
    environment = context.environment
    after = replace(asset, total=asset.total + change)
    note_total(context.state, cash, environment.height, after.total, environment.parameters.attest_window_blocks)
    context.emit(CashTotalMoved(cash, change))
    return after


def pay(context: Context, payer: bytes, payee: bytes, cash: str, amount: int) -> None:
    """Move available cash. Failed(E_LACK_CASH). An amount of 0 moves nothing and leaves no event."""
    if amount:
        move_cash(context, payer, cash, -amount)
        move_cash(context, payee, cash, amount)


def cash_decimals(context: Context, cash: str) -> int:
    asset = context.get(CASH_ASSETS, cash.encode())
    if asset is None:
        fail(Code.NOT_FOUND, "cash")
    return asset.decimals


# units


def holding(context: Context, account: bytes, product: bytes) -> Holding:
    return context.get(HOLDINGS, product + account) or NO_UNITS


def _move_units(
    context: Context, account: bytes, product: bytes, after: Holding, balance: int, locked: int, frozen: int
) -> None:
    assert after.balance >= 0 <= after.locked and after.frozen >= 0 <= after.available
    if after.balance > INTEGER_MAX:
        fail(Code.OVERFLOW, "units")
    if after.balance:
        if after.balance == balance:
            context.put(HOLDINGS_BY_ACCOUNT, account + product, MARKER)
            _count_holder(context, account, product, 1)
        context.put(HOLDINGS, product + account, after)
    else:
        context.delete(HOLDINGS, product + account)
        context.delete(HOLDINGS_BY_ACCOUNT, account + product)
        _count_holder(context, account, product, -1)
    context.emit(UnitsMoved(account, product, balance, locked, frozen))


def _count_holder(context: Context, account: bytes, product: bytes, sign: int) -> None:
    count = context.get(HOLDERS, product) or NO_HOLDERS
    people = count.ultimate_holders + sign * context.account(account).ultimate_holders
    context.put(HOLDERS, product, HolderCount(count.accounts + sign, people))


def check_units(context: Context, account: bytes, product: bytes, quantity: int, settle_at: int) -> None:
    """Failed(E_LACK_QTY or E_LOCKUP) unless `quantity` could be locked now for delivery at `settle_at`."""
    _check_units(holding(context, account, product), quantity, settle_at)


def _check_units(units: Holding, quantity: int, settle_at: int) -> None:
    if quantity > units.available:
        fail(Code.LACK_QTY, f"{units.available} available, {quantity} needed")
    if units.restricted and quantity > units.free_at(settle_at) - units.locked - units.frozen:
        fail(Code.LOCKUP, f"{units.balance - units.free_at(settle_at)} still in lock-up at settlement")


def add_lot(
    context: Context, account: bytes, product: bytes, quantity: int, *, acquired_at: int, lockup_until: int = 0
) -> None:
    """Credit units as one new lot. Failed(E_LIMIT) if the account has too many lots of the product."""
    before = holding(context, account, product)
    if before.lots_held >= LOTS_HELD_MAX:
        fail(Code.LIMIT, f"{LOTS_HELD_MAX} lots of the product in one account")
    sequence = before.lots_created
    place = integer(acquired_at) + integer(sequence)
    after = Holding(
        before.balance + quantity,
        before.locked,
        before.frozen,
        _restrict(before.restricted, lockup_until, quantity),
        sequence + 1,
        before.lots_held + 1,
        min(before.first_lot or place, place),
    )
    _move_units(context, account, product, after, quantity, 0, 0)
    context.put(LOTS, account + product + place, Lot(quantity, lockup_until))
    context.emit(LotMoved(account, product, acquired_at, sequence, lockup_until, quantity))


def draw_lots(
    context: Context,
    account: bytes,
    product: bytes,
    quantity: int,
    *,
    from_frozen: int = 0,
    ignore_lockup: bool = False,
) -> list[tuple[int, int, int]]:
    """Debit units first in, first out, skipping lots in lock-up at `now`; (acquired_at, lockup_until, quantity) each.

    `from_frozen` of them come out of the frozen units (forced transfers). Failed(E_LACK_QTY, E_LOCKUP).
    """
    before = holding(context, account, product)
    if quantity - from_frozen > before.available:
        fail(Code.LACK_QTY, f"{before.available} available, {quantity - from_frozen} needed")
    drawn: list[tuple[int, int, int]] = []
    restricted, first_left, left = before.restricted, b"", quantity
    lots_held = before.lots_held
    owner = account + product
    lots = _lots(context, owner, before.first_lot)
    for place, lot in lots:
        if lot.lockup_until > context.now and not ignore_lockup:
            first_left = first_left or place
            continue
        part = min(left, lot.quantity)
        if part == lot.quantity:
            context.delete(LOTS, owner + place)
            lots_held -= 1
        else:
            context.put(LOTS, owner + place, Lot(lot.quantity - part, lot.lockup_until))
            first_left = first_left or place
        acquired_at, sequence = int.from_bytes(place[:8], "big"), int.from_bytes(place[8:], "big")
        context.emit(LotMoved(account, product, acquired_at, sequence, lot.lockup_until, -part))
        restricted = _restrict(restricted, lot.lockup_until, -part)
        drawn.append((acquired_at, lot.lockup_until, part))
        left -= part
        if not left:
            break
    if left:
        fail(Code.LOCKUP, f"{left} of {quantity} are still in lock-up")
    balance = before.balance - quantity
    if balance and not first_left:
        first_left = next(lots)[0]
    frozen = before.frozen - from_frozen
    after = Holding(balance, before.locked, frozen, restricted, before.lots_created, lots_held, first_left)
    _move_units(context, account, product, after, -quantity, 0, -from_frozen)
    return drawn


def _lots(context: Context, owner: bytes, first: bytes) -> Iterator[tuple[bytes, Lot]]:
    """(place, lot), first in, first out; `owner` is account ‖ product. Only those behind the first, which is known, are
    searched for, and more at once the more are asked for."""
    if not first:
        return
    lot = context.get(LOTS, owner + first)
    assert lot is not None
    yield first, lot
    cursor, limit = owner + first, 1
    while lots := context.state.scan(LOTS, owner, after=cursor, limit=limit):
        for cursor, lot in lots:
            yield cursor[64:], lot
        limit = min(2 * limit, LOTS_AT_ONCE_MAX)


def _restrict(parts: tuple[Restricted, ...], lockup_until: int, change: int) -> tuple[Restricted, ...]:
    """`parts` with a signed change to the units under one end of lock-up; 0 means no lock-up."""
    if not lockup_until:
        return parts
    sums = {part.lockup_until: part.quantity for part in parts}
    sums[lockup_until] = sums.get(lockup_until, 0) + change
    return tuple(Restricted(until, quantity) for until, quantity in sorted(sums.items()) if quantity)


def freeze_units(context: Context, account: bytes, product: bytes, change: int) -> None:
    """Freeze (or with a negative change release) units. Failed(E_LACK_QTY)."""
    before = holding(context, account, product)
    if change > before.available:
        fail(Code.LACK_QTY, f"{before.available} available, {change} needed")
    _move_units(context, account, product, replace(before, frozen=before.frozen + change), 0, 0, change)


def issue(
    context: Context, account: bytes, product: bytes, quantity: int, *, acquired_at: int, lockup_until: int
) -> None:
    """Units come into being in an account."""
    total = context.get(UNIT_TOTALS, product) or NO_TOTAL
    context.put(UNIT_TOTALS, product, replace(total, issued=total.issued + quantity))
    add_lot(context, account, product, quantity, acquired_at=acquired_at, lockup_until=lockup_until)
    context.emit(UnitsTotalMoved(product, quantity, 0))


def burn(
    context: Context,
    account: bytes,
    product: bytes,
    quantity: int,
    *,
    from_frozen: int = 0,
    ignore_lockup: bool = False,
) -> None:
    """Units are redeemed: drawn from lots and gone."""
    draw_lots(context, account, product, quantity, from_frozen=from_frozen, ignore_lockup=ignore_lockup)
    total = context.need(UNIT_TOTALS, product, "units")
    context.put(UNIT_TOTALS, product, replace(total, redeemed=total.redeemed + quantity))
    context.emit(UnitsTotalMoved(product, 0, quantity))


# locks


def lock(
    context: Context,
    account: bytes,
    lock_id: bytes,
    asset: Asset,
    amount: int,
    purpose: LockPurpose,
    item: bytes,
    *,
    settle_at: int = 0,
) -> None:
    """Reserve cash, or units to be delivered at `settle_at`. Use the item's own id as `lock_id` if it has one lock per
    account. Failed(E_LACK_CASH, E_LACK_QTY, E_LOCKUP)."""
    assert amount > 0 and context.get(LOCKS, account + lock_id) is None
    _reserve(context, account, asset, amount, settle_at)
    context.put(LOCKS, account + lock_id, Lock(asset, amount, purpose, item))
    context.emit(LockOpened(account, lock_id, asset, amount, purpose, item))


def _reserve(context: Context, account: bytes, asset: Asset, amount: int, settle_at: int) -> None:
    """Add a signed amount to what is locked."""
    if is_cash(asset):
        move_cash(context, account, asset.decode(), 0, locked=amount)
        return
    before = holding(context, account, asset)
    if amount > 0:
        _check_units(before, amount, settle_at)
    _move_units(context, account, asset, replace(before, locked=before.locked + amount), 0, amount, 0)


def _reduce(context: Context, account: bytes, lock_id: bytes, *, paid: int, released: int) -> Lock:
    """Shorten a lock. Paid cash leaves the balance here; paid units are drawn from their lots by the caller."""
    record = context.get(LOCKS, account + lock_id)
    assert record is not None, "a lock ends once, with its item"
    left = record.amount - paid - released
    assert left >= 0
    if is_cash(record.asset):
        # One movement, so that what was locked is never seen as available in between.
        move_cash(context, account, record.asset.decode(), -paid, locked=-(paid + released))
    else:
        _reserve(context, account, record.asset, -(paid + released), 0)
    if left:
        context.put(LOCKS, account + lock_id, replace(record, amount=left))
    else:
        context.delete(LOCKS, account + lock_id)
    context.emit(LockReduced(account, lock_id, paid, released, left))
    return record


def release(context: Context, account: bytes, lock_id: bytes, amount: int | None = None) -> None:
    """Give back a lock, or a part of it, to what is available."""
    record = context.get(LOCKS, account + lock_id)
    assert record is not None
    _reduce(context, account, lock_id, paid=0, released=record.amount if amount is None else amount)


def pay_from_lock(context: Context, account: bytes, lock_id: bytes, payee: bytes | None, amount: int) -> None:
    """Move cash out of a lock to the payee; None burns it (the caller lowers the total)."""
    if not amount:
        return
    record = _reduce(context, account, lock_id, paid=amount, released=0)
    assert is_cash(record.asset)
    if payee is not None:
        move_cash(context, payee, record.asset.decode(), amount)


def spend_lock(context: Context, account: bytes, lock_id: bytes, amount: int) -> None:
    """End a lock of cash in one movement: `amount` leaves the account, for the caller to credit elsewhere, and the rest
    becomes available."""
    record = context.get(LOCKS, account + lock_id)
    assert record is not None and is_cash(record.asset) and amount <= record.amount
    move_cash(context, account, record.asset.decode(), -amount, locked=-record.amount)
    context.delete(LOCKS, account + lock_id)
    context.emit(LockReduced(account, lock_id, amount, record.amount - amount, 0))


def deliver_from_lock(context: Context, account: bytes, lock_id: bytes, payee: bytes, quantity: int) -> None:
    """Move units out of a lock to the payee, as one lot acquired `now` without lock-up. Failed(E_LOCKUP)."""
    record = _reduce(context, account, lock_id, paid=quantity, released=0)
    assert not is_cash(record.asset)
    draw_lots(context, account, record.asset, quantity)
    add_lot(context, payee, record.asset, quantity, acquired_at=context.now)


def deliver(context: Context, seller: bytes, buyer: bytes, product: bytes, quantity: int) -> None:
    """Move available units, as one lot acquired `now` without lock-up. Failed(E_LACK_QTY, E_LOCKUP)."""
    check_units(context, seller, product, quantity, context.now)
    draw_lots(context, seller, product, quantity)
    add_lot(context, buyer, product, quantity, acquired_at=context.now)


def burn_from_lock(context: Context, account: bytes, lock_id: bytes, quantity: int) -> None:
    """Redeem units out of a lock."""
    record = _reduce(context, account, lock_id, paid=quantity, released=0)
    assert not is_cash(record.asset)
    burn(context, account, record.asset, quantity)

"""What a trade costs, whether it may be done, and how it is: both legs and the fees in one step.

Everything about units is judged as of settlement: lock-up, and the turnaround, whose days run from the settlement of
one trade to the settlement of the next.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from otcnode.errors import Code, Failed
from otcnode.vm import arithmetic, balances
from otcnode.vm.accounts.records import LOCKS, LockPurpose
from otcnode.vm.arithmetic import stored
from otcnode.vm.context import Context, fail
from otcnode.vm.contracts import binding
from otcnode.vm.due import DueClass
from otcnode.vm.keys import OPEN_TRADE
from otcnode.vm.products.eligibility import accrued_under, require_buyer, terms
from otcnode.vm.products.records import ProductTerms
from otcnode.vm.trades import books
from otcnode.vm.trades.events import TradeChanged, TradeExecuted
from otcnode.vm.trades.records import (
    TRADE_TRANSITIONS,
    TRADES,
    TURNAROUNDS,
    Accounts,
    Side,
    Trade,
    TradeStatus,
    Turnaround,
)

SETTLE = "trade.settle"
SETTLE_WEIGHT = 16
"""About the records that a settlement touches."""
NEVER = Turnaround(0, 0)


class Amounts(NamedTuple):
    """Minor units. The buyer pays clean + accrued + fee, the seller receives clean + accrued − fee."""

    clean: int
    accrued: int
    fee: int

    @property
    def cost(self) -> int:
        return self.clean + self.accrued + self.fee


def amounts(context: Context, product: bytes, quantity: int, price: int, settle_at: int | None) -> Amounts:
    """What a quantity costs if it settles at `settle_at`, or now (None).

    Failed(E_AMOUNT) if the consideration rounds to 0, Failed(E_OVERFLOW) if anything leaves the integer range.
    """
    rule = terms(context, product)
    clean = consideration(context, rule, quantity, price)
    if not clean:
        fail(Code.AMOUNT, "the consideration rounds to 0")
    accrued = accrued_under(rule, quantity, rule.date_of(context.now if settle_at is None else settle_at))
    result = Amounts(clean, accrued, arithmetic.fee(clean, rule.trade_fee_ppm))
    stored(result.cost)
    return result


def consideration(context: Context, rule: ProductTerms, quantity: int, price: int) -> int:
    """The clean price of a quantity, in minor units."""
    decimals = balances.cash_decimals(context, rule.cash)
    return arithmetic.cash(quantity, price, cash_decimals=decimals, quantity_decimals=rule.quantity_decimals)


def outlay(
    context: Context,
    product: bytes,
    quantity: int,
    price: int,
    settle_at: int | None,
    *,
    buys: bool,
    until: int | None = None,
) -> int:
    """What an act would commit its principal to pay, for the limits of an entrustment: a seller's is its fee. 0 if the
    act's own rules will refuse it.

    What another may agree to `until` then, for settlement at that moment, counts as it comes on the dearest day of
    those on which it can be paid at all.
    """
    most = 0
    try:
        moments = [settle_at] if settle_at is not None or until is None else _days(context, product, until)
    except Failed:
        return 0
    for moment in moments:
        try:
            priced = amounts(context, product, quantity, price, moment)
        except Failed:
            continue
        most = max(most, priced.cost if buys else priced.fee)
    return most


def _days(context: Context, product: bytes, until: int) -> list[int | None]:
    """Now, and the moments before `until` at which accrued interest is at its highest: the last of all, and the last
    before each coupon."""
    rule = terms(context, product)
    last = min(until - 1, rule.maturity_ms - 1)
    coupons = [rule.start_of(date) - 1 for date in rule.pay_dates]
    return [None, *[moment for moment in (last, *coupons) if context.now < moment <= last]]


def check_settle_at(context: Context, rule: ProductTerms, settle_at: int | None) -> None:
    """Failed(E_FIELD{settle_at}) unless t < settle_at < maturity and settle_at ≤ t + settle_horizon."""
    if settle_at is None:
        return
    horizon = context.now + context.environment.parameters.settle_horizon_ms
    if not context.now < settle_at < rule.maturity_ms or settle_at > horizon:
        fail(Code.FIELD, "settle_at")


def new_trade(
    context: Context,
    *,
    buyer: bytes,
    seller: bytes,
    product: bytes,
    quantity: int,
    price: int,
    contract: bytes,
    settle_at: int | None,
    status: TradeStatus,
    affirm_by: int | None = None,
    source: bytes | None = None,
) -> Trade:
    """A trade that the principal proposes, takes or hits now."""
    return Trade(
        proposer=context.principal,
        agent=context.agent,
        buyer=buyer,
        seller=seller,
        product=product,
        quantity=quantity,
        price=price,
        contract=contract,
        affirm_by=affirm_by,
        settle_at=settle_at,
        source=source,
        clean=0,
        accrued=0,
        fee=0,
        status=status,
        failure=None,
        cancel_asked_by=None,
        created_at=context.now,
        executed_at=None,
        ended_at=None,
    )


def sides(side: Side, own: bytes, other: bytes) -> tuple[bytes, bytes]:
    """(buyer, seller) where `own` is on `side`."""
    return (own, other) if side is Side.BUY else (other, own)


def check_contract(context: Context, contract: bytes, product: bytes, *principals: bytes) -> None:
    """Failed(E_CONTRACT_NOT_EFFECTIVE) unless they may trade the product under the contract now."""
    binding.require_trading_contract(context, contract, product, principals)


def _check_buyer(context: Context, trade: Trade) -> None:
    require_buyer(context, trade.buyer, trade.product, seller=trade.seller, quantity=trade.quantity)


def _check_turnaround(context: Context, trade: Trade, rule: ProductTerms, at_ms: int) -> None:
    """Failed(E_TURNAROUND) if the seller bought, or the buyer sold, less than turnaround_days before."""
    if not rule.turnaround_days:
        return
    bought_at = (context.get(TURNAROUNDS, trade.product + trade.seller) or NEVER).bought_at
    sold_at = (context.get(TURNAROUNDS, trade.product + trade.buyer) or NEVER).sold_at
    for what, since in (("seller bought", bought_at), ("buyer sold", sold_at)):
        if since and at_ms < rule.start_of(rule.date_of(since) + rule.turnaround_days):
            fail(Code.TURNAROUND, f"the {what} at {since}")


def _note_turnaround(context: Context, trade: Trade) -> None:
    for account, field in ((trade.buyer, "bought_at"), (trade.seller, "sold_at")):
        record = context.get(TURNAROUNDS, trade.product + account) or NEVER
        context.put(TURNAROUNDS, trade.product + account, replace(record, **{field: context.now}))


def execute(
    context: Context,
    name: bytes,
    trade: Trade,
    priced: Amounts,
    *,
    seller_lock: bytes | None = None,
    buyer_lock: bytes | None = None,
    cost_max: int | None = None,
) -> None:
    """Both parties agreed: settle now (T+0), or lock both legs until settle_at. All own checks of a trade.

    At T+0 a leg comes out of the lock that is named for it, else out of what is available. The buyer declared that it
    pays at most `cost_max`: Failed(E_LACK_CASH) above it.
    """
    trade = replace(
        trade,
        clean=priced.clean,
        accrued=priced.accrued,
        fee=priced.fee,
        status=TradeStatus.EXECUTED,
        executed_at=context.now,
    )
    context.emit(
        TradeExecuted(
            name,
            trade.buyer,
            trade.seller,
            trade.product,
            trade.quantity,
            trade.price,
            trade.clean,
            trade.accrued,
            trade.fee,
            trade.settle_at,
            trade.source,
        )
    )
    if trade.settle_at is None:
        settle(context, name, trade, seller_lock=seller_lock, buyer_lock=buyer_lock)
    else:
        assert seller_lock is None and buyer_lock is None
        _lock_both(context, name, trade, trade.settle_at)
        move(context, name, trade, TradeStatus.LOCKED)
        context.schedule(
            trade.settle_at, DueClass.SETTLEMENT, SETTLE, name, product=trade.product, weight=SETTLE_WEIGHT
        )
    if cost_max is not None and trade.cost > cost_max:
        fail(Code.LACK_CASH, f"at most {cost_max} was declared, {trade.cost} needed")


def _lock_both(context: Context, name: bytes, trade: Trade, settle_at: int) -> None:
    rule = terms(context, trade.product)
    check_contract(context, trade.contract, trade.product, trade.buyer, trade.seller)
    _check_buyer(context, trade)
    balances.lock(
        context, trade.seller, name, trade.product, trade.quantity, LockPurpose.TRADE, name, settle_at=settle_at
    )
    _check_turnaround(context, trade, rule, settle_at)
    balances.lock(context, trade.buyer, name, rule.cash.encode(), trade.cost, LockPurpose.TRADE, name)


def settle(context: Context, name: bytes, trade: Trade, *, seller_lock: bytes | None, buyer_lock: bytes | None) -> None:
    """Delivery versus payment: units to the buyer, clean + accrued − fee to the seller, both fees to the payee.

    All own checks of a trade; the caller undoes what was written before one that failed.
    """
    rule = terms(context, trade.product)
    check_contract(context, trade.contract, trade.product, trade.buyer, trade.seller)
    _check_buyer(context, trade)
    if seller_lock is None:
        balances.deliver(context, trade.seller, trade.buyer, trade.product, trade.quantity)
    else:
        balances.deliver_from_lock(context, trade.seller, seller_lock, trade.buyer, trade.quantity)
    _check_turnaround(context, trade, rule, context.now)
    _pay(context, trade, rule, buyer_lock)
    if rule.turnaround_days:
        _note_turnaround(context, trade)
    move(context, name, trade, TradeStatus.SETTLED)
    binding.fulfil(context, trade.contract)


def _pay(context: Context, trade: Trade, rule: ProductTerms, lock: bytes | None) -> None:
    fees = 2 * trade.fee
    if lock is None:
        available = balances.cash_balance(context, trade.buyer, rule.cash).available
    else:
        held = context.get(LOCKS, trade.buyer + lock)
        available = 0 if held is None else held.amount
    if trade.cost > available:
        fail(Code.LACK_CASH, f"{available} available, {trade.cost} needed")
    for payee, amount in ((trade.seller, trade.proceeds), (rule.fee_payee, fees)):
        if lock is None:
            balances.pay(context, trade.buyer, payee, rule.cash, amount)
        else:
            balances.pay_from_lock(context, trade.buyer, lock, payee, amount)


def move(
    context: Context,
    name: bytes,
    trade: Trade,
    status: TradeStatus,
    failure: Code | None = None,
    *,
    at: int | None = None,
) -> Trade:
    """Bring the trade into a status, as of `at` (now)."""
    assert status in TRADE_TRANSITIONS[trade.status], f"{trade.status} to {status}"
    ended_at = None if status in TRADE_TRANSITIONS else context.now if at is None else at
    after = replace(trade, status=status, failure=failure, ended_at=ended_at)
    enter(context, name, after)
    context.emit(TradeChanged(name, trade.buyer, trade.seller, status, failure))
    return after


def enter(context: Context, name: bytes, trade: Trade) -> None:
    """Store the trade, new or changed. While PROPOSED it is open for its proposer, while LOCKED for both parties.

    Failed(E_LIMIT) if a party would have too much open.
    """
    before = context.get(TRADES, name)
    _count_open(context, name, () if before is None else _open_for(before), _open_for(trade), trade.product)
    context.put(TRADES, name, trade)
    if before is None:
        books.index(context, OPEN_TRADE, name, trade.product, (trade.buyer, trade.seller))


def _open_for(trade: Trade) -> Accounts:
    if trade.status is TradeStatus.PROPOSED:
        return (trade.proposer,)
    if trade.status is TradeStatus.LOCKED:
        return trade.buyer, trade.seller
    return ()


def _count_open(context: Context, name: bytes, before: Accounts, after: Accounts, product: bytes) -> None:
    for account in before:
        if account not in after:
            context.close_item(account, OPEN_TRADE, name)
    for account in after:
        if account not in before:
            context.open_item(account, OPEN_TRADE, name)
    if after and not before:
        books.open_on_product(context, OPEN_TRADE, name, product)
    if before and not after:
        books.close_on_product(context, OPEN_TRADE, name, product)


def release_both(context: Context, name: bytes, trade: Trade) -> None:
    """Give both legs of a locked trade back."""
    balances.release(context, trade.seller, name)
    balances.release(context, trade.buyer, name)


def fail_locked(context: Context, name: bytes, trade: Trade, failure: Code) -> None:
    """LOCKED → FAILED: both legs are released, nobody pays a fee."""
    context.unschedule(name, SETTLE)
    release_both(context, name, trade)
    move(context, name, trade, TradeStatus.FAILED, failure)

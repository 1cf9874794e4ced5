"""The invariants of the ledger that can be seen from a state, each by its number (docs/invariants.md).

Each check walks its tables once; they run in tests, in the simulator, in the demo and in `otcnode db verify`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from otcnode.vm import queue_checks as queue
from otcnode.vm.accounts import checks as accounts
from otcnode.vm.accounts.records import (
    CASH_ASSETS,
    CASH_BALANCES,
    FREEZES,
    HOLDINGS,
    HOLDINGS_BY_ACCOUNT,
    LOCKS,
    LOTS,
    UNIT_TOTALS,
    CashBalance,
    Holding,
)
from otcnode.vm.contracts import checks as contracts
from otcnode.vm.governance import checks as governance
from otcnode.vm.products import checks as products
from otcnode.vm.state import State
from otcnode.vm.trades import checks as trades
from otcnode.vm.view import StateView
from otcnode.vm.violation import Violation


def cash_totals(state: State) -> Iterator[Violation]:
    """1: per cash id, Σ balances = total = deposited − withdrawn ± corrections."""
    sums: Counter[bytes] = Counter()
    for key, balance in state.scan(CASH_BALANCES):
        sums[key[32:]] += balance.balance
    for cash, asset in state.scan(CASH_ASSETS):
        flow = asset.deposited - asset.withdrawn + asset.corrected_up - asset.corrected_down
        if not sums.pop(cash, 0) == asset.total == flow:
            yield Violation(1, f"{cash.decode()}: total {asset.total}, flows {flow}")
    for cash in sorted(sums):
        yield Violation(1, f"balances of {cash!r}, which does not exist")


def unit_totals(state: State) -> Iterator[Violation]:
    """2: per product, Σ balances = issued − redeemed."""
    sums: Counter[bytes] = Counter()
    for key, holding in state.scan(HOLDINGS):
        sums[key[:32]] += holding.balance
    for product, total in state.scan(UNIT_TOTALS):
        if sums.pop(product, 0) != total.outstanding:
            yield Violation(2, f"units of {product.hex()}: outstanding {total.outstanding}")
    for product in sorted(sums):
        yield Violation(2, f"units of {product.hex()}, which was never issued")


def parts_within_balance(state: State) -> Iterator[Violation]:
    """3: locked + frozen ≤ balance, all ≥ 0."""
    entries: list[tuple[bytes, CashBalance | Holding]] = [*state.scan(CASH_BALANCES), *state.scan(HOLDINGS)]
    for key, entry in entries:
        if min(entry.balance, entry.locked, entry.frozen, entry.available) < 0:
            yield Violation(3, f"balance {key.hex()}")


def locks_sum(state: State) -> Iterator[Violation]:
    """4: what is locked = Σ live locks, per account and asset; what is frozen = Σ parts of freezes."""
    locked: Counter[tuple[bytes, bytes]] = Counter()
    for key, lock in state.scan(LOCKS):
        locked[key[:32], lock.asset] += lock.amount
    frozen: Counter[tuple[bytes, bytes]] = Counter()
    for _, freeze in state.scan(FREEZES):
        for part in freeze.parts:
            frozen[freeze.account, part.asset] += part.amount
    entries = [((key[:32], key[32:]), cash.locked, cash.frozen) for key, cash in state.scan(CASH_BALANCES)]
    entries += [((key[32:], key[:32]), units.locked, units.frozen) for key, units in state.scan(HOLDINGS)]
    for name, amount_locked, amount_frozen in entries:
        if locked.pop(name, 0) != amount_locked or frozen.pop(name, 0) != amount_frozen:
            yield Violation(4, f"account {name[0].hex()}, asset {name[1].hex()}")
    for name in sorted({*locked, *frozen}):
        yield Violation(4, f"account {name[0].hex()} has a lock or freeze of {name[1].hex()} and no balance")


def lots_sum(state: State) -> Iterator[Violation]:
    """5: Σ lots = balance, and per end of lock-up what the holding says is restricted; it knows how many lots there
    are, and the first."""
    sums: Counter[tuple[bytes, bytes]] = Counter()
    counts: Counter[tuple[bytes, bytes]] = Counter()
    restricted: Counter[tuple[bytes, bytes, int]] = Counter()
    first: dict[tuple[bytes, bytes], bytes] = {}
    for key, lot in state.scan(LOTS):
        first.setdefault((key[:32], key[32:64]), key[64:])
        sums[key[:32], key[32:64]] += lot.quantity
        counts[key[:32], key[32:64]] += 1
        if lot.lockup_until:
            restricted[key[:32], key[32:64], lot.lockup_until] += lot.quantity
    for key, holding in state.scan(HOLDINGS):
        product, account = key[:32], key[32:]
        if sums.pop((account, product), 0) != holding.balance:
            yield Violation(5, f"account {account.hex()}, product {product.hex()}: lots")
        if counts[account, product] != holding.lots_held or first.get((account, product)) != holding.first_lot:
            yield Violation(5, f"account {account.hex()}, product {product.hex()}: how many lots, or the first")
        for part in holding.restricted:
            if restricted.pop((account, product, part.lockup_until), 0) != part.quantity:
                yield Violation(5, f"account {account.hex()}, product {product.hex()}: lock-up")
    for account, product in sorted({*sums, *(name[:2] for name in restricted)}):
        yield Violation(5, f"account {account.hex()} has stray lots of {product.hex()}")


def holdings_listed(state: State) -> Iterator[Violation]:
    """14: what an account holds is found from the account; a certificate for more people counts them where it holds."""
    held = sorted(key[32:] + key[:32] for key, _ in state.scan(HOLDINGS))
    if held != [key for key, _ in state.scan(HOLDINGS_BY_ACCOUNT)]:
        yield Violation(14, "index of holdings by account")


CHECKS: tuple[Callable[[State], Iterator[Violation]], ...] = (
    cash_totals,
    unit_totals,
    parts_within_balance,
    locks_sum,
    lots_sum,
    holdings_listed,
    *accounts.CHECKS,
    *contracts.CHECKS,
    *products.CHECKS,
    *governance.CHECKS,
    *trades.CHECKS,
    *queue.CHECKS,
)
"""Families append theirs here."""


def check_state(view: StateView) -> list[Violation]:
    """Every violation in a state; an empty list is what an honest ledger always gives."""
    state = State(view)
    return [violation for check in CHECKS for violation in check(state)]

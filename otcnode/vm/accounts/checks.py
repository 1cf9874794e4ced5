"""The invariants of entrustments, recoveries, withdrawals and freezes that can be seen from a state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from otcnode.genesis import KeyPurpose
from otcnode.types import INTEGER_MAX
from otcnode.vm.accounts import entrustments, keyring, recovery
from otcnode.vm.accounts.records import (
    ACCOUNTS,
    BANK_REFERENCES,
    CASH_ASSETS,
    ENTRUSTMENTS,
    ENTRUSTMENTS_ACTIVE,
    FREEZES,
    FREEZES_BY_ACCOUNT,
    KEYS,
    LOCKS,
    OPEN_ITEMS,
    RECOVERIES,
    RECOVERIES_BY_ACCOUNT,
    WITHDRAWALS,
    AccountStatus,
    EntrustmentStatus,
    LockPurpose,
    RecoveryStatus,
    WithdrawalStatus,
)
from otcnode.vm.accounts.totals import total_at
from otcnode.vm.due import places_of
from otcnode.vm.keys import OPEN_ENTRUSTMENT, OPEN_RECOVERY, OPEN_WITHDRAWAL
from otcnode.vm.state import State
from otcnode.vm.violation import Violation


def withdrawals_locked(state: State) -> Iterator[Violation]:
    """4: a withdrawal has its lock exactly while LOCKED. 26: each one paid, and nothing else, used a reference out."""
    locks = {key[32:]: lock.amount for key, lock in state.scan(LOCKS) if lock.purpose is LockPurpose.WITHDRAWAL}
    paid: Counter[bytes] = Counter()
    for name, record in state.scan(WITHDRAWALS):
        live = record.status is WithdrawalStatus.LOCKED
        is_open = state.get(OPEN_ITEMS, record.account + OPEN_WITHDRAWAL + name) is not None
        if locks.pop(name, 0) != (record.amount if live else 0) or is_open is not live:
            yield Violation(4, f"withdrawal {name.hex()}: {record.status.value}")
        if record.status is WithdrawalStatus.PAID:
            asset = state.get(CASH_ASSETS, record.cash.encode())
            assert asset is not None
            paid[asset.custodian] += 1
    for name in sorted(locks):
        yield Violation(4, f"lock {name.hex()} belongs to no withdrawal")
    used = Counter(key[:32] for key, _ in state.scan(BANK_REFERENCES) if key[32:33] == b"O")
    if used != paid:
        yield Violation(26, "bank references out are not those of the withdrawals paid")


def entrustments_kept(state: State) -> Iterator[Violation]:
    """20, 22, 23: what is used is within the cap, all of it exactly when EXHAUSTED; the indexes are of what is open."""
    active = {key[64:]: key[:64] for key, _ in state.scan(ENTRUSTMENTS_ACTIVE)}
    for name, record in state.scan(ENTRUSTMENTS):
        live = record.status in entrustments.TRANSITIONS
        powers, status = record.powers, record.status
        spent = record.used == powers.total_cap and record.used > 0
        if record.used > powers.total_cap or spent is not (status is EntrustmentStatus.EXHAUSTED):
            yield Violation(22, f"entrustment {name.hex()}: {record.used} used, {status.value}")
        if record.agent == record.principal or (record.ended_at or 0) > powers.until:
            yield Violation(22, f"entrustment {name.hex()}: its agent or its end")
        if record.used and status in (EntrustmentStatus.PROPOSED, EntrustmentStatus.DECLINED):
            yield Violation(23, f"entrustment {name.hex()}: used, but never accepted")
        places = active.pop(name, None), bool(places_of(state, name)), record.ended_at is None
        parties = record.agent + record.principal if status is EntrustmentStatus.ACTIVE else None
        is_open = state.get(OPEN_ITEMS, record.principal + OPEN_ENTRUSTMENT + name) is not None
        if places != (parties, live, live) or is_open is not live:
            yield Violation(20, f"entrustment {name.hex()}: {status.value}, and its indexes say otherwise")
    for name in sorted(active):
        yield Violation(20, f"entrustment {name.hex()} is listed and does not exist")


def recoveries_kept(state: State) -> Iterator[Violation]:
    """20, 28: from DELAYED on two organisations agreed; an account is RECOVERING exactly while one is DELAYED."""
    recovering = {name for name, account in state.scan(ACCOUNTS) if account.status is AccountStatus.RECOVERING}
    listed = {key[32:]: key[:32] for key, _ in state.scan(RECOVERIES_BY_ACCOUNT)}
    approved = (RecoveryStatus.DELAYED, RecoveryStatus.COMPLETED, RecoveryStatus.OBJECTED)
    for name, record in state.scan(RECOVERIES):
        live = record.status in recovery.TRANSITIONS
        organisations = record.organisations
        if len(organisations) != len(set(organisations)) or (len(organisations) == 2) is not (
            record.status in approved
        ):
            yield Violation(28, f"recovery {name.hex()}: {len(organisations)} approvals, {record.status.value}")
        if record.status is RecoveryStatus.DELAYED and record.account in recovering:
            recovering.remove(record.account)
        elif record.status is RecoveryStatus.DELAYED:
            yield Violation(28, f"recovery {name.hex()}: its account is not RECOVERING")
        is_open = state.get(OPEN_ITEMS, record.proposer + OPEN_RECOVERY + name) is not None
        if (listed.pop(name, None) == record.account) is not live or is_open is not live:
            yield Violation(20, f"recovery {name.hex()}: {record.status.value}, and its indexes say otherwise")
    for name in sorted({*recovering, *listed}):
        yield Violation(28, f"{name.hex()} is in recovery without one")


def accounts_kept(state: State) -> Iterator[Violation]:
    """4, 16: open items and FULL freezes are what the account counts; every account has the keys it needs."""
    opened = Counter(key[:32] for key, _ in state.scan(OPEN_ITEMS))
    frozen = Counter(freeze.account for _, freeze in state.scan(FREEZES) if freeze.full)
    listed = {(key[:32], key[32:]) for key, _ in state.scan(FREEZES_BY_ACCOUNT)}
    if listed != {(freeze.account, name) for name, freeze in state.scan(FREEZES)}:
        yield Violation(16, "freezes are not those listed by account")
    live: Counter[tuple[bytes, KeyPurpose]] = Counter()
    signing = [key for key, record in state.scan(KEYS) if record.revoked_at is None]
    if signing != [key for key, _ in state.scan(keyring.LIVE_KEYS)]:
        yield Violation(18, "live keys are not those listed")
    for key, record in state.scan(KEYS):
        live[key[:32], record.purpose] += record.revoked_at is None
    for name, account in state.scan(ACCOUNTS):
        if account.open_items != opened.pop(name, 0):
            yield Violation(4, f"account {name.hex()}: {account.open_items} open items counted")
        if account.full_freezes != frozen.pop(name, 0):
            yield Violation(16, f"account {name.hex()}: {account.full_freezes} FULL freezes counted")
        if any(live[name, purpose] < account.thresholds.of(purpose) for purpose in KeyPurpose):
            yield Violation(18, f"account {name.hex()} has fewer keys than it needs")
        if account.status is AccountStatus.CLOSED and account.open_items:
            yield Violation(20, f"account {name.hex()} is closed with something open")
    for name in sorted({*opened, *frozen}):
        yield Violation(4, f"account {name.hex()} does not exist and has something open or frozen")


def totals_kept(state: State) -> Iterator[Violation]:
    """6: the total that is remembered last is the one there is."""
    for cash, asset in state.scan(CASH_ASSETS):
        remembered = total_at(state, cash.decode(), INTEGER_MAX - 1)
        if remembered != asset.total:
            yield Violation(6, f"{cash.decode()}: total {asset.total}, remembered {remembered}")


CHECKS: tuple[Callable[[State], Iterator[Violation]], ...] = (
    withdrawals_locked,
    entrustments_kept,
    recoveries_kept,
    accounts_kept,
    totals_kept,
)

"""What accounts operations and every movement of cash and units report. Folding the *Moved events rebuilds balances."""

from __future__ import annotations

from otcnode.codec import Record
from otcnode.genesis import KeyPurpose
from otcnode.types import AccountId, Bytes32, Hash, Milliseconds, Natural, PublicKey
from otcnode.vm.accounts.records import (
    AccountStatus,
    Asset,
    EntrustmentStatus,
    LockPurpose,
    RecoveryStatus,
    WithdrawalStatus,
)


class CashMoved(Record, frozen=True, tag="cash.moved"):
    """Signed changes, in minor units, of one account's balance, locked and frozen cash."""

    account: AccountId
    cash: str
    balance: int
    locked: int
    frozen: int


class CashTotalMoved(Record, frozen=True, tag="cash.total"):
    """Signed change of all cash under one cash id: a deposit, a paid withdrawal or a correction."""

    cash: str
    change: int


class UnitsMoved(Record, frozen=True, tag="units.moved"):
    """Signed changes of one account's balance, locked and frozen units of a product."""

    account: AccountId
    product: Bytes32
    balance: int
    locked: int
    frozen: int


class LotMoved(Record, frozen=True, tag="lot.moved"):
    """Signed change of one lot; a lot appears with its first change and is gone at zero."""

    account: AccountId
    product: Bytes32
    acquired_at: Milliseconds
    sequence: Natural
    lockup_until: Milliseconds
    change: int


class UnitsTotalMoved(Record, frozen=True, tag="units.total"):
    """Units of a product that came into being or were burnt."""

    product: Bytes32
    issued: Natural
    redeemed: Natural


class LockOpened(Record, frozen=True, tag="lock.opened"):
    account: AccountId
    lock: Bytes32
    asset: Asset
    amount: Natural
    purpose: LockPurpose
    item: Bytes32


class LockReduced(Record, frozen=True, tag="lock.reduced"):
    """Part of a lock was paid or released; at `left` 0 the lock is gone."""

    account: AccountId
    lock: Bytes32
    paid: Natural
    released: Natural
    left: Natural


class AccountApplied(Record, frozen=True, tag="account.applied"):
    account: AccountId


class AccountChanged(Record, frozen=True, tag="account.changed"):
    """The account reached a status; `reason` is the desk's."""

    account: AccountId
    status: AccountStatus
    reason: str


class InvestorCertified(Record, frozen=True, tag="investor.certified"):
    account: AccountId
    risk: Natural
    category: str
    valid_until: Milliseconds
    ultimate_holders: Natural


class AccountFrozen(Record, frozen=True, tag="account.frozen"):
    """`asset` None is a FULL freeze."""

    account: AccountId
    freeze: Bytes32
    asset: Asset | None
    amount: Natural
    document: Hash
    until: Milliseconds | None


class AccountUnfrozen(Record, frozen=True, tag="account.unfrozen"):
    account: AccountId
    freeze: Bytes32


class KeyAdded(Record, frozen=True, tag="key.added"):
    account: AccountId
    key: PublicKey
    purpose: KeyPurpose


class KeyRevoked(Record, frozen=True, tag="key.revoked"):
    account: AccountId
    key: PublicKey


class CashDeposited(Record, frozen=True, tag="cash.deposited"):
    account: AccountId
    cash: str
    amount: Natural
    bank_reference: str


class WithdrawalChanged(Record, frozen=True, tag="withdrawal.changed"):
    account: AccountId
    withdrawal: Bytes32
    status: WithdrawalStatus
    bank_reference: str
    reason: str


class EntrustmentChanged(Record, frozen=True, tag="entrustment.changed"):
    """The entrustment reached a status; PROPOSED is its beginning."""

    entrustment: Bytes32
    principal: AccountId
    agent: AccountId
    status: EntrustmentStatus


class EntrustmentUsed(Record, frozen=True, tag="entrustment.used"):
    """What this transaction committed under the entrustment, in minor units, and what all have."""

    entrustment: Bytes32
    principal: AccountId
    agent: AccountId
    amount: Natural
    used: Natural


class RecoveryChanged(Record, frozen=True, tag="recovery.changed"):
    """The recovery reached a status; PROPOSED is its beginning. `by` is None where time did it."""

    recovery: Bytes32
    account: AccountId
    status: RecoveryStatus
    by: AccountId | None


class CloseRequested(Record, frozen=True, tag="account.close_requested"):
    account: AccountId


class ReconOk(Record, frozen=True, tag="recon.ok"):
    """Bank and ledger agree on all cash under the id as of a height."""

    attestation: Bytes32
    cash: str
    height: Natural
    total: Natural


class ReconBreak(Record, frozen=True, tag="recon.break"):
    """`difference` = bank − ledger, in minor units; deposits are stopped."""

    attestation: Bytes32
    cash: str
    height: Natural
    bank_total: Natural
    ledger_total: Natural
    difference: int


class DepositsResumed(Record, frozen=True, tag="recon.resumed"):
    cash: str
    document: Hash

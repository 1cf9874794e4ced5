"""What the state holds about accounts, their keys, cash and units."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, TypeAlias

from msgspec import Meta

from otcnode.codec import Record
from otcnode.crypto import tagged_hash
from otcnode.genesis import KeyPurpose, Role
from otcnode.types import AccountId, Bytes32, Hash, Milliseconds, Natural, PublicKey
from otcnode.vm.keys import Marker, Prefix, Table

ORGANISATION_DOMAIN = "otcnode/organisation/1"
_TRADE, _MANAGE = KeyPurpose.TRADE, KeyPurpose.MANAGE
"""Looked up once, for every transaction asks."""

Asset: TypeAlias = Annotated[bytes, Meta(min_length=1, max_length=32)]
"""What can be locked or frozen: a cash id in UTF-8 (CNY@BANK; under 32 bytes) or a product id (exactly 32 bytes)."""


def is_cash(asset: bytes) -> bool:
    return len(asset) < 32


class AccountStatus(StrEnum):
    """An ACTIVE account with a FULL freeze is shown as FROZEN."""

    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    REJECTED = "REJECTED"
    RECOVERING = "RECOVERING"
    CLOSED = "CLOSED"


STANDING = frozenset({AccountStatus.ACTIVE, AccountStatus.RECOVERING})
"""Of accounts that may be credited and frozen."""


class AccountKind(StrEnum):
    PERSON = "PERSON"
    COMPANY = "COMPANY"


class Category(StrEnum):
    """PROFESSIONAL satisfies any category and any risk level."""

    RETAIL = "RETAIL"
    QUALIFIED = "QUALIFIED"
    PROFESSIONAL = "PROFESSIONAL"


class Thresholds(Record, frozen=True):
    """Distinct keys needed to act, per purpose."""

    manage: Natural
    trade: Natural
    sign: Natural

    def of(self, purpose: KeyPurpose) -> int:
        if purpose is _TRADE:
            return self.trade
        return self.manage if purpose is _MANAGE else self.sign


class Certificate(Record, frozen=True):
    """What the KYC desk certified about an investor; valid while t < valid_until."""

    risk: Natural
    category: Category
    valid_until: Milliseconds
    evidence: Hash


class Account(Record, frozen=True):
    """`full_freezes` counts the FULL freezes in force; `open_items` what the account has open, bounded by parameter.

    `freezer_until` is when the FREEZER desk may freeze this account again; `closing` is set once the holder asked.
    """

    organisation: Bytes32
    kind: AccountKind
    status: AccountStatus
    roles: tuple[Role, ...]
    thresholds: Thresholds
    encryption_key: Bytes32 | None
    identity_commitment: Hash | None
    ultimate_holders: Natural
    certificate: Certificate | None
    full_freezes: Natural
    freezer_until: Milliseconds
    open_items: Natural
    closing: bool
    created_at: Milliseconds

    @property
    def shown_status(self) -> str:
        return "FROZEN" if self.status is AccountStatus.ACTIVE and self.full_freezes else self.status.value


class Key(Record, frozen=True):
    """A key of an account. Revoked ones stay, so that old signatures remain explicable."""

    purpose: KeyPurpose
    added_at: Milliseconds
    revoked_at: Milliseconds | None


class Organisation(Record, frozen=True):
    name: str


def organisation_id(name: str) -> bytes:
    return tagged_hash(ORGANISATION_DOMAIN, name.encode())


class CashAsset(Record, frozen=True):
    """Cash of one currency at one custodian. total = deposited − withdrawn + corrected_up − corrected_down."""

    custodian: AccountId
    decimals: Natural
    daily_deposit_limit: Natural
    day: Natural
    """The UTC day (since 1970) that `day_deposited` counts."""
    day_deposited: Natural
    total: Natural
    deposited: Natural
    withdrawn: Natural
    corrected_up: Natural
    corrected_down: Natural
    stopped: bool
    """A reconciliation break stops deposits until the regulator resumes them."""


class CashBalance(Record, frozen=True):
    """locked + frozen ≤ balance. `watch` is the item to wake when available cash rises."""

    balance: Natural
    locked: Natural
    frozen: Natural
    watch: Bytes32 | None

    @property
    def available(self) -> int:
        return self.balance - self.locked - self.frozen


class Restricted(Record, frozen=True):
    """Units in lots that share one end of lock-up."""

    lockup_until: Milliseconds
    quantity: Natural


LotPlace: TypeAlias = Annotated[bytes, Meta(max_length=16)]
"""acquired_at ‖ sequence of a lot, the end of its key in LOTS; empty where there is none."""


class Holding(Record, frozen=True):
    """An account's units of one product, in `lots_held` lots. `restricted` sums the lots that have a lock-up, by its
    end, ascending; `first_lot` is the place of the one that came in first: most sales draw on it alone."""

    balance: Natural
    locked: Natural
    frozen: Natural
    restricted: tuple[Restricted, ...]
    lots_created: Natural
    lots_held: Natural
    first_lot: LotPlace

    @property
    def available(self) -> int:
        return self.balance - self.locked - self.frozen

    def free_at(self, time_ms: int) -> int:
        """Units in lots that are out of lock-up at `time_ms`."""
        return self.balance - sum(part.quantity for part in self.restricted if part.lockup_until > time_ms)


class Lot(Record, frozen=True):
    """Units acquired together; 0 as `lockup_until` means no lock-up."""

    quantity: Natural
    lockup_until: Milliseconds


class UnitTotal(Record, frozen=True):
    """Per product: units in accounts = issued − redeemed."""

    issued: Natural
    redeemed: Natural

    @property
    def outstanding(self) -> int:
        return self.issued - self.redeemed


class HolderCount(Record, frozen=True):
    """Who holds a product: accounts with a balance, and the people behind them (Σ ultimate_holders)."""

    accounts: Natural
    ultimate_holders: Natural


class LockPurpose(StrEnum):
    WITHDRAWAL = "WITHDRAWAL"
    SUBSCRIPTION = "SUBSCRIPTION"
    TRADE = "TRADE"
    OFFER = "OFFER"
    QUOTE = "QUOTE"
    REDEMPTION = "REDEMPTION"


class Lock(Record, frozen=True):
    """A reservation of cash or units; it ends with the one open item it belongs to."""

    asset: Asset
    amount: Natural
    purpose: LockPurpose
    item: Bytes32


class FrozenPart(Record, frozen=True):
    asset: Asset
    amount: Natural


class Freeze(Record, frozen=True):
    """`parts` is empty for a FULL freeze. Without `until` it holds until it is lifted."""

    account: AccountId
    by: AccountId
    full: bool
    parts: tuple[FrozenPart, ...]
    document: Hash
    since: Milliseconds
    until: Milliseconds | None


class Scope(StrEnum):
    """What an entrustment can allow an agent to do."""

    CONFIRM = "CONFIRM"
    SIGN = "SIGN"
    SUBSCRIBE = "SUBSCRIBE"
    TRADE = "TRADE"
    REDEEM = "REDEEM"


class EntrustmentStatus(StrEnum):
    PROPOSED = "PROPOSED"
    DECLINED = "DECLINED"
    ACTIVE = "ACTIVE"
    EXHAUSTED = "EXHAUSTED"
    EXPIRED = "EXPIRED"
    REVOKED = "REVOKED"


class Powers(Record, frozen=True):
    """What an agent may do, as the principal granted it; nothing of it can be passed on.

    `products` None is any product. Prices are in 10^-4 per unit, caps in minor units: `per_action_cap` bounds the money
    that one transaction commits, `total_cap` that of all. Valid while valid_from ≤ t < until.
    """

    scopes: Annotated[tuple[Scope, ...], Meta(max_length=len(Scope))]
    products: Annotated[tuple[Bytes32, ...], Meta(max_length=256)] | None
    min_price: Natural | None
    max_price: Natural | None
    per_action_cap: Natural
    total_cap: Natural
    valid_from: Milliseconds
    until: Milliseconds
    document: Hash
    """Commitment to the power of attorney."""
    allow_self_dealing: bool


class Entrustment(Record, frozen=True):
    """`used` is all money that acts under it have committed, in minor units; it never falls."""

    principal: AccountId
    agent: AccountId
    powers: Powers
    status: EntrustmentStatus
    used: Natural
    created_at: Milliseconds
    ended_at: Milliseconds | None


class NewKey(Record, frozen=True):
    purpose: KeyPurpose
    key: PublicKey


NewKeys: TypeAlias = Annotated[tuple[NewKey, ...], Meta(min_length=1, max_length=32)]


class RecoveryStatus(StrEnum):
    PROPOSED = "PROPOSED"
    DELAYED = "DELAYED"
    COMPLETED = "COMPLETED"
    OBJECTED = "OBJECTED"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"


class Recovery(Record, frozen=True):
    """New keys for an account whose own are lost or stolen. `deadline` is by when it must be approved, then when the
    keys change; `organisations` are those of the desk that proposed it and of the regulator that approved it."""

    account: AccountId
    keys: NewKeys
    thresholds: Thresholds
    encryption_key: Bytes32
    document: Hash
    proposer: AccountId
    approver: AccountId | None
    organisations: tuple[Bytes32, ...]
    status: RecoveryStatus
    deadline: Milliseconds
    created_at: Milliseconds
    ended_at: Milliseconds | None


class TotalAt(Record, frozen=True):
    """All cash under one cash id, from the height in the key on."""

    total: Natural


class Attestation(Record, frozen=True):
    """What the custodian's bank and the ledger say about a cash id as of a height."""

    cash: str
    height: Natural
    bank_total: Natural
    ledger_total: Natural
    statement: Hash
    custodian: AccountId
    attested_at: Milliseconds


class WithdrawalStatus(StrEnum):
    LOCKED = "LOCKED"
    PAID = "PAID"
    REJECTED = "REJECTED"
    CANCELLED = "CANCELLED"


class Withdrawal(Record, frozen=True):
    """Money on its way out; while LOCKED a lock with the withdrawal's own id holds it."""

    account: AccountId
    cash: str
    amount: Natural
    destination: Hash
    status: WithdrawalStatus
    requested_at: Milliseconds
    reason: str


ACCOUNTS = Table(Prefix.ACCOUNT, Account)
"""account id"""
KEYS = Table(Prefix.KEY, Key)
"""account id ‖ public key"""
ORGANISATIONS = Table(Prefix.ORGANISATION, Organisation)
"""organisation id"""
CASH_ASSETS = Table(Prefix.CASH_ASSET, CashAsset)
"""cash id"""
CASH_BALANCES = Table(Prefix.CASH_BALANCE, CashBalance)
"""account id ‖ cash id"""
HOLDINGS = Table(Prefix.HOLDING, Holding)
"""product id ‖ account id: a scan by product lists its holders"""
HOLDINGS_BY_ACCOUNT = Table(Prefix.HOLDING_BY_ACCOUNT, Marker)
"""account id ‖ product id"""
LOTS = Table(Prefix.LOT, Lot)
"""account id ‖ product id ‖ acquired_at ‖ sequence: a scan is first in, first out"""
LOCKS = Table(Prefix.LOCK, Lock)
"""account id ‖ lock id"""
UNIT_TOTALS = Table(Prefix.UNIT_TOTAL, UnitTotal)
"""product id"""
HOLDERS = Table(Prefix.PRODUCT_HOLDERS, HolderCount)
"""product id"""
FREEZES = Table(Prefix.FREEZE, Freeze)
"""freeze id"""
FREEZES_BY_ACCOUNT = Table(Prefix.FREEZE_BY_ACCOUNT, Marker)
"""account id ‖ freeze id"""
BANK_REFERENCES = Table(Prefix.BANK_REFERENCE, Marker)
"""custodian account id ‖ direction (I in, O out) ‖ reference"""
WITHDRAWALS = Table(Prefix.WITHDRAWAL, Withdrawal)
"""withdrawal id"""
WITHDRAWALS_BY_PARTY = Table(Prefix.WITHDRAWAL_BY_PARTY, Marker)
"""account id of the holder or of the custodian ‖ requested_at ‖ withdrawal id"""
OPEN_ITEMS = Table(Prefix.OPEN_ITEM, Marker)
"""account id ‖ kind byte ‖ item id"""
ENTRUSTMENTS = Table(Prefix.ENTRUSTMENT, Entrustment)
"""entrustment id"""
ENTRUSTMENTS_BY_ACCOUNT = Table(Prefix.ENTRUSTMENT_BY_ACCOUNT, Marker)
"""account id (principal or agent) ‖ created_at ‖ entrustment id"""
ENTRUSTMENTS_ACTIVE = Table(Prefix.ENTRUSTMENT_ACTIVE, Marker)
"""agent account id ‖ principal account id ‖ entrustment id, while ACTIVE: whom an agent represents"""
RECOVERIES = Table(Prefix.RECOVERY, Recovery)
"""recovery id"""
RECOVERIES_BY_ACCOUNT = Table(Prefix.RECOVERY_BY_ACCOUNT, Marker)
"""account id ‖ recovery id, while PROPOSED or DELAYED"""
TOTALS_AT = Table(Prefix.CASH_TOTAL_AT, TotalAt)
"""hash of the cash id ‖ 2^63 − 1 − height: a scan is from the latest height down"""
ATTESTATIONS = Table(Prefix.ATTESTATION, Attestation)
"""attested_at ‖ attestation id"""

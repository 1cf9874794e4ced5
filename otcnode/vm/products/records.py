"""What the state holds about products, subscriptions and redemptions."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, TypeAlias

from msgspec import Meta

from otcnode.codec import Record
from otcnode.types import INTEGER_MAX, AccountId, Bytes32, Hash, Milliseconds, Natural
from otcnode.vm.accounts.records import Category
from otcnode.vm.arithmetic import DayCount, date_start_ms, local_date
from otcnode.vm.keys import Marker, Prefix, Table, integer

Date: TypeAlias = Natural
"""A local calendar day, as days since 1970-01-01; it means 00:00 local."""

PAY_DATES_MAX = 480
DOCUMENTS_MAX = 64


class ProductType(StrEnum):
    """A FIXED_NOTE pays coupons at a rate; a DISCOUNT_NOTE and an EQUITY pay their face at maturity and accrue 0."""

    FIXED_NOTE = "FIXED_NOTE"
    DISCOUNT_NOTE = "DISCOUNT_NOTE"
    EQUITY = "EQUITY"


class ProductStatus(StrEnum):
    DRAFT = "DRAFT"
    REVIEW = "REVIEW"
    RETURNED = "RETURNED"
    REJECTED = "REJECTED"
    APPROVED = "APPROVED"
    OPEN = "OPEN"
    CLOSED = "CLOSED"
    ALLOTTED = "ALLOTTED"
    ACTIVE = "ACTIVE"
    PAYMENT_OVERDUE = "PAYMENT_OVERDUE"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    MATURED = "MATURED"
    DEFAULTED = "DEFAULTED"


_P = ProductStatus
TRANSITIONS: dict[ProductStatus, frozenset[ProductStatus]] = {
    _P.DRAFT: frozenset({_P.REVIEW, _P.CANCELLED}),
    _P.REVIEW: frozenset({_P.RETURNED, _P.REJECTED, _P.APPROVED, _P.CANCELLED}),
    _P.RETURNED: frozenset({_P.DRAFT, _P.CANCELLED}),
    _P.APPROVED: frozenset({_P.OPEN, _P.CANCELLED}),
    _P.OPEN: frozenset({_P.CLOSED, _P.CANCELLED}),
    _P.CLOSED: frozenset({_P.FAILED, _P.ALLOTTED}),
    _P.ALLOTTED: frozenset({_P.FAILED, _P.ACTIVE}),
    _P.ACTIVE: frozenset({_P.PAYMENT_OVERDUE, _P.MATURED}),
    _P.PAYMENT_OVERDUE: frozenset({_P.ACTIVE, _P.MATURED, _P.DEFAULTED}),
}
"""What may follow a status; the statuses that are no key here are terminal."""
TERMINAL = frozenset(status for status in ProductStatus if status not in TRANSITIONS)


class CoolingOffRule(Record, frozen=True):
    """The least cooling-off that a subscription contract must grant."""

    period_ms: Milliseconds
    callback: bool


class RedemptionRule(Record, frozen=True):
    """Whether holders may redeem early, at what penalty on the principal, after how many days' notice."""

    allowed: bool
    penalty_ppm: Natural
    notice_days: Natural


class ProductTerms(Record, frozen=True):
    """What a product promises; it never changes once the product is reviewed.

    Money is in minor units of `cash`, quantities in 10^-quantity_decimals units, `issue_price` in 10^-4 currency per
    unit, `face` in minor units per unit, `open` and `close` instants in ms, dates local days.
    """

    type: ProductType
    cash: Annotated[str, Meta(min_length=1, max_length=31)]
    quantity_decimals: Natural
    utc_offset_minutes: Annotated[int, Meta(ge=-INTEGER_MAX, le=INTEGER_MAX)]
    face: Natural
    issue_price: Natural
    offered: Natural
    min_raise: Natural
    min_subscription: Natural
    step: Natural
    max_holders: Natural
    risk: Natural
    categories: Annotated[tuple[Category, ...], Meta(max_length=len(Category))]
    open: Milliseconds
    close: Milliseconds
    value_date: Date
    maturity: Date
    rate_ppm: Natural
    day_count: DayCount
    pay_dates: Annotated[tuple[Date, ...], Meta(max_length=PAY_DATES_MAX)]
    lockup_days: Natural
    turnaround_days: Natural
    subscription_fee_ppm: Natural
    trade_fee_ppm: Natural
    fee_payee: AccountId
    min_allotment: Natural
    cooling_off: CoolingOffRule
    redemption: RedemptionRule
    grace_days: Natural
    documents: Annotated[tuple[Hash, ...], Meta(max_length=DOCUMENTS_MAX)]
    contract: Bytes32
    """The issuance contract."""

    def start_of(self, date: int) -> int:
        """The instant of 00:00 local on a day."""
        return date_start_ms(date, self.utc_offset_minutes)

    def date_of(self, time_ms: int) -> int:
        """The local day of an instant."""
        return local_date(time_ms, self.utc_offset_minutes)

    @property
    def maturity_ms(self) -> int:
        return self.start_of(self.maturity)

    @property
    def payments(self) -> tuple[int, ...]:
        """The days on which the issuer must pay, ascending: the pay dates and the maturity."""
        if self.pay_dates and self.pay_dates[-1] == self.maturity:
            return self.pay_dates
        return (*self.pay_dates, self.maturity)


class Cancelling(Record, frozen=True):
    """One desk asked to cancel an OPEN product; the other one's consent completes it."""

    account: AccountId
    role: str


class Product(Record, frozen=True):
    """A product's life. `suspended` is a flag beside the status.

    `accepted` numbers subscriptions in the order of acceptance; `live`, `subscribed` and `subscriber_holders` sum the
    live ones. `next_payment` indexes terms.payments; `unpaid` are the days whose payment is overdue, ascending.
    """

    issuer: AccountId
    code: str
    status: ProductStatus
    reason: str
    suspended: bool
    cancelling: Cancelling | None
    accepted: Natural
    live: Natural
    subscribed: Natural
    subscriber_holders: Natural
    allotted: Natural
    next_payment: Natural
    unpaid: tuple[Date, ...]
    disclosures: Natural
    created_at: Milliseconds
    changed_at: Milliseconds


class SubscriptionStatus(StrEnum):
    LOCKED = "LOCKED"
    CANCELLED = "CANCELLED"
    WITHDRAWN = "WITHDRAWN"
    VOID_NOT_EFFECTIVE = "VOID_NOT_EFFECTIVE"
    REFUNDED = "REFUNDED"
    ALLOTTED = "ALLOTTED"
    SETTLED = "SETTLED"


_S = SubscriptionStatus
SUBSCRIPTION_TRANSITIONS: dict[SubscriptionStatus, frozenset[SubscriptionStatus]] = {
    _S.LOCKED: frozenset({_S.CANCELLED, _S.WITHDRAWN, _S.VOID_NOT_EFFECTIVE, _S.REFUNDED, _S.ALLOTTED}),
    _S.ALLOTTED: frozenset({_S.SETTLED, _S.REFUNDED}),
}
"""What may follow a status; the statuses that are no key here are terminal."""
LIVE_SUBSCRIPTION = frozenset(SUBSCRIPTION_TRANSITIONS)


class Subscription(Record, frozen=True):
    """`locked` is cost + fee of the whole quantity, under a lock with the subscription's own id; `agent` accepted it
    for the account. `sequence` is its place in the order of acceptance."""

    product: Bytes32
    account: AccountId
    contract: Bytes32
    agent: AccountId | None
    quantity: Natural
    locked: Natural
    allotted: Natural
    ultimate_holders: Natural
    sequence: Natural
    status: SubscriptionStatus
    reason: str
    created_at: Milliseconds
    changed_at: Milliseconds


class RedemptionStatus(StrEnum):
    REQUESTED = "REQUESTED"
    PAID = "PAID"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"


class Redemption(Record, frozen=True):
    """Units a holder wants to give back; they are under a lock with the redemption's own id."""

    product: Bytes32
    account: AccountId
    agent: AccountId | None
    quantity: Natural
    payable_from: Milliseconds
    """The end of the notice."""
    until: Milliseconds
    status: RedemptionStatus
    reason: str
    paid: Natural
    created_at: Milliseconds
    changed_at: Milliseconds


class Disclosure(Record, frozen=True):
    title: str
    document: Hash
    posted_at: Milliseconds


class RecordedBalance(Record, frozen=True):
    """What an account held at 00:00 of an unpaid day, where that is not what it holds now: the coupon is owed on it."""

    quantity: Natural


class Reference(Record, frozen=True):
    """The value of an index entry that names one item."""

    item: Bytes32


PRODUCTS = Table(Prefix.PRODUCT, Product)
"""product id"""
PRODUCT_TERMS = Table(Prefix.PRODUCT_TERMS, ProductTerms)
"""product id"""
PRODUCT_CODES = Table(Prefix.PRODUCT_CODE, Reference)
"""code, of a product that is not terminal"""
PRODUCTS_BY_ISSUER = Table(Prefix.PRODUCT_BY_ISSUER, Marker)
"""issuer's account id ‖ product id"""
PRODUCTS_BY_STATUS = Table(Prefix.PRODUCT_BY_STATUS, Marker)
"""number of the status (1 byte) ‖ product id"""
PRODUCT_PARTIES = Table(Prefix.PRODUCT_PARTY, Marker)
"""account id ‖ product id: issuer, fee payee and custodian of a product that is not terminal"""
PRODUCTS_OVERDUE = Table(Prefix.PRODUCT_OVERDUE, Marker)
"""issuer's account id ‖ start of the first unpaid day ‖ product id"""
RECORDED_BALANCES = Table(Prefix.PRODUCT_RECORD, RecordedBalance)
"""product id ‖ unpaid day ‖ account id; none where the balance has not changed since that day"""
RECORDED_BY_ACCOUNT = Table(Prefix.PRODUCT_RECORD_BY_ACCOUNT, Marker)
"""account id ‖ product id ‖ unpaid day, where the recorded balance is not 0"""
PRODUCTS_WAITING = Table(Prefix.PRODUCT_WAITING, Reference)
"""due time ‖ sequence: an issuance step that came due while the market was paused"""
SUBSCRIPTIONS = Table(Prefix.SUBSCRIPTION, Subscription)
"""subscription id"""
SUBSCRIPTIONS_BY_PRODUCT = Table(Prefix.SUBSCRIPTION_BY_PRODUCT, Reference)
"""product id ‖ sequence: in the order of acceptance, without those cancelled or withdrawn before the close"""
SUBSCRIPTIONS_BY_ACCOUNT = Table(Prefix.SUBSCRIPTION_BY_ACCOUNT, Reference)
"""account id ‖ product id ‖ descending sequence: the latest first"""
SUBSCRIPTIONS_BY_CONTRACT = Table(Prefix.SUBSCRIPTION_BY_CONTRACT, Reference)
"""contract id: the latest subscription under it"""
REDEMPTIONS = Table(Prefix.REDEMPTION, Redemption)
"""redemption id"""
REDEMPTIONS_BY_PRODUCT = Table(Prefix.REDEMPTION_BY_PRODUCT, Marker)
"""product id ‖ REQUESTED_PART while it is, then DECIDED_PART ‖ redemption id"""
REDEMPTIONS_BY_PARTY = Table(Prefix.REDEMPTION_BY_PARTY, Marker)
"""account id of the holder or of the issuer ‖ created_at ‖ redemption id"""
DISCLOSURES = Table(Prefix.DISCLOSURE, Disclosure)
"""product id ‖ number"""

REQUESTED_PART, DECIDED_PART = b"\x00", b"\x01"
_STATUS_NUMBER = {status: bytes([number]) for number, status in enumerate(ProductStatus)}
_LAST = 2**64 - 1


def status_key(status: ProductStatus, product: bytes = b"") -> bytes:
    return _STATUS_NUMBER[status] + product


def descending(sequence: int) -> bytes:
    """A key part that sorts higher sequences first."""
    return integer(_LAST - sequence)

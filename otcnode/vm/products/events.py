"""What products report, beside the movements of cash and units (accounts/events.py)."""

from __future__ import annotations

from otcnode.codec import Record
from otcnode.types import AccountId, Bytes32, Hash, Milliseconds, Natural
from otcnode.vm.products.records import Date, ProductStatus, RedemptionStatus, SubscriptionStatus


class ProductDrafted(Record, frozen=True, tag="product.drafted"):
    """A product, or new terms of one; the terms are in the operation."""

    product: Bytes32
    issuer: AccountId
    code: str


class ProductChanged(Record, frozen=True, tag="product.changed"):
    """The product reached a status."""

    product: Bytes32
    status: ProductStatus
    reason: str


class ProductCancelRequested(Record, frozen=True, tag="product.cancel_requested"):
    product: Bytes32
    account: AccountId
    reason: str


class ProductSuspended(Record, frozen=True, tag="product.suspended"):
    """Suspended, or with False resumed."""

    product: Bytes32
    suspended: bool
    reason: str


class DisclosurePosted(Record, frozen=True, tag="disclosure.posted"):
    product: Bytes32
    number: Natural
    title: str
    document: Hash


class Subscribed(Record, frozen=True, tag="subscription.accepted"):
    """`locked` is cost + fee, in minor units."""

    subscription: Bytes32
    product: Bytes32
    account: AccountId
    contract: Bytes32
    quantity: Natural
    locked: Natural


class SubscriptionChanged(Record, frozen=True, tag="subscription.changed"):
    """The subscription reached a status; `allotted` is 0 unless it is ALLOTTED or SETTLED."""

    subscription: Bytes32
    product: Bytes32
    account: AccountId
    status: SubscriptionStatus
    allotted: Natural
    reason: str


class ProductAllotted(Record, frozen=True, tag="product.allotted"):
    """`eligible` is the sum of the quantities that took part."""

    product: Bytes32
    eligible: Natural
    allotted: Natural


class ProductPaid(Record, frozen=True, tag="product.paid"):
    """One day's obligation was paid in full: the coupon and, on the maturity date, the principal."""

    product: Bytes32
    date: Date
    coupon: Natural
    principal: Natural
    accounts: Natural


class PaymentOverdue(Record, frozen=True, tag="product.overdue"):
    """The obligation of a day could not be paid; `shortfall` is what the issuer's available cash lacks (0 if only a
    freeze stands in the way); `until` is the end of grace."""

    product: Bytes32
    date: Date
    due: Natural
    shortfall: Natural
    until: Milliseconds


class RedemptionRequested(Record, frozen=True, tag="redemption.requested"):
    redemption: Bytes32
    product: Bytes32
    account: AccountId
    quantity: Natural
    until: Milliseconds


class RedemptionChanged(Record, frozen=True, tag="redemption.changed"):
    """`paid` is what the holder received: principal + accrued − penalty."""

    redemption: Bytes32
    product: Bytes32
    account: AccountId
    status: RedemptionStatus
    principal: Natural
    accrued: Natural
    penalty: Natural
    paid: Natural
    reason: str

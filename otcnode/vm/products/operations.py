"""Operations on products, subscriptions and redemptions."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from otcnode.codec import Record
from otcnode.types import Bytes32, Hash, Milliseconds, Natural
from otcnode.vm.products.records import ProductTerms

Text = Annotated[str, Meta(max_length=256)]
Code = Annotated[str, Meta(min_length=1, max_length=32, pattern=r"^[0-9A-Z][0-9A-Z._-]*$")]


class Verdict(StrEnum):
    APPROVE = "APPROVE"
    RETURN = "RETURN"
    REJECT = "REJECT"


class ProductCreate(Record, frozen=True, tag="product.create"):
    """Draft a product, or give a DRAFT or RETURNED one new terms. Signed by: ISSUER (TRADE key).

    Fields: `code`, unique among products that have not ended; `terms`, in the units of ProductTerms; `revises`, the
    product to revise, or nil for a new one, which is named by this operation's id.
    Effects: → DRAFT; counts among the issuer's open items until the product ends.
    Errors: E_NOT_FOUND (revises, terms.cash, terms.fee_payee, terms.contract), E_NOT_PARTY (another's product), E_STATE
    (revises is neither DRAFT nor RETURNED, or the fee payee's account is not ACTIVE), E_FROZEN, E_FIELD{the first term
    out of its bounds}, E_OVERFLOW (what it could owe leaves the integer range), E_DUPLICATE (code), E_LIMIT.
    """

    code: Code
    terms: ProductTerms
    revises: Bytes32 | None


class ProductSubmit(Record, frozen=True, tag="product.submit"):
    """Hand a drafted product to the LISTING desk. Signed by: its ISSUER (TRADE key).

    Fields: `product`. Effects: DRAFT → REVIEW.
    Errors: E_NOT_FOUND, E_NOT_PARTY, E_EXPIRED (t ≥ close), E_STATE, E_FROZEN.
    """

    product: Bytes32


class ProductCancel(Record, frozen=True, tag="product.cancel"):
    """Give up a product. Signed by: its ISSUER, or OPERATOR.LISTING and REGULATOR (TRADE key).

    Before OPEN the issuer alone cancels. In OPEN both desks must: the first one's operation is remembered, the other's
    completes it, and every subscription is CANCELLED and released. It counts only while its account is ACTIVE and has
    the role.
    Fields: `product`, `reason`, required.
    Errors: E_NOT_FOUND, E_NOT_PARTY, E_FOUR_EYES (the same desk or organisation again), E_EXPIRED (OPEN and t ≥ close),
    E_STATE, E_FIELD{reason}.
    """

    product: Bytes32
    reason: Text


class ProductReview(Record, frozen=True, tag="product.review"):
    """Decide on a submitted product. Signed by: OPERATOR.LISTING (TRADE key).

    Fields: `product`; `verdict`; `reason`, required unless approving.
    Effects: REVIEW → APPROVED, which opens by itself at `open` (at once if that has passed), RETURNED or REJECTED.
    Errors: E_NOT_FOUND, E_EXPIRED (approving at t ≥ close), E_STATE, E_FIELD{reason},
    E_CONTRACT_NOT_EFFECTIVE (approving without an effective issuance contract signed by the issuer).
    """

    product: Bytes32
    verdict: Verdict
    reason: Text


class ProductSuspend(Record, frozen=True, tag="product.suspend"):
    """Stop dealing in a product. Signed by: OPERATOR.LISTING or REGULATOR (TRADE key).

    A flag beside the state: coupons, maturity and issuance steps go on; subscribing, trading and redeeming are E_STATE
    and settlements that fall due fail.
    Fields: `product`, `reason`, required.
    Errors: E_NOT_FOUND, E_STATE (not approved yet, ended, or suspended already), E_FIELD{reason}.
    """

    product: Bytes32
    reason: Text


class ProductResume(Record, frozen=True, tag="product.resume"):
    """End a suspension. Signed by: OPERATOR.LISTING or REGULATOR (TRADE key).

    Fields: `product`, `reason`. Errors: E_NOT_FOUND, E_STATE (not suspended).
    """

    product: Bytes32
    reason: Text


class DisclosurePost(Record, frozen=True, tag="disclosure.post"):
    """Publish something about a product. Signed by: its ISSUER (TRADE key).

    Fields: `product`; `title`, not empty; `document`, the hash of what is published.
    Errors: E_NOT_FOUND, E_NOT_PARTY, E_STATE (rejected or cancelled), E_FIELD{title}, E_LIMIT (disclosures of one
    product).
    """

    product: Bytes32
    title: Text
    document: Hash


class ProductSubscribe(Record, frozen=True, tag="product.subscribe"):
    """Subscribe for units of an OPEN product. Signed by: the investor or its agent with scope SUBSCRIBE (TRADE key).

    Fields: `product`; `quantity` in 10^-quantity_decimals units; `contract`, a SUBSCRIPTION contract about the product,
    SIGNED or EFFECTIVE, between the issuer and this investor.
    Effects: LOCKED: cost (quantity × issue price) and subscription fee are locked in the investor's own account.
    Errors: E_NOT_FOUND, E_NOT_PARTY (the issuer or its organisation), E_EXPIRED (t ≥ close), E_STATE, E_FROZEN,
    E_AMOUNT (0), E_NOT_QUALIFIED, E_SUITABILITY, E_MIN_QTY, E_STEP, E_CONTRACT_NOT_EFFECTIVE, E_CONTRACT_TERMS,
    E_DUPLICATE (one live subscription per investor and product), E_HOLDER_CAP, E_LACK_CASH.
    """

    product: Bytes32
    quantity: Natural
    contract: Bytes32


class ProductCancelSubscription(Record, frozen=True, tag="product.cancel_subscription"):
    """Take a subscription back before the close. Signed by: the investor or its agent with scope SUBSCRIBE (TRADE key).

    Fields: `subscription`. Effects: → CANCELLED, all released. Passes under a FULL freeze.
    Errors: E_NOT_FOUND, E_NOT_PARTY, E_EXPIRED (t ≥ close), E_STATE.
    """

    subscription: Bytes32


class RedeemRequest(Record, frozen=True, tag="redeem.request"):
    """Ask the issuer to take units back early. Signed by: the holder or its agent with scope REDEEM (TRADE key).

    Fields: `product`; `quantity` in 10^-quantity_decimals units; `until` in ms, when the request lapses.
    Effects: REQUESTED, the units are locked; lapses at `until` and at maturity.
    Errors: E_NOT_FOUND, E_STATE (not tradable), E_FROZEN, E_FIELD{until} (not after the end of notice, or after
    maturity), E_AMOUNT, E_FORBIDDEN (the product cannot be redeemed early), E_LACK_QTY, E_LOCKUP, E_LIMIT.
    """

    product: Bytes32
    quantity: Natural
    until: Milliseconds


class RedeemDecide(Record, frozen=True, tag="redeem.decide"):
    """Pay a redemption or refuse it. Signed by: the product's ISSUER (TRADE key).

    Fields: `redemption`; `approve`; `reason`, required when refusing.
    Effects: approving pays principal + accrued − penalty from the issuer's available cash and burns the units, first
    in, first out: PAID; refusing releases the units: REJECTED.
    Errors: E_NOT_FOUND, E_NOT_PARTY, E_EXPIRED (t ≥ until), E_STATE (decided, approving during the notice or while the
    product does not trade), E_FROZEN (approving), E_FIELD{reason}, E_LOCKUP, E_LACK_CASH.
    """

    redemption: Bytes32
    approve: bool
    reason: Text

"""The rules of a product's life up to its opening, of suspensions and of disclosures."""

from __future__ import annotations

from msgspec.structs import replace

from otcnode.errors import Code
from otcnode.genesis import KeyPurpose, Role
from otcnode.vm.accounts.records import CASH_ASSETS, AccountStatus
from otcnode.vm.context import Context, fail
from otcnode.vm.contracts import binding
from otcnode.vm.due import DueClass, DueItem
from otcnode.vm.keys import integer
from otcnode.vm.products import events, lifecycle
from otcnode.vm.products.eligibility import product, terms
from otcnode.vm.products.issuance import CLOSE
from otcnode.vm.products.operations import (
    DisclosurePost,
    ProductCancel,
    ProductCreate,
    ProductResume,
    ProductReview,
    ProductSubmit,
    ProductSuspend,
    Verdict,
)
from otcnode.vm.products.records import (
    DISCLOSURES,
    PRODUCT_CODES,
    PRODUCT_TERMS,
    PRODUCTS,
    TERMINAL,
    Cancelling,
    Disclosure,
    Product,
    ProductStatus,
    ProductTerms,
    Reference,
    SubscriptionStatus,
)
from otcnode.vm.products.subscriptions import end_subscription, participants
from otcnode.vm.products.terms import check_fields
from otcnode.vm.rules import DueHandler, Rule

DISCLOSURES_MAX = 10_000
_BEFORE_OPEN = frozenset({ProductStatus.DRAFT, ProductStatus.REVIEW, ProductStatus.RETURNED, ProductStatus.APPROVED})
_DRAFTED = frozenset({ProductStatus.DRAFT, ProductStatus.RETURNED})
_NOT_LISTED = frozenset({ProductStatus.DRAFT, ProductStatus.REVIEW, ProductStatus.RETURNED, *TERMINAL})
_CLOSED_BOOKS = frozenset({ProductStatus.REJECTED, ProductStatus.CANCELLED})
_CANCELLING_DESKS = (Role.LISTING, Role.REGULATOR)


def create(context: Context, operation: ProductCreate) -> None:
    proposed = operation.terms
    revised = None if operation.revises is None else product(context, operation.revises)
    cash = context.need(CASH_ASSETS, proposed.cash.encode(), "cash")
    context.account(proposed.fee_payee)
    binding.require_exists(context, proposed.contract)
    if revised is not None:
        _refuse_unless_issuer(context, revised)
        _refuse_unless(revised, _DRAFTED)
    context.refuse_unless_active(proposed.fee_payee)
    context.refuse_if_frozen(context.actor)
    check_fields(context, proposed, cash.decimals)
    namesake = context.get(PRODUCT_CODES, operation.code.encode())
    if namesake is not None and namesake.item != operation.revises:
        fail(Code.DUPLICATE, operation.code)
    if operation.revises is None or revised is None:
        name = context.new_id()
        record = _new_product(context, operation.code)
        lifecycle.enter(context, name, record)
    else:
        name = operation.revises
        lifecycle.unname_parties(context, name, revised, terms(context, name))
        context.delete(PRODUCT_CODES, revised.code.encode())
        context.put(PRODUCT_CODES, operation.code.encode(), Reference(name))
        record = replace(revised, code=operation.code, changed_at=context.now)
        context.put(PRODUCTS, name, record)
        if record.status is ProductStatus.RETURNED:
            record = lifecycle.move(context, name, record, ProductStatus.DRAFT)
    context.put(PRODUCT_TERMS, name, proposed)
    lifecycle.name_parties(context, name, record, proposed)
    context.emit(events.ProductDrafted(name, record.issuer, record.code))


def _new_product(context: Context, code: str) -> Product:
    return Product(
        issuer=context.actor,
        code=code,
        status=ProductStatus.DRAFT,
        reason="",
        suspended=False,
        cancelling=None,
        accepted=0,
        live=0,
        subscribed=0,
        subscriber_holders=0,
        allotted=0,
        next_payment=0,
        unpaid=(),
        disclosures=0,
        created_at=context.now,
        changed_at=context.now,
    )


def _refuse_unless_issuer(context: Context, record: Product) -> None:
    if record.issuer != context.actor:
        fail(Code.NOT_PARTY, "another's product")


def _refuse_unless(record: Product, statuses: frozenset[ProductStatus]) -> None:
    if record.status not in statuses:
        fail(Code.STATE, f"product is {record.status.value}")


def _refuse_after_close(context: Context, record: Product, rule: ProductTerms) -> None:
    """The close is the deadline of everything that leads to it; a product that ended before it is in a wrong state."""
    if context.now >= rule.close and not (record.status in TERMINAL and record.changed_at < rule.close):
        fail(Code.EXPIRED, "the subscription period is over")


def _refuse_without_reason(reason: str) -> None:
    if not reason:
        fail(Code.FIELD, "reason")


def submit(context: Context, operation: ProductSubmit) -> None:
    record = product(context, operation.product)
    _refuse_unless_issuer(context, record)
    _refuse_after_close(context, record, terms(context, operation.product))
    _refuse_unless(record, frozenset({ProductStatus.DRAFT}))
    context.refuse_if_frozen(context.actor)
    lifecycle.move(context, operation.product, record, ProductStatus.REVIEW)


def review(context: Context, operation: ProductReview) -> None:
    name = operation.product
    record, rule = product(context, name), terms(context, name)
    if operation.verdict is Verdict.APPROVE:
        _refuse_after_close(context, record, rule)
    _refuse_unless(record, frozenset({ProductStatus.REVIEW}))
    match operation.verdict:
        case Verdict.APPROVE:
            if not binding.issuance_is_effective(context, rule.contract, name, record.issuer):
                fail(Code.CONTRACT_NOT_EFFECTIVE, "the issuance contract")
            record = lifecycle.move(context, name, record, ProductStatus.APPROVED, operation.reason)
            context.schedule(rule.close, DueClass.ISSUANCE, CLOSE, name, product=name)
            context.schedule(rule.open, DueClass.RELEASE, lifecycle.OPEN, name)
            lifecycle.open_by_time(context, name, record, rule)
        case Verdict.RETURN:
            _refuse_without_reason(operation.reason)
            lifecycle.move(context, name, record, ProductStatus.RETURNED, operation.reason)
        case Verdict.REJECT:
            _refuse_without_reason(operation.reason)
            lifecycle.end(context, name, record, rule, ProductStatus.REJECTED, operation.reason)


def open_product(context: Context, item: DueItem) -> None:
    lifecycle.open_by_time(context, item.item, product(context, item.item), terms(context, item.item))


def cancel(context: Context, operation: ProductCancel) -> None:
    name = operation.product
    rule = terms(context, name)
    record = product(context, name)
    desks = [role.value for role in _CANCELLING_DESKS if role in context.actor_roles]
    is_issuer = record.issuer == context.actor
    if not is_issuer and not desks:
        fail(Code.NOT_PARTY, "another's product")
    if record.status is ProductStatus.OPEN and desks:
        _cancel_open(context, operation, record, rule, desks)
        return
    if not is_issuer and record.status in _BEFORE_OPEN:
        fail(Code.NOT_PARTY, "until it opens, the issuer's to cancel")
    _refuse_unless(record, _BEFORE_OPEN)
    _refuse_without_reason(operation.reason)
    lifecycle.end(context, name, record, rule, ProductStatus.CANCELLED, operation.reason)


def _cancel_open(
    context: Context, operation: ProductCancel, record: Product, rule: ProductTerms, desks: list[str]
) -> None:
    name, first = operation.product, _standing_consent(context, record)
    if first is not None:
        desks = [desk for desk in desks if desk != first.role]
        if not desks or context.account(first.account).organisation == context.account(context.actor).organisation:
            fail(Code.FOUR_EYES, "the other desk must agree")
    _refuse_after_close(context, record, rule)
    _refuse_without_reason(operation.reason)
    if first is None:
        context.put(PRODUCTS, name, replace(record, cancelling=Cancelling(context.actor, desks[0])))
        context.emit(events.ProductCancelRequested(name, context.actor, operation.reason))
        return
    for subscription, entry in participants(context, name):
        end_subscription(context, subscription, entry, SubscriptionStatus.CANCELLED, "the product was cancelled")
    lifecycle.end(context, name, product(context, name), rule, ProductStatus.CANCELLED, operation.reason)


def _standing_consent(context: Context, record: Product) -> Cancelling | None:
    """The first desk's consent, if the account still is that desk, and ACTIVE."""
    consent = record.cancelling
    if consent is None:
        return None
    account = context.account(consent.account)
    return consent if account.status is AccountStatus.ACTIVE and consent.role in account.roles else None


def suspend(context: Context, operation: ProductSuspend) -> None:
    record = product(context, operation.product)
    if record.status in _NOT_LISTED or record.suspended:
        fail(Code.STATE, "suspended already" if record.suspended else f"product is {record.status.value}")
    _refuse_without_reason(operation.reason)
    _set_suspended(context, operation.product, record, True, operation.reason)


def resume(context: Context, operation: ProductResume) -> None:
    record = product(context, operation.product)
    if record.status in TERMINAL or not record.suspended:
        fail(Code.STATE, "product is not suspended")
    _set_suspended(context, operation.product, record, False, operation.reason)


def _set_suspended(context: Context, name: bytes, record: Product, suspended: bool, reason: str) -> None:
    context.put(PRODUCTS, name, replace(record, suspended=suspended))
    context.emit(events.ProductSuspended(name, suspended, reason))


def post_disclosure(context: Context, operation: DisclosurePost) -> None:
    name = operation.product
    record = product(context, name)
    _refuse_unless_issuer(context, record)
    if record.status in _CLOSED_BOOKS:
        fail(Code.STATE, f"product is {record.status.value}")
    if not operation.title:
        fail(Code.FIELD, "title")
    number = record.disclosures
    if number >= DISCLOSURES_MAX:
        fail(Code.LIMIT, f"{DISCLOSURES_MAX} disclosures")
    context.put(DISCLOSURES, name + integer(number), Disclosure(operation.title, operation.document, context.now))
    context.put(PRODUCTS, name, replace(record, disclosures=number + 1))
    context.emit(events.DisclosurePosted(name, number, operation.title, operation.document))


_ISSUER = frozenset({Role.ISSUER})
_SUPERVISORS = frozenset({Role.LISTING, Role.REGULATOR})

OPERATIONS: dict[type, Rule] = {
    ProductCreate: Rule(create, KeyPurpose.TRADE, _ISSUER),
    ProductSubmit: Rule(submit, KeyPurpose.TRADE, _ISSUER),
    ProductCancel: Rule(cancel, KeyPurpose.TRADE, _ISSUER | _SUPERVISORS),
    ProductReview: Rule(review, KeyPurpose.TRADE, frozenset({Role.LISTING})),
    ProductSuspend: Rule(suspend, KeyPurpose.TRADE, _SUPERVISORS),
    ProductResume: Rule(resume, KeyPurpose.TRADE, _SUPERVISORS),
    DisclosurePost: Rule(post_disclosure, KeyPurpose.TRADE, _ISSUER),
}

DUE_KINDS: dict[str, DueHandler] = {lifecycle.OPEN: open_product}

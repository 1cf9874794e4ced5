"""How a product changes status, and what belongs to a status it leaves or reaches."""

from __future__ import annotations

from msgspec.structs import replace

from otcnode.vm.accounts.records import CASH_ASSETS
from otcnode.vm.context import Context
from otcnode.vm.keys import MARKER, OPEN_PRODUCT
from otcnode.vm.products.events import ProductChanged
from otcnode.vm.products.records import (
    PRODUCT_CODES,
    PRODUCT_PARTIES,
    PRODUCTS,
    PRODUCTS_BY_ISSUER,
    PRODUCTS_BY_STATUS,
    RECORDED_BY_ACCOUNT,
    TERMINAL,
    TRANSITIONS,
    Product,
    ProductStatus,
    ProductTerms,
    Reference,
    status_key,
)

OPEN = "product.open"
"""Kind of the due item that opens an APPROVED product."""


def enter(context: Context, name: bytes, record: Product) -> None:
    """A new product. Failed(E_LIMIT) if its issuer has too much open."""
    context.open_item(record.issuer, OPEN_PRODUCT, name)
    context.put(PRODUCTS, name, record)
    context.put(PRODUCT_CODES, record.code.encode(), Reference(name))
    context.put(PRODUCTS_BY_ISSUER, record.issuer + name, MARKER)
    context.put(PRODUCTS_BY_STATUS, status_key(record.status, name), MARKER)


def move(context: Context, name: bytes, record: Product, status: ProductStatus, reason: str = "") -> Product:
    """Bring the product into a status; the record as it is then."""
    assert status in TRANSITIONS[record.status]
    after = replace(record, status=status, reason=reason, changed_at=context.now)
    context.delete(PRODUCTS_BY_STATUS, status_key(record.status, name))
    context.put(PRODUCTS_BY_STATUS, status_key(status, name), MARKER)
    context.put(PRODUCTS, name, after)
    context.emit(ProductChanged(name, status, reason))
    return after


def open_by_time(context: Context, name: bytes, record: Product, terms: ProductTerms) -> Product:
    """The product as time has made it: an APPROVED one is OPEN from `open` on, also when its review came later."""
    if record.status is not ProductStatus.APPROVED or context.now < terms.open:
        return record
    context.unschedule(name, OPEN)
    return move(context, name, record, ProductStatus.OPEN)


def end(
    context: Context, name: bytes, record: Product, terms: ProductTerms, status: ProductStatus, reason: str
) -> None:
    """Bring the product into a terminal status: nothing of it is scheduled any more and its code is free again."""
    assert status in TERMINAL
    context.unschedule(name)
    move(context, name, record, status, reason)
    context.delete(PRODUCT_CODES, record.code.encode())
    context.close_item(record.issuer, OPEN_PRODUCT, name)
    unname_parties(context, name, record, terms)


def name_parties(context: Context, name: bytes, record: Product, terms: ProductTerms) -> None:
    """Its issuer, fee payee and custodian cannot close their accounts while the product lives."""
    for account in _parties(context, record, terms):
        context.put(PRODUCT_PARTIES, account + name, MARKER)


def unname_parties(context: Context, name: bytes, record: Product, terms: ProductTerms) -> None:
    for account in _parties(context, record, terms):
        context.delete(PRODUCT_PARTIES, account + name)


def _parties(context: Context, record: Product, terms: ProductTerms) -> list[bytes]:
    custodian = context.need(CASH_ASSETS, terms.cash.encode(), "cash").custodian
    return sorted({record.issuer, terms.fee_payee, custodian})


def is_party_of_live_product(context: Context, account: bytes) -> bool:
    """Whether the account is issuer, fee payee or custodian of a product that has not ended, or is owed a coupon on
    units that it holds no more."""
    state = context.state
    return bool(state.scan(PRODUCT_PARTIES, account, limit=1) or state.scan(RECORDED_BY_ACCOUNT, account, limit=1))

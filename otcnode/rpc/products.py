"""Methods that read products: open to everybody."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from otcnode.ids import Prefix
from otcnode.rpc import format as form
from otcnode.rpc.json_rpc import NOT_FOUND, RpcError
from otcnode.rpc.method import Context, PageParams, ReadParams, ReadResult, open_page, origin, read, take
from otcnode.rpc.reader import Reader
from otcnode.rpc.render import render, shown_type
from otcnode.vm.accounts.records import UNIT_TOTALS, UnitTotal
from otcnode.vm.products.records import (
    PRODUCT_TERMS,
    PRODUCTS,
    PRODUCTS_BY_ISSUER,
    PRODUCTS_BY_STATUS,
    Product,
    ProductStatus,
    ProductTerms,
    ProductType,
    status_key,
)

PRODUCT_LIST = "product_list"


class ProductParams(ReadParams, frozen=True):
    product: form.ProductText


class ProductListParams(PageParams, frozen=True):
    """Filters are ANDed."""

    status: ProductStatus | None = None
    issuer: form.AccountText | None = None
    type: ProductType | None = None


ProductView = msgspec.defstruct(
    "ProductView",
    [
        ("id", form.ProductText),
        ("product", shown_type(Product)),
        ("terms", shown_type(ProductTerms)),
        ("units", shown_type(UnitTotal) | None),
    ],
    namespace={"__doc__": "A product, what it promises, and its units; `units` is null before any is issued."},
)
ProductResult = msgspec.defstruct(
    "ProductResult", [("product", ProductView)], bases=(ReadResult,), frozen=True, kw_only=True
)
ProductListResult = msgspec.defstruct(
    "ProductListResult",
    [("products", list[ProductView]), ("next", str | None)],  # type: ignore[valid-type]
    bases=(ReadResult,),
    frozen=True,
    kw_only=True,
)


async def product_get(context: Context, params: ProductParams) -> dict[str, Any]:
    """product_get: RpcError −32001 where there is none."""
    name = form.parse_id(Prefix.PRODUCT, params.product)
    snapshot = await read(context, params)
    state = Reader(snapshot.view)
    record = state.get(PRODUCTS, name)
    if record is None:
        raise RpcError(NOT_FOUND, "there is no such product")
    return {**origin(snapshot), "product": _view(state, name, record)}


async def product_list(context: Context, params: ProductListParams) -> dict[str, Any]:
    """product_list: in the order of ids, through the index that the filters allow."""
    page = await open_page(context, params, PRODUCT_LIST)
    rows = _rows(Reader(page.snapshot.view), page.after, params)
    products, following = take(rows, page, params.limit, PRODUCT_LIST)
    return {**origin(page.snapshot), "products": products, "next": following}


def _rows(
    state: Reader, after: bytes | None, params: ProductListParams
) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
    issuer = None if params.issuer is None else form.parse_id(Prefix.ACCOUNT, params.issuer)
    for key, name in _keys(state, after, issuer, params.status):
        record, terms = state.get(PRODUCTS, name), state.get(PRODUCT_TERMS, name)
        assert record is not None and terms is not None
        wanted = (
            params.status in (None, record.status)
            and issuer in (None, record.issuer)
            and params.type in (None, terms.type)
        )
        yield key, _view(state, name, record) if wanted else None


def _keys(
    state: Reader, after: bytes | None, issuer: bytes | None, status: ProductStatus | None
) -> Iterator[tuple[bytes, bytes]]:
    """(place in the scan, product id) pairs."""
    if issuer is not None:
        return ((suffix, suffix[-32:]) for suffix, _ in state.scan(PRODUCTS_BY_ISSUER, issuer, after))
    if status is not None:
        return ((suffix, suffix[-32:]) for suffix, _ in state.scan(PRODUCTS_BY_STATUS, status_key(status), after))
    return ((suffix, suffix) for suffix, _ in state.scan(PRODUCTS, b"", after))


def _view(state: Reader, name: bytes, record: Product) -> dict[str, Any]:
    terms, units = state.get(PRODUCT_TERMS, name), state.get(UNIT_TOTALS, name)
    return {"id": form.product(name), "product": render(record), "terms": render(terms), "units": render(units)}

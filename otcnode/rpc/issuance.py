"""Methods that read who holds, subscribed and redeems a product: for holders, and for the issuer of the product."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from otcnode.ids import Prefix
from otcnode.rpc import format as form
from otcnode.rpc.access import Caller, Subject, forbidden, require_login
from otcnode.rpc.listing import RangeParams, Rows, Span, answer, by_id, by_time, list_type, optional_id, span_of
from otcnode.rpc.method import Context, PageParams, ReadResult, Result, open_page, origin, take
from otcnode.rpc.reader import Reader
from otcnode.rpc.render import render, shown_type
from otcnode.vm.accounts.records import ACCOUNTS, HOLDERS, HOLDINGS
from otcnode.vm.products.records import (
    PRODUCTS,
    REDEMPTIONS,
    REDEMPTIONS_BY_PARTY,
    REDEMPTIONS_BY_PRODUCT,
    SUBSCRIPTIONS,
    SUBSCRIPTIONS_BY_ACCOUNT,
    SUBSCRIPTIONS_BY_PRODUCT,
    Redemption,
    RedemptionStatus,
    Subscription,
    SubscriptionStatus,
)

PRODUCT_HOLDERS = "product_holders"
SUBSCRIPTION_LIST = "subscription_list"
REDEMPTION_LIST = "redemption_list"


class HoldersParams(PageParams, frozen=True):
    product: form.ProductText


class Holder(Result, frozen=True):
    """Units of 10^-quantity_decimals; `ultimate_holders` are the people behind the account."""

    account: form.AccountText
    balance: form.Integer
    available: form.Integer
    locked: form.Integer
    frozen: form.Integer
    ultimate_holders: int


class HoldersResult(ReadResult, frozen=True, kw_only=True):
    """Holders by account id; `accounts` and `ultimate_holders` count all of them, not only those on the page."""

    accounts: int
    ultimate_holders: int
    holders: list[Holder]
    next: str | None


class SubscriptionListParams(PageParams, frozen=True):
    """Filters are ANDed. An issuer names its `product` to see the subscriptions to it, in the order of acceptance and
    without those cancelled or withdrawn before the close; a `party` sees all of its own, by product, the latest
    first."""

    party: form.AccountText | None = None
    product: form.ProductText | None = None
    contract: form.ContractText | None = None
    status: SubscriptionStatus | None = None


class RedemptionListParams(RangeParams, frozen=True):
    """Filters are ANDed; `from` and `to` are of the time of the request. `party` is a holder or an issuer."""

    party: form.AccountText | None = None
    product: form.ProductText | None = None
    status: RedemptionStatus | None = None


SubscriptionView = msgspec.defstruct(
    "SubscriptionView", [("id", form.SubscriptionText), ("subscription", shown_type(Subscription))], frozen=True
)
RedemptionView = msgspec.defstruct(
    "RedemptionView", [("id", form.RedemptionText), ("redemption", shown_type(Redemption))], frozen=True
)
SubscriptionListResult = list_type("SubscriptionListResult", "subscriptions", SubscriptionView)
RedemptionListResult = list_type("RedemptionListResult", "redemptions", RedemptionView)


def issues(state: Reader, caller: Caller, product: bytes) -> bool:
    record = state.get(PRODUCTS, product)
    return record is not None and record.issuer == caller.account


async def product_holders(context: Context, params: HoldersParams) -> HoldersResult:
    """product_holders: for the issuer and roles that see positions; a past register with `at_height`."""
    caller = require_login(context.caller())
    product = form.parse_id(Prefix.PRODUCT, params.product)
    page = await open_page(context, params, PRODUCT_HOLDERS)
    state = Reader(page.snapshot.view)
    if not caller.sees_all(Subject.POSITION) and not issues(state, caller, product):
        raise forbidden()
    holders, following = take(_holders(state, product, page.after), page, params.limit, PRODUCT_HOLDERS)
    count = state.get(HOLDERS, product)
    return HoldersResult(
        **origin(page.snapshot),
        accounts=0 if count is None else count.accounts,
        ultimate_holders=0 if count is None else count.ultimate_holders,
        holders=holders,
        next=following,
    )


def _holders(state: Reader, product: bytes, after: bytes | None) -> Iterator[tuple[bytes, Holder | None]]:
    for suffix, units in state.scan(HOLDINGS, product, after):
        account = state.get(ACCOUNTS, suffix[32:])
        assert account is not None
        yield (
            suffix,
            Holder(
                form.account(suffix[32:]),
                str(units.balance),
                str(units.available),
                str(units.locked),
                str(units.frozen),
                account.ultimate_holders,
            ),
        )


async def subscription_list(context: Context, params: SubscriptionListParams) -> dict[str, Any]:
    """subscription_list: of an investor, or of a product for its issuer."""
    caller = require_login(context.caller())
    party, product = optional_id(Prefix.ACCOUNT, params.party), optional_id(Prefix.PRODUCT, params.product)
    contract = optional_id(Prefix.CONTRACT, params.contract)

    def rows(state: Reader, after: bytes | None) -> Rows:
        whose = _whose(state, caller, party, product)
        for place, name in _subscription_keys(state, after, whose, product):
            record = state.get(SUBSCRIPTIONS, name)
            assert record is not None
            wanted = (
                party in (None, record.account)
                and product in (None, record.product)
                and contract in (None, record.contract)
                and params.status in (None, record.status)
            )
            view = {"id": form.subscription(name), "subscription": render(record)}
            yield place, view if wanted else None

    return await answer(context, params, SUBSCRIPTION_LIST, "subscriptions", rows)


def _whose(state: Reader, caller: Caller, party: bytes | None, product: bytes | None) -> bytes | None:
    """The account whose rows are listed, None for those of everybody."""
    everybody = caller.sees_all(Subject.TRADE) or (product is not None and issues(state, caller, product))
    if everybody or party == caller.account:
        return party
    if party is not None:
        raise forbidden()
    return caller.account


def _subscription_keys(
    state: Reader, after: bytes | None, party: bytes | None, product: bytes | None
) -> Iterator[tuple[bytes, bytes]]:
    if party is not None:
        prefix = party + (product or b"")
        return ((suffix, found.item) for suffix, found in state.scan(SUBSCRIPTIONS_BY_ACCOUNT, prefix, after))
    if product is not None:
        return ((suffix, found.item) for suffix, found in state.scan(SUBSCRIPTIONS_BY_PRODUCT, product, after))
    return by_id(state, SUBSCRIPTIONS, after)


async def redemption_list(context: Context, params: RedemptionListParams) -> dict[str, Any]:
    """redemption_list: of a holder or an issuer in the order of request, of a product the open ones first."""
    caller = require_login(context.caller())
    party, product = optional_id(Prefix.ACCOUNT, params.party), optional_id(Prefix.PRODUCT, params.product)
    span = span_of(params)

    def rows(state: Reader, after: bytes | None) -> Rows:
        for place, name in _redemption_keys(state, after, _whose(state, caller, party, product), product, span):
            record = state.get(REDEMPTIONS, name)
            assert record is not None
            wanted = (
                product in (None, record.product)
                and params.status in (None, record.status)
                and span.holds(record.created_at)
            )
            yield place, {"id": form.redemption(name), "redemption": render(record)} if wanted else None

    return await answer(context, params, REDEMPTION_LIST, "redemptions", rows)


def _redemption_keys(
    state: Reader, after: bytes | None, party: bytes | None, product: bytes | None, span: Span
) -> Iterator[tuple[bytes, bytes]]:
    if party is not None:
        return by_time(state, REDEMPTIONS_BY_PARTY, party, after, span)
    if product is not None:
        return ((suffix, suffix[-32:]) for suffix, _ in state.scan(REDEMPTIONS_BY_PRODUCT, product, after))
    return by_id(state, REDEMPTIONS, after)

"""Methods that read accounts and what they hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta

from otcnode.genesis import KeyPurpose, Role
from otcnode.ids import Prefix
from otcnode.rpc import format as form
from otcnode.rpc.access import (
    Caller,
    PositionSight,
    Subject,
    forbidden,
    may_see_parties,
    position_sight,
    require_login,
)
from otcnode.rpc.method import Context, PageParams, ReadParams, ReadResult, Result, open_page, origin, read, take
from otcnode.rpc.reader import Reader
from otcnode.rpc.service import Snapshot
from otcnode.types import Bytes32
from otcnode.vm.accounts.records import (
    ACCOUNTS,
    CASH_ASSETS,
    CASH_BALANCES,
    HOLDINGS,
    HOLDINGS_BY_ACCOUNT,
    KEYS,
    LOCKS,
    LOTS,
    ORGANISATIONS,
    Account,
)

LOTS_SHOWN_MAX = 1_000
LOCKS_SHOWN_MAX = 1_000
ACCOUNT_LIST = "account_list"
ACCOUNT_POSITIONS = "account_positions"


class AccountParams(ReadParams, frozen=True):
    account: form.AccountText


class AccountListParams(PageParams, frozen=True):
    """Filters are ANDed."""

    status: Annotated[str, Meta(max_length=16)] | None = None
    role: Role | None = None


class PositionsParams(PageParams, frozen=True):
    """Pages go by product; cash and locks are on the first page."""

    account: form.AccountText


class KeyResult(Result, frozen=True):
    """`revoked` is null for a live key; revoked ones stay listed, they explain old signatures."""

    key: Bytes32
    purpose: KeyPurpose
    added: form.Time
    revoked: form.Time | None


class ThresholdsResult(Result, frozen=True):
    manage: int
    trade: int
    sign: int


class InvestorCertificateResult(Result, frozen=True):
    risk: int
    category: str
    valid_until: form.Time
    evidence: Bytes32


class AccountSummary(Result, frozen=True):
    """`status` FROZEN is an active account under a FULL freeze. `organisation` is its name where it has one."""

    id: form.AccountText
    organisation: str
    kind: str
    status: str
    roles: list[Role]
    created: form.Time


class AccountResult(ReadResult, frozen=True, kw_only=True):
    account: AccountSummary
    keys: list[KeyResult]
    thresholds: ThresholdsResult
    encryption_key: Bytes32 | None
    identity_commitment: Bytes32 | None
    ultimate_holders: int
    certificate: InvestorCertificateResult | None
    open_items: int
    closing: bool


class AccountListResult(ReadResult, frozen=True, kw_only=True):
    """Accounts the caller may see, by id; without a role that sees accounts that is its own."""

    accounts: list[AccountSummary]
    next: str | None


class CashPosition(Result, frozen=True):
    """Minor units; available = balance − locked − frozen."""

    cash: str
    decimals: int
    balance: form.Integer
    available: form.Integer
    locked: form.Integer
    frozen: form.Integer


class LotResult(Result, frozen=True):
    """`lockup_until` is null for a lot without lock-up."""

    acquired: form.Time
    quantity: form.Integer
    lockup_until: form.Time | None


class ProductPosition(Result, frozen=True):
    """Units of 10^-quantity_decimals. Lots are the oldest first; `lots_complete` says whether all are shown."""

    product: form.ProductText
    balance: form.Integer
    available: form.Integer
    locked: form.Integer
    frozen: form.Integer
    lots: list[LotResult]
    lots_complete: bool


class LockResult(Result, frozen=True):
    """`asset` is a cash id or a product id; `item` is what the lock ends with."""

    id: form.LockText
    asset: str
    amount: form.Integer
    purpose: str
    item: Bytes32


class PositionsResult(ReadResult, frozen=True, kw_only=True):
    """Locks are shown to the holder and to roles that see all, the first of them where there are very many."""

    account: form.AccountText
    cash: list[CashPosition]
    products: list[ProductPosition]
    locks: list[LockResult]
    locks_complete: bool
    next: str | None


async def account_get(context: Context, params: AccountParams) -> AccountResult:
    """account_get: for its holder and for roles that see accounts."""
    caller = require_login(context.caller())
    name = form.parse_id(Prefix.ACCOUNT, params.account)
    snapshot = await read(context, params)
    state = Reader(snapshot.view)
    record = state.get(ACCOUNTS, name)
    if not may_see_parties(caller, Subject.ACCOUNT, frozenset({name})) or record is None:
        raise forbidden()
    return _account_result(state, snapshot, name, record)


async def account_list(context: Context, params: AccountListParams) -> AccountListResult:
    """account_list: in the order of ids."""
    caller = require_login(context.caller())
    page = await open_page(context, params, ACCOUNT_LIST)
    state = Reader(page.snapshot.view)
    accounts, following = take(_account_rows(state, caller, page.after, params), page, params.limit, ACCOUNT_LIST)
    return AccountListResult(**origin(page.snapshot), accounts=accounts, next=following)


async def account_positions(context: Context, params: PositionsParams) -> PositionsResult:
    """account_positions: for the holder, roles that see all, custodians (their cash), issuers (their products)."""
    caller = require_login(context.caller())
    name = form.parse_id(Prefix.ACCOUNT, params.account)
    page = await open_page(context, params, ACCOUNT_POSITIONS)
    state = Reader(page.snapshot.view)
    sight = position_sight(state, caller, name)
    if state.get(ACCOUNTS, name) is None:
        raise forbidden()
    rows = _product_rows(state, name, page.after, sight)
    products, following = take(rows, page, params.limit, ACCOUNT_POSITIONS)
    first = params.next is None
    locks = _locks(state, name) if first and sight.everything else []
    return PositionsResult(
        **origin(page.snapshot),
        account=params.account,
        cash=_cash(state, name, sight) if first else [],
        products=products,
        locks=locks[:LOCKS_SHOWN_MAX],
        locks_complete=len(locks) <= LOCKS_SHOWN_MAX,
        next=following,
    )


def _account_result(state: Reader, snapshot: Snapshot, name: bytes, record: Account) -> AccountResult:
    certificate = record.certificate
    return AccountResult(
        **origin(snapshot),
        account=_summary(state, name, record),
        keys=[
            KeyResult(suffix[32:], key.purpose, form.time(key.added_at), form.optional_time(key.revoked_at))
            for suffix, key in state.scan(KEYS, name)
        ],
        thresholds=ThresholdsResult(record.thresholds.manage, record.thresholds.trade, record.thresholds.sign),
        encryption_key=record.encryption_key,
        identity_commitment=record.identity_commitment,
        ultimate_holders=record.ultimate_holders,
        certificate=None
        if certificate is None
        else InvestorCertificateResult(
            certificate.risk, certificate.category, form.time(certificate.valid_until), certificate.evidence
        ),
        open_items=record.open_items,
        closing=record.closing,
    )


def _summary(state: Reader, name: bytes, record: Account) -> AccountSummary:
    organisation = state.get(ORGANISATIONS, record.organisation)
    return AccountSummary(
        form.account(name),
        form.account(record.organisation) if organisation is None else organisation.name,
        record.kind,
        record.shown_status,
        list(record.roles),
        form.time(record.created_at),
    )


def _account_rows(
    state: Reader, caller: Caller, after: bytes | None, params: AccountListParams
) -> Iterator[tuple[bytes, AccountSummary | None]]:
    own = None if caller.sees_all(Subject.ACCOUNT) else caller.account
    for name, record in state.scan(ACCOUNTS, own or b"", after):
        wanted = params.status in (None, record.shown_status) and (params.role is None or params.role in record.roles)
        yield name, _summary(state, name, record) if wanted else None


def _cash(state: Reader, name: bytes, sight: PositionSight) -> list[CashPosition]:
    positions = []
    for suffix, record in state.scan(CASH_BALANCES, name):
        cash = suffix[32:].decode()
        if sight.cash is not None and cash not in sight.cash:
            continue
        asset = state.get(CASH_ASSETS, suffix[32:])
        assert asset is not None
        positions.append(
            CashPosition(
                cash, asset.decimals, str(record.balance), str(record.available), str(record.locked), str(record.frozen)
            )
        )
    return positions


def _product_rows(
    state: Reader, name: bytes, after: bytes | None, sight: PositionSight
) -> Iterator[tuple[bytes, ProductPosition | None]]:
    for suffix, _ in state.scan(HOLDINGS_BY_ACCOUNT, name, after):
        product = suffix[32:]
        if sight.products is not None and product not in sight.products:
            yield suffix, None
            continue
        holding = state.get(HOLDINGS, product + name)
        assert holding is not None
        lots = list(state.scan(LOTS, name + product, limit=LOTS_SHOWN_MAX + 1))
        yield (
            suffix,
            ProductPosition(
                form.product(product),
                str(holding.balance),
                str(holding.available),
                str(holding.locked),
                str(holding.frozen),
                [
                    LotResult(
                        form.time(int.from_bytes(key[64:72], "big")),
                        str(lot.quantity),
                        form.time(lot.lockup_until) if lot.lockup_until else None,
                    )
                    for key, lot in lots[:LOTS_SHOWN_MAX]
                ],
                len(lots) <= LOTS_SHOWN_MAX,
            ),
        )


def _locks(state: Reader, name: bytes) -> list[LockResult]:
    return [
        LockResult(form.lock(suffix[32:]), form.asset(lock.asset), str(lock.amount), lock.purpose, lock.item)
        for suffix, lock in state.scan(LOCKS, name, limit=LOCKS_SHOWN_MAX + 1)
    ]

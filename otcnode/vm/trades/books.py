"""What trades, offers and requests have in common: how they are found, how long one may act on them, who may."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum

from otcnode.errors import Code
from otcnode.vm.context import Context, fail
from otcnode.vm.keys import MARKER, integer
from otcnode.vm.trades.records import TRADING_BY_ACCOUNT, TRADING_BY_PRODUCT, TRADING_OPEN


def index(context: Context, kind: bytes, item: bytes, product: bytes, accounts: Sequence[bytes]) -> None:
    """Make a new item findable by its product and its parties, in the order of creation."""
    place = kind + integer(context.now) + item
    context.put(TRADING_BY_PRODUCT, product + place, MARKER)
    for account in accounts:
        context.put(TRADING_BY_ACCOUNT, account + place, MARKER)


def open_on_product(context: Context, kind: bytes, item: bytes, product: bytes) -> None:
    """The item stands until it ends or the product matures."""
    context.put(TRADING_OPEN, product + kind + item, MARKER)


def close_on_product(context: Context, kind: bytes, item: bytes, product: bytes) -> None:
    context.delete(TRADING_OPEN, product + kind + item)


def refuse_unless(
    context: Context, status: StrEnum, wanted: StrEnum, deadline: int | None, ended_at: int | None
) -> None:
    """Failed(E_EXPIRED) from the act's deadline on, unless the item had ended before it, whether or not the due queue
    has marked it yet; Failed(E_STATE) in any other status than the wanted one."""
    if deadline is not None and context.now >= deadline and not (ended_at is not None and ended_at < deadline):
        fail(Code.EXPIRED, f"at {deadline}")
    if status is not wanted:
        fail(Code.STATE, f"it is {status.value}")


def refuse_unless_party(context: Context, parties: Collection[bytes], what: str) -> None:
    """Failed(E_NOT_PARTY) unless the principal is one of them."""
    if context.principal not in parties:
        fail(Code.NOT_PARTY, what)


def refuse_frozen(context: Context, *counterparties: bytes) -> None:
    """Failed(E_FROZEN) if whoever signs, the principal or a counterparty is under a FULL freeze."""
    context.refuse_if_frozen(context.actor)
    if context.principal != context.actor:
        context.refuse_if_frozen(context.principal)
    for account in counterparties:
        context.refuse_if_frozen(account)

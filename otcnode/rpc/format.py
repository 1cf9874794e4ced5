"""How values look in the API: ids in Bech32m, integers that may exceed 2^53 as decimal strings, times both ways. Pure.

Money, quantities, prices and caps are strings of the integer (minor units, 10^-decimals units, 10^-4), never with a
point. Rates, heights and counts are numbers. Times are answered as milliseconds and ISO 8601, days as YYYY-MM-DD.
"""

from __future__ import annotations

import base64
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, TypeAlias

from msgspec import Meta

from otcnode.errors import DecodeError
from otcnode.ids import Prefix, parse, show
from otcnode.rpc.service import Frozen
from otcnode.types import INTEGER_MAX
from otcnode.vm.accounts.records import is_cash

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1)
_ISO_MS_MAX = 253_402_300_799_999
"""The end of the year 9999, the last that ISO 8601 writes with four digits."""


def _id(prefix: Prefix, what: str) -> Meta:
    return Meta(pattern=f"^{prefix.value}1[{'023456789acdefghjklmnpqrstuvwxyz'}]{{58}}$", description=what)


AccountText: TypeAlias = Annotated[str, _id(Prefix.ACCOUNT, "account id")]
ContractText: TypeAlias = Annotated[str, _id(Prefix.CONTRACT, "contract id")]
ProductText: TypeAlias = Annotated[str, _id(Prefix.PRODUCT, "product id")]
SubscriptionText: TypeAlias = Annotated[str, _id(Prefix.SUBSCRIPTION, "subscription id")]
RedemptionText: TypeAlias = Annotated[str, _id(Prefix.REDEMPTION, "redemption id")]
WithdrawalText: TypeAlias = Annotated[str, _id(Prefix.WITHDRAWAL, "withdrawal id")]
EntrustmentText: TypeAlias = Annotated[str, _id(Prefix.ENTRUSTMENT, "entrustment id")]
OfferText: TypeAlias = Annotated[str, _id(Prefix.OFFER, "offer id")]
RfqText: TypeAlias = Annotated[str, _id(Prefix.RFQ, "id of a request for quotes")]
QuoteText: TypeAlias = Annotated[str, _id(Prefix.QUOTE, "quote id")]
ProposalText: TypeAlias = Annotated[str, _id(Prefix.GOVERNANCE, "governance proposal id")]
TradeText: TypeAlias = Annotated[str, _id(Prefix.TRADE, "trade id")]
LockText: TypeAlias = Annotated[str, _id(Prefix.LOCK, "lock id")]
TransactionText: TypeAlias = Annotated[str, _id(Prefix.TRANSACTION, "transaction id")]
BlockText: TypeAlias = Annotated[str, _id(Prefix.BLOCK, "block hash")]
NodeText: TypeAlias = Annotated[str, _id(Prefix.NODE, "node id")]
Integer: TypeAlias = Annotated[str, Meta(pattern="^-?(0|[1-9][0-9]*)$", description="a decimal integer, no point")]
TimeInput: TypeAlias = (
    Annotated[int, Meta(ge=0, le=INTEGER_MAX, description="milliseconds since the epoch")]
    | Annotated[str, Meta(max_length=40, description="ISO 8601 with offset")]
)


class Time(Frozen, frozen=True):
    """An instant. `iso` is null beyond the year 9999."""

    ms: int
    iso: str | None


def account(raw: bytes) -> str:
    return show(Prefix.ACCOUNT, raw)


def transaction(raw: bytes) -> str:
    return show(Prefix.TRANSACTION, raw)


def block(raw: bytes) -> str:
    return show(Prefix.BLOCK, raw)


def node(raw: bytes) -> str:
    return show(Prefix.NODE, raw)


def product(raw: bytes) -> str:
    return show(Prefix.PRODUCT, raw)


def contract(raw: bytes) -> str:
    return show(Prefix.CONTRACT, raw)


def trade(raw: bytes) -> str:
    return show(Prefix.TRADE, raw)


def lock(raw: bytes) -> str:
    return show(Prefix.LOCK, raw)


def subscription(raw: bytes) -> str:
    return show(Prefix.SUBSCRIPTION, raw)


def redemption(raw: bytes) -> str:
    return show(Prefix.REDEMPTION, raw)


def withdrawal(raw: bytes) -> str:
    return show(Prefix.WITHDRAWAL, raw)


def entrustment(raw: bytes) -> str:
    return show(Prefix.ENTRUSTMENT, raw)


def offer(raw: bytes) -> str:
    return show(Prefix.OFFER, raw)


def rfq(raw: bytes) -> str:
    return show(Prefix.RFQ, raw)


def quote(raw: bytes) -> str:
    return show(Prefix.QUOTE, raw)


def proposal(raw: bytes) -> str:
    return show(Prefix.GOVERNANCE, raw)


def base64_text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def asset(raw: bytes) -> str:
    """A cash id as its text, a product as its id."""
    return raw.decode() if is_cash(raw) else product(raw)


def time(ms: int) -> Time:
    if ms > _ISO_MS_MAX:
        return Time(ms, None)
    return Time(ms, (_EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z"))


def optional_time(ms: int | None) -> Time | None:
    return None if ms is None else time(ms)


def day(number: int) -> str | None:
    """A day counted from 1970-01-01, None beyond the year 9999."""
    try:
        return (_EPOCH_DAY + timedelta(days=number)).isoformat()
    except OverflowError:
        return None


def parse_time(value: int | str) -> int:
    """Milliseconds of a request's time. Raises DecodeError: ISO 8601 needs an offset and at most milliseconds."""
    if isinstance(value, int):
        return value
    try:
        instant = datetime.fromisoformat(value)
    except ValueError:
        raise DecodeError(f"{value!r} is not ISO 8601") from None
    if instant.tzinfo is None:
        raise DecodeError(f"{value!r} lacks an offset from UTC, such as Z or +08:00")
    try:
        since = instant - _EPOCH
    except OverflowError:
        raise DecodeError(f"{value!r} is out of range") from None
    if since < timedelta(0) or since.microseconds % 1000:
        raise DecodeError(f"{value!r} is before 1970 or finer than a millisecond")
    return since // timedelta(milliseconds=1)


def parse_id(prefix: Prefix, text: str) -> bytes:
    """Raises DecodeError."""
    return parse(prefix, text)

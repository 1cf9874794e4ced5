"""Records of the ledger as the API shows them, by one table of rules on field names. Pure.

`render` turns a record into plain values, `shown_type` makes the matching result type, so that the OpenRPC document
describes what is really sent. A field that no rule names is shown by its type: integers as decimal strings, 32 bytes as
base64.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from enum import Enum
from functools import cache
from typing import Any, NamedTuple, get_args, get_origin

import msgspec

from otcnode.ids import Prefix, show
from otcnode.rpc import format as form
from otcnode.rpc.service import Frozen


class Rule(NamedTuple):
    """`wants` is the type of the values the rule is for; `shown` the type they get."""

    wants: type
    shown: Any
    render: Callable[[Any], Any]


def _id(prefix: Prefix) -> Rule:
    return Rule(bytes, str, lambda raw: show(prefix, raw) if len(raw) == 32 else raw.hex())


class TermNumber(Frozen, frozen=True):
    """A term that is a number, told apart from a text that looks like one: the terms' hash knows the difference."""

    integer: form.Integer


_TERM = Rule(int, TermNumber, lambda value: TermNumber(str(value)))
_TIME = Rule(int, form.Time, form.time)
_NUMBER = Rule(int, int, lambda value: value)
_DAY = Rule(int, str | None, form.day)
_STRING = Rule(int, form.Integer, str)

IDS: dict[str, Prefix] = {
    name: prefix
    for prefix, names in {
        Prefix.ACCOUNT: "account accounts agent principal actor buyer seller issuer custodian creator proposer"
        " counterparty investor holder payee fee_payee by confirmed_by cancel_asked_by salesperson"
        " requester responder responders whitelist party parties sender recipient regulator approver",
        Prefix.CONTRACT: "contract root supersedes superseded_by successor",
        Prefix.PRODUCT: "product products subject",
        Prefix.SUBSCRIPTION: "subscription",
        Prefix.RFQ: "rfq",
        Prefix.QUOTE: "quote",
        Prefix.OFFER: "offer",
        Prefix.REDEMPTION: "redemption",
        Prefix.WITHDRAWAL: "withdrawal",
        Prefix.TRADE: "trade trades",
        Prefix.LOCK: "lock",
        Prefix.ENTRUSTMENT: "entrustment",
        Prefix.TRANSACTION: "transaction",
        Prefix.GOVERNANCE: "proposal",
        Prefix.NODE: "node validators",
    }.items()
    for name in names.split()
}
"""Field name to what its 32 bytes name."""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ASSETS = _names("asset cash cash_id")
_TIMES = _names(
    "open close until since deadline valid_from valid_until confirm_by sign_by affirm_by not_before payable_from"
    " time_ms"
)
_TIME_ENDINGS = ("_at", "_until", "_time")
_DAYS = _names("value_date maturity pay_dates unpaid date")
_NUMBERS = _names(
    "risk order m version sequence holders basis index slot height max_holders ultimate_holders open_items"
    " full_freezes manage trade sign lots_created lots_held utc_offset_minutes decimals position keys_needed"
    " keys_signed successors_open accepted accounts live subscriber_holders next_payment disclosures number"
    " approvals needed quotes"
)
_NUMBER_ENDINGS = ("_height", "_ppm", "_decimals", "_days", "_ms", "_count", "_index", "_version", "_bytes")


def rule_for(name: str, kind: type) -> Rule | None:
    """The rule for a field of that name whose value is `kind`; None where the type alone says how it looks."""
    if kind is bytes and name in _ASSETS:
        return Rule(bytes, str, form.asset)
    if kind is bytes:
        return _id(IDS[name]) if name in IDS else None
    if kind is not int:
        return None
    if name in _TIMES or name.endswith(_TIME_ENDINGS):
        return _TIME
    if name == "value":
        return _TERM
    if name in _DAYS:
        return _DAY
    if name in _NUMBERS or name.endswith(_NUMBER_ENDINGS):
        return _NUMBER
    return _STRING


def render(value: Any, name: str = "") -> Any:
    """Plain values for `value`; `name` is the field it stands in. A tagged record carries its tag as `type`."""
    if value is None or isinstance(value, bool | str):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, int):
        return _apply(name, int, value)
    if isinstance(value, bytes):
        return _apply(name, bytes, value)
    if isinstance(value, tuple):
        return [render(entry, name) for entry in value]
    assert isinstance(value, msgspec.Struct), type(value)
    tag = value.__struct_config__.tag
    shown = {"type": tag} if tag is not None else {}
    return shown | {field: render(getattr(value, field), field) for field in value.__struct_fields__}


def _apply(name: str, kind: type, value: Any) -> Any:
    rule = rule_for(name, kind)
    return value if rule is None else rule.render(value)


@cache
def shown_type(record: type[msgspec.Struct], hidden: frozenset[str] = frozenset()) -> type[msgspec.Struct]:
    """The struct whose JSON is what `render` gives for `record`; the fields `hidden` from some callers are null to
    them."""
    hints = typing.get_type_hints(record)
    fields = [
        (field, _shown(hints[field] | None if field in hidden else hints[field], field))
        for field in record.__struct_fields__
    ]
    tag = record.__struct_config__.tag
    if tag is None:
        return msgspec.defstruct(record.__name__, fields, frozen=True, namespace={"__doc__": record.__doc__})
    return msgspec.defstruct(
        record.__name__, fields, frozen=True, tag=tag, tag_field="type", namespace={"__doc__": record.__doc__}
    )


def _shown(kind: Any, name: str) -> Any:
    origin = get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        return typing.Union[tuple(_shown(part, name) for part in get_args(kind))]  # noqa: UP007
    if origin is tuple:
        return list[_shown(get_args(kind)[0], name)]  # type: ignore[misc]
    if kind in (int, bytes):
        rule = rule_for(name, kind)
        return kind if rule is None else rule.shown
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return shown_type(kind)
    return kind

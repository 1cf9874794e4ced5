"""The reference of every operation, written from its type, its rule and its docstring; so it cannot be out of date."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from inspect import cleandoc
from typing import Any, get_args

from msgspec import inspect

from otcnode.types import INTEGER_MAX
from otcnode.vm.operations import (
    AccountsOperation,
    ContractsOperation,
    DocumentsOperation,
    GovernanceOperation,
    ProductsOperation,
    TradesOperation,
)
from otcnode.vm.registry import OPERATIONS
from otcnode.vm.rules import Rule, Signatory

FAMILIES: dict[str, Any] = {
    "Accounts": AccountsOperation,
    "Contracts": ContractsOperation,
    "Documents": DocumentsOperation,
    "Products": ProductsOperation,
    "Trades": TradesOperation,
    "Governance": GovernanceOperation,
}
"""Name of a family to the union of its operations; together they are every operation of the ledger."""

_HEAD = """# Operations

Written by `make reference` from the types, rules and docstrings in `otcnode/vm`; a test holds this file to them.

A transaction carries 1 to 100 operations, which succeed or fail together. In canonical MessagePack an operation is an
array: its name, then its fields in the order below; nil stands for what is absent. Money is in minor units, quantities
in 10^-quantity_decimals units, prices in 10^-4 per unit, times in ms since the epoch, rates in parts per million.

Before an operation's own rules every transaction is judged in one fixed order: decoding (E_DECODE), chain (E_CHAIN),
validity (E_TX_EXPIRED), duplicate (E_TX_DUPLICATE), account (E_NOT_FOUND, E_ACCOUNT_STATE), key and purpose (E_AUTH,
E_KEY_REVOKED, E_KEY_PURPOSE), threshold (E_THRESHOLD); wrong up to here, it never enters a block. Then pause
(E_PAUSED), role (E_ROLE) and, for an act on behalf of another, the entrustment (E_NOT_FOUND, E_NOT_PARTY, E_STATE,
E_EXPIRED, E_ENTRUST_SCOPE, E_SELF_DEALING, E_ENTRUST_CAP)."""


def operations_reference() -> str:
    """The whole document, in Markdown."""
    values: dict[str, type] = {}
    blocks = [_HEAD]
    for family, union in FAMILIES.items():
        blocks.append(f"## {family}")
        for operation in get_args(union):
            blocks += _operation(operation, values)
    blocks.append("## Values")
    blocks += _values(values)
    return "\n\n".join(blocks) + "\n"


def _operation(operation: type, values: dict[str, type]) -> Iterator[str]:
    info = inspect.type_info(operation)
    assert isinstance(info, inspect.StructType)
    yield f"### {info.tag}"
    yield cleandoc(operation.__doc__ or "")
    yield from _fields(info, values)
    yield _rule(OPERATIONS[operation])


def _fields(info: inspect.StructType, values: dict[str, type]) -> Iterator[str]:
    if info.fields:
        rows = [f"| `{field.name}` | {_text(field.type, values)} |" for field in info.fields]
        yield "\n".join(["| field | type |", "|---|---|", *rows])


def _rule(rule: Rule) -> str:
    if rule.signatory is Signatory.NODE:
        parts = ["Key: the node's"]
    else:
        parts = [f"Key: {rule.purpose.value}" + (", one suffices" if rule.one_key else "")]
    parts.append("role: " + (" or ".join(sorted(rule.roles)) if rule.roles else "any"))
    if rule.scope is not None:
        parts.append(f"an agent may with scope {rule.scope.value}")
    if rule.while_paused:
        parts.append("also while the market is paused")
    if rule.while_recovering:
        parts.append("also while the account is recovering")
    return "; ".join(parts) + "."


def _values(values: dict[str, type]) -> Iterator[str]:
    """What the operations' fields are made of; describing one may name more."""
    described: dict[str, list[str]] = {}
    while missing := sorted(set(values) - set(described)):
        for name in missing:
            described[name] = list(_value(name, values[name], values))
    for name in sorted(described):
        yield from described[name]


def _value(name: str, kind: type, values: dict[str, type]) -> Iterator[str]:
    yield f"### {name}"
    own = kind.__doc__ if "__doc__" in vars(kind) else None
    if own:
        yield cleandoc(own)
    if issubclass(kind, Enum):
        yield "One of " + ", ".join(f"`{member.value}`" for member in kind) + "."
        return
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    if info.tag is not None:
        yield f"In an array after its name, `{info.tag}`."
    yield from _fields(info, values)


def _text(kind: inspect.Type, values: dict[str, type]) -> str:
    """A type in words; named types are noted in `values`."""
    match kind:
        case inspect.IntType():
            return "integer" if kind.ge is None else f"integer ≥ {kind.ge}" + _unless_widest(kind.le)
        case inspect.BytesType():
            return _length(kind.min_length, kind.max_length, "bytes")
        case inspect.StrType():
            return "text, " + _length(kind.min_length, kind.max_length, "characters")
        case inspect.BoolType():
            return "boolean"
        case inspect.NoneType():
            return "nil"
        case inspect.UnionType():
            return " or ".join(_text(member, values) for member in kind.types)
        case inspect.VarTupleType():
            return f"list of {_text(kind.item_type, values)}" + _entries(kind.min_length, kind.max_length)
        case inspect.EnumType() | inspect.StructType():
            values[kind.cls.__name__] = kind.cls
            return f"[{kind.cls.__name__}](#{kind.cls.__name__.lower()})"
        case _:
            raise AssertionError(f"no words for {kind}")


def _unless_widest(most: int | float | None) -> str:
    return "" if most in (None, INTEGER_MAX) else f", ≤ {most}"


def _length(least: int | None, most: int | None, what: str) -> str:
    if least == most:
        return f"{most} {what}"
    return f"{least or 0} to {most} {what}"


def _entries(least: int | None, most: int | None) -> str:
    return "" if most is None else f", {least or 0} to {most}"

"""Any operation from a table, by reflection over its type: names become ids, decimals integers, tables structs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any

from msgspec import inspect

from otcnode.crypto import SigningKey
from otcnode.vm.accounts.records import CASH_ASSETS
from otcnode.vm.operations import Operation
from otcnode.vm.scenario.malformed import ScenarioError
from otcnode.vm.scenario.values import Scale, Unit, parse
from otcnode.vm.scenario.world import Reading

SORTED = frozenset({"whitelist", "responders", "products", "scopes", "roles", "trades", "validators"})
"""Fields whose canonical order is ascending; a story writes them in any order."""


@dataclass(frozen=True, slots=True)
class Built:
    """A value that needs no reading any more."""

    value: object


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts in a transaction, for whom, and with which keys if the story chose them."""

    name: str
    principal: bytes
    entrustment: bytes | None
    keys: tuple[SigningKey, ...]
    chain: bytes


@cache
def operation_types() -> dict[str, inspect.StructType]:
    """Tag to type of every operation the ledger has."""
    union = inspect.type_info(Operation)
    assert isinstance(union, inspect.UnionType)
    found = {}
    for kind in union.types:
        assert isinstance(kind, inspect.StructType) and isinstance(kind.tag, str)
        found[kind.tag] = kind
    return found


def struct_type(kind: type[Any]) -> inspect.StructType:
    """The reflection of a record's type."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return info


class Builder:
    """Turns what a story writes into typed values, as of one moment."""

    def __init__(self, reading: Reading, scale: Scale) -> None:
        self._reading = reading
        self._scale = scale

    def struct(self, kind: inspect.StructType, table: object) -> Any:
        """Raises ScenarioError: unknown and missing fields are refused; what may be absent or empty may be left out."""
        if not isinstance(table, Mapping):
            raise ScenarioError(f"expected a table, not {table!r}")
        known = [entry.name for entry in kind.fields]
        for name in table:
            if name not in known:
                raise ScenarioError(f"unknown field; {kind.cls.__name__} has {', '.join(known)}", field=name)
        return kind.cls(**{entry.name: self._field(entry, table) for entry in kind.fields})

    def _field(self, entry: inspect.Field, table: Mapping[str, object]) -> object:
        try:
            if entry.name in table:
                return self.value(entry.type, table[entry.name], entry.name)
            return _absent(entry)
        except ScenarioError as error:
            raise error.within(entry.name) from None

    def value(self, kind: inspect.Type, value: object, name: str) -> Any:
        """One value of a type, found under a field's name. Raises ScenarioError."""
        if isinstance(value, Built):
            return value.value
        match kind:
            case inspect.StructType():
                return self.struct(kind, value)
            case inspect.UnionType():
                return self._choice(kind, value, name)
            case inspect.IntType():
                return parse(self._unit(name), value, self._scale)
            case inspect.BytesType():
                return self._bytes(kind, value)
            case inspect.VarTupleType():
                return self._sequence(kind, value, name)
            case inspect.EnumType():
                return _member(kind.cls, value)
            case inspect.BoolType():
                return _exactly(bool, value, "true or false")
            case inspect.StrType():
                return _exactly(str, value, "a string")
        raise AssertionError(f"operations have no fields of {kind!r}")

    def _unit(self, name: str) -> Unit:
        return self._scale.unit(name)

    def _bytes(self, kind: inspect.BytesType, value: object) -> bytes:
        is_asset = kind.min_length != kind.max_length
        return self._reading.asset(value) if is_asset else self._reading.identifier(value)

    def _sequence(self, kind: inspect.VarTupleType, value: object, name: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise ScenarioError(f"expected a list, not {value!r}")
        entries = []
        for index, entry in enumerate(value):
            try:
                entries.append(self.value(kind.item_type, entry, name))
            except ScenarioError as error:
                raise error.within(f"[{index}]") from None
        return tuple(sorted(entries)) if name in SORTED else tuple(entries)

    def _choice(self, kind: inspect.UnionType, value: object, name: str) -> Any:
        """One of several types: tagged tables as { TAG = { … } } or "TAG"; else by what is written."""
        tagged = {entry.tag: entry for entry in kind.types if isinstance(entry, inspect.StructType) and entry.tag}
        if tagged:
            tag, table = _tagged(value)
            if tag not in tagged:
                raise ScenarioError(f"expected one of {', '.join(map(str, tagged))}, not {value!r}")
            return self.struct(tagged[tag], table)
        others = [entry for entry in kind.types if not isinstance(entry, inspect.NoneType)]
        if len(others) > 1:
            wanted = inspect.StrType if isinstance(value, str) else inspect.IntType
            others = [entry for entry in others if isinstance(entry, wanted)]
        return self.value(others[0], value, name)


def _absent(entry: inspect.Field) -> object:
    kind = entry.type
    if isinstance(kind, inspect.UnionType) and any(isinstance(part, inspect.NoneType) for part in kind.types):
        return None
    if isinstance(kind, inspect.VarTupleType) and not kind.min_length:
        return ()
    if isinstance(kind, inspect.StrType) and not kind.min_length:
        return ""
    raise ScenarioError("is required")


def _tagged(value: object) -> tuple[str, object]:
    if isinstance(value, str):
        return value, {}
    if isinstance(value, Mapping) and len(value) == 1:
        ((tag, table),) = value.items()
        return tag, table
    raise ScenarioError(f"expected {{ TAG = {{ … }} }}, not {value!r}")


def _member(kind: type[Enum], value: object) -> Enum:
    try:
        return kind(value)
    except ValueError:
        raise ScenarioError(f"expected one of {', '.join(str(m.value) for m in kind)}, not {value!r}") from None


def _exactly(kind: type, value: object, what: str) -> Any:
    if not isinstance(value, kind):
        raise ScenarioError(f"expected {what}, not {value!r}")
    return value


def _texts(fields: Mapping[str, object]) -> dict[str, str]:
    """Every string among the fields and the tables in them, by field name."""
    texts: dict[str, str] = {}
    for name, value in fields.items():
        if isinstance(value, str):
            texts[name] = value
        elif isinstance(value, Mapping):
            texts = {**_texts(value), **texts}
    return texts


def scale_for(reading: Reading, fields: Mapping[str, object]) -> Scale:
    """How money and quantities are written in an operation: by the product, cash or item that it names."""
    terms = fields.get("terms")
    if isinstance(terms, Mapping) and isinstance(cash := terms.get("cash"), str):
        decimals = terms.get("quantity_decimals", 0)
        return Scale(reading.decimals(cash), decimals if isinstance(decimals, int) else 0, False, reading.now_ms)
    texts = _texts(fields)
    for name in ("asset", "cash", "product", *texts):
        text = texts.get(name, "")
        item = reading.names.items.get(text[1:]) if text.startswith("$") else None
        if item is not None:
            scale = reading.scale_of(item)
            return Scale(
                scale.cash_decimals,
                scale.quantity_decimals,
                scale.amount_is_quantity and name == "asset",
                reading.now_ms,
            )
        if reading.state.get(CASH_ASSETS, text.encode()) is not None:
            return reading.scale_of(text.encode())
    return Scale(reading.decimals(reading.cash), 0, False, reading.now_ms)

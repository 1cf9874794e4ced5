"""What a step expects of the ledger after it, and where it differs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import msgspec
from msgspec import field, inspect

from otcnode.vm.accounts.records import (
    ACCOUNTS,
    CASH_ASSETS,
    CASH_BALANCES,
    HOLDERS,
    HOLDINGS,
    LOTS,
    UNIT_TOTALS,
    Account,
    CashBalance,
    HolderCount,
    Holding,
    UnitTotal,
    is_cash,
)
from otcnode.vm.results import BlockResult
from otcnode.vm.scenario import calculations
from otcnode.vm.scenario.building import Builder, struct_type
from otcnode.vm.scenario.document import Table, convert
from otcnode.vm.scenario.malformed import ScenarioError
from otcnode.vm.scenario.values import Scale, Unit, parse, show
from otcnode.vm.scenario.world import Names, Reading, World

NO_CASH = CashBalance(0, 0, 0, None)
NO_UNITS = Holding(0, 0, 0, (), 0, 0, b"")


@dataclass(frozen=True, slots=True)
class Mismatch:
    """`where` names the check inside the step."""

    where: str
    expected: str
    actual: str


class _Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class BalanceCheck(_Check, frozen=True, kw_only=True):
    """Of an account in an asset; what is left out is not checked."""

    of: str
    asset: str
    balance: str | int | None = None
    available: str | int | None = None
    locked: str | int | None = None
    frozen: str | int | None = None
    as_of: str = ""


class LotCheck(_Check, frozen=True, kw_only=True):
    quantity: str | int
    acquired_at: str | None = None
    lockup_until: str | None = None


class LotsCheck(_Check, frozen=True, kw_only=True):
    """All lots of an account in a product, first in first."""

    of: str
    product: str
    lots: tuple[LotCheck, ...]
    as_of: str = ""


class HoldersCheck(_Check, frozen=True, kw_only=True):
    """All accounts that hold a product and what they hold; `ultimate` people behind them."""

    product: str
    accounts: dict[str, str | int] | None = None
    ultimate: int | None = None
    as_of: str = ""


class UnitsCheck(_Check, frozen=True, kw_only=True):
    product: str
    issued: str | int | None = None
    redeemed: str | int | None = None
    outstanding: str | int | None = None


class UnchangedCheck(_Check, frozen=True, kw_only=True):
    """Everything these accounts have, cash, units and lots, is as it was after an earlier step."""

    since: str
    of: tuple[str, ...]


class Checks(_Check, frozen=True, kw_only=True):
    """`items` are tables: `item` and the fields of its record. `events` come in this order among the block's events,
    `no_events` are kinds that must not occur, `automatic` are all automatic receipts of the block."""

    balances: tuple[BalanceCheck, ...] = ()
    lots: tuple[LotsCheck, ...] = ()
    totals: dict[str, str] = {}
    items: tuple[Table, ...] = ()
    automatic: tuple[Table, ...] | None = None
    events: tuple[str | Table, ...] = ()
    no_events: tuple[str, ...] = ()
    holders: tuple[HoldersCheck, ...] = ()
    units: tuple[UnitsCheck, ...] = ()
    unchanged: tuple[UnchangedCheck, ...] = ()
    arithmetic: tuple[Table, ...] = field(default=())


def perform(world: World, result: BlockResult, table: Table) -> list[Mismatch]:
    """Every difference between what is expected and what is. Raises ScenarioError for a check that cannot be made."""
    checks = convert(table, Checks, field="check")
    found: list[Mismatch] = []
    for name, entries, examine in (
        ("balances", checks.balances, _balance),
        ("lots", checks.lots, _lots),
        ("items", checks.items, _item),
        ("holders", checks.holders, _holders),
        ("units", checks.units, _units),
        ("unchanged", checks.unchanged, _unchanged),
        ("arithmetic", checks.arithmetic, _arithmetic),
    ):
        for index, entry in enumerate(entries):
            found += _at(f"{name}[{index}]", examine, world, entry)
    for cash, expected in checks.totals.items():
        found += _at("totals", _total, world, (cash, expected))
    if checks.automatic is not None:
        found += _at("automatic", _automatic, world, (result, checks.automatic))
    found += _at("events", _events, world, (result, checks.events))
    kinds = [_kind(event) for event in result.events]
    found += [Mismatch("no_events", f"no {kind}", f"{kind}") for kind in checks.no_events if kind in kinds]
    return found


def _at(where: str, examine: Callable[[World, Any], list[Mismatch]], world: World, entry: Any) -> list[Mismatch]:
    try:
        mismatches = examine(world, entry)
    except ScenarioError as error:
        raise error.within(where).within("check") from None
    return [Mismatch(": ".join(filter(None, (where, m.where))), m.expected, m.actual) for m in mismatches]


def _reading(world: World, as_of: object = "") -> Reading:
    return Reading(world.names, world.view_at(as_of), world.now, world.genesis.cash[0].id)


def _compare(where: str, unit: Unit, expected: object, actual: int, scale: Scale) -> list[Mismatch]:
    if expected is None:
        return []
    try:
        wanted = parse(unit, expected, scale)
    except ScenarioError as error:
        raise error.within(where) from None
    if wanted == actual:
        return []
    return [Mismatch(where, show(unit, wanted, scale), show(unit, actual, scale))]


def _balance(world: World, check: BalanceCheck) -> list[Mismatch]:
    reading = _reading(world, check.as_of)
    asset, account = reading.asset(check.asset), world.names.account(check.of)
    unit = Unit.MONEY if is_cash(asset) else Unit.QUANTITY
    scale = reading.scale_of(asset)
    found: CashBalance | Holding
    if is_cash(asset):
        found = reading.state.get(CASH_BALANCES, account + asset) or NO_CASH
    else:
        found = reading.state.get(HOLDINGS, asset + account) or NO_UNITS
    return [
        mismatch
        for name in ("balance", "available", "locked", "frozen")
        for mismatch in _compare(
            f"{name} of {check.of} in {check.asset}", unit, getattr(check, name), getattr(found, name), scale
        )
    ]


def _lots(world: World, check: LotsCheck) -> list[Mismatch]:
    reading = _reading(world, check.as_of)
    product, account = reading.identifier(check.product), world.names.account(check.of)
    scale = reading.scale_of(product)
    actual = [
        (lot.quantity, int.from_bytes(key[64:72], "big"), lot.lockup_until)
        for key, lot in reading.state.scan(LOTS, account + product)
    ]
    where = f"of {check.of} in {check.product}"
    if len(actual) != len(check.lots):
        shown = [show(Unit.QUANTITY, quantity, scale) for quantity, _, _ in actual]
        return [Mismatch(where, f"{len(check.lots)} lots", f"{len(actual)} lots: {', '.join(shown)}")]
    units = (("quantity", Unit.QUANTITY), ("acquired_at", Unit.INSTANT), ("lockup_until", Unit.INSTANT))
    return [
        mismatch
        for index, (lot, found) in enumerate(zip(check.lots, actual, strict=True))
        for (name, unit), value in zip(units, found, strict=True)
        for mismatch in _compare(f"{where}[{index}].{name}", unit, getattr(lot, name), value, scale)
    ]


def _total(world: World, check: tuple[str, str]) -> list[Mismatch]:
    cash, expected = check
    reading = _reading(world)
    asset = reading.state.get(CASH_ASSETS, cash.encode())
    if asset is None:
        raise ScenarioError(f"there is no cash {cash!r}")
    return _compare(cash, Unit.MONEY, expected, asset.total, reading.scale_of(cash.encode()))


def _holders(world: World, check: HoldersCheck) -> list[Mismatch]:
    reading = _reading(world, check.as_of)
    product = reading.identifier(check.product)
    scale = reading.scale_of(product)
    holdings = {key[32:]: holding.balance for key, holding in reading.state.scan(HOLDINGS, product)}
    actual = {world.names.show(account): balance for account, balance in holdings.items() if balance}
    found: list[Mismatch] = []
    if check.accounts is not None:
        for name in sorted({*actual, *check.accounts}):
            expected = check.accounts.get(name, 0)
            found += _compare(f"{name} in {check.product}", Unit.QUANTITY, expected, actual.get(name, 0), scale)
    count = reading.state.get(HOLDERS, product) or HolderCount(0, 0)
    return found + _compare("ultimate", Unit.COUNT, check.ultimate, count.ultimate_holders, scale)


def _units(world: World, check: UnitsCheck) -> list[Mismatch]:
    reading = _reading(world)
    product = reading.identifier(check.product)
    total = reading.state.get(UNIT_TOTALS, product) or UnitTotal(0, 0)
    return [
        mismatch
        for name in ("issued", "redeemed", "outstanding")
        for mismatch in _compare(
            name, Unit.QUANTITY, getattr(check, name), getattr(total, name), reading.scale_of(product)
        )
    ]


def _unchanged(world: World, check: UnchangedCheck) -> list[Mismatch]:
    found: list[Mismatch] = []
    for name in check.of:
        before, now = (_possessions(world, name, step) for step in (check.since, ""))
        for what in sorted({*before, *now}):
            expected, actual = before.get(what, "nothing"), now.get(what, "nothing")
            if expected != actual:
                found.append(Mismatch(f"{name}: {what}", expected, actual))
    return found


def _possessions(world: World, name: str, as_of: str) -> dict[str, str]:
    """Everything an account has, as text."""
    reading = _reading(world, as_of)
    account = world.names.account(name)
    possessions: dict[str, str] = {}
    entries: list[tuple[bytes, CashBalance | Holding]] = [
        (key[32:], cash) for key, cash in reading.state.scan(CASH_BALANCES, account)
    ]
    entries += [(key[:32], units) for key, units in reading.state.scan(HOLDINGS) if key[32:] == account]
    for asset, entry in entries:
        scale, unit = reading.scale_of(asset), Unit.MONEY if is_cash(asset) else Unit.QUANTITY
        label = asset.decode() if is_cash(asset) else world.names.show(asset)
        for part in ("balance", "locked", "frozen"):
            if amount := getattr(entry, part):
                possessions[f"{part} of {label}"] = show(unit, amount, scale)
    for key, lot in reading.state.scan(LOTS, account):
        acquired = show(Unit.INSTANT, int.from_bytes(key[64:72], "big"), Scale())
        label = f"lot of {world.names.show(key[32:64])} of {acquired}, {int.from_bytes(key[72:], 'big')}"
        possessions[label] = f"{show(Unit.QUANTITY, lot.quantity, reading.scale_of(key[32:64]))}, {lot.lockup_until}"
    return possessions


def _arithmetic(world: World, check: Table) -> list[Mismatch]:
    expected, actual = calculations.calculate(check)
    return [] if expected == actual else [Mismatch(str(check.get("compute")), expected, actual)]


# records and events


def _item(world: World, check: Table) -> list[Mismatch]:
    """Any item's fields, by the type of its record; status and reason among them."""
    wanted = dict(check)
    name, reading = wanted.pop("item", None), _reading(world, wanted.pop("as_of", ""))
    if not isinstance(name, str) or not wanted:
        raise ScenarioError("names an item and what is expected of it")
    identifier = reading.identifier(name)
    account = reading.state.get(ACCOUNTS, identifier)
    record = reading.record(identifier) if account is None else account
    if record is None:
        return [Mismatch(name, "an item", "nothing")]
    found = []
    if isinstance(record, Account) and "status" in wanted:
        expected = wanted.pop("status")
        if expected != record.shown_status:
            found.append(Mismatch(f"status of {name}", str(expected), record.shown_status))
    return found + _fields(world.names, record, wanted, name, reading, reading.scale_of(identifier))


def _fields(
    names: Names, record: msgspec.Struct, wanted: Mapping[str, object], name: str, reading: Reading, scale: Scale
) -> list[Mismatch]:
    """Where the record's fields differ from what is wanted, which is written as in an operation."""
    kinds = {entry.name: entry.type for entry in struct_type(type(record)).fields}
    builder = Builder(reading, scale)
    found = []
    for label, value in wanted.items():
        if label not in kinds:
            raise ScenarioError(f"{type(record).__name__} has {', '.join(kinds)}", field=label)
        actual = getattr(record, label)
        try:
            expected = (
                None if value == "none" and _optional(kinds[label]) else builder.value(kinds[label], value, label)
            )
        except ScenarioError as error:
            raise error.within(label) from None
        if expected != actual:
            texts = [render(names, label, entry, scale) for entry in (expected, actual)]
            found.append(Mismatch(f"{label} of {name}", *texts))
    return found


def _optional(kind: inspect.Type) -> bool:
    return isinstance(kind, inspect.UnionType) and any(isinstance(part, inspect.NoneType) for part in kind.types)


def render(names: Names, label: str, value: object, scale: Scale) -> str:
    """A field's value as a story would write it."""
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case Enum():
            return str(value.value)
        case int():
            try:
                return show(scale.unit(label), value, scale)
            except ScenarioError:
                return str(value)
        case bytes():
            return value.decode() if label in ("asset", "cash") and is_cash(value) else names.show(value)
        case tuple():
            return "[" + ", ".join(render(names, label, entry, scale) for entry in value) + "]"
        case msgspec.Struct():
            parts = [f"{name} = {render(names, name, getattr(value, name), scale)}" for name in value.__struct_fields__]
            return "{ " + ", ".join(parts) + " }"
    return str(value)


def _kind(event: object) -> str:
    return str(type(event).__struct_config__.tag)  # type: ignore[attr-defined]  # every event is a tagged Struct


def event_text(world: World, event: msgspec.Struct) -> str:
    """One event as a line."""
    scale = _event_scale(_reading(world), event)
    return f"{_kind(event)} " + render(world.names, "", event, scale)


def _event_scale(reading: Reading, event: object) -> Scale:
    for name in ("product", "cash", "asset", "trade", "offer", "rfq", "subscription", "redemption"):
        about = getattr(event, name, None)
        if isinstance(about, str | bytes):
            return reading.scale_of(about.encode() if isinstance(about, str) else about)
    return reading.scale_of(reading.cash.encode())


def _automatic(world: World, check: tuple[BlockResult, tuple[Table, ...]]) -> list[Mismatch]:
    result, wanted = check
    for entry in wanted:
        if unknown := entry.keys() - {"kind", "item", "code"}:
            raise ScenarioError(f"a receipt has kind, item and code, not {', '.join(sorted(unknown))}")
    shown = [f"{receipt.kind} {world.names.show(receipt.item)} {receipt.code.value}" for receipt in result.automatic]
    if len(wanted) != len(result.automatic):
        return [Mismatch("", f"{len(wanted)} receipts", f"{len(shown)}: {'; '.join(shown) or 'none'}")]
    found: list[Mismatch] = []
    reading = _reading(world)
    for index, (entry, receipt) in enumerate(zip(wanted, result.automatic, strict=True)):
        expected = {"code": "OK", **entry}
        actual = {"kind": receipt.kind, "code": receipt.code.value, "item": world.names.show(receipt.item)}
        if "item" in expected:
            expected["item"] = world.names.show(reading.identifier(expected["item"]))
        found += [
            Mismatch(f"[{index}].{name}", str(value), actual[name])
            for name, value in expected.items()
            if actual[name] != value
        ]
    return found


def _events(world: World, check: tuple[BlockResult, tuple[str | Table, ...]]) -> list[Mismatch]:
    """Each wanted event after the one before it; others may lie between."""
    result, wanted = check
    reading = _reading(world)
    left = list(result.events)
    for index, entry in enumerate(wanted):
        table = {"kind": entry} if isinstance(entry, str) else dict(entry)
        kind = table.pop("kind", None)
        same = [event for event in left if _kind(event) == kind]
        for event in same:
            scale = _event_scale(reading, event)
            if not _fields(world.names, event, table, str(kind), reading, scale):
                left = left[left.index(event) + 1 :]
                break
        else:
            shown = [event_text(world, event) for event in same] or [_kind(event) for event in left]
            return [Mismatch(f"[{index}]", f"{kind} {table or ''}".strip(), "; ".join(shown) or "no more events")]
    return []

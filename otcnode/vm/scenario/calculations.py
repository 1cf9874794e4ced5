"""Bare arithmetic checks: the ledger's formulas, one at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from otcnode.vm import arithmetic
from otcnode.vm.arithmetic import DayCount
from otcnode.vm.scenario.document import Table
from otcnode.vm.scenario.malformed import ScenarioError
from otcnode.vm.scenario.values import Scale, Unit, day, parse, show

Values: TypeAlias = dict[str, Any]


def _cash(values: Values, scale: Scale) -> int:
    return arithmetic.cash(
        values["quantity"],
        values["price"],
        cash_decimals=scale.cash_decimals,
        quantity_decimals=scale.quantity_decimals,
    )


def _fee(values: Values, scale: Scale) -> int:
    return arithmetic.fee(values["amount"], values["ppm"])


def _principal(values: Values, scale: Scale) -> int:
    return arithmetic.principal(values["quantity"], values["face"], quantity_decimals=scale.quantity_decimals)


def _interest(values: Values, scale: Scale) -> int:
    return arithmetic.interest(
        values["quantity"],
        values["face"],
        rate_ppm=values["rate_ppm"],
        days=values["days"],
        day_count=values["day_count"],
        quantity_decimals=scale.quantity_decimals,
    )


def _days(values: Values, scale: Scale) -> int:
    return arithmetic.days_between(values["from"], values["to"], values["day_count"])


FORMULAS: dict[str, tuple[Callable[[Values, Scale], int], tuple[str, ...], Unit]] = {
    "cash": (_cash, ("quantity", "price"), Unit.MONEY),
    "fee": (_fee, ("amount", "ppm"), Unit.MONEY),
    "principal": (_principal, ("quantity", "face"), Unit.MONEY),
    "accrued": (_interest, ("quantity", "face", "rate_ppm", "days", "day_count"), Unit.MONEY),
    "coupon": (_interest, ("quantity", "face", "rate_ppm", "days", "day_count"), Unit.MONEY),
    "days": (_days, ("from", "to", "day_count"), Unit.COUNT),
}
"""`compute` to (formula, what it takes, unit of the result)."""
_DECIMALS = {"cash_decimals": 2, "quantity_decimals": 0}
_DECIMALS_MAX = 18


def calculate(check: Table) -> tuple[str, str]:
    """(expected, actual) as text. Raises ScenarioError."""
    given = dict(check)
    compute = given.pop("compute", None)
    if not isinstance(compute, str) or compute not in FORMULAS:
        raise ScenarioError(f"one of {', '.join(FORMULAS)}", field="compute")
    formula, names, unit = FORMULAS[compute]
    cash_decimals, quantity_decimals = [
        _decimals(name, given.pop(name, default)) for name, default in _DECIMALS.items()
    ]
    scale = Scale(cash_decimals, quantity_decimals)
    if given.keys() != {*names, "is"}:
        raise ScenarioError(f"{compute} takes {', '.join(names)}, is; and {', '.join(_DECIMALS)}")
    values = {name: _value(name, given[name], scale) for name in names}
    return show(unit, parse(unit, given["is"], scale), scale), show(unit, formula(values, scale), scale)


def _decimals(name: str, value: object) -> int:
    if type(value) is not int or not 0 <= value <= _DECIMALS_MAX:
        raise ScenarioError(f"expected an integer up to {_DECIMALS_MAX}, not {value!r}", field=name)
    return value


def _value(name: str, value: Any, scale: Scale) -> object:
    try:
        match name:
            case "day_count":
                return DayCount(value)
            case "from" | "to":
                return day(value)
            case "days":
                return parse(Unit.COUNT, value, scale)
        return parse(scale.unit(name), value, scale)
    except ValueError:
        raise ScenarioError(f"one of {', '.join(DayCount)}", field=name) from None
    except ScenarioError as error:
        raise error.within(name) from None

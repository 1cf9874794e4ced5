"""How a bug is planted: one attribute of a module or class is replaced, and put back."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from otcnode.simulation.generate import Options
from otcnode.simulation.violation import Promise

Plant = Callable[[], AbstractContextManager[None]]
Kind = inspect.Parameter
Change = tuple[Any, str, Any]
"""(module or class, name of an attribute that it has, what stands there instead)"""


@contextmanager
def planted(*changes: Change) -> Iterator[None]:
    """While it is open the node is wrong. An attribute that is not there is a mistake of the plant, not a bug, and so
    is a function that cannot be called as the right one: it would be found for that."""
    kept = [(owner, name, vars(owner)[name]) for owner, name, _ in changes]
    for (_, name, right), (_, _, wrong) in zip(kept, changes, strict=True):
        assert _takes_as_many(right, wrong), f"the planted {name} does not take what the right one takes"
        assert _gives_as_much(right, wrong), f"the planted {name} gives nothing where the right one gives something"
    for owner, name, wrong in changes:
        setattr(owner, name, wrong)
    try:
        yield
    finally:
        for owner, name, right in kept:
            setattr(owner, name, right)


def _takes_as_many(right: object, wrong: object) -> bool:
    """Whether a function has a parameter for each of the other's, or takes any number of them."""
    if not (inspect.isfunction(right) and inspect.isfunction(wrong)):
        return True
    taken, given = _Parameters.of(wrong), _Parameters.of(right)
    enough = taken.any_positional or taken.positional >= given.positional
    return enough and (taken.any_named or given.named <= taken.named)


def _gives_as_much(right: object, wrong: object) -> bool:
    """Whether it gives anything where the other one always does."""
    if not (inspect.isfunction(right) and inspect.isfunction(wrong)):
        return True
    given, due = str(inspect.signature(wrong).return_annotation), str(inspect.signature(right).return_annotation)
    return given != "None" or due == "None" or due.endswith("| None")


@dataclass(frozen=True)
class _Parameters:
    """How many by place, which only by name, and whether it takes any number of either."""

    positional: int
    named: frozenset[str]
    any_positional: bool
    any_named: bool

    @staticmethod
    def of(function: FunctionType) -> _Parameters:
        kinds = [(name, parameter.kind) for name, parameter in inspect.signature(function).parameters.items()]
        return _Parameters(
            sum(kind in (Kind.POSITIONAL_ONLY, Kind.POSITIONAL_OR_KEYWORD) for _, kind in kinds),
            frozenset(name for name, kind in kinds if kind is Kind.KEYWORD_ONLY),
            any(kind is Kind.VAR_POSITIONAL for _, kind in kinds),
            any(kind is Kind.VAR_KEYWORD for _, kind in kinds),
        )


def wherever(right: Callable[..., Any], wrong: Callable[..., Any]) -> tuple[Change, ...]:
    """The replacement of a function in every module of this package that knows it by its name."""
    name = right.__name__
    modules = [module for path, module in sorted(sys.modules.items()) if path.startswith("otcnode.")]
    return tuple((module, name, wrong) for module in modules if vars(module).get(name) is right)


FOUR = Options(validators=4)


@dataclass(frozen=True)
class Mutant:
    """`rule` is what no longer holds. Of the plans that the seeds 1 to `seeds` make with `options`, one must break one
    of `promises`."""

    name: str
    rule: str
    plant: Plant
    promises: frozenset[Promise]
    seeds: int
    options: Options = FOUR

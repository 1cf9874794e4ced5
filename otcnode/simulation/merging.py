"""One fault in the place of two, which lasts from the first to the last moment of both and hits whatever either hits,
or in the place of many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from msgspec.structs import replace

from otcnode.simulation.plan import Cut, Delay, Duplication, Fault, Liar, Loss, Partition, Pause, Plan

Lasting = Pause | Partition | Cut | Loss | Duplication | Delay | Liar
L = TypeVar("L", Pause, Partition, Cut, Loss, Duplication, Delay, Liar)


def merged(first: Fault, second: Fault, nodes: int) -> Fault | None:
    """None if no fault of their kind stands for both."""
    match first, second:
        case Pause(node=one), Pause(node=other) if one == other:
            return _long(first, second)
        case Partition(group=one), Partition(group=other) if set(other) in (set(one), set(range(nodes)) - set(one)):
            return _long(first, second)
        case Cut(sender=one, receivers=some), Cut(sender=other, receivers=more) if (one, first.outlasts) == (
            other,
            second.outlasts,
        ):
            return replace(_long(first, second), receivers=_union(some, more))
        case Loss(kinds=one, receivers=some), Loss(kinds=other, receivers=more):
            longer = replace(_long(first, second), permille=max(first.permille, second.permille))
            return replace(longer, kinds=_all_or_union(one, other), receivers=_all_or_union(some, more))
        case Duplication(), Duplication():
            longest_ms = max(first.late_ms, second.late_ms)
            return replace(_long(first, second), permille=max(first.permille, second.permille), late_ms=longest_ms)
        case Delay(), Delay():
            return replace(_long(first, second), extra_ms=max(first.extra_ms, second.extra_ms))
        case Liar(), Liar() if (first.node, first.habit) == (second.node, second.habit):
            return _lie(first, second)
        case _:
            return None


def alone(first: Fault, second: Fault, nodes: int) -> Partition | None:
    """A node that somebody does not hear, or that does not hear somebody, and stands still or is away beside it: away
    for all of the time. None if they are not about one node."""
    one, other = _loner(first, nodes), _loner(second, nodes)
    if one is None or one != other or not isinstance(first, Lasting) or not isinstance(second, Lasting):
        return None
    from_ms, until_ms = _span(first, second)
    return Partition(id=first.id, at_ms=from_ms, group=(one,), for_ms=until_ms - from_ms)


def pairs_merged(plan: Plan) -> Iterator[Plan]:
    """The plans with one fault less, in which one stands for two."""
    for late, second in enumerate(plan.faults):
        for early, first in enumerate(plan.faults[:late]):
            for one in (merged(first, second, plan.nodes), alone(first, second, plan.nodes)):
                if one is not None:
                    rest = (fault for place, fault in enumerate(plan.faults) if place not in (early, late))
                    yield replace(plan, faults=in_order((one, *rest)))


def one_away(plan: Plan) -> Iterator[Plan]:
    """The plans with fewer faults in which one node is away in the place of all that is no lie, from the first moment
    of it to the last: many faults together often do no more than that one node falls behind."""
    lies = [fault for fault in plan.faults if isinstance(fault, Liar)]
    others = [fault for fault in plan.faults if not isinstance(fault, Liar)]
    if len(others) < 2:
        return
    from_ms, until_ms = min(fault.at_ms for fault in others), max(map(_until_ms, others))
    for node in range(plan.nodes):
        away = Partition(id=others[0].id, at_ms=from_ms, group=(node,), for_ms=until_ms - from_ms)
        yield replace(plan, faults=in_order((*lies, away)))


def _until_ms(fault: Fault) -> int:
    """When it is over: some last, after others a node is down."""
    lasts_ms: int = getattr(fault, "for_ms", getattr(fault, "down_ms", 0))
    return fault.at_ms + lasts_ms


def in_order(faults: Iterable[Fault]) -> tuple[Fault, ...]:
    """As a plan has them."""
    return tuple(sorted(faults, key=lambda fault: (fault.at_ms, fault.id)))


def _lie(first: Liar, second: Liar) -> Liar:
    victims = _all_or_union(first.victims, second.victims)
    longest_ms = max(first.late_ms, second.late_ms)
    longer = replace(_long(first, second), victims=victims, late_ms=longest_ms)
    return replace(longer, permille=max(first.permille, second.permille))


def _loner(fault: Fault, nodes: int) -> int | None:
    match fault:
        case Pause(node=node) | Partition(group=(node,)) | Cut(sender=node) | Loss(receivers=(node,)):
            return node
        case Partition(group=group) if len(group) == nodes - 1:
            return (set(range(nodes)) - set(group)).pop()
        case _:
            return None


def _span(first: Lasting, second: Lasting) -> tuple[int, int]:
    """Virtual ms from the start to the end of both."""
    return min(first.at_ms, second.at_ms), max(first.at_ms + first.for_ms, second.at_ms + second.for_ms)


def _long(first: L, second: Lasting) -> L:
    from_ms, until_ms = _span(first, second)
    return replace(first, at_ms=from_ms, for_ms=until_ms - from_ms)


T = TypeVar("T", int, str)


def _union(some: tuple[T, ...], more: tuple[T, ...]) -> tuple[T, ...]:
    return tuple(sorted(set(some) | set(more)))


def _all_or_union(some: tuple[T, ...], more: tuple[T, ...]) -> tuple[T, ...]:
    """Of tuples of which an empty one means everything."""
    return _union(some, more) if some and more else ()

"""Balances from events alone (invariant 31): a second, independent way to the same figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from otcnode.vm.accounts.events import CashMoved, CashTotalMoved, LockOpened, LockReduced, LotMoved, UnitsMoved
from otcnode.vm.accounts.records import CASH_ASSETS, CASH_BALANCES, HOLDINGS, LOCKS, LOTS
from otcnode.vm.events import Event
from otcnode.vm.state import State
from otcnode.vm.view import StateView
from otcnode.vm.violation import Violation

Figure = tuple[bytes | str | int, ...]
"""(what, whose, of which asset, …)"""


class Fold:
    """Figures summed up from events since genesis; those that are 0 do not appear."""

    def __init__(self) -> None:
        self._figures: Counter[Figure] = Counter()

    def add(self, events: Iterable[Event]) -> None:
        for event in events:
            for figure, change in _changes(event):
                self._figures[figure] += change

    def figures(self) -> dict[Figure, int]:
        return {figure: amount for figure, amount in self._figures.items() if amount}


def _changes(event: Event) -> list[tuple[Figure, int]]:
    if isinstance(event, CashMoved):
        asset: bytes = event.cash.encode()
        return [
            (("balance", event.account, asset), event.balance),
            (("locked", event.account, asset), event.locked),
            (("frozen", event.account, asset), event.frozen),
        ]
    if isinstance(event, UnitsMoved):
        return [
            (("balance", event.account, event.product), event.balance),
            (("locked", event.account, event.product), event.locked),
            (("frozen", event.account, event.product), event.frozen),
        ]
    if isinstance(event, LotMoved):
        lot = (event.account, event.product, event.acquired_at, event.sequence)
        return [(("lot", *lot), event.change)]
    if isinstance(event, LockOpened):
        return [(("lock", event.account, event.lock), event.amount)]
    if isinstance(event, LockReduced):
        return [(("lock", event.account, event.lock), -event.paid - event.released)]
    if isinstance(event, CashTotalMoved):
        return [(("total", event.cash.encode()), event.change)]
    return []


def state_figures(view: StateView) -> dict[Figure, int]:
    """The same figures, read from a state."""
    state = State(view)
    figures: dict[Figure, int] = {}
    for key, cash in state.scan(CASH_BALANCES):
        for what, amount in (("balance", cash.balance), ("locked", cash.locked), ("frozen", cash.frozen)):
            figures[what, key[:32], key[32:]] = amount
    for key, units in state.scan(HOLDINGS):
        for what, amount in (("balance", units.balance), ("locked", units.locked), ("frozen", units.frozen)):
            figures[what, key[32:], key[:32]] = amount
    for key, lot in state.scan(LOTS):
        figures["lot", key[:32], key[32:64], int.from_bytes(key[64:72], "big"), int.from_bytes(key[72:], "big")] = (
            lot.quantity
        )
    for key, lock in state.scan(LOCKS):
        figures["lock", key[:32], key[32:]] = lock.amount
    for key, asset in state.scan(CASH_ASSETS):
        figures["total", key] = asset.total
    return {figure: amount for figure, amount in figures.items() if amount}


def differences(fold: Fold, view: StateView) -> Iterator[Violation]:
    """31: what the events since genesis come to, against what the state says."""
    told, held = fold.figures(), state_figures(view)
    for figure in sorted(told.keys() | held.keys(), key=repr):
        if told.get(figure, 0) != held.get(figure, 0):
            shown = " ".join(part.hex() if isinstance(part, bytes) else str(part) for part in figure)
            yield Violation(31, f"{shown}: {told.get(figure, 0)} by events, {held.get(figure, 0)} in the state")

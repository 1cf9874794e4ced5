"""When transactions that have no place here first came: what was refused, and what was given up. A primary that takes
one of them took what this node has seen, however little became of it here."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

from otcnode import limits
from otcnode.types import Milliseconds, TransactionId
from otcnode.vm.transactions import Decoded


class _Sighting(NamedTuple):
    seen_ms: Milliseconds
    valid_until: Milliseconds


class Sightings:
    """The latest of them by id, authentic ones only."""

    def __init__(self) -> None:
        self._sightings: OrderedDict[TransactionId, _Sighting] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sightings)

    def note(self, decoded: Decoded, seen_ms: Milliseconds, block_time_ms: Milliseconds) -> bool:
        """The first counts (real milliseconds). False if another one was forgotten for it that a block may yet hold."""
        self._sightings.setdefault(decoded.id, _Sighting(seen_ms, decoded.transaction.body.valid_until))
        if len(self._sightings) <= limits.refused_transactions_remembered_max:
            return True
        _, forgotten = self._sightings.popitem(last=False)
        return forgotten.valid_until <= block_time_ms

    def seen_ms(self, transaction_id: TransactionId) -> Milliseconds | None:
        sighting = self._sightings.get(transaction_id)
        return None if sighting is None else sighting.seen_ms

    def forget(self, transaction_ids: Iterable[TransactionId]) -> None:
        """They are in a block."""
        for transaction_id in transaction_ids:
            self._sightings.pop(transaction_id, None)

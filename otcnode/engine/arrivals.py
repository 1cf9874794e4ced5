"""Transactions on their way in, whose signatures are not verified yet: bounded, in order, each copy for itself."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from otcnode import limits
from otcnode.engine.host import TransactionState
from otcnode.types import FullHash, TransactionId
from otcnode.vm.transactions import Decoded

Answer = Callable[[TransactionState], None]


@dataclass(frozen=True, slots=True)
class Arrival:
    """From a peer (`source`) or from a client (`answer`), come at `seen_ms` (real) and found admissible on the state of
    `height`. `urgent`: `source` is a validator that pushes it past the quotas, and past what nobody pushes."""

    decoded: Decoded
    height: int
    seen_ms: int
    source: bytes | None = None
    answer: Answer | None = None
    urgent: bool = False


class Arrivals:
    """Keyed by full hash: a forged copy is another arrival and never stands for the true one. What `take` gave out
    counts as held until `release`."""

    def __init__(self) -> None:
        self._urgent: OrderedDict[FullHash, Arrival] = OrderedDict()
        self._waiting: OrderedDict[FullHash, Arrival] = OrderedDict()
        """What is not urgent."""
        self._pushed: Counter[bytes] = Counter()
        """How many urgent ones each validator has here, taken ones among them."""
        self._taken: dict[FullHash, Arrival] = {}
        self._copies: dict[TransactionId, int] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._urgent) + len(self._waiting) + len(self._taken)

    @property
    def bytes_held(self) -> int:
        return self._bytes

    @property
    def waiting(self) -> bool:
        """Whether `take` would give something."""
        return bool(self._urgent or self._waiting)

    def holds(self, full_hash: FullHash) -> bool:
        """These very bytes."""
        return self._get(full_hash) is not None

    def seen_ms(self, full_hash: FullHash) -> int | None:
        """When these very bytes came."""
        arrival = self._get(full_hash)
        return None if arrival is None else arrival.seen_ms

    def _get(self, full_hash: FullHash) -> Arrival | None:
        return self._urgent.get(full_hash) or self._waiting.get(full_hash) or self._taken.get(full_hash)

    def pushed_by(self, validator: bytes) -> int:
        """How many urgent arrivals are held that this validator pushed, each copy of a transaction for itself."""
        return self._pushed[validator]

    def holds_id(self, transaction_id: TransactionId) -> bool:
        """Some copy of the transaction, true or forged."""
        return transaction_id in self._copies

    def has_room(self, decoded: Decoded) -> bool:
        return (
            len(self) < limits.mempool_transactions_max and self._bytes + len(decoded.raw) <= limits.mempool_bytes_max
        )

    def add(self, arrival: Arrival) -> None:
        decoded = arrival.decoded
        assert not self.holds(decoded.full_hash) and self.has_room(decoded)
        if arrival.urgent:
            self._enqueue_urgent(arrival)
        else:
            self._waiting[decoded.full_hash] = arrival
        self._copies[decoded.id] = self._copies.get(decoded.id, 0) + 1
        self._bytes += len(decoded.raw)

    def hasten(self, decoded: Decoded, validator: bytes) -> None:
        """A validator pushes what came before as one of many: past those, unless it is urgent or taken already."""
        arrival = self._waiting.pop(decoded.full_hash, None)
        if arrival is not None:
            self._enqueue_urgent(replace(arrival, source=validator, urgent=True))

    def _enqueue_urgent(self, arrival: Arrival) -> None:
        assert arrival.source is not None
        self._urgent[arrival.decoded.full_hash] = arrival
        self._pushed[arrival.source] += 1

    def take(self, signatures_max: int) -> list[Arrival]:
        """What is urgent, then the rest, each the oldest first, with about as many signatures as are verified in one
        go, so that nobody's bulk holds up all others for long."""
        batch: list[Arrival] = []
        room = signatures_max
        while self.waiting and room > 0:
            full_hash, arrival = (self._urgent or self._waiting).popitem(last=False)
            self._taken[full_hash] = arrival
            batch.append(arrival)
            room -= len(arrival.decoded.transaction.signatures)
        return batch

    def release(self, arrival: Arrival) -> None:
        decoded = arrival.decoded
        del self._taken[decoded.full_hash]
        if arrival.urgent:
            assert arrival.source is not None
            self._pushed[arrival.source] -= 1
            if not self._pushed[arrival.source]:
                del self._pushed[arrival.source]
        self._bytes -= len(decoded.raw)
        left = self._copies.pop(decoded.id) - 1
        if left:
            self._copies[decoded.id] = left

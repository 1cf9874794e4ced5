"""Transactions on their way in, whose signatures are not verified yet: bounded, each copy for itself, and in order as
long as the workers keep up. Where they do not, sources are served in turn (engine/turns.py) and share the room."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from otcnode import limits
from otcnode.engine.host import TransactionState
from otcnode.engine.proving import signatures_in
from otcnode.engine.turns import Source, Turns
from otcnode.types import FullHash, TransactionId
from otcnode.vm.governance.operations import EvidencePost
from otcnode.vm.transactions import Decoded

Answer = Callable[[TransactionState], None]
Pay = Callable[[int], None]
_OWN_CLIENTS = b""
_PUSHED = b"pushed by "


@dataclass(frozen=True, slots=True)
class Arrival:
    """From a peer (`source`) or from a client (`answer`), come at `seen_ms` (real) and found admissible on the state of
    `height`. `urgent`: `source` is a validator that pushes it past the quotas, and past what nobody pushes. `client`:
    which one, and `pay` is told of how many signatures were verified should it not be authentic."""

    decoded: Decoded
    height: int
    seen_ms: int
    source: bytes | None = None
    answer: Answer | None = None
    urgent: bool = False
    client: str = ""
    pay: Pay | None = None
    shares_with: Source = field(init=False)
    """A peer; what a validator pushes besides; or one of this node's clients."""

    def __post_init__(self) -> None:
        if self.source is None:
            own = Source(_OWN_CLIENTS, self.client.encode())
        else:
            own = Source(_PUSHED + self.source if self.urgent else self.source, b"")
        object.__setattr__(self, "shares_with", own)


class _Share:
    """What one source holds, or all that come one way."""

    __slots__ = ("bytes", "count")

    def __init__(self) -> None:
        self.count = 0
        self.bytes = 0


_Shares = tuple[_Share, _Share]
"""Of a source and of all that come its way."""


class Arrivals:
    """Keyed by full hash: a forged copy is another arrival and never stands for the true one. What `take` gave out
    counts as held until `release`.

    Among all that come one way (a peer, or this node's clients) and one of them (the client), an arrival has room if
    what the one holds, what all of them hold and itself fit into what is free. So k ways that take all they can leave
    at least the (k + 1)-th part once they are served in turn, and everybody who holds nothing finds some of it
    (A. K. Choudhury and E. L. Hahne, Dynamic queue length thresholds for shared-memory packet switches, 1998)."""

    def __init__(self) -> None:
        self._urgent: OrderedDict[FullHash, Arrival] = OrderedDict()
        self._waiting: dict[FullHash, tuple[int, Arrival]] = {}
        """What is not urgent, with its number in the order in which it came."""
        self._turns = Turns()
        """Of what is in `_waiting`."""
        self._number = 0
        self._taken: dict[FullHash, Arrival] = {}
        self._copies: dict[TransactionId, int] = {}
        self._bytes = 0
        self._shares: dict[Source, _Shares] = {}
        """Of every source that has anything here, taken or not."""
        self._ways: dict[bytes, _Share] = {}
        self._posts: Counter[tuple[bytes, bytes | None]] = Counter()
        """Pieces of evidence, by the node that says so and by who has brought them."""

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
        _, waiting = self._waiting.get(full_hash, (0, None))
        return waiting or self._urgent.get(full_hash) or self._taken.get(full_hash)

    def pushed_by(self, validator: bytes) -> int:
        """How many urgent arrivals are held that this validator pushed, each copy of a transaction for itself."""
        way = self._ways.get(_PUSHED + validator)
        return 0 if way is None else way.count

    def posts_of(self, node: bytes, source: bytes | None) -> int:
        """How many pieces of evidence of this node have come from the same source and are held."""
        return self._posts[node, source]

    def holds_id(self, transaction_id: TransactionId) -> bool:
        """Some copy of the transaction, true or forged."""
        return transaction_id in self._copies

    def add(self, arrival: Arrival) -> bool:
        """False: there is no room for it."""
        decoded, source = arrival.decoded, arrival.shares_with
        assert not self.holds(decoded.full_hash)
        if not self._has_room(source, len(decoded.raw)):
            return False
        if arrival.urgent:
            self._urgent[decoded.full_hash] = arrival
        else:
            self._number += 1
            self._waiting[decoded.full_hash] = self._number, arrival
            self._turns.add(source, decoded.full_hash, signatures_in(decoded))
        self._copies[decoded.id] = self._copies.get(decoded.id, 0) + 1
        self._enter(source, len(decoded.raw))
        self._count_post(arrival, 1)
        return True

    def hasten(self, decoded: Decoded, validator: bytes) -> None:
        """A validator pushes what came before as one of many: past those, unless it is urgent or taken already, or the
        validator's share of the room is used up."""
        _, arrival = self._waiting.get(decoded.full_hash, (0, None))
        if arrival is None:
            return
        urgent, size = replace(arrival, source=validator, urgent=True), len(decoded.raw)
        if self._has_room(urgent.shares_with, size):
            del self._waiting[decoded.full_hash]
            self._turns.remove(arrival.shares_with, decoded.full_hash)
            self._leave(arrival.shares_with, size)
            self._urgent[decoded.full_hash] = urgent
            self._enter(urgent.shares_with, size)
            self._count_post(arrival, -1)
            self._count_post(urgent, 1)

    def take(self, signatures_max: int) -> list[Arrival]:
        """What is urgent, the oldest first; then of the rest a turn of each source after the other, with about as many
        signatures as are verified in one go: nobody's bulk holds up all others for long. In the order in which they
        came, so that sources matter only where not all can be taken."""
        batch: list[Arrival] = []
        room = signatures_max
        while self._urgent and room > 0:
            _, arrival = self._urgent.popitem(last=False)
            batch.append(arrival)
            room -= signatures_in(arrival.decoded)
        others: list[tuple[int, Arrival]] = []
        while self._waiting and room > 0:
            for full_hash, signatures in self._turns.take(room):
                others.append(self._waiting.pop(full_hash))
                room -= signatures
        batch += [arrival for _, arrival in sorted(others, key=lambda numbered: numbered[0])]
        self._taken.update((arrival.decoded.full_hash, arrival) for arrival in batch)
        return batch

    def release(self, arrival: Arrival) -> None:
        decoded = arrival.decoded
        del self._taken[decoded.full_hash]
        self._leave(arrival.shares_with, len(decoded.raw))
        self._count_post(arrival, -1)
        left = self._copies.pop(decoded.id) - 1
        if left:
            self._copies[decoded.id] = left

    def _count_post(self, arrival: Arrival, change: int) -> None:
        operation = arrival.decoded.transaction.body.operations[0]
        if isinstance(operation, EvidencePost):
            key = operation.node, arrival.source
            self._posts[key] += change
            if not self._posts[key]:
                del self._posts[key]

    def _has_room(self, source: Source, size: int) -> bool:
        count, held_bytes = 1, size
        for share in self._shares.get(source) or (self._ways.get(source.way),):
            if share is not None:
                count += share.count
                held_bytes += share.bytes
        free, free_bytes = limits.mempool_transactions_max - len(self), limits.mempool_bytes_max - self._bytes
        return count <= free and held_bytes <= free_bytes

    def _enter(self, source: Source, size: int) -> None:
        shares = self._shares.get(source)
        if shares is None:
            way = self._ways.get(source.way)
            if way is None:
                way = self._ways[source.way] = _Share()
            shares = self._shares[source] = _Share(), way
        for share in shares:
            share.count += 1
            share.bytes += size
        self._bytes += size

    def _leave(self, source: Source, size: int) -> None:
        own, way = self._shares[source]
        for share in (own, way):
            share.count -= 1
            share.bytes -= size
        self._bytes -= size
        if not own.count:
            del self._shares[source]
        if not way.count:
            del self._ways[source.way]

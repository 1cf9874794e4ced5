"""The pool of transactions that wait for a block: bounded, fair between accounts, first in first out. Pure.

Everything in it has been decoded, is authentic (its signatures verified) and was admissible on the committed state when
it came in; whether it still is, the block that takes it decides.

Nothing that has room is sent away for something else. So that accounts in league cannot take all of it, a quarter of
the room is for authors with few transactions, and of the rest nobody has a larger share than the square of the share
that is then free. However they take turns, k authors leave a (k + 1)-th part of that free: if the free share falls from
a to b by the last one's s, then s is at most b², so b + b² ≥ a; and what fulfils that for a ≥ 1/k is greater than
1/(k + 1).
"""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from otcnode import limits
from otcnode.vm.governance.misconduct import offence_named
from otcnode.vm.governance.operations import EvidencePost, NodeOperation
from otcnode.vm.transactions import Body, Decoded

_LEFTOVERS_MAX = 1_000
_APPLICANTS = b""
"""Those without an account share one quota."""


class Refusal(StrEnum):
    """Why the pool did not take or no longer holds a transaction. None of these says anything about other nodes."""

    FULL = "the pool is full"
    QUOTA = "its author has too many transactions waiting"
    QUOTA_BYTES = "its author has too many bytes waiting"
    SHARE = "its author has too many transactions waiting for how full the pool is"
    SHARE_BYTES = "its author has too many bytes waiting for how full the pool is"
    URGENT = "its bearer has brought too many past the quotas"


@dataclass(frozen=True, slots=True)
class Limits:
    transactions_max: int = limits.mempool_transactions_max
    bytes_max: int = limits.mempool_bytes_max
    per_account_max: int = limits.mempool_transactions_per_account_max
    applications_max: int = limits.mempool_applications_max
    """Of applications, which anyone can make; they have no sender."""
    per_node_max: int = limits.mempool_transactions_per_node_max
    """Of operations that one node signs by itself."""
    urgent_per_validator_max: int = limits.urgent_per_validator_max
    """Of those that one validator has pushed past the other bounds."""
    per_author_bytes_max: int = limits.mempool_bytes_per_author_max
    few_max: int = limits.mempool_few_transactions_max
    few_bytes_max: int = limits.mempool_few_bytes_max


class Mempool:
    """Waiting transactions by id, in order of arrival."""

    def __init__(self, bounds: Limits | None = None) -> None:
        self._bounds = bounds or Limits()
        self._waiting: OrderedDict[bytes, Decoded] = OrderedDict()
        self._by_full_hash: dict[bytes, Decoded] = {}
        self._per_author: dict[bytes, dict[bytes, None]] = {}
        self._bytes = 0
        self._bytes_per_author: Counter[bytes] = Counter()
        self._seen_ms: dict[bytes, int] = {}
        self._bearer: dict[bytes, bytes] = {}
        self._bytes_borne = 0
        self._by_end: list[tuple[int, bytes]] = []
        """(valid_until, id): a heap. What has left the pool is taken out now and then, many at a time."""
        self._posts: dict[bytes, dict[bytes, int]] = {}
        """The ids of evidence that waits, each with its valid_until, by the name of the offence."""

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, transaction_id: bytes) -> bool:
        return transaction_id in self._waiting

    @property
    def bytes_held(self) -> int:
        return self._bytes

    def get(self, transaction_id: bytes) -> Decoded | None:
        return self._waiting.get(transaction_id)

    def by_full_hash(self, full_hash: bytes) -> Decoded | None:
        """The very copy, signatures included, that a block commits to."""
        return self._by_full_hash.get(full_hash)

    def __iter__(self) -> Iterator[Decoded]:
        """In order of arrival. The pool must not change while this runs."""
        return iter(self._waiting.values())

    def seen_ms(self, transaction_id: bytes) -> int | None:
        """When it came into the pool, as its caller counts time."""
        return self._seen_ms.get(transaction_id)

    def refuses(self, decoded: Decoded, bearer: bytes | None = None, on_their_way: int = 0) -> Refusal | None:
        """Why `add` would refuse this transaction now, None if it would not. `bearer`: the validator that pushes it
        because it has waited too long; what it may so push is bounded, together with what it has pushed that is
        `on_their_way` to the pool, and nothing else is looked at."""
        if decoded.id in self._waiting:
            return None
        if bearer is not None:
            brought = on_their_way + sum(other == bearer for other in self._bearer.values())
            return Refusal.URGENT if brought >= self._bounds.urgent_per_validator_max else None
        # What is pushed takes no room from others.
        used = len(self._waiting) - len(self._bearer) + 1
        used_bytes = self._bytes - self._bytes_borne + len(decoded.raw)
        if used > self._bounds.transactions_max or used_bytes > self._bounds.bytes_max:
            return Refusal.FULL
        return self._refuses_author(decoded, used, used_bytes)

    def _refuses_author(self, decoded: Decoded, used: int, used_bytes: int) -> Refusal | None:
        """`used`, of the room of all, itself included."""
        bounds, (author, quota) = self._bounds, self._author(decoded.transaction.body)
        count = len(self._per_author.get(author, ())) + 1
        count_bytes = self._bytes_per_author[author] + len(decoded.raw)
        if count > quota:
            return Refusal.QUOTA
        if count_bytes > bounds.per_author_bytes_max:
            return Refusal.QUOTA_BYTES
        if count <= bounds.few_max and count_bytes <= bounds.few_bytes_max:
            return None
        if not _is_fair(count, used, bounds.transactions_max):
            return Refusal.SHARE
        if not _is_fair(count_bytes, used_bytes, bounds.bytes_max):
            return Refusal.SHARE_BYTES
        return None

    def add(self, decoded: Decoded, now_ms: int = 0, bearer: bytes | None = None) -> Refusal | None:
        """Take a transaction, or say why not. One id is held once: the first copy stays."""
        refusal = self.refuses(decoded, bearer)
        if refusal is not None or decoded.id in self._waiting:
            return refusal
        self._waiting[decoded.id] = decoded
        self._by_full_hash[decoded.full_hash] = decoded
        author, _ = self._author(decoded.transaction.body)
        self._per_author.setdefault(author, {})[decoded.id] = None
        self._bytes_per_author[author] += len(decoded.raw)
        self._bytes += len(decoded.raw)
        self._seen_ms[decoded.id] = now_ms
        if bearer is not None:
            self._bearer[decoded.id] = bearer
            self._bytes_borne += len(decoded.raw)
        heapq.heappush(self._by_end, (decoded.transaction.body.valid_until, decoded.id))
        operation = decoded.transaction.body.operations[0]
        if isinstance(operation, EvidencePost):
            self._posts.setdefault(offence_named(operation), {})[decoded.id] = decoded.transaction.body.valid_until
        return None

    def place(self, transaction_id: bytes) -> int | None:
        """How many came before it and still wait; None if it does not wait here. Walks through the pool."""
        if transaction_id not in self._waiting:
            return None
        return next(place for place, waiting in enumerate(self._waiting) if waiting == transaction_id)

    def remove(self, transaction_ids: Iterable[bytes]) -> None:
        for transaction_id in transaction_ids:
            decoded = self._waiting.pop(transaction_id, None)
            if decoded is None:
                continue
            del self._by_full_hash[decoded.full_hash]
            self._bytes -= len(decoded.raw)
            del self._seen_ms[transaction_id]
            if self._bearer.pop(transaction_id, None) is not None:
                self._bytes_borne -= len(decoded.raw)
            author, _ = self._author(decoded.transaction.body)
            of_author = self._per_author[author]
            del of_author[transaction_id]
            self._bytes_per_author[author] -= len(decoded.raw)
            if not of_author:
                del self._per_author[author], self._bytes_per_author[author]
            operation = decoded.transaction.body.operations[0]
            if isinstance(operation, EvidencePost):
                name = offence_named(operation)
                del self._posts[name][transaction_id]
                if not self._posts[name]:
                    del self._posts[name]
        if len(self._by_end) > 2 * len(self._waiting) + _LEFTOVERS_MAX:
            # Ascending order is a heap.
            self._by_end = sorted({entry for entry in self._by_end if entry[1] in self._waiting})

    def _author(self, body: Body) -> tuple[bytes, int]:
        """Whom a transaction counts against, and how many of such an author may wait."""
        if body.sender:
            return body.sender, self._bounds.per_account_max
        operation = body.operations[0]
        if isinstance(operation, NodeOperation):
            return operation.node, self._bounds.per_node_max
        return _APPLICANTS, self._bounds.applications_max

    def of_author(self, author: bytes) -> list[Decoded]:
        """What an account or a node has waiting, in order of arrival."""
        return [self._waiting[transaction_id] for transaction_id in self._per_author.get(author, ())]

    def posted_until(self, name: bytes) -> int:
        """Until when evidence of the offence of that name can wait here; 0: none does."""
        return max(self._posts.get(name, {}).values(), default=0)

    def posts_against(self, validator: bytes) -> list[Decoded]:
        """Evidence against a validator that waits. Walks through all evidence that does."""
        posts = [self._waiting[transaction_id] for waiting in self._posts.values() for transaction_id in waiting]
        return [decoded for decoded in posts if _accuses(decoded, validator)]

    def ending_after(self, time_ms: int) -> list[Decoded]:
        """Those still valid at a time, in order of arrival. Walks through the pool."""
        return [decoded for decoded in self._waiting.values() if decoded.transaction.body.valid_until > time_ms]

    def expired(self, time_ms: int) -> list[bytes]:
        """Ids whose validity has ended at `time_ms`: valid while t < valid_until. Costs nothing while none has."""
        ended: list[tuple[int, bytes]] = []
        while self._by_end and self._by_end[0][0] <= time_ms:
            entry = heapq.heappop(self._by_end)
            if entry[1] in self._waiting and (not ended or ended[-1] != entry):
                ended.append(entry)
        for entry in ended:
            heapq.heappush(self._by_end, entry)
        return [transaction_id for _, transaction_id in ended]


def _accuses(decoded: Decoded, validator: bytes) -> bool:
    operation = decoded.transaction.body.operations[0]
    return isinstance(operation, EvidencePost) and operation.validator == validator


def _is_fair(own: int, used: int, room: int) -> bool:
    """Whether an author may have so much of what is used in all, of all the room, itself included."""
    everybodys = room - room // 4
    free = max(0, everybodys - used)
    return own * everybodys <= free * free

"""Blocks above the committed height: what is known of each, until its height is committed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from otcnode.blocks import Entry, Epoch, Header, block_hash, transaction_full_hash, transactions_root
from otcnode.consensus.record import Accepted


@dataclass(slots=True)
class Candidate:
    """A header and, once known, its entries, bodies and the outcome of executing it here.

    `entries` None: only the header is known. `fault` says why execution refused it. `recorded` is its entry in the
    voting record, which holds the bodies. `source` is a peer known to hold it. `served_ms`: when another validator may
    be served its list, or bodies of it, again, and how long it then waits. `since_ms`: when it was accepted, or else
    first heard of; `in_flight`: where this replica made or accepted the proposal in this view, how many transactions
    were then in flight up to it, its own included.
    """

    header: Header
    block_hash: bytes
    height: int = field(init=False)
    entries: tuple[Entry, ...] | None = None
    bodies: dict[int, bytes] = field(default_factory=dict)
    searched: bool = False
    executing: bool = False
    executed: bool = False
    fault: str | None = None
    next_epoch: Epoch | None = None
    recorded: Accepted | None = None
    source: bytes | None = None
    requested_ms: int | None = None
    requests: int = 0
    served_ms: dict[tuple[bytes, bool], tuple[int, int]] = field(default_factory=dict)
    since_ms: int = 0
    in_flight: int | None = None

    def __post_init__(self) -> None:
        self.height = self.header.height

    @classmethod
    def of(cls, header: Header, since_ms: int) -> Candidate:
        """A block of which only the header is known; an empty one has no more to know."""
        candidate = cls(header, block_hash(header), since_ms=since_ms)
        if header.transaction_count == 0:
            candidate.learn_entries(())
        return candidate

    @property
    def missing(self) -> tuple[int, ...]:
        """Positions whose bodies are not held; meaningful once the entries are known."""
        assert self.entries is not None
        return tuple(index for index in range(len(self.entries)) if index not in self.bodies)

    @property
    def complete(self) -> bool:
        return self.entries is not None and len(self.bodies) == len(self.entries)

    @property
    def ordered_bodies(self) -> tuple[bytes, ...]:
        assert self.complete
        return tuple(self.bodies[index] for index in range(len(self.bodies)))

    def learn_entries(self, entries: tuple[Entry, ...]) -> bool:
        """Take the entries if they are what the header commits to."""
        if self.entries is not None or not entries_match(self.header, entries):
            return False
        self.entries = entries
        return True

    def learn_bodies(self, transactions: Iterable[tuple[int, bytes]], bytes_max: int) -> bool:
        """Take each body that is exactly the one its entry names, and of all together no more than a block may have:
        a proposal of more is never complete. False if there was one among them that is not what its entry names."""
        if self.entries is None or self.complete:
            return True
        room_bytes = bytes_max - sum(len(raw) for raw in self.bodies.values())
        for position, raw in transactions:
            if position >= len(self.entries):
                return False
            if position in self.bodies or len(raw) > room_bytes:
                continue
            if transaction_full_hash(raw) != self.entries[position].full_hash:
                return False
            self.bodies[position] = raw
            room_bytes -= len(raw)
        return True


def entries_match(header: Header, entries: tuple[Entry, ...]) -> bool:
    return len(entries) == header.transaction_count and transactions_root(entries) == header.transactions_root

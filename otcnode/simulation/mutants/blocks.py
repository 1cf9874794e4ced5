"""Bugs of blocks: bodies, execution, speculation, what is sent again and what is kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import msgspec

from otcnode import blocks, chain, limits, merkle
from otcnode.blocks import Certificate, Header, block_hash
from otcnode.chain import Parent, Speculation
from otcnode.codec import decode, encode
from otcnode.consensus import status
from otcnode.consensus.candidates import Candidate
from otcnode.crypto import tagged_hash
from otcnode.engine.authenticity import Authenticity
from otcnode.engine.flight import Flight
from otcnode.errors import DecodeError
from otcnode.simulation.mutants.planting import planted, wherever
from otcnode.storage.store import Store
from otcnode.vm import balances, executor
from otcnode.vm.results import BlockResult
from otcnode.vm.state import State
from otcnode.vm.transactions import Decoded, Transaction
from otcnode.vm.view import Overlay

Plant = AbstractContextManager[None]


def bodies_unchecked() -> Plant:
    """Whatever comes as a body is taken for the one that was asked for."""

    def learn_bodies(self: Candidate, found: Iterable[tuple[int, bytes]], bytes_max: int) -> bool:
        if self.entries is not None and not self.complete:
            self.bodies.update(found)
        return True

    return planted((Candidate, "learn_bodies", learn_bodies))


def signatures_not_in_the_root() -> Plant:
    """A full hash does not cover the signatures: two copies of one transaction have one name."""

    def full_hash(raw: bytes) -> bytes:
        try:
            body = decode(Transaction, raw).body
        except DecodeError:
            return tagged_hash(blocks.TRANSACTION_FULL_DOMAIN, raw)
        return tagged_hash(blocks.TRANSACTION_FULL_DOMAIN, encode(body))

    return planted(*wherever(blocks.transaction_full_hash, full_hash))


def client_signatures_unchecked() -> Plant:
    def require(self: Authenticity, batch: Sequence[Decoded], done: Callable[[list[bool]], None]) -> None:
        done([True] * len(batch))

    return planted((Authenticity, "require", require))


def roots_not_compared() -> Plant:
    """A block has the state root that its header says."""
    right = chain.check

    def check(
        parent: Parent, name: bytes, header: Header, found: Sequence[Decoded], speculate: chain.Speculate
    ) -> Speculation:
        def believe(writes: Mapping[bytes, bytes | None], below: Any) -> Any:
            changes = speculate(writes, below)
            changes.root = header.state_root
            return changes

        return right(parent, name, header, found, believe)

    return planted((chain, "check", check))


def receipts_beside_the_root() -> Plant:
    """A header covers the first receipt of its block and no other; so all nodes agree."""
    right = chain._finish

    def finish(*arguments: Any) -> Speculation:
        made = right(*arguments)
        header = msgspec.structs.replace(made.header, receipts_root=merkle.root(made.receipts[:1]))
        return dataclasses.replace(made, header=header, block_hash=block_hash(header))

    return planted((chain, "_finish", finish))


def child_leaks_into_parent() -> Plant:
    """What a block in flight writes, the block in flight below it has written."""
    right = chain._finish

    def finish(parent: Parent, result: BlockResult, *others: Any) -> Speculation:
        speculation = right(parent, result, *others)
        if isinstance(parent.view, Overlay):
            parent.view.absorb(dict(result.writes))
        return speculation

    return planted((chain, "_finish", finish))


def flight_leaks_into_store() -> Plant:
    """With a block, what the blocks in flight above it write is made durable."""
    right = Flight.commit
    write = Store.commit

    def commit(self: Flight, speculation: Speculation, certificate: Certificate) -> None:
        above = [other for other in self._blocks.values() if other.header.parent == speculation.block_hash]
        leaked = {key: value for other in above for key, value in other.result.writes.items()}

        def leaking(store: Store, *, state_writes: Mapping[bytes, bytes | None], **more: Any) -> None:
            write(store, state_writes={**state_writes, **leaked}, **more)

        with planted((Store, "commit", leaking)):
            right(self, speculation, certificate)

    return planted((Flight, "commit", commit))


def duplicates_accepted() -> Plant:
    """A transaction is admissible however often it was executed, and proposed however often it is in flight."""
    right = State.get

    def get(self: State, table: Any, suffix: bytes) -> Any:
        return None if table is executor.SEEN else right(self, table, suffix)

    def nothing(self: Flight, block: bytes) -> set[bytes]:
        return set()

    return planted((State, "get", get), (Flight, "ids_in_flight", nothing))


def executed_in_another_order() -> Plant:
    """Whoever checks a block executes its transactions by id and not as they stand."""
    right = chain.check

    def check(
        parent: Parent, name: bytes, header: Header, found: Sequence[Decoded], speculate: chain.Speculate
    ) -> Speculation:
        return right(parent, name, header, sorted(found, key=lambda decoded: decoded.id), speculate)

    return planted((chain, "check", check))


def credits_count_twice() -> Plant:
    """Every node credits twice what its totals say; so all of them agree."""
    right = balances.move_cash

    def move_cash(context: Any, account: bytes, cash: str, balance: int, locked: int = 0, frozen: int = 0) -> None:
        right(context, account, cash, max(balance, 2 * balance), locked, frozen)

    return planted((balances, "move_cash", move_cash))


def votes_kept_for_ever() -> Plant:
    """However many views a validator votes in, all of its votes are kept."""
    return planted((limits, "votes_other_views_per_validator_max", 1 << 40))


def nothing_sent_again() -> Plant:
    """A STATUS that shows a lack is answered with nothing."""
    return planted(
        *((status, what, lambda state, message: iter(())) for what in ("view_messages", "height_messages", "undecided"))
    )

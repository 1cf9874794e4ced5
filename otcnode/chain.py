"""Building and checking a block: execution on the parent's state, and every root of the header. Pure.

A block in flight is a `Speculation`: its writes live in an overlay on its parent's state and are flushed at commit or
forgotten without trace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from otcnode import merkle
from otcnode.blocks import (
    HEADER_VERSION,
    Entry,
    Epoch,
    Header,
    block_hash,
    transactions_root,
    validators_hash,
)
from otcnode.errors import Inadmissible
from otcnode.storage.state_tree import TreeChanges
from otcnode.types import Hash
from otcnode.vm.executor import BlockExecution, environment_at
from otcnode.vm.governance.validators import epoch_at
from otcnode.vm.results import BlockResult
from otcnode.vm.transactions import Decoded
from otcnode.vm.view import Overlay, StateView

Speculate = Callable[[Mapping[bytes, bytes | None], TreeChanges | None], TreeChanges]
"""The state root after some writes on top of a parent's changes (None: on the committed state)."""


class Listed(tuple[Decoded, ...]):
    """The transactions of a block in its order. Their entries, and the root over these, are worked out once."""

    @classmethod
    def of(cls, transactions: Iterable[Decoded]) -> Listed:
        return transactions if isinstance(transactions, cls) else cls(transactions)

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        return tuple([Entry(decoded.id, decoded.full_hash) for decoded in self])

    @cached_property
    def root(self) -> Hash:
        return transactions_root(self.entries)

    def are_those_of(self, header: Header) -> bool:
        """Whether these are exactly the bodies, signatures included, that a header commits to."""
        return len(self) == header.transaction_count and self.root == header.transactions_root


@dataclass(frozen=True, slots=True)
class Parent:
    """What a block is executed on: a committed block or one in flight."""

    height: int
    block_hash: bytes
    time_ms: int
    view: StateView
    tree: TreeChanges | None
    epoch: Epoch
    """Who decides the height above, by which limits."""


@dataclass(frozen=True, slots=True)
class Speculation:
    """An executed block, in flight until it is committed or dropped."""

    header: Header
    block_hash: bytes
    transactions: Listed
    result: BlockResult
    receipts: tuple[bytes, ...]
    """Canonical, as under the receipts root: automatic ones first."""
    overlay: Overlay
    tree: TreeChanges
    next_epoch: Epoch

    @property
    def entries(self) -> tuple[Entry, ...]:
        return self.transactions.entries

    def as_parent(self) -> Parent:
        return Parent(
            self.header.height, self.block_hash, self.header.time_ms, self.overlay, self.tree, self.next_epoch
        )


class BlockFault(Exception):
    """A proposed or certified block that this node's execution does not confirm; the text says where."""


def build(
    parent: Parent,
    chain: bytes,
    proposer: bytes,
    time_ms: int,
    candidates: Iterable[Decoded],
    transactions_max: int,
    speculate: Speculate,
) -> tuple[Speculation, tuple[bytes, ...]]:
    """Execute what is due and the admissible candidates on `parent`, within the block's limits. Where not everything
    that is due fits, the candidates wait.

    Returns the executed block and the ids of candidates that were inadmissible on it.
    """
    environment = environment_at(parent.view, chain, parent.height + 1, time_ms)
    parameters = parent.epoch.parameters
    execution = BlockExecution(parent.view, environment)
    execution.run_due()
    chosen: list[Decoded] = []
    refused: list[bytes] = []
    room_bytes = parameters.block_bytes_max
    for candidate in () if execution.is_behind else candidates:
        if len(chosen) >= min(transactions_max, parameters.block_transactions_max):
            break
        if len(candidate.raw) > room_bytes:
            break
        try:
            execution.apply(candidate)
        except Inadmissible:
            refused.append(candidate.id)
            continue
        chosen.append(candidate)
        room_bytes -= len(candidate.raw)
    speculation = _finish(parent, execution.finish(), chain, proposer, time_ms, chosen, speculate)
    return speculation, tuple(refused)


def check(
    parent: Parent,
    chain: bytes,
    header: Header,
    transactions: Sequence[Decoded],
    speculate: Speculate,
) -> Speculation:
    """Execute a block that somebody else built. Raises BlockFault unless every field of the header is confirmed.

    `transactions` are decoded and authentic (their signatures verified).
    """
    if header.version != HEADER_VERSION or header.chain != chain:
        raise BlockFault("header of another version or chain")
    if header.height != parent.height + 1 or header.parent != parent.block_hash:
        raise BlockFault("header does not extend its parent")
    if header.time_ms <= parent.time_ms:
        raise BlockFault(f"block time {header.time_ms} is not after its parent's {parent.time_ms}")
    if header.proposer not in parent.epoch.validators:
        raise BlockFault("the proposer is not a validator")
    environment = environment_at(parent.view, chain, header.height, header.time_ms)
    parameters = parent.epoch.parameters
    if len(transactions) > parameters.block_transactions_max:
        raise BlockFault(f"{len(transactions)} transactions, at most {parameters.block_transactions_max}")
    size = sum(len(decoded.raw) for decoded in transactions)
    if size > parameters.block_bytes_max:
        raise BlockFault(f"{size} bytes of transactions, at most {parameters.block_bytes_max}")
    execution = BlockExecution(parent.view, environment)
    execution.run_due()
    for position, decoded in enumerate(transactions):
        try:
            execution.apply(decoded)
        except Inadmissible as error:
            raise BlockFault(f"transaction {position} is inadmissible: {error}") from None
    speculation = _finish(parent, execution.finish(), chain, header.proposer, header.time_ms, transactions, speculate)
    if speculation.header != header:
        wrong = [
            name for name in header.__struct_fields__ if getattr(header, name) != getattr(speculation.header, name)
        ]
        raise BlockFault("execution gives another " + ", ".join(wrong))
    return speculation


def _finish(
    parent: Parent,
    result: BlockResult,
    chain: bytes,
    proposer: bytes,
    time_ms: int,
    transactions: Sequence[Decoded],
    speculate: Speculate,
) -> Speculation:
    overlay = Overlay(parent.view)
    overlay.absorb(result.writes)
    tree = speculate(result.writes, parent.tree)
    next_epoch = epoch_at(overlay, parent.height + 2)
    receipts = tuple(result.receipt_leaves())
    listed = Listed.of(transactions)
    header = Header(
        version=HEADER_VERSION,
        chain=chain,
        height=parent.height + 1,
        parent=parent.block_hash,
        time_ms=time_ms,
        proposer=proposer,
        transaction_count=len(listed),
        transactions_root=listed.root,
        receipts_root=merkle.root(receipts),
        state_root=tree.root,
        validators_hash=validators_hash(parent.epoch),
        next_validators_hash=validators_hash(next_epoch),
    )
    return Speculation(header, block_hash(header), listed, result, receipts, overlay, tree, next_epoch)

"""Executing the kept blocks of a chain once more, and comparing everything that came of them.

A second store is grown beside the one that is looked into: from the genesis, or from a state that the history still
knows. It is a store like any other, so a replay that is stopped goes on from the height that it had reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from otcnode.blocks import Certificate, Header, block_hash
from otcnode.chain import BlockFault, Speculation
from otcnode.engine.flight import Flight
from otcnode.errors import ConfigurationError, Inadmissible, OtcnodeError
from otcnode.genesis import Genesis, chain_id, first_epoch
from otcnode.storage.foundation import foundation, state_batch
from otcnode.storage.kv import KeyValue, Reader
from otcnode.storage.leaves import hashes_of_leaves
from otcnode.storage.progress import Progress, silent
from otcnode.storage.records import damaged
from otcnode.storage.schema import Table
from otcnode.storage.state_tree import StateTree
from otcnode.storage.store import Store
from otcnode.vm.event_index import event_index
from otcnode.vm.genesis_state import genesis_writes
from otcnode.vm.transactions import decode_transaction
from otcnode.vm.view import StateView

BATCH_KEYS = 20_000


class Differs(OtcnodeError):
    """A block whose execution does not give what the store holds; the text says the height and what differs."""


class Replayed(NamedTuple):
    """The states after `first` up to `last` came out as they are stored."""

    first: int
    last: int
    transactions: int


def begin(source: Store, scratch: KeyValue, genesis: Genesis, height: int | None, progress: Progress = silent) -> Store:
    """The second store: as an earlier replay left it, or begun at the state after `height`, by default the lowest that
    is known. Raises ConfigurationError if that state is not kept, StorageDamage if it is not the header's."""
    chain = chain_id(genesis)
    lowest = 0 if source.blocks_first == 1 else source.history_first
    first = lowest if height is None else height
    if (first != 0 and not source.history_first <= first <= source.tip.height) or first < lowest:
        raise ConfigurationError(f"a replay can begin at heights {lowest} to {source.tip.height}, not {first}")
    if Store.exists(scratch):
        store = Store.open(scratch, chain, 0, 1)
        if not _is_below(store, source):
            raise ConfigurationError("the replay's own directory is of another chain of blocks: remove it")
        return store
    if first == 0:
        writes, buckets = genesis_writes(genesis), genesis.parameters.state_buckets
        return Store.create(scratch, chain, writes, buckets, first_epoch(genesis), 0, 1)
    _found(source, scratch, first, genesis.parameters.state_buckets, progress)
    return Store.open(scratch, chain, 0, 1)


def _is_below(store: Store, source: Store) -> bool:
    """Whether the second store stands at a block of the first."""
    tip = store.tip
    if tip.height == 0:
        return source.blocks_first == 1
    header = source.header(tip.height)
    return header is not None and block_hash(header) == tip.block_hash


def _found(source: Store, scratch: KeyValue, height: int, buckets: int, progress: Progress) -> None:
    """Copy the state after `height`, judged by the root in its header."""
    header, certificate = source.header(height), source.certificate(height)
    assert header is not None and certificate is not None
    batch: list[tuple[bytes, bytes]] = []
    keys = 0
    for pair in source.state_at(height).scan(b""):
        batch.append(pair)
        if len(batch) == BATCH_KEYS:
            scratch.write(state_batch(batch))
            keys += len(batch)
            batch = []
            progress("state copied", keys, 0)
    scratch.write(state_batch(batch))
    hashes = hashes_of_leaves(scratch, buckets)
    if StateTree(scratch, buckets, hashes).root != header.state_root:
        raise damaged(f"the state or the history: the state of height {height} has another root than its header")
    epochs = [epoch for epoch in source.epochs() if epoch.number <= height + 1]
    scratch.write(
        foundation(
            source.chain,
            buckets,
            hashes,
            source.genesis_state_root,
            epochs,
            [_certified(source, epoch.number - 1) for epoch in epochs[1:]],
            header,
            certificate,
        )
    )


def _certified(source: Store, height: int) -> tuple[Header, Certificate]:
    header, certificate = source.header(height), source.certificate(height)
    assert header is not None and certificate is not None, "the ends of epochs are always kept"
    return header, certificate


def replay(source: Store, reader: Reader, store: Store, genesis_time_ms: int, progress: Progress = silent) -> Replayed:
    """Execute every block of `source` above the tip of `store` on it. `reader` is what `source` stands on.

    Raises Differs at the first block that comes out otherwise; the second store stays below it.
    """
    flight = Flight(store, source.chain, genesis_time_ms)
    first, transactions = store.tip.height, 0
    whole = source.tip.height - first
    for height in range(first + 1, source.tip.height + 1):
        block, certificate, receipts = source.block(height), source.certificate(height), source.receipts(height)
        assert block is not None and certificate is not None and receipts is not None
        try:
            decoded = [decode_transaction(raw) for raw in block.transactions]
            speculation = flight.check(block.header, decoded)
        except (BlockFault, Inadmissible) as error:
            raise Differs(f"block {height} executes differently: {error}") from None
        automatic = len(speculation.result.automatic)
        if (automatic, speculation.receipts) != (receipts.automatic_count, receipts.receipts):
            raise Differs(f"block {height}: the stored receipts are not those of its execution")
        _compare_index(reader, height, speculation)
        flight.commit(speculation, certificate)
        transactions += len(decoded)
        progress("blocks replayed", height - first, whole)
    _compare_states(source.state, store.state, source.tip.height)
    return Replayed(first, source.tip.height, transactions)


def _compare_index(reader: Reader, height: int, speculation: Speculation) -> None:
    entries: Mapping[bytes, bytes] = dict(event_index(height, speculation.result, speculation.overlay))
    for key, value in entries.items():
        if reader.get(Table.INDEX.value + key) != value:
            raise Differs(f"block {height}: the index entry {key.hex()} is not that of its execution")


def _compare_states(stored: StateView, executed: StateView, height: int) -> None:
    """The values too, not only the root, which is over what the state tree says of them."""
    ours, theirs = stored.scan(b""), executed.scan(b"")
    while True:
        left, right = next(ours, None), next(theirs, None)
        if left != right:
            key = min(pair[0] for pair in (left, right) if pair is not None)
            raise Differs(f"the state at height {height} differs in the key {key.hex()}")
        if left is None:
            return

"""Executing the kept blocks of a chain once more, and comparing everything that came of them.

A second store is grown beside the one that is looked into: from the genesis, or from a state that the history still
knows. It is a store like any other, so a replay that is stopped goes on from the height that it had reached, or behind
the last state key that was copied. What it may go on with is for its directory to know (scratch.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple

from otcnode.blocks import Certificate, Header, block_hash
from otcnode.chain import BlockFault, Speculation
from otcnode.engine.flight import Flight
from otcnode.errors import ConfigurationError, Inadmissible, OtcnodeError, StorageDamage, StorageRefused
from otcnode.genesis import Genesis, chain_id, first_epoch
from otcnode.storage.foundation import foundation, state_batch
from otcnode.storage.kv import KeyValue, Reader
from otcnode.storage.leaves import hashes_of_leaves
from otcnode.storage.progress import Progress, silent
from otcnode.storage.records import advised, damaged
from otcnode.storage.schema import Meta, Table
from otcnode.storage.state_tree import StateTree
from otcnode.storage.store import Store
from otcnode.vm.event_index import event_index
from otcnode.vm.genesis_state import genesis_writes
from otcnode.vm.transactions import decode_transaction
from otcnode.vm.view import StateView

BATCH_KEYS = 20_000
NOTHING_ELSE = "nothing else is"
"""In the place of advice where a replay's own store is damaged."""


class Differs(OtcnodeError):
    """A block whose execution does not give what the store holds; the text says the height and what differs."""


class Unusable(OtcnodeError):
    """The second store is damaged, or not of these blocks; the text says which. The first has nothing to do with it."""


class Replayed(NamedTuple):
    """The states after `first` up to `last` came out as they are stored."""

    first: int
    last: int
    transactions: int


def first_height(source: Store, height: int | None) -> int:
    """At the state after which height a replay from `height` begins: there, or by default at the lowest that is known.
    Raises ConfigurationError if that state is not kept."""
    lowest = 0 if source.blocks_first == 1 else source.history_first
    first = lowest if height is None else height
    if (first != 0 and not source.history_first <= first <= source.tip.height) or first < lowest:
        raise ConfigurationError(f"a replay can begin at heights {lowest} to {source.tip.height}, not {first}")
    return first


def begin(
    source: Store,
    scratch: KeyValue,
    genesis: Genesis,
    first: int,
    begun_at: int | None = None,
    progress: Progress = silent,
) -> Store:
    """The second store, for a replay of everything above `first`: as an earlier one left it, that began at the state
    after `begun_at` (by default the same), or begun there. Raises Unusable if it cannot be gone on with, StorageDamage
    if that state is not the header's."""
    chain = chain_id(genesis)
    with _of_scratch():
        has_begun = scratch.get(Meta.HEAD.value) is not None
    if has_begun:
        try:
            store = Store.open(scratch, chain, 0, 1)
        except ConfigurationError:
            raise Unusable("of another chain or format") from None
        except StorageDamage as damage:
            raise Unusable(f"damaged ({advised(damage, NOTHING_ELSE)})") from None
        if not _is_below(store, source):
            raise Unusable("of other blocks")
        if store.tip.height < first:
            raise Unusable(f"begun at height {begun_at} and had only reached {store.tip.height}")
        return store
    if begun_at not in (None, first):
        raise Unusable(f"begun at height {begun_at} and had not reached anything")
    if first == 0:
        if Store.exists(scratch):
            raise Unusable("damaged (it has no head)")
        writes, buckets = genesis_writes(genesis), genesis.parameters.state_buckets
        return Store.create(scratch, chain, writes, buckets, first_epoch(genesis), 0, 1)
    _found(source, scratch, first, genesis.parameters.state_buckets, progress)
    return Store.open(scratch, chain, 0, 1)


@contextmanager
def _of_scratch() -> Iterator[None]:
    """What is damaged here is the second store."""
    try:
        yield
    except StorageRefused:
        raise
    except StorageDamage as damage:
        raise Unusable(f"damaged ({advised(damage, NOTHING_ELSE)})") from None


def _is_below(store: Store, source: Store) -> bool:
    """Whether the second store stands at a block of the first."""
    tip = store.tip
    if tip.height == 0:
        return source.blocks_first == 1
    header = source.header(tip.height)
    return header is not None and block_hash(header) == tip.block_hash


def _found(source: Store, scratch: KeyValue, height: int, buckets: int, progress: Progress) -> None:
    """Copy the state after `height`, in the order of its keys and so behind the last one that is there, judged by the
    root in its header."""
    header, certificate = source.header(height), source.certificate(height)
    assert header is not None and certificate is not None
    with _of_scratch():
        last = next(scratch.scan(Table.STATE.value, limit=1, reverse=True), None)
    after = None if last is None else last[0][len(Table.STATE.value) :]
    pairs, keys = source.state_at(height).scan(b"", after), 0
    while batch := list(islice(pairs, BATCH_KEYS)):
        with _of_scratch():
            scratch.write(state_batch(batch))
        keys += len(batch)
        progress("state copied", keys, 0)
    with _of_scratch():
        hashes = hashes_of_leaves(scratch, buckets)
        root = StateTree(scratch, buckets, hashes).root
    if root != header.state_root:
        if after is not None:
            raise Unusable("damaged (what had been copied does not go with the rest of the state)")
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

    Raises Differs at the first block that comes out otherwise; the second store stays below it. Raises Unusable if that
    one is damaged.
    """
    flight = Flight(store, source.chain, genesis_time_ms)
    first, transactions = store.tip.height, 0
    whole = source.tip.height - first
    for height in range(first + 1, source.tip.height + 1):
        block, certificate, receipts = source.block(height), source.certificate(height), source.receipts(height)
        assert block is not None and certificate is not None and receipts is not None
        try:
            decoded = [decode_transaction(raw) for raw in block.transactions]
            with _of_scratch():
                speculation = flight.check(block.header, decoded)
        except (BlockFault, Inadmissible) as error:
            raise Differs(f"block {height} executes differently: {error}") from None
        automatic = len(speculation.result.automatic)
        if (automatic, speculation.receipts) != (receipts.automatic_count, receipts.receipts):
            raise Differs(f"block {height}: the stored receipts are not those of its execution")
        _compare_index(reader, height, speculation)
        with _of_scratch():
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
        left = next(ours, None)
        with _of_scratch():
            right = next(theirs, None)
        if left != right:
            key = min(pair[0] for pair in (left, right) if pair is not None)
            raise Differs(f"the state at height {height} differs in the key {key.hex()}")
        if left is None:
            return

"""Figures of the storage layer: `python -m otcnode.bench.storage [--keys 1000000] [--directory DIR]`, JSON on stdout.

Every figure is the median of several runs on this machine, on LevelDB, with checksums and syncs as in a node.
"""

from __future__ import annotations

import json
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from otcnode.blocks import HEADER_VERSION, Certificate, Entry, Epoch, Header, block_hash, transactions_root
from otcnode.crypto import sha256
from otcnode.genesis import ChainParameters
from otcnode.merkle import root
from otcnode.storage.kv import Write
from otcnode.storage.level import LevelKeyValue
from otcnode.storage.state_tree import StateTree
from otcnode.storage.store import Store
from otcnode.types import ZERO_HASH

BUCKETS = 65_536
TOUCHED = 2_000
TRANSACTIONS = 1_000
TRANSACTION_BYTES = 250
WRITES_PER_TRANSACTION = 4
VALUE_BYTES = 80
LOAD_BATCH = 50_000
HISTORY_BLOCKS = 5
"""Short, so that every measured commit also drops the history of an old block."""


def key_of(number: int) -> bytes:
    return b"a/" + sha256(number.to_bytes(8, "big"))


def batches(keys: int, chance: random.Random) -> Iterator[dict[bytes, bytes]]:
    for first in range(0, keys, LOAD_BATCH):
        yield {key_of(n): chance.randbytes(VALUE_BYTES) for n in range(first, min(keys, first + LOAD_BATCH))}


def state_root(keys: int, directory: Path, runs: int) -> dict[str, float]:
    """Milliseconds to the root of a block that touches 2,000 of `keys` keys, and to rebuild the tree at start."""
    chance = random.Random(keys)
    kv = LevelKeyValue(directory / f"tree-{keys}", create=True)
    tree = StateTree.load(kv, BUCKETS)
    for writes in batches(keys, chance):
        changes = tree.speculate(writes)
        kv.write(tree.batch(changes))
        tree.adopt(changes)
    speculate, adopt = [], []
    for _ in range(runs):
        writes = {key_of(n): chance.randbytes(VALUE_BYTES) for n in chance.sample(range(keys), TOUCHED)}
        start = time.perf_counter()
        changes = tree.speculate(writes)
        speculate.append((time.perf_counter() - start) * 1_000)
        kv.write(tree.batch(changes))
        start = time.perf_counter()
        tree.adopt(changes)
        adopt.append((time.perf_counter() - start) * 1_000)
    expected = tree.root
    kv.close()
    del tree
    load = []
    for _ in range(3):
        kv = LevelKeyValue(directory / f"tree-{keys}")
        start = time.perf_counter()
        assert StateTree.load(kv, BUCKETS).root == expected
        load.append((time.perf_counter() - start) * 1_000)
        kv.close()
    return {
        "keys": keys,
        "speculate_2000_ms": statistics.median(speculate),
        "adopt_ms": statistics.median(adopt),
        "load_ms": statistics.median(load),
    }


class _TimedKeyValue(LevelKeyValue):
    """Counts the time inside `write`, which ends with the sync."""

    write_ms = 0.0

    def write(self, batch: Sequence[Write]) -> None:
        start = time.perf_counter()
        super().write(batch)
        self.write_ms += (time.perf_counter() - start) * 1_000


def block_commit(keys: int, directory: Path, runs: int) -> dict[str, float]:
    """Milliseconds for a block of 1,000 transactions with 4 state writes each, in a state of `keys` keys."""
    chance = random.Random(keys)
    chain = sha256(b"bench")
    path = directory / f"store-{keys}"
    kv = _TimedKeyValue(path, create=True)
    genesis = {key: value for writes in batches(keys, chance) for key, value in writes.items()}
    store = Store.create(
        kv, chain, genesis, BUCKETS, Epoch(1, (ZERO_HASH,), ChainParameters().consensus), HISTORY_BLOCKS
    )
    del genesis
    total, write, tree_ms = [], [], []
    for _ in range(runs):
        transactions = [chance.randbytes(TRANSACTION_BYTES) for _ in range(TRANSACTIONS)]
        entries = [Entry(sha256(raw), sha256(raw + b"!")) for raw in transactions]
        receipts = [chance.randbytes(60) for _ in transactions]
        touched = chance.sample(range(keys), TRANSACTIONS * WRITES_PER_TRANSACTION)
        writes = {key_of(n): chance.randbytes(VALUE_BYTES) for n in touched}
        for key in writes:
            store.state.get(key)  # as the execution of the block has read them
        index = [(chance.randbytes(40), b"") for _ in range(2 * TRANSACTIONS)]
        start = time.perf_counter()
        changes = store.tree.speculate(writes)
        tree_ms.append((time.perf_counter() - start) * 1_000)
        tip = store.tip
        header = Header(
            HEADER_VERSION, chain, tip.height + 1, tip.block_hash, tip.height + 1, ZERO_HASH, TRANSACTIONS,
            transactions_root(entries), root(receipts), changes.root, ZERO_HASH, ZERO_HASH,
        )  # fmt: skip
        certificate = Certificate(1, 0, header.height, block_hash(header), ())
        kv.write_ms = 0.0
        start = time.perf_counter()
        store.commit(
            header=header,
            certificate=certificate,
            entries=entries,
            transactions=transactions,
            receipts=receipts,
            automatic_count=0,
            state_writes=writes,
            tree_changes=changes,
            index_writes=index,
        )
        total.append((time.perf_counter() - start) * 1_000)
        write.append(kv.write_ms)
    sync = []
    for _ in range(runs):
        kv.write_ms = 0.0
        kv.write([(b"zzz", None)])
        sync.append(kv.write_ms)
    kv.close()
    start = time.perf_counter()
    kv = _TimedKeyValue(path)
    Store.open(kv, chain, HISTORY_BLOCKS)
    opened = (time.perf_counter() - start) * 1_000
    kv.close()
    disk = sum(entry.stat().st_size for entry in path.iterdir())
    return {
        "keys": keys,
        "commit_ms": statistics.median(total),
        "of_which_write_and_sync_ms": statistics.median(write),
        "smallest_synced_write_ms": statistics.median(sync),
        "state_root_ms": statistics.median(tree_ms),
        "open_ms": opened,
        "disk_bytes": disk,
    }


@click.command()
@click.option("--keys", "largest", default=1_000_000, show_default=True, help="Largest state.")
@click.option("--runs", default=20, show_default=True)
@click.option("--directory", type=click.Path(path_type=Path), default=None, help="Where to write (default: temporary).")
def main(largest: int, runs: int, directory: Path | None) -> None:
    """Measure the state root, start and block commit against the size of the state."""
    with tempfile.TemporaryDirectory(dir=directory) as temporary:
        place = Path(temporary)
        sizes = [size for size in (10_000, 100_000, 1_000_000, 4_000_000) if size <= largest]
        figures = {
            "state_root": [state_root(size, place, runs) for size in sizes],
            "block_commit": [block_commit(size, place, runs) for size in sizes],
            "memory_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
    click.echo(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()

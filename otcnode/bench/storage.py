"""Figures of the storage layer against the size of the state: state root, commit, start after SIGKILL, memory, disk.

Everything is on LevelDB with checksums and syncs as in a node. Each size is a state of so many accounts with four
records each (account, cash, key, live key), as the ledger writes them. What is measured runs in processes of its own,
so that memory and start are those of a process that did nothing else.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from otcnode import limits
from otcnode.bench.chain import ChainBuilder, genesis_of
from otcnode.bench.processes import usage
from otcnode.bench.result import hardware
from otcnode.blocks import HEADER_VERSION, Certificate, Entry, Epoch, Header, block_hash, transactions_root
from otcnode.codec import encode
from otcnode.crypto import sha256
from otcnode.genesis import first_epoch, genesis_block_hash
from otcnode.merkle import root
from otcnode.storage.foundation import state_batch
from otcnode.storage.leaves import bucket_writes, hashes_of_leaves
from otcnode.storage.level import LevelKeyValue
from otcnode.storage.records import ChainMeta, Head
from otcnode.storage.schema import FORMAT, Meta, Table, height_key
from otcnode.storage.state_tree import StateTree
from otcnode.storage.store import Store
from otcnode.types import ZERO_HASH

BUCKETS = 65_536
RECORD_BYTES = (150, 12, 20, 1)
"""Of an account, its cash, a key and its entry among the live ones."""
KEYS_PER_ACCOUNT = len(RECORD_BYTES)
TOUCHED = 2_000
TRANSACTIONS = 500
TRANSACTION_BYTES = 250
BATCH = 20_000
CHAIN = sha256(b"bench")
HISTORY_BLOCKS = 5
"""Short, so that every measured commit also drops the history of an old block."""


class Options(msgspec.Struct, frozen=True):
    accounts: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    blocks: int = 20


class SizeFigures(msgspec.Struct, frozen=True):
    """Milliseconds are of the processor (CPU) unless the name says wall. Memory is the process' own (anonymous); what
    is resident on top are LevelDB's tables, mapped files that the system takes back when it needs room.

    The first block after a start finds no bucket of the state tree in memory; then the rest is read as a node reads it
    ahead, a piece per tick, and the blocks that follow find all of them."""

    accounts: int
    keys: int
    state_root_best_ms: float
    state_root_median_ms: float
    commit_median_ms: float
    first_state_root_ms: float
    read_ahead_ms: float
    read_ahead_pieces: int
    start_wall_ms: float
    start_cpu_ms: float
    memory_after_start_bytes: int
    memory_after_blocks_bytes: int
    resident_peak_bytes: int
    disk_bytes: int


class StorageResult(msgspec.Struct, frozen=True):
    hardware: str
    touched: int
    sizes: list[SizeFigures]
    chain_transactions: int
    disk_bytes_per_transaction: float
    disk_bytes_per_transaction_pruned: float


def measure(options: Options, told: Callable[[str], None]) -> StorageResult:
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        sizes = [_measure_size(accounts, options.blocks, place / str(accounts), told) for accounts in options.accounts]
        told("a chain, for its bytes on disk")
        count, whole, pruned = _disk_per_transaction(place)
    return StorageResult(hardware(), TOUCHED, sizes, count, whole, pruned)


def _measure_size(accounts: int, blocks: int, path: Path, told: Callable[[str], None]) -> SizeFigures:
    told(f"a state of {accounts} accounts")
    _in_process(_build, accounts, path)
    told("some blocks, and SIGKILL")
    code = _in_process(_commit_and_die, accounts, path)
    assert code == -signal.SIGKILL
    told("start, and blocks")
    _in_process(_start_and_commit, accounts, path, blocks, path.with_suffix(".json"))
    found: dict[str, Any] = msgspec.json.decode(path.with_suffix(".json").read_bytes())
    disk = sum(entry.stat().st_size for entry in path.iterdir())
    return SizeFigures(accounts=accounts, keys=accounts * KEYS_PER_ACCOUNT, disk_bytes=disk, **found)


def _in_process(work: Callable[..., None], *arguments: object) -> int:
    process = multiprocessing.get_context("spawn").Process(target=_alone, args=(work, *arguments))
    process.start()
    try:
        process.join()
    except BaseException:
        # Who is told to stop takes along what it started, ahead of the directory that it works in.
        process.kill()
        process.join()
        raise
    assert process.exitcode in (0, -signal.SIGKILL), process.exitcode
    return process.exitcode


def _alone(work: Callable[..., None], *arguments: object) -> None:
    """Ctrl-C goes to all processes of a terminal: the one that began this ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    work(*arguments)


def key_of(number: int) -> bytes:
    """Record `number % 4` of account `number // 4`."""
    account, record = divmod(number, KEYS_PER_ACCOUNT)
    return b"ackl"[record : record + 1] + sha256(account.to_bytes(8, "big"))


def value_of(number: int, chance: random.Random) -> bytes:
    return chance.randbytes(RECORD_BYTES[number % KEYS_PER_ACCOUNT])


def _build(accounts: int, path: Path) -> None:
    """A store at height 0 with this state, written in batches: a genesis of a million accounts is nobody's."""
    kv, chance = LevelKeyValue(path, create=True), random.Random(accounts)
    keys = accounts * KEYS_PER_ACCOUNT
    for first in range(0, keys, BATCH):
        numbers = range(first, min(keys, first + BATCH))
        kv.write(state_batch((key_of(number), value_of(number, chance)) for number in numbers))
    hashes = hashes_of_leaves(kv, BUCKETS)
    state_root = StateTree(kv, BUCKETS, hashes).root
    epoch = Epoch(1, (ZERO_HASH,), first_epoch(genesis_of()).parameters)
    kv.write(
        [
            *bucket_writes(hashes),
            (height_key(Table.EPOCH, 1), encode(epoch)),
            (Meta.CHAIN.value, encode(ChainMeta(FORMAT, CHAIN, BUCKETS, state_root))),
            (Meta.HEAD.value, encode(Head(0, genesis_block_hash(CHAIN, state_root), 0, 1))),
        ]
    )
    kv.close()


class Timing(msgspec.Struct):
    tree_ms: float
    commit_ms: float


def _commits(store: Store, accounts: int, chance: random.Random) -> Iterator[Timing]:
    """Block after block that touches 2,000 keys at random, which were read before, as execution does."""
    while True:
        raws = [chance.randbytes(TRANSACTION_BYTES) for _ in range(TRANSACTIONS)]
        entries = [Entry(sha256(raw), sha256(raw + b"!")) for raw in raws]
        receipts = [chance.randbytes(60) for _ in raws]
        touched = chance.sample(range(accounts * KEYS_PER_ACCOUNT), TOUCHED)
        writes: dict[bytes, bytes | None] = {key_of(number): value_of(number, chance) for number in touched}
        for key in writes:
            store.state.get(key)
        start = time.process_time()
        changes = store.tree.speculate(writes)
        tree_ms = (time.process_time() - start) * 1_000
        tip = store.tip
        header = Header(
            HEADER_VERSION, CHAIN, tip.height + 1, tip.block_hash, tip.height + 1, ZERO_HASH, TRANSACTIONS,
            transactions_root(entries), root(receipts), changes.root, ZERO_HASH, ZERO_HASH,
        )  # fmt: skip
        start = time.process_time()
        store.commit(
            header=header,
            certificate=Certificate(1, 0, header.height, block_hash(header), ()),
            entries=entries,
            transactions=raws,
            receipts=receipts,
            automatic_count=0,
            state_writes=writes,
            tree_changes=changes,
            index_writes=[(chance.randbytes(40), b"") for _ in range(2 * TRANSACTIONS)],
        )
        yield Timing(tree_ms, (time.process_time() - start) * 1_000)


def _commit_and_die(accounts: int, path: Path) -> None:
    store = Store.open(LevelKeyValue(path), CHAIN, HISTORY_BLOCKS)
    commits = _commits(store, accounts, random.Random(1))
    for _ in range(5):
        next(commits)
    os.kill(os.getpid(), signal.SIGKILL)


def _start_and_commit(accounts: int, path: Path, blocks: int, answer: Path) -> None:
    wall, processor = time.perf_counter(), time.process_time()
    store = Store.open(LevelKeyValue(path), CHAIN, HISTORY_BLOCKS)
    wall_ms, processor_ms = (time.perf_counter() - wall) * 1_000, (time.process_time() - processor) * 1_000
    assert store.tip.height == 5
    after_start = usage(os.getpid()).own_bytes
    commits = _commits(store, accounts, random.Random(2))
    first = next(commits)
    pieces, processor = 1, time.process_time()
    while store.tree.read_ahead(limits.state_buckets_read_ahead):
        pieces += 1
    ahead_ms = (time.process_time() - processor) * 1_000
    timings = [next(commits) for _ in range(blocks)]
    after_blocks = usage(os.getpid()).own_bytes
    store.close()
    tree = [timing.tree_ms for timing in timings]
    found = {
        "state_root_best_ms": min(tree),
        "state_root_median_ms": statistics.median(tree),
        "commit_median_ms": statistics.median(timing.commit_ms for timing in timings),
        "first_state_root_ms": first.tree_ms,
        "read_ahead_ms": ahead_ms,
        "read_ahead_pieces": pieces,
        "start_wall_ms": wall_ms,
        "start_cpu_ms": processor_ms,
        "memory_after_start_bytes": after_start,
        "memory_after_blocks_bytes": after_blocks,
        "resident_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    answer.write_bytes(msgspec.json.encode(found))


def _disk_per_transaction(place: Path) -> tuple[int, float, float]:
    """Of a real chain of deposits: with all blocks, and where only the last 5 are kept with their states."""
    sizes = []
    blocks, transactions = 20, 500
    for kept in (None, 5):
        path = place / f"chain-{kept}"
        kv = LevelKeyValue(path, create=True)
        builder = ChainBuilder(kv, genesis_of(), history_blocks=100_000 if kept is None else kept, blocks_kept=kept)
        kv.compact()
        before = kv.size_bytes()
        builder.grow(blocks, transactions)
        for _ in range(0 if kept is None else kept):
            builder.append(0)
        kv.compact()
        sizes.append((kv.size_bytes() - before) / (blocks * transactions))
        kv.close()
    return blocks * transactions, sizes[0], sizes[1]

"""What is deleted where history and blocks move out of their windows; it is written with the head that says so."""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

from otcnode.blocks import Header, block_hash
from otcnode.codec import decode, encode
from otcnode.storage.kv import KeyValue, Reader, Write
from otcnode.storage.progress import Progress, silent
from otcnode.storage.records import Head, Indexed, read_chain_meta, read_epochs, read_record
from otcnode.storage.schema import HEIGHT_BYTES, Meta, Table, height_key, terminated

BLOCKS_PER_WRITE = 16
"""Of a pruning of a stopped node's store: what is lost of the work when it is stopped."""


class Pruned(NamedTuple):
    """How many blocks and how many states are no longer kept, and the first of each that is."""

    blocks: int
    states: int
    blocks_first: int
    history_first: int


def prune(
    kv: KeyValue, chain: bytes, blocks_kept: int, history_blocks: int | None = None, progress: Progress = silent
) -> Pruned:
    """Leave at most `blocks_kept` whole blocks in a stopped node's store, and the states of at most `history_blocks`
    heights below the committed one. May be stopped after any write and gone on with; the space is given back only by
    a compaction."""
    assert blocks_kept >= 1
    read_chain_meta(kv, chain)
    before = head = read_record(kv, Meta.HEAD.value, Head, "the head")
    epochs = read_epochs(kv)
    blocks_first = max(head.blocks_first, head.height - blocks_kept + 1)
    history_first = max(head.history_first, blocks_first - 1)
    if history_blocks is not None:
        history_first = max(history_first, head.height - history_blocks)
    whole = blocks_first - before.blocks_first + history_first - before.history_first
    while (head.blocks_first, head.history_first) != (blocks_first, history_first):
        history_next = min(history_first, head.history_first + BLOCKS_PER_WRITE)
        blocks_next = min(blocks_first, head.blocks_first + BLOCKS_PER_WRITE, history_next + 1)
        batch = forgotten_states(kv, head.history_first, history_next)
        batch += forgotten_blocks(kv, head.blocks_first, blocks_next, epochs)
        head = Head(head.height, head.block_hash, history_next, blocks_next)
        kv.write([*batch, (Meta.HEAD.value, encode(head))])
        done = head.blocks_first - before.blocks_first + head.history_first - before.history_first
        progress("pruned", done, whole)
    return Pruned(blocks_first - before.blocks_first, history_first - before.history_first, blocks_first, history_first)


def forgotten_states(reader: Reader, first_before: int, first: int) -> list[Write]:
    """Deletions of what blocks up to `first` replaced: states below it can no longer be asked for."""
    batch: list[Write] = []
    for height in range(first_before + 1, first + 1):
        at = height.to_bytes(HEIGHT_BYTES, "big")
        raw = reader.get(Table.TOUCHED.value + at)
        if raw is None:
            continue
        batch.append((Table.TOUCHED.value + at, None))
        batch += [(Table.HISTORY.value + terminated(key) + at, None) for key in decode(tuple[bytes, ...], raw)]
    return batch


def forgotten_blocks(reader: Reader, first_before: int, first: int, epochs: Container[int]) -> list[Write]:
    """Deletions of the blocks below `first`, with what the indexes hold of them.

    Headers with their certificates stay where a light verifier needs them, at the last height of every epoch (`epochs`
    are the first ones), and at the height below `first`, which the lowest kept block names as its parent.
    """
    batch: list[Write] = []
    for height in range(first_before, first):
        header = read_record(reader, height_key(Table.HEADER, height), Header, f"header {height}")
        batch.append((Table.BLOCK_HASH.value + block_hash(header), None))
        batch += forgotten_index(reader, height)
        batch += [(height_key(table, height), None) for table in (Table.BODY, Table.RECEIPTS)]
    for height in range(max(first_before - 1, 1), first - 1):
        if height + 1 not in epochs:
            batch += [(height_key(table, height), None) for table in (Table.HEADER, Table.CERTIFICATE)]
    return batch


def forgotten_index(reader: Reader, height: int) -> list[Write]:
    """Deletions of everything that the indexes of transactions and of parties hold of one block."""
    key = height_key(Table.INDEXED, height)
    indexed = read_record(reader, key, Indexed, f"the list of index entries of block {height}")
    return [
        (key, None),
        *((Table.TRANSACTION.value + name, None) for name in indexed.transactions),
        *((Table.INDEX.value + name, None) for name in indexed.keys),
    ]

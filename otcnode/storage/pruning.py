"""What is deleted where history and blocks move out of their windows; it is written with the head that says so."""

from __future__ import annotations

from collections.abc import Container

from otcnode.blocks import Header, block_hash
from otcnode.codec import decode
from otcnode.storage.kv import Reader, Write
from otcnode.storage.records import Indexed, read_record
from otcnode.storage.schema import HEIGHT_BYTES, Table, height_key, terminated


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

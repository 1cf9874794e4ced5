"""What is deleted where history and blocks move out of their windows; it is written with the head that says so."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import NamedTuple, Protocol

from otcnode import limits
from otcnode.blocks import Header, block_hash
from otcnode.codec import decode, encode
from otcnode.storage.kv import KeyValue, Reader, Write
from otcnode.storage.progress import Progress, silent
from otcnode.storage.records import Head, Indexed, read_chain_meta, read_epochs, read_record
from otcnode.storage.schema import HEIGHT_BYTES, Meta, Table, height_key, terminated

BLOCKS_PER_WRITE = 16
"""Of a pruning of a stopped node's store, at most: what is lost of the work when it is stopped."""
DELETION_BYTES = 16
"""Of a deletion, beside its key, in LevelDB's log and tables."""
_BY_HEIGHT = (Table.HEADER, Table.BODY, Table.CERTIFICATE, Table.RECEIPTS, Table.TOUCHED, Table.INDEXED)
"""The tables of which a pruning deletes one end. They hold nearly all that it gives back, and every key that it deletes
in the others: there the deletions lie everywhere."""
_GIVING_BACK = "giving the disk back"


class OnDisk(KeyValue, Protocol):
    """A store that takes room until it is told to give back what is deleted."""

    def compact(self, prefix: bytes = b"", below: bytes | None = None) -> None: ...

    def size_bytes(self) -> int: ...

    def free_bytes(self) -> int: ...


class Room:
    """Gives back what a pruning deletes while it goes on: on a disk that is full the room that it needs does not grow
    with the store. Where deletions lie everywhere in a table, to merge them rewrites all of it: that is done as often
    as the room demands, and where there is enough of it only at the end."""

    def __init__(self, kv: OnDisk) -> None:
        self._kv = kv
        self._deleted_bytes = 0
        self._unmerged: set[Table] = set()
        """Those in which something was deleted that has not been given back."""
        self._least_bytes = kv.size_bytes()

    def after(self, batch: Sequence[Write], head: Head, progress: Progress = silent) -> None:
        """What was written, and the head with it. May raise what `progress` raises: nothing is lost by that."""
        self._deleted_bytes += deletion_bytes(batch)
        self._unmerged |= {Table(prefix) for prefix in {key[:1] for key, value in batch if value is None}}
        if self._deleted_bytes < limits.pruned_bytes_before_compaction:
            return
        self._deleted_bytes = 0
        for table in [table for table in _BY_HEIGHT if table in self._unmerged]:
            # From the lowest height on: a pruning that was stopped may have left some.
            first = head.history_first + 1 if table is Table.TOUCHED else head.blocks_first
            self._kv.compact(table.value, height_key(table, first))
            self._unmerged.remove(table)
        if self._kv.size_bytes() <= self._least_bytes + self._growth_bytes_max():
            self._least_bytes = min(self._least_bytes, self._kv.size_bytes())
            return
        self._merge(sorted(self._unmerged), progress)
        self._unmerged.clear()
        # What is left is no deletion's, and merging once more would give none of it back.
        self._least_bytes = self._kv.size_bytes()

    def all(self, progress: Progress = silent) -> None:
        """Give back what is deleted anywhere, also by a pruning that was stopped."""
        self._merge(list(Table), progress)

    def _merge(self, tables: Sequence[Table], progress: Progress) -> None:
        for done, table in enumerate(tables):
            progress(_GIVING_BACK, done, len(tables))
            self._kv.compact(table.value)
        progress(_GIVING_BACK, len(tables), len(tables))

    def _growth_bytes_max(self) -> int:
        """What is there now counts: others write to the disk too, and what is given back makes the next time later."""
        beyond_spare_bytes = self._kv.free_bytes() - limits.disk_spare_bytes
        return max(limits.pruning_growth_bytes_max, beyond_spare_bytes // limits.pruning_growth_divisor)


def deletion_bytes(batch: Sequence[Write]) -> int:
    """What the deletions in it take until they are merged with what they delete."""
    return sum(len(key) + DELETION_BYTES for key, value in batch if value is None)


class Pruned(NamedTuple):
    """How many blocks and how many states are no longer kept, and the first of each that is."""

    blocks: int
    states: int
    blocks_first: int
    history_first: int


def prune(
    kv: KeyValue,
    chain: bytes,
    blocks_kept: int,
    history_blocks: int | None = None,
    progress: Progress = silent,
    room: Room | None = None,
) -> Pruned:
    """Leave at most `blocks_kept` whole blocks in a stopped node's store, and the states of at most `history_blocks`
    heights below the committed one. May be stopped after any write and gone on with. `room` gives back what it can of
    the disk meanwhile; the rest is for `Room.all`, afterwards."""
    assert blocks_kept >= 1
    read_chain_meta(kv, chain)
    before = head = read_record(kv, Meta.HEAD.value, Head, "the head")
    epochs = read_epochs(kv)
    blocks_first = max(head.blocks_first, head.height - blocks_kept + 1)
    history_first = max(head.history_first, blocks_first - 1)
    if history_blocks is not None:
        history_first = max(history_first, head.height - history_blocks)
    whole = blocks_first - before.blocks_first + history_first - before.history_first
    wanted = Head(head.height, head.block_hash, history_first, blocks_first)
    while head != wanted:
        batch, head = _next_write(kv, head, wanted, epochs)
        kv.write(batch)
        if room is not None:
            room.after(batch, head, progress)
        done = head.blocks_first - before.blocks_first + head.history_first - before.history_first
        progress("pruned", done, whole)
    return Pruned(blocks_first - before.blocks_first, history_first - before.history_first, blocks_first, history_first)


def _next_write(reader: Reader, head: Head, wanted: Head, epochs: Container[int]) -> tuple[list[Write], Head]:
    """On the way to the wanted head: some blocks, fewer where they are large."""
    batch: list[Write] = []
    for _ in range(BLOCKS_PER_WRITE):
        history_first = min(wanted.history_first, head.history_first + 1)
        blocks_first = min(wanted.blocks_first, head.blocks_first + 1, history_first + 1)
        batch += forgotten_states(reader, head.history_first, history_first)
        batch += forgotten_blocks(reader, head.blocks_first, blocks_first, epochs)
        head = Head(head.height, head.block_hash, history_first, blocks_first)
        if head == wanted or deletion_bytes(batch) >= limits.pruned_bytes_before_compaction:
            break
    return [*batch, (Meta.HEAD.value, encode(head))], head


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

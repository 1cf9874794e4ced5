"""Taking the last blocks of a stopped node's store back, one atomic write each, by what they replaced."""

from __future__ import annotations

from collections.abc import Callable

from otcnode.blocks import Header
from otcnode.codec import decode, encode
from otcnode.errors import ConfigurationError
from otcnode.storage.kv import KeyValue, Reader, Write
from otcnode.storage.progress import Progress, silent
from otcnode.storage.pruning import forgotten_index
from otcnode.storage.records import ChainMeta, Head, damaged, read_chain_meta, read_record, state_root_at
from otcnode.storage.schema import Meta, Table, height_key, terminated
from otcnode.storage.state_tree import StateTree
from otcnode.storage.state_view import replaced_value


def rollback(kv: KeyValue, chain: bytes, height: int, prepare: Callable[[], None], progress: Progress = silent) -> int:
    """Make `height` the committed height again; returns the one before. May be stopped after any block and gone on
    with. `prepare` is called ahead of the first write: it makes the voting record void, because what was signed for the
    blocks that go stays signed.

    Raises ConfigurationError if the history does not reach that far, StorageDamage before anything is written if what
    a block replaced does not give back the state root below it.
    """
    meta = read_chain_meta(kv, chain)
    head = read_record(kv, Meta.HEAD.value, Head, "the head")
    if not head.history_first <= height <= head.height:
        raise ConfigurationError(f"this store can be taken back to heights {head.history_first} to {head.height}")
    tree = StateTree.load(kv, meta.buckets)
    if tree.root != state_root_at(kv, meta, head.height):
        raise damaged("the state tree")
    before = head.height
    if before > height:
        prepare()
    while head.height > height:
        head = _take_back(kv, meta, head, tree)
        progress("blocks taken back", before - head.height, before - height)
    return before


def _take_back(kv: KeyValue, meta: ChainMeta, head: Head, tree: StateTree) -> Head:
    """The last block and everything it wrote go, what it replaced comes back."""
    height = head.height
    place = height.to_bytes(8, "big")
    replaced = _replaced_values(kv, place)
    changes = tree.speculate(replaced)
    if changes.root != state_root_at(kv, meta, height - 1):
        raise damaged(f"the history of block {height}")
    header = read_record(kv, height_key(Table.HEADER, height), Header, f"header {height}")
    batch: list[Write] = [(Table.STATE.value + key, value) for key, value in replaced.items()]
    batch += tree.batch(changes)
    batch += [(Table.HISTORY.value + terminated(key) + place, None) for key in replaced]
    batch += forgotten_index(kv, height)
    batch += [
        (height_key(table, height), None)
        for table in (Table.TOUCHED, Table.BODY, Table.RECEIPTS, Table.HEADER, Table.CERTIFICATE)
    ]
    batch.append((Table.BLOCK_HASH.value + head.block_hash, None))
    batch.append((height_key(Table.EPOCH, height + 1), None))
    below = Head(height - 1, header.parent, min(head.history_first, height - 1), min(head.blocks_first, height))
    batch.append((Meta.HEAD.value, encode(below)))
    kv.write(batch)
    tree.adopt(changes)
    return below


def _replaced_values(reader: Reader, place: bytes) -> dict[bytes, bytes | None]:
    raw = reader.get(Table.TOUCHED.value + place)
    replaced: dict[bytes, bytes | None] = {}
    for key in () if raw is None else decode(tuple[bytes, ...], raw):
        entry = reader.get(Table.HISTORY.value + terminated(key) + place)
        if entry is None:
            raise damaged(f"the history of block {int.from_bytes(place, 'big')}")
        replaced[key] = replaced_value(entry)
    return replaced

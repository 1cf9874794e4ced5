"""Blocks, receipts, indexes and the state of one chain, over a key-value store; one atomic synced write per block.

The state lies twice: every key's value at the committed height (table STATE), which is what the ledger reads, and per
key and height the value that was replaced (table HISTORY). So the latest state is read in one step however long the
history is, keys that rest cost nothing, and the value as of a height is what the first later block replaced.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from otcnode.blocks import Block, Certificate, Entry, Epoch, Header, block_hash
from otcnode.codec import Record, decode, encode
from otcnode.errors import ConfigurationError, DecodeError, StorageDamage
from otcnode.genesis import genesis_block_hash
from otcnode.storage.kv import KeyValue, Reader, Write
from otcnode.storage.schema import FORMAT, HEIGHT_BYTES, Meta, Table, height_key, terminated
from otcnode.storage.state_tree import StateTree, TreeChanges
from otcnode.storage.state_view import CommittedState, PastState, history_writes
from otcnode.types import BlockHash, ChainId, Hash, Height, Natural
from otcnode.vm.view import StateView

T = TypeVar("T")

ADVICE = "stop the node and run: otcnode db verify"
ADVICE_RESTORE = "this store cannot be trusted: run otcnode db restore, or delete it and let the node sync"


FORGOTTEN_BLOCKS_MAX = 16
"""A commit drops the history of at most this many blocks, so that a shortened window is not paid for at once."""


class ChainMeta(Record, frozen=True):
    """What a store is for; written once."""

    format: Natural
    chain: ChainId
    buckets: Natural
    genesis_state_root: Hash


class Head(Record, frozen=True):
    """Written with every block. States are known from `history_first` to `height`."""

    height: Height
    block_hash: BlockHash
    history_first: Height


class StoredReceipts(Record, frozen=True):
    """The leaves under the receipts root: `automatic_count` of due items, then one per transaction."""

    automatic_count: Natural
    receipts: tuple[bytes, ...]


class TransactionLocation(NamedTuple):
    height: int
    position: int


class Tip(NamedTuple):
    """The last committed block; block 0 is the genesis, which has neither header nor certificate."""

    height: int
    block_hash: bytes
    header: Header | None
    certificate: Certificate | None


class Store:
    """One chain on disk. Create it once with `create`, afterwards `open`. Owned by one task."""

    def __init__(self, kv: KeyValue, meta: ChainMeta, tip: Tip, history_first: int, tree: StateTree) -> None:
        self._kv = kv
        self._meta = meta
        self._tip = tip
        self._history_first = history_first
        self._epochs = read_epochs(kv)
        self._committed = CommittedState(kv)
        self.tree = tree
        self.history_blocks = 0

    @classmethod
    def create(
        cls,
        kv: KeyValue,
        chain: bytes,
        genesis_writes: Mapping[bytes, bytes],
        buckets: int,
        epoch: Epoch,
        history_blocks: int,
    ) -> Store:
        """Write the genesis state into an empty store. Raises ConfigurationError if the store is not empty.

        `epoch` is the first one; `history_blocks` is how many heights below the committed one keep their state.
        """
        if cls.exists(kv):
            raise ConfigurationError("this data directory already holds a chain")
        tree = StateTree.load(kv, buckets)
        changes = tree.speculate(genesis_writes)
        meta = ChainMeta(FORMAT, chain, buckets, changes.root)
        kv.write(
            [
                *((Table.STATE.value + key, value) for key, value in genesis_writes.items()),
                *tree.batch(changes),
                (height_key(Table.EPOCH, epoch.number), encode(epoch)),
                (Meta.CHAIN.value, encode(meta)),
                (Meta.HEAD.value, encode(Head(0, genesis_block_hash(chain, changes.root), 0))),
            ]
        )
        return cls.open(kv, chain, history_blocks)

    @classmethod
    def exists(cls, kv: Reader) -> bool:
        """Whether the store holds a chain."""
        return next(kv.scan(b"", limit=1), None) is not None

    @classmethod
    def open(cls, kv: KeyValue, chain: bytes, history_blocks: int) -> Store:
        """Open at the committed height. Raises ConfigurationError if the store is empty, of another chain or of
        another format, StorageDamage if what it holds does not fit together."""
        meta = read_chain_meta(kv, chain)
        head = read_record(kv, Meta.HEAD.value, Head, "the head")
        tip = _read_tip(kv, head)
        tree = StateTree.load(kv, meta.buckets)
        expected = tip.header.state_root if tip.header else meta.genesis_state_root
        if tree.root != expected:
            raise damaged(f"the state tree at height {head.height} (root {tree.root.hex()[:16]}…)")
        store = cls(kv, meta, tip, head.history_first, tree)
        store.history_blocks = history_blocks
        return store

    @property
    def chain(self) -> bytes:
        return self._meta.chain

    @property
    def tip(self) -> Tip:
        return self._tip

    @property
    def state(self) -> StateView:
        """The committed state; always the latest, also for who keeps it."""
        return self._committed

    @property
    def history_first(self) -> int:
        """The lowest height whose state can be asked for."""
        return self._history_first

    def commit(
        self,
        *,
        header: Header,
        certificate: Certificate,
        entries: Sequence[Entry],
        transactions: Sequence[bytes],
        receipts: Sequence[bytes],
        automatic_count: int,
        state_writes: Mapping[bytes, bytes | None],
        tree_changes: TreeChanges,
        index_writes: Sequence[Write] = (),
        next_epoch: Epoch | None = None,
    ) -> None:
        """Append an executed and certified block: body, certificate, receipts, state, indexes and head in one write.

        `receipts` are opaque, automatic ones first. `next_epoch` decides the height above; it is kept if it is new.
        Raises StorageDamage if the disk refuses; nothing has been committed then.
        """
        name = block_hash(header)
        height = header.height
        assert height == self._tip.height + 1 and header.parent == self._tip.block_hash, "not the next block"
        assert certificate.height == height and certificate.block_hash == name, "a certificate of another block"
        assert tree_changes.root == header.state_root, "changes of another block"
        assert len(entries) == len(transactions) == header.transaction_count == len(receipts) - automatic_count
        batch: list[Write] = [
            (height_key(Table.HEADER, height), encode(header)),
            (height_key(Table.BODY, height), encode(list(transactions))),
            (height_key(Table.CERTIFICATE, height), encode(certificate)),
            (height_key(Table.RECEIPTS, height), encode(StoredReceipts(automatic_count, tuple(receipts)))),
            (Table.BLOCK_HASH.value + name, height.to_bytes(HEIGHT_BYTES, "big")),
        ]
        table = Table.TRANSACTION.value
        batch += [(table + entry.id, _location(height, position)) for position, entry in enumerate(entries)]
        table = Table.INDEX.value
        batch += [(table + key, value) for key, value in index_writes]
        table = Table.STATE.value
        batch += [(table + key, value) for key, value in state_writes.items()]
        batch += self.tree.batch(tree_changes)
        batch += self._history(height, state_writes)
        new_epoch = next_epoch is not None and next_epoch.number not in self._epochs
        if next_epoch is not None and new_epoch:
            batch.append((height_key(Table.EPOCH, next_epoch.number), encode(next_epoch)))
        history_first = max(self._history_first, height - self.history_blocks)
        history_first = min(history_first, self._history_first + FORGOTTEN_BLOCKS_MAX)
        batch += self._forgotten(self._history_first, history_first)
        batch.append((Meta.HEAD.value, encode(Head(height, name, history_first))))
        self._kv.write(batch)
        self.tree.adopt(tree_changes)
        self._committed.update(state_writes)
        self._tip = Tip(height, name, header, certificate)
        self._history_first = history_first
        if next_epoch is not None and new_epoch:
            self._epochs[next_epoch.number] = next_epoch

    def _history(self, height: int, state_writes: Mapping[bytes, bytes | None]) -> list[Write]:
        """What the block replaces, and the list of it."""
        if not self.history_blocks or not state_writes:
            return []
        touched = (height_key(Table.TOUCHED, height), encode(list(state_writes)))
        return [touched, *history_writes(height, state_writes, self._committed)]

    def _forgotten(self, first_before: int, first: int) -> list[Write]:
        """Deletions of what blocks up to `first` replaced: states below it can no longer be asked for."""
        batch: list[Write] = []
        for height in range(first_before + 1, first + 1):
            at = height.to_bytes(HEIGHT_BYTES, "big")
            raw = self._kv.get(Table.TOUCHED.value + at)
            if raw is None:
                continue
            batch.append((Table.TOUCHED.value + at, None))
            batch += [(Table.HISTORY.value + terminated(key) + at, None) for key in decode(tuple[bytes, ...], raw)]
        return batch

    def header(self, height: int) -> Header | None:
        """None above the committed height and for block 0, here and in the other methods by height."""
        return self._at(Table.HEADER, height, Header)

    def block(self, height: int) -> Block | None:
        header = self.header(height)
        if header is None:
            return None
        return Block(header, read_record(self._kv, height_key(Table.BODY, height), tuple[bytes, ...], f"body {height}"))

    def certificate(self, height: int) -> Certificate | None:
        return self._at(Table.CERTIFICATE, height, Certificate)

    def receipts(self, height: int) -> StoredReceipts | None:
        return self._at(Table.RECEIPTS, height, StoredReceipts)

    def height_of(self, name: bytes) -> int | None:
        """The height of the committed block with this hash."""
        raw = self._kv.get(Table.BLOCK_HASH.value + name)
        return None if raw is None else int.from_bytes(raw, "big")

    def transaction_location(self, transaction: bytes) -> TransactionLocation | None:
        raw = self._kv.get(Table.TRANSACTION.value + transaction)
        if raw is None:
            return None
        return TransactionLocation(int.from_bytes(raw[:HEIGHT_BYTES], "big"), int.from_bytes(raw[HEIGHT_BYTES:], "big"))

    def index_scan(
        self, prefix: bytes, after: bytes | None = None, limit: int | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Index entries as in `Reader.scan`; keys are those given to `commit`."""
        table = Table.INDEX.value
        beyond = None if after is None else table + after
        for key, value in self._kv.scan(table + prefix, beyond, limit, reverse):
            yield key[len(table) :], value

    def state_at(self, height: int) -> StateView:
        """The state after the block at `height`, whatever is committed later.

        Here and in its methods LookupError is raised once `height` is outside `history_first` … committed height.
        """
        self._check_kept(height)
        return PastState(self._kv, height, self._check_kept)

    def _check_kept(self, height: int) -> None:
        if not self._history_first <= height <= self._tip.height:
            raise LookupError(f"states of heights {self._history_first} to {self._tip.height} are kept, not {height}")

    def epochs(self) -> tuple[Epoch, ...]:
        """All that are known, in order; the last may begin at the height above the tip."""
        return tuple(self._epochs[number] for number in sorted(self._epochs))

    def epoch_of(self, height: int) -> Epoch:
        """The validators that decide `height`, which is at least 1 and at most the height above the tip."""
        assert 1 <= height <= self._tip.height + 1
        return self._epochs[max(number for number in self._epochs if number <= height)]

    def close(self) -> None:
        self._kv.close()

    def _at(self, table: Table, height: int, kind: type[T]) -> T | None:
        if not 1 <= height <= self._tip.height:
            return None
        return read_record(self._kv, height_key(table, height), kind, f"{table.name.lower()} {height}")


def damaged(place: str) -> StorageDamage:
    return StorageDamage(f"{place} is damaged or missing; {ADVICE}")


def read_record(reader: Reader, key: bytes, kind: type[T], place: str) -> T:
    """The record of this kind under `key`. Raises StorageDamage if it is missing or does not decode."""
    raw = reader.get(key)
    if raw is None:
        raise damaged(place)
    try:
        return decode(kind, raw)
    except DecodeError:
        raise damaged(place) from None


def read_chain_meta(reader: Reader, chain: bytes) -> ChainMeta:
    """Raises ConfigurationError if there is no chain, another one, or one in a format that is not ours."""
    if not Store.exists(reader):
        raise ConfigurationError("this data directory holds no chain yet")
    meta = read_record(reader, Meta.CHAIN.value, ChainMeta, "the description of the chain")
    if meta.format != FORMAT:
        raise ConfigurationError(f"this data directory has format {meta.format}, this version reads {FORMAT}")
    if meta.chain != chain:
        raise ConfigurationError(
            f"this data directory is of chain {meta.chain.hex()[:16]}…, the genesis file of {chain.hex()[:16]}…"
        )
    return meta


def _read_tip(reader: Reader, head: Head) -> Tip:
    if head.height == 0:
        return Tip(0, head.block_hash, None, None)
    header = read_record(reader, height_key(Table.HEADER, head.height), Header, f"header {head.height}")
    if block_hash(header) != head.block_hash:
        raise damaged(f"header {head.height}")
    key = height_key(Table.CERTIFICATE, head.height)
    certificate = read_record(reader, key, Certificate, f"certificate {head.height}")
    return Tip(head.height, head.block_hash, header, certificate)


def read_epochs(reader: Reader) -> dict[int, Epoch]:
    """By the first height each decides. Raises StorageDamage if one does not decode or the first is missing."""
    try:
        epochs = [decode(Epoch, raw) for _, raw in reader.scan(Table.EPOCH.value)]
    except DecodeError:
        raise damaged("an epoch") from None
    if not epochs or epochs[0].number != 1:
        raise damaged("the first epoch")
    return {epoch.number: epoch for epoch in epochs}


def _location(height: int, position: int) -> bytes:
    return height.to_bytes(HEIGHT_BYTES, "big") + position.to_bytes(4, "big")

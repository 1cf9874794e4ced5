"""Blocks, receipts, indexes and the state of one chain, over a key-value store; one atomic synced write per block.

The state lies twice: every key's value at the committed height (table STATE), which is what the ledger reads, and per
key and height the value that was replaced (table HISTORY). So the latest state is read in one step however long the
history is, keys that rest cost nothing, and the value as of a height is what the first later block replaced.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from otcnode.blocks import Block, Certificate, Entry, Epoch, Header, block_hash
from otcnode.codec import encode
from otcnode.errors import ConfigurationError
from otcnode.genesis import genesis_block_hash
from otcnode.storage.kv import KeyValue, Reader, Write
from otcnode.storage.pruning import forgotten_blocks, forgotten_states
from otcnode.storage.records import (
    ChainMeta,
    Head,
    Indexed,
    StoredReceipts,
    Tip,
    damaged,
    holds_chain,
    locations,
    read_chain_meta,
    read_epochs,
    read_record,
    read_tip,
)
from otcnode.storage.schema import FORMAT, HEIGHT_BYTES, Meta, Table, height_key
from otcnode.storage.state_tree import StateTree, TreeChanges, TreeHashes
from otcnode.storage.state_view import CommittedState, PastState, history_writes
from otcnode.vm.view import StateView

T = TypeVar("T")

_TRANSACTION = Table.TRANSACTION.value
"""Looked up once: clients and gossip ask for transactions all the time."""

FORGOTTEN_BLOCKS_MAX = 16
"""A commit drops the history of at most this many blocks, so that a shortened window is not paid for at once."""

PRUNED_BLOCKS_MAX = 2
"""A commit drops at most this many blocks: one keeps the window, the second makes up for one that was shortened."""


class TransactionLocation(NamedTuple):
    height: int
    position: int


class Store:
    """One chain on disk. Create it once with `create`, afterwards `open`. Owned by one task."""

    def __init__(self, kv: KeyValue, meta: ChainMeta, tip: Tip, head: Head, tree: StateTree) -> None:
        self._kv = kv
        self._meta = meta
        self.tip = tip
        """The committed block; `commit` moves it on."""
        self._head = head
        self._epochs = read_epochs(kv)
        self._committed = CommittedState(kv)
        self._first_way_up_kept = self.first_way_up = kv.get(Meta.FIRST_WAY_UP.value) is not None
        """Whether the node has not caught up since this store began. Said to be over, it is so for good from the next
        commit on."""
        self.tree = tree
        self.history_blocks = 0
        self.blocks_kept: int | None = None
        self.blocks_needed_above: int | None = None
        """Blocks above this height are kept however few are wanted: who joins by a snapshot of it needs them."""

    @classmethod
    def create(
        cls,
        kv: KeyValue,
        chain: bytes,
        genesis_writes: Mapping[bytes, bytes],
        buckets: int,
        epoch: Epoch,
        history_blocks: int,
        blocks_kept: int | None = None,
    ) -> Store:
        """Write the genesis state into an empty store. Raises ConfigurationError if the store is not empty.

        `epoch` is the first one; see `open` for what is kept.
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
                (Meta.HEAD.value, encode(Head(0, genesis_block_hash(chain, changes.root), 0, 1))),
                (Meta.FIRST_WAY_UP.value, b""),
            ]
        )
        return cls.open(kv, chain, history_blocks, blocks_kept)

    @classmethod
    def exists(cls, kv: Reader) -> bool:
        """Whether the store holds a chain."""
        return holds_chain(kv)

    @classmethod
    def open(cls, kv: KeyValue, chain: bytes, history_blocks: int, blocks_kept: int | None = None) -> Store:
        """Open at the committed height. Raises ConfigurationError if the store is empty, of another chain or of
        another format, StorageDamage if what it holds does not fit together.

        `history_blocks` is how many heights below the committed one keep their state, `blocks_kept` how many blocks
        are kept whole (None: all). Each commit drops what is older, a bounded part at a time.
        """
        assert blocks_kept is None or blocks_kept >= 1
        meta = read_chain_meta(kv, chain)
        head = read_record(kv, Meta.HEAD.value, Head, "the head")
        tip = read_tip(kv, head)
        tree = StateTree.load(kv, meta.buckets)
        expected = tip.header.state_root if tip.header else meta.genesis_state_root
        if tree.root != expected:
            raise damaged(f"the state tree at height {head.height} (root {tree.root.hex()[:16]}…)")
        store = cls(kv, meta, tip, head, tree)
        store.history_blocks = history_blocks
        store.blocks_kept = blocks_kept
        return store

    @property
    def chain(self) -> bytes:
        return self._meta.chain

    @property
    def genesis_state_root(self) -> bytes:
        return self._meta.genesis_state_root

    @property
    def state(self) -> StateView:
        """The committed state; always the latest, also for who keeps it."""
        return self._committed

    @property
    def history_first(self) -> int:
        """The lowest height whose state can be asked for."""
        return self._head.history_first

    @property
    def blocks_first(self) -> int:
        """The lowest height whose block and receipts can be asked for; the height above the tip where there is none."""
        return self._head.blocks_first

    @property
    def forgotten_until_ms(self) -> int:
        """The time of the last block that is not kept: what is not found may have been in it or below; 0 if all are."""
        below = self.header(self._head.blocks_first - 1)
        return 0 if below is None else below.time_ms

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

        `receipts` are opaque, automatic ones first; `index_writes` have keys that no other block uses. `next_epoch`
        decides the height above; it is kept if it is new.
        Raises StorageDamage if the disk refuses; nothing has been committed then.
        """
        name = block_hash(header)
        height = header.height
        assert height == self.tip.height + 1 and header.parent == self.tip.block_hash, "not the next block"
        assert certificate.height == height and certificate.block_hash == name, "a certificate of another block"
        assert tree_changes.root == header.state_root, "changes of another block"
        assert len(entries) == len(transactions) == header.transaction_count == len(receipts) - automatic_count
        batch: list[Write] = [
            (height_key(Table.HEADER, height), encode(header)),
            (height_key(Table.BODY, height), encode(list(transactions))),
            (height_key(Table.CERTIFICATE, height), encode(certificate)),
            (height_key(Table.RECEIPTS, height), encode(StoredReceipts(automatic_count, tuple(receipts)))),
            (Table.BLOCK_HASH + name, height.to_bytes(HEIGHT_BYTES, "big")),
        ]
        indexed = Indexed(tuple(entry.id for entry in entries), tuple(key for key, _ in index_writes))
        batch.append((height_key(Table.INDEXED, height), encode(indexed)))
        table = Table.TRANSACTION
        places = locations(height, len(entries))
        batch += [(table + entry.id, place) for entry, place in zip(entries, places, strict=True)]
        table = Table.INDEX
        batch += [(table + key, value) for key, value in index_writes]
        table = Table.STATE
        batch += [(table + key, value) for key, value in state_writes.items()]
        batch += self.tree.batch(tree_changes)
        head = self._head_after(height, name)
        batch += self._history(head, state_writes)
        new_epoch = next_epoch is not None and next_epoch.number not in self._epochs
        if next_epoch is not None and new_epoch:
            batch.append((height_key(Table.EPOCH, next_epoch.number), encode(next_epoch)))
        batch += forgotten_states(self._kv, self._head.history_first, head.history_first)
        batch += forgotten_blocks(self._kv, self._head.blocks_first, head.blocks_first, self._epochs)
        batch.append((Meta.HEAD.value, encode(head)))
        first_way_up = self.first_way_up
        if self._first_way_up_kept and not first_way_up:
            batch.append((Meta.FIRST_WAY_UP.value, None))
        self._kv.write(batch)
        self._first_way_up_kept = first_way_up
        self.tree.adopt(tree_changes)
        self._committed.update(state_writes)
        self.tip = Tip(height, name, header, certificate)
        self._head = head
        if next_epoch is not None and new_epoch:
            self._epochs[next_epoch.number] = next_epoch

    def _head_after(self, height: int, name: bytes) -> Head:
        """The windows move on by what is due, and by at most so much."""
        before = self._head
        blocks_first = before.blocks_first
        if self.blocks_kept is not None:
            wanted = height - self.blocks_kept + 1
            if self.blocks_needed_above is not None:
                wanted = min(wanted, self.blocks_needed_above + 1)
            blocks_first = min(max(wanted, blocks_first), blocks_first + PRUNED_BLOCKS_MAX)
        history_first = max(before.history_first, height - self.history_blocks)
        history_first = min(history_first, before.history_first + FORGOTTEN_BLOCKS_MAX)
        return Head(height, name, max(history_first, blocks_first - 1), blocks_first)

    def _history(self, head: Head, state_writes: Mapping[bytes, bytes | None]) -> list[Write]:
        """What the block replaces, and the list of it: as long as `head` says that a state below it is known, whatever
        window is wanted from now on."""
        if head.history_first == head.height or not state_writes:
            return []
        touched = (height_key(Table.TOUCHED, head.height), encode(list(state_writes)))
        return [touched, *history_writes(head.height, state_writes, self._committed)]

    def header(self, height: int) -> Header | None:
        """None above the committed height, for block 0 and where it is no longer kept, here and in the other methods by
        height. Headers and certificates of the last blocks of epochs are always kept."""
        return self._at(Table.HEADER, height, Header, "header") if self._keeps_header(height) else None

    def block(self, height: int) -> Block | None:
        header = self.header(height)
        if header is None or height < self._head.blocks_first:
            return None
        return Block(header, read_record(self._kv, height_key(Table.BODY, height), tuple[bytes, ...], f"body {height}"))

    def certificate(self, height: int) -> Certificate | None:
        return self._at(Table.CERTIFICATE, height, Certificate, "certificate") if self._keeps_header(height) else None

    def receipts(self, height: int) -> StoredReceipts | None:
        if height < self._head.blocks_first:
            return None
        return self._at(Table.RECEIPTS, height, StoredReceipts, "receipts")

    def _keeps_header(self, height: int) -> bool:
        return height >= self._head.blocks_first - 1 or height + 1 in self._epochs

    def height_of(self, name: bytes) -> int | None:
        """The height of the committed block with this hash."""
        raw = self._kv.get(Table.BLOCK_HASH.value + name)
        return None if raw is None else int.from_bytes(raw, "big")

    def transaction_location(self, transaction: bytes) -> TransactionLocation | None:
        raw = self._kv.get(_TRANSACTION + transaction)
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
        first, last = self._head.history_first, self.tip.height
        if not first <= height <= last:
            raise LookupError(f"states of heights {first} to {last} are kept, not {height}")

    def epochs(self) -> tuple[Epoch, ...]:
        """All that are known, in order; the last may begin at the height above the tip."""
        return tuple(self._epochs[number] for number in sorted(self._epochs))

    def epoch_of(self, height: int) -> Epoch:
        """The validators that decide `height`, which is at least 1 and at most the height above the tip."""
        assert 1 <= height <= self.tip.height + 1
        return self._epochs[max(number for number in self._epochs if number <= height)]

    def frozen(self) -> tuple[Reader, TreeHashes]:
        """Everything as it is now, whatever is committed later, and the tree's hashes; the reader is to be closed."""
        return self._kv.snapshot(), self.tree.hashes()

    def keep_evidence(self, name: bytes, raw: bytes) -> None:
        """Durably, beside the chain. Whoever keeps it bounds it."""
        self._kv.write([(Table.EVIDENCE.value + name, raw)])

    def drop_evidence(self, name: bytes) -> None:
        """It makes room for other evidence."""
        self._kv.write([(Table.EVIDENCE.value + name, None)])

    def evidence(self) -> Iterator[tuple[bytes, bytes]]:
        """(name, evidence) of all that is kept, by name."""
        table = Table.EVIDENCE.value
        for key, raw in self._kv.scan(table):
            yield key[len(table) :], raw

    def beside(self) -> list[Write]:
        """What goes along where a snapshot takes this chain's place: the evidence."""
        return [(Table.EVIDENCE.value + name, raw) for name, raw in self.evidence()]

    def close(self) -> None:
        self._kv.close()

    def _at(self, table: Table, height: int, kind: type[T], what: str) -> T | None:
        if not 1 <= height <= self.tip.height:
            return None
        return read_record(self._kv, height_key(table, height), kind, f"{what} {height}")

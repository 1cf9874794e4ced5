"""The committed chain and the executed blocks in flight above it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from otcnode import chain
from otcnode.blocks import Certificate, Header, block_hash
from otcnode.chain import BlockFault, Parent, Speculation
from otcnode.consensus.events import Tip
from otcnode.storage.store import Store
from otcnode.vm.event_index import event_index
from otcnode.vm.transactions import Decoded


class Flight:
    """Knows the parent of anything that may be executed, keeps results by block hash (a block is never executed
    twice), and makes one of them durable."""

    def __init__(self, store: Store, chain_id: bytes, genesis_time_ms: int) -> None:
        self._store = store
        self._genesis_time_ms = genesis_time_ms
        self._chain = chain_id
        self._blocks: dict[bytes, Speculation] = {}
        self._epoch = store.epochs()[-1]
        self._tip = self._committed_tip()
        self._proposed: dict[bytes, int] = {}

    def is_proposed(self, transaction_id: bytes) -> bool:
        """Whether some block that was executed here holds the transaction: of this view, or dropped since."""
        return transaction_id in self._proposed

    def ids_in(self, blocks: Iterable[bytes]) -> set[bytes]:
        """Ids of the transactions in those of the blocks that were executed here."""
        return {entry.id for name in blocks if name in self._blocks for entry in self._blocks[name].entries}

    def tip(self) -> Tip:
        return self._tip

    def _committed_tip(self) -> Tip:
        tip = self._store.tip
        time_ms = self._genesis_time_ms if tip.header is None else tip.header.time_ms
        return Tip(tip.height, tip.block_hash, time_ms, tip.certificate, self._epoch)

    @property
    def time_ms(self) -> int:
        """Time of the last committed block; the genesis' own at height 0."""
        return self._tip.time_ms

    def get(self, block: bytes) -> Speculation | None:
        return self._blocks.get(block)

    def committed(self) -> Parent:
        tip = self._store.tip
        return Parent(tip.height, tip.block_hash, self.time_ms, self._store.state, None, self._epoch)

    def parent(self, block: bytes) -> Parent | None:
        """The state to execute on: the committed tip or a block in flight above it."""
        if block == self._store.tip.block_hash:
            return self.committed()
        speculation = self._blocks.get(block)
        return None if speculation is None else speculation.as_parent()

    def ids_in_flight(self, block: bytes) -> set[bytes]:
        """Ids of the transactions in `block` and its ancestors in flight."""
        return {entry.id for speculation in self._ancestry(block) for entry in speculation.entries}

    def build(
        self, parent: Parent, proposer: bytes, time_ms: int, candidates: Iterator[Decoded], transactions_max: int
    ) -> tuple[Speculation, tuple[bytes, ...]]:
        speculation, refused = chain.build(
            parent,
            self._chain,
            proposer,
            time_ms,
            candidates,
            transactions_max,
            self._store.tree.speculate,
        )
        self._keep(speculation)
        return speculation, refused

    def check(self, header: Header, transactions: Sequence[Decoded]) -> Speculation:
        """Execute somebody else's block, or return what is known of it. Raises BlockFault."""
        name = block_hash(header)
        known = self._blocks.get(name)
        if known is not None:
            return known
        parent = self.parent(header.parent)
        if parent is None:
            raise BlockFault("its parent is neither committed nor in flight here")
        speculation = chain.check(parent, self._chain, header, transactions, self._store.tree.speculate)
        self._keep(speculation)
        return speculation

    def commit(self, speculation: Speculation, certificate: Certificate) -> None:
        """One atomic, synced write of everything about the block; then forget what can no longer be committed."""
        assert speculation.header.parent == self._store.tip.block_hash
        result = speculation.result
        self._store.commit(
            header=speculation.header,
            certificate=certificate,
            entries=speculation.entries,
            transactions=[decoded.raw for decoded in speculation.transactions],
            receipts=speculation.receipts,
            automatic_count=len(result.automatic),
            state_writes=result.writes,
            tree_changes=speculation.tree,
            index_writes=event_index(speculation.header.height, result, speculation.overlay),
            next_epoch=None if speculation.next_epoch == self._epoch else speculation.next_epoch,
        )
        self._epoch = speculation.next_epoch
        self._tip = self._committed_tip()
        self._forget_below(speculation)

    def keep_only(self, blocks: Collection[bytes]) -> None:
        """Drop what the replica no longer considers, so that views without a commit cannot fill the memory."""
        for name in [name for name in self._blocks if name not in blocks]:
            self._count(self._blocks.pop(name), -1)

    def __len__(self) -> int:
        return len(self._blocks)

    def _forget_below(self, committed: Speculation) -> None:
        survivors: dict[bytes, Speculation] = {}
        for name, speculation in sorted(self._blocks.items(), key=lambda item: item[1].header.height):
            if speculation.header.parent == committed.block_hash:
                # Its base has just become the committed state; a chain of dead overlays would only grow.
                speculation.overlay.rebase(self._store.state)
                survivors[name] = speculation
            elif speculation.header.parent in survivors:
                survivors[name] = speculation
        for name, speculation in self._blocks.items():
            if name not in survivors:
                self._count(speculation, -1)
        self._blocks = survivors

    def _keep(self, speculation: Speculation) -> None:
        if speculation.block_hash not in self._blocks:
            self._blocks[speculation.block_hash] = speculation
            self._count(speculation, 1)

    def _count(self, speculation: Speculation, change: int) -> None:
        for entry in speculation.entries:
            count = self._proposed.get(entry.id, 0) + change
            if count:
                self._proposed[entry.id] = count
            else:
                del self._proposed[entry.id]

    def _ancestry(self, block: bytes) -> Iterator[Speculation]:
        speculation = self._blocks.get(block)
        while speculation is not None:
            yield speculation
            speculation = self._blocks.get(speculation.header.parent)

"""What a whole store is held to: all that is in it by the certified headers, and the ledger by its invariants.

`otcnode db verify`, the simulator and the demo run this; which invariant is which, and what else holds the ledger to
it, is in docs/invariants.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from otcnode.blocks import Entry, Epoch, transactions_root
from otcnode.codec import decode
from otcnode.crypto import verify
from otcnode.engine.evidence import check_kept
from otcnode.errors import DecodeError, Inadmissible, StorageDamage
from otcnode.storage import tools
from otcnode.storage.kv import Reader
from otcnode.storage.progress import Progress, silent
from otcnode.storage.records import StoredReceipts
from otcnode.storage.store import Store
from otcnode.types import ChainId
from otcnode.vm.contracts.checks import signatures_verify
from otcnode.vm.event_index import entries_of
from otcnode.vm.folding import Fold, differences
from otcnode.vm.invariants import check_state
from otcnode.vm.results import AutomaticReceipt, Receipt
from otcnode.vm.state import State
from otcnode.vm.transactions import decode_transaction
from otcnode.vm.view import StateView
from otcnode.vm.violation import Violation


def verified(reader: Reader, chain: ChainId, progress: Progress = silent, first: int | None = None) -> tools.Verified:
    """`tools.verify` with everybody who knows the form of what storage keeps."""

    def check_evidence(name: bytes, raw: bytes, epochs: Mapping[int, Epoch]) -> None:
        check_kept(name, raw, chain, epochs, verify)

    return tools.verify(
        reader, chain, tools.Judges(_transactions_root, _index_entries, check_evidence), progress, first
    )


def _transactions_root(raws: tuple[bytes, ...]) -> tuple[bytes, tuple[bytes, ...]]:
    try:
        decoded = [decode_transaction(raw) for raw in raws]
    except Inadmissible as error:
        raise StorageDamage(f"a stored transaction does not decode: {error}") from None
    entries = [Entry(entry.id, entry.full_hash) for entry in decoded]
    return transactions_root(entries), tuple(entry.id for entry in decoded)


def _index_entries(height: int, stored: StoredReceipts, state: StateView) -> list[tuple[bytes, bytes]]:
    try:
        return entries_of(height, _receipts(stored), state)
    except msgspec.DecodeError as error:
        raise DecodeError(f"a record of the state: {error}") from None


def _receipts(stored: StoredReceipts) -> Iterator[AutomaticReceipt | Receipt]:
    for position, raw in enumerate(stored.receipts):
        yield decode(AutomaticReceipt, raw) if position < stored.automatic_count else decode(Receipt, raw)


def ledger_violations(store: Store, chain: ChainId, progress: Progress = silent) -> list[Violation]:
    """Every violation: of the state at the tip, of the signatures under its contracts and, where all blocks are kept,
    between what their events say and what the state holds. The time is linear in both."""
    found = [*check_state(store.state), *signatures_verify(State(store.state), chain)]
    if store.blocks_first == 1:
        found += differences(_folded(store, progress), store.state)
    return found


def _folded(store: Store, progress: Progress) -> Fold:
    fold = Fold()
    for height in range(1, store.tip.height + 1):
        stored = store.receipts(height)
        assert stored is not None
        for receipt in _receipts(stored):
            fold.add(receipt.events)
        if height % tools.BLOCKS_PER_STEP == 0 or height == store.tip.height:
            progress("events added up", height, store.tip.height)
    return fold

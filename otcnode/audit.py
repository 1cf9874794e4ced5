"""What the ledger of a whole store is held to: every invariant that can be seen from its state and its receipts.

`otcnode db verify`, the simulator and the demo run this; which invariant is which, and what else holds the ledger to
it, is in docs/invariants.md.
"""

from __future__ import annotations

from otcnode.codec import decode
from otcnode.storage.store import Store
from otcnode.types import ChainId
from otcnode.vm.contracts.checks import signatures_verify
from otcnode.vm.folding import Fold, differences
from otcnode.vm.invariants import check_state
from otcnode.vm.results import AutomaticReceipt, Receipt
from otcnode.vm.state import State
from otcnode.vm.violation import Violation


def ledger_violations(store: Store, chain: ChainId, *, events: bool = True) -> list[Violation]:
    """Every violation: of the state at the tip, of the signatures under its contracts and, where all blocks are kept
    and their `events` are asked for, between what those say and what the state holds. The time is linear in both."""
    found = [*check_state(store.state), *signatures_verify(State(store.state), chain)]
    if events and store.blocks_first == 1:
        found += differences(_folded(store), store.state)
    return found


def _folded(store: Store) -> Fold:
    fold = Fold()
    for height in range(1, store.tip.height + 1):
        stored = store.receipts(height)
        assert stored is not None
        for position, raw in enumerate(stored.receipts):
            automatic = position < stored.automatic_count
            fold.add(decode(AutomaticReceipt, raw).events if automatic else decode(Receipt, raw).events)
    return fold

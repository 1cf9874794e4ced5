"""A fixed life, and the roots that it had when they were recorded.

A change of speed changes no byte of a receipt, an event or a record. A change of a rule may; then the roots are
recorded anew, and the commit says which rule it was.
"""

from __future__ import annotations

from copy import deepcopy

from otcnode.merkle import root
from otcnode.storage.kv import MemoryKeyValue
from otcnode.storage.state_tree import StateTree
from otcnode.vm.results import BlockResult
from tests.vm.ledger import DAY_MS
from tests.vm.products.market import MATURITY
from tests.vm.trades.floor import Floor
from tests.vm.trades.test_random_trading import Chooser, ready

SEED = 20
ACTS = 250
BUCKETS = 16
RECEIPTS_ROOT = "e8be1f743e6a41c42ea3f7972bedeb85506fe75bd7ea81f3bd947a0f9450fa5a"
STATE_ROOT = "9de0a786bbb3308b775518cdd58a001925bab3d3a58111f1824bc5fe04bd9024"


def live() -> tuple[list[BlockResult], Floor]:
    """Trading with freezes, suspensions and what is refused, a coupon, a block every so often that only makes time
    pass, and maturity."""
    chooser, floor = Chooser(SEED), deepcopy(ready())
    results = []
    for _ in range(ACTS):
        by, operation = chooser.act(floor)
        at = floor.now + chooser.span()
        results.append(floor.block(floor.sign(by, operation, valid_until=at + 1), at=at))
    maturity = floor.product_terms(floor.note).start_of(MATURITY)
    results += [floor.block(at=at) for at in (maturity, maturity + 1, maturity + 10 * DAY_MS)]
    return results, floor


def state_root(floor: Floor) -> bytes:
    tree = StateTree.load(MemoryKeyValue(), BUCKETS)
    return tree.speculate(floor.view.values).root


def test_a_fixed_life_has_the_roots_it_always_had() -> None:
    results, floor = live()
    codes = {receipt.code for result in results for receipt in result.receipts}
    assert len(codes) > 8, "a life in which nearly all goes well would show little"
    assert root([result.receipts_root() for result in results]).hex() == RECEIPTS_ROOT
    assert state_root(floor).hex() == STATE_ROOT

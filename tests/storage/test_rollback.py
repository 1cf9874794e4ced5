"""A store that is taken back is the store it was, entry by entry."""

from __future__ import annotations

import pytest

from otcnode.errors import ConfigurationError, StorageDamage
from otcnode.storage import rollback as rollbacks
from otcnode.storage.faulty import FaultKind, FaultyKeyValue, SimulatedCrash
from otcnode.storage.kv import KeyValue, MemoryKeyValue
from otcnode.storage.progress import Progress, silent
from otcnode.storage.pruning import prune
from otcnode.storage.schema import Table, height_key, terminated
from otcnode.storage.tools import verify
from tests.storage.chain import CHAIN, create, expected_state, reopen
from tests.storage.test_pruning import SECOND, grow
from tests.storage.test_tools import ROOTS

HEIGHT = 25


def rollback(kv: KeyValue, chain: bytes, height: int, progress: Progress = silent) -> list[str]:
    """What was done before the first write."""
    said: list[str] = []
    rollbacks.rollback(kv, chain, height, lambda: said.append("prepared"), progress)
    return said


def chain(height: int = HEIGHT) -> MemoryKeyValue:
    kv = MemoryKeyValue()
    grow(create(kv), height)
    return kv


@pytest.mark.parametrize("height", [0, 1, SECOND.number - 2, SECOND.number - 1, SECOND.number, HEIGHT - 1, HEIGHT])
def test_a_rollback_leaves_exactly_the_store_of_that_height(height: int) -> None:
    kv = chain()
    assert rollback(kv, CHAIN, height) == (["prepared"] if height < HEIGHT else [])
    assert list(kv.scan(b"")) == list(chain(height).scan(b""))


def test_a_chain_goes_on_from_where_it_was_taken_back_to() -> None:
    kv = chain()
    rollback(kv, CHAIN, 7)
    grow(reopen(kv), HEIGHT)
    assert list(kv.scan(b"")) == list(chain().scan(b""))


def test_it_says_how_far_it_is_and_stops_where_the_history_ends() -> None:
    kv = chain()
    prune(kv, CHAIN, 10)
    told: list[tuple[str, int, int]] = []
    for wrong in (HEIGHT - 11, HEIGHT + 1, -1):
        with pytest.raises(ConfigurationError, match="taken back to heights 15 to 25"):
            rollbacks.rollback(kv, CHAIN, wrong, lambda: pytest.fail("nothing may be done"))
    rollback(kv, CHAIN, 15, lambda *step: told.append(step))
    assert told == [("blocks taken back", step, 10) for step in range(1, 11)]
    assert dict(reopen(kv).state.scan(b"")) == expected_state(15)
    assert verify(kv, CHAIN, ROOTS).blocks_first == 16


def test_a_rollback_that_is_cut_short_is_at_a_committed_height_and_goes_on() -> None:
    for count in range(1, 6):
        for kind in (FaultKind.CRASH_BEFORE, FaultKind.CRASH_AFTER, FaultKind.TORN):
            kv = FaultyKeyValue()
            grow(create(kv), 12)
            kv.arm(kind, count)
            with pytest.raises(SimulatedCrash):
                rollback(kv, CHAIN, 7)
            kv.reopen()
            reached = 12 - count + (kind is not FaultKind.CRASH_AFTER)
            assert verify(kv, CHAIN, ROOTS).height == reached
            assert dict(reopen(kv).state.scan(b"")) == expected_state(reached)
            rollback(kv, CHAIN, 7)
            assert list(kv.scan(b"")) == list(chain(7).scan(b""))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (Table.HISTORY.value + terminated(b"new/22") + (22).to_bytes(8, "big"), None),
        (Table.HISTORY.value + terminated(b"new/22") + (22).to_bytes(8, "big"), b"\x01another"),
        (height_key(Table.TOUCHED, 22), None),
    ],
)
def test_a_damaged_history_is_found_before_anything_of_its_block_is_written(key: bytes, value: bytes | None) -> None:
    kv = chain()
    kv.write([(key, value)])
    with pytest.raises(StorageDamage, match="the history of block 22"):
        rollback(kv, CHAIN, 10)
    store = reopen(kv)
    assert store.tip.height == 22
    assert dict(store.state.scan(b"")) == expected_state(22)

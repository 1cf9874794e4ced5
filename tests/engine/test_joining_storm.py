"""Joining in storms: whatever is lost, lies or dies, the joiner arrives, and never stands anywhere but on the chain.

The storm is itself tested: each planted bug must be found within a few seeds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

import pytest

from otcnode import epochs, limits
from otcnode.blocks import Epoch
from otcnode.epochs import EpochChange, ProvenEpochs
from otcnode.snapshot import Chunk, Leaf
from otcnode.storage import incoming
from otcnode.storage.incoming import Incoming
from otcnode.storage.kv import Reader
from otcnode.storage.state_proof import key_hash, value_hash
from tests.engine.joining_storm import GROWN, BrokenPromise, Storm

SEEDS = 6
MUTANT_SEEDS = 100
MANIFEST_NEVER_CAME = 1_056
"""A seed in which the only one that was asked for the manifest was gone before it answered."""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "snapshot_chunk_bytes", 400)


def test_a_joiner_arrives_in_every_storm() -> None:
    marks: Counter[str] = Counter()
    for seed in (*range(SEEDS), MANIFEST_NEVER_CAME):
        outcome = Storm(seed).run()
        assert outcome.height > GROWN
        marks += outcome.marks
    assert {"installed", "resumed", "lies", "banned", "lost", "between two events"} <= set(marks)


def test_the_same_seed_is_the_same_storm() -> None:
    assert Storm(3).run() == Storm(3).run()


@pytest.mark.long
def test_a_joiner_arrives_in_many_storms() -> None:
    marks: Counter[str] = Counter()
    for seed in range(1_000, 1_300):
        marks += Storm(seed).run().marks
    assert marks["in a write"] > 20 and marks["installed"] > 250


# ---- planted bugs


def chunk_without_proof() -> AbstractContextManager[Any]:
    """Chunks are kept whatever they are proven by."""

    def check_chunk(chunk: Chunk, index: int, *_: object) -> list[Leaf]:
        return [(key_hash(key), value_hash(value)) for key, value in chunk.pairs]

    return patch.object(incoming, "check_chunk", check_chunk)


def history_unchecked() -> AbstractContextManager[Any]:
    """Changes of the validators are believed."""

    def extend(self: ProvenEpochs, change: EpochChange) -> Epoch:
        self._epochs.append(change.epoch)
        return change.epoch

    return patch.object(ProvenEpochs, "extend", extend)


def uncertified_height() -> AbstractContextManager[Any]:
    """A header needs no certificate."""
    return patch.object(epochs, "check_certificate", lambda *_: None)


def installed_before_it_is_whole() -> AbstractContextManager[Any]:
    """A store in which a snapshot is being gathered passes for a chain."""
    right = incoming.finished

    def finished(kv: Reader) -> bool:
        return right(kv) or incoming.begun(kv) is not None

    return patch.object(incoming, "finished", finished)


@contextmanager
def noted_before_it_is_kept() -> Iterator[None]:
    """A chunk is noted in one write and kept in another one."""
    right = Incoming.put

    def put(self: Incoming, index: int, chunk: Chunk) -> int:
        self._kv.write([(incoming._mark(index), b"")])
        return right(self, index, chunk)

    with patch.object(Incoming, "put", put):
        yield


MUTANTS = (
    chunk_without_proof,
    history_unchecked,
    uncertified_height,
    installed_before_it_is_whole,
    pytest.param(noted_before_it_is_kept, marks=pytest.mark.long),
)


@pytest.mark.parametrize("plant", MUTANTS, ids=lambda plant: getattr(plant, "__name__", None))
def test_a_planted_bug_is_found(plant: Callable[[], AbstractContextManager[Any]]) -> None:
    with plant():
        for seed in range(MUTANT_SEEDS):
            try:
                Storm(seed).run()
            except BrokenPromise:
                break
        else:
            pytest.fail(f"not found in {MUTANT_SEEDS} seeds")
    Storm(seed).run()

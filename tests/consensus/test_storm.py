"""Storms break nothing; with one rule of a view change left out, some storm or the one right story breaks a promise."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from otcnode.blocks import block_hash
from otcnode.consensus import record, view_change
from otcnode.consensus.core import Core
from otcnode.consensus.messages import Commit, Decision, Message, NewView, Prepare, Proof, ViewChange
from otcnode.consensus.record import RecordEntry
from otcnode.consensus.state import State
from tests.consensus.cluster import Cluster, Node, Violation
from tests.consensus.storm import storm


@pytest.mark.parametrize("first", range(0, 12, 4))
def test_storms_break_nothing(first: int) -> None:
    for seed in range(first, first + 4):
        storm(seed)


@pytest.mark.long
@pytest.mark.parametrize("first", range(1_000, 4_000, 50))
def test_many_more_storms(first: int) -> None:
    for seed in range(first, first + 50):
        storm(seed)


def _unsaved(*kinds: type) -> Callable[[Core, RecordEntry], None]:
    right = Core.save

    def save(core: Core, entry: RecordEntry) -> None:
        if not isinstance(entry, kinds):
            right(core, entry)

    return save


@pytest.mark.parametrize("kind", [record.Proved, record.Accepted, record.Asked], ids=["proof", "proposal", "asked"])
def test_finds_what_is_not_written(monkeypatch: pytest.MonkeyPatch, kind: type) -> None:
    """More than every second storm does; which ones is chance."""
    monkeypatch.setattr(Core, "save", _unsaved(kind))
    with pytest.raises((Violation, AssertionError)):
        for seed in range(10):
            storm(seed)


def test_finds_votes_on_a_parent_that_is_not_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(State, "parent_is_final", lambda _state, _height: True)
    with pytest.raises(Violation):
        storm(6)


def _proofs_of_two_views_and_one_commit() -> Cluster:
    """Node 0 alone prepares block A in view 0. Without it the others prepare B in view 1; node 1 alone commits it and
    is gone. Node 0 is back: view 2 opens with A's proof of view 0 and B's of view 1."""
    cluster = Cluster(4)

    def hears(_sender: Node, receiver: Node, message: Message) -> list[int]:
        match message:
            case Prepare(view=0):
                return [1] if receiver.index == 0 else []
            case Commit(view=0):
                return []
            case Commit(view=1) | Decision():
                return [1] if receiver.index == 1 else []
            case NewView(view=1):
                return [] if receiver.index == 0 else [1]
            case _:
                return [1]

    cluster.route = hears
    cluster.sync_works = False
    cluster.start()
    cluster.advance(600)
    cluster.submit(b"a")
    cluster.advance(50)
    assert [1 in _state(node).proofs for node in cluster.nodes] == [True, False, False, False]
    cluster.isolate(0)
    for node in cluster.nodes[1:]:
        node.pool.clear()
        node.submit(b"b")
    assert cluster.advance_until(lambda: cluster.heights()[1] == 1, 20_000)
    assert cluster.heights() == [0, 1, 0, 0] and _state(cluster.nodes[2]).proofs[1].view == 1
    cluster.heal()
    cluster.isolate(1)
    assert cluster.advance_until(lambda: min(cluster.heights()) == 1, 60_000)
    return cluster


def _state(node: Node) -> State:
    assert node.replica is not None
    return node.replica.state


def test_a_block_that_one_alone_has_committed_outlives_an_older_proof() -> None:
    cluster = _proofs_of_two_views_and_one_commit()
    assert cluster.states_equal() and cluster.nodes[0].disk.chain[0][1] == (b"b",)


def test_the_proof_of_the_lower_view_would_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    def lowest(messages: Sequence[ViewChange], height: int) -> Proof | None:
        proofs = [proof for message in messages for proof in message.proofs if proof.header.height == height]
        return min(proofs, key=lambda proof: (proof.view, block_hash(proof.header)), default=None)

    monkeypatch.setattr(view_change, "_best_proof", lowest)
    with pytest.raises(Violation, match="two blocks"):
        _proofs_of_two_views_and_one_commit()

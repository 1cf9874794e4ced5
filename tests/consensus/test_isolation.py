"""One honest validator that hears a liar alone: how far the liar moves it, and that it comes back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from otcnode.consensus.explain import Cause
from otcnode.consensus.messages import Message, Status, ViewChange, view_change_preimage
from otcnode.consensus.state import State
from tests.consensus.answers import explained
from tests.consensus.cluster import Cluster, Node
from tests.consensus.toy import CHAIN, fake_sign

LIAR, ALONE = 3, 2


def _view_change(node: Node, view: int) -> ViewChange:
    plain = ViewChange(1, view, 0, None, (), node.name, bytes(64))
    return ViewChange(1, view, 0, None, (), node.name, fake_sign(node.name, view_change_preimage(CHAIN, plain)))


def _view(cluster: Cluster, index: int) -> int:
    replica = cluster.nodes[index].replica
    assert replica is not None
    return replica.state.view


def _alone() -> Cluster:
    """The liar votes for nothing and says to node 2 alone that it is there; a transaction waits everywhere."""
    cluster = Cluster(4)
    cluster.liars.add(LIAR)
    liar = cluster.nodes[LIAR]

    def lie(sender: Node, _receiver: Node, message: Message) -> Message | None:
        return message if sender is not liar or isinstance(message, Status) else None

    cluster.on_send = lie
    cluster.start()
    cluster.advance(600)
    cluster.isolate(ALONE)
    cluster.cut -= {(LIAR, ALONE), (ALONE, LIAR)}
    cluster.advance(5_000)
    cluster.submit(b"a")
    cluster.advance(1_000)
    return cluster


def _asks(cluster: Cluster, views: Callable[[int], int]) -> None:
    """The liar asks for ever higher views, so long that many timers could have run out."""
    for number in range(100):
        asked = _view_change(cluster.nodes[LIAR], views(number))
        cluster.inject(LIAR, ALONE, asked)
        cluster.advance(1_000)


def _goes_on(cluster: Cluster) -> bool:
    cluster.heal()
    return cluster.advance_until(lambda: min(cluster.heights()[:LIAR]) == 1, 30_000)


def test_a_liar_in_a_far_view_does_not_make_a_quorum() -> None:
    cluster = _alone()
    _asks(cluster, lambda number: 10**9 + number)
    assert _view(cluster, ALONE) == 0
    assert Cause.TIMER_HELD in [reason.cause for reason in explained(cluster.nodes[ALONE]).causes]
    assert _goes_on(cluster)


def test_a_liar_moves_who_hears_it_alone_by_one_view_and_no_further_and_it_comes_back() -> None:
    cluster = _alone()
    _asks(cluster, lambda number: 1 + number // 10)
    assert _view(cluster, ALONE) == 1
    assert _goes_on(cluster)
    replica = cluster.nodes[ALONE].replica
    assert replica is not None and replica.state.timeout_steps <= 1


def test_who_counts_whatever_anybody_asks_for_is_moved_by_a_far_view(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted bug."""
    right = State.hears

    def hears(state: State, count: int) -> bool:
        far = any(message.view > state.view for name, message in state.view_changes.items() if name != state.own)
        return far or right(state, count)

    monkeypatch.setattr(State, "hears", hears)
    cluster = _alone()
    _asks(cluster, lambda number: 10**9 + number)
    assert _view(cluster, ALONE) == 1

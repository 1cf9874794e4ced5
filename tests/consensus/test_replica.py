"""The replica in small clusters: the normal case and the change of views."""

from __future__ import annotations

import pytest

from tests.consensus.cluster import Cluster


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7])
def test_commits_in_the_normal_case(count: int) -> None:
    cluster = Cluster(count)
    cluster.start()
    for index in range(20):
        cluster.submit(f"transaction {index}".encode())
    cluster.advance(1_000)
    assert cluster.states_equal()
    assert all(len(node.tip_state().seen) == 20 for node in cluster.nodes)
    assert cluster.time_ms == 1_000 and all(node.replica.state.view == 0 for node in cluster.nodes if node.replica)


@pytest.mark.parametrize("count", [4, 5, 6, 7])
def test_a_dead_primary_is_replaced(count: int) -> None:
    cluster = Cluster(count)
    cluster.start()
    cluster.submit(b"first")
    cluster.advance(500)
    cluster.nodes[0].crash()
    cluster.submit(b"second")
    cluster.advance(4_000)
    living = cluster.nodes[1:]
    assert all(b"second" in node.tip_state().seen for node in living)
    assert all(node.replica is not None and node.replica.state.view == 1 for node in living)
    cluster.nodes[0].start()
    cluster.advance(3_000)
    assert cluster.states_equal()

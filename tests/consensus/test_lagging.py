"""A replica that gets some of its blocks from block sync, again and again, as one on a slow link does."""

from __future__ import annotations

from otcnode import limits
from tests.consensus.cluster import Cluster


def test_what_is_remembered_of_committed_heights_does_not_grow_whoever_brought_them() -> None:
    """Consensus decides 2 heights here, sync brings the next 20, and so on."""
    cluster = Cluster(4)
    cluster.start()
    slow = cluster.nodes[3]
    most = 0
    for turn in range(6):
        for cut in (True, False):
            if cut:
                cluster.isolate(3)
            for number in range(20 if cut else 2):
                for node in cluster.nodes:
                    node.submit(b"%d %d %d" % (turn, cut, number))
                cluster.advance(20)
            cluster.heal()
            cluster.advance(3_000)
        assert slow.tip_state().height == cluster.nodes[0].tip_state().height
        assert slow.replica is not None
        remembered = slow.replica.state.committed_ms
        most = max(most, len(remembered))
        assert min(remembered) > slow.tip_state().height - limits.commit_times_kept
    assert most == limits.commit_times_kept

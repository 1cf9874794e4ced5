"""What a replica says of itself where no script can put it: as data as well as in words."""

from __future__ import annotations

from otcnode.consensus import record
from otcnode.consensus.events import Complaint
from otcnode.consensus.explain import Cause, Explanation
from tests.consensus.cluster import Cluster, Node


def _explain(node: Node) -> Explanation:
    assert node.replica is not None
    return node.replica.explain(node.now())


def _causes(node: Node) -> list[Cause]:
    return [reason.cause for reason in _explain(node).causes]


def test_halted_is_the_first_cause() -> None:
    cluster = Cluster(4)
    cluster.start()
    cluster.advance(600)
    node = cluster.nodes[3]
    right = node.execute
    node.execute = lambda header, bodies: right(header, (*bodies, b"a fault of this node"))  # type: ignore[method-assign]
    cluster.submit(b"a")
    cluster.advance(3_000)
    explained = _explain(node)
    assert explained.causes[0].cause is Cause.HALTED
    assert "certified block 1 executes differently here" in explained.reasons[0]
    assert cluster.heights()[:3] == [1, 1, 1]


def test_a_record_ahead_of_its_store_is_named_with_the_height_that_is_missing() -> None:
    cluster = Cluster(4)
    cluster.start()
    cluster.submit(b"a")
    cluster.advance(600)
    node = cluster.nodes[3]
    node.crash()
    node.disk.chain.clear()
    cluster.isolate(3)
    node.start()
    cluster.advance(3_000)
    held_back = [reason for reason in _explain(node).causes if reason.cause is Cause.HELD_BACK]
    assert [reason.height for reason in held_back] == [1] and node.disk.record is not None
    assert record.read(node.disk.record) is not None


def test_a_complaint_about_the_primary_is_told_with_its_reason_and_costs_no_patience() -> None:
    cluster = Cluster(4)
    cluster.start()
    cluster.advance(600)
    node = cluster.nodes[2]
    node.feed(Complaint(1, 0, "transaction abc is overdue"))
    asked = [reason for reason in _explain(node).causes if reason.cause is Cause.ASKED]
    assert [reason.text for reason in asked] == ["asked for view 1: transaction abc is overdue"]
    assert node.replica is not None and node.replica.state.timeout_steps == 0
    missing = [reason for reason in _explain(node).causes if reason.cause is Cause.ASKING]
    assert missing[0].missing == 2 and len(missing[0].nodes) == 3
    cluster.nodes[1].feed(Complaint(1, 0, "transaction abc is overdue"))
    cluster.advance(1_000)
    assert [node.replica.state.view for node in cluster.nodes if node.replica is not None] == [1] * 4


def test_a_complaint_about_another_view_or_by_who_hears_nobody_changes_nothing() -> None:
    cluster = Cluster(4)
    cluster.start()
    cluster.advance(600)
    node = cluster.nodes[2]
    node.feed(Complaint(1, 7, "of another view"))
    node.feed(Complaint(9, 0, "of another epoch"))
    cluster.nodes[0].feed(Complaint(1, 0, "of the primary about itself"))
    cluster.isolate(3)
    cluster.advance(5_000)
    cluster.nodes[3].feed(Complaint(1, 0, "hears nobody"))
    assert [node.replica.state.view for node in cluster.nodes if node.replica is not None] == [0] * 4


def test_who_is_behind_says_behind_whom() -> None:
    cluster = Cluster(4)
    cluster.sync_works = False
    cluster.start()
    cluster.isolate(3)
    for name in (b"a", b"b"):
        cluster.submit(name)
        cluster.advance(1_000)
    cluster.heal()
    cluster.nodes[3].crash()
    cluster.nodes[3].start()
    cluster.advance(150)
    assert Cause.BEHIND in _causes(cluster.nodes[3])

"""A block is no larger than this node executes in a quarter of the view timeout."""

from __future__ import annotations

from otcnode.consensus import effects
from otcnode.consensus.events import Built
from otcnode.consensus.execution_pace import ExecutionPace
from otcnode.genesis import ChainParameters
from tests.consensus.cluster import Cluster, Node


def test_how_many_are_executed_in_a_time() -> None:
    pace = ExecutionPace()
    assert pace.most_within(500) is None
    pace.note(100, 50)
    assert pace.most_within(500) == 1_000
    pace.note(0, 900)
    pace.note(100, None)
    assert pace.most_within(500) == 1_000
    pace.note(10, 60_000)
    assert pace.most_within(500) == 1


def test_what_was_lately_counts_more_and_one_slow_block_is_forgotten() -> None:
    pace = ExecutionPace()
    pace.note(1_000, 100)
    pace.note(1_000, 4_000)
    slow = pace.most_within(500)
    assert slow is not None and slow < 250
    for _ in range(12):
        pace.note(200, 20)
    fast = pace.most_within(500)
    assert fast is not None and fast > 4_000


def test_a_primary_that_executes_slowly_asks_for_smaller_blocks_and_its_view_does_not_fail() -> None:
    """50 ms a transaction: the 40 that wait would take as long as the view timeout."""
    cluster = Cluster(4, parameters=ChainParameters(heartbeat_real_ms=3_600_000, block_transactions_max=64, window=1))
    asked: list[int] = []
    right = Node.build

    def build(node: Node, request: effects.Build) -> None:
        feed = node.feed

        def timed(event: object) -> None:
            if isinstance(event, Built) and event.header is not None:
                asked.append(request.transactions_max)
                took_ms = 50 * event.header.transaction_count
                event = Built(event.request, event.header, event.entries, event.bodies, event.next_epoch, took_ms)
                cluster.at(took_ms, lambda: feed(event))
            else:
                feed(event)  # type: ignore[arg-type]

        node.feed = timed  # type: ignore[method-assign, assignment]
        try:
            right(node, request)
        finally:
            node.feed = feed  # type: ignore[method-assign]

    for node in cluster.nodes:
        node.build = lambda request, node=node: build(node, request)  # type: ignore[method-assign, misc]
    cluster.start()
    cluster.advance(600)
    cluster.submit(b"first")
    cluster.advance(200)
    for number in range(40):
        cluster.submit(b"%d" % number)
    cluster.advance(6_000)
    assert asked[0] == 64 and set(asked[1:]) <= {9, 10}
    assert {node.replica.state.view for node in cluster.nodes if node.replica is not None} == {0}
    assert min(cluster.heights()) >= 5

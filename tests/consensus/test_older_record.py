"""A record that is older than what its key has signed, put back with its blocks or without, signs nothing.

An image of a machine or a copy of a directory brings one back whole: nothing of it looks damaged.
"""

from __future__ import annotations

import pytest

from otcnode.blocks import Certificate, Header
from otcnode.consensus import effects
from otcnode.consensus.evidence import Kind
from otcnode.consensus.messages import Commit, Message, Mode, Prepare, PrePrepare
from otcnode.consensus.replica import Replica
from otcnode.genesis import ChainParameters
from tests.consensus.cluster import Cluster, Crash, Node, Violation, commit_of
from tests.consensus.toy import ToyState

Image = tuple[list[tuple[Header, tuple[bytes, ...], Certificate, ToyState]], list[bytes] | None]


def _replica(node: Node) -> Replica:
    assert node.replica is not None
    return node.replica


def _cluster(blocks: int, *liars: int, window: int = 4) -> Cluster:
    cluster = Cluster(4, parameters=ChainParameters(heartbeat_real_ms=3_600_000, window=window))
    cluster.liars = set(liars)
    cluster.start()
    cluster.advance(600)
    _decide(cluster, range(blocks))
    return cluster


def _decide(cluster: Cluster, numbers: range) -> None:
    for number in numbers:
        for node in cluster.nodes:
            if node.replica is not None:
                node.submit(b"%d" % number)
        cluster.advance(60)


def _image(node: Node) -> Image:
    node.disk.sync()
    return list(node.disk.chain), None if node.disk.record is None else list(node.disk.record)


def _moved_on() -> tuple[Cluster, Node, Image]:
    """A cluster, one of its nodes, and the image of that one from before it signed the last blocks."""
    cluster = _cluster(5)
    node = cluster.nodes[3]
    image = _image(node)
    cluster.isolate(2)
    _decide(cluster, range(5, 9))
    cluster.heal()
    cluster.advance(3_000)
    return cluster, node, image


def _put_back(node: Node, image: Image, *, blocks: bool = True) -> None:
    node.crash()
    node.disk.record = image[1]
    if blocks:
        node.disk.chain = list(image[0])
    node.pool.clear()


@pytest.mark.parametrize("blocks", [3, 120])
def test_a_directory_as_it_was_some_blocks_ago_does_not_vote_once_it_has_seen_its_own_commits(blocks: int) -> None:
    cluster = _cluster(5)
    node = cluster.nodes[3]
    image = _image(node)
    cluster.isolate(2)
    _decide(cluster, range(5, 5 + blocks))
    cluster.heal()
    cluster.advance(3_000)
    said: list[Message] = []

    def hear(sender: Node, _receiver: Node, message: Message) -> Message:
        if sender is node and isinstance(message, PrePrepare | Prepare | Commit):
            said.append(message)
        return message

    cluster.on_send = hear
    _put_back(node, image)
    node.start()
    cluster.advance(2_000)
    assert node.tip_state().height == max(cluster.heights())
    assert _replica(node).mode is Mode.SILENT and "that its record lacks" in node.alarms[0]
    _decide(cluster, range(900, 905))
    assert said == []
    cluster.advance(60_000)
    assert _replica(node).mode is Mode.ACTIVE, "it wakes as after a loss"


def test_with_a_liar_it_makes_no_fork() -> None:
    """The liar forgets on purpose what the two had committed with a third, who is cut off; a fourth knows nothing."""
    cluster = _cluster(5, 0)
    liar, apart, node = cluster.nodes[0], cluster.nodes[1], cluster.nodes[3]
    image = _image(node)
    _decide(cluster, range(5, 125))
    liars_image = _image(liar)
    cluster.isolate(2)
    cluster.advance(30)
    _decide(cluster, range(500, 501))
    assert apart.tip_state().height == node.tip_state().height == 126
    cluster.heal()
    cluster.isolate(1)
    _put_back(node, image)
    _put_back(liar, liars_image)
    cluster.nodes[2].pool.clear()
    node.start()
    liar.start()
    cluster.advance(600)
    for other in (liar, cluster.nodes[2], node):
        other.submit(b"another")
    cluster.advance(3_000)
    assert _replica(node).mode is Mode.SILENT
    assert cluster.heights()[2] == 125


def test_an_older_record_beside_the_blocks_of_now_does_not_vote() -> None:
    _, node, image = _moved_on()
    _put_back(node, image, blocks=False)
    node.start()
    assert _replica(node).mode is Mode.SILENT
    node.crash()
    node.start()
    assert _replica(node).mode is Mode.SILENT, "that is written down"


def test_where_the_operator_answers_for_it_only_later_views_are_used() -> None:
    cluster, node, image = _moved_on()
    for blocks in (False, True):
        _put_back(node, image, blocks=blocks)
        node.vote_again = True
        node.start()
        cluster.advance(2_000)
        assert _replica(node).mode is Mode.ACTIVE and _replica(node).state.view_first == 1


def test_a_record_written_anew_in_a_stall_after_a_restart_says_which_block_is_durable() -> None:
    """The process ends between the write of a block and the record's word of it; then views follow each other, and the
    record is compacted, without the votes for that block; then it ends again."""
    cluster = _cluster(5)
    cluster.records_are_whole = True
    node = cluster.nodes[3]

    def dies(other: Node, effect: effects.Effect) -> None:
        if other is node and isinstance(effect, effects.Save | effects.Compact) and node.tip_state().height == 6:
            raise Crash

    cluster.on_effect = dies
    _decide(cluster, range(5, 6))
    assert node.replica is None and node.tip_state().height == 6
    cluster.on_effect = None
    node.record_bytes = 1
    for other in cluster.nodes[:2]:
        other.crash()
    node.start()
    node.submit(b"waits")
    cluster.advance_until(lambda: _replica(node).state.view > 0, 20_000)
    node.crash()
    node.start()
    assert _replica(node).mode is not Mode.SILENT and node.alarms == []


@pytest.mark.parametrize("record_bytes", [1, 1 << 20])
def test_whoever_is_killed_ahead_of_any_effect_does_not_doubt_its_record(record_bytes: int) -> None:
    """At every instant of three blocks; some of these come back to it by block sync."""
    instants = 0
    while True:
        cluster = Cluster(4)
        cluster.records_are_whole = True
        node = cluster.nodes[3]
        node.record_bytes = record_bytes
        cluster.start()
        cluster.advance(600)
        left = [instants]

        def dies(other: Node, effect: effects.Effect, node: Node = node, left: list[int] = left) -> None:
            if other is node:
                left[0] -= 1
                if left[0] == 0:
                    raise Crash

        cluster.on_effect = dies
        _decide(cluster, range(3))
        if left[0] > 0:
            break
        if node.replica is None:
            if instants % 2:
                _decide(cluster, range(3, 5))
            node.start()
        cluster.advance(2_000)
        assert _replica(node).mode is not Mode.SILENT
        assert node.tip_state().height >= 3
        instants += 1
    assert instants > 30


def test_two_commits_of_one_validator_are_seen_where_the_second_comes_in_a_synced_block() -> None:
    cluster = _cluster(2, 0)
    node = cluster.nodes[3]
    cluster.isolate(3)
    _decide(cluster, range(2, 3))
    certificate = cluster.nodes[1].disk.chain[2][2]
    liar = next(entry.validator for entry in certificate.signatures if entry.validator == cluster.nodes[0].name)
    cluster.inject(0, 3, commit_of(liar, certificate.epoch, certificate.view, 3, bytes(32)))
    cluster.heal()
    cluster.sync(node, cluster.nodes[1].name)
    cluster.advance(10)
    assert [accusation.offence.kind for accusation in node.accusations] == [Kind.DOUBLE_COMMIT]


def test_a_checker_of_these_tests_sees_a_record_doubted() -> None:
    cluster = _cluster(5)
    cluster.records_are_whole = True
    node = cluster.nodes[3]
    image = _image(node)
    cluster.isolate(2)
    _decide(cluster, range(5, 8))
    _put_back(node, image, blocks=False)
    with pytest.raises(Violation):
        node.start()

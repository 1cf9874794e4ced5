"""Rules that other rules mostly cover: each in the one situation where it alone stands between a replica and harm."""

from __future__ import annotations

from otcnode import limits
from otcnode.consensus import effects
from otcnode.consensus.certificates import proof_from
from otcnode.consensus.messages import Commit, Decision, Message, Mode, NewView, Prepare
from otcnode.consensus.replica import Replica
from otcnode.consensus.votes import Vote, VoteBook
from otcnode.genesis import ChainParameters
from tests.consensus.cluster import Cluster, Crash, Node, pre_prepare_of, prepare_of
from tests.consensus.toy import CHANGE, ToyState, execute, first_state


def _replica(node: Node) -> Replica:
    assert node.replica is not None
    return node.replica


def _prepares(cluster: Cluster) -> list[tuple[int, int, int]]:
    """(node, view, height) of every PREPARE broadcast from now on."""
    seen: list[tuple[int, int, int]] = []

    def watch(node: Node, effect: effects.Effect) -> None:
        if isinstance(effect, effects.Broadcast) and isinstance(effect.message, Prepare):
            seen.append((node.index, effect.message.view, effect.message.height))

    cluster.on_effect = watch
    return seen


def test_a_parent_prepared_in_an_earlier_view_is_not_enough_for_a_vote_in_this_one() -> None:
    cluster = Cluster(4)

    def lose(_sender: Node, _receiver: Node, message: Message) -> list[int]:
        again = isinstance(message, Prepare) and (message.view, message.height) == (1, 1)
        return [] if again or isinstance(message, Commit | Decision) else [1]

    cluster.route = lose
    cluster.start()
    cluster.submit(b"a")
    cluster.advance(600)
    cluster.nodes[0].crash()
    assert cluster.advance_until(lambda: all(_replica(node).state.view == 1 for node in cluster.nodes[1:]), 10_000)
    seen = _prepares(cluster)
    cluster.submit(b"b")
    cluster.advance(1_000)
    states = [_replica(node).state for node in cluster.nodes[2:]]
    assert all(state.view == 1 and state.proofs[1].view == 0 and 2 in state.accepted for state in states)
    assert not any((view, height) == (1, 2) for _, view, height in seen)


def _epoch_end_in_flight(members: list[int]) -> tuple[Cluster, list[ToyState]]:
    """Height 1 changes the validators from height 3 on; height 2, the last of the epoch, is accepted but stays open.
    Node 0, the primary, lies from then on."""
    cluster = Cluster(4)
    cluster.route = lambda _s, _r, message: (
        [] if isinstance(message, Commit | Decision) and cluster.nodes[1].tip_state().height >= 1 else [1]
    )
    cluster.start()
    cluster.advance(600)
    cluster.submit(CHANGE + b"".join(sorted(cluster.nodes[index].name for index in members)))
    cluster.advance_until(lambda: cluster.heights() == [1] * 4, 1_000)
    cluster.submit(b"last of the epoch")
    cluster.advance(100)
    last = cluster.nodes[0].flight[_replica(cluster.nodes[1]).state.accepted[2]][2]
    cluster.liars.add(0)
    header, state = execute(last, (), last.time_ms + 1, cluster.nodes[0].name)
    for receiver in (1, 2, 3):
        cluster.inject(0, receiver, pre_prepare_of(cluster.nodes[0].name, 1, 0, header, ()))
    return cluster, [last, state]


def test_nothing_above_the_last_block_of_an_epoch_is_accepted_before_it_is_committed() -> None:
    cluster, _ = _epoch_end_in_flight([0, 1, 2])
    state = _replica(cluster.nodes[1]).state
    assert 3 not in state.accepted and state.refusals[3] == "the block below ends the epoch and is not committed"


def test_nor_voted_for_where_the_new_epoch_has_the_same_validators() -> None:
    cluster, (last, _) = _epoch_end_in_flight([0, 1, 2, 3])
    assert last.epoch.number == 3 and last.epoch.validators == cluster.genesis.epoch.validators
    cluster.advance(1_000)
    for node in cluster.nodes[1:]:
        assert 3 not in {height for _, height in _replica(node).state.own_prepares}


def test_votes_of_a_quorum_without_the_primary_are_no_proof() -> None:
    names = tuple(bytes([letter]) * 32 for letter in b"ABCD")
    genesis = first_state(names, ChainParameters().consensus)
    header, state = execute(genesis, (), genesis.time_ms + 1, names[0])
    book = VoteBook()
    for name in names[1:]:
        vote = prepare_of(name, 1, 0, 1, state.block_hash)
        book.add(1, name, Vote(0, vote.block_hash, vote.signature), 0)
    assert proof_from(book, genesis.epoch, 0, header, state.block_hash) is None
    vote = prepare_of(names[0], 1, 0, 1, state.block_hash)
    book.add(1, names[0], Vote(0, vote.block_hash, vote.signature), 0)
    found = proof_from(book, genesis.epoch, 0, header, state.block_hash)
    assert found is not None and [entry.validator for entry in found.signatures] == list(names[:3])


def test_who_asks_for_a_view_alone_asks_for_no_further_one() -> None:
    cluster = Cluster(4)
    cluster.start()
    cluster.nodes[3].submit(b"that only node 3 knows")
    cluster.advance(120_000)
    assert [_replica(node).state.view for node in cluster.nodes] == [0, 0, 0, 1]


def test_who_lost_its_record_signs_nothing_in_the_views_it_may_have_voted_in() -> None:
    cluster = Cluster(4)
    cluster.start()
    cluster.submit(b"a")
    cluster.advance(600)
    node = cluster.nodes[3]
    node.crash()
    node.disk.record = None
    node.start()
    cluster.advance(60_000)
    assert _replica(node).mode is Mode.ACTIVE and _replica(node).state.view == 0
    seen = _prepares(cluster)
    cluster.submit(b"b")
    cluster.advance(300)
    assert {index for index, view, _ in seen if view == 0} == {1, 2}
    cluster.nodes[0].crash()
    cluster.submit(b"c")
    assert cluster.advance_until(lambda: any(index == 3 and view >= 1 for index, view, _ in seen), 60_000)


def test_patience_and_block_size_change_with_failed_views_and_come_back_with_blocks() -> None:
    cluster = Cluster(4, parameters=ChainParameters(heartbeat_real_ms=3_600_000, block_transactions_max=64))
    cluster.start()
    cluster.advance(600)
    cluster.nodes[0].crash()
    cluster.isolate(1)
    cluster.submit(b"a")
    cluster.advance(10_000)
    cluster.heal()
    assert cluster.advance_until(lambda: min(cluster.heights()[1:]) >= 1, 60_000)
    states = [_replica(node).state for node in cluster.nodes[1:]]
    assert max(state.timeout_steps for state in states) >= 1
    assert min(state.transactions_max for state in states) <= 64
    for number in range(60):
        cluster.submit(b"%d" % number)
        cluster.advance(20)
    states = [_replica(node).state for node in cluster.nodes[1:]]
    assert [(state.timeout_steps, state.transactions_max) for state in states] == [(0, 64)] * 3


def test_a_long_stall_costs_no_more_patience_than_a_short_one() -> None:
    """k stays where the view timeout is at its longest: some dozens of blocks after the stall, a dead primary is
    replaced as fast as ever."""
    cluster = Cluster(4)
    stalled = True
    cluster.on_send = lambda _sender, _receiver, message: None if stalled and isinstance(message, NewView) else message
    for node in cluster.nodes[1:]:
        node.start()
    cluster.submit(b"a")
    cluster.advance(240_000)
    assert min(_replica(node).state.view for node in cluster.nodes[1:]) > 7
    stalled = False
    assert cluster.advance_until(lambda: min(cluster.heights()[1:]) >= 1, 120_000)
    for number in range(4 * limits.blocks_per_timeout_step):
        cluster.submit(b"%d" % number)
        cluster.advance(20)
    assert [_replica(node).state.timeout_steps for node in cluster.nodes[1:]] == [0] * 3


def test_a_record_stays_short_also_where_nothing_commits() -> None:
    """View follows view, and each writes what it asked for and was opened with."""
    cluster = Cluster(4)
    for node in cluster.nodes:
        node.record_bytes = 20_000
    cluster.on_send = lambda _sender, _receiver, message: None if isinstance(message, Commit) else message
    cluster.start()
    cluster.submit(b"a")
    longest = 0
    for _ in range(1_000):
        cluster.advance(500)
        longest = max(longest, *(sum(map(len, node.disk.record or ())) for node in cluster.nodes))
    states = [_replica(node).state for node in cluster.nodes]
    assert min(state.view for state in states) > 15 and max(cluster.heights()) == 0
    assert longest < 3 * 20_000


def test_a_turn_that_is_over_ends_also_where_all_stopped_before_they_could_say_so() -> None:
    """Each dies as soon as the block of the rotation height is durable; nothing waits when they are back."""
    cluster = Cluster(4, parameters=ChainParameters(heartbeat_real_ms=3_600_000, rotation_blocks=5))
    cluster.start()
    cluster.advance(600)
    stopped: set[int] = set()

    def stop(node: Node, effect: effects.Effect) -> None:
        after = isinstance(effect, effects.Save | effects.Compact) and node.tip_state().height == 5
        if after and node.index not in stopped:
            stopped.add(node.index)
            raise Crash

    cluster.on_effect = stop
    for number in range(5):
        cluster.submit(b"%d" % number)
        cluster.advance(100)
    assert stopped == {0, 1, 2, 3} and cluster.heights() == [5] * 4
    for node in cluster.nodes:
        node.start()
    cluster.advance(2_000)
    states = [_replica(node).state for node in cluster.nodes]
    assert [(state.view, state.active, state.timeout_steps) for state in states] == [(1, True, 0)] * 4


def test_who_made_the_time_itself_has_no_time_to_wait_for_it() -> None:
    """A primary that gives each block the latest time that others accept, and then waits for it, is replaced."""
    cluster = Cluster(4)
    cluster.start()
    cluster.advance(600)
    cluster.nodes[0].skew_ms = 4_900
    cluster.submit(b"a")
    cluster.advance(200)
    assert cluster.heights() == [1] * 4
    cluster.nodes[0].skew_ms = 0
    cluster.submit(b"b")
    cluster.advance(2_300)
    assert [_replica(node).state.view for node in cluster.nodes] == [1] * 4


def test_a_failed_view_halves_what_the_next_block_may_hold() -> None:
    cluster = Cluster(4, parameters=ChainParameters(heartbeat_real_ms=3_600_000, block_transactions_max=64))
    cluster.route = lambda _s, _r, message: [] if isinstance(message, Prepare) else [1]
    cluster.start()
    cluster.submit(b"a")
    assert cluster.advance_until(lambda: min(_replica(node).state.view for node in cluster.nodes) >= 12, 600_000)
    assert max(_replica(node).state.transactions_max for node in cluster.nodes) < 64
    assert min(_replica(node).state.transactions_max for node in cluster.nodes) >= 1


def _late_timer(read_first: bool) -> Cluster:
    """Node 3 stands still while the others commit; its view timer comes due meanwhile, and is told to it before what
    the sockets hold, or there is nothing to hold."""
    cluster = Cluster(4)
    cluster.start()
    cluster.advance(600)
    cluster.submit(b"a")
    cluster.nodes[3].pause()
    cluster.advance(2_100)
    if not read_first:
        cluster.nodes[3].backlog.clear()
        cluster.sync_works = False
        cluster.route = lambda _s, _r, message: [] if isinstance(message, Commit | Decision) else [1]
    cluster.nodes[3].resume()
    return cluster


def test_who_comes_late_to_its_view_timer_reads_what_came_meanwhile_before_it_gives_up() -> None:
    cluster = _late_timer(read_first=True)
    cluster.advance(1_000)
    assert {_replica(node).state.view for node in cluster.nodes} == {0}
    assert len(set(cluster.heights())) == 1


def test_but_only_once_and_no_longer_than_it_was_late() -> None:
    cluster = _late_timer(read_first=False)
    cluster.advance(50)
    assert _replica(cluster.nodes[3]).state.view == 0
    cluster.advance(100)
    assert _replica(cluster.nodes[3]).state.view == 1

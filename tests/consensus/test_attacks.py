"""What one liar, one loss or one restart tries against a single replica, and why it is in vain."""

from __future__ import annotations

from msgspec.structs import replace

from otcnode import limits
from otcnode.blocks import block_hash
from otcnode.codec import encode
from otcnode.consensus import memory, record
from otcnode.consensus.effects import Sync
from otcnode.consensus.events import Received
from otcnode.consensus.messages import (
    Bodies,
    BodyRequest,
    Commit,
    Decision,
    HeightStatus,
    Message,
    Mode,
    NewView,
    Prepare,
    PrePrepare,
    Status,
    ViewChange,
    status_preimage,
    view_change_preimage,
)
from otcnode.consensus.replica import Replica
from otcnode.genesis import ChainParameters
from tests.consensus.cluster import Cluster, Node, pre_prepare_of, prepare_of
from tests.consensus.toy import CHAIN, entries_of, execute, fake_sign


def _replica(node: Node) -> Replica:
    assert node.replica is not None
    return node.replica


def _views(cluster: Cluster) -> list[int]:
    return [node.replica.state.view if node.replica is not None else -1 for node in cluster.nodes]


def test_a_primary_that_votes_in_later_views_after_an_early_proposal_cannot_stop_a_replica() -> None:
    """Its proposal for view 1 waits; its two later votes displace the one that came with the proposal."""
    cluster = Cluster(4)
    cluster.liars.add(1)
    cluster.start()
    cluster.advance(600)
    liar = cluster.nodes[1].name
    header, _ = execute(cluster.genesis, (b"x",), cluster.nodes[2].now().ledger_ms + 2_000, liar)
    for receiver in (2, 3):
        cluster.inject(1, receiver, pre_prepare_of(liar, 1, 1, header, entries_of((b"x",))))
        for view in (2, 3):
            cluster.inject(1, receiver, prepare_of(liar, 1, view, 1, bytes(32)))
    cluster.isolate(0)
    cluster.submit(b"x")
    assert cluster.advance_until(lambda: min(_views(cluster)[2:]) >= 1, 10_000)
    cluster.advance(1_000)
    cluster.heal()
    assert cluster.advance_until(lambda: min(cluster.heights()[2:]) >= 1, 60_000)


def test_a_primary_that_contradicts_its_own_proposal_again_cannot_stop_a_replica_and_is_seen() -> None:
    """Node 2 lacks the block that view 1 proposes again, and holds another PREPARE of the primary for that place."""
    cluster = Cluster(4)
    cluster.liars.add(1)

    def lose(_sender: Node, receiver: Node, message: Message) -> list[int]:
        in_view_0 = isinstance(message, Commit | Decision) and cluster.time_ms < 3_000
        return [] if in_view_0 or (receiver.index == 2 and isinstance(message, PrePrepare)) else [1]

    cluster.route = lose
    cluster.start()
    cluster.advance(600)
    cluster.submit(b"a")
    cluster.advance(50)
    liar = cluster.nodes[1].name
    cluster.inject(1, 2, prepare_of(liar, 1, 1, 1, bytes(32)))
    cluster.nodes[0].crash()
    assert cluster.advance_until(lambda: _views(cluster)[2] >= 1, 10_000)
    cluster.nodes[0].start()
    assert cluster.advance_until(lambda: cluster.heights()[2] >= 1, 60_000)
    assert [accusation.offence.kind for accusation in cluster.nodes[2].accusations] == ["double PRE-PREPARE"]


def test_a_primary_never_proposes_twice_at_one_place_though_it_restarts_on_another_chain() -> None:
    cluster = Cluster(4)
    cluster.isolate(0)
    cluster.on_send = lambda _sender, receiver, message: (
        None if receiver.index == 0 and isinstance(message, NewView | ViewChange) else message
    )
    cluster.start()
    cluster.advance(600)
    cluster.nodes[0].submit(b"a")
    cluster.advance(5)
    cluster.nodes[0].submit(b"b")
    cluster.advance(5)
    assert sorted(height for _, height in _replica(cluster.nodes[0]).state.own_prepares) == [1, 2]
    for node in cluster.nodes[1:]:
        node.submit(b"c")
    assert cluster.advance_until(lambda: min(cluster.heights()[1:]) == 1, 20_000)
    cluster.nodes[0].crash()
    cluster.nodes[0].start()
    cluster.heal()
    assert cluster.advance_until(lambda: cluster.heights()[0] == 1, 5_000)
    cluster.nodes[0].submit(b"d")
    cluster.advance(1_000)


def test_own_votes_of_long_ago_shown_again_do_not_silence_a_validator() -> None:
    cluster = Cluster(4)
    votes: list[Prepare] = []

    def watch(sender: Node, _receiver: Node, message: Message) -> Message:
        if sender.index == 2 and isinstance(message, Prepare) and message.validator == sender.name:
            votes.append(message)
        return message

    cluster.on_send = watch
    cluster.route = lambda _s, _r, message: [] if isinstance(message, Commit | Decision) else [1]
    cluster.start()
    cluster.submit(b"a")
    assert cluster.advance_until(lambda: min(_views(cluster)) >= 5, 300_000)
    assert len({vote.view for vote in votes}) >= 4
    for vote in votes:
        cluster.inject(1, 2, vote)
    assert _replica(cluster.nodes[2]).mode is not Mode.SILENT
    cluster.nodes[2].crash()
    cluster.nodes[2].start()
    for vote in votes:
        cluster.inject(1, 2, vote)
    assert _replica(cluster.nodes[2]).mode is not Mode.SILENT


def test_a_record_held_back_by_its_floor_is_not_written_to_until_it_holds_again() -> None:
    """The store was set back; what the replica learns meanwhile must not outrank what its record says."""
    cluster = Cluster(4)
    cluster.start()
    for index in range(5):
        cluster.submit(b"%d" % index)
        cluster.advance(20)
    node = cluster.nodes[3]
    node.crash()
    plain = ViewChange(1, 3, 5, node.disk.chain[4][2], (), node.name, bytes(64))
    signature = fake_sign(node.name, view_change_preimage(CHAIN, plain))
    asked = ViewChange(1, 3, 5, plain.certificate, (), node.name, signature)
    assert node.disk.record is not None
    node.disk.record.append(encode(record.Asked(asked)))
    del node.disk.chain[2:]
    cluster.sync_works = False
    node.start()
    before = list(node.disk.record)
    cluster.nodes[0].crash()
    cluster.submit(b"new")
    cluster.advance(2_500)
    cluster.nodes[0].start()
    cluster.advance(2_000)
    assert _views(cluster)[3] == 1 and node.disk.record == before
    cluster.sync_works = True
    assert cluster.advance_until(lambda: cluster.heights()[3] >= 5, 10_000)
    node.crash()
    node.start()
    assert _views(cluster)[3] >= 3


def test_what_stopped_a_validator_while_its_record_was_held_back_stops_it_afterwards_too() -> None:
    cluster = Cluster(4)
    cluster.start()
    for index in range(5):
        cluster.submit(b"%d" % index)
        cluster.advance(20)
    node = cluster.nodes[3]
    node.crash()
    del node.disk.chain[2:]
    cluster.sync_works = False
    node.start()
    assert _replica(node).core.state.record_held_back is not None
    _replica(node).core.halt("a certified block executes differently here")
    cluster.sync_works = True
    cluster.submit(b"new")
    assert cluster.advance_until(lambda: _replica(node).core.state.record_held_back is None, 10_000)
    assert _replica(node).core.state.halted is not None and _replica(node).mode is Mode.FOLLOWING


def test_a_status_with_more_heights_than_the_window_of_an_epoch_that_is_over_still_says_who_is_ahead() -> None:
    """The epoch after it may have a larger window, and its validators as many heights in flight at any time."""
    cluster = Cluster(4, parameters=ChainParameters(window=1))
    cluster.start()
    ahead, late = cluster.nodes[1], cluster.nodes[2]
    shown = tuple(HeightStatus(height, None, False, b"", b"") for height in range(11, 17))
    plain = Status(7, 0, Mode.ACTIVE, 10, shown, b"", ahead.name, bytes(64))
    message = replace(plain, signature=fake_sign(ahead.name, status_preimage(CHAIN, plain)))
    assert late.replica is not None
    found = late.replica.step(Received(ahead.name, message), late.now())
    assert Sync(ahead.name, 10) in found


def _status_of(node: Node, view: int, heights: tuple[HeightStatus, ...] = ()) -> Status:
    plain = Status(1, view, Mode.INACTIVE, 0, heights, b"", node.name, bytes(64))
    return replace(plain, signature=fake_sign(node.name, status_preimage(CHAIN, plain)))


def _sent_to(cluster: Cluster, sender: int, receiver: int) -> list[Message]:
    sent: list[Message] = []

    def watch(source: Node, target: Node, message: Message) -> Message:
        if (source.index, target.index) == (sender, receiver):
            sent.append(message)
        return message

    cluster.on_send = watch
    return sent


def test_a_flood_of_statuses_is_answered_once_in_a_while() -> None:
    cluster = Cluster(4)
    cluster.liars.add(3)
    cluster.start()
    cluster.advance(600)
    cluster.nodes[0].crash()
    cluster.submit(b"a")
    assert cluster.advance_until(lambda: min(cluster.heights()[1:]) == 1, 10_000)
    cluster.nodes[3].crash()
    cluster.advance(1_000)
    sent = _sent_to(cluster, 1, 3)
    for _ in range(1_000):
        cluster.inject(3, 1, _status_of(cluster.nodes[3], 1))
    assert 1 <= sum(isinstance(message, NewView) for message in sent) <= 2


def test_a_status_that_names_more_heights_than_there_can_be_is_not_kept() -> None:
    cluster = Cluster(4)
    cluster.start()
    cluster.nodes[3].crash()
    cluster.advance(1_000)
    shown = tuple(HeightStatus(height, None, False, b"", b"") for height in range(1, 1_000))
    cluster.inject(3, 1, _status_of(cluster.nodes[3], 0, shown))
    held = _replica(cluster.nodes[1]).state.heard[cluster.nodes[3].name].status
    assert held is None or len(held.heights) < 10


def test_a_flood_of_body_requests_is_served_ever_more_rarely() -> None:
    cluster = Cluster(4)
    cluster.route = lambda _s, _r, message: [] if isinstance(message, Prepare | Commit | Decision) else [1]
    cluster.start()
    cluster.submit(b"a")
    cluster.advance(20)
    name = _replica(cluster.nodes[1]).state.accepted[1]
    sent = _sent_to(cluster, 1, 3)
    for _ in range(100):
        cluster.inject(3, 1, BodyRequest(1, name, (0,)))
        cluster.advance(10)
    assert 1 <= sum(type(message).__name__ == "Bodies" for message in sent) <= 5
    sent.clear()
    cluster.inject(2, 1, BodyRequest(1, name, tuple(range(1_000_000))))
    assert sent == []


def test_bodies_larger_than_any_block_are_not_kept() -> None:
    cluster = Cluster(4)
    cluster.liars.add(0)
    cluster.start()
    cluster.advance(600)
    bodies = tuple(bytes([index]) * (1 << 20) for index in range(10))
    liar = cluster.nodes[0].name
    header, _ = execute(cluster.genesis, bodies, cluster.nodes[1].now().ledger_ms, liar)
    cluster.inject(0, 1, pre_prepare_of(liar, 1, 0, header, entries_of(bodies)))
    for index, body in enumerate(bodies):
        cluster.inject(0, 1, Bodies(1, block_hash(header), ((index, body),)))
    candidate = _replica(cluster.nodes[1]).state.candidates[block_hash(header)]
    assert sum(len(raw) for raw in candidate.bodies.values()) <= cluster.parameters.block_bytes_max


def test_who_votes_again_after_a_loss_is_not_silenced_by_the_votes_it_lost() -> None:
    """Two of four lose their directories while a block is in flight; the others still hold and relay their votes."""
    cluster = Cluster(4)
    cluster.route = lambda _s, _r, message: [] if isinstance(message, Commit | Decision) else [1]
    cluster.start()
    cluster.submit(b"a")
    cluster.advance(100)
    cluster.route = lambda _s, _r, message: [] if isinstance(message, PrePrepare | Commit | Decision) else [1]
    for node in cluster.nodes[2:]:
        node.crash()
        node.disk.record = None
        node.vote_again = True
        node.start()
    assert cluster.nodes[2].disk.record is not None
    cluster.advance(1_000)
    assert all(_replica(node).mode is not Mode.SILENT for node in cluster.nodes)
    assert all(_replica(node).state.view_first == 1 for node in cluster.nodes[2:])
    cluster.route = lambda _s, _r, _m: [1]
    assert cluster.advance_until(lambda: min(cluster.heights()) >= 1, 60_000)


def test_a_view_change_seen_only_inside_a_new_view_still_shows_a_hidden_proof() -> None:
    """Node 3 commits to a block in view 0 and asks for view 1 without its proof, but tells only node 1."""
    cluster = Cluster(4)
    cluster.liars.add(3)
    cluster.start()
    cluster.advance(600)

    def lie(sender: Node, receiver: Node, message: Message) -> Message | None:
        if isinstance(message, Commit) and not (sender.index == 3 and receiver.index == 2):
            return None
        if isinstance(message, ViewChange) and message.validator == cluster.nodes[3].name:
            if receiver.index != 1:
                return None
            plain = ViewChange(1, message.view, 0, None, (), message.validator, bytes(64))
            signature = fake_sign(message.validator, view_change_preimage(CHAIN, plain))
            return ViewChange(1, message.view, 0, None, (), message.validator, signature)
        if isinstance(message, ViewChange) and receiver.index == 1 and message.validator == cluster.nodes[0].name:
            return None
        return message

    cluster.on_send = lie
    cluster.submit(b"a")
    assert cluster.advance_until(lambda: _views(cluster)[2] >= 1, 20_000)
    cluster.advance(500)
    assert "hidden proof" in [accusation.offence.kind for accusation in cluster.nodes[2].accusations]


def test_a_vote_signed_in_two_ways_does_not_keep_its_proposal_out() -> None:
    """A signer of Ed25519 can make many valid signatures of one message; here every signature of node 0 is valid."""
    cluster = Cluster(4)
    cluster.start()
    replica = _replica(cluster.nodes[1])
    right = replica.core.verify
    replica.core.verify = lambda public, message, signature: (
        public == cluster.nodes[0].name or right(public, message, signature)
    )
    header, _ = execute(cluster.genesis, (), cluster.nodes[1].now().ledger_ms, cluster.nodes[0].name)
    vote = prepare_of(cluster.nodes[0].name, 1, 0, 1, block_hash(header))
    cluster.inject(2, 1, Prepare(vote.epoch, 0, 1, vote.block_hash, vote.validator, bytes(64)))
    cluster.inject(0, 1, pre_prepare_of(cluster.nodes[0].name, 1, 0, header, ()))
    assert 1 in replica.state.accepted


def test_a_stall_of_very_many_views_leaves_a_bounded_memory_of_own_votes() -> None:
    cluster = Cluster(4)
    cluster.start()
    state = _replica(cluster.nodes[2]).state
    name = cluster.nodes[2].name
    votes = [prepare_of(name, 1, view, 1, bytes(32)) for view in range(200)]
    for vote in votes:
        memory.remember_own_vote(state, vote)
    assert len(state.own_prepares) == limits.own_vote_views_max
    for vote in votes:
        cluster.inject(1, 2, vote)
    assert state.mode is not Mode.SILENT

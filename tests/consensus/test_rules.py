"""Single rules of one replica, each in the situation where its absence would do harm."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from otcnode.blocks import Epoch, maximum_faulty, quorum
from otcnode.codec import decode, encode
from otcnode.consensus import effects, record
from otcnode.consensus.certificates import certificate_from
from otcnode.consensus.messages import Commit, Message, Prepare, ViewChange
from otcnode.consensus.record import RecordEntry
from otcnode.consensus.votes import Vote, VoteBook
from otcnode.genesis import ChainParameters
from tests.consensus.cluster import Cluster, Crash, Node, commit_of, prepare_of


@given(st.integers(1, 200))
def test_any_two_quorums_share_an_honest_validator_and_the_honest_alone_are_one(count: int) -> None:
    assert 2 * quorum(count) - count >= maximum_faulty(count) + 1
    assert quorum(count) <= count - maximum_faulty(count)


def _said(effects_seen: list[tuple[int, effects.Effect]], node: int, kind: type[Message]) -> list[Message]:
    return [
        effect.message
        for index, effect in effects_seen
        if index == node and isinstance(effect, effects.Broadcast) and isinstance(effect.message, kind)
    ]


def _watch(cluster: Cluster) -> list[tuple[int, effects.Effect]]:
    seen: list[tuple[int, effects.Effect]] = []
    cluster.on_effect = lambda node, effect: seen.append((node.index, effect))
    return seen


def test_every_vote_is_in_the_durable_record_before_it_leaves() -> None:
    cluster = Cluster(4)
    names = {node.name: node for node in cluster.nodes}

    def check(sender: Node, _receiver: Node, message: Message) -> Message:
        if isinstance(message, Prepare | Commit | ViewChange) and message.validator == sender.name:
            kept = [decode(RecordEntry, raw) for raw in names[sender.name].disk.record or ()]
            expected = record.Asked(message) if isinstance(message, ViewChange) else record.Voted(message)
            assert expected in kept or message.validator != sender.name
            if isinstance(message, Commit):
                proofs = [entry.proof for entry in kept if isinstance(entry, record.Proved)]
                assert any(p.view == message.view and p.header.height == message.height for p in proofs)
            if isinstance(message, Prepare):
                bodies = [entry for entry in kept if isinstance(entry, record.Accepted)]
                assert any(entry.header.height == message.height for entry in bodies)
        return message

    cluster.on_send = check
    cluster.start()
    cluster.submit(b"a")
    cluster.advance(20)
    cluster.nodes[0].crash()
    cluster.submit(b"b")
    cluster.advance(4_000)
    assert cluster.heights()[1:] == [2, 2, 2]


def test_nothing_of_a_lower_view_is_signed_after_asking_for_a_view() -> None:
    cluster = Cluster(4)
    seen = _watch(cluster)
    cluster.route = lambda _sender, _receiver, message: [] if isinstance(message, Prepare | Commit) else [1]
    cluster.start()
    cluster.submit(b"a")
    cluster.advance(1_500)
    before = len(_said(seen, 1, Prepare))
    cluster.nodes[0].crash()
    cluster.advance(700)
    asked = _said(seen, 1, ViewChange)
    assert before == 1 and asked
    position = next(
        index
        for index, (node, effect) in enumerate(seen)
        if node == 1 and isinstance(effect, effects.Broadcast) and isinstance(effect.message, ViewChange)
    )
    later = _said(seen[position:], 1, Prepare) + _said(seen[position:], 1, Commit)
    assert all(isinstance(vote, Prepare | Commit) and vote.view >= 1 for vote in later)


def test_a_validator_that_restarts_after_asking_stays_out_of_the_lower_view() -> None:
    cluster = Cluster(4)
    cluster.start()
    cluster.submit(b"a")
    cluster.advance(20)
    for index in (0, 2, 3):
        cluster.cut |= {(index, 1)}
    cluster.nodes[0].crash()
    cluster.heal()
    cluster.submit(b"b")
    assert cluster.advance_until(lambda: bool(_view(cluster.nodes[1])), 5_000)
    cluster.nodes[1].crash()
    cluster.nodes[1].start()
    assert _view(cluster.nodes[1]) == 1


def _view(node: Node) -> int:
    return node.replica.state.view if node.replica is not None else 0


def test_no_vote_for_a_block_whose_parent_is_not_prepared() -> None:
    cluster = Cluster(4)
    seen = _watch(cluster)
    cluster.route = lambda _s, _r, message: [] if isinstance(message, Prepare | Commit) and message.height == 1 else [1]
    cluster.start()
    cluster.submit(b"a")
    cluster.advance(5)
    cluster.submit(b"b")
    cluster.advance(50)
    state = cluster.nodes[1].replica
    assert state is not None and state.state.accepted_candidate(2) is not None
    for vote in [*_said(seen, 1, Prepare), *_said(seen, 1, Commit)]:
        assert isinstance(vote, Prepare | Commit) and vote.height == 1


def test_no_commit_without_an_own_prepare_even_with_a_quorum_of_others() -> None:
    """Node 1 holds q PREPAREs of others but cannot execute: it lacks the body."""
    cluster = Cluster(4)
    seen = _watch(cluster)
    cluster.on_send = lambda _s, receiver, message: (
        None if receiver.index == 1 and type(message).__name__ in ("Bodies", "Decision") else message
    )
    cluster.start()
    cluster.nodes[0].submit(b"a")
    cluster.nodes[2].submit(b"a")
    cluster.nodes[3].submit(b"a")
    cluster.advance(100)
    assert _said(seen, 1, Commit) == [] and _said(seen, 1, Prepare) == []
    assert cluster.heights() == [1, 0, 1, 1]


def test_a_record_ahead_of_its_store_holds_the_validator_back_until_the_store_has_caught_up() -> None:
    cluster = Cluster(4)
    cluster.start()
    for index in range(5):
        cluster.submit(b"%d" % index)
        cluster.advance(20)
    node = cluster.nodes[3]
    node.crash()
    del node.disk.chain[2:]
    seen = _watch(cluster)
    cluster.sync_works = False
    node.start()
    cluster.submit(b"new")
    cluster.advance(300)
    assert node.tip_state().height == 2 and _said(seen, 3, Prepare) == []
    cluster.sync_works = True
    cluster.advance(2_000)
    cluster.submit(b"newer")
    cluster.advance(100)
    assert node.tip_state().height == 7
    assert [vote.height for vote in _said(seen, 3, Prepare) if isinstance(vote, Prepare)] == [7]


def test_a_crash_at_every_effect_of_a_block_never_makes_a_validator_contradict_itself() -> None:
    """The cluster's checkers see every message; the crash moves through all effects of node 1."""
    for victim in (0, 1):
        for position in range(40):
            cluster = Cluster(4)
            counter = [0]

            def maybe_crash(
                node: Node, _effect: effects.Effect, counter: list[int] = counter, at: int = position, who: int = victim
            ) -> None:
                if node.index == who:
                    counter[0] += 1
                    if counter[0] == at:
                        raise Crash

            cluster.on_effect = maybe_crash
            cluster.start()
            cluster.submit(b"a")
            cluster.advance(30)
            if cluster.nodes[victim].replica is None:
                cluster.nodes[victim].start()
            cluster.submit(b"a")
            assert cluster.advance_until(lambda: min(cluster.heights()) >= 1, 10_000), (victim, position)  # noqa: B023


def test_a_record_cut_at_every_entry_never_makes_a_validator_contradict_itself() -> None:
    cluster = Cluster(4)
    cluster.route = lambda _s, _r, message: [] if isinstance(message, Commit) else [1]
    cluster.start()
    cluster.submit(b"a")
    cluster.advance(20)
    entries = list(cluster.nodes[1].disk.record or ())
    assert len(entries) >= 4
    for kept in range(1, len(entries) + 1):
        # What is cut off was never durable, so nothing that depends on it has left.
        fresh = Cluster(4)
        fresh.nodes[1].disk.record = entries[:kept]
        fresh.start()
        fresh.submit(b"a")
        assert fresh.advance_until(lambda: min(fresh.heights()) >= 1, 10_000)  # noqa: B023


def test_a_flood_of_views_displaces_only_the_votes_of_its_sender() -> None:
    book = VoteBook()
    book.add(1, b"honest", Vote(0, b"a", b""), 0)
    for view in range(1_000):
        book.add(1, b"liar", Vote(view, b"a", b""), 0)
    assert [vote.view for name, vote in book.in_view(1, 0)] == [0, 0]
    assert len(book.choices(1)) == 3


def test_votes_of_different_views_make_no_certificate() -> None:
    epoch = Epoch(1, tuple(bytes([index]) * 32 for index in range(4)), ChainParameters().consensus)
    book = VoteBook()
    for view, name in enumerate(epoch.validators):
        vote = commit_of(name, 1, view % 2, 1, bytes(32))
        book.add(1, name, Vote(vote.view, vote.block_hash, vote.signature), 0)
    assert certificate_from(book, epoch, 1) is None


def test_a_message_far_above_or_of_a_stranger_changes_nothing() -> None:
    cluster = Cluster(4)
    cluster.start()
    cluster.advance(10)
    replica = cluster.nodes[0].replica
    assert replica is not None
    cluster.liars.add(3)
    liar = cluster.nodes[3].name
    for message in (
        prepare_of(liar, 1, 0, 9, bytes(32)),
        prepare_of(liar, 1, 2**40, 1, bytes(32)),
        prepare_of(b"x" * 32, 1, 0, 1, bytes(32)),
        prepare_of(liar, 7, 0, 1, bytes(32)),
    ):
        cluster.inject(3, 0, message)
    assert replica.state.prepares.heights() == []
    cluster.inject(3, 0, prepare_of(liar, 1, 0, 8, bytes(32)))
    assert replica.state.prepares.heights() == [8]


def test_the_record_reads_back_and_a_damaged_or_silenced_one_permits_nothing() -> None:
    born = record.birth()
    assert record.read(born) == (record.Begun(0, 0, 0),)
    assert record.read(()) is None
    assert record.read((*born, b"junk")) is None
    assert record.read((encode(record.Silenced()),)) is None
    assert record.read((encode(record.Floored(3)),)) is None


def test_the_new_view_acted_under_survives_a_restart() -> None:
    cluster = Cluster(4)
    cluster.start()
    cluster.advance(600)
    cluster.nodes[0].crash()
    cluster.submit(b"a")
    assert cluster.advance_until(lambda: _view(cluster.nodes[1]) == 1 and _view(cluster.nodes[3]) == 1, 5_000)
    assert cluster.advance_until(lambda: cluster.heights()[3] >= 1, 5_000)
    node = cluster.nodes[3]
    cluster.isolate(3)
    node.crash()
    node.start()
    assert node.replica is not None
    assert (_view(node), node.replica.state.active) == (1, True)

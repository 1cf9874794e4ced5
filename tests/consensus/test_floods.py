"""One liar floods each collection with everything it may sign: nothing grows beyond its bound, and nothing stops."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from msgspec.structs import replace

from otcnode import limits
from otcnode.blocks import block_hash, transactions_root
from otcnode.consensus import building, effects, status
from otcnode.consensus.evidence import double_vote
from otcnode.consensus.messages import (
    Accusation,
    Bodies,
    BodyRequest,
    Commit,
    Message,
    Mode,
    NewView,
    Prepare,
    PrePrepare,
    Status,
    Urgent,
    ViewChange,
    new_view_preimage,
    status_preimage,
    view_change_preimage,
)
from otcnode.consensus.replica import Replica
from otcnode.consensus.state import State
from otcnode.genesis import ChainParameters
from tests.consensus.cluster import Cluster, Node, commit_of, pre_prepare_of, prepare_of
from tests.consensus.toy import CHAIN, WINDOW, entries_of, execute, fake_sign

MANY = 300
LIAR, VICTIM = 3, 1


def _replica(node: Node) -> Replica:
    assert node.replica is not None
    return node.replica


def _cluster() -> Cluster:
    cluster = Cluster(4)
    cluster.liars.add(LIAR)
    cluster.start()
    cluster.advance(600)
    return cluster


def _view_change(name: bytes, view: int, epoch: int = 1) -> ViewChange:
    plain = ViewChange(epoch, view, 0, None, (), name, bytes(64))
    return ViewChange(epoch, view, 0, None, (), name, fake_sign(name, view_change_preimage(CHAIN, plain)))


def _new_view(name: bytes, view: int) -> NewView:
    plain = NewView(1, view, (), (), name, bytes(64))
    return NewView(1, view, (), (), name, fake_sign(name, new_view_preimage(CHAIN, plain)))


def _votes(name: bytes) -> Iterator[Message]:
    for number in range(MANY):
        for make in (prepare_of, commit_of):
            yield make(name, 1, number, 1 + number % 20, bytes([number % 7]) * 32)


def _double_votes(name: bytes) -> Iterator[Message]:
    for view in range(MANY):
        for make in (prepare_of, commit_of):
            for letter in (b"A", b"B", b"C"):
                yield make(name, 1, view, 1, letter * 32)


def _proposals(name: bytes) -> Iterator[Message]:
    cluster = Cluster(4)
    for number in range(MANY):
        body = b"%d" % number
        header, _ = execute(cluster.genesis, (body,), cluster.genesis.time_ms + 1 + number, name)
        yield pre_prepare_of(name, 1, LIAR + 4 * number, header, entries_of((body,)))


def _view_changes(name: bytes) -> Iterator[Message]:
    yield from (_view_change(name, 1 + view) for view in range(MANY))


def _new_views(name: bytes) -> Iterator[Message]:
    yield from (_new_view(name, LIAR + 4 * view) for view in range(MANY))


def _accusations(name: bytes) -> Iterator[Message]:
    for view in range(MANY):
        votes = [prepare_of(name, 1, view, 1, letter * 32) for letter in (b"A", b"B")]
        yield Accusation(double_vote(*votes))


def _requests(name: bytes) -> Iterator[Message]:
    yield from (BodyRequest(1, bytes([number % 256]) * 32, ()) for number in range(MANY))


FLOODS: dict[str, Callable[[bytes], Iterator[Message]]] = {
    "votes": _votes,
    "double votes": _double_votes,
    "proposals": _proposals,
    "view changes": _view_changes,
    "new views": _new_views,
    "accusations": _accusations,
    "body requests": _requests,
}


def _check_bounds(replica: Replica) -> None:
    state, core = replica.state, replica.core
    validators = len(state.epoch.validators)
    heights = limits.buffered_heights_windows * state.window
    for book in (state.prepares, state.commits):
        assert len(book.heights()) <= heights
        for height in book.heights():
            votes = [vote for view, _ in book.choices(height) for vote in book.in_view(height, view)]
            most = 1 + limits.votes_other_views_per_validator_max
            assert len(votes) <= validators * most * most
            assert len(book.choices(height)) <= validators * most
    assert len(state.waiting) <= validators * heights
    listed = sum(len(message.entries) for message in state.waiting.values())
    most = state.parameters.block_transactions_max
    least = limits.waiting_transactions_min
    assert listed <= max(least, state.window * most) + validators * max(least, most)
    assert len(state.candidates) <= heights * (limits.candidates_per_height_max + 4)
    assert len(state.view_changes) <= validators
    assert len(state.heard) <= validators
    assert len(state.refusals) <= heights
    assert len(state.proofs) <= state.window
    assert len(state.certificates) <= heights
    assert len(state.committed_ms) <= limits.commit_times_kept
    assert all(len(candidate.served_ms) <= 2 * validators for candidate in state.candidates.values())
    assert len(core.offences) <= validators
    most = limits.offences_per_validator_max + limits.large_offences_per_validator_max
    assert all(len(found) <= most for found in core.offences.values())
    assert len(core.view_changes_checked) <= validators
    assert len(core.urgent_taken) <= validators
    assert len(core.epoch_answers) <= validators
    assert len(core.decisions_sent) <= validators
    assert len(core.view_answers) <= validators
    assert len(core.resent) <= validators


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_of_what_one_validator_may_sign_fills_nothing_and_stops_nothing(flood: str) -> None:
    cluster = _cluster()
    for message in FLOODS[flood](cluster.nodes[LIAR].name):
        cluster.inject(LIAR, VICTIM, message)
        _check_bounds(_replica(cluster.nodes[VICTIM]))
    cluster.submit(b"goes on")
    assert cluster.advance_until(lambda: min(cluster.heights()[:3]) == 1, 60_000)


def _full(primary: bytes, cluster: Cluster, view: int, height: int) -> PrePrepare:
    """Lists as many transactions as a block may hold."""
    most = cluster.parameters.block_transactions_max
    entries = entries_of(tuple(b"%d %d" % (height, number) for number in range(most)))
    header, _ = execute(cluster.genesis, (), cluster.genesis.time_ms + 1, primary)
    roots = transactions_root(entries)
    full = replace(header, height=height, transaction_count=most, transactions_root=roots)
    return pre_prepare_of(primary, 1, view, full, entries)


def test_an_honest_primarys_window_of_full_blocks_waits_and_a_liar_gets_no_more_than_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    window, most = limits.window_max, 50
    monkeypatch.setattr(limits, "waiting_transactions_min", most)
    parameters = ChainParameters(heartbeat_real_ms=3_600_000, window=window, block_transactions_max=most)
    cluster = Cluster(4, parameters=parameters)
    cluster.liars.update({0, LIAR})
    cluster.start()
    cluster.advance(600)
    state = _replica(cluster.nodes[VICTIM]).state
    heights = range(1, 1 + limits.buffered_heights_windows * window)
    for primary, view, kept in ((0, 0, window), (LIAR, LIAR, 1), (0, 4, 1)):
        name = cluster.nodes[primary].name
        for height in reversed(heights):
            cluster.inject(primary, VICTIM, _full(name, cluster, view, height))
        held = {height for author, height in state.waiting if author == name}
        assert held == set(range(1, 1 + kept))
        _check_bounds(_replica(cluster.nodes[VICTIM]))
    # Its turn comes, and what gave way comes again.
    for index in (0, LIAR):
        cluster.inject(index, VICTIM, _view_change(cluster.nodes[index].name, LIAR))
    assert state.view == LIAR
    name = cluster.nodes[LIAR].name
    for height in heights:
        cluster.inject(LIAR, VICTIM, _full(name, cluster, LIAR, height))
    assert {height for author, height in state.waiting if author == name} == set(range(1, 1 + window))
    _check_bounds(_replica(cluster.nodes[VICTIM]))


def test_ever_rising_view_changes_are_looked_at_so_often_and_one_that_matters_comes_through_later() -> None:
    cluster = _cluster()
    liar, victim = cluster.nodes[LIAR].name, _replica(cluster.nodes[VICTIM])
    for view in range(1, 100):
        cluster.inject(LIAR, VICTIM, _view_change(liar, view))
    assert victim.state.view_changes[liar].view == limits.view_changes_per_second_max
    cluster.advance(1_000)
    cluster.inject(LIAR, VICTIM, _view_change(liar, 100))
    assert victim.state.view_changes[liar].view == 100


def _false(message: Prepare | Commit | ViewChange | NewView | PrePrepare) -> Message:
    fields = {name: getattr(message, name) for name in message.__struct_fields__}
    return type(message)(**{**fields, "signature": bytes(64)})


def test_who_lacks_every_view_change_again_and_again_gets_them_so_often() -> None:
    """A STATUS is small and what it asks for can be all VIEW-CHANGEs with their proofs, and the NEW-VIEW."""
    cluster = _cluster()
    cluster.nodes[0].crash()
    cluster.submit(b"a")
    victim = cluster.nodes[VICTIM]
    assert cluster.advance_until(lambda: _replica(victim).state.new_view is not None, 20_000)
    name = cluster.nodes[LIAR].name
    plain = Status(1, 0, Mode.INACTIVE, 0, (), b"", name, bytes(64))
    message = replace(plain, signature=fake_sign(name, status_preimage(CHAIN, plain)))
    answers: list[Message] = []

    def watch(node: Node, effect: effects.Effect) -> None:
        if node is victim and isinstance(effect, effects.Send) and effect.peer == name:
            answers.extend([effect.message] if isinstance(effect.message, NewView) else [])

    cluster.on_effect = watch
    for _ in range(60):
        cluster.inject(LIAR, VICTIM, message)
        cluster.advance(50)
    assert 3 * limits.view_answers_per_second_max <= len(answers) <= 4 * limits.view_answers_per_second_max


def test_who_lacks_every_vote_again_and_again_gets_them_so_often_and_another_as_ever() -> None:
    """In a stall a STATUS of 115 bytes asks for every PREPARE and COMMIT of a window."""
    parameters = ChainParameters(heartbeat_real_ms=3_600_000, block_transactions_max=1)
    cluster = Cluster(7, parameters=parameters)
    cluster.liars.add(6)
    cluster.on_send = lambda _sender, _receiver, message: None if isinstance(message, Commit) else message
    cluster.start()
    cluster.advance(100)
    for number in range(parameters.window):
        cluster.submit(b"%d" % number)
    cluster.advance(900)
    sent: dict[bytes, int] = {}

    def watch(node: Node, effect: effects.Effect) -> None:
        if (
            node.index == VICTIM
            and isinstance(effect, effects.Send)
            and isinstance(effect.message, Prepare | PrePrepare)
        ):
            sent[effect.peer] = sent.get(effect.peer, 0) + 1

    cluster.on_effect = watch
    liar, honest = cluster.nodes[6], cluster.nodes[2]
    for _ in range(19):
        cluster.inject(6, VICTIM, _lacks_all(liar))
        cluster.time_ms += 50
    once = parameters.window * (1 + 7)
    """The proposals and all PREPAREs."""
    most = limits.windows_resent_per_second_max * status.height_messages_max(_replica(cluster.nodes[VICTIM]).state)
    assert most - once < sent[liar.name] <= most < 19 * once
    cluster.inject(2, VICTIM, _lacks_all(honest))
    assert sent[honest.name] == once
    before = sent[liar.name]
    cluster.time_ms += 1_000
    cluster.inject(6, VICTIM, _lacks_all(liar))
    assert sent[liar.name] > before


def _lacks_all(node: Node) -> Status:
    plain = Status(1, 0, Mode.ACTIVE, 0, (), b"", node.name, bytes(64))
    return replace(plain, signature=fake_sign(node.name, status_preimage(CHAIN, plain)))


def test_bodies_of_what_is_not_final_are_served_to_validators_alone_and_nothing_is_kept_of_a_block_that_is_gone() -> (
    None
):
    """In a stall anybody may come and ask, and go again."""
    cluster = Cluster(4, spare=1)
    cluster.on_send = lambda _sender, _receiver, message: None if isinstance(message, Commit) else message
    cluster.start()
    cluster.advance(600)
    cluster.submit(b"a")
    cluster.advance(1_000)
    state = _replica(cluster.nodes[VICTIM]).state
    block = state.accepted[1]
    served: list[int] = []

    def watch(node: Node, effect: effects.Effect) -> None:
        if node.index == VICTIM and isinstance(effect, effects.Send) and isinstance(effect.message, Bodies):
            served.append(cluster.by_name[effect.peer].index)

    cluster.on_effect = watch
    for asks in (4, LIAR):
        cluster.inject(asks, VICTIM, BodyRequest(1, block, (0,)))
    assert served == [LIAR] and [peer for peer, _ in state.candidates[block].served_ms] == [cluster.nodes[LIAR].name]


def test_so_many_bodies_a_second_are_pushed_past_the_quotas_and_only_to_a_primary() -> None:
    cluster = _cluster()
    for number in range(MANY):
        for receiver in (0, VICTIM):
            cluster.inject(LIAR, receiver, Urgent((b"%d" % number,)))
    assert len(cluster.nodes[0].pool) == limits.urgent_per_second_max
    assert len(cluster.nodes[VICTIM].pool) == 0


@pytest.mark.parametrize("kind", ["prepare", "commit", "proposal", "view change", "new view", "stranger", "urgent"])
def test_what_no_honest_node_hands_over_costs_whoever_hands_it_over(kind: str) -> None:
    """The author is honest node 2, or nobody; node 3 passes it on unchecked."""
    cluster = _cluster()
    author = cluster.nodes[2].name
    header, state = execute(cluster.genesis, (b"x",), cluster.genesis.time_ms + 1, author)
    messages: dict[str, Message] = {
        "prepare": _false(prepare_of(author, 1, 0, 1, block_hash(header))),
        "commit": _false(commit_of(author, 1, 0, 1, block_hash(header))),
        "proposal": _false(pre_prepare_of(author, 1, 2, header, entries_of((b"x",)))),
        "view change": _false(_view_change(author, 1)),
        "new view": _false(_new_view(author, 2)),
        "stranger": prepare_of(b"S" * 32, 1, 0, 1, state.block_hash),
        "urgent": Urgent((b"x",) * (limits.urgent_per_validator_max + 1)),
    }
    cluster.inject(LIAR, VICTIM, messages[kind])
    assert [peer for peer, _ in cluster.nodes[VICTIM].blamed] == [cluster.nodes[LIAR].name]
    assert cluster.nodes[VICTIM].accusations == []


def test_messages_of_an_epoch_that_is_over_are_answered_so_often_and_others_as_before() -> None:
    cluster = _cluster()
    cluster.submit(WINDOW + b"3#")
    cluster.advance(200)
    cluster.submit(b"a")
    cluster.advance(200)
    cluster.submit(b"b")
    cluster.advance(200)
    assert _replica(cluster.nodes[VICTIM]).state.epoch.number > 1
    answered: list[bytes] = []

    def watch(node: Node, effect: effects.Effect) -> None:
        if node.index == VICTIM and isinstance(effect, effects.SendEpochEnd):
            answered.append(effect.peer)

    cluster.on_effect = watch
    for message in _votes(cluster.nodes[LIAR].name):
        cluster.inject(LIAR, VICTIM, message)
    assert len(answered) == limits.epoch_answers_per_second_max
    cluster.inject(2, VICTIM, prepare_of(cluster.nodes[2].name, 1, 0, 1, b"A" * 32))
    assert answered[limits.epoch_answers_per_second_max :] == [cluster.nodes[2].name]
    cluster.advance(1_000)
    cluster.inject(LIAR, VICTIM, prepare_of(cluster.nodes[LIAR].name, 1, 0, 1, b"A" * 32))
    assert answered[-1] == cluster.nodes[LIAR].name


def _always_silent(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Node 3 says for ever that it may not vote, and the chain is idle; then node 2 loses its record."""
    monkeypatch.setattr(limits, "wake_blocks_max", 20)
    cluster = _cluster()

    def rewrite(sender: Node, _receiver: Node, message: Message) -> Message:
        if sender.index != LIAR or not isinstance(message, Status):
            return message
        silent = replace(message, mode=Mode.SILENT)
        return replace(silent, signature=fake_sign(sender.name, status_preimage(CHAIN, silent)))

    cluster.on_send = rewrite
    cluster.advance(90_000)
    assert cluster.heights() == [20] * 4
    cluster.nodes[2].crash()
    cluster.nodes[2].disk.record = None
    cluster.nodes[2].start()
    cluster.advance(30_000)
    return cluster


def test_who_always_says_that_it_is_silent_takes_no_wake_block_from_another(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = _always_silent(monkeypatch)
    assert _replica(cluster.nodes[2]).mode is Mode.ACTIVE
    heights = cluster.heights()
    cluster.advance(60_000)
    assert cluster.heights() == heights


def test_if_all_share_one_count_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted bug."""
    right = building.to_wake

    def shared(state: State) -> list[bytes]:
        return right(state) if sum(state.woken.values()) < limits.wake_blocks_max else []

    monkeypatch.setattr(building, "to_wake", shared)
    assert _replica(_always_silent(monkeypatch).nodes[2]).mode is Mode.SILENT

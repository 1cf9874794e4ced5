"""Silence ends only above everything that the lost record may have voted for or asked for, whatever the clock says."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from otcnode.blocks import prepare_preimage
from otcnode.consensus.messages import (
    Message,
    Mode,
    NewView,
    Reproposal,
    Status,
    ViewChange,
    new_view_preimage,
    status_preimage,
    view_change_preimage,
)
from otcnode.consensus.replica import Replica
from otcnode.consensus.resumed import Silence
from otcnode.consensus.state import State
from otcnode.genesis import ChainParameters
from tests.consensus.cluster import LEDGER_ORIGIN_MS, Cluster, Node, prepare_of
from tests.consensus.toy import CHAIN, CHANGE, execute, fake_sign

DRIFT_MS = ChainParameters().drift_real_ms


def _replica(node: Node) -> Replica:
    assert node.replica is not None
    return node.replica


def _silence(node: Node) -> Silence:
    silence = _replica(node).state.silence
    assert silence is not None
    return silence


def _beating(blocks: int = 20) -> Cluster:
    """Four validators and a block a second."""
    cluster = Cluster(4, parameters=ChainParameters(heartbeat_real_ms=1_000))
    cluster.start()
    cluster.advance(1_000 * blocks)
    return cluster


def _lose(node: Node, skew_ms: int = 0, *, blocks: bool = True) -> None:
    node.crash()
    node.disk.record = None
    if blocks:
        node.disk.chain.clear()
    node.skew_ms = skew_ms
    node.cluster.advance(5)
    node.start()


def _wakes(cluster: Cluster, node: Node, limit_ms: int) -> int | None:
    """After how many milliseconds; None: not within the limit."""
    begun_ms = cluster.time_ms
    woke = cluster.advance_until(lambda: _replica(node).state.silence is None, limit_ms)
    return cluster.time_ms - begun_ms if woke else None


@pytest.mark.parametrize("skew_ms", [0, -4_000, 4_000])
def test_silence_lasts_two_drifts_and_a_window_where_the_clock_is_right_enough(skew_ms: int) -> None:
    cluster = _beating()
    _lose(cluster.nodes[3], skew_ms)
    took_ms = _wakes(cluster, cluster.nodes[3], 60_000)
    assert took_ms is not None and DRIFT_MS < took_ms < 2 * DRIFT_MS + 10_000


def test_with_a_clock_that_stays_behind_it_does_not_end() -> None:
    cluster = _beating(60)
    _lose(cluster.nodes[3], -40_000)
    assert _wakes(cluster, cluster.nodes[3], 120_000) is None
    (reason, *_) = _replica(cluster.nodes[3]).explain(cluster.nodes[3].now()).causes
    assert "its clock is behind: it committed a block that is " in reason.text


@pytest.mark.parametrize("after_ms", [100, 3_000, 11_000, 14_000])
def test_a_clock_that_is_set_moves_the_beginning_to_when_it_was(after_ms: int) -> None:
    """Also where a block was noted before, by a clock that was behind by less than a block shows."""
    cluster = _beating(60)
    node, lost_ms = cluster.nodes[3], cluster.time_ms
    _lose(node, -40_000)
    cluster.advance(after_ms)
    assert _replica(node).mode is Mode.SILENT
    node.skew_ms = 0
    took_ms = _wakes(cluster, node, 60_000)
    assert took_ms is not None and after_ms + took_ms > 2 * DRIFT_MS
    assert min(header.time_ms for header, *_ in node.disk.chain if header.height == _replica(node).state.floor) > (
        LEDGER_ORIGIN_MS + lost_ms + DRIFT_MS
    )


@pytest.mark.parametrize("ahead_for_ms", [200, 60_000])
def test_a_clock_that_was_ahead_prolongs_the_silence_until_the_node_is_started_again(ahead_for_ms: int) -> None:
    cluster = _beating()
    node = cluster.nodes[3]
    _lose(node, 3_600_000)
    cluster.advance(ahead_for_ms)
    node.skew_ms = 0
    assert _wakes(cluster, node, 60_000) is None
    (reason, *_) = _replica(node).explain(node.now()).causes
    assert "its clock was set back by 3600.0 s since the silence began" in reason.text
    _lose(node, 0)
    took_ms = _wakes(cluster, node, 60_000)
    assert took_ms is not None and 2 * DRIFT_MS < took_ms < 2 * DRIFT_MS + 10_000


@pytest.mark.parametrize("back_ms", [DRIFT_MS // 2, DRIFT_MS + 1, 2 * DRIFT_MS, 40_000])
def test_a_right_clock_that_is_then_set_back_shortens_nothing(back_ms: int) -> None:
    """A block of before the loss may be committed only after it: its time must not pass for a later one."""
    cluster = _beating(60)
    node = cluster.nodes[3]
    _lose(node)
    began_ms = LEDGER_ORIGIN_MS + cluster.time_ms
    cluster.advance(100)
    node.skew_ms = -back_ms
    noted = cluster.advance_until(lambda: _silence(node).height is not None, 60_000)
    assert _silence(node).not_before_ms >= began_ms
    if noted:
        times = {header.height: header.time_ms for header, *_ in node.disk.chain}
        height = _silence(node).height
        assert height is not None and times[height] > began_ms + 2 * DRIFT_MS


def test_a_noted_block_counts_no_more_once_the_clock_shows_that_it_was_early() -> None:
    cluster = _beating()
    node = cluster.nodes[3]
    _lose(node, -4_000)
    cluster.advance_until(lambda: _silence(node).height is not None, 60_000)
    noted = _silence(node).height
    node.skew_ms = 4_000
    cluster.advance(1_500)
    assert noted is not None and _silence(node).height is None
    assert _wakes(cluster, node, 60_000) is not None


def test_blocks_that_others_had_committed_when_they_were_first_heard_do_not_end_it() -> None:
    """The clock is behind, and what is synced comes so late that it looks new: twenty seconds old, of the lost time."""
    cluster = _beating(60)
    node, height = cluster.nodes[3], max(cluster.heights())
    cluster.sync_works = False
    cluster.on_send = lambda _s, receiver, message: (
        None if receiver is node and not isinstance(message, Status) else message
    )
    _lose(node, -20_000)
    cluster.advance(16_000)
    assert node.tip_state().height == 0 and len(_replica(node).state.heard) == 3
    cluster.sync_works = True
    cluster.advance_until(lambda: node.tip_state().height > height - 20, 60_000)
    cluster.advance(10)
    noted = _silence(node).height
    assert noted is None or noted > height


def test_whoever_hears_too_few_goes_by_its_clock() -> None:
    """One STATUS may be a liar's: with it alone nobody knows how far the chain was. Links may be few for ever."""
    cluster = _beating()
    node = cluster.nodes[3]
    cluster.on_send = lambda sender, receiver, message: (
        None if receiver is node and isinstance(message, Status) and sender.index != 1 else message
    )
    _lose(node, blocks=False)
    took_ms = _wakes(cluster, node, 60_000)
    assert took_ms is not None and took_ms > 2 * DRIFT_MS


def test_a_low_report_holds_only_until_more_are_heard() -> None:
    """The clock is 12 s behind, blocks come late, and who is heard first is far behind or a liar."""
    cluster = _beating(60)
    node, heard = cluster.nodes[3], {1, 2}
    height = node.tip_state().height
    genuine = _replica(node)

    def few(sender: Node, receiver: Node, message: Message) -> Message | None:
        if receiver is not node or not isinstance(message, Status):
            return message
        if sender.index not in heard:
            return None
        if sender.index == 1:
            plain = replace(message, committed=0, heights=())
            return replace(plain, signature=fake_sign(sender.name, status_preimage(CHAIN, plain)))
        return message

    cluster.on_send = few
    cluster.liars.add(1)
    _lose(node, -12_000)
    assert _replica(node) is not genuine
    noted: set[int] = set()

    def is_noted() -> bool:
        found = _silence(node).height
        noted.update(() if found is None else (found,))
        return bool(noted)

    cluster.advance_until(is_noted, 3_000)
    heard.add(0)
    cluster.advance(2_000)
    kept = _replica(node).state.silence
    assert kept is not None and (kept.height is None or kept.height > height)


def test_a_key_without_a_record_votes_from_where_its_epoch_begins() -> None:
    """While it only follows it hears no STATUS; the chain cannot go on without it then."""
    cluster = Cluster(1, spare=1, parameters=ChainParameters(heartbeat_real_ms=1_000))
    joiner = cluster.nodes[1]
    joiner.disk.record = None
    cluster.start()
    cluster.advance(60_000)
    members = sorted(node.name for node in cluster.nodes)
    cluster.nodes[0].submit(CHANGE + b"".join(members))
    assert cluster.advance_until(lambda: len(cluster.nodes[0].tip_state().epoch.validators) == 2, 30_000)
    before = max(cluster.heights())
    assert cluster.advance_until(lambda: min(cluster.heights()) > before + 5, 60_000)


def test_a_key_without_a_record_begins_one_while_it_follows_and_a_restart_keeps_it() -> None:
    """Who is to become a validator must not be silent then: with two such ones of four nothing would be decided."""
    cluster = Cluster(4, spare=2, parameters=ChainParameters(heartbeat_real_ms=1_000))
    joiners = cluster.nodes[4:]
    for joiner in joiners:
        joiner.disk.record = None
    cluster.start()

    def follow(seconds: int) -> None:
        """Nobody tells a node that only follows: it asks."""
        for _ in range(seconds):
            cluster.advance(1_000)
            for joiner in joiners:
                cluster.sync(joiner, cluster.nodes[0].name)

    follow(5)
    assert not any(_replica(joiner).state.may_vote_once_chosen for joiner in joiners)
    (_, reason) = _replica(joiners[0]).explain(joiners[0].now()).causes
    assert "silent: no intact voting record; waits for a block of a time " in reason.text
    follow(20)
    for joiner in joiners:
        assert _replica(joiner).state.may_vote_once_chosen and _replica(joiner).mode is Mode.FOLLOWING
        joiner.crash()
        joiner.start()
    members = sorted(cluster.nodes[index].name for index in (0, 1, 4, 5))
    cluster.nodes[0].submit(CHANGE + b"".join(members))
    follow(5)
    assert joiners[0].name in cluster.nodes[0].tip_state().epoch.validators
    before = max(cluster.heights())
    assert cluster.advance_until(lambda: joiners[1].tip_state().height > before + 5, 30_000)


def _asked_alone() -> Node:
    """Node 3 has waited too long for what only it knows, and asked for view 1; then its record is lost."""
    cluster = Cluster(4)
    cluster.start()
    cluster.advance(600)
    node = cluster.nodes[3]
    node.submit(b"private")
    assert cluster.advance_until(lambda: _replica(node).state.view == 1, 10_000)
    cluster.advance(100)
    node.pool.clear()
    _lose(node, blocks=False)
    return node


def test_the_old_view_change_for_the_first_view_after_the_silence_does_not_silence_again() -> None:
    """Node 3 asks for view 1 a second time. The others keep its first word, and open the view with it: it holds."""
    node = _asked_alone()
    cluster = node.cluster
    assert _wakes(cluster, node, 60_000) is not None and _replica(node).state.view_first == 1
    cluster.nodes[0].crash()
    cluster.submit(b"b")
    assert cluster.advance_until(lambda: min(cluster.heights()[1:]) > cluster.heights()[0], 60_000)
    opened = _replica(node).state.new_view
    assert opened is not None and opened.view == 1 and _replica(node).mode is Mode.ACTIVE and node.alarms == []
    assert node.name in [entry.validator for entry in opened.view_changes]
    vote = prepare_of(node.name, 1, 1, node.tip_state().height + 1, bytes(32))
    cluster.inject(1, 3, vote)
    assert _replica(node).mode is Mode.SILENT, "a vote in that view is explained by no lost record"


def test_who_is_silent_is_told_what_it_asked_for() -> None:
    node = _asked_alone()
    cluster = node.cluster
    told: list[Node] = []

    def watch(sender: Node, receiver: Node, message: Message) -> Message:
        if receiver is node and isinstance(message, ViewChange) and message.validator == node.name:
            told.append(sender)
        return message

    cluster.on_send = watch
    cluster.advance(5_000)
    assert told and len(told) <= 3, "each of the others says it once, for the STATUS then says that it is known"
    assert _silence(node).view_seen == 0


@pytest.mark.parametrize("valid", [True, False])
def test_view_changes_in_an_invalid_new_view_count_if_each_is_valid_by_itself(valid: bool) -> None:
    """They show that a quorum asked for the view, so that it may be left at once; where two are forged they do not."""
    cluster = Cluster(4)
    cluster.start()
    cluster.advance(600)
    node, liar = cluster.nodes[3], cluster.nodes[1]
    node.submit(b"private")
    assert cluster.advance_until(lambda: _replica(node).state.view == 1, 10_000)
    cluster.liars.add(1)

    def asks(author: Node) -> ViewChange:
        plain = ViewChange(1, 1, 0, None, (), author.name, bytes(64))
        signer = author.name if valid else liar.name
        return ViewChange(1, 1, 0, None, (), author.name, fake_sign(signer, view_change_preimage(CHAIN, plain)))

    header, _ = execute(cluster.genesis, (), LEDGER_ORIGIN_MS, liar.name)
    reproposal = Reproposal(header, fake_sign(liar.name, prepare_preimage(CHAIN, 1, 1, 1, bytes(32))))
    plain = NewView(1, 1, tuple(asks(cluster.nodes[index]) for index in (0, 1, 2)), (reproposal,), liar.name, bytes(64))
    signature = fake_sign(liar.name, new_view_preimage(CHAIN, plain))
    cluster.inject(1, 3, NewView(1, 1, plain.view_changes, plain.reproposals, liar.name, signature))
    state: State = _replica(node).state
    assert state.view == (2 if valid else 1)
    assert len([message for message in state.view_changes.values() if message.view >= 1]) == (4 if valid else 2)

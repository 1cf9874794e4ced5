"""Who is silent is woken wherever it is heard, and nobody can make a primary build more empty blocks than its share."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from otcnode import limits
from otcnode.consensus import building, retransmission
from otcnode.consensus.messages import Message, Mode, Status, status_preimage
from otcnode.consensus.replica import Replica
from otcnode.genesis import ChainParameters
from tests.consensus.cluster import Cluster, Node
from tests.consensus.toy import CHAIN, fake_sign

LIAR, CUT_OFF = 1, 3


def _replica(node: Node) -> Replica:
    assert node.replica is not None
    return node.replica


def _idle() -> Cluster:
    """The primary, node 0, and node 3 do not hear each other; nothing waits, and no heartbeat comes soon."""
    cluster = Cluster(4, parameters=ChainParameters(heartbeat_real_ms=3_600_000))
    cluster.cut |= {(0, CUT_OFF), (CUT_OFF, 0)}
    cluster.start()
    cluster.advance(1_000)
    return cluster


def _lose(node: Node) -> None:
    node.crash()
    node.disk.record = None
    node.start()


def _silent(author: Node, signer: Node | None = None) -> Status:
    plain = Status(1, 0, Mode.SILENT, 0, (), b"", author.name, bytes(64))
    preimage = status_preimage(CHAIN, plain)
    return replace(plain, signature=fake_sign((author if signer is None else signer).name, preimage))


def _pass_on(cluster: Cluster, message: Status, for_ms: int) -> None:
    for _ in range(for_ms // 500):
        cluster.inject(LIAR, 0, message)
        cluster.advance(500)


def test_an_old_word_that_is_passed_on_costs_its_share_of_blocks_and_takes_none_from_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "wake_blocks_max", 20)
    cluster = _idle()
    cluster.liars.add(LIAR)
    _pass_on(cluster, _silent(cluster.nodes[CUT_OFF]), 60_000)
    assert cluster.heights() == [20] * 4
    _lose(cluster.nodes[CUT_OFF])
    cluster.advance(30_000)
    assert _replica(cluster.nodes[CUT_OFF]).mode is Mode.ACTIVE, "node 2 passes on its word too"
    _lose(cluster.nodes[2])
    cluster.advance(30_000)
    assert _replica(cluster.nodes[2]).mode is Mode.ACTIVE, "what it passed on is not counted as its own"


def test_a_liar_that_says_of_itself_that_it_is_silent_takes_no_blocks_from_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It says so to all but the primary, and those who are honest pass it on."""
    monkeypatch.setattr(limits, "wake_blocks_max", 20)
    cluster = _idle()
    cluster.cut |= {(0, LIAR), (LIAR, 0)}
    cluster.liars.add(LIAR)
    for _ in range(120):
        cluster.inject(LIAR, 2, _silent(cluster.nodes[LIAR]))
        cluster.advance(500)
    assert _replica(cluster.nodes[0]).state.committed == 20
    _lose(cluster.nodes[CUT_OFF])
    cluster.advance(30_000)
    assert _replica(cluster.nodes[CUT_OFF]).mode is Mode.ACTIVE


def test_who_is_heard_speaks_for_itself() -> None:
    cluster = _idle()
    cluster.heal()
    cluster.advance(1_000)
    cluster.liars.add(LIAR)
    _pass_on(cluster, _silent(cluster.nodes[CUT_OFF]), 10_000)
    assert cluster.heights() == [0] * 4
    assert _replica(cluster.nodes[0]).state.told_of_silent_ms == {}


def test_what_is_passed_on_is_of_this_epoch_of_its_author_and_of_a_validator() -> None:
    cluster = _idle()
    cluster.liars.add(LIAR)
    cut_off, told = cluster.nodes[CUT_OFF], _replica(cluster.nodes[0]).state.told_of_silent_ms
    of_epoch_2 = replace(_silent(cut_off), epoch=2)
    for message in (of_epoch_2, replace(_silent(cut_off), validator=b"stranger".ljust(32)), _silent(cluster.nodes[0])):
        cluster.inject(LIAR, 0, message)
    assert told == {} and cluster.nodes[0].blamed == []
    cluster.inject(LIAR, 0, _silent(cut_off, cluster.nodes[LIAR]))
    assert told == {} and [peer for peer, _ in cluster.nodes[0].blamed] == [cluster.nodes[LIAR].name]
    cluster.inject(LIAR, 0, _silent(cut_off))
    assert set(told) == {(cluster.nodes[LIAR].name, cut_off.name)}


def test_it_is_passed_on_so_often_and_to_the_primary_alone() -> None:
    cluster = _idle()
    passed: list[tuple[int, int]] = []

    def watch(sender: Node, receiver: Node, message: Message) -> Message:
        if isinstance(message, Status) and message.validator != sender.name:
            passed.append((sender.index, receiver.index))
        return message

    cluster.on_send = watch
    cluster.liars.add(CUT_OFF)
    for _ in range(50):
        cluster.inject(CUT_OFF, 2, _silent(cluster.nodes[CUT_OFF]))
        cluster.advance(60)
    most = limits.silent_told_per_second_max * 4
    assert set(passed) == {(2, 0)} and 0 < len(passed) <= most


def test_a_primary_that_says_it_is_silent_is_left_only_while_it_says_so() -> None:
    cluster = Cluster(4, parameters=ChainParameters(heartbeat_real_ms=3_600_000))
    cluster.start()
    cluster.advance(10_000)
    states = [_replica(node).state for node in cluster.nodes]
    assert not any(building.is_primary_silent(state) for state in states) and states[1].view == 0
    _lose(cluster.nodes[0])
    cluster.advance(1_000)
    assert building.is_primary_silent(states[1])
    cluster.nodes[0].crash()
    cluster.advance(limits.hearing_ms_max + 500)
    assert not building.is_primary_silent(states[1])


def test_if_nobody_passes_it_on_it_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted bug."""
    monkeypatch.setattr(retransmission, "_tell_primary", lambda core, silent: None)
    cluster = _idle()
    _lose(cluster.nodes[CUT_OFF])
    cluster.advance(60_000)
    assert _replica(cluster.nodes[CUT_OFF]).mode is Mode.SILENT

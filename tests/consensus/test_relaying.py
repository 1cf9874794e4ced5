"""What a replica passes on of others to a peer that is not linked to them, whatever that peer itself may do."""

from __future__ import annotations

import pytest

from otcnode.consensus.messages import Mode, Status, ViewChange
from otcnode.consensus.status import view_messages
from otcnode.consensus.votes import bitmap
from tests.consensus.cluster import Cluster

MIDDLE = 3


def _passed_on(mode: Mode, held: dict[int, int], shown: tuple[int, ...]) -> dict[int, int]:
    """The VIEW-CHANGEs, as views by author, that one of five validators which holds `held` sends to node 3. This one is
    in view 0 and shows that it has some VIEW-CHANGE above it of each of `shown`."""
    cluster = Cluster(5)
    cluster.start()
    names = [node.name for node in cluster.nodes]
    replica = cluster.nodes[0].replica
    assert replica is not None
    for author, view in held.items():
        replica.state.view_changes[names[author]] = ViewChange(1, view, 0, None, (), names[author], bytes(64))
    held_there = bitmap(replica.state.epoch.validators, [names[author] for author in shown])
    status = Status(1, 0, mode, 0, (), held_there, names[MIDDLE], bytes(64))
    sent = [message for message in view_messages(replica.state, status) if isinstance(message, ViewChange)]
    return {cluster.by_name[message.validator].index: message.view for message in sent}


@pytest.mark.parametrize("mode", [Mode.SILENT, Mode.FOLLOWING, Mode.ACTIVE])
def test_who_may_not_sign_gets_newer_view_changes_too_for_it_may_be_the_only_link(mode: Mode) -> None:
    assert _passed_on(mode, {1: 1, 2: 2}, shown=(1, 2)) == {2: 2}


def test_what_it_has_is_not_sent_again() -> None:
    assert _passed_on(Mode.SILENT, {1: 1, 2: 1, 4: 1}, shown=(1, 2)) == {4: 1}


@pytest.mark.parametrize("mode", [Mode.SILENT, Mode.FOLLOWING, Mode.ACTIVE])
def test_a_high_view_of_f_is_not_sent_again_for_it_moves_nobody_and_there_would_be_no_end(mode: Mode) -> None:
    assert _passed_on(mode, {2: 10**9}, shown=(2,)) == {}


def test_its_own_does_not_count_among_those_that_leave_it_behind() -> None:
    assert _passed_on(Mode.ACTIVE, {MIDDLE: 1, 2: 10**9}, shown=(2,)) == {}

"""Sets of every size that a chain allows: more validators than an integer of the wire has bits, too."""

from __future__ import annotations

import pytest

from otcnode import limits
from otcnode.codec import decode, encode
from otcnode.consensus.events import Received
from otcnode.consensus.messages import Message, ViewChange, view_change_preimage
from otcnode.consensus.status import own_status
from otcnode.consensus.votes import absent, bitmap
from tests.consensus.cluster import Cluster, prepare_of
from tests.consensus.toy import CHAIN, fake_sign


@pytest.mark.parametrize("count", [1, 7, 8, 9, 63, 64, 65, limits.validators_max])
def test_what_is_held_of_whom_can_be_said_of_every_set(count: int) -> None:
    names = [bytes([index]) * 32 for index in range(count)]
    assert absent(names, bitmap(names, names)) == ()
    assert absent(names, bitmap(names, names[:-1])) == (names[-1],)
    assert absent(names, bitmap(names, names[1:])) == (names[0],)
    assert absent(names, b"") == tuple(names)


@pytest.mark.parametrize("count", [63, 64, 65, limits.validators_max])
def test_a_status_of_every_set_goes_over_the_wire(count: int) -> None:
    """Of a replica that holds a PREPARE and a VIEW-CHANGE of everybody."""
    cluster = Cluster(count)
    listener, others = cluster.nodes[0], cluster.nodes[1:]
    listener.start()
    replica = listener.replica
    assert replica is not None
    for node in others:
        listener.feed(Received(node.name, prepare_of(node.name, 1, 0, 1, bytes(32))))
        plain = ViewChange(1, 1, 0, None, (), node.name, bytes(64))
        signature = fake_sign(node.name, view_change_preimage(CHAIN, plain))
        listener.feed(Received(node.name, ViewChange(1, 1, 0, None, (), node.name, signature)))
    status = own_status(replica.state)
    message: Message = decode(Message, encode(status))
    assert message == status
    names = tuple(node.name for node in cluster.nodes)
    assert absent(names, status.view_changes) == ()


@pytest.mark.long
def test_more_validators_than_an_integer_has_bits_change_the_view_and_commit() -> None:
    cluster = Cluster(65)
    for node in cluster.nodes[1:]:
        node.start()
        node.pool[b"a"] = None
        node.work()
    assert cluster.advance_until(lambda: all(node.tip_state().height for node in cluster.nodes[1:]), 10_000)

"""Whatever a peer sends, `step` returns: every message kind with its fields replaced by others'."""

from __future__ import annotations

from random import Random

import msgspec

from otcnode.codec import Record
from otcnode.consensus.messages import Bodies, BodyRequest, Decision, Entries, Message
from tests.consensus.cluster import Cluster, Node


def _mutated(value: object, pool: list[object], chance: Random) -> object:
    """The same shape with some leaves replaced by leaves of the same type seen elsewhere."""
    if isinstance(value, Record):
        fields = {name: _mutated(getattr(value, name), pool, chance) for name in value.__struct_fields__}
        return msgspec.structs.replace(value, **fields)
    if isinstance(value, tuple):
        items = [_mutated(item, pool, chance) for item in value]
        if items and chance.random() < 0.1:
            items = chance.choice([items[1:], [*items, items[0]], list(reversed(items))])
        return tuple(items)
    if chance.random() < 0.1:
        same = [other for other in pool if type(other) is type(value)]
        lengths = [other for other in same if not isinstance(other, bytes) or len(other) == len(value)]  # type: ignore[arg-type]
        return chance.choice(lengths) if lengths else value
    return value


def _leaves(value: object) -> list[object]:
    if isinstance(value, Record):
        return [leaf for name in value.__struct_fields__ for leaf in _leaves(getattr(value, name))]
    if isinstance(value, tuple):
        return [leaf for item in value for leaf in _leaves(item)]
    return [value]


def test_no_message_makes_a_replica_raise() -> None:
    chance = Random(1)
    cluster = Cluster(4)
    heard: list[Message] = []
    cluster.on_deliver = lambda _receiver, message: heard.append(message)
    cluster.liars = {0, 1, 2, 3}

    def lose(_sender: Node, _receiver: Node, _message: Message) -> list[int]:
        return [] if chance.random() < 0.3 else [chance.randint(1, 400)]

    cluster.route = lose
    cluster.start()
    for index in range(6):
        cluster.submit(b"%d" % index)
        cluster.advance(1_200)
        if index == 2:
            cluster.nodes[0].crash()
        if index == 4:
            cluster.nodes[0].start()
    kinds = {type(message).__name__ for message in heard}
    assert {"PrePrepare", "Prepare", "Commit", "ViewChange", "NewView", "Status"} <= kinds
    some = cluster.nodes[1].disk.chain[0]
    name = some[2].block_hash
    heard.extend(
        [
            BodyRequest(1, name, (0, 5, 2**60)),
            Bodies(1, name, ((0, b"x"), (2**60, b""))),
            Entries(1, name, ()),
            Decision(some[0], some[2]),
        ]
    )
    pool: list[object] = [leaf for message in heard for leaf in _leaves(message)]
    pool.extend([0, 1, 2**40, 2**63 - 1, None, bytes(32), bytes(64)])
    node = cluster.nodes[2]
    for _ in range(4_000):
        message = _mutated(chance.choice(heard), pool, chance)
        cluster.inject(chance.choice([0, 1, 3]), node.index, message)  # type: ignore[arg-type]
    assert node.replica is not None
    state = node.replica.state
    assert max(state.prepares.heights(), default=0) <= state.committed + 2 * state.window
    assert len(state.view_changes) <= 4 and len(state.candidates) <= 100
    cluster.heal()
    cluster.route = lambda _s, _r, _m: [1]
    cluster.submit(b"after")
    assert cluster.advance_until(lambda: all(b"after" in n.tip_state().seen for n in cluster.nodes), 60_000)

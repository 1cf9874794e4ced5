"""Storms: view after view with few commits, each round cruel in one particular way. Only safety counts.

A single node hears the PREPAREs and is then cut off, so that it alone holds a proof; a single node hears the COMMITs
and is cut off, so that it alone has committed; whoever spoke restarts. These are the places where the rules of a view
change decide, and which random loss alone seldom reaches.
"""

from __future__ import annotations

from random import Random

from otcnode.consensus import effects
from otcnode.consensus.messages import Commit, Decision, Entries, Message, NewView, Prepare, PrePrepare, ViewChange
from otcnode.genesis import ChainParameters
from tests.consensus.cluster import Cluster, Crash, Node
from tests.consensus.liars import Liar
from tests.consensus.toy import CHANGE, WINDOW


def storm(seed: int, count: int = 4, rounds: int = 40) -> Cluster:
    """One storm; raises Violation when a promise is broken. The same seed gives the same storm."""
    chance = Random(seed)
    parameters = ChainParameters(
        heartbeat_real_ms=3_600_000,
        window=chance.choice([1, 2, 4]),
        rotation_blocks=10_000_000,
        block_transactions_max=1,
    )
    changes = chance.random() < 0.25
    cluster = Cluster(count, parameters=parameters, spare=1 if changes else 0)
    cluster.view_timeout_ms_base = 300
    cluster.records_are_whole = True
    for node in cluster.nodes:
        node.record_bytes = chance.choice([1, 3_000, node.record_bytes])
    weather = _Weather(cluster, chance)
    cluster.route = weather.route
    cluster.on_effect = weather.before_effect
    if count >= 4 and not changes and chance.random() < 0.4:
        Liar(cluster, cluster.nodes[chance.randrange(count)], chance)
    cluster.start()
    cluster.advance(600)
    for number in range(rounds):
        for node in cluster.nodes:
            if node.replica is None and chance.random() < 0.7:
                node.start()
            if chance.random() < 0.9:
                node.submit(b"%d" % number)
        if changes and chance.random() < 0.3:
            members = chance.sample([node.name for node in cluster.nodes], count)
            other = (
                CHANGE + b"".join(sorted(members)) if chance.random() < 0.6 else WINDOW + b"%d" % chance.randint(1, 4)
            )
            cluster.submit(other + b"#%d" % number)
        weather.turn()
        cluster.advance(chance.choice([30, 100, 400, 800]))
    return cluster


class _Weather:
    def __init__(self, cluster: Cluster, chance: Random) -> None:
        self._cluster = cluster
        self._chance = chance
        self._one = 0
        self._heard_by_one: tuple[type[Message], ...] = ()
        self._lost: dict[type[Message], float] = {}
        self._crash = 0.0
        self._cut_next = False

    def turn(self) -> None:
        chance, cluster = self._chance, self._cluster
        cluster.heal()
        if self._cut_next:
            cluster.isolate(self._one)
            self._cut_next = False
            self._heard_by_one = ()
        else:
            self._one = chance.randrange(len(cluster.nodes))
            self._heard_by_one = chance.choice(
                [(), (Prepare,), (Commit, Decision), (Prepare, Commit, Decision), (PrePrepare, NewView), (NewView,)]
            )
            self._cut_next = bool(self._heard_by_one) and chance.random() < 0.8
            if chance.random() < 0.3:
                cluster.isolate(chance.randrange(len(cluster.nodes)))
        self._lost = {
            kind: chance.choice([0.3, 0.7, 1.0])
            for kind in (PrePrepare, Prepare, Commit, ViewChange, NewView, Entries)
            if chance.random() < 0.15
        }
        self._crash = chance.choice([0.0, 0.0, 0.01, 0.05])

    def route(self, _sender: Node, receiver: Node, message: Message) -> list[int]:
        if isinstance(message, self._heard_by_one) and receiver.index != self._one:
            return []
        if self._chance.random() < self._lost.get(type(message), 0.0):
            return []
        return [self._chance.randint(1, 8)]

    def before_effect(self, _node: Node, _effect: effects.Effect) -> None:
        if self._chance.random() < self._crash:
            raise Crash

"""Nets of few links that stay as they are for ever: whoever is linked at all gets everything over others.

A random net in which each node reaches each; crashes and restarts, perhaps a lost record, perhaps a dead primary; then
everything must go on, without a link more. Of more than four validators one that may vote must be linked to enough
others for a quorum, to leave a view (docs/consensus.md): who has lost its record is no such one until it wakes.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from random import Random

from tests.consensus.cluster import Cluster, Violation

FINAL_WITHIN_MS = 200_000
Link = tuple[int, int]


def random_net(chance: Random, nodes: Iterable[int], share: float = 0.3) -> set[Link]:
    """Each node reaches each; of the links that are not needed for that, this share."""
    order = list(nodes)
    chance.shuffle(order)
    links = {_link(order[place], chance.choice(order[:place])) for place in range(1, len(order))}
    return links | {pair for pair in combinations(sorted(order), 2) if chance.random() < share}


def _link(one: int, other: int) -> Link:
    return min(one, other), max(one, other)


def lay(cluster: Cluster, links: set[Link]) -> None:
    for one, other in combinations(range(len(cluster.nodes)), 2):
        if (one, other) not in links:
            cluster.cut |= {(one, other), (other, one)}


def hubs(cluster: Cluster, links: set[Link]) -> set[int]:
    """Who is linked to enough others to form a quorum with."""
    enough = cluster.genesis.epoch.quorum - 1
    return {index for index in range(len(cluster.nodes)) if sum(index in link for link in links) >= enough}


def run(seed: int, count: int = 4) -> Cluster:
    """With more than four validators the net has a hub; with four every net of three or four living ones has. Raises
    Violation when a promise is broken, or when something submitted at the end is not final everywhere."""
    chance = Random(seed)
    cluster = Cluster(count)
    cluster.start()
    cluster.advance(300)
    dead = {chance.randrange(count)} if chance.random() < 0.5 else set()
    living = [index for index in range(count) if index not in dead]
    links = random_net(chance, living)
    while count > 4 and not hubs(cluster, links):
        links = random_net(chance, living)
    linked = hubs(cluster, links)
    assert linked
    lay(cluster, links)
    for index in dead:
        cluster.nodes[index].crash()
    needed = linked if count > 4 and len(linked) == 1 else set()
    _weather(cluster, chance, living, set() if dead else {*living} - needed)
    for number in range(3):
        if not _becomes_final(cluster, living, b"final %d" % number):
            raise Violation(f"stands still for ever at {cluster.heights()}")
    return cluster


def _becomes_final(cluster: Cluster, living: list[int], raw: bytes) -> bool:
    for index in living:
        cluster.nodes[index].submit(raw)
    return cluster.advance_until(
        lambda: all(raw in cluster.nodes[index].tip_state().seen for index in living), FINAL_WITHIN_MS
    )


def _weather(cluster: Cluster, chance: Random, living: list[int], may_lose: set[int]) -> None:
    """At most one of all is down for good, or without its record, at the end: one of `may_lose`."""
    for number in range(12):
        act = chance.random()
        node = cluster.nodes[chance.choice(living)]
        if act < 0.5:
            for index in living:
                cluster.nodes[index].submit(b"%d" % number)
        elif act < 0.75:
            node.crash()
            cluster.advance(chance.choice([0, 10, 500, 3_000]))
            node.start()
        elif act < 0.85 and node.index in may_lose:
            may_lose = set()
            node.crash()
            node.disk.record = None
            node.start()
        cluster.advance(chance.choice([5, 20, 100, 600, 3_000]))

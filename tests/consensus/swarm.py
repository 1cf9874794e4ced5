"""Random runs: a phase of faults in which only safety counts, then a healed quorum that must finish everything."""

from __future__ import annotations

from random import Random

from otcnode.consensus import effects
from otcnode.consensus.messages import Commit, Decision, Message, NewView, Prepare, PrePrepare, Status
from otcnode.genesis import ChainParameters
from tests.consensus.answers import check_explanations
from tests.consensus.cluster import Cluster, Crash, Node, Violation
from tests.consensus.liars import Liar
from tests.consensus.toy import CHANGE

LIVENESS_MS = 240_000


def run(seed: int, count: int | None = None) -> Cluster:
    """One run; raises Violation when a promise is broken. The same seed gives the same run."""
    chance = Random(seed)
    validators = count if count is not None else chance.choice([1, 4, 4, 4, 5, 6, 7])
    window = chance.choice([1, 2, 4])
    parameters = ChainParameters(
        heartbeat_real_ms=chance.choice([3_000, 3_600_000]),
        window=window,
        rotation_blocks=chance.choice([10_000_000, 3, 10, 1_000]),
        block_transactions_max=chance.choice([1, 3, 50]),
    )
    changes = validators >= 4 and chance.random() < 0.3
    cluster = Cluster(validators, parameters=parameters, spare=1 if changes else 0)
    cluster.records_are_whole = True
    faults = Faults(cluster, chance)
    liar = None
    if validators >= 4 and not changes and chance.random() < 0.5:
        liar = cluster.nodes[chance.randrange(validators)]
        Liar(cluster, liar, chance)
    cluster.start()
    submitted: list[bytes] = []
    for round_number in range(chance.randint(4, 16)):
        for _ in range(chance.randint(0, 4)):
            raw = f"{seed} {len(submitted)}".encode()
            submitted.append(raw)
            for node in cluster.nodes:
                if chance.random() < 0.9:
                    node.submit(raw)
        if changes and chance.random() < 0.3:
            members = sorted(
                chance.sample([node.name for node in cluster.nodes], chance.choice([validators, validators + 1]))
            )
            for node in cluster.nodes:
                node.submit(CHANGE + b"".join(members) + b"#%d" % round_number)
        faults.change(round_number)
        cluster.advance(chance.choice([20, 100, 500, 2_000, 5_000]))
        check_explanations(cluster)
    faults.stop()
    dead = chance.sample(range(validators), (validators - 1) // 3)
    if changes:
        dead = []
    elif liar is not None:
        dead = [liar.index] if chance.random() < 0.5 else []
    elif faults.lost is not None or chance.random() < 0.5:
        dead = []
    for node in cluster.nodes:
        if node.index in dead and node.replica is not None:
            node.crash()
        elif node.index not in dead and node.replica is None:
            node.start()
        for raw in submitted:
            node.submit(raw)
    living = [node for node in cluster.nodes if node.index not in dead and node is not liar]

    def done() -> bool:
        # Those outside the newest epoch follow by block sync, which is not a matter of consensus.
        members = max(living, key=lambda node: node.tip_state().height).tip_state().epoch.validators
        return all(set(submitted) <= node.tip_state().seen for node in living if node.name in members)

    if not cluster.advance_until(done, LIVENESS_MS):
        raise Violation(
            f"not final after the faults ended: heights {cluster.heights()}, dead {dead}, liar {liar and liar.index}"
        )
    return cluster


class Faults:
    """Loss, duplication, delay, reordering, partitions, pauses, crashes between any two effects."""

    def __init__(self, cluster: Cluster, chance: Random) -> None:
        self._cluster = cluster
        self._chance = chance
        self._loss = 0.0
        self._duplication = 0.0
        self._delay_ms = 1
        self._crash = 0.0
        self._on = True
        self._deaf: dict[tuple[int, type[Message]], float] = {}
        self.lost: Node | None = None
        self._favoured: int | None = None
        """Only this node hears COMMITs, and it is cut off as soon as it has committed alone."""
        self._favour = chance.choice([0.0, 0.5, 0.9])
        self._deafness = chance.choice([0.0, 0.2, 0.4])
        cluster.route = self._route
        cluster.on_effect = self._before_effect

    def change(self, _round: int) -> None:
        chance, cluster = self._chance, self._cluster
        self._loss = chance.choice([0.0, 0.0, 0.05, 0.3, 0.6])
        self._duplication = chance.choice([0.0, 0.1])
        self._delay_ms = chance.choice([1, 1, 20, 300, 2_500])
        self._crash = chance.choice([0.0, 0.0, 0.002, 0.02])
        self._deaf = {
            (node.index, kind): chance.choice([0.5, 0.9, 1.0])
            for node in cluster.nodes
            for kind in (PrePrepare, Prepare, Commit, NewView, Status, Decision)
            if chance.random() < self._deafness
        }
        cluster.heal()
        self._favoured = chance.randrange(len(cluster.nodes)) if chance.random() < self._favour else None
        if self._favoured is not None:
            return
        if chance.random() < 0.4:
            for sender in cluster.nodes:
                for receiver in cluster.nodes:
                    if chance.random() < 0.3:
                        cluster.cut.add((sender.index, receiver.index))
        elif chance.random() < 0.3:
            cluster.isolate(chance.randrange(len(cluster.nodes)))
        for node in cluster.nodes:
            node.resume()
            if chance.random() < 0.1:
                node.pause()
            if chance.random() < 0.1:
                node.skew_ms = chance.choice([-40_000, -1_000, 0, 1_000, 40_000])
            if node.replica is None and chance.random() < 0.7:
                if self._may_lose_record(node):
                    self.lost = node
                    node.disk.record = None
                node.start()

    def _may_lose_record(self, node: Node) -> bool:
        """One validator at most, where one may be faulty and none lies."""
        allowed = len(self._cluster.nodes) >= 4 and not self._cluster.liars and self.lost in (None, node)
        return allowed and self._chance.random() < 0.3

    def stop(self) -> None:
        self._on = False
        self._cluster.heal()
        for node in self._cluster.nodes:
            node.skew_ms = 0
            node.resume()

    def _route(self, _sender: Node, receiver: Node, message: Message) -> list[int]:
        chance = self._chance
        if not self._on:
            return [chance.randint(1, 20)]
        if self._favoured not in (None, receiver.index) and isinstance(message, Commit | Decision):
            return []
        if chance.random() < max(self._loss, self._deaf.get((receiver.index, type(message)), 0.0)):
            return []
        copies = 2 if chance.random() < self._duplication else 1
        return [chance.randint(1, self._delay_ms + 1) for _ in range(copies)]

    def _before_effect(self, node: Node, effect: effects.Effect) -> None:
        if self._on and node.index == self._favoured and isinstance(effect, effects.Commit):
            self._cluster.isolate(node.index)
        if self._on and self._chance.random() < self._crash:
            if self._chance.random() < 0.8:
                self._cluster.at(self._chance.randint(1, 3_000), lambda: self._restart(node))
            raise Crash

    def _restart(self, node: Node) -> None:
        if node.replica is None and self._on:
            node.start()

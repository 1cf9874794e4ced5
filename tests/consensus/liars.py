"""A Byzantine validator: an honest replica whose messages are rewritten on their way out."""

from __future__ import annotations

from random import Random

from otcnode.blocks import Header, block_hash
from otcnode.consensus.messages import Commit, Message, Prepare, PrePrepare, ViewChange, view_change_preimage
from tests.consensus.cluster import Cluster, Node, commit_of, pre_prepare_of, prepare_of
from tests.consensus.toy import CHAIN, ToyState, entries_of, execute, fake_sign


class Liar:
    """Tells two groups of validators two chains, votes for whatever it sees, and hides its proofs."""

    def __init__(self, cluster: Cluster, node: Node, chance: Random) -> None:
        self._cluster = cluster
        self._node = node
        self._chance = chance
        self._parallel: dict[bytes, tuple[Header, tuple[bytes, ...], ToyState]] = {}
        self._voted: set[tuple[int, int, bytes]] = set()
        self._group = {index for index in range(len(cluster.nodes)) if chance.random() < 0.5}
        self._hides = chance.random() < 0.5
        self._echoes = chance.random() < 0.7
        cluster.liars.add(node.index)
        cluster.on_send = self._rewrite
        cluster.on_deliver = self._echo

    def _rewrite(self, sender: Node, receiver: Node, message: Message) -> Message | None:
        if sender is not self._node:
            return message
        match message:
            case PrePrepare() if receiver.index in self._group and message.header.proposer == self._node.name:
                return self._other_proposal(message)
            case Prepare() if message.validator == self._node.name and receiver.index in self._group:
                return self._other_vote(message)
            case Commit() if message.validator == self._node.name and receiver.index in self._group:
                return self._other_vote(message)
            case ViewChange() if self._hides and message.validator == self._node.name:
                plain = ViewChange(
                    message.epoch, message.view, message.committed, message.certificate, (), self._node.name, bytes(64)
                )
                signature = fake_sign(self._node.name, view_change_preimage(CHAIN, plain))
                return ViewChange(
                    message.epoch, message.view, message.committed, message.certificate, (), self._node.name, signature
                )
            case _:
                return message

    def _other_proposal(self, message: PrePrepare) -> Message:
        name = block_hash(message.header)
        if name not in self._parallel:
            found = self._node.flight.get(name)
            if found is None:
                return message
            beside = self._parallel.get(message.header.parent)
            parent = beside[2] if beside is not None else self._node.parent_state(message.header.parent)
            if parent is None:
                return message
            header, state = execute(parent, found[1], message.header.time_ms + 1, self._node.name)
            self._parallel[name] = (header, found[1], state)
        header, bodies, _ = self._parallel[name]
        return pre_prepare_of(self._node.name, message.epoch, message.view, header, entries_of(bodies))

    def _other_vote(self, message: Prepare | Commit) -> Message:
        beside = self._parallel.get(message.block_hash)
        if beside is None:
            return message
        make = prepare_of if isinstance(message, Prepare) else commit_of
        return make(self._node.name, message.epoch, message.view, message.height, beside[2].block_hash)

    def _echo(self, receiver: Node, message: Message) -> None:
        """Vote for every block that anybody votes for."""
        if receiver is not self._node or not self._echoes or not isinstance(message, Prepare | Commit):
            return
        key = (message.view, message.height, message.block_hash)
        if key in self._voted:
            return
        self._voted.add(key)
        for peer in self._cluster.nodes:
            if peer is not self._node:
                for make in (prepare_of, commit_of):
                    vote = make(self._node.name, message.epoch, message.view, message.height, message.block_hash)
                    self._cluster.post(self._node, peer, vote)

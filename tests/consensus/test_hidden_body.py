"""A proof whose block only its liar still has must not be proposed again for ever."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from otcnode.blocks import ValidatorSignature, block_hash
from otcnode.consensus.messages import (
    Bodies,
    Commit,
    Message,
    Prepare,
    Proof,
    Status,
    ViewChange,
    view_change_preimage,
)
from otcnode.types import BlockHash
from tests.consensus.cluster import Cluster, Node, pre_prepare_of, prepare_of
from tests.consensus.toy import CHAIN, entries_of, execute, fake_sign

SECRET = b"what the liar proposed"
FORGOTTEN_MS_MAX = 600_000
CALM_MS = 60_000


class Hider:
    """The primary of view 0. It proposes a block to two others, alone keeps the proof of it, and for a while no votes
    between honest nodes arrive, so that views follow each other until the others have forgotten the block."""

    def __init__(self) -> None:
        self.cluster = Cluster(4)
        self.cluster.liars.add(0)
        self.liar, *self.honest = self.cluster.nodes
        self.prepares: dict[bytes, Prepare] = {}
        self.calm = False
        self.cluster.on_send = self._on_send
        self.cluster.start()
        self.cluster.advance(600)
        self.proof = self._proved()
        self._told = 0

    def _on_send(self, sender: Node, _receiver: Node, message: Message) -> Message | None:
        if sender is self.liar:
            return message if isinstance(message, Status) else None
        if isinstance(message, Prepare) and message.view == 0:
            self.prepares[message.validator] = message
        return None if isinstance(message, Prepare | Commit) and not self.calm else message

    def _proved(self) -> Proof:
        cluster, liar = self.cluster, self.liar
        header, _ = execute(cluster.genesis, (SECRET,), self.honest[0].now().ledger_ms, liar.name)
        name = BlockHash(block_hash(header))
        for node in self.honest[:2]:
            cluster.inject(0, node.index, pre_prepare_of(liar.name, 1, 0, header, entries_of((SECRET,))))
            cluster.advance(1)
            cluster.inject(0, node.index, Bodies(1, name, ((0, SECRET),)))
            cluster.advance(2)
        votes = [prepare_of(liar.name, 1, 0, 1, name), *self.prepares.values()]
        signatures = (ValidatorSignature(vote.validator, vote.signature) for vote in votes)
        return Proof(0, header, tuple(sorted(signatures, key=lambda entry: entry.validator)))

    @property
    def remembered(self) -> bool:
        name = block_hash(self.proof.header)
        return any(name in node.replica.state.candidates for node in self.honest if node.replica is not None)

    def ask(self) -> None:
        """Once a view is open, its VIEW-CHANGE with the proof is the first that comes for the next."""
        states = [node.replica.state for node in self.honest if node.replica is not None]
        view = states[0].view + 1
        view += view % 4 == 0
        if view > self._told and all(state.active and state.view == states[0].view for state in states):
            self._told = view
            plain = ViewChange(1, view, 0, None, (self.proof,), self.liar.name, bytes(64))
            message = replace(plain, signature=fake_sign(self.liar.name, view_change_preimage(CHAIN, plain)))
            for node in self.honest:
                self.cluster.inject(0, node.index, message)

    def next_view(self) -> None:
        """It is gone but for what it asks for, and the honest leave their view."""
        self.liar.crash()
        left = max(node.replica.state.view for node in self.honest if node.replica is not None)

        def is_left() -> bool:
            self.ask()
            states = [node.replica.state for node in self.honest if node.replica is not None]
            return all(state.view > left and state.active for state in states)

        assert self.cluster.advance_until(is_left, FORGOTTEN_MS_MAX)

    def until(self, holds: Callable[[Node], bool]) -> bool:
        """Of all honest nodes, within a few view timeouts in which the liar is always the first to ask."""

        def all_hold() -> bool:
            self.ask()
            return all(map(holds, self.honest))

        return self.cluster.advance_until(all_hold, CALM_MS)


def test_a_view_is_opened_without_the_proof_of_a_block_that_nobody_has() -> None:
    hider = Hider()
    for node in hider.honest:
        node.submit(b"work")
    assert hider.cluster.advance_until(lambda: not hider.remembered, FORGOTTEN_MS_MAX)
    hider.next_view()
    hider.calm = True
    assert hider.until(lambda node: b"work" in node.tip_state().seen)


def test_a_proof_whose_block_comes_is_proposed_again() -> None:
    """The same, but two honest nodes still hold the block: a primary that lacks it has it before it opens the view."""
    hider = Hider()
    assert hider.remembered
    for node in hider.honest:
        node.submit(b"work")
    hider.next_view()
    hider.calm = True
    assert hider.until(lambda node: {SECRET, b"work"} <= node.tip_state().seen)

"""What each honest node is shown of double votes: it accuses whoever contradicts itself under its eyes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from otcnode.blocks import block_hash, commit_preimage, prepare_preimage
from otcnode.consensus.evidence import Kind
from otcnode.consensus.messages import Commit, Message, Prepare, PrePrepare
from otcnode.consensus.replica import Replica
from otcnode.consensus.state import State
from otcnode.errors import DecodeError
from otcnode.simulation import wire
from otcnode.simulation.signing import Verify
from otcnode.simulation.violation import Promise, Violation

ROOM = 64
"""Offences of one validator that are told at least."""
_KINDS = {
    Prepare: frozenset({Kind.DOUBLE_PRE_PREPARE, Kind.DOUBLE_PREPARE}),
    Commit: frozenset({Kind.DOUBLE_COMMIT}),
}


class Where(NamedTuple):
    """Of what a vote must be the only one."""

    kind: type[Prepare | Commit]
    validator: bytes
    epoch: int
    view: int
    height: int


class VisibleLies:
    """Told of every message that a node is given, before and after. Of two authentic votes for two blocks that one life
    of a node is shown while it is in their view and has not committed their height, it holds one and is shown the
    other: it names the offence then, unless it is told of as many others of that validator as there is room for."""

    def __init__(self, nodes: Sequence[bytes], liars: Iterable[int], chain: bytes, verify: Verify) -> None:
        self._nodes = tuple(nodes)
        self._lying = frozenset(liars)
        self._liars = frozenset(nodes[index] for index in self._lying)
        self._chain = chain
        self._verify = verify
        self._shown: list[dict[Where, bytes]] = [{} for _ in nodes]
        """The first block that each node was shown a vote for."""
        self._states: list[State | None] = [None for _ in nodes]
        """What held those votes; another one knows of none."""

    def contradiction(self, node: int, replica: Replica, payload: bytes) -> Where | None:
        """Before the node is given a message: what it must name once it has been given it."""
        if not self._liars or node in self._lying or not replica.started:
            return None
        try:
            message = wire.read(payload)
        except DecodeError:
            return None
        vote, state = self._vote(replica, message), replica.state
        if vote is None or vote.validator not in self._liars or vote.epoch != state.epoch.number:
            return None
        within = state.committed < vote.height <= state.committed + state.window
        if not within or vote.view != state.view or vote.validator not in state.epoch.validators:
            return None
        preimage = prepare_preimage if isinstance(vote, Prepare) else commit_preimage
        signed = preimage(self._chain, vote.epoch, vote.view, vote.height, vote.block_hash)
        if not self._verify(vote.validator, signed, vote.signature):
            return None
        where = Where(type(vote), vote.validator, vote.epoch, vote.view, vote.height)
        shown = self._shown[node]
        if self._states[node] is not state or (shown and next(iter(shown)).view != where.view):
            # What was seen in another life is forgotten; what was seen of a view that was left may be.
            self._states[node] = state
            shown.clear()
        return where if shown.setdefault(where, vote.block_hash) != vote.block_hash else None

    def requires(self, node: int, replica: Replica, where: Where) -> None:
        """After it. Raises Violation(EVIDENCE)."""
        if replica.state.epoch.number != where.epoch:
            return
        known = replica.core.offences.get(where.validator, {})
        named = any(
            offence.kind in _KINDS[where.kind] and (offence.view, offence.height) == (where.view, where.height)
            for offence in known
        )
        if not named and len(known) < ROOM:
            liar = self._nodes.index(where.validator)
            raise Violation(
                Promise.EVIDENCE,
                f"n{node} is shown two {where.kind.__name__.upper()}s of n{liar} in view {where.view} at height "
                f"{where.height}, for two blocks, and does not accuse it",
            )

    @staticmethod
    def _vote(replica: Replica, message: Message) -> Prepare | Commit | None:
        """The vote in a message; a proposal is its primary's PREPARE."""
        match message:
            case Prepare() | Commit():
                return message
            case PrePrepare(epoch, view, header):
                primary = replica.state.epoch.primary(view)
                return Prepare(epoch, view, header.height, block_hash(header), primary, message.signature)
            case _:
                return None

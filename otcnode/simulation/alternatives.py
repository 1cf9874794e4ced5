"""Other blocks than the honest half of a liar proposes or knows: executed like any other, and signed by the liar."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from otcnode import limits
from otcnode.blocks import Header, block_hash
from otcnode.consensus.messages import Message, NewView, PrePrepare, Reproposal
from otcnode.consensus.view_change import select
from otcnode.crypto import tagged_hash
from otcnode.engine.engine import Engine
from otcnode.simulation.forgery import JUNK_DOMAIN, Forger

REMEMBERED_HEIGHTS = 16
REWRITTEN_BELOW = 3


class Alternatives:
    """Built once each. `half` is the honest engine, whose ledger executes them; `league` is shared by all liars: hash
    of what one of them proposed to the others, to that of what it proposed to the victims."""

    def __init__(self, forger: Forger, half: Callable[[], Engine | None], league: dict[bytes, bytes]) -> None:
        self._forger = forger
        self._half = half
        self._league = league
        self._proposals: dict[bytes, PrePrepare | None] = {}
        """Hash of what was proposed to the others, to what is proposed to the victims."""
        self._rewritten: dict[int, Header] = {}
        """Height to an empty block that could have been there."""

    def name_instead(self, name: bytes) -> bytes:
        """The block that a victim shall believe in where the others know `name`, whichever liar proposed both."""
        return self._league.get(name) or tagged_hash(JUNK_DOMAIN, name)

    def proposal_instead(self, proposal: PrePrepare) -> PrePrepare | None:
        """Another valid block for the same height, with the last half of what waits, in another order."""
        name = block_hash(proposal.header)
        if name not in self._proposals:
            self._proposals[name] = instead = self._build(proposal)
            if instead is not None:
                self._league[name] = block_hash(instead.header)
        return self._proposals[name]

    def _build(self, proposal: PrePrepare) -> PrePrepare | None:
        half = self._half()
        if half is None:
            return None
        header = proposal.header
        below = self._proposals.get(header.parent)
        parent_name = header.parent if below is None else block_hash(below.header)
        parent = half.flight.parent(parent_name)
        if parent is None:
            return None
        taken = half.flight.ids_in_flight(parent_name)
        candidates = [decoded for decoded in half.intake.pool if decoded.id not in taken]
        time_ms = max(header.time_ms, parent.time_ms) + 1
        speculation, _ = half.flight.build(
            parent, self._forger.own, time_ms, reversed(candidates), len(candidates) // 2
        )
        signature = self._forger.prepare_signature(proposal.epoch, proposal.view, speculation.header)
        return replace(proposal, header=speculation.header, entries=speculation.entries, signature=signature)

    def with_false_root(self, proposal: PrePrepare) -> PrePrepare:
        header = replace(proposal.header, state_root=tagged_hash(JUNK_DOMAIN, proposal.header.state_root))
        signature = self._forger.prepare_signature(proposal.epoch, proposal.view, header)
        return replace(proposal, header=header, signature=signature)

    def reproposed(self, message: NewView) -> NewView:
        """Empty blocks in place of those that must be proposed again."""
        instead: list[Reproposal] = []
        for again in message.reproposals:
            parent = block_hash(instead[-1].header) if instead else again.header.parent
            header = self._empty(parent, again.header.time_ms + 1)
            if header is None:
                break
            signature = self._forger.prepare_signature(message.epoch, message.view, header)
            instead.append(Reproposal(header, signature))
        return self._forger.new_view(replace(message, reproposals=tuple(instead)))

    def opened_again(self, message: NewView) -> NewView | None:
        """The same view opened with another VIEW-CHANGE of its own, which has committed and proved nothing; None where
        there is none in it, or what then has to be proposed again is not what was. It is valid, as the first one is."""
        mine = next((entry for entry in message.view_changes if entry.validator == self._forger.own), None)
        if mine is None or mine.committed < message.epoch:
            return None
        other = self._forger.view_change(replace(mine, committed=message.epoch - 1, certificate=None, proofs=()))
        entries = tuple(other if entry is mine else entry for entry in message.view_changes)
        if select(entries).headers != tuple(again.header for again in message.reproposals):
            return None
        return self._forger.new_view(replace(message, view_changes=entries))

    def remember(self, proposal: PrePrepare) -> None:
        """While its parent is still known, keep an empty block that could stand in its place."""
        header = self._empty(proposal.header.parent, proposal.header.time_ms + 1)
        if header is not None:
            self._rewritten[header.height] = header
            self._rewritten.pop(header.height - REMEMBERED_HEIGHTS, None)

    def rewriting(self, opened: NewView) -> list[Message]:
        """Proposals and COMMITs for heights that the view stands on or has fixed."""
        base = max(entry.committed for entry in opened.view_changes)
        said: list[Message] = []
        for height in range(base - REWRITTEN_BELOW, base + len(opened.reproposals) + 1):
            header = self._rewritten.get(height)
            if header is not None:
                signature = self._forger.prepare_signature(opened.epoch, opened.view, header)
                said.append(PrePrepare(opened.epoch, opened.view, header, (), signature))
                said.append(self._forger.commit(opened.epoch, opened.view, header))
        return said

    def _empty(self, parent_name: bytes, time_ms: int) -> Header | None:
        half = self._half()
        parent = None if half is None else half.flight.parent(parent_name)
        if half is None or parent is None or len(half.flight) > limits.blocks_in_flight_kept:
            return None
        speculation, _ = half.flight.build(parent, self._forger.own, max(time_ms, parent.time_ms + 1), iter(()), 0)
        return speculation.header

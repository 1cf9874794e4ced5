"""A primary that lies about the time of its blocks.

While it proposes it goes by a clock that is ahead, so that it believes in its own blocks; the time of the block below,
which no builder would give, it puts into the proposal afterwards.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from otcnode.codec import decode, encode
from otcnode.consensus.messages import Message, PrePrepare
from otcnode.engine.engine import Engine
from otcnode.simulation.forgery import Forger, Spoken
from otcnode.simulation.plan import Liar


class FalseTimes:
    """`half` is the honest engine of the liar."""

    def __init__(self, forger: Forger, half: Callable[[], Engine | None]) -> None:
        self._forger = forger
        self._half = half
        self._instead: dict[bytes, PrePrepare] = {}
        """The last proposal by its signature, to what is said instead."""

    def ahead_ms(self, liar: Liar) -> int:
        """Of its clock; nothing while another one proposes."""
        half = self._half()
        if half is None or not half.replica.started or liar.beyond_ms is None:
            return 0
        state = half.replica.state
        return state.drift_ms + liar.beyond_ms if state.active and state.own == state.primary else 0

    def said_instead(self, liar: Liar, spoken: Spoken, injected: Callable[[str], None]) -> Spoken:
        return [(self._instead_of(liar, payload, injected), late_ms) for payload, late_ms in spoken]

    def _instead_of(self, liar: Liar, payload: bytes, injected: Callable[[str], None]) -> bytes:
        message: Message = decode(Message, payload)
        if not isinstance(message, PrePrepare) or message.header.proposer != self._forger.own:
            return payload
        if liar.beyond_ms is not None:
            injected(liar.habit.value)
            return payload
        if message.signature not in self._instead:
            self._instead = {message.signature: self._of_the_parents_time(message)}
        return encode(self._instead[message.signature])

    def _of_the_parents_time(self, proposal: PrePrepare) -> PrePrepare:
        """The same transactions, executed at the time of the block below."""
        half = self._half()
        parent = None if half is None else half.flight.parent(proposal.header.parent)
        if half is None or parent is None:
            return proposal
        named = {entry.id for entry in proposal.entries}
        candidates = [decoded for decoded in half.intake.pool if decoded.id in named]
        speculation, _ = half.flight.build(parent, self._forger.own, parent.time_ms, iter(candidates), len(candidates))
        signature = self._forger.prepare_signature(proposal.epoch, proposal.view, speculation.header)
        return replace(proposal, header=speculation.header, entries=speculation.entries, signature=signature)

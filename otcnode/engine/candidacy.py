"""When an admitted node says by itself that it is ready to be a validator.

It does so while an open VALIDATOR_SET proposal names it, or a validator has signed over to it, as long as it is no
validator, has synced, is connected to a quorum of the validators and has a voting record with which it may vote (else
the epoch that it joins could begin without a quorum that speaks, for good); again whenever what it said has lost half
of its worth, so that the approval that completes the proposal finds it fresh; never otherwise, so that nobody's ledger
fills with what nobody asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from otcnode import limits
from otcnode.consensus.events import Tip
from otcnode.sync import supported_height
from otcnode.vm.governance.operations import ValidatorReady
from otcnode.vm.governance.records import NODES, PROPOSALS, READINESS
from otcnode.vm.governance.validators import READY_BLOCKS, names, open_proposals_naming, schedule_at
from otcnode.vm.state import State
from otcnode.vm.view import StateView
from otcnode.vm.writes import writes_to

SYNCED_BLOCKS = READY_BLOCKS // 4
"""How far behind what the validators say they have committed a node may be and count as synced: a follower learns of
each block a little later than those who decided it."""


class Candidacy:
    """Watches the committed state for proposals that name this node."""

    def __init__(self, own: bytes, committed_state: Callable[[], StateView]) -> None:
        self._own = own
        self._committed_state = committed_state
        self._named: set[bytes] | None = None
        """Proposals that name this node and may be open; None before the first look."""
        self._said_ms = -limits.ready_interval_ms

    def committed(self, writes: Mapping[bytes, bytes | None]) -> None:
        """A block is durable."""
        if self._named is None:
            return
        for name, value in writes_to(PROPOSALS, writes):
            if value is not None and names(PROPOSALS.decode(value), self._own):
                self._named.add(name)
            else:
                self._named.discard(name)

    def due(
        self, tip: Tip, connected: Collection[bytes], claims: Mapping[bytes, int], may_vote: bool, now_ms: int
    ) -> ValidatorReady | None:
        """What to say now, if anything. `claims`: what each peer says it has committed; `may_vote`: whether the own
        voting record lets this node vote, so that nobody waits for a validator that is silent."""
        if self._own in tip.next_epoch.validators or now_ms - self._said_ms < limits.ready_interval_ms:
            return None
        if not may_vote:
            return None
        state = State(self._committed_state())
        if not (self._is_named(state, tip) and self._is_wanted(state, tip)) and not self._may_take_over(state, tip):
            return None
        if not _is_synced(tip, connected, claims):
            return None
        self._said_ms = now_ms
        return ValidatorReady(self._own, tip.height)

    def _is_named(self, state: State, tip: Tip) -> bool:
        if self._named is None:
            self._named = set(open_proposals_naming(state, self._own, tip.time_ms))
        return bool(self._named)

    def _may_take_over(self, state: State, tip: Tip) -> bool:
        """A validator has signed over to this node: its word alone makes the change, unless another one is pending."""
        record = state.get(NODES, self._own)
        if record is None or record.succeeds not in tip.next_epoch.validators:
            return False
        return schedule_at(state, tip.height + 1).pending is None

    def _is_wanted(self, state: State, tip: Tip) -> bool:
        """Admitted, not about to vote anyway, and what was said last is half as old as it may become."""
        if state.get(NODES, self._own) is None:
            return False
        pending = schedule_at(state, tip.height + 1).pending
        if pending is not None and self._own in pending.validators:
            return False
        said = state.get(READINESS, self._own)
        return said is None or tip.height - said.height >= READY_BLOCKS // 2


def _is_synced(tip: Tip, connected: Collection[bytes], claims: Mapping[bytes, int]) -> bool:
    """Connected to a quorum of validators, and not far behind what at least one honest of them has committed."""
    epoch = tip.next_epoch
    present = {name: claims.get(name, 0) for name in epoch.validators if name in connected}
    if len(present) < epoch.quorum:
        return False
    return tip.height + SYNCED_BLOCKS >= supported_height(present, {}, epoch)

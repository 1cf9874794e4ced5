"""What a replica is told once, by its own node. What all nodes agree on is the epoch's (blocks.ConsensusParameters)."""

from __future__ import annotations

from dataclasses import dataclass

from otcnode import limits
from otcnode.blocks import Epoch


@dataclass(frozen=True, slots=True)
class Configuration:
    """`own` None: a full node, which follows and signs nothing. `clock_rate`: ledger milliseconds per real one.

    View timeouts are real milliseconds. `vote_again_after_loss` ends silence by the operator's decision: that validator
    then counts among the f that may be faulty.
    """

    chain: bytes
    own: bytes | None
    clock_rate: int = 1
    view_timeout_ms_base: int = 2_000
    view_timeout_ms_max: int = 30_000
    vote_again_after_loss: bool = False
    record_bytes_before_compaction: int = limits.record_bytes_before_compaction

    @property
    def wake_interval_ms(self) -> int:
        """Ledger milliseconds between the empty blocks that wake the silent."""
        return limits.wake_interval_real_ms * self.clock_rate

    def real_ms(self, ledger_ms: int) -> int:
        """Real milliseconds for a span of ledger time, rounded up."""
        return -(-ledger_ms // self.clock_rate)

    def votes(self, epoch: Epoch) -> bool:
        """Whether this node is one of the validators of `epoch`."""
        return self.own is not None and self.own in epoch.validators

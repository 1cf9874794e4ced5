"""What a simulation went through."""

from __future__ import annotations

from collections import Counter

import msgspec


class Summary(msgspec.Struct, kw_only=True):
    """`marks` count situations worth having been in, `seeds_with` the simulations that hit each; `faults` what was
    really injected, by kind."""

    seed: int = 0
    seeds: int = 0
    trace_hash: str = ""
    trace_lines: int = 0
    events: int = 0
    virtual_ms: int = 0
    commits: int = 0
    transactions: int = 0
    view_max: int = 0
    messages: int = 0
    faults: Counter[str] = msgspec.field(default_factory=Counter)
    marks: Counter[str] = msgspec.field(default_factory=Counter)
    seeds_with: Counter[str] = msgspec.field(default_factory=Counter)
    seconds: float = 0.0
    """of the processor"""

    def add(self, other: Summary) -> None:
        """Take in the figures of one more simulation."""
        self.trace_lines += other.trace_lines
        self.events += other.events
        self.virtual_ms += other.virtual_ms
        self.commits += other.commits
        self.transactions += other.transactions
        self.view_max = max(self.view_max, other.view_max)
        self.messages += other.messages
        self.faults.update(other.faults)
        self.marks.update(other.marks)
        self.seeds_with.update(dict.fromkeys(other.marks, 1))
        self.seeds += 1
        self.seconds += other.seconds

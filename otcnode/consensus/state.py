"""Everything a replica remembers while it runs. Plain data: replica.py decides, the other files read.

Every collection is bounded by validator, height and view: heights in (committed, committed + 2 windows], one
VIEW-CHANGE per validator, votes as votes.py says, candidates as limits.py says.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TypeAlias

from otcnode import limits
from otcnode.blocks import Certificate, ConsensusParameters, Epoch, Header, block_hash
from otcnode.consensus.candidates import Candidate
from otcnode.consensus.configuration import Configuration
from otcnode.consensus.events import Now, Tip, Work
from otcnode.consensus.messages import (
    Commit,
    Mode,
    NewView,
    Prepare,
    PrePrepare,
    Proof,
    Status,
    ViewChange,
)
from otcnode.consensus.resumed import Silence
from otcnode.consensus.votes import VoteBook
from otcnode.types import BlockHash

Told: TypeAlias = tuple[bytes, bytes]
"""Who passed on a STATUS, and whose it is."""


class Leaving(Enum):
    """What makes a replica ask for a view."""

    JUDGEMENT = auto()
    """Its own: a timeout, a complaint or the end of a turn."""
    REFUSED = auto()
    """The NEW-VIEW of the view before is invalid."""
    JOINED = auto()
    """Others ask."""


@dataclass(slots=True)
class Heard:
    """When a peer was last heard, what it last said of itself, and when (real milliseconds)."""

    last_ms: int
    status: Status | None = None
    status_ms: int | None = None


@dataclass(slots=True)
class State:
    configuration: Configuration
    now: Now
    tip: Tip
    work: Work

    # what follows from the tip and who this is: read at every step, so worked out once a block or an epoch
    own: bytes | None = field(init=False)
    epoch: Epoch = field(init=False)
    is_validator: bool = field(init=False)
    others: tuple[bytes, ...] = field(init=False)
    parameters: ConsensusParameters = field(init=False)
    window: int = field(init=False)
    quorum: int = field(init=False)
    drift_ms: int = field(init=False)
    heartbeat_ms: int = field(init=False)
    """Both in ledger milliseconds."""
    committed: int = field(init=False)

    # the view
    view: int = 0
    active: bool = True
    base: int = 0
    fresh_above: int = 0
    """Heights up to it are committed under, or fixed by, the NEW-VIEW; fresh proposals start above."""
    reproposals: dict[int, BlockHash] = field(default_factory=dict)
    new_view: NewView | None = None
    own_view_change: ViewChange | None = None
    view_since_ms: int = 0
    asked_because: str = ""
    """Why this replica left its last view; empty after a restart."""
    asked_on: Leaving = Leaving.JUDGEMENT
    refused: str = ""
    """What is wrong with the NEW-VIEW that the primary of this view has signed; empty: none such was seen."""

    # what may be signed
    floor: int = 0
    view_first: int = 0
    silence: Silence | None = None
    halted: str | None = None
    record_held_back: tuple[bytes, ...] | None = None
    """A record whose floor the store has not reached yet: nothing is signed until then."""
    own_prepares: dict[tuple[int, int], Prepare] = field(default_factory=dict)
    own_commits: dict[tuple[int, int], Commit] = field(default_factory=dict)

    # heights in flight
    candidates: dict[BlockHash, Candidate] = field(default_factory=dict)
    accepted: dict[int, BlockHash] = field(default_factory=dict)
    waiting: dict[tuple[bytes, int], PrePrepare] = field(default_factory=dict)
    """PRE-PREPAREs by (primary, height): those accepted in this view, and those that cannot be accepted yet."""
    refusals: dict[int, str] = field(default_factory=dict)
    """Why what this view's primary proposed for a height is not accepted (now)."""
    prepares: VoteBook = field(default_factory=VoteBook)
    commits: VoteBook = field(default_factory=VoteBook)
    proofs: dict[int, Proof] = field(default_factory=dict)
    certificates: dict[int, Certificate] = field(default_factory=dict)
    view_changes: dict[bytes, ViewChange] = field(default_factory=dict)
    proved: dict[bytes, tuple[ViewChange, tuple[tuple[Header, BlockHash], ...]]] = field(default_factory=dict)
    """What the VIEW-CHANGE of each validator proves, worked out once (see memory.proved_by)."""

    # the past and the peers
    committed_ms: dict[int, int] = field(default_factory=dict)
    """When each of the latest heights was committed here (real milliseconds)."""
    heard: dict[bytes, Heard] = field(default_factory=dict)
    """By validator, of the others only."""
    told_of_silent_ms: dict[Told, int] = field(default_factory=dict)
    """When one of the others last passed on that another is silent, who was not heard here then (real milliseconds)."""
    last_commit_ms: int | None = None
    """None: nothing has been committed since the start."""
    behind_since_ms: int | None = None

    # patience
    timeout_steps: int = 0
    blocks_since_step: int = 0
    transactions_max: int = 1
    woken: dict[bytes, int] = field(default_factory=dict)
    """How many blocks were built here to wake each validator, since the last one with a transaction."""
    woken_as_told: dict[Told, int] = field(default_factory=dict)
    """The same, because one passed on that another is silent."""

    def __post_init__(self) -> None:
        self.own = self.configuration.own
        self.committed = self.tip.height
        self._know_epoch(self.tip.next_epoch)

    def advance(self, tip: Tip) -> None:
        """A block is durable: it is the tip, and what it says of the next epoch holds."""
        self.tip = tip
        self.committed = tip.height
        if tip.next_epoch != self.epoch:
            self._know_epoch(tip.next_epoch)

    def _know_epoch(self, epoch: Epoch) -> None:
        self.epoch = epoch
        self.is_validator = self.configuration.votes(epoch)
        self.others = tuple(name for name in epoch.validators if name != self.own)
        self.parameters = epoch.parameters
        self.window = epoch.window
        self.quorum = epoch.quorum
        self.drift_ms = epoch.parameters.drift_real_ms * self.configuration.clock_rate
        self.heartbeat_ms = epoch.parameters.heartbeat_real_ms * self.configuration.clock_rate

    @property
    def primary(self) -> bytes:
        validators = self.epoch.validators
        return validators[self.view % len(validators)]

    @property
    def mode(self) -> Mode:
        if not self._takes_part:
            return Mode.FOLLOWING
        if self.silence is not None:
            return Mode.SILENT
        return Mode.ACTIVE if self.active else Mode.INACTIVE

    @property
    def _takes_part(self) -> bool:
        return self.is_validator and self.halted is None and self.record_held_back is None

    @property
    def may_vote_once_chosen(self) -> bool:
        """Whether this node would vote as a validator: it has an intact record, and the blocks that it speaks of."""
        return self.silence is None and self.halted is None and self.committed >= self.floor

    def may_sign(self, view: int) -> bool:
        """Whether any of the five messages may be signed for `view` of this epoch."""
        allowed = view >= self.view_first and self.committed >= self.floor
        return allowed and self.silence is None and self._takes_part

    @property
    def is_asked_for(self) -> bool:
        """Whether a quorum asks for this view or a higher one: only then may it be left before it is opened, so that
        whoever asks for a view does so after a quorum asked for the one below (docs/consensus.md)."""
        return sum(message.view >= self.view for message in self.view_changes.values()) >= self.quorum

    def is_heard(self, validator: bytes) -> bool:
        heard = self.heard.get(validator)
        return heard is not None and self.now.monotonic_ms - heard.last_ms <= limits.hearing_ms_max

    def hears(self, count: int) -> bool:
        """Whether at least so many of the others are heard."""
        since_ms = self.now.monotonic_ms - limits.hearing_ms_max
        return count <= sum([heard.last_ms >= since_ms for heard in self.heard.values()])

    @property
    def may_form_quorum(self) -> bool:
        """Whether enough others are heard to form a quorum with, or one that they link to has just left this view: it
        heard so many. Only the next view counts, as an honest one gets no further alone: a far one would stand for ever
        for a quorum that nobody hears."""
        if self.hears(self.quorum - 1):
            return True
        next_view = self.view + 1
        return any(message.view == next_view for name, message in self.view_changes.items() if name != self.own)

    def is_decided_long(self, height: int) -> bool:
        """Whether this height is committed, and the COMMITs of others for it had time to arrive everywhere."""
        since_ms = self.committed_ms.get(height)
        young = since_ms is not None and self.now.monotonic_ms - since_ms < limits.resend_after_ms
        return height <= self.committed and not young

    def accepted_candidate(self, height: int) -> Candidate | None:
        name = self.accepted.get(height)
        return None if name is None else self.candidates[name]

    @property
    def blocks_in_flight(self) -> Collection[BlockHash]:
        """Accepted in this view, or re-proposed by it. Others that were executed here may never be committed."""
        return {*self.accepted.values(), *self.reproposals.values()}

    @property
    def transactions_in_flight(self) -> int:
        """Of the accepted blocks."""
        return sum(self.candidates[name].header.transaction_count for name in self.accepted.values())

    def head(self) -> Header | None:
        """The highest accepted block of the unbroken chain above the committed one; None if there is none."""
        height = committed = self.committed
        while height + 1 in self.accepted:
            height += 1
        return None if height == committed else self.candidates[self.accepted[height]].header

    def parent_is_final(self, height: int) -> bool:
        """The block below is committed, or prepared by me in this view: what a vote for `height` presupposes."""
        if height == self.committed + 1:
            return True
        proof = self.proofs.get(height - 1)
        return (
            proof is not None and proof.view == self.view and self.accepted.get(height - 1) == block_hash(proof.header)
        )

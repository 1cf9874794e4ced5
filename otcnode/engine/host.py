"""What the engine needs of the world, and what it tells it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from otcnode.consensus.events import Now, Timer
from otcnode.crypto import SignatureCheck
from otcnode.errors import Code
from otcnode.p2p.framing import Channel
from otcnode.vm.results import Receipt


class Host(Protocol):
    """The world, as the engine sees it. Nothing here blocks or raises."""

    def now(self) -> Now: ...

    def send(self, peer: bytes, channel: Channel, payload: bytes) -> None:
        """May lose the message."""
        ...

    def penalise(self, peer: bytes, reason: str) -> None:
        """The peer broke a rule that an honest node never breaks: close, and ban for a while."""
        ...

    def set_timer(self, timer: Timer, delay_ms: int | None) -> None:
        """Call `Engine.elapsed(timer)` after the delay; replaces the timer of this kind; None stops it."""
        ...

    def verify(self, checks: Sequence[SignatureCheck], done: Callable[[Sequence[bool]], None]) -> None:
        """Verify clients' signatures, off the loop where there is one; then call `done` on the engine's task."""
        ...

    def verify_votes(self, checks: Sequence[SignatureCheck], done: Callable[[Sequence[bool]], None]) -> None:
        """The same for validators' signatures in certificates."""
        ...

    def later(self, action: Callable[[], None]) -> None:
        """Run on the engine's task, after what is already waiting there."""
        ...

    def note(self, level: str, text: str, **fields: object) -> None:
        """One line for the operator's log."""
        ...


class Stage(StrEnum):
    """Where a transaction is, for anyone who asks this node."""

    RECEIVED = "received"
    POOLED = "pooled"
    PROPOSED = "proposed"
    COMMITTED = "committed"
    DROPPED = "dropped"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class TransactionState:
    """`definite` on a stage other than COMMITTED: it has not happened and never will."""

    stage: Stage
    definite: bool = False
    height: int | None = None
    position: int | None = None
    receipt: Receipt | None = None
    code: Code | None = None
    reason: str = ""


class Observer(Protocol):
    """Told of what is final or given up, in the order in which it happens."""

    def block_committed(self, height: int, transaction_ids: Sequence[bytes]) -> None:
        """A block is durable; the states of these transactions can be asked for."""
        ...

    def nodes_changed(self) -> None:
        """The last block changed which nodes the committed state admits, or what it says of them."""
        ...

    def transaction_ended(self, transaction_id: bytes, state: TransactionState) -> None:
        """Dropped or expired here without being in a block."""
        ...

"""What the shell tells a replica. Time comes in beside every event; the replica has no clock of its own."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from otcnode.blocks import Certificate, Entry, Epoch, Header
from otcnode.codec import Record
from otcnode.consensus.evidence import Offence
from otcnode.consensus.messages import Message
from otcnode.consensus.resumed import Resumed
from otcnode.types import BlockHash, EpochNumber, Height, Milliseconds, Natural, NodeId, View


class Now(Record, frozen=True):
    """`monotonic_ms` drives timers; `ledger_ms` is compared with block times."""

    monotonic_ms: Milliseconds
    ledger_ms: Milliseconds


class Tip(Record, frozen=True):
    """A committed block and the epoch that decides the height above it. Height 0 has no certificate."""

    height: Height
    block_hash: BlockHash
    time_ms: Milliseconds
    certificate: Certificate | None
    next_epoch: Epoch


class Timer(StrEnum):
    """One timer of each kind exists; setting it again replaces it."""

    VIEW = "view"
    STATUS = "status"
    BUILD = "build"


class KnownOffence(Record, frozen=True):
    """What this node had against a validator before it was started; `large`: no transaction can hold its evidence.
    `seen_ms` is ledger time."""

    offence: Offence
    large: bool
    seen_ms: Milliseconds


class Started(Record, frozen=True, tag="started"):
    """First event. `record` is every entry of the voting record in order, or None if there is no intact record for
    this key (the replica is then silent); a record born with the key has at least its birth entry. `offences` are those
    of the epoch; `resumed` what stays where the process has not ended and only what is recorded of it begins anew."""

    tip: Tip
    record: tuple[bytes, ...] | None
    offences: tuple[KnownOffence, ...] = ()
    resumed: Resumed | None = None


class Received(Record, frozen=True, tag="received"):
    """`sender` is the authenticated peer that handed the message over, not necessarily its author."""

    sender: NodeId
    message: Message


class Work(Record, frozen=True, tag="work"):
    """The pool or the due queue changed: how many transactions wait in the pool (those in blocks in flight included,
    for they are not final), and the time of the earliest due item of the committed state."""

    waiting: Natural
    next_due_ms: Milliseconds | None


class Built(Record, frozen=True, tag="built"):
    """Answers Build. The block is already executed, which took `took_ms` (real; None: not measured). `header` None:
    there was nothing to put into a block and an empty one was not asked for."""

    request: Natural
    header: Header | None
    entries: tuple[Entry, ...]
    bodies: tuple[bytes, ...]
    next_epoch: Epoch
    took_ms: Milliseconds | None = None


class Fetched(Record, frozen=True, tag="fetched"):
    """Answers Fetch with what the local pool had: (position, raw transaction)."""

    block_hash: BlockHash
    transactions: tuple[tuple[Natural, bytes], ...]


class Executed(Record, frozen=True, tag="executed"):
    """Answers Execute. `fault` None means the executed roots, the epoch hashes and every rule equal the header's.
    `next_epoch` decides height + 1; `took_ms`: real milliseconds, None where
    nothing was executed or measured."""

    block_hash: BlockHash
    fault: str | None
    next_epoch: Epoch
    took_ms: Milliseconds | None = None


class Synced(Record, frozen=True, tag="synced"):
    """Block sync has verified, executed and durably written one more block (always committed + 1)."""

    tip: Tip


class Complaint(Record, frozen=True, tag="complaint"):
    """The primary of this view is alive and does not do its part: it leaves a transaction out, or is slow."""

    epoch: EpochNumber
    view: View
    reason: str


class Elapsed(Record, frozen=True, tag="elapsed"):
    timer: Timer


Event: TypeAlias = Started | Received | Work | Built | Fetched | Executed | Synced | Complaint | Elapsed

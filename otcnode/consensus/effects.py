"""What a replica asks of the shell, performed strictly in order.

Save is durable before the next Send, Broadcast or Commit starts; Commit is durable before anything after it starts.
Build, Execute and Fetch are answered later by an event (at once or much later; a stale answer is ignored).
"""

from __future__ import annotations

from typing import TypeAlias

from otcnode.blocks import Certificate, Entry, Header
from otcnode.codec import Record
from otcnode.consensus.events import Timer
from otcnode.consensus.evidence import Offence
from otcnode.consensus.messages import Evidence, Message
from otcnode.types import BlockHash, EpochNumber, Height, Milliseconds, Natural, NodeId


class Save(Record, frozen=True, tag="save"):
    """Append entries to the voting record."""

    entries: tuple[bytes, ...]


class Compact(Record, frozen=True, tag="compact"):
    """Replace the whole voting record by these entries, atomically; comes after the Commit it belongs to."""

    entries: tuple[bytes, ...]


class Send(Record, frozen=True, tag="send"):
    peer: NodeId
    message: Message


class Broadcast(Record, frozen=True, tag="broadcast"):
    """To every other validator of the current epoch that is connected (and to full nodes where useful: never)."""

    message: Message


class SendDecision(Record, frozen=True, tag="send-decision"):
    """Send the header and the certificate of a committed block, as far as the store keeps them."""

    peer: NodeId
    height: Height


class SendEpochEnd(Record, frozen=True, tag="send-epoch-end"):
    """Send the header and the certificate of the last block of an epoch that is over."""

    peer: NodeId
    epoch: EpochNumber


class Build(Record, frozen=True, tag="build"):
    """Build and execute a block on `parent` (committed or in flight). `time_ms` is its time. At most
    `transactions_max`; `empty_allowed`: also when there is nothing to do (heartbeat, waking the silent)."""

    request: Natural
    height: Height
    parent: BlockHash
    time_ms: Milliseconds
    transactions_max: Natural
    empty_allowed: bool


class Fetch(Record, frozen=True, tag="fetch"):
    """Look in the local pool for the bodies of a proposal."""

    block_hash: BlockHash
    entries: tuple[Entry, ...]


class Execute(Record, frozen=True, tag="execute"):
    """Execute a proposal on its parent and compare every root with the header. Bodies are complete and match."""

    header: Header
    entries: tuple[Entry, ...]
    bodies: tuple[bytes, ...]


class Commit(Record, frozen=True, tag="commit"):
    """Write an executed block with its certificate, atomically and durably; every other block in flight that does not
    descend from it is dropped. Always committed + 1."""

    header: Header
    certificate: Certificate


class Sync(Record, frozen=True, tag="sync"):
    """A hint: `peer` says it has committed `height`, above mine; block sync should look."""

    peer: NodeId
    height: Height


class SetTimer(Record, frozen=True, tag="set-timer"):
    """Replace the timer of this kind; None stops it."""

    timer: Timer
    delay_ms: Milliseconds | None


class Accuse(Record, frozen=True, tag="accuse"):
    """A validator did what an honest one never does, and this proves it to anyone: keep it and pass it on. `source` is
    the peer that brought it; None: seen here. Comes once per offence while the epoch lasts and this process lives."""

    offence: Offence
    evidence: Evidence
    source: NodeId | None


class Blame(Record, frozen=True, tag="blame"):
    """`peer` handed over what no honest node says or passes on, for each checks before it relays."""

    peer: NodeId
    reason: str


class Admit(Record, frozen=True, tag="admit"):
    """Bodies that `validator` wants in a block at last: take the admissible ones past the quotas."""

    validator: NodeId
    transactions: tuple[bytes, ...]


class Alarm(Record, frozen=True, tag="alarm"):
    """Something an operator must know at once (a certified block executes differently here, the key is in use
    elsewhere). Voting has stopped if the text says so."""

    text: str


Effect: TypeAlias = (
    Save
    | Compact
    | Send
    | Broadcast
    | SendDecision
    | SendEpochEnd
    | Build
    | Fetch
    | Execute
    | Commit
    | Sync
    | SetTimer
    | Accuse
    | Blame
    | Admit
    | Alarm
)

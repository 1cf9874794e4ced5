"""The voting record: what a validator must remember of what it said, as typed entries in order.

A record begins with Begun. It is written before anything that depends on it leaves, and compacted after a commit. A
key whose record is absent, silenced or unreadable may not vote (consensus rules, "The record").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from otcnode.blocks import Certificate, Entry, Header
from otcnode.codec import Record, decode, encode
from otcnode.consensus.messages import Commit, NewView, Prepare, Proof, ViewChange
from otcnode.errors import DecodeError
from otcnode.types import Ed25519Signature, EpochNumber, Height, View


class Begun(Record, frozen=True, tag="begun"):
    """Everything before is compacted away. Nothing is signed while the store is below `floor`, and in `epoch` nothing
    of a view below `view_first` (above 0 where a lost record may have voted below, or own votes are forgotten)."""

    epoch: EpochNumber
    floor: Height
    view_first: View


class Silenced(Record, frozen=True, tag="silenced"):
    """The key was seen in use elsewhere: this record no longer permits anything."""


class Floored(Record, frozen=True, tag="floored"):
    """A block is durable in the store; entries for heights up to it no longer matter."""

    floor: Height


class Asked(Record, frozen=True, tag="asked"):
    """Own VIEW-CHANGE, resent byte for byte."""

    view_change: ViewChange


class Entered(Record, frozen=True, tag="entered"):
    """The NEW-VIEW acted under (own or received): its view, base and re-proposals in one entry."""

    new_view: NewView


class Accepted(Record, frozen=True, tag="accepted"):
    """A proposal with its bodies. `signature` is the PREPARE signature of the primary of `view`, so that an own
    PRE-PREPARE, and anybody's, can be sent again byte for byte."""

    epoch: EpochNumber
    view: View
    header: Header
    entries: tuple[Entry, ...]
    bodies: tuple[bytes, ...]
    signature: Ed25519Signature


class Proved(Record, frozen=True, tag="proved"):
    epoch: EpochNumber
    proof: Proof


class Voted(Record, frozen=True, tag="voted"):
    """Own PREPARE or COMMIT."""

    vote: Prepare | Commit


RecordEntry: TypeAlias = Begun | Silenced | Floored | Asked | Entered | Accepted | Proved | Voted


def birth() -> tuple[bytes, ...]:
    """The record of a key made in this very act: it has never signed anything."""
    return (encode(Begun(0, 0, 0)),)


def read(raw: Sequence[bytes]) -> tuple[RecordEntry, ...] | None:
    """The entries in order; None if the record permits nothing: empty, silenced, or damaged."""
    try:
        entries: tuple[RecordEntry, ...] = tuple(decode(RecordEntry, entry) for entry in raw)
    except DecodeError:
        return None
    if not entries or not isinstance(entries[0], Begun) or any(isinstance(entry, Silenced) for entry in entries):
        return None
    return entries


def is_silenced(raw: Sequence[bytes]) -> bool:
    """Whether the record permits nothing because others showed what it lacks."""
    return encode(Silenced()) in raw


def lacks_commit(entries: Sequence[RecordEntry], certificate: Certificate, own: bytes) -> bool:
    """Whether the certificate of a block in the store holds a COMMIT of this validator that its record should hold and
    does not: then the record is older than the store. Each was durable before it left, and is kept until the record
    says that the block is: by its floor or, in a stall after a restart, by the height in an own VIEW-CHANGE."""
    begun = entries[0]
    assert isinstance(begun, Begun)
    known = [entry.view_change.committed for entry in entries if isinstance(entry, Asked)]
    forgotten = begun.epoch == certificate.epoch and certificate.view < begun.view_first
    if certificate.height <= max(floor_of(entries), *known, 0) or forgotten:
        return False
    place = (certificate.epoch, certificate.view, certificate.height, certificate.block_hash)
    own_commits = [entry.vote for entry in entries if isinstance(entry, Voted) and isinstance(entry.vote, Commit)]
    held = any((vote.epoch, vote.view, vote.height, vote.block_hash) == place for vote in own_commits)
    return not held and any(signature.validator == own for signature in certificate.signatures)


def floor_of(entries: Sequence[RecordEntry]) -> int:
    """The height that the store must have reached before anything is signed."""
    floors = [entry.floor for entry in entries if isinstance(entry, Begun | Floored)]
    return max(floors, default=0)

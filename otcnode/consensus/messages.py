"""What validators say to each other. Every message is signed (or is a hint); every signature binds domain, chain,
epoch, view and height, so nothing said in one place can be replayed in another (PBFT, OSDI '99, section 4.2 and 4.4).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, TypeAlias

from msgspec import Meta

from otcnode import limits
from otcnode.blocks import Certificate, Entry, Header, ValidatorSignature
from otcnode.codec import Record, encode
from otcnode.crypto import preimage, tagged_hash
from otcnode.types import (
    BlockHash,
    Ed25519Signature,
    EpochNumber,
    Height,
    Natural,
    NodeId,
    View,
)

VIEW_CHANGE_DOMAIN = "otcnode/view-change/1"
NEW_VIEW_DOMAIN = "otcnode/new-view/1"
STATUS_DOMAIN = "otcnode/status/1"

Bitmap: TypeAlias = Annotated[bytes, Meta(max_length=-(-limits.validators_max // 8))]
"""A set of validators; see votes.bitmap."""


class PrePrepare(Record, frozen=True, tag="pre-prepare"):
    """The primary's proposal. `signature` is its PREPARE signature for (epoch, view, height, block hash), so it is
    its PREPARE at once. The bodies named by `entries` are fetched by hash where they are missing."""

    epoch: EpochNumber
    view: View
    header: Header
    entries: tuple[Entry, ...]
    signature: Ed25519Signature


class Prepare(Record, frozen=True, tag="prepare"):
    epoch: EpochNumber
    view: View
    height: Height
    block_hash: BlockHash
    validator: NodeId
    signature: Ed25519Signature


class Commit(Record, frozen=True, tag="commit"):
    epoch: EpochNumber
    view: View
    height: Height
    block_hash: BlockHash
    validator: NodeId
    signature: Ed25519Signature


class Proof(Record, frozen=True):
    """A prepared certificate: q PREPARE signatures of one view, the primary's among them, over one header."""

    view: View
    header: Header
    signatures: tuple[ValidatorSignature, ...]


class ViewChange(Record, frozen=True, tag="view-change"):
    """Asks for `view`: the sender's committed height with its certificate (None only at height 0 or where the epoch
    began, whose base is known to all), and its proofs of the contiguous heights above."""

    epoch: EpochNumber
    view: View
    committed: Height
    certificate: Certificate | None
    proofs: tuple[Proof, ...]
    validator: NodeId
    signature: Ed25519Signature


class Reproposal(Record, frozen=True):
    """A block chosen again in the new view, with the new primary's PREPARE signature for that view. A replica that
    never saw the block asks for its entries and bodies: a quorum has prepared it, so honest ones hold them."""

    header: Header
    signature: Ed25519Signature


class NewView(Record, frozen=True, tag="new-view"):
    """Opens `view`: exactly q VIEW-CHANGEs for it and the re-proposals that follow from them."""

    epoch: EpochNumber
    view: View
    view_changes: tuple[ViewChange, ...]
    reproposals: tuple[Reproposal, ...]
    validator: NodeId
    signature: Ed25519Signature


class Mode(IntEnum):
    """What a replica is doing. INACTIVE: it asked for a view, or waits to commit a view's base. SILENT: it lost its
    record, and new blocks wake it. FOLLOWING: it signs nothing and new blocks change nothing about that."""

    ACTIVE = 0
    INACTIVE = 1
    SILENT = 2
    FOLLOWING = 3


class HeightStatus(Record, frozen=True):
    """What a replica holds for one height in flight, in its current view."""

    height: Height
    block_hash: BlockHash | None
    body_held: bool
    prepares: Bitmap
    commits: Bitmap


class Status(Record, frozen=True, tag="status"):
    """A hint, never a vote: where its sender stands, so that others can send exactly what it lacks."""

    epoch: EpochNumber
    view: View
    mode: Mode
    committed: Height
    heights: tuple[HeightStatus, ...]
    view_changes: Bitmap
    validator: NodeId
    signature: Ed25519Signature


class BodyRequest(Record, frozen=True, tag="body-request"):
    """Asks for bodies of a block by their positions; no positions ask for its Entries."""

    height: Height
    block_hash: BlockHash
    positions: tuple[Natural, ...]


class Entries(Record, frozen=True, tag="entries"):
    """What a block's transactions root commits to, for a replica that knows only the header; checked against it."""

    height: Height
    block_hash: BlockHash
    entries: tuple[Entry, ...]


class Bodies(Record, frozen=True, tag="bodies"):
    """Raw transactions by position; each is checked against the full hash in the proposal's list."""

    height: Height
    block_hash: BlockHash
    transactions: tuple[tuple[Natural, bytes], ...]


class Decision(Record, frozen=True, tag="decision"):
    """The answer to a message for a height already committed: its header and certificate."""

    header: Header
    certificate: Certificate


class DoublePrepare(Record, frozen=True, tag="double-prepare"):
    """PREPAREs of one validator for two blocks at one view and height, in ascending order of block hash."""

    first: Prepare
    second: Prepare


class DoubleCommit(Record, frozen=True, tag="double-commit"):
    """COMMITs of one validator for two blocks at one view and height, in ascending order of block hash."""

    first: Commit
    second: Commit


class InvalidViewChange(Record, frozen=True, tag="invalid-view-change"):
    """A signed VIEW-CHANGE that claims what it does not prove."""

    view_change: ViewChange


class InvalidNewView(Record, frozen=True, tag="invalid-new-view"):
    """A signed NEW-VIEW with an invalid VIEW-CHANGE in it, or with wrong re-proposals."""

    new_view: NewView


class HiddenProof(Record, frozen=True, tag="hidden-proof"):
    """A COMMIT, and a later VIEW-CHANGE that does not show the proof which that COMMIT presupposed."""

    commit: Commit
    view_change: ViewChange


Evidence: TypeAlias = DoublePrepare | DoubleCommit | InvalidViewChange | InvalidNewView | HiddenProof


class Accusation(Record, frozen=True, tag="accusation"):
    """Evidence on its way from node to node; whoever passes it on has checked it."""

    evidence: Evidence


class Urgent(Record, frozen=True, tag="urgent"):
    """Bodies of transactions that have waited too long here, for the primary: it takes them past its quotas."""

    transactions: tuple[bytes, ...]


Message: TypeAlias = (
    PrePrepare
    | Prepare
    | Commit
    | ViewChange
    | NewView
    | Status
    | BodyRequest
    | Entries
    | Bodies
    | Decision
    | Accusation
    | Urgent
)


def view_change_preimage(chain: bytes, message: ViewChange) -> bytes:
    """Covers everything but the signature, by hash."""
    body = [
        message.epoch,
        message.view,
        message.committed,
        message.certificate,
        message.proofs,
        message.validator,
    ]
    return preimage(VIEW_CHANGE_DOMAIN, chain, tagged_hash(VIEW_CHANGE_DOMAIN, encode(body)))


def new_view_preimage(chain: bytes, message: NewView) -> bytes:
    """Covers everything but the signature, by hash."""
    body = [message.epoch, message.view, message.view_changes, message.reproposals, message.validator]
    return preimage(NEW_VIEW_DOMAIN, chain, tagged_hash(NEW_VIEW_DOMAIN, encode(body)))


def status_preimage(chain: bytes, message: Status) -> bytes:
    body = [
        message.epoch,
        message.view,
        message.mode,
        message.committed,
        message.heights,
        message.view_changes,
        message.validator,
    ]
    return preimage(STATUS_DOMAIN, chain, tagged_hash(STATUS_DOMAIN, encode(body)))

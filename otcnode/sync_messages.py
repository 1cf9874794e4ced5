"""What nodes say to each other on the SYNC channel. Pure."""

from __future__ import annotations

from typing import TypeAlias

from otcnode import limits
from otcnode.blocks import HEADER_BYTES_MAX, SIGNATURE_BYTES_MAX, CertifiedBlock
from otcnode.codec import Record, encode
from otcnode.genesis import PARAMETER_BOUNDS
from otcnode.message_reader import SMALL_BYTES, MessageReader
from otcnode.snapshot import Offer
from otcnode.types import BlockHash, Height, Natural


class TipNotice(Record, frozen=True, tag="tip"):
    """The sender's committed height, and the lowest height whose block it keeps: a hint, believed by nobody."""

    height: Height
    first: Height


class BlocksRequest(Record, frozen=True, tag="blocks-request"):
    first: Height
    count: Natural


class BlocksResponse(Record, frozen=True, tag="blocks"):
    """Consecutive certified blocks from `first` on; fewer than asked for where they would grow too large."""

    first: Height
    blocks: tuple[CertifiedBlock, ...]


class OffersRequest(Record, frozen=True, tag="offers-request"):
    """Which snapshots can you serve?"""


class Offers(Record, frozen=True, tag="offers"):
    """All of them."""

    offers: tuple[Offer, ...]


class ManifestRequest(Record, frozen=True, tag="manifest-request"):
    """By the hash of the block that the snapshot is of."""

    snapshot: BlockHash


class ManifestResponse(Record, frozen=True, tag="manifest"):
    """A canonical `snapshot.Manifest`; nothing where the sender has it no longer."""

    snapshot: BlockHash
    manifest: bytes


class ChunkRequest(Record, frozen=True, tag="chunk-request"):
    snapshot: BlockHash
    index: Natural


class ChunkResponse(Record, frozen=True, tag="chunk"):
    """A canonical `snapshot.Chunk`; nothing where the sender has it no longer."""

    snapshot: BlockHash
    index: Natural
    chunk: bytes


SNAPSHOT_ANSWER_STARTS = (encode(ManifestResponse(bytes(32), b""))[:10], encode(ChunkResponse(bytes(32), 0, b""))[:7])
"""By which the large ones are known before they are decoded."""

SnapshotRequest: TypeAlias = OffersRequest | ManifestRequest | ChunkRequest
SnapshotAnswer: TypeAlias = Offers | ManifestResponse | ChunkResponse
BLOCKS_RESPONSE_START = encode(BlocksResponse(1, ()))[:8]
"""By which one is known before it is decoded."""

SyncMessage: TypeAlias = TipNotice | BlocksRequest | BlocksResponse | SnapshotRequest | SnapshotAnswer

_BODY_BYTES = 5
"""What stands before a body."""
_OFFER_BYTES = 64
_BLOCK_BYTES_MAX = (
    PARAMETER_BOUNDS["block_bytes_max"][1]
    + PARAMETER_BOUNDS["block_transactions_max"][1] * _BODY_BYTES
    + HEADER_BYTES_MAX
    + limits.validators_max * SIGNATURE_BYTES_MAX
)
SYNC_MESSAGES: MessageReader[SyncMessage] = MessageReader(
    SyncMessage,
    {
        TipNotice: SMALL_BYTES,
        BlocksRequest: SMALL_BYTES,
        # One block, however large, or several that together are not larger than a response is made.
        BlocksResponse: SMALL_BYTES + max(_BLOCK_BYTES_MAX, limits.sync_response_bytes_max),
        OffersRequest: SMALL_BYTES,
        Offers: SMALL_BYTES + limits.snapshots_offered_max * _OFFER_BYTES,
        ManifestRequest: SMALL_BYTES,
        # It grows with every change of the validators.
        ManifestResponse: limits.message_bytes_max,
        ChunkRequest: SMALL_BYTES,
        ChunkResponse: SMALL_BYTES + limits.snapshot_chunk_bytes_max,
    },
)
"""How large each of them can be."""

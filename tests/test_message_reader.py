"""Every kind of message has its bound: the largest that an honest node sends passes, and nothing above is decoded."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from msgspec.structs import replace

from otcnode import limits, message_reader
from otcnode.blocks import Block, Certificate, CertifiedBlock, Entry, Epoch, Header, ValidatorSignature
from otcnode.codec import encode
from otcnode.consensus import messages as said
from otcnode.consensus.sizes import MESSAGES
from otcnode.engine import documents
from otcnode.engine.documents import DOCUMENT_MESSAGES
from otcnode.errors import DecodeError
from otcnode.genesis import PARAMETER_BOUNDS, ChainParameters
from otcnode.message_reader import MessageReader
from otcnode.p2p import gossip
from otcnode.p2p.gossip import GOSSIP_MESSAGES
from otcnode.snapshot import Offer
from otcnode.sync_messages import (
    SYNC_MESSAGES,
    BlocksRequest,
    BlocksResponse,
    ChunkRequest,
    ChunkResponse,
    ManifestRequest,
    ManifestResponse,
    Offers,
    OffersRequest,
    SyncMessage,
    TipNotice,
)
from otcnode.types import INTEGER_MAX
from otcnode.vm.documents.records import SEALED_BYTES_MAX

LONG, VIEW = INTEGER_MAX, limits.view_max - 1
NAME, SIGNATURE = b"\xff" * 32, b"\xff" * 64
TRANSACTIONS, BLOCK_BYTES = (PARAMETER_BOUNDS[name][1] for name in ("block_transactions_max", "block_bytes_max"))
HEADER = Header(LONG, NAME, LONG, NAME, LONG, NAME, LONG, NAME, NAME, NAME, NAME, NAME)
EVERYBODY = (ValidatorSignature(NAME, SIGNATURE),) * limits.validators_max
CERTIFICATE = Certificate(LONG, VIEW, LONG, NAME, EVERYBODY)
ENTRIES = (Entry(NAME, NAME),) * TRANSACTIONS
VOTE = (LONG, VIEW, LONG, NAME, NAME, SIGNATURE)
SET = b"\xff" * 13
SMALLEST = BLOCK_BYTES // TRANSACTIONS
MANY = (bytes(SMALLEST),) * TRANSACTIONS
LARGE = (bytes(limits.transaction_bytes_max),) * (BLOCK_BYTES // limits.transaction_bytes_max)


def view_change(validators: int) -> said.ViewChange:
    names = tuple(bytes([index]) * 32 for index in range(validators))
    epoch = Epoch(1, names, replace(ChainParameters().consensus, window=limits.window_max))
    proof = said.Proof(VIEW, HEADER, EVERYBODY[: epoch.quorum])
    certificate = replace(CERTIFICATE, signatures=EVERYBODY[:validators])
    return said.ViewChange(LONG, VIEW, LONG, certificate, (proof,) * epoch.window, NAME, SIGNATURE)


def largest() -> list[tuple[MessageReader[Any], Any]]:
    """Of every kind, of a hundred validators with a window of 64 heights, and whatever else makes it large."""
    consensus: list[Any] = [
        said.PrePrepare(LONG, VIEW, HEADER, ENTRIES, SIGNATURE),
        said.Prepare(*VOTE),
        said.Commit(*VOTE),
        *map(view_change, (1, 4, 31, 63, 64, 80, limits.validators_max)),
        said.NewView(LONG, VIEW, (view_change(4),) * 3, (said.Reproposal(HEADER, SIGNATURE),) * 64, NAME, SIGNATURE),
        said.Status(
            LONG,
            VIEW,
            said.Mode.FOLLOWING,
            LONG,
            (said.HeightStatus(LONG, NAME, True, SET, SET),) * limits.window_max,
            SET,
            NAME,
            SIGNATURE,
        ),
        said.BodyRequest(LONG, NAME, tuple(range(TRANSACTIONS))),
        said.Entries(LONG, NAME, ENTRIES),
        said.Bodies(LONG, NAME, tuple(enumerate(MANY))),
        said.Bodies(LONG, NAME, tuple(enumerate(LARGE))),
        said.Decision(HEADER, CERTIFICATE),
        said.Accusation(said.InvalidViewChange(view_change(64))),
        said.Urgent((bytes(limits.urgent_bytes_max // limits.urgent_per_validator_max),) * 100),
    ]
    sync: list[Any] = [
        TipNotice(LONG, LONG),
        BlocksRequest(LONG, LONG),
        BlocksResponse(LONG, (CertifiedBlock(Block(HEADER, MANY), CERTIFICATE),)),
        BlocksResponse(LONG, (CertifiedBlock(Block(HEADER, LARGE), CERTIFICATE),)),
        OffersRequest(),
        Offers((Offer(LONG, NAME, LONG),) * limits.snapshots_kept),
        ManifestRequest(NAME),
        ManifestResponse(NAME, bytes(limits.message_bytes_max - 100)),
        ChunkRequest(NAME, LONG),
        ChunkResponse(NAME, LONG, bytes(limits.snapshot_chunk_bytes_max)),
    ]
    small = [bytes([1]) * 200] * 20_000
    transactions: list[Any] = [
        *map(gossip.Push, gossip._batches(small)),
        gossip.Push((bytes(limits.transaction_bytes_max),)),
        gossip.Offer((NAME,) * limits.gossip_hashes_per_message_max),
        gossip.Have((NAME,) * limits.gossip_hashes_per_message_max),
        gossip.Request((NAME,) * limits.gossip_request_hashes_max),
    ]
    sealed: list[Any] = [
        documents.DocumentHeld(NAME),
        documents.DocumentWanted(NAME),
        documents.DocumentContent(NAME, bytes(SEALED_BYTES_MAX)),
    ]
    return [
        (reader, message)
        for reader, group in (
            (MESSAGES, consensus),
            (SYNC_MESSAGES, sync),
            (GOSSIP_MESSAGES, transactions),
            (DOCUMENT_MESSAGES, sealed),
        )
        for message in group
    ]


def test_the_largest_honest_message_of_every_kind_is_read() -> None:
    kinds = set()
    for reader, message in largest():
        assert reader.read(encode(message)) == message
        kinds.add(type(message))
    unions = said.Message, SyncMessage, gossip.GossipMessage, documents.DocumentMessage
    assert kinds == {kind for union in unions for kind in get_args(union)}


def test_whatever_is_kept_of_evidence_can_be_passed_on() -> None:
    assert MESSAGES.bytes_max[b"accusation"] > limits.evidence_bytes_max


@pytest.mark.parametrize("reader", [MESSAGES, SYNC_MESSAGES, GOSSIP_MESSAGES, DOCUMENT_MESSAGES])
def test_nothing_is_decoded_of_what_is_larger_than_its_kind(
    reader: MessageReader[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    monkeypatch.setattr(message_reader, "decode", lambda kind, raw: decoded.append(len(raw)))
    for tag, most in reader.bytes_max.items():
        head = bytes([0x97, 0xA0 + len(tag)]) + tag
        reader.read(head + bytes(most - len(head)))
        with pytest.raises(DecodeError, match=f"a {tag.decode()} message of {most + 1} bytes, the largest"):
            reader.read(head + bytes(most + 1 - len(head)))
    assert decoded == list(reader.bytes_max.values())


@pytest.mark.parametrize(
    "head",
    [b"", b"\x97", b"\x97\xa6", b"\x97\xa6statuz", b"\xdc\x00\x07\xa6status", b"\x97\xd9\x06status", b"\x97\x01status"],
)
def test_what_has_no_known_tag_is_not_decoded_however_large(head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_reader, "decode", lambda kind, raw: pytest.fail("decoded"))
    with pytest.raises(DecodeError, match="of any kind known here"):
        MESSAGES.read(head)
    if head:
        with pytest.raises(DecodeError, match="of any kind known here"):
            MESSAGES.read(head + bytes(limits.message_bytes_max))


def test_the_protocol_names_every_bound() -> None:
    text = (Path(__file__).parents[1] / "docs" / "protocol.md").read_text()
    for name, reader in (
        ("CONSENSUS", MESSAGES),
        ("SYNC", SYNC_MESSAGES),
        ("TRANSACTIONS", GOSSIP_MESSAGES),
        ("DOCUMENTS", DOCUMENT_MESSAGES),
    ):
        bounds = ", ".join(f"`{tag.decode()}` {most}" for tag, most in reader.bytes_max.items())
        assert f"| {name} | {bounds} |" in text


def test_a_kind_without_a_bound_is_found_at_the_import() -> None:
    with pytest.raises(AssertionError, match="OffersRequest"):
        MessageReader(SyncMessage, {kind: 512 for kind in get_args(SyncMessage) if kind is not OffersRequest})

"""Messages that attackers send: well formed where they must be, and wrong in one place."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from otcnode.blocks import Block, Certificate, CertifiedBlock, Header, commit_preimage, prepare_preimage
from otcnode.codec import decode, encode
from otcnode.consensus.messages import (
    BodyRequest,
    Commit,
    Mode,
    Prepare,
    Status,
    ViewChange,
    status_preimage,
    view_change_preimage,
)
from otcnode.crypto import SigningKey, random_bytes, sha256
from otcnode.engine.documents import DocumentWanted
from otcnode.p2p.announcements import NodeAnnouncement, announce
from otcnode.p2p.gossip import Have, Push, Request
from otcnode.sync_messages import BlocksRequest, BlocksResponse, ChunkResponse, SyncMessage, TipNotice
from otcnode.vm.transactions import Transaction, decode_transaction

EPOCH = 1
_NOTHING = bytes(32)


def false_vote(validator: bytes, height: int, view: int = 0) -> bytes:
    return encode(Prepare(EPOCH, view, height, random_bytes(32), validator, bytes(64)))


def vote(chain: bytes, key: SigningKey, height: int, view: int, kind: type[Prepare | Commit] = Prepare) -> bytes:
    """A true vote for a block that nobody has, the same one for each height and view."""
    name = sha256(b"%d %d" % (height, view))
    preimage = prepare_preimage if kind is Prepare else commit_preimage
    signature = key.sign(preimage(chain, EPOCH, view, height, name))
    return encode(kind(EPOCH, view, height, name, key.public, signature))


def status(chain: bytes, key: SigningKey, committed: int) -> bytes:
    plain = Status(EPOCH, 0, Mode.ACTIVE, committed, (), b"", key.public, bytes(64))
    return encode(replace(plain, signature=key.sign(status_preimage(chain, plain))))


def view_change(chain: bytes, key: SigningKey, view: int, committed: int, certificate: Certificate | None) -> bytes:
    plain = ViewChange(EPOCH, view, committed, certificate, (), key.public, bytes(64))
    return encode(replace(plain, signature=key.sign(view_change_preimage(chain, plain))))


def old_epoch_vote(validator: bytes) -> bytes:
    return encode(Prepare(0, 0, 1, bytes(32), validator, bytes(64)))


def body_request(height: int, block: bytes, positions: Sequence[int] = ()) -> bytes:
    return encode(BodyRequest(height, block, tuple(positions)))


def tip(height: int, first: int = 1) -> bytes:
    return encode(TipNotice(height, first))


def blocks_request(first: int, count: int) -> bytes:
    return encode(BlocksRequest(first, count))


def junk_blocks(chain: bytes, first: int, count: int, filling: bytes = b"junk") -> bytes:
    """Blocks of the right form at the heights asked for, certified by nobody."""
    rows = []
    for height in range(first, first + count):
        header = Header(1, chain, height, _NOTHING, 1, _NOTHING, 1, *[_NOTHING] * 5)
        rows.append(CertifiedBlock(Block(header, (filling,)), Certificate(EPOCH, 0, height, bytes(32), ())))
    return encode(BlocksResponse(first, tuple(rows)))


def chunk(content: bytes) -> bytes:
    return encode(ChunkResponse(bytes(32), 0, content))


def read_sync(payload: bytes) -> SyncMessage:
    message: SyncMessage = decode(SyncMessage, payload)
    return message


def forged(raw: bytes, signature: bytes = bytes(64)) -> bytes:
    """The same transaction under a signature that does not verify."""
    transaction: Transaction = decode_transaction(raw).transaction
    first, *others = transaction.signatures
    return encode(replace(transaction, signatures=(replace(first, signature=signature), *others)))


def push(*raws: bytes) -> bytes:
    return encode(Push(raws))


def have(count: int) -> bytes:
    return encode(Have(tuple(random_bytes(32) for _ in range(count))))


def request(count: int) -> bytes:
    return encode(Request(tuple(random_bytes(32) for _ in range(count))))


def document_wanted() -> bytes:
    return encode(DocumentWanted(random_bytes(32)))


def announcement(chain: bytes, key: SigningKey, address: str, sequence: int) -> bytes:
    return encode((announce(key, chain, address, sequence),))


def false_announcement(node: bytes) -> bytes:
    return encode((NodeAnnouncement(node, "127.0.0.1:1", 2**50, bytes(64)),))

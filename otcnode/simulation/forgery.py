"""What a liar can say in its own name without executing anything: forged proofs, certificates, statuses and bodies."""

from __future__ import annotations

from msgspec.structs import replace

from otcnode import limits
from otcnode.blocks import (
    Certificate,
    Header,
    ValidatorSignature,
    block_hash,
    commit_preimage,
    prepare_preimage,
    quorum,
)
from otcnode.codec import decode, encode
from otcnode.consensus.messages import (
    Bodies,
    Commit,
    Decision,
    Message,
    Mode,
    NewView,
    Prepare,
    Proof,
    Status,
    ViewChange,
    new_view_preimage,
    status_preimage,
    view_change_preimage,
)
from otcnode.consensus.votes import bitmap
from otcnode.crypto import tagged_hash
from otcnode.errors import DecodeError
from otcnode.p2p.gossip import GossipMessage, Push
from otcnode.simulation.chance import Chance
from otcnode.simulation.signing import Sign
from otcnode.snapshot import Chunk, Manifest
from otcnode.sync_messages import BlocksResponse, ChunkResponse, ManifestResponse, SyncMessage

FLOOD_HEIGHTS = 10_000
FAR_VIEW = 10**9
FAR_HEIGHTS = 1_000
JUNK_DOMAIN = "otcnode simulation junk"
Asker = tuple[str | int, ...]
Spoken = list[tuple[bytes, int]]
"""(payload, extra delay in ms) in order."""


class Forger:
    """One liar's pen. It has its own key and no other's."""

    def __init__(self, index: int, chain: bytes, validators: tuple[bytes, ...], sign: Sign, chance: Chance) -> None:
        self.own = validators[index]
        self._index = index
        self._chain = chain
        self._validators = validators
        self._sign = sign
        self._chance = chance

    # ---- signing

    def vote(self, vote: Prepare | Commit, name: bytes) -> Prepare | Commit:
        """The same vote for another block."""
        preimage = prepare_preimage if isinstance(vote, Prepare) else commit_preimage
        signature = self._sign(preimage(self._chain, vote.epoch, vote.view, vote.height, name))
        return replace(vote, block_hash=name, signature=signature)

    def prepare_signature(self, epoch: int, view: int, header: Header) -> bytes:
        return self._sign(prepare_preimage(self._chain, epoch, view, header.height, block_hash(header)))

    def commit(self, epoch: int, view: int, header: Header) -> Commit:
        name = block_hash(header)
        signature = self._sign(commit_preimage(self._chain, epoch, view, header.height, name))
        return Commit(epoch, view, header.height, name, self.own, signature)

    def view_change(self, message: ViewChange) -> ViewChange:
        return replace(message, signature=self._sign(view_change_preimage(self._chain, message)))

    def new_view(self, message: NewView) -> NewView:
        return replace(message, signature=self._sign(new_view_preimage(self._chain, message)))

    # ---- lies

    def forged(self, message: Message) -> Message:
        match message:
            case ViewChange() if message.validator == self.own:
                best = message.proofs[-1].header if message.proofs else None
                return self.view_change(replace(message, proofs=(*message.proofs, self._false_proof(message, best))))
            case NewView() if message.validator == self.own and message.view_changes:
                doubled = (message.view_changes[0], *message.view_changes[:-1])
                return self.new_view(replace(message, view_changes=doubled))
            case Prepare() | Commit() if message.validator == self.own:
                other = self._validators[(self._index + 1) % len(self._validators)]
                return replace(message, validator=other)
            case _:
                return message

    def certified(self, message: Message) -> Message:
        """The next height is decided, says a certificate that only the liar signed, in everybody's name."""
        match message:
            case ViewChange() if message.validator == self.own:
                header = message.proofs[0].header if message.proofs else self._false_header(message.committed + 1, None)
                certificate = self._false_certificate(message.epoch, max(0, message.view - 1), header)
                return self.view_change(
                    replace(message, committed=header.height, certificate=certificate, proofs=message.proofs[1:])
                )
            case Decision(header, certificate):
                false = replace(header, time_ms=header.time_ms + 1)
                return Decision(false, self._false_certificate(certificate.epoch, certificate.view, false))
            case _:
                return message

    def hidden(self, message: Message) -> Message:
        if isinstance(message, ViewChange) and message.validator == self.own and message.proofs:
            return self.view_change(replace(message, proofs=()))
        return message

    def hearsay(self, message: Message, asker: Asker) -> list[Status]:
        """Beside the own STATUS one in another's name: it lies about that one as the habit of false STATUSes lies about
        itself, and says that it may not vote."""
        if not isinstance(message, Status) or message.validator != self.own:
            return []
        others = [name for name in self._validators if name != self.own]
        if not others:
            return []
        named = replace(message, validator=self._chance.choice(others, "status of", *asker), mode=Mode.SILENT)
        return [self._exaggerated(named, asker)]

    def misstated(self, message: Message, asker: Asker) -> Message:
        if not isinstance(message, Status) or message.validator != self.own:
            return message
        return self._exaggerated(message, asker)

    def _exaggerated(self, message: Status, asker: Asker) -> Status:
        everybody = bitmap(self._validators, self._validators)
        false = replace(
            message,
            committed=message.committed + self._chance.choice((0, 1, FAR_HEIGHTS), "status height", *asker),
            view=message.view + self._chance.choice((0, 1, FAR_VIEW), "status view", *asker),
            heights=tuple(
                replace(entry, body_held=True, prepares=everybody, commits=everybody) for entry in message.heights
            ),
            view_changes=everybody,
        )
        return replace(false, signature=self._sign(status_preimage(self._chain, false)))

    def junk_bodies(self, message: Message) -> Message:
        if not isinstance(message, Bodies):
            return message
        false = tuple((position, _another_signature(raw)) for position, raw in message.transactions)
        return replace(message, transactions=false)

    def junk_blocks(self, payload: bytes) -> bytes:
        """Block sync with bodies that the certificate does not vouch for, and snapshots of a state that it does not
        vouch for."""
        try:
            message: SyncMessage = decode(SyncMessage, payload)
        except DecodeError:
            return payload
        if isinstance(message, ChunkResponse | ManifestResponse):
            return encode(_junk_snapshot(message))
        if not isinstance(message, BlocksResponse):
            return payload
        blocks = tuple(
            replace(
                certified,
                block=replace(
                    certified.block, transactions=tuple(_another_signature(raw) for raw in certified.block.transactions)
                ),
            )
            for certified in message.blocks
        )
        return encode(replace(message, blocks=blocks))

    def junk_gossip(self, payload: bytes) -> bytes:
        """Copies of transactions that nobody signed so."""
        try:
            message: GossipMessage = decode(GossipMessage, payload)
        except DecodeError:
            return payload
        if not isinstance(message, Push):
            return payload
        return encode(Push(tuple(_another_signature(raw) for raw in message.transactions)))

    def far(self, epoch: int, committed: int, asker: Asker) -> Message:
        """A vote, or a VIEW-CHANGE, of a view that nobody will ever see."""
        if self._chance.happens(200, "far view-change", *asker):
            view = FAR_VIEW + self._chance.below(FAR_VIEW, "far view", *asker)
            return self.view_change(ViewChange(epoch, view, epoch - 1, None, (), self.own, bytes(64)))
        near = self._chance.happens(700, "near", *asker)
        height = committed + 1 + self._chance.below(1 if near else FLOOD_HEIGHTS, "height", *asker)
        view = self._chance.below(limits.view_max, "view", *asker)
        name = tagged_hash(JUNK_DOMAIN, height.to_bytes(8, "big") + view.to_bytes(8, "big"))
        signature = self._sign(prepare_preimage(self._chain, epoch, view, height, name))
        return Prepare(epoch, view, height, name, self.own, signature)

    # ---- parts

    def _false_proof(self, message: ViewChange, below: Header | None) -> Proof:
        header = self._false_header(message.committed + len(message.proofs) + 1, below)
        view = message.view - 1
        signature = self.prepare_signature(message.epoch, view, header)
        primary = view % len(self._validators)
        signers = {(primary + offset) % len(self._validators) for offset in range(quorum(len(self._validators)))}
        return Proof(view, header, tuple(ValidatorSignature(self._validators[i], signature) for i in sorted(signers)))

    def _false_certificate(self, epoch: int, view: int, header: Header) -> Certificate:
        signature = self.commit(epoch, view, header).signature
        return Certificate(epoch, view, header.height, block_hash(header), self._everybody(signature))

    def _everybody(self, signature: bytes) -> tuple[ValidatorSignature, ...]:
        return tuple(ValidatorSignature(name, signature) for name in self._validators)

    def _false_header(self, height: int, below: Header | None) -> Header:
        name = block_hash(below) if below is not None else tagged_hash(JUNK_DOMAIN, self.own)
        return Header(
            version=1,
            chain=self._chain,
            height=height,
            parent=name,
            time_ms=1,
            proposer=self.own,
            transaction_count=0,
            transactions_root=name,
            receipts_root=name,
            state_root=name,
            validators_hash=name,
            next_validators_hash=name,
        )


def _another_signature(raw: bytes) -> bytes:
    """The same transaction with a false signature: signatures stand at the end of its encoding."""
    return raw[:-1] + bytes([raw[-1] ^ 1])


def _junk_snapshot(message: ChunkResponse | ManifestResponse) -> ChunkResponse | ManifestResponse:
    """Another value under every key; a certificate that nobody signed."""
    if isinstance(message, ChunkResponse):
        if not message.chunk:
            return message
        chunk = decode(Chunk, message.chunk)
        pairs = tuple((key, b"the liar's") for key, _ in chunk.pairs)
        return replace(message, chunk=encode(replace(chunk, pairs=pairs)))
    if not message.manifest:
        return message
    manifest = decode(Manifest, message.manifest)
    signatures = tuple(replace(entry, signature=bytes(64)) for entry in manifest.certificate.signatures)
    return replace(
        message, manifest=encode(replace(manifest, certificate=replace(manifest.certificate, signatures=signatures)))
    )

"""Snapshots of a state that a liar made up, whole and consistent in themselves.

One is certified by validators whom nobody has named, with a history of them that the liar signed; one names the true
validators, who never signed it. They are of the height that the liar itself has reached: nobody takes the snapshot of a
height that others do not claim.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from otcnode.blocks import Certificate, Epoch, Header, ValidatorSignature, block_hash, commit_preimage, validators_hash
from otcnode.codec import decode, encode
from otcnode.epochs import EpochChange
from otcnode.errors import DecodeError
from otcnode.genesis import Genesis, chain_id, first_epoch
from otcnode.snapshot import Offer
from otcnode.storage.folder import MemoryFolder
from otcnode.storage.kv import MemoryKeyValue
from otcnode.storage.snapshot_maker import MANIFEST, Source, chunk_name, make, offer_of, read_manifest
from otcnode.storage.store import Store
from otcnode.sync_messages import ChunkResponse, ManifestResponse, Offers, SyncMessage, TipNotice
from otcnode.vm.genesis_state import genesis_writes


class Counterfeit(NamedTuple):
    """What is offered, and the files of the snapshot."""

    offer: Offer
    files: dict[str, bytes]


class Counterfeits:
    """The snapshots of the liar `own`; `sign` is with its key. It offers one of them, for of two that nobody else
    offers the lower one would hardly ever be chosen."""

    def __init__(self, genesis: Genesis, own: bytes, sign: Callable[[bytes], bytes], offered: int) -> None:
        self._genesis = genesis
        self._chain = chain_id(genesis)
        self._own = own
        self._sign = sign
        self._offered = offered
        self._height = 2
        self.made: dict[bytes, Counterfeit] = {}
        """All of them, by the hash of their block."""
        self._made_at: dict[int, tuple[Counterfeit, Counterfeit]] = {}

    def instead(self, payload: bytes) -> bytes:
        """What is said in place of a message of the SYNC channel."""
        try:
            message: SyncMessage = decode(SyncMessage, payload)
        except DecodeError:
            return payload
        match message:
            case TipNotice(height):
                self._height = max(self._height, height)
                return payload
            case Offers(offers):
                return encode(Offers((*offers, self.of_height(self._height)[self._offered].offer)))
            case ManifestResponse(snapshot, b"") if snapshot in self.made:
                return encode(ManifestResponse(snapshot, self.made[snapshot].files[MANIFEST]))
            case ChunkResponse(snapshot, index, b"") if snapshot in self.made:
                return encode(ChunkResponse(snapshot, index, self.made[snapshot].files.get(chunk_name(index), b"")))
            case _:
                return payload

    def of_height(self, height: int) -> tuple[Counterfeit, Counterfeit]:
        """The usurped one and the unsigned one."""
        if height not in self._made_at:
            genesis, first = self._genesis, first_epoch(self._genesis)
            state = {**genesis_writes(genesis), b"the liar's": b"fortune"}
            store = Store.create(MemoryKeyValue(), self._chain, state, genesis.parameters.state_buckets, first, 0)
            usurped = Epoch(height, (self._own,), first.parameters)
            change_header = self._header(height - 1, store, first, usurped)
            change = EpochChange(change_header, self._certificate(change_header, first), usurped)
            both = self._make(height, store, usurped, (change,)), self._make(height, store, first, ())
            self._made_at[height] = both
            self.made.update({false.offer.block_hash: false for false in both})
        return self._made_at[height]

    def _make(self, height: int, store: Store, epoch: Epoch, changes: tuple[EpochChange, ...]) -> Counterfeit:
        header = self._header(height, store, epoch, epoch)
        reader, hashes = store.frozen()
        folder = MemoryFolder()
        for _ in make(Source(reader, hashes, self._chain, header, self._certificate(header, epoch), changes), folder):
            pass
        manifest = read_manifest(folder)
        assert manifest is not None
        return Counterfeit(offer_of(manifest), {name: folder.read(name) or b"" for name in folder.names()})

    def _header(self, height: int, store: Store, epoch: Epoch, following: Epoch) -> Header:
        nothing = bytes(32)
        return Header(
            version=1,
            chain=self._chain,
            height=height,
            parent=nothing,
            time_ms=self._genesis.time_ms + height,
            proposer=epoch.validators[0],
            transaction_count=0,
            transactions_root=nothing,
            receipts_root=nothing,
            state_root=store.tree.root,
            validators_hash=validators_hash(epoch),
            next_validators_hash=validators_hash(following),
        )

    def _certificate(self, header: Header, epoch: Epoch) -> Certificate:
        """By the liar's key, in the name of whoever should have signed."""
        name = block_hash(header)
        signature = self._sign(commit_preimage(self._chain, epoch.number, 0, header.height, name))
        signatures = tuple(ValidatorSignature(validator, signature) for validator in epoch.validators)
        return Certificate(epoch.number, 0, header.height, name, signatures)

"""What is believed: nothing but the genesis, and what certificates prove from there. Pure.

Validator sets are followed from the genesis on: the header before an epoch, certified by the epoch before, names the
hash of the next set. So a node cannot make up a validator set, a block, or a receipt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from otcnode import merkle
from otcnode.blocks import Certificate, Epoch, Header, block_hash, check_certificate, validators_hash
from otcnode.codec import decode
from otcnode.errors import DecodeError, ProofError
from otcnode.genesis import Genesis, chain_id, first_epoch
from otcnode.storage.state_proof import StateProof, verify_state_proof
from otcnode.vm.results import Receipt

T = TypeVar("T")


class TrustedChain:
    """Epochs proven so far. Everything raises ProofError where a proof does not hold."""

    def __init__(self, genesis: Genesis) -> None:
        self.chain = chain_id(genesis)
        self._epochs = [first_epoch(genesis)]

    @property
    def last_epoch(self) -> Epoch:
        return self._epochs[-1]

    def header(self, header_raw: bytes, certificate_raw: bytes) -> Header:
        """The header, proven final by the certificate."""
        header = _decoded(Header, header_raw)
        certificate = _decoded(Certificate, certificate_raw)
        epoch = self._epoch_at(header.height)
        if header.chain != self.chain:
            raise ProofError("a header of another chain")
        if certificate.height != header.height or certificate.block_hash != block_hash(header):
            raise ProofError("the certificate is for another block")
        if header.validators_hash != validators_hash(epoch.validators):
            raise ProofError("the header names other validators than those proven for its height")
        check_certificate(certificate, self.chain, epoch)
        return header

    def extend(self, epoch: Epoch, header_raw: bytes, certificate_raw: bytes) -> None:
        """Learn the epoch that follows, from the certified header just before it."""
        if epoch.number <= self.last_epoch.number:
            raise ProofError(f"epoch {epoch.number} does not follow epoch {self.last_epoch.number}")
        header = self.header(header_raw, certificate_raw)
        if header.height != epoch.number - 1:
            raise ProofError(f"epoch {epoch.number} is proven by the header of height {epoch.number - 1}")
        if list(epoch.validators) != sorted(set(epoch.validators)) or not epoch.validators:
            raise ProofError("validators out of order")
        if header.next_validators_hash != validators_hash(epoch.validators):
            raise ProofError(f"the header before epoch {epoch.number} names other validators")
        self._epochs.append(epoch)

    def receipt(
        self,
        header_raw: bytes,
        certificate_raw: bytes,
        receipt_raw: bytes,
        index: int,
        count: int,
        path: Sequence[bytes],
    ) -> tuple[Header, Receipt]:
        """The receipt, proven to be in a final block."""
        header = self.header(header_raw, certificate_raw)
        if merkle.root_from_path(receipt_raw, index, count, path) != header.receipts_root:
            raise ProofError("the receipt is not under the header's receipts root")
        return header, _decoded(Receipt, receipt_raw)

    def state(
        self, header_raw: bytes, certificate_raw: bytes, proof_raw: bytes, key: bytes, value: bytes | None
    ) -> Header:
        """The header of a final block after which the state holds `value` under `key` (None: nothing), proven."""
        header = self.header(header_raw, certificate_raw)
        if not verify_state_proof(header.state_root, _decoded(StateProof, proof_raw), key, value):
            raise ProofError("the proof does not show that value under the header's state root")
        return header

    def _epoch_at(self, height: int) -> Epoch:
        if height < 1:
            raise ProofError("the genesis has no certificate")
        return [epoch for epoch in self._epochs if epoch.number <= height][-1]


def _decoded(kind: type[T], raw: bytes) -> T:
    try:
        return decode(kind, raw)
    except DecodeError as error:
        raise ProofError(str(error)) from None

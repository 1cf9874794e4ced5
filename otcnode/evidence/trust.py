"""What is believed: nothing but the genesis, and what certificates prove from there. Pure.

Validator sets are followed from the genesis on: the header before an epoch, certified by the epoch before, names the
hash of the next set. So a node cannot make up a validator set, a block, or a receipt.
"""

from __future__ import annotations

from typing import TypeVar

from otcnode import merkle
from otcnode.blocks import Certificate, Entry, Epoch, Header
from otcnode.codec import decode
from otcnode.crypto import verify
from otcnode.epochs import EpochChange, ProvenEpochs
from otcnode.errors import DecodeError, ProofError
from otcnode.evidence.absence import Absence, absence_preimage
from otcnode.evidence.package import Leaf
from otcnode.genesis import Genesis, chain_id, first_epoch
from otcnode.storage.state_proof import StateProof, verify_state_proof
from otcnode.vm.results import Receipt

T = TypeVar("T")


class TrustedChain:
    """Epochs proven so far. Everything raises ProofError where a proof does not hold."""

    def __init__(self, genesis: Genesis) -> None:
        self._epochs = ProvenEpochs(chain_id(genesis), first_epoch(genesis))

    @property
    def chain(self) -> bytes:
        return self._epochs.chain

    @property
    def last_epoch(self) -> Epoch:
        return self._epochs.last

    def header(self, header_raw: bytes, certificate_raw: bytes) -> Header:
        """The header, proven final by the certificate."""
        header = _decoded(Header, header_raw)
        self._epochs.check(header, _decoded(Certificate, certificate_raw))
        return header

    def extend(self, epoch: Epoch, header_raw: bytes, certificate_raw: bytes) -> None:
        """Learn the epoch that follows, from the certified header just before it."""
        header, certificate = _decoded(Header, header_raw), _decoded(Certificate, certificate_raw)
        self._epochs.extend(EpochChange(header, certificate, epoch))

    def transaction(
        self, header_raw: bytes, certificate_raw: bytes, entry: Entry, place: Leaf, receipt_raw: bytes, outcome: Leaf
    ) -> tuple[Header, Receipt]:
        """The receipt of a transaction, both proven to be in a final block: `place` under its transactions root,
        `outcome` under its receipts root, where as many automatic receipts come before as there are in all."""
        header = self.header(header_raw, certificate_raw)
        if place.count != header.transaction_count:
            raise ProofError("the transaction is shown among another number of transactions than its block has")
        if merkle.root_from_path(entry.id + entry.full_hash, *_place(place)) != header.transactions_root:
            raise ProofError("the transaction is not under the header's transactions root")
        if merkle.root_from_path(receipt_raw, *_place(outcome)) != header.receipts_root:
            raise ProofError("the receipt is not under the header's receipts root")
        receipt = _decoded(Receipt, receipt_raw)
        if receipt.transaction != entry.id or outcome.index - place.index != outcome.count - place.count:
            raise ProofError("the receipt is another transaction's")
        return header, receipt

    def absence(
        self, header_raw: bytes, certificate_raw: bytes, absence_raw: bytes, transaction: bytes
    ) -> tuple[Header, Epoch, Absence]:
        """Somebody's word that no block up to that of the final header holds the transaction, and who decides there:
        whether its signer is one of them, and when to believe it, is for the caller to see."""
        header, word = self.header(header_raw, certificate_raw), _decoded(Absence, absence_raw)
        claim = word.claim
        if (claim.chain, claim.transaction, claim.height) != (self.chain, transaction, header.height):
            raise ProofError("a word about something else")
        if not verify(word.node, absence_preimage(claim), word.signature):
            raise ProofError("the word is not signed by the node it is said to be of")
        return header, self._epochs.at(header.height), word

    def state(
        self, header_raw: bytes, certificate_raw: bytes, proof_raw: bytes, key: bytes, value: bytes | None
    ) -> Header:
        """The header of a final block after which the state holds `value` under `key` (None: nothing), proven."""
        header = self.header(header_raw, certificate_raw)
        if not verify_state_proof(header.state_root, _decoded(StateProof, proof_raw), key, value):
            raise ProofError("the proof does not show that value under the header's state root")
        return header


def _place(leaf: Leaf) -> tuple[int, int, tuple[bytes, ...]]:
    return leaf.index, leaf.count, leaf.path


def _decoded(kind: type[T], raw: bytes) -> T:
    try:
        return decode(kind, raw)
    except DecodeError as error:
        raise ProofError(str(error)) from None

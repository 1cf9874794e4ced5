"""Following the validators from the genesis on, each change of them proven by those before it. Pure.

The header just below an epoch, certified by the validators of the epoch before it, names the hash of the next epoch:
its number, validators and parameters. So whoever holds the genesis file needs to trust nobody about later ones.
"""

from __future__ import annotations

from bisect import bisect_right

from otcnode.blocks import Certificate, Epoch, Header, Verify, block_hash, check_certificate, validators_hash
from otcnode.codec import Record
from otcnode.crypto import verify as ed25519_verify
from otcnode.errors import ProofError


class EpochChange(Record, frozen=True):
    """The certified header just below an epoch, and the epoch."""

    header: Header
    certificate: Certificate
    epoch: Epoch


def _number(epoch: Epoch) -> int:
    return epoch.number


class ProvenEpochs:
    """The epochs proven so far. Everything raises ProofError where a proof does not hold; nothing is learnt then."""

    def __init__(self, chain: bytes, first: Epoch, verify: Verify = ed25519_verify) -> None:
        self.chain = chain
        self._verify = verify
        self._epochs = [first]

    @property
    def last(self) -> Epoch:
        return self._epochs[-1]

    def all(self) -> tuple[Epoch, ...]:
        return tuple(self._epochs)

    def at(self, height: int) -> Epoch:
        """The validators that decide `height`, as far as is known."""
        if height < 1:
            raise ProofError("the genesis has no certificate")
        return self._epochs[bisect_right(self._epochs, height, key=_number) - 1]

    def check_header(self, header: Header) -> Epoch:
        """The epoch that decides this header, which names it rightly; whether the header is final is not checked."""
        epoch = self.at(header.height)
        if header.chain != self.chain:
            raise ProofError("a header of another chain")
        if header.validators_hash != validators_hash(epoch):
            raise ProofError("the header names other validators than those proven for its height")
        return epoch

    def check(self, header: Header, certificate: Certificate) -> None:
        """The header is final: the certificate proves it."""
        if certificate.height != header.height or certificate.block_hash != block_hash(header):
            raise ProofError("the certificate is for another block")
        check_certificate(certificate, self.chain, self.check_header(header), self._verify)

    def extend(self, change: EpochChange) -> Epoch:
        """Learn the epoch that begins above the header of `change`."""
        header, epoch = change.header, change.epoch
        number, names = epoch.number, epoch.validators
        if number != header.height + 1:
            raise ProofError(f"epoch {number} is proven by the header of height {number - 1}")
        if number <= self.last.number:
            raise ProofError(f"epoch {number} does not follow epoch {self.last.number}")
        if not names or list(names) != sorted(set(names)):
            raise ProofError(f"the validators of epoch {number} are not sorted, each once")
        self.check(header, change.certificate)
        if header.next_validators_hash != validators_hash(epoch):
            raise ProofError(f"the header before epoch {number} names other validators")
        self._epochs.append(epoch)
        return epoch

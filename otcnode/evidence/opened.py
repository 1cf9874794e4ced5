"""Opening a package: every signature and every proof in it is checked once, and what is left is facts. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from otcnode import merkle
from otcnode.blocks import Header
from otcnode.codec import decode, encode
from otcnode.crypto import tagged_hash, verify_all
from otcnode.errors import Code, DecodeError, Inadmissible, ProofError
from otcnode.evidence.package import AutomaticProof, CertifiedHeader, Leaf, Package, TransactionProof
from otcnode.evidence.trust import TrustedChain
from otcnode.evidence.verdict import Outcome, Refused
from otcnode.genesis import GENESIS_DOMAIN, Genesis
from otcnode.vm.keys import Table
from otcnode.vm.results import AutomaticReceipt, Receipt
from otcnode.vm.transactions import Decoded, decode_transaction, signature_checks

R = TypeVar("R")


class ProvenTransaction:
    """A transaction in a final block, with its receipt."""

    __slots__ = ("decoded", "header", "receipt")

    def __init__(self, decoded: Decoded, header: Header, receipt: Receipt) -> None:
        self.decoded = decoded
        self.header = header
        self.receipt = receipt

    def operations(self, kind: type[R]) -> Iterator[tuple[int, R]]:
        """(index, operation) of the operations of a kind that took effect."""
        if self.receipt.code is Code.OK:
            for index, operation in enumerate(self.decoded.transaction.body.operations):
                if isinstance(operation, kind):
                    yield index, operation

    @property
    def actor(self) -> bytes:
        return self.decoded.transaction.body.sender


class Opened:
    """What a package proves. Raises Refused on the way in."""

    def __init__(self, package: Package, chain: bytes) -> None:
        genesis = _genesis(package, chain)
        decoded = [_decoded(proof) for proof in package.transactions]
        if len({entry.id for entry in decoded}) != len(decoded):
            raise Refused(Outcome.PROOF_INVALID, "a transaction is shown twice")
        _check_signatures(decoded)
        self.chain = chain
        self.subject = package.subject
        trust = TrustedChain(genesis)
        try:
            for step in package.epochs:
                trust.extend(step.epoch, encode(step.announced_by.header), encode(step.announced_by.certificate))
            self.last = _believed(trust, package.last)
            headers = {block.header.height: _believed(trust, block) for block in package.blocks}
            self._state: dict[bytes, bytes | None] = {}
            for entry in package.state:
                shown = (encode(package.last.header), encode(package.last.certificate), encode(entry.proof))
                trust.state(*shown, entry.key, entry.value)
                self._state[entry.key] = entry.value
        except ProofError as error:
            raise Refused(Outcome.PROOF_INVALID, str(error)) from None
        pairs = zip(package.transactions, decoded, strict=True)
        self.transactions = [_transaction(proof, entry, headers) for proof, entry in pairs]
        self.automatic = [(_header(headers, proof.height), _automatic(proof, headers)) for proof in package.automatic]

    def get(self, table: Table[R], suffix: bytes, what: str) -> R:
        """The record in the state after the last block. Raises Refused(INCOMPLETE) if the package does not show it."""
        value = self._state.get(table.prefix + suffix)
        if value is None:
            raise Refused(Outcome.INCOMPLETE, f"{what} is not in the package")
        record: R = table.decode(value)
        return record

    def scan(self, table: Table[R], prefix: bytes) -> list[tuple[bytes, R]]:
        """The records that the package shows under keys that begin like this, ascending, by the rest of the key."""
        begin = table.prefix + prefix
        found = [(key, value) for key, value in sorted(self._state.items()) if key.startswith(begin)]
        return [(key[len(table.prefix) :], table.decode(value)) for key, value in found if value is not None]


def _genesis(package: Package, chain: bytes) -> Genesis:
    if tagged_hash(GENESIS_DOMAIN, package.genesis) != chain:
        raise Refused(Outcome.GENESIS_MISMATCH, "the package is of another chain")
    try:
        return decode(Genesis, package.genesis)
    except DecodeError as error:
        raise Refused(Outcome.GENESIS_MISMATCH, str(error)) from None


def _decoded(proof: TransactionProof) -> Decoded:
    try:
        return decode_transaction(proof.raw)
    except Inadmissible as error:
        raise Refused(
            Outcome.PROOF_INVALID, f"a transaction of block {proof.height} does not decode: {error}"
        ) from None


def _check_signatures(transactions: list[Decoded]) -> None:
    """The keys that a transaction names have signed it; that they might is what the certified block says."""
    for decoded in transactions:
        if not all(verify_all(signature_checks(decoded))):
            name = decoded.id.hex()[:16]
            raise Refused(Outcome.SIGNATURE_INVALID, f"transaction {name}… is not signed by the keys it names")


def _believed(trust: TrustedChain, block: CertifiedHeader) -> Header:
    return trust.header(encode(block.header), encode(block.certificate))


def _header(headers: dict[int, Header], height: int) -> Header:
    if height not in headers:
        raise Refused(Outcome.INCOMPLETE, f"the header of block {height} is not in the package")
    return headers[height]


def _under(root: bytes, data: bytes, leaf: Leaf, what: str) -> None:
    if merkle.root_from_path(data, leaf.index, leaf.count, leaf.path) != root:
        raise Refused(Outcome.PROOF_INVALID, f"{what} is not under its block's root")


def _transaction(proof: TransactionProof, decoded: Decoded, headers: dict[int, Header]) -> ProvenTransaction:
    header = _header(headers, proof.height)
    name = f"transaction {decoded.id.hex()[:16]}…"
    if proof.entry.count != header.transaction_count:
        raise Refused(Outcome.PROOF_INVALID, f"{name} is shown among another number of transactions than its block has")
    _under(header.transactions_root, decoded.id + decoded.full_hash, proof.entry, name)
    _under(header.receipts_root, proof.receipt, proof.outcome, f"the receipt of {name}")
    receipt = _receipt(Receipt, proof.receipt)
    if receipt.transaction != decoded.id:
        raise Refused(Outcome.PROOF_INVALID, f"the receipt of another transaction than {name}")
    return ProvenTransaction(decoded, header, receipt)


def _automatic(proof: AutomaticProof, headers: dict[int, Header]) -> AutomaticReceipt:
    header = _header(headers, proof.height)
    _under(header.receipts_root, proof.receipt, proof.outcome, f"an automatic receipt of block {proof.height}")
    return _receipt(AutomaticReceipt, proof.receipt)


def _receipt(kind: type[R], raw: bytes) -> R:
    try:
        return decode(kind, raw)
    except DecodeError as error:
        raise Refused(Outcome.PROOF_INVALID, str(error)) from None

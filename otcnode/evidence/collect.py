"""Making a package from what a node holds, at its latest block. Pure, over a small interface."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from otcnode import limits, merkle
from otcnode.blocks import Block, Certificate, Epoch, Header
from otcnode.codec import encode
from otcnode.evidence.package import (
    FORMAT,
    AutomaticProof,
    CertifiedHeader,
    EpochStep,
    Kind,
    Leaf,
    Package,
    StateEntry,
    TooLarge,
    TransactionProof,
)
from otcnode.genesis import Genesis
from otcnode.storage.state_proof import StateProof
from otcnode.types import Bytes32, Height
from otcnode.vm.accounts.records import ENTRUSTMENTS, KEYS
from otcnode.vm.contracts.records import CONTRACT_SIGNATURES, CONTRACT_TEXTS, CONTRACTS
from otcnode.vm.event_index import places
from otcnode.vm.state import State
from otcnode.vm.trades.records import TRADES
from otcnode.vm.transactions import decode_transaction, entry_of
from otcnode.vm.view import StateView


class Receipts(Protocol):
    @property
    def automatic(self) -> Sequence[bytes]: ...
    @property
    def transactions(self) -> Sequence[bytes]: ...


class Source(Protocol):
    """What is asked of a node; heights begin at 1, and what it no longer keeps raises."""

    @property
    def genesis(self) -> Genesis: ...
    def block(self, height: int) -> Block: ...
    def header(self, height: int) -> Header: ...
    def certificate(self, height: int) -> Certificate: ...
    def receipts(self, height: int) -> Receipts: ...
    def item_places(self, item: bytes) -> Iterator[tuple[int, bytes]]: ...
    def prove(self, key: bytes) -> StateProof: ...
    def epochs(self) -> Sequence[Epoch]: ...


class Shown(NamedTuple):
    """What one block has to show of the subject, and the entrustments that the transactions were made under."""

    block: CertifiedHeader
    transactions: tuple[TransactionProof, ...]
    automatic: tuple[AutomaticProof, ...]
    mandates: frozenset[bytes]

    @property
    def size_bytes(self) -> int:
        return sum(len(encode(part)) for part in (self.block, *self.transactions, *self.automatic))


class Blocks:
    """What the blocks have to show, one after the other: who collects for others does something else in between."""

    def __init__(self, source: Source, subject: Bytes32) -> None:
        self._source = source
        self._subject = subject
        self._transactions = self._bytes = 0
        self.shown: dict[int, Shown] = {}

    def missing(self) -> Iterator[tuple[int, bytes]]:
        """(height, index entry) of those that are not shown yet."""
        return (found for found in self._source.item_places(self._subject) if found[0] not in self.shown)

    def show(self, height: int, entry: bytes) -> None:
        """Raises TooLarge."""
        shown = self.shown[height] = _show(self._source, height, entry)
        self._transactions += len(shown.transactions)
        self._bytes += shown.size_bytes
        if self._transactions > limits.evidence_transactions_max:
            raise TooLarge(f"more than {limits.evidence_transactions_max} transactions")
        if self._bytes > limits.evidence_package_bytes_max:
            raise TooLarge(f"more than {limits.evidence_package_bytes_max} bytes")


def collect(
    source: Source, kind: Kind, subject: Bytes32, view: StateView, height: Height, blocks: Blocks | None = None
) -> Package:
    """The package of a contract or trade that exists in `view`, the state after the latest block, at `height`. Of the
    `blocks` only those that came since are looked at. Raises TooLarge."""
    assert height > 0, "the genesis has no certificate"
    blocks = Blocks(source, subject) if blocks is None else blocks
    for at, entry in blocks.missing():
        blocks.show(at, entry)
    found = [blocks.shown[at] for at in sorted(blocks.shown)]
    state = State(view)
    keys = _contract_keys(state, subject) if kind is Kind.CONTRACT else [TRADES.prefix + subject]
    mandates: frozenset[bytes] = frozenset().union(*[shown.mandates for shown in found])
    keys += sorted(ENTRUSTMENTS.prefix + name for name in mandates)
    return Package(
        FORMAT,
        kind,
        subject,
        encode(source.genesis),
        tuple(_step(source, epoch) for epoch in source.epochs() if 1 < epoch.number <= height),
        _certified(source, height),
        tuple(StateEntry(key, view.get(key), source.prove(key)) for key in keys),
        tuple(shown.block for shown in found),
        tuple(proof for shown in found for proof in shown.transactions),
        tuple(proof for shown in found for proof in shown.automatic),
        None,
    )


def _certified(source: Source, height: int) -> CertifiedHeader:
    return CertifiedHeader(source.header(height), source.certificate(height))


def _step(source: Source, epoch: Epoch) -> EpochStep:
    return EpochStep(epoch, _certified(source, epoch.number - 1))


def _contract_keys(state: State, contract: bytes) -> list[bytes]:
    """The contract, its text and signatures, and the signing keys' histories."""
    signatures = state.scan(CONTRACT_SIGNATURES, contract)
    histories = {KEYS.prefix + record.by + suffix[33:] for suffix, record in signatures}
    return [
        CONTRACTS.prefix + contract,
        CONTRACT_TEXTS.prefix + contract,
        *(CONTRACT_SIGNATURES.prefix + suffix for suffix, _ in signatures),
        *sorted(histories),
    ]


def _show(source: Source, height: int, entry: bytes) -> Shown:
    receipts, block = source.receipts(height), source.block(height)
    leaves, first = (*receipts.automatic, *receipts.transactions), len(receipts.automatic)
    wanted = sorted({place.leaf for place in places(entry)})
    positions = [leaf - first for leaf in wanted if leaf >= first]
    entries = [entry_of(raw) for raw in block.transactions] if positions else []
    names = _leaves([entry.id + entry.full_hash for entry in entries], positions)
    outcomes = _leaves(leaves, wanted)
    bodies = [decode_transaction(block.transactions[position]).transaction.body for position in positions]
    return Shown(
        _certified(source, height),
        tuple(
            TransactionProof(height, block.transactions[at], names[at], leaves[first + at], outcomes[first + at])
            for at in positions
        ),
        tuple(AutomaticProof(height, leaves[leaf], outcomes[leaf]) for leaf in wanted if leaf < first),
        frozenset(body.entrustment for body in bodies if body.entrustment is not None),
    )


def _leaves(leaves: Sequence[bytes], indexes: Sequence[int]) -> dict[int, Leaf]:
    found = zip(indexes, merkle.paths(leaves, indexes), strict=True)
    return {index: Leaf(index, len(leaves), path) for index, path in found}

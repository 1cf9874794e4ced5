"""Making a package from what a node holds, at its latest block. Pure, over a small interface."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from otcnode import limits, merkle
from otcnode.blocks import Block, Certificate, Entry, Epoch, Header
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
from otcnode.vm.transactions import Decoded, decode_transaction
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


class TooLarge(Exception):
    """More transactions made this item than a package may hold."""


def collect(source: Source, kind: Kind, subject: Bytes32, view: StateView, height: Height) -> Package:
    """The package of a contract or trade that exists in `view`, the state after the latest block, at `height`."""
    assert height > 0, "the genesis has no certificate"
    found, automatic, transactions = list(source.item_places(subject)), [], []
    bodies: list[Decoded] = []
    for at, entry in found:
        receipts, block = source.receipts(at), source.block(at)
        for leaf in sorted({place.leaf for place in places(entry)}):
            if leaf < len(receipts.automatic):
                automatic.append(_automatic(receipts, at, leaf))
            else:
                bodies.append(decode_transaction(block.transactions[leaf - len(receipts.automatic)]))
                transactions.append(_transaction(receipts, block, at, leaf))
        if len(transactions) > limits.evidence_transactions_max:
            raise TooLarge
    state = State(view)
    keys = _contract_keys(state, subject) if kind is Kind.CONTRACT else [TRADES.prefix + subject]
    used = {decoded.transaction.body.entrustment for decoded in bodies}
    keys += sorted(ENTRUSTMENTS.prefix + name for name in used if name is not None)
    return Package(
        FORMAT,
        kind,
        subject,
        encode(source.genesis),
        tuple(_step(source, epoch) for epoch in source.epochs() if 1 < epoch.number <= height),
        _certified(source, height),
        tuple(StateEntry(key, view.get(key), source.prove(key)) for key in keys),
        tuple(_certified(source, at) for at, _ in found),
        tuple(transactions),
        tuple(automatic),
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


def _leaf(leaves: Sequence[bytes], index: int) -> Leaf:
    return Leaf(index, len(leaves), merkle.path(leaves, index))


def _automatic(receipts: Receipts, height: int, leaf: int) -> AutomaticProof:
    leaves = (*receipts.automatic, *receipts.transactions)
    return AutomaticProof(height, leaves[leaf], _leaf(leaves, leaf))


def _transaction(receipts: Receipts, block: Block, height: int, leaf: int) -> TransactionProof:
    leaves = (*receipts.automatic, *receipts.transactions)
    position = leaf - len(receipts.automatic)
    entries = [Entry(decoded.id, decoded.full_hash) for decoded in map(decode_transaction, block.transactions)]
    names = [entry.id + entry.full_hash for entry in entries]
    return TransactionProof(
        height, block.transactions[position], _leaf(names, position), leaves[leaf], _leaf(leaves, leaf)
    )

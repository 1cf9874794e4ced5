"""The invariants of contracts that can be seen from a state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from otcnode.crypto import verify
from otcnode.types import ChainId
from otcnode.vm.accounts.records import OPEN_ITEMS
from otcnode.vm.contracts.lifecycle import OPEN, TERMINAL
from otcnode.vm.contracts.preimages import contract_signature_preimage, terms_hash
from otcnode.vm.contracts.records import (
    CONTRACT_SIGNATURES,
    CONTRACT_TEXTS,
    CONTRACTS,
    SUCCESSORS,
    AtTime,
    Contract,
    ContractSignature,
    ContractStatus,
    CoolingOff,
)
from otcnode.vm.due import places_of
from otcnode.vm.keys import OPEN_CONTRACT
from otcnode.vm.state import State
from otcnode.vm.violation import Violation

_S = ContractStatus


def signed_in_order(state: State) -> Iterator[Violation]:
    """18: what was signed by all has, per SIGNER slot, the keys it needs, over the one version, lower orders first."""
    for name, contract in state.scan(CONTRACTS):
        signatures = _signatures(state, name)
        counts = Counter(slot for slot, _, _ in signatures)
        if any(slot.keys_signed != counts[index] for index, slot in enumerate(contract.slots)):
            yield Violation(18, f"contract {name.hex()}: signatures are not what its slots count")
        if any(signature.version != contract.version for _, _, signature in signatures):
            yield Violation(18, f"contract {name.hex()}: signatures over several versions")
        if (contract.signed_at is None) != (contract.signing_at is None or contract.signing_order is not None):
            yield Violation(18, f"contract {name.hex()}: {contract.status.value}, but not by the signatures it has")
        orders = [contract.slots[slot].order for slot, _, _ in sorted(signatures, key=lambda entry: entry[2].position)]
        if orders != sorted(orders):
            yield Violation(18, f"contract {name.hex()}: signed out of order")


def _signatures(state: State, name: bytes) -> list[tuple[int, bytes, ContractSignature]]:
    """(slot, key, signature) of a contract."""
    return [(suffix[32], suffix[33:], record) for suffix, record in state.scan(CONTRACT_SIGNATURES, name)]


def signatures_verify(state: State, chain: ChainId) -> Iterator[Violation]:
    """18, the costly part: every signature is one of this network's contract, version and slot by its key."""
    for name, contract in state.scan(CONTRACTS):
        for slot, key, record in _signatures(state, name):
            message = contract_signature_preimage(
                chain=chain,
                contract=name,
                version=contract.version,
                terms_hash=contract.terms_hash,
                document=contract.document,
                slot=slot,
                principal=contract.slots[slot].account,
                entrustment=record.entrustment,
            )
            if not verify(key, message, record.signature):
                yield Violation(18, f"contract {name.hex()}, slot {slot}: the signature does not verify")


def texts_unchanged(state: State) -> Iterator[Violation]:
    """19: the text is the one whose hash all confirmed, and then signed."""
    for name, contract in state.scan(CONTRACTS):
        text = state.get(CONTRACT_TEXTS, name)
        if text is None or terms_hash(text.terms) != contract.terms_hash:
            yield Violation(19, f"contract {name.hex()}: the terms are not those of its hash")
        if contract.signing_at is not None and not all(slot.confirmed for slot in contract.slots):
            yield Violation(19, f"contract {name.hex()}: signed without all confirmations")


def endings_final(state: State) -> Iterator[Violation]:
    """20: what has ended is nowhere open any more, and what is open is found wherever it must be."""
    for name, contract in state.scan(CONTRACTS):
        is_open = contract.status in OPEN
        if (contract.ended_at is not None) != (contract.status in TERMINAL):
            yield Violation(20, f"contract {name.hex()}: {contract.status.value}, ended at {contract.ended_at}")
        if (state.get(OPEN_ITEMS, contract.creator + OPEN_CONTRACT + name) is not None) != is_open:
            yield Violation(20, f"contract {name.hex()}: {contract.status.value}, and its open item says otherwise")
        if not is_open and places_of(state, name):
            yield Violation(20, f"contract {name.hex()}: {contract.status.value}, with something still due")
        old = contract.supersedes
        if old is not None and (state.get(SUCCESSORS, old + name) is not None) != is_open:
            yield Violation(20, f"contract {name.hex()}: {contract.status.value}, and its predecessor says otherwise")
        if contract.successors_open != len(state.scan(SUCCESSORS, name)):
            yield Violation(20, f"contract {name.hex()}: {contract.successors_open} open successors")
        if contract.successors_open and contract.status is not _S.EFFECTIVE:
            yield Violation(20, f"contract {name.hex()}: {contract.status.value}, with open successors")


def cooling_off_held(state: State) -> Iterator[Violation]:
    """21: nothing is effective before its time, and nothing is rescinded after it."""
    for name, contract in state.scan(CONTRACTS):
        earliest = _earliest(contract)
        if contract.effective_at is not None and (earliest is None or contract.effective_at < earliest):
            yield Violation(21, f"contract {name.hex()}: effective at {contract.effective_at}, not before {earliest}")
        latest = contract.turns_effective_at
        if contract.status is _S.RESCINDED and latest is not None and (contract.ended_at or 0) >= latest:
            yield Violation(21, f"contract {name.hex()}: rescinded at {contract.ended_at}, possible until {latest}")


def _earliest(contract: Contract) -> int | None:
    """When the contract may be effective first; None while it is not signed."""
    if contract.signed_at is None:
        return None
    match contract.effective:
        case CoolingOff(period_ms):
            return contract.signed_at + period_ms
        case AtTime(time_ms):
            return max(contract.signed_at, time_ms)
    return contract.signed_at


CHECKS: tuple[Callable[[State], Iterator[Violation]], ...] = (
    signed_in_order,
    texts_unchanged,
    endings_final,
    cooling_off_held,
)

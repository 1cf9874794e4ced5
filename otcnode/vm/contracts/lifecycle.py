"""The life of a contract: which status follows which, and what each step takes with it.

A contract is an open item of its creator until it is effective or ended. One that supersedes another is found through
SUCCESSORS while it is open; when the first of several turns effective, the others are void.
"""

from __future__ import annotations

from msgspec.structs import replace

from otcnode.errors import Code
from otcnode.vm.context import Context, fail
from otcnode.vm.contracts.events import ContractChanged
from otcnode.vm.contracts.records import (
    CONTRACTS,
    IN_FORCE,
    SUCCESSORS,
    Contract,
    ContractKind,
    ContractStatus,
    Immediately,
    InForce,
)
from otcnode.vm.due import DueClass, DueItem
from otcnode.vm.keys import MARKER, OPEN_CONTRACT
from otcnode.vm.rules import DueHandler, DueWeight
from otcnode.vm.state import State

PHASE_END = "contract.phase_end"
TURN = "contract.turn"
LATE = "not confirmed or signed in time"

_S = ContractStatus

TRANSITIONS: dict[ContractStatus, frozenset[ContractStatus]] = {
    _S.DRAFT: frozenset({_S.CONFIRMING, _S.VOIDED, _S.EXPIRED}),
    _S.CONFIRMING: frozenset({_S.SIGNING, _S.VOIDED, _S.EXPIRED, _S.REJECTED}),
    _S.SIGNING: frozenset({_S.SIGNED, _S.VOIDED, _S.EXPIRED, _S.REJECTED}),
    # VOIDED: an amendment that waits for its time when another of the same contract turns effective
    _S.SIGNED: frozenset({_S.EFFECTIVE, _S.EXPIRED, _S.RESCINDED, _S.VOIDED}),
    _S.EFFECTIVE: frozenset({_S.AMENDED, _S.TERMINATED, _S.FULFILLED}),
}
"""What may follow a status; the statuses that are no key here are terminal."""

OPEN = frozenset({_S.DRAFT, _S.CONFIRMING, _S.SIGNING, _S.SIGNED})
TERMINAL = frozenset(_S) - frozenset(TRANSITIONS)


def phase_deadline(contract: Contract) -> int | None:
    """When the phase that the contract is in, or ended in, is over; None once all have signed."""
    if contract.signed_at is not None:
        return None
    return contract.confirm_by if contract.signing_at is None else contract.sign_by


def refuse_unless(
    context: Context, contract: Contract, statuses: frozenset[ContractStatus], deadline: int | None
) -> None:
    """Failed(E_EXPIRED) from the act's deadline on, unless the contract had ended before it; Failed(E_STATE) in any
    other status than these."""
    ended_before = contract.ended_at is not None and deadline is not None and contract.ended_at < deadline
    if deadline is not None and context.now >= deadline and not ended_before:
        fail(Code.EXPIRED, f"possible until {deadline}")
    if contract.status not in statuses:
        fail(Code.STATE, f"the contract is {contract.status.value}")


def store_new(context: Context, name: bytes, contract: Contract) -> None:
    """Enter a DRAFT. Failed(E_LIMIT) if its creator has too much open."""
    assert contract.status is _S.DRAFT
    context.open_item(contract.creator, OPEN_CONTRACT, name)
    context.put(CONTRACTS, name, contract)
    context.schedule(contract.confirm_by, DueClass.RELEASE, PHASE_END, name)
    if contract.supersedes is not None:
        context.put(SUCCESSORS, contract.supersedes + name, MARKER)
        _count_successor(context, contract.supersedes, 1)


def _count_successor(context: Context, name: bytes, change: int) -> None:
    contract = context.need(CONTRACTS, name, "contract")
    context.put(CONTRACTS, name, replace(contract, successors_open=contract.successors_open + change))


def move(context: Context, name: bytes, contract: Contract, status: ContractStatus, reason: str = "") -> Contract:
    """Bring the contract into a status; what belongs to the status it leaves goes with it."""
    assert status in TRANSITIONS[contract.status], f"{contract.status} to {status}"
    now = context.now
    if contract.status in OPEN and status not in OPEN:
        context.close_item(contract.creator, OPEN_CONTRACT, name)
        context.unschedule(name)
        if contract.supersedes is not None:
            context.delete(SUCCESSORS, contract.supersedes + name)
            _count_successor(context, contract.supersedes, -1)
    after = replace(
        contract,
        status=status,
        reason=reason,
        signing_at=now if status is _S.SIGNING else contract.signing_at,
        signed_at=now if status is _S.SIGNED else contract.signed_at,
        effective_at=now if status is _S.EFFECTIVE else contract.effective_at,
        ended_at=now if status in TERMINAL else contract.ended_at,
    )
    context.put(CONTRACTS, name, after)
    context.emit(ContractChanged(name, status, reason))
    return after


def begin_signing(context: Context, name: bytes, contract: Contract) -> None:
    """Every party confirmed this version: the text never changes again."""
    context.unschedule(name, PHASE_END)
    contract = move(context, name, contract, _S.SIGNING)
    context.schedule(contract.sign_by, DueClass.RELEASE, PHASE_END, name)


def complete_signing(context: Context, name: bytes, contract: Contract) -> None:
    """The last signature: effective now, at its time, or after cooling off."""
    contract = move(context, name, contract, _S.SIGNED)
    turns_at = contract.turns_effective_at
    if isinstance(contract.effective, Immediately) or (turns_at is not None and turns_at <= context.now):
        turn_effective(context, name)
        return
    context.unschedule(name, PHASE_END)
    if turns_at is not None:
        context.schedule(turns_at, DueClass.RELEASE, TURN, name)


def turn_effective(context: Context, name: bytes) -> None:
    """SIGNED → EFFECTIVE; what it supersedes is AMENDED or TERMINATED in the same step."""
    contract = context.need(CONTRACTS, name, "contract")
    contract = move(context, name, contract, _S.EFFECTIVE)
    if contract.supersedes is not None:
        status = _S.TERMINATED if contract.kind is ContractKind.TERMINATION else _S.AMENDED
        end_effective(context, contract.supersedes, status, successor=name)
        if status is _S.AMENDED:
            context.put(IN_FORCE, contract.root, InForce(name))


def end_effective(
    context: Context,
    name: bytes,
    status: ContractStatus,
    *,
    successor: bytes | None = None,
    reason: str = "",
) -> None:
    """EFFECTIVE → AMENDED, TERMINATED or FULFILLED; whatever else would supersede it is VOIDED."""
    contract = context.need(CONTRACTS, name, "contract")
    for rival in _successors(context, name) if contract.successors_open else ():
        _void_rival(context, rival, status)
    contract = replace(context.need(CONTRACTS, name, "contract"), superseded_by=successor)
    move(context, name, contract, status, reason)


def _void_rival(context: Context, name: bytes, status: ContractStatus) -> None:
    """A rival whose own deadline is the very moment expired, whichever of the two comes first in the queue."""
    rival = context.need(CONTRACTS, name, "contract")
    deadline = phase_deadline(rival)
    if deadline is not None and deadline <= context.now:
        move(context, name, rival, _S.EXPIRED, LATE)
    else:
        move(context, name, rival, _S.VOIDED, f"what it would supersede is {status.value}")


def _successors(context: Context, name: bytes) -> list[bytes]:
    return [suffix[32:] for suffix, _ in context.state.scan(SUCCESSORS, name)]


def _on_turn(context: Context, item: DueItem) -> None:
    turn_effective(context, item.item)


def _turn_weight(state: State, item: DueItem) -> int:
    """The contract, what it supersedes, and the rivals that are void with that."""
    contract = state.get(CONTRACTS, item.item)
    assert contract is not None
    if contract.supersedes is None:
        return 1
    old = state.get(CONTRACTS, contract.supersedes)
    assert old is not None
    return 1 + old.successors_open


def _on_phase_end(context: Context, item: DueItem) -> None:
    move(context, item.item, context.need(CONTRACTS, item.item, "contract"), _S.EXPIRED, LATE)


DUE_KINDS: dict[str, DueHandler] = {PHASE_END: _on_phase_end, TURN: _on_turn}
DUE_WEIGHTS: dict[str, DueWeight] = {TURN: _turn_weight}

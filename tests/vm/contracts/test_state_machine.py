"""Every operation and every act of the ledger in every status: a listed transition, or refused and nothing changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from otcnode.crypto import sha256
from otcnode.errors import Code
from otcnode.genesis import KeyPurpose
from otcnode.vm.contracts import binding
from otcnode.vm.contracts.events import ContractChanged
from otcnode.vm.contracts.lifecycle import OPEN, TERMINAL, TRANSITIONS
from otcnode.vm.contracts.operations import (
    ContractAccede,
    ContractCallback,
    ContractConfirm,
    ContractReject,
    ContractRescind,
    ContractRevise,
    ContractSign,
    ContractSubmit,
    ContractVoid,
)
from otcnode.vm.contracts.preimages import terms_hash
from otcnode.vm.contracts.records import ContractKind, ContractStatus, Term
from tests.vm.contracts.desk import DOCUMENT, SIGN, TERMS, Desk
from tests.vm.ledger import DAY_MS, EVIDENCE

S = ContractStatus
TRADE = KeyPurpose.TRADE


def reached(desk: Desk, status: ContractStatus) -> bytes:
    """A subscription contract, cooling off for a day with a callback, that has come to the status."""
    name = desk.created(desk.act("ISS", desk.subscription(DAY_MS, True)))
    return WAYS[status](desk, name)


def called_back(desk: Desk, name: bytes) -> bytes:
    desk.bring_to(name, S.SIGNED)
    desk.act("CALL", ContractCallback(name, EVIDENCE), at=desk.now + DAY_MS, purpose=TRADE)
    return name


def superseded(kind: ContractKind) -> Callable[[Desk, bytes], bytes]:
    def way(desk: Desk, name: bytes) -> bytes:
        called_back(desk, name)
        desk.bring_to(desk.amendment(name, kind=kind), S.EFFECTIVE)
        return name

    return way


def ended_by(status: ContractStatus, by: str, operation: Callable[[bytes], Any]) -> Callable[[Desk, bytes], bytes]:
    def way(desk: Desk, name: bytes) -> bytes:
        desk.bring_to(name, status)
        desk.act(by, operation(name))
        return name

    return way


def fulfilled(desk: Desk, name: bytes) -> bytes:
    called_back(desk, name)
    desk.keep(lambda context: binding.fulfil(context, name))
    return name


def voided_with_its_subscription(desk: Desk, name: bytes) -> bytes:
    desk.bring_to(name, S.SIGNED)
    desk.keep(lambda context: binding.expire_if_signed(context, name))
    return name


WAYS: dict[ContractStatus, Callable[[Desk, bytes], bytes]] = {
    S.DRAFT: lambda desk, name: name,
    S.CONFIRMING: lambda desk, name: desk.bring_to(name, S.CONFIRMING),
    S.SIGNING: lambda desk, name: desk.bring_to(name, S.SIGNING),
    S.SIGNED: lambda desk, name: desk.bring_to(name, S.SIGNED),
    S.EFFECTIVE: called_back,
    S.AMENDED: superseded(ContractKind.AMENDMENT),
    S.TERMINATED: superseded(ContractKind.TERMINATION),
    S.FULFILLED: fulfilled,
    S.VOIDED: ended_by(S.CONFIRMING, "ISS", lambda name: ContractVoid(name, "why")),
    S.EXPIRED: voided_with_its_subscription,
    S.REJECTED: ended_by(S.CONFIRMING, "ANN", lambda name: ContractReject(name, "why")),
    S.RESCINDED: ended_by(S.SIGNED, "ANN", ContractRescind),
}

NEW_TERMS = (*TERMS, Term("rate", 3))


def confirmation(desk: Desk, name: bytes) -> ContractConfirm:
    return desk.confirmation(name, 0)


def signature(desk: Desk, name: bytes) -> ContractSign:
    return desk.signature(name, 0)


OPERATIONS: dict[str, tuple[str, KeyPurpose, Callable[[Desk, bytes], Any]]] = {
    "revise": ("ISS", SIGN, lambda desk, name: ContractRevise(name, NEW_TERMS, terms_hash(NEW_TERMS), DOCUMENT)),
    "submit": ("ISS", SIGN, lambda desk, name: ContractSubmit(name)),
    "confirm": ("ISS", SIGN, confirmation),
    "sign": ("ISS", SIGN, signature),
    "reject": ("ANN", SIGN, lambda desk, name: ContractReject(name, "why")),
    "void": ("ISS", SIGN, lambda desk, name: ContractVoid(name, "why")),
    "rescind": ("ANN", SIGN, lambda desk, name: ContractRescind(name)),
    "callback": ("CALL", TRADE, lambda desk, name: ContractCallback(name, EVIDENCE)),
    "accede": ("BEN", SIGN, lambda desk, name: ContractAccede(name)),
}

MOVES: dict[tuple[ContractStatus, str], ContractStatus] = {
    (S.DRAFT, "revise"): S.DRAFT,
    (S.DRAFT, "submit"): S.CONFIRMING,
    (S.DRAFT, "void"): S.VOIDED,
    (S.CONFIRMING, "revise"): S.CONFIRMING,
    (S.CONFIRMING, "confirm"): S.CONFIRMING,
    (S.CONFIRMING, "reject"): S.REJECTED,
    (S.CONFIRMING, "void"): S.VOIDED,
    (S.SIGNING, "sign"): S.SIGNING,
    (S.SIGNING, "reject"): S.REJECTED,
    (S.SIGNING, "void"): S.VOIDED,
    (S.SIGNED, "rescind"): S.RESCINDED,
}
"""Status and operation to the status after it; one slot of two confirms or signs."""

OTHER_REFUSALS: dict[tuple[ContractStatus, str], Code] = {
    (S.SIGNED, "callback"): Code.COOLING_OFF_OPEN,
    (S.EFFECTIVE, "accede"): Code.FIELD,
    # a full slot says so before anything else does
    **{
        (status, "sign"): Code.ALREADY_SIGNED
        for status in (S.SIGNED, S.EFFECTIVE, S.AMENDED, S.TERMINATED, S.FULFILLED, S.RESCINDED, S.EXPIRED)
    },
    # an act whose deadline has passed, whatever came of the contract since, unless it had ended before
    **{
        (status, act): Code.EXPIRED
        for status in (S.EFFECTIVE, S.AMENDED, S.TERMINATED, S.FULFILLED)
        for act in ("revise", "submit", "confirm")
    },
}
"""Everything else is E_STATE."""


@pytest.mark.parametrize("act", OPERATIONS)
@pytest.mark.parametrize("status", S)
def test_every_operation_in_every_status(desk: Desk, status: ContractStatus, act: str) -> None:
    name = reached(desk, status)
    before = desk.contract(name)
    assert before.status is status
    by, purpose, operation = OPERATIONS[act]
    expected = MOVES.get((status, act))
    code = Code.OK if expected is not None else OTHER_REFUSALS.get((status, act), Code.STATE)
    desk.act(by, operation(desk, name), code, purpose=purpose)
    if expected is None:
        assert desk.contract(name) == before
    else:
        assert desk.status(name) is expected
        assert expected is status or expected in TRANSITIONS[status]


@pytest.mark.parametrize("status", S)
def test_every_act_of_the_ledger_in_every_status(desk: Desk, status: ContractStatus) -> None:
    name = reached(desk, status)
    before = desk.contract(name)
    context = desk.context()
    binding.fulfil(context, name)
    binding.expire_if_signed(context, name)
    moves = [(event.contract, event.status) for event in context.events if isinstance(event, ContractChanged)]
    expected = {
        S.SIGNED: (name, S.EXPIRED),
        S.EFFECTIVE: (name, S.FULFILLED),
        S.AMENDED: (before.superseded_by, S.FULFILLED),
    }
    assert moves == ([expected[status]] if status in expected else [])


def test_statuses_are_open_effective_or_terminal() -> None:
    assert OPEN | {S.EFFECTIVE} | TERMINAL == frozenset(S)
    assert len(OPEN) + 1 + len(TERMINAL) == len(S)
    assert all(TRANSITIONS[status] for status in OPEN)


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_a_terminal_status_never_changes_with_time(desk: Desk, status: ContractStatus) -> None:
    name = reached(desk, status)
    before = desk.contract(name)
    desk.block(at=desk.now + 1_000 * DAY_MS)
    assert desk.contract(name) == before


def test_an_unknown_contract_is_not_found_by_any_operation(desk: Desk) -> None:
    missing = sha256(b"missing")
    name = desk.create()
    for by, purpose, operation in OPERATIONS.values():
        example = operation(desk, name)
        fields = {field: getattr(example, field) for field in example.__struct_fields__} | {"contract": missing}
        desk.act(by, type(example)(**fields), Code.NOT_FOUND, purpose=purpose)

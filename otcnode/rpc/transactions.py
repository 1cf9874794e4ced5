"""Methods that submit transactions and say what became of them. They work on whole batches."""

from __future__ import annotations

import binascii
from collections.abc import Callable, Sequence
from typing import Annotated, Any, assert_never

from msgspec import Meta

from otcnode import limits, merkle
from otcnode.blocks import Entry
from otcnode.codec import decode, encode
from otcnode.errors import Code, DecodeError
from otcnode.ids import Prefix
from otcnode.rpc import format as form
from otcnode.rpc.access import forbidden
from otcnode.rpc.json_rpc import INVALID_PARAMS, LEDGER, NOT_FOUND, NOT_READY, OVERLOADED, RpcError
from otcnode.rpc.method import Context, Params, Result
from otcnode.rpc.render import render
from otcnode.rpc.service import NotReady, Overloaded, Refused, Stage, Submission, TransactionState
from otcnode.types import Bytes32
from otcnode.vm.results import Receipt
from otcnode.vm.transactions import entry_of

Base64 = Annotated[
    str, Meta(extra_json_schema={"contentEncoding": "base64"}, description="canonical bytes of a signed transaction")
]
Timeout = Annotated[int, Meta(ge=0, le=limits.rpc_wait_ms_max, description="real milliseconds")]


class SubmitParams(Params, frozen=True):
    transaction: Base64


class WaitParams(Params, frozen=True):
    id: form.TransactionText
    timeout_ms: Timeout = limits.rpc_wait_ms_default


class SubmitAndWaitParams(Params, frozen=True):
    transaction: Base64
    timeout_ms: Timeout = limits.rpc_wait_ms_default


class GetParams(Params, frozen=True):
    id: form.TransactionText


class ProofParams(Params, frozen=True):
    """`full_hash` shows that the caller holds the signed transaction: only its parties do."""

    id: form.TransactionText
    full_hash: Bytes32


class TransactionResult(Result, frozen=True, omit_defaults=True):
    """`definite`: it has not happened and never will. `height`, `index` and `code` are there where it is committed,
    `operation` (from 0) where its code is not OK, `reason` where there is one."""

    id: form.TransactionText
    state: Stage
    definite: bool
    height: int | None = None
    index: int | None = None
    code: Code | None = None
    operation: int | None = None
    reason: str = ""


class SimulationResult(Result, frozen=True):
    """What it would do on the state of `height`; nothing was kept."""

    height: int
    code: Code
    operation: int | None
    detail: str
    events: list[dict[str, Any]]


class ProofResult(Result, frozen=True):
    """The places of a transaction and of its receipt under the two roots of a certified header; bytes are canonical
    MessagePack. The transaction's leaf is id ‖ full hash: it covers the signatures too."""

    height: int
    header: bytes
    certificate: bytes
    receipt: bytes
    index: int
    """Of the receipt among all of the block, the automatic ones first."""
    count: int
    path: list[Bytes32]
    id: form.TransactionText
    full_hash: Bytes32
    transaction_index: int
    """Of the transaction among those of the block, which are `transaction_count`."""
    transaction_count: int
    transaction_path: list[Bytes32]


class AbsenceParams(Params, frozen=True):
    id: form.TransactionText


class AbsenceResult(Result, frozen=True):
    """`absence`: this node's signed word that no block up to `height`, whose header and certificate are here, holds the
    transaction. One node's word proves nothing; those of f + 1 validators prove that it never happens, once the time of
    the header has reached its `valid_until`. Bytes are canonical MessagePack."""

    height: int
    header: bytes
    certificate: bytes
    absence: bytes


def transaction_result(state: TransactionState) -> TransactionResult:
    return TransactionResult(
        form.transaction(state.id),
        state.stage,
        state.definite,
        state.height,
        state.index,
        state.code,
        state.operation,
        state.reason,
    )


def ledger_error(code: Code, detail: str, *, definite: bool, operation: int | None = None, **place: Any) -> RpcError:
    """−32000; `place` says where it was committed, if it was."""
    data = {"code": code.value, "operation": operation, "definite": definite, "detail": detail, **place}
    return RpcError(LEDGER, code.value, data)


async def submit(context: Context, calls: Sequence[SubmitParams]) -> Sequence[TransactionResult | RpcError]:
    """tx_submit: into the pool, without waiting for a block."""
    outcomes = await _submit(context, [call.transaction for call in calls])
    return [entry if isinstance(entry, RpcError) else transaction_result(entry) for entry in outcomes]


async def wait(context: Context, calls: Sequence[WaitParams]) -> Sequence[TransactionResult | RpcError]:
    """tx_wait: until final or the time is over; both are results."""
    names = [_name(call.id) for call in calls]
    waiting = [
        (name, call.timeout_ms) for name, call in zip(names, calls, strict=True) if not isinstance(name, RpcError)
    ]
    states = await _wait(context, waiting)
    return [name if isinstance(name, RpcError) else transaction_result(states[name]) for name in names]


async def submit_and_wait(
    context: Context, calls: Sequence[SubmitAndWaitParams]
) -> Sequence[TransactionResult | RpcError]:
    """tx_submitAndWait: a committed failure is an error here, with its place in the chain."""
    outcomes = await _submit(context, [call.transaction for call in calls])
    waiting = [
        (entry.id, call.timeout_ms)
        for entry, call in zip(outcomes, calls, strict=True)
        if isinstance(entry, TransactionState) and not entry.final
    ]
    states = await _wait(context, waiting)
    return [
        entry if isinstance(entry, RpcError) else _result_or_failure(states.get(entry.id, entry)) for entry in outcomes
    ]


async def get(context: Context, params: GetParams) -> TransactionResult:
    """tx_get: the state as this node knows it now; `unknown` is one."""
    return transaction_result(context.service.transaction(form.parse_id(Prefix.TRANSACTION, params.id)))


async def simulate(context: Context, params: SubmitParams) -> SimulationResult:
    """tx_simulate: the same code as in a block, on the latest state; what it does is forgotten. Its signatures are paid
    for besides."""
    outcome = await context.service.simulate(_raw(params.transaction), _price_of_signatures(context))
    if isinstance(outcome, Refused):
        raise ledger_error(outcome.code, outcome.detail, definite=outcome.definite)
    return SimulationResult(
        outcome.height, outcome.code, outcome.operation, outcome.detail, [render(event) for event in outcome.events]
    )


async def proof(context: Context, params: ProofParams) -> ProofResult:
    """tx_proof: what shows the outcome to anyone who knows the validators."""
    name = form.parse_id(Prefix.TRANSACTION, params.id)
    state = context.service.transaction(name)
    if state.stage is not Stage.COMMITTED:
        raise forbidden()
    assert state.height is not None and state.index is not None
    block = context.service.block(state.height)
    entries = [entry_of(raw) for raw in block.transactions]
    if entries[state.index] != Entry(name, params.full_hash):
        raise forbidden()
    receipts = context.service.receipts(state.height)
    leaves = (*receipts.automatic, *receipts.transactions)
    index = len(receipts.automatic) + state.index
    assert decode(Receipt, leaves[index]).transaction == name
    return ProofResult(
        state.height,
        encode(block.header),
        encode(context.service.certificate(state.height)),
        leaves[index],
        index,
        len(leaves),
        list(merkle.path(leaves, index)),
        params.id,
        params.full_hash,
        state.index,
        len(entries),
        list(merkle.path([entry.id + entry.full_hash for entry in entries], state.index)),
    )


async def absence(context: Context, params: AbsenceParams) -> AbsenceResult:
    """tx_absence: a word for which the node stands with its key."""
    word = context.service.absence(form.parse_id(Prefix.TRANSACTION, params.id))
    if word is None:
        raise RpcError(NOT_FOUND, "a block holds it, or there is no block yet")
    height = word.claim.height
    header, certificate = context.service.header(height), context.service.certificate(height)
    return AbsenceResult(height, encode(header), encode(certificate), encode(word))


async def _submit(context: Context, texts: Sequence[str]) -> list[TransactionState | RpcError]:
    """One outcome per transaction, in order; undecodable ones do not hold up the others. Signatures that were verified
    for nothing are paid for."""
    raws: list[bytes] = []
    outcomes: list[TransactionState | RpcError | None] = []
    for text in texts:
        try:
            raws.append(_raw(text))
            outcomes.append(None)
        except RpcError as error:
            outcomes.append(error)
    pay = _price_of_signatures(context)
    answers = iter(await context.service.submit(raws, context.name, pay) if raws else ())
    return [_outcome(next(answers)) if outcome is None else outcome for outcome in outcomes]


def _price_of_signatures(context: Context) -> Callable[[int], None]:
    def pay(signatures: int) -> None:
        context.pay(signatures * limits.rpc_signature_cost)

    return pay


def _raw(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise ledger_error(Code.DECODE, f"not base64: {error}", definite=True) from None


def _outcome(answer: Submission) -> TransactionState | RpcError:
    match answer:
        case TransactionState():
            return answer
        case Refused(code=code, detail=detail, definite=definite):
            return ledger_error(code, detail, definite=definite)
        case Overloaded(detail=detail):
            return RpcError(OVERLOADED, detail, {"definite": False})
        case NotReady(detail=detail):
            return RpcError(NOT_READY, detail, {"definite": False})
        case _:
            assert_never(answer)


def _name(text: str) -> bytes | RpcError:
    try:
        return form.parse_id(Prefix.TRANSACTION, text)
    except DecodeError as error:
        return RpcError(INVALID_PARAMS, str(error))


async def _wait(context: Context, waiting: Sequence[tuple[bytes, int]]) -> dict[bytes, TransactionState]:
    """States by id, given ids with the real milliseconds each may take. They wait together, the shortest time first,
    so that none waits longer than it asked."""
    states: dict[bytes, TransactionState] = {}
    elapsed_ms = 0
    for timeout_ms in sorted({timeout_ms for _, timeout_ms in waiting}):
        group = [name for name, own_ms in waiting if own_ms == timeout_ms]
        started_ms = context.service.now_ms()
        for state in await context.service.wait(group, max(0, timeout_ms - elapsed_ms)):
            states[state.id] = state
        elapsed_ms += max(0, context.service.now_ms() - started_ms)
    return states


def _result_or_failure(state: TransactionState) -> TransactionResult | RpcError:
    if state.stage is not Stage.COMMITTED or state.code is Code.OK:
        return transaction_result(state)
    assert state.code is not None
    return ledger_error(
        state.code,
        state.reason,
        definite=True,
        operation=state.operation,
        id=form.transaction(state.id),
        height=state.height,
        index=state.index,
    )

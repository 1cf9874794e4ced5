"""Methods that read contracts: for their parties and for the roles that see contracts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from otcnode.ids import Prefix
from otcnode.rpc import format as form
from otcnode.rpc.access import Caller, Subject, forbidden, require_login, whose
from otcnode.rpc.listing import Rows, answer, by_id, optional_id
from otcnode.rpc.method import Context, PageParams, ReadParams, ReadResult, Result, origin, read
from otcnode.rpc.reader import Reader
from otcnode.rpc.render import render, shown_type
from otcnode.types import Bytes32
from otcnode.vm.contracts.records import (
    CONTRACT_SIGNATURES,
    CONTRACT_TEXTS,
    CONTRACTS,
    CONTRACTS_BY_PARTY,
    Contract,
    ContractKind,
    ContractSignature,
    ContractStatus,
    ContractText,
)

CONTRACT_LIST = "contract_list"


class ContractParams(ReadParams, frozen=True):
    contract: form.ContractText


class ContractListParams(PageParams, frozen=True):
    """Filters are ANDed. Without `party` or `waiting_for` the caller's own contracts are listed, or everybody's for a
    role that sees contracts; `waiting_for` keeps those in which it is this account's turn to confirm or sign."""

    party: form.AccountText | None = None
    status: ContractStatus | None = None
    kind: ContractKind | None = None
    subject: form.ProductText | None = None
    waiting_for: form.AccountText | None = None
    open: bool | None = None


ContractSummary = msgspec.defstruct(
    "ContractSummary",
    [("id", form.ContractText), ("contract", shown_type(Contract)), ("waiting_for", list[int])],
    frozen=True,
    namespace={"__doc__": "`waiting_for` are the indexes of the slots whose turn it is to confirm or sign."},
)


class ContractSignatureResult(Result, frozen=True):
    """One signature, in the slot (its index) and by the key named."""

    slot: int
    key: Bytes32
    signature: shown_type(ContractSignature)  # type: ignore[valid-type]


ContractResult = msgspec.defstruct(
    "ContractResult",
    [
        ("id", form.ContractText),
        ("contract", shown_type(Contract)),
        ("waiting_for", list[int]),
        ("text", shown_type(ContractText)),
        ("signatures", list[ContractSignatureResult]),
    ],
    bases=(ReadResult,),
    frozen=True,
    kw_only=True,
)
ContractListResult = msgspec.defstruct(
    "ContractListResult",
    [("contracts", list[ContractSummary]), ("next", str | None)],  # type: ignore[valid-type]
    bases=(ReadResult,),
    frozen=True,
    kw_only=True,
)


async def contract_get(context: Context, params: ContractParams) -> dict[str, Any]:
    """contract_get: for its parties, accounts that acceded to it, and everybody where anybody may accede."""
    caller = require_login(context.caller())
    name = form.parse_id(Prefix.CONTRACT, params.contract)
    snapshot = await read(context, params)
    state = Reader(snapshot.view)
    record = state.get(CONTRACTS, name)
    if record is None or not _may_see(state, caller, name, record):
        raise forbidden()
    signatures = [
        {"slot": suffix[32], "key": suffix[33:], "signature": render(signature)}
        for suffix, signature in state.scan(CONTRACT_SIGNATURES, name)
    ]
    text = render(state.get(CONTRACT_TEXTS, name))
    return {**origin(snapshot), **_summary(name, record), "text": text, "signatures": signatures}


async def contract_list(context: Context, params: ContractListParams) -> dict[str, Any]:
    """contract_list: of one party, in the order of ids."""
    caller = require_login(context.caller())
    turn = optional_id(Prefix.ACCOUNT, params.waiting_for)
    if turn is not None:
        whose(caller, Subject.CONTRACT, turn)
    party = whose(caller, Subject.CONTRACT, optional_id(Prefix.ACCOUNT, params.party) or turn)

    def rows(state: Reader, after: bytes | None) -> Rows:
        return _rows(state, party, turn, after, params)

    return await answer(context, params, CONTRACT_LIST, "contracts", rows)


def _may_see(state: Reader, caller: Caller, name: bytes, record: Contract) -> bool:
    party = state.get(CONTRACTS_BY_PARTY, caller.account + name) is not None
    joinable = record.open and record.status is ContractStatus.EFFECTIVE
    return party or joinable or caller.sees_all(Subject.CONTRACT)


def _rows(
    state: Reader, party: bytes | None, turn: bytes | None, after: bytes | None, params: ContractListParams
) -> Rows:
    subject = optional_id(Prefix.PRODUCT, params.subject)
    keys = by_id(state, CONTRACTS, after) if party is None else _of_party(state, party, after)
    for place, name in keys:
        record = state.get(CONTRACTS, name)
        assert record is not None
        wanted = (
            params.status in (None, record.status)
            and params.kind in (None, record.kind)
            and subject in (None, record.subject)
            and params.open in (None, record.open)
            and (turn is None or turn in [record.slots[index].account for index in record.waiting_for])
        )
        yield place, _summary(name, record) if wanted else None


def _of_party(state: Reader, party: bytes, after: bytes | None) -> Iterator[tuple[bytes, bytes]]:
    return ((suffix, suffix[32:]) for suffix, _ in state.scan(CONTRACTS_BY_PARTY, party, after))


def _summary(name: bytes, record: Contract) -> dict[str, Any]:
    return {"id": form.contract(name), "contract": render(record), "waiting_for": list(record.waiting_for)}

"""Methods that read contracts: for their parties and for the roles that see contracts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from otcnode.ids import Prefix
from otcnode.rpc import format as form
from otcnode.rpc.access import Caller, Subject, forbidden, require_login
from otcnode.rpc.method import Context, PageParams, ReadParams, ReadResult, Result, open_page, origin, read, take
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
    """Filters are ANDed. `party` is the caller where it is left out; `waiting_for_party` keeps those in which it is
    that party's turn to confirm or sign."""

    party: form.AccountText | None = None
    status: ContractStatus | None = None
    kind: ContractKind | None = None
    subject: form.ProductText | None = None
    waiting_for_party: bool = False


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
    party = caller.account if params.party is None else form.parse_id(Prefix.ACCOUNT, params.party)
    if party != caller.account and not caller.sees_all(Subject.CONTRACT):
        raise forbidden()
    page = await open_page(context, params, CONTRACT_LIST)
    rows = _rows(Reader(page.snapshot.view), party, page.after, params)
    contracts, following = take(rows, page, params.limit, CONTRACT_LIST)
    return {**origin(page.snapshot), "contracts": contracts, "next": following}


def _may_see(state: Reader, caller: Caller, name: bytes, record: Contract) -> bool:
    party = state.get(CONTRACTS_BY_PARTY, caller.account + name) is not None
    joinable = record.open and record.status is ContractStatus.EFFECTIVE
    return party or joinable or caller.sees_all(Subject.CONTRACT)


def _rows(
    state: Reader, party: bytes, after: bytes | None, params: ContractListParams
) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
    subject = None if params.subject is None else form.parse_id(Prefix.PRODUCT, params.subject)
    for suffix, _ in state.scan(CONTRACTS_BY_PARTY, party, after):
        record = state.get(CONTRACTS, suffix[32:])
        assert record is not None
        turn = any(record.slots[index].account == party for index in record.waiting_for)
        wanted = (
            params.status in (None, record.status)
            and params.kind in (None, record.kind)
            and subject in (None, record.subject)
            and (turn or not params.waiting_for_party)
        )
        yield suffix, _summary(suffix[32:], record) if wanted else None


def _summary(name: bytes, record: Contract) -> dict[str, Any]:
    return {"id": form.contract(name), "contract": render(record), "waiting_for": list(record.waiting_for)}

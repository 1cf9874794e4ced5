"""Methods that show what this node holds against validators. They are open: whoever trusts a network may know."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from otcnode.errors import DecodeError
from otcnode.ids import Prefix
from otcnode.rpc import format as form
from otcnode.rpc.json_rpc import NOT_FOUND, RpcError
from otcnode.rpc.method import Context, Params, Result

ENTRIES_MAX = 1_000

OffenceText = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", description="name of an offence, 64 hexadecimal digits")]


class EvidenceListParams(Params, frozen=True):
    validator: form.NodeText | None = None
    limit: Annotated[int, Meta(ge=1, le=ENTRIES_MAX)] = 100


class EvidenceGetParams(Params, frozen=True):
    offence: OffenceText


class OffenceResult(Result, frozen=True):
    """`height` 0: of a whole view. `seen` is when this node learnt of it, `on_chain` whether the ledger knows it,
    `bytes` the size of the evidence."""

    offence: OffenceText
    validator: form.NodeText
    name: str
    kind: str
    epoch: int
    view: int
    height: int
    seen: form.Time
    on_chain: bool
    bytes: int


class EvidenceListResult(Result, frozen=True):
    """The latest first. Nodes may hold different ones; each proves itself."""

    offences: list[OffenceResult]


class EvidenceGetResult(Result, frozen=True):
    """`file` is for `otcnode verify evidence`."""

    file: bytes


async def evidence_list(context: Context, params: EvidenceListParams) -> EvidenceListResult:
    wanted = None if params.validator is None else form.parse_id(Prefix.NODE, params.validator)
    held = [entry for entry in context.service.misconduct() if wanted in (None, entry.validator)]
    held.sort(key=lambda entry: (entry.seen_ms, entry.offence), reverse=True)
    return EvidenceListResult(
        [
            OffenceResult(
                entry.offence.hex(),
                form.node(entry.validator),
                entry.name,
                entry.kind,
                entry.epoch,
                entry.view,
                entry.height,
                form.time(entry.seen_ms),
                entry.on_chain,
                entry.size_bytes,
            )
            for entry in held[: params.limit]
        ]
    )


async def evidence_get(context: Context, params: EvidenceGetParams) -> EvidenceGetResult:
    try:
        name = bytes.fromhex(params.offence)
    except ValueError:
        raise DecodeError("an offence is named by 64 hexadecimal digits") from None
    file = context.service.misconduct_file(name)
    if file is None:
        raise RpcError(
            NOT_FOUND, "this node holds no evidence of that offence, or of an epoch that its chain does not know"
        )
    return EvidenceGetResult(file)

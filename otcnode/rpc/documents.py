"""Methods that hand sealed documents in and out. What is inside only a recipient's key opens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from otcnode.errors import DocumentNotKept
from otcnode.genesis import Role
from otcnode.rpc.access import Caller, Subject, forbidden, require_login
from otcnode.rpc.json_rpc import INVALID_PARAMS, NOT_READY, RpcError
from otcnode.rpc.listing import Rows, answer, by_id, list_type
from otcnode.rpc.method import Context, PageParams, Params, ReadParams, Result, read
from otcnode.rpc.reader import Reader
from otcnode.rpc.render import render, shown_type
from otcnode.types import Bytes32
from otcnode.vm.documents.records import DOCUMENTS, DOCUMENTS_BY_PARTY, SEALED_BYTES_MAX, Filing, sealed_name
from otcnode.vm.governance.records import ACCESS_LOG

DOCUMENT_LIST = "document_list"


class DocumentPutParams(ReadParams, frozen=True):
    """`content` is the sealed file. File it on the chain first: `min_height`, the height at which it was filed, makes a
    node that is a little behind wait for that."""

    content: Annotated[bytes, Meta(min_length=1, max_length=SEALED_BYTES_MAX)]


class DocumentPutResult(Result, frozen=True):
    document: Bytes32
    size_bytes: int


class DocumentGetParams(Params, frozen=True):
    document: Bytes32


class DocumentGetResult(Result, frozen=True):
    """`content` is the sealed file; its hash is `document`."""

    document: Bytes32
    commitment: Bytes32
    content: bytes


class DocumentListParams(PageParams, frozen=True):
    """The caller's own and those it is a recipient of; everybody's for a role that sees contracts. `belongs_to` is the
    raw id of a contract, product or other."""

    belongs_to: Bytes32 | None = None


DocumentView = msgspec.defstruct("DocumentView", [("document", Bytes32), ("filing", shown_type(Filing))], frozen=True)
DocumentListResult = list_type("DocumentListResult", "documents", DocumentView)


async def document_put(context: Context, params: DocumentPutParams) -> DocumentPutResult:
    """document_put: by whoever is logged in; what is taken is what the ledger names, whoever brings it."""
    require_login(context.caller())
    await read(context, params)
    try:
        filing = context.service.put_document(params.content)
    except DocumentNotKept as error:
        raise RpcError(
            NOT_READY, f"{error}: hand it to another one", {"document": sealed_name(params.content)}
        ) from None
    if filing is None:
        raise RpcError(INVALID_PARAMS, "the ledger names no file of this hash and size: file it first (document.file)")
    return DocumentPutResult(sealed_name(params.content), filing.size_bytes)


async def document_get(context: Context, params: DocumentGetParams) -> DocumentGetResult:
    """document_get: for the owner and the recipients; for a regulator that has logged why."""
    caller, state = require_login(context.caller()), Reader(context.service.state().view)
    filing = state.get(DOCUMENTS, params.document)
    if filing is None or not _may_have(state, caller, params.document, filing):
        raise forbidden()
    content = context.service.document(params.document)
    if content is None:
        raise RpcError(NOT_READY, "the file has not arrived at this node yet", {"document": params.document})
    return DocumentGetResult(params.document, filing.commitment, content)


async def document_list(context: Context, params: DocumentListParams) -> dict[str, Any]:
    """document_list: in the order of names."""
    caller = require_login(context.caller())
    all_of_them = caller.sees_all(Subject.CONTRACT)

    def rows(state: Reader, after: bytes | None) -> Rows:
        names = by_id(state, DOCUMENTS, after) if all_of_them else _of_party(state, caller.account, after)
        for place, name in names:
            filing = state.get(DOCUMENTS, name)
            assert filing is not None
            wanted = params.belongs_to in (None, filing.belongs_to)
            yield place, {"document": name, "filing": render(filing)} if wanted else None

    return await answer(context, params, DOCUMENT_LIST, "documents", rows)


def _of_party(state: Reader, party: bytes, after: bytes | None) -> Iterator[tuple[bytes, bytes]]:
    return ((suffix, suffix[32:]) for suffix, _ in state.scan(DOCUMENTS_BY_PARTY, party, after))


def _may_have(state: Reader, caller: Caller, name: bytes, filing: Filing) -> bool:
    if caller.account == filing.owner or caller.account in filing.recipients:
        return True
    if Role.REGULATOR not in caller.roles:
        return False
    items = [name] if filing.belongs_to is None else [name, filing.belongs_to]
    return any(entry.regulator == caller.account for item in items for _, entry in state.scan(ACCESS_LOG, item))

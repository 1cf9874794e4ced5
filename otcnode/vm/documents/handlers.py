"""Filing a sealed document and withdrawing it."""

from __future__ import annotations

from otcnode.errors import Code
from otcnode.genesis import KeyPurpose
from otcnode.vm.context import Context, fail
from otcnode.vm.documents.events import DocumentFiled, DocumentWithdrawn
from otcnode.vm.documents.operations import DocumentFile, DocumentWithdraw
from otcnode.vm.documents.records import (
    DOCUMENT_SPACE,
    DOCUMENTS,
    DOCUMENTS_BY_PARTY,
    SPACE_BYTES_MAX,
    Filing,
    Space,
    charge_bytes,
)
from otcnode.vm.keys import MARKER
from otcnode.vm.rules import Rule

_NOTHING = Space(0)


def file(context: Context, operation: DocumentFile) -> None:
    for account in operation.recipients:
        context.account(account)
    if operation.recipients != tuple(sorted(set(operation.recipients))):
        fail(Code.FIELD, "recipients")
    if context.get(DOCUMENTS, operation.document) is not None:
        fail(Code.DUPLICATE, "this sealed file is filed already")
    owner = context.principal
    used = (context.get(DOCUMENT_SPACE, owner) or _NOTHING).used_bytes + charge_bytes(operation.size_bytes)
    if used > SPACE_BYTES_MAX:
        fail(Code.LIMIT, f"{used} bytes of documents, at most {SPACE_BYTES_MAX}")
    filing = Filing(
        owner, operation.commitment, operation.size_bytes, operation.recipients, operation.belongs_to, context.now
    )
    context.put(DOCUMENTS, operation.document, filing)
    context.put(DOCUMENT_SPACE, owner, Space(used))
    for account in (owner, *operation.recipients):
        context.put(DOCUMENTS_BY_PARTY, account + operation.document, MARKER)
    context.emit(
        DocumentFiled(
            operation.document,
            owner,
            operation.commitment,
            operation.size_bytes,
            operation.recipients,
            operation.belongs_to,
        )
    )


def withdraw(context: Context, operation: DocumentWithdraw) -> None:
    filing = context.need(DOCUMENTS, operation.document, "document")
    if filing.owner != context.principal:
        fail(Code.NOT_PARTY, "filed by another")
    space = context.need(DOCUMENT_SPACE, filing.owner, "space of an owner")
    left = space.used_bytes - charge_bytes(filing.size_bytes)
    assert left >= 0
    if left:
        context.put(DOCUMENT_SPACE, filing.owner, Space(left))
    else:
        context.delete(DOCUMENT_SPACE, filing.owner)
    context.delete(DOCUMENTS, operation.document)
    for account in sorted({filing.owner, *filing.recipients}):
        context.delete(DOCUMENTS_BY_PARTY, account + operation.document)
    context.emit(DocumentWithdrawn(operation.document, filing.owner, filing.recipients))


OPERATIONS: dict[type, Rule] = {
    DocumentFile: Rule(file, KeyPurpose.TRADE),
    DocumentWithdraw: Rule(withdraw, KeyPurpose.TRADE),
}

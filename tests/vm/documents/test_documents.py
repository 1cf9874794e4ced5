"""Filing sealed documents: who may, how many, and that withdrawing gives back exactly what filing took."""

from __future__ import annotations

import pytest

from otcnode.crypto import sha256
from otcnode.errors import Code
from otcnode.vm.documents.events import DocumentFiled
from otcnode.vm.documents.operations import DocumentFile, DocumentWithdraw
from otcnode.vm.documents.records import (
    DOCUMENT_SPACE,
    DOCUMENTS,
    DOCUMENTS_BY_PARTY,
    SEALED_BYTES_MAX,
    SPACE_BYTES_MAX,
    Space,
)
from tests.vm.ledger import EVIDENCE
from tests.vm.products.market import Market


@pytest.fixture
def ledger() -> Market:
    made = Market()
    for name in ("ANN", "BEN"):
        made.investor(name)
    return made


def filing(ledger: Market, number: int, size_bytes: int = 100, *recipients: str) -> DocumentFile:
    named = tuple(sorted(ledger.ids[name] for name in recipients or ("BEN",)))
    return DocumentFile(sha256(bytes([number])), size_bytes, EVIDENCE, named, None)


def test_what_is_filed_is_found_by_its_parties_and_gone_when_withdrawn(ledger: Market) -> None:
    before = ledger.state.scan(DOCUMENTS, b"")
    operation = filing(ledger, 1)
    receipt = ledger.act("ANN", operation)
    (event,) = receipt.events
    assert isinstance(event, DocumentFiled) and event.recipients == (ledger.ids["BEN"],)
    record = ledger.state.get(DOCUMENTS, operation.document)
    assert record is not None and (record.owner, record.size_bytes) == (ledger.ids["ANN"], 100)
    for name in ("ANN", "BEN"):
        assert ledger.state.get(DOCUMENTS_BY_PARTY, ledger.ids[name] + operation.document) is not None
    ledger.act("BEN", DocumentWithdraw(operation.document), code=Code.NOT_PARTY)
    ledger.act("ANN", DocumentWithdraw(operation.document))
    ledger.act("ANN", DocumentWithdraw(operation.document), code=Code.NOT_FOUND)
    assert ledger.state.scan(DOCUMENTS, b"") == before
    assert not ledger.state.scan(DOCUMENTS_BY_PARTY, b"")
    assert not ledger.state.scan(DOCUMENT_SPACE, b"")


def test_a_sealed_file_is_filed_once(ledger: Market) -> None:
    ledger.act("ANN", filing(ledger, 1))
    ledger.act("BEN", filing(ledger, 1), code=Code.DUPLICATE)


def test_recipients_are_known_and_each_named_once(ledger: Market) -> None:
    name = sha256(b"1")
    ann, ben = sorted([ledger.ids["ANN"], ledger.ids["BEN"]])
    for recipients, code in (((ben, ann), Code.FIELD), ((ann, ann), Code.FIELD), ((bytes(32),), Code.NOT_FOUND)):
        ledger.act("ANN", DocumentFile(name, 1, EVIDENCE, recipients, None), code=code)


def test_an_owners_space_is_bounded_to_the_byte(ledger: Market) -> None:
    full = SPACE_BYTES_MAX - SEALED_BYTES_MAX
    state = ledger.state
    state.put(DOCUMENT_SPACE, ledger.ids["ANN"], Space(full + 1))
    ledger.view.write(state.writes())
    ledger.act("ANN", filing(ledger, 1, SEALED_BYTES_MAX), code=Code.LIMIT)
    ledger.act("ANN", filing(ledger, 3, 1))
    ledger.act("ANN", DocumentWithdraw(filing(ledger, 3, 1).document))
    ledger.act("ANN", filing(ledger, 1, SEALED_BYTES_MAX - 1))
    ledger.act("ANN", filing(ledger, 2, 1), code=Code.LIMIT)
    ledger.act("BEN", filing(ledger, 2, 1))


def test_an_owner_may_be_a_recipient(ledger: Market) -> None:
    operation = filing(ledger, 1, 100, "ANN", "BEN")
    ledger.act("ANN", operation)
    ledger.act("ANN", DocumentWithdraw(operation.document))

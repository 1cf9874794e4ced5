"""Checking a package with nothing but a genesis hash. Pure: no node, no network, no clock."""

from __future__ import annotations

from typing import TypeAlias, assert_never

from otcnode.codec import Record
from otcnode.evidence.contracts import ContractFacts, contract_facts
from otcnode.evidence.opened import Opened
from otcnode.evidence.package import Document, Kind, Package, read
from otcnode.evidence.trades import TradeFacts, trade_facts
from otcnode.evidence.verdict import Outcome, Refused
from otcnode.vm.contracts.preimages import document_commitment

Facts: TypeAlias = ContractFacts | TradeFacts


class Verdict(Record, frozen=True):
    """`facts` are there only if the outcome is OK; `document` says whether a document was compared."""

    outcome: Outcome
    detail: str
    facts: Facts | None
    document: bool


def verify(raw: bytes, chain: bytes, document: Document | None = None) -> Verdict:
    """Total. `document` is compared with the contract's commitment; one inside the package is compared too."""
    try:
        package = read(raw)
        facts = _facts(package, chain)
        documents = [shown for shown in (document, package.document) if shown is not None]
        for shown in documents:
            _check_document(facts, shown)
    except Refused as refused:
        return Verdict(refused.outcome, refused.detail, None, False)
    return Verdict(Outcome.OK, "", facts, bool(documents))


def _facts(package: Package, chain: bytes) -> Facts:
    opened = Opened(package, chain)
    match package.kind:
        case Kind.CONTRACT:
            return contract_facts(opened)
        case Kind.TRADE:
            return trade_facts(opened)
        case _:
            assert_never(package.kind)


def _check_document(facts: Facts, document: Document) -> None:
    if not isinstance(facts, ContractFacts):
        raise Refused(Outcome.DOC_HASH_MISMATCH, "a trade has no document; its contract has")
    if document_commitment(document.salt, document.content) != facts.document:
        raise Refused(Outcome.DOC_HASH_MISMATCH, "the document is not the one that was signed")

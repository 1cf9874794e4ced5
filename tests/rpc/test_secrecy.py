"""Whether something of others is there is told by no method: the same answer, found with the same work, as for what is
nowhere. Every text and every byte string that any method takes has a row here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from otcnode.crypto import sha256
from otcnode.rpc import format as form
from otcnode.rpc.json_rpc import FORBIDDEN
from otcnode.rpc.methods import METHODS
from otcnode.vm.documents.records import sealed_name
from otcnode.vm.due import DUE, DUE_BY_ITEM, LANE_RELEASE, DueClass, DueItem, Entries, Place
from otcnode.vm.keys import Prefix, integer
from otcnode.vm.products.records import SubscriptionStatus
from tests.rpc.calls import Api
from tests.rpc.fake import BANK, INVESTOR, ISSUER, OTHER, START_MS, FakeNode, MemoryView, account_of
from tests.rpc.items import DRAFT, EQUITY, SEALED, TRADES, populate
from tests.rpc.test_lists import put_request, put_subscription

NOWHERE = bytes(32)
REQUEST = sha256(b"rfq")
READS_MORE_MAX = 2
"""So many records more may be read for what is there: the record itself, and whether the caller is named beside it."""


class Secret(msgspec.Struct, frozen=True):
    """What is there, what is nowhere, and one for whom the first is another's."""

    there: str
    nowhere: str
    stranger: str = OTHER
    others: dict[str, Any] = {}


class Told(msgspec.Struct, frozen=True):
    """Why a method may tell what is there."""

    why: str


def of(show: Any, name: bytes, stranger: str = OTHER) -> Secret:
    return Secret(show(name), show(NOWHERE), stranger)


PARTY = of(form.account, account_of(INVESTOR))
CONTRACT, TRADE = of(form.contract, DRAFT), of(form.trade, TRADES[0])
PRODUCT = Told("products are public; which rows there are of one is decided per row")
CASH = Told("cash assets are in the genesis; which rows there are of one is decided per row")
TRANSACTION = Told("an id is a hash with a random salt: whoever has it has the transaction or was given it")
WORD = Told("a word of a fixed list")
PROOF_OF_POSSESSION = Told("shows that the caller has a key; the answer to a wrong one is tested in test_methods")
FIELDS: dict[tuple[str, str], Secret | Told] = {
    ("tx_submit", "transaction"): TRANSACTION,
    ("tx_wait", "id"): TRANSACTION,
    ("tx_submitAndWait", "transaction"): TRANSACTION,
    ("tx_get", "id"): TRANSACTION,
    ("tx_simulate", "transaction"): TRANSACTION,
    ("tx_proof", "id"): Secret(
        "COMMITTED", form.transaction(NOWHERE), others={"full_hash": form.base64_text(bytes(32))}
    ),
    ("tx_absence", "id"): TRANSACTION,
    ("tx_proof", "full_hash"): Told("the row above asks with a wrong one"),
    ("account_get", "account"): PARTY,
    ("account_list", "status"): WORD,
    ("account_positions", "account"): PARTY,
    ("account_statement", "account"): PARTY,
    ("account_statement", "asset"): CASH,
    ("product_list", "issuer"): PRODUCT,
    ("product_get", "product"): PRODUCT,
    ("product_holders", "product"): of(form.product, EQUITY),
    ("contract_list", "party"): PARTY,
    ("contract_list", "subject"): of(form.product, EQUITY),
    ("contract_list", "waiting_for"): PARTY,
    ("contract_get", "contract"): CONTRACT,
    ("contract_evidence", "contract"): CONTRACT,
    ("subscription_list", "party"): PARTY,
    ("subscription_list", "product"): of(form.product, EQUITY),
    ("subscription_list", "contract"): CONTRACT,
    ("redemption_list", "party"): PARTY,
    ("redemption_list", "product"): of(form.product, EQUITY),
    ("offer_list", "party"): PARTY,
    ("offer_list", "product"): of(form.product, EQUITY),
    ("rfq_list", "rfq"): of(form.rfq, REQUEST, BANK),
    ("rfq_list", "party"): PARTY,
    ("rfq_list", "product"): of(form.product, EQUITY),
    ("trade_list", "trade"): TRADE,
    ("trade_list", "party"): PARTY,
    ("trade_list", "product"): of(form.product, EQUITY),
    ("trade_evidence", "trade"): TRADE,
    ("withdrawal_list", "party"): PARTY,
    ("withdrawal_list", "cash"): CASH,
    ("entrustment_list", "party"): PARTY,
    ("recon_list", "cash"): CASH,
    ("due_list", "kind"): WORD,
    ("due_list", "item"): TRADE,
    ("due_list", "product"): PRODUCT,
    ("governance_list", "kind"): WORD,
    ("governance_list", "proposer"): PARTY,
    ("document_put", "content"): Told("whoever has the sealed file may bring it, and learns that it is filed"),
    ("document_get", "document"): of(form.base64_text, sealed_name(SEALED)),
    ("document_list", "belongs_to"): of(form.base64_text, EQUITY),
    ("state_proof", "table"): WORD,
    ("state_proof", "key"): Secret(form.base64_text(TRADES[0]), form.base64_text(NOWHERE), others={"table": "TRADE"}),
    ("events_list", "filter.types"): WORD,
    ("events_list", "filter.account"): PARTY,
    ("events_list", "filter.product"): PRODUCT,
    ("events_subscribe", "filter.types"): WORD,
    ("events_subscribe", "filter.account"): PARTY,
    ("events_subscribe", "filter.product"): PRODUCT,
    ("events_unsubscribe", "subscription"): Told("numbers of the caller's own connection"),
    ("evidence_list", "validator"): Told("validators are public"),
    ("evidence_get", "offence"): Told("what is held against validators is public"),
    ("mempool_explain", "id"): TRANSACTION,
    ("auth_challenge", "account"): Told("the same kind of answer for every account; fresh each time"),
    ("auth_login", "account"): PROOF_OF_POSSESSION,
    ("auth_login", "key"): PROOF_OF_POSSESSION,
    ("auth_login", "nonce"): PROOF_OF_POSSESSION,
    ("auth_login", "signature"): PROOF_OF_POSSESSION,
}
PLACES = frozenset({"next", "cursor", "from", "to"})
"""Where a list goes on, and times: tested with the lists."""


def texts(kind: inspect.Type, path: str) -> Iterator[str]:
    """Every place below a parameter where a caller chooses a text or bytes."""
    match kind:
        case inspect.StrType() | inspect.BytesType():
            yield path
        case inspect.Metadata():
            yield from texts(kind.type, path)
        case inspect.UnionType():
            for member in kind.types:
                yield from texts(member, path)
        case inspect.ListType():
            yield from texts(kind.item_type, path)
        case inspect.StructType():
            for field in kind.fields:
                yield from texts(field.type, f"{path}.{field.encode_name}".lstrip("."))


def test_every_text_that_a_method_takes_has_a_row() -> None:
    taken = {
        (name, path)
        for name, method in METHODS.items()
        for path in texts(inspect.type_info(method.params), "")
        if path not in PLACES
    }
    assert taken - set(FIELDS) == set() and set(FIELDS) - taken == set()


class Reads:
    """How often the state is read, by way of reading."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: Counter[str] = Counter()
        for way in ("get", "scan"):
            self._count(monkeypatch, way)

    def _count(self, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
        original = getattr(MemoryView, way)

        def counted(*given: Any, **named: Any) -> Any:
            self.seen[way] += 1
            return original(*given, **named)

        monkeypatch.setattr(MemoryView, way, counted)

    def take(self) -> int:
        count = self.seen.total()
        self.seen.clear()
        return count


async def populated() -> tuple[FakeNode, dict[str, str]]:
    """A node with something of everything that belongs to INVESTOR and ISSUER; and ids that come only with it."""
    node = FakeNode()
    deposit = node.deposit(100, "mine")
    await node.submit([deposit.raw])
    populate(node)
    put_request(node)
    put_subscription(node, 1, INVESTOR, EQUITY, SubscriptionStatus.LOCKED)
    key = LANE_RELEASE + integer(START_MS) + bytes([DueClass.RELEASE]) + integer(0)
    node.put(DUE, key, DueItem("trade.expire", TRADES[0], None, 1))
    node.put(DUE_BY_ITEM, TRADES[0], Entries((Place(key, "trade.expire"),)))
    return node, {"COMMITTED": form.transaction(deposit.id)}


def asked(path: str, value: str, others: dict[str, Any]) -> dict[str, Any]:
    outer, _, inner = path.partition(".")
    return {**others, outer: {inner: value} if inner else value}


@pytest.mark.parametrize(("method", "path"), [place for place, row in FIELDS.items() if isinstance(row, Secret)])
async def test_what_belongs_to_others_is_answered_as_what_is_nowhere(
    method: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = FIELDS[method, path]
    assert isinstance(row, Secret)
    node, known = await populated()
    api = Api(node)
    for token in (await api.login(row.stranger), None):
        reads, answers, work = Reads(monkeypatch), [], []
        for value in (known.get(row.there, row.there), row.nowhere):
            api.listener.subscribed.clear()
            answers.append(await api.call(method, asked(path, value, row.others), token))
            work.append(reads.take())
        assert answers[0] == answers[1]
        assert abs(work[0] - work[1]) <= READS_MORE_MAX, work
    # It is there: whoever it belongs to is told something else.
    if method not in ("tx_proof", "events_subscribe"):
        told = [
            await api.call(method, asked(path, row.there, row.others), await api.login(name))
            for name in (INVESTOR, ISSUER)
        ]
        assert any(answer != answers[0] for answer in told)


async def test_a_proof_of_a_key_is_refused_in_every_table_as_for_no_key() -> None:
    """Every record of the state, whatever table it is in, asked for by one who has little to do with it."""
    node, _ = await populated()
    api = Api(node)
    token, tables = await api.login(BANK), {prefix.value: prefix for prefix in Prefix}
    refused: Counter[Prefix] = Counter()
    for key, _ in node.state().view.scan(b""):
        table = tables[key[:1]]
        absent = key[1:-1] + bytes([key[-1] ^ 1]) if len(key) > 1 else b"nothing"
        there, nowhere = [
            await api.call("state_proof", {"table": table.name, "key": form.base64_text(name)}, token)
            for name in (key[1:], absent)
        ]
        if "proof" not in there:
            assert there == nowhere and there["code"] == FORBIDDEN, table
            refused[table] += 1
    secrets = {Prefix.ACCOUNT, Prefix.CONTRACT, Prefix.TRADE, Prefix.HOLDING, Prefix.SUBSCRIPTION, Prefix.QUOTE}
    assert secrets <= set(refused), secrets - set(refused)

"""One record of a store, or all that begin alike, in the words in which the API speaks of them.

Nothing is verified here and nothing but the record is needed, so a store that does not open can be looked into.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import msgspec

from otcnode.blocks import Certificate, Epoch, Header
from otcnode.codec import decode
from otcnode.engine.evidence import decode_kept
from otcnode.errors import ConfigurationError, DecodeError, Inadmissible, StorageDamage
from otcnode.ids import Prefix, show
from otcnode.maintenance.key_words import ID_BYTES, key_of, prefix_of, words_of
from otcnode.rpc import format as form
from otcnode.rpc.render import render
from otcnode.storage.kv import Reader
from otcnode.storage.records import ADVICE, ChainMeta, Head, Indexed, StoredReceipts, read_record
from otcnode.storage.schema import HEIGHT_BYTES, Meta, Table, height_key, terminated
from otcnode.storage.state_view import PastState, replaced_value
from otcnode.vm import context, due, executor
from otcnode.vm.accounts import keyring
from otcnode.vm.accounts import records as accounts
from otcnode.vm.contracts import records as contracts
from otcnode.vm.documents import records as documents
from otcnode.vm.event_index import EVENTS_PREFIX, ITEMS_PREFIX, places
from otcnode.vm.governance import records as governance
from otcnode.vm.keys import Table as LedgerTable
from otcnode.vm.products import records as products
from otcnode.vm.results import AutomaticReceipt, Receipt
from otcnode.vm.trades import records as trades
from otcnode.vm.transactions import decode_transaction
from otcnode.vm.view import StateView

Shown = Any
"""Plain values, ready for JSON."""

_MODULES: tuple[ModuleType, ...] = (
    accounts,
    keyring,
    contracts,
    documents,
    products,
    trades,
    governance,
    context,
    due,
    executor,
)
LEDGER_TABLES: Mapping[str, LedgerTable[Any]] = {
    table.name.lower(): table
    for module in _MODULES
    for table in vars(module).values()
    if isinstance(table, LedgerTable)
}
"""Name to table of the state."""

ITEMS: Mapping[Prefix, LedgerTable[Any]] = {
    Prefix.ACCOUNT: accounts.ACCOUNTS,
    Prefix.CONTRACT: contracts.CONTRACTS,
    Prefix.PRODUCT: products.PRODUCTS,
    Prefix.SUBSCRIPTION: products.SUBSCRIPTIONS,
    Prefix.REDEMPTION: products.REDEMPTIONS,
    Prefix.RFQ: trades.RFQS,
    Prefix.QUOTE: trades.QUOTES,
    Prefix.OFFER: trades.OFFERS,
    Prefix.TRADE: trades.TRADES,
    Prefix.WITHDRAWAL: accounts.WITHDRAWALS,
    Prefix.ENTRUSTMENT: accounts.ENTRUSTMENTS,
    Prefix.GOVERNANCE: governance.PROPOSALS,
    Prefix.NODE: governance.NODES,
}
"""What an id names to the table in which it is the whole key."""

_CHAIN_IDS: Mapping[str, Prefix] = {
    "proposer": Prefix.NODE,
    "validator": Prefix.NODE,
    "validators": Prefix.NODE,
    "parent": Prefix.BLOCK,
    "block_hash": Prefix.BLOCK,
}
"""Fields of records that are not the ledger's, to what their 32 bytes name; others are shown in hexadecimal."""
_CHAIN_TIMES = ("time_ms", "seen_ms")
"""Those of them that are moments."""


class Wanted(NamedTuple):
    """Keys that begin with `key`, in a table of the store; `ledger` is that of the state, where it is one."""

    table: Table
    key: bytes
    ledger: LedgerTable[Any] | None = None


def wanted(words: Sequence[str]) -> Wanted:
    """What is meant by an id or a height alone, or by a table and the parts of a key. Raises ConfigurationError if
    nothing is."""
    first, *rest = words
    tables = {table.name.lower(): table for table in Table}
    if first not in tables:
        if rest:
            raise ConfigurationError(f"{first!r} is no table; there are {', '.join(sorted(tables))}")
        return _alone(first)
    table = tables[first]
    if table is Table.META:
        return Wanted(table, b"".join(b"/" + word.encode(errors="surrogateescape") for word in rest))
    if table is Table.INDEX and rest and prefix_of(rest[0]) is not None:
        kind = EVENTS_PREFIX if prefix_of(rest[0]) is Prefix.ACCOUNT else ITEMS_PREFIX
        return Wanted(table, kind + key_of(rest))
    return Wanted(table, key_of(rest)) if table not in (Table.STATE, Table.HISTORY) else _of_state(table, rest)


def _of_state(table: Table, words: Sequence[str]) -> Wanted:
    if len(words) == 1 and (found := _alone_in_state(table, words[0])) is not None:
        return found
    if not words or words[0] not in LEDGER_TABLES:
        raise ConfigurationError(f"name a table of the ledger: {', '.join(sorted(LEDGER_TABLES))}")
    ledger = LEDGER_TABLES[words[0]]
    return Wanted(table, ledger.prefix + key_of(words[1:]), ledger)


def _alone_in_state(table: Table, word: str) -> Wanted | None:
    prefix = prefix_of(word)
    if prefix is None or prefix not in ITEMS:
        return None
    return Wanted(table, ITEMS[prefix].prefix + key_of([word]), ITEMS[prefix])


def _alone(word: str) -> Wanted:
    if word.isdecimal():
        return Wanted(Table.HEADER, key_of([word]))
    prefix = prefix_of(word)
    if prefix is Prefix.TRANSACTION:
        return Wanted(Table.TRANSACTION, key_of([word]))
    if prefix is Prefix.BLOCK:
        return Wanted(Table.BLOCK_HASH, key_of([word]))
    found = _alone_in_state(Table.STATE, word)
    if found is None:
        raise ConfigurationError(f"{word!r} is neither a table nor a height nor an id that names a record by itself")
    return found


def record(reader: Reader, asked: Wanted, at_height: int | None = None) -> Shown | None:
    """The record under exactly this key, of the state as of a height where one is given; None if there is none. Raises
    ConfigurationError if states of that height are not kept, StorageDamage if it does not decode."""
    if asked.table is Table.HISTORY:
        found = _versions(reader, asked)
        return found if found["before"] is not None or found["changes"] else None
    raw = _source(reader, asked, at_height).get(asked.key)
    return None if raw is None else _shown(reader, asked, raw)


def records(reader: Reader, asked: Wanted, limit: int, at_height: int | None = None) -> list[Shown]:
    """At most so many records whose key begins so, with their keys in a form that `inspect` takes."""
    pairs = _source(reader, asked, at_height).scan(asked.key, limit=limit)
    return [{"key": _named(asked, key), "record": _shown(reader, asked, raw)} for key, raw in pairs]


def _named(asked: Wanted, key: bytes) -> str:
    if asked.ledger is None:
        return f"0x{key.hex()}"
    return words_of(asked.ledger.name.lower(), key[len(asked.ledger.prefix) :])


def _versions(reader: Reader, asked: Wanted) -> dict[str, Any]:
    """What a key of the state has held since the lowest height whose state is known: before the first block that
    touched it, and after each that did."""
    places = Table.HISTORY.value + terminated(asked.key)
    replaced = [(int.from_bytes(key[len(places) :], "big"), replaced_value(raw)) for key, raw in reader.scan(places)]
    values = [value for _, value in replaced] + [reader.get(Table.STATE.value + asked.key)]
    before, *after = [None if value is None else _shown(reader, asked, value) for value in values]
    changes = [{"height": height, "record": shown} for (height, _), shown in zip(replaced, after, strict=True)]
    return {"known_from": _head(reader).history_first, "before": before, "changes": changes}


class _TableView:
    """A table of the store without its first byte."""

    def __init__(self, reader: Reader, table: Table) -> None:
        self._reader = reader
        self._table = table.value

    def get(self, key: bytes) -> bytes | None:
        return self._reader.get(self._table + key)

    def scan(
        self, prefix: bytes, after: bytes | None = None, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        beyond = None if after is None else self._table + after
        for key, raw in self._reader.scan(self._table + prefix, beyond, limit):
            yield key[len(self._table) :], raw


def _source(reader: Reader, asked: Wanted, at_height: int | None) -> StateView:
    if at_height is None:
        return _TableView(reader, Table.STATE if asked.ledger is not None else asked.table)
    if asked.table is not Table.STATE:
        raise ConfigurationError("only records of the state are known as of a height")
    head = _head(reader)
    if not head.history_first <= at_height <= head.height:
        raise ConfigurationError(f"states of heights {head.history_first} to {head.height} are kept, not {at_height}")
    return PastState(reader, at_height, lambda height: None)


def _head(reader: Reader) -> Head:
    return read_record(reader, Meta.HEAD.value, Head, "the head")


# showing


def _shown(reader: Reader, asked: Wanted, raw: bytes) -> Shown:
    try:
        if asked.ledger is not None:
            return _of_ledger(asked.ledger.decode(raw))
        show_raw = _SHOW.get(asked.table) if asked.table is not Table.META else _SHOW_META.get(asked.key)
        return raw.hex() if show_raw is None else show_raw(reader, raw)
    except (DecodeError, Inadmissible, msgspec.DecodeError) as error:
        raise StorageDamage(f"this record does not decode ({error}): {raw.hex()}; {ADVICE}") from None


def _of_ledger(value: Any) -> Any:
    """As the API shows it, with what has no text form in hexadecimal."""
    return _plain(render(value))


def _plain(rendered: Any) -> Any:
    match rendered:
        case bytes():
            return rendered.hex()
        case dict():
            return {name: _plain(value) for name, value in rendered.items()}
        case list():
            return [_plain(value) for value in rendered]
        case msgspec.Struct():
            return msgspec.to_builtins(rendered)
        case _:
            return rendered


def _of_chain(value: Any, name: str = "") -> Any:
    """A record that is not the ledger's: counts as numbers, times both ways."""
    match value:
        case bytes():
            prefix = _CHAIN_IDS.get(name)
            return value.hex() if prefix is None or len(value) != ID_BYTES else show(prefix, value)
        case tuple():
            return [_of_chain(entry, name) for entry in value]
        case msgspec.Struct():
            tag = value.__struct_config__.tag
            fields = {field: _of_chain(getattr(value, field), field) for field in value.__struct_fields__}
            return fields if tag is None else {"type": tag} | fields
        case int() if name in _CHAIN_TIMES:
            return msgspec.to_builtins(form.time(value))
        case _:
            return value


def _as(kind: Any) -> Callable[[Reader, bytes], Shown]:
    return lambda reader, raw: _of_chain(decode(kind, raw))


def _evidence(reader: Reader, raw: bytes) -> Shown:
    return _of_chain(decode_kept(raw))


def _body(reader: Reader, raw: bytes) -> Shown:
    return [_transaction(entry) for entry in decode(tuple[bytes, ...], raw)]


def _transaction(raw: bytes) -> dict[str, Any]:
    decoded = decode_transaction(raw)
    names = {"id": form.transaction(decoded.id), "full_hash": decoded.full_hash.hex()}
    return {**names, **_of_ledger(decoded.transaction)}


def _receipts(reader: Reader, raw: bytes) -> Shown:
    stored = decode(StoredReceipts, raw)
    automatic, others = stored.receipts[: stored.automatic_count], stored.receipts[stored.automatic_count :]
    return {
        "automatic": [_of_ledger(decode(AutomaticReceipt, entry)) for entry in automatic],
        "transactions": [_of_ledger(decode(Receipt, entry)) for entry in others],
    }


def _block(reader: Reader, raw: bytes) -> Shown:
    height = int.from_bytes(raw, "big")
    header = read_record(reader, height_key(Table.HEADER, height), Header, f"header {height}")
    return {"height": height, "header": _of_chain(header)}


def _place(reader: Reader, raw: bytes) -> Shown:
    """The transaction itself, and what came of it."""
    height, index = int.from_bytes(raw[:HEIGHT_BYTES], "big"), int.from_bytes(raw[HEIGHT_BYTES:], "big")
    body = read_record(reader, height_key(Table.BODY, height), tuple[bytes, ...], f"body {height}")
    stored = read_record(reader, height_key(Table.RECEIPTS, height), StoredReceipts, f"receipts {height}")
    if index >= len(body) or stored.automatic_count + index >= len(stored.receipts):
        raise StorageDamage(f"block {height} has no transaction {index}; {ADVICE}")
    receipt = decode(Receipt, stored.receipts[stored.automatic_count + index])
    return {"height": height, "index": index, "transaction": _transaction(body[index]), "receipt": _of_ledger(receipt)}


def _touched(reader: Reader, raw: bytes) -> Shown:
    """As `inspect state` takes them."""
    names = {table.prefix: name for name, table in LEDGER_TABLES.items()}
    found = [(names[key[:1]], key[1:]) for key in decode(tuple[bytes, ...], raw)]
    return [f"{table} {words_of(table, key)}".rstrip() for table, key in found]


def _indexed(reader: Reader, raw: bytes) -> Shown:
    """As `inspect transaction` and `inspect index` take them."""
    indexed = decode(Indexed, raw)
    names = [form.transaction(name) for name in indexed.transactions]
    return {"transactions": names, "keys": [f"0x{key.hex()}" for key in indexed.keys]}


def _entry(reader: Reader, raw: bytes) -> Shown:
    return [place._asdict() for place in places(raw)]


def _document(reader: Reader, raw: bytes) -> Shown:
    """Sealed: what it says is not for whoever has the disk."""
    return {"size_bytes": len(raw), "sealed": raw.hex()}


def _height(reader: Reader, raw: bytes) -> Shown:
    return {"height": int.from_bytes(raw, "big")}


_SHOW: Mapping[Table, Callable[[Reader, bytes], Shown]] = {
    Table.HEADER: _as(Header),
    Table.BODY: _body,
    Table.CERTIFICATE: _as(Certificate),
    Table.RECEIPTS: _receipts,
    Table.BLOCK_HASH: _block,
    Table.TRANSACTION: _place,
    Table.EPOCH: _as(Epoch),
    Table.TOUCHED: _touched,
    Table.INDEX: _entry,
    Table.INDEXED: _indexed,
    Table.EVIDENCE: _evidence,
    Table.DOCUMENT: _document,
    Table.DOCUMENT_KEPT: _height,
}
"""How the records of a table are shown; others in hexadecimal."""
_SHOW_META: Mapping[bytes, Callable[[Reader, bytes], Shown]] = {b"/head": _as(Head), b"/chain": _as(ChainMeta)}
"""The same of those in META, by key."""

"""Keys of records in words: as they are typed at `otcnode db inspect`, and as it prints them.

A word is an id in its text form, a height or another integer in decimal, hexadecimal behind 0x (32 bytes also without),
else text. What is printed is always such that the same words give the same key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from otcnode.errors import ConfigurationError, DecodeError
from otcnode.ids import Prefix, parse, show
from otcnode.storage.schema import HEIGHT_BYTES

ID_BYTES = 32
_HASH, _INTEGER, _BYTE, _TEXT = "hash", "integer", "byte", "text"
_PREFIXES: Mapping[str, Prefix] = {prefix.value: prefix for prefix in Prefix}

LAYOUTS: Mapping[str, str] = {
    "account": "acc",
    "key": "acc hash",
    "key_live": "acc hash",
    "cash_asset": "text",
    "cash_balance": "acc text",
    "cash_total_at": "hash integer",
    "holding": "pro acc",
    "holding_by_account": "acc pro",
    "lot": "acc pro integer integer",
    "lock": "acc loc",
    "unit_total": "pro",
    "freeze_by_account": "acc hash",
    "bank_reference": "acc text",
    "withdrawal": "wit",
    "withdrawal_by_party": "acc integer wit",
    "open_item": "acc byte hash",
    "entrustment": "ent",
    "entrustment_by_account": "acc integer ent",
    "entrustment_active": "acc acc ent",
    "recovery_by_account": "acc hash",
    "attestation": "integer hash",
    "contract": "con",
    "contract_text": "con",
    "contract_signature": "con byte hash",
    "contract_party": "acc con",
    "contract_successor": "con con",
    "contract_in_force": "con",
    "contract_accession": "con acc",
    "document_party": "acc hash",
    "document_space": "acc",
    "proposal": "gov",
    "proposal_by_time": "integer gov",
    "governor": "acc",
    "validators": "node",
    "validator_ready": "node",
    "misconduct": "node hash",
    "misconduct_count": "node integer",
    "access_log": "hash hash",
    "product": "pro",
    "product_terms": "pro",
    "product_code": "text",
    "product_holders": "pro",
    "product_by_issuer": "acc pro",
    "product_by_status": "byte pro",
    "product_party": "acc pro",
    "product_overdue": "acc integer pro",
    "product_record": "pro integer acc",
    "product_record_by_account": "acc pro integer",
    "product_waiting": "integer integer",
    "subscription": "sub",
    "subscription_by_product": "pro integer",
    "subscription_by_account": "acc pro integer",
    "subscription_by_contract": "con",
    "redemption": "red",
    "redemption_by_product": "pro byte red",
    "redemption_by_party": "acc integer red",
    "disclosure": "pro integer",
    "trade": "tra",
    "offer": "off",
    "rfq": "rfq",
    "quote": "quo",
    "quote_by_rfq": "rfq acc",
    "turnaround": "pro acc",
    "trade_by_product": "hash byte integer hash",
    "trade_by_account": "acc byte integer hash",
    "trade_open": "pro byte hash",
    "due_by_product": "pro",
    "seen": "integer tx",
}
"""Table of the ledger to the parts of its keys; the keys of others are one piece, in hexadecimal."""


def prefix_of(word: str) -> Prefix | None:
    """What an id names, if the word has the form of one."""
    head, separator, body = word.rpartition("1")
    return _PREFIXES.get(head) if separator and len(body) > HEIGHT_BYTES else None


def key_of(words: Sequence[str]) -> bytes:
    """Raises ConfigurationError for a word that is mistyped."""
    return b"".join(map(_part, words))


def _part(word: str) -> bytes:
    prefix = prefix_of(word)
    try:
        if prefix is not None:
            return parse(prefix, word)
        if word.startswith("0x") or len(word) == 2 * ID_BYTES:
            return bytes.fromhex(word.removeprefix("0x"))
        return int(word).to_bytes(HEIGHT_BYTES, "big") if word.isdecimal() else word.encode()
    except (DecodeError, ValueError, OverflowError) as error:
        raise ConfigurationError(f"{word!r} is no part of a key: {error}") from None


def words_of(table: str, key: bytes) -> str:
    """The key of a record in a table of the ledger."""
    words = list(_words(LAYOUTS.get(table, "").split(), key))
    try:
        same = key_of(words) == key and not any(set(word) & {" ", "'", '"'} or not word.isprintable() for word in words)
    except ConfigurationError:
        same = False
    return " ".join(words) if same else f"0x{key.hex()}"


def _words(layout: Sequence[str], key: bytes) -> Iterator[str]:
    for part in layout:
        size = {_INTEGER: HEIGHT_BYTES, _BYTE: 1, _TEXT: len(key)}.get(part, ID_BYTES)
        piece, key = key[:size], key[size:]
        if part in _PREFIXES and len(piece) == ID_BYTES:
            yield show(_PREFIXES[part], piece)
        elif part == _INTEGER:
            yield str(int.from_bytes(piece, "big"))
        elif part == _TEXT:
            yield piece.decode(errors="replace")
        else:
            yield f"0x{piece.hex()}"

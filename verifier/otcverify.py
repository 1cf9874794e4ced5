#!/usr/bin/env python3
"""A verifier that stands alone: plain Python and PyNaCl, one file, nothing of otcnode imported.

It checks, from a genesis hash alone, evidence packages of contracts and trades, and the answers of a node to
`state_proof` and `tx_proof`. Written from docs/evidence.md, so that one implementation can be held against the other.

    otcverify.py package FILE --chain HASH [--document FILE --salt HEX] [--subject ID] [--min-height N]
    otcverify.py state --chain HASH --params FILE --validators FILE --proof FILE
        [--key HEX] [--present | --absent] [--min-height N]
    otcverify.py transaction --chain HASH --params FILE --validators FILE --proof FILE
        [--id ID] [--full-hash HEX] [--succeeded] [--min-height N]

It prints one word and why, and exits with 0 for OK, 1 for anything else and 2 where it was called wrongly: a file that
cannot be read proves nothing and disproves nothing.

OK says that what is printed is true, and no more: of whatever key, transaction or contract, and of whatever height. A
liar may show a true proof of something else, or of long ago. The options in brackets say what was asked for; a true
proof of anything else is then UNEXPECTED, with exit code 1. A script that goes by the exit code needs them.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from nacl.bindings import crypto_sign_open
from nacl.exceptions import CryptoError

# What is in the arrays, by place ------------------------------------------------------------------------------------

PACKAGE = "format kind subject genesis epochs last state blocks transactions automatic document"
CERTIFIED = "header certificate"
STEP = "epoch announced_by"
EPOCH = "number validators parameters"
PARAMETERS = (
    "window drift_real_ms heartbeat_real_ms rotation_blocks inclusion_timeout_real_ms block_transactions_max"
    " block_bytes_max"
)
HEADER = (
    "version chain height parent time_ms proposer transaction_count transactions_root receipts_root state_root"
    " validators_hash next_validators_hash"
)
CERTIFICATE = "epoch view height block_hash signatures"
ENTRY = "key value proof"
STATE_PROOF = "pairs siblings"
LEAF = "index count path"
TRANSACTION_PROOF = "height raw entry receipt outcome"
AUTOMATIC_PROOF = "height receipt outcome"
DOCUMENT = "salt content"
BODY = "version chain sender salt valid_until on_behalf_of entrustment operations"
RECEIPT = "transaction code operation events"
AUTOMATIC_RECEIPT = "item kind code events"
CONTRACT = (
    "kind nature open creator subject root supersedes superseded_by successors_open salesperson effective confirm_by"
    " sign_by version terms_hash document slots status reason created_at signing_at signed_at effective_at ended_at"
)
SLOT = "account role order keys_needed keys_signed confirmed_by"
TEXT = "terms required_fields"
SIGNATURE = "version signature signed_at position by entrustment"
KEY = "purpose added_at revoked_at"
ENTRUSTMENT = "principal agent powers status used created_at ended_at"
POWERS = "scopes products min_price max_price per_action_cap total_cap valid_from until document allow_self_dealing"
TRADE = (
    "proposer agent buyer seller product quantity price contract affirm_by settle_at source clean accrued fee status"
    " failure cancel_asked_by created_at executed_at ended_at"
)
EXECUTED = "trade buyer seller product quantity price clean accrued fee settle_at source"

KEYS, ENTRUSTMENTS, CONTRACTS, TEXTS, SIGNATURES, TRADES = b"\x11", b"\x1d", b"\x20", b"\x21", b"\x22", b"\x40"
"""First byte of the state's keys, by table."""


MALFORMED = (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError, RecursionError)
"""What Python says of values that are not of the form that is written here."""


class Refused(Exception):
    def __init__(self, outcome: str, detail: str) -> None:
        super().__init__(outcome, detail)
        self.outcome, self.detail = outcome, detail


class Expected:
    """What whoever checks has asked for, by name (of the options); what is left out is all the same."""

    def __init__(self, **asked: object) -> None:
        self.asked = {name: value for name, value in asked.items() if value is not None and value is not False}

    def compare(self, said: str, height: int, **found: object) -> str:
        """`said`, which is true. Raises Refused where that is not what was asked for."""
        for name, asked in self.asked.items():
            if (height < asked) if name == "min_height" else (found[name] != asked):
                raise Refused("UNEXPECTED", f"it is true, but not what --{name.replace('_', '-')} asks for: {said}")
        return said


NOTHING_ASKED = Expected()


def named(array: object, fields: str) -> dict:
    names = fields.split()
    if not isinstance(array, list) or len(array) != len(names):
        raise Refused("PROOF_INVALID", f"not an array of {len(names)}")
    return dict(zip(names, array, strict=True))


# Canonical MessagePack ----------------------------------------------------------------------------------------------


def pack(value: object) -> bytes:
    """One value has one encoding: integers, strings and arrays in their shortest form."""
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return _pack_integer(value)
    if isinstance(value, bytes):
        return _head(len(value), None, 0, (0xC4, 0xC5, 0xC6)) + value
    if isinstance(value, str):
        raw = value.encode()
        return _head(len(raw), 0xA0, 32, (0xD9, 0xDA, 0xDB)) + raw
    if isinstance(value, list):
        return _head(len(value), 0x90, 16, (None, 0xDC, 0xDD)) + b"".join(map(pack, value))
    if isinstance(value, dict):
        entries = b"".join(pack(key) + pack(value[key]) for key in sorted(value))
        return _head(len(value), 0x80, 16, (None, 0xDE, 0xDF)) + entries
    raise TypeError(type(value))


def _head(size: int, fix: int | None, fix_below: int, kinds: tuple) -> bytes:
    if fix is not None and size < fix_below:
        return bytes([fix + size])
    for kind, width in zip(kinds, (1, 2, 4), strict=True):
        if kind is not None and size < 1 << 8 * width:
            return bytes([kind]) + size.to_bytes(width, "big")
    raise ValueError(size)


def _pack_integer(value: int) -> bytes:
    if 0 <= value < 128:
        return bytes([value])
    if -32 <= value < 0:
        return bytes([256 + value])
    for kind, width in zip((0xCC, 0xCD, 0xCE, 0xCF), (1, 2, 4, 8), strict=True):
        if 0 <= value < 1 << 8 * width:
            return bytes([kind]) + value.to_bytes(width, "big")
    for kind, width in zip((0xD0, 0xD1, 0xD2, 0xD3), (1, 2, 4, 8), strict=True):
        if -(1 << 8 * width - 1) <= value < 0:
            return bytes([kind]) + value.to_bytes(width, "big", signed=True)
    raise ValueError(value)


class _Unpacker:
    DEPTH_MAX = 64

    def __init__(self, raw: bytes) -> None:
        self.raw, self.at = raw, 0

    def take(self, size: int) -> bytes:
        if self.at + size > len(self.raw):
            raise Refused("PROOF_INVALID", "the bytes end too early")
        self.at += size
        return self.raw[self.at - size : self.at]

    def number(self, width: int, signed: bool = False) -> int:
        return int.from_bytes(self.take(width), "big", signed=signed)

    def value(self, depth: int = 0) -> object:
        if depth > self.DEPTH_MAX:
            raise Refused("PROOF_INVALID", "nested too deeply")
        kind = self.take(1)[0]
        if kind < 0x80:
            return kind
        if kind >= 0xE0:
            return kind - 256
        if kind < 0x90:
            return self.entries(kind - 0x80, depth)
        if kind < 0xA0:
            return [self.value(depth + 1) for _ in range(kind - 0x90)]
        if kind < 0xC0:
            return self.text(kind - 0xA0)
        if kind in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[kind]
        if 0xC4 <= kind <= 0xC6:
            return self.take(self.number(1 << kind - 0xC4))
        if 0xCC <= kind <= 0xCF:
            return self.number(1 << kind - 0xCC)
        if 0xD0 <= kind <= 0xD3:
            return self.number(1 << kind - 0xD0, signed=True)
        if 0xD9 <= kind <= 0xDB:
            return self.text(self.number(1 << kind - 0xD9))
        if kind in (0xDC, 0xDD):
            return [self.value(depth + 1) for _ in range(self.number(2 if kind == 0xDC else 4))]
        if kind in (0xDE, 0xDF):
            return self.entries(self.number(2 if kind == 0xDE else 4), depth)
        raise Refused("PROOF_INVALID", f"a value of type {kind:#x} does not occur here")

    def text(self, size: int) -> str:
        try:
            return self.take(size).decode()
        except UnicodeDecodeError:
            raise Refused("PROOF_INVALID", "a text is not UTF-8") from None

    def entries(self, count: int, depth: int) -> dict:
        found = {}
        for _ in range(count):
            key = self.value(depth + 1)
            if not isinstance(key, str):
                raise Refused("PROOF_INVALID", "a key of a map is no text")
            found[key] = self.value(depth + 1)
        return found


def unpack(raw: bytes) -> object:
    """The value whose canonical encoding this is."""
    if not isinstance(raw, bytes):
        raise Refused("PROOF_INVALID", "bytes are expected")
    unpacker = _Unpacker(raw)
    value = unpacker.value()
    if pack(value) != raw:
        raise Refused("PROOF_INVALID", "not the canonical encoding")
    return value


# Hashes, signatures, proofs -----------------------------------------------------------------------------------------


def tagged(domain: str, data: bytes) -> bytes:
    """SHA-256(length of domain ‖ domain ‖ data)."""
    return hashlib.sha256(bytes([len(domain)]) + domain.encode() + data).digest()


def signed(public: object, message: bytes, signature: object) -> bool:
    """Ed25519, by libsodium's rule."""
    if not (isinstance(public, bytes) and len(public) == 32 and isinstance(signature, bytes) and len(signature) == 64):
        return False
    try:
        crypto_sign_open(signature + message, public)
    except CryptoError:
        return False
    return True


def path_root(data: bytes, leaf: dict) -> bytes | None:
    """The Merkle root (RFC 6962) that a path leads to."""
    index, width, siblings = leaf["index"], leaf["count"], list(leaf["path"])
    if not (isinstance(index, int) and isinstance(width, int) and 0 <= index < width):
        return None
    value = hashlib.sha256(b"\x00" + data).digest()
    while width > 1:
        if index ^ 1 < width:
            if not siblings:
                return None
            other = siblings.pop(0)
            value = hashlib.sha256(b"\x01" + (other + value if index % 2 else value + other)).digest()
        index, width = index // 2, (width + 1) // 2
    return None if siblings else value


def state_holds(root: bytes, proof: dict, key: bytes, value: bytes | None) -> bool:
    """Whether the state with this root holds `value` under `key`, or nothing if it is None."""
    name, pairs, siblings = tagged("otcnode/state-key/1", key), proof["pairs"], proof["siblings"]
    if not 1 <= len(siblings) <= 8 or len(pairs) % 64:
        return False
    names = [pairs[at : at + 32] for at in range(0, len(pairs), 64)]
    if names != sorted(set(names)):
        return False
    held = pairs[names.index(name) * 64 + 32 :][:32] if name in names else None
    if held != (None if value is None else tagged("otcnode/state-value/1", value)):
        return False
    current = tagged("otcnode/state-bucket/1", pairs)
    for nibble, others in zip(reversed(name.hex()[: len(siblings)]), siblings, strict=True):
        if len(others) != 15 * 32:
            return False
        cut = int(nibble, 16) * 32
        current = tagged("otcnode/state-node/1", others[:cut] + current + others[cut:])
    return current == root


class Chain:
    """Validator sets, each proven by the one before; the first is in the genesis document."""

    def __init__(self, chain: bytes, genesis: bytes) -> None:
        if tagged("otcnode/genesis/1", genesis) != chain:
            raise Refused("GENESIS_MISMATCH", "of another chain")
        document = _Unpacker(genesis).value()  # its hash is its identity, whatever the order in its maps
        self.chain = chain
        parameters = [document["parameters"][name] for name in PARAMETERS.split()]
        self.epochs = [[1, sorted(validator["id"] for validator in document["validators"]), parameters]]

    def header(self, header_array: object, certificate_array: object) -> dict:
        """A header, once a quorum of the validators of its height has certified it."""
        header, certificate = named(header_array, HEADER), named(certificate_array, CERTIFICATE)
        name = tagged("otcnode/block/1", pack(header_array))
        if not isinstance(header["height"], int) or header["height"] < 1 or header["chain"] != self.chain:
            raise Refused("PROOF_INVALID", "a header of another chain")
        epoch = [epoch for epoch in self.epochs if epoch[0] <= header["height"]][-1]
        number, validators = epoch[:2]
        if header["validators_hash"] != tagged("otcnode/validators/2", pack(epoch)):
            raise Refused("PROOF_INVALID", "a header of other validators")
        if (certificate["epoch"], certificate["height"], certificate["block_hash"]) != (
            number,
            header["height"],
            name,
        ):
            raise Refused("PROOF_INVALID", "a certificate of another block")
        place = [certificate[field] for field in ("epoch", "view", "height", "block_hash")]
        message = pack(["otcnode/commit/1", self.chain, *place])
        signers = [entry[0] for entry in certificate["signatures"]]
        faulty = (len(validators) - 1) // 3
        quorum = (len(validators) + faulty) // 2 + 1
        if signers != sorted(set(signers)) or len(signers) < quorum or not set(signers) <= set(validators):
            raise Refused("PROOF_INVALID", "no quorum of this epoch's validators")
        if not all(signed(public, message, signature) for public, signature in certificate["signatures"]):
            raise Refused("PROOF_INVALID", "a validator's signature is wrong")
        return header

    def extend(self, epoch_array: object, header_array: object, certificate_array: object) -> None:
        epoch = named(epoch_array, EPOCH)
        number, validators = epoch["number"], epoch["validators"]
        header = self.header(header_array, certificate_array)
        if number <= self.epochs[-1][0] or header["height"] != number - 1:
            raise Refused("PROOF_INVALID", "an epoch out of order")
        if not validators or validators != sorted(set(validators)):
            raise Refused("PROOF_INVALID", "validators out of order")
        if header["next_validators_hash"] != tagged("otcnode/validators/2", pack(epoch_array)):
            raise Refused("PROOF_INVALID", "the header before an epoch names other validators")
        self.epochs.append(epoch_array)


# Packages -----------------------------------------------------------------------------------------------------------


class Package:
    """A package with everything in it proven."""

    def __init__(self, raw: bytes, chain: bytes) -> None:
        self.fields = fields = named(unpack(raw), PACKAGE)
        if fields["format"] != "otcnode/evidence/1":
            raise Refused("PROOF_INVALID", "another format")
        self.chain, self.subject = chain, fields["subject"]
        trusted = Chain(chain, fields["genesis"])
        shown = [(named(entry, TRANSACTION_PROOF), unpack(entry[1])) for entry in fields["transactions"]]
        if len({pack(transaction[0]) for _, transaction in shown}) != len(shown):
            raise Refused("PROOF_INVALID", "a transaction is shown twice")
        for _, transaction in shown:
            self._check_signatures(transaction)
        for step in fields["epochs"]:
            step = named(step, STEP)
            by = named(step["announced_by"], CERTIFIED)
            trusted.extend(step["epoch"], by["header"], by["certificate"])
        self.last = trusted.header(*fields["last"])
        headers = {}
        for block in fields["blocks"]:
            header = trusted.header(*block)
            headers[header["height"]] = header
        self.state = {}
        for entry in fields["state"]:
            entry = named(entry, ENTRY)
            proof = named(entry["proof"], STATE_PROOF)
            if not state_holds(self.last["state_root"], proof, entry["key"], entry["value"]):
                raise Refused("PROOF_INVALID", "a state entry that is not under the state root")
            self.state[entry["key"]] = entry["value"]
        self.transactions = [self._transaction(proof, transaction, headers) for proof, transaction in shown]
        self.automatic = [self._automatic(named(proof, AUTOMATIC_PROOF), headers) for proof in fields["automatic"]]

    def _check_signatures(self, transaction: object) -> None:
        body, signatures = transaction
        name = tagged("otcnode/transaction/1", pack(body))
        if not signatures or not all(signed(key, name, signature) for key, signature in signatures):
            raise Refused("SIGNATURE_INVALID", "a transaction is not signed by the keys it names")

    def _header(self, headers: dict, height: int) -> dict:
        if height not in headers:
            raise Refused("INCOMPLETE", f"the header of block {height} is missing")
        return headers[height]

    def _under(self, root: bytes, data: bytes, leaf: list) -> None:
        if path_root(data, named(leaf, LEAF)) != root:
            raise Refused("PROOF_INVALID", "a transaction or receipt is not under its block's root")

    def _transaction(self, proof: dict, transaction: object, headers: dict) -> dict:
        header = self._header(headers, proof["height"])
        body = named(transaction[0], BODY)
        name = tagged("otcnode/transaction/1", pack(transaction[0]))
        if proof["entry"][1] != header["transaction_count"]:
            raise Refused("PROOF_INVALID", "a block of another number of transactions")
        full = tagged("otcnode/transaction-full/1", proof["raw"])
        self._under(header["transactions_root"], name + full, proof["entry"])
        self._under(header["receipts_root"], proof["receipt"], proof["outcome"])
        receipt = named(unpack(proof["receipt"]), RECEIPT)
        if receipt["transaction"] != name:
            raise Refused("PROOF_INVALID", "the receipt of another transaction")
        return {"id": name, "body": body, "header": header, "code": receipt["code"], "events": receipt["events"]}

    def _automatic(self, proof: dict, headers: dict) -> dict:
        header = self._header(headers, proof["height"])
        self._under(header["receipts_root"], proof["receipt"], proof["outcome"])
        receipt = named(unpack(proof["receipt"]), AUTOMATIC_RECEIPT)
        if not isinstance(receipt["code"], str) or not isinstance(receipt["kind"], str):
            raise Refused("PROOF_INVALID", "not an automatic receipt")
        return {"header": header, "events": receipt["events"]}

    def get(self, key: bytes, fields: str, what: str) -> dict:
        if self.state.get(key) is None:
            raise Refused("INCOMPLETE", f"{what} is missing")
        return named(unpack(self.state[key]), fields)

    def operations(self, kind: str) -> list:
        """(transaction, index, operation) of each that took effect."""
        return [
            (transaction, index, operation)
            for transaction in self.transactions
            if transaction["code"] == "OK"
            for index, operation in enumerate(transaction["body"]["operations"])
            if operation[0] == kind
        ]

    def on_subject(self, kind: str) -> list:
        """Those whose first field names the subject."""
        return [entry for entry in self.operations(kind) if entry[2][1] == self.subject]

    def mandate(self, what: str, principal: bytes, agent: bytes, name: bytes | None, scope: str, used_at: int) -> None:
        if name is None:
            raise Refused("SIGNATURE_INVALID", f"{what} is by another account, without entrustment")
        granted = self.get(ENTRUSTMENTS + name, ENTRUSTMENT, f"the entrustment of {what}")
        powers = named(granted["powers"], POWERS)
        over = granted["ended_at"] is not None and granted["ended_at"] < used_at
        if (granted["principal"], granted["agent"]) != (principal, agent) or over:
            raise Refused("SIGNATURE_INVALID", f"{what}: the entrustment is another's, or was over")
        if scope not in powers["scopes"] or not powers["valid_from"] <= used_at < powers["until"]:
            raise Refused("SIGNATURE_INVALID", f"{what}: the entrustment does not cover it")


def created(transaction: bytes, index: int) -> bytes:
    return tagged("otcnode/item/1", transaction + index.to_bytes(4, "big"))


def check_contract(package: Package) -> str:
    contract = package.get(CONTRACTS + package.subject, CONTRACT, "the contract")
    text = package.get(TEXTS + package.subject, TEXT, "the contract's text")
    if tagged("otcnode/contract-terms/1", pack(text["terms"])) != contract["terms_hash"]:
        raise Refused("PROOF_INVALID", "the terms are not those that the contract names")
    slots = [named(slot, SLOT) for slot in contract["slots"]]
    signatures = _contract_signatures(package, contract, slots)
    _contract_creation(package, contract)
    if contract["effective"][0] == "COOLING_OFF" and contract["effective"][2] and contract["effective_at"] is not None:
        _need(package.on_subject("contract.callback"), "the callback")
    if contract["status"] == "RESCINDED":
        _need(package.on_subject("contract.rescind"), "the rescission")
    for index, slot in enumerate(slots):
        if slot["confirmed_by"] is not None:
            _confirmation(package, contract, index, slot)
    for (index, key), record in signatures.items():
        found = [
            entry
            for entry in package.on_subject("contract.sign")
            if (entry[2][2], entry[2][4], entry[2][5]) == (index, key, record["signature"])
            and entry[0]["body"]["sender"] == record["by"]
        ]
        _need(found, f"the signing of slot {index}")
    return f"contract {package.subject.hex()} is {contract['status']} with {len(signatures)} signatures"


def _need(found: list, what: str) -> None:
    if not found:
        raise Refused("INCOMPLETE", f"{what} is missing")


def _contract_creation(package: Package, contract: dict) -> None:
    made = [e for e in package.operations("contract.create") if created(e[0]["id"], e[1]) == package.subject]
    _need(made, "the transaction that made the contract")
    if len(package.on_subject("contract.revise")) != contract["version"] - 1:
        raise Refused("INCOMPLETE", "a revision is missing")
    if contract["signing_at"] is not None:
        _need(package.on_subject("contract.submit"), "the submission")


def _contract_signatures(package: Package, contract: dict, slots: list) -> dict:
    begin = SIGNATURES + package.subject
    found = {}
    for key, value in package.state.items():
        if key.startswith(begin) and value is not None:
            found[key[len(begin)], key[len(begin) + 1 :]] = named(unpack(value), SIGNATURE)
    for index, slot in enumerate(slots):
        if sum(1 for at, _ in found if at == index) != slot["keys_signed"]:
            raise Refused("INCOMPLETE", f"a signature of slot {index} is missing")
    orders = [slots[at]["order"] for at, key in sorted(found, key=lambda place: found[place]["position"])]
    if orders != sorted(orders):
        raise Refused("SIGNATURE_INVALID", "a slot signed before its turn")
    for (index, key), record in found.items():
        _contract_signature(package, contract, index, slots[index]["account"], key, record)
    return found


def _contract_signature(
    package: Package, contract: dict, index: int, principal: bytes, key: bytes, record: dict
) -> None:
    what, used_at = f"the signature of slot {index}", record["signed_at"]
    text = [package.subject, record["version"], contract["terms_hash"], contract["document"]]
    message = pack(["otcnode/contract-signature/1", package.chain, *text, index, principal, record["entrustment"]])
    if record["version"] != contract["version"] or not signed(key, message, record["signature"]):
        raise Refused("SIGNATURE_INVALID", f"{what} is not of this text")
    history = package.get(KEYS + record["by"] + key, KEY, f"the history of the key of {what}")
    revoked = history["revoked_at"] is not None and history["revoked_at"] < used_at
    if history["purpose"] != "SIGN" or history["added_at"] > used_at or revoked:
        raise Refused("SIGNATURE_INVALID", f"{what}: the key could not sign then")
    if record["by"] != principal:
        package.mandate(what, principal, record["by"], record["entrustment"], "SIGN", used_at)


def _confirmation(package: Package, contract: dict, index: int, slot: dict) -> None:
    for transaction, _, operation in package.on_subject("contract.confirm"):
        by = transaction["body"]["sender"]
        if (operation[2], operation[3], by) != (index, contract["version"], slot["confirmed_by"]):
            continue
        if by != slot["account"]:
            name, used_at = transaction["body"]["entrustment"], transaction["header"]["time_ms"]
            package.mandate(f"the confirmation of slot {index}", slot["account"], by, name, "CONFIRM", used_at)
        return
    raise Refused("INCOMPLETE", f"the confirmation of slot {index} is missing")


def check_trade(package: Package) -> str:
    trade = package.get(TRADES + package.subject, TRADE, "the trade")
    kinds = ("trade.propose",) if trade["source"] is None else ("offer.take", "quote.respond")
    made = [e for kind in kinds for e in package.operations(kind) if created(e[0]["id"], e[1]) == package.subject]
    _need(made, "the transaction that made the trade")
    _mandate_of(package, made[0][0], "the proposal")
    receipts = [*package.automatic, *package.transactions]
    events = [event for receipt in receipts for event in receipt["events"]]
    if trade["executed_at"] is not None:
        if trade["source"] is None:
            affirmed = package.on_subject("trade.affirm")
            _need(affirmed, "the affirmation")
            _mandate_of(package, affirmed[0][0], "the affirmation")
        told = [named(event[1:], EXECUTED) for event in events if event[0] == "trade.executed"]
        told = [event for event in told if event.pop("trade") == package.subject]
        if not told or any(trade[field] != value for field, value in told[0].items()):
            raise Refused("INCOMPLETE", "the receipt that says that the trade was agreed is missing")
    if trade["status"] == "SETTLED":
        settled = [e for e in events if (e[0], e[1]) == ("trade.changed", package.subject) and e[4] == "SETTLED"]
        _need(settled, "the receipt of the settlement")
    return f"trade {package.subject.hex()} is {trade['status']}"


def _mandate_of(package: Package, transaction: dict, what: str) -> None:
    """A party of a trade acted itself, or its agent did under an entrustment that held."""
    body, principal = transaction["body"], transaction["body"]["on_behalf_of"]
    if principal is not None and principal != body["sender"]:
        used_at = transaction["header"]["time_ms"]
        package.mandate(what, principal, body["sender"], body["entrustment"], "TRADE", used_at)


def check_package(
    raw: bytes, chain: bytes, document: tuple[bytes, bytes] | None = None, expected: Expected = NOTHING_ASKED
) -> str:
    """What the package proves, in words, and of which moment: what came later is in no package. Raises Refused.
    `document` is (salt, content)."""
    try:
        package = Package(raw, chain)
        kind = package.fields["kind"]
        if kind not in ("contract", "trade"):
            raise Refused("PROOF_INVALID", f"a package of an unknown kind: {kind}")
        said = check_contract(package) if kind == "contract" else check_trade(package)
        for shown in (document, package.fields["document"]):
            if shown is not None:
                _check_document(package, *shown)
        height = package.last["height"]
        said = f"after block {height}, {_moment(package.last['time_ms'])}, {said}"
        return expected.compare(said, height, subject=package.subject)
    except Refused:
        raise
    except MALFORMED as error:
        raise Refused("PROOF_INVALID", f"malformed: {error!r}") from None


def _moment(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms // 1000, UTC).isoformat()


def _check_document(package: Package, salt: bytes, content: bytes) -> None:
    if package.fields["kind"] != "contract":
        raise Refused("DOC_HASH_MISMATCH", "a trade has no document; its contract has")
    contract = package.get(CONTRACTS + package.subject, CONTRACT, "the contract")
    if tagged("otcnode/document/1", salt + hashlib.sha256(content).digest()) != contract["document"]:
        raise Refused("DOC_HASH_MISMATCH", "the document is not the one that was signed")


# Answers of a node --------------------------------------------------------------------------------------------------


def result_of(text: bytes) -> dict:
    """The result of a JSON-RPC answer, or the object itself."""
    answer = json.loads(text)
    return answer.get("result", answer)


def chain_from(chain: bytes, params: dict, validators: dict) -> Chain:
    """The validator sets that `chain_params` and `validator_list` show, each proven."""
    trusted = Chain(chain, base64.b64decode(params["genesis"]))
    for epoch in validators["epochs"]:
        if epoch["header"] is not None:
            shown = [unpack(base64.b64decode(epoch[field])) for field in ("raw", *CERTIFIED.split())]
            trusted.extend(*shown)
    return trusted


def _header_of(trusted: Chain, proof: dict) -> dict:
    return trusted.header(*[unpack(base64.b64decode(proof[field])) for field in CERTIFIED.split()])


def check_state(trusted: Chain, proof: dict, expected: Expected = NOTHING_ASKED) -> str:
    header = _header_of(trusted, proof)
    key = base64.b64decode(proof["key"])
    value = None if proof["value"] is None else base64.b64decode(proof["value"])
    if not state_holds(header["state_root"], named(unpack(base64.b64decode(proof["proof"])), STATE_PROOF), key, value):
        raise Refused("PROOF_INVALID", "not under the header's state root")
    held = "nothing" if value is None else repr(unpack(value))
    said = f"after block {header['height']} the state holds under {key.hex()}: {held}"
    return expected.compare(said, header["height"], key=key, present=value is not None, absent=value is None)


def check_transaction(trusted: Chain, proof: dict, expected: Expected = NOTHING_ASKED) -> str:
    header = _header_of(trusted, proof)
    receipt, full_hash = base64.b64decode(proof["receipt"]), base64.b64decode(proof["full_hash"])
    outcome, place = _leaf(proof, ""), _leaf(proof, "transaction_")
    if path_root(receipt, outcome) != header["receipts_root"]:
        raise Refused("PROOF_INVALID", "the receipt is not under the header's receipts root")
    said = named(unpack(receipt), RECEIPT)
    name = said["transaction"]
    if len(name) != 32 or len(full_hash) != 32 or path_root(name + full_hash, place) != header["transactions_root"]:
        raise Refused("PROOF_INVALID", "the transaction is not under the header's transactions root")
    automatic = outcome["count"] - header["transaction_count"]
    if place["count"] != header["transaction_count"] or outcome["index"] - automatic != place["index"]:
        raise Refused("PROOF_INVALID", "transaction and receipt are not at the same place of the block")
    told = f"transaction {name.hex()} is in block {header['height']}: {said['code']}; full hash {full_hash.hex()}"
    return expected.compare(told, header["height"], id=name, full_hash=full_hash, succeeded=said["code"] == "OK")


def _leaf(proof: dict, prefix: str) -> dict:
    path = [base64.b64decode(entry) for entry in proof[prefix + "path"]]
    return {"index": proof[prefix + "index"], "count": proof[prefix + "count"], "path": path}


# Command line -------------------------------------------------------------------------------------------------------


def _hash(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise argparse.ArgumentTypeError("expected 64 hexadecimal digits")
    return raw


def _key(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise argparse.ArgumentTypeError("expected hexadecimal digits") from None


_CHARACTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def _id(text: str) -> bytes:
    """64 hexadecimal digits, or 32 bytes in Bech32m (BIP-350), as a node writes them."""
    if len(text) == 64:
        return _hash(text)
    head, _, body = text.rpartition("1")
    values = [_CHARACTERS.find(character) for character in body]
    spread = [*(ord(character) >> 5 for character in head), 0, *(ord(character) & 31 for character in head)]
    bits = "".join(f"{max(value, 0):05b}" for value in values[:-6])
    if -1 in values or len(bits) != 260 or "1" in bits[256:] or _checksum(spread + values) != 0x2BC830A3:
        raise argparse.ArgumentTypeError("no identifier: 64 hexadecimal digits, or one like tx1… without a mistype")
    return int(bits[:256], 2).to_bytes(32, "big")


def _checksum(values: list[int]) -> int:
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for place, part in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            checksum ^= part if top >> place & 1 else 0
    return checksum


MEANING = (
    "Exit code 0 says that what is printed is true, of whatever it is and of whatever height. The options that say "
    "what was asked for make a true proof of anything else UNEXPECTED, with exit code 1: a script needs them."
)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Check what an otcnode chain says, from its genesis hash alone.", epilog=MEANING
    )
    commands = parser.add_subparsers(dest="command", required=True)
    package = commands.add_parser("package", help="an evidence package of a contract or trade", epilog=MEANING)
    package.add_argument("file", type=Path)
    package.add_argument("--document", type=Path)
    package.add_argument("--salt", type=_hash)
    package.add_argument("--subject", type=_id, help="the contract or trade that was asked for: con1…, tra1…")
    state = commands.add_parser("state", help="a node's answer to state_proof", epilog=MEANING)
    state.add_argument("--key", type=_key, help="the key that was asked for, in hexadecimal, its table's byte first")
    held = state.add_mutually_exclusive_group()
    held.add_argument("--present", action="store_true", help="something has to be there")
    held.add_argument("--absent", action="store_true", help="nothing may be there")
    transaction = commands.add_parser("transaction", help="a node's answer to tx_proof", epilog=MEANING)
    transaction.add_argument("--id", type=_id, help="the transaction that was asked for: tx1…")
    transaction.add_argument("--full-hash", type=_hash, help="of its signed bytes, in hexadecimal")
    transaction.add_argument("--succeeded", action="store_true", help="its receipt has to say OK")
    for answer in (state, transaction):
        for option in ("params", "validators", "proof"):
            answer.add_argument(f"--{option}", type=Path, required=True)
    for command in commands.choices.values():
        command.add_argument("--chain", type=_hash, required=True, help="the genesis hash, in hexadecimal")
        command.add_argument("--min-height", type=int, help="the least height that it may be of")
    given = parser.parse_args(arguments)
    if given.command == "package" and (given.document is None) != (given.salt is None):
        parser.error("--document and --salt go together")
    try:
        print("OK", _run(given))
    except Refused as refused:
        print(refused.outcome, refused.detail)
        return 1
    except MALFORMED as error:
        print("PROOF_INVALID", f"malformed: {error!r}")
        return 1
    except OSError as error:
        print(f"cannot read {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    return 0


ASKED = {
    "package": ("subject", "min_height"),
    "state": ("key", "present", "absent", "min_height"),
    "transaction": ("id", "full_hash", "succeeded", "min_height"),
}


def _run(given: argparse.Namespace) -> str:
    expected = Expected(**{name: getattr(given, name) for name in ASKED[given.command]})
    if given.command == "package":
        document = None
        if given.document is not None:
            document = (given.salt, given.document.read_bytes())
        return check_package(given.file.read_bytes(), given.chain, document, expected)
    params, validators, proof = (
        result_of(getattr(given, name).read_bytes()) for name in ("params", "validators", "proof")
    )
    trusted = chain_from(given.chain, params, validators)
    check = check_state if given.command == "state" else check_transaction
    return check(trusted, proof, expected)


if __name__ == "__main__":
    sys.exit(main())

"""The layout of the state: one table of prefixes, and typed tables over them.

A key is one prefix byte and a suffix made of fixed-width parts: 32-byte ids as they are, integers big-endian, so that
a scan is in numeric order. A part of variable width (a cash id, a bank reference) comes last. Every family declares
its tables beside its records; the prefixes are all listed here so that no two can collide.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Generic, TypeVar

import msgspec

from otcnode.codec import Record

R = TypeVar("R")


class Prefix(Enum):
    """First byte of every key of a table. 0x0_ core, 0x1_ accounts, 0x2_ contracts and documents, 0x3_ products,
    0x4_ trades, 0x5_ governance, 0x6_ whatever of accounts and products found no room above."""

    COUNTERS = b"\x00"
    PARAMETERS = b"\x01"
    SEEN = b"\x02"
    DUE = b"\x03"
    DUE_BY_ITEM = b"\x04"
    DUE_BY_PRODUCT = b"\x05"
    PAUSE = b"\x06"
    VALIDATORS = b"\x07"
    VALIDATOR_SCHEDULE = b"\x08"

    ACCOUNT = b"\x10"
    KEY = b"\x11"
    CASH_ASSET = b"\x12"
    CASH_BALANCE = b"\x13"
    HOLDING = b"\x14"
    HOLDING_BY_ACCOUNT = b"\x15"
    LOT = b"\x16"
    LOCK = b"\x17"
    UNIT_TOTAL = b"\x18"
    FREEZE = b"\x19"
    BANK_REFERENCE = b"\x1a"
    WITHDRAWAL = b"\x1b"
    OPEN_ITEM = b"\x1c"
    ENTRUSTMENT = b"\x1d"
    RECOVERY = b"\x1e"
    ORGANISATION = b"\x1f"

    FREEZE_BY_ACCOUNT = b"\x60"
    ENTRUSTMENT_BY_ACCOUNT = b"\x61"
    ENTRUSTMENT_ACTIVE = b"\x62"
    RECOVERY_BY_ACCOUNT = b"\x63"
    WITHDRAWAL_BY_PARTY = b"\x64"
    REDEMPTION_BY_PARTY = b"\x65"
    KEY_LIVE = b"\x66"
    PRODUCT_RECORD = b"\x67"
    PRODUCT_RECORD_BY_ACCOUNT = b"\x68"

    CONTRACT = b"\x20"
    CONTRACT_TEXT = b"\x21"
    CONTRACT_SIGNATURE = b"\x22"
    CONTRACT_PARTY = b"\x23"
    CONTRACT_SUCCESSOR = b"\x24"
    CONTRACT_ACCESSION = b"\x25"
    CONTRACT_IN_FORCE = b"\x26"

    DOCUMENT = b"\x27"
    DOCUMENT_PARTY = b"\x28"
    DOCUMENT_SPACE = b"\x29"

    PRODUCT = b"\x30"
    PRODUCT_CODE = b"\x31"
    PRODUCT_TERMS = b"\x32"
    SUBSCRIPTION = b"\x33"
    SUBSCRIPTION_BY_ACCOUNT = b"\x34"
    SUBSCRIPTION_BY_CONTRACT = b"\x35"
    REDEMPTION = b"\x36"
    DISCLOSURE = b"\x37"
    SUBSCRIPTION_BY_PRODUCT = b"\x38"
    PRODUCT_BY_ISSUER = b"\x39"
    PRODUCT_BY_STATUS = b"\x3a"
    PRODUCT_PARTY = b"\x3b"
    PRODUCT_OVERDUE = b"\x3c"
    PRODUCT_WAITING = b"\x3d"
    REDEMPTION_BY_PRODUCT = b"\x3e"
    PRODUCT_HOLDERS = b"\x3f"

    TRADE = b"\x40"
    RFQ = b"\x41"
    QUOTE = b"\x42"
    QUOTE_BY_RFQ = b"\x43"
    OFFER = b"\x44"
    TURNAROUND = b"\x45"
    TRADE_BY_PRODUCT = b"\x46"
    TRADE_BY_ACCOUNT = b"\x47"
    TRADE_OPEN = b"\x48"

    PROPOSAL = b"\x50"
    ACCESS_LOG = b"\x51"
    ATTESTATION = b"\x52"
    CASH_TOTAL_AT = b"\x53"
    VALIDATOR_READY = b"\x54"
    GOVERNOR = b"\x55"
    PROPOSAL_BY_TIME = b"\x56"
    MISCONDUCT = b"\x57"
    MISCONDUCT_COUNT = b"\x58"


class Table(Generic[R]):
    """Records of one kind under one prefix."""

    __slots__ = ("decode", "kind", "name", "prefix")

    def __init__(self, prefix: Prefix, kind: type[R]) -> None:
        self.prefix = prefix.value
        self.name = prefix.name
        self.kind = kind
        decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(kind)
        self.decode = decoder.decode

    def __repr__(self) -> str:
        return f"Table({self.name})"


class Marker(Record, frozen=True):
    """The value of a key whose presence says everything."""


MARKER = Marker()
SINGLE = b""
"""The suffix of a table that holds one record."""


def integer(value: int) -> bytes:
    """An integer part of a key: 8 bytes, big-endian."""
    return value.to_bytes(8, "big")


OPEN_WITHDRAWAL = b"w"
OPEN_CONTRACT = b"c"
OPEN_SUBSCRIPTION = b"s"
OPEN_REDEMPTION = b"r"
OPEN_TRADE = b"t"
OPEN_RFQ = b"f"
OPEN_QUOTE = b"q"
OPEN_OFFER = b"o"
OPEN_ENTRUSTMENT = b"e"
OPEN_PROPOSAL = b"p"
OPEN_RECOVERY = b"v"
OPEN_PRODUCT = b"d"
"""Kind bytes of open items (Context.open_item)."""

"""Identifiers as people see them: Bech32m (BIP-350) of 32 bytes, with a prefix that says what is named."""

from __future__ import annotations

import base64
from enum import StrEnum
from functools import cache

from otcnode.errors import DecodeError

_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_CHARSET_INDEX = {character: value for value, character in enumerate(_CHARSET)}
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_BECH32M = 0x2BC830A3


def _feedback(top: int) -> int:
    value = 0
    for index, generator in enumerate(_GENERATOR):
        if (top >> index) & 1:
            value ^= generator
    return value


_FEEDBACK = tuple(_feedback(top) for top in range(32))
"""The checksum's feedback per value of its top five bits: an identifier is shown for every transaction submitted, and
a table makes that a matter of microseconds."""
_BASE32_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_FROM_BASE32 = bytes.maketrans(_BASE32_ALPHABET, bytes(range(32)))
_TO_BASE32 = bytes.maketrans(bytes(range(32)), _BASE32_ALPHABET)
_DATA_CHARACTERS = 52
"""⌈256 / 5⌉: the last character carries one bit of data and four of padding, which must be zero."""


class Prefix(StrEnum):
    """What an identifier names."""

    ACCOUNT = "acc"
    CONTRACT = "con"
    PRODUCT = "pro"
    SUBSCRIPTION = "sub"
    RFQ = "rfq"
    QUOTE = "quo"
    OFFER = "off"
    TRADE = "tra"
    REDEMPTION = "red"
    WITHDRAWAL = "wit"
    ENTRUSTMENT = "ent"
    GOVERNANCE = "gov"
    LOCK = "loc"
    TRANSACTION = "tx"
    BLOCK = "blk"
    NODE = "node"


def show(prefix: Prefix, raw: bytes) -> str:
    """The text form of a 32-byte identifier."""
    assert len(raw) == 32
    data = base64.b32encode(raw)[:_DATA_CHARACTERS].translate(_FROM_BASE32)
    check = _polymod(data + bytes(6), _head_check(prefix.value)) ^ _BECH32M
    tail = [(check >> 5 * (5 - index)) & 31 for index in range(6)]
    return prefix.value + "1" + "".join([_CHARSET[value] for value in [*data, *tail]])


def parse(prefix: Prefix, text: str) -> bytes:
    """The 32 bytes of a text form. Raises DecodeError on another prefix, a wrong checksum or a wrong length."""
    head, separator, body = text.rpartition("1")
    if not separator or head != prefix.value:
        raise DecodeError(f"expected an identifier that begins with {prefix.value}1")
    try:
        data = bytes([_CHARSET_INDEX[character] for character in body])
    except KeyError:
        raise DecodeError(f"{text!r} has a character that identifiers never contain") from None
    if len(data) < 6 or _polymod(data, _head_check(head)) != _BECH32M:
        raise DecodeError(f"the checksum of {text!r} is wrong: a character was mistyped")
    data = data[:-6]
    if len(data) != _DATA_CHARACTERS or data[-1] & 15:
        raise DecodeError(f"{text!r} does not hold 32 bytes")
    return base64.b32decode(data.translate(_TO_BASE32) + b"====")


@cache
def _head_check(head: str) -> int:
    """The checksum's state after the prefix, which is the same for every identifier of one kind."""
    codes = head.encode()
    return _polymod(bytes([code >> 5 for code in codes] + [0] + [code & 31 for code in codes]), 1)


def _polymod(values: bytes, check: int) -> int:
    for value in values:
        check = ((check & 0x1FFFFFF) << 5) ^ value ^ _FEEDBACK[check >> 25]
    return check

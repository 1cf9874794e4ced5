"""Identifiers as people see them: Bech32m (BIP-350) of 32 bytes, with a prefix that says what is named."""

from __future__ import annotations

import base64
from enum import StrEnum
from functools import cache

from otcnode.errors import DecodeError

_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_BECH32M = 0x2BC830A3


def _feedback(top: int) -> int:
    value = 0
    for index, generator in enumerate(_GENERATOR):
        if (top >> index) & 1:
            value ^= generator
    return value


_FEEDBACK = tuple(_feedback(top) for top in range(32))
"""The checksum's feedback per value of its top five bits."""
_BASE32 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_FROM_BASE32 = bytes.maketrans(_BASE32, _CHARSET.encode())
_TO_BASE32 = bytes([_BASE32[_CHARSET.index(chr(code))] if chr(code) in _CHARSET else 0 for code in range(256)])
_DATA_CHARACTERS = 52
"""⌈256 / 5⌉: the last character carries one bit of data and four of padding, which must be zero."""
_UNPADDED = b"AQ"
"""The two last characters in which it is."""


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
    return f"{prefix.value}1{base64.b32encode(raw)[:_DATA_CHARACTERS].translate(_FROM_BASE32).decode()}" + _checksum(
        prefix, raw
    )


def parse(prefix: Prefix, text: str) -> bytes:
    """The 32 bytes of a text form. Raises DecodeError on another prefix, a wrong checksum or a wrong length."""
    head, separator, body = text.rpartition("1")
    if not separator or head != prefix.value:
        raise DecodeError(f"expected an identifier that begins with {prefix.value}1")
    data = body.encode("ascii", "replace").translate(_TO_BASE32)
    if 0 in data:
        raise DecodeError(f"{text!r} has a character that identifiers never contain")
    if len(data) != _DATA_CHARACTERS + 6 or data[_DATA_CHARACTERS - 1] not in _UNPADDED:
        raise DecodeError(f"{text!r} does not hold 32 bytes")
    raw = base64.b32decode(data[:_DATA_CHARACTERS] + b"====")
    if body[_DATA_CHARACTERS:] != _checksum(prefix, raw):
        raise DecodeError(f"the checksum of {text!r} is wrong: a character was mistyped")
    return raw


def _checksum(prefix: Prefix, raw: bytes) -> str:
    """The six characters that BIP-350 asks for. The code is linear, so they are those of the prefix alone changed by
    what each byte adds."""
    check = _empty_check(prefix)
    for additions, byte in zip(_ADDITIONS, raw, strict=True):
        check ^= additions[byte]
    return "".join([_CHARSET[(check >> shift) & 31] for shift in (25, 20, 15, 10, 5, 0)])


@cache
def _empty_check(prefix: Prefix) -> int:
    return _polymod(bytes(_DATA_CHARACTERS + 6), _head_check(prefix.value)) ^ _BECH32M


@cache
def _head_check(head: str) -> int:
    """The checksum's state after the prefix, which is the same for every identifier of one kind."""
    codes = head.encode()
    return _polymod(bytes([code >> 5 for code in codes] + [0] + [code & 31 for code in codes]), 1)


def _polymod(values: bytes, check: int) -> int:
    for value in values:
        check = ((check & 0x1FFFFFF) << 5) ^ value ^ _FEEDBACK[check >> 25]
    return check


def _additions(position: int) -> tuple[int, ...]:
    """What each value of the byte at `position` adds to the checksum."""
    additions = [0]
    for bit in range(8):
        raw = (1 << (8 * (31 - position) + bit)).to_bytes(32, "big")
        symbols = base64.b32encode(raw)[:_DATA_CHARACTERS].translate(bytes.maketrans(_BASE32, bytes(range(32))))
        own = _polymod(symbols + bytes(6), 0)
        additions += [own ^ other for other in additions]
    return tuple(additions)


_ADDITIONS = tuple([_additions(position) for position in range(32)])

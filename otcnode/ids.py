"""Identifiers as people see them: Bech32m (BIP-350) of 32 bytes, with a prefix that says what is named."""

from __future__ import annotations

from enum import StrEnum

from otcnode.errors import DecodeError

_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_CHARSET_INDEX = {character: value for value, character in enumerate(_CHARSET)}
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_BECH32M = 0x2BC830A3


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
    data = _regroup(raw, 8, 5, pad=True)
    assert data is not None
    values = [*_expand(prefix.value), *data]
    checksum = _polymod([*values, 0, 0, 0, 0, 0, 0]) ^ _BECH32M
    tail = [(checksum >> 5 * (5 - index)) & 31 for index in range(6)]
    return prefix.value + "1" + "".join(_CHARSET[value] for value in [*data, *tail])


def parse(prefix: Prefix, text: str) -> bytes:
    """The 32 bytes of a text form. Raises DecodeError on another prefix, a wrong checksum or a wrong length."""
    head, separator, body = text.rpartition("1")
    if not separator or head != prefix.value:
        raise DecodeError(f"expected an identifier that begins with {prefix.value}1")
    try:
        data = [_CHARSET_INDEX[character] for character in body]
    except KeyError:
        raise DecodeError(f"{text!r} has a character that identifiers never contain") from None
    if len(data) < 6 or _polymod([*_expand(head), *data]) != _BECH32M:
        raise DecodeError(f"the checksum of {text!r} is wrong: a character was mistyped")
    raw = _regroup(bytes(data[:-6]), 5, 8, pad=False)
    if raw is None or len(raw) != 32:
        raise DecodeError(f"{text!r} does not hold 32 bytes")
    return bytes(raw)


def _expand(head: str) -> list[int]:
    codes = head.encode()
    return [code >> 5 for code in codes] + [0] + [code & 31 for code in codes]


def _polymod(values: list[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for index, generator in enumerate(_GENERATOR):
            if (top >> index) & 1:
                check ^= generator
    return check


def _regroup(data: bytes, width_from: int, width_to: int, *, pad: bool) -> list[int] | None:
    accumulator = bits = 0
    result = []
    for value in data:
        accumulator = (accumulator << width_from) | value
        bits += width_from
        while bits >= width_to:
            bits -= width_to
            result.append((accumulator >> bits) & ((1 << width_to) - 1))
    remainder = accumulator & ((1 << bits) - 1)
    if pad and bits:
        result.append(remainder << (width_to - bits))
    elif not pad and (bits >= width_from or remainder):
        return None
    return result

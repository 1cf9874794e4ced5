"""Canonical MessagePack: one value has one encoding, on the wire, on disk and under every hash.

Structs are encoded as arrays in field order (absent optionals as nil), integers in their shortest form, maps with
sorted keys; floats do not occur. `decode` refuses bytes that are not exactly what `encode` would produce, so two
nodes can never hold different bytes for one value.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from otcnode.errors import DecodeError

T = TypeVar("T")


class Record(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Base of everything that is hashed, signed, stored or sent: a frozen value, encoded as an array.

    Only trees of such values, bytes, strings, integers, booleans, tuples and None may be fields (`gc=False` is
    safe because frozen trees cannot form cycles).
    """


_encoder = msgspec.msgpack.Encoder(order="deterministic")


@lru_cache(maxsize=None)
def _decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(kind)


def encode(value: object) -> bytes:
    """The canonical bytes of `value`."""
    return _encoder.encode(value)


def decode(kind: type[T], raw: bytes) -> T:
    """The value whose canonical encoding is `raw`.

    Raises DecodeError if `raw` does not parse as `kind`, has bytes left over, or is not canonical.
    """
    try:
        value: T = _decoder(kind).decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"not a {getattr(kind, '__name__', kind)}: {error}") from None
    if _encoder.encode(value) != raw:
        raise DecodeError(f"not the canonical encoding of a {getattr(kind, '__name__', kind)}")
    return value

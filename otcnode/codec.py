"""Canonical MessagePack: one value has one encoding, on the wire, on disk and under every hash.

Structs are encoded as arrays in field order (absent optionals as nil), integers in their shortest form, maps with
sorted keys; floats do not occur. `decode` refuses bytes that are not exactly what `encode` would produce, so two
nodes can never hold different bytes for one value.
"""

from __future__ import annotations

from functools import cache
from threading import Lock
from typing import Any, TypeVar, overload

import msgspec

from otcnode.errors import DecodeError

T = TypeVar("T")


class Record(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Base of everything that is hashed, signed, stored or sent: a frozen value, encoded as an array.

    Only trees of such values, bytes, strings, integers, booleans, tuples and None may be fields (`gc=False` is
    safe because frozen trees cannot form cycles).
    """


_encoder = msgspec.msgpack.Encoder(order="deterministic")


types_lock = Lock()
"""Held while msgspec meets a type for the first time: two threads that describe the same struct at once crash the
process. A decoder that exists is safe in any thread."""


@cache
def _decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    with types_lock:
        return msgspec.msgpack.Decoder(kind)


encode = _encoder.encode
"""The canonical bytes of a value."""


@overload
def decode(kind: type[T], raw: bytes) -> T: ...
@overload
def decode(kind: Any, raw: bytes) -> Any: ...
def decode(kind: Any, raw: bytes) -> Any:
    """The value whose canonical encoding is `raw`; `kind` is a Record, a builtin type or a union of tagged Records.

    Raises DecodeError if `raw` does not parse as `kind`, has bytes left over, or is not canonical.
    """
    try:
        value = _decoder(kind).decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"not a {_name(kind)}: {error}") from None
    if _encoder.encode(value) != raw:
        raise DecodeError(f"not the canonical encoding of a {_name(kind)}")
    return value


def _name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else "message of any kind known here"

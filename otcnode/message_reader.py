"""Messages of a channel, each of one kind: its tag says how large it may be, before anything of it is decoded.

A channel's bound alone would let a vote be as large as a block: decoding and encoding it again costs far more than what
is said with it. An honest node sends none of its kind that is larger.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar, get_args

from otcnode import limits
from otcnode.codec import Record, decode
from otcnode.errors import DecodeError

T = TypeVar("T")

SMALL_BYTES = 512
"""A message without anything of variable length in it, signature included; also what stands around the rest."""
_FIXARRAY, _FIXSTR = range(0x90, 0xA0), range(0xA0, 0xC0)


class MessageReader(Generic[T]):
    """Reads the kinds of one union of tagged Records."""

    def __init__(self, union: Any, bytes_max: Mapping[type[Record], int]) -> None:
        """`bytes_max`: the largest encoding of each kind; none may be forgotten."""
        kinds = set(get_args(union))
        assert kinds == set(bytes_max), f"not in both: {kinds ^ set(bytes_max)}"
        assert all(SMALL_BYTES <= size <= limits.message_bytes_max for size in bytes_max.values())
        self._union = union
        self.bytes_max: Mapping[bytes, int] = {_tag(kind): size for kind, size in bytes_max.items()}
        """By tag."""

    def read(self, raw: bytes) -> T:
        """Raises DecodeError unless it is the canonical encoding of one of these kinds, and not too large for it."""
        if len(raw) < 2 or raw[0] not in _FIXARRAY or raw[1] not in _FIXSTR:
            raise DecodeError("not a message of any kind known here")
        tag = raw[2 : 2 + raw[1] - _FIXSTR.start]
        most = self.bytes_max.get(tag)
        if most is None:
            raise DecodeError("not a message of any kind known here")
        if len(raw) > most:
            raise DecodeError(f"a {tag.decode()} message of {len(raw)} bytes, the largest of its kind has {most}")
        message: T = decode(self._union, raw)
        return message


def _tag(kind: type[Record]) -> bytes:
    tag = kind.__struct_config__.tag
    assert isinstance(tag, str) and len(tag) < len(_FIXSTR) and len(kind.__struct_fields__) + 1 < len(_FIXARRAY)
    return tag.encode()

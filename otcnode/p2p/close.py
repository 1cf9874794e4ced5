"""Why a connection ends. The code travels in the last frame, so both sides can tell their operators the same story."""

from __future__ import annotations

from enum import IntEnum

from otcnode.codec import Record
from otcnode.errors import OtcnodeError


class CloseCode(IntEnum):
    """One byte on the wire; a number is never given a second meaning."""

    STOPPING = 0
    NETWORK = 1
    VERSION = 2
    HANDSHAKE = 3
    IDENTITY = 4
    NOT_ADMITTED = 5
    DUPLICATE = 6
    REPLACED = 7
    BANNED = 8
    MALFORMED = 9
    TOO_LARGE = 10
    FLOOD = 11
    SLOW = 12
    SILENT = 13
    PENALTY = 14
    BUSY = 15
    ASKED = 16
    LOST = 17
    """TCP ended without a word; never sent."""


PUNISHED = frozenset({CloseCode.MALFORMED, CloseCode.TOO_LARGE, CloseCode.FLOOD, CloseCode.SLOW, CloseCode.PENALTY})
"""What an honest node never does to an authenticated peer: finding it earns a timed ban."""


SOMEBODY_ELSE = frozenset({CloseCode.NETWORK, CloseCode.HANDSHAKE, CloseCode.IDENTITY})
"""What shows a dialler that whoever answers is not the node it looks for. A node of another version may be it."""


class Reason(Record, frozen=True):
    """`by_peer`: the other side closed and said why; otherwise this node decided."""

    code: CloseCode
    detail: str
    by_peer: bool = False

    def __str__(self) -> str:
        who = "peer closed" if self.by_peer else "closed"
        return f"{who}: {self.code.name.lower().replace('_', ' ')}" + (f": {self.detail}" if self.detail else "")


class PeerError(OtcnodeError):
    """A peer broke the protocol or may not talk to this node; its connection is closed with `code`."""

    def __init__(self, code: CloseCode, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail

    @property
    def reason(self) -> Reason:
        return Reason(self.code, self.detail)

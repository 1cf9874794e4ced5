"""The voting record's file: an append-only log of opaque entries, durable before anything that depends on it leaves.

What is appended between two syncs is written as one frame with one checksum. The writer never begins a frame before
the last one is durable, so after a crash at most the last frame can be incomplete: that one is cut off, nothing that
left depends on it. Anything else that does not check is damage, and the record is not to be used.

The checksum is keyed with a salt chosen at birth and with the frame's place in the file: bytes that somebody sends
to be stored here can never look like a frame. The file itself is in votes_file.py; this module imports no disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from otcnode.codec import decode, encode
from otcnode.errors import DecodeError

MAGIC = b"OTCVOTE1"
SALT_BYTES = 16
CHECK_BYTES = 16
LENGTH_BYTES = 4
HEADER_BYTES = len(MAGIC) + SALT_BYTES + CHECK_BYTES
FRAME_START = b"\xf7VF\x1a"
"""Marks a frame, so that later frames can be looked for after one that does not check."""
FRAME_HEADER_BYTES = len(FRAME_START) + LENGTH_BYTES + CHECK_BYTES


class VotesLog(Protocol):
    """The record of one signing key. It is born once, with the key (`create` of the class that implements this)."""

    def load(self) -> tuple[bytes, ...] | None:
        """All durable entries in order; an incomplete last frame is cut off. None if the record is missing or
        damaged: then nothing may be appended before `replace` begins a new one."""
        ...

    def append(self, entries: Sequence[bytes]) -> None:
        """Add entries; they are durable, all or none of them, only after `sync`."""
        ...

    def sync(self) -> None:
        """Make what was appended durable. Raises StorageDamage if the disk refuses; the log is then unusable."""
        ...

    def replace(self, entries: Sequence[bytes]) -> None:
        """Atomically and durably make `entries` the whole record, whatever was there; unsynced ones are forgotten."""
        ...

    def close(self) -> None: ...


class Parsed(NamedTuple):
    """The intact entries of a log and where its intact part ends."""

    salt: bytes
    entries: tuple[bytes, ...]
    length: int


def header(salt: bytes) -> bytes:
    assert len(salt) == SALT_BYTES
    return MAGIC + salt + _check(salt, 0, MAGIC)


def frame(salt: bytes, offset: int, entries: Sequence[bytes]) -> bytes:
    """`entries` as they are written at `offset` of the file with this salt."""
    payload = encode(list(entries))
    length = len(payload).to_bytes(LENGTH_BYTES, "big")
    return FRAME_START + length + _check(salt, offset, payload) + payload


def parse(raw: bytes) -> Parsed | None:
    """The intact part of a log, or None if it is damaged: its header, or a frame that is not the last."""
    salt = raw[len(MAGIC) : len(MAGIC) + SALT_BYTES]
    if len(raw) < HEADER_BYTES or raw[:HEADER_BYTES] != header(salt):
        return None
    entries: list[bytes] = []
    offset = HEADER_BYTES
    while offset < len(raw):
        payload = _payload_at(raw, salt, offset)
        if payload is None:
            return None if _frame_after(raw, salt, offset) else Parsed(salt, tuple(entries), offset)
        try:
            entries += decode(tuple[bytes, ...], payload)
        except DecodeError:
            return None
        offset += FRAME_HEADER_BYTES + len(payload)
    return Parsed(salt, tuple(entries), offset)


def _check(salt: bytes, offset: int, payload: bytes) -> bytes:
    return hashlib.sha256(salt + offset.to_bytes(8, "big") + payload).digest()[:CHECK_BYTES]


def _payload_at(raw: bytes, salt: bytes, offset: int) -> bytes | None:
    """The payload of the frame at `offset`, None if there is no whole, intact frame."""
    start = offset + FRAME_HEADER_BYTES
    if not raw.startswith(FRAME_START, offset) or len(raw) < start:
        return None
    length_start = offset + len(FRAME_START)
    length = int.from_bytes(raw[length_start : length_start + LENGTH_BYTES], "big")
    payload = raw[start : start + length]
    if len(payload) < length or raw[start - CHECK_BYTES : start] != _check(salt, offset, payload):
        return None
    return payload


def _frame_after(raw: bytes, salt: bytes, offset: int) -> bool:
    """Whether an intact frame begins anywhere behind `offset`."""
    position = raw.find(FRAME_START, offset + 1)
    while position >= 0:
        if _payload_at(raw, salt, position) is not None:
            return True
        position = raw.find(FRAME_START, position + 1)
    return False


class MemoryVotesLog:
    """A VotesLog with the crash behaviour of a file, for virtual time: `crash` loses or tears what was not synced."""

    def __init__(self, *, born: bool = True) -> None:
        """`born`: an intact empty record exists, as after the creation of the key."""
        self._salt = bytes(SALT_BYTES)
        self._durable = header(self._salt) if born else b""
        self._pending: list[bytes] = []
        self._usable = born

    def load(self) -> tuple[bytes, ...] | None:
        self._pending = []
        parsed = parse(self._durable)
        self._usable = parsed is not None
        if parsed is None:
            return None
        self._durable = self._durable[: parsed.length]
        return parsed.entries

    def append(self, entries: Sequence[bytes]) -> None:
        assert self._usable, "the record is missing or damaged"
        self._pending += entries

    def sync(self) -> None:
        if self._pending:
            self._durable += frame(self._salt, len(self._durable), self._pending)
            self._pending = []

    def replace(self, entries: Sequence[bytes]) -> None:
        start = header(self._salt)
        self._durable = start + (frame(self._salt, len(start), entries) if entries else b"")
        self._pending = []
        self._usable = True

    def close(self) -> None:
        self._pending = []

    def crash(self, torn_bytes: int = 0) -> None:
        """Stop at this instant: of the frame that `sync` would have written, its first `torn_bytes` bytes remain."""
        torn = frame(self._salt, len(self._durable), self._pending) if self._pending else b""
        self._durable += torn[:torn_bytes]
        self._pending = []
        self._usable = False

    def damage(self, offset: int, mask: int) -> None:
        """Change one byte that was written."""
        assert 0 <= offset < len(self._durable)
        raw = bytearray(self._durable)
        raw[offset] ^= mask
        self._durable = bytes(raw)

    @property
    def length(self) -> int:
        """How many bytes are durable."""
        return len(self._durable)

    @property
    def is_intact(self) -> bool:
        """Whether `load` would find a record."""
        return parse(self._durable) is not None

    def lose(self) -> None:
        """Remove the record, as a lost file."""
        self._durable = b""
        self._pending = []
        self._usable = False

"""The voting record's file: an append-only log of opaque entries, durable before anything that depends on it leaves.

What is appended between two syncs is written as one frame with one checksum. The writer never begins a frame before
the last one is durable, so after a crash at most the last frame can be incomplete: that one is cut off, nothing that
left depends on it. Anything else that does not check is damage, and the record is not to be used.

A frame that is there in its whole length and does not check may be either, and the difference matters: what left must
not be forgotten, for its author would say something else; a record that is not used only makes its key silent for a
while. So a frame passes for torn only where it shows that some of it was never written: it ends too early, or a sector
of it reads as zeros, which is what a file system gives for what it made room for and did not write. (A process that is
killed leaves a frame that ends too early.) A frame that was written has no such sector, whatever is stored in it: a
byte that is not zero stands at its beginning, at its end, and ahead of every 511 bytes between them. Its head has a
checksum of its own, so that a wrong length never passes for an early end. What was durable before the file had its name
(after a birth and each replacement, which the file's own head tells) cannot be torn at all.

The checksums are keyed with a salt chosen at birth and with the frame's place in the file: bytes that somebody sends
to be stored here can never look like a frame. The file itself is in votes_file.py; this module imports no disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from otcnode.codec import decode, encode
from otcnode.errors import DecodeError

NAME = b"OTCVOTE"
"""What a record begins with, whatever otcnode has written it; the digit of its version follows."""
VERSION = 3
MAGIC = NAME + b"%d" % VERSION
SALT_BYTES = 16
CHECK_BYTES = 16
LENGTH_BYTES = 4
PLACE_BYTES = 8
HEADER_BYTES = len(MAGIC) + SALT_BYTES + PLACE_BYTES + CHECK_BYTES
FRAME_START = b"\xf7VF\x1a"
"""Marks a frame, so that later frames can be looked for after one that does not check."""
FILLER = b"\x69"
"""Stands where a sector could otherwise be all zeros. No flipped bit makes it zero, nor the edges of a frame."""
FRAME_END = b"\xa5"
FRAME_HEADER_BYTES = len(FRAME_START) + LENGTH_BYTES + 2 * CHECK_BYTES
FRAME_BYTES_MIN = FRAME_HEADER_BYTES + len(FRAME_END)
SECTOR_BYTES = 512
"""The least that a disk writes at a time, wholly or not at all; larger ones are multiples of it."""
_FILLED_BYTES = SECTOR_BYTES - len(FILLER)


class VotesLog(Protocol):
    """The record of one signing key. It is born once, with the key (`create` of the class that implements this)."""

    def load(self) -> tuple[bytes, ...] | None:
        """All entries in order, durable from now on whatever they were before; an incomplete last frame is cut off.
        None if the record is missing or damaged: then nothing may be appended before `replace` begins a new one.
        Raises StorageDamage if the disk refuses."""
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


def whole(salt: bytes, entries: Sequence[bytes]) -> bytes:
    """A log of `entries` that is made durable before it gets its name."""
    first = frame(salt, HEADER_BYTES, entries) if entries else b""
    return _header(salt, HEADER_BYTES + len(first)) + first


def _header(salt: bytes, durable_bytes: int) -> bytes:
    assert len(salt) == SALT_BYTES
    start = MAGIC + salt + durable_bytes.to_bytes(PLACE_BYTES, "big")
    return start + _check(salt, 0, start)


def frame(salt: bytes, offset: int, entries: Sequence[bytes]) -> bytes:
    """`entries` as they are written at `offset` of the file with this salt."""
    payload = _filled(encode(list(entries)))
    head = FRAME_START + len(payload).to_bytes(LENGTH_BYTES, "big") + _check(salt, offset, payload)
    return head + _check(salt, offset, head) + payload + FRAME_END


def _filled(plain: bytes) -> bytes:
    """With FILLER ahead of every 511 bytes: no 512 in a row are zeros."""
    return b"".join(FILLER + plain[place : place + _FILLED_BYTES] for place in range(0, len(plain), _FILLED_BYTES))


def _plain(filled: bytes) -> bytes:
    return b"".join(filled[place + 1 : place + SECTOR_BYTES] for place in range(0, len(filled), SECTOR_BYTES))


def parse(raw: bytes) -> Parsed | None:
    """The intact part of a log, or None if it is damaged: its head, what was durable at its birth, or a frame that was
    not torn."""
    salt = raw[len(MAGIC) : len(MAGIC) + SALT_BYTES]
    place = len(MAGIC) + SALT_BYTES
    durable_bytes = int.from_bytes(raw[place : place + PLACE_BYTES], "big")
    if len(raw) < HEADER_BYTES or raw[:HEADER_BYTES] != _header(salt, durable_bytes):
        return None
    entries: list[bytes] = []
    offset = HEADER_BYTES
    while offset < max(len(raw), durable_bytes):
        payload = _payload_at(raw, salt, offset)
        if payload is None:
            torn = offset >= durable_bytes and _is_torn(raw, salt, offset) and not _frame_after(raw, salt, offset)
            return Parsed(salt, tuple(entries), offset) if torn else None
        try:
            entries += decode(tuple[bytes, ...], _plain(payload))
        except DecodeError:
            return None
        offset += FRAME_BYTES_MIN + len(payload)
    return Parsed(salt, tuple(entries), offset)


def version_of(raw: bytes) -> int | None:
    """The version in whose form a record was written; None if its head does not check in any. The checksum of a head
    covered only the name in the first version, and all that is before it in every later one."""
    digit, salt = raw[len(NAME) : len(MAGIC)], raw[len(MAGIC) : len(MAGIC) + SALT_BYTES]
    if not (raw.startswith(NAME) and digit.isdigit()):
        return None
    ends = (len(MAGIC) + SALT_BYTES, HEADER_BYTES - CHECK_BYTES)
    covered = (raw[: len(MAGIC)], raw[: ends[1]])
    checks = any(raw[end : end + CHECK_BYTES] == _check(salt, 0, part) for end, part in zip(ends, covered, strict=True))
    return int(digit) if checks else None


def _check(salt: bytes, offset: int, payload: bytes) -> bytes:
    return hashlib.sha256(salt + offset.to_bytes(PLACE_BYTES, "big") + payload).digest()[:CHECK_BYTES]


def _frame_bytes_at(raw: bytes, salt: bytes, offset: int) -> int | None:
    """The length of the frame at `offset` by its head, None if there is no whole, intact one."""
    head = raw[offset : offset + FRAME_HEADER_BYTES]
    if len(head) < FRAME_HEADER_BYTES or not head.startswith(FRAME_START):
        return None
    if head[-CHECK_BYTES:] != _check(salt, offset, head[:-CHECK_BYTES]):
        return None
    return FRAME_BYTES_MIN + int.from_bytes(head[len(FRAME_START) : len(FRAME_START) + LENGTH_BYTES], "big")


def _payload_at(raw: bytes, salt: bytes, offset: int) -> bytes | None:
    """The payload, with its filling, of the frame at `offset`, None if there is no whole, intact frame."""
    frame_bytes = _frame_bytes_at(raw, salt, offset)
    if frame_bytes is None or len(raw) < offset + frame_bytes:
        return None
    start, end = offset + FRAME_HEADER_BYTES, offset + frame_bytes
    payload = raw[start : end - len(FRAME_END)]
    check = raw[start - 2 * CHECK_BYTES : start - CHECK_BYTES]
    return payload if check == _check(salt, offset, payload) and raw[end - len(FRAME_END) : end] == FRAME_END else None


def _is_torn(raw: bytes, salt: bytes, offset: int) -> bool:
    """Whether what is at `offset`, to the end of the file, shows that it was never written whole."""
    if len(raw) - offset < FRAME_BYTES_MIN:
        return True
    frame_bytes = _frame_bytes_at(raw, salt, offset)
    if frame_bytes is None:
        return any(_unwritten(raw, offset, min(offset + FRAME_HEADER_BYTES, len(raw))))
    end = offset + frame_bytes
    return len(raw) < end or (len(raw) == end and any(_unwritten(raw, offset, end)))


def _unwritten(raw: bytes, offset: int, end: int) -> Iterator[bool]:
    """Of each sector that bytes from `offset` to `end` lie in: whether all that is in it from `offset` on is zeros."""
    for sector in range(offset // SECTOR_BYTES, (end - 1) // SECTOR_BYTES + 1):
        yield not any(raw[max(offset, sector * SECTOR_BYTES) : (sector + 1) * SECTOR_BYTES])


def _frame_after(raw: bytes, salt: bytes, offset: int) -> bool:
    """Whether an intact frame begins anywhere behind `offset`."""
    position = raw.find(FRAME_START, offset + 1)
    while position >= 0:
        if _payload_at(raw, salt, position) is not None:
            return True
        position = raw.find(FRAME_START, position + 1)
    return False


class MemoryVotesLog:
    """A VotesLog with the crash behaviour of a file, for virtual time: what a process that is killed has written, and
    not synced, is there to be read until the power goes (`crash`)."""

    def __init__(self, *, born: bool = True) -> None:
        """`born`: an intact empty record exists, as after the creation of the key."""
        self._salt = bytes(SALT_BYTES)
        self._contents = whole(self._salt, ()) if born else b""
        """What whoever opens the file reads."""
        self._durable_bytes = len(self._contents)
        self._pending: list[bytes] = []
        self._usable = born

    def load(self) -> tuple[bytes, ...] | None:
        entries = self.entries()
        if entries is None:
            self._pending = []
            self._usable = False
        else:
            self.replace(entries)
        return entries

    def entries(self) -> tuple[bytes, ...] | None:
        """What `load` would find; nothing changes."""
        parsed = parse(self._contents)
        return None if parsed is None else parsed.entries

    def append(self, entries: Sequence[bytes]) -> None:
        assert self._usable, "the record is missing or damaged"
        self._pending += entries

    def sync(self) -> None:
        if self._pending:
            self._contents += frame(self._salt, len(self._contents), self._pending)
            self._durable_bytes = len(self._contents)
            self._pending = []

    def replace(self, entries: Sequence[bytes]) -> None:
        self._contents = whole(self._salt, entries)
        self._durable_bytes = len(self._contents)
        self._pending = []
        self._usable = True

    def close(self) -> None:
        self._pending = []

    def crash(self, torn_bytes: int = 0, *, power: bool = False) -> None:
        """Stop at this instant: of the frame that `sync` would have written, its first `torn_bytes` bytes remain, and
        are durable at the next `load` or `replace`, not before.
        `power`: as after a loss of power under a file system that notes a file's length before its contents: what was
        not durable is gone, and then the frame is there in its whole length, and of the sectors that it lies in those
        behind `torn_bytes` are zeros.
        """
        if power:
            self._contents = self._contents[: self._durable_bytes]
        start = len(self._contents)
        torn = frame(self._salt, start, self._pending) if self._pending else b""
        left = torn[:torn_bytes]
        if power and len(left) < len(torn):
            written = max(start, (start + torn_bytes) // SECTOR_BYTES * SECTOR_BYTES) - start
            left = torn[:written] + bytes(len(torn) - written)
        self._contents += left
        if power:
            self._durable_bytes = len(self._contents)
        self._pending = []
        self._usable = False

    def damage(self, offset: int, mask: int) -> None:
        """Change one byte that was written."""
        assert 0 <= offset < len(self._contents)
        raw = bytearray(self._contents)
        raw[offset] ^= mask
        self._contents = bytes(raw)

    @property
    def length(self) -> int:
        """How many bytes there are to be read."""
        return len(self._contents)

    @property
    def is_durable(self) -> bool:
        """Whether a loss of power would leave all of it."""
        return self._durable_bytes == len(self._contents)

    @property
    def intact_bytes(self) -> int:
        """How many of them `load` would use."""
        parsed = parse(self._contents)
        return 0 if parsed is None else parsed.length

    def lose(self) -> None:
        """Remove the record, as a lost file."""
        self._contents = b""
        self._durable_bytes = 0
        self._pending = []
        self._usable = False

"""Where a log of LevelDB ends in an append that a loss of power interrupted.

A file system may note the new length of a file before its contents: what was appended last is there in its length then,
and reads as zeros from some sector on. LevelDB calls that a wrong checksum, as it does a flipped bit. The two are told
apart here, for the one is no damage: every write is synced before the next one begins, and is taken for written only
then, so an append that is not there in full is the last one, and nothing depends on it. A write that was synced is
there in full, wherever the power went: whatever is wrong with it, or with anything that something follows, is damage.

The format: blocks of 32 KiB of records (checksum, length, type, data), none across blocks, and what is longer in
fragments (LevelDB, doc/log_format.md). The checksum is CRC-32C (RFC 3720, appendix B.4) of type and data, masked.
"""

from __future__ import annotations

from typing import Final

SECTOR_BYTES: Final = 512
"""What a disk writes in full or not at all."""
_BLOCK_BYTES: Final = 32 << 10
_HEADER_BYTES: Final = 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_POLYNOMIAL: Final = 0x82F63B78
_MASK_DELTA: Final = 0xA282EAD8
_WORD: Final = 0xFFFFFFFF


def interrupted_from(raw: bytes, zeros_min: int) -> int | None:
    """The end of the last whole record, where what follows it is an append that was interrupted and nothing else; None
    where it is anything else. `zeros_min`: so many bytes at the end must be missing, more zeros than a whole record may
    end in."""
    whole, at = _whole_records(raw)
    written = len(raw.rstrip(b"\0"))
    if written <= at:
        # Whole fragments of a record, and then nothing.
        return whole if len(raw) - at >= zeros_min else None
    missing_from = -(-written // SECTOR_BYTES) * SECTOR_BYTES
    if len(raw) - missing_from < zeros_min:
        return None
    if missing_from < at + _HEADER_BYTES:
        return whole
    end = at + _HEADER_BYTES + int.from_bytes(raw[at + 4 : at + 6], "little")
    # Something that is no zero behind the record's end was appended later, so the record had been synced.
    fits = missing_from < end <= min(len(raw), (at // _BLOCK_BYTES + 1) * _BLOCK_BYTES)
    return whole if fits and not _is_longer_than_written(raw, at, written) else None


def _whole_records(raw: bytes) -> tuple[int, int]:
    """The end of the last record that is there in full after nothing but such, and that of the last whole fragment."""
    whole = at = 0
    within = False
    while True:
        left = _BLOCK_BYTES - at % _BLOCK_BYTES
        start = at + left if left < _HEADER_BYTES else at
        kind = raw[start + 6] if start + _HEADER_BYTES <= len(raw) else 0
        end = start + _HEADER_BYTES + int.from_bytes(raw[start + 4 : start + 6], "little")
        expected = (_MIDDLE, _LAST) if within else (_FULL, _FIRST)
        if kind not in expected or end > len(raw):
            return whole, start
        if _masked(_checksum(raw[start + 6 : end])) != raw[start : start + 4]:
            return whole, start
        at, within = end, kind in (_FIRST, _MIDDLE)
        if not within:
            whole = end


def _is_longer_than_written(raw: bytes, at: int, written: int) -> bool:
    """Whether the record at this place is whole but for its length, which says too much: then it had been synced, and
    what seems to be the rest of it came later."""
    told, checksum = raw[at : at + 4], _WORD
    for byte in raw[at + 6 : written]:
        checksum = _TABLE[(checksum ^ byte) & 0xFF] ^ checksum >> 8
        if _masked(checksum ^ _WORD) == told:
            return True
    return False


def _table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return tuple(table)


_TABLE: Final = _table()


def _checksum(data: bytes) -> int:
    table, checksum = _TABLE, _WORD
    for byte in data:
        checksum = table[(checksum ^ byte) & 0xFF] ^ checksum >> 8
    return checksum ^ _WORD


def _masked(checksum: int) -> bytes:
    return ((checksum >> 15 | checksum << 17 & _WORD) + _MASK_DELTA & _WORD).to_bytes(4, "little")

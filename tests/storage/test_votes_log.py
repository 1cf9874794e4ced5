"""Whatever happens to the record, it is loaded in full, cut at its torn end, or refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from otcnode.crypto import sha256
from otcnode.errors import ConfigurationError, StorageDamage
from otcnode.storage.votes_file import FileVotesLog
from otcnode.storage.votes_log import (
    FILLER,
    FRAME_END,
    FRAME_HEADER_BYTES,
    FRAME_START,
    HEADER_BYTES,
    NAME,
    SECTOR_BYTES,
    VERSION,
    MemoryVotesLog,
    VotesLog,
    frame,
    parse,
    version_of,
    whole,
)

GROUPS: tuple[tuple[bytes, ...], ...] = ((b"first",), (b"second", b""), (b"x" * 300,), (b"last", b"of all"))
SALT = bytes(range(16))
ENTRIES = tuple(entry for group in GROUPS for entry in group)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "record"


@pytest.fixture(params=["file", "memory"])
def log(request: pytest.FixtureRequest, path: Path) -> VotesLog:
    return FileVotesLog.create(path) if request.param == "file" else MemoryVotesLog()


def written(path: Path) -> tuple[bytes, list[int]]:
    """A log of all groups, and where each ends."""
    log = FileVotesLog.create(path)
    ends = [path.stat().st_size]
    for group in GROUPS:
        log.append(group)
        log.sync()
        ends.append(path.stat().st_size)
    log.close()
    return path.read_bytes(), ends


def entries_up_to(count: int) -> tuple[bytes, ...]:
    return tuple(entry for group in GROUPS[:count] for entry in group)


def test_a_born_record_is_intact_and_empty(log: VotesLog) -> None:
    assert log.load() == ()


def test_what_was_synced_is_loaded_in_order(log: VotesLog) -> None:
    for group in GROUPS:
        log.append(group)
        log.sync()
    assert log.load() == ENTRIES
    log.append([b"more"])
    log.sync()
    assert log.load() == (*ENTRIES, b"more")


def test_what_was_not_synced_is_forgotten(log: VotesLog) -> None:
    log.append([b"kept"])
    log.sync()
    log.append([b"lost"])
    assert log.load() == (b"kept",)


@pytest.mark.parametrize("entries", [(), (b"a", b"b")])
def test_replace_makes_the_entries_the_whole_record(log: VotesLog, entries: tuple[bytes, ...]) -> None:
    log.append([b"old"])
    log.sync()
    log.append([b"pending"])
    log.replace(entries)
    log.append([b"new"])
    log.sync()
    assert log.load() == (*entries, b"new")


def test_a_record_is_born_once(path: Path) -> None:
    log = FileVotesLog.create(path)
    log.append([b"a vote"])
    log.sync()
    with pytest.raises(ConfigurationError, match="exists already"):
        FileVotesLog.create(path)
    assert FileVotesLog(path).load() == (b"a vote",)
    assert sorted(entry.name for entry in path.parent.iterdir()) == [path.name]


def test_a_record_is_born_with_its_entries_and_written_on(path: Path) -> None:
    log = FileVotesLog.create(path, (b"birth",))
    log.append([b"a vote"])
    log.sync()
    log.close()
    assert FileVotesLog(path).load() == (b"birth", b"a vote")


def test_a_missing_record_is_none_until_it_is_replaced(path: Path) -> None:
    path.parent.mkdir()
    log = FileVotesLog(path)
    assert log.load() is None
    with pytest.raises(AssertionError):
        log.append([b"a vote"])
    log.replace([b"floor"])
    log.append([b"a vote"])
    log.sync()
    assert FileVotesLog(path).load() == (b"floor", b"a vote")


def test_a_lost_record_in_memory_is_none() -> None:
    log = MemoryVotesLog(born=False)
    assert log.load() is None
    log.replace([b"floor"])
    assert log.load() == (b"floor",)
    log.lose()
    assert log.load() is None


def test_cut_at_every_byte_the_whole_groups_before_remain(path: Path) -> None:
    raw, ends = written(path)
    for length in range(len(raw)):
        whole = sum(1 for end in ends if end <= length) - 1
        parsed = parse(raw[:length])
        assert (parsed is None) is (length < HEADER_BYTES)
        assert parsed is None or parsed[1:] == (entries_up_to(whole), ends[whole])


def test_a_record_that_was_cut_is_written_on(path: Path) -> None:
    raw, ends = written(path)
    for length in range(HEADER_BYTES, len(raw), 23):
        path.write_bytes(raw[:length])
        log = FileVotesLog(path)
        whole = sum(1 for end in ends if end <= length) - 1
        assert log.load() == entries_up_to(whole)
        assert log.cut_bytes == length - ends[whole]
        log.append([b"after the repair"])
        log.sync()
        log.close()
        repaired = parse(path.read_bytes())
        assert repaired is not None and repaired.entries == (*entries_up_to(whole), b"after the repair")


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_every_flipped_byte_is_damage_in_the_last_group_too(path: Path, mask: int) -> None:
    """What left with the last group must not be forgotten: its author would say something else."""
    raw, _ = written(path)
    for place in range(len(raw)):
        flipped = bytearray(raw)
        flipped[place] ^= mask
        path.write_bytes(flipped)
        log = FileVotesLog(path)
        assert (log.load(), log.cut_bytes) == (None, 0)


def log_of(*groups: tuple[bytes, ...]) -> tuple[bytes, int]:
    """A log to which these were appended, and where the last of them begins."""
    raw, start = whole(SALT, ()), 0
    for group in groups:
        start = len(raw)
        raw += frame(SALT, start, group)
    return raw, start


def test_no_flipped_bit_passes_for_a_torn_frame_wherever_sectors_end() -> None:
    for filling in range(SECTOR_BYTES - 160, SECTOR_BYTES - 50):
        raw, start = log_of((bytes([1]) * filling,), (b"last",))
        assert parse(raw) is not None
        for place in range(start, len(raw)):
            for bit in range(8):
                flipped = bytearray(raw)
                flipped[place] ^= 1 << bit
                assert parse(bytes(flipped)) is None, (filling, place - start, bit)


ZEROS = b"some" + bytes(3 * SECTOR_BYTES) + b"more"


@pytest.mark.parametrize("stored", [b"x" * 1_500, ZEROS, bytes(1_500)], ids=["no zeros", "zeros", "only zeros"])
def test_wherever_sectors_end_each_that_was_not_written_shows(stored: bytes) -> None:
    """Anybody who can send a transaction can have a run of zeros in a frame."""
    for filling in range(SECTOR_BYTES - 160, SECTOR_BYTES - 50, 3):
        raw, start = log_of((bytes([1]) * filling,), (stored,))
        sectors = range(start // SECTOR_BYTES, (len(raw) - 1) // SECTOR_BYTES + 1)
        for lost in range(1, 1 << len(sectors)):
            torn = bytearray(raw)
            for number, sector in enumerate(sectors):
                if lost >> number & 1:
                    begin, end = max(start, sector * SECTOR_BYTES), min(len(raw), (sector + 1) * SECTOR_BYTES)
                    torn[begin:end] = bytes(end - begin)
            parsed = parse(bytes(torn))
            assert parsed is not None and parsed.length == start, (filling, lost)
            # Behind it nothing may be whole: then the crash was not the last thing that happened.
            later = frame(SALT, len(raw), (b"later",))
            assert parse(bytes(torn) + later) is None


@pytest.mark.parametrize("zeros", [0, 600, 16_000])
def test_pages_reach_the_disk_in_any_order(zeros: int) -> None:
    raw, start = log_of((b"first",), (bytes(zeros) + b"\x07" * 16_000,))
    for page in range(4_096, len(raw), 4_096):
        torn = bytearray(raw)
        torn[page : page + 4_096] = bytes(len(torn[page : page + 4_096]))
        assert parse(bytes(torn)) == (SALT, (b"first",), start)


@pytest.mark.parametrize("length", [0, 1, 509, 510, 511, 512, 1_021, 1_022, 1_023, 5_000])
def test_no_sector_that_was_written_is_all_zeros(length: int) -> None:
    for filling in range(0, SECTOR_BYTES, 13):
        raw, start = log_of((bytes(filling),), (bytes(length),))
        assert parse(raw) == (SALT, (bytes(filling), bytes(length)), len(raw))
        for begin in range(start, len(raw)):
            assert any(raw[begin : begin + SECTOR_BYTES]), (filling, begin)


def test_zeros_that_were_written_do_not_pass_for_a_sector_that_was_not() -> None:
    raw, start = log_of((b"first",), (ZEROS,))
    for place in range(start, len(raw)):
        for mask in (0x01, 0x80, 0xFF):
            flipped = bytearray(raw)
            flipped[place] ^= mask
            assert parse(bytes(flipped)) is None, place - start
    for length in range(start, len(raw)):
        parsed = parse(raw[:length])
        assert parsed is not None and parsed.length == start


def head_of(version: int) -> bytes:
    """That of a record of the first version, and of those since the second."""
    name = NAME + b"%d" % version
    place = b"" if version == 1 else (100).to_bytes(8, "big")
    covered = name if version == 1 else name + SALT + place
    return name + SALT + place + sha256(SALT + bytes(8) + covered)[:16]


@pytest.mark.parametrize(
    ("version", "which"), [(1, "an earlier"), (VERSION - 1, "an earlier"), (VERSION + 1, "a later")]
)
def test_a_record_of_another_version_is_not_called_damaged(path: Path, version: int, which: str) -> None:
    path.parent.mkdir()
    path.write_bytes(head_of(version) + b"its frames")
    log = FileVotesLog(path)
    assert log.load() is None
    assert log.trouble is not None
    assert f"was written by {which} version of otcnode" in log.trouble and "one after the other" in log.trouble


def test_no_flipped_bit_makes_a_record_one_of_another_version(path: Path) -> None:
    raw, _ = written(path)
    assert version_of(raw) == VERSION
    for place in range(HEADER_BYTES):
        for mask in range(1, 256):
            flipped = bytearray(raw)
            flipped[place] ^= mask
            assert version_of(bytes(flipped)) is None


@pytest.mark.parametrize("raw", [b"", b"OTC", NAME, NAME + b"x", NAME + b"%d" % VERSION, b"0" * 200])
def test_what_is_none_of_a_record_is_damaged(path: Path, raw: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(raw)
    log = FileVotesLog(path)
    assert log.load() is None
    assert log.trouble == f"the voting record {path} is damaged"


def test_what_was_durable_before_the_record_had_its_name_is_never_cut(path: Path) -> None:
    """After a compaction the first frame is everything that the key has said."""
    log = FileVotesLog.create(path)
    log.replace(ENTRIES)
    log.close()
    raw = path.read_bytes()
    for length in range(len(raw)):
        assert parse(raw[:length]) is None
        assert parse(raw[:length] + bytes(len(raw) - length)) is None
    assert parse(raw) == parse(whole(raw[8:24], ENTRIES))
    appended = raw + frame(raw[8:24], len(raw), (b"more",))
    for length in range(len(raw), len(appended)):
        parsed = parse(appended[:length])
        assert parsed is not None and parsed.entries == ENTRIES


def test_a_frame_begins_and_ends_with_what_no_flipped_bit_makes_zero() -> None:
    for edge in (FRAME_START[0], FILLER[0], FRAME_END[-1]):
        assert edge.bit_count() > 1
    assert len(frame(SALT, 0, ())) == FRAME_HEADER_BYTES + len(FILLER) + 1 + len(FRAME_END)


def test_what_was_cut_is_told(path: Path) -> None:
    raw, ends = written(path)
    path.write_bytes(raw[:-3])
    log = FileVotesLog(path)
    log.load()
    assert log.cut_bytes == ends[-1] - ends[-2] - 3
    log.load()
    assert log.cut_bytes == 0


@pytest.mark.parametrize("torn_bytes", range(0, 2_000, 37))
def test_the_log_in_memory_is_torn_by_sectors_where_the_length_was_noted_first(torn_bytes: int) -> None:
    log = MemoryVotesLog()
    log.append([b"synced"])
    log.sync()
    size = log.length
    log.append([b"x" * 1_500])
    log.crash(torn_bytes, power=True)
    assert log.length == size + len(frame(bytes(16), size, [b"x" * 1_500]))
    whole_frame = torn_bytes >= log.length - size
    assert log.load() == ((b"synced", b"x" * 1_500) if whole_frame else (b"synced",))
    log.append([b"next"])
    log.sync()
    assert log.load() is not None


def test_a_tail_of_zeros_is_cut_as_after_a_lost_power_supply(path: Path) -> None:
    raw, ends = written(path)
    path.write_bytes(raw[: ends[2]] + bytes(5_000))
    assert FileVotesLog(path).load() == entries_up_to(2)


def test_an_entry_that_contains_a_whole_log_does_not_turn_a_torn_tail_into_damage(path: Path) -> None:
    raw, _ = written(path)
    path.unlink()
    log = FileVotesLog.create(path)
    log.append([b"kept"])
    log.sync()
    end = path.stat().st_size
    log.append([raw * 2 + FRAME_START * 50 + b"!" * 100])
    log.sync()
    log.close()
    torn = path.read_bytes()
    for length in range(end + 1, len(torn), 13):
        path.write_bytes(torn[:length])
        assert FileVotesLog(path).load() == (b"kept",)


def test_the_log_in_memory_tears_at_every_byte(path: Path) -> None:
    size = len(frame(bytes(16), 0, [b"pending", b"both"]))
    for torn_bytes in range(size + 1):
        log = MemoryVotesLog()
        log.append([b"synced"])
        log.sync()
        log.append([b"pending"])
        log.append([b"both"])
        log.crash(torn_bytes)
        with pytest.raises(AssertionError):
            log.append([b"not loaded"])
        expected = (b"synced", b"pending", b"both") if torn_bytes == size else (b"synced",)
        assert log.load() == expected
        log.append([b"next"])
        log.sync()
        assert log.load() == (*expected, b"next")


@pytest.mark.parametrize("loads", [0, 1])
def test_in_memory_too_a_loss_of_power_takes_what_a_killed_process_wrote(loads: int) -> None:
    log = MemoryVotesLog()
    log.append([b"synced"])
    log.sync()
    log.append([b"written"])
    log.crash(1_000)
    assert log.entries() == (b"synced", b"written") and not log.is_durable
    for _ in range(loads):
        assert log.load() == (b"synced", b"written") and log.is_durable
    log.crash(power=True)
    assert log.is_durable
    assert log.load() == (b"synced", b"written")[: 1 + loads]


def test_damage_in_memory_is_seen() -> None:
    log = MemoryVotesLog()
    for group in GROUPS:
        log.append(group)
        log.sync()
    log.damage(HEADER_BYTES + 30, 4)
    assert log.load() is None


def test_a_crash_between_draft_and_rename_leaves_the_old_record(path: Path) -> None:
    raw, _ = written(path)
    path.with_name(path.name + ".draft").write_bytes(raw[:40])
    log = FileVotesLog(path)
    assert log.load() == ENTRIES
    log.replace([b"compacted"])
    assert FileVotesLog(path).load() == (b"compacted",)


def test_a_record_that_was_born_in_a_process_killed_over_it_is_never_written_in_place(path: Path) -> None:
    """It had its name, and still that of its draft."""
    FileVotesLog.create(path, ENTRIES).close()
    draft = path.with_name(path.name + ".draft")
    os.link(path, draft)
    raw = path.read_bytes()
    with path.open("rb") as born:
        assert FileVotesLog(path).load() == ENTRIES
        assert born.read() == raw
    assert not draft.exists()


def test_a_failed_sync_is_not_forgotten_when_asked_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = FileVotesLog.create(path)
    log.append([b"vote"])

    def broken(file: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", broken)
        with pytest.raises(StorageDamage):
            log.sync()
    with pytest.raises(StorageDamage):
        log.sync()
    log.load()
    log.append([b"again"])
    log.sync()
    log.close()


def test_what_is_loaded_has_been_written_anew_and_synced(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that a killed process wrote is whole to whoever reads it, and gone when the power goes. To sync a file
    once more after a sync that failed cures nothing."""
    log = FileVotesLog.create(path)
    log.append([b"a vote"])

    def killed(file: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killing:
        killing.setattr(os, "fdatasync", killed)
        with pytest.raises(KeyboardInterrupt):
            log.sync()
    log.close()
    written = path.stat().st_ino
    synced: list[tuple[int, bool]] = []

    def note(file: int) -> None:
        synced.append((os.fstat(file).st_ino, path.stat().st_ino == written))

    monkeypatch.setattr(os, "fsync", note)
    assert FileVotesLog(path).load() == (b"a vote",)
    assert path.stat().st_ino != written
    assert synced == [(path.stat().st_ino, True), (path.parent.stat().st_ino, False)]


def test_a_record_that_cannot_be_written_anew_is_not_used(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw, _ = written(path)

    def refused(file: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as refusing:
        refusing.setattr(os, "fsync", refused)
        with pytest.raises(StorageDamage, match="cannot be kept"):
            FileVotesLog(path).load()
    assert path.read_bytes() == raw
    assert FileVotesLog(path).load() == ENTRIES


def test_a_refusing_disk_makes_the_log_unusable(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = FileVotesLog.create(path)
    log.append([b"kept"])
    log.sync()
    log.append([b"x" * 1_000])

    def full(file: int, raw: bytes, offset: int) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(StorageDamage, match="disk is full"):
            log.sync()
    with pytest.raises(AssertionError):
        log.append([b"too late"])
    assert log.load() == (b"kept",)

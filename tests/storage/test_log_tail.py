"""What a loss of power leaves of the last append to LevelDB's log is cut off; whatever had been synced never is."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from otcnode.errors import StorageDamage
from otcnode.storage import level
from otcnode.storage.kv import Write
from otcnode.storage.level import LevelKeyValue
from otcnode.storage.log_tail import SECTOR_BYTES, interrupted_from

BLOCK_BYTES = 32 << 10


def log_of(path: Path) -> Path:
    (log,) = path.glob("*.log")
    return log


def batch(size: int, head: bytes) -> list[Write]:
    """Its values end in zeros, as figures do."""
    chance = random.Random(size)
    writes: list[Write] = [(b"body%d" % number, chance.randbytes(900) + bytes(100)) for number in range(size // 1_000)]
    return [*writes, (b"head", head)]


class Written:
    """A database to which one write was acknowledged, and then a second one."""

    def __init__(self, path: Path, first: int, second: int) -> None:
        self.path = path
        kv = LevelKeyValue(path, create=True)
        kv.write(batch(first, b"1"))
        self.log = log_of(path)
        self.between = self.log.stat().st_size
        kv.write(batch(second, b"2"))
        self.raw = self.log.read_bytes()
        # As it is when the power goes: to close it changes nothing of the log.
        kv.close()
        assert self.log.read_bytes() == self.raw

    def opened(self, raw: bytes) -> tuple[bytes | None, str | None]:
        """The head that is read with this log, and what was cut. The database is as it was afterwards."""
        copy = self.path.with_name("copy")
        shutil.copytree(self.path, copy)
        (copy / self.log.name).write_bytes(raw)
        try:
            kv = LevelKeyValue(copy)
            try:
                return kv.get(b"head"), kv.cut
            finally:
                kv.close()
        except StorageDamage:
            assert (copy / self.log.name).read_bytes() == raw, "damage is left as it is"
            raise
        finally:
            shutil.rmtree(copy)


def torn(written: Written, sector: int) -> bytes:
    """The end reads as zeros from a sector on."""
    return written.raw[: sector * SECTOR_BYTES].ljust(len(written.raw), b"\0")


@pytest.mark.parametrize("second", [0, 1_000, 10_000, 40_000, 200_000])
def test_a_write_that_a_loss_of_power_interrupted_is_cut_off(tmp_path: Path, second: int) -> None:
    written = Written(tmp_path / "chain", 5_000, second)
    first_sector = -(-written.between // SECTOR_BYTES)
    sectors = range(first_sector, -(-len(written.raw) // SECTOR_BYTES))
    cut = 0
    for sector in sorted({*sectors[:2], *sectors[-2:], *random.Random(1).sample(sectors, min(len(sectors), 8))}):
        missing = written.raw[sector * SECTOR_BYTES :]
        head, said = written.opened(torn(written, sector))
        assert head == b"1" and missing
        cut += said is not None
        assert said is None or "nothing that left this node depends on it" in said
    assert cut or not second or len(sectors) < 2
    # Sectors of the first write that do not come back had been synced, and something follows them.
    assert written.opened(written.raw) == (b"2", None)


def test_all_that_was_acknowledged_stays_and_what_comes_later_is_kept_too(tmp_path: Path) -> None:
    written = Written(tmp_path / "chain", 70_000, 70_000)
    sector = written.between // SECTOR_BYTES + 40
    written.log.write_bytes(torn(written, sector))
    kv = LevelKeyValue(written.path)
    assert kv.cut is not None and kv.get(b"body69") == dict(batch(70_000, b"1"))[b"body69"]
    kv.write([(b"head", b"3")])
    kv.close()
    kv = LevelKeyValue(written.path)
    assert kv.cut is None and kv.get(b"head") == b"3"
    kv.close()


@pytest.mark.parametrize("second", [0, 1_000, 40_000])
def test_a_write_that_was_synced_is_never_cut_whichever_bit_of_it_flips(tmp_path: Path, second: int) -> None:
    """Wherever it ends in a sector: neither the last one, nor one that others follow, nor with the next one torn."""
    written, chance = Written(tmp_path / "chain", 5_000, second), random.Random(2)
    headers = [*range(7), *range(written.between, written.between + 7), BLOCK_BYTES, BLOCK_BYTES + 4, BLOCK_BYTES + 5]
    places = [place for place in headers if place < len(written.raw)]
    places += chance.sample(range(len(written.raw)), 20) + list(range(len(written.raw) - 12, len(written.raw)))
    damaged = 0
    for place in places:
        for bit in range(8):
            raw = bytearray(written.raw)
            raw[place] ^= 1 << bit
            assert interrupted_from(bytes(raw), level._ZEROS_MIN_LOG) is None, (place, bit)
        try:
            assert written.opened(bytes(raw))[1] is None
        except StorageDamage:
            damaged += 1
    assert damaged > len(places) // 2


def test_a_flipped_bit_below_a_torn_write_stays_damage(tmp_path: Path) -> None:
    written, chance = Written(tmp_path / "chain", 5_000, 20_000), random.Random(3)
    sound = torn(written, written.between // SECTOR_BYTES + 10)
    assert interrupted_from(sound, level._ZEROS_MIN_LOG) == written.between
    for place in [*range(7), *chance.sample(range(written.between), 60)]:
        for bit in range(8):
            raw = bytearray(sound)
            raw[place] ^= 1 << bit
            assert interrupted_from(bytes(raw), level._ZEROS_MIN_LOG) is None, (place, bit)


def test_no_record_ends_in_zeros_whatever_is_written(tmp_path: Path) -> None:
    """Else one flipped bit in a write that was synced would make it look torn."""
    kv = LevelKeyValue(tmp_path / "chain", create=True)
    for size in range(0, 1_200, 37):
        kv.write([(b"key", bytes(size))])
        raw = log_of(tmp_path / "chain").read_bytes()
        assert not raw.endswith(b"\0")
        flipped = bytearray(raw)
        flipped[-size // 2 - 20] ^= 4
        assert interrupted_from(bytes(flipped), level._ZEROS_MIN_LOG) is None
    assert list(kv.scan(b"")) == [(b"key", bytes(size))]
    kv.close()


def test_the_list_of_tables_is_cut_where_its_last_append_was_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "chain"
    kv = LevelKeyValue(path, create=True)
    for number in range(12):
        kv.write([(b"%064d" % number, b"%d" % number)])
        kv.compact()
    kv.close()
    listed = path / (path / "CURRENT").read_text().strip()
    raw = listed.read_bytes()
    for at in range(len(raw) // SECTOR_BYTES * SECTOR_BYTES, 0, -SECTOR_BYTES):
        found = interrupted_from(raw[:at].ljust(len(raw), b"\0"), level._ZEROS_MIN_MANIFEST)
        assert found is None or at - SECTOR_BYTES * 2 < found <= at
    for place in range(0, len(raw), 19):
        flipped = bytearray(raw)
        flipped[place] ^= 1
        assert interrupted_from(bytes(flipped), level._ZEROS_MIN_MANIFEST) is None

"""LevelDB in trouble: directories in use, killed processes, full disks, flipped bytes and missing files."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from otcnode.errors import ConfigurationError, DiskFull, StorageDamage, StorageRefused
from otcnode.storage import level
from otcnode.storage.level import LevelKeyValue
from otcnode.storage.tools import verify
from tests.storage.chain import CHAIN, append, create, expected_state, reopen
from tests.storage.few_files import files_left, refused

HEIGHT = 30


@pytest.fixture(scope="module")
def closed_chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain whose entries are partly in tables and partly in LevelDB's log."""
    path = tmp_path_factory.mktemp("closed") / "chain"
    kv = LevelKeyValue(path, create=True)
    store = create(kv)
    for _ in range(HEIGHT - 5):
        append(store)
    kv.compact()
    for _ in range(5):
        append(store)
    store.close()
    return path


def test_a_directory_in_use_is_refused_in_one_line(tmp_path: Path) -> None:
    kv = LevelKeyValue(tmp_path / "chain", create=True)
    with pytest.raises(ConfigurationError, match="is in use by another otcnode process"):
        LevelKeyValue(tmp_path / "chain")
    kv.close()
    LevelKeyValue(tmp_path / "chain").close()


def test_nothing_is_written_where_less_than_the_spare_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that commands that give the disk back, which leave none, can open what a node has filled."""
    kv = LevelKeyValue(tmp_path / "chain", create=True, spare_bytes=64 << 20)
    kv.write([(b"a", b"1")])
    with monkeypatch.context() as patched:
        patched.setattr(level, "_free_bytes", lambda path: (64 << 20) - 1)
        with pytest.raises(
            DiskFull, match=r"is full \(less than 64 MiB are left\); free space, then start the node again"
        ):
            kv.write([(b"a", b"2"), (b"b", b"2")])
    assert list(kv.scan(b"")) == [(b"a", b"1")]
    kv.write([(b"b", b"3")])
    kv.close()
    monkeypatch.setattr(level, "_free_bytes", lambda path: (64 << 20) - 1)
    kv = LevelKeyValue(tmp_path / "chain")
    kv.write([(b"b", None)])
    assert list(kv.scan(b"")) == [(b"a", b"1")]
    kv.close()


def test_a_directory_in_use_by_another_process_is_refused(tmp_path: Path) -> None:
    kv = LevelKeyValue(tmp_path / "chain", create=True)
    script = (
        "import sys, pathlib; from otcnode.storage.level import LevelKeyValue; LevelKeyValue(pathlib.Path(sys.argv[1]))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "chain")], capture_output=True, text=True)
    kv.close()
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("otcnode.errors.ConfigurationError: the data directory") and "in use" in last


def test_a_directory_without_a_chain_is_refused_unless_it_is_to_be_made(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ConfigurationError, match="holds no chain yet"):
            LevelKeyValue(path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot use the data directory"):
        LevelKeyValue(tmp_path / "file", create=True)


_READ_ONLY = """
set -e
mount -t tmpfs tmpfs "$1"
"$2" -c 'import sys, pathlib; from otcnode.storage.level import LevelKeyValue as L
L(pathlib.Path(sys.argv[1]) / "chain", create=True).close()' "$1"
mount -o remount,ro "$1"
for name in chain another; do
"$2" -c 'import sys, pathlib; from otcnode.storage.level import LevelKeyValue as L
L(pathlib.Path(sys.argv[1]) / sys.argv[2], create=True)' "$1" "$name" 2>&1 | tail -n 1
done
"""


def in_a_mount_namespace(script: str, path: Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("needs a mount namespace")
    words = ["unshare", "-m", "bash", "-c", script, "bash", str(path), sys.executable]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


def test_a_file_system_that_became_read_only_makes_no_chain_damaged(tmp_path: Path) -> None:
    """As Linux makes it where a disk fails: whoever is told that the chain cannot be trusted deletes a sound one."""
    done = in_a_mount_namespace(_READ_ONLY, tmp_path)
    said = "otcnode.errors.ConfigurationError: cannot use the data directory {}: {}"
    assert done.stdout.splitlines() == [
        said.format(tmp_path / "chain", "read-only file system"),
        said.format(tmp_path / "another", "Read-only file system"),
    ], done.stderr


def test_a_process_with_too_many_files_open_takes_no_chain_for_damaged(tmp_path: Path) -> None:
    """Whatever it was about to open: that of the last one as of the first."""
    LevelKeyValue(tmp_path / "chain", create=True).close()
    for count in range(20):
        with files_left(count):
            try:
                LevelKeyValue(tmp_path / "chain").close()
                break
            except ConfigurationError as error:
                said = str(error)
        assert re.match(r"cannot use the data directory .*: too many open files", said, re.IGNORECASE), said
    assert 3 <= count < 20


def test_a_read_that_the_system_refuses_is_no_damage_and_succeeds_a_moment_later(tmp_path: Path) -> None:
    path = tmp_path / "chain"
    kv = LevelKeyValue(path, create=True)
    kv.write([(b"key", b"value")])
    kv.close()
    # What lies in LevelDB's log becomes a table, which is open then; at the next start it is not.
    LevelKeyValue(path).close()
    kv = LevelKeyValue(path)
    for read in (lambda: kv.get(b"key"), lambda: list(kv.scan(b""))):
        with files_left(0), pytest.raises(StorageRefused, match=r"cannot be used .*Too many open files"):
            read()
    assert kv.get(b"key") == b"value"
    kv.close()


def test_a_directory_that_the_system_does_not_let_be_synced_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process opened other files since LevelDB opened its own."""
    LevelKeyValue(tmp_path / "chain", create=True).close()
    with monkeypatch.context() as patch:
        patch.setattr(level, "_sync_directory", refused(level._sync_directory))
        with pytest.raises(ConfigurationError, match=r"(?i)cannot use the data directory .*: too many open files"):
            LevelKeyValue(tmp_path / "chain")
    LevelKeyValue(tmp_path / "chain").close()


_NO_INODES = """
set -e
mount -t tmpfs -o nr_inodes=1 tmpfs "$1"
"$2" -c 'import sys, pathlib; from otcnode.storage.level import LevelKeyValue as L
L(pathlib.Path(sys.argv[1]) / "chain", create=True)' "$1" 2>&1 | tail -n 1
"""


def test_a_disk_that_takes_no_directory_more_is_full(tmp_path: Path) -> None:
    words = in_a_mount_namespace(_NO_INODES, tmp_path)
    said = f"otcnode.errors.DiskFull: the disk of {tmp_path / 'chain'} is full (No space left on device); free space"
    assert words.stdout.startswith(said), words


_WRITER = """
import sys, pathlib
from otcnode.storage.level import LevelKeyValue
from tests.storage.chain import append, reopen
store = reopen(LevelKeyValue(pathlib.Path(sys.argv[1])))
while True:
    append(store)
    print(store.tip.height, flush=True)
"""


def test_a_killed_process_leaves_exactly_a_committed_height(tmp_path: Path) -> None:
    path = tmp_path / "chain"
    create(LevelKeyValue(path, create=True)).close()
    chance = random.Random(7)
    told = 0
    for _ in range(6):
        with subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for _ in range(chance.randrange(1, 60)):
                told = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
            told = max([told, *(int(line) for line in process.stdout.read().split(b"\n") if line)])
        kv = LevelKeyValue(path)
        store = reopen(kv)
        assert store.tip.height in (told, told + 1)
        assert dict(store.state.scan(b"")) == expected_state(store.tip.height)
        store.close()
    kv = LevelKeyValue(path)
    assert verify(kv, CHAIN).height >= told
    kv.close()


_FILLER = """
import pathlib, resource, signal, sys
from otcnode.errors import StorageDamage
from otcnode.storage.level import LevelKeyValue
from tests.storage.chain import append, create
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = create(LevelKeyValue(pathlib.Path(sys.argv[1]), create=True))
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    while True:
        append(store)
except StorageDamage as error:
    print(error)
try:
    append(store)
except StorageDamage as error:
    print(error)
print(store.tip.height)
"""


def test_a_full_disk_is_named_and_what_was_committed_before_is_there(tmp_path: Path) -> None:
    path = tmp_path / "chain"
    done = subprocess.run([sys.executable, "-c", _FILLER, str(path)], capture_output=True, text=True, check=True)
    first, second, height = done.stdout.splitlines()
    assert "is full" in first and "free space" in first
    assert "an earlier write" in second
    kv = LevelKeyValue(path)
    store = reopen(kv)
    assert store.tip.height == int(height) > 10
    append(store)
    store.close()


def outcome(path: Path) -> int | None:
    """The height that a damaged directory still serves in full, or None where it is refused."""
    try:
        kv = LevelKeyValue(path)
    except (StorageDamage, ConfigurationError):
        return None
    try:
        height = verify(kv, CHAIN).height
        assert dict(reopen(kv).state.scan(b"")) == expected_state(height)
        return height
    except StorageDamage:
        return None
    finally:
        kv.close()


def test_a_flipped_byte_is_found_and_never_served(closed_chain: Path, tmp_path: Path) -> None:
    chance = random.Random(11)
    refused = 0
    for name in sorted(os.listdir(closed_chain)):
        size = (closed_chain / name).stat().st_size
        if name in ("LOCK", "LOG", "LOG.old") or not size:
            continue
        for round_number in range(12):
            path = tmp_path / f"{name}-{round_number}"
            shutil.copytree(closed_chain, path)
            raw = bytearray((path / name).read_bytes())
            raw[chance.randrange(size)] ^= 1 << chance.randrange(8)
            (path / name).write_bytes(raw)
            height = outcome(path)
            # A flip in the length of one of the log's last records passes for a torn end: then whole blocks are
            # missing at the tip, which the voting record's floor makes harmless.
            assert height is None or (height == HEIGHT or name.endswith(".log"))
            refused += height is None
    assert refused > 20


def test_a_missing_file_is_found(closed_chain: Path, tmp_path: Path) -> None:
    for name in sorted(os.listdir(closed_chain)):
        if name in ("LOCK", "LOG", "LOG.old"):
            continue
        path = tmp_path / name
        shutil.copytree(closed_chain, path)
        (path / name).unlink()
        assert outcome(path) is None
    with pytest.raises(StorageDamage, match="CURRENT is missing"):
        LevelKeyValue(tmp_path / "CURRENT", create=True)


def test_a_young_chain_that_lost_its_log_does_not_pass_for_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "chain"
    create(LevelKeyValue(path, create=True)).close()
    for log in path.glob("*.log"):
        log.unlink()
    with pytest.raises(StorageDamage, match="log is missing"):
        LevelKeyValue(path, create=True)


def test_a_creation_cut_short_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "chain"
    draft = tmp_path / "chain.draft"
    draft.mkdir()
    (draft / "CURRENT").write_text("half")
    path.mkdir()
    create(LevelKeyValue(path, create=True)).close()
    assert not draft.exists()
    assert reopen(LevelKeyValue(path)).tip.height == 0


def test_a_compaction_gives_back_what_was_written_and_deleted_at_once(tmp_path: Path) -> None:
    """What lies in one file with its own deletions; and what was replaced, in a table between others."""
    kv = LevelKeyValue(tmp_path / "chain", create=True)
    chance = random.Random(3)
    kept = [(bytes([table]) + b"%d" % number, chance.randbytes(100)) for table in b"abc" for number in range(50)]
    kv.write(kept)
    for number in range(100):
        kv.write([(b"b-old-%d" % number, chance.randbytes(20_000)), (b"b-same", chance.randbytes(20_000))])
    kv.write([(b"b-old-%d" % number, None) for number in range(100)])
    kv.compact(b"b")
    assert kv.size_bytes() < 100_000
    assert [pair for pair in kv.scan(b"") if pair[0] != b"b-same"] == sorted(kept)
    kv.write([(b"b-same", None)])
    kv.compact()
    assert kv.size_bytes() < 40_000
    kv.close()


def test_a_scan_of_a_whole_table_takes_no_room_in_the_cache(tmp_path: Path) -> None:
    """At a start the leaves of all accounts are read, which nobody reads again."""
    kv = LevelKeyValue(tmp_path / "db", create=True)
    kv.write([(b"t" + number.to_bytes(4, "big"), bytes([number % 256]) * 400) for number in range(10_000)])
    kv.close()

    def held_after(limit: int | None) -> int:
        reopened = LevelKeyValue(tmp_path / "db")
        assert sum(1 for _ in reopened.scan(b"t", limit=limit)) == 10_000
        held = int(reopened._db.get_property(b"leveldb.approximate-memory-usage"))
        reopened.close()
        return held

    assert held_after(None) < 200_000 and held_after(10_000) > 4_000_000


def test_a_scan_over_damage_in_whichever_part_of_a_table_says_so_and_never_gives_less(tmp_path: Path) -> None:
    """Also in the index of a table and in its last block, where LevelDB's iterator just ends: forwards and backwards,
    in the first table, the last one, and in the only one."""
    pairs = {b"%c%06d" % (b"bhsv"[number // 3_000], number): random.randbytes(200) for number in range(12_000)}
    found = [scans_over_damage(tmp_path / str(keys), dict(list(pairs.items())[:keys])) for keys in (200, 12_000)]
    assert min(raised for raised, _ in found) >= 10 and min(whole for _, whole in found) >= 2, found


def scans_over_damage(path: Path, pairs: dict[bytes, bytes]) -> tuple[int, int]:
    """How many scans said that there is damage, and how many gave all."""
    kv = LevelKeyValue(path / "sound", create=True)
    kv.write(list(pairs.items()))
    kv.compact()
    kv.close()
    raised = whole = 0
    for table in sorted((path / "sound").glob("*.ldb")):
        size = table.stat().st_size
        for place in {size - 100, size - 700, size - 1_500, size - 3_000, size // 2} & set(range(size)):
            shutil.copytree(path / "sound", path / "harmed")
            flip(path / "harmed" / table.name, place)
            kv = LevelKeyValue(path / "harmed")
            for prefix, reverse in [(prefix, way) for prefix in (b"", b"b", b"v") for way in (False, True)]:
                expected = [pair for pair in pairs.items() if pair[0].startswith(prefix)][:: -1 if reverse else 1]
                try:
                    assert list(kv.scan(prefix, reverse=reverse)) == expected, (table.name, size - place, prefix)
                    whole += 1
                except StorageDamage:
                    raised += 1
            kv.close()
            shutil.rmtree(path / "harmed")
    return raised, whole


def flip(path: Path, place: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1
    path.write_bytes(raw)


def test_a_scan_of_tables_that_the_system_does_not_let_be_opened_gives_no_less(tmp_path: Path) -> None:
    kv = LevelKeyValue(tmp_path / "chain", create=True)
    kv.write([(b"key", b"value")])
    kv.compact()
    kv.close()
    for reverse in (False, True):
        kv = LevelKeyValue(tmp_path / "chain")
        with files_left(0), pytest.raises(StorageRefused, match="Too many open files"):
            list(kv.scan(b"k", reverse=reverse))
        assert list(kv.scan(b"k", reverse=reverse)) == [(b"key", b"value")]
        kv.close()

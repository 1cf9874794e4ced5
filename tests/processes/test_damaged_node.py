"""What `otcnode run` prints and ends with when its disk is damaged, full or unreadable; and the advice, followed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from otcnode import limits
from otcnode.crypto import sha256
from otcnode.localnet import Cluster
from otcnode.rpc.format import base64_text
from otcnode.storage.level import LevelKeyValue
from otcnode.storage.schema import Table
from tests.processes import cluster as daemons
from tests.processes.test_cluster import execute_all
from tests.processes.test_operations import otcnode

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stopped network of one that has made some blocks."""
    directory = tmp_path_factory.mktemp("built") / "net"
    with daemons.make(directory, 1) as cluster:
        cluster.start_all()
        cluster.wait_ready()
        asyncio.run(execute_all(cluster, daemons.deposits(cluster, 10), asyncio.Event(), []))
    return directory


@pytest.fixture
def home(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built, tmp_path / "net")
    return Cluster(tmp_path / "net").members[0].home.path


def run(home: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "otcnode", "run", "--home", str(home), *options]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The code and the last line of a node that ends by itself."""
    _, said = process.communicate(timeout=60)
    return process.returncode, said.strip().splitlines()[-1]


def flip_middle(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0x10
    path.write_bytes(raw)


def test_damage_is_named_with_the_commands_that_help(home: Path) -> None:
    database = home / "data" / "chain"
    flip_middle(max(database.iterdir(), key=lambda path: path.stat().st_size))
    code, line = ended(run(home))
    assert code == 2
    assert line.startswith("otcnode: ") and "damaged" in line and line.endswith("run: otcnode db verify")
    otcnode("db", "verify", "--home", str(home), code=2)
    shutil.rmtree(database)
    with run(home) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "has signed up to" in line)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert "the store is at height 0" in line


def test_a_leaf_of_the_state_tree_that_is_damaged_at_rest_ends_the_node_before_it_is_used(home: Path) -> None:
    """The start does not read it; it is read ahead soon after."""
    database = LevelKeyValue(home / "data" / "chain")
    leaf, digest = next(database.scan(Table.TREE.value))
    database.write([(leaf, bytes([digest[0] ^ 1]) + digest[1:])])
    database.close()
    code, line = ended(run(home))
    assert (code, "of the state tree is damaged" in line) == (2, True)
    assert line.startswith("otcnode: bucket ") and line.endswith("run: otcnode db verify")
    otcnode("db", "verify", "--home", str(home), code=2)


def test_a_missing_log_of_the_database_is_named(home: Path) -> None:
    for log in (home / "data" / "chain").glob("*.log"):
        log.unlink()
    code, line = ended(run(home))
    assert (code, "log is missing" in line, "otcnode db restore" in line) == (2, True, True)


@pytest.mark.parametrize("damage", ["is missing", "is damaged", "was written by an earlier version of otcnode"])
def test_a_validator_without_its_record_says_that_it_is_silent_and_why(home: Path, damage: str) -> None:
    record = home / "data" / "record"
    raw = record.read_bytes()
    record.unlink()
    if "version" in damage:
        record.write_bytes(b"OTCVOTE1" + raw[8:24] + sha256(raw[8:24] + bytes(8) + b"OTCVOTE1")[:16])
    elif damage == "is damaged":
        record.write_bytes(raw[:10] + bytes([raw[10] ^ 1]) + raw[11:])
    with run(home) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "voting record" in line)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert damage in line and ": this validator is silent" in line and "--vote-again-after-loss" in line
    assert process.returncode == 0


# a full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes more than a node leaves free, where the system permits to make one."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={(24 << 20) + limits.disk_spare_bytes}", "tmpfs", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("needs mount")
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def submit_all(url: str, raws: list[bytes]) -> None:
    """Hand in one after another, whatever the answers are, until nobody answers."""
    for first in range(0, len(raws), 50):
        calls = [
            {"jsonrpc": "2.0", "id": number, "method": "tx_submit", "params": [base64_text(raw)]}
            for number, raw in enumerate(raws[first : first + 50])
        ]
        request = urllib.request.Request(url, json.dumps(calls).encode(), {"Content-Type": "application/json"})
        try:
            urllib.request.urlopen(request, timeout=20).read()
        except OSError:
            return


def test_a_full_disk_stops_the_node_with_advice_and_it_goes_on_when_there_is_space(small_disk: Path) -> None:
    """Its log lies on the full disk, too. With what it leaves, the commands that look into it and that give space back
    can do their work; not where others have taken that as well, but then they say what may go."""
    cluster = daemons.make(small_disk / "net", 1)
    with cluster:
        cluster.start_all()
        cluster.wait_ready()
        fill(small_disk, limits.disk_spare_bytes + 400_000)
        submit_all(cluster.urls[0], daemons.deposits(cluster, 3_000))
        deadline = time.monotonic() + 60
        while cluster.alive("node1"):
            assert time.monotonic() < deadline, "the node goes on with a full disk"
            time.sleep(0.1)
        (small_disk / "filler").unlink()
        code, line = ended_again(cluster)
        home = str(cluster.members[0].home.path)
        fill(small_disk, limits.disk_spare_bytes // 2)
        otcnode("db", "verify", "--home", home)
        prune = ("db", "prune", "--home", home, "--keep-blocks", "1")
        otcnode(*prune, code=2)
        otcnode(*prune, "--without-snapshot")
        fill(small_disk, 0)
        otcnode("db", "verify", "--home", home, code=2)
        (small_disk / "filler").unlink()
    assert code == 2 and "is full" in line and "free space, then start the node again" in line
    with Cluster(small_disk / "net") as again:
        again.start_all()
        again.wait_ready()
        asyncio.run(execute_all(again, daemons.deposits(again, 3), asyncio.Event(), []))
    otcnode("db", "verify", "--home", str(again.members[0].home.path))
    otcnode("db", "replay", "--home", str(again.members[0].home.path))


def test_a_node_that_could_not_go_on_for_want_of_room_is_refused_before_it_opens_anything(small_disk: Path) -> None:
    """Whoever starts it again each time would start it for ever; the advice, followed, gives it the room."""
    with daemons.make(small_disk / "net", 1) as cluster:
        home = cluster.members[0].home
        fill(small_disk, limits.disk_spare_bytes - (1 << 20))
        code, line = ended(run(home.path))
        assert code == 2 and f"the disk of {home.database} is full: 63 MiB are free" in line
        assert line.endswith("64 MiB to go on; free space, then start the node again"), "there is nothing to prune"
        assert not home.database.exists() and not home.documents.exists() and not home.log.exists()
        (small_disk / "filler").unlink()
        cluster.start_all()
        cluster.wait_ready()
        submit_all(cluster.urls[0], daemons.deposits(cluster, 3_000))
        cluster.stop_all()
        fill(small_disk, limits.disk_spare_bytes - 100_000)
        before = files_of(home.path)
        code, line = ended(run(home.path, "--record-events", str(home.path / "events")))
        assert code == 2 and files_of(home.path) == before
        needed = f"a node needs {limits.disk_spare_bytes >> 20} MiB to go on; free space, or run: otcnode "
        _, _, advice = line.partition(needed)
        words, _, after = advice.partition("; ")
        assert after == "then start the node again"
        otcnode(*words.replace("--keep-blocks N", "--keep-blocks 1").split())
        cluster.start_all()
        cluster.wait_ready()


def test_a_start_goes_on_with_the_deletion_that_gives_it_its_room(small_disk: Path) -> None:
    """Killed over it, as when a snapshot has taken the place of the chain. Not a byte is free before."""
    with daemons.make(small_disk / "net", 1) as cluster:
        home = cluster.members[0].home
        cluster.start_all()
        cluster.wait_ready()
        cluster.stop_all()
        doomed = home.database.with_name("chain.old.deleted")
        doomed.mkdir()
        fill(small_disk, 0)
        (small_disk / "filler").rename(doomed / "000005.ldb")
        cluster.start_all()
        cluster.wait_ready()
        assert not doomed.exists()


def files_of(directory: Path) -> dict[Path, tuple[int, int]]:
    """Each file with its size and the time of its last change."""
    found = ((path, path.stat()) for path in directory.rglob("*"))
    return {path: (status.st_size, status.st_mtime_ns) for path, status in found}


def ended_again(cluster: Cluster) -> tuple[int, str]:
    """The full disk once more, with standard error where it can be read."""
    home = cluster.members[0].home.path
    place = cluster.directory.parent
    with run(home) as process:
        assert process.stderr is not None
        assert any("started" in line for line in process.stderr)
        fill(place, limits.disk_spare_bytes + 300_000)
        submit_all(cluster.urls[0], daemons.deposits(cluster, 3_000))
        result = ended(process)
    (place / "filler").unlink()
    return result


def fill(place: Path, left_bytes: int) -> None:
    """Leave so much on a file system."""
    filler = place / "filler"
    filler.unlink(missing_ok=True)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(place).free - left_bytes)


# a disk that cannot be read

_READER = """
import faulthandler, os, pathlib, sys
from otcnode.storage.level import LevelKeyValue
faulthandler.enable()
path = pathlib.Path(sys.argv[1])
kv = LevelKeyValue(path, create=True)
for number in range(400):
    kv.write([(b"%d" % number, os.urandom(2_000))])
kv.compact()
for table in path.glob("*.ldb"):
    os.truncate(table, 4_096)
list(kv.scan(b""))
print("served")
"""


def test_a_table_that_cannot_be_read_ends_the_process_and_says_where(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(_READER), str(tmp_path / "chain")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert "served" not in done.stdout
    assert done.returncode == -signal.SIGBUS
    assert "Bus error" in done.stderr and "storage/level.py" in done.stderr


# recorded events


def test_what_a_node_did_is_stepped_again_after_it_was_killed(home: Path, tmp_path: Path) -> None:
    cluster = Cluster(home.parent)
    with run(home, "--record-events", str(tmp_path / "events")) as process:
        assert process.stderr is not None
        assert any("started" in line for line in process.stderr)
        raws = daemons.deposits(cluster, 30)
        submit_all(cluster.urls[0], raws)
        asyncio.run(execute_all(cluster, daemons.deposits(cluster, 3), asyncio.Event(), []))
        process.kill()
        process.communicate(timeout=60)
    found = json.loads(otcnode("replay-events", str(tmp_path / "events"), "--json"))
    assert found["events"]["started"] == 1 and found["events"]["built"] >= 2
    assert "each with the effects that were recorded" in otcnode("replay-events", str(tmp_path / "events"))

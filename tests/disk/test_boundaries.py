"""A process that dies, or whose disk refuses, at any write or sync of a block leaves a committed height to go on from.

The boundaries are met below LevelDB and the voting record, where they meet the system (boundaries.c), on a real disk:
killed ahead of every call, in the middle of every write, with everything lost that was not synced, and with half of
that lost and its length kept; and every call failing once. The judge (driver.py) verifies the store, compares the
record with what was known to be durable, catches up, and replays the chain.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from otcnode.storage.level import LevelKeyValue

HERE = Path(__file__).parent
COMPILER = shutil.which("cc")

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(COMPILER is None, reason="needs a C compiler (cc) for the library that stands under the disk"),
    pytest.mark.skipif(sys.platform != "linux", reason="needs Linux"),
]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("library") / "boundaries.so"
    command = [str(COMPILER), "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(path)]
    subprocess.run([*command, str(HERE / "boundaries.c"), "-ldl", "-lpthread"], check=True)
    return path


def drive(library: Path, tmp_path: Path, scenario: str, mode: str, stride: int, mistake: str = "") -> Any:
    words = [sys.executable, "-m", "tests.disk.driver", scenario, mode, str(stride), str(tmp_path), mistake]
    done = subprocess.run(
        words,
        env={**os.environ, "LD_PRELOAD": str(library)},
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "said": done.stderr}


def check(found: Any, mode: str, stride: int) -> None:
    assert found["bad"] == [], found["said"]
    assert found["boundaries"] > 40
    if mode in ("error", "full"):
        assert found["refused"] > found["boundaries"] // stride // 3 and not found["killed"]
    else:
        assert found["killed"] > found["boundaries"] // stride // 2 and not found["refused"]


@pytest.mark.parametrize(
    ("scenario", "mode", "stride"),
    [
        ("vote", "half", 17),
        ("vote", "power", 17),
        ("vote", "torn", 17),
        ("vote", "full", 23),
        ("follow", "kill", 17),
        ("follow", "power", 23),
        ("follow", "torn", 23),
    ],
)
def test_at_some_boundaries(library: Path, tmp_path: Path, scenario: str, mode: str, stride: int) -> None:
    check(drive(library, tmp_path, scenario, mode, stride), mode, stride)


UNSYNCED = """
import ctypes, pathlib, plyvel, sys
from otcnode.storage.level import LevelKeyValue
path = pathlib.Path(sys.argv[1])
LevelKeyValue(path, create=True).close()
library = ctypes.CDLL(None)
library.boundaries_arm(str(path).encode(), 0, 2)
killed = plyvel.DB(str(path))
killed.put(b"block", b"x" * 5_000, sync=False)
killed.close()
if sys.argv[2] == "started":
    assert LevelKeyValue(path).get(b"block") == b"x" * 5_000
library.boundaries_end()
"""
"""A block's write whose sync has not come back when the process ends; perhaps a start; then the power goes."""


@pytest.mark.parametrize("then", ["started", "stayed down"])
def test_a_block_that_is_there_at_a_start_is_there_for_good(library: Path, tmp_path: Path, then: str) -> None:
    path = tmp_path / "chain"
    done = subprocess.run(
        [sys.executable, "-c", UNSYNCED, str(path), then],
        env={**os.environ, "LD_PRELOAD": str(library)},
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    kv = LevelKeyValue(path)
    assert (kv.get(b"block") is not None) is (then == "started")
    kv.close()


@pytest.mark.long
@pytest.mark.parametrize("scenario", ["vote", "follow"])
@pytest.mark.parametrize("mode", ["kill", "half", "power", "torn", "error", "full"])
def test_at_every_boundary(library: Path, tmp_path: Path, scenario: str, mode: str) -> None:
    found = drive(library, tmp_path, scenario, mode, 1)
    check(found, mode, 1)
    assert len(found["heights"]) >= 3


@pytest.mark.parametrize(
    ("mode", "stride", "mistake", "words"),
    [
        ("power", 17, "unsynced block", "told"),
        ("torn", 11, "torn log is damage", "checksum mismatch"),
        pytest.param("power", 5, "unsynced record", "the record is not what was durable", marks=pytest.mark.long),
        pytest.param("half", 5, "record replaced in place", "the record is", marks=pytest.mark.long),
    ],
)
def test_a_planted_mistake_is_found(
    library: Path, tmp_path: Path, mode: str, stride: int, mistake: str, words: str
) -> None:
    found = drive(library, tmp_path, "vote", mode, stride, mistake)
    assert found["bad"] and words in found["said"]

"""The tools on a chain of 100,000 transactions, as processes that are interrupted and gone on with."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from otcnode.bench.chain import make_home

pytestmark = [pytest.mark.process, pytest.mark.long]

BLOCKS, TRANSACTIONS = 500, 200
TIMEOUT = 600


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("long") / "home"
    make_home(directory, BLOCKS, TRANSACTIONS)
    return directory


@pytest.fixture
def home(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built, tmp_path / "home")
    return tmp_path / "home"


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "otcnode", "db", *map(str, words), "--json"]


def db(*words: object) -> Any:
    done = subprocess.run(command(*words), capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def inspected(home: Path, table: str, key: str) -> Any:
    """The record, None where there is none."""
    words = [sys.executable, "-m", "otcnode", "db", "inspect", "--home", str(home), table, key]
    done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout) if done.returncode == 0 else None


def height(number: int) -> str:
    return number.to_bytes(8, "big").hex()


def interrupted(*words: object) -> str:
    """What the command prints after Ctrl-C, which is pressed once it has said how far it is."""
    with subprocess.Popen(
        command(*words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs, such as this test perhaps, ignore Ctrl-C and pass that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        assert re.match(r"(state copied|blocks|events exported|keys|chunks|reading|syncing).*: \d+", first), first
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    return said


def test_verify(home: Path) -> None:
    said = interrupted("verify", "--home", home)
    assert "go on with --from" in said
    found = db("verify", "--home", home)
    assert (found["height"], found["transactions"], found["violations"]) == (BLOCKS, BLOCKS * TRANSACTIONS, [])


def test_replay(home: Path) -> None:
    assert "go on with the same command" in interrupted("replay", "--home", home)
    found = db("replay", "--home", home)
    assert 0 < found["first"] < found["last"] == BLOCKS
    assert found["transactions"] == (BLOCKS - found["first"]) * TRANSACTIONS


def test_rollback_and_replay_of_what_is_left(home: Path) -> None:
    assert "go on with the same command" in interrupted("rollback", "--home", home, "--to", 10)
    between = db("verify", "--home", home)["height"]
    assert 10 < between < BLOCKS
    assert db("rollback", "--home", home, "--to", 10)["blocks_taken_back"] == between - 10
    assert db("verify", "--home", home)["transactions"] == 10 * TRANSACTIONS
    assert db("replay", "--home", home)["last"] == 10


def test_prune_gives_the_disk_back(home: Path) -> None:
    found = db("prune", "--home", home, "--keep-blocks", 50, "--keep-history", 50)
    assert found["bytes_after"] < found["bytes_before"] / 2
    assert db("verify", "--home", home)["blocks_first"] == BLOCKS - 49
    assert db("replay", "--home", home)["first"] == BLOCKS - 50


def test_snapshot_and_restore(home: Path, tmp_path: Path) -> None:
    """What is restored is the same chain: same header, and every hash of it proven again."""
    words = ("snapshot", "--home", home, "--to", tmp_path / "made")
    assert "go on with the same command" in interrupted(*words)
    made = db(*words)
    assert made["height"] == BLOCKS and made["keys"] > 1_000
    again = tmp_path / "again"
    again.mkdir()
    shutil.copy(home / "genesis.json", again)
    words = ("restore", "--home", again, "--from", tmp_path / "made")
    assert db(*words) == made
    found = db("verify", "--home", again)
    assert (found["height"], found["blocks_first"], found["violations"]) == (BLOCKS, BLOCKS + 1, [])
    assert inspected(again, "header", height(BLOCKS)) == inspected(home, "header", height(BLOCKS))
    assert inspected(again, "header", height(BLOCKS - 1)) is None


def test_inspect(home: Path) -> None:
    """From a block by height to one of its transactions, and from that one's id back to its place."""
    middle = height(BLOCKS // 2)
    header = inspected(home, "header", middle)
    assert header["height"] == BLOCKS // 2 and header["transaction_count"] == TRANSACTIONS
    certificate = inspected(home, "certificate", middle)
    assert inspected(home, "block_hash", certificate["block_hash"]) == middle
    last = inspected(home, "indexed", middle)["transactions"][-1]
    assert inspected(home, "transaction", last) == middle + (TRANSACTIONS - 1).to_bytes(4, "big").hex()
    assert inspected(home, "header", height(BLOCKS + 1)) is None


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_export(home: Path, tmp_path: Path, form: str) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    words = ("export", "events", "--home", home, "--format", form, "--output", tmp_path / "out")
    assert "go on with the same command" in interrupted(*words)
    assert db(*words)["last"] == BLOCKS
    db("export", "events", "--home", home, "--format", form, "--output", tmp_path / "whole")
    if form == "parquet":
        assert [entry.name for entry in (tmp_path / "out").iterdir()] == [
            entry.name for entry in (tmp_path / "whole").iterdir()
        ]
        return
    assert (tmp_path / "out").read_bytes() == (tmp_path / "whole").read_bytes()
    assert len((tmp_path / "out").read_bytes().splitlines()) > BLOCKS * TRANSACTIONS

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

from otcnode import genesis
from otcnode.bench import large_state
from otcnode.bench.chain import ChainBuilder, make_home
from otcnode.storage.level import LevelKeyValue
from otcnode.storage.schema import Table

pytestmark = [pytest.mark.process, pytest.mark.long]

BLOCKS, TRANSACTIONS = 500, 200
ACCOUNTS = 100_000
"""Four state keys each: what takes long enough to copy to be stopped several times."""
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


def inspected(home: Path, *words: object) -> Any:
    """The record, None where there is none."""
    line = [sys.executable, "-m", "otcnode", "db", "inspect", "--home", str(home), *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout) if done.returncode == 0 else None


def damaged(*words: object) -> str:
    done = subprocess.run(command(*words), capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 2, done.stderr
    return done.stderr


PARTS = "state copied|blocks|events exported|keys|chunks|reading|syncing"


OFTEN = """
from otcnode.cli import progress
from otcnode.cli.main import main

progress.LINE_SECONDS = 0.2
main()
"""
"""The same command line, which says ten times as often how far it is: a fast machine would be done before."""


def interrupted(*words: object, part: str = PARTS) -> str:
    """What the command prints after Ctrl-C, which is pressed once it has said how far it is with this part."""
    with subprocess.Popen(
        [sys.executable, "-c", OFTEN, *command(*words)[3:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs, such as this test perhaps, ignore Ctrl-C and pass that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        assert any(re.match(rf"({part}).*: \d+", line) for line in lines), "it ended without saying so"
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
    assert 0 == found["begun_at"] < found["first"] < found["last"] == BLOCKS
    assert found["transactions"] == (BLOCKS - found["first"]) * TRANSACTIONS


def test_a_replay_from_a_state_that_is_kept(home: Path) -> None:
    """Stopped, gone on with, and no stand-in for a replay of more."""
    words = ("replay", "--home", home, "--from", 100)
    assert "go on with the same command" in interrupted(*words, part="blocks replayed")
    found = db(*words)
    assert found["begun_at"] == 100 < found["first"] < found["last"] == BLOCKS
    assert "go on with the same command" in interrupted(*words, part="blocks replayed")
    found = db("replay", "--home", home)
    assert (found["begun_at"], found["first"], found["transactions"]) == (0, 0, BLOCKS * TRANSACTIONS)


def test_a_replay_of_a_pruned_chain(home: Path) -> None:
    db("prune", "--home", home, "--keep-blocks", 300)
    words = ("replay", "--home", home)
    assert "go on with the same command" in interrupted(*words, part="blocks replayed")
    found = db(*words)
    assert found["begun_at"] == BLOCKS - 300 < found["first"] < found["last"] == BLOCKS


def test_a_replay_that_copies_a_large_state(tmp_path: Path) -> None:
    """It is stopped in the middle of that, several times, and passes; so does whatever comes after it."""
    home = tmp_path / "home"
    make_home(home, 0, 0)
    kv = LevelKeyValue(home / "data" / "chain")
    builder = ChainBuilder(kv, genesis.load(home / "genesis.json"))
    large_state.grow(builder, ACCOUNTS)
    grown = builder.store.tip.height
    builder.grow(4, 3)
    kv.close()
    words = ("replay", "--home", home, "--from", grown + 1)
    for _ in range(2):
        assert "go on with the same command" in interrupted(*words, part="state copied")
    found = db(*words)
    assert found == {"begun_at": grown + 1, "first": grown + 1, "last": grown + 4, "transactions": 9}
    assert "go on with the same command" in interrupted(*words, part="state copied")
    words = ("replay", "--home", home, "--from", grown + 2)
    assert db(*words)["begun_at"] == grown + 2
    assert not (home / "data" / "replay").exists()


def test_a_verify_that_goes_on_misses_nothing_above(home: Path) -> None:
    reached = int(interrupted("verify", "--home", home).rsplit("--from ", 1)[1])
    key = inspected(home, "indexed", BLOCKS)["keys"][0]
    kv = LevelKeyValue(home / "data" / "chain")
    kv.write([(Table.INDEX.value + bytes.fromhex(key.removeprefix("0x")), bytes(12))])
    kv.close()
    assert 1 < reached < BLOCKS
    assert f"of block {BLOCKS} is not what its receipts say" in damaged("verify", "--home", home, "--from", reached)


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
    assert inspected(home, BLOCKS)["height"] == BLOCKS
    assert inspected(again, BLOCKS) == inspected(home, BLOCKS)
    assert inspected(again, BLOCKS - 1) is None


def test_inspect(home: Path) -> None:
    """From a block by height to one of its transactions, and from that one's id back to its place; and what it did to
    the account, as of the heights around it."""
    middle = BLOCKS // 2
    header = inspected(home, middle)
    assert header["height"] == middle and header["transaction_count"] == TRANSACTIONS
    certificate = inspected(home, "certificate", middle)
    assert inspected(home, certificate["block_hash"])["header"] == header
    last = inspected(home, "indexed", middle)["transactions"][-1]
    found = inspected(home, last)
    assert (found["height"], found["index"]) == (middle, TRANSACTIONS - 1)
    (deposit,) = found["transaction"]["body"]["operations"]
    balance = ("state", "cash_balance", deposit["account"], deposit["cash"])
    before, after = (inspected(home, *balance, "--at-height", at) for at in (middle - 1, middle))
    assert int(after["balance"]) >= (int(before["balance"]) if before else 0) + int(deposit["amount"])
    history = inspected(home, "history", *balance[1:])
    assert after in [change["record"] for change in history["changes"] if change["height"] == middle]
    assert inspected(home, BLOCKS + 1) is None


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

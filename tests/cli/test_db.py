"""The commands on a stopped node's data directory: what they print, leave behind and end with."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from otcnode.bench.chain import genesis_of, make_home
from otcnode.cli import maintenance
from otcnode.cli.main import otcnode
from otcnode.config import Home
from otcnode.consensus.record import birth
from otcnode.errors import ConfigurationError, OtcnodeError, StorageDamage
from otcnode.maintenance import export as exports
from otcnode.maintenance.replay import Differs
from otcnode.storage import pruning
from otcnode.storage.level import LevelKeyValue
from otcnode.storage.schema import Table, height_key
from otcnode.storage.votes_file import FileVotesLog

HEIGHT, TRANSACTIONS = 40, 5


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("built") / "home"
    make_home(directory, HEIGHT, TRANSACTIONS, genesis=genesis_of(buckets=256))
    return directory


@pytest.fixture
def home(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built, tmp_path / "home")
    return tmp_path / "home"


def db(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(otcnode, ["db", *map(str, words)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def asked(*words: object) -> Any:
    return json.loads(db(*words, "--json").stdout)


def refused(kind: type[OtcnodeError], *words: object) -> str:
    result = CliRunner().invoke(otcnode, ["db", *map(str, words)])
    assert isinstance(result.exception, kind), result.output
    return str(result.exception)


def interrupt_after(monkeypatch: pytest.MonkeyPatch, part: str, done: int) -> None:
    """As if Ctrl-C were pressed when this much is done."""
    from contextlib import contextmanager

    @contextmanager
    def bars() -> Any:
        def show(name: str, reached: int, whole: int) -> None:
            if (name, reached) == (part, done):
                raise KeyboardInterrupt

        yield show

    monkeypatch.setattr(maintenance, "bars", bars)


def test_verify_says_what_it_found_and_can_leave_out_what_was_checked(home: Path) -> None:
    found = asked("verify", "--home", home)
    assert (found["height"], found["transactions"]) == (HEIGHT, HEIGHT * TRANSACTIONS)
    assert asked("verify", "--home", home, "--from", 30) == found
    kv = LevelKeyValue(Home(home).database)
    kv.write([(height_key(Table.CERTIFICATE, 20), b"?")])
    kv.close()
    assert "certificate 20" in refused(StorageDamage, "verify", "--home", home)
    assert asked("verify", "--home", home, "--from", 21) == found
    assert "blocks first" in db("verify", "--home", home, "--from", 21).stdout


def test_whoever_verifies_a_damaged_store_is_told_what_comes_next(home: Path) -> None:
    """To be sent to the very command that was just run would help nobody."""
    tables = sorted(Home(home).database.glob("*.ldb")) or sorted(Home(home).database.glob("*.log"))
    raw = bytearray(tables[0].read_bytes())
    raw[len(raw) // 3] ^= 4
    tables[0].write_bytes(raw)
    said = refused(StorageDamage, "verify", "--home", home)
    assert "is damaged" in said and said.endswith("run otcnode db restore, or delete it and let the node sync")


def test_replay_confirms_and_cleans_up_and_names_what_differs(home: Path) -> None:
    assert asked("replay", "--home", home) == {"first": 0, "last": HEIGHT, "transactions": HEIGHT * TRANSACTIONS}
    assert asked("replay", "--home", home, "--from", 30, "--scratch", home / "beside")["first"] == 30
    assert "came out as it is stored" in db("replay", "--home", home).stdout
    assert {entry.name for entry in (home / "data").iterdir()} == {"chain"} and not (home / "beside").exists()
    kv = LevelKeyValue(Home(home).database)
    kv.write([(height_key(Table.RECEIPTS, 20), kv.get(height_key(Table.RECEIPTS, 21)))])
    kv.close()
    assert "block 20: the stored receipts" in refused(Differs, "replay", "--home", home)


def test_a_stopped_replay_goes_on(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(patch, "blocks replayed", 25)
        assert "go on with the same command" in db("replay", "--home", home, code=130).stderr
    assert asked("replay", "--home", home)["first"] == 25


def test_rollback_makes_the_record_void_and_the_chain_shorter(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = FileVotesLog.create(Home(home).record)
    record.append(birth())
    record.sync()
    record.close()
    unchanged = asked("rollback", "--home", home, "--to", HEIGHT)
    assert unchanged == {"height": HEIGHT, "blocks_taken_back": 0, "record_voided": False}
    assert Home(home).record.exists()
    assert "heights 0 to 40" in refused(ConfigurationError, "rollback", "--home", home, "--to", HEIGHT + 1)
    assert Home(home).record.exists()
    with monkeypatch.context() as patch:
        interrupt_after(patch, "blocks taken back", 4)
        assert "go on with the same command" in db("rollback", "--home", home, "--to", 30, code=130).stderr
    assert not Home(home).record.exists()
    assert asked("verify", "--home", home)["height"] == HEIGHT - 4
    found = asked("rollback", "--home", home, "--to", 30)
    assert found == {"height": 30, "blocks_taken_back": 6, "record_voided": False}
    assert asked("verify", "--home", home)["height"] == 30
    assert asked("replay", "--home", home)["last"] == 30


def test_prune_gives_the_disk_back_and_goes_on(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "BLOCKS_PER_WRITE", 4)
    with monkeypatch.context() as patch:
        interrupt_after(patch, "pruned", 16)
        assert "go on with the same command" in db("prune", "--home", home, "--keep-blocks", 5, code=130).stderr
    assert asked("verify", "--home", home)["blocks_first"] == 9
    found = asked("prune", "--home", home, "--keep-blocks", 5, "--keep-history", 2)
    assert (found["blocks_first"], found["history_first"]) == (HEIGHT - 4, HEIGHT - 2)
    assert found["bytes_after"] < found["bytes_before"]
    assert asked("verify", "--home", home)["transactions"] == 5 * TRANSACTIONS
    assert asked("replay", "--home", home)["first"] == HEIGHT - 2


def test_a_directory_in_use_is_refused_by_every_command(home: Path, tmp_path: Path) -> None:
    kv = LevelKeyValue(Home(home).database)
    for words in (
        ("verify",),
        ("inspect", "meta", "00"),
        ("replay",),
        ("rollback", "--to", 1),
        ("prune", "--keep-blocks", 1),
        ("export", "blocks", "--output", tmp_path / "out"),
    ):
        assert "is in use by another otcnode process" in refused(ConfigurationError, *words, "--home", home)
    kv.close()


# exports


def test_an_export_is_the_same_in_every_format(home: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    for kind, count in (("blocks", HEIGHT), ("transactions", HEIGHT * TRANSACTIONS), ("events", None)):
        for form in ("jsonl", "csv", "parquet"):
            db("export", kind, "--home", home, "--format", form, "--output", tmp_path / f"{kind}.{form}")
        lines = [json.loads(line) for line in (tmp_path / f"{kind}.jsonl").read_text().splitlines()]
        assert len(lines) == count or (count is None and len(lines) > HEIGHT * TRANSACTIONS)
        flat = [{name: exports._flat(value) for name, value in row.items()} for row in lines]
        assert parquet.read_table(tmp_path / f"{kind}.parquet").to_pylist() == flat
        with (tmp_path / f"{kind}.csv").open(newline="") as file:
            read = list(csv.DictReader(file))
        assert read == [{name: "" if value is None else str(value) for name, value in row.items()} for row in flat]


def test_what_an_export_says(home: Path, tmp_path: Path) -> None:
    words = ("--home", home, "--from", 3, "--to", 4, "--output")
    assert asked("export", "events", *words, tmp_path / "events") == {"first": 3, "last": 4, "begun_at": 3}
    rows = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    assert {row["height"] for row in rows} == {3, 4} and {row["type"] for row in rows} >= {"cash.moved"}
    assert [row["number"] for row in rows if row["height"] == 3] == list(range(len(rows) // 2))
    asked("export", "transactions", *words, tmp_path / "transactions")
    first = json.loads((tmp_path / "transactions").read_text().splitlines()[0])
    assert (first["height"], first["index"], first["code"]) == (3, 0, "OK")
    assert first["operations"][0]["type"] == "cash.deposit" and first["id"].startswith("tx1")
    assert {row["transaction"] for row in rows} >= {first["id"]}
    assert "exists already" in refused(ConfigurationError, "export", "events", *words, tmp_path / "events")
    wrong = ("export", "events", "--home", home, "--output", tmp_path / "other", "--to", HEIGHT + 1)
    assert "blocks 1 to 40 are kept" in refused(ConfigurationError, *wrong)


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_stopped_export_goes_on(home: Path, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "BLOCKS_PER_STEP", 10)
    words = ("export", "events", "--home", home, "--format", form, "--output")
    db(*words, tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt_after(patch, "events exported", 20)
        assert "go on with the same command" in db(*words, tmp_path / "out", code=130).stderr
    assert not (tmp_path / "out").exists()
    with (tmp_path / "out.part").open("ab") as file:
        file.write(b"a line that was not finis")
    other = refused(ConfigurationError, *words, tmp_path / "out", "--from", 2)
    assert "out.part.json is of another export" in other
    assert asked(*words, tmp_path / "out")["begun_at"] == 21
    assert (tmp_path / "out").read_bytes() == (tmp_path / "whole").read_bytes()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["home", "out", "whole"]


def test_a_stopped_parquet_export_goes_on(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    monkeypatch.setattr(exports, "BLOCKS_PER_PARQUET_FILE", 15)
    words = ("export", "events", "--home", home, "--format", "parquet", "--output", tmp_path / "out")
    with monkeypatch.context() as patch:
        interrupt_after(patch, "events exported", 15)
        assert "go on with the same command" in db(*words, code=130).stderr
    (tmp_path / "out" / "draft").write_bytes(b"half a file")
    assert asked(*words)["begun_at"] == 16
    assert len(list((tmp_path / "out").iterdir())) == 3
    heights = parquet.read_table(tmp_path / "out", columns=["height"])["height"].to_pylist()
    assert sorted(set(heights)) == list(range(1, HEIGHT + 1))
    assert "holds other files" in refused(ConfigurationError, *words, "--from", 2)


# the guide


def test_the_commands_of_the_operations_guide_do_what_it_says(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    section = guide[guide.index("## Tools for a stopped node") :]
    commands = re.findall(r"^\$ otcnode db (.*)$", section[: section.index("\n```\n")], re.MULTILINE)
    assert len(commands) >= 8
    home.rename(tmp_path / "validator1")
    monkeypatch.chdir(tmp_path)
    for command in commands:
        db(*command.split())
    assert asked("verify", "--home", "validator1")["blocks_first"] == 26
    assert len((tmp_path / "blocks.jsonl").read_text().splitlines()) == HEIGHT

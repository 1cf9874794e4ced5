"""The commands on a stopped node's data directory: what they print, leave behind and end with."""

from __future__ import annotations

import csv
import itertools
import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any, NoReturn

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from otcnode import genesis, limits
from otcnode.bench.chain import genesis_of, make_home
from otcnode.cli import maintenance, snapshots, stopped
from otcnode.cli.main import otcnode
from otcnode.codec import encode
from otcnode.config import Home
from otcnode.consensus.evidence import Kind, Offence
from otcnode.consensus.record import birth
from otcnode.engine.evidence import KeptEvidence, name_of
from otcnode.errors import ConfigurationError, DiskFull, OtcnodeError, StorageDamage
from otcnode.genesis import chain_id
from otcnode.maintenance import export as exports
from otcnode.maintenance import replay as replays
from otcnode.maintenance import scratch as scratches
from otcnode.maintenance.replay import Differs
from otcnode.storage import incoming, pruning
from otcnode.storage.directory import DirectoryFolders
from otcnode.storage.documents import ADVICE_DOCUMENT, ADVICE_DOCUMENTS
from otcnode.storage.incoming import Incoming
from otcnode.storage.level import LevelKeyValue
from otcnode.storage.schema import FORMAT, Meta, Table, height_key
from otcnode.storage.shelf import former
from otcnode.storage.snapshot_maker import read_manifest
from otcnode.storage.votes_file import FileVotesLog
from otcnode.vm.documents.records import sealed_name
from otcnode.vm.folding import Fold
from tests.engine.network import key_of
from tests.engine.test_evidence import double
from tests.storage.test_shelf import full_disk

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
    def bars(check: object) -> Any:
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
    said = refused(ConfigurationError, "verify", "--home", home, "--from", HEIGHT + 2)
    assert said == f"the last block is {HEIGHT}: none would be checked from {HEIGHT + 2} on"


def test_whoever_verifies_a_damaged_store_is_told_what_comes_next(home: Path) -> None:
    """To be sent to the very command that was just run would help nobody."""
    tables = sorted(Home(home).database.glob("*.ldb")) or sorted(Home(home).database.glob("*.log"))
    raw = bytearray(tables[0].read_bytes())
    raw[len(raw) // 3] ^= 4
    tables[0].write_bytes(raw)
    said = refused(StorageDamage, "verify", "--home", home)
    assert "is damaged" in said and said.endswith("run otcnode db restore, or delete it and let the node sync")


def test_replay_confirms_and_cleans_up_and_names_what_differs(home: Path) -> None:
    found = asked("replay", "--home", home)
    assert found == {"begun_at": 0, "first": 0, "last": HEIGHT, "transactions": HEIGHT * TRANSACTIONS}
    assert asked("replay", "--home", home, "--from", 30, "--scratch", home / "beside")["first"] == 30
    assert "came out as it is stored" in db("replay", "--home", home).stdout
    assert {entry.name for entry in (home / "data").iterdir()} == {"chain"} and not (home / "beside").exists()
    kv = LevelKeyValue(Home(home).database)
    kv.write([(height_key(Table.RECEIPTS, 20), kv.get(height_key(Table.RECEIPTS, 21)))])
    kv.close()
    assert "block 20: the stored receipts" in refused(Differs, "replay", "--home", home)


def stop(monkeypatch: pytest.MonkeyPatch, home: Path, part: str, done: int, *words: object) -> None:
    """A replay that is stopped when this much is done."""
    with monkeypatch.context() as patch:
        interrupt_after(patch, part, done)
        assert "go on with the same command" in db("replay", "--home", home, *words, code=130).stderr


def test_a_stopped_replay_goes_on(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop(monkeypatch, home, "blocks replayed", 25)
    found = asked("replay", "--home", home)
    assert (found["begun_at"], found["first"]) == (0, 25)
    assert not (home / "data" / "replay").exists()


def test_a_replay_that_is_stopped_while_it_copies_the_state_goes_on(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so do all that come after it: nothing that it left behind is taken for the chain's."""
    monkeypatch.setattr(replays, "BATCH_KEYS", 100)
    stop(monkeypatch, home, "state copied", 300, "--from", 30)
    found = asked("replay", "--home", home, "--from", 30)
    assert (found["begun_at"], found["first"], found["last"]) == (30, 30, HEIGHT)
    stop(monkeypatch, home, "state copied", 300, "--from", 30)
    assert asked("replay", "--home", home)["begun_at"] == 0
    db("prune", "--home", home, "--keep-blocks", 10)
    stop(monkeypatch, home, "state copied", 300)
    assert asked("replay", "--home", home)["begun_at"] == HEIGHT - 10


def test_a_stopped_replay_never_stands_in_for_one_of_more(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop(monkeypatch, home, "blocks replayed", 5, "--from", 20)
    result = db("replay", "--home", home, "--json")
    assert "an earlier replay was begun above it, at height 20; this one begins anew at height 0" in result.stderr
    assert json.loads(result.stdout)["transactions"] == HEIGHT * TRANSACTIONS
    stop(monkeypatch, home, "blocks replayed", 5)
    result = db("replay", "--home", home, "--json", "--from", 20)
    assert "begun at height 0 and had only reached 5; this one begins anew at height 20" in result.stderr
    stop(monkeypatch, home, "blocks replayed", 25)
    found = asked("replay", "--home", home, "--from", 20)
    assert (found["begun_at"], found["first"]) == (0, 25)


def test_what_another_code_has_executed_is_executed_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(scratches, "code_hash", lambda: "0" * 64)
        stop(patch, home, "blocks replayed", 25)
    result = db("replay", "--home", home, "--json")
    assert "made by another code of otcnode (version 0.1.0); this one begins anew" in result.stderr
    assert json.loads(result.stdout)["first"] == 0


def test_a_damaged_replay_is_not_held_against_the_chain(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = home / "data" / "replay" / "chain"
    stop(monkeypatch, home, "blocks replayed", 25)
    (store / "CURRENT").unlink()
    result = db("replay", "--home", home, "--json")
    assert "is missing; nothing else is); this one begins anew at height 0" in result.stderr
    assert "restore" not in result.stderr and json.loads(result.stdout)["first"] == 0
    stop(monkeypatch, home, "blocks replayed", 25)
    kv = LevelKeyValue(store)
    kv.write([(key, bytes(32)) for key, _ in list(kv.scan(Table.TREE.value))])
    kv.close()
    said = refused(ConfigurationError, "replay", "--home", home)
    assert "the replay's own store was damaged" in said and said.endswith("run it again: it begins anew")
    assert asked("replay", "--home", home)["first"] == 0


def test_a_directory_that_is_no_replay_s_is_left_alone(home: Path, tmp_path: Path) -> None:
    """Another node's chain would be gone on with, and removed at the end."""
    other = tmp_path / "other"
    shutil.copytree(home, other)
    before = sorted(path.name for path in other.rglob("*"))
    for scratch in (other, Home(other).database, home / "data"):
        assert "is not a replay's own" in refused(ConfigurationError, "replay", "--home", home, "--scratch", scratch)
    assert sorted(path.name for path in other.rglob("*")) == before
    (tmp_path / "empty").mkdir()
    assert asked("replay", "--home", home, "--scratch", tmp_path / "empty")["last"] == HEIGHT


def test_a_verify_that_goes_on_adds_up_the_events_of_all_blocks(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was stopped before that, and the blocks are not read a second time for anything else."""
    folded: list[int] = []
    add = Fold.add
    monkeypatch.setattr(Fold, "add", lambda fold, events: (folded.append(len(events)), add(fold, events)))
    asked("verify", "--home", home)
    whole, folded[:] = list(folded), []
    asked("verify", "--home", home, "--from", HEIGHT + 1)
    assert folded == whole and sum(whole) > HEIGHT * TRANSACTIONS


def test_damaged_documents_do_not_make_the_chain_one_that_cannot_be_trusted(home: Path) -> None:
    documents = Home(home).documents
    LevelKeyValue(documents, create=True).close()
    assert asked("verify", "--home", home)["documents"] == 0
    (documents / "CURRENT").unlink()
    said = refused(StorageDamage, "verify", "--home", home)
    assert said.endswith(ADVICE_DOCUMENTS) and "data/documents" in said and "move it aside and keep it" in said
    assert "restore" not in said


def test_only_verify_says_that_a_chain_cannot_be_trusted(home: Path, tmp_path: Path) -> None:
    kv = LevelKeyValue(Home(home).database)
    kv.write([(height_key(Table.BODY, 20), b"?")])
    kv.close()
    for words in (("export", "transactions", "--output", tmp_path / "out"), ("replay",)):
        said = refused(StorageDamage, *words, "--home", home)
        assert said == "body 20 is damaged or missing; stop the node and run: otcnode db verify"
    assert "this store cannot be trusted" in refused(StorageDamage, "verify", "--home", home)


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


def filed(home: Path, raw: bytes = b"sealed") -> str:
    """A document where an earlier version kept it; its name."""
    name = sealed_name(raw)
    kv = LevelKeyValue(Home(home).database)
    kv.write([(Table.DOCUMENT.value + name, raw)])
    kv.close()
    return name.hex()


def test_documents_survive_a_rollback_and_a_restore(home: Path, tmp_path: Path) -> None:
    """And verify counts them, inspect shows them."""
    db("snapshot", "--home", home, "--to", tmp_path / "snapshot")
    name = filed(home)
    asked("rollback", "--home", home, "--to", 30)
    assert asked("verify", "--home", home)["documents"] == 1
    asked("restore", "--home", home, "--from", tmp_path / "snapshot")
    found = asked("verify", "--home", home)
    assert (found["height"], found["documents"]) == (HEIGHT, 1)
    assert b"sealed".hex() in db("inspect", "--home", home, "document", name).stdout
    kv = LevelKeyValue(Home(home).documents)
    assert kv.get(Table.DOCUMENT_KEPT.value + bytes.fromhex(name)) == HEIGHT.to_bytes(8, "big")
    kv.write([(Table.DOCUMENT.value + bytes.fromhex(name), b"?")])
    kv.close()
    said = refused(StorageDamage, "verify", "--home", home)
    assert name in said and said.endswith(ADVICE_DOCUMENT)


def test_a_restore_takes_no_document_along_that_lay_with_the_chain(home: Path, tmp_path: Path) -> None:
    db("snapshot", "--home", home, "--to", tmp_path / "snapshot")
    filed(home)
    asked("restore", "--home", home, "--from", tmp_path / "snapshot", "--replace")
    assert asked("verify", "--home", home)["documents"] == 1


def test_a_restore_takes_evidence_along_but_none_that_is_damaged(home: Path, tmp_path: Path) -> None:
    """Nobody else may have it; and a node does not start on what is damaged of it."""
    db("snapshot", "--home", home, "--to", tmp_path / "snapshot")
    key = key_of("liar")
    offence = Offence(key.public, Kind.DOUBLE_COMMIT, 1, 0, 3)
    kept = (name_of(offence), encode(KeptEvidence(offence, double(bytes(32), key), 1, None)))
    kv = LevelKeyValue(Home(home).database)
    kv.write([(Table.EVIDENCE.value + name, raw) for name, raw in (kept, (b"x" * 32, b"junk"))])
    kv.close()
    said = db("restore", "--home", home, "--from", tmp_path / "snapshot", "--replace").stderr
    assert "the evidence 787878787878… is damaged" in said and "it does not go along" in said
    kv = LevelKeyValue(Home(home).database)
    assert list(kv.scan(Table.EVIDENCE.value)) == [(Table.EVIDENCE.value + kept[0], kept[1])]
    kv.close()


@pytest.mark.parametrize("part", ["_hold", "_opened", "_gather", "finish", "complete_installation"])
def test_a_restore_that_finds_the_disk_full_says_what_is_left_and_goes_on(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """The node is not to be started before: its record may be void, and its chain is the old one."""
    made = asked("snapshot", "--home", home, "--to", tmp_path / "snapshot")
    assert asked("verify", "--home", home)["height"] == HEIGHT
    restore = ("restore", "--home", home, "--from", tmp_path / "snapshot", "--replace")
    owner: Any = Incoming if part == "finish" else snapshots
    whole = getattr(owner, part)

    def refusing(*arguments: Any, **options: Any) -> Any:
        with full_disk():
            return whole(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(limits, "snapshot_unwritten_bytes_max", 0)
        patched.setattr(owner, part, refusing)
        said = refused(DiskFull, *restore)
    left = snapshots.CHAIN_LEFT if part in ("_hold", "_opened", "_gather") else snapshots.RECORD_VOID
    assert said.startswith("the disk of ") and said.endswith(f"{left}: free space, then go on with the same command")
    assert asked(*restore) == made


def test_a_restore_says_from_when_on_it_is_not_stopped_and_reads_nothing_again_then(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has just read all of it: on a large state that takes minutes, in which it would hear nothing."""
    made = asked("snapshot", "--home", home, "--to", tmp_path / "snapshot")
    install = snapshots.complete_installation
    said: list[str] = []

    def pressed(*arguments: Any, **options: Any) -> Any:
        assert said == [snapshots.NOT_STOPPED]
        signal.raise_signal(signal.SIGINT)
        return install(*arguments, **options)

    def read_again(*_: object) -> NoReturn:
        raise AssertionError("the state is read again")

    monkeypatch.setattr(incoming, "_leaves_of_state", read_again)
    monkeypatch.setattr(incoming, "_leaves_of_tree", read_again)
    monkeypatch.setattr(snapshots, "_say", said.append)
    monkeypatch.setattr(snapshots, "complete_installation", pressed)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert asked("restore", "--home", home, "--from", tmp_path / "snapshot", "--replace") == made
    assert asked("verify", "--home", home)["height"] == HEIGHT


@pytest.mark.parametrize("harm", ["emptied", "deleted", "other files", "no table", "index"])
def test_a_restore_puts_a_chain_where_there_is_none_or_a_damaged_one(home: Path, tmp_path: Path, harm: str) -> None:
    made = asked("snapshot", "--home", home, "--to", tmp_path / "snapshot")
    database = Home(home).database
    kv = LevelKeyValue(database)
    kv.compact()
    kv.close()
    restore = ["restore", "--home", home, "--from", tmp_path / "snapshot"]
    match harm:
        case "no table":
            for table in database.glob("*.ldb"):
                table.unlink()
        case "index":
            table = max(database.glob("*.ldb"), key=lambda path: path.stat().st_size)
            raw = bytearray(table.read_bytes())
            raw[-1_500] ^= 1
            table.write_bytes(raw)
        case _:
            shutil.rmtree(database)
            if harm != "deleted":
                database.mkdir()
            if harm == "other files":
                (database / "notes").write_text("")
                assert "holds no chain, but other files" in refused(ConfigurationError, *restore)
                restore.append("--replace")
    assert asked(*restore) == made
    assert asked("verify", "--home", home)["height"] == HEIGHT


def test_a_restore_that_meets_damage_in_what_it_gathered_gathers_it_again(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = asked("snapshot", "--home", home, "--to", tmp_path / "snapshot")
    restore = ("restore", "--home", home, "--from", tmp_path / "snapshot", "--replace")
    with monkeypatch.context() as patch:
        patch.setattr(Incoming, "finish", interrupted)
        assert "go on with the same command" in db(*restore, code=130).stderr
    kv = LevelKeyValue(Home(home).incoming)
    kv.compact()
    kv.close()
    table = max(Home(home).incoming.glob("*.ldb"), key=lambda path: path.stat().st_size)
    raw = bytearray(table.read_bytes())
    raw[len(raw) // 2] ^= 1
    table.write_bytes(raw)
    assert "the node's chain is as it was" in refused(StorageDamage, *restore)
    assert asked("verify", "--home", home)["height"] == HEIGHT
    assert asked(*restore) == made


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


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


def test_inspect_shows_one_record_or_those_that_begin_alike(home: Path) -> None:
    assert json.loads(db("inspect", "--home", home, 7).stdout)["height"] == 7
    assert json.loads(db("inspect", "--home", home, "header", 7).stdout)["height"] == 7
    assert len(json.loads(db("inspect", "--home", home, "state", "cash_balance", "--limit", 3).stdout)) == 3
    words = ("inspect", "--home", home, "state", "cash_asset", "CNY@BENCH0")
    assert json.loads(db(*words, "--at-height", 0).stdout)["total"] == "0" != json.loads(db(*words).stdout)["total"]
    assert len(json.loads(db("inspect", "--home", home, "history", *words[4:]).stdout)["changes"]) == HEIGHT
    for unknown in (("header", HEIGHT + 1), ("state", "product"), ("history", "product", "0x00")):
        assert "no such record" in db("inspect", "--home", home, *unknown, code=1).stderr
    assert "is no table" in refused(ConfigurationError, "inspect", "--home", home, "headers", 1)


def test_what_prune_drops_nobody_who_joins_needs(home: Path, tmp_path: Path) -> None:
    """There is a snapshot that the blocks that stay lead on from."""
    found = asked("prune", "--home", home, "--keep-blocks", 5)
    assert (found["snapshot_made"], found["blocks_first"]) == (HEIGHT, HEIGHT - 4)
    (made,) = Home(home).snapshots.iterdir()
    joiner = tmp_path / "joiner"
    joiner.mkdir()
    shutil.copyfile(Home(home).genesis, Home(joiner).genesis)
    assert asked("restore", "--home", joiner, "--from", made)["height"] >= found["blocks_first"] - 1
    assert asked("prune", "--home", home, "--keep-blocks", 3)["snapshot_made"] is None
    assert [path.name for path in Home(home).snapshots.iterdir()] == [made.name]


def test_a_snapshot_of_blocks_that_were_taken_back_is_none_for_who_joins(home: Path) -> None:
    asked("rollback", "--home", home, "--to", 30)
    assert asked("prune", "--home", home, "--keep-blocks", 20)["snapshot_made"] == 30
    folder = DirectoryFolders(Home(home).snapshots).open("000000000030")
    manifest = read_manifest(folder)
    assert manifest is not None
    folder.write("manifest", encode(replace(manifest, header=replace(manifest.header, proposer=bytes(32)))))
    folder.write("block", bytes(32))
    assert asked("prune", "--home", home, "--keep-blocks", 10)["snapshot_made"] == 30
    assert read_manifest(folder) == manifest


def test_prune_makes_a_snapshot_only_where_one_is_needed(home: Path) -> None:
    assert asked("prune", "--home", home, "--keep-blocks", HEIGHT)["snapshot_made"] is None
    asked("rollback", "--home", home, "--to", 30)
    assert asked("prune", "--home", home, "--keep-blocks", 20)["snapshot_made"] == 30
    manifest = Home(home).snapshots / "000000000030" / "manifest"
    raw = bytearray(manifest.read_bytes())
    raw[len(raw) // 2] ^= 1
    manifest.write_bytes(raw)
    assert asked("prune", "--home", home, "--keep-blocks", 10)["snapshot_made"] == 30, "the one there was is damaged"
    manifest.unlink()
    Home(home).configuration.write_text('name = "node"\n[snapshots]\ninterval_blocks = 0\n')
    assert asked("prune", "--home", home, "--keep-blocks", 5)["snapshot_made"] is None
    assert not manifest.exists()


def test_a_snapshot_gives_way_to_the_chain_and_goes_on_where_there_is_room(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the chain 512 MiB are left to it; a disk of its own is filled as far as the snapshot fits."""
    target = tmp_path / "snapshots" / "snapshot"
    with monkeypatch.context() as patched:
        patched.setattr(DirectoryFolders, "free_bytes", lambda self: limits.snapshot_spare_bytes + 10)
        with pytest.raises(
            ConfigurationError, match=f"{target}: the disk has no room for it: .* MiB are needed.*; make room"
        ):
            db("snapshot", "--home", home, "--to", target)
        patched.setattr(DirectoryFolders, "is_beside", lambda self, other: False)
        assert asked("snapshot", "--home", home, "--to", tmp_path / "apart")["height"] == HEIGHT
    assert asked("snapshot", "--home", home, "--to", target)["height"] == HEIGHT


def test_prune_drops_nothing_where_there_is_no_room_for_the_snapshot_that_comes_first(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DirectoryFolders, "free_bytes", lambda self: 10)
    with pytest.raises(ConfigurationError, match=r"nothing was dropped: .* no room for it"):
        db("prune", "--home", home, "--keep-blocks", 5)
    assert asked("verify", "--home", home)["blocks_first"] == 1
    assert list(Home(home).snapshots.iterdir()) == [], "what was begun would take the room"
    found = asked("prune", "--home", home, "--keep-blocks", 5, "--without-snapshot")
    assert found["snapshot_made"] is None and found["blocks_first"] == HEIGHT - 4


def test_prune_leaves_itself_the_room_that_it_needs_after_the_snapshot(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DirectoryFolders, "free_bytes", lambda self: limits.disk_spare_bytes + 10)
    with pytest.raises(ConfigurationError, match=r"nothing was dropped: .*--without-snapshot"):
        db("prune", "--home", home, "--keep-blocks", 5)


@pytest.mark.parametrize("words", [("verify",), ("inspect", "1"), ("prune", "--keep-blocks", "5")])
def test_who_works_on_a_full_disk_is_told_what_may_go(
    home: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    def full(path: Path, **options: object) -> LevelKeyValue:
        raise DiskFull(f"the disk of {path} is full; free space, then start the node again")

    Home(home).snapshots.mkdir()
    monkeypatch.setattr(stopped, "LevelKeyValue", full)
    line = refused(DiskFull, words[0], "--home", home, *words[1:])
    assert line.endswith(
        "is full; commands need some 64 MiB: delete what is made again (data/snapshots), or move other files away, "
        "then run the command again"
    )
    (Home(home).archives / "1-5").mkdir(parents=True)
    assert "or move data/archives away, then run" in refused(DiskFull, words[0], "--home", home, *words[1:])


def test_a_snapshot_of_a_chain_that_was_taken_back_serves_nobody(home: Path) -> None:
    db("snapshot", "--home", home, "--to", Home(home).snapshots / f"{HEIGHT:012d}")
    asked("rollback", "--home", home, "--to", 30)
    assert asked("prune", "--home", home, "--keep-blocks", 5)["snapshot_made"] == 30


def test_a_state_of_which_no_snapshot_can_be_made_is_pruned_too(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody may have filled a bucket: disks that are full must be emptied all the same."""
    monkeypatch.setattr(limits, "snapshot_chunk_pairs_max", 0)
    said = db("prune", "--home", home, "--keep-blocks", 5).stdout
    assert "who joins needs a node that keeps all blocks" in said
    assert asked("verify", "--home", home)["blocks_first"] == HEIGHT - 4


def test_a_chain_that_was_making_way_when_the_node_was_stopped_is_told_of_and_not_lost(
    home: Path, tmp_path: Path
) -> None:
    """Between the two renamings the chain has another name."""
    asked("snapshot", "--home", home, "--to", tmp_path / "snapshot")
    Home(home).database.rename(former(Home(home).database))
    for words in (
        ("verify",),
        ("inspect", "meta", "head"),
        ("replay",),
        ("rollback", "--to", 1),
        ("prune", "--keep-blocks", 1),
        ("export", "blocks", "--output", tmp_path / "out"),
        ("snapshot", "--to", tmp_path / "another"),
    ):
        assert "chain.old: start the node once" in refused(ConfigurationError, *words, "--home", home)
    restore = ("restore", "--home", home, "--from", tmp_path / "snapshot")
    assert "pass --replace to go back" in refused(ConfigurationError, *restore)
    assert former(Home(home).database).exists()


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


def test_a_store_of_another_format_gives_way_to_a_snapshot_if_it_is_said_to(home: Path, tmp_path: Path) -> None:
    made = asked("snapshot", "--home", home, "--to", tmp_path / "snapshot")
    kv = LevelKeyValue(Home(home).database)
    kv.write([(Meta.CHAIN.value, encode((FORMAT - 1, bytes(32))))])
    kv.close()
    for words in (("verify",), ("replay",), ("restore", "--from", tmp_path / "snapshot")):
        said = refused(ConfigurationError, *words, "--home", home)
        assert f"has format {FORMAT - 1}, this version reads {FORMAT}: restore a snapshot" in said
    assert asked("restore", "--home", home, "--from", tmp_path / "snapshot", "--replace") == made
    assert asked("verify", "--home", home)["height"] == HEIGHT


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


def test_a_store_without_a_block_has_nothing_to_export(home: Path, tmp_path: Path) -> None:
    asked("rollback", "--home", home, "--to", 0)
    said = refused(ConfigurationError, "export", "blocks", "--home", home, "--output", tmp_path / "out")
    assert said == "no block is kept: the state is that of height 0"


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


@pytest.mark.parametrize("form", [form.value for form in exports.Format])
def test_an_export_that_finds_the_disk_full_names_it_and_goes_on(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow")
    output = tmp_path / "out"
    words = ("export", "transactions", "--home", home, "--format", form, "--output", output)
    whole = exports.export

    def refusing(*arguments: Any) -> Any:
        with full_disk():
            return whole(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(exports, "export", refusing)
        said = refused(ConfigurationError, *words)
    assert said.startswith(f"cannot write {output}: ") and "File too large" in said
    assert said.endswith("make room), then go on with the same command")
    assert asked(*words)["last"] == HEIGHT


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


@pytest.mark.parametrize("written", [0.0, 0.5])
def test_an_export_that_is_stopped_over_its_note_goes_on_from_the_one_before(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: float
) -> None:
    """Ahead of its first byte or within it: what hours have written is not begun anew."""
    monkeypatch.setattr(exports, "BLOCKS_PER_STEP", 10)
    words = ("export", "events", "--home", home, "--output")
    db(*words, tmp_path / "whole")
    write, notes = Path.write_bytes, itertools.count(1)

    def stopped_over_the_third(path: Path, content: bytes) -> int:
        if ".part.json" not in path.name or next(notes) != 3:
            return write(path, content)
        write(path, content[: int(written * len(content))])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", stopped_over_the_third)
        assert "go on with the same command" in db(*words, tmp_path / "out", code=130).stderr
    assert asked(*words, tmp_path / "out")["begun_at"] == 21
    assert (tmp_path / "out").read_bytes() == (tmp_path / "whole").read_bytes()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["home", "out", "whole"]


@pytest.mark.parametrize("left", ["note of an earlier export", "part that was cut"])
def test_nothing_stands_in_an_export_for_what_was_not_written(
    home: Path, tmp_path: Path, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed behind its renaming an export leaves its note behind; killed again ahead of its first one, the next export
    of that name has less in its part than that note says. A disk may also lose the end of a part."""
    monkeypatch.setattr(exports, "BLOCKS_PER_STEP", 10)
    words = ("export", "events", "--home", home, "--format", "csv", "--output", tmp_path / "out")
    part, note = tmp_path / "out.part", tmp_path / "out.part.json"
    if left == "part that was cut":
        with monkeypatch.context() as patch:
            interrupt_after(patch, "events exported", 20)
            db(*words, code=130)
        part.write_bytes(part.read_bytes()[:-1])
    else:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", lambda path, missing_ok=False: None)
            db(*words)
        (tmp_path / "out").rename(tmp_path / "first")
        assert note.exists()
        part.write_bytes(b"height,num")
    assert asked(*words)["begun_at"] == 1
    db(*words[:-1], tmp_path / "whole")
    assert (tmp_path / "out").read_bytes() == (tmp_path / "whole").read_bytes()
    assert not note.exists()


def test_a_stopped_parquet_export_goes_on(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    monkeypatch.setattr(exports, "BLOCKS_PER_PARQUET_FILE", 15)
    words = ("export", "events", "--home", home, "--format", "parquet", "--output", tmp_path / "out")
    with monkeypatch.context() as patch:
        interrupt_after(patch, "events exported", 15)
        assert "go on with the same command" in db(*words, code=130).stderr
    (tmp_path / "out" / "draft").write_bytes(b"half a file")
    assert asked(*words)["begun_at"] == 16
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == [
        "_export.json",
        "events-000000000001-000000000015.parquet",
        "events-000000000016-000000000030.parquet",
        "events-000000000031-000000000040.parquet",
    ]
    heights = parquet.read_table(tmp_path / "out", columns=["height"])["height"].to_pylist()
    assert sorted(set(heights)) == list(range(1, HEIGHT + 1))
    assert asked(*words)["begun_at"] == HEIGHT + 1, "all of it is there"


def test_a_stopped_parquet_export_of_something_else_is_not_gone_on_with(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are called alike in the exports of two chains, and of more and of fewer heights."""
    pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    monkeypatch.setattr(exports, "BLOCKS_PER_PARQUET_FILE", 15)
    out = tmp_path / "out"
    words = ("export", "events", "--format", "parquet", "--output", out)
    with monkeypatch.context() as patch:
        interrupt_after(patch, "events exported", 15)
        db(*words, "--home", home, "--to", 35, code=130)
    left = sorted(path.name for path in out.iterdir())
    make_home(tmp_path / "other", 35, 1, genesis=genesis_of(buckets=4096))
    said = refused(exports.OtherExport, *words, "--home", tmp_path / "other")
    chain, other = (chain_id(genesis.load(Home(place).genesis)).hex() for place in (home, tmp_path / "other"))
    assert said == f"{out} is of another export, of chain {chain}, not {other}: choose another directory"
    said = refused(exports.OtherExport, *words, "--home", home)
    assert "of blocks 1 to 35, not 1 to 40: go on with it by --from 1 --to 35, or choose another directory" in said
    said = refused(exports.OtherExport, "export", "blocks", *words[2:], "--home", home, "--to", 35)
    assert "is of another export, of events as parquet" in said
    note = out / "_export.json"
    kept = note.read_bytes()
    for raw, why in ((b"{", "does not say of what"), (None, "holds other files (events-")):
        note.unlink()
        if raw is not None:
            note.write_bytes(raw)
        assert why in refused(exports.OtherExport, *words, "--home", home, "--to", 35)
    note.write_bytes(kept)
    assert sorted(path.name for path in out.iterdir()) == left
    assert asked(*words, "--home", home, "--to", 35)["begun_at"] == 16
    (out / "mine.txt").touch()
    assert "holds other files (mine.txt)" in refused(exports.OtherExport, *words, "--home", home, "--to", 35)


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_what_has_its_name_is_on_the_disk(
    home: Path, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its content is synced as it is when it is renamed, and the directory behind that: a loss of power leaves no name
    without its content, and no finished export without a name."""
    if form == "parquet":
        pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    monkeypatch.setattr(exports, "BLOCKS_PER_PARQUET_FILE", 15)
    synced: dict[Path, bytes] = {}
    renamed: dict[Path, list[Path]] = {}
    sync, rename = os.fsync, os.rename

    def seen_sync(number: int) -> None:
        sync(number)
        path = Path(os.readlink(f"/proc/self/fd/{number}"))
        if path.is_dir():
            renamed[path] = []
        else:
            synced[path] = path.read_bytes()

    def seen_rename(source: Path, target: Path) -> None:
        assert synced.pop(source) == source.read_bytes(), f"{target} would have its name ahead of its content"
        rename(source, target)
        renamed.setdefault(target.parent, []).append(target)
        every.append(target)

    every: list[Path] = []
    monkeypatch.setattr(os, "fsync", seen_sync)
    monkeypatch.setattr(os, "rename", seen_rename)
    monkeypatch.setattr(os, "replace", seen_rename)
    db("export", "events", "--home", home, "--format", form, "--output", tmp_path / "out")
    assert len(every) == (2 if form == "jsonl" else 4), "the note of how far it is, and the export"
    assert not any(renamed.values()), "a directory was not synced behind the last renaming"


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

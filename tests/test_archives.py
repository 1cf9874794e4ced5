"""A chain with blocks whose place a snapshot takes is put aside, whatever stops the node over it, and is of use."""

from __future__ import annotations

import errno
import json
import os
import queue
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from otcnode import archives
from otcnode import genesis as genesis_module
from otcnode.archives import LOOKED_AT_MS, Archive, ArchivesSeen, archives_of
from otcnode.bench.chain import genesis_of, make_home
from otcnode.cli import snapshots
from otcnode.cli.main import otcnode
from otcnode.config import Home, NodeConfiguration, StorageSection
from otcnode.errors import ConfigurationError, OtcnodeError, StorageRefused
from otcnode.node import open_store
from otcnode.storage import shelf
from otcnode.storage.documents_directory import open_documents
from otcnode.storage.level import LevelKeyValue
from otcnode.storage.schema import Meta, Table
from otcnode.vm.documents.records import sealed_name
from tests.storage.few_files import refused
from tests.storage.test_shelf import full_disk

GENESIS = genesis_of(buckets=256)
CHAIN = genesis_module.chain_id(GENESIS)
LOW, HIGH = 6, 20


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Homes with so many blocks, a snapshot of the higher one, and a home that has nothing but this snapshot."""
    directory = tmp_path_factory.mktemp("built")
    for name, height in (("low", LOW), ("high", HIGH)):
        make_home(directory / name, height, 1, genesis=GENESIS)
    db("snapshot", "--home", directory / "high", "--to", directory / "snapshot")
    (directory / "founded").mkdir()
    shutil.copyfile(Home(directory / "low").genesis, Home(directory / "founded").genesis)
    db("restore", "--home", directory / "founded", "--from", directory / "snapshot")
    return directory


@pytest.fixture
def home(built: Path, tmp_path: Path) -> Home:
    """Its chain is low, and a higher snapshot has just become whole."""
    shutil.copytree(built / "low", tmp_path / "home")
    found = Home(tmp_path / "home")
    shutil.copytree(Home(built / "founded").database, found.incoming)
    return found


def db(*words: object) -> str:
    result = CliRunner().invoke(otcnode, ["db", *map(str, words)])
    if result.exception is not None:
        raise result.exception
    return result.output


def start(home: Home, blocks_kept: int = 0, documents_left: bool = False) -> tuple[int, list[str]]:
    """The height at which the node starts, and what it notes."""
    notes: list[str] = []
    configuration = NodeConfiguration(name="node", storage=StorageSection(blocks_kept=blocks_kept))
    store = open_store(home, GENESIS, CHAIN, configuration, notes.append, documents_left=documents_left)
    store.close()
    return store.tip.height, notes


def test_what_an_archive_had_before_the_snapshot_is_put_aside_and_said(home: Home) -> None:
    height, (note,) = start(home)
    (archive,) = archives_of(home)
    assert height == HIGH and archive.size_bytes > 1_000
    assert archive.path == home.archives / f"1-{LOW}"
    assert f"blocks 1 to {LOW}" in note and str(archive) in note and str(archive.path) in note
    assert start(home) == (HIGH, [])
    assert sorted(entry.name for entry in home.database.parent.iterdir()) == ["archives", "chain"]


def test_every_tool_for_a_stopped_node_works_on_it(home: Home, tmp_path: Path) -> None:
    start(home)
    (archive,) = archives_of(home)
    found = json.loads(db("verify", "--json", "--home", archive.path))
    assert (found["blocks_first"], found["height"]) == (1, LOW)
    assert json.loads(db("replay", "--json", "--home", archive.path))["last"] == LOW
    db("export", "blocks", "--home", archive.path, "--output", tmp_path / "blocks")
    assert len((tmp_path / "blocks").read_text().splitlines()) == LOW


def test_what_a_running_node_tells_of_them(home: Home) -> None:
    """By name, place, blocks and size; what an operator moved away is told no more at the next look."""
    told: list[list[Archive]] = []
    seen = ArchivesSeen(home, told.append, begin=lambda look: look())
    assert seen.at(0) == []
    start(home)
    assert seen.at(LOOKED_AT_MS - 1) == []
    (archive,) = seen.at(LOOKED_AT_MS) or []
    assert (archive.name, archive.heights) == (f"1-{LOW}", (1, LOW)) and archive.size_bytes > 0
    assert archive.place == "data/archives"
    archive.path.rename(archive.path.with_name(f"1-{LOW}.1"))
    assert [again.heights for again in seen.at(2 * LOOKED_AT_MS) or []] == [(1, LOW)]
    shutil.move(home.archives / f"1-{LOW}.1", home.archives / "unread")
    assert [again.heights for again in seen.at(3 * LOOKED_AT_MS) or []] == [None]
    shutil.move(home.archives, home.archives_beside)
    assert [again.place for again in seen.at(4 * LOOKED_AT_MS) or []] == ["data/archives-beside"]
    shutil.rmtree(home.archives_beside)
    assert seen.at(5 * LOOKED_AT_MS) == [] and told == [[]]


def test_who_asks_waits_for_no_disk_and_begins_no_other_look_before_it_has_answered(home: Home) -> None:
    start(home)
    looks: list[Callable[[], None]] = []
    told: list[list[Archive]] = []
    seen = ArchivesSeen(home, told.append, begin=looks.append)
    assert [seen.at(hour * 60 * LOOKED_AT_MS) for hour in range(3)] == [None] * 3
    (look,) = looks
    look()
    found = seen.at(1)
    assert found is not None and [archive.heights for archive in found] == [(1, LOW)] and told == [found]
    assert seen.at(LOOKED_AT_MS - 1) == found and len(looks) == 1
    assert seen.at(LOOKED_AT_MS) == found and len(looks) == 2


def test_where_the_disk_refuses_it_is_looked_again_after_a_while(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    start(home)
    looks: list[Callable[[], None]] = []
    told: list[list[Archive]] = []
    seen = ArchivesSeen(home, told.append, begin=looks.append)

    def refuse(home: Home) -> list[Archive]:
        raise OSError(errno.EIO, "Input/output error")

    assert seen.at(0) is None
    with monkeypatch.context() as patch:
        patch.setattr("otcnode.archives.archives_of", refuse)
        looks.pop()()
    assert seen.at(LOOKED_AT_MS - 1) is None and not looks and not told
    assert seen.at(LOOKED_AT_MS) is None
    looks.pop()()
    found = seen.at(LOOKED_AT_MS + 1)
    assert found is not None and told == [found]
    assert seen.at(2 * LOOKED_AT_MS) == found
    with monkeypatch.context() as patch:
        patch.setattr("otcnode.archives.archives_of", refuse)
        looks.pop()()
    assert seen.at(2 * LOOKED_AT_MS + 1) == found and told == [found]


def test_the_look_ends_in_its_own_thread(home: Home) -> None:
    start(home)
    told: queue.Queue[list[Archive]] = queue.Queue()
    ArchivesSeen(home, told.put).at(0)
    assert [archive.heights for archive in told.get(timeout=60)] == [(1, LOW)]


def test_it_can_be_put_back(home: Home) -> None:
    start(home)
    (archive,) = archives_of(home)
    shutil.rmtree(home.database)
    Home(archive.path).database.rename(home.database)
    assert start(home) == (LOW, []) and archives_of(home) == []


def test_whoever_keeps_a_window_of_blocks_keeps_nothing_aside(home: Home) -> None:
    assert start(home, blocks_kept=1_000) == (HIGH, [])
    assert not home.archives.exists()


def test_a_chain_without_a_block_is_not_worth_it(home: Home, built: Path) -> None:
    shutil.rmtree(home.database)
    shutil.copytree(Home(built / "founded").database, home.database)
    assert start(home) == (HIGH, []) and not home.archives.exists()


@pytest.mark.parametrize(("chain", "name"), [("low", f"1-{LOW}"), ("founded", "unread")])
def test_a_chain_with_documents_that_could_not_be_moved_is_never_deleted(
    home: Home, built: Path, chain: str, name: str
) -> None:
    """However many blocks are to be kept, and whether it has one: nobody else may have them."""
    shutil.rmtree(home.database)
    shutil.copytree(Home(built / chain).database, home.database)
    height, (note,) = start(home, blocks_kept=1_000, documents_left=True)
    assert height == HIGH and name in note
    assert [archive.path.name for archive in archives_of(home)] == [name]


@pytest.mark.parametrize("read", ["finished", "check_finished"])
def test_a_gathered_chain_that_the_system_refuses_to_read_takes_its_place_a_moment_later(
    home: Home, monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    """It was gathered for hours, and nothing of it is damaged."""
    reading = getattr(shelf, read)
    with monkeypatch.context() as patch:
        # Whose read would open the table.
        patch.setattr(shelf, "finished", lambda kv: True)
        patch.setattr(shelf, read, refused(reading))
        with pytest.raises(StorageRefused, match="Too many open files"):
            start(home)
    assert home.incoming.exists() and home.database.exists()
    height, (note,) = start(home)
    assert height == HIGH and f"blocks 1 to {LOW}" in note


def test_what_the_system_refuses_to_read_is_not_restored_over(
    home: Home, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the chain, which may be higher than the snapshot, nor what has been gathered."""
    shutil.rmtree(home.incoming)
    gathered = LevelKeyValue(home.incoming, create=True)
    gathered.write([(Meta.INCOMING.value, b"of another snapshot")])
    gathered.close()
    # What lies in LevelDB's log becomes a table, which is open then; at the next start it is not.
    for database in (home.incoming, home.database):
        LevelKeyValue(database).close()
    for owner, read in ((snapshots.Store, "exists"), (snapshots, "begun")):
        with monkeypatch.context() as patch, pytest.raises(StorageRefused, match="Too many open files"):
            patch.setattr(owner, read, refused(getattr(owner, read)))
            db("restore", "--home", home.path, "--from", built / "snapshot")
        gathered = LevelKeyValue(home.incoming)
        assert gathered.get(Meta.INCOMING.value) == b"of another snapshot"
        gathered.close()
    assert json.loads(db("verify", "--json", "--home", home.path))["height"] == LOW
    db("restore", "--home", home.path, "--from", built / "snapshot")
    assert json.loads(db("verify", "--json", "--home", home.path))["height"] == HIGH


def test_nothing_that_was_put_aside_is_overwritten(home: Home, built: Path) -> None:
    for _ in range(2):
        start(home)
        shutil.rmtree(home.database)
        shutil.copytree(Home(built / "low").database, home.database)
        shutil.copytree(Home(built / "founded").database, home.incoming)
    start(home)
    assert [archive.path.name for archive in archives_of(home)] == [f"1-{LOW}", f"1-{LOW}.1", f"1-{LOW}.2"]


@pytest.fixture
def other_disk(home: Home) -> Iterator[Path]:
    """A directory on another file system."""
    path = Path(tempfile.mkdtemp(dir="/dev/shm"))
    try:
        if path.stat().st_dev == home.path.stat().st_dev:
            pytest.skip("the machine has one file system only")
        yield path
    finally:
        shutil.rmtree(path)


def test_archives_on_another_disk_keep_no_node_from_starting(home: Home, built: Path, other_disk: Path) -> None:
    """No renaming reaches it: the chain is put aside beside, and told like all others. The operator moves it."""
    home.archives.symlink_to(other_disk)
    height, (note,) = start(home)
    beside = home.archives_beside / f"1-{LOW}"
    assert height == HIGH and str(beside) in note and f"{home.archives} is on another file system" in note
    assert list(other_disk.iterdir()) == []
    assert [archive.path for archive in archives_of(home)] == [beside]
    assert json.loads(db("verify", "--json", "--home", beside))["height"] == LOW
    shutil.move(beside, home.archives / beside.name)
    assert start(home) == (HIGH, [])
    made_way_again(home, built)
    assert start(home)[0] == HIGH
    assert [archive.path for archive in archives_of(home)] == [home.archives / beside.name, beside]


def made_way_again(home: Home, built: Path) -> None:
    shutil.rmtree(home.database)
    shutil.copytree(Home(built / "low").database, home.database)
    shutil.copytree(Home(built / "founded").database, home.incoming)


def linked(home: Home, name: str) -> Path:
    """The chain's directory, which an operator has put elsewhere."""
    elsewhere = home.path.with_name(name)
    home.database.rename(elsewhere)
    home.database.symlink_to(elsewhere)
    return elsewhere


def test_a_link_to_an_archive_whose_disk_is_not_there_is_not_overwritten(home: Home, built: Path) -> None:
    earlier = linked(home, "earlier disk")
    start(home)
    earlier.rename(earlier.with_name("not mounted"))
    made_way_again(home, built)
    later = linked(home, "later disk")
    start(home)
    found = [home.archives / name / "data" / "chain" for name in (f"1-{LOW}", f"1-{LOW}.1")]
    assert [path.readlink() for path in found] == [earlier, later]


def test_a_link_to_a_former_chain_whose_disk_is_not_there_is_not_overwritten(home: Home) -> None:
    linked(home, "disk")
    old = shelf.former(home.database)
    old.symlink_to(home.path / "not mounted")
    with pytest.raises(ConfigurationError, match=r"cannot dispose of the former chain in .*chain\.old: No such file"):
        start(home)
    assert old.readlink() == home.path / "not mounted"
    old.unlink()
    assert start(home)[0] == HIGH


def test_a_chain_whose_disk_is_not_there_is_not_replaced_by_the_former_one(home: Home, built: Path) -> None:
    shutil.rmtree(home.incoming)
    old = shelf.former(home.database)
    old.symlink_to(built / "low" / "data" / "chain")
    home.database.rename(home.path / "away")
    home.database.symlink_to(home.path / "not mounted")
    with pytest.raises(ConfigurationError):
        start(home)
    assert home.database.readlink() == home.path / "not mounted" and old.is_symlink()


class Killed(BaseException):
    pass


@pytest.mark.parametrize("chain", ["plain", "linked", "founded"])
def test_a_chain_that_nobody_needs_is_gone_whenever_the_node_is_killed_over_it(
    home: Home, built: Path, chain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ahead of each file that is deleted. What is left of it is no chain that would have to be put aside."""
    blocks_kept = 0 if chain == "founded" else 1_000
    unlink, killed = os.unlink, True
    for number in range(1, 100):
        shutil.rmtree(home.path)
        shutil.copytree(built / "low", home.path)
        shutil.copytree(Home(built / "founded").database, home.incoming)
        if chain == "founded":
            shutil.rmtree(home.database)
            shutil.copytree(Home(built / "founded").database, home.database)
        elsewhere = linked(home, "disk") if chain == "linked" else home.path.with_name("disk")
        steps = iter(range(1, number))

        def killing(*path: Any, steps: Iterator[int] = steps, **options: Any) -> None:
            if next(steps, None) is None:
                raise Killed
            unlink(*path, **options)

        with monkeypatch.context() as patched:
            patched.setattr(os, "unlink", killing)
            try:
                start(home, blocks_kept)
                killed = False
            except Killed:
                pass
        assert start(home) == (HIGH, [])
        assert [entry.name for entry in home.database.parent.iterdir()] == ["chain"] and not elsewhere.exists()
        if not killed:
            break
    assert not killed and number > 4


def test_of_a_chain_elsewhere_only_its_own_is_deleted(home: Home) -> None:
    """As where the root of a disk is its directory: that stays, with what the system has there."""
    elsewhere = linked(home, "disk")
    (elsewhere / "lost+found").mkdir()
    (elsewhere / "lost+found" / "file").touch()
    for _ in range(2):
        assert start(home, blocks_kept=1_000) == (HIGH, [])
        assert [entry.name for entry in home.database.parent.iterdir()] == ["chain"]
        assert [str(path.relative_to(elsewhere)) for path in sorted(elsewhere.rglob("*"))] == [
            "lost+found",
            "lost+found/file",
        ]


@pytest.mark.parametrize("number", range(1, 5))
def test_nothing_is_lost_whenever_the_node_is_killed_over_it(
    home: Home, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ahead of each of the three renamings, and after the last one."""
    steps = iter(range(1, 5))

    def killing(act: Callable[[Path, Path], object]) -> Callable[[Path, Path], object]:
        def step(source: Path, target: Path) -> object:
            if next(steps) == number:
                raise Killed
            return act(source, target)

        return step

    with monkeypatch.context() as patched:
        patched.setattr(shelf, "rename", killing(shelf.rename))
        patched.setattr(archives, "rename", killing(archives.rename))
        if number == 4:
            start(home)
        else:
            with pytest.raises(Killed):
                start(home)
    assert start(home)[0] == HIGH
    (archive,) = archives_of(home)
    assert json.loads(db("verify", "--json", "--home", archive.path))["height"] == LOW


def test_what_cannot_be_put_aside_is_said_in_a_line_and_gone_on_with(home: Home) -> None:
    """The disk refuses, here the directory: nothing is lost, and the next start puts it aside."""
    home.archives.write_text("in the way")
    with pytest.raises(ConfigurationError, match=r"cannot dispose of the former chain .*chain\.old.*: "):
        start(home)
    home.archives.unlink()
    assert start(home)[0] == HIGH
    assert [archive.path.name for archive in archives_of(home)] == [f"1-{LOW}"]


def test_a_file_that_vanishes_while_archives_are_listed_is_no_obstacle(home: Home) -> None:
    """Somebody deletes one while the node starts. A link to nothing is listed, and is not there, either."""
    start(home)
    (archive,) = archives_of(home)
    Home(archive.path).database.joinpath("000001.ldb").symlink_to("gone")
    assert archives_of(home) == [archive]


def test_the_way_to_a_chain_is_durable_before_it_is_moved_there(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss of power behind the renaming must not leave the chain under a name that the disk has not got."""
    synced: set[str] = set()
    fsync, move = os.fsync, archives.rename
    moved: list[Path] = []

    def syncing(number: int) -> None:
        synced.add(os.readlink(f"/proc/self/fd/{number}").removesuffix(".new"))
        fsync(number)

    def moving(source: Path, target: Path) -> None:
        moved.append(target)
        genesis = Home(target.parent.parent).genesis
        assert {str(path) for path in (genesis, *genesis.parents[:3])} <= synced
        move(source, target)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(archives, "rename", moving)
    start(home)
    assert len(moved) == 1


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("blocks_kept", [0, 100])
def test_a_chain_that_an_operator_linked_to_another_disk_makes_way_too(
    home: Home, blocks_kept: int, relative: bool
) -> None:
    elsewhere = home.path.with_name("another disk")
    home.database.rename(elsewhere)
    home.database.symlink_to(Path("../..") / elsewhere.name if relative else elsewhere)
    for _ in range(2):
        assert start(home, blocks_kept=blocks_kept)[0] == HIGH
        assert not shelf.former(home.database).is_symlink()
    if blocks_kept:
        assert not elsewhere.exists() and archives_of(home) == []
    else:
        (archive,) = archives_of(home)
        assert json.loads(db("verify", "--json", "--home", archive.path))["height"] == LOW


def test_what_cannot_be_read_is_kept_too(home: Home) -> None:
    kv = LevelKeyValue(home.database)
    kv.write([(Meta.HEAD.value, b"junk")])
    kv.close()
    height, (note,) = start(home)
    assert height == HIGH and "the head is damaged" in note
    assert [archive.path.name for archive in archives_of(home)] == ["unread"]


def test_a_restored_node_has_its_old_blocks_aside(built: Path, tmp_path: Path) -> None:
    shutil.copytree(built / "low", tmp_path / "home")
    home = Home(tmp_path / "home")
    assert f"its blocks 1 to {LOW} are kept in" in db("restore", "--home", home.path, "--from", built / "snapshot")
    assert [archive.path.name for archive in archives_of(home)] == [f"1-{LOW}"]
    shutil.rmtree(home.database)
    shutil.copytree(Home(built / "low").database, home.database)
    home.configuration.write_text('name = "node"\n[storage]\nblocks_kept = 1000\n')
    db("restore", "--home", home.path, "--from", built / "snapshot")
    assert len(archives_of(home)) == 1


@pytest.mark.parametrize("full_at", ["_head_of", "write_atomically"])
def test_a_restore_that_finds_the_disk_full_behind_the_renaming_says_that_the_snapshot_is_the_chain(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_at: str
) -> None:
    """Opening what was the chain takes room, and so does putting it aside. The node goes on with that, not this
    command, which would find that the node has the snapshot's height."""
    shutil.copytree(built / "low", tmp_path / "home")
    home, whole = Home(tmp_path / "home"), getattr(archives, full_at)

    def refusing(*arguments: Any) -> Any:
        with full_disk():
            return whole(*arguments)

    with monkeypatch.context() as patched, pytest.raises(OtcnodeError) as refusal:
        patched.setattr(archives, full_at, refusing)
        db("restore", "--home", home.path, "--from", built / "snapshot")
    said = str(refusal.value)
    assert "the snapshot is the node's chain, and the former one still lies beside it: " in said
    assert said.endswith("then start the node") and "File too large" in said
    assert json.loads(db("verify", "--json", "--home", home.path))["height"] == HIGH
    height, (note,) = start(home)
    assert height == HIGH and f"blocks 1 to {LOW} are kept" in note


def test_a_restore_keeps_the_chain_whose_documents_could_not_all_be_moved(built: Path, tmp_path: Path) -> None:
    """An earlier version kept them there, and a block of LevelDB is damaged."""
    shutil.copytree(built / "low", tmp_path / "home")
    home = Home(tmp_path / "home")
    home.configuration.write_text('name = "node"\n[storage]\nblocks_kept = 1000\n')
    sealed = [random.Random(number).randbytes(20_000) for number in range(20)]
    kv = LevelKeyValue(home.database)
    kv.write([(Table.DOCUMENT.value + sealed_name(raw), raw) for raw in sealed])
    kv.compact(Table.DOCUMENT.value)
    kv.close()
    table = max(home.database.glob("*.ldb"), key=lambda path: path.stat().st_size)
    raw = bytearray(table.read_bytes())
    raw[len(raw) // 2] ^= 1
    table.write_bytes(raw)
    output = db("restore", "--home", home.path, "--from", built / "snapshot")
    assert "could not all be moved" in output and "are kept in" in output
    assert len(archives_of(home)) == 1
    documents = open_documents(home.documents, home.database)
    assert sum(sealed_name(raw) in documents for raw in sealed) >= len(sealed) - 2
    documents.close()

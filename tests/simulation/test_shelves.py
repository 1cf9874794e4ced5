"""Disks that refuse or alter the snapshots that are made, served and gathered: the node gives them up, says so, and
goes on; in a network that has nothing else to suffer."""

from __future__ import annotations

from collections import Counter

import pytest
from msgspec.structs import replace

from otcnode.codec import encode
from otcnode.errors import FolderDamage
from otcnode.simulation import shelves
from otcnode.simulation.disk import Disk
from otcnode.simulation.generate import Options, generate
from otcnode.simulation.marks import SNAPSHOTS
from otcnode.simulation.plan import Crash, CrashPoint, DiskFull, Fault, Plan, ShelfFails, ShelfPlace, ShelfRots
from otcnode.simulation.world import Outcome, run
from otcnode.storage.faulty_folders import FaultyFolders, FolderOperation
from otcnode.storage.kv import MemoryKeyValue
from otcnode.storage.snapshot_maker import MANIFEST, chunk_name, make, source_of
from otcnode.sync_messages import ChunkResponse
from tests.simulation import report
from tests.storage.test_snapshots import chain_of

SERVERS, LATE = (0, 1, 2), 3
MADE = SNAPSHOTS["a snapshot is given up"]
GATHERED = SNAPSHOTS["a snapshot is given up: what was gathered of it is damaged"]
LATECOMER = Crash(id=100, at_ms=200, node=LATE, point=CrashPoint.IDLE, down_ms=16_000)
"""It takes a snapshot when it is back, of those that the others have made between 5 and 10 s."""


def _carried_out(*faults: Fault) -> Outcome:
    quiet: Plan = replace(
        generate(2, Options(validators=4, reforms_permille=0, snapshots_permille=1_000, safety_ms=24_000)),
        faults=(*faults, LATECOMER),
        block_transactions_max=1,
        rest_frozen=False,
        chunk_bytes=400,
        survivors=(0, 1, 2, 3),
    )
    outcome = run(quiet)
    assert outcome.violation is None, report(quiet, outcome)
    return outcome


@pytest.mark.parametrize("operation", FolderOperation)
def test_whoever_cannot_keep_a_snapshot_gives_it_up_and_goes_on(operation: FolderOperation) -> None:
    """Nobody dies; whatever is refused is said, or the run ends with a broken promise."""
    found: Counter[str] = Counter()
    for count in (1, 9):
        fails = (ShelfFails(id=1 + n, at_ms=500, node=n, operation=operation, count=count) for n in SERVERS)
        summary = _carried_out(*fails).summary
        found.update(summary.marks)
        assert summary.faults["crash"] == 1 + summary.faults["snapshot-installed"], "each to go on from its snapshot"
    assert found[MADE] or operation in (FolderOperation.LIST, FolderOperation.REMOVE)


def test_a_full_disk_costs_the_snapshot_that_is_being_made() -> None:
    full = [DiskFull(id=1 + n, at_ms=8_000, node=n, down_ms=100, for_ms=700) for n in SERVERS]
    assert _carried_out(*full).summary.marks[MADE] > 0


def test_what_rots_in_a_snapshot_is_not_served() -> None:
    found = 0
    for place in range(3):
        rots = [
            ShelfRots(id=1 + n, at_ms=12_000, node=n, place=ShelfPlace.MADE, entry_place=place + n, byte_place=99)
            for n in SERVERS
        ]
        found += _carried_out(*rots).summary.marks[MADE]
    assert found > 0


@pytest.mark.parametrize("place", [ShelfPlace.GATHERED, ShelfPlace.GATHERED_LEAF])
def test_what_rots_while_it_is_gathered_is_gathered_again(place: ShelfPlace) -> None:
    rot = ShelfRots(id=1, at_ms=16_100, node=LATE, place=place, entry_place=3, byte_place=99, count=2)
    marks = _carried_out(rot).summary.marks
    assert marks[GATHERED] == 1 and marks["a node went on from a snapshot"] > 0


def _made() -> Disk:
    disk = Disk(lambda: None, lambda: None)
    for _ in make(source_of(chain_of(4, MemoryKeyValue())), disk.made.open("12"), 200):
        pass
    assert list(shelves.unfinished(disk)) == [] and not disk.made.untold
    return disk


def test_a_snapshot_of_which_a_part_is_missing_or_not_durable_does_not_pass_for_whole() -> None:
    disk = _made()
    folder = disk.made.folders["12"]
    folder.write(chunk_name(3), folder.as_written[chunk_name(3)])
    assert list(shelves.unfinished(disk)) == ["chunk-000003 of the snapshot 12 would be gone with the power"]
    disk.stop()
    assert list(shelves.unfinished(disk)) == ["chunk-000003 of the snapshot 12 is not there"]
    folder.remove(MANIFEST)
    assert list(shelves.unfinished(disk)) == []


def test_an_altered_file_is_known_when_it_is_about_to_leave() -> None:
    disk = _made()
    folder = disk.made.folders["12"]
    true = folder.as_written[chunk_name(3)]
    folder.rot(chunk_name(3), 99)
    assert folder.as_written[chunk_name(3)] == true
    (false,) = folder.altered
    assert [shelves.altered(disk, encode(ChunkResponse(bytes(32), 3, raw))) for raw in (true, false)] == [False, True]
    with pytest.raises(FolderDamage, match="chunk-000003 is damaged"):
        folder.read(chunk_name(3))
    assert disk.made.untold == ["12/chunk-000003 is damaged; delete 12, a snapshot can be made again"]
    folder.rot(chunk_name(3), 99)
    assert folder.read(chunk_name(3)) == true, "the same bit twice"


def test_folders_refuse_once_and_are_full_until_there_is_room() -> None:
    folders = FaultyFolders()
    folder = folders.open("12")
    folders.fail(FolderOperation.WRITE, 2)
    folder.write("a", b"1")
    with pytest.raises(FolderDamage, match="12/a: input/output error"):
        folder.write("a", b"2")
    assert folder.read("a") == b"1"
    folders.full = True
    for attempt in (lambda: folder.write("a", b"2"), lambda: folder.append("b", b"2"), lambda: folder.sync("a")):
        with pytest.raises(FolderDamage, match="is full; free space"):
            attempt()
    folders.remove("12")
    folders.full = False
    assert folders.open("12").names() == [] and len(folders.untold) == 4

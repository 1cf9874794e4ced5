"""Disks that are full, fail or rot, one at a time, in a network that has nothing else to suffer."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from otcnode.errors import ConfigurationError, StorageDamage
from otcnode.simulation import damage
from otcnode.simulation import plan as plans
from otcnode.simulation.disk import Disk
from otcnode.simulation.generate import Options, generate
from otcnode.simulation.plan import Crash, CrashPoint, DiskFails, DiskFull, DiskOperation, Fault, Plan, Rot, RotPlace
from otcnode.simulation.world import Outcome, run
from tests.simulation import report

NODE = 2


def with_faults(*faults: Fault) -> Plan:
    """Nobody is away and nothing is lost but for `faults`; NODE survives unless it rots."""
    quiet = replace(
        generate(6, Options(validators=4, reforms_permille=0, snapshots_permille=0)),
        faults=faults,
        rest_frozen=False,
        block_transactions_max=1,
        survivors=(0, 1, 3) if any(isinstance(fault, Rot) for fault in faults) else (0, 1, 2, 3),
    )
    plans.check(quiet)
    return quiet


def carried_out(plan: Plan) -> Outcome:
    outcome = run(plan)
    assert outcome.violation is None, report(plan, outcome)
    return outcome


def test_a_node_with_a_full_disk_ends_and_goes_on_once_there_is_room() -> None:
    full = DiskFull(id=1, at_ms=900, node=NODE, down_ms=400, for_ms=6_000)
    outcome = carried_out(with_faults(full))
    marks = outcome.summary.marks
    assert marks[damage.FULL] >= 2, "it tries again while there is no room"
    assert marks[damage.WENT_ON] == 1


@pytest.mark.parametrize("operation", DiskOperation)
def test_a_node_whose_disk_refuses_once_ends_and_starts_again(operation: DiskOperation) -> None:
    fails = DiskFails(id=1, at_ms=900, node=NODE, operation=operation, count=2, torn_bytes=7, down_ms=400)
    outcome = carried_out(replace(with_faults(fails), record_bytes=1))
    assert outcome.summary.marks[damage.UNREAD if operation is DiskOperation.READ else damage.REFUSED] == 1


@pytest.mark.parametrize(
    ("place", "found"),
    [
        (RotPlace.BUCKET, damage.ROTTEN),
        (RotPlace.STATE, damage.ROTTEN),
        (RotPlace.LEAF, damage.MISHASHED),
        (RotPlace.RECORD, damage.SILENCED),
    ],
)
def test_rot_is_found_at_the_start_or_in_the_first_use(place: RotPlace, found: str) -> None:
    """Some entry of those tried; what is overwritten before anybody reads it is no rot any more."""
    met = 0
    for entry in range(4):
        rot = Rot(
            id=1, at_ms=5_000, node=NODE, place=place, entry_place=entry, byte_place=81 + entry, dies=True, down_ms=400
        )
        met += carried_out(with_faults(rot)).summary.marks[found]
    assert met > 0


def test_what_rots_while_nobody_reads_it_is_found_by_whoever_reads_everything() -> None:
    rot = Rot(id=1, at_ms=8_000, node=NODE, place=RotPlace.BODY, entry_place=0, byte_place=8, dies=False, down_ms=400)
    assert carried_out(with_faults(rot)).summary.marks[damage.AT_THE_END] == 1


def test_a_node_may_not_find_fault_with_a_sound_disk_nor_say_something_else_than_what_it_met() -> None:
    disk = Disk(lambda: None, lambda: None)
    assert damage.finding(disk, StorageDamage("bucket 3 is damaged; stop the node and run: otcnode db verify")) is None
    disk.fill(DiskFull(id=1, at_ms=0, node=0, down_ms=1, for_ms=1))
    with pytest.raises(StorageDamage) as met:
        disk.store.write([(b"key", b"value")])
    assert damage.finding(disk, met.value) == damage.FULL
    assert damage.finding(disk, StorageDamage("internal error")) is None
    assert disk.store.get(b"key") is None


def test_the_world_reads_what_was_written() -> None:
    disk = Disk(lambda: None, lambda: None)
    disk.store.write([(b"key", b"value")])
    rot = Rot(id=1, at_ms=0, node=0, place=RotPlace.STORE, entry_place=0, byte_place=9, dies=False, down_ms=1)
    assert disk.rot(rot) and disk.is_rotten
    with damage.seen_from_outside([disk]):
        assert disk.store.get(b"key") == b"value"
    with pytest.raises(StorageDamage, match="db verify"):
        disk.store.get(b"key")
    assert disk.rot(rot) and not disk.is_rotten, "the same bit twice"
    assert disk.store.get(b"key") == b"value"


def test_a_rotten_voting_record_never_passes_for_a_torn_one() -> None:
    for place in range(0, 4_000, 13):
        disk = Disk(lambda: None, lambda: None)
        assert disk.votes.load() is not None
        for entry in (b"one", b"two"):
            disk.votes.append([entry * 50])
            disk.votes.sync()
        disk.rot(
            Rot(id=1, at_ms=0, node=0, place=RotPlace.RECORD, entry_place=0, byte_place=place, dies=False, down_ms=1)
        )
        assert disk.votes.is_rotten and disk.votes.load() is None


def test_rot_counts_among_the_faulty() -> None:
    rot = [
        Rot(id=node, at_ms=0, node=node, place=RotPlace.BODY, entry_place=0, byte_place=0, dies=False, down_ms=1)
        for node in (1, 2)
    ]
    with pytest.raises(ConfigurationError, match="more than f"):
        plans.check(replace(with_faults(), survivors=(0, 3), faults=tuple(rot)))
    crash = Crash(id=3, at_ms=0, node=3, point=CrashPoint.IDLE, down_ms=1)
    full = DiskFull(id=4, at_ms=0, node=0, down_ms=1, for_ms=1)
    plans.check(replace(with_faults(), faults=(crash, full)))

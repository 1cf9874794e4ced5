"""Where a disk has not clearly room for a snapshot and the chain, the snapshot gives way; and remaking one."""

from __future__ import annotations

import msgspec
import pytest

from otcnode import limits
from otcnode.codec import encode
from otcnode.engine.snapshot_serving import SnapshotServer
from otcnode.engine.snapshot_taking import CLAIMED_TOO_LARGE, NO_ROOM
from otcnode.errors import FolderDamage
from otcnode.storage.folder import MemoryFolder, MemoryFolders
from otcnode.storage.snapshot_maker import read_manifest
from otcnode.sync_messages import ManifestRequest, ManifestResponse, Offers, OffersRequest
from tests.engine.network import MemoryShelf, Station, deposit, key_of
from tests.engine.test_snapshots import (
    BEHIND,
    INTERVAL,
    asked_of_liar,
    full_node,
    leader_at,
    link,
    manifest_of,
    offer_of,
    reborn,
    say,
    started,
    until_installed,
    with_liar,
)

SPARE = limits.snapshot_spare_bytes
GIVEN_UP = "a snapshot is given up"


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "snapshot_chunk_bytes", 200)


def shelf_with(free_bytes: int) -> MemoryShelf:
    shelf = MemoryShelf()
    shelf.made = MemoryFolders(free_bytes)
    return shelf


def server_of(station: Station) -> SnapshotServer:
    server = station.engine.catch_up.snapshot_server
    assert server is not None
    return server


def heights(station: Station) -> list[int]:
    return sorted(made.offer.height for made in server_of(station)._made.values())


def grow(station: Station, height: int, first: int = 0) -> None:
    """By deposits that are numbered from `first` on."""
    while station.height < height:
        station.now_ms += 10
        station.submit(deposit(station.genesis, first + station.height))
        station.settle()
        for _ in range(60 if station.height % INTERVAL == 0 else 0):
            station.elapse(50)


def errors(station: Station) -> list[str]:
    return [text for level, text in station.notes if level == "error"]


@pytest.mark.parametrize("free_bytes", [0, SPARE - 1, SPARE + 500], ids=["full", "the spare", "less than the state"])
def test_a_snapshot_is_not_made_where_the_chain_may_need_the_room(free_bytes: int) -> None:
    station = started(
        Station(leader_at(0).genesis, key_of("node 0"), interval_blocks=INTERVAL, shelf=shelf_with(free_bytes))
    )
    grow(station, INTERVAL)
    assert heights(station) == [] and errors(station) == [GIVEN_UP]
    assert station.shelf.made.names() == []
    station.shelf.made.free = 1 << 40
    grow(station, 2 * INTERVAL + 1)
    assert station.height == 2 * INTERVAL + 1 and heights(station) == [2 * INTERVAL]


def test_a_snapshot_is_given_up_where_the_disk_fills_up_meanwhile() -> None:
    station = started(
        Station(leader_at(0).genesis, key_of("node 0"), interval_blocks=INTERVAL, shelf=shelf_with(1 << 40))
    )
    grow(station, INTERVAL - 1)
    station.submit(deposit(station.genesis, 99))
    station.settle()
    name = f"{INTERVAL:012d}"
    while not any(file.startswith("chunk-") for file in station.shelf.made.open(name).names()):
        station.elapse(50)
    station.shelf.made.free = SPARE - 1
    station.elapse(100)
    assert errors(station) == [GIVEN_UP] and station.shelf.made.names() == []
    grow(station, INTERVAL + 2)


def test_a_snapshot_is_not_taken_where_there_is_no_room_and_blocks_are() -> None:
    leader = leader_at(34)
    joiner = full_node(leader.genesis, "joiner", leader, behind_blocks=BEHIND, shelf=shelf_with(SPARE + 1_000))
    net = link(leader, joiner)
    net.elapse(limits.snapshot_no_room_pause_ms // 2)
    assert joiner.height == leader.height and joiner.shelf.installed is None and joiner.penalised == []
    assert errors(joiner) == [] and CLAIMED_TOO_LARGE in [text for _, text in joiner.notes]
    known = next(fields for text, fields in joiner.noted if text == CLAIMED_TOO_LARGE)
    assert known["free_bytes"] == SPARE + 1_000 and int(str(known["needed_bytes"])) > SPARE + 1_000


LIES = [{"size_bytes": 2**62}, {"keys": 2**62}]


@pytest.mark.parametrize("lie", LIES, ids=["bytes", "keys"])
def test_who_tells_a_false_size_keeps_nobody_from_the_snapshot_of_another(lie: dict[str, int]) -> None:
    """It lies whenever it is asked, and goes on offering."""
    leader = leader_at(34)
    offer = offer_of(leader)
    joiner = with_liar(leader, offer)
    answer = ManifestResponse(offer.block_hash, encode(msgspec.structs.replace(manifest_of(leader), **lie)))
    say(joiner, answer)
    net, asked = link(leader, joiner), 1
    for _ in range(100):
        for message in asked_of_liar(joiner):
            if isinstance(message, OffersRequest):
                say(joiner, Offers((offer,)))
            elif isinstance(message, ManifestRequest):
                asked += 1
                say(joiner, answer)
        if joiner.shelf.installed is not None:
            break
        net.elapse(50)
    assert joiner.shelf.installed is not None and asked == 1 and joiner.penalised == []
    assert errors(joiner) == [] and [text for _, text in joiner.notes].count(CLAIMED_TOO_LARGE) == 1
    assert reborn(joiner).height == 30


def test_a_snapshot_is_given_up_where_the_disk_fills_up_while_it_comes() -> None:
    leader = leader_at(34)
    joiner = full_node(leader.genesis, "joiner", leader, behind_blocks=BEHIND, shelf=shelf_with(1 << 40))
    net = link(leader, joiner)
    for _ in range(100):
        net.elapse(10)
        if joiner.engine.catch_up.snapshot_taker.incoming is not None:
            break
    assert joiner.shelf.gathered is not None
    joiner.shelf.made.free = SPARE - 1
    net.elapse(2_000)
    assert joiner.shelf.gathered is None and errors(joiner) == [NO_ROOM] and joiner.penalised == []
    assert joiner.height == leader.height
    known = next(fields for text, fields in joiner.noted if text == NO_ROOM)
    assert (known["free_bytes"], known["needed_bytes"]) == (SPARE - 1, SPARE) and "data/archives" in NO_ROOM


def test_it_is_taken_once_there_is_room() -> None:
    leader = leader_at(34)
    leader.store.blocks_needed_above = 30
    joiner = full_node(leader.genesis, "joiner", leader, behind_blocks=BEHIND, shelf=shelf_with(SPARE - 1))
    joiner.engine.catch_up.sync.poll = lambda height, now_ms: []  # type: ignore[method-assign]
    net = link(leader, joiner)
    net.elapse(2_000)
    assert errors(joiner) == [NO_ROOM]
    joiner.shelf.made.free = 1 << 40
    until_installed(net, joiner, 2 * limits.snapshot_no_room_pause_ms)


def test_a_state_of_which_no_snapshot_can_be_made_holds_back_no_pruning(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were one of its height; the next height is tried again."""
    station = leader_at(INTERVAL)
    assert heights(station) == [INTERVAL] and station.store.blocks_needed_above == INTERVAL
    monkeypatch.setattr(limits, "snapshot_chunk_pairs_max", 0)
    for interval in (2, 3):
        grow(station, interval * INTERVAL)
        assert heights(station) == [INTERVAL] and errors(station) == [GIVEN_UP] * (interval - 1)
        assert station.store.blocks_needed_above == interval * INTERVAL
    monkeypatch.undo()
    grow(station, 4 * INTERVAL)
    assert heights(station) == [INTERVAL, 4 * INTERVAL]
    assert station.store.blocks_needed_above == 4 * INTERVAL


KEPT = 2 * INTERVAL
"""As a node with a window makes them: two are always among the blocks that it keeps."""


def windowed(free_bytes: int = 1 << 40) -> Station:
    genesis, shelf = leader_at(0).genesis, shelf_with(free_bytes)
    return started(Station(genesis, key_of("node 0"), interval_blocks=INTERVAL, shelf=shelf, blocks_kept=KEPT))


def test_where_there_is_no_room_for_a_snapshot_blocks_are_pruned_all_the_same() -> None:
    """Or the disk, which has little room, would be filled for certain, and those of all nodes at once."""
    station = windowed()
    grow(station, 3 * INTERVAL)
    station.shelf.made.free = SPARE - 1
    grow(station, 12 * INTERVAL + 1)
    assert station.height - station.store.blocks_first + 1 == KEPT
    assert set(errors(station)) == {GIVEN_UP}


def test_the_older_snapshots_make_room_for_the_next_and_the_last_only_once_blocks_do_not_lead_on_from_it() -> None:
    station = windowed()
    grow(station, 3 * INTERVAL)
    assert heights(station) == [2 * INTERVAL, 3 * INTERVAL]
    station.shelf.made.free = SPARE - 1
    grow(station, 4 * INTERVAL)
    assert heights(station) == [3 * INTERVAL] and station.store.blocks_first <= 3 * INTERVAL + 1
    grow(station, 5 * INTERVAL)
    assert heights(station) == [3 * INTERVAL] and station.store.blocks_first <= 3 * INTERVAL + 1
    grow(station, 6 * INTERVAL)
    assert heights(station) == [] and station.store.blocks_first > 3 * INTERVAL + 1
    assert station.shelf.made.names() == []
    station.shelf.made.free = 1 << 40
    grow(station, 7 * INTERVAL)
    assert heights(station) == [7 * INTERVAL] and station.store.blocks_needed_above == 7 * INTERVAL


def test_a_node_that_keeps_all_blocks_keeps_its_last_snapshot_where_there_is_no_room_for_another() -> None:
    station = leader_at(2 * INTERVAL)
    station.shelf.made.free = SPARE - 1
    grow(station, 6 * INTERVAL)
    assert heights(station) == [2 * INTERVAL] and offered_are_whole(station)


def test_a_disk_that_refuses_snapshots_holds_back_no_pruning(monkeypatch: pytest.MonkeyPatch) -> None:
    station = windowed()
    grow(station, INTERVAL)

    def refused(folder: MemoryFolder, name: str, content: bytes) -> None:
        raise FolderDamage("the disk is full")

    monkeypatch.setattr(MemoryFolder, "write", refused)
    grow(station, 8 * INTERVAL)
    assert station.height - station.store.blocks_first + 1 == KEPT and heights(station) == [INTERVAL]


# ---- a chain that was taken back


def taken_back(station: Station) -> Station:
    """The same node, its snapshots still there, on a chain that begins anew."""
    return started(Station(station.genesis, station.key, interval_blocks=INTERVAL, shelf=station.shelf))


def offered_are_whole(station: Station) -> bool:
    made = server_of(station)._made.values()
    return all(read_manifest(entry.folder) is not None for entry in made)


def test_a_snapshot_of_a_block_that_is_decided_again_is_not_made_again() -> None:
    station = leader_at(3 * INTERVAL)
    assert heights(station) == [2 * INTERVAL, 3 * INTERVAL]
    server = server_of(station)
    before = station.shelf.made.names()
    server.committed(3 * INTERVAL)
    assert server._work is None and station.shelf.made.names() == before


def test_a_chain_that_was_taken_back_and_went_another_way_serves_what_it_makes() -> None:
    """Those above it are the first to go; what is offered is there."""
    station = leader_at(3 * INTERVAL)
    anew = taken_back(station)
    assert heights(anew) == [2 * INTERVAL, 3 * INTERVAL]
    for height, expected in ((1, [1, 3]), (2, [1, 2]), (3, [2, 3])):
        grow(anew, height * INTERVAL, first=1_000)
        assert heights(anew) == [INTERVAL * number for number in expected]
        assert offered_are_whole(anew) and len(anew.shelf.made.names()) == 2
        assert anew.store.blocks_needed_above == height * INTERVAL
    assert errors(anew) == []

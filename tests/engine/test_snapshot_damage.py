"""A disk that harms what is gathered or made of snapshots: it is said and given up, and the node goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import pytest

from otcnode import limits
from otcnode.engine.snapshot_taking import DAMAGED, NO_ROOM, REFUSED
from otcnode.errors import DiskFull, FolderDamage, StorageDamage, StorageRefused
from otcnode.p2p.framing import Channel
from otcnode.storage.faulty import Fault, FaultKind, FaultyKeyValue
from otcnode.storage.folder import MemoryFolders
from otcnode.storage.kv import KeyValue, MemoryKeyValue, Write
from otcnode.storage.records import ADVICE
from otcnode.storage.schema import Meta, Table
from otcnode.sync_messages import SYNC_MESSAGES, ChunkRequest
from tests.engine.network import MemoryShelf, Station, deposit, key_of
from tests.engine.test_snapshots import BEHIND, INTERVAL, full_node, leader_at, link, reborn, until_installed


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "snapshot_chunk_bytes", 200)


class _Rotting(FaultyKeyValue):
    """One leaf of the state tree changes as soon as there is one."""

    def __init__(self, noticed: bool) -> None:
        super().__init__()
        self._noticed = noticed

    def write(self, batch: list[Write]) -> None:  # type: ignore[override]
        super().write(batch)
        if not self.is_rotten:
            self.rot(0, 9, Table.TREE.value, self._noticed)


class _RottenShelf(MemoryShelf):
    """The first stores in which a snapshot is gathered rot."""

    def __init__(self, noticed: bool, rotten: int = 1) -> None:
        super().__init__()
        self._noticed = noticed
        self.rotten = rotten
        self.stores = 0

    def incoming(self) -> KeyValue:
        if self.gathered is None:
            self.stores += 1
            self.gathered = _Rotting(self._noticed) if self.stores <= self.rotten else FaultyKeyValue()
        return self.gathered


def _errors(station: Station) -> list[str]:
    return [text for level, text in station.notes if level == "error"]


@pytest.mark.parametrize("noticed", [True, False], ids=["by a checksum", "by the hash of its bucket"])
def test_what_rots_while_it_is_gathered_is_fetched_again(noticed: bool) -> None:
    leader, shelf = leader_at(34), _RottenShelf(noticed)
    joiner = full_node(leader.genesis, "joiner", leader, behind_blocks=BEHIND, shelf=shelf)
    until_installed(link(leader, joiner), joiner)
    assert shelf.stores == 2
    assert _errors(joiner) == [DAMAGED]
    joined = reborn(joiner)
    assert joined.height == 30 and joined.penalised == []


def test_where_damage_stays_a_snapshot_is_gathered_ever_less_often() -> None:
    """Or the node would take all of it from the others without end."""
    leader, shelf = leader_at(34), _RottenShelf(True, rotten=1_000)
    leader.store.blocks_needed_above = 30
    joiner = full_node(leader.genesis, "joiner", leader, behind_blocks=BEHIND, shelf=shelf)
    joiner.engine.catch_up.sync.poll = lambda height, now_ms: []  # type: ignore[method-assign]
    net = link(leader, joiner)
    net.elapse(limits.snapshot_damage_pause_ms // 2)
    assert shelf.stores == 2, "at once, and then no more for a while"
    net.elapse(6 * limits.snapshot_damage_pause_ms, step_ms=100)
    assert shelf.stores == 4 and set(_errors(joiner)) == {DAMAGED}
    shelf.rotten = 0
    until_installed(net, joiner, 4 * limits.snapshot_damage_pause_ms)
    assert reborn(joiner).height == 30 and joiner.penalised == []


def test_what_is_found_damaged_when_it_is_to_take_the_chains_place_is_gathered_ever_less_often() -> None:
    """Each time one engine ends and another begins: the pause is that of the process."""
    leader, shelf = leader_at(34), MemoryShelf()
    leader.store.blocks_needed_above = 30
    joiner, took_ms = full_node(leader.genesis, "joiner", leader, behind_blocks=BEHIND, shelf=shelf), list[int]()
    for _ in range(4):
        joiner.engine.catch_up.sync.poll = lambda height, now_ms: []  # type: ignore[method-assign]
        began_ms = joiner.now_ms
        until_installed(link(leader, joiner), joiner)
        took_ms.append(joiner.now_ms - began_ms)
        for station in (leader, joiner):
            station.engine.disconnected(leader.own if station is joiner else joiner.own)
        # What the next engine's owner finds in it.
        shelf.installed = None
        shelf.pause.begin(joiner.now_ms)
        joiner = full_node(leader.genesis, "joiner", leader, behind_blocks=BEHIND, shelf=shelf)
    pause_ms = limits.snapshot_damage_pause_ms
    assert max(took_ms[:2]) < pause_ms <= took_ms[2] < 2 * pause_ms <= took_ms[3]
    shelf.pause.end()
    assert shelf.pause.until_ms == 0


class _FullShelf(MemoryShelf):
    """Its disk is full without saying so beforehand, as with a quota: when the store is opened, or from the write on
    whose number is told."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at: int | None = at

    def incoming(self) -> KeyValue:
        if self.gathered is None:
            if self.at == 0:
                raise DiskFull("the disk of incoming is full; free space, then start the node again")
            self.gathered = FaultyKeyValue([] if self.at is None else [Fault(self.at, FaultKind.DISK_FULL)])
        return self.gathered


@pytest.mark.parametrize("at", [0, 1, 2], ids=["opened", "begun", "finished"])
def test_a_disk_that_is_full_when_a_snapshot_is_gathered_is_waited_for(at: int) -> None:
    leader, shelf = leader_at(34), _FullShelf(at)
    leader.store.blocks_needed_above = 30
    joiner = full_node(leader.genesis, "joiner", leader, behind_blocks=BEHIND, shelf=shelf)
    joiner.engine.catch_up.sync.poll = lambda height, now_ms: []  # type: ignore[method-assign]
    net = link(leader, joiner)
    net.elapse(limits.snapshot_no_room_pause_ms // 2, step_ms=100)
    assert _errors(joiner) == [NO_ROOM] and shelf.gathered is None and joiner.engine.halted is None
    shelf.at = None
    until_installed(net, joiner, 2 * limits.snapshot_no_room_pause_ms)
    assert reborn(joiner).height == 30 and joiner.penalised == []


def test_what_was_gathered_stays_where_the_disk_is_full_at_a_start() -> None:
    leader, shelf = leader_at(34), _FullShelf(0)
    shelf.begun = lambda: True  # type: ignore[method-assign]
    joiner = full_node(leader.genesis, "joiner", leader, behind_blocks=BEHIND, shelf=shelf)
    assert _errors(joiner) == [NO_ROOM] and joiner.engine.halted is None


class _Refusing(MemoryKeyValue):
    """The system opens no table of it."""

    def get(self, key: bytes) -> bytes | None:
        raise StorageRefused("incoming cannot be used (000005.ldb: Too many open files)")


class _RefusingShelf(MemoryShelf):
    """As with too many open files: when the store is opened, or when it is read."""

    def __init__(self, at: str | None) -> None:
        super().__init__()
        self.at = at

    def incoming(self) -> KeyValue:
        if self.at == "opened":
            raise StorageRefused("cannot use the data directory incoming: too many open files")
        if self.gathered is None and self.at == "read":
            self.gathered = _Refusing()
        return super().incoming()


@pytest.mark.parametrize("at", ["opened", "read"])
def test_a_system_that_refuses_what_gathering_needs_is_waited_for_and_no_damage(at: str) -> None:
    leader, shelf = leader_at(34), _RefusingShelf(at)
    leader.store.blocks_needed_above = 30
    joiner = full_node(leader.genesis, "joiner", leader, behind_blocks=BEHIND, shelf=shelf)
    joiner.engine.catch_up.sync.poll = lambda height, now_ms: []  # type: ignore[method-assign]
    net = link(leader, joiner)
    net.elapse(limits.snapshot_no_room_pause_ms // 2, step_ms=100)
    assert _errors(joiner) == [REFUSED] and shelf.gathered is None and joiner.engine.halted is None
    shelf.at = None
    until_installed(net, joiner, 2 * limits.snapshot_no_room_pause_ms)
    assert reborn(joiner).height == 30 and joiner.penalised == []


@pytest.mark.parametrize("at", ["opened", "read"])
def test_what_was_gathered_stays_where_the_system_refuses_it_at_a_start(at: str) -> None:
    leader, shelf = leader_at(34), _RefusingShelf(at)
    shelf.gathered = _Refusing()
    joiner = full_node(leader.genesis, "joiner", leader, behind_blocks=BEHIND, shelf=shelf)
    assert _errors(joiner) == [REFUSED] and joiner.engine.halted is None and shelf.gathered is not None


Met: TypeAlias = Callable[[MemoryKeyValue, tuple[bytes, ...]], bool]


class _RefusingOnce(MemoryKeyValue):
    """The system refuses one operation on it, the first that `met` is true of: a scan of this prefix, or a write of
    these keys."""

    def __init__(self, met: Met) -> None:
        super().__init__()
        self._met = met
        self.refused = False

    def _refuse_if_met(self, *keys: bytes) -> None:
        if not self.refused and self._met(self, keys):
            self.refused = True
            raise StorageRefused("incoming cannot be used (000005.ldb: Too many open files)")

    def scan(
        self, prefix: bytes, after: bytes | None = None, limit: int | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        self._refuse_if_met(prefix)
        return super().scan(prefix, after, limit, reverse)

    def write(self, batch: Sequence[Write]) -> None:
        self._refuse_if_met(*(key for key, _ in batch))
        super().write(batch)


class _RefusingOnceShelf(MemoryShelf):
    def __init__(self, met: Met) -> None:
        super().__init__()
        self.first = self.gathered = _RefusingOnce(met)

    def begun(self) -> bool:
        return super().begun() and (self.gathered is not self.first or self.chunks() > 0)

    def discard(self) -> None:
        """The first store is used although it is given before anything is gathered."""
        if self.begun():
            super().discard()

    def chunks(self) -> int:
        """So many are in the first store."""
        return _chunks(self.first)


def _chunks(kv: MemoryKeyValue) -> int:
    return len(list(MemoryKeyValue.scan(kv, Meta.INCOMING_CHUNK.value)))


def _count_chunks_asked(station: Station) -> list[int]:
    """The chunks that the station asks for from now on."""
    asked, send = list[int](), station.send

    def counting(peer: bytes, channel: Channel, payload: bytes) -> None:
        if channel is Channel.SYNC and isinstance(request := SYNC_MESSAGES.read(payload), ChunkRequest):
            asked.append(request.index)
        send(peer, channel, payload)

    station.send = counting  # type: ignore[method-assign]
    return asked


CHUNKS = 16
REFUSALS: dict[str, tuple[Met, int]] = {
    "read when it is whole": (lambda kv, keys: keys == (Table.STATE.value,), CHUNKS),
    "written half-way": (lambda kv, keys: keys[-1].startswith(Meta.INCOMING_CHUNK.value) and _chunks(kv) == 4, 4),
    "made a chain": (lambda kv, keys: Meta.HEAD.value in keys, 0),
}
"""What is refused, and how many chunks are kept."""


@pytest.mark.parametrize("refusal", REFUSALS)
def test_what_is_there_of_a_snapshot_is_not_fetched_again_where_the_system_refuses_it_for_a_moment(
    refusal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for what was not written. Whether it has become a chain is not known where that was refused: a node that goes
    on by blocks meanwhile must not find it beside its own at its next start."""
    monkeypatch.setattr(limits, "snapshot_unwritten_bytes_max", 1)
    met, kept = REFUSALS[refusal]
    leader, shelf = leader_at(34), _RefusingOnceShelf(met)
    leader.store.blocks_needed_above = 30
    joiner = full_node(leader.genesis, "joiner", leader, behind_blocks=BEHIND, shelf=shelf)
    joiner.engine.catch_up.sync.poll = lambda height, now_ms: []  # type: ignore[method-assign]
    net = link(leader, joiner)
    net.elapse(limits.snapshot_no_room_pause_ms // 2, step_ms=100)
    taker = joiner.engine.catch_up.snapshot_taker
    assert taker is not None and shelf.first.refused
    assert _errors(joiner) == [REFUSED] and joiner.engine.halted is None and not taker.keeps_from_blocks
    assert (shelf.chunks() if shelf.gathered is shelf.first else 0) == kept
    asked = _count_chunks_asked(joiner)
    until_installed(net, joiner, 2 * limits.snapshot_no_room_pause_ms)
    assert len(set(asked)) == CHUNKS - kept
    assert reborn(joiner).height == 30 and joiner.penalised == []


class _DamagedTables(MemoryKeyValue):
    """LevelDB meets damage in its tables when it merges them, and takes no further write, from one on."""

    def __init__(self, whole: int) -> None:
        super().__init__()
        self._left = whole

    def write(self, batch: Sequence[Write]) -> None:
        if not self._left:
            raise StorageDamage(f"incoming is damaged (Corruption: block checksum mismatch); {ADVICE}")
        self._left -= 1
        super().write(batch)


class _DamagedTablesShelf(MemoryShelf):
    def __init__(self, whole: int) -> None:
        super().__init__()
        self.whole: int | None = whole

    def incoming(self) -> KeyValue:
        if self.gathered is None and self.whole is not None:
            self.gathered, self.whole = _DamagedTables(self.whole), None
        return super().incoming()


@pytest.mark.parametrize("whole", [0, 5, CHUNKS + 1], ids=["begun", "half-way", "made a chain"])
def test_damage_that_is_met_when_a_snapshot_is_written_ends_no_node(
    whole: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would at every start, with advice to verify a chain that is sound."""
    monkeypatch.setattr(limits, "snapshot_unwritten_bytes_max", 1)
    leader, shelf = leader_at(34), _DamagedTablesShelf(whole)
    leader.store.blocks_needed_above = 30
    joiner = full_node(leader.genesis, "joiner", leader, behind_blocks=BEHIND, shelf=shelf)
    joiner.engine.catch_up.sync.poll = lambda height, now_ms: []  # type: ignore[method-assign]
    net = link(leader, joiner)
    until_installed(net, joiner, 2 * limits.snapshot_damage_pause_ms)
    assert _errors(joiner) == [DAMAGED] and joiner.engine.halted is None
    assert reborn(joiner).height == 30 and joiner.penalised == []


def test_what_waits_of_a_snapshot_is_given_up_once_blocks_have_come_as_far() -> None:
    leader, shelf = leader_at(34), _RefusingOnceShelf(REFUSALS["read when it is whole"][0])
    joiner = full_node(leader.genesis, "joiner", leader, behind_blocks=BEHIND, shelf=shelf)
    net = link(leader, joiner)
    net.elapse(limits.snapshot_no_room_pause_ms // 2, step_ms=100)
    assert joiner.height == leader.height and shelf.gathered is shelf.first
    net.elapse(limits.snapshot_no_room_pause_ms, step_ms=100)
    assert shelf.gathered is None and shelf.installed is None and _errors(joiner) == [REFUSED]


def test_what_cannot_be_read_at_a_start_is_thrown_away() -> None:
    leader, shelf = leader_at(34), MemoryShelf()
    gathered = FaultyKeyValue()
    gathered.write([(Meta.INCOMING.value, b"\x90")])
    gathered.rot(0, 0)
    shelf.gathered = gathered
    joiner = full_node(leader.genesis, "joiner", leader, behind_blocks=BEHIND, shelf=shelf)
    assert _errors(joiner) == [DAMAGED]
    until_installed(link(leader, joiner), joiner)
    assert reborn(joiner).height == 30


class _Stubborn(MemoryFolders):
    """A directory whose entries cannot be listed, or not be deleted."""

    def __init__(self, refused: str) -> None:
        super().__init__()
        self._refused = refused

    def names(self) -> list[str]:
        if self._refused == "names":
            raise FolderDamage("cannot use snapshots: Input/output error")
        return super().names()

    def remove(self, name: str) -> None:
        if self._refused == "remove":
            raise FolderDamage("cannot use snapshots: Input/output error")
        super().remove(name)


@pytest.mark.parametrize(
    ("refused", "said"),
    [("names", "the snapshots made here cannot be listed"), ("remove", "a snapshot cannot be deleted")],
)
def test_a_directory_of_snapshots_that_refuses_ends_no_node_and_costs_no_new_snapshot(refused: str, said: str) -> None:
    leader = leader_at(4)
    shelf = MemoryShelf()
    shelf.made = _Stubborn(refused)
    server = Station(leader.genesis, key_of("server"), interval_blocks=INTERVAL, shelf=shelf)
    server.engine.start()
    net = link(leader, server)

    for number in range(100, 126):
        leader.submit(deposit(leader.genesis, number))
        net.elapse(50)
        if (4 + number - 99) % INTERVAL == 0:
            net.elapse(3_000)
    made = server.engine.catch_up.snapshot_server
    assert made is not None
    assert server.height == 30
    assert sorted(entry.offer.height for entry in made._made.values()) == [20, 30]
    assert said in _errors(server)

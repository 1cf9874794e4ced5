"""A node that joins late and empty while everything around it goes wrong, on virtual time.

A validator commits without pause and prunes its blocks; full nodes serve its snapshots; one of them lies, from junk to
snapshots of a chain of its own. Messages are lost, doubled, delayed and reordered; the joiner's process dies between
any two events and in any write, and starts again from what its disks hold. Chance comes from the seed alone.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import msgspec

from otcnode.codec import decode, encode
from otcnode.engine.snapshot_taking import DamagePause
from otcnode.genesis import chain_id
from otcnode.p2p.framing import Channel
from otcnode.simulation.counterfeits import Counterfeits
from otcnode.snapshot import Chunk
from otcnode.storage import incoming
from otcnode.storage.faulty import FaultKind, FaultyKeyValue, SimulatedCrash
from otcnode.storage.folder import Folders, MemoryFolders
from otcnode.storage.kv import KeyValue
from otcnode.storage.snapshot_maker import MANIFEST, chunk_name
from otcnode.storage.store import Store
from otcnode.sync_messages import (
    BlocksResponse,
    ChunkResponse,
    ManifestResponse,
    Offers,
    SyncMessage,
    TipNotice,
)
from tests.engine.network import START_MS, Station, deposit, genesis_of, key_of

INTERVAL, BEHIND, KEPT = 8, 12, 20
STEP_MS = 50
GROWN = 40
STORM_MS, CALM_MS = 8_000, 90_000
COMMIT_EVERY_MS = 400
BAN_MS = 2_000
CRASHES = (FaultKind.CRASH_BEFORE, FaultKind.TORN, FaultKind.CRASH_AFTER)


class BrokenPromise(Exception):
    """What must never happen has happened."""


class Shelf:
    """Outlives the joiner's process. `installed` is set when the gathered store is whole and the process is to start
    again on it; the change itself happens at the next start, as on a disk."""

    def __init__(self) -> None:
        self.made: Folders = MemoryFolders()
        self.gathered: FaultyKeyValue | None = None
        self.installing = False
        self.pause = DamagePause()

    def begun(self) -> bool:
        return self.gathered is not None

    def incoming(self) -> KeyValue:
        if self.gathered is None:
            self.gathered = FaultyKeyValue()
        return self.gathered

    def discard(self) -> None:
        self.gathered = None

    def install(self) -> None:
        self.installing = True


@dataclass(frozen=True)
class Outcome:
    """What happened, for tests of the storm itself."""

    marks: Counter[str]
    lives: int
    height: int


class Storm:
    """`run` raises BrokenPromise."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._genesis = genesis_of(1)
        self._chain = chain_id(self._genesis)
        self._now_ms = 0
        self._calm = False
        self._number = 0
        self._queue: list[tuple[int, int, bytes, bytes, Channel, bytes]] = []
        self._sequence = 0
        self._banned_until_ms: dict[bytes, int] = {}
        self._links: set[frozenset[bytes]] = set()
        self._marks: Counter[str] = Counter()
        self._lives = 0
        self._best = 0
        self._kv = FaultyKeyValue()
        self._shelf = Shelf()
        self._votes = Station(self._genesis, key_of("joiner")).votes
        leader = Station(self._genesis, key_of("node 0"), interval_blocks=INTERVAL, blocks_kept=KEPT)
        servers = [Station(self._genesis, key_of(f"server {n}"), interval_blocks=INTERVAL) for n in range(2)]
        self._leader, self._liar = leader, servers[1]
        self._stations = {station.own: station for station in (leader, *servers)}
        self._joiner: Station | None = None
        self._down_until_ms = 0
        self._hashes: dict[int, bytes] = {}
        for station in self._stations.values():
            station.engine.start()

    def run(self) -> Outcome:
        """Storm, then calm, until the joiner has what the leader has."""
        self._grow(GROWN)
        end_ms = self._now_ms + STORM_MS
        while self._now_ms < end_ms:
            self._step()
        self._calm = True
        deadline_ms = self._now_ms + CALM_MS
        while not self._caught_up():
            if self._now_ms > deadline_ms:
                raise BrokenPromise(f"the joiner does not catch up: {self._where()}")
            self._step()
        self._check_end()
        return Outcome(self._marks, self._lives, self._best)

    # ---- the world

    def _grow(self, height: int) -> None:
        """A long chain before the joiner comes; snapshots are made meanwhile."""
        while self._leader.height < height:
            self._commit()
            for _ in range(4):
                self._step(join=False)

    def _commit(self) -> None:
        valid_until_ms = START_MS + self._now_ms + 50_000
        self._leader.submit(deposit(self._genesis, self._number, valid_until_ms=valid_until_ms))
        self._number += 1
        self._leader.settle()
        self._hashes[self._leader.height] = self._leader.store.tip.block_hash

    def _step(self, join: bool = True) -> None:
        self._now_ms += STEP_MS
        if self._now_ms % COMMIT_EVERY_MS == 0:
            self._commit()
        if join and self._joiner is None and self._now_ms >= self._down_until_ms:
            self._start()
        self._tend_links()
        for station in self._living():
            self._within(station, lambda station=station: station.elapse(STEP_MS))  # type: ignore[misc]
            self._collect(station)
        while self._queue and self._queue[0][0] <= self._now_ms:
            _, _, sender, receiver, channel, payload = heapq.heappop(self._queue)
            station = self._station(receiver)
            if station is not None and frozenset((sender, receiver)) in self._links:
                self._deliver(station, sender, channel, payload)
        if not self._calm and self._joiner is not None and self._chance.random() < 0.01:
            self._die("between two events")

    def _deliver(self, station: Station, sender: bytes, channel: Channel, payload: bytes) -> None:
        def arrive() -> None:
            station.engine.received(sender, channel, payload)
            station.settle()

        self._within(station, arrive)
        self._collect(station)

    def _within(self, station: Station, action: Callable[[], None]) -> None:
        """Something happens in a process; the joiner may die over it, or end to go on from a snapshot."""
        if station is self._joiner:
            try:
                action()
            except SimulatedCrash:
                self._die("in a write")
                return
            except BrokenPromise:
                raise
            except Exception as error:
                raise BrokenPromise(f"the joiner fails: {error!r}") from error
            self._check(station)
            if self._shelf.installing:
                self._die("to go on from a snapshot")
        else:
            action()

    def _collect(self, station: Station) -> None:
        """What a process has said gets on its way."""
        chance = self._chance
        while station.sent:
            peer, channel, payload = station.sent.popleft()
            if self._joiner is not None and peer == self._joiner.own and station is self._liar:
                payload = self._lie(channel, payload)
            if not self._calm and channel is Channel.SYNC and chance.random() < 0.1:
                self._marks["lost"] += 1
                continue
            for _ in range(2 if not self._calm and chance.random() < 0.1 else 1):
                late_ms = chance.randrange(1, 40 if self._calm else 400)
                self._sequence += 1
                entry = (self._now_ms + late_ms, self._sequence, station.own, peer, channel, payload)
                heapq.heappush(self._queue, entry)
        for peer, _ in station.penalised:
            if station is self._joiner and peer != self._liar.own:
                raise BrokenPromise(f"the joiner blames an honest node: {station.penalised}")
            self._marks["banned"] += 1
            self._cut(station.own, peer)
            self._banned_until_ms[peer] = self._now_ms + BAN_MS
        station.penalised.clear()

    def _living(self) -> list[Station]:
        return [*self._stations.values(), *([] if self._joiner is None else [self._joiner])]

    def _station(self, name: bytes) -> Station | None:
        return next((station for station in self._living() if station.own == name), None)

    def _tend_links(self) -> None:
        living = self._living()
        for place, one in enumerate(living):
            for other in living[place + 1 :]:
                ends = frozenset((one.own, other.own))
                joins = self._joiner is not None and self._joiner.own in ends
                banned = joins and any(self._banned_until_ms.get(end, 0) > self._now_ms for end in ends)
                if ends not in self._links and not banned:
                    self._links.add(ends)
                    for here, there in ((one, other), (other, one)):
                        self._within(here, lambda here=here, there=there: here.engine.connected(there.own))  # type: ignore[misc]

    def _cut(self, first: bytes, second: bytes) -> None:
        self._links.discard(frozenset((first, second)))
        for here, there in ((first, second), (second, first)):
            station = self._station(here)
            if station is not None:
                station.engine.disconnected(there)

    # ---- the joiner

    def _start(self) -> None:
        """What the program does when it starts: a whole store takes the chain's place, then everything is opened."""
        self._lives += 1
        shelf = self._shelf
        for disk in (self._kv, shelf.gathered):
            if disk is not None and disk._stopped:
                disk.reopen()
        shelf.installing = False
        if shelf.gathered is not None and incoming.finished(shelf.gathered):
            self._kv, shelf.gathered = shelf.gathered, None
            self._marks["installed"] += 1
        if shelf.gathered is not None:
            self._marks["resumed"] += 1
        shelf.pause = DamagePause()  # of a process, and every start is a new one
        try:
            joiner = Station(
                self._genesis,
                key_of("joiner"),
                kv=self._kv,
                votes=self._votes,
                now_ms=self._now_ms,
                shelf=shelf,  # type: ignore[arg-type]
                interval_blocks=0,
                behind_blocks=BEHIND,
            )
            joiner.engine.start()
            joiner.settle()
        except SimulatedCrash:
            self._stop("in a write of its start")
            return
        except Exception as error:
            raise BrokenPromise(f"the joiner cannot start: {error!r}") from error
        self._joiner = joiner
        self._check(joiner)
        if not self._calm:
            self._arm()

    def _arm(self) -> None:
        """The process dies at one of the coming writes of its chain, or of what it gathers."""
        disk = self._chance.choice((self._kv, self._shelf.gathered))
        if disk is not None and self._chance.random() < 0.9:
            disk.arm(self._chance.choice(CRASHES), self._chance.randrange(1, 14))

    def _die(self, why: str) -> None:
        assert self._joiner is not None
        own = self._joiner.own
        self._joiner = None
        for ends in [ends for ends in self._links if own in ends]:
            self._links.discard(ends)
            for end in ends - {own}:
                station = self._station(end)
                assert station is not None
                station.engine.disconnected(own)
        self._stop(why)

    def _stop(self, why: str) -> None:
        self._marks[why] += 1
        for disk in (self._kv, self._shelf.gathered):
            if disk is not None:
                disk.disarm()
                if not disk._stopped:
                    disk.crash()
        self._down_until_ms = self._now_ms + self._chance.randrange(50, 600)

    # ---- promises

    def _check(self, joiner: Station) -> None:
        """It stands at a block of the chain, with that block's state, never behind where it stood before."""
        tip = joiner.store.tip
        if tip.height < self._best:
            raise BrokenPromise(f"the joiner goes back from height {self._best} to {tip.height}")
        self._best = tip.height
        if tip.height and self._hashes.get(tip.height) != tip.block_hash:
            raise BrokenPromise(f"the joiner has another block {tip.height} than the chain")
        if tip.header is not None and joiner.store.tree.root != tip.header.state_root:
            raise BrokenPromise(f"the joiner's state at height {tip.height} has another root than its header")
        if joiner.engine.halted is not None:
            raise BrokenPromise(f"the joiner stops by itself: {joiner.engine.halted}")

    def _caught_up(self) -> bool:
        return self._joiner is not None and self._joiner.height >= self._leader.height - 1

    def _check_end(self) -> None:
        """What another process would find: every root anew, and the leader's state of that height."""
        assert self._joiner is not None
        height = self._joiner.height
        again = Store.open(self._kv, self._chain, 0)
        if dict(again.state.scan(b"")) != dict(self._leader.store.state_at(height).scan(b"")):
            raise BrokenPromise(f"the joiner's state at height {height} is not the leader's")

    def _where(self) -> str:
        joiner = self._joiner
        if joiner is None:
            return "it is down"
        taker = joiner.engine.catch_up.snapshot_taker
        assert taker is not None
        return f"height {joiner.height} of {self._leader.height}, {taker.sync.phase}, {self._marks}"

    # ---- the liar

    def _lie(self, channel: Channel, payload: bytes) -> bytes:
        if channel is not Channel.SYNC or self._chance.random() < 0.25:
            return payload
        message = decode(SyncMessage, payload)
        lie = self._lie_instead(message)
        if lie is None:
            return payload
        self._marks["lies"] += 1
        return encode(lie)

    def _lie_instead(self, message: SyncMessage) -> SyncMessage | None:
        chance = self._chance
        fakes = counterfeits().made
        match message:
            case TipNotice(height, first):
                return chance.choice([TipNotice(10**9, first), TipNotice(height, height + 1), TipNotice(10**9, 10**9)])
            case Offers(offers):
                return Offers((*offers, *(fake.offer for fake in counterfeits().of_height(self._leader.height))))
            case ManifestResponse(snapshot, manifest):
                true = fakes.get(snapshot)
                if true is not None:
                    return ManifestResponse(snapshot, true.files[MANIFEST])
                return ManifestResponse(snapshot, chance.choice([b"junk", manifest[:-1]]))
            case ChunkResponse(snapshot, index, chunk):
                true = fakes.get(snapshot)
                if true is not None:
                    return ChunkResponse(snapshot, index, true.files.get(chunk_name(index), b""))
                return ChunkResponse(snapshot, index, self._false_chunk(chunk))
            case BlocksResponse(first, blocks):
                return BlocksResponse(first, blocks[::-1]) if len(blocks) > 1 else BlocksResponse(first, ())
            case _:
                return None

    def _false_chunk(self, raw: bytes) -> bytes:
        if not raw:
            return b"junk"
        chunk = decode(Chunk, raw)
        return self._chance.choice(
            [
                encode(msgspec.structs.replace(chunk, pairs=tuple((key, b"mine") for key, _ in chunk.pairs))),
                encode(msgspec.structs.replace(chunk, pairs=chunk.pairs[1:])),
                encode(msgspec.structs.replace(chunk, index=chunk.index + 1)),
                raw[:-1],
                b"",
            ]
        )


@cache
def counterfeits() -> Counterfeits:
    liar = key_of("server 1")
    return Counterfeits(genesis_of(1), liar.public, liar.sign, 0)

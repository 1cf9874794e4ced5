"""One simulated process: the engine, and the world it sees."""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable, Sequence, Set
from functools import partial
from typing import Protocol

from otcnode.blocks import Verify
from otcnode.codec import decode, encode
from otcnode.consensus import effects
from otcnode.consensus.configuration import Configuration
from otcnode.consensus.events import Now, Timer
from otcnode.consensus.messages import Message
from otcnode.consensus.replica import Replica
from otcnode.crypto import SignatureCheck, SigningKey
from otcnode.engine.catch_up import Snapshots
from otcnode.engine.engine import Engine
from otcnode.engine.host import TransactionState
from otcnode.errors import Inadmissible, StorageDamage
from otcnode.genesis import Genesis, chain_id, first_epoch
from otcnode.membership import Membership
from otcnode.p2p.framing import Channel
from otcnode.simulation import shelves, wire
from otcnode.simulation.censorship import CensoringPool
from otcnode.simulation.chance import Chance
from otcnode.simulation.disk import Disk
from otcnode.simulation.liars import Mouth
from otcnode.simulation.network import Network
from otcnode.simulation.plan import Crash, CrashPoint, Plan
from otcnode.simulation.scheduler import Action, Scheduler
from otcnode.simulation.signing import Remembered, Sign
from otcnode.simulation.violation import Promise, Violation
from otcnode.simulation.visible_lies import VisibleLies
from otcnode.simulation.workload import TIME_MS, Client
from otcnode.storage.documents import DocumentStore
from otcnode.storage.faulty import SimulatedCrash
from otcnode.storage.store import Store
from otcnode.sync_messages import BlocksRequest
from otcnode.vm.genesis_state import genesis_writes

TICK_MS = 250
HISTORY_BLOCKS = 100
BACKLOG_MAX = 20_000
ANYWHERE = "127.0.0.1:1"
"""The address of every node: the network finds them by their index."""
BLOCKS_REQUEST_START = encode(BlocksRequest(1, 1))[:16]
"""By which one is known before it is decoded."""


class Surroundings(Protocol):
    """What the nodes of one simulation share."""

    plan: Plan
    genesis: Genesis
    validators: tuple[bytes, ...]
    index: dict[bytes, int]
    names: tuple[str, ...]
    scheduler: Scheduler
    chance: Chance
    network: Network
    client_signatures: Remembered
    verify: Verify
    lies: VisibleLies

    def sign(self, node: int) -> Sign: ...
    def note(self, node: int | None, text: str) -> None: ...
    def noted(self, node: int, text: str) -> None: ...
    def injected(self, kind: str) -> None: ...
    def mark(self, what: str) -> None: ...
    def effect(self, node: int, effect: effects.Effect) -> None: ...
    def said(self, node: int, message: Message) -> None: ...
    def record_durable(self, node: int) -> None: ...
    def committed(self, node: int, height: int, transactions: Sequence[bytes]) -> None: ...
    def installed(self, node: int) -> None: ...
    def admissions(self, node: int, gained: Set[int], lost: Set[int]) -> None: ...
    def started(self, node: int) -> None: ...
    def died(self, node: int) -> None: ...
    def censored(self, transaction: bytes) -> None: ...
    def damaged(self, node: int, damage: StorageDamage) -> None: ...
    def blamed(self, node: int, other: int, reason: str) -> None: ...


class Node:
    """Host and Observer of one engine after another: a process that dies is started again from its disk."""

    def __init__(self, index: int, key: SigningKey, world: Surroundings) -> None:
        self.index = index
        self.key = key
        self._world = world
        self._chain = chain_id(world.genesis)
        self.disk = Disk(self._synced, self._snapshot_whole)
        self.skew_ms = world.plan.skews_ms[index]
        self.sync_ms = 0
        self.mouth: Mouth | None = None
        self.engine: Engine | None = None
        self.store: Store | None = None
        self.lives = 0
        self._paused = False
        self._busy_until_ms = 0
        self._backlog: deque[Action] = deque()
        self._peers: set[int] = set()
        self._membership = Membership(key.public, {})
        self._admitted: frozenset[int] = frozenset()
        self._timers: dict[Timer, int] = {}
        self._crash: Crash | None = None
        self._crash_left = 0
        self._last_said: bytes = b""

    # ---- life and death

    @property
    def alive(self) -> bool:
        return self.engine is not None

    @property
    def opened(self) -> Store:
        """The store of a living process."""
        assert self.store is not None
        return self.store

    def start(self) -> None:
        """Open what the disk holds and run. Raises StorageDamage where the daemon would refuse to start."""
        assert self.engine is None
        world = self._world
        self.lives += 1
        self._timers.clear()
        self._backlog.clear()
        self._busy_until_ms = world.scheduler.now_ms
        if self.disk.complete_installation():
            world.installed(self.index)
        if not Store.exists(self.disk.store):
            genesis = world.genesis
            Store.create(
                self.disk.store,
                self._chain,
                genesis_writes(genesis),
                genesis.parameters.state_buckets,
                first_epoch(genesis),
                HISTORY_BLOCKS,
            )
        plan = world.plan
        store = Store.open(self.disk.store, self._chain, HISTORY_BLOCKS, plan.blocks_kept or None)
        configuration = Configuration(
            self._chain,
            self.key.public,
            view_timeout_ms_base=plan.view_timeout_ms,
            view_timeout_ms_max=plan.view_timeout_ms_max,
            record_bytes_before_compaction=plan.record_bytes,
        )
        replica = Replica(configuration, world.sign(self.index), world.verify)
        self._membership, self._admitted = self._configured(), frozenset()
        self._read_membership(store)
        self.store = store
        self.engine = Engine(
            self._chain,
            world.genesis.time_ms,
            self.key,
            store,
            DocumentStore(self.disk.documents),
            self.disk.votes,
            replica,
            self,
            self,
            self._before_effect,
            world.verify,
            self._snapshots(),
            read=wire.read,
        )
        if self.index in plan.censors:
            self.engine.intake.pool = CensoringPool(self._censors, world.censored)
        world.note(self.index, f"starts at height {store.tip.height}")
        world.started(self.index)
        self._guard(self.engine.start)
        if self.engine is not None:
            taker = self.engine.catch_up.snapshot_taker
            if taker is not None and taker.sync.chosen is not None:
                world.mark("snapshot resumed after a restart")
            self._tick(self.lives)

    def _censors(self) -> bool:
        """Whether this node proposes now, and leaves something out."""
        engine, mouth = self.engine, self.mouth
        if engine is None or mouth is None or not mouth.censors:
            return False
        return engine.replica.state.primary == self.key.public

    def _configured(self) -> Membership:
        """The operator of a node that the genesis does not admit has written down whom to begin with."""
        world = self._world
        stranger = self.index >= world.plan.validators + world.plan.spares
        return Membership(self.key.public, dict.fromkeys(world.names, ANYWHERE) if stranger else {})

    def _snapshots(self) -> Snapshots | None:
        plan = self._world.plan
        if not plan.snapshot_interval:
            return None
        return Snapshots(self.disk, plan.snapshot_interval, plan.behind_blocks, plan.chunk_bytes or None)

    def kill(self, why: str) -> None:
        """The process is gone at this instant."""
        if self.engine is None:
            return
        self._world.note(self.index, f"dies {why}")
        self.engine = None
        self.store = None
        self._peers.clear()
        self._backlog.clear()
        self._crash = None
        self._paused = False
        self.disk.stop()
        self._world.died(self.index)

    def give_up(self) -> None:
        """The process has ended in the middle of its start."""
        self.engine = None
        self.store = None
        self.disk.stop()
        self.disk.reopen()

    def _snapshot_whole(self) -> None:
        if self.disk.is_gathered_rotten:
            raise Violation(Promise.DAMAGE, f"n{self.index} goes on from a snapshot in which a bit has changed")
        life = self.lives

        def end() -> None:
            if self.lives == life and self.alive:
                self.kill("to go on from its snapshot")

        self._world.scheduler.after(0, end)

    def lose_store(self) -> None:
        """The blocks are gone; a dead process's disk."""
        assert not self.alive
        self.disk.lose_store()

    def reopen_disk(self) -> None:
        self.disk.reopen()

    def arm(self, crash: Crash) -> None:
        """Die at the coming occasion that the fault names."""
        if crash.point is CrashPoint.EFFECT:
            self._crash, self._crash_left = crash, crash.count
        else:
            self.disk.arm(crash)

    def disarm(self) -> None:
        self._crash = None
        self.disk.disarm()

    def pause(self) -> None:
        self._paused = self.alive

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._drain(self.lives)

    # ---- what happens to it

    def run(self, action: Action) -> None:
        """Let something happen in this process, now or once it is free."""
        if self.engine is None:
            return
        if self._paused or self._backlog or self._world.scheduler.now_ms < self._busy_until_ms:
            if len(self._backlog) < BACKLOG_MAX:
                self._backlog.append(action)
            self._wake_when_free()
        else:
            self._guard(action)

    def _wake_when_free(self) -> None:
        if not self._paused and len(self._backlog) == 1:
            life = self.lives
            self._world.scheduler.at(self._busy_until_ms, lambda: self._drain(life))

    def _drain(self, life: int) -> None:
        scheduler = self._world.scheduler
        while self._backlog and self.alive and self.lives == life and not self._paused:
            if scheduler.now_ms < self._busy_until_ms:
                scheduler.at(self._busy_until_ms, lambda: self._drain(life))
                return
            self._guard(self._backlog.popleft())

    def _guard(self, action: Action) -> None:
        try:
            action()
        except SimulatedCrash as crash:
            self.kill(str(crash))
        except StorageDamage as damage:
            self._world.damaged(self.index, damage)
        except Violation:
            raise
        except Exception:
            raise Violation(Promise.DEFECT, f"n{self.index} fails:\n{traceback.format_exc(limit=-12)}") from None
        engine, disk = self.engine, self.disk
        if engine is None:
            return
        if disk.met is not None:
            raise Violation(Promise.DAMAGE, f"n{self.index} goes on after this: {disk.met}")
        if disk.made.untold:
            raise Violation(Promise.DAMAGE, f"n{self.index} does not say: {disk.made.untold[0]}")
        if self.mouth is None and engine.stopped is not None:
            raise Violation(Promise.BLAME, f"n{self.index} stopped by itself: {engine.stopped}")

    def _tick(self, life: int) -> None:
        if self.lives != life:
            return

        def tick() -> None:
            if self.engine is not None:
                self.engine.tick()

        self.run(tick)
        self._world.scheduler.after(TICK_MS, lambda: self._tick(life))

    def connected(self, peer: int) -> None:
        self._peers.add(peer)
        self.run(lambda: self._tell_connected(peer))

    def _tell_connected(self, peer: int) -> None:
        if self.engine is not None and peer in self._peers:
            self.engine.connected(self._world.validators[peer])

    def disconnected(self, peer: int) -> None:
        self._peers.discard(peer)
        self.run(lambda: self._tell_disconnected(peer))

    def _tell_disconnected(self, peer: int) -> None:
        if self.engine is not None:
            self.engine.disconnected(self._world.validators[peer])

    def arrived(self, peer: int, channel: Channel, payload: bytes) -> None:
        if peer in self._peers:
            self.run(partial(self._receive, peer, channel, payload))

    def _receive(self, peer: int, channel: Channel, payload: bytes) -> None:
        if self.engine is not None:
            if self.mouth is not None:
                self.mouth.heard(channel, payload)
            if channel is Channel.SYNC and self._world.plan.blocks_kept:
                self._look_at_request(payload)
            self._show(self.engine, self._world.validators[peer], channel, payload)

    def _show(self, engine: Engine, peer: bytes, channel: Channel, payload: bytes) -> None:
        lies = self._world.lies
        seen = lies.contradiction(self.index, engine.replica, payload) if channel is Channel.CONSENSUS else None
        engine.received(peer, channel, payload)
        if seen is not None:
            lies.requires(self.index, engine.replica, seen)

    def _look_at_request(self, payload: bytes) -> None:
        asks = payload.startswith(BLOCKS_REQUEST_START)
        if asks and 0 < decode(BlocksRequest, payload).first < self.opened.blocks_first:
            self._world.mark("a pruned block asked for")

    def submit(self, client: Client, answer: Callable[[TransactionState], None]) -> None:
        """A client's call; it gets no answer if the process dies over it."""

        def call() -> None:
            if self.engine is None:
                return
            try:
                self.engine.submit(client.transaction, answer)
            except Inadmissible as error:
                self._world.note(self.index, f"refuses {client.transaction.id.hex()[:8]}: {error}")
                if client.is_unauthorised:
                    self._world.mark("a usurper refused")

        self.run(call)

    # ---- Host

    @property
    def _now_ms(self) -> int:
        now_ms, busy_until_ms = self._world.scheduler.now_ms, self._busy_until_ms
        return now_ms if now_ms > busy_until_ms else busy_until_ms

    def now(self) -> Now:
        now_ms, busy_until_ms = self._world.scheduler.now_ms, self._busy_until_ms
        if now_ms < busy_until_ms:
            now_ms = busy_until_ms
        ahead_ms = 0 if self.mouth is None else self.mouth.clock_ahead_ms
        return Now(now_ms, TIME_MS + now_ms + self.skew_ms + ahead_ms)

    @property
    def clock_ms(self) -> int:
        """Ledger time by its clock, which a liar may not go by."""
        return TIME_MS + self._now_ms + self.skew_ms

    def send(self, peer: bytes, channel: Channel, payload: bytes) -> None:
        world, disk = self._world, self.disk
        if disk.met is not None:
            raise Violation(Promise.DAMAGE, f"n{self.index} says something after this: {disk.met}")
        if channel is Channel.SYNC and self.mouth is None and shelves.altered(disk, payload):
            raise Violation(Promise.DAMAGE, f"n{self.index} serves a snapshot in which a bit has changed")
        if channel is Channel.CONSENSUS and not disk.votes.is_durable:
            raise Violation(Promise.DURABILITY, f"n{self.index} says what a loss of power would make it forget")
        receiver = world.index[peer]
        now_ms = world.scheduler.now_ms
        depart_ms = now_ms if now_ms > self._busy_until_ms else self._busy_until_ms
        if self.mouth is not None:
            for said, late_ms in self.mouth.say(receiver, channel, payload):
                world.network.send(self.index, receiver, channel, said, depart_ms + late_ms)
            return
        if channel is Channel.CONSENSUS and payload is not self._last_said:
            self._last_said = payload
            world.said(self.index, wire.read(payload))
        world.network.send(self.index, receiver, channel, payload, depart_ms)

    def penalise(self, peer: bytes, reason: str) -> None:
        other = self._world.index[peer]
        self._world.blamed(self.index, other, reason)
        self._world.scheduler.after(0, lambda: self._world.network.ban(self.index, other))

    def set_timer(self, timer: Timer, delay_ms: int | None) -> None:
        name = self._timers[timer] = self._timers.get(timer, 0) + 1
        if delay_ms is None:
            return
        life = self.lives

        def elapse() -> None:
            if self.engine is not None and self._timers.get(timer) == name:
                self.engine.elapsed(timer)

        def due() -> None:
            if self.lives == life and self._timers.get(timer) == name:
                self.run(elapse)

        self._world.scheduler.at(self._now_ms + delay_ms, due)

    def verify(self, checks: Sequence[SignatureCheck], done: Callable[[Sequence[bool]], None]) -> None:
        self._tell([self._world.client_signatures.verify(*check) for check in checks], done)

    def verify_votes(self, checks: Sequence[SignatureCheck], done: Callable[[Sequence[bool]], None]) -> None:
        self._tell([self._world.verify(*check) for check in checks], done)

    def _tell(self, verdicts: Sequence[bool], done: Callable[[Sequence[bool]], None]) -> None:
        delay_ms = self._world.chance.between(0, self._world.plan.verify_ms_max, "verify", self.index)
        self._in_this_life(self._now_ms + delay_ms, lambda: done(verdicts))

    def later(self, action: Action) -> None:
        self._in_this_life(self._now_ms, action)

    def _in_this_life(self, time_ms: int, action: Action) -> None:
        life = self.lives
        self._world.scheduler.at(time_ms, lambda: self.run(action) if self.lives == life else None)

    def note(self, level: str, text: str, **fields: object) -> None:
        details = " ".join(f"{name}={value}" for name, value in fields.items())
        if level == "error":
            self.disk.made.untold = [words for words in self.disk.made.untold if words not in details]
        if text == "snapshot made":
            for fault in shelves.unfinished(self.disk):
                raise Violation(Promise.DAMAGE, f"n{self.index} takes a snapshot for whole, and {fault}")
        self._world.note(self.index, f"{level}: {text} {details}".rstrip())
        self._world.noted(self.index, text)

    def _synced(self) -> None:
        self._world.record_durable(self.index)
        if self.sync_ms:
            self._busy_until_ms = self._now_ms + self.sync_ms
            self._world.injected("slow-sync")

    def _before_effect(self, effect: effects.Effect) -> None:
        if self._crash is not None:
            self._crash_left -= 1
            if self._crash_left <= 0:
                raise SimulatedCrash(f"ahead of {type(effect).__name__}")
        self._world.effect(self.index, effect)

    # ---- Observer

    def block_committed(self, height: int, transaction_ids: Sequence[bytes]) -> None:
        self._world.committed(self.index, height, transaction_ids)

    def nodes_changed(self) -> None:
        self._read_membership(self.opened)
        for peer in sorted(self._peers):
            if not self.admits(peer):
                self._world.scheduler.after(0, partial(self._world.network.close, self.index, peer))

    def _read_membership(self, store: Store) -> None:
        before = self._admitted
        self._membership.read(store.state)
        names = self._world.validators
        self._admitted = frozenset(index for index, name in enumerate(names) if self._membership.admits(name))
        if before:
            self._world.admissions(self.index, self._admitted - before, before - self._admitted)

    @property
    def peers(self) -> Set[int]:
        """Whom it is connected with."""
        return self._peers

    def admits(self, peer: int) -> bool:
        """Whether this node lets the other one in, and looks for it."""
        return peer in self._admitted

    def transaction_ended(self, transaction_id: bytes, state: TransactionState) -> None:
        self._world.note(
            self.index, f"gives up {transaction_id.hex()[:8]}: {state.stage.value} {state.reason}".rstrip()
        )

"""A cluster of replicas on virtual time with a toy ledger: faults come from outside, checkers watch every step."""

from __future__ import annotations

import hashlib
import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import assert_never

from otcnode import limits
from otcnode.blocks import (
    Certificate,
    Entry,
    Header,
    block_hash,
    check_certificate,
    commit_preimage,
    prepare_preimage,
)
from otcnode.codec import decode, encode
from otcnode.consensus import effects, events, record
from otcnode.consensus.configuration import Configuration
from otcnode.consensus.events import Now, Timer, Tip
from otcnode.consensus.evidence import is_large
from otcnode.consensus.messages import Accusation, Commit, Decision, Message, Prepare, PrePrepare
from otcnode.consensus.replica import Replica
from otcnode.errors import ProofError
from otcnode.genesis import ChainParameters
from tests.consensus.toy import CHAIN, ToyState, entries_of, execute, fake_sign, fake_verify, fault_of, first_state

LEDGER_ORIGIN_MS = 1_000_000


class Violation(AssertionError):
    """A checker found that the protocol broke its promise."""


class Crash(Exception):
    """The node stops between two effects."""


@dataclass
class Disk:
    """What survives a crash: the chain, the part of the record that was made durable, and what liars are shown to have
    done in this epoch."""

    chain: list[tuple[Header, tuple[bytes, ...], Certificate, ToyState]] = field(default_factory=list)
    record: list[bytes] | None = field(default_factory=lambda: list(record.birth()))
    unsynced: list[bytes] = field(default_factory=list)
    offences: list[events.KnownOffence] = field(default_factory=list)

    def sync(self) -> None:
        if self.unsynced:
            assert self.record is not None
            self.record.extend(self.unsynced)
            self.unsynced.clear()


class Node:
    """One replica with its disk, pool and toy executor."""

    def __init__(self, cluster: Cluster, index: int, name: bytes) -> None:
        self.cluster = cluster
        self.index = index
        self.name = name
        self.disk = Disk()
        self.pool: dict[bytes, None] = {}
        self.skew_ms = 0
        self.replica: Replica | None = None
        self.paused = False
        self.timers: dict[Timer, int] = {}
        self.backlog: deque[tuple[Node, Message]] = deque(maxlen=500)
        self.late_timers: list[tuple[Timer, int]] = []
        self.flight: dict[bytes, tuple[Header, tuple[bytes, ...], ToyState]] = {}
        self.inbox: list[events.Event] = []
        self.stepping = False
        self.generation = 0
        self.alarms: list[str] = []
        self.accusations: list[effects.Accuse] = []
        self.blamed: list[tuple[bytes, str]] = []
        self.vote_again = False
        self.record_bytes = limits.record_bytes_before_compaction

    # ---- life

    def tip_state(self) -> ToyState:
        return self.disk.chain[-1][3] if self.disk.chain else self.cluster.genesis

    def tip(self) -> Tip:
        state = self.tip_state()
        certificate = self.disk.chain[-1][2] if self.disk.chain else None
        return Tip(state.height, state.block_hash, state.time_ms, certificate, state.epoch)

    def start(self) -> None:
        assert self.replica is None
        self.generation += 1
        configuration = Configuration(
            CHAIN,
            self.name,
            view_timeout_ms_base=self.cluster.view_timeout_ms_base,
            vote_again_after_loss=self.vote_again,
            record_bytes_before_compaction=self.record_bytes,
        )
        self.replica = Replica(configuration, lambda message: fake_sign(self.name, message), fake_verify)
        kept = None if self.disk.record is None else tuple(self.disk.record)
        self.feed(events.Started(self.tip(), kept, tuple(self.disk.offences)))
        self.work()

    def crash(self) -> None:
        """Everything but the disk is gone; unsynced record entries are lost."""
        self.replica = None
        self.flight.clear()
        self.timers.clear()
        self.inbox.clear()
        self.backlog.clear()
        self.late_timers.clear()
        self.disk.unsynced.clear()
        self.stepping = False

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        """Timers that came due meanwhile fire, and what the sockets still hold arrives."""
        self.paused = False
        late, self.late_timers = self.late_timers, []
        for timer, token in late:
            self.fire(timer, token)
        waiting = list(self.backlog)
        self.backlog.clear()
        for sender, message in waiting:
            self.cluster.deliver(sender, self, message)

    def submit(self, raw: bytes) -> None:
        if raw not in self.tip_state().seen:
            self.pool[raw] = None
            self.work()

    def work(self) -> None:
        if self.replica is not None:
            self.feed(events.Work(len(self.pool), None))

    def now(self) -> Now:
        return Now(self.cluster.time_ms, LEDGER_ORIGIN_MS + self.cluster.time_ms + self.skew_ms)

    def feed(self, event: events.Event) -> None:
        if self.replica is None:
            return
        self.inbox.append(event)
        if self.stepping:
            return
        self.stepping = True
        try:
            while self.inbox and self.replica is not None:
                self.cluster.count_step()
                for effect in self.replica.step(self.inbox.pop(0), self.now()):
                    self.cluster.before_effect(self, effect)
                    self.perform(effect)
            self.stepping = False
        except Crash:
            self.crash()

    # ---- effects

    def perform(self, effect: effects.Effect) -> None:
        match effect:
            case effects.Save(entries):
                self.disk.unsynced.extend(entries)
            case effects.Compact(entries):
                self.disk.record = list(entries)
                self.disk.unsynced.clear()
            case effects.Send(peer, message):
                self.disk.sync()
                self.cluster.send(self, peer, message)
            case effects.Broadcast(message):
                self.disk.sync()
                for peer in self.tip_state().epoch.validators:
                    if peer != self.name:
                        self.cluster.send(self, peer, message)
            case effects.SendDecision(peer, height):
                self.send_decision(peer, height)
            case effects.SendEpochEnd(peer, epoch):
                self.send_decision(peer, min(end for end in self.epoch_ends() if end >= epoch))
            case effects.Build():
                self.build(effect)
            case effects.Fetch(name, entries):
                by_hash = {entry.full_hash: raw for raw in self.pool for entry in entries_of((raw,))}
                found = [(index, by_hash.get(entry.full_hash)) for index, entry in enumerate(entries)]
                self.feed(events.Fetched(name, tuple((index, raw) for index, raw in found if raw is not None)))
            case effects.Execute(header, _, bodies):
                self.execute(header, bodies)
            case effects.Commit(header, certificate):
                self.disk.sync()
                found_block = self.flight.get(certificate.block_hash)
                assert found_block is not None and found_block[0] == header
                if header.height > self.tip_state().height:
                    self.write(header, found_block[1], certificate, found_block[2])
            case effects.Sync(peer, _):
                self.cluster.sync(self, peer)
            case effects.SetTimer(timer, delay_ms):
                self.set_timer(timer, delay_ms)
            case effects.Accuse():
                self.accusations.append(effect)
                seen_ms = self.now().ledger_ms
                self.disk.offences.append(events.KnownOffence(effect.offence, is_large(effect.evidence), seen_ms))
                self.cluster.accused(self, effect)
                for other in self.cluster.nodes:
                    if other is not self and other.name != effect.source:
                        self.cluster.send(self, other.name, Accusation(effect.evidence))
            case effects.Blame(peer, reason):
                self.blamed.append((peer, reason))
                self.cluster.blamed(self, peer, reason)
            case effects.Admit(_, transactions):
                for raw in transactions:
                    self.submit(raw)
            case effects.Alarm(text):
                if self.cluster.records_are_whole and self.index not in self.cluster.liars and "record lacks" in text:
                    raise Violation(f"node {self.index} has the whole of its record, and doubts it: {text}")
                self.alarms.append(text)
            case _:
                assert_never(effect)

    def send_decision(self, peer: bytes, height: int) -> None:
        if height:
            self.disk.sync()
            header, _, certificate, _ = self.disk.chain[height - 1]
            self.cluster.send(self, peer, Decision(header, certificate))

    def epoch_ends(self) -> list[int]:
        """The heights of their last blocks; 0 that of the genesis."""
        return [number - 1 for number in sorted({1, *(state.epoch.number for *_, state in self.disk.chain)})]

    def set_timer(self, timer: Timer, delay_ms: int | None) -> None:
        self.timers.pop(timer, None)
        if delay_ms is not None:
            token = self.cluster.next_token()
            self.timers[timer] = token
            self.cluster.at(delay_ms, lambda: self.fire(timer, token))

    def fire(self, timer: Timer, token: int) -> None:
        if self.timers.get(timer) != token or self.replica is None:
            return
        if self.paused:
            self.late_timers.append((timer, token))
            return
        del self.timers[timer]
        self.feed(events.Elapsed(timer))

    def parent_state(self, name: bytes) -> ToyState | None:
        if name == self.tip_state().block_hash:
            return self.tip_state()
        return self.flight[name][2] if name in self.flight else None

    def build(self, request: effects.Build) -> None:
        parent = self.parent_state(request.parent)
        assert parent is not None, "the replica builds on what is committed or executed here"
        bodies = tuple(raw for raw in self.pool if raw not in parent.seen)[: request.transactions_max]
        if not bodies and not request.empty_allowed:
            self.feed(events.Built(request.request, None, (), (), parent.epoch))
            return
        header, state = execute(parent, bodies, request.time_ms, self.name)
        self.flight[state.block_hash] = (header, bodies, state)
        self.feed(events.Built(request.request, header, entries_of(bodies), bodies, state.epoch))

    def execute(self, header: Header, bodies: tuple[bytes, ...]) -> None:
        parent = self.parent_state(header.parent)
        assert parent is not None, "the replica executes on what is committed or executed here"
        name = block_hash(header)
        fault = fault_of(parent, header, bodies)
        if fault is None:
            _, state = execute(parent, bodies, header.time_ms, header.proposer)
            self.flight[name] = (header, bodies, state)
            self.feed(events.Executed(name, None, state.epoch))
        else:
            self.feed(events.Executed(name, fault, parent.epoch))

    def write(self, header: Header, bodies: tuple[bytes, ...], certificate: Certificate, state: ToyState) -> None:
        before = self.tip_state()
        if header.parent != before.block_hash:
            raise Violation(f"node {self.index} commits a block that does not extend its chain")
        try:
            check_certificate(certificate, CHAIN, before.epoch, fake_verify)
        except ProofError as error:
            raise Violation(f"node {self.index} commits with an invalid certificate: {error}") from None
        self.disk.chain.append((header, bodies, certificate, state))
        self.cluster.committed(self, state)
        for raw in bodies:
            self.pool.pop(raw, None)
        alive = {state.block_hash}
        for name, (other, _, _) in sorted(self.flight.items(), key=lambda item: item[1][0].height):
            if other.parent in alive:
                alive.add(name)
        self.flight = {name: block for name, block in self.flight.items() if name in alive}
        self.work()


class Cluster:
    """Nodes, a network and a clock. `route` decides the delays (ms) of each message: none means lost."""

    def __init__(
        self,
        count: int,
        *,
        parameters: ChainParameters | None = None,
        spare: int = 0,
        route: Callable[[Node, Node, Message], list[int]] | None = None,
    ) -> None:
        self.parameters = parameters or ChainParameters(heartbeat_real_ms=3_600_000)
        names = sorted(hashlib.sha256(f"node {index}".encode()).digest() for index in range(count + spare))
        self.genesis = first_state(tuple(names[:count]), self.parameters.consensus)
        self.time_ms = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._token = 0
        self.nodes = [Node(self, index, name) for index, name in enumerate(names)]
        self.by_name = {node.name: node for node in self.nodes}
        self.route = route or (lambda _sender, _receiver, _message: [1])
        self.cut: set[tuple[int, int]] = set()
        self.decided: dict[int, bytes] = {}
        self.said: dict[tuple[str, bytes, int, int, int], bytes] = {}
        self.liars: set[int] = set()
        self.on_effect: Callable[[Node, effects.Effect], None] | None = None
        self.on_send: Callable[[Node, Node, Message], Message | None] | None = None
        self.on_deliver: Callable[[Node, Message], None] | None = None
        self.trace: Callable[[str], None] | None = None
        self.sync_works = True
        self.records_are_whole = False
        """Whether nobody else has the key of an honest node, and no older record is put back: then none may doubt its
        own."""
        self.view_timeout_ms_base = 2_000
        self.steps = 0

    # ---- time

    def next_token(self) -> int:
        self._token += 1
        return self._token

    def at(self, delay_ms: int, action: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.time_ms + delay_ms, self.next_token(), action))

    def advance(self, duration_ms: int) -> None:
        end = self.time_ms + duration_ms
        while self._queue and self._queue[0][0] <= end:
            when, _, action = heapq.heappop(self._queue)
            self.time_ms = max(self.time_ms, when)
            action()
        self.time_ms = end

    def advance_until(self, done: Callable[[], bool], limit_ms: int) -> bool:
        end = self.time_ms + limit_ms
        while not done():
            if not self._queue or self._queue[0][0] > end:
                self.time_ms = end
                return done()
            when, _, action = heapq.heappop(self._queue)
            self.time_ms = max(self.time_ms, when)
            action()
        return True

    def start(self) -> None:
        for node in self.nodes:
            node.start()

    def submit(self, raw: bytes) -> None:
        for node in self.nodes:
            node.submit(raw)

    def count_step(self) -> None:
        self.steps += 1

    # ---- network

    def send(self, sender: Node, peer: bytes, message: Message) -> None:
        self.check_said(sender, message)
        receiver = self.by_name.get(peer)
        if receiver is None or (sender.index, receiver.index) in self.cut:
            return
        rewritten = message if self.on_send is None else self.on_send(sender, receiver, message)
        if rewritten is None:
            return
        self.post(sender, receiver, rewritten)

    def post(self, sender: Node, receiver: Node, message: Message) -> None:
        """Put a message on the wire, as the real bytes."""
        copy: Message = decode(Message, encode(message))
        for delay_ms in self.route(sender, receiver, message):
            self.at(delay_ms, lambda: self.deliver(sender, receiver, copy))

    def deliver(self, sender: Node, receiver: Node, message: Message) -> None:
        if (sender.index, receiver.index) in self.cut or receiver.replica is None:
            return
        if receiver.paused:
            receiver.backlog.append((sender, message))
            return
        if self.trace is not None:
            self.trace(f"{self.time_ms:6d} {sender.index}->{receiver.index} {describe(message)}")
        if self.on_deliver is not None:
            self.on_deliver(receiver, message)
        receiver.feed(events.Received(sender.name, message))

    def inject(self, sender: int, receiver: int, message: Message) -> None:
        """A message out of nowhere, as from a liar."""
        self.nodes[receiver].feed(events.Received(self.nodes[sender].name, message))

    def sync(self, node: Node, peer: bytes) -> None:
        """Block sync: certified blocks from the peer's disk, checked and executed one by one."""
        source = self.by_name.get(peer)
        generation = node.generation

        def fetch() -> None:
            if not self.sync_works:
                return
            if source is None or source.replica is None or node.replica is None or node.generation != generation:
                return
            if node.paused or source.paused:
                return
            if (node.index, source.index) in self.cut or (source.index, node.index) in self.cut:
                return
            for header, bodies, certificate, _ in source.disk.chain[node.tip_state().height :]:
                if node.replica is None or header.height != node.tip_state().height + 1:
                    return
                parent = node.tip_state()
                assert fault_of(parent, header, bodies) is None
                _, state = execute(parent, bodies, header.time_ms, header.proposer)
                node.write(header, bodies, certificate, state)
                node.feed(events.Synced(node.tip()))

        self.at(5, fetch)

    def isolate(self, index: int) -> None:
        for other in self.nodes:
            if other.index != index:
                self.cut |= {(index, other.index), (other.index, index)}

    def heal(self) -> None:
        self.cut.clear()

    # ---- checkers

    def before_effect(self, node: Node, effect: effects.Effect) -> None:
        if self.on_effect is not None:
            self.on_effect(node, effect)

    def committed(self, node: Node, state: ToyState) -> None:
        if node.index in self.liars:
            return
        known = self.decided.setdefault(state.height, state.block_hash)
        if known != state.block_hash:
            raise Violation(f"two blocks are committed at height {state.height}")

    def check_said(self, sender: Node, message: Message) -> None:
        """No honest validator signs two different votes for one view and height."""
        votes: list[tuple[str, int, int, int, bytes]] = []
        match message:
            case PrePrepare():
                name = block_hash(message.header)
                signer = self.genesis.epoch.validators[0]
                for candidate in self.nodes:
                    signed = prepare_preimage(CHAIN, message.epoch, message.view, message.header.height, name)
                    if fake_verify(candidate.name, signed, message.signature):
                        signer = candidate.name
                votes.append(("prepare", message.epoch, message.view, message.header.height, name))
            case Prepare():
                signer = message.validator
                votes.append(("prepare", message.epoch, message.view, message.height, message.block_hash))
            case Commit():
                signer = message.validator
                votes.append(("commit", message.epoch, message.view, message.height, message.block_hash))
            case _:
                return
        if self.by_name[signer].index in self.liars:
            return
        for kind, epoch, view, height, name in votes:
            known = self.said.setdefault((kind, signer, epoch, view, height), name)
            if known != name:
                raise Violation(f"node {self.by_name[signer].index} signed two {kind}s at view {view} height {height}")

    def accused(self, node: Node, accusation: effects.Accuse) -> None:
        accused = self.by_name[accusation.offence.validator].index
        if accused not in self.liars and node.index not in self.liars:
            raise Violation(f"node {node.index} accuses honest node {accused} of {accusation.offence.kind}")

    def blamed(self, node: Node, peer: bytes, reason: str) -> None:
        blamed = self.by_name[peer].index
        if blamed not in self.liars and node.index not in self.liars:
            raise Violation(f"node {node.index} blames honest node {blamed}: {reason}")

    def heights(self) -> list[int]:
        return [node.tip_state().height for node in self.nodes]

    def states_equal(self) -> bool:
        return len({node.tip_state().root for node in self.nodes}) == 1


def prepare_of(name: bytes, epoch: int, view: int, height: int, block: bytes) -> Prepare:
    """A PREPARE as only its author can make it."""
    return Prepare(
        epoch, view, height, block, name, fake_sign(name, prepare_preimage(CHAIN, epoch, view, height, block))
    )


def commit_of(name: bytes, epoch: int, view: int, height: int, block: bytes) -> Commit:
    return Commit(epoch, view, height, block, name, fake_sign(name, commit_preimage(CHAIN, epoch, view, height, block)))


def pre_prepare_of(name: bytes, epoch: int, view: int, header: Header, entries: tuple[Entry, ...]) -> PrePrepare:
    block = block_hash(header)
    signature = fake_sign(name, prepare_preimage(CHAIN, epoch, view, header.height, block))
    return PrePrepare(epoch, view, header, entries, signature)


def describe(message: Message) -> str:
    """One line a person can read."""
    match message:
        case PrePrepare():
            return f"PrePrepare view={message.view} height={message.header.height}"
        case Prepare() | Commit():
            return f"{type(message).__name__} view={message.view} height={message.height}"
        case _:
            return type(message).__name__

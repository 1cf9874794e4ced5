"""One plan, carried out: nodes, network, clients, faults and checkers on one virtual clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from functools import cache, partial
from typing import assert_never

from otcnode import ids, limits
from otcnode.blocks import Verify
from otcnode.consensus import effects
from otcnode.consensus.events import Timer
from otcnode.consensus.messages import Message, Status
from otcnode.engine.host import Stage, TransactionState
from otcnode.errors import FolderDamage, GatheredDamage, StorageDamage
from otcnode.genesis import chain_id
from otcnode.simulation import damage as damages
from otcnode.simulation.censorship import RESCUED
from otcnode.simulation.chance import Chance
from otcnode.simulation.checkers import Checkers
from otcnode.simulation.disk import CrashingVotesLog, Disk, Image
from otcnode.simulation.hearsay import Hearsay
from otcnode.simulation.kept_evidence import EvidenceKept
from otcnode.simulation.liars import Mouth
from otcnode.simulation.marks import TOO_MANY_SILENT, Marks
from otcnode.simulation.memory import collections_of
from otcnode.simulation.network import Network
from otcnode.simulation.node import HISTORY_BLOCKS, Node
from otcnode.simulation.plan import (
    ClockStep,
    Crash,
    CrashPoint,
    Cut,
    Delay,
    DirectoryLost,
    DiskFails,
    DiskFull,
    Duplication,
    Fault,
    Liar,
    Loss,
    Partition,
    Pause,
    Plan,
    PutBack,
    RecordLost,
    Rot,
    Rotate,
    ShelfFails,
    ShelfRots,
    Signatures,
    SlowSync,
    StoreLost,
)
from otcnode.simulation.put_back import PutBackNodes
from otcnode.simulation.scheduler import Scheduler
from otcnode.simulation.signing import HashSignatures, RealSignatures, Remembered, Sign
from otcnode.simulation.situations import Situations
from otcnode.simulation.summary import Summary
from otcnode.simulation.trace import Trace
from otcnode.simulation.violation import Promise, Violation
from otcnode.simulation.visible_lies import VisibleLies
from otcnode.simulation.workload import TIME_MS, Client, clients_of, genesis_of, keys_of
from otcnode.storage.faulty import FaultyKeyValue, SimulatedCrash
from otcnode.storage.faulty_folders import FaultyFolder, FaultyFolders
from otcnode.storage.store import Store
from otcnode.vm.governance.records import NODES
from otcnode.vm.governance.validators import epoch_at
from otcnode.vm.state import State

START_MS_MAX = 50
RETRY_MS = 4_000
"""A client that sees nothing final for so long hands its transaction to the next node."""
PROGRESS_CHECK_MS = 250
OWN_RECORD_DOUBTED = "with its signature that its record lacks"
"""Nobody else has the key of an honest node here."""
SAYS_READY = "says that it is ready to be a validator"
MEMORY_CHECK_MS = 1_000
"""How often the next node's memory is looked at, in turn."""
UNPROMISED_MS = 20_000
"""How much longer it goes on where progress is not promised."""
VIEWS_PER_VALIDATOR_MAX = 3
"""In which a replica keeps votes of one validator for one height: its own view and the two highest others."""
VOTES_OF_ONE = "._heights[][]"
EVENTS_MAX = 5_000_000
ON_DISK = (Store, Node, Disk, FaultyKeyValue, CrashingVotesLog, FaultyFolders, FaultyFolder)
"""What stands for the disk or the world is no memory of the node."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`violation` None: every promise was kept. `tail` is the end of the trace."""

    summary: Summary
    violation: Violation | None
    tail: tuple[str, ...]


def run(plan: Plan, show: Callable[[str], None] | None = None, until_ms: int | None = None) -> Outcome:
    """Carry out a plan; `show` is given the trace line by line. What is not broken `until_ms` is not looked for."""
    world = World(plan, Trace(show))
    violation = None
    try:
        world.run(until_ms)
    except Violation as found:
        violation = found
        world.note(None, f"VIOLATION {found}")
    return Outcome(world.summary(), violation, world.trace.tail)


class World:
    """Everything outside the nodes."""

    def __init__(self, plan: Plan, trace: Trace) -> None:
        self.plan = plan
        self.trace = trace
        self.genesis = genesis_of(plan)
        self.scheduler = Scheduler()
        self.chance = Chance(plan.seed)
        self._keys = keys_of(plan)
        self.validators = tuple(key.public for key in self._keys)
        self.index = {name: index for index, name in enumerate(self.validators)}
        """Of each in `validators`."""
        self.names = tuple(ids.show(ids.Prefix.NODE, name) for name in self.validators)
        signatures = RealSignatures() if plan.signatures is Signatures.ED25519 else HashSignatures(self._keys)
        self._signatures = signatures
        self.verify: Verify = signatures.verify
        self.client_signatures = Remembered()
        self.network = Network(plan, self.scheduler, self.chance, self.note)
        self._summary = Summary(seed=plan.seed)
        self._clients = clients_of(plan)
        self._awaited = [client for client in self._clients if not client.is_unauthorised]
        honest = frozenset(range(plan.nodes)) - plan.unbound
        self._honest = honest
        self._collection_limits = _collection_limits(plan, len(self._clients))
        self._chain = chain_id(self.genesis)
        rotations = [
            (self.validators[submission.act.validator], self.validators[submission.act.successor])
            for submission in plan.workload
            if isinstance(submission.act, Rotate) and not submission.act.usurped
        ]
        self.marks = Marks(plan.nodes, plan.rotation_blocks, plan.block_transactions_max, rotations)
        self.checkers = Checkers(
            plan,
            self._chain,
            self.validators,
            self._clients,
            self.verify,
            self.marks,
            lambda: TIME_MS + self.scheduler.now_ms,
        )
        self._situations = Situations(plan, self.marks.hit)
        self._hearsay = Hearsay(self.validators, honest)
        self._evidence = EvidenceKept(self.validators)
        self.lies = VisibleLies(self.validators, plan.liars, self._chain, self.verify)
        self._nodes = [Node(index, key, self) for index, key in enumerate(self._keys)]
        self.network.attach(list(self._nodes))
        self._league: dict[bytes, bytes] = {}
        """Of all liars: see Alternatives."""
        self._frozen: set[int] = set()
        self._healed = False
        self._promises_progress = True
        self._unpromised_end_ms = plan.safety_ms + min(plan.liveness_ms, UNPROMISED_MS)
        self._down_ms: dict[int, int] = {}
        self._put_back_nodes = PutBackNodes(self.validators)
        self._ready: set[int] = set()
        """Who has said that it is ready to be a validator."""
        self._counted_on: set[int] = set()
        """Whose record was lost when it decided, or had said that it is ready. Nobody else may hold the others up."""
        self._met_full: set[int] = set()
        self._outstanding: tuple[Client, int] | None = None
        """Whose end, at which node, was found outstanding last: it is looked for first."""
        self._censored: set[bytes] = set()
        self._foreign: list[dict[int, int]] = [{} for _ in self._nodes]
        """By node, its peers that its state does not admit, and since when they were seen so."""
        self._due = sorted(
            (max(client.submission.at_ms, plan.safety_ms) + client.submission.within_ms, index)
            for index, client in enumerate(self._clients)
            if client.submission.within_ms is not None
        )
        """(virtual ms, which client's transaction must be final by then)."""

    def run(self, until_ms: int | None = None) -> None:
        """Both phases and the checks at the end, or what comes before a moment. Raises Violation."""
        self._schedule()
        deadline_ms = self.plan.safety_ms + self.plan.liveness_ms
        next_check_ms = self.plan.safety_ms
        scheduler = self.scheduler
        while scheduler.perform_until(next_check_ms if until_ms is None else min(next_check_ms, until_ms + 1)):
            if until_ms is not None and scheduler.now_ms > until_ms:
                return
            self._check_due()
            if self._healed and self._all_ended():
                self.note(None, "every transaction has ended")
                break
            next_check_ms = scheduler.now_ms + PROGRESS_CHECK_MS
            if self._healed and not self._promises_progress and scheduler.now_ms >= self._unpromised_end_ms:
                self.marks.hit(TOO_MANY_SILENT)
                self.note(None, TOO_MANY_SILENT)
                break
            if scheduler.now_ms >= deadline_ms:
                raise Violation(Promise.LIVENESS, self._standstill())
            if scheduler.performed > EVENTS_MAX:
                raise Violation(Promise.LIVENESS, f"{EVENTS_MAX} events without an end; {self._standstill()}")
        self._check_end()

    def node(self, index: int) -> Node:
        return self._nodes[index]

    def summary(self) -> Summary:
        result = self._summary
        result.trace_hash = self.trace.hash
        result.trace_lines = self.trace.lines
        result.events = self.scheduler.performed
        result.virtual_ms = self.scheduler.now_ms
        result.commits = self.checkers.height
        names = {client.transaction.id for client in self._clients}
        result.transactions = sum(1 for name in names if self.checkers.height_of(name) is not None)
        result.view_max = self.checkers.view_max
        result.messages = sum(sent.messages for sent in self.network.sent.values())
        result.faults.update(self.network.injected)
        result.marks.update(self.marks.counts)
        return result

    # ---- what is to happen

    def _schedule(self) -> None:
        at = self.scheduler.at
        for node in self._nodes:
            start_ms = self.chance.between(0, START_MS_MAX, "start", node.index)
            at(start_ms, partial(self._start, node.index))
        for client in self._clients:
            at(client.submission.at_ms, partial(self._submit, client, client.submission.node))
        for fault in self.plan.faults:
            at(fault.at_ms, partial(self._begin, fault))
        at(self.plan.safety_ms, self._heal)
        at(MEMORY_CHECK_MS, partial(self._check_memory, 0))

    def _start(self, index: int) -> None:
        node = self._nodes[index]
        if node.alive or index in self._frozen:
            return
        try:
            node.start()
        except SimulatedCrash as crash:
            self.note(index, f"dies in its start {crash}")
            self.injected("crash")
            node.give_up()
            self.scheduler.after(self._down_ms.get(index, 1_000), lambda: self._start(index))
            return
        except StorageDamage as damage:
            self.damaged(index, damage)
            return
        for peer in range(self.plan.nodes):
            if peer != index:
                self.network.try_connect(index, peer)

    def _submit(self, client: Client, index: int) -> None:
        """Hand the transaction to a node; to the next one later, until it is final or its time is over."""
        transaction = client.transaction.id
        if self.checkers.height_of(transaction) is not None:
            return
        if TIME_MS + self.scheduler.now_ms >= client.valid_until_ms:
            return
        node = self._nodes[index]
        if node.alive and index not in self._frozen:
            name = transaction.hex()[:8]
            self.note(index, f"is given {name}")

            def answered(state: TransactionState) -> None:
                if state.stage is Stage.DROPPED:
                    self.note(index, f"drops {name}: {state.code} {state.reason}")

            node.submit(client, answered)
        following = (index + 1) % self.plan.nodes
        self.scheduler.after(RETRY_MS, lambda: self._submit(client, following))

    def _begin(self, fault: Fault) -> None:
        if self._healed:
            return
        self.note(None, f"fault {fault.id}: {fault}")
        match fault:
            case Crash(node=node, point=CrashPoint.IDLE):
                self._kill(node, "between two events", fault)
            case Crash(node=node):
                self._down_ms[node] = fault.down_ms
                self._nodes[node].arm(fault)
            case RecordLost(node=node):
                self.injected("record-lost")
                self._kill(node, "and loses its voting record", fault)
                self._lose_record(node)
            case DirectoryLost(node=node):
                self.injected("directory-lost")
                self._kill(node, "and loses its directory", fault)
                self._lose_record(node)
                self._lose_store(node)
                self._nodes[node].skew_ms = self.plan.skews_ms[node] + fault.skew_ms
                self.scheduler.after(fault.skewed_for_ms, lambda: self._set_clock(node))
            case StoreLost(node=node):
                self.injected("store-lost")
                self._kill(node, "and loses its blocks", fault)
                self._lose_store(node)
            case PutBack(node=node, after_ms=after_ms):
                if self._nodes[node].alive and not self._nodes[node].disk.is_rotten:
                    image, height = self._nodes[node].disk.image(), self._nodes[node].opened.tip.height
                    self.scheduler.after(after_ms, lambda: self._put_back(fault, image, height))
            case DiskFails() | DiskFull() | Rot():
                self._harm(fault)
            case ShelfFails(node=node, operation=operation, count=count):
                self._nodes[node].disk.made.fail(operation, count)
            case ShelfRots(node=node, place=place):
                if self._nodes[node].disk.rot_snapshot(fault):
                    self.injected(f"rot of a snapshot: {place}")
            case Pause(node=node, for_ms=for_ms):
                self.injected("pause")
                self._nodes[node].pause()
                self.scheduler.after(for_ms, lambda: self._resume(node))
            case Partition() | Cut() | Loss() | Duplication() | Delay():
                self.network.begin(fault)
                self.scheduler.after(fault.for_ms, lambda: self.network.end(fault.id))
            case SlowSync(node=node, sync_ms=sync_ms, for_ms=for_ms):
                self._nodes[node].sync_ms = sync_ms
                self.scheduler.after(for_ms, lambda: self._fast_again(node))
            case ClockStep(node=node, skew_ms=skew_ms):
                self.injected("clock-step")
                self._nodes[node].skew_ms = skew_ms
            case Liar():
                self._lie(fault)
            case _:
                assert_never(fault)

    def _harm(self, fault: DiskFails | DiskFull | Rot) -> None:
        """Something happens to a disk; whoever runs on it does not know yet."""
        disk = self._nodes[fault.node].disk
        self._down_ms[fault.node] = fault.down_ms
        match fault:
            case DiskFails():
                disk.fail(fault)
            case DiskFull():
                disk.fill(fault)
                self.scheduler.after(fault.for_ms, lambda: disk.fill(None))
            case Rot():
                if fault.dies:
                    self._kill(fault.node, "and a byte on its disk changes", fault)
                if disk.rot(fault):
                    self.injected(f"rot of the {fault.place}")
            case _:
                assert_never(fault)

    def _put_back(self, fault: PutBack, image: Image, height: int) -> None:
        if self._healed:
            return
        node = fault.node
        self.injected("put-back")
        self._kill(node, "and its disk is put back", fault)
        self._lose_store(node)
        self._nodes[node].disk.put_back(image)
        self.checkers.forgot_blocks(node, height)
        self._put_back_nodes.put_back(node)

    def _kill(
        self, index: int, why: str, fault: Crash | RecordLost | DirectoryLost | StoreLost | PutBack | Rot
    ) -> None:
        if self._nodes[index].alive:
            self._down_ms[index] = fault.down_ms
            self._nodes[index].kill(why)

    def _lose_record(self, index: int) -> None:
        self._nodes[index].disk.votes.lose()
        self.checkers.lost_record(index)
        if index in self._ready or index in self._deciding():
            self._counted_on.add(index)

    def _deciding(self) -> set[int]:
        """The validators, by the newest state that anybody holds."""
        newest = self._newest()
        if newest is None:
            return set(range(self.plan.validators))
        with damages.seen_from_outside(node.disk for node in self._nodes):
            return {self.index[name] for name in epoch_at(newest.state, newest.tip.height + 1).validators}

    def _set_clock(self, index: int) -> None:
        self._nodes[index].skew_ms = self.plan.skews_ms[index]

    def _lose_store(self, index: int) -> None:
        self._nodes[index].lose_store()
        self.checkers.forgot_blocks(index)
        self._evidence.lost_store(index)

    def _resume(self, index: int) -> None:
        if index not in self._frozen:
            self._nodes[index].resume()

    def _fast_again(self, index: int) -> None:
        self._nodes[index].sync_ms = 0

    def _lie(self, liar: Liar) -> None:
        node = self._nodes[liar.node]
        if node.mouth is None:
            node.mouth = Mouth(
                liar.node,
                self.genesis,
                self.validators,
                self._signatures.signer(node.key),
                self._signatures.second_signer(node.key),
                self.chance,
                lambda: node.engine,
                self.injected,
                self._league,
            )
        mouth = node.mouth
        mouth.begin(liar)
        self.scheduler.after(liar.for_ms, lambda: mouth.end(liar.id))

    def _heal(self) -> None:
        """The second phase: the survivors live, see each other and the right time."""
        plan = self.plan
        self._healed = True
        silent = {index for index in self._counted_on if not self._nodes[index].disk.votes.may_vote}
        self._promises_progress = plan.promises_progress(silent)
        rest = sorted(set(range(plan.nodes)) - set(plan.survivors))
        self.note(None, f"heals; survivors {plan.survivors}, {'frozen' if plan.rest_frozen else 'living on'}: {rest}")
        if plan.rest_frozen:
            self._frozen.update(rest)
        self.network.heal()
        for node in self._nodes:
            node.disarm()
            node.disk.fill(None)
            node.sync_ms = 0
            if node.index in self._frozen:
                node.pause()
                continue
            node.skew_ms = plan.skews_ms[node.index]
            node.resume()
            self._start(node.index)

    # ---- what the nodes say

    def sign(self, node: int) -> Sign:
        signer = self._signatures.signer(self._keys[node])

        def sign(message: bytes) -> bytes:
            self.signed(node, message)
            return signer(message)

        return sign

    def signed(self, node: int, message: bytes) -> None:
        self._put_back_nodes.signed(node, message)
        self.checkers.signed(node, message)

    def note(self, node: int | None, text: str) -> None:
        self.trace.add(self.scheduler.now_ms, node, text)

    def injected(self, kind: str) -> None:
        self._summary.faults[kind] += 1

    def noted(self, node: int, text: str) -> None:
        """A node writes a line to its log."""
        self.marks.noted(text)
        if text == SAYS_READY:
            self._ready.add(node)

    def mark(self, what: str) -> None:
        """A situation worth having been in."""
        self.marks.hit(what)

    def effect(self, node: int, effect: effects.Effect) -> None:
        self.marks.effect(node, effect)
        at = self._nodes[node]
        if at.engine is not None and node in self._honest and at.engine.replica.started:
            self._situations.effect(node, at.engine.replica.state, at, effect)
        match effect:
            case effects.SetTimer(timer, delay_ms):
                if timer is Timer.VIEW and delay_ms is not None:
                    self.checkers.waits(node, delay_ms)
            case effects.Save(entries):
                self.checkers.saved(node, entries)
            case effects.Broadcast(message):
                self.note(node, f"broadcasts {_brief(message)}")
            case effects.Send(peer, message):
                self.note(node, f"sends n{self.index[peer]} {_brief(message)}")
            case effects.SendDecision(peer, height):
                self.note(node, f"sends n{self.index[peer]} Decision of {height}")
            case effects.SendEpochEnd(peer, epoch):
                self.note(node, f"sends n{self.index[peer]} Decision of the end of epoch {epoch}")
            case effects.Accuse(offence):
                accused = self.index[offence.validator]
                self.mark(f"accused: {offence.kind}")
                self.note(node, f"accuses n{accused}: {offence.kind}")
                if accused in self._honest and node in self._honest:
                    raise Violation(Promise.BLAME, f"n{node} accuses the honest n{accused}: {offence.kind}")
            case effects.Alarm(text):
                self.note(node, f"alarm: {text}")
                if OWN_RECORD_DOUBTED in text:
                    if node in self._honest:
                        raise Violation(Promise.BLAME, f"n{node} has signed nothing that its record lacks: {text}")
                    self.mark("an older record is found out")
                    self._put_back_nodes.stopped(node)
            case effects.Execute() | effects.Fetch() | effects.Blame() | effects.Compact():
                pass
            case _:
                self.note(node, type(effect).__name__)

    def said(self, node: int, message: Message) -> None:
        if node in self._honest:
            self.checkers.said(node, message)
            if isinstance(message, Status):
                self._hearsay.said(node, message)

    def committed(self, node: int, height: int, transactions: Sequence[bytes]) -> None:
        store = self._nodes[node].store
        assert store is not None
        self.note(node, f"commits {height} with {len(transactions)} transactions: {store.tip.block_hash.hex()[:12]}")
        if self._put_back_nodes.is_old(node):
            certificate = store.certificate(height)
            assert certificate is not None, "just written"
            self._put_back_nodes.committed(node, certificate, self._nodes[node].disk.votes.entries() or ())
        if node in self._met_full:
            self._met_full.remove(node)
            self.mark(damages.WENT_ON)
        for rescued in self._censored.intersection(transactions):
            self._censored.remove(rescued)
            self.mark(RESCUED)
        with damages.seen_from_outside([self._nodes[node].disk]):
            self.checkers.committed(node, store, height, transactions)

    def censored(self, transaction: bytes) -> None:
        """A primary passes over a transaction that waits."""
        if transaction not in self._censored:
            self._censored.add(transaction)
            self.injected("censor")
            self.note(None, f"{transaction.hex()[:8]} is censored")

    def admissions(self, node: int, gained: Set[int], lost: Set[int]) -> None:
        """Other nodes are admitted by the state that a node holds than were before."""
        for indexes, what in ((gained, "admitted"), (lost, "turned away")):
            for index in sorted(indexes):
                self.note(node, f"n{index} is {what}")
                self.mark(f"a node {what}")

    def installed(self, node: int) -> None:
        self.injected("snapshot-installed")

    def record_durable(self, node: int) -> None:
        self.checkers.record_durable(node)

    def started(self, node: int) -> None:
        store = self._nodes[node].store
        assert store is not None
        disk = self._nodes[node].disk
        kept = disk.votes.entries()
        if kept is not None and disk.votes.is_rotten:
            raise Violation(Promise.DAMAGE, f"n{node} uses a voting record in which a bit has changed")
        if disk.votes.is_rotten:
            self.checkers.lost_record(node)
            self.mark(damages.SILENCED)
        with damages.seen_from_outside([disk]):
            self.checkers.started(node, store, kept)
        self._check_evidence(node)

    def died(self, node: int) -> None:
        self.injected("crash")
        self.network.died(node)
        down_ms = self._down_ms.get(node, 1_000)
        self._nodes[node].reopen_disk()
        self.scheduler.after(down_ms, lambda: self._start(node))

    def damaged(self, index: int, damage: StorageDamage) -> None:
        """A process ends, or refuses to start, for what it found on its disk; its operator does what it is told."""
        node = self._nodes[index]
        self.note(index, f"ends: {damage}")
        if isinstance(damage, FolderDamage | GatheredDamage):
            raise Violation(Promise.DAMAGE, f"n{index} ends for a snapshot that nothing stands on: {damage}")
        found = damages.finding(node.disk, damage)
        if found is None:
            raise Violation(Promise.DAMAGE, f"n{index} says of its disk what was not done to it: {damage}")
        self.injected(found)
        self.mark(found)
        if found == damages.FULL:
            self._met_full.add(index)
        if node.alive:
            node.kill("of its disk")
        else:
            node.give_up()
            self.scheduler.after(self._down_ms.get(index, 1_000), lambda: self._start(index))
        if node.disk.is_rotten:
            self._lose_store(index)

    def blamed(self, node: int, other: int, reason: str) -> None:
        self.note(node, f"bans n{other}: {reason}")
        self.mark("a liar is banned")
        if "false snapshot" in reason:
            self.mark("a false snapshot refused")
        if node in self._honest and other in self._honest:
            raise Violation(Promise.BLAME, f"n{node} bans the honest n{other}: {reason}")

    # ---- progress and the end

    def _check_due(self) -> None:
        """What had a bound of its own is final on every survivor."""
        while self._due and self._due[0][0] < self.scheduler.now_ms:
            client = self._clients[self._due.pop(0)[1]]
            with damages.seen_from_outside(node.disk for node in self._nodes):
                waiting = [f"n{index}" for index in self._waiting_for(client)]
            if waiting:
                name, within_ms = client.transaction.id.hex()[:8], client.submission.within_ms
                raise Violation(
                    Promise.LIVENESS, f"transaction {name} is not final on {', '.join(waiting)} within {within_ms} ms"
                )

    def _waiting_for(self, client: Client) -> list[int]:
        return [index for index in self.plan.survivors if self._follows(index) and not self._has_ended(client, index)]

    def _all_ended(self) -> bool:
        survivors = [index for index in self.plan.survivors if self._follows(index)]
        with damages.seen_from_outside(node.disk for node in self._nodes):
            last = self._outstanding
            if last is not None and last[1] in survivors and not self._has_ended(*last):
                return False
            open_ends = (
                (client, index) for client in self._awaited for index in survivors if not self._has_ended(client, index)
            )
            self._outstanding = next(open_ends, None)
            return self._outstanding is None

    def _follows(self, index: int) -> bool:
        """Whether the node is admitted, by the newest state that anybody holds."""
        newest = self._newest()
        if newest is None:
            return False
        with damages.seen_from_outside(node.disk for node in self._nodes):
            return State(newest.state).get(NODES, self.validators[index]) is not None

    def _newest(self) -> Store | None:
        stores = [node.store for node in self._nodes if node.store is not None]
        return max(stores, key=lambda store: store.tip.height, default=None)

    def _has_ended(self, client: Client, index: int) -> bool:
        store = self._nodes[index].store
        if store is None:
            return False
        if store.transaction_location(client.transaction.id) is not None:
            return True
        header, height = store.tip.header, self.checkers.height_of(client.transaction.id)
        if height is not None and height < store.blocks_first:
            return True
        return header is not None and header.time_ms >= client.valid_until_ms

    def _standstill(self) -> str:
        """Who waits for what."""
        with damages.seen_from_outside(node.disk for node in self._nodes):
            return self._who_waits()

    def _who_waits(self) -> str:
        lines = []
        for client in self._awaited:
            waiting = [f"n{index}" for index in self._waiting_for(client)]
            if waiting:
                lines.append(f"transaction {client.transaction.id.hex()[:8]} has not ended for {', '.join(waiting)}")
        for node in self._nodes:
            if node.engine is None or node.store is None:
                lines.append(f"n{node.index} is down")
                continue
            pool = len(node.engine.intake.pool)
            lines.append(f"n{node.index} height {node.store.tip.height}, {pool} in its pool")
        return f"{self.plan.liveness_ms} ms after a quorum was healed\n  " + "\n  ".join(lines)

    def _check_memory(self, index: int) -> None:
        engine = self._nodes[index].engine
        if engine is not None:
            self._check_memory_of(self._nodes[index])
            self._check_evidence(index)
            if engine.replica.started:
                self._hearsay.believes(index, engine.replica.state.heard)
            if index in self._honest:
                self._check_admission(index)
        following = (index + 1) % self.plan.nodes
        self.scheduler.after(MEMORY_CHECK_MS, lambda: self._check_memory(following))

    def _check_evidence(self, index: int) -> None:
        engine = self._nodes[index].engine
        if engine is None or index not in self._honest:
            return
        accused = engine.replica.core.offences.values() if engine.replica.started else ()
        self._evidence.holds(index, engine.evidence.all(), (offence for known in accused for offence in known))

    def _check_admission(self, index: int) -> None:
        """An operator's newcomer begins with whom it was told of, whatever the state says."""
        node, now_ms = self._nodes[index], self.scheduler.now_ms
        if index >= self.plan.validators + self.plan.spares:
            return
        with damages.seen_from_outside([node.disk]):
            state = State(node.opened.state)
            foreign = {peer for peer in node.peers if state.get(NODES, self.validators[peer]) is None}
        seen = self._foreign[index]
        self._foreign[index] = {peer: seen.get(peer, now_ms) for peer in foreign}
        for peer, since_ms in self._foreign[index].items():
            if since_ms < now_ms:
                raise Violation(Promise.ADMISSION, f"n{index} stays connected with n{peer}, which it does not admit")

    def _check_memory_of(self, node: Node) -> None:
        lowest = min(VIEWS_PER_VALIDATOR_MAX, *self._collection_limits)
        for path, entries in collections_of(node.engine, ON_DISK):
            if entries > lowest and entries > (limit := self._limit_of(path)):
                raise Violation(Promise.MEMORY, f"n{node.index} keeps {entries} entries in {path}, at most {limit}")

    def _limit_of(self, path: str) -> int:
        if path.endswith(VOTES_OF_ONE):
            return VIEWS_PER_VALIDATOR_MAX
        return self._collection_limits[path.startswith("Engine.replica")]

    def _check_end(self) -> None:
        stores = {}
        for node in self._nodes:
            if node.store is not None and node.engine is not None:
                self._check_memory_of(node)
                self._check_evidence(node.index)
                store = self._reopened(node)
                if store is not None:
                    stores[node.index] = store
        self.checkers.states(stores)

    def _reopened(self, node: Node) -> Store | None:
        """What another process would find: it computes every root anew, from the leaves up. None if it finds what has
        rotted, which nobody has read so far."""
        rotten = node.disk.is_rotten
        try:
            store = Store.open(node.disk.store, self._chain, HISTORY_BLOCKS)
            while store.tree.read_ahead(limits.state_buckets_read_ahead):
                pass
            if not rotten:
                return store
            deque(node.disk.store.scan(b""), maxlen=0)
        except StorageDamage as damage:
            if rotten and damages.finding(node.disk, damage):
                self.mark(damages.AT_THE_END)
                return None
            raise Violation(Promise.ROOTS, f"n{node.index}: {damage}") from None
        raise Violation(
            Promise.DAMAGE, f"n{node.index}: everything on its disk can be read, and a byte of it has changed"
        )


def _collection_limits(plan: Plan, clients: int) -> tuple[int, int]:
    """(of any collection but the replica's, of one of the replica's): these are bounded by heights, validators and
    views, the others by what clients do."""
    in_flight = 8 * plan.nodes * plan.window_max
    return 256 + 4 * clients + in_flight, 64 + in_flight


def _brief(message: Message) -> str:
    """A message in one line of the trace."""
    kind = type(message)
    line = kind.__name__
    for key in _told_of(kind):
        line += f" {key}={getattr(message, key)}"
    return line


@cache
def _told_of(kind: type[Message]) -> tuple[str, ...]:
    return tuple(key for key in ("view", "height") if hasattr(kind, key))

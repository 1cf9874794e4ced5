"""Performs a replica's effects, strictly in order, and tells it what the world did."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import assert_never

from otcnode import crypto, limits
from otcnode.blocks import Certificate, CertifiedBlock, Entry, Header, Verify, block_hash
from otcnode.chain import BlockFault, Speculation
from otcnode.codec import encode
from otcnode.consensus import effects, events, proposing
from otcnode.consensus.events import Timer
from otcnode.consensus.evidence import check_evidence, epoch_of
from otcnode.consensus.messages import Accusation, Decision, Message, NewView, ViewChange
from otcnode.consensus.replica import Replica
from otcnode.consensus.resumed import Resumed
from otcnode.consensus.sizes import MESSAGES
from otcnode.crypto import SigningKey, tagged_hash
from otcnode.engine.arrivals import Answer, Pay
from otcnode.engine.authenticity import Authenticity
from otcnode.engine.candidacy import Candidacy
from otcnode.engine.catch_up import CatchUp, Snapshots
from otcnode.engine.documents import Documents
from otcnode.engine.evidence import EvidenceKeeper, accused_in
from otcnode.engine.flight import Flight
from otcnode.engine.host import Host, Observer, TransactionState
from otcnode.engine.intake import Intake
from otcnode.engine.primary_watch import PrimaryWatch
from otcnode.engine.proving import Proving
from otcnode.engine.recording import Recorder
from otcnode.errors import DecodeError, Inadmissible, ProofError, StorageDamage
from otcnode.p2p.framing import Channel
from otcnode.p2p.rates import Rate, TokenBucket
from otcnode.storage.documents import DocumentStore
from otcnode.storage.store import Store
from otcnode.storage.votes_log import VotesLog
from otcnode.vm.authority import authority_changed
from otcnode.vm.due import next_due
from otcnode.vm.governance.records import NODES
from otcnode.vm.operations import Operation
from otcnode.vm.transactions import Decoded, sign_as_node
from otcnode.vm.writes import writes_to

_FOR_VIEWS = (ViewChange, NewView)
TICK_MS = 50
"""How often a host calls `tick`."""
NODE_SALT_DOMAIN = "otcnode/node-transaction/1"
SIGHTINGS_DOMAIN = "otcnode/sightings/1"


class Engine:
    """One node. Give it peers' messages, timers and clients' transactions; it answers through its host.

    `before_effect` is called ahead of every effect; the simulator crashes nodes there. `verify` judges the votes in the
    certificates of synced blocks and snapshots. Without `snapshots` none is made, served or taken. `read` decodes
    consensus messages.
    """

    def __init__(
        self,
        chain_id: bytes,
        genesis_time_ms: int,
        key: SigningKey,
        store: Store,
        documents: DocumentStore,
        votes_log: VotesLog,
        replica: Replica,
        host: Host,
        observer: Observer,
        before_effect: Callable[[effects.Effect], None] | None = None,
        verify: Verify = crypto.verify,
        snapshots: Snapshots | None = None,
        recorder: Recorder | None = None,
        read: Callable[[bytes], Message] = MESSAGES.read,
    ) -> None:
        self._chain = chain_id
        self._verify = verify
        self._read = read
        self._key = key
        self._own = key.public
        self._store = store
        self._votes_log = votes_log
        self._host = host
        self._observer = observer
        self._before_effect = before_effect
        self._recorder = recorder
        self.replica = replica
        self._peers: set[bytes] = set()
        self._checks: dict[bytes, TokenBucket] = {}
        self._view_changes: dict[bytes, TokenBucket] = {}
        self._inbox: deque[events.Event] = deque()
        self._stepping = False
        self._record_dirty = False
        self._disturbed = False
        """Whether anybody has wanted anything since the last piece of the state tree was read ahead."""
        self._reads_further = False
        self.alarms: deque[str] = deque(maxlen=100)
        self.halted: str | None = None
        """Why this node has stopped taking part, where something inside it is wrong."""
        self._authenticity = Authenticity(host, Proving(chain_id, store.epochs, host))
        self._candidacy = Candidacy(self._own, lambda: store.state)
        self.evidence = EvidenceKeeper(store, host, lambda: self._peers, verify)
        self.documents = Documents(documents, lambda: store.state, lambda: store.tip.height, host)
        self.flight = Flight(store, chain_id, genesis_time_ms)
        secret = tagged_hash(SIGHTINGS_DOMAIN, key.seed)
        self.intake = Intake(
            chain_id, store, self.flight, self._authenticity, host, observer, self._work_changed, secret
        )
        self.catch_up = CatchUp(
            chain_id,
            self._own,
            store,
            self.flight,
            self.intake,
            self._authenticity,
            host,
            self._apply_synced,
            self._halt,
            snapshots,
        )
        self._taker = self.catch_up.snapshot_taker
        self._watch = PrimaryWatch(replica, self.intake, self.flight, host)

    # ---- what the world does

    def start(self) -> None:
        """First call: restores the replica from its record."""
        self._begin()
        self.catch_up.start()

    def _begin(self, resumed: Resumed | None = None) -> None:
        if self._recorder is not None:
            self._recorder.begin()
        tip = self.flight.tip()
        offences = self.evidence.of_epoch(tip.next_epoch.number)
        self._feed(events.Started(tip, self._votes_log.load(), offences, resumed))
        self._work_changed()

    def _begin_anew(self) -> None:
        """What is recorded of the replica is long enough: it begins anew from its voting record, as at a restart of the
        process, so that the next part can be stepped again without this one. Whoever is silent or halted stays so."""
        for timer in Timer:
            self._host.set_timer(timer, None)
        self._make_record_durable()
        resumed = self.replica.resumed
        self.replica.forget()
        self._begin(resumed)

    def close(self) -> None:
        """Last call, before the store is closed."""
        self.catch_up.close()

    def received(self, peer: bytes, channel: Channel, payload: bytes) -> None:
        if self._over or not self.replica.started:
            return
        self._disturbed = True
        match channel:
            case Channel.CONSENSUS:
                self._consensus(peer, payload)
            case Channel.SYNC:
                self.catch_up.received(peer, payload)
            case Channel.TRANSACTIONS:
                self.intake.gossiped(peer, payload)
                self.intake.flush()
            case Channel.DOCUMENTS:
                self.documents.received(peer, payload)
            case _:
                assert_never(channel)

    def connected(self, peer: bytes) -> None:
        # A new connection in place of one that died: what was asked over that one is lost.
        self.catch_up.disconnected(peer)
        self.catch_up.connected(peer)
        self._peers.add(peer)
        self.documents.connected(peer)
        self._begin_charging(peer)
        self.intake.connected(peer, mesh=peer in self.flight.tip().next_epoch.validators)
        self.intake.flush()
        self.catch_up.announce(peer)
        self.evidence.greet(peer, self.flight.tip().next_epoch.number)

    def disconnected(self, peer: bytes) -> None:
        self._peers.discard(peer)
        self.documents.disconnected(peer)
        self._checks.pop(peer, None)
        self._view_changes.pop(peer, None)
        self.intake.disconnected(peer)
        self.catch_up.disconnected(peer)

    def elapsed(self, timer: Timer) -> None:
        if timer is Timer.VIEW and self.replica.started and not self._over:
            self._view_elapsed()
        else:
            self._feed(events.Elapsed(timer))

    def _view_elapsed(self) -> None:
        """What is no work that the primary leaves undone is not counted while the timer speaks, and again after it."""
        state = self.replica.state
        counts = self.intake.reconsider(state.drift_ms, self.flight.ids_in(state.blocks_in_flight))
        if not counts:
            self._feed(events.Work(0, next_due(self._store.state)))
        self._feed(events.Elapsed(Timer.VIEW))
        if not counts:
            self._work_changed()

    def tick(self) -> None:
        """Several times a second: time-outs of gossip and sync, expiry by the clock."""
        if self._over:
            return
        if self._recorder is not None and self._recorder.full:
            self._begin_anew()
        self.intake.expire()
        self.intake.flush()
        self.catch_up.tick()
        self.documents.poll()
        self._read_ahead()
        self._offer()
        if self.replica.started:
            self._complain(self._watch.tick())
        if len(self.flight) > limits.blocks_in_flight_kept:
            self.flight.keep_only(self.replica.state.candidates)

    def _read_ahead(self) -> None:
        """Piece after piece of the state tree as long as nobody wants anything of this node, one per tick otherwise."""
        self._disturbed = False
        if self._store.tree.read_ahead(limits.state_buckets_read_ahead) and not self._reads_further:
            self._reads_further = True
            self._host.later(self._read_further)

    def _read_further(self) -> None:
        self._reads_further = False
        if not self._over and not self._disturbed:
            self._read_ahead()

    def submit(self, decoded: Decoded, answer: Answer, client: str = "", pay: Pay | None = None) -> None:
        """A client's transaction; see Intake.submit. `client` says which one, of those that are to be served alike."""
        self._disturbed = True
        self.intake.submit(decoded, answer, client, pay=pay)

    def act_as_node(self, operation: Operation) -> None:
        """Submit what this node says by itself. The same operation on the same committed block is the same transaction;
        whether it gets through shows in the chain."""
        tip = self.flight.tip()
        valid_until = self._host.now().ledger_ms + self.intake.transaction_ttl_ms // 2
        salt = tagged_hash(NODE_SALT_DOMAIN, tip.block_hash + self._own)
        decoded = sign_as_node(self._chain, operation, self._key, salt, valid_until)
        self._disturbed = True
        try:
            self.intake.submit(decoded, lambda state: None, source=self._own)
        except Inadmissible as error:
            self._host.note("debug", "what this node says is not admissible now", reason=str(error))

    def _offer(self) -> None:
        if not self.replica.started:
            return
        claims, now_ms = self.catch_up.sync.claims(), self._host.now().monotonic_ms
        may_vote = self.replica.state.may_vote_once_chosen
        ready = self._candidacy.due(self.flight.tip(), self._peers, claims, may_vote, now_ms)
        if ready is not None:
            self._host.note("info", "says that it is ready to be a validator", height=ready.height)
            self.act_as_node(ready)
        found = self.evidence.due(self._own, self.flight.tip().next_epoch, self.intake.pool)
        if found is not None:
            self._host.note("info", "posts evidence", validator=found.validator.hex()[:12], kind=found.kind)
            self.act_as_node(found)

    def now(self) -> events.Now:
        return self._host.now()

    @property
    def _over(self) -> bool:
        """Whether this engine does nothing any more: something is wrong, or another one follows it on a snapshot."""
        taker = self._taker
        return self.halted is not None or (taker is not None and taker.handed_over)

    @property
    def stopped(self) -> str | None:
        """Why this node no longer takes part, or its validator no longer votes; None: nothing is wrong."""
        return self.halted or self.replica.halted

    def state_of(self, transaction_id: bytes) -> TransactionState:
        return self.intake.state(transaction_id)

    # ---- the replica

    def _consensus(self, peer: bytes, payload: bytes) -> None:
        try:
            message = self._read(payload)
        except DecodeError as error:
            self._host.penalise(peer, str(error))
            return
        if type(message) in _FOR_VIEWS and self._asks_too_often(peer):
            self._host.penalise(peer, "asks for views without end")
            return
        if isinstance(message, Accusation):
            self._accused(peer, message)
            return
        self._feed(events.Received(peer, message))

    def _accused(self, peer: bytes, accusation: Accusation) -> None:
        """The replica judges what is of its own epoch; who voted in those that are over, the store knows."""
        evidence = accusation.evidence
        epoch = next((epoch for epoch in self._store.epochs() if epoch.number == epoch_of(evidence)), None)
        if epoch is None or not self.evidence.has_use_for(evidence, epoch):
            return
        if epoch.number >= self.flight.tip().next_epoch.number:
            self._feed(events.Received(peer, accusation))
            return
        try:
            offence = check_evidence(evidence, self._chain, epoch, self._verify)
        except ProofError as error:
            self._host.penalise(peer, f"an accusation that proves nothing: {error}")
        else:
            self._accuse(effects.Accuse(offence, evidence, peer))

    def _complain(self, complaint: events.Complaint | None) -> None:
        if complaint is not None:
            self._feed(complaint)

    def _feed(self, event: events.Event) -> None:
        """Step the replica; an event that arises while effects are performed waits until they all are. Before Started
        there is nothing to step."""
        if self._over or not (self.replica.started or isinstance(event, events.Started)):
            return
        if self._stepping:
            self._inbox.append(event)
            return
        self._stepping = True
        try:
            self._step(event)
            while self._inbox and not self._over:
                self._step(self._inbox.popleft())
        except BaseException as error:
            self._never_again(error)
            raise
        finally:
            self._stepping = False

    def _step(self, event: events.Event) -> None:
        now = self._host.now()
        effects_of_step = self.replica.step(event, now)
        if self._recorder is not None:
            self._recorder.step(event, now, effects_of_step)
        if isinstance(event, events.Received) and not isinstance(event.message, Accusation):
            self._charge(event.sender, self.replica.tally.checked, now.monotonic_ms)
        for effect in effects_of_step:
            self._perform(effect)

    def _begin_charging(self, peer: bytes) -> None:
        """What a peer may cost grows with the number of validators whose words it passes on, and the heights of which
        they speak: it is agreed anew where an epoch begins."""
        now_ms = self._host.now().monotonic_ms
        epoch = self.flight.tip().next_epoch
        validators = len(epoch.validators)
        burst = limits.consensus_signatures_burst
        burst += limits.consensus_signatures_burst_per_pair_and_height * validators**2 * (epoch.window + 1)
        self._checks[peer] = TokenBucket(Rate(limits.consensus_signatures_per_second, burst), now_ms)
        asked = limits.consensus_view_changes_per_second
        asked += limits.consensus_view_changes_per_second_and_validator * validators
        self._view_changes[peer] = TokenBucket(Rate(asked, 2 * asked), now_ms)

    def _asks_too_often(self, peer: bytes) -> bool:
        bucket = self._view_changes.get(peer)
        return bucket is not None and bucket.take(1, self._host.now().monotonic_ms) > 0

    def _charge(self, sender: bytes, checked: int, now_ms: int) -> None:
        """What a message cost is its sender's: honest peers make this node verify only so many signatures. Not what
        evidence cost: an honest peer passes on all that liars have left for it, at once, and what proves nothing is
        punished anyway."""
        bucket = self._checks.get(sender) if checked else None
        if bucket is not None and bucket.take(checked, now_ms):
            self._host.penalise(sender, "sends more signatures than honest peers do")

    def _never_again(self, error: BaseException) -> None:
        """Whoever stops between two effects has a replica that believes all of them: were it asked again, it would
        repeat to others what was never written down."""
        self.halted = str(error) if isinstance(error, StorageDamage) else f"internal error: {error!r}"
        self.catch_up.stop()

    def _perform(self, effect: effects.Effect) -> None:
        if self._before_effect is not None:
            self._before_effect(effect)
        match effect:
            case effects.SetTimer(timer, delay_ms):
                self._host.set_timer(timer, delay_ms)
            case effects.Save(entries):
                self._votes_log.append(entries)
                self._record_dirty = True
            case effects.Compact(entries):
                self._votes_log.replace(entries)
                self._record_dirty = False
            case effects.Send(peer, message):
                self._make_record_durable()
                self._host.send(peer, Channel.CONSENSUS, encode(message))
            case effects.Broadcast(message):
                self._make_record_durable()
                self._broadcast(encode(message))
            case effects.SendDecision(peer, height):
                self._send_decision(peer, height)
            case effects.SendEpochEnd(peer, epoch):
                following = [other.number for other in self._store.epochs() if other.number > epoch]
                self._send_decision(peer, min(following) - 1)
            case effects.Build():
                self._build(effect)
            case effects.Fetch(name, entries):
                held = [(index, self.intake.pool.by_full_hash(e.full_hash)) for index, e in enumerate(entries)]
                found = tuple((index, decoded.raw) for index, decoded in held if decoded is not None)
                self._feed(events.Fetched(name, found))
            case effects.Execute(header, entries, bodies):
                self._execute(header, entries, bodies)
            case effects.Commit(header, certificate):
                self._make_record_durable()
                self._commit(header, certificate)
            case effects.Sync(peer, height):
                # Later: a block applied here, between events that still wait, could be committed by one of them again.
                self._host.later(lambda: self._hint(peer, height))
            case effects.Accuse():
                self._accuse(effect)
            case effects.Blame(peer, reason):
                self._host.penalise(peer, reason)
            case effects.Admit(validator, transactions):
                self.intake.urgent(validator, transactions)
            case effects.Alarm(text):
                self._alarm(text)
            case _:
                assert_never(effect)

    def _hint(self, peer: bytes, height: int) -> None:
        """The replica learns from what others pass on who is further; only who is here can be asked."""
        if peer in self._peers:
            self.catch_up.hint(peer, height)

    def _make_record_durable(self) -> None:
        """Saves of one step share one sync, taken before anything that depends on them leaves."""
        if self._record_dirty:
            self._votes_log.sync()
            self._record_dirty = False

    def _broadcast(self, payload: bytes) -> None:
        for validator in self.flight.tip().next_epoch.validators:
            if validator != self._own and validator in self._peers:
                self._host.send(validator, Channel.CONSENSUS, payload)

    def _send_decision(self, peer: bytes, height: int) -> None:
        self._make_record_durable()
        header, certificate = self._store.header(height), self._store.certificate(height)
        if header is not None and certificate is not None:
            self._host.send(peer, Channel.CONSENSUS, encode(Decision(header, certificate)))

    def _build(self, request: effects.Build) -> None:
        nothing = events.Built(request.request, None, (), (), self.flight.tip().next_epoch)
        parent = self.flight.parent(request.parent)
        if parent is None or parent.height + 1 != request.height:
            self._feed(nothing)
            return
        taken = self.flight.ids_in_flight(request.parent)
        due = next_due(parent.view)
        something = (due is not None and due <= request.time_ms) or any(
            decoded.id not in taken for decoded in self.intake.pool
        )
        if not something and not request.empty_allowed:
            self._feed(nothing)
            return

        began_ms = self._host.now().monotonic_ms
        until_ms = began_ms + proposing.execution_ms_max(self.replica.core)

        def candidates() -> Iterator[Decoded]:
            """In time: how many there may be is told by those before, and these may be a hundred times as large."""
            waiting = (decoded for decoded in self.intake.pool if decoded.id not in taken)
            for number, decoded in enumerate(waiting):
                if number and self._host.now().monotonic_ms >= until_ms:
                    return
                yield decoded

        speculation, refused = self.flight.build(
            parent, self._own, request.time_ms, candidates(), request.transactions_max
        )
        self.intake.refused_by_block(refused)
        if not speculation.entries and not speculation.result.automatic and not request.empty_allowed:
            self._feed(nothing)
            return
        bodies = tuple(decoded.raw for decoded in speculation.transactions)
        header, entries = speculation.header, speculation.entries
        took_ms = self._host.now().monotonic_ms - began_ms
        self._feed(events.Built(request.request, header, entries, bodies, speculation.next_epoch, took_ms))

    def _execute(self, header: Header, entries: Sequence[Entry], bodies: Sequence[bytes]) -> None:
        """Authenticate what this node has not seen yet, then execute; the answer may come much later."""
        self._watch.proposed(header, entries)
        try:
            transactions = [
                self.intake.decoded(entry.full_hash, raw) for entry, raw in zip(entries, bodies, strict=True)
            ]
        except Inadmissible as error:
            self._executed(header, str(error))
            return

        def done(verdicts: list[bool]) -> None:
            if self._over:
                return
            if not all(verdicts):
                self._executed(header, "a transaction in it has a false signature")
                return
            self._executed_authentic(header, transactions)

        self._authenticity.require(transactions, done)

    def _executed_authentic(self, header: Header, transactions: list[Decoded]) -> None:
        if header.height <= self._store.tip.height:
            return
        known, began_ms = self.flight.get(block_hash(header)), self._host.now().monotonic_ms
        try:
            self.flight.check(header, transactions)
        except BlockFault as fault:
            self._executed(header, str(fault))
            return
        # Only what a block can hold: any key signs authentic copies of anything, and they would wait here for ever.
        self.intake.from_proposal(transactions)
        took_ms = None if known is not None else self._host.now().monotonic_ms - began_ms
        self._executed(header, None, took_ms)

    def _executed(self, header: Header, fault: str | None, took_ms: int | None = None) -> None:
        name = block_hash(header)
        speculation = self.flight.get(name)
        next_epoch = self.flight.tip().next_epoch if speculation is None else speculation.next_epoch
        if fault is not None:
            self._host.note("warning", "proposal refused", height=header.height, block=name.hex()[:12], fault=fault)
        self._feed(events.Executed(name, fault, next_epoch, took_ms))

    # ---- finality

    def _commit(self, header: Header, certificate: Certificate) -> None:
        speculation = self.flight.get(certificate.block_hash)
        assert speculation is not None, "the replica commits only what this node has executed"
        self._watch.committed(speculation, certificate.view)
        self._finalise(speculation, certificate)
        self._work_changed()
        self._complain(self._watch.judged())

    def _apply_synced(self, speculation: Speculation, certified: CertifiedBlock) -> None:
        self._watch.synced(speculation, certified.certificate.view)
        try:
            self._finalise(speculation, certified.certificate)
        except BaseException as error:
            self._never_again(error)
            raise
        # The replica learns of this block before anything lets it ask for the next one.
        self._feed(events.Synced(self.flight.tip()))
        self._work_changed()
        self._complain(self._watch.judged())

    def _finalise(self, speculation: Speculation, certificate: Certificate) -> None:
        self.flight.commit(speculation, certificate)
        identifiers = [entry.id for entry in speculation.entries]
        header = speculation.header
        result = speculation.result
        changed, accused = authority_changed(result.writes), accused_in(result.writes)
        self.intake.committed(identifiers, result.explanations, header.time_ms, changed, accused)
        self._candidacy.committed(result.writes)
        self.documents.committed(result.writes)
        self._observer.block_committed(header.height, identifiers)
        renews = self.catch_up.committed(header.height)
        if any(writes_to(NODES, result.writes)):
            self._observer.nodes_changed()
        if speculation.next_epoch.number == header.height + 1:
            self.evidence.epoch_began(speculation.next_epoch)
            for peer in self._peers:
                self._begin_charging(peer)
        validators = speculation.next_epoch.validators
        for peer in sorted(self._peers):
            if renews or peer not in validators or self._own not in validators:
                self.catch_up.announce(peer)

    def _work_changed(self) -> None:
        self._feed(events.Work(len(self.intake.pool), next_due(self._store.state)))

    # ---- what is wrong here, and elsewhere

    def _accuse(self, effect: effects.Accuse) -> None:
        offence = effect.offence
        if self.evidence.keep(offence, effect.evidence, effect.source):
            where = f"epoch {offence.epoch}, view {offence.view}" + (
                f", height {offence.height}" * bool(offence.height)
            )
            self._alarm(f"validator {offence.validator.hex()[:12]} broke the protocol: {offence.kind} ({where})")

    def _alarm(self, text: str) -> None:
        self.alarms.append(text)
        self._host.note("error", text)

    def _halt(self, reason: str) -> None:
        """Something inside is wrong: take no further part, and say so (never repair silently)."""
        self.halted = reason
        self.catch_up.stop()
        self._alarm(f"{reason}; this node has stopped voting")

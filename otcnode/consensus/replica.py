"""The replica: PBFT over a chain of blocks (Castro and Liskov, OSDI '99 and TOCS '02, signature variant).

`Replica.step` takes one event and returns the effects to perform, in order. Handlers only note facts; `_advance` then
draws every conclusion until nothing changes, so that the order in which facts arrive does not matter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, assert_never

from otcnode import crypto, limits
from otcnode.blocks import (
    HEADER_VERSION,
    Certificate,
    Header,
    Verify,
    block_hash,
    check_certificate,
    commit_preimage,
    prepare_preimage,
    validators_hash,
)
from otcnode.codec import encode
from otcnode.consensus import building, memory, record, silence, status
from otcnode.consensus.candidates import Candidate, entries_match
from otcnode.consensus.certificates import certificate_from, proof_from
from otcnode.consensus.configuration import Configuration
from otcnode.consensus.effects import (
    Accuse,
    Alarm,
    Broadcast,
    Build,
    Compact,
    Effect,
    Execute,
    Fetch,
    Save,
    Send,
    SetTimer,
    Sync,
)
from otcnode.consensus.effects import Commit as CommitBlock
from otcnode.consensus.events import (
    Built,
    Elapsed,
    Event,
    Executed,
    Fetched,
    Now,
    Received,
    Started,
    Synced,
    Timer,
    Tip,
    Work,
)
from otcnode.consensus.evidence import check_hidden_proof
from otcnode.consensus.explain import Explanation, Inspection, explain, inspect
from otcnode.consensus.messages import (
    Bodies,
    BodyRequest,
    Commit,
    Decision,
    Entries,
    Message,
    Mode,
    NewView,
    Prepare,
    PrePrepare,
    Reproposal,
    Status,
    ViewChange,
    new_view_preimage,
    status_preimage,
    view_change_preimage,
)
from otcnode.consensus.state import Decided, Heard, Silence, State
from otcnode.consensus.view_change import (
    check_new_view,
    check_view_change,
    is_signed_new_view,
    is_signed_view_change,
    select,
)
from otcnode.consensus.votes import Added, Vote, VoteBook
from otcnode.errors import ProofError

Signer = Callable[[bytes], bytes]
T = TypeVar("T")


class Replica:
    """One validator or full node. Total: whatever a peer sends, `step` returns."""

    def __init__(self, configuration: Configuration, signer: Signer, verify: Verify = crypto.verify) -> None:
        self._configuration = configuration
        self._sign = signer
        self._verify = verify
        self._effects: list[Effect] = []
        self._state: State | None = None
        self._recording = False
        self._record_bytes = 0
        self._request = 0
        self._building: Build | None = None
        self._builder_had_nothing = False
        self._view_deadline_ms: int | None = None
        self._build_timer_ms: int | None = None
        self._status_sent: tuple[object, ...] | None = None
        self._status_sent_ms: int | None = None
        self._status_hastened = False
        self._served_ms: dict[tuple[bytes, bytes, bool], tuple[int, int]] = {}
        """When a peer may be served the same again, and how long it then waits."""
        self._accused: set[tuple[bytes, str, int, int]] = set()

    # ---- the door

    @property
    def state(self) -> State:
        assert self._state is not None, "Started is the first event"
        return self._state

    @property
    def started(self) -> bool:
        return self._state is not None

    @property
    def mode(self) -> Mode:
        return self.state.mode

    def inspection(self) -> Inspection:
        """View, mode, heights in flight and peers, for node_status."""
        return inspect(self.state)

    def explain(self, now: Now) -> Explanation:
        """Why the chain stands still, or that it does not, as seen from here."""
        return explain(self.state, now, self.view_timeout_ms())

    def step(self, event: Event, now: Now) -> list[Effect]:
        """The effects that follow from one event at one moment; deterministic."""
        if isinstance(event, Started):
            assert self._state is None, "Started comes once"
            self._start(event, now)
        else:
            self.state.now = now
            self._dispatch(event)
        self._advance()
        self._tend_timers()
        effects, self._effects = self._effects, []
        # Block sync may make blocks durable by itself; after it, a Commit of this step would come too late.
        return [effect for effect in effects if not isinstance(effect, Sync)] + [
            effect for effect in effects if isinstance(effect, Sync)
        ]

    def _dispatch(self, event: Event) -> None:
        match event:
            case Received(sender, message):
                self._received(sender, message)
            case Work():
                self.state.work = event
                self._builder_had_nothing = False
            case Built():
                self._built(event)
            case Fetched(name, transactions):
                candidate = self.state.candidates.get(name)
                if candidate is not None:
                    candidate.learn_bodies(transactions, self._configuration.parameters.block_bytes_max)
                    self._request_missing(candidate)
            case Executed():
                self._executed(event)
            case Synced(tip):
                if tip.height == self.state.committed + 1:
                    self._committed(tip, None)
            case Elapsed(timer):
                self._elapsed(timer)
            case Started():
                raise AssertionError("handled by step")
            case _:
                assert_never(event)

    def _received(self, sender: bytes, message: Message) -> None:
        self._hear(sender)
        match message:
            case PrePrepare():
                self._on_pre_prepare(sender, message)
            case Prepare() | Commit():
                self._on_vote(sender, message)
            case ViewChange():
                self._on_view_change(sender, message)
            case NewView():
                self._on_new_view(sender, message)
            case Status():
                self._on_status(sender, message)
            case BodyRequest():
                self._on_body_request(sender, message)
            case Entries():
                candidate = self.state.candidates.get(message.block_hash)
                if candidate is not None and candidate.learn_entries(message.entries):
                    candidate.source, candidate.requested_ms = sender, None
            case Bodies():
                candidate = self.state.candidates.get(message.block_hash)
                if candidate is not None:
                    candidate.learn_bodies(message.transactions, self._configuration.parameters.block_bytes_max)
            case Decision():
                self._on_decision(sender, message)
            case _:
                assert_never(message)

    # ---- start, record

    def _start(self, event: Started, now: Now) -> None:
        self._state = self._fresh_state(event.tip, now)
        if self._configuration.own is None:
            return
        entries = None if event.record is None else record.read(event.record)
        if entries is None:
            self._start_without_record()
            return
        if record.floor_of(entries) > event.tip.height:
            # Not written to either: what is learnt below its floor must not come after what it says.
            self.state.floor = record.floor_of(entries)
            self.state.record_held_back = event.record
            return
        self._recording = True
        memory.restore(self.state, entries)

    def _fresh_state(self, tip: Tip, now: Now) -> State:
        base = tip.next_epoch.number - 1
        return State(
            self._configuration,
            now,
            tip,
            Work(0, None),
            base=base,
            fresh_above=base,
            view_since_ms=now.monotonic_ms,
            last_commit_ms=now.monotonic_ms,
            transactions_max=max(1, self._configuration.parameters.block_transactions_max),
        )

    def _start_without_record(self) -> None:
        state = self.state
        if self._configuration.vote_again_after_loss:
            self._begin_record(0)
            return
        state.silence = Silence(state.now.ledger_ms)

    def _begin_record(self, view_first: int) -> None:
        """From here on this key may sign: above the committed height, and from `view_first` on in this epoch."""
        state = self.state
        state.silence = None
        state.floor = state.committed
        state.view_first = view_first
        self._recording = True
        self._compact()

    def _save(self, entry: record.RecordEntry) -> None:
        """Saves with nothing between them share one effect."""
        if not self._recording:
            return
        raw = encode(entry)
        self._record_bytes += len(raw)
        if self._effects and isinstance(self._effects[-1], Save):
            self._effects[-1] = Save((*self._effects[-1].entries, raw))
        else:
            self._effects.append(Save((raw,)))

    def _compact(self) -> None:
        self._record_bytes = 0
        self._effects.append(Compact(memory.compacted(self.state)))

    def _fall_silent(self, reason: str, view: int) -> None:
        """Somebody else signs with this key, or this record is not the whole truth: stop, durably."""
        self.state.silence = Silence(self.state.now.ledger_ms, view_seen=view)
        if self._recording:
            self._effects.append(Compact((encode(record.Silenced()),)))
        self._recording = False
        self._building = None
        self._effects.append(Alarm(f"this validator has stopped voting: {reason}"))

    def _halt(self, reason: str) -> None:
        if self.state.halted is None:
            self.state.halted = reason
            self._effects.append(Alarm(f"{reason}; this validator has stopped voting"))

    # ---- what others say

    def _hear(self, validator: bytes) -> None:
        state = self.state
        if validator == state.own or validator not in state.epoch.validators:
            return
        heard = state.heard.get(validator)
        if heard is None:
            state.heard[validator] = Heard(state.now.monotonic_ms)
        else:
            heard.last_ms = state.now.monotonic_ms

    def _is_for_this_epoch(self, sender: bytes, epoch: int) -> bool:
        """A message of an older epoch is answered with the certificate of that epoch's last block."""
        state = self.state
        if epoch < state.epoch.number:
            if state.epoch_end is not None:
                self._send(sender, state.epoch_end)
            else:
                self._send_status(sender)
        return epoch == state.epoch.number

    def _is_votable(self, sender: bytes, epoch: int, height: int, view: int) -> bool:
        state = self.state
        if not self._is_for_this_epoch(sender, epoch) or view >= limits.view_max:
            return False
        if height <= state.committed:
            self._answer_old_height(sender, height)
            return False
        return height <= state.committed + limits.buffered_heights_windows * state.window

    def _answer_old_height(self, sender: bytes, height: int) -> None:
        """Late votes are common and need no answer; a peer that still works on a decided height gets its decision."""
        decided = self.state.decided.get(height)
        if decided is None:
            return
        heard = self.state.heard.get(sender)
        known = heard is not None and heard.status is not None and heard.status.committed >= height
        if not known and self.state.now.monotonic_ms - decided.since_ms >= limits.resend_after_ms:
            self._send(sender, decided.decision)

    def _on_pre_prepare(self, sender: bytes, message: PrePrepare) -> None:
        state = self.state
        header = message.header
        if not self._is_votable(sender, message.epoch, header.height, message.view):
            return
        primary = state.epoch.primary(message.view)
        name = block_hash(header)
        prepare = Prepare(message.epoch, message.view, header.height, name, primary, message.signature)
        if not self._take_vote(sender, prepare):
            return
        held = state.waiting.get((primary, header.height))
        if message.view < state.view or primary == state.own or (held is not None and held.view >= message.view):
            return
        small = header.transaction_count <= self._configuration.parameters.block_transactions_max
        if small and entries_match(header, message.entries):
            state.waiting[(primary, header.height)] = message

    def _on_vote(self, sender: bytes, message: Prepare | Commit) -> None:
        if self._is_votable(sender, message.epoch, message.height, message.view):
            self._take_vote(sender, message)

    def _take_vote(self, sender: bytes, message: Prepare | Commit) -> bool:
        """Put an authentic vote into its book; False if it is not authentic or contradicts an earlier one."""
        state = self.state
        if message.validator not in state.epoch.validators:
            return False
        book = self._book(message)
        outcome = book.judge(message.height, message.validator, message.view, message.block_hash)
        if outcome is Added.DUPLICATE and book is state.prepares:
            # A liar can sign one vote twice; its proposal is as good with either signature.
            held = book.get(message.height, message.validator, message.view)
            return held is not None and (held.signature == message.signature or self._is_authentic_vote(message))
        if outcome is Added.DUPLICATE or not self._is_authentic_vote(message):
            return False
        if message.validator == state.own:
            if not memory.is_own_vote(state, message):
                self._shown_own(message.view, "a vote")
            return False
        vote = Vote(message.view, message.block_hash, message.signature)
        if outcome is Added.CONFLICT:
            self._accuse_double_vote(message, book)
            return False
        book.add(message.height, message.validator, vote, state.view)
        self._hear(message.validator)
        asked = state.view_changes.get(message.validator)
        if isinstance(message, Commit) and asked is not None:
            self._look_for_hidden_proof(asked, message)
        return True

    def _book(self, message: Prepare | Commit) -> VoteBook:
        return self.state.prepares if isinstance(message, Prepare) else self.state.commits

    def _is_authentic_vote(self, message: Prepare | Commit) -> bool:
        preimage = prepare_preimage if isinstance(message, Prepare) else commit_preimage
        chain = self._configuration.chain
        signed = preimage(chain, message.epoch, message.view, message.height, message.block_hash)
        return self._verify(message.validator, signed, message.signature)

    def _shown_own(self, view: int, what: str) -> None:
        """An own valid signature that the record lacks; in views below `view_first` the lost record explains it. Where
        the operator has answered for a loss, it shows in which views this key has voted: only later ones are used."""
        state = self.state
        if state.silence is not None:
            state.silence.view_seen = max(state.silence.view_seen, view)
        elif not self._recording or view < state.view_first:
            return
        elif self._configuration.vote_again_after_loss:
            state.view_first = view + 1
            self._compact()
        else:
            self._fall_silent(f"others showed {what} with its signature that its record lacks", view)

    def _accuse_double_vote(self, message: Prepare | Commit, book: VoteBook) -> None:
        kind = "double PREPARE" if isinstance(message, Prepare) else "double COMMIT"
        held = book.get(message.height, message.validator, message.view)
        assert held is not None, "a conflict is with a vote that is held"
        first = type(message)(
            message.epoch, message.view, message.height, held.block_hash, message.validator, held.signature
        )
        self._accuse(message.validator, kind, message.view, message.height, first, message)

    def _on_view_change(self, sender: bytes, message: ViewChange) -> None:
        state = self.state
        if not self._is_for_this_epoch(sender, message.epoch) or message.view >= limits.view_max:
            return
        held = state.view_changes.get(message.validator)
        if held is not None and held.view >= message.view:
            return
        chain, epoch = self._configuration.chain, state.epoch
        if not is_signed_view_change(message, chain, epoch, self._verify):
            return
        if message.validator == state.own:
            self._shown_own(message.view, "a VIEW-CHANGE")
            return
        try:
            check_view_change(message, chain, epoch, state.window, self._verify)
        except ProofError as error:
            self._accuse(message.validator, f"invalid VIEW-CHANGE: {error}", message.view, 0, message)
            return
        state.view_changes[message.validator] = message
        self._hear(message.validator)
        self._look_for_hidden_proofs(message)
        if message.certificate is not None and message.committed > state.committed:
            self._learn_certificate(message.certificate)

    def _look_for_hidden_proofs(self, message: ViewChange) -> None:
        """Compare a VIEW-CHANGE with the COMMITs of its sender that are held."""
        state = self.state
        for height in state.commits.heights():
            for view, _ in state.commits.choices(height):
                commit = status.commit_message(state, height, view, message.validator)
                if commit is not None:
                    self._look_for_hidden_proof(message, commit)

    def _look_for_hidden_proof(self, message: ViewChange, commit: Commit) -> None:
        if commit.view >= message.view or commit.height <= message.committed:
            return
        try:
            check_hidden_proof(commit, message, self._configuration.chain, self.state.epoch, self._verify)
        except ProofError:
            return
        self._accuse(message.validator, "hidden proof", commit.view, commit.height, commit, message)

    def _accuse(self, validator: bytes, kind: str, view: int, height: int, *messages: Message) -> None:
        """Once per kind and place; bounded, for a liar can offend at every view."""
        key = (validator, kind, view, height)
        if key not in self._accused and len(self._accused) < limits.accusations_per_height_max:
            self._accused.add(key)
            self._effects.append(Accuse(validator, kind, tuple(encode(message) for message in messages)))

    def _on_new_view(self, sender: bytes, message: NewView) -> None:
        state = self.state
        if not self._is_for_this_epoch(sender, message.epoch) or message.view >= limits.view_max:
            return
        if message.view < state.view or (message.view == state.view and (state.active or state.new_view is not None)):
            return
        chain, epoch = self._configuration.chain, state.epoch
        if message.validator != epoch.primary(message.view):
            return
        if not is_signed_new_view(message, chain, epoch, self._verify):
            return
        if message.validator == state.own:
            self._shown_own(message.view, "a NEW-VIEW")
            return
        try:
            check_new_view(message, chain, epoch, state.window, self._verify, self._is_known_view_change)
        except ProofError as error:
            self._accuse(message.validator, f"invalid NEW-VIEW: {error}", message.view, 0, message)
            if message.view == state.view and state.may_sign(state.view + 1):
                self._ask_for(state.view + 1)
            return
        for entry in message.view_changes:
            if not self._is_known_view_change(entry):
                self._learn_of_view_change(entry)
        self._enter(message)

    def _learn_of_view_change(self, message: ViewChange) -> None:
        """A VIEW-CHANGE that only a NEW-VIEW has shown can tell as much about its sender as one that came alone."""
        if message.validator == self.state.own:
            self._shown_own(message.view, "a VIEW-CHANGE")
        else:
            self._look_for_hidden_proofs(message)

    def _is_known_view_change(self, message: ViewChange) -> bool:
        return self.state.view_changes.get(message.validator) == message

    def _on_decision(self, sender: bytes, message: Decision) -> None:
        state = self.state
        certificate = message.certificate
        if certificate.height <= state.committed:
            return
        if certificate.epoch != state.epoch.number or not state.is_validator:
            if certificate.epoch >= state.epoch.number:
                self._effects.append(Sync(sender, certificate.height))
            return
        if certificate.height > state.committed + limits.buffered_heights_windows * state.window:
            self._effects.append(Sync(sender, certificate.height))
            return
        if certificate.height in state.certificates or message.header.height != certificate.height:
            return
        if block_hash(message.header) != certificate.block_hash or not self._is_valid(certificate):
            return
        self._learn_certificate(certificate)
        candidate = state.candidates.get(certificate.block_hash)
        if candidate is None or candidate.entries is None:
            self._effects.append(Sync(sender, certificate.height))

    def _is_valid(self, certificate: Certificate) -> bool:
        if certificate.view >= limits.view_max:
            return False
        try:
            check_certificate(certificate, self._configuration.chain, self.state.epoch, self._verify)
        except ProofError:
            return False
        return True

    def _learn_certificate(self, certificate: Certificate) -> None:
        state = self.state
        highest = state.committed + limits.buffered_heights_windows * state.window
        if state.committed < certificate.height <= highest:
            state.certificates.setdefault(certificate.height, certificate)

    # ---- bodies

    def _on_body_request(self, sender: bytes, message: BodyRequest) -> None:
        """Bodies are kept and served until their height is committed, whatever their expiry."""
        candidate = self.state.candidates.get(message.block_hash)
        if candidate is None or candidate.entries is None:
            return
        if len(message.positions) > len(candidate.entries):
            return
        key = (sender, message.block_hash, bool(message.positions))
        now_ms = self.state.now.monotonic_ms
        next_ms, pause_ms = self._served_ms.get(key, (now_ms, limits.resend_after_ms // 2))
        if now_ms < next_ms:
            return
        # An answer can be lost; whoever asks for the same again and again is answered ever more rarely.
        self._served_ms[key] = (now_ms + pause_ms, min(2 * pause_ms, limits.serve_again_ms_max))
        if not message.positions:
            self._send(sender, Entries(candidate.height, candidate.block_hash, candidate.entries))
            return
        wanted = sorted(set(message.positions) & set(candidate.bodies))
        held = tuple((position, candidate.bodies[position]) for position in wanted)
        if held:
            self._send(sender, Bodies(candidate.height, candidate.block_hash, held))

    def _request_missing(self, candidate: Candidate) -> None:
        """Ask the primary first, then the others in turn."""
        state = self.state
        if candidate.complete or not state.others:
            return
        now_ms = state.now.monotonic_ms
        if candidate.requested_ms is not None and now_ms - candidate.requested_ms < limits.resend_after_ms:
            return
        first = state.primary if candidate.source is None else candidate.source
        heard = [name for name in state.others if state.is_heard(name)] or list(state.others)
        if first in heard and (candidate.source is not None or candidate.requests == 0):
            peer = first
        else:
            peer = heard[candidate.requests % len(heard)]
        candidate.source = None
        candidate.requested_ms = now_ms
        candidate.requests += 1
        positions = () if candidate.entries is None else candidate.missing
        self._send(peer, BodyRequest(candidate.height, candidate.block_hash, positions))

    # ---- STATUS

    def _on_status(self, sender: bytes, message: Status) -> None:
        state = self.state
        if not state.is_validator:
            # A removed validator keeps answering those who have not seen the end of its epoch.
            if self._is_for_this_epoch(sender, message.epoch) or message.committed > state.committed:
                self._hint_sync(sender, message.committed)
            return
        if sender != message.validator or message.validator not in state.epoch.validators or sender == state.own:
            if message.epoch < state.epoch.number:
                self._is_for_this_epoch(sender, message.epoch)
            elif message.epoch > state.epoch.number:
                self._hint_sync(sender, message.committed)
            return
        if len(message.heights) > limits.buffered_heights_windows * state.window or self._is_soon_again(sender):
            return
        if not self._verify(sender, status_preimage(self._configuration.chain, message), message.signature):
            return
        state.heard[sender] = Heard(state.now.monotonic_ms, message, state.now.monotonic_ms)
        self._compare_heights(sender, message)
        if not self._is_for_this_epoch(sender, message.epoch):
            return
        for answer in status.lacking(state, message):
            self._send(sender, answer)

    def _is_soon_again(self, sender: bytes) -> bool:
        """An answer to a STATUS can be large; an honest peer sends none so soon after another."""
        heard = self.state.heard.get(sender)
        if heard is None or heard.status_ms is None:
            return False
        return self.state.now.monotonic_ms - heard.status_ms < limits.status_interval_ms_min // 2

    def _compare_heights(self, sender: bytes, message: Status) -> None:
        """A peer ahead by more than what is in flight, or for longer, has blocks that must be synced."""
        state = self.state
        if message.committed <= state.committed:
            return
        if state.behind_since_ms is None:
            state.behind_since_ms = state.now.monotonic_ms
        waited_ms = state.now.monotonic_ms - state.behind_since_ms
        far = message.committed > state.committed + state.window or message.epoch > state.epoch.number
        if far or waited_ms >= limits.sync_after_behind_ms:
            self._effects.append(Sync(sender, message.committed))

    def _hint_sync(self, peer: bytes, committed: int) -> None:
        if committed > self.state.committed:
            self._effects.append(Sync(peer, committed))

    def _send_status(self, peer: bytes) -> None:
        if self.state.is_validator:
            self._send(peer, self._signed_status())

    def _signed_status(self) -> Status:
        state = self.state
        plain = status.own_status(state)
        signature = self._sign(status_preimage(self._configuration.chain, plain))
        return status.own_status(state, signature)

    # ---- conclusions

    def _advance(self) -> None:
        """Draw every conclusion; each returns whether it changed something, and each can do so only finitely often."""
        if self.state.record_held_back is not None:
            self._reopen_record()
        if self._configuration.own is not None:
            while (
                self._commit_next()
                or self._wake()
                or self._join()
                or self._open_view()
                or memory.activate(self.state)
                or self._accept_next()
                or self._work_on_blocks()
            ):
                pass
            self._build()

    def _reopen_record(self) -> None:
        """The store has caught up with the record's floor: what the record says holds again."""
        state = self.state
        assert state.record_held_back is not None
        if state.committed < state.floor or not state.is_validator:
            return
        entries = record.read(state.record_held_back)
        assert entries is not None
        heard = state.heard
        self._state = self._fresh_state(state.tip, state.now)
        self._state.work, self._state.heard = state.work, heard
        self._recording = True
        memory.restore(self._state, entries)

    def _commit_next(self) -> bool:
        """Committed: a certificate, and everything below committed, whatever this replica's own phase was."""
        state = self.state
        height = state.committed + 1
        certificate = state.certificates.get(height) or certificate_from(state.commits, state.epoch, height)
        if certificate is None or state.halted is not None or not state.is_validator:
            return False
        state.certificates[height] = certificate
        candidate = state.candidates.get(certificate.block_hash)
        if candidate is None:
            return False
        if candidate.header.parent != state.tip.block_hash:
            self._halt(f"certified block {height} does not extend the committed one")
            return False
        if candidate.fault is not None:
            self._halt(f"certified block {height} executes differently here: {candidate.fault}")
            return False
        if not candidate.executed or candidate.next_epoch is None:
            return False
        self._effects.append(CommitBlock(candidate.header, certificate))
        header = candidate.header
        tip = Tip(height, candidate.block_hash, header.time_ms, certificate, candidate.next_epoch)
        self._committed(tip, header)
        return True

    def _committed(self, tip: Tip, header: Header | None) -> None:
        """What follows from a durable block; `header` is None where block sync brought it."""
        state = self.state
        former_epoch = state.epoch
        state.tip = tip
        state.last_commit_ms = state.now.monotonic_ms
        state.behind_since_ms = None
        self._view_deadline_ms = None
        self._builder_had_nothing = False
        decision = None
        if header is None:
            self._building = None
        elif tip.certificate is not None:
            decision = Decision(header, tip.certificate)
            state.decided[tip.height] = Decided(decision, state.now.monotonic_ms)
            state.decided.pop(tip.height - limits.decisions_kept, None)
        self._forget_through(tip.height)
        self._grow_patience_back(header)
        silence.observe_commit(state)
        if tip.next_epoch.number != former_epoch.number:
            self._begin_epoch(decision)
            return
        if self._recording:
            state.floor = tip.height
            if self._record_bytes >= self._configuration.record_bytes_before_compaction:
                self._compact()
            else:
                self._save(record.Floored(tip.height))
        self._rotate()

    def _forget_through(self, height: int) -> None:
        state = self.state
        state.prepares.forget_through(height)
        state.commits.forget_through(height)
        forget_heights(state.accepted, height)
        forget_heights(state.reproposals, height)
        forget_heights(state.proofs, height)
        forget_heights(state.certificates, height)
        forget_heights(state.refusals, height)
        for key in [key for key in state.waiting if key[1] <= height]:
            del state.waiting[key]
        for name in [name for name, candidate in state.candidates.items() if candidate.height <= height]:
            del state.candidates[name]
        for prepare_key in [key for key in state.own_prepares if key[1] <= height]:
            del state.own_prepares[prepare_key]
        for commit_key in [key for key in state.own_commits if key[1] <= height]:
            del state.own_commits[commit_key]
        self._served_ms.clear()
        self._accused.clear()
        memory.drop_broken_chain(state)

    def _grow_patience_back(self, header: Header | None) -> None:
        state = self.state
        state.blocks_since_step += 1
        if state.blocks_since_step >= limits.blocks_per_timeout_step:
            state.blocks_since_step = 0
            state.timeout_steps = max(0, state.timeout_steps - 1)
        most = max(1, self._configuration.parameters.block_transactions_max)
        state.transactions_max = min(most, state.transactions_max * 2)
        if not building.someone_is_silent(state) or (header is not None and header.transaction_count):
            state.wake_blocks = 0

    def _rotate(self) -> None:
        """At a height divisible by `rotation_blocks` the primary's turn ends, patience unchanged."""
        state = self.state
        blocks = self._configuration.parameters.rotation_blocks
        if blocks == 0 or state.committed % blocks != 0 or state.base >= state.committed or not state.active:
            return
        if state.may_sign(state.view + 1):
            self._ask_for(state.view + 1)

    def _begin_epoch(self, decision: Decision | None) -> None:
        """Views, votes and VIEW-CHANGEs of the epoch that ended are void; the new one starts active in view 0."""
        former = self.state
        fresh = self._fresh_state(former.tip, former.now)
        fresh.work = former.work
        fresh.halted = former.halted
        fresh.silence = former.silence
        fresh.record_held_back = former.record_held_back
        fresh.floor = max(former.floor, former.tip.height) if self._recording else former.floor
        fresh.decided = former.decided
        fresh.epoch_end = decision
        fresh.heard = {name: heard for name, heard in former.heard.items() if name in fresh.epoch.validators}
        if fresh.silence is not None:
            fresh.silence.view_seen = -1
        self._state = fresh
        self._building = None
        if self._recording:
            self._compact()

    def _wake(self) -> bool:
        if not silence.may_end(self.state):
            return False
        self._begin_record(silence.view_first(self.state))
        return True

    # ---- views

    def _join(self) -> bool:
        """Ask for the (f+1)-th highest view among the others' latest VIEW-CHANGEs, if it is above mine: at least one
        honest replica asked for it or more (PBFT, OSDI '99, section 4.5.2)."""
        state = self.state
        views = sorted(
            (message.view for name, message in state.view_changes.items() if name != state.own), reverse=True
        )
        rank = state.epoch.weak_quorum
        if len(views) < rank or views[rank - 1] <= state.view or not state.may_sign(views[rank - 1]):
            return False
        self._ask_for(views[rank - 1])
        return True

    def _ask_for(self, view: int) -> None:
        """Leave the current view: nothing of a lower one is signed from here on."""
        state = self.state
        assert view > state.view and state.own is not None
        if view >= limits.view_max:
            return
        proofs = []
        height = state.committed + 1
        while height in state.proofs:
            proofs.append(state.proofs[height])
            height += 1
        certificate = None if state.committed == state.epoch.number - 1 else state.tip.certificate
        plain = ViewChange(state.epoch.number, view, state.committed, certificate, tuple(proofs), state.own, bytes(64))
        signature = self._sign(view_change_preimage(self._configuration.chain, plain))
        message = ViewChange(plain.epoch, view, plain.committed, certificate, plain.proofs, state.own, signature)
        memory.ask(state, message)
        self._left_view()
        self._save(record.Asked(message))
        self._broadcast(message)

    def _left_view(self) -> None:
        self._building = None
        self._builder_had_nothing = False
        self._view_deadline_ms = None

    def _open_view(self) -> bool:
        """The new primary's NEW-VIEW, from VIEW-CHANGEs of senders whose certified height it has committed itself."""
        state = self.state
        if state.active or state.new_view is not None or state.own != state.primary or not state.may_sign(state.view):
            return False
        assert state.own is not None
        usable = [
            message
            for _, message in sorted(state.view_changes.items())
            if message.view == state.view and message.committed <= state.committed
        ]
        if len(usable) < state.epoch.quorum:
            self._sync_for_view()
            return False
        chosen = sorted(
            sorted(usable, key=lambda message: message.validator != state.own)[: state.epoch.quorum],
            key=lambda message: message.validator,
        )
        message = self._new_view(tuple(chosen))
        self._enter(message)
        self._broadcast(message)
        return True

    def _sync_for_view(self) -> None:
        for name, message in sorted(self.state.view_changes.items()):
            if message.view == self.state.view and message.committed > self.state.committed:
                self._effects.append(Sync(name, message.committed))

    def _new_view(self, chosen: tuple[ViewChange, ...]) -> NewView:
        state = self.state
        assert state.own is not None
        chain, epoch = self._configuration.chain, state.epoch.number
        reproposals = tuple(
            Reproposal(
                header, self._sign(prepare_preimage(chain, epoch, state.view, header.height, block_hash(header)))
            )
            for header in select(chosen).headers
        )
        plain = NewView(epoch, state.view, chosen, reproposals, state.own, bytes(64))
        signature = self._sign(new_view_preimage(chain, plain))
        return NewView(epoch, state.view, chosen, reproposals, state.own, signature)

    def _enter(self, message: NewView) -> None:
        """Act under a valid NEW-VIEW; its base and re-proposals are accepted in one Save."""
        state = self.state
        self._save(record.Entered(message))
        memory.enter(state, message)
        self._left_view()
        for again in message.reproposals:
            self._compare_reproposal(again)
        if state.committed < state.base:
            for entry in message.view_changes:
                if entry.committed == state.base and entry.validator != state.own:
                    self._effects.append(Sync(entry.validator, state.base))

    def _compare_reproposal(self, again: Reproposal) -> None:
        """Its signature is a PREPARE of the primary, which may have signed another one for this place before."""
        state = self.state
        height, name = again.header.height, block_hash(again.header)
        held = state.prepares.get(height, state.primary, state.view)
        if held is not None and held.block_hash != name:
            vote = Prepare(state.epoch.number, state.view, height, name, state.primary, again.signature)
            self._accuse_double_vote(vote, state.prepares)
        self._forget_candidates(height)

    # ---- the normal case

    def _accept_next(self) -> bool:
        """Accept the lowest proposal that can be accepted now."""
        state = self.state
        if not state.active:
            return False
        head = state.head()
        height = (state.committed if head is None else head.height) + 1
        message = state.waiting.get((state.primary, height))
        if message is None or message.view != state.view or height in state.accepted:
            return False
        if height <= state.fresh_above or height > state.committed + state.window:
            return False
        refusal = self._refusal(message, head)
        if refusal is not None:
            state.refusals[height] = refusal
            return False
        if not self._holds_its_prepare(message):
            return False
        state.refusals.pop(height, None)
        candidate = memory.remember_candidate(state, message.header)
        candidate.learn_entries(message.entries)
        candidate.since_ms = state.now.monotonic_ms
        state.accepted[height] = candidate.block_hash
        self._forget_candidates(height)
        return True

    def _holds_its_prepare(self, message: PrePrepare) -> bool:
        """The PREPARE in a proposal that waited may have been displaced by its author's votes in later views; it is
        held again unless the author has voted for another block here meanwhile."""
        state = self.state
        height, name = message.header.height, block_hash(message.header)
        vote = Vote(message.view, name, message.signature)
        if state.prepares.add(height, state.primary, vote, state.view) is not Added.CONFLICT:
            return True
        prepare = Prepare(message.epoch, message.view, height, name, state.primary, message.signature)
        self._accuse_double_vote(prepare, state.prepares)
        del state.waiting[(state.primary, height)]
        return False

    def _refusal(self, message: PrePrepare, parent: Header | None) -> str | None:
        """Why a proposal from the primary of this view is not accepted (now); None: it is. A proposal whose time is
        too early stays and is judged again, as every other one is, for the clock moves."""
        state = self.state
        header = message.header
        parent_hash = state.tip.block_hash if parent is None else state.accepted[parent.height]
        parent_ms = state.tip.time_ms if parent is None else parent.time_ms
        clock_ms, drift_ms = state.now.ledger_ms, self._configuration.drift_ms
        members = validators_hash(state.epoch.validators)
        if header.parent != parent_hash:
            return "its parent is not the block below"
        if parent is not None and parent.next_validators_hash != members:
            return "the block below ends the epoch and is not committed"
        if header.version != HEADER_VERSION or header.chain != self._configuration.chain:
            return "another version or chain"
        if header.validators_hash != members or header.proposer != state.primary:
            return "another validator set or proposer"
        if header.time_ms <= parent_ms:
            return "its time is not after the parent's"
        if abs(header.time_ms - clock_ms) > drift_ms:
            return f"clock {header.time_ms - clock_ms:+d} ms"
        return None

    def _forget_candidates(self, height: int) -> None:
        state = self.state
        proof, certificate = state.proofs.get(height), state.certificates.get(height)
        kept = {state.accepted.get(height), state.reproposals.get(height)}
        kept.add(None if proof is None else block_hash(proof.header))
        kept.add(None if certificate is None else certificate.block_hash)
        old = sorted(
            (candidate.since_ms, name)
            for name, candidate in state.candidates.items()
            if candidate.height == height and name not in kept
        )
        for _, name in old[: max(0, len(old) - limits.candidates_per_height_max)]:
            del state.candidates[name]

    def _work_on_blocks(self) -> bool:
        """Fetch, save, execute, prepare and commit, from the lowest height up."""
        state = self.state
        changed = False
        highest = state.committed + limits.buffered_heights_windows * state.window
        for height in range(state.committed + 1, highest + 1):
            certificate = state.certificates.get(height)
            names = [state.accepted.get(height), None if certificate is None else certificate.block_hash]
            for name in dict.fromkeys(names):
                candidate = None if name is None else state.candidates.get(name)
                if candidate is not None:
                    changed = self._complete(candidate) or changed
            accepted = state.accepted_candidate(height)
            if accepted is not None and accepted.executed and state.active:
                changed = self._vote_prepare(accepted) or self._vote_commit(accepted) or changed
        return changed

    def _complete(self, candidate: Candidate) -> bool:
        """Bring a block to execution: entries, bodies, record, parent."""
        state = self.state
        if candidate.entries is None:
            self._request_missing(candidate)
            return False
        if not candidate.searched:
            candidate.searched = True
            if not candidate.complete:
                self._effects.append(Fetch(candidate.block_hash, candidate.entries))
                return False
        if not candidate.complete or candidate.executing or not self._parent_is_executed(candidate):
            return False
        self._record_acceptance(candidate)
        candidate.executing = True
        self._effects.append(Execute(candidate.header, candidate.entries, candidate.ordered_bodies))
        return state.committed < candidate.height

    def _parent_is_executed(self, candidate: Candidate) -> bool:
        state = self.state
        parent = candidate.header.parent
        if candidate.height == state.committed + 1:
            return parent == state.tip.block_hash
        held = state.candidates.get(parent)
        return held is not None and held.executed and held.next_epoch == state.epoch

    def _record_acceptance(self, candidate: Candidate) -> None:
        """The proposal is saved with its bodies before it is executed, so that whoever prepared it can serve it."""
        state = self.state
        height = candidate.height
        if state.accepted.get(height) != candidate.block_hash or candidate.entries is None:
            return
        if candidate.recorded is not None and (candidate.recorded.view == state.view or height in state.reproposals):
            return
        candidate.recorded = record.Accepted(
            state.epoch.number,
            state.view,
            candidate.header,
            candidate.entries,
            candidate.ordered_bodies,
            self._primary_signature(candidate),
        )
        self._save(candidate.recorded)

    def _primary_signature(self, candidate: Candidate) -> bytes:
        """The PREPARE signature of this view's primary for an accepted block."""
        state = self.state
        if candidate.height in state.reproposals:
            assert state.new_view is not None
            heights = {again.header.height: again.signature for again in state.new_view.reproposals}
            return heights[candidate.height]
        vote = state.prepares.get(candidate.height, state.primary, state.view)
        assert vote is not None and vote.block_hash == candidate.block_hash
        return vote.signature

    def _executed(self, event: Executed) -> None:
        candidate = self.state.candidates.get(event.block_hash)
        if candidate is None or not candidate.executing or candidate.executed:
            return
        candidate.fault = event.fault
        candidate.executed = event.fault is None
        candidate.next_epoch = event.next_epoch
        if event.fault is not None:
            self.state.refusals[candidate.height] = f"executes differently here: {event.fault}"

    def _vote_prepare(self, candidate: Candidate) -> bool:
        """PREPARE only what executed to the header's roots, on a parent that is committed or prepared in this view."""
        state = self.state
        height, view, name = candidate.height, state.view, candidate.block_hash
        if not state.may_sign(view) or (view, height) in state.own_prepares or not state.parent_is_final(height):
            return False
        self._record_acceptance(candidate)
        assert state.own is not None
        signed = prepare_preimage(self._configuration.chain, state.epoch.number, view, height, name)
        self._cast(Prepare(state.epoch.number, view, height, name, state.own, self._sign(signed)))
        return True

    def _vote_commit(self, candidate: Candidate) -> bool:
        """COMMIT only what is prepared, executed here and prepared by me, on a parent that is committed or whose proof
        of this view I hold: so the proofs above my committed height have no gap."""
        state = self.state
        height, view, name = candidate.height, state.view, candidate.block_hash
        mine = state.own_prepares.get((view, height))
        if mine is None or mine.block_hash != name or (view, height) in state.own_commits:
            return False
        if not state.may_sign(view) or not state.parent_is_final(height):
            return False
        proof = proof_from(state.prepares, state.epoch, view, candidate.header, name)
        if proof is None:
            return False
        state.proofs[height] = proof
        self._save(record.Proved(state.epoch.number, proof))
        assert state.own is not None
        signed = commit_preimage(self._configuration.chain, state.epoch.number, view, height, name)
        self._cast(Commit(state.epoch.number, view, height, name, state.own, self._sign(signed)))
        return True

    def _cast(self, vote: Prepare | Commit) -> None:
        """Remember, then speak."""
        memory.remember_own_vote(self.state, vote)
        self._save(record.Voted(vote))
        self._broadcast(vote)

    # ---- building

    def _build(self) -> None:
        if self._building is not None or self._builder_had_nothing:
            return
        plan = building.plan(self.state)
        if isinstance(plan, building.Later):
            self._set_build_timer(plan.at_ms)
            return
        self._request += 1
        if plan.wakes:
            self.state.wake_blocks += 1
        self._building = Build(
            self._request, plan.height, plan.parent, plan.time_ms, self.state.transactions_max, plan.empty_allowed
        )
        self._effects.append(self._building)

    def _set_build_timer(self, at_ms: int | None) -> None:
        """`at_ms` is ledger time."""
        if at_ms == self._build_timer_ms:
            return
        self._build_timer_ms = at_ms
        delay_ms = None
        if at_ms is not None:
            delay_ms = max(1, self._configuration.real_ms(at_ms - self.state.now.ledger_ms))
        self._effects.append(SetTimer(Timer.BUILD, delay_ms))

    def _built(self, event: Built) -> None:
        state, request = self.state, self._building
        if request is None or event.request != request.request:
            return
        self._building = None
        header = event.header
        if header is None:
            self._builder_had_nothing = True
            return
        head = state.head()
        parent = state.tip.block_hash if head is None else state.accepted[head.height]
        if header.parent != parent or not state.active or not state.may_sign(state.view):
            return
        self._propose(header, event)

    def _propose(self, header: Header, event: Built) -> None:
        """The own PRE-PREPARE, which is the primary's PREPARE."""
        state = self.state
        assert state.own == state.primary and (state.view, header.height) not in state.own_prepares
        candidate = memory.remember_candidate(state, header)
        candidate.entries = event.entries
        candidate.bodies = dict(enumerate(event.bodies))
        candidate.searched = candidate.executing = candidate.executed = True
        candidate.next_epoch = event.next_epoch
        state.accepted[header.height] = candidate.block_hash
        self._forget_candidates(header.height)
        epoch, view, name = state.epoch.number, state.view, candidate.block_hash
        signature = self._sign(prepare_preimage(self._configuration.chain, epoch, view, header.height, name))
        memory.remember_own_vote(state, Prepare(epoch, view, header.height, name, state.own, signature))
        message = PrePrepare(epoch, view, header, event.entries, signature)
        state.waiting[(state.own, header.height)] = message
        self._record_acceptance(candidate)
        self._broadcast(message)

    # ---- timers

    def _elapsed(self, timer: Timer) -> None:
        match timer:
            case Timer.VIEW:
                self._view_timer_elapsed()
            case Timer.STATUS:
                self._status_sent_ms = None
                self._builder_had_nothing = False
                for candidate in self.state.candidates.values():
                    if candidate.searched and self._is_wanted(candidate):
                        self._request_missing(candidate)
            case Timer.BUILD:
                self._build_timer_ms = None
                self._builder_had_nothing = False
            case _:
                assert_never(timer)

    def _is_wanted(self, candidate: Candidate) -> bool:
        state = self.state
        certificate = state.certificates.get(candidate.height)
        return state.accepted.get(candidate.height) == candidate.block_hash or (
            certificate is not None and certificate.block_hash == candidate.block_hash
        )

    def _view_timer_elapsed(self) -> None:
        state = self.state
        if self._view_deadline_ms is None or not self._view_timer_runs():
            return
        left_ms = self._view_deadline_ms - state.now.monotonic_ms
        if left_ms > 0:
            self._effects.append(SetTimer(Timer.VIEW, left_ms))
            return
        state.timeout_steps = min(state.timeout_steps + 1, 62)
        state.blocks_since_step = 0
        state.transactions_max = max(1, state.transactions_max // 2)
        self._ask_for(state.view + 1)

    def _view_timer_runs(self) -> bool:
        """Active: while something is pending. After asking for a view: once a quorum asks for it or higher. Never
        while too few are heard to form a quorum with."""
        state = self.state
        if not state.may_sign(state.view + 1) or state.view + 1 >= limits.view_max:
            return False
        if sum(state.is_heard(name) for name in state.others) < state.epoch.quorum - 1:
            return False
        if state.active:
            return building.is_pending(state)
        asking = sum(message.view >= state.view for message in state.view_changes.values())
        return asking >= state.epoch.quorum

    def view_timeout_ms(self) -> int:
        """Real milliseconds: min(base · 2^k, cap)."""
        configuration = self._configuration
        return min(configuration.view_timeout_ms_base << self.state.timeout_steps, configuration.view_timeout_ms_max)

    def _tend_timers(self) -> None:
        self._tend_view_timer()
        self._tend_status()

    def _tend_view_timer(self) -> None:
        runs = self._view_timer_runs()
        if runs and self._view_deadline_ms is None:
            self._view_deadline_ms = self.state.now.monotonic_ms + self.view_timeout_ms()
            self._effects.append(SetTimer(Timer.VIEW, self.view_timeout_ms()))
        elif not runs and self._view_deadline_ms is not None:
            self._view_deadline_ms = None
            self._effects.append(SetTimer(Timer.VIEW, None))

    def _tend_status(self) -> None:
        """Every half second, and on change at most each tenth of a second."""
        state = self.state
        if not state.is_validator:
            return
        now_ms = state.now.monotonic_ms
        shown = (state.epoch.number, state.view, state.mode, state.committed, tuple(sorted(state.accepted.items())))
        due = self._status_sent_ms is None
        changed = shown != self._status_sent
        if not due and not changed:
            return
        if self._status_sent_ms is not None:
            early_ms = self._status_sent_ms + limits.status_interval_ms_min - now_ms
            if early_ms > 0:
                if not self._status_hastened:
                    self._status_hastened = True
                    self._effects.append(SetTimer(Timer.STATUS, early_ms))
                return
        self._status_sent, self._status_sent_ms, self._status_hastened = shown, now_ms, False
        self._broadcast(self._signed_status())
        self._effects.append(SetTimer(Timer.STATUS, limits.status_interval_ms))

    # ---- sending

    def _send(self, peer: bytes, message: Message) -> None:
        if peer != self._configuration.own:
            self._effects.append(Send(peer, message))

    def _broadcast(self, message: Message) -> None:
        if self.state.others:
            self._effects.append(Broadcast(message))


def forget_heights(collection: dict[int, T], height: int) -> None:
    """Drop what belongs to heights up to `height`."""
    for old in [known for known in collection if known <= height]:
        del collection[old]

"""The replica: PBFT over a chain of blocks (Castro and Liskov, OSDI '99 and TOCS '02, signature variant).

`Replica.step` takes one event and returns the effects to perform, in order. Handlers only note facts; `_advance` then
draws every conclusion until nothing changes, so that the order in which facts arrive does not matter. The handlers and
the conclusions are functions over one Core, a file for each part of the protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from otcnode import crypto
from otcnode.blocks import Verify
from otcnode.consensus import (
    accusing,
    bodies,
    committing,
    memory,
    patience,
    proposing,
    receiving,
    record,
    retransmission,
    view_changing,
    voting,
)
from otcnode.consensus.configuration import Configuration
from otcnode.consensus.core import Core, Signer, fresh_state
from otcnode.consensus.effects import Effect, Sync
from otcnode.consensus.events import (
    Built,
    Complaint,
    Elapsed,
    Event,
    Executed,
    Fetched,
    Now,
    Received,
    Started,
    Synced,
    Timer,
    Work,
)
from otcnode.consensus.explain import Explanation, Inspection, explain, inspect
from otcnode.consensus.messages import (
    Accusation,
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
    Status,
    Urgent,
    ViewChange,
)
from otcnode.consensus.resumed import Resumed, Silence
from otcnode.consensus.state import State
from otcnode.consensus.tally import Tally


class Replica:
    """One validator or full node. Total: whatever a peer sends, `step` returns."""

    def __init__(self, configuration: Configuration, signer: Signer, verify: Verify = crypto.verify) -> None:
        self._configuration = configuration
        self._sign = signer
        self.tally = Tally(verify)
        self._core: Core | None = None

    def forget(self) -> None:
        """Forget everything, as a process that ends: Started is the next event, with the record that was kept."""
        self._core = None

    # ---- the door

    @property
    def core(self) -> Core:
        assert self._core is not None, "Started is the first event"
        return self._core

    @property
    def state(self) -> State:
        return self.core.state

    @property
    def started(self) -> bool:
        return self._core is not None

    @property
    def halted(self) -> str | None:
        """Why this validator no longer votes; None: it is not started, or nothing is wrong."""
        return None if self._core is None else self._core.state.halted

    @property
    def resumed(self) -> Resumed:
        """What stays where this replica is to begin anew in the same process."""
        return Resumed(self.state.halted, self.state.silence)

    @property
    def mode(self) -> Mode:
        return self.state.mode

    def inspection(self) -> Inspection:
        """View, mode, heights in flight and peers, for node_status."""
        return inspect(self.state)

    def explain(self, now: Now) -> Explanation:
        """Why the chain stands still, or that it does not, as seen from here."""
        return explain(self.core, now)

    def step(self, event: Event, now: Now) -> list[Effect]:
        """The effects that follow from one event at one moment; deterministic. `tally` then says what it took."""
        self.tally.begin()
        if isinstance(event, Started):
            assert self._core is None, "Started comes once"
            state = fresh_state(self._configuration, event.tip, now)
            core = self._core = Core(self._configuration, self._sign, self.tally, state)
            accusing.recall(core, event.offences)
            self._start(event)
        else:
            core = self.core
            core.state.now = now
            self._dispatch(core, event)
        self._advance()
        patience.tend_view_timer(core)
        retransmission.tend_status(core)
        effects, core.effects = core.effects, []
        if len(effects) < 2:
            return effects
        # Block sync may make blocks durable by itself; after it, a Commit of this step would come too late.
        last = [effect for effect in effects if isinstance(effect, Sync)]
        return [effect for effect in effects if not isinstance(effect, Sync)] + last if last else effects

    def _dispatch(self, core: Core, event: Event) -> None:
        match event:
            case Received(sender, message):
                self._received(core, sender, message)
            case Work():
                core.state.work = event
                core.builder_had_nothing = False
            case Built():
                proposing.built(core, event)
            case Fetched():
                bodies.learn_from_pool(core, event)
            case Executed():
                voting.executed(core, event)
            case Synced(tip):
                if tip.height == core.state.committed + 1:
                    committing.synced(core, tip)
            case Complaint():
                patience.complained(core, event)
            case Elapsed(timer):
                self._elapsed(core, timer)
            case Started():
                raise AssertionError("handled by step")
            case _:
                assert_never(event)

    def _received(self, core: Core, sender: bytes, message: Message) -> None:
        core.hear(sender)
        match message:
            case Status():
                retransmission.on_status(core, sender, message)
            case Prepare() | Commit():
                receiving.on_vote(core, sender, message)
            case PrePrepare():
                receiving.on_pre_prepare(core, sender, message)
            case ViewChange():
                view_changing.on_view_change(core, sender, message)
            case NewView():
                view_changing.on_new_view(core, sender, message)
            case BodyRequest():
                bodies.on_body_request(core, sender, message)
            case Entries():
                bodies.learn_entries(core, sender, message)
            case Bodies():
                bodies.learn_bodies(core, sender, message)
            case Decision():
                receiving.on_decision(core, sender, message)
            case Accusation():
                accusing.on_accusation(core, sender, message)
            case Urgent():
                receiving.on_urgent(core, sender, message)
            case _:
                assert_never(message)

    # ---- start, record

    def _start(self, event: Started) -> None:
        if event.resumed is not None:
            self.state.halted = event.resumed.halted
        if self.core.configuration.own is None:
            return
        entries = None if event.record is None else record.read(event.record)
        if entries is None:
            self._start_without_record(event.record or (), event.resumed)
            return
        if record.floor_of(entries) > event.tip.height:
            # Not written to either: what is learnt below its floor must not come after what it says.
            self.state.floor = record.floor_of(entries)
            self.state.record_held_back = event.record
            return
        self.core.recording = True
        memory.restore(self.state, entries)
        self._doubt_record(entries)

    def _doubt_record(self, entries: Sequence[record.RecordEntry]) -> None:
        """An older record was put back beside the store: what it has forgotten must not be contradicted."""
        certificate, own = self.state.tip.certificate, self.core.configuration.own
        assert own is not None, "only who has a key has a record"
        if certificate is None or not record.lacks_commit(entries, certificate, own):
            return
        view = certificate.view if certificate.epoch == self.state.epoch.number else -1
        self.core.shown_older_record(view, "a vote in the certificate of its last block")

    def _start_without_record(self, unusable: Sequence[bytes], resumed: Resumed | None) -> None:
        state = self.state
        if self.core.configuration.vote_again_after_loss:
            self.core.begin_record(0)
            return
        if resumed is not None and resumed.silence is not None:
            state.silence = resumed.silence
            return
        shown = "others showed an own signature that its record lacked" if record.is_silenced(unusable) else ""
        state.silence = Silence(state.now.ledger_ms, state.now.monotonic_ms, shown=shown)

    # ---- conclusions

    def _advance(self) -> None:
        """Draw every conclusion; each returns whether it changed something, and each can do so only finitely often."""
        core = self.core
        if core.state.record_held_back is not None:
            self._reopen_record()
        if core.configuration.own is not None:
            while (
                committing.rotate(core)
                or committing.commit_next(core)
                or committing.wake(core)
                or view_changing.join(core)
                or view_changing.leave_refused(core)
                or view_changing.open_view(core)
                or memory.activate(core.state)
                or voting.accept_next(core)
                or voting.work_on_blocks(core)
            ):
                pass
            proposing.build(core)

    def _reopen_record(self) -> None:
        """The store has caught up with the record's floor: what the record says holds again."""
        state = self.state
        assert state.record_held_back is not None
        if state.committed < state.floor or not state.is_validator:
            return
        entries = record.read(state.record_held_back)
        assert entries is not None
        fresh = fresh_state(self._configuration, state.tip, state.now)
        fresh.work, fresh.heard, fresh.last_commit_ms = state.work, state.heard, state.last_commit_ms
        fresh.halted, fresh.committed_ms = state.halted, state.committed_ms
        self.core.state = fresh
        self.core.recording = True
        memory.restore(fresh, entries)

    # ---- timers

    def _elapsed(self, core: Core, timer: Timer) -> None:
        match timer:
            case Timer.VIEW:
                patience.view_timer_elapsed(core)
            case Timer.STATUS:
                core.status_sent_ms = None
                core.builder_had_nothing = False
                bodies.ask_again(core)
            case Timer.BUILD:
                core.build_timer_ms = None
                core.builder_had_nothing = False
            case _:
                assert_never(timer)

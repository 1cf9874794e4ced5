"""What every part of a replica works with: its state, its keys, the voting record and the effects of this step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from msgspec.structs import replace

from otcnode import limits
from otcnode.blocks import Verify
from otcnode.codec import encode
from otcnode.consensus import memory, record
from otcnode.consensus.configuration import Configuration
from otcnode.consensus.effects import Alarm, Broadcast, Build, Compact, Effect, Save, Send
from otcnode.consensus.events import Now, Tip, Work
from otcnode.consensus.evidence import Offence
from otcnode.consensus.execution_pace import ExecutionPace
from otcnode.consensus.latency_pace import LatencyPace
from otcnode.consensus.messages import Message
from otcnode.consensus.rates import PerSecond
from otcnode.consensus.resumed import Silence
from otcnode.consensus.state import Heard, State

Signer = Callable[[bytes], bytes]


class Seen(NamedTuple):
    """The committed height at which something was seen, and the ledger clock of this node then."""

    committed: int
    ledger_ms: int


@dataclass(slots=True)
class Core:
    """Beside the state, only what a restart may forget: timers set, the build under way, what was sent or served."""

    configuration: Configuration
    sign: Signer
    verify: Verify
    state: State
    effects: list[Effect] = field(default_factory=list)

    # the voting record
    recording: bool = False
    record_bytes: int = 0

    # building
    request: int = 0
    building: Build | None = None
    builder_had_nothing: bool = False
    build_timer_ms: int | None = None

    # patience and retransmission
    view_deadline_ms: int | None = None
    view_listens_on: bool = False
    """The deadline was once put off, because this process came late to it."""
    status_sent: tuple[object, ...] | None = None
    status_sent_ms: int | None = None
    status_hastened: bool = False
    offences: dict[bytes, dict[Offence, Seen]] = field(default_factory=dict)
    """Of each validator, what it was accused of in this epoch, and when that was seen; bounded by
    limits.offences_per_validator_max and, for those in `large_offences`, by large_offences_per_validator_max."""
    large_offences: Counter[bytes] = field(default_factory=Counter)
    """How many of them were shown by evidence that no transaction can hold."""
    view_changes_checked: PerSecond = field(default_factory=lambda: PerSecond(limits.view_changes_per_second_max))
    """By author."""
    epoch_answers: PerSecond = field(default_factory=lambda: PerSecond(limits.epoch_answers_per_second_max))
    """By peer."""
    silent_told: PerSecond = field(default_factory=lambda: PerSecond(limits.silent_told_per_second_max))
    """By the silent validator of whom the primary is told."""
    view_answers: PerSecond = field(default_factory=lambda: PerSecond(limits.view_answers_per_second_max))
    """By peer."""
    resent: PerSecond = field(default_factory=lambda: PerSecond(limits.windows_resent_per_second_max))
    """Votes and proposals, by peer; counted in windows of all of them."""
    decisions_sent: PerSecond = field(default_factory=lambda: PerSecond(limits.decisions_sent_per_second_max))
    """By peer."""
    pace: ExecutionPace = field(default_factory=ExecutionPace)
    latency: LatencyPace = field(default_factory=LatencyPace)
    urgent_taken: PerSecond = field(default_factory=lambda: PerSecond(limits.urgent_per_second_max))
    """Bodies, by who pushed them."""

    def save(self, entry: record.RecordEntry) -> None:
        """Saves with nothing between them share one effect."""
        if not self.recording:
            return
        raw = encode(entry)
        self.record_bytes += len(raw)
        if self.effects and isinstance(self.effects[-1], Save):
            self.effects[-1] = Save((*self.effects[-1].entries, raw))
        else:
            self.effects.append(Save((raw,)))

    def compact(self) -> None:
        self.record_bytes = 0
        self.effects.append(Compact(memory.compacted(self.state)))

    def compact_if_long(self) -> bool:
        """Once enough has been written since the last time; also where nothing commits, and views follow each other."""
        due = self.recording and self.record_bytes >= self.configuration.record_bytes_before_compaction
        if due:
            self.compact()
        return due

    def fall_silent(self, reason: str, view: int) -> None:
        """Somebody else signs with this key, or this record is not the whole truth: stop, durably."""
        now = self.state.now
        self.state.silence = Silence(now.ledger_ms, now.monotonic_ms, view_seen=view, shown=reason)
        if self.recording:
            self.effects.append(Compact((encode(record.Silenced()),)))
        self.recording = False
        self.building = None
        self.effects.append(Alarm(f"this validator has stopped voting: {reason}"))

    def halt(self, reason: str) -> None:
        if self.state.halted is None:
            self.state.halted = reason
            self.effects.append(Alarm(f"{reason}; this validator has stopped voting"))

    def shown_own(self, view: int, what: str) -> None:
        """An own valid signature of a view that the record lacks; in views below `view_first` the lost record explains
        it. Where the operator has answered for a loss, it shows in which views this key has voted: only later ones are
        used."""
        state = self.state
        if state.silence is not None:
            state.silence = replace(state.silence, view_seen=max(state.silence.view_seen, view))
        elif self.recording and view >= state.view_first:
            self.shown_older_record(view, what)

    def shown_older_record(self, view: int, what: str) -> None:
        """The record lacks what this key signed in `view` of this epoch (-1: in one that is over)."""
        state = self.state
        if self.configuration.vote_again_after_loss:
            state.view_first = max(state.view_first, view + 1)
            self.compact()
        else:
            self.fall_silent(f"others showed {what} with its signature that its record lacks", view)

    def shown_own_view_change(self, view: int) -> None:
        """The same of a VIEW-CHANGE. It says that nothing of a lower view is signed any more: a lost record may have
        asked for `view_first` itself, and may still be taken at its word."""
        state = self.state
        if state.silence is not None:
            state.silence = replace(state.silence, view_seen=max(state.silence.view_seen, view - 1))
        elif view != state.view_first or self.configuration.vote_again_after_loss:
            self.shown_own(view, "a VIEW-CHANGE")

    def hear(self, validator: bytes) -> None:
        state = self.state
        heard = state.heard.get(validator)
        if heard is not None:
            heard.last_ms = state.now.monotonic_ms
        elif validator in state.others:
            state.heard[validator] = Heard(state.now.monotonic_ms)

    def begin_record(self, view_first: int) -> None:
        """From here on this key may sign: above the committed height, and from `view_first` on in this epoch."""
        state = self.state
        state.silence = None
        state.floor = state.committed
        state.view_first = view_first
        self.recording = True
        self.compact()

    def send(self, peer: bytes, message: Message) -> None:
        if peer != self.configuration.own:
            self.effects.append(Send(peer, message))

    def broadcast(self, message: Message) -> None:
        if self.state.others:
            self.effects.append(Broadcast(message))


def fresh_state(configuration: Configuration, tip: Tip, now: Now) -> State:
    """The state at a committed block, before any record or message says more."""
    base = tip.next_epoch.number - 1
    return State(
        configuration,
        now,
        tip,
        Work(0, None),
        base=base,
        fresh_above=base,
        view_since_ms=now.monotonic_ms,
        transactions_max=max(1, tip.next_epoch.parameters.block_transactions_max),
    )

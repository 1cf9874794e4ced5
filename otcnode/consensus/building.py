"""When the primary builds a block, and with what limits. Pure: a verdict from the state."""

from __future__ import annotations

from otcnode import limits
from otcnode.codec import Record
from otcnode.consensus.messages import Mode
from otcnode.consensus.state import State, Told
from otcnode.types import BlockHash


class Plan(Record, frozen=True):
    """A block to build now."""

    height: int
    parent: BlockHash
    time_ms: int
    empty_allowed: bool
    wakes: bool
    """Built only for the sake of a silent validator."""


class Later(Record, frozen=True):
    """Nothing to build before this ledger time (None: before something else happens), and why."""

    at_ms: int | None
    reason: str


def plan(state: State) -> Plan | Later:
    """Build when transactions wait, a ledger item is due, the heartbeat passed, or a silent validator is to be woken;
    on the highest accepted block, which must be executed here; at most `window` heights in flight."""
    obstacle = _obstacle(state)
    if obstacle is not None:
        return Later(None, obstacle)
    head = state.head()
    parent_hash = state.tip.block_hash if head is None else state.accepted[head.height]
    parent_ms = state.tip.time_ms if head is None else head.time_ms
    height = (state.committed if head is None else head.height) + 1
    clock_ms = state.now.ledger_ms
    time_ms = max(clock_ms, parent_ms + 1)
    earliest_ms = _earliest_ms(state, parent_ms)
    if earliest_ms > clock_ms:
        return Later(earliest_ms, f"the parent's time is {(parent_ms - clock_ms) / 1000:.1f} s ahead of the clock")
    beat = _heartbeat_ms(state, parent_ms) <= clock_ms
    if _transactions_wait(state) or _is_due(state, time_ms):
        return Plan(height, parent_hash, time_ms, empty_allowed=beat, wakes=False)
    if beat:
        return Plan(height, parent_hash, time_ms, empty_allowed=True, wakes=False)
    return _plan_wake(state, height, parent_hash, parent_ms, time_ms)


def _plan_wake(state: State, height: int, parent: BlockHash, parent_ms: int, time_ms: int) -> Plan | Later:
    next_ms = _heartbeat_ms(state, parent_ms)
    if state.work.next_due_ms is not None and state.head() is None:
        next_ms = min(next_ms, state.work.next_due_ms)
    if to_wake(state) or told_to_wake(state):
        wake_ms = parent_ms + state.configuration.wake_interval_ms
        if wake_ms <= time_ms:
            return Plan(height, parent, time_ms, empty_allowed=True, wakes=True)
        next_ms = min(next_ms, wake_ms)
    return Later(next_ms, "nothing waits, nothing is due and the heartbeat has not passed")


def _obstacle(state: State) -> str | None:
    """Why this replica cannot propose now, whatever waits."""
    if state.own != state.primary:
        return "another replica is the primary"
    if not state.active or not state.may_sign(state.view):
        return "this replica does not sign in this view"
    head = state.head()
    height = (state.committed if head is None else head.height) + 1
    if height <= state.fresh_above:
        return "the re-proposals of the view are not all accepted yet"
    if height > state.committed + state.window:
        return "the window is full"
    if height > rotation_height(state):
        return "the view has reached its rotation height"
    if (state.view, height) in state.own_prepares:
        # Another view decided the block below while this one was behind; this view's proposal died with its parent.
        return "this height was proposed in this view already, on a block that was not decided"
    if head is None:
        return None
    candidate = state.candidates[state.accepted[head.height]]
    if not candidate.executed:
        return "the block below is not executed yet"
    if candidate.next_epoch != state.epoch:
        return "the block below ends the epoch and is not committed yet"
    return None


def rotation_height(state: State) -> int:
    """The first height above the view's base at which the primary's turn ends."""
    blocks = state.parameters.rotation_blocks
    return (state.base // blocks + 1) * blocks


def _transactions_wait(state: State) -> bool:
    return state.work.waiting > state.transactions_in_flight


def _is_due(state: State, time_ms: int) -> bool:
    """With blocks in flight the builder, who sees their state, is asked only after them."""
    due_ms = state.work.next_due_ms
    return due_ms is not None and due_ms <= time_ms and not state.accepted


def _heartbeat_ms(state: State, parent_ms: int) -> int:
    return parent_ms + state.heartbeat_ms


def to_wake(state: State) -> list[bytes]:
    """The validators that are heard, say that they may not vote yet, and have not had all the blocks that are built for
    the sake of one: whoever says so for ever uses up its own."""
    return [
        name
        for name, heard in sorted(state.heard.items())
        if heard.status is not None
        and heard.status.mode is Mode.SILENT
        and state.is_heard(name)
        and state.woken.get(name, 0) < limits.wake_blocks_max
    ]


def told_to_wake(state: State) -> list[Told]:
    """Who passes on of whom that it may not vote yet, and is not heard here, as long as these two have not had all the
    blocks that are built for it: it may be an old word that is passed on, and it may be a liar's word of itself."""
    return [
        told
        for told, told_ms in sorted(state.told_of_silent_ms.items())
        if state.now.monotonic_ms - told_ms <= limits.hearing_ms_max
        and state.woken_as_told.get(told, 0) < limits.wake_blocks_max
    ]


def _earliest_ms(state: State, parent_ms: int) -> int:
    """The ledger clock at which a block may be proposed on one of this time: its own time is then far enough from what
    the others' clocks refuse."""
    return parent_ms + 1 - state.drift_ms // 2


def waits_rightly(state: State) -> bool:
    """Whether the primary must wait for the time of the last block, which another one gave: its proposer's clock may
    have been ahead, and a successor leaves nothing undone by that. Who made that block has no such excuse."""
    ahead = _earliest_ms(state, state.tip.time_ms) > state.now.ledger_ms
    return ahead and not state.accepted and state.committed <= state.fresh_above


def is_pending(state: State) -> bool:
    """What a primary must not leave undone: an accepted proposal or re-proposal uncommitted, or something to propose
    that need not wait. A primary that says it is silent leaves the others who are silent asleep, itself among them."""
    return bool(state.accepted) or (has_work(state) and not waits_rightly(state)) or is_primary_silent(state)


def is_primary_silent(state: State) -> bool:
    heard = state.heard.get(state.primary)
    says_so = heard is not None and heard.status is not None and heard.status.mode is Mode.SILENT
    return says_so and state.is_heard(state.primary)


def has_work(state: State) -> bool:
    """There is something to propose: a waiting transaction, a due item, or the heartbeat overdue by my clock."""
    clock_ms = state.now.ledger_ms
    due_ms = state.work.next_due_ms
    return (
        state.work.waiting > 0
        or (due_ms is not None and due_ms <= clock_ms)
        or _heartbeat_ms(state, state.tip.time_ms) <= clock_ms
    )

"""Why a replica does what it does, in words and as data: computed from its state, never from logs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum

from otcnode.codec import Record
from otcnode.consensus import building
from otcnode.consensus.events import Now
from otcnode.consensus.messages import Mode
from otcnode.consensus.state import State
from otcnode.consensus.votes import VoteBook
from otcnode.types import EpochNumber, Height, Milliseconds, Natural, NodeId, View


class PeerView(Record, frozen=True):
    """Another validator as this one knows it; None: never heard since the start."""

    validator: NodeId
    heard_ms_ago: Milliseconds | None
    mode: Mode | None
    view: View | None
    committed: Height | None


class HeightView(Record, frozen=True):
    """One height in flight: what is held and who is still missing. `refused` says why it is not accepted or voted."""

    height: Height
    block_hash: bytes | None
    bodies_missing: Natural
    executed: bool
    prepares: Natural
    commits: Natural
    prepares_missing: tuple[NodeId, ...]
    commits_missing: tuple[NodeId, ...]
    refused: str | None


class Inspection(Record, frozen=True):
    """The position of a replica, for node_status and the operator."""

    epoch: EpochNumber
    view: View
    mode: Mode
    primary: NodeId
    committed: Height
    base: Height
    floor: Height
    quorum: Natural
    timeout_steps: Natural
    transactions_max: Natural
    waiting: Natural
    heights: tuple[HeightView, ...]
    peers: tuple[PeerView, ...]


class Cause(StrEnum):
    """What a node waits for, or why it does not do its part."""

    HALTED = "halted"
    FOLLOWS = "follows"
    HELD_BACK = "record ahead of the store"
    SILENT = "silent"
    VIEW_CLOSED = "view closed"
    BEHIND = "behind"
    UNHEARD = "not heard"
    TIMER_HELD = "timer held"
    ASKED = "asked for a view"
    ASKING = "too few ask"
    NEW_VIEW = "no NEW-VIEW"
    BASE = "base not committed"
    REFUSED = "refused"
    BODIES = "bodies missing"
    EXECUTION = "not executed"
    PREPARE = "PREPARE missing"
    COMMIT = "COMMIT missing"
    NOTHING_PROPOSED = "proposes nothing"
    NO_PROPOSAL = "no proposal"


class Reason(Record, frozen=True):
    """One cause in words and as data. `nodes`: who is waited for, or whom it is about; `missing`: how many votes or
    bodies. Ids in `text` are shown by their first 12 hexadecimal digits."""

    cause: Cause
    text: str
    height: Height | None = None
    missing: Natural = 0
    nodes: tuple[NodeId, ...] = ()


class Explanation(Record, frozen=True):
    """`progressing`: nothing is pending, or a block was committed within the last view timeout."""

    inspection: Inspection
    progressing: bool
    causes: tuple[Reason, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """The causes in words, the most telling first."""
        return tuple(cause.text for cause in self.causes)


def inspect(state: State) -> Inspection:
    heights = range(state.committed + 1, state.committed + state.window + 1)
    views = (_height_view(state, height) for height in heights)
    return Inspection(
        state.epoch.number,
        state.view,
        state.mode,
        state.primary,
        state.committed,
        state.base,
        state.floor,
        state.epoch.quorum,
        state.timeout_steps,
        state.transactions_max,
        state.work.waiting,
        tuple(view for view in views if _is_known(state, view)),
        tuple(_peer_view(state, name) for name in state.others),
    )


def _is_known(state: State, view: HeightView) -> bool:
    return view.block_hash is not None or view.prepares > 0 or view.commits > 0 or view.refused is not None


def _height_view(state: State, height: int) -> HeightView:
    candidate = state.accepted_candidate(height)
    prepares = _voters(state.prepares, state, height)
    commits = _voters(state.commits, state, height)
    bodies_missing = 0
    if candidate is not None:
        bodies_missing = candidate.header.transaction_count - len(candidate.bodies)
    return HeightView(
        height,
        None if candidate is None else candidate.block_hash,
        bodies_missing,
        candidate is not None and candidate.executed,
        len(prepares),
        len(commits),
        tuple(name for name in state.epoch.validators if name not in prepares),
        tuple(name for name in state.epoch.validators if name not in commits),
        state.refusals.get(height),
    )


def _voters(book: VoteBook, state: State, height: int) -> list[bytes]:
    """Who voted in this view for the accepted block; for any block while none is accepted."""
    accepted = state.accepted.get(height)
    return [name for name, vote in book.in_view(height, state.view) if accepted in (None, vote.block_hash)]


def _peer_view(state: State, name: bytes) -> PeerView:
    heard = state.heard.get(name)
    if heard is None:
        return PeerView(name, None, None, None, None)
    ago_ms = state.now.monotonic_ms - heard.last_ms
    if heard.status is None:
        return PeerView(name, ago_ms, None, None, None)
    return PeerView(name, ago_ms, heard.status.mode, heard.status.view, heard.status.committed)


def explain(state: State, now: Now, view_timeout_ms: int) -> Explanation:
    """What this replica waits for, and why it does not do its own part if it does not."""
    state = replace(state, now=now)
    pending = building.is_pending(state)
    recent = now.monotonic_ms - state.last_commit_ms <= view_timeout_ms
    progressing = not pending or (recent and state.active)
    causes = [*_own_causes(state), *_hearing_causes(state)]
    if state.is_validator:
        causes.extend(_view_causes(state) if not state.active else _height_causes(state))
        causes.extend(_proposal_causes(state, pending))
    return Explanation(inspect(state), progressing, tuple(causes))


def _own_causes(state: State) -> Iterable[Reason]:
    if state.halted is not None:
        yield Reason(Cause.HALTED, f"this validator has stopped voting: {state.halted}")
    if not state.is_validator:
        yield Reason(Cause.FOLLOWS, "this node is not a validator of the current epoch: it follows and signs nothing")
    if state.record_held_back is not None:
        text = f"signs nothing: the store is at height {state.committed}, its voting record at {state.floor}"
        yield Reason(Cause.HELD_BACK, text, state.floor)
    silence = state.silence
    if silence is not None and state.is_validator:
        if silence.height is None:
            until = silence.since_ms + 2 * state.drift_ms
            text = f"silent: no intact voting record; waits for a block with a time after {until}"
            yield Reason(Cause.SILENT, text)
        else:
            height = silence.height + state.window
            text = f"silent: no intact voting record; votes again from height {height} on"
            yield Reason(Cause.SILENT, text, height)
        yield Reason(Cause.SILENT, "if a quorum has lost its records, start with --vote-again-after-loss")
    if state.mode in (Mode.ACTIVE, Mode.INACTIVE) and state.view < state.view_first:
        text = f"signs nothing below view {state.view_first}: a lost record may have voted there"
        yield Reason(Cause.VIEW_CLOSED, text)
    yield from _behind_causes(state)


def _behind_causes(state: State) -> Iterable[Reason]:
    ahead = [
        (heard.status.committed, name)
        for name, heard in sorted(state.heard.items())
        if heard.status is not None and heard.status.committed > state.committed and state.is_heard(name)
    ]
    if ahead and state.behind_since_ms is not None:
        height, name = max(ahead)
        waited_ms = state.now.monotonic_ms - state.behind_since_ms
        text = (
            f"behind: {short(name)} is at height {height}, this node at {state.committed} for {waited_ms / 1000:.1f} s"
        )
        yield Reason(Cause.BEHIND, text, height, nodes=(name,))


def _hearing_causes(state: State) -> Iterable[Reason]:
    silent = tuple(name for name in state.others if not state.is_heard(name))
    if not state.is_validator or not silent:
        return
    shown = ", ".join(_silent_name(state, name) for name in silent)
    yield Reason(Cause.UNHEARD, f"not heard: {shown}", nodes=silent)
    heard = len(state.others) - len(silent)
    needed = state.epoch.quorum - 1
    if heard < needed:
        text = f"hears {heard} others, a quorum needs {needed}: the view timer is held"
        yield Reason(Cause.TIMER_HELD, text, missing=needed - heard, nodes=silent)


def _silent_name(state: State, name: bytes) -> str:
    heard = state.heard.get(name)
    if heard is None:
        return f"{short(name)} (never heard)"
    return f"{short(name)} (silent {(state.now.monotonic_ms - heard.last_ms) / 1000:.1f} s)"


def _view_causes(state: State) -> Iterable[Reason]:
    if state.new_view is not None:
        text = f"view {state.view}: waits to commit its base {state.base}, is at {state.committed}"
        yield Reason(Cause.BASE, text, state.base)
        return
    if state.asked_because:
        yield Reason(Cause.ASKED, f"asked for view {state.view}: {state.asked_because}")
    asking = [name for name in state.epoch.validators if _asks(state, name)]
    missing = tuple(name for name in state.epoch.validators if name not in asking)
    if len(asking) < state.epoch.quorum:
        text = (
            f"view {state.view}: {len(asking)} of {state.epoch.quorum} ask for it or higher; "
            f"missing {', '.join(_voter(state, name) for name in missing)}"
        )
        yield Reason(Cause.ASKING, text, missing=state.epoch.quorum - len(asking), nodes=missing)
    else:
        text = f"view {state.view}: waits for NEW-VIEW from its primary {_voter(state, state.primary)}"
        yield Reason(Cause.NEW_VIEW, text, nodes=(state.primary,))


def _asks(state: State, name: bytes) -> bool:
    message = state.view_changes.get(name)
    return message is not None and message.view >= state.view


def _height_causes(state: State) -> Iterable[Reason]:
    for height in range(state.committed + 1, state.committed + state.window + 1):
        view = _height_view(state, height)
        where = f"height {height}, view {state.view}"
        if view.refused is not None:
            yield Reason(Cause.REFUSED, f"{where}: refused: {view.refused}", height, nodes=(state.primary,))
        if view.block_hash is None:
            continue
        if view.bodies_missing:
            text = f"{where}: waits for {view.bodies_missing} bodies"
            yield Reason(Cause.BODIES, text, height, view.bodies_missing)
        elif not view.executed:
            yield Reason(Cause.EXECUTION, f"{where}: waits for its execution or that of the block below", height)
        elif view.prepares < state.epoch.quorum:
            yield _missing_votes(state, height, Cause.PREPARE, "PREPARE", view.prepares, view.prepares_missing)
        elif view.commits < state.epoch.quorum:
            yield _missing_votes(state, height, Cause.COMMIT, "COMMIT", view.commits, view.commits_missing)


def _missing_votes(
    state: State, height: int, cause: Cause, kind: str, held: int, missing: tuple[NodeId, ...]
) -> Reason:
    names = ", ".join(_voter(state, name) for name in missing)
    needed = state.epoch.quorum - held
    where = f"height {height}, view {state.view}"
    text = f"{where}: waits for {needed} of {state.epoch.quorum} {kind}; missing {names}"
    return Reason(cause, text, height, needed, missing)


def _voter(state: State, name: bytes) -> str:
    if name == state.own:
        return f"{short(name)} (this node)"
    if not state.is_heard(name):
        return _silent_name(state, name)
    heard = state.heard[name]
    if heard.status is None:
        return short(name)
    mode = "" if heard.status.mode is Mode.ACTIVE else f", {heard.status.mode.name.lower()}"
    return f"{short(name)} (at height {heard.status.committed}, view {heard.status.view}{mode})"


def _proposal_causes(state: State, pending: bool) -> Iterable[Reason]:
    if not state.active or state.accepted:
        return
    if state.own == state.primary:
        verdict = building.plan(state)
        if isinstance(verdict, building.Later):
            yield Reason(Cause.NOTHING_PROPOSED, f"proposes nothing: {verdict.reason}")
    elif pending:
        text = f"waits for a proposal from the primary {short(state.primary)}"
        yield Reason(Cause.NO_PROPOSAL, text, state.committed + 1, nodes=(state.primary,))


def short(name: bytes) -> str:
    return name.hex()[:12]

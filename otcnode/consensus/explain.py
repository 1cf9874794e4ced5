"""Why a replica does what it does, in words and as data: computed from its state, never from logs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from enum import StrEnum
from typing import assert_never

from otcnode import limits
from otcnode.codec import Record
from otcnode.consensus import building
from otcnode.consensus.core import Core, Seen
from otcnode.consensus.events import Now
from otcnode.consensus.evidence import Kind, Offence
from otcnode.consensus.messages import Mode
from otcnode.consensus.resumed import Silence
from otcnode.consensus.silence import set_back_ms
from otcnode.consensus.state import Leaving, State
from otcnode.consensus.votes import VoteBook
from otcnode.types import EpochNumber, Height, Milliseconds, Natural, NodeId, View

OLD_LIE_MS = 10_000
"""After which it is said how long ago a lie was seen."""


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
    KEY_IN_USE = "key in use elsewhere"
    VIEW_CLOSED = "view closed"
    BEHIND = "behind"
    CLAIMED = "height claimed"
    UNHEARD = "not heard"
    TIMER_HELD = "timer held"
    PRIMARY_LIED = "primary lied"
    LIED = "validator lied"
    DIVIDED = "votes for another block"
    ASKED = "asked for a view"
    JOINED = "joined others"
    NEW_VIEW_REFUSED = "NEW-VIEW refused"
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
    """`progressing`: nothing is pending, or a block was committed within the shortest view timeout."""

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
        _refused(state, height),
    )


def _refused(state: State, height: int) -> str | None:
    """What is wrong with the block that this view's primary proposed. How a block executed that is not accepted in this
    view, which may be another primary's, says nothing of it."""
    candidate = state.accepted_candidate(height)
    if candidate is not None and candidate.fault is not None:
        return f"executes differently here: {candidate.fault}"
    return state.refusals.get(height)


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


def explain(core: Core, now: Now) -> Explanation:
    """What this replica waits for, and why it does not do its own part if it does not."""
    state = replace(core.state, now=now)
    pending = bool(state.accepted) or building.has_work(state)
    last_ms, patience_ms = state.last_commit_ms, state.configuration.view_timeout_ms_base
    recent = last_ms is not None and now.monotonic_ms - last_ms <= patience_ms
    progressing = not pending or (recent and state.active)
    causes = [*_own_causes(state), *_lie_causes(state, core.offences), *_hearing_causes(state)]
    if state.is_validator:
        causes.extend(_view_causes(state) if not state.active else _height_causes(state))
        causes.extend(_proposal_causes(core, state, pending))
    return Explanation(inspect(state), progressing, tuple(causes))


def _own_causes(state: State) -> Iterable[Reason]:
    if state.halted is not None:
        yield Reason(Cause.HALTED, f"this validator has stopped voting: {state.halted}")
    if not state.is_validator:
        yield Reason(Cause.FOLLOWS, "this node is not a validator of the current epoch: it follows and signs nothing")
    if state.record_held_back is not None:
        text = f"signs nothing: the store is at height {state.committed}, its voting record at {state.floor}"
        yield Reason(Cause.HELD_BACK, text, state.floor)
    if state.silence is not None:
        yield _silence_cause(state, state.silence)
        if not state.silence.shown and state.is_validator:
            yield Reason(Cause.SILENT, "if a quorum has lost its records, start with --vote-again-after-loss")
    if state.mode in (Mode.ACTIVE, Mode.INACTIVE) and state.view < state.view_first:
        text = f"signs nothing below view {state.view_first}: a lost record may have voted there"
        yield Reason(Cause.VIEW_CLOSED, text)
    yield from _behind_causes(state)


def _silence_cause(state: State, silence: Silence) -> Reason:
    kind, text = Cause.SILENT, "silent: no intact voting record"
    if silence.shown:
        kind, text = Cause.KEY_IN_USE, f"silent: {silence.shown} (a second process with its key?)"
    if silence.height is not None:
        height = silence.height + state.window
        return Reason(kind, f"{text}; votes again from height {height} on", height)
    rate = state.configuration.clock_rate
    ahead_ms = _ahead_of_last_block_ms(state)
    if silence.ahead_ms > state.now.ledger_ms:
        behind_ms = (silence.ahead_ms - state.now.ledger_ms) // rate
        text = f"{text}; its clock is behind: it committed a block that is {behind_ms / 1000:.1f} s ahead of it"
    elif (back_ms := set_back_ms(state, silence)) > state.drift_ms:
        text = (
            f"{text}; its clock was set back by {back_ms // rate / 1000:.1f} s since the silence began: if it is right "
            "now, start the node again, and the silence begins anew"
        )
    elif ahead_ms > 2 * state.drift_ms and state.behind_since_ms is None:
        text = (
            f"{text}; its clock seems to be ahead: it was {ahead_ms // rate / 1000:.1f} s past the time of the last "
            "block as that was committed; set it, and start the node again"
        )
    left_ms = (silence.not_before_ms + 2 * state.drift_ms - state.now.ledger_ms) // rate
    later = f" of a time {left_ms / 1000:.1f} s from now or later" if left_ms > 0 else ""
    return Reason(kind, f"{text}; waits for a block{later}")


def _ahead_of_last_block_ms(state: State) -> int:
    """How far this clock was past the time of the last block when that was committed here; 0: none was since the
    start. Ledger milliseconds."""
    if state.last_commit_ms is None:
        return 0
    passed_ms = (state.now.monotonic_ms - state.last_commit_ms) * state.configuration.clock_rate
    return state.now.ledger_ms - passed_ms - state.tip.time_ms


def _lie_causes(state: State, offences: Mapping[bytes, Mapping[Offence, Seen]]) -> Iterable[Reason]:
    """What was proved since the last commit or is of a height in flight; the latest of each kind. What explains no
    standstill of this view says how long ago it was seen: where nothing waits, the last commit may be long ago."""
    for name, seen in sorted(offences.items()):
        latest: dict[Kind, Offence] = {}
        for offence, found in sorted(seen.items(), key=lambda item: (item[0].view, item[0].height)):
            if found.committed == state.committed or offence.height > state.committed:
                latest[offence.kind] = offence
        for kind, offence in sorted(latest.items()):
            place = f"height {offence.height}, view {offence.view}" if offence.height else f"view {offence.view}"
            text = f"{short(name)} is proved to lie: {kind} of {place}"
            height = offence.height or None
            if _misleads(state, offence):
                yield Reason(Cause.PRIMARY_LIED, text, height, nodes=(name,))
                continue
            ago_ms = (state.now.ledger_ms - seen[offence].ledger_ms) // state.configuration.clock_rate
            old = f", seen {ago_ms // 1000} s ago" if ago_ms >= OLD_LIE_MS else ""
            yield Reason(Cause.LIED, text + old, height, nodes=(name,))


def _misleads(state: State, offence: Offence) -> bool:
    """Whether the primary of this view did it, or that of the view before while this one is not open: an open view owes
    nothing to the one before."""
    leads = offence.validator == state.epoch.primary(offence.view)
    here = offence.view >= state.view or (offence.view + 1 == state.view and not state.active)
    return leads and here and offence.kind in (Kind.DOUBLE_PRE_PREPARE, Kind.INVALID_NEW_VIEW)


def _behind_causes(state: State) -> Iterable[Reason]:
    """What f + 1 validators say they have committed is committed, for one of them is honest; of what fewer say nobody
    knows."""
    claims = [
        (heard.status.committed, name)
        for name, heard in state.heard.items()
        if heard.status is not None and heard.status.committed > state.committed and state.is_heard(name)
    ]
    if not claims or state.behind_since_ms is None:
        return
    claims.sort(reverse=True)
    enough = len(claims) >= state.epoch.weak_quorum
    height, name = claims[state.epoch.weak_quorum - 1 if enough else 0]
    waited_ms = state.now.monotonic_ms - state.behind_since_ms
    here = f"height {height}, this node at {state.committed} for {waited_ms / 1000:.1f} s"
    if enough:
        yield Reason(Cause.BEHIND, f"behind: {short(name)} is at {here}", height, nodes=(name,))
    else:
        yield Reason(Cause.CLAIMED, f"only {short(name)} says that it is at {here}", height, nodes=(name,))


def _hearing_causes(state: State) -> Iterable[Reason]:
    silent = tuple(name for name in state.others if not state.is_heard(name))
    if not state.is_validator or not silent:
        return
    shown = ", ".join(_silent_name(state, name) for name in silent)
    yield Reason(Cause.UNHEARD, f"not heard: {shown}", nodes=silent)
    heard = len(state.others) - len(silent)
    needed = state.epoch.quorum - 1
    if not state.may_form_quorum:
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
        yield _leaving_cause(state)
    if state.refused:
        text = f"view {state.view}: the NEW-VIEW from {short(state.primary)} is invalid: {state.refused}"
        yield Reason(Cause.NEW_VIEW_REFUSED, text, nodes=(state.primary,))
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


def _leaving_cause(state: State) -> Reason:
    asked = f"asked for view {state.view}: "
    match state.asked_on:
        case Leaving.JUDGEMENT:
            return Reason(Cause.ASKED, asked + state.asked_because)
        case Leaving.JOINED:
            return Reason(Cause.JOINED, asked + state.asked_because)
        case Leaving.REFUSED:
            primary = state.epoch.primary(state.view - 1)
            refused = f"the NEW-VIEW of view {state.view - 1} from {short(primary)} is invalid: {state.asked_because}"
            return Reason(Cause.NEW_VIEW_REFUSED, asked + refused, nodes=(primary,))
        case _:
            assert_never(state.asked_on)


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
        yield from _divided_causes(state, height, view.block_hash)
        if view.bodies_missing:
            count = view.bodies_missing
            text = f"{where}: waits for {count} {'body' if count == 1 else 'bodies'}"
            yield Reason(Cause.BODIES, text, height, view.bodies_missing)
        elif not view.executed:
            if view.refused is None:
                yield Reason(Cause.EXECUTION, f"{where}: waits for its execution or that of the block below", height)
        elif view.prepares < state.epoch.quorum:
            yield _missing_votes(state, height, Cause.PREPARE, "PREPARE", view.prepares, view.prepares_missing)
        elif view.commits < state.epoch.quorum:
            yield _missing_votes(state, height, Cause.COMMIT, "COMMIT", view.commits, view.commits_missing)


def _divided_causes(state: State, height: int, accepted: bytes) -> Iterable[Reason]:
    """An honest validator votes for what the primary proposed to it: if these do, the primary proposed two blocks."""
    votes = [*state.prepares.in_view(height, state.view), *state.commits.in_view(height, state.view)]
    others = tuple(sorted({name for name, vote in votes if vote.block_hash != accepted and name != state.own}))
    if others:
        where = f"height {height}, view {state.view}"
        names = " and ".join(map(short, others))
        text = f"{where}: accepted another block from the primary {short(state.primary)} than {names} voted for"
        yield Reason(Cause.DIVIDED, text, height, nodes=(state.primary, *others))


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
    ago_ms = state.now.monotonic_ms - heard.last_ms
    silent = "" if ago_ms < 2 * limits.status_interval_ms else f", silent {ago_ms / 1000:.1f} s"
    return f"{short(name)} (at height {heard.status.committed}, view {heard.status.view}{mode}{silent})"


def _proposal_causes(core: Core, state: State, pending: bool) -> Iterable[Reason]:
    if not state.active or state.accepted:
        return
    if state.own == state.primary:
        verdict = building.plan(state)
        if isinstance(verdict, building.Later):
            yield Reason(Cause.NOTHING_PROPOSED, f"proposes nothing: {verdict.reason}")
        elif core.builder_had_nothing:
            yield Reason(Cause.NOTHING_PROPOSED, "proposes nothing: nothing that waits can go into a block now")
        else:
            yield Reason(Cause.NOTHING_PROPOSED, "proposes nothing yet: its block is being built")
    elif pending and state.committed + 1 not in state.refusals:
        text = f"waits for a proposal from the primary {_voter(state, state.primary)}"
        if building.waits_rightly(state):
            ahead_ms = state.tip.time_ms - state.now.ledger_ms
            text += f", who waits: the last block's time is {ahead_ms / 1000:.1f} s ahead of the clock here"
        yield Reason(Cause.NO_PROPOSAL, text, state.committed + 1, nodes=(state.primary,))


def short(name: bytes) -> str:
    return name.hex()[:12]

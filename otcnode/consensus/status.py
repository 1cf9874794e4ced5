"""STATUS: what a replica says of itself, and what it sends to a peer whose STATUS shows that it lacks something.

Whatever a peer lacks is sent by whoever holds it, other validators' messages too, so that a cut link heals through a
third node. A STATUS is a hint and never a vote.
"""

from __future__ import annotations

from collections.abc import Iterator

from otcnode import limits
from otcnode.consensus.messages import (
    Commit,
    HeightStatus,
    Message,
    Mode,
    Prepare,
    Status,
)
from otcnode.consensus.state import State
from otcnode.consensus.votes import absent, bitmap


def own_status(state: State) -> Status:
    """What this replica would say now; the signature is put in by the caller."""
    assert state.own is not None
    validators = state.epoch.validators
    threshold = wanted_view(state.view, state.mode)
    holders = [name for name, message in state.view_changes.items() if message.view >= threshold]
    if state.silence is not None and state.silence.view_seen >= threshold - 1:
        holders.append(state.own)
    return Status(
        state.epoch.number,
        state.view,
        state.mode,
        state.committed,
        tuple(_height_status(state, height) for height in range(state.committed + 1, _last_in_flight(state) + 1)),
        bitmap(validators, holders),
        state.own,
        bytes(64),
    )


def wanted_view(view: int, mode: Mode) -> int:
    """The lowest view whose VIEW-CHANGEs are news to a replica in `view`: its own where it waits for it to open."""
    return view if mode is Mode.INACTIVE else view + 1


def _last_in_flight(state: State) -> int:
    known = [*state.accepted, *state.prepares.heights(), *state.commits.heights(), state.committed]
    return min(max(known), state.committed + state.window)


def _height_status(state: State, height: int) -> HeightStatus:
    validators = state.epoch.validators
    candidate = state.accepted_candidate(height)
    return HeightStatus(
        height,
        None if candidate is None else candidate.block_hash,
        candidate is not None and candidate.complete,
        bitmap(validators, [name for name, _ in state.prepares.in_view(height, state.view)]),
        bitmap(validators, [name for name, _ in state.commits.in_view(height, state.view)]),
    )


def height_messages_max(state: State) -> int:
    """As many as a peer can lack of a window: the proposal, and a PREPARE and a COMMIT of each validator."""
    return state.window * (1 + 2 * len(state.epoch.validators))


def height_messages(state: State, status: Status) -> Iterator[Message]:
    """What I hold for heights above both, and the sender of `status`, in my epoch, does not."""
    if not state.waiting and state.prepares.is_empty and state.commits.is_empty:
        return
    shown = {entry.height: entry for entry in status.heights}
    first = max(state.committed, status.committed) + 1
    for height in range(first, min(state.committed, status.committed) + state.window + 1):
        yield from _height_messages(state, status, height, shown.get(height))


def undecided(state: State, status: Status) -> Iterator[int]:
    """Heights that the sender of `status` has in flight and whose certificates it lacks, once their COMMITs had time to
    arrive. Who is further behind syncs blocks, and these certificates with them."""
    if state.committed - status.committed > limits.decisions_behind_max:
        return
    for height in range(status.committed + 1, min(state.committed, status.committed + state.window) + 1):
        if state.is_decided_long(height):
            yield height


def view_messages(state: State, status: Status) -> Iterator[Message]:
    """The VIEW-CHANGEs and the NEW-VIEW that I hold and the sender of `status`, in my epoch, lacks."""
    if not state.view_changes and state.new_view is None:
        return
    waits = status.mode is Mode.INACTIVE
    threshold = wanted_view(status.view, status.mode)
    missing = absent(state.epoch.validators, status.view_changes) if state.view_changes else ()
    for validator in missing:
        message = state.view_changes.get(validator)
        # Who is silent does not know what it asked for before.
        theirs = validator == status.validator and status.mode is not Mode.SILENT
        if message is not None and message.view >= threshold and not theirs:
            yield message
    # It may hold older ones than these of the same validators.
    for validator in sorted(state.view_changes) if waits or _is_left_behind(state, status) else ():
        message = state.view_changes[validator]
        held = validator not in missing
        if held and message.view > threshold and validator != status.validator:
            yield message
    opened = state.new_view
    if opened is not None and (opened.view > status.view or (opened.view == status.view and waits)):
        yield opened


def _is_left_behind(state: State, status: Status) -> bool:
    """Whether f + 1 others ask for views above that of the sender of `status`, and so an honest one: it would have
    joined them if it could sign, and whoever does not may yet be the only link between those who do."""
    above = [name for name, message in state.view_changes.items() if message.view > status.view]
    return len([name for name in above if name != status.validator]) >= state.epoch.weak_quorum


def _height_messages(state: State, status: Status, height: int, shown: HeightStatus | None) -> Iterator[Message]:
    if _is_young(state, height):
        return
    validators = state.epoch.validators
    proposal = state.waiting.get((state.epoch.primary(status.view), height))
    has_proposal = shown is not None and shown.block_hash is not None
    if proposal is not None and proposal.view == status.view and not has_proposal:
        yield proposal
    epoch, view = state.epoch.number, status.view
    prepares, commits = (b"", b"") if shown is None else (shown.prepares, shown.commits)
    for name, vote in state.prepares.lacking(height, view, validators, prepares):
        yield Prepare(epoch, view, height, vote.block_hash, name, vote.signature)
    for name, vote in state.commits.lacking(height, view, validators, commits):
        yield Commit(epoch, view, height, vote.block_hash, name, vote.signature)


def _is_young(state: State, height: int) -> bool:
    candidate = state.accepted_candidate(height)
    return candidate is not None and state.now.monotonic_ms - candidate.since_ms < limits.resend_after_ms


def commit_message(state: State, height: int, view: int, validator: bytes) -> Commit | None:
    vote = state.commits.get(height, validator, view)
    if vote is None:
        return None
    return Commit(state.epoch.number, view, height, vote.block_hash, validator, vote.signature)

"""Committed blocks and what follows from each: forgetting, patience, rotation, epochs, the end of silence."""

from __future__ import annotations

from typing import TypeVar

from msgspec.structs import replace

from otcnode import limits
from otcnode.blocks import Header
from otcnode.consensus import harvest, memory, patience, record, silence, view_changing
from otcnode.consensus.certificates import certificate_from
from otcnode.consensus.core import Core, fresh_state
from otcnode.consensus.effects import Commit as CommitBlock
from otcnode.consensus.events import Tip

T = TypeVar("T")


def commit_next(core: Core) -> bool:
    """Committed: a certificate, and everything below committed, whatever this replica's own phase was."""
    state = core.state
    height = state.committed + 1
    certificate = state.certificates.get(height) or certificate_from(state.commits, state.epoch, height)
    if certificate is None or state.halted is not None or not state.is_validator:
        return False
    state.certificates[height] = certificate
    candidate = state.candidates.get(certificate.block_hash)
    if candidate is None:
        return False
    if candidate.header.parent != state.tip.block_hash:
        core.halt(f"certified block {height} does not extend the committed one")
        return False
    if candidate.fault is not None:
        core.halt(f"certified block {height} executes differently here: {candidate.fault}")
        return False
    if not candidate.executed or candidate.next_epoch is None:
        return False
    core.effects.append(CommitBlock(candidate.header, certificate))
    if candidate.in_flight is not None and state.accepted.get(height) == candidate.block_hash:
        took_ms = state.now.monotonic_ms - candidate.since_ms
        core.latency.note(candidate.in_flight, took_ms, patience.view_timeout_ms(core))
    header = candidate.header
    tip = Tip(height, candidate.block_hash, header.time_ms, certificate, candidate.next_epoch)
    committed(core, tip, header)
    return True


def synced(core: Core, tip: Tip) -> None:
    """Block sync brought the next block. Its certificate tells as much as one that comes in a decision: an own COMMIT
    that the record lacks shows that this record is not the whole truth (an older copy was put back)."""
    if tip.certificate is not None:
        harvest.from_certificate(core, tip.certificate)
    committed(core, tip, None)


def committed(core: Core, tip: Tip, header: Header | None) -> None:
    """What follows from a durable block; `header` is None where block sync brought it."""
    state = core.state
    former_epoch = state.epoch
    state.advance(tip)
    state.last_commit_ms = state.now.monotonic_ms
    state.behind_since_ms = None
    core.view_deadline_ms = None
    core.builder_had_nothing = False
    state.committed_ms[tip.height] = state.now.monotonic_ms
    if header is None:
        core.building = None
    _forget_through(core, tip.height)
    _grow_patience_back(core, header)
    silence.observe_commit(state, former_epoch)
    if tip.next_epoch.number != former_epoch.number:
        _begin_epoch(core)
        return
    if core.recording:
        state.floor = tip.height
        if not core.compact_if_long():
            core.save(record.Floored(tip.height))


def _forget_through(core: Core, height: int) -> None:
    state = core.state
    state.prepares.forget_through(height)
    state.commits.forget_through(height)
    forget_heights(state.accepted, height)
    forget_heights(state.reproposals, height)
    forget_heights(state.proofs, height)
    forget_heights(state.certificates, height)
    forget_heights(state.refusals, height)
    forget_heights(state.committed_ms, height - limits.commit_times_kept)
    for key in [key for key in state.waiting if key[1] <= height]:
        del state.waiting[key]
    for name in [name for name, candidate in state.candidates.items() if candidate.height <= height]:
        del state.candidates[name]
    for prepare_key in [key for key in state.own_prepares if key[1] <= height]:
        del state.own_prepares[prepare_key]
    for commit_key in [key for key in state.own_commits if key[1] <= height]:
        del state.own_commits[commit_key]
    memory.drop_broken_chain(state)


def _grow_patience_back(core: Core, header: Header | None) -> None:
    state = core.state
    state.blocks_since_step += 1
    if state.blocks_since_step >= limits.blocks_per_timeout_step:
        state.blocks_since_step = 0
        state.timeout_steps = max(0, state.timeout_steps - 1)
    most = max(1, state.parameters.block_transactions_max)
    state.transactions_max = min(most, state.transactions_max * 2)
    if header is not None and header.transaction_count:
        state.woken.clear()
        state.woken_as_told.clear()


def rotate(core: Core) -> bool:
    """At a height divisible by `rotation_blocks` the primary's turn ends, patience unchanged. A conclusion like any
    other, so that a process that died between the block and this comes to it at its start."""
    state = core.state
    if not state.active or state.base >= state.committed or state.committed % state.parameters.rotation_blocks != 0:
        return False
    if not state.may_sign(state.view + 1) or state.view + 1 >= limits.view_max:
        return False
    view_changing.ask_for(core, state.view + 1, f"the primary's turn ended at height {state.committed}")
    return True


def _begin_epoch(core: Core) -> None:
    """Views, votes and VIEW-CHANGEs of the epoch that ended are void; the new one starts active in view 0."""
    former = core.state
    fresh = fresh_state(core.configuration, former.tip, former.now)
    fresh.work, fresh.last_commit_ms = former.work, former.last_commit_ms
    fresh.halted = former.halted
    fresh.silence = former.silence
    fresh.record_held_back = former.record_held_back
    fresh.floor = max(former.floor, former.tip.height) if core.recording else former.floor
    fresh.committed_ms = former.committed_ms
    fresh.heard = {name: heard for name, heard in former.heard.items() if name in fresh.epoch.validators}
    if fresh.silence is not None:
        fresh.silence = replace(fresh.silence, view_seen=-1)
    core.state = fresh
    core.building = None
    core.offences.clear()
    core.large_offences.clear()
    core.view_changes_checked.clear()
    core.urgent_taken.clear()
    core.epoch_answers.clear()
    core.decisions_sent.clear()
    core.view_answers.clear()
    core.resent.clear()
    core.silent_told.clear()
    if core.recording:
        core.compact()


def wake(core: Core) -> bool:
    if core.state.silence is None or not silence.may_end(core.state):
        return False
    core.begin_record(silence.view_first(core.state))
    return True


def forget_heights(collection: dict[int, T], height: int) -> None:
    """Drop what belongs to heights up to `height`."""
    for old in [known for known in collection if known <= height]:
        del collection[old]

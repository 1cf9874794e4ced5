"""The primary's part: asking the shell for a block, and proposing it."""

from __future__ import annotations

from otcnode.blocks import Header, prepare_preimage
from otcnode.consensus import building, memory, voting
from otcnode.consensus.core import Core
from otcnode.consensus.effects import Build, SetTimer
from otcnode.consensus.events import Built, Timer
from otcnode.consensus.messages import Prepare, PrePrepare


def build(core: Core) -> None:
    if core.building is not None or core.builder_had_nothing:
        return
    plan = building.plan(core.state)
    if isinstance(plan, building.Later):
        _set_build_timer(core, voting.acceptable_ms(core.state) if plan.at_ms is None else plan.at_ms)
        return
    most = timely_max(core)
    in_flight = core.state.transactions_in_flight
    full = core.latency.full_within(execution_ms_max(core), core.configuration.view_timeout_ms_base)
    if in_flight and in_flight + min(most, core.state.work.waiting - in_flight) > 2 * full:
        # All that is in flight is worked on at once. The next commit asks again.
        return
    core.request += 1
    if plan.wakes:
        for silent in building.to_wake(core.state):
            core.state.woken[silent] = core.state.woken.get(silent, 0) + 1
        for told in building.told_to_wake(core.state):
            core.state.woken_as_told[told] = core.state.woken_as_told.get(told, 0) + 1
    most = min(core.state.transactions_max, most)
    core.building = Build(core.request, plan.height, plan.parent, plan.time_ms, most, plan.empty_allowed)
    core.effects.append(core.building)


def execution_ms_max(core: Core) -> int:
    """How long executing a block may take where it is built: a quarter of the shortest view timeout, in real ms."""
    return core.configuration.view_timeout_ms_base // 4


def timely_max(core: Core) -> int:
    """Transactions that a block may hold so that executing it here, and what the others have to do with it, take a
    quarter of the view timeout each, going by the last ones."""
    work_ms, limit_ms = execution_ms_max(core), core.configuration.view_timeout_ms_base
    most = min(core.state.parameters.block_transactions_max, core.latency.most_within(work_ms, limit_ms))
    executable = core.pace.most_within(work_ms)
    return most if executable is None else min(most, executable)


def _set_build_timer(core: Core, at_ms: int | None) -> None:
    """`at_ms` is ledger time."""
    if at_ms == core.build_timer_ms:
        return
    core.build_timer_ms = at_ms
    delay_ms = None
    if at_ms is not None:
        delay_ms = max(1, core.configuration.real_ms(at_ms - core.state.now.ledger_ms))
    core.effects.append(SetTimer(Timer.BUILD, delay_ms))


def built(core: Core, event: Built) -> None:
    state, request = core.state, core.building
    if request is None or event.request != request.request:
        return
    core.building = None
    header = event.header
    if header is None:
        core.builder_had_nothing = True
        return
    core.pace.note(header.transaction_count, event.took_ms)
    head = state.head()
    parent = state.tip.block_hash if head is None else state.accepted[head.height]
    if header.parent != parent or not state.active or not state.may_sign(state.view):
        return
    _propose(core, header, event)


def _propose(core: Core, header: Header, event: Built) -> None:
    """The own PRE-PREPARE, which is the primary's PREPARE."""
    state = core.state
    assert state.own == state.primary and (state.view, header.height) not in state.own_prepares
    candidate = memory.remember_candidate(state, header)
    candidate.entries = event.entries
    candidate.bodies = dict(enumerate(event.bodies))
    candidate.searched = candidate.executing = candidate.executed = True
    candidate.next_epoch = event.next_epoch
    candidate.since_ms = state.now.monotonic_ms
    state.accepted[header.height] = candidate.block_hash
    candidate.in_flight = state.transactions_in_flight
    memory.forget_candidates(core.state, header.height)
    epoch, view, name = state.epoch.number, state.view, candidate.block_hash
    signature = core.sign(prepare_preimage(core.configuration.chain, epoch, view, header.height, name))
    memory.remember_own_vote(state, Prepare(epoch, view, header.height, name, state.own, signature))
    message = PrePrepare(epoch, view, header, event.entries, signature)
    state.waiting[(state.own, header.height)] = message
    voting.record_acceptance(core, candidate)
    core.broadcast(message)

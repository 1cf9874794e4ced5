"""Watches the primary of the view on behalf of those who wait: pushes what it may not know of, and tells the replica
when it leaves transactions out (consensus/inclusion.py) or is slow (consensus/throughput.py)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from otcnode import limits
from otcnode.blocks import ConsensusParameters, Entry, Header, block_hash
from otcnode.chain import Speculation
from otcnode.codec import encode
from otcnode.consensus import building, proposing
from otcnode.consensus.events import Complaint
from otcnode.consensus.inclusion import InclusionWatch, Proposed
from otcnode.consensus.messages import Urgent
from otcnode.consensus.replica import Replica
from otcnode.consensus.throughput import Throughput
from otcnode.engine.flight import Flight
from otcnode.engine.host import Host
from otcnode.engine.intake import Intake
from otcnode.errors import Inadmissible
from otcnode.p2p.framing import Channel
from otcnode.vm.transactions import Decoded

SCAN_MS = 500
"""Between looks for transactions that have waited too long."""
BLIND_MS = 60_000
"""After the last transaction that had no room here, when others came is not known well enough."""
NEWCOMER_MS = 300_000
"""In which a full pool of 50,000 gets into blocks at 167 a second: what others held when this process began is gone."""
AWAY_AGAIN_MS = 60_000
"""Within which this node seems to be away once: what it pushed just before may be lost."""
SLOWER_MAX = 4
"""How many times slower than this node an honest primary may be."""
STANDSTILL_MS = 1_000
"""A tick that comes so late says that this process stood still: what it measured is about itself."""


class _Proposal(NamedTuple):
    height: int
    since_ms: int
    youngest_ms: int | None
    holds_unseen: bool


class PrimaryWatch:
    """Told by the engine what is proposed and committed; asked at every tick for a complaint."""

    def __init__(self, replica: Replica, intake: Intake, flight: Flight, host: Host) -> None:
        self._replica = replica
        self._intake = intake
        self._flight = flight
        self._host = host
        self._began_ms = host.now().monotonic_ms
        self._view: tuple[int, int] | None = None
        self._inclusion = InclusionWatch()
        self._throughput = Throughput()
        self._proposals: dict[bytes, _Proposal] = {}
        self._passed_over: list[tuple[bytes, str]] = []
        self._away_ms: int | None = None
        """When this node last seemed to have been away."""
        self._ticked_ms = 0
        self._scanned_ms = 0

    def proposed(self, header: Header, entries: Sequence[Entry]) -> None:
        """A proposal is about to be executed here."""
        name = block_hash(header)
        most = self._replica.state.window + limits.blocks_in_flight_kept
        if self._view is None or name in self._proposals or len(self._proposals) >= most:
            return
        seen = [self._intake.seen_ms(entry) for entry in entries]
        known = [seen_ms for seen_ms in seen if seen_ms is not None]
        self._proposals[name] = _Proposal(
            header.height, self._host.now().monotonic_ms, max(known, default=None), len(known) < len(seen)
        )

    def synced(self, speculation: Speculation, view: int) -> None:
        """A block came by sync, before the pool forgets what it holds. Where its proposal had come, it is judged like
        any other. Else this node may have been away; but a primary can make it seem so, by keeping a proposal from one
        validator after the other: so only from time to time is what it owes to those who wait forgotten for that."""
        now_ms = self._host.now().monotonic_ms
        if speculation.block_hash in self._proposals:
            self.committed(speculation, view)
        elif self._away_ms is None or now_ms - self._away_ms >= AWAY_AGAIN_MS:
            self._away_ms = now_ms
            self._restart(now_ms)
        else:
            self._throughput.synced(*self._pace_of(speculation, now_ms))
            self._forget_proposals(speculation.header.height)
            self._inclusion.ended(entry.id for entry in speculation.entries)
            self._passed_over = []

    def _forget_proposals(self, height: int) -> None:
        """What lost against a committed block takes no room any more: else who proposes often enough is never judged
        again."""
        self._proposals = {name: left for name, left in self._proposals.items() if left.height > height}

    def _pace_of(self, speculation: Speculation, now_ms: int) -> tuple[int, int, int]:
        """Its operations, its transactions, and how long these waited here, all together."""
        seen = [self._intake.pool.seen_ms(entry.id) for entry in speculation.entries]
        operations = sum(len(decoded.transaction.body.operations) for decoded in speculation.transactions)
        return operations, len(seen), sum(now_ms - seen_ms for seen_ms in seen if seen_ms is not None)

    def committed(self, speculation: Speculation, view: int) -> None:
        """Before the pool forgets what the block holds."""
        header = speculation.header
        self._passed_over = []
        now_ms = self._host.now().monotonic_ms
        self._throughput.committed(*self._pace_of(speculation, now_ms))
        proposal = self._proposals.get(speculation.block_hash)
        self._forget_proposals(header.height)
        if speculation.result.is_behind:
            # what is due goes first: nobody may put a transaction into this block
            self._throughput.restart(now_ms)
            return
        if proposal is None or self._view is None or self._view[1] != view:
            self._inclusion.ended(entry.id for entry in speculation.entries)
            return
        is_blind = self._is_blind(now_ms)
        block = Proposed(
            {entry.id for entry in speculation.entries},
            proposal.since_ms,
            self._has_room(header, sum(len(decoded.raw) for decoded in speculation.transactions)),
            None if is_blind else proposal.youngest_ms,
            proposal.holds_unseen and not is_blind,
        )
        self._passed_over = self._inclusion.committed(block, self._timeout_ms)

    def judged(self) -> Complaint | None:
        """After the block is final: whether one it passed over is overdue."""
        in_flight = self._ids_in_flight() if self._passed_over else ()
        for transaction, reason in self._passed_over:
            decoded = self._intake.pool.get(transaction)
            if decoded is None or not self._is_admissible(decoded):
                self._inclusion.ended([transaction])
            elif transaction not in in_flight:
                return self._complain(f"transaction {transaction.hex()[:12]} is overdue: the primary proposed {reason}")
        return None

    def tick(self) -> Complaint | None:
        """Several times a second."""
        now_ms = self._host.now().monotonic_ms
        late = now_ms - self._ticked_ms > STANDSTILL_MS
        self._ticked_ms = now_ms
        state = self._replica.state
        view = (state.epoch.number, state.view) if state.active and state.is_validator else None
        if view != self._view:
            self._view = view
            self._throughput.enter(now_ms, len(state.epoch.validators))
            self._restart(now_ms)
        elif late:
            self._restart(now_ms)
        if view is None:
            return None
        if building.waits_rightly(state):
            self._throughput.restart(now_ms)
        slow = self._throughput.look(now_ms, len(self._intake.pool), state.transactions_in_flight)
        if state.own == state.primary:
            return None
        if now_ms - self._scanned_ms >= SCAN_MS:
            self._scanned_ms = now_ms
            self._push(state.primary, now_ms)
        return None if slow is None else self._complain(f"its primary is slow: {slow}")

    def _restart(self, now_ms: int) -> None:
        self._inclusion.restart(now_ms)
        self._throughput.restart(now_ms)
        self._proposals.clear()
        self._passed_over = []

    def _complain(self, reason: str) -> Complaint:
        assert self._view is not None
        return Complaint(self._view[0], self._view[1], reason)

    def _push(self, primary: bytes, now_ms: int) -> None:
        if not self._replica.state.is_heard(primary):
            return
        chosen = self._inclusion.to_push(self._unproposed(), now_ms, self._timeout_ms)
        bodies = [self._intake.pool.get(transaction) for transaction in chosen]
        batch: list[bytes] = []
        for decoded in bodies:
            assert decoded is not None
            if sum(map(len, batch)) + len(decoded.raw) > limits.urgent_bytes_max:
                self._host.send(primary, Channel.CONSENSUS, encode(Urgent(tuple(batch))))
                batch = []
            batch.append(decoded.raw)
        if batch:
            self._host.send(primary, Channel.CONSENSUS, encode(Urgent(tuple(batch))))

    def _unproposed(self) -> Iterator[tuple[bytes, int]]:
        pool, in_flight = self._intake.pool, self._ids_in_flight()
        for decoded in pool:
            if decoded.id not in in_flight:
                seen_ms = pool.seen_ms(decoded.id)
                assert seen_ms is not None
                yield decoded.id, seen_ms

    def _ids_in_flight(self) -> set[bytes]:
        return self._flight.ids_in(self._replica.state.blocks_in_flight)

    def _is_admissible(self, decoded: Decoded) -> bool:
        """On the committed state, by the time of its last block as by this node's clock: clocks differ."""
        try:
            self._intake.check(decoded)
            self._intake.check(decoded, at_time_ms=self._flight.time_ms + 1)
        except Inadmissible:
            return False
        return True

    def _is_blind(self, now_ms: int) -> bool:
        """What was refused here lately for want of room may have waited at the primary all the while; and so may what
        no peer names to a process that has just begun, because it holds more than it names to whoever connects."""
        lacked_ms = self._intake.lacked_room_ms
        lacked = lacked_ms is not None and now_ms - lacked_ms < BLIND_MS
        return lacked or (self._intake.gossip.may_be_untold and now_ms - self._began_ms < NEWCOMER_MS)

    def _has_room(self, header: Header, size_bytes: int) -> bool:
        """Whether anything more would surely have fitted. After failed views a primary makes its blocks small, and
        twice as large with every commit; and never larger than it executes in time, which may be a quarter of what
        this node does: so much at least it allowed itself."""
        state, parameters = self._replica.state, self._parameters
        doublings = max(0, min(header.height - state.base - state.window, 31))
        executable = max(1, proposing.timely_max(self._replica.core) // SLOWER_MAX)
        most = min(parameters.block_transactions_max, 1 << doublings, executable)
        return (
            header.transaction_count < most and size_bytes + limits.transaction_bytes_max <= parameters.block_bytes_max
        )

    @property
    def _parameters(self) -> ConsensusParameters:
        return self._replica.state.parameters

    @property
    def _timeout_ms(self) -> int:
        return self._parameters.inclusion_timeout_real_ms

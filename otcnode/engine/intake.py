"""The way of a transaction from the world into the pool, and what becomes of it there.

received (decoded, admissible, signatures not yet verified) → pooled → proposed → committed; or dropped with a reason,
or expired. What is refused before its signatures are verified leaves nothing behind. Submitting the same bytes again
never harms and answers with the current state.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice

from otcnode import limits
from otcnode.blocks import Entry, transaction_full_hash
from otcnode.engine.arrivals import Answer, Arrival, Arrivals, Pay
from otcnode.engine.authenticity import Authenticity
from otcnode.engine.evidence import is_enough
from otcnode.engine.flight import Flight
from otcnode.engine.host import Host, Observer, Stage, TransactionState
from otcnode.engine.proving import signatures_in
from otcnode.engine.refusals import NEVER_HAPPENED, Refusals
from otcnode.engine.sightings import Sightings
from otcnode.errors import Code, Inadmissible
from otcnode.mempool import Mempool
from otcnode.p2p.framing import Channel
from otcnode.p2p.gossip import GossipError, TransactionGossip
from otcnode.p2p.rates import Rate, TokenBucket
from otcnode.storage.store import Store
from otcnode.vm.context import Environment
from otcnode.vm.executor import check_admissible, environment_at
from otcnode.vm.governance.misconduct import offence_named
from otcnode.vm.governance.operations import EvidencePost
from otcnode.vm.state import State
from otcnode.vm.transactions import Decoded, decode_transaction

NEVER = frozenset({Code.DECODE, Code.CHAIN})
"""Refusals of admission that no state of the chain can change. Not E_AUTH: the next block may add the key, and a peer
may have committed that block already."""

_OTHERS_MAY_TAKE = frozenset({Code.DUPLICATE, Code.LIMIT})
"""Refusals of evidence that another node's state or pool may not share."""

BUSY = "too much of where it comes from waits to be verified"

CHECKS_PER_STATE = 1_000
"""After so many checks on one committed state, what they read is forgotten: each leaves at least its id there."""


class Intake:
    """Owns the pool and the gossip of transactions."""

    def __init__(
        self,
        chain_id: bytes,
        store: Store,
        flight: Flight,
        authenticity: Authenticity,
        host: Host,
        observer: Observer,
        pool_changed: Callable[[], None],
        secret: bytes,
    ) -> None:
        self._chain = chain_id
        self._store = store
        self._flight = flight
        self._authenticity = authenticity
        self._host = host
        self._observer = observer
        self._pool_changed = pool_changed
        self.pool = Mempool()
        self.lacked_room_ms: int | None = None
        """When something was last refused here, and not remembered, that others may have taken (real milliseconds)."""
        self.gossip = TransactionGossip(self._raw_of)
        self._arrivals = Arrivals()
        self._refused: dict[bytes, TokenBucket] = {}
        self._verifying = False
        self._batch_signatures = limits.signatures_per_batch_min
        self._next_block: Environment | None = None
        self._state, self._state_height, self._checks_left = State(store.state), store.tip.height, CHECKS_PER_STATE
        self._ended: OrderedDict[bytes, TransactionState] = OrderedDict()
        self._refusals = Refusals()
        self._sightings = Sightings(secret)
        self._explanations: OrderedDict[bytes, str] = OrderedDict()
        self._ttl_ms = self.transaction_ttl_ms
        self._undecided: list[tuple[int, bytes]] = []
        """(valid_until, id) of what ended here but may yet be in a block: a heap, the next to be decided first."""

    def submit(
        self,
        decoded: Decoded,
        answer: Answer,
        client: str = "",
        source: bytes | None = None,
        pay: Pay | None = None,
    ) -> None:
        """A client's transaction, or what this node says by itself, which is then its `source`: clients take none of
        its room. `answer` gets its state once the signatures are verified, or at once where it is known already; `pay`
        is told of how many they were where it is not authentic, whatever is answered. Raises Inadmissible where it can
        be refused at once."""
        if not self._wanted(decoded) or self._arrivals.holds(decoded.full_hash):
            answer(self.state(decoded.id))
            return
        self._require_use(decoded, source)
        if not self._arrive(decoded, source=source, answer=answer, client=client, pay=pay):
            answer(TransactionState(Stage.DROPPED, reason=BUSY))

    def check(self, decoded: Decoded, at_time_ms: int | None = None) -> None:
        """Raise Inadmissible unless the next block could hold the transaction, by the committed state and the clock, or
        at another ledger time; and for evidence that would have no effect there. No primary takes that either: what
        waits of it is no work."""
        time_ms = self._next_time_ms() if at_time_ms is None else at_time_ms
        check_admissible(self._committed_state(), self._environment(time_ms), decoded)
        operation = decoded.transaction.body.operations[0]
        if not isinstance(operation, EvidencePost):
            return
        if operation.epoch > self._store.epochs()[-1].number:
            raise Inadmissible(Code.NOT_FOUND, "evidence of an epoch that this node has not reached")
        if is_enough(self._committed_state(), operation.validator, offence_named(operation), operation.epoch):
            raise Inadmissible(Code.DUPLICATE, "this offence, or enough of the validator's, is on the chain")

    @property
    def transaction_ttl_ms(self) -> int:
        """How far ahead `valid_until` may be in the next block."""
        return self._environment(self._next_time_ms()).parameters.max_transaction_ttl_ms

    def _next_time_ms(self) -> int:
        return max(self._host.now().ledger_ms, self._flight.time_ms + 1)

    def _committed_state(self) -> State:
        """To be read only. Of the accounts that send much, each block's checks decode account and keys once."""
        height = self._store.tip.height
        if self._state_height != height or self._checks_left == 0:
            self._state, self._state_height, self._checks_left = State(self._store.state), height, CHECKS_PER_STATE
        self._checks_left -= 1
        return self._state

    def _environment(self, time_ms: int) -> Environment:
        """Of the block that would be built at a time. The parameters are read once per committed block."""
        height = self._store.tip.height + 1
        if self._next_block is None or self._next_block.height != height:
            self._next_block = environment_at(self._store.state, self._chain, height, time_ms)
        elif self._next_block.time_ms != time_ms:
            self._next_block = Environment(self._chain, height, time_ms, self._next_block.parameters)
        return self._next_block

    def state(self, transaction_id: bytes) -> TransactionState:
        location = self._store.transaction_location(transaction_id)
        if location is not None:
            return TransactionState(Stage.COMMITTED, definite=True, height=location[0], position=location[1])
        if self._flight.is_proposed(transaction_id):
            return TransactionState(Stage.PROPOSED)
        if transaction_id in self.pool:
            return TransactionState(Stage.POOLED)
        if self._arrivals.holds_id(transaction_id):
            return TransactionState(Stage.RECEIVED)
        ended = self._ended.get(transaction_id)
        return self._refusals.state(transaction_id, self._flight.time_ms) if ended is None else ended

    def seen_ms(self, entry: Entry) -> int | None:
        """When a transaction that is in no final block first came here (real), whatever became of it; None if it did
        not. Of what is not verified yet these very bytes count: a forged copy of it is nothing that came."""
        known = (
            self.pool.seen_ms(entry.id),
            self._sightings.seen_ms(entry.id),
            self._sightings.seen_ms(entry.full_hash),
            self._arrivals.seen_ms(entry.full_hash),
        )
        return min((seen_ms for seen_ms in known if seen_ms is not None), default=None)

    def gossiped(self, peer: bytes, payload: bytes) -> None:
        """A peer's gossip. What no honest node relays costs the peer; of what is merely inadmissible here, and may not
        be where it comes from, only so much is looked at."""
        now_ms = self._host.now().monotonic_ms
        refused = self._refused.get(peer)
        if refused is None or refused.take(0, now_ms):
            return
        try:
            raws = self.gossip.received(peer, payload, now_ms)
        except GossipError as error:
            self._host.penalise(peer, str(error))
            return
        for position, raw in enumerate(raws):
            try:
                self._relayed(peer, decode_transaction(raw))
            except Inadmissible as error:
                if error.code in NEVER:
                    self._host.penalise(peer, f"relayed a transaction that can never be valid: {error}")
                else:
                    self.gossip.forget([transaction_full_hash(raw)])
                if error.code in NEVER or refused.take(1, now_ms):
                    # What comes behind it is not looked at: it must be able to come from somebody else.
                    self.gossip.forget([transaction_full_hash(unread) for unread in raws[position + 1 :]])
                    return

    def _relayed(self, peer: bytes, decoded: Decoded) -> None:
        if not self._wanted(decoded) or self._arrivals.holds(decoded.full_hash):
            return
        self._require_use(decoded, peer)
        if not self._arrive(decoded, source=peer):
            self.gossip.forget([decoded.full_hash])

    def _require_use(self, decoded: Decoded, source: bytes | None, *, urgent: bool = False) -> None:
        """Raise Inadmissible unless `check` finds nothing, and for evidence that waits already or has no room, however
        true it is: each piece can hold hundreds of signatures, and whoever has signed one offence makes as many pieces
        of it as it likes."""
        try:
            self.check(decoded)
            self._require_place(decoded, source, urgent=urgent)
        except Inadmissible as error:
            if error.code in _OTHERS_MAY_TAKE:
                self._note_unverified(decoded, self._host.now().monotonic_ms)
            raise

    def _require_place(self, decoded: Decoded, source: bytes | None, *, urgent: bool) -> None:
        operation = decoded.transaction.body.operations[0]
        if not isinstance(operation, EvidencePost) or self._arrivals.holds(decoded.full_hash):
            return
        if self.pool.posted_until(offence_named(operation)) >= decoded.transaction.body.valid_until:
            raise Inadmissible(Code.DUPLICATE, "evidence of this offence waits, for at least as long")
        of_node = len(self.pool.of_author(operation.node)) + self._arrivals.posts_of(operation.node, source)
        if of_node >= limits.mempool_transactions_per_node_max and not urgent:
            raise Inadmissible(Code.LIMIT, "what the node says by itself waits, as much as there is room for")

    def _note_unverified(self, decoded: Decoded, now_ms: int) -> None:
        if not self._sightings.note_unverified(decoded.full_hash, now_ms):
            self._lacks_room()

    def _lacks_room(self) -> None:
        self.lacked_room_ms = self._host.now().monotonic_ms

    def urgent(self, validator: bytes, raws: Iterable[bytes]) -> None:
        """Bodies that a validator has waited with for too long: the admissible ones come in past the quotas, so
        many of each validator, on their way or in the pool."""
        for raw in raws:
            try:
                decoded = decode_transaction(raw)
                if not self._wanted(decoded):
                    continue
                self._require_use(decoded, validator, urgent=True)
            except Inadmissible as error:
                if error.code in NEVER:
                    self._host.penalise(validator, f"pushed a transaction that can never be valid: {error}")
                    return
                continue
            if self.pool.refuses(decoded, validator, self._arrivals.pushed_by(validator)) is not None:
                continue
            if self._arrivals.holds(decoded.full_hash):
                self._arrivals.hasten(decoded, validator)
            else:
                self._arrive(decoded, source=validator, urgent=True)

    def from_proposal(self, transactions: Iterable[Decoded]) -> None:
        """Authentic bodies learnt from a proposal: they wait here too, should the proposal be dropped."""
        now_ms = self._host.now().monotonic_ms
        fresh = [
            (decoded.full_hash, decoded.raw)
            for decoded in transactions
            if self._wanted(decoded) and self._add(decoded, now_ms).stage is Stage.POOLED
        ]
        if fresh:
            self.gossip.local(fresh)
            self._pool_changed()

    def flush(self) -> None:
        """Send what gossip has gathered."""
        for peer, payload in self.gossip.flush(self._host.now().monotonic_ms):
            self._host.send(peer, Channel.TRANSACTIONS, payload)

    def connected(self, peer: bytes, *, mesh: bool) -> None:
        """`mesh`: the peer is a validator, connected to the others too."""
        rate = limits.gossip_refused_per_second
        self._refused[peer] = TokenBucket(Rate(rate, rate), self._host.now().monotonic_ms)
        self.gossip.connected(peer, [decoded.full_hash for decoded in self.pool], mesh=mesh)

    def disconnected(self, peer: bytes) -> None:
        self._refused.pop(peer, None)
        self.gossip.disconnected(peer)

    def explanation(self, transaction_id: bytes) -> str:
        """Why a committed transaction failed, in words, where this node still remembers; receipts hold no prose."""
        return self._explanations.get(transaction_id, "")

    def committed(
        self,
        transaction_ids: Sequence[bytes],
        explanations: Sequence[str],
        time_ms: int,
        authors_changed: Iterable[bytes],
        accused: Iterable[bytes],
    ) -> None:
        """A block is final: forget its transactions, those whose time is over, and those that the new state forbids
        (they must not wait here and look like work): by what it says of their own account or node, because the
        parameters no longer allow a validity so long, or because an offence of a validator that is `accused` in it is
        on the chain, of which others may have committed another copy. Admission reads nothing else that can turn
        against what waits."""
        self.pool.remove(transaction_ids)
        self._refusals.forget(transaction_ids)
        self._sightings.forget(transaction_ids)
        for transaction_id, explanation in zip(transaction_ids, explanations, strict=True):
            self._ended.pop(transaction_id, None)
            if explanation:
                self._explanations[transaction_id] = explanation
        while len(self._explanations) > limits.explanations_remembered_max:
            self._explanations.popitem(last=False)
        for transaction_id in self.pool.expired(time_ms):
            self._expire(transaction_id)
        while self._undecided and self._undecided[0][0] <= time_ms:
            transaction_id = heapq.heappop(self._undecided)[1]
            if transaction_id in self._ended:
                self._remember(transaction_id, NEVER_HAPPENED)
        for author in authors_changed:
            self._drop_inadmissible(self.pool.of_author(author))
        for validator in accused:
            self._drop_inadmissible(self.pool.posts_against(validator))
        ttl_ms = self.transaction_ttl_ms
        if ttl_ms < self._ttl_ms:
            self._drop_inadmissible(self.pool.ending_after(self._next_time_ms() + ttl_ms))
        self._ttl_ms = ttl_ms

    def reconsider(self, drift_ms: int, in_flight: Collection[bytes]) -> bool:
        """Before a primary is held to account for what waits: whether any of it is work undone, looked at from the
        oldest to the first that is. What the committed state forbids is dropped: what came with a proposal that was
        dropped since may rest on what was dropped with it. What is valid for as long as can be waits on and does not
        count yet: it is too long for a primary whose clock is behind this one, by as much as a clock may be
        (`drift_ms`, of ledger time). What a block accepted in this view holds (`in_flight`) is that block's matter.
        What only a block of an earlier view holds is undone, and stays where that block's state alone allows it."""
        dropped, undone = 0, False
        waiting = [*islice(self.pool, limits.reconsidered_transactions_max)]
        for decoded in waiting:
            if decoded.id in in_flight:
                continue
            if not self._flight.is_proposed(decoded.id) and self._drop_inadmissible([decoded]):
                dropped += 1
            elif self._is_admissible(decoded, self._next_time_ms() - drift_ms):
                undone = True
                break
        if dropped:
            self._pool_changed()
        return undone or len(waiting) == limits.reconsidered_transactions_max

    def _is_admissible(self, decoded: Decoded, at_time_ms: int) -> bool:
        try:
            self.check(decoded, at_time_ms)
        except Inadmissible:
            return False
        return True

    def expire(self) -> None:
        """Drop what the clock says no coming block can hold. Final only once a block's time says so too."""
        expired = self.pool.expired(self._host.now().ledger_ms)
        for transaction_id in expired:
            self._expire(transaction_id)
        if expired:
            self._pool_changed()

    def refused_by_block(self, transaction_ids: Iterable[bytes]) -> None:
        """Building found these inadmissible; they go if the committed state alone says so too."""
        waiting = [self.pool.get(transaction_id) for transaction_id in transaction_ids]
        if self._drop_inadmissible([decoded for decoded in waiting if decoded is not None]):
            self._pool_changed()

    def _drop_inadmissible(self, transactions: Iterable[Decoded]) -> int:
        """How many of them went."""
        dropped = 0
        for decoded in transactions:
            try:
                self.check(decoded)
            except Inadmissible as error:
                self._end(decoded, TransactionState(Stage.DROPPED, code=error.code, reason=str(error)))
                dropped += 1
        return dropped

    def _expire(self, transaction_id: bytes) -> None:
        decoded = self.pool.get(transaction_id)
        assert decoded is not None
        self._end(decoded, TransactionState(Stage.EXPIRED, code=Code.TX_EXPIRED, reason="valid_until has passed"))

    def decoded(self, full_hash: bytes, raw: bytes) -> Decoded:
        """A body with its names, worked out once: from the pool where it waits there. Raises Inadmissible."""
        return self.pool.by_full_hash(full_hash) or decode_transaction(raw)

    def _raw_of(self, full_hash: bytes) -> bytes | None:
        decoded = self.pool.by_full_hash(full_hash)
        return None if decoded is None else decoded.raw

    def _wanted(self, decoded: Decoded) -> bool:
        return decoded.id not in self.pool and self._store.transaction_location(decoded.id) is None

    def _arrive(
        self,
        decoded: Decoded,
        *,
        source: bytes | None = None,
        answer: Answer | None = None,
        urgent: bool = False,
        client: str = "",
        pay: Pay | None = None,
    ) -> bool:
        """Whether its source has room for it among what waits to be verified; else that it came is all that stays."""
        height, now_ms = self._store.tip.height, self._host.now().monotonic_ms
        if not self._arrivals.add(Arrival(decoded, height, now_ms, source, answer, urgent, client, pay)):
            self._note_unverified(decoded, now_ms)
            return False
        if not self._verifying:
            self._verifying = True
            self._host.later(self._verify_arrivals)
        return True

    def _verify_arrivals(self) -> None:
        batch = self._arrivals.take(min(self._batch_signatures, limits.signatures_per_batch_max))
        began_ms = self._host.now().monotonic_ms

        def done(verdicts: list[bool]) -> None:
            self._suit_batches(self._host.now().monotonic_ms - began_ms)
            self._admit(batch, verdicts)
            self._verifying = self._arrivals.waiting
            if self._verifying:
                self._host.later(self._verify_arrivals)

        self._authenticity.require([arrival.decoded for arrival in batch], done)

    def _suit_batches(self, took_ms: int) -> None:
        """None of a batch is in the pool before all are verified, which on a machine with other work could take the
        primary longer than others wait for its next proposal. A batch that left nothing behind says nothing."""
        if took_ms > 2 * limits.signatures_batch_ms:
            self._batch_signatures = max(limits.signatures_per_batch_min, self._batch_signatures // 2)
        elif took_ms < limits.signatures_batch_ms // 2 and self._arrivals.waiting:
            self._batch_signatures = min(limits.signatures_per_batch_max, self._batch_signatures * 2)

    def _admit(self, batch: list[Arrival], verdicts: list[bool]) -> None:
        fresh: list[tuple[bytes, bytes]] = []
        for arrival, authentic in zip(batch, verdicts, strict=True):
            decoded = arrival.decoded
            self._arrivals.release(arrival)
            state = self._admit_one(arrival, authentic)
            if state.stage is Stage.POOLED and self.pool.by_full_hash(decoded.full_hash) is not None:
                fresh.append((decoded.full_hash, decoded.raw))
            elif authentic and not state.definite:
                self.gossip.forget([decoded.full_hash])
            if arrival.pay is not None and not authentic:
                # Also where a true copy came before it, of which the answer then speaks.
                arrival.pay(signatures_in(decoded))
            if arrival.answer is not None:
                arrival.answer(state)
        if fresh:
            self.gossip.local(fresh)
            self.flush()
            self._pool_changed()

    def _admit_one(self, arrival: Arrival, authentic: bool) -> TransactionState:
        decoded = arrival.decoded
        if not authentic and arrival.source is not None:
            self.gossip.invalid(arrival.source, decoded.full_hash)
            self._host.penalise(arrival.source, "relayed a transaction with a false signature")
        # What no block held when it came, none holds before there is another block.
        moved_on = arrival.height != self._store.tip.height
        if decoded.id in self.pool or (moved_on and not self._wanted(decoded)):
            return self.state(decoded.id)
        if not authentic:
            # Said of these bytes to whoever handed them in; remembered of no id, for a true copy may still come.
            return TransactionState(Stage.DROPPED, definite=True, code=Code.AUTH, reason="a signature does not verify")
        if moved_on:
            try:
                self.check(decoded)
            except Inadmissible as error:
                state = TransactionState(Stage.DROPPED, code=error.code, reason=str(error))
                return self._refuse(decoded, arrival.seen_ms, state)
        return self._add(decoded, arrival.seen_ms, arrival.source if arrival.urgent else None)

    def _add(self, decoded: Decoded, seen_ms: int, bearer: bytes | None = None) -> TransactionState:
        """What is authentic into the pool, if there is room."""
        refusal = self.pool.add(decoded, seen_ms, bearer)
        if refusal is not None:
            return self._refuse(decoded, seen_ms, TransactionState(Stage.DROPPED, reason=refusal.value))
        self._refusals.forget([decoded.id])
        return TransactionState(Stage.POOLED)

    def _refuse(self, decoded: Decoded, seen_ms: int, state: TransactionState) -> TransactionState:
        self._sight(decoded, seen_ms)
        if decoded.id not in self._ended:
            self._refusals.remember(decoded, state)
        return state

    def _sight(self, decoded: Decoded, seen_ms: int) -> None:
        if not self._sightings.note(decoded, seen_ms, self._flight.time_ms):
            self._lacks_room()

    def _end(self, decoded: Decoded, state: TransactionState) -> None:
        """Out of the pool. That it never happened is certain only once a block's time has reached valid_until."""
        seen_ms = self.pool.seen_ms(decoded.id)
        assert seen_ms is not None
        self._sight(decoded, seen_ms)
        self.pool.remove([decoded.id])
        # Should it come again, those who know of it now are to be told again, for they may have given it up too.
        self.gossip.forget([decoded.full_hash])
        valid_until = decoded.transaction.body.valid_until
        if valid_until <= self._flight.time_ms:
            self._remember(decoded.id, NEVER_HAPPENED)
        else:
            heapq.heappush(self._undecided, (valid_until, decoded.id))
            self._remember(decoded.id, state)
            if len(self._undecided) > 2 * limits.ended_transactions_remembered_max:
                # Ascending order is a heap.
                self._undecided = sorted({entry for entry in self._undecided if entry[1] in self._ended})

    def _remember(self, transaction_id: bytes, state: TransactionState) -> None:
        self._ended.pop(transaction_id, None)
        self._ended[transaction_id] = state
        while len(self._ended) > limits.ended_transactions_remembered_max:
            self._ended.popitem(last=False)
        self._observer.transaction_ended(transaction_id, state)

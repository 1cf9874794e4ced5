"""What the API is told of a running node: the shell's side of rpc/service.py."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar, assert_never

from otcnode import limits
from otcnode.archives import Archive
from otcnode.blocks import Block, Certificate, Epoch, Header
from otcnode.codec import decode, encode
from otcnode.consensus.explain import Cause, PeerView, Reason
from otcnode.consensus.messages import Mode
from otcnode.consensus.state import Heard
from otcnode.crypto import verify_all
from otcnode.engine.engine import Engine
from otcnode.engine.evidence import name_of
from otcnode.engine.handover import handover_of
from otcnode.engine.host import Stage, TransactionState
from otcnode.engine.intake import NEVER
from otcnode.epochs import EpochChange
from otcnode.errors import Code, Inadmissible, StorageDamage
from otcnode.evidence import misconduct
from otcnode.evidence.absence import Absence, Claim, absence_preimage, first_possible_ms
from otcnode.genesis import Genesis
from otcnode.membership import Membership
from otcnode.p2p.transport import Direction
from otcnode.p2p.transport import PeerStatus as Connection
from otcnode.rpc import service
from otcnode.storage.records import StoredReceipts
from otcnode.storage.state_proof import StateProof
from otcnode.storage.store import Store
from otcnode.vm.context import Environment
from otcnode.vm.documents.records import Filing
from otcnode.vm.event_index import entry_key, events_prefix, height_of, items_prefix
from otcnode.vm.executor import check_admissible, environment_at, simulate
from otcnode.vm.results import Receipt
from otcnode.vm.state import State
from otcnode.vm.transactions import Decoded, decode_transaction, signature_checks

T = TypeVar("T")
Sign = Callable[[bytes], bytes]
RECEIPT_OVERHEAD_BYTES = 64
"""What one takes in memory beside its bytes, roughly."""


class Finality:
    """Lets coroutines wait for transactions and heights; told by the engine what is final."""

    def __init__(self) -> None:
        self._of_transaction: dict[bytes, list[asyncio.Future[None]]] = {}
        self._of_height: list[tuple[int, asyncio.Future[None]]] = []

    def block_committed(self, height: int, transaction_ids: Sequence[bytes]) -> None:
        for transaction_id in transaction_ids:
            self._wake(self._of_transaction.pop(transaction_id, ()))
        self._wake([future for wanted, future in self._of_height if wanted <= height])
        self._of_height = [(wanted, future) for wanted, future in self._of_height if wanted > height]

    def transaction_ended(self, transaction_id: bytes, state: TransactionState) -> None:
        self._wake(self._of_transaction.pop(transaction_id, ()))

    @staticmethod
    def _wake(futures: Sequence[asyncio.Future[None]]) -> None:
        for future in futures:
            if not future.done():
                future.set_result(None)

    def transaction(self, transaction_id: bytes) -> asyncio.Future[None]:
        """Done when something final or new is known of the transaction."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._of_transaction.setdefault(transaction_id, []).append(future)
        return future

    def height(self, height: int) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._of_height.append((height, future))
        return future

    def forget_height(self, future: asyncio.Future[None]) -> None:
        """Nobody waits on `future` any more."""
        self._of_height = [entry for entry in self._of_height if entry[1] is not future]

    def forget(self, transaction_id: bytes, future: asyncio.Future[None]) -> None:
        """Nobody waits on `future` any more."""
        waiting = self._of_transaction.get(transaction_id, [])
        if future in waiting:
            waiting.remove(future)
            if not waiting:
                del self._of_transaction[transaction_id]


class Service:
    """Implements rpc.service.NodeService over an engine."""

    def __init__(
        self,
        *,
        name: str,
        genesis: Genesis,
        chain_id: bytes,
        own: bytes,
        sign: Sign,
        engine: Engine,
        store: Store,
        membership: Membership,
        finality: Finality,
        connections: Callable[[], Sequence[Connection]],
        counters: Callable[[], Mapping[str, int]],
        disk_writable: Callable[[], bool],
        archives: Callable[[], Sequence[Archive] | None],
        on_damage: Callable[[StorageDamage], None],
    ) -> None:
        self._name = name
        self._genesis = genesis
        self._chain = chain_id
        self._own = own
        self._sign = sign
        self._engine = engine
        self._store = store
        self._membership = membership
        self._finality = finality
        self._connections = connections
        self._counters = counters
        self._disk_writable = disk_writable
        self._archives = archives
        self.damaged = on_damage
        self._receipts: OrderedDict[int, StoredReceipts] = OrderedDict()
        self._receipts_bytes = 0
        self._started_ns = time.monotonic_ns()

    @property
    def genesis(self) -> Genesis:
        return self._genesis

    @property
    def chain(self) -> bytes:
        return self._chain

    @property
    def node(self) -> bytes:
        return self._own

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    # ---- transactions

    async def submit(
        self, raws: Sequence[bytes], caller: str, pay: Callable[[int], None]
    ) -> Sequence[service.Submission]:
        if self._engine.halted is not None:
            return [service.NotReady(f"this node has stopped: {self._engine.halted}") for _ in raws]
        return await asyncio.gather(*(self._submit(raw, caller, pay) for raw in raws))

    def _submit(self, raw: bytes, caller: str, pay: Callable[[int], None]) -> asyncio.Future[service.Submission]:
        future: asyncio.Future[service.Submission] = asyncio.get_running_loop().create_future()

        def answer(state: TransactionState) -> None:
            if not future.done():
                committed = state.stage is Stage.COMMITTED
                future.set_result(self.transaction(decoded.id) if committed else _submission(decoded.id, state))

        try:
            decoded = decode_transaction(raw)
            self._engine.submit(decoded, answer, caller, pay)
        except Inadmissible as error:
            future.set_result(service.Refused(error.code, error.detail, self._never(raw, error.code)))
        return future

    def _never(self, raw: bytes, code: Code) -> bool:
        """Whether a refused transaction will not be in any block and has not been in one: by its own bytes, or because
        its time is over and every block that might have held it is kept."""
        if code is not Code.TX_EXPIRED:
            return code in NEVER
        valid_until = decode_transaction(raw).transaction.body.valid_until
        if valid_until > self._engine.flight.time_ms:
            return False
        possible_ms = first_possible_ms(self._genesis, valid_until)
        return self._store.blocks_first == 1 or self._store.forgotten_until_ms < possible_ms

    async def wait(self, ids: Sequence[bytes], timeout_ms: int) -> Sequence[service.TransactionState]:
        deadline = time.monotonic() + timeout_ms / 1000
        for transaction_id in ids:
            while not self.transaction(transaction_id).final:
                future = self._finality.transaction(transaction_id)
                try:
                    await asyncio.wait_for(future, max(0.0, deadline - time.monotonic()))
                except TimeoutError:
                    self._finality.forget(transaction_id, future)
                    return [self.transaction(each) for each in ids]
                except asyncio.CancelledError:
                    self._finality.forget(transaction_id, future)
                    raise
        return [self.transaction(each) for each in ids]

    def transaction(self, transaction_id: bytes) -> service.TransactionState:
        state = self._engine.state_of(transaction_id)
        if state.stage is not Stage.COMMITTED:
            return _shown(transaction_id, state)
        assert state.height is not None and state.position is not None
        receipt = self.receipt(state.height, state.position)
        return service.TransactionState(
            id=transaction_id,
            stage=Stage.COMMITTED,
            definite=receipt.code is not Code.OK,
            height=state.height,
            index=state.position,
            code=receipt.code,
            operation=receipt.operation,
            reason=self._engine.intake.explanation(transaction_id),
        )

    def absence(self, transaction_id: bytes) -> Absence | None:
        tip = self._store.tip
        if tip.height == 0 or self._engine.state_of(transaction_id).stage is Stage.COMMITTED:
            return None
        claim = Claim(self._chain, transaction_id, self._store.forgotten_until_ms, tip.height)
        return Absence(claim, self._own, self._sign(absence_preimage(claim)))

    def receipt(self, height: int, position: int) -> Receipt:
        """Of the transaction at `position` of a committed block. Many ask for those of the same few blocks."""
        stored = self._receipts.get(height)
        if stored is None:
            stored = self._store.receipts(height)
            assert stored is not None
            self._receipts[height] = stored
            self._receipts_bytes += _size_of(stored)
            while self._receipts_bytes > limits.receipts_kept_bytes_max and len(self._receipts) > 1:
                self._receipts_bytes -= _size_of(self._receipts.popitem(last=False)[1])
        return decode(Receipt, stored.receipts[stored.automatic_count + position])

    async def simulate(self, raw: bytes, pay: Callable[[int], None]) -> service.Simulation | service.Refused:
        try:
            decoded = decode_transaction(raw)
            check_admissible(State(self._store.state), self._next_environment(), decoded)
            checks = signature_checks(decoded)
            pay(len(checks))
            if not all(await asyncio.get_running_loop().run_in_executor(None, verify_all, checks)):
                return service.Refused(Code.AUTH, "a signature does not verify", definite=True)
            tip = self._engine.flight.tip()
            result = simulate(self._store.state, self._next_environment(), decoded)
        except Inadmissible as error:
            return service.Refused(error.code, error.detail, error.code in NEVER)
        receipt = result.receipts[0]
        return service.Simulation(tip.height, receipt.code, receipt.operation, result.explanations[0], receipt.events)

    def _next_environment(self) -> Environment:
        """Of a block that would be built now."""
        tip = self._engine.flight.tip()
        time_ms = max(self._genesis.clock.ledger_ms(self.now_ms()), tip.time_ms + 1)
        return environment_at(self._store.state, self._chain, tip.height + 1, time_ms)

    # ---- what is on the chain

    def state(self, height: int | None = None) -> service.Snapshot:
        tip = self._engine.flight.tip()
        if height is None or height == tip.height:
            return service.Snapshot(self._store.state, tip.height, tip.block_hash, tip.time_ms)
        if not self._store.history_first <= height < tip.height:
            raise service.HeightUnavailable(self._store.history_first, tip.height)
        header = self._store.header(height)
        if header is None:
            view = self._store.state_at(height)
            following = self._store.header(height + 1)
            assert following is not None
            return service.Snapshot(view, height, following.parent, self._genesis.time_ms)
        following = self._store.header(height + 1)
        assert following is not None
        return service.Snapshot(self._store.state_at(height), height, following.parent, header.time_ms)

    async def await_height(self, height: int, timeout_ms: int) -> bool:
        if self._store.tip.height >= height:
            return True
        future = self._finality.height(height)
        try:
            await asyncio.wait_for(future, timeout_ms / 1000)
        except TimeoutError:
            return False
        finally:
            self._finality.forget_height(future)
        return True

    @property
    def blocks_first(self) -> int:
        return self._store.blocks_first

    def block(self, height: int) -> Block:
        return self._found(self._store.block(height))

    def header(self, height: int) -> Header:
        return self._found(self._store.header(height))

    def certificate(self, height: int) -> Certificate:
        return self._found(self._store.certificate(height))

    def receipts(self, height: int) -> service.BlockReceipts:
        stored = self._found(self._store.receipts(height))
        count = stored.automatic_count
        return service.BlockReceipts(stored.receipts[:count], stored.receipts[count:])

    def _found(self, value: T | None) -> T:
        if value is None:
            raise service.HeightUnavailable(self._store.blocks_first, self._store.tip.height)
        return value

    def event_places(self, account: bytes, after_height: int) -> Iterator[tuple[int, bytes]]:
        after = entry_key(account, after_height)
        for key, entry in self._store.index_scan(events_prefix(account), after):
            yield height_of(key), entry

    def item_places(self, item: bytes) -> Iterator[tuple[int, bytes]]:
        for key, entry in self._store.index_scan(items_prefix(item)):
            yield height_of(key), entry

    def put_document(self, raw: bytes) -> Filing | None:
        return self._engine.documents.put(raw)

    def document(self, name: bytes) -> bytes | None:
        return self._engine.documents.get(name)

    def prove(self, key: bytes) -> StateProof:
        return self._store.tree.prove(key)

    def epochs(self) -> Sequence[Epoch]:
        return self._store.epochs()

    # ---- the node

    def status(self) -> service.NodeStatus:
        engine, replica = self._engine, self._engine.replica.state
        tip = engine.flight.tip()
        epoch = tip.next_epoch
        now = engine.now()
        target = engine.catch_up.target()
        expected = {node for node in epoch.validators if node != self._own}
        connected = {entry.node for entry in self._connections() if entry.direction is not Direction.NONE}
        return service.NodeStatus(
            name=self._name,
            node=self._own,
            validator=self._own in epoch.validators,
            height=tip.height,
            block_hash=tip.block_hash,
            time_ms=tip.time_ms,
            ledger_now_ms=now.ledger_ms,
            epoch=epoch.number,
            view=replica.view,
            mode="halted" if engine.stopped is not None else _MODES[replica.mode],
            validators=len(epoch.validators),
            quorum=epoch.quorum,
            peers_connected=len(connected & expected),
            peers_expected=len(expected),
            full_nodes_connected=len(connected - expected),
            target_height=target,
            synced=target <= tip.height and engine.stopped is None,
            syncing=self._syncing(target),
            blocks_first=self._store.blocks_first,
            archives=self._archived(),
            disk_writable=self._disk_writable(),
            halted=engine.stopped,
            mempool_transactions=len(engine.intake.pool),
            mempool_bytes=engine.intake.pool.bytes_held,
            uptime_ms=(time.monotonic_ns() - self._started_ns) // 1_000_000,
            counters=self._counters(),
        )

    def _archived(self) -> tuple[service.ArchivedChain, ...] | None:
        archives = self._archives()
        if archives is None:
            return None
        return tuple(service.ArchivedChain(one.name, one.place, one.heights, one.size_bytes) for one in archives)

    def _syncing(self, target: int) -> service.Syncing | None:
        taker, height = self._engine.catch_up.snapshot_taker, self._store.tip.height
        if taker is not None and taker.incoming is not None:
            chunks = taker.incoming.manifest.chunks
            done = chunks - len(taker.incoming.missing)
            return service.Syncing(what="snapshot", height=taker.incoming.height, done=done, whole=chunks)
        if target > height:
            return service.Syncing(what="blocks", height=target, done=height, whole=target)
        return None

    def explain(self) -> service.Explanation:
        engine = self._engine
        seen = engine.replica.explain(engine.now())
        where = f"height {seen.inspection.committed}, view {seen.inspection.view}"
        causes = [self._cause(cause) for cause in seen.causes]
        if engine.halted is not None:
            causes.insert(0, service.Cause(Cause.HALTED, f"this node has stopped: {engine.halted}", None, 0, ()))
        goes_on = seen.progressing and engine.halted is None
        state = "the chain goes on" if goes_on else "; ".join(cause.text for cause in causes)
        name_of = self._membership.name_of
        handover = handover_of(self._own, self._store.epochs(), engine.catch_up.sync.claims())
        if handover is not None:
            state += f"; {handover.text}"
        return service.Explanation(
            name=self._membership.own_name(self._name),
            text=f"{where}: {state}",
            progressing=goes_on,
            height=seen.inspection.committed,
            view=seen.inspection.view,
            validators=tuple(name_of(name) for name in engine.flight.tip().next_epoch.validators),
            quorum=seen.inspection.quorum,
            causes=tuple(causes),
            peers={name_of(peer.validator): _shown_peer(peer) for peer in seen.inspection.peers},
        )

    def _cause(self, reason: Reason) -> service.Cause:
        nodes = tuple(self._membership.name_of(name) for name in reason.nodes)
        text = self._membership.named(reason.text)
        return service.Cause(reason.cause.value, text, reason.height, reason.missing, nodes)

    def misconduct(self) -> Sequence[service.MisconductStatus]:
        keeper = self._engine.evidence
        return [
            service.MisconductStatus(
                offence=name_of(kept.offence),
                validator=kept.offence.validator,
                name=self._membership.name_of(kept.offence.validator),
                kind=kept.offence.kind,
                epoch=kept.offence.epoch,
                view=kept.offence.view,
                height=kept.offence.height,
                seen_ms=kept.seen_ms,
                on_chain=keeper.is_posted(kept.offence),
                size_bytes=len(encode(kept.evidence)),
            )
            for kept in keeper.all()
        ]

    def misconduct_file(self, offence: bytes) -> bytes | None:
        kept = self._engine.evidence.get(offence)
        if kept is None or all(epoch.number != kept.offence.epoch for epoch in self.epochs()):
            return None
        changes = [
            EpochChange(self.header(epoch.number - 1), self.certificate(epoch.number - 1), epoch)
            for epoch in self.epochs()
            if 1 < epoch.number <= kept.offence.epoch
        ]
        return misconduct.write(kept.evidence, tuple(changes))

    def explain_transaction(self, transaction_id: bytes) -> service.TransactionExplanation:
        state, pool = self.transaction(transaction_id), self._engine.intake.pool
        place, waiting = pool.place(transaction_id), pool.get(transaction_id)
        match state.stage:
            case Stage.UNKNOWN:
                text = "this node has not seen it, or saw it too long ago"
            case Stage.RECEIVED:
                text = "its signatures are being verified"
            case Stage.POOLED:
                assert place is not None and waiting is not None
                text = f"{place} of {len(pool)} that wait here came before it; {self._next_block(waiting)}"
            case Stage.PROPOSED:
                text = f"a block that is not decided yet holds it; {self.explain().text}"
            case Stage.COMMITTED:
                text = f"block {state.height} holds it"
            case Stage.DROPPED | Stage.EXPIRED:
                end = "it has not happened and never will" if state.definite else "another node may still have it"
                text = f"{state.reason}; {end}"
            case _:
                assert_never(state.stage)
        return service.TransactionExplanation(state, text, place)

    def _next_block(self, waiting: Decoded) -> str:
        """What keeps a transaction of the pool out of a block."""
        try:
            self._engine.intake.check(waiting)
        except Inadmissible as error:
            return f"no block can hold it now: {error}"
        return self.explain().text

    def peers(self) -> Sequence[service.PeerStatus]:
        now_ms = self._engine.now().monotonic_ms
        heard = self._engine.replica.state.heard
        return [
            service.PeerStatus(
                node=entry.node,
                name=self._membership.name_of(entry.node),
                address=entry.address,
                connected=entry.direction is not Direction.NONE,
                inbound=entry.direction is Direction.ACCEPTED,
                height=_committed_by(heard.get(entry.node)),
                silent_ms=now_ms - heard[entry.node].last_ms if entry.node in heard else None,
                refused=f"banned for {entry.banned_ms} ms" if entry.banned_ms else entry.last_error,
                banned_ms=entry.banned_ms,
                offences=entry.offences,
                misled=entry.misled,
                throttled_ms=entry.throttled_ms,
                round_trip_us=entry.round_trip_us,
                bytes_in=entry.bytes_in,
                bytes_out=entry.bytes_out,
                dropped=entry.dropped,
            )
            for entry in self._connections()
        ]

    def mempool(self) -> service.MempoolStatus:
        pool = self._engine.intake.pool
        return service.MempoolStatus(
            transactions=len(pool),
            bytes=pool.bytes_held,
            transactions_max=limits.mempool_transactions_max,
            bytes_max=limits.mempool_bytes_max,
            transactions_per_account_max=limits.mempool_transactions_per_account_max,
        )


_MODES = {
    Mode.ACTIVE: "active",
    Mode.INACTIVE: "changing view",
    Mode.SILENT: "silent",
    Mode.FOLLOWING: "following",
}


def _size_of(stored: StoredReceipts) -> int:
    return sum(len(receipt) + RECEIPT_OVERHEAD_BYTES for receipt in stored.receipts)


def _shown_peer(peer: PeerView) -> str:
    if peer.heard_ms_ago is None:
        return "never heard"
    heard = f"heard {peer.heard_ms_ago / 1000:.1f} s ago"
    if peer.mode is None:
        return heard
    return f"{_MODES[peer.mode]}, height {peer.committed}, view {peer.view}, {heard}"


def _committed_by(heard: Heard | None) -> int | None:
    """The height a peer last said it had committed."""
    return None if heard is None or heard.status is None else heard.status.committed


def _shown(transaction_id: bytes, state: TransactionState) -> service.TransactionState:
    return service.TransactionState(
        id=transaction_id,
        stage=state.stage,
        definite=state.definite,
        code=state.code,
        reason=state.reason,
    )


def _submission(transaction_id: bytes, state: TransactionState) -> service.Submission:
    """How the answer to a submission is told: what this node did not take is an error, not a state."""
    if state.stage is Stage.DROPPED and state.code is not None:
        return service.Refused(state.code, state.reason, state.definite)
    if state.stage is Stage.DROPPED:
        return service.Overloaded(state.reason)
    return _shown(transaction_id, state)

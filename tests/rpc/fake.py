"""A node in memory, with behaviour: the real ledger, real certificates, one block per `commit`, no network, no disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from otcnode import merkle
from otcnode.blocks import (
    HEADER_VERSION,
    Block,
    Certificate,
    Entry,
    Epoch,
    Header,
    ValidatorSignature,
    block_hash,
    commit_preimage,
    transactions_root,
    validators_hash,
)
from otcnode.codec import encode
from otcnode.crypto import SigningKey, sha256, verify_all
from otcnode.errors import Code, DocumentNotKept, Inadmissible, StorageDamage
from otcnode.evidence.absence import Absence, Claim, absence_preimage
from otcnode.genesis import (
    CashAsset,
    ChainParameters,
    Clock,
    Genesis,
    GenesisAccount,
    GenesisKey,
    GenesisValidator,
    KeyPurpose,
    Role,
    chain_id,
    genesis_account_id,
    genesis_block_hash,
)
from otcnode.rpc.service import (
    ArchivedChain,
    BlockReceipts,
    Cause,
    Explanation,
    HeightUnavailable,
    MempoolStatus,
    MisconductStatus,
    NodeStatus,
    NotReady,
    Overloaded,
    PeerStatus,
    Refused,
    Simulation,
    Snapshot,
    Stage,
    Submission,
    TransactionExplanation,
    TransactionState,
)
from otcnode.storage.kv import MemoryKeyValue
from otcnode.storage.state_proof import StateProof
from otcnode.storage.state_tree import StateTree
from otcnode.vm import executor
from otcnode.vm.accounts.operations import CashDeposit, KeyRevoke
from otcnode.vm.documents.records import DOCUMENTS, Filing, sealed_name
from otcnode.vm.event_index import event_index, events_prefix, height_of, items_prefix
from otcnode.vm.executor import environment_at
from otcnode.vm.genesis_state import genesis_writes
from otcnode.vm.keys import Table
from otcnode.vm.operations import Operation
from otcnode.vm.state import State
from otcnode.vm.transactions import (
    TRANSACTION_VERSION,
    Body,
    Decoded,
    decode_transaction,
    sign_transaction,
    signature_checks,
)

START_MS = 1_800_000_000_000
BANK, INVESTOR, OTHER, REGULATOR, KYC, ISSUER, CALLBACK = "BANK", "INV", "OTHER", "REG", "KYC", "ISS", "CALL"
ROLES = {
    BANK: Role.CUSTODIAN,
    INVESTOR: Role.INVESTOR,
    OTHER: Role.INVESTOR,
    REGULATOR: Role.REGULATOR,
    KYC: Role.KYC,
    ISSUER: Role.ISSUER,
    CALLBACK: Role.CALLBACK,
}


def key_of(name: str, purpose: KeyPurpose = KeyPurpose.TRADE) -> SigningKey:
    return SigningKey(sha256(f"{name}/{purpose.value}".encode()))


def account_of(name: str) -> bytes:
    return genesis_account_id(name)


def make_genesis(validators: Sequence[SigningKey], *, origin_ms: int = START_MS) -> Genesis:
    return Genesis(
        network="api-test",
        clock=Clock(origin_ms=origin_ms),
        time_ms=origin_ms,
        parameters=ChainParameters(state_buckets=16),
        validators=tuple(
            GenesisValidator(name=f"v{place}", id=key.public, organisation=f"org{place}")
            for place, key in enumerate(validators)
        ),
        accounts=tuple(
            GenesisAccount(
                name=name,
                organisation=f"{name} & Co",
                roles=(role,),
                keys=tuple(GenesisKey(purpose=purpose, key=key_of(name, purpose).public) for purpose in KeyPurpose),
            )
            for name, role in ROLES.items()
        ),
        cash=(CashAsset(id="CNY@BANK", custodian=BANK), CashAsset(id="USD@REG", custodian=BANK)),
    )


class MemoryView:
    def __init__(self, entries: dict[bytes, bytes]) -> None:
        self._entries = dict(sorted(entries.items()))

    def get(self, key: bytes) -> bytes | None:
        return self._entries.get(key)

    def scan(
        self, prefix: bytes, after: bytes | None = None, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        found = [
            pair for pair in self._entries.items() if pair[0].startswith(prefix) and (after is None or pair[0] > after)
        ]
        return iter(found[:limit])

    def with_writes(self, writes: dict[bytes, bytes | None]) -> MemoryView:
        merged = {**self._entries, **writes}
        return MemoryView({key: value for key, value in merged.items() if value is not None})


class FakeNode:
    """Implements NodeService. `commit` makes a block of what is pooled; with `automatic` every submission does."""

    def __init__(
        self, *, origin_ms: int = START_MS, automatic: bool = True, first_kept: int = 0, place: int = 0
    ) -> None:
        """`place`: which of the validators it is."""
        self._place = place
        self.validator_keys = sorted(
            (SigningKey(sha256(b"validator" + bytes([place]))) for place in range(4)), key=lambda key: key.public
        )
        self._genesis = make_genesis(self.validator_keys, origin_ms=origin_ms)
        self._chain = chain_id(self._genesis)
        view = MemoryView(genesis_writes(self._genesis))
        self._tree = StateTree.load(MemoryKeyValue(), self._genesis.parameters.state_buckets)
        self._tree.adopt(self._tree.speculate(genesis_writes(self._genesis)))
        self._index: dict[bytes, bytes] = {}
        self.held: list[MisconductStatus] = []
        self.damage: list[StorageDamage] = []
        self.kept: dict[bytes, bytes] = {}
        self.keeps_documents = True
        self._snapshots = [Snapshot(view, 0, genesis_block_hash(self._chain, bytes(32)), origin_ms)]
        self._blocks: list[tuple[Block, Certificate, BlockReceipts]] = []
        self._states: dict[bytes, TransactionState] = {}
        self._pool: list[Decoded] = []
        self._changed = asyncio.Condition()
        self._epochs = [Epoch(1, tuple(key.public for key in self.validator_keys), self._genesis.parameters.consensus)]
        self.automatic = automatic
        self.first_kept = first_kept
        self.blocks_first = 1
        self.clock_ms = origin_ms
        self.pool_max = 1_000
        self.ready = True
        self.submissions = 0
        self.submitters: list[str] = []
        self.synced = True
        self.disk_writable = True
        self.waiting = asyncio.Event()
        self.left = asyncio.Event()

    # what tests steer

    def put(self, table: Table[Any], suffix: bytes, record: object) -> None:
        """Write a record into the latest state, as if a block had."""
        tip = self._snapshots[-1]
        assert isinstance(tip.view, MemoryView)
        writes: dict[bytes, bytes | None] = {table.prefix + suffix: encode(record)}
        self._tree.adopt(self._tree.speculate(writes))
        view = tip.view.with_writes(writes)
        self._snapshots[-1] = msgspec.structs.replace(tip, view=view)

    async def commit(self, *, step_ms: int = 1_000, next_validators: Sequence[SigningKey] | None = None) -> None:
        parent = self._snapshots[-1]
        height, time_ms = parent.height + 1, parent.time_ms + step_ms
        environment = environment_at(parent.view, self._chain, height, time_ms)
        execution = executor.BlockExecution(parent.view, environment)
        execution.run_due()
        chosen = []
        for decoded in self._pool:
            try:
                execution.apply(decoded)
            except Inadmissible as error:
                expired = error.code is Code.TX_EXPIRED
                stage = Stage.EXPIRED if expired else Stage.DROPPED
                self._states[decoded.id] = TransactionState(decoded.id, stage, definite=expired, reason=str(error))
                continue
            chosen.append(decoded)
        self._pool.clear()
        result = execution.finish()
        assert isinstance(parent.view, MemoryView)
        view = parent.view.with_writes(result.writes)
        self._tree.adopt(self._tree.speculate(result.writes))
        self._index.update(event_index(height, result, view))
        receipts = BlockReceipts(
            tuple(encode(entry) for entry in result.automatic), tuple(encode(entry) for entry in result.receipts)
        )
        epoch = self.epoch_at(height)
        following = epoch
        if next_validators is not None:
            joined = tuple(sorted(key.public for key in next_validators))
            following = Epoch(height + 1, joined, epoch.parameters)
            self._epochs.append(following)
            known = {key.public: key for key in (*self.validator_keys, *next_validators)}
            self.validator_keys = [known[public] for public in sorted(known)]
        header = Header(
            version=HEADER_VERSION,
            chain=self._chain,
            height=height,
            parent=parent.block_hash,
            time_ms=time_ms,
            proposer=epoch.primary(0),
            transaction_count=len(chosen),
            transactions_root=transactions_root([Entry(decoded.id, decoded.full_hash) for decoded in chosen]),
            receipts_root=merkle.root([*receipts.automatic, *receipts.transactions]),
            state_root=self._tree.root,
            validators_hash=validators_hash(epoch),
            next_validators_hash=validators_hash(following),
        )
        block = Block(header, tuple(decoded.raw for decoded in chosen))
        self._blocks.append((block, self.certify(header), receipts))
        self._snapshots.append(Snapshot(view, height, block_hash(header), time_ms))
        for index, (decoded, receipt, text) in enumerate(
            zip(chosen, result.receipts, result.explanations, strict=True)
        ):
            self._states[decoded.id] = TransactionState(
                decoded.id,
                Stage.COMMITTED,
                definite=receipt.code is not Code.OK,
                height=height,
                index=index,
                code=receipt.code,
                operation=receipt.operation,
                reason=text,
            )
        async with self._changed:
            self._changed.notify_all()

    def certify(self, header: Header) -> Certificate:
        epoch = self.epoch_at(header.height)
        message = commit_preimage(self._chain, epoch.number, 0, header.height, block_hash(header))
        signers = [key for key in self.validator_keys if key.public in epoch.validators][: epoch.quorum]
        return Certificate(
            epoch.number,
            0,
            header.height,
            block_hash(header),
            tuple(ValidatorSignature(key.public, key.sign(message)) for key in signers),
        )

    def epoch_at(self, height: int) -> Epoch:
        return [epoch for epoch in self._epochs if epoch.number <= height][-1]

    def sign(
        self, sender: str, *operations: Operation, purpose: KeyPurpose = KeyPurpose.TRADE, **fields: Any
    ) -> Decoded:
        body = Body(
            TRANSACTION_VERSION,
            fields.get("chain", self._chain),
            account_of(sender),
            fields.get("salt", sha256(repr(operations).encode())),
            fields.get("valid_until", self._snapshots[-1].time_ms + 60_000),
            fields.get("on_behalf_of"),
            fields.get("entrustment"),
            operations,
        )
        return sign_transaction(body, [key_of(sender, purpose)])

    def deposit(self, amount: int, reference: str, to: str = INVESTOR, **fields: Any) -> Decoded:
        return self.sign(BANK, CashDeposit(account_of(to), "CNY@BANK", amount, reference), **fields)

    def revoke(self, name: str, purpose: KeyPurpose) -> Decoded:
        return self.sign(name, KeyRevoke(key_of(name, purpose).public), purpose=KeyPurpose.MANAGE)

    # NodeService

    @property
    def genesis(self) -> Genesis:
        return self._genesis

    @property
    def chain(self) -> bytes:
        return self._chain

    @property
    def node(self) -> bytes:
        return self._epochs[0].validators[self._place]

    def now_ms(self) -> int:
        return self.clock_ms

    async def submit(
        self, raws: Sequence[bytes], caller: str = "", pay: Callable[[int], None] = lambda signatures: None
    ) -> Sequence[Submission]:
        self.submissions += len(raws)
        self.submitters.append(caller)
        answers = [self._take(raw, pay) for raw in raws]
        if self.automatic and self._pool:
            await self.commit()
        return [
            self._states.get(answer.id, answer) if isinstance(answer, TransactionState) else answer
            for answer in answers
        ]

    def _take(self, raw: bytes, pay: Callable[[int], None]) -> Submission:
        if not self.ready:
            return NotReady("starting")
        try:
            decoded = decode_transaction(raw)
            if decoded.transaction.body.chain != self._chain:
                raise Inadmissible(Code.CHAIN, "made for another network")
            checks = signature_checks(decoded)
            if not all(verify_all(checks)):
                pay(len(checks))
                raise Inadmissible(Code.AUTH, "bad signature")
        except Inadmissible as error:
            return Refused(error.code, error.detail, True)
        if decoded.id in self._states:
            return self._states[decoded.id]
        if len(self._pool) >= self.pool_max:
            return Overloaded("the pool is full")
        tip = self._snapshots[-1]
        try:
            executor.check_admissible(
                State(tip.view), environment_at(tip.view, self._chain, tip.height + 1, tip.time_ms + 1), decoded
            )
        except Inadmissible as error:
            over = error.code is Code.TX_EXPIRED and decoded.transaction.body.valid_until <= tip.time_ms
            return Refused(error.code, error.detail, over)
        self._pool.append(decoded)
        self._states[decoded.id] = TransactionState(decoded.id, Stage.POOLED)
        return self._states[decoded.id]

    async def wait(self, ids: Sequence[bytes], timeout_ms: int) -> Sequence[TransactionState]:
        def final() -> bool:
            return all(self.transaction(name).final for name in ids)

        self.waiting.set()
        try:
            async with self._changed:
                await asyncio.wait_for(self._changed.wait_for(final), timeout_ms / 1000)
        except TimeoutError:
            self.clock_ms += timeout_ms
        finally:
            self.left.set()
        return [self.transaction(name) for name in ids]

    def transaction(self, transaction_id: bytes) -> TransactionState:
        return self._states.get(transaction_id) or TransactionState(transaction_id, Stage.UNKNOWN)

    def absence(self, transaction_id: bytes) -> Absence | None:
        tip = self._snapshots[-1]
        if tip.height == 0 or self.transaction(transaction_id).stage is Stage.COMMITTED:
            return None
        after_ms = 0 if self.blocks_first == 1 else self._snapshots[self.blocks_first - 1].time_ms
        claim = Claim(self._chain, transaction_id, after_ms, tip.height)
        (key,) = (key for key in self.validator_keys if key.public == self.node)
        return Absence(claim, self.node, key.sign(absence_preimage(claim)))

    async def simulate(self, raw: bytes, pay: Callable[[int], None]) -> Simulation | Refused:
        try:
            decoded = decode_transaction(raw)
            tip = self._snapshots[-1]
            environment = environment_at(tip.view, self._chain, tip.height + 1, tip.time_ms + 1)
            executor.check_admissible(State(tip.view), environment, decoded)
            checks = signature_checks(decoded)
            pay(len(checks))
            if not all(verify_all(checks)):
                raise Inadmissible(Code.AUTH, "bad signature")
            result = executor.simulate(tip.view, environment, decoded)
        except Inadmissible as error:
            return Refused(error.code, error.detail, False)
        receipt = result.receipts[0]
        return Simulation(tip.height, receipt.code, receipt.operation, result.explanations[0], receipt.events)

    def state(self, height: int | None = None) -> Snapshot:
        wanted = self._snapshots[-1].height if height is None else height
        self._check_kept(wanted)
        return self._snapshots[wanted]

    def _check_kept(self, height: int) -> None:
        last = self._snapshots[-1].height
        if not self.first_kept <= height <= last:
            raise HeightUnavailable(self.first_kept, last)

    async def await_height(self, height: int, timeout_ms: int) -> bool:
        async with self._changed:
            try:
                await asyncio.wait_for(
                    self._changed.wait_for(lambda: self._snapshots[-1].height >= height), timeout_ms / 1000
                )
            except TimeoutError:
                return False
        return True

    def block(self, height: int) -> Block:
        self._check_block(height, self.blocks_first)
        return self._blocks[height - 1][0]

    def header(self, height: int) -> Header:
        self._check_block(height, max(1, self.blocks_first - 1))
        return self._blocks[height - 1][0].header

    def certificate(self, height: int) -> Certificate:
        self._check_block(height, max(1, self.blocks_first - 1))
        return self._blocks[height - 1][1]

    def receipts(self, height: int) -> BlockReceipts:
        self._check_block(height, self.blocks_first)
        return self._blocks[height - 1][2]

    def _check_block(self, height: int, first: int) -> None:
        if not first <= height <= len(self._blocks):
            raise HeightUnavailable(self.blocks_first, len(self._blocks))

    def event_places(self, account: bytes, after_height: int) -> Iterator[tuple[int, bytes]]:
        for key, entry in sorted(self._index.items()):
            kept = height_of(key) >= max(after_height + 1, self.blocks_first)
            if kept and key.startswith(events_prefix(account)):
                yield height_of(key), entry

    def put_document(self, raw: bytes) -> Filing | None:
        record = State(self._snapshots[-1].view).get(DOCUMENTS, sealed_name(raw))
        if record is None or record.size_bytes != len(raw):
            return None
        if not self.keeps_documents:
            raise DocumentNotKept("the disk does not take it")
        self.kept[sealed_name(raw)] = raw
        return record

    def document(self, name: bytes) -> bytes | None:
        return self.kept.get(name)

    def item_places(self, item: bytes) -> Iterator[tuple[int, bytes]]:
        prefix = items_prefix(item)
        for key in sorted(self._index):
            if key.startswith(prefix):
                yield height_of(key), self._index[key]

    def prove(self, key: bytes) -> StateProof:
        return self._tree.prove(key)

    def damaged(self, error: StorageDamage) -> None:
        self.damage.append(error)

    def epochs(self) -> Sequence[Epoch]:
        return self._epochs

    def status(self) -> NodeStatus:
        tip = self._snapshots[-1]
        return NodeStatus(
            name="v0",
            node=self.node,
            validator=True,
            height=tip.height,
            block_hash=tip.block_hash,
            time_ms=tip.time_ms,
            ledger_now_ms=tip.time_ms,
            epoch=self._epochs[-1].number,
            view=0,
            mode="active",
            validators=4,
            quorum=3,
            peers_connected=3,
            peers_expected=3,
            full_nodes_connected=0,
            target_height=tip.height if self.synced else tip.height + 7,
            synced=self.synced,
            disk_writable=self.disk_writable,
            halted=None,
            mempool_transactions=len(self._pool),
            mempool_bytes=sum(len(decoded.raw) for decoded in self._pool),
            uptime_ms=5_000,
            counters={"blocks_committed": tip.height},
            archives=(
                ArchivedChain("1-900.2", "data/archives", (1, 900), 7),
                ArchivedChain("unread", "data/archives-beside", None, 8),
            ),
        )

    def explain(self) -> Explanation:
        return Explanation(
            name="v0",
            text="waits for nothing",
            progressing=True,
            height=self._snapshots[-1].height,
            view=0,
            validators=("v0", "v1", "v2", "v3"),
            quorum=3,
            causes=(Cause("not heard", "not heard: v1 (silent 4.1 s)", None, 0, ("v1",)),),
            peers={"v1": "silent 4.1 s"},
        )

    def misconduct(self) -> Sequence[MisconductStatus]:
        return self.held

    def misconduct_file(self, offence: bytes) -> bytes | None:
        return b"file" if offence in [entry.offence for entry in self.held] else None

    def explain_transaction(self, transaction_id: bytes) -> TransactionExplanation:
        waiting = [decoded.id for decoded in self._pool]
        place = waiting.index(transaction_id) if transaction_id in waiting else None
        return TransactionExplanation(self.transaction(transaction_id), "waits for a block", place)

    def peers(self) -> Sequence[PeerStatus]:
        return [
            PeerStatus(
                node=key.public,
                name="v1",
                address="127.0.0.1:1",
                connected=True,
                inbound=False,
                height=self._snapshots[-1].height,
                silent_ms=12,
                refused="",
                banned_ms=1_500,
                offences={"flood": 2},
                misled=4,
                dropped={"transactions": 3},
            )
            for key in self.validator_keys[1:2]
        ]

    def mempool(self) -> MempoolStatus:
        return MempoolStatus(
            transactions=len(self._pool), bytes=0, transactions_max=10, bytes_max=100, transactions_per_account_max=5
        )

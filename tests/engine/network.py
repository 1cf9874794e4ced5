"""Engines over memory in one test: real replica, ledger, store and codec; a world whose clock and queues a test drives.

Nothing happens by itself: what an engine sends, asks to verify or puts off waits in its station until the test lets it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import msgspec

from otcnode import limits
from otcnode.codec import encode
from otcnode.consensus.configuration import Configuration
from otcnode.consensus.events import Now, Timer
from otcnode.consensus.record import birth
from otcnode.consensus.replica import Replica
from otcnode.crypto import SignatureCheck, SigningKey, sha256, verify
from otcnode.engine.catch_up import Snapshots
from otcnode.engine.engine import Engine
from otcnode.engine.host import TransactionState
from otcnode.engine.recording import RecordedConfiguration
from otcnode.engine.snapshot_taking import DamagePause
from otcnode.event_files import FILE_BYTES, FileRecorder, Sign
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
    first_epoch,
    genesis_account_id,
)
from otcnode.p2p.framing import Channel
from otcnode.storage.documents import DocumentStore
from otcnode.storage.folder import Folders, MemoryFolders
from otcnode.storage.kv import KeyValue, MemoryKeyValue
from otcnode.storage.store import Store
from otcnode.storage.votes_log import MemoryVotesLog, VotesLog
from otcnode.vm.accounts.operations import CashDeposit, KeyAdd, KeyRevoke
from otcnode.vm.genesis_state import genesis_writes
from otcnode.vm.operations import Operation
from otcnode.vm.transactions import (
    TRANSACTION_VERSION,
    Body,
    Decoded,
    KeySignature,
    decode_transaction,
    sign_transaction,
)

START_MS = 1_800_000_000_000
CASH = "CNY@BANK"
BANK, HOLDER = "bank", "holder"


@cache
def key_of(name: str) -> SigningKey:
    return SigningKey(sha256(f"engine tests {name}".encode()))


@cache
def genesis_of(validators: int, window: int = 4, transactions_max: int = 1_000) -> Genesis:
    keys = sorted((key_of(f"node {index}") for index in range(validators)), key=lambda key: key.public)
    bank = (
        GenesisKey(purpose=KeyPurpose.TRADE, key=key_of(BANK).public),
        GenesisKey(purpose=KeyPurpose.MANAGE, key=key_of("bank manager").public),
    )
    return Genesis(
        network="engine tests",
        clock=Clock(origin_ms=START_MS),
        time_ms=START_MS,
        parameters=ChainParameters(window=window, state_buckets=16, block_transactions_max=transactions_max),
        validators=tuple(
            GenesisValidator(name=f"n{index}", id=key.public, organisation=f"o{index}")
            for index, key in enumerate(keys)
        ),
        accounts=(
            GenesisAccount(name=BANK, organisation=BANK, roles=(Role.CUSTODIAN,), keys=bank),
            GenesisAccount(name=HOLDER, organisation=HOLDER, roles=(Role.INVESTOR,), keys=()),
        ),
        cash=(CashAsset(id=CASH, custodian=BANK),),
    )


class MemoryShelf:
    """Snapshots served and gathered in memory; `installed` is what a whole one left for the next engine."""

    def __init__(self) -> None:
        self.made: Folders = MemoryFolders()
        self.gathered: KeyValue | None = None
        self.installed: KeyValue | None = None
        self.pause = DamagePause()
        """Of the process, which outlives its engines like this shelf."""

    def begun(self) -> bool:
        return self.gathered is not None

    def incoming(self) -> KeyValue:
        if self.gathered is None:
            self.gathered = MemoryKeyValue()
        return self.gathered

    def discard(self) -> None:
        self.gathered = None

    def close(self) -> None:
        """What has been gathered stays."""

    def install(self) -> None:
        assert self.installed is None, "once"
        self.installed, self.gathered = self.gathered, None


class Station:
    """One engine and the world it sees: Host and Observer."""

    def __init__(
        self,
        genesis: Genesis,
        key: SigningKey,
        *,
        kv: KeyValue | None = None,
        documents: DocumentStore | None = None,
        votes: VotesLog | None = None,
        now_ms: int = 0,
        shelf: MemoryShelf | None = None,
        interval_blocks: int = 0,
        behind_blocks: int = 0,
        record_bytes: int = limits.record_bytes_before_compaction,
        blocks_kept: int | None = None,
        recorded: Path | None = None,
        recorded_bytes: int = FILE_BYTES,
    ) -> None:
        """`recorded`: a directory for what the replica is told and does."""
        self.genesis = genesis
        self.chain = chain_id(genesis)
        self.key = key
        self.own = key.public
        self.kv = kv or MemoryKeyValue()
        self.documents = documents or DocumentStore(MemoryKeyValue())
        self.now_ms = now_ms
        self.skew_ms = 0
        self.sent: deque[tuple[bytes, Channel, bytes]] = deque()
        self.penalised: list[tuple[bytes, str]] = []
        self.put_off: deque[Callable[[], None]] = deque()
        self.jobs: deque[tuple[list[SignatureCheck], Callable[[Sequence[bool]], None]]] = deque()
        self.timers: dict[Timer, int] = {}
        self.notes: list[tuple[str, str]] = []
        self.noted: list[tuple[str, dict[str, object]]] = []
        """With what else was said."""
        self.committed: list[tuple[int, tuple[bytes, ...]]] = []
        self.ended: list[tuple[bytes, TransactionState]] = []
        self.node_changes = 0
        if votes is None:
            votes = MemoryVotesLog()
            votes.append(birth())
            votes.sync()
        self.votes = votes
        if not Store.exists(self.kv):
            Store.create(
                self.kv,
                self.chain,
                genesis_writes(genesis),
                genesis.parameters.state_buckets,
                first_epoch(genesis),
                100,
            )
        self.store = Store.open(self.kv, self.chain, 100, blocks_kept)
        configuration = Configuration(self.chain, self.own, record_bytes_before_compaction=record_bytes)
        self.recorder: FileRecorder | None = None
        sign: Sign = key.sign
        if recorded is not None:
            self.recorder = FileRecorder(
                recorded,
                RecordedConfiguration.of(configuration),
                lambda text: self.note("error", text),
                file_bytes=recorded_bytes,
            )
            sign = self.recorder.signing(sign)
        replica = Replica(configuration, sign)
        self.shelf = shelf or MemoryShelf()
        self.engine = Engine(
            self.chain,
            genesis.time_ms,
            key,
            self.store,
            self.documents,
            self.votes,
            replica,
            self,
            self,
            snapshots=Snapshots(self.shelf, interval_blocks, behind_blocks, pause=self.shelf.pause),
            recorder=self.recorder,
        )

    @property
    def height(self) -> int:
        return self.store.tip.height

    # ---- Host

    def now(self) -> Now:
        return Now(self.now_ms, START_MS + self.now_ms + self.skew_ms)

    def send(self, peer: bytes, channel: Channel, payload: bytes) -> None:
        self.sent.append((peer, channel, payload))

    def penalise(self, peer: bytes, reason: str) -> None:
        self.penalised.append((peer, reason))

    def set_timer(self, timer: Timer, delay_ms: int | None) -> None:
        self.timers.pop(timer, None)
        if delay_ms is not None:
            self.timers[timer] = self.now_ms + delay_ms

    def verify(self, checks: Sequence[SignatureCheck], done: Callable[[Sequence[bool]], None]) -> None:
        self.jobs.append((list(checks), done))

    def verify_votes(self, checks: Sequence[SignatureCheck], done: Callable[[Sequence[bool]], None]) -> None:
        self.verify(checks, done)

    def later(self, action: Callable[[], None]) -> None:
        self.put_off.append(action)

    def note(self, level: str, text: str, **fields: object) -> None:
        self.notes.append((level, text))
        self.noted.append((text, fields))

    # ---- Observer

    def block_committed(self, height: int, transaction_ids: Sequence[bytes]) -> None:
        self.committed.append((height, tuple(transaction_ids)))

    def nodes_changed(self) -> None:
        self.node_changes += 1

    def transaction_ended(self, transaction_id: bytes, state: TransactionState) -> None:
        self.ended.append((transaction_id, state))

    # ---- what a test lets happen

    def verify_next(self) -> None:
        checks, done = self.jobs.popleft()
        done([verify(*check) for check in checks])

    def settle(self, rounds: int = 10_000) -> None:
        """Let everything inside this station happen, at this moment."""
        for _ in range(rounds):
            if self.put_off:
                self.put_off.popleft()()
            elif self.jobs:
                self.verify_next()
            else:
                return
        raise AssertionError(f"still busy after {rounds} actions")

    def elapse(self, delay_ms: int) -> None:
        """Time passes; what is due happens, in order."""
        end_ms = self.now_ms + delay_ms
        while due := sorted((at_ms, timer) for timer, at_ms in self.timers.items() if at_ms <= end_ms):
            at_ms, timer = due[0]
            self.now_ms = max(self.now_ms, at_ms)
            del self.timers[timer]
            self.engine.elapsed(timer)
            self.settle()
        self.now_ms = end_ms
        self.engine.tick()
        self.settle()

    def payloads(self, peer: bytes, channel: Channel) -> list[bytes]:
        """Take out what was sent to a peer on a channel."""
        taken = [payload for to, on, payload in self.sent if (to, on) == (peer, channel)]
        self.sent = deque(entry for entry in self.sent if entry[:2] != (peer, channel))
        return taken

    def submit(self, transaction: Decoded, client: str = "") -> list[TransactionState]:
        """The list gets the answer when there is one."""
        answers: list[TransactionState] = []
        self.engine.submit(transaction, answers.append, client)
        return answers


class Net:
    """Stations that hear each other as far as a test lets them."""

    def __init__(self, stations: Sequence[Station]) -> None:
        self.stations = {station.own: station for station in stations}
        self.cut: set[tuple[bytes, bytes]] = set()

    def start(self) -> None:
        for station in self.stations.values():
            station.engine.start()
            station.settle()
        for station in self.stations.values():
            for other in self.stations:
                if other != station.own:
                    station.engine.connected(other)
        self.deliver()

    def deliver(self, rounds: int = 100_000) -> None:
        """Let every message arrive, and all that follows from it, at this moment."""
        for _ in range(rounds):
            busy = [station for station in self.stations.values() if station.sent]
            for station in self.stations.values():
                station.settle()
            if not busy:
                return
            for station in busy:
                peer, channel, payload = station.sent.popleft()
                if peer in self.stations and (station.own, peer) not in self.cut:
                    self.stations[peer].engine.received(station.own, channel, payload)
        raise AssertionError("the stations never come to rest")

    def elapse(self, delay_ms: int, step_ms: int = 50) -> None:
        for _ in range(0, delay_ms, step_ms):
            for station in self.stations.values():
                station.elapse(step_ms)
            self.deliver()


def stations(validators: int, *, window: int = 4, transactions_max: int = 1_000) -> list[Station]:
    genesis = genesis_of(validators, window, transactions_max)
    keys = {key_of(f"node {index}").public: key_of(f"node {index}") for index in range(validators)}
    return [Station(genesis, keys[validator.id]) for validator in genesis.validators]


def alone() -> Station:
    """A network of one, started: it commits by itself."""
    (station,) = stations(1)
    station.engine.start()
    station.settle()
    return station


def body(
    genesis: Genesis, operation: Operation, *, salt: object = 0, sender: str = BANK, valid_until_ms: int | None = None
) -> Body:
    return Body(
        version=TRANSACTION_VERSION,
        chain=chain_id(genesis),
        sender=genesis_account_id(sender),
        salt=sha256(repr(salt).encode()),
        valid_until=START_MS + 60_000 if valid_until_ms is None else valid_until_ms,
        on_behalf_of=None,
        entrustment=None,
        operations=(operation,),
    )


def deposit(genesis: Genesis, number: int, *, valid_until_ms: int | None = None, key: str = BANK) -> Decoded:
    """A deposit by the bank; different numbers are different transactions."""
    operation = CashDeposit(genesis_account_id(HOLDER), CASH, 100 + number, f"reference {number}")
    return sign_transaction(body(genesis, operation, salt=number, valid_until_ms=valid_until_ms), [key_of(key)])


def key_add(genesis: Genesis, key: str) -> Decoded:
    operation = KeyAdd(KeyPurpose.TRADE, key_of(key).public)
    return sign_transaction(body(genesis, operation, salt=("add", key)), [key_of("bank manager")])


def key_revoke(genesis: Genesis, key: str) -> Decoded:
    operation = KeyRevoke(key_of(key).public)
    return sign_transaction(body(genesis, operation, salt=("revoke", key)), [key_of("bank manager")])


def forged(true: Decoded, number: int = 0) -> Decoded:
    """The same transaction, by its id, with a signature that does not verify."""
    signatures = tuple(
        KeySignature(entry.key, sha256(repr(number).encode()) + entry.signature[32:])
        for entry in true.transaction.signatures
    )
    return _with(true, signatures)


def signed_by_stranger(true: Decoded, name: str = "stranger") -> Decoded:
    """The same transaction, by its id, signed by a key that its sender does not have: authentic, and nobody's."""
    key = key_of(name)
    return _with(true, (KeySignature(key.public, key.sign(true.id)),))


def _with(true: Decoded, signatures: tuple[KeySignature, ...]) -> Decoded:

    return decode_transaction(encode(msgspec.structs.replace(true.transaction, signatures=signatures)))

"""The shell: one loop that owns everything, performs what the engine asks of the world, and parents every task."""

from __future__ import annotations

import asyncio
import gc
import signal
import ssl
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TextIO, cast

import structlog

from otcnode import genesis as genesis_module
from otcnode import limits
from otcnode.archives import Archive, ArchivesSeen, putting_aside
from otcnode.config import Home, NodeConfiguration, RpcSection, load_configuration, split_address
from otcnode.consensus.configuration import Configuration
from otcnode.consensus.events import Now, Timer
from otcnode.consensus.replica import Replica
from otcnode.crypto import SignatureCheck, verify
from otcnode.engine.catch_up import Snapshots
from otcnode.engine.engine import TICK_MS, Engine
from otcnode.engine.host import TransactionState
from otcnode.engine.recording import RecordedConfiguration
from otcnode.engine.snapshot_taking import DamagePause
from otcnode.errors import ConfigurationError, DiskFull, FolderDamage, NodeFailed, StorageDamage
from otcnode.event_files import FileRecorder, Sign
from otcnode.genesis import Genesis, chain_id
from otcnode.membership import Membership
from otcnode.node_key import NodeKey
from otcnode.node_service import Finality, Service
from otcnode.p2p.close import SOMEBODY_ELSE, Reason
from otcnode.p2p.framing import Channel
from otcnode.p2p.handshake import Identity
from otcnode.p2p.transport import Transport
from otcnode.roots import roots_of
from otcnode.rpc.server import RpcServer
from otcnode.storage.directory import DirectoryFolders
from otcnode.storage.documents import DocumentStore
from otcnode.storage.documents_directory import open_documents
from otcnode.storage.level import LevelKeyValue, check_new
from otcnode.storage.shelf import (
    DiskShelf,
    Installation,
    complete_installation,
    delete_chain,
    end_deletion,
    may_be_replaced,
)
from otcnode.storage.store import Store
from otcnode.storage.votes_file import FileVotesLog
from otcnode.verifier import Verifier
from otcnode.vm.genesis_state import genesis_writes

COLLECTED_OBJECTS = 10_000
"""So many more must have been made than dropped before the young ones are looked at."""


def open_store(
    home: Home,
    genesis: Genesis,
    chain: bytes,
    configuration: NodeConfiguration,
    note: Callable[[str], None] = lambda text: None,
    just_read: bool = False,
    documents_left: bool = False,
    installed: Callable[[Installation], None] = lambda installation: None,
) -> Store:
    """Open the node's chain: a snapshot that has become whole, else what is there, at the first start the genesis.
    `note` is told of a snapshot that was deleted because it is damaged, and of a chain that was put aside for one.
    `just_read`: this process has finished that snapshot. `documents_left`: not all documents could be moved from the
    chain, which is put aside then however many blocks are to be kept. `installed` is told what came of a gathered
    snapshot. Raises DiskFull where there is not the room to go on, with or without one."""
    keeps_old = documents_left or not configuration.storage.blocks_kept
    dispose = putting_aside(home, note, documents_left=documents_left) if keeps_old else delete_chain
    installation = complete_installation(
        home.incoming, home.database, lambda: roots_of(genesis), dispose, just_read=just_read
    )
    installed(installation)
    if (damage := installation.damage) is not None:
        note(f"what was gathered of a snapshot is damaged and was deleted, it is fetched again where needed: {damage}")
    require_room(home)
    home.database.parent.mkdir(parents=True, exist_ok=True)
    kv = LevelKeyValue(
        home.database,
        create=True,
        cache_bytes=configuration.storage.cache_bytes,
        spare_bytes=limits.disk_spare_bytes,
    )
    if kv.cut is not None:
        note(kv.cut)
    history, kept = configuration.storage.history_blocks, configuration.storage.blocks_kept or None
    try:
        if Store.exists(kv):
            return Store.open(kv, chain, history, kept)
        check_new(home.database)
        return Store.create(
            kv,
            chain,
            genesis_writes(genesis),
            genesis.parameters.state_buckets,
            genesis_module.first_epoch(genesis),
            history,
            kept,
        )
    except BaseException:
        kv.close()
        raise


def require_room_ahead(home: Home) -> None:
    """To be asked before a node opens or tells anything. A start that may give room is not refused for want of it: what
    is left of a chain that was being deleted goes first, and where a snapshot may be taking the place of the chain,
    `open_store` asks behind that. Raises DiskFull."""
    if _free_bytes(home) < limits.disk_spare_bytes:
        end_deletion(home.database)
    if not may_be_replaced(home.incoming, home.database):
        require_room(home)


def require_room(home: Home) -> None:
    """A node that could not write its next block would end at once, and who starts it again each time would do so for
    ever. Raises DiskFull with what gives room."""
    free_bytes = _free_bytes(home)
    if free_bytes >= limits.disk_spare_bytes:
        return
    prune = f"otcnode db prune --home {home.path} --keep-blocks N --without-snapshot"
    raise DiskFull(
        f"the disk of {home.database} is full: {free_bytes >> 20} MiB are free, a node needs "
        f"{limits.disk_spare_bytes >> 20} MiB to go on; free space, "
        f"{f'or run: {prune}; ' if home.database.exists() else ''}then start the node again"
    )


def _free_bytes(home: Home) -> int:
    """On the disk of the chain. Where that does not say, the write itself finds out."""
    try:
        return DirectoryFolders(home.database).free_bytes()
    except FolderDamage:
        return sys.maxsize


class Node:
    """A running node. `run` returns when it is told to stop; it implements engine.host.Host and Observer."""

    def __init__(
        self, home: Home, *, vote_again_after_loss: bool = False, events_directory: Path | None = None
    ) -> None:
        self._home = home
        self._configuration = load_configuration(home)
        self._genesis = genesis_module.load(home.genesis)
        self._chain = chain_id(self._genesis)
        self._key = NodeKey.load(home.key)
        self._log = structlog.get_logger().bind(node=self._configuration.name)
        self._vote_again_after_loss = vote_again_after_loss
        self._events_directory = events_directory
        self._finality = Finality()
        self._timers: dict[Timer, asyncio.TimerHandle] = {}
        self._counters: Counter[str] = Counter()
        self._failure: Exception | None = None
        self._ended = False
        self._installing = False
        self._told_to_stop = False
        self._damage_pause = DamagePause()
        self._stopped = asyncio.Event()

    # ---- running

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises ConfigurationError or StorageDamage where it cannot go on, NodeFailed
        where it made a mistake."""
        require_room_ahead(self._home)
        self._loop = asyncio.get_running_loop()
        while not self._told_to_stop and await self._live():
            self._log.info("the snapshot takes the place of the chain")
            # What the engine that has ended still had to do is dropped before the next one begins, and a signal that
            # came while it was closed is heard.
            await asyncio.sleep(0)

    async def _live(self) -> bool:
        """One engine from its start to its end; whether another one is to follow it on the snapshot that it took."""
        self._stopped = asyncio.Event()
        finished_here = self._installing
        self._ended = self._installing = False
        async with AsyncExitStack() as closing:
            documents = open_documents(
                self._home.documents, self._home.database, self._log.error, limits.disk_spare_bytes
            )
            closing.callback(documents.close)
            store = open_store(
                self._home,
                self._genesis,
                self._chain,
                self._configuration,
                self._log.error,
                just_read=finished_here,
                documents_left=not documents.has_taken_over,
                installed=self._installed,
            )
            closing.callback(store.close)
            self._check_view_timeout(store.epochs()[-1].parameters.drift_real_ms)
            votes_log = FileVotesLog(self._home.record)
            closing.callback(votes_log.close)
            self._shelf = DiskShelf(self._home.snapshots, self._home.incoming, self._install)
            closing.callback(self._shelf.close)
            self._verifier = Verifier(self._loop, self._defect)
            closing.push_async_callback(self._verifier.close)
            closing.callback(self._end)
            self._assemble(store, documents, votes_log, closing)
            await self._serve()
        return self._installing

    def _check_view_timeout(self, drift_ms: int) -> None:
        """Against the parameter in force. Raises ConfigurationError."""
        timeout_ms = self._configuration.consensus.view_timeout_ms
        if 2 * timeout_ms > drift_ms:
            raise ConfigurationError(
                f"{self._home.configuration}: consensus.view_timeout_ms is {timeout_ms}, more than half of the chain's "
                f"parameter drift_real_ms ({drift_ms}): the blocks of a view that failed would be too old for the next"
            )

    def _install(self) -> None:
        self._installing = True
        self._stopped.set()

    def _installed(self, installation: Installation) -> None:
        if installation.damage is not None:
            self._damage_pause.begin(self.now().monotonic_ms)
        elif installation.taken:
            self._damage_pause.end()

    def _stop(self) -> None:
        self._told_to_stop = True
        self._stopped.set()

    def _end(self) -> None:
        """Nothing reaches the engine any more, for what it stands on is being closed."""
        self._ended = True
        for handle in self._timers.values():
            handle.cancel()
        self._timers.clear()

    def _assemble(
        self, store: Store, documents: DocumentStore, votes_log: FileVotesLog, closing: AsyncExitStack
    ) -> None:
        section = self._configuration.consensus
        configuration = Configuration(
            chain=self._chain,
            own=self._key.id,
            clock_rate=self._genesis.clock.rate,
            view_timeout_ms_base=section.view_timeout_ms,
            view_timeout_ms_max=section.view_timeout_ms_max,
            vote_again_after_loss=self._vote_again_after_loss,
        )
        recorder: FileRecorder | None = None
        sign: Sign = self._key.signing.sign
        if self._events_directory is not None:
            recorded = RecordedConfiguration.of(configuration)
            recorder = FileRecorder(self._events_directory, recorded, self._log.error)
            closing.callback(recorder.close)
            sign = recorder.signing(sign)
        replica = Replica(configuration, sign, verify)
        self._engine = Engine(
            self._chain,
            self._genesis.time_ms,
            self._key.signing,
            store,
            documents,
            votes_log,
            replica,
            self,
            self,
            snapshots=Snapshots(
                self._shelf,
                self._configuration.snapshot_interval_blocks,
                self._configuration.snapshots.behind_blocks,
                pause=self._damage_pause,
            ),
            recorder=recorder,
        )
        closing.callback(self._engine.close)
        self._store = store
        self._votes_log = votes_log
        self._membership = Membership(self._key.id, self._configuration.p2p.peers)
        self._transport = Transport(
            Identity(self._key.signing, self._key.static_secret),
            self._chain,
            self._membership.admits,
            self,
            listen=split_address(self._configuration.p2p.listen),
            peers=self._membership.read(store.state),
            advertise=self._configuration.p2p.advertise or None,
            sequence=time.time_ns() // 1_000_000,
            guest=lambda peer: peer not in self._engine.flight.tip().next_epoch.validators,
        )
        self._archives = ArchivesSeen(self._home, self._say_what_is_put_aside)
        self._service = Service(
            name=self._configuration.name,
            genesis=self._genesis,
            chain_id=self._chain,
            own=self._key.id,
            sign=self._key.signing.sign,
            engine=self._engine,
            store=store,
            membership=self._membership,
            finality=self._finality,
            connections=self._transport.peers,
            counters=self._totals,
            disk_writable=lambda: self._engine.halted is None,
            archives=lambda: self._archives.at(self.now().monotonic_ms),
            on_damage=self._fail,
        )
        self._rpc = RpcServer(self._service, tls=_tls_context(self._configuration.rpc))

    async def _serve(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop)
        # First of all: whoever connects is served by an engine that has begun.
        self._engine.start()
        self._say_what_was_cut()
        self._say_why_silent()
        self._archives.at(self.now().monotonic_ms)
        async with AsyncExitStack() as stopping:
            stopping.push_async_callback(self._transport.stop)
            await self._transport.start()
            stopping.push_async_callback(self._rpc.stop)
            await self._rpc.start(*split_address(self._configuration.rpc.listen))
            self._log.info(
                "started",
                chain=self._chain.hex()[:16],
                height=self._engine.flight.tip().height,
                p2p=self._configuration.p2p.listen,
                rpc=self._configuration.rpc.listen,
            )
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._tick()), group.create_task(self._watch_transport())]
                await self._stopped.wait()
                for task in tasks:
                    task.cancel()
        if isinstance(self._failure, StorageDamage):
            raise self._failure
        if self._failure is not None:
            raise NodeFailed(f"the node stopped on a mistake of its own: {self._failure!r}") from self._failure
        self._log.info("stopped", height=self._engine.flight.tip().height)

    def _say_what_was_cut(self) -> None:
        if self._votes_log.cut_bytes:
            self._log.warning(
                "the voting record ended in what was never written whole, as after a crash: it was cut off, nothing "
                "that left this node depends on it",
                bytes=self._votes_log.cut_bytes,
            )

    def _say_why_silent(self) -> None:
        """A validator that does not vote yet says so at the start, and what ends it."""
        state = self._engine.replica.state
        if not state.is_validator:
            return
        if state.silence is not None and state.silence.shown:
            self._log.error(
                f"{state.silence.shown}: this validator is silent. Stop the second process that signs with its key; it "
                "votes again by itself once nothing that was signed can matter (otcnode explain)"
            )
        elif state.silence is not None:
            self._log.error(
                f"{self._votes_log.trouble or 'the voting record permits nothing'}: this validator is silent and votes "
                "again by itself once nothing it may have signed can matter (otcnode explain). Only where a quorum "
                "lost its records, let one vote with: otcnode run --vote-again-after-loss"
            )
        elif state.record_held_back is not None:
            self._log.error(
                f"the store is at height {state.committed}, this validator has signed up to {state.floor}: it votes "
                "again once it has caught up. Blocks were lost on this disk, or the store was put back: check the disk"
            )

    async def _watch_transport(self) -> None:
        try:
            await self._transport.wait()
        except Exception as error:
            self._defect(error)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_MS / 1000)
            self._guard(self._engine.tick)

    def _say_what_is_put_aside(self, archives: list[Archive]) -> None:
        """In a thread. The loop may be closed when the disk has answered at last."""
        with suppress(RuntimeError):
            for archive in archives:
                text = f"an earlier chain is kept in {archive}, see the operations guide"
                self._loop.call_soon_threadsafe(self._log.info, text)

    def _guard(self, action: Callable[[], None]) -> None:
        """Run a piece of the engine; what must never happen ends the node loudly instead of being carried on."""
        if self._failure is not None or self._ended:
            return
        try:
            action()
        except StorageDamage as error:
            self._fail(error)
        except Exception as error:
            self._defect(error)

    def _defect(self, error: Exception) -> None:
        self._log.error("internal error, the node stops", exc_info=error)
        self._fail(error)

    def _fail(self, error: Exception) -> None:
        if self._failure is None:
            self._failure = error
        self._stopped.set()

    def _totals(self) -> dict[str, int]:
        """Counts since the start, by the names of their metrics."""
        return {**self._counters, "connections_refused": self._transport.refusals.total()}

    # ---- the engine's host

    def now(self) -> Now:
        return Now(time.monotonic_ns() // 1_000_000, self._genesis.clock.ledger_ms(time.time_ns() // 1_000_000))

    def send(self, peer: bytes, channel: Channel, payload: bytes) -> None:
        self._transport.send(peer, channel, payload)

    def penalise(self, peer: bytes, reason: str) -> None:
        self._transport.penalise(peer, reason)

    def set_timer(self, timer: Timer, delay_ms: int | None) -> None:
        old = self._timers.pop(timer, None)
        if old is not None:
            old.cancel()
        if delay_ms is not None:
            self._timers[timer] = self._loop.call_later(
                delay_ms / 1000, self._guard, lambda: self._engine.elapsed(timer)
            )

    def verify(self, checks: Sequence[SignatureCheck], done: Callable[[Sequence[bool]], None]) -> None:
        self._counters["signatures_verified"] += len(checks)
        self._verifier.verify(checks, lambda verdicts: self._guard(lambda: done(verdicts)))

    def verify_votes(self, checks: Sequence[SignatureCheck], done: Callable[[Sequence[bool]], None]) -> None:
        self.verify(checks, done)

    def later(self, action: Callable[[], None]) -> None:
        self._loop.call_soon(self._guard, action)

    def note(self, level: str, text: str, **fields: object) -> None:
        getattr(self._log, level)(text, **fields)

    # ---- the engine's observer

    def block_committed(self, height: int, transaction_ids: Sequence[bytes]) -> None:
        self._counters["blocks_committed"] += 1
        self._counters["transactions_committed"] += len(transaction_ids)
        self._finality.block_committed(height, transaction_ids)

    def nodes_changed(self) -> None:
        for node, address in sorted(self._membership.read(self._store.state).items()):
            self._transport.set_address(node, address)
        self._transport.admissions_changed()

    def transaction_ended(self, transaction_id: bytes, state: TransactionState) -> None:
        self._counters["transactions_dropped"] += 1
        self._finality.transaction_ended(transaction_id, state)

    # ---- the network's callbacks

    def connected(self, peer: bytes) -> None:
        self._log.info("peer connected", peer=self._membership.name_of(peer))
        self._guard(lambda: self._engine.connected(peer))

    def disconnected(self, peer: bytes, reason: Reason) -> None:
        self._log.info("peer gone", peer=self._membership.name_of(peer), reason=str(reason))
        self._guard(lambda: self._engine.disconnected(peer))

    def refused(self, address: str, peer: bytes | None, reason: Reason) -> None:
        name = None if peer is None else self._membership.name_of(peer)
        misled = peer is not None and reason.code in SOMEBODY_ELSE and not reason.by_peer
        log = self._log.warning if misled else self._log.info
        log("no connection", address=address, peer=name, reason=str(reason))

    def banned(self, peer: bytes, reason: Reason, ban_ms: int) -> None:
        self._counters["peers_banned"] += 1
        self._log.warning("peer banned", peer=self._membership.name_of(peer), reason=str(reason), ms=ban_ms)

    def message(self, peer: bytes, channel: Channel, payload: bytes) -> None:
        self._guard(lambda: self._engine.received(peer, channel, payload))


def _tls_context(section: RpcSection) -> ssl.SSLContext | None:
    if section.tls_certificate is None and section.tls_key is None:
        return None
    if section.tls_certificate is None or section.tls_key is None:
        raise ConfigurationError("rpc.tls_certificate and rpc.tls_key belong together")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(section.tls_certificate, section.tls_key)
    except OSError as error:
        raise ConfigurationError(f"cannot use {section.tls_certificate} for TLS: {error}") from None
    return context


class _Log:
    """Standard error; a line that cannot be written is lost, for a log on a full disk must not end what it tells of."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def configure_logging(level: str, form: str) -> None:
    """One line per event on standard error, readable or JSON."""
    numbers = {"debug": 10, "info": 20, "warning": 30, "error": 40}
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(numbers[level]),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Log(sys.stderr))),
        cache_logger_on_first_use=True,
    )


def spare_collections() -> None:
    """Have the collector of cyclic garbage look less often, and never at what was imported.

    What a node makes and drops it frees by counting references; cycles are rare (what a task leaves that failed). By
    default the collector looks at every 700 new objects, which is eight times per block of 500 transactions.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECTED_OBJECTS, 10, 10)


def run_node(home: Home, *, vote_again_after_loss: bool = False, events_directory: Path | None = None) -> None:
    """Run a node until it is told to stop. Raises ConfigurationError, StorageDamage, NodeFailed."""
    configuration = load_configuration(home)
    configure_logging(configuration.log.level, configuration.log.format)
    spare_collections()

    async def serve() -> None:
        await Node(home, vote_again_after_loss=vote_again_after_loss, events_directory=events_directory).run()

    asyncio.run(serve())

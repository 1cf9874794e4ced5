"""All connections of a node: who is dialled, who is let in, which of two connections stays, what each peer costs.

One task group is the parent of every task here; stopping cancels it and waits. A mistake of our own in any of them
ends the whole transport, and `wait` raises it to whoever runs the node.

Two nodes may dial each other at the same moment. The connection dialled by the node with the smaller identity stays; a
new connection by the same dialler, or from a peer that has been started again, replaces the old one, which is dead.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from enum import StrEnum
from random import random
from typing import Protocol

from msgspec import Struct

from otcnode import limits
from otcnode.codec import decode, encode
from otcnode.crypto import random_bytes
from otcnode.errors import ConfigurationError, DecodeError
from otcnode.p2p.announcements import Announcements, AnnouncementTable, NodeAnnouncement, announce, in_frames
from otcnode.p2p.close import PUNISHED, SOMEBODY_ELSE, CloseCode, PeerError, Reason
from otcnode.p2p.connection import READ_BYTES, Clock, Connection, Settings, hang_up, shake_hands, tune
from otcnode.p2p.framing import Channel, Form
from otcnode.p2p.handshake import SESSION_BYTES, Established, Handshake, Identity, another_node
from otcnode.p2p.peers import AddressBook, Backoff, Pauses, parse_address
from otcnode.p2p.rates import Rate, SharedWork, TokenBucket
from otcnode.p2p.resolver import Lookup, Resolver, look_up
from otcnode.types import INTEGER_MAX, ChainId, NodeId

_QUIET_REFUSALS = frozenset({CloseCode.DUPLICATE, CloseCode.REPLACED, CloseCode.STOPPING})
"""Ends of an attempt that are part of ordinary life."""


class Handlers(Protocol):
    """What the transport tells the node: plain calls on the loop, none of which may block."""

    def connected(self, peer: NodeId) -> None:
        """Messages can be sent and will come."""
        ...

    def disconnected(self, peer: NodeId, reason: Reason) -> None: ...

    def message(self, peer: NodeId, channel: Channel, payload: bytes) -> None: ...

    def refused(self, address: str, peer: NodeId | None, reason: Reason) -> None:
        """An attempt, in or out, that led to no connection. `peer` is proven if it is named for an inbound one. Those
        of strangers are told at a bounded rate; `Transport.refusals` counts them all."""
        ...

    def banned(self, peer: NodeId, reason: Reason, ban_ms: int) -> None:
        """An admitted peer did what no honest node does, and may not come back for `ban_ms`."""
        ...


class Direction(StrEnum):
    DIALLED = "dialled"
    ACCEPTED = "accepted"
    NONE = "none"


class PeerStatus(Struct, frozen=True, kw_only=True):
    """One peer, for an operator. Times are monotonic milliseconds; counts are those of the present connection."""

    node: NodeId
    address: str
    direction: Direction = Direction.NONE
    since_ms: int | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    messages_in: int = 0
    messages_out: int = 0
    queued_bytes: dict[str, int] = {}
    dropped: dict[str, int] = {}
    throttled_ms: int = 0
    round_trip_us: int | None = None
    banned_ms: int
    """How much longer the peer is banned."""
    offences: dict[str, int] = {}
    """How often it was banned since this node started, by close code."""
    misled: int = 0
    """How often somebody else was found at its address."""
    last_error: str


class _Peer:
    """What the transport keeps of a node from one connection to the next."""

    __slots__ = ("arrivals", "backoff", "changed", "connection", "dialling", "last_error", "met", "misled", "offences")

    def __init__(self, settings: Settings, now_ms: int) -> None:
        self.arrivals = TokenBucket(settings.inbound_per_node, now_ms)
        self.connection: Connection | None = None
        self.changed = asyncio.Event()
        self.backoff = Backoff(settings.reconnect_ms_first, settings.reconnect_ms_max)
        self.last_error = ""
        self.dialling = False
        self.met = False
        """Whether it has proven to be where it was dialled last."""
        self.misled = 0
        self.offences: Counter[str] = Counter()


def monotonic_us() -> int:
    return time.monotonic_ns() // 1_000


class Transport:
    """`admitted` is asked again at every attempt; `listen` None: dial only. `advertise`: the host:port that others are
    told, with `sequence` (milliseconds of the node's start) above any used before. `guest`: a node that this one can do
    without; all guests together get only so much of its time."""

    def __init__(
        self,
        identity: Identity,
        chain: ChainId,
        admitted: Callable[[NodeId], bool],
        handlers: Handlers,
        listen: tuple[str, int] | None,
        peers: Mapping[NodeId, str],
        *,
        advertise: str | None = None,
        sequence: int = 0,
        guest: Callable[[NodeId], bool] = lambda _: False,
        settings: Settings | None = None,
        clock_us: Clock = monotonic_us,
        chance: Callable[[], float] = random,
        entropy: Callable[[int], bytes] = random_bytes,
        lookup: Lookup = look_up,
    ) -> None:
        self._identity = identity
        self._node = identity.node
        self._chain = chain
        self._admitted = admitted
        self._handlers = handlers
        self._guest = guest
        self._listen = listen
        self._settings = settings or Settings()
        self._clock_us = clock_us
        self._chance = chance
        self._entropy = entropy
        self._session = entropy(SESSION_BYTES)
        self._bans: Pauses[NodeId] = Pauses(self._settings.ban_ms_first, self._settings.ban_ms_max, limits.bans_max)
        """Of proven identities only: an IP address may be shared by honest nodes, and what one address can cost is
        bounded by rates and caps."""
        self._addresses = AddressBook(
            self._settings.misled_ms_first, self._settings.misled_ms_max, self._settings.moved_ms_max
        )
        self._configured_names = Resolver(lookup)
        self._announced_names = Resolver(lookup)
        self._announcements = AnnouncementTable(chain, admitted)
        self._own = announce(identity.signing, chain, advertise, sequence) if advertise else None
        if self._own:
            self._announcements.publish(self._own)
        self._news: dict[NodeId, tuple[NodeAnnouncement, NodeId | None]] = {}
        """To be passed on at the next tick, with who brought it: many together, so that nobody is flooded with them."""
        self._peers: dict[NodeId, _Peer] = {}
        self._guests_work = SharedWork(self._settings.guests_work_us)
        self._inbound: Counter[str] = Counter()
        self._greeting: dict[asyncio.StreamWriter, str] = {}
        """Inbound connections that have not proven who they are, the oldest first, with their addresses."""
        self._arrivals: OrderedDict[str, TokenBucket] = OrderedDict()
        told = Rate(limits.refusals_told_per_second, limits.refusals_told_burst)
        self._announced_dials = TokenBucket(self._settings.announced_dials, self._now_ms())
        self._refusals_told = TokenBucket(told, self._now_ms())
        self.refusals: Counter[CloseCode] = Counter()
        """Attempts that led to no connection, since the start."""
        self._group: asyncio.TaskGroup | None = None
        self._root: asyncio.Task[None] | None = None
        self._server: asyncio.Server | None = None
        for node, address in sorted(peers.items()):
            self.set_address(node, address)

    # ---- life

    async def start(self) -> None:
        """Listen and dial. Raises ConfigurationError if the address cannot be listened on."""
        assert self._root is None
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._root = asyncio.create_task(self._run(started))
        await asyncio.wait((started, self._root), return_when=asyncio.FIRST_COMPLETED)
        if not started.done():
            root, self._root = self._root, None
            await root

    async def stop(self) -> None:
        """Say goodbye to everybody, end every task and wait for it. Safe to call twice, and after a mistake that ended
        the transport: that is told by `wait`."""
        root, self._root = self._root, None
        if root is not None and not root.done():
            root.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await root

    async def wait(self) -> None:
        """Until the transport is stopped; raises what went wrong inside it."""
        assert self._root is not None
        await asyncio.shield(self._root)

    @property
    def port(self) -> int:
        """The port listened on, which the system chose if `listen` said 0."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    # ---- for the node

    def send(self, peer: NodeId, channel: Channel, payload: bytes) -> bool:
        """Queue a message; never waits. False: not connected, or the peer's queue gave this message up."""
        state = self._peers.get(peer)
        return state is not None and state.connection is not None and state.connection.send(channel, payload)

    def connected(self) -> tuple[NodeId, ...]:
        return tuple(node for node, state in sorted(self._peers.items()) if _is_up(state))

    def peers(self) -> list[PeerStatus]:
        """Everybody known, connected or not, sorted by identity."""
        return [self._status(node, state) for node, state in sorted(self._peers.items())]

    def set_address(self, node: NodeId, address: str) -> None:
        """Where `node` can be dialled from now on. Raises ConfigurationError if it is not host:port."""
        if parse_address(address) is None:
            raise ConfigurationError(f"{address!r} is not host:port")
        if node != self._node:
            self._addresses.configure(node, address)
            self._address_changed(node)

    def penalise(self, peer: NodeId, reason: str) -> None:
        """The peer did what no honest node does: close, and ban for a time that doubles from one ban to the next."""
        self._punish(peer, Reason(CloseCode.PENALTY, reason))

    def disconnect(self, peer: NodeId) -> None:
        """Close without blame; it may come back at once."""
        self._close(peer, Reason(CloseCode.ASKED, "the operator asked for it"))

    def admissions_changed(self) -> None:
        """Close whoever is no longer admitted, try those who are now."""
        for node, state in sorted(self._peers.items()):
            if not self._admitted(node):
                self._close(node, Reason(CloseCode.NOT_ADMITTED, "this node is no longer admitted"))
            state.changed.set()

    def advertise(self, address: str, sequence: int) -> None:
        """Tell everybody a new address of this node."""
        self._own = announce(self._identity.signing, self._chain, address, sequence)
        self._announcements.publish(self._own)
        self._news[self._node] = (self._own, None)

    # ---- tasks

    async def _run(self, started: asyncio.Future[None]) -> None:
        if self._listen is not None:
            self._server = await self._bind(*self._listen)
        try:
            async with asyncio.TaskGroup() as group:
                await self._work(group, started)
        finally:
            # A task that is ended before its first step closes nothing.
            for writer in self._greeting:
                writer.transport.abort()

    async def _work(self, group: asyncio.TaskGroup, started: asyncio.Future[None]) -> None:
        self._group = group
        try:
            for node in self._addresses.nodes():
                self._begin_dialling(node, self._peers[node])
            started.set_result(None)
            await self._tick_forever()
        finally:
            self._group = None
            if self._server is not None:
                self._server.close()

    async def _bind(self, host: str, port: int) -> asyncio.Server:
        try:
            return await asyncio.start_server(self._accept, host, port, limit=READ_BYTES)
        except OSError as error:
            raise ConfigurationError(f"cannot listen for peers on {host}:{port}: {error.strerror or error}") from None

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(self._settings.tick_ms / 1_000)
            now_ms = self._now_ms()
            self._count_guests()
            for _, state in sorted(self._peers.items()):
                if state.connection is not None:
                    state.connection.tick(now_ms)
            self._learn_what_waited(now_ms)
            self._spread()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A plain callback: it decides at once, before any work is done, whether there is room."""
        name = writer.get_extra_info("peername")
        address = name[0] if name else ""
        busy = self._no_room(address)
        if self._group is None or busy:
            writer.transport.abort()
            if busy:
                self._refuse(address, None, Reason(CloseCode.BUSY, busy))
            return
        self._inbound[address] += 1
        self._greeting[writer] = address
        self._group.create_task(self._serve(reader, writer, address))

    def _no_room(self, address: str) -> str:
        """Why an inbound connection is not even greeted; empty if it is."""
        settings, now_ms = self._settings, self._now_ms()
        if self._inbound.total() >= settings.connections_inbound_max:
            return f"{settings.connections_inbound_max} inbound connections already"
        if self._inbound[address] >= settings.connections_per_address_max:
            return f"{settings.connections_per_address_max} connections from this address already"
        bucket = self._arrivals.get(address)
        if bucket is None:
            bucket = self._arrivals[address] = TokenBucket(settings.inbound_per_address, now_ms)
            if len(self._arrivals) > limits.addresses_remembered_max:
                self._arrivals.popitem(last=False)
        if not bucket.try_take(1, now_ms):
            return "too many attempts from this address"
        if len(self._greeting) >= settings.connections_handshaking_max:
            self._give_up_a_greeting()
        return ""

    def _give_up_a_greeting(self) -> None:
        """Of those who have not said who they are, the oldest of the address that has most of them: whoever opens
        connections and says nothing must not keep out those who do."""
        crowded, _ = Counter(self._greeting.values()).most_common(1)[0]
        oldest = next(writer for writer, address in self._greeting.items() if address == crowded)
        del self._greeting[oldest]
        oldest.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str) -> None:
        """An inbound connection from the first byte to the last."""
        try:
            await self._converse(reader, writer, address, None, lambda: self._greeting.pop(writer, None))
        finally:
            self._greeting.pop(writer, None)
            self._inbound[address] -= 1
            if not self._inbound[address]:
                del self._inbound[address]

    async def _dial_forever(self, node: NodeId, state: _Peer) -> None:
        """Keep one connection to `node`, at whichever of its addresses it is found."""
        attempt = 0
        while True:
            state.changed.clear()
            now_ms = self._now_ms()
            if state.connection is not None or not self._addresses.of(node) or not self._admitted(node):
                await state.changed.wait()
                continue
            pause_ms = max(self._bans.until(node, now_ms), self._addresses.rest_until(node, now_ms)) - now_ms
            if pause_ms <= 0:
                addresses = self._addresses.to_dial(node, now_ms)
                address = addresses[attempt % len(addresses)]
                await self._turn(node, address)
                if state.connection is None and self._admitted(node):
                    state.met = False
                    answered = await self._dial(node, address)
                    if answered and not state.met:
                        self._addresses.unmet(node, address, self._now_ms())
                attempt += 1
                state.changed.clear()
            delay_ms = max(pause_ms, state.backoff.delay_ms(self._chance()))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_ms / 1_000):
                    await state.changed.wait()

    async def _turn(self, node: NodeId, address: str) -> None:
        """Wait for it, where the address was announced: peers have theirs one after another."""
        if not self._addresses.is_configured(node, address):
            await asyncio.sleep(self._announced_dials.take(1, self._now_ms()) / 1_000)

    async def _dial(self, node: NodeId, address: str) -> bool:
        """Whether somebody took the connection."""
        host, port = _target(address)
        hosts = await self._hosts(node, address, host)
        others = {ip: other for ip in hosts if (other := self._found_at((ip, port), node)) is not None}
        left = [ip for ip in hosts if ip not in others]
        if others and not left:
            self._misled(node, address)
            self._refuse(address, node, Reason(CloseCode.IDENTITY, another_node(others[hosts[0]], node)))
            return False
        for ip in left:
            try:
                async with asyncio.timeout(self._settings.handshake_timeout_ms / 1_000):
                    reader, writer = await asyncio.open_connection(ip, port, limit=READ_BYTES)
            except (OSError, UnicodeError) as error:
                # What somebody announced passes for an IP address and need not be one that this system can encode.
                self._unreached(address, node, error, "no answer in time")
                continue
            await self._converse(reader, writer, address, node, lambda: None)
            return True
        return False

    async def _hosts(self, node: NodeId, address: str, host: str) -> tuple[str, ...]:
        """The IP addresses of a host, none if they are not found. Names that were announced are looked up apart, so
        that they hold up none that an operator wrote down."""
        configured = self._addresses.is_configured(node, address)
        resolver = self._configured_names if configured else self._announced_names
        try:
            async with asyncio.timeout(self._settings.handshake_timeout_ms / 1_000):
                return await resolver.addresses(host)
        except (OSError, UnicodeError) as error:
            if isinstance(error, TimeoutError) and resolver.is_looking_up(host):
                self._addresses.slow_name(node, address, self._now_ms())
            self._unreached(address, node, error, "its name was not found in time")
            return ()

    def _unreached(self, address: str, node: NodeId, error: OSError | UnicodeError, too_late: str) -> None:
        text = too_late if isinstance(error, TimeoutError) else str(error)
        self._refuse(address, node, Reason(CloseCode.LOST, text))

    def _found_at(self, endpoint: tuple[str, int], expected: NodeId) -> NodeId | None:
        """Who has been found there and is connected, if that is somebody else."""
        for node, state in self._peers.items():
            connection = state.connection
            if node != expected and connection is not None and connection.dialled and connection.endpoint == endpoint:
                return node
        return None

    def _misled(self, node: NodeId, address: str) -> None:
        """Somebody else is at the address that is known of `node`. No ban: it may have moved, or its operator erred."""
        self._addresses.misled(node, address, self._now_ms())
        self._peer(node).misled += 1

    async def _converse(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        address: str,
        expected: NodeId | None,
        greeted: Callable[[], object],
    ) -> None:
        """One connection, dialled if `expected` names who should be there; `greeted` is called when it is a peer's."""
        handshake = Handshake(
            initiator=expected is not None,
            identity=self._identity,
            chain=self._chain,
            session=self._session,
            ephemeral_secret=self._entropy(32),
            expected=expected,
        )
        connection: Connection | None = None
        try:
            tune(writer)
            async with asyncio.timeout(self._settings.handshake_timeout_ms / 1_000):
                established = await shake_hands(reader, writer, handshake)
                if expected is not None:
                    self._peer(expected).met = True
                    self._addresses.met(expected, address)
                connection = self._connection(reader, writer, established, address, expected)
                if expected is None:
                    self._count_arrival(connection.node)
                refusal = await connection.exchange_verdicts(self._refusal(connection))
            if refusal is None and (refusal := self._refusal(connection)):
                await connection.farewell(refusal)
            if refusal is None:
                greeted()
                await self._live(connection)
            else:
                self._refuse(address, handshake.peer or expected, refusal)
        except PeerError as error:
            if connection is not None and error.code in PUNISHED:
                self._punish(connection.node, error.reason)
            if expected is not None and error.code in SOMEBODY_ELSE:
                self._misled(expected, address)
            self._refuse(address, handshake.peer or expected, error.reason)
            if connection is not None:
                await connection.farewell(error.reason)
        except TimeoutError:
            late = Reason(CloseCode.SLOW, "the handshake was not done in time")
            self._refuse(address, handshake.peer or expected, late)
        except OSError as error:
            self._refuse(address, handshake.peer or expected, Reason(CloseCode.LOST, str(error)))
        except asyncio.CancelledError:
            if connection is not None:
                connection.say_goodbye(Reason(CloseCode.STOPPING, "the node is stopping"))
            raise
        finally:
            await hang_up(writer, self._settings.farewell_ms_max)

    def _connection(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        established: Established,
        address: str,
        expected: NodeId | None,
    ) -> Connection:
        return Connection(
            reader,
            writer,
            established,
            dialled=expected is not None,
            address=address,
            settings=self._settings,
            clock_us=self._clock_us,
            shared_work=lambda: self._guests_work if self._guest(established.node) else None,
        )

    def _count_guests(self) -> None:
        connected = (node for node, state in self._peers.items() if state.connection is not None)
        self._guests_work.guests = sum(map(self._guest, connected))

    async def _live(self, connection: Connection) -> None:
        """The useful part of a connection's life."""
        node = connection.node
        state = self._peer(node)
        if all(other.connection is None for other in self._peers.values()):
            self._look_up_again()
        if state.connection is not None:
            self._replace(node, state, state.connection)
        state.connection = connection
        self._count_guests()
        state.last_error = ""
        for announcements in in_frames(self._all_announcements()):
            connection.send_control(Form.ANNOUNCE, encode(announcements))
        self._handlers.connected(node)
        reason = Reason(CloseCode.STOPPING, "this node is stopping")
        try:
            reason = await connection.run(
                lambda channel, payload: self._handlers.message(node, channel, payload),
                lambda payload: self._on_announce(node, payload),
            )
        finally:
            if state.connection is connection:
                state.connection = None
                state.last_error = str(reason)
                if self._now_ms() - connection.since_ms >= self._settings.reconnect_ms_max:
                    state.backoff.reset()
                state.changed.set()
                self._handlers.disconnected(node, reason)
        if reason.code in PUNISHED and not reason.by_peer and reason.code is not CloseCode.PENALTY:
            self._punish(node, reason)
        await connection.farewell(reason)

    def _look_up_again(self) -> None:
        """Somebody is reached again: if names were slow, it may be that this node's network was down."""
        for node in self._addresses.look_up_again():
            self._peer(node).changed.set()

    def _replace(self, node: NodeId, state: _Peer, old: Connection) -> None:
        reason = Reason(CloseCode.REPLACED, "a newer connection took its place")
        state.connection = None
        old.close(reason)
        self._handlers.disconnected(node, reason)

    def _refusal(self, connection: Connection) -> Reason | None:
        """Why this node does not want the connection, if so."""
        node = connection.node
        if not self._admitted(node):
            return Reason(CloseCode.NOT_ADMITTED, f"node {node.hex()[:16]}… is not admitted to this network")
        banned_ms = self._bans.until(node, self._now_ms()) - self._now_ms()
        if banned_ms > 0:
            return Reason(CloseCode.BANNED, f"for another {banned_ms} ms")
        state = self._peers.get(node)
        if state is not None and state.connection is not None and self._stays(state.connection, connection):
            return Reason(CloseCode.DUPLICATE, "there is a connection already")
        return None

    def _stays(self, old: Connection, new: Connection) -> bool:
        if old.ending or old.session != new.session or old.dialled == new.dialled:
            return False
        return old.dialled == (self._node < old.node)

    # ---- small things

    def _now_ms(self) -> int:
        return self._clock_us() // 1_000

    def _peer(self, node: NodeId) -> _Peer:
        state = self._peers.get(node)
        if state is None:
            state = self._peers[node] = _Peer(self._settings, self._now_ms())
        return state

    def _count_arrival(self, node: NodeId) -> None:
        """Each handshake costs a millisecond. Raises PeerError for an admitted peer that makes one after another."""
        now_ms = self._now_ms()
        if not self._admitted(node) or self._bans.until(node, now_ms):
            return
        if not self._peer(node).arrivals.try_take(1, now_ms):
            raise PeerError(CloseCode.FLOOD, "opens one connection after another")

    def _punish(self, node: NodeId, reason: Reason) -> None:
        """Ban `node`, and end the connection that it may still have."""
        self._ban(node, reason)
        self._close(node, reason)

    def _ban(self, node: NodeId, reason: Reason) -> None:
        """Only of admitted nodes is anything remembered: whoever is not, is not let in anyway. A ban that lasts is not
        made longer: what a banned peer is blamed for, it sent before; one read can hold many offences, and a signature
        is judged later than it is read."""
        now_ms = self._now_ms()
        if not self._admitted(node) or self._bans.until(node, now_ms):
            return
        until_ms = self._bans.begin(node, now_ms)
        state = self._peer(node)
        state.offences[reason.code.name.lower()] += 1
        self._handlers.banned(node, reason, until_ms - now_ms)

    def _close(self, node: NodeId, reason: Reason) -> None:
        state = self._peers.get(node)
        if state is not None and state.connection is not None:
            state.connection.close(reason)

    def _refuse(self, address: str, node: NodeId | None, reason: Reason) -> None:
        state = self._peers.get(node) if node is not None else None
        if reason.code in _QUIET_REFUSALS:
            return
        self.refusals[reason.code] += 1
        if state is not None:
            state.last_error = str(reason)
        stranger = node is None or not self._admitted(node)
        if not stranger or self._refusals_told.try_take(1, self._now_ms()):
            self._handlers.refused(address, node, reason)

    def _address_changed(self, node: NodeId) -> None:
        state = self._peer(node)
        state.backoff.reset()
        state.changed.set()
        self._begin_dialling(node, state)

    def _begin_dialling(self, node: NodeId, state: _Peer) -> None:
        if self._group is not None and not state.dialling and self._addresses.of(node):
            state.dialling = True
            self._group.create_task(self._dial_forever(node, state))

    def _on_announce(self, sender: NodeId, payload: bytes) -> None:
        try:
            announcements: tuple[NodeAnnouncement, ...] = decode(Announcements, payload)
        except DecodeError as error:
            raise PeerError(CloseCode.MALFORMED, f"an announcement that is {error}") from None
        now_ms = self._now_ms()
        for entry in announcements:
            if self._announcements.accept(entry, sender, now_ms):
                self._learn(entry, sender)

    def _learn_what_waited(self, now_ms: int) -> None:
        due = self._announcements.due(now_ms)
        for entry, sender in due.taken:
            self._learn(entry, sender)
        for sender in due.liars:
            self._punish(sender, Reason(CloseCode.MALFORMED, "an announcement that is not valid"))

    def _learn(self, entry: NodeAnnouncement, sender: NodeId) -> None:
        """That a node is where it was does not make it be dialled any sooner."""
        if entry.node == self._node:
            self._outrank(entry)
            return
        if self._addresses.announce(entry.node, entry.address):
            self._address_changed(entry.node)
        self._news[entry.node] = (entry, sender)

    def _outrank(self, heard: NodeAnnouncement) -> None:
        """`heard` is this node's own, and newer than what it says now: its clock was ahead when it said so. What it
        says now would be believed by nobody who has heard it."""
        if self._own is not None and self._own.address != heard.address and heard.sequence < INTEGER_MAX:
            self.advertise(self._own.address, heard.sequence + 1)

    def _all_announcements(self) -> tuple[NodeAnnouncement, ...]:
        others = (entry for entry in self._announcements.all() if entry.node != self._node)
        return (*((self._own,) if self._own else ()), *others)

    def _spread(self) -> None:
        news, self._news = self._news, {}
        for node, state in sorted(self._peers.items()):
            connection = state.connection
            if not news or connection is None or connection.ending:
                continue
            for frame in in_frames(entry for entry, sender in news.values() if sender != node):
                connection.send_control(Form.ANNOUNCE, encode(frame))

    def _status(self, node: NodeId, state: _Peer) -> PeerStatus:
        connection = state.connection
        banned_ms = max(0, self._bans.until(node, self._now_ms()) - self._now_ms())
        if connection is None:
            address = next(iter(self._addresses.of(node)), "")
            return PeerStatus(
                node=node,
                address=address,
                banned_ms=banned_ms,
                last_error=state.last_error,
                offences=dict(state.offences),
                misled=state.misled,
            )
        counters, outbox = connection.counters, connection.outbox
        return PeerStatus(
            node=node,
            address=connection.address,
            direction=Direction.DIALLED if connection.dialled else Direction.ACCEPTED,
            since_ms=connection.since_ms,
            bytes_in=counters.bytes_in,
            bytes_out=counters.bytes_out,
            messages_in=counters.messages_in,
            messages_out=counters.messages_out,
            queued_bytes={channel.name.lower(): size for channel, size in outbox.queued_bytes().items()},
            dropped={channel.name.lower(): count for channel, count in outbox.dropped().items()},
            throttled_ms=counters.throttled_ms,
            round_trip_us=connection.round_trip_us,
            banned_ms=banned_ms,
            last_error=state.last_error,
            offences=dict(state.offences),
            misled=state.misled,
        )


def _target(address: str) -> tuple[str, int]:
    target = parse_address(address)
    assert target is not None
    return target


def _is_up(state: _Peer) -> bool:
    return state.connection is not None and not state.connection.ending

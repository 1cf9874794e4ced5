"""One TCP connection: handshake, verdicts, then two tasks that read and write until one of them has a reason to end.

After the handshake each side's first frame is its verdict: OPEN, or CLOSE with a reason. Only when both said OPEN do
messages flow, so neither side takes for a peer somebody by whom it is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from otcnode import limits
from otcnode.p2p.close import CloseCode, PeerError, Reason
from otcnode.p2p.framing import (
    CONTROL_SIZES,
    PLAINTEXT_BYTES_MAX,
    Channel,
    Control,
    Form,
    FrameDecoder,
    Inbound,
    Message,
    control_frame,
    seal,
)
from otcnode.p2p.handshake import Established, Handshake
from otcnode.p2p.outbox import Outbox
from otcnode.p2p.rates import ChannelRates, PeerRates, Rate, Saturation, SharedWork, TokenBucket, WorkBudget

READ_BYTES = 256 * 1024
WRITE_BUFFER_BYTES = 128 * 1024
"""Kept small, in the process and in the kernel: what is in it has lost its priority."""

BACKLOG_BYTES = 64 * 1024
BACKLOG_MESSAGES = 256
ANSWERS_AT_ONCE = 8
"""A peer of which so much is there at once does not wait for answers. Many bytes alone do not show it: they are one
answer or a few, and whether those were asked for is known to whoever reads them."""

MESSAGES_PER_TURN = 32
"""Handed over before other peers have their turn."""

REAPPORTION_MS = 100
"""Who waits for its share of the work looks this often how large it is by now."""

TRICKLE_MS = 2_000
"""A peer heard within this time that cannot finish a record is slow by intent; one not heard has lost its network."""

_UNREAD_ANSWERS = Reason(CloseCode.SLOW, "the peer asks and does not read the answers")
_UNREAD_NEWS = Reason(CloseCode.SILENT, "the peer does not read what this node passes on")
"""Without blame: it did not ask for it, and others decide how much it is."""

Clock = Callable[[], int]
"""Monotonic microseconds."""


def _by_channel(values: Mapping[str, int]) -> dict[Channel, int]:
    return {channel: values[channel.name.lower()] for channel in Channel}


def _twice(per_second: int) -> Rate:
    return Rate(per_second, 2 * per_second)


def _default_rates() -> dict[Channel, ChannelRates]:
    given = {channel: limits.channel_rate_per_second[channel.name.lower()] for channel in Channel}
    return {channel: ChannelRates(_twice(messages), _twice(size)) for channel, (messages, size) in given.items()}


_INBOUND_PER_ADDRESS = Rate(limits.inbound_per_address_per_second, limits.inbound_per_address_burst)
_INBOUND_PER_NODE = Rate(limits.inbound_per_node_per_second, limits.inbound_per_node_burst)
_ANNOUNCED_DIALS = Rate(limits.announced_dials_per_second, limits.announced_dials_burst)
_CONTROL_FRAMES = Rate(limits.control_frames_per_second, limits.control_frames_burst)


@dataclass(frozen=True, slots=True)
class Settings:
    """The bounds of a transport; the defaults are those of limits.py."""

    handshake_timeout_ms: int = limits.handshake_timeout_ms
    keepalive_ms: int = limits.keepalive_ms
    silence_ms_max: int = limits.silence_ms_max
    record_ms_max: int = limits.record_ms_max
    message_ms_max: int = limits.message_ms_max
    message_held_ms_max: int = limits.message_held_ms_max
    deaf_ms_max: int = limits.deaf_ms_max
    farewell_ms_max: int = limits.farewell_ms_max
    guests_work_us: int = limits.guests_work_us
    flood_ms_max: int = limits.flood_ms_max
    tick_ms: int = 500
    reconnect_ms_first: int = limits.reconnect_ms_first
    reconnect_ms_max: int = limits.reconnect_ms_max
    misled_ms_first: int = limits.misled_ms_first
    misled_ms_max: int = limits.misled_ms_max
    moved_ms_max: int = limits.moved_ms_max
    ban_ms_first: int = limits.ban_ms_first
    ban_ms_max: int = limits.ban_ms_max
    connections_inbound_max: int = limits.connections_inbound_max
    connections_per_address_max: int = limits.connections_per_address_max
    connections_handshaking_max: int = limits.connections_handshaking_max
    inbound_per_address: Rate = _INBOUND_PER_ADDRESS
    inbound_per_node: Rate = _INBOUND_PER_NODE
    control_frames: Rate = _CONTROL_FRAMES
    announced_dials: Rate = _ANNOUNCED_DIALS
    message_bytes_max: Mapping[Channel, int] = field(
        default_factory=lambda: _by_channel(limits.channel_message_bytes_max)
    )
    queue_bytes_max: Mapping[Channel, int] = field(default_factory=lambda: _by_channel(limits.channel_queue_bytes_max))
    rates: Mapping[Channel, ChannelRates] = field(default_factory=_default_rates)


async def shake_hands(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handshake: Handshake) -> Established:
    """Run a handshake to its end. Raises PeerError; the caller bounds the time."""
    writer.write(handshake.opening)
    while handshake.established is None:
        data = await _read(reader)
        if not data:
            raise PeerError(CloseCode.LOST, "the peer hung up during the handshake")
        writer.write(handshake.feed(data))
    return handshake.established


def tune(writer: asyncio.StreamWriter) -> None:
    """No waiting for more to send; little in the buffers, so that what is urgent overtakes what is not."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, WRITE_BUFFER_BYTES)
    writer.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)


@dataclass(slots=True)
class Counters:
    """Since the connection opened. `bytes` are ciphertext with its prefixes; `throttled_ms`: not read for being over
    the rate."""

    bytes_in: int = 0
    bytes_out: int = 0
    messages_in: int = 0
    messages_out: int = 0
    throttled_ms: int = 0


class Connection:
    """An established session with `node`. `dialled`: this side opened it. `shared_work`: that of which the peer's
    messages get a share, None where the time that they take is not bounded.

    What a peer has not finished or not answered is held against it by a clock that goes on only while this node waits
    for something to come from it. Else the rest, and the answer, may lie unread in the socket, behind what the peer is
    held back for or what is still worked on."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        established: Established,
        *,
        dialled: bool,
        address: str,
        settings: Settings,
        clock_us: Clock,
        shared_work: Callable[[], SharedWork | None] = lambda: None,
    ) -> None:
        now_ms = clock_us() // 1_000
        self.node = established.node
        self.session = established.session
        self.dialled = dialled
        self.address = address
        name = writer.get_extra_info("peername")
        self.endpoint: tuple[str, int] | None = (name[0], name[1]) if name else None
        """The IP address and port of the other side, whatever it is called."""
        self.since_ms = now_ms
        self.counters = Counters()
        self.round_trip_us: int | None = None
        self.outbox = Outbox(settings.queue_bytes_max)
        self._reader = reader
        self._writer = writer
        self._sending = established.sending
        self._decoder = FrameDecoder(established.receiving, settings.message_bytes_max)
        self._leftover = established.leftover
        self._settings = settings
        self._clock_us = clock_us
        self._rates = PeerRates(settings.rates, now_ms)
        self._control_rate = TokenBucket(settings.control_frames, now_ms)
        self._shared_work = shared_work
        self._work = WorkBudget(now_ms)
        self._work_us = 0
        self._backlogged = False
        self._waiting_since_ms = now_ms
        """From when on something of this peer has been waiting, as far as it is not counted yet."""
        self._saturation = Saturation(settings.flood_ms_max, now_ms)
        self._wake = asyncio.Event()
        self._ended: asyncio.Future[Reason] = asyncio.get_running_loop().create_future()
        self._heard_ms = now_ms
        self._awaited_ms = 0
        """For how long this node has waited for something to come, as far as that is over."""
        self._awaiting_since_ms: int | None = None
        self._record_since_ms: int | None = None
        self._untaken_since_ms: int | None = None
        self._ping: tuple[bytes, int] | None = None
        self._pings = 0
        self._pinged_ms = now_ms
        self._ping_awaiting_ms = 0
        self._early: list[Inbound] = []
        self._said_goodbye = False

    @property
    def ending(self) -> bool:
        return self._ended.done()

    def send(self, channel: Channel, payload: bytes) -> bool:
        """Queue a message, never wait; False if the connection is ending or the queue gave this message up."""
        if self._ended.done() or not self.outbox.put(channel, payload):
            return False
        self.counters.messages_out += 1
        self._wake.set()
        return True

    def send_control(self, form: Form, payload: bytes = b"") -> None:
        if not self.outbox.control(form, payload):
            self.close(_UNREAD_ANSWERS if form is Form.PONG else _UNREAD_NEWS)
        self._wake.set()

    def close(self, reason: Reason) -> None:
        """End the connection soon; the first reason counts."""
        if not self._ended.done():
            self._ended.set_result(reason)

    async def exchange_verdicts(self, refusal: Reason | None) -> Reason | None:
        """Say OPEN or the refusal, hear the peer's word; returns why the connection is not to be, if so.

        Raises PeerError if the peer's first frame is no verdict."""
        if refusal is not None:
            await self.farewell(refusal)
            return refusal
        self._write(control_frame(Form.OPEN, b""))
        data = self._leftover
        while True:
            now_ms = self._clock_us() // 1_000
            inbound = self._decoder.feed(data, self._awaiting_ms(now_ms), now_ms)
            if inbound:
                break
            data = await _read(self._reader)
            if not data:
                raise PeerError(CloseCode.LOST, "the peer hung up before its verdict")
        first, self._early = inbound[0], inbound[1:]
        if isinstance(first, Control) and first.form is Form.OPEN:
            return None
        if isinstance(first, Control) and first.form is Form.CLOSE:
            return closed_by_peer(first.payload)
        raise PeerError(CloseCode.MALFORMED, "the peer's first frame is no verdict")

    async def run(self, on_message: Callable[[Channel, bytes], None], on_announce: Callable[[bytes], None]) -> Reason:
        """Exchange messages until there is a reason not to. Call once, after both verdicts were OPEN."""
        self._heard_ms = self._clock_us() // 1_000
        async with asyncio.TaskGroup() as group:
            tasks = (
                group.create_task(self._read_frames(on_message, on_announce)),
                group.create_task(self._write_records()),
            )
            reason = await self._ended
            for task in tasks:
                task.cancel()
        return reason

    def say_goodbye(self, reason: Reason) -> None:
        """Put the reason on the wire without waiting, as the last frame; only the first reason is said."""
        if not self._said_goodbye:
            self._said_goodbye = True
            self._write(control_frame(Form.CLOSE, _close_payload(reason)))

    def tick(self, now_ms: int) -> None:
        """Time's part: pings, and peers that are silent or trickle."""
        if self._ended.done():
            return
        if slow := self._slowness(now_ms):
            self.close(Reason(CloseCode.SLOW, slow))
        elif silent := self._silence(now_ms):
            self.close(Reason(CloseCode.SILENT, silent))
        elif self._ping is None and (self._pings == 0 or now_ms - self._pinged_ms >= self._settings.keepalive_ms):
            self._send_ping(now_ms)

    def _slowness(self, now_ms: int) -> str:
        """What a peer does so slowly, though it talks, that it must be by intent: it holds this node's memory."""
        if now_ms - self._heard_ms > TRICKLE_MS:
            return ""
        awaiting_ms = self._awaiting_ms(now_ms)
        record_ms, begun, untaken_ms = self._record_since_ms, self._decoder.oldest(), self._untaken_since_ms
        if record_ms is not None and awaiting_ms - record_ms > self._settings.record_ms_max:
            return f"a record was not complete after {awaiting_ms - record_ms} ms"
        if begun is not None and awaiting_ms - begun.awaited_ms > self._settings.message_ms_max:
            return f"a message was not complete after {awaiting_ms - begun.awaited_ms} ms"
        if untaken_ms is not None and now_ms - untaken_ms > self._settings.deaf_ms_max:
            return f"nothing sent to it was taken for {now_ms - untaken_ms} ms"
        return ""

    def _silence(self, now_ms: int) -> str:
        """What makes a peer one that is gone, or its message one that will not come: the peer may be honest, for what
        goes first keeps a message waiting for as long as there is more of it than this node reads."""
        since_ms = self._awaiting_since_ms
        if since_ms is not None and now_ms - since_ms > self._settings.silence_ms_max:
            return f"nothing heard for {now_ms - since_ms} ms"
        unanswered_ms = self._awaiting_ms(now_ms) - self._ping_awaiting_ms
        if self._ping is not None and unanswered_ms > 2 * self._settings.silence_ms_max:
            return f"no answer to a ping for {unanswered_ms} ms"
        begun = self._decoder.oldest()
        if begun is not None and now_ms - begun.now_ms > self._settings.message_held_ms_max:
            return f"a message was not complete after {now_ms - begun.now_ms} ms, though this node read late"
        return ""

    def _awaiting_ms(self, now_ms: int) -> int:
        """The time by the clock that goes on only while something is waited for."""
        since_ms = self._awaiting_since_ms
        return self._awaited_ms + (0 if since_ms is None else now_ms - since_ms)

    def _send_ping(self, now_ms: int) -> None:
        self._pings += 1
        token = self._pings.to_bytes(8, "big")
        self._ping = (token, self._clock_us())
        self._pinged_ms = now_ms
        self._ping_awaiting_ms = self._awaiting_ms(now_ms)
        self.send_control(Form.PING, token)

    async def _read_frames(
        self, on_message: Callable[[Channel, bytes], None], on_announce: Callable[[bytes], None]
    ) -> None:
        try:
            inbound = self._early
            self._backlogged = len(inbound) >= BACKLOG_MESSAGES
            while not self._ended.done():
                await self._dispatch(inbound, on_message, on_announce)
                asked_ms = self._clock_us() // 1_000
                self._awaiting_since_ms = asked_ms
                data = await self._reader.read(READ_BYTES)
                now_ms = self._clock_us() // 1_000
                self._awaiting_since_ms = None
                self._awaited_ms += now_ms - asked_ms
                if now_ms > asked_ms:
                    self._waiting_since_ms = now_ms
                if not data:
                    self.close(Reason(CloseCode.LOST, "the peer hung up"))
                    return
                inbound = self._receive(data)
        except PeerError as error:
            self.close(error.reason)
        except OSError as error:
            self.close(Reason(CloseCode.LOST, str(error)))

    async def _hold_back(self, item: Inbound) -> bool:
        """Read nothing for a while after this, if the peer is above a rate or above its share of the work. Raises
        PeerError if it floods: an honest peer waits for answers, save where it passes on clients' transactions. Control
        frames have a rate of their own.
        """
        now_ms = self._clock_us() // 1_000
        message = item if isinstance(item, Message) else None
        rate_ms = 0 if message is None else self._rates.take(message.channel, 1, len(message.payload), now_ms)
        shared, took_us, self._work_us = self._shared_work(), self._work_us, 0
        work_ms = 0 if shared is None else self._work.take(took_us, shared.share_us(held_back=False), now_ms)
        if not rate_ms and not work_ms:
            return False
        waits_for_answers = message is not None and message.channel is not Channel.TRANSACTIONS
        blamed = rate_ms or (self._backlogged and waits_for_answers)
        await self._wait(now_ms + rate_ms, shared if work_ms else None)
        # The silence was this node's own.
        self._heard_ms = self._clock_us() // 1_000
        self.counters.throttled_ms += self._heard_ms - now_ms
        waited_ms = self._heard_ms - self._waiting_since_ms
        self._waiting_since_ms = self._heard_ms
        if blamed and self._saturation.held_back(waited_ms, self._heard_ms):
            raise PeerError(CloseCode.FLOOD, "sends more than is read of it, without end")
        return True

    async def _wait(self, until_ms: int, shared: SharedWork | None) -> None:
        """Until then, and until the peer's share of the `shared` work has paid for what it took: that share changes
        with the number of those who wait for theirs."""
        if shared is not None:
            shared.held_back += 1
        try:
            while True:
                now_ms = self._clock_us() // 1_000
                work_ms = 0 if shared is None else self._work.take(0, shared.share_us(held_back=True), now_ms)
                if (wait_ms := max(until_ms - now_ms, work_ms)) <= 0:
                    return
                await asyncio.sleep(min(wait_ms, REAPPORTION_MS if work_ms else wait_ms) / 1_000)
        finally:
            if shared is not None:
                shared.held_back -= 1

    def _receive(self, data: bytes) -> list[Inbound]:
        began_us = self._clock_us()
        now_ms = began_us // 1_000
        self._heard_ms = now_ms
        self.counters.bytes_in += len(data)
        awaiting_ms = self._awaiting_ms(now_ms)
        inbound = self._decoder.feed(data, awaiting_ms, now_ms)
        self._backlogged = _is_backlog(len(data), len(inbound))
        self._work_us += self._clock_us() - began_us
        if not self._decoder.record_open:
            self._record_since_ms = None
        elif inbound or self._record_since_ms is None:
            self._record_since_ms = awaiting_ms
        return inbound

    async def _dispatch(
        self,
        inbound: list[Inbound],
        on_message: Callable[[Channel, bytes], None],
        on_announce: Callable[[bytes], None],
    ) -> None:
        """Hand everything over, in turns with other peers: one read can hold tens of thousands of small messages."""
        for position, item in enumerate(inbound, 1):
            if self._ended.done():
                return
            began_us = self._clock_us()
            if isinstance(item, Message):
                self.counters.messages_in += 1
                on_message(item.channel, item.payload)
            else:
                self._on_control(item, on_announce)
            self._work_us += self._clock_us() - began_us
            if not await self._hold_back(item) and position % MESSAGES_PER_TURN == 0:
                await asyncio.sleep(0)

    def _on_control(self, frame: Control, on_announce: Callable[[bytes], None]) -> None:
        if not self._control_rate.try_take(1, self._clock_us() // 1_000):
            raise PeerError(CloseCode.FLOOD, "too many frames that carry no message")
        match frame.form:
            case Form.PING:
                self.send_control(Form.PONG, frame.payload)
            case Form.PONG:
                self._on_pong(frame.payload)
            case Form.ANNOUNCE:
                on_announce(frame.payload)
            case Form.CLOSE:
                self.close(closed_by_peer(frame.payload))
            case _:
                raise PeerError(CloseCode.MALFORMED, f"a {frame.form.name} frame in the middle of a session")

    def _on_pong(self, token: bytes) -> None:
        if self._ping is None or self._ping[0] != token:
            raise PeerError(CloseCode.MALFORMED, "an answer to a ping that was not sent")
        self.round_trip_us = self._clock_us() - self._ping[1]
        self._ping = None

    async def _write_records(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while plaintext := self.outbox.fill(PLAINTEXT_BYTES_MAX):
                    self._write(plaintext)
                    self._untaken_since_ms = self._clock_us() // 1_000
                    await self._writer.drain()
                    self._untaken_since_ms = None
        except OSError as error:
            self.close(Reason(CloseCode.LOST, str(error)))

    def _write(self, plaintext: bytes) -> None:
        record = seal(self._sending, plaintext)
        self.counters.bytes_out += len(record)
        self._writer.write(record)

    async def farewell(self, reason: Reason) -> None:
        """Say why (unless the peer ended it), then wait a little for the peer to hang up: closing with unread bytes
        would make TCP reset the connection, and the reason would be lost with it."""
        if reason.code is CloseCode.LOST or reason.by_peer:
            return
        with contextlib.suppress(OSError, TimeoutError):
            self.say_goodbye(reason)
            async with asyncio.timeout(self._settings.farewell_ms_max / 1_000):
                await self._writer.drain()
                if self._writer.can_write_eof():
                    self._writer.write_eof()
                while await self._reader.read(READ_BYTES):
                    pass


async def hang_up(writer: asyncio.StreamWriter, wait_ms_max: int) -> None:
    """Close; what the peer does not take within the time is thrown away."""
    writer.close()
    try:
        async with asyncio.timeout(wait_ms_max / 1_000):
            await writer.wait_closed()
    except (OSError, TimeoutError):
        writer.transport.abort()


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(READ_BYTES)
    except OSError as error:
        raise PeerError(CloseCode.LOST, str(error)) from None


def _is_backlog(data_bytes: int, messages: int) -> bool:
    return messages >= BACKLOG_MESSAGES or (data_bytes >= BACKLOG_BYTES and messages > ANSWERS_AT_ONCE)


def _close_payload(reason: Reason) -> bytes:
    """The code, then as much of the text as fits."""
    room = CONTROL_SIZES[Form.CLOSE].stop - 2
    return bytes([reason.code]) + reason.detail.encode()[:room]


def closed_by_peer(payload: bytes) -> Reason:
    """What a CLOSE frame says. The text is made safe to print; a code of a later version is shown as a number."""
    text = "".join(c if c.isprintable() else "�" for c in payload[1:].decode("utf-8", "replace"))
    try:
        return Reason(CloseCode(payload[0]), text, by_peer=True)
    except ValueError:
        return Reason(CloseCode.LOST, f"code {payload[0]}: {text}", by_peer=True)

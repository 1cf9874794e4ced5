"""A peer that holds an admitted key and obeys nothing: any bytes, at any time, from any loopback address."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from otcnode import limits
from otcnode.crypto import random_bytes
from otcnode.p2p.close import CloseCode
from otcnode.p2p.framing import (
    FRAGMENT_BYTES,
    PLAINTEXT_BYTES_MAX,
    Channel,
    Control,
    Form,
    FrameDecoder,
    Message,
    control_frame,
    first_frame,
    more_frame,
    seal,
    whole_frame,
)
from otcnode.p2p.handshake import Established, Handshake, Identity

WAIT_S = 30
HEARD_MAX = 2_000


class Target(NamedTuple):
    """Where a victim listens, and the network it belongs to."""

    port: int
    chain: bytes


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def tcp(target: Target, source: str) -> AsyncIterator[Streams]:
    """A bare connection from `source`, an address of this machine's loopback network."""
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port, local_addr=(source, 0))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def greet(target: Target, who: Identity, streams: Streams) -> Established:
    """The whole handshake. Raises ConnectionError if the other side hangs up."""
    reader, writer = streams
    handshake = Handshake(
        initiator=True, identity=who, chain=target.chain, session=random_bytes(16), ephemeral_secret=random_bytes(32)
    )
    writer.write(handshake.opening)
    async with asyncio.timeout(WAIT_S):
        while handshake.established is None:
            data = await reader.read(65_536)
            if not data:
                raise ConnectionError("the victim hung up during the handshake")
            writer.write(handshake.feed(data))
    return handshake.established


class RawPeer:
    """A session. What comes is decrypted and kept in bounded number, until the victim closes."""

    def __init__(self, who: Identity, streams: Streams, session: Established) -> None:
        self.who = who
        self.reader, self.writer = streams
        self.session = session
        self.heard: deque[Message] = deque(maxlen=HEARD_MAX)
        self.heard_bytes: Counter[Channel] = Counter()
        self.closed: CloseCode | None = None
        self.why = ""
        self.careless = False
        """Throws away what comes unread, for it has better things to do."""
        self._decoder = FrameDecoder(session.receiving, dict.fromkeys(Channel, limits.message_bytes_max))
        self._changed = asyncio.Event()
        self._first = session.leftover

    def seal(self, frames: bytes) -> bytes:
        return seal(self.session.sending, frames)

    async def write(self, raw: bytes) -> None:
        """Bytes as they are."""
        self.writer.write(raw)
        await self.writer.drain()

    async def frames(self, *frames: bytes) -> None:
        """One record each."""
        for frame in frames:
            self.writer.write(self.seal(frame))
        await self.writer.drain()

    async def send(self, channel: Channel, payload: bytes) -> None:
        """A message, cut as an honest peer cuts it."""
        if len(payload) <= FRAGMENT_BYTES:
            await self.frames(whole_frame(channel, payload))
            return
        await self.frames(first_frame(channel, payload))
        for offset in range(FRAGMENT_BYTES, len(payload), FRAGMENT_BYTES):
            await self.frames(more_frame(channel, payload, offset))

    async def flood(self, channel: Channel, payload: bytes, seconds: float) -> None:
        """The same message as fast as it is taken, many in each record, until the time is over or the victim closes."""
        self.careless = True
        frame = whole_frame(channel, payload)
        frames = frame * max(1, PLAINTEXT_BYTES_MAX // len(frame))
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(seconds):
                while self.closed is None:
                    await self.frames(frames)
                    await asyncio.sleep(0)

    async def listen(self) -> None:
        """Until the victim hangs up. Answers pings, for an attacker wants to stay."""
        data = self._first
        with contextlib.suppress(ConnectionError):
            while True:
                for item in () if self.careless else self._decoder.feed(data, 0, 0):
                    if isinstance(item, Message):
                        self.heard.append(item)
                        self.heard_bytes[item.channel] += len(item.payload)
                    else:
                        self._on_control(item)
                self._changed.set()
                data = await self.reader.read(65_536)
                if not data:
                    break
        if self.closed is None:
            self.closed = CloseCode.LOST
        self._changed.set()

    def _on_control(self, frame: Control) -> None:
        if frame.form is Form.PING:
            self.writer.write(self.seal(control_frame(Form.PONG, frame.payload)))
        elif frame.form is Form.CLOSE:
            self.closed = CloseCode(frame.payload[0])
            self.why = frame.payload[1:].decode(errors="replace")

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_closed(self) -> CloseCode:
        await self.until(lambda: self.closed is not None)
        assert self.closed is not None
        return self.closed


@asynccontextmanager
async def connected(target: Target, who: Identity, source: str = "127.9.9.9") -> AsyncIterator[RawPeer]:
    """A session whose verdict is said; whether the victim agrees is seen in `heard` or `closed`."""
    async with tcp(target, source) as streams:
        peer = RawPeer(who, streams, await greet(target, who, streams))
        await peer.frames(control_frame(Form.OPEN, b""))
        listening = asyncio.create_task(peer.listen())
        try:
            yield peer
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

"""Encrypted frames: bytes in, messages out, with bounded memory whatever comes in. Sans-IO.

On the wire a session is a row of records: two bytes of length and one Noise message of that length. A record's
plaintext is a row of whole frames, so that many small messages share one encryption:

    form u8, channel u8, size u16, then `size` bytes

A message of up to FRAGMENT_BYTES is one WHOLE frame. A longer one is FIRST (its total size u32, then FRAGMENT_BYTES),
then MORE frames of the same channel, each full but the last; frames of more urgent channels may come between, so many
that it gets on. There is exactly one way to cut a message, so a frame that is not cut that way is refused at once, and
a message's total size is refused before any of it is kept.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import NamedTuple, TypeAlias

from otcnode import limits
from otcnode.p2p.close import CloseCode, PeerError
from otcnode.p2p.noise import MESSAGE_BYTES_MAX, TAG_BYTES, CipherState, NoiseError

FRAGMENT_BYTES = 16_000
"""Four fragments fill a record: small enough that a consensus message never waits long behind a block being sent."""
PLAINTEXT_BYTES_MAX = MESSAGE_BYTES_MAX - TAG_BYTES

_LENGTH = struct.Struct(">H")
_HEADER = struct.Struct(">BBH")
_TOTAL = struct.Struct(">I")
HEADER_BYTES = _HEADER.size
TOTAL_BYTES = _TOTAL.size
_FIRST_SIZE = TOTAL_BYTES + FRAGMENT_BYTES


class Channel(IntEnum):
    """What a message is about; a smaller number goes first."""

    CONSENSUS = 0
    SYNC = 1
    TRANSACTIONS = 2
    DOCUMENTS = 3


class Form(IntEnum):
    """What a frame is. From OPEN on they are the connection's own, carry no channel, and are never cut."""

    WHOLE = 0
    FIRST = 1
    MORE = 2
    OPEN = 3
    PING = 4
    PONG = 5
    CLOSE = 6
    ANNOUNCE = 7


CONTROL_SIZES: Mapping[int, range] = {
    Form.OPEN: range(1),
    Form.PING: range(8, 9),
    Form.PONG: range(8, 9),
    Form.CLOSE: range(1, 257),
    Form.ANNOUNCE: range(1, FRAGMENT_BYTES + 1),
}


class Message(NamedTuple):
    channel: Channel
    payload: bytes


class Control(NamedTuple):
    form: Form
    payload: bytes


Inbound: TypeAlias = Message | Control


def whole_frame(channel: int, payload: bytes) -> bytes:
    return _HEADER.pack(Form.WHOLE, channel, len(payload)) + payload


def first_frame(channel: int, payload: bytes) -> bytes:
    assert len(payload) > FRAGMENT_BYTES
    head = _HEADER.pack(Form.FIRST, channel, _FIRST_SIZE)
    return b"".join((head, _TOTAL.pack(len(payload)), payload[:FRAGMENT_BYTES]))


def more_frame(channel: int, payload: bytes, offset: int) -> bytes:
    part = payload[offset : offset + FRAGMENT_BYTES]
    return _HEADER.pack(Form.MORE, channel, len(part)) + part


def control_frame(form: Form, payload: bytes) -> bytes:
    assert len(payload) in CONTROL_SIZES[form]
    return _HEADER.pack(form, 0, len(payload)) + payload


def seal(cipher: CipherState, plaintext: bytes) -> bytes:
    """One record."""
    ciphertext = cipher.encrypt(b"", plaintext)
    return _LENGTH.pack(len(ciphertext)) + ciphertext


class Begun(NamedTuple):
    """When the first fragment of a message came: by the clock that goes on while this node waits for something to
    come, and by the one that always does."""

    awaited_ms: int
    now_ms: int


class Overtaking:
    """What of each more urgent channel has gone ahead of a message that has begun, as far as its fragments have not
    made up for it. Both sides count alike: a sender gives the message its turn, and a receiver knows who does not."""

    __slots__ = ("_ahead_bytes",)

    def __init__(self) -> None:
        self._ahead_bytes: dict[int, int] = {}

    def may_begin(self, channel: int) -> bool:
        """Whether another message of the channel may go ahead, before the next fragment."""
        return self._ahead_bytes.get(channel, 0) < limits.overtaking_bytes_max

    def went_ahead(self, channel: int, size: int) -> None:
        """A whole message of this size, or the beginning of one."""
        cost = max(size, limits.overtaking_message_bytes_min)
        self._ahead_bytes[channel] = self._ahead_bytes.get(channel, 0) + cost

    def got_on(self) -> None:
        """By one fragment. Fragments that nothing went ahead of are not saved up."""
        for channel, ahead_bytes in self._ahead_bytes.items():
            self._ahead_bytes[channel] = max(0, ahead_bytes - limits.overtaking_bytes_max)


class _Assembly:
    """A message of which some fragments have arrived. Grows with what came, not with what was promised."""

    __slots__ = ("begun", "overtaking", "parts", "total")

    def __init__(self, total: int, start: bytes, begun: Begun) -> None:
        self.total = total
        self.begun = begun
        self.overtaking = Overtaking()
        self.parts = bytearray(start)


class FrameDecoder:
    """The receiving half of a session. After a PeerError it is of no use."""

    def __init__(self, cipher: CipherState, message_bytes_max: Mapping[Channel, int]) -> None:
        self._cipher = cipher
        self._message_bytes_max = {int(channel): size for channel, size in message_bytes_max.items()}
        self._buffer = bytearray()
        self._assemblies: dict[int, _Assembly] = {}
        self._now = Begun(0, 0)

    @property
    def record_open(self) -> bool:
        """Whether a record has begun and not ended."""
        return bool(self._buffer)

    @property
    def held_bytes(self) -> int:
        return len(self._buffer) + sum(len(assembly.parts) for assembly in self._assemblies.values())

    def oldest(self) -> Begun | None:
        """Of the message that is incomplete for the longest time; None: none is."""
        return min((assembly.begun for assembly in self._assemblies.values()), default=None)

    def feed(self, data: bytes, awaited_ms: int, now_ms: int) -> list[Inbound]:
        """Everything that `data` completes, in order. Raises PeerError, naming what is wrong."""
        self._now = Begun(awaited_ms, now_ms)
        inbound: list[Inbound] = []
        for record in self._records(data):
            try:
                plaintext = self._cipher.decrypt(b"", record)
            except NoiseError as error:
                raise PeerError(CloseCode.MALFORMED, str(error)) from None
            self._frames(plaintext, inbound)
        return inbound

    def _records(self, data: bytes) -> Iterator[bytes]:
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < _LENGTH.size + _LENGTH.unpack_from(self._buffer.ljust(2, b"\xff"))[0]:
                self._check_size(self._buffer, 0)
                return
            data = bytes(self._buffer)
            self._buffer.clear()
        offset, end = 0, len(data)
        while end - offset >= _LENGTH.size:
            start = offset + _LENGTH.size
            stop = start + self._check_size(data, offset)
            if stop > end:
                break
            yield data[start:stop]
            offset = stop
        self._buffer += data[offset:]

    @staticmethod
    def _check_size(data: bytes | bytearray, offset: int) -> int:
        if len(data) - offset < _LENGTH.size:
            return 0
        (size,) = _LENGTH.unpack_from(data, offset)
        if size <= TAG_BYTES:
            raise PeerError(CloseCode.MALFORMED, f"a record of {size} bytes holds nothing")
        return int(size)

    def _frames(self, plaintext: bytes, inbound: list[Inbound]) -> None:
        offset, end = 0, len(plaintext)
        while offset < end:
            start = offset + HEADER_BYTES
            if start > end:
                raise PeerError(CloseCode.MALFORMED, "a record ends inside a frame's header")
            form, channel, size = _HEADER.unpack_from(plaintext, offset)
            offset = start + size
            if offset > end:
                raise PeerError(CloseCode.MALFORMED, "a record ends inside a frame")
            content = plaintext[start:offset]
            if form <= Form.MORE:
                message = self._message(form, channel, content)
                if message is not None:
                    inbound.append(message)
            else:
                inbound.append(_control(form, channel, content))

    def _message(self, form: int, channel: int, content: bytes) -> Message | None:
        size_max = self._message_bytes_max.get(channel)
        if size_max is None:
            raise PeerError(CloseCode.MALFORMED, f"channel {channel} is not known")
        if self._assemblies and (urgent := min(self._assemblies)) < channel:
            raise PeerError(CloseCode.MALFORMED, f"channel {channel} goes on inside a message of channel {urgent}")
        if form == Form.MORE:
            return self._more(channel, content)
        if channel in self._assemblies:
            raise PeerError(CloseCode.MALFORMED, f"a message begins inside another of channel {channel}")
        if form == Form.WHOLE:
            if not 0 < len(content) <= FRAGMENT_BYTES:
                raise PeerError(CloseCode.MALFORMED, f"a whole message of {len(content)} bytes")
            if len(content) > size_max:
                raise _too_large(channel, len(content), size_max)
            self._overtakes(channel, len(content))
            return Message(_CHANNELS[channel], content)
        if len(content) != _FIRST_SIZE:
            raise PeerError(CloseCode.MALFORMED, f"a first fragment of {len(content)} bytes")
        (total,) = _TOTAL.unpack_from(content)
        if total > size_max:
            raise _too_large(channel, total, size_max)
        if total <= FRAGMENT_BYTES:
            raise PeerError(CloseCode.MALFORMED, f"a message of {total} bytes came in fragments")
        self._overtakes(channel, total)
        self._assemblies[channel] = _Assembly(total, content[TOTAL_BYTES:], self._now)
        return None

    def _overtakes(self, channel: int, size: int) -> None:
        """A message begins, ahead of the most urgent of those that have begun, if there are any."""
        if not self._assemblies:
            return
        overtaken = min(self._assemblies)
        overtaking = self._assemblies[overtaken].overtaking
        if not overtaking.may_begin(channel):
            raise PeerError(CloseCode.MALFORMED, f"channel {channel} holds up a message of channel {overtaken}")
        overtaking.went_ahead(channel, size)

    def _more(self, channel: int, content: bytes) -> Message | None:
        assembly = self._assemblies.get(channel)
        if assembly is None:
            raise PeerError(CloseCode.MALFORMED, f"a fragment of no message on channel {channel}")
        missing = assembly.total - len(assembly.parts)
        if len(content) != min(missing, FRAGMENT_BYTES):
            raise PeerError(CloseCode.MALFORMED, f"a fragment of {len(content)} bytes where {missing} are missing")
        assembly.parts += content
        assembly.overtaking.got_on()
        if len(content) < missing:
            return None
        del self._assemblies[channel]
        return Message(_CHANNELS[channel], bytes(assembly.parts))


_CHANNELS = tuple(Channel)


def _control(form: int, channel: int, content: bytes) -> Control:
    sizes = CONTROL_SIZES.get(form)
    if sizes is None:
        raise PeerError(CloseCode.MALFORMED, f"frame form {form} is not known")
    if channel != 0 or len(content) not in sizes:
        raise PeerError(CloseCode.MALFORMED, f"a {Form(form).name} frame with {len(content)} bytes, channel {channel}")
    return Control(Form(form), content)


def _too_large(channel: int, size: int, size_max: int) -> PeerError:
    name = Channel(channel).name
    return PeerError(CloseCode.TOO_LARGE, f"a message of {size} bytes on {name}, at most {size_max}")

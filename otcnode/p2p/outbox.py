"""What waits to be sent to one peer: a bounded queue per channel, the more urgent first. A message that has begun gets
on all the same, by a fragment for so much that goes ahead of it (`framing.Overtaking`). Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from enum import Enum

from otcnode.p2p.framing import (
    FRAGMENT_BYTES,
    HEADER_BYTES,
    TOTAL_BYTES,
    Channel,
    Form,
    Overtaking,
    control_frame,
    first_frame,
    more_frame,
    whole_frame,
)

MESSAGE_OVERHEAD_BYTES = 64
"""Counted on top of each queued payload, so that a bound in bytes is one in messages too."""
CONTROL_FRAMES_MAX = 1_024


class Overflow(Enum):
    """What a full queue gives up."""

    OLDEST = "oldest"
    NEWEST = "newest"


OVERFLOW: Mapping[Channel, Overflow] = {
    Channel.CONSENSUS: Overflow.OLDEST,
    Channel.SYNC: Overflow.NEWEST,
    Channel.TRANSACTIONS: Overflow.OLDEST,
    Channel.DOCUMENTS: Overflow.NEWEST,
}
"""Consensus: the newest votes matter, retransmission repairs the rest. Transactions: the oldest are the likeliest to be
in a block already. Sync and documents answer somebody who asks again: refusing tells the sender at once."""


class _Queue:
    """`sent` bytes of the first message are on the wire already, so that it can no longer be dropped."""

    __slots__ = ("bytes", "bytes_max", "channel", "dropped", "messages", "overtaking", "sent")

    def __init__(self, channel: Channel, bytes_max: int) -> None:
        self.channel = channel
        self.messages: deque[bytes] = deque()
        self.bytes = 0
        self.bytes_max = bytes_max
        self.sent = 0
        self.overtaking = Overtaking()
        """What goes ahead of the first message since it has begun."""
        self.dropped = 0

    @property
    def started_bytes(self) -> int:
        """What the message being sent occupies."""
        return len(self.messages[0]) + MESSAGE_OVERHEAD_BYTES if self.sent else 0

    def drop_oldest(self) -> None:
        started = 1 if self.sent else 0
        self.bytes -= len(self.messages[started]) + MESSAGE_OVERHEAD_BYTES
        del self.messages[started]
        self.dropped += 1

    def take_all(self, room: int) -> list[bytes]:
        """Frames as long as there are some and they fit."""
        frames: list[bytes] = []
        while self.messages and (taken := self.take(room)):
            frames += taken
            room -= len(taken[0])
        return frames

    def take(self, room: int) -> list[bytes]:
        """The next frame of the first message, which is forgotten with the last of them; none if it does not fit."""
        payload = self.messages[0]
        if len(payload) <= FRAGMENT_BYTES:
            if HEADER_BYTES + len(payload) > room:
                return []
            self._done()
            return [whole_frame(self.channel, payload)]
        if room < HEADER_BYTES + TOTAL_BYTES + FRAGMENT_BYTES:
            return []
        if self.sent:
            frame = more_frame(self.channel, payload, self.sent)
            self.overtaking.got_on()
        else:
            frame = first_frame(self.channel, payload)
            self.overtaking = Overtaking()
        self.sent += FRAGMENT_BYTES
        if self.sent >= len(payload):
            self._done()
        return [frame]

    def _done(self) -> None:
        self.bytes -= len(self.messages.popleft()) + MESSAGE_OVERHEAD_BYTES
        self.sent = 0


class Outbox:
    def __init__(self, queue_bytes_max: Mapping[Channel, int]) -> None:
        self._control: deque[bytes] = deque()
        self._queues = {channel: _Queue(channel, queue_bytes_max[channel]) for channel in Channel}

    def put(self, channel: Channel, payload: bytes) -> bool:
        """Queue a message; False if it is the one that the full queue gives up."""
        assert payload
        queue = self._queues[channel]
        cost = len(payload) + MESSAGE_OVERHEAD_BYTES
        if queue.bytes + cost > queue.bytes_max:
            fits_alone = queue.started_bytes + cost <= queue.bytes_max
            if OVERFLOW[channel] is Overflow.NEWEST or not fits_alone:
                queue.dropped += 1
                return False
            while queue.bytes + cost > queue.bytes_max:
                queue.drop_oldest()
        queue.messages.append(payload)
        queue.bytes += cost
        return True

    def control(self, form: Form, payload: bytes) -> bool:
        """Queue a frame of the connection itself, ahead of every channel; False if the peer lets them pile up."""
        if len(self._control) >= CONTROL_FRAMES_MAX:
            return False
        self._control.append(control_frame(form, payload))
        return True

    def fill(self, plaintext_bytes_max: int) -> bytes:
        """The next frames, as many as fit, most urgent first; empty when nothing waits."""
        frames: list[bytes] = []
        room = plaintext_bytes_max
        while self._control and len(self._control[0]) <= room:
            frame = self._control.popleft()
            frames.append(frame)
            room -= len(frame)
        if not self._control:
            while taken := self._next(room):
                frames += taken
                room -= sum(map(len, taken))
        return b"".join(frames)

    def _next(self, room: int) -> list[bytes]:
        """The next frames; none if nothing waits or what is next does not fit."""
        waiting = [queue for queue in self._queues.values() if queue.messages]
        if not waiting:
            return []
        urgent, *others = waiting
        begun = next((queue for queue in others if queue.sent), None)
        if begun is None:
            return urgent.take_all(room)
        if urgent.sent:
            return urgent.take(room)
        if not begun.overtaking.may_begin(urgent.channel):
            return begun.take(room)
        size = len(urgent.messages[0])
        frames = urgent.take(room)
        if frames:
            begun.overtaking.went_ahead(urgent.channel, size)
        return frames

    @property
    def empty(self) -> bool:
        return not self._control and not any(queue.messages for queue in self._queues.values())

    def queued_bytes(self) -> dict[Channel, int]:
        return {channel: queue.bytes for channel, queue in self._queues.items()}

    def dropped(self) -> dict[Channel, int]:
        return {channel: queue.dropped for channel, queue in self._queues.items()}

"""What waits to be sent to one peer: a bounded queue per channel, strict priority between them. Pure."""

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

    __slots__ = ("bytes", "bytes_max", "dropped", "messages", "sent")

    def __init__(self, bytes_max: int) -> None:
        self.messages: deque[bytes] = deque()
        self.bytes = 0
        self.bytes_max = bytes_max
        self.sent = 0
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


class Outbox:
    def __init__(self, queue_bytes_max: Mapping[Channel, int]) -> None:
        self._control: deque[bytes] = deque()
        self._queues = {channel: _Queue(queue_bytes_max[channel]) for channel in Channel}

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
            for channel, queue in self._queues.items():
                if queue.messages:
                    room = _fill_from(channel, queue, frames, room)
                    if queue.messages:
                        break
        return b"".join(frames)

    @property
    def empty(self) -> bool:
        return not self._control and not any(queue.messages for queue in self._queues.values())

    def queued_bytes(self) -> dict[Channel, int]:
        return {channel: queue.bytes for channel, queue in self._queues.items()}

    def dropped(self) -> dict[Channel, int]:
        return {channel: queue.dropped for channel, queue in self._queues.items()}


def _fill_from(channel: Channel, queue: _Queue, frames: list[bytes], room: int) -> int:
    """Take frames of one channel while they fit; returns the room that is left."""
    messages = queue.messages
    while messages:
        payload = messages[0]
        size = len(payload)
        if size <= FRAGMENT_BYTES:
            if HEADER_BYTES + size > room:
                break
            frame = whole_frame(channel, payload)
            done = True
        else:
            if room < HEADER_BYTES + TOTAL_BYTES + FRAGMENT_BYTES:
                break
            frame = more_frame(channel, payload, queue.sent) if queue.sent else first_frame(channel, payload)
            queue.sent += FRAGMENT_BYTES
            done = queue.sent >= size
        frames.append(frame)
        room -= len(frame)
        if done:
            messages.popleft()
            queue.bytes -= size + MESSAGE_OVERHEAD_BYTES
            queue.sent = 0
    return room

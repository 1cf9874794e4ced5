"""Messages as the frames that really travel, but for the encryption: it hides nothing inside one process."""

from __future__ import annotations

from typing import cast

from otcnode import limits
from otcnode.consensus import messages
from otcnode.consensus.sizes import MESSAGES
from otcnode.p2p.framing import (
    FRAGMENT_BYTES,
    Channel,
    FrameDecoder,
    Message,
    first_frame,
    more_frame,
    seal,
    whole_frame,
)
from otcnode.p2p.noise import TAG_BYTES, CipherState
from otcnode.remembered import remembered

CARRIED_KEPT = 256

_TAG = bytes(TAG_BYTES)


class _Plain:
    """A cipher of the same sizes that leaves the text as it is."""

    def encrypt(self, associated: bytes, plaintext: bytes) -> bytes:
        return plaintext + _TAG

    def decrypt(self, associated: bytes, ciphertext: bytes) -> bytes:
        return ciphertext[:-TAG_BYTES]


_PLAIN = cast(CipherState, _Plain())
_MESSAGE_BYTES_MAX = dict.fromkeys(Channel, limits.message_bytes_max)


def pack(channel: Channel, payload: bytes) -> bytes:
    """The records of one message."""
    if len(payload) <= FRAGMENT_BYTES:
        return seal(_PLAIN, whole_frame(channel, payload))
    frames = [first_frame(channel, payload)]
    frames += [more_frame(channel, payload, at) for at in range(FRAGMENT_BYTES, len(payload), FRAGMENT_BYTES)]
    return b"".join(seal(_PLAIN, frame) for frame in frames)


@remembered(CARRIED_KEPT)
def carried(channel: Channel, payload: bytes) -> Message:
    """What arrives where a message was sent: through records and frames, once for all who are sent the same."""
    return unpack(pack(channel, payload))


def unpack(raw: bytes) -> Message:
    """The message of whole records."""
    decoder = FrameDecoder(_PLAIN, _MESSAGE_BYTES_MAX)
    (message,) = decoder.feed(raw, 0, 0)
    assert isinstance(message, Message) and not decoder.held_bytes, "records are sent whole"
    return message


@remembered(CARRIED_KEPT)
def read(payload: bytes) -> messages.Message:
    """A consensus message as every node reads it: what is sent to many is decoded once. Raises DecodeError."""
    return MESSAGES.read(payload)

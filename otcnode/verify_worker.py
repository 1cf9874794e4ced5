"""The verifying process: packed checks on standard input, one byte per check on standard output, until the input ends.

Its input ends when the node closes it or is gone, however the node ended, so no worker outlives its node.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable
from typing import BinaryIO

from otcnode.crypto import SignatureCheck, verify

LENGTH_BYTES = 4
PUBLIC_BYTES, SIGNATURE_BYTES = 32, 64
MESSAGE_LENGTH_BYTES = 2
MESSAGE_BYTES_MAX = 2 ** (8 * MESSAGE_LENGTH_BYTES) - 1
_SIGNATURE_END = PUBLIC_BYTES + SIGNATURE_BYTES
_HEAD_END = _SIGNATURE_END + MESSAGE_LENGTH_BYTES


def pack(checks: Iterable[SignatureCheck]) -> bytes:
    """Of each check public key, signature, the message's length and the message."""
    parts: list[bytes] = []
    for public, message, signature in checks:
        assert len(public) == PUBLIC_BYTES and len(signature) == SIGNATURE_BYTES
        parts += (public, signature, len(message).to_bytes(MESSAGE_LENGTH_BYTES, "big"), message)
    return b"".join(parts)


def verify_packed(packed: bytes) -> bytes:
    """One byte, 0 or 1, per packed check."""
    verdicts, at = bytearray(), 0
    while at < len(packed):
        signature, head = at + PUBLIC_BYTES, at + _HEAD_END
        end = head + int.from_bytes(packed[at + _SIGNATURE_END : head], "big")
        verdicts.append(verify(packed[at:signature], packed[head:end], packed[signature : at + _SIGNATURE_END]))
        at = end
    return bytes(verdicts)


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the input ends. A request is its length in 4 bytes, big-endian, and packed checks."""
    while len(head := requests.read(LENGTH_BYTES)) == LENGTH_BYTES:
        length = int.from_bytes(head, "big")
        packed = requests.read(length)
        if len(packed) < length:
            return
        answers.write(verify_packed(packed))
        answers.flush()


if __name__ == "__main__":
    # A service manager's SIGTERM reaches the whole group; the node ends its workers itself.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        serve(sys.stdin.buffer, sys.stdout.buffer)
    except BrokenPipeError:
        sys.stderr.close()

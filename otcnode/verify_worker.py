"""The verifying process: packed checks on standard input, one byte per check on standard output, until the input ends.

Its input ends when the node closes it or is gone, however the node ended, so no worker outlives its node.
"""

from __future__ import annotations

import signal
import sys
from typing import BinaryIO

from otcnode.crypto import verify

LENGTH_BYTES = 4
PUBLIC_BYTES, MESSAGE_BYTES, SIGNATURE_BYTES = 32, 32, 64
ITEM_BYTES = PUBLIC_BYTES + MESSAGE_BYTES + SIGNATURE_BYTES


def verify_packed(packed: bytes) -> bytes:
    """One byte, 0 or 1, per packed check."""
    message, signature = PUBLIC_BYTES, PUBLIC_BYTES + MESSAGE_BYTES
    return bytes(
        verify(
            packed[at : at + message], packed[at + message : at + signature], packed[at + signature : at + ITEM_BYTES]
        )
        for at in range(0, len(packed), ITEM_BYTES)
    )


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

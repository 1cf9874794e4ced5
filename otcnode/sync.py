"""Catching up by whole certified blocks: who is asked for what, and what is done with the answers. Pure.

Nothing a peer says is believed: a claimed height only decides who is asked, each block is checked against its
certificate and executed by the engine, and a peer that stays silent or serves junk is not asked again for a while.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from otcnode import limits
from otcnode.blocks import CertifiedBlock
from otcnode.codec import Record
from otcnode.types import Height, Natural

REQUEST_TIMEOUT_MS = 3_000
DISTRUST_MS = 10_000
HEIGHTS_AHEAD_MAX = 256
"""Blocks fetched but not yet executed; bounds memory together with the size of a response."""


class TipNotice(Record, frozen=True, tag="tip"):
    """The sender's committed height: a hint for peers that do not take part in consensus."""

    height: Height


class BlocksRequest(Record, frozen=True, tag="blocks-request"):
    first: Height
    count: Natural


class BlocksResponse(Record, frozen=True, tag="blocks"):
    """Consecutive certified blocks from `first` on; fewer than asked for where they would grow too large."""

    first: Height
    blocks: tuple[CertifiedBlock, ...]


SyncMessage: TypeAlias = TipNotice | BlocksRequest | BlocksResponse


@dataclass(frozen=True, slots=True)
class _Outstanding:
    first: int
    count: int
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class Progress:
    """Where catching up stands; `target` is the highest height a trusted peer claims."""

    committed: int
    target: int
    buffered: int
    asked: int


class BlockSync:
    """One request at a time per peer, several peers in parallel, blocks handed out strictly in order."""

    def __init__(self) -> None:
        self._claims: dict[bytes, int] = {}
        self._distrusted_until_ms: dict[bytes, int] = {}
        self._outstanding: dict[bytes, _Outstanding] = {}
        self._buffer: dict[int, tuple[CertifiedBlock, bytes]] = {}

    def hint(self, peer: bytes, height: int) -> None:
        """`peer` claims to have committed `height`."""
        self._claims[peer] = max(height, self._claims.get(peer, 0))

    def disconnected(self, peer: bytes) -> None:
        self._claims.pop(peer, None)
        self._outstanding.pop(peer, None)

    def progress(self, committed: int, now_ms: int) -> Progress:
        trusted = [height for peer, height in self._claims.items() if self._trusted(peer, now_ms)]
        return Progress(committed, max([committed, *trusted]), len(self._buffer), len(self._outstanding))

    def poll(self, committed: int, now_ms: int) -> list[tuple[bytes, BlocksRequest]]:
        """The requests to send now. Peers that let a request time out are distrusted for a while."""
        for peer, request in sorted(self._outstanding.items()):
            if request.deadline_ms <= now_ms:
                self.distrust(peer, now_ms)
        for height in [height for height in self._buffer if height <= committed]:
            del self._buffer[height]
        requests = []
        for peer, claimed in sorted(self._claims.items()):
            if peer in self._outstanding or not self._trusted(peer, now_ms):
                continue
            first = self._first_missing(committed)
            last = min(claimed, first + limits.sync_blocks_per_request_max - 1, committed + HEIGHTS_AHEAD_MAX)
            if last < first:
                continue
            count = last - first + 1
            self._outstanding[peer] = _Outstanding(first, count, now_ms + REQUEST_TIMEOUT_MS)
            requests.append((peer, BlocksRequest(first, count)))
        return requests

    def received(self, peer: bytes, response: BlocksResponse) -> str | None:
        """Buffer an answer; the text says what is wrong with it where it was not one to our request."""
        request = self._outstanding.pop(peer, None)
        if request is None or response.first != request.first or len(response.blocks) > request.count:
            return "blocks that were not asked for"
        heights = [entry.block.header.height for entry in response.blocks]
        if heights != list(range(request.first, request.first + len(heights))):
            return "blocks of other heights than asked for"
        if not heights:
            self._claims[peer] = min(self._claims.get(peer, 0), request.first - 1)
        for entry in response.blocks:
            self._buffer.setdefault(entry.block.header.height, (entry, peer))
        return None

    def next(self, committed: int) -> tuple[CertifiedBlock, bytes] | None:
        """The block after `committed`, and who served it."""
        return self._buffer.get(committed + 1)

    def reject(self, peer: bytes, now_ms: int) -> None:
        """A block of this peer did not verify: forget everything it served and ask others."""
        for height in [height for height, (_, source) in self._buffer.items() if source == peer]:
            del self._buffer[height]
        self.distrust(peer, now_ms)

    def distrust(self, peer: bytes, now_ms: int) -> None:
        self._outstanding.pop(peer, None)
        self._claims.pop(peer, None)
        self._distrusted_until_ms[peer] = now_ms + DISTRUST_MS

    def _trusted(self, peer: bytes, now_ms: int) -> bool:
        until = self._distrusted_until_ms.get(peer)
        if until is not None and until <= now_ms:
            del self._distrusted_until_ms[peer]
            return True
        return until is None

    def _first_missing(self, committed: int) -> int:
        taken = {h for r in self._outstanding.values() for h in range(r.first, r.first + r.count)}
        height = committed + 1
        while height in self._buffer or height in taken:
            height += 1
        return height

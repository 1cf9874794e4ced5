"""Catching up by whole certified blocks: who is asked for what, and what is done with the answers. Pure.

Nothing a peer says is believed: a claimed height only decides who is asked, each block is checked against its
certificate and executed by the engine, and a peer that stays silent or serves junk is not asked again for a while.
Whoever says more than one peer has said goes by `supported_height`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from otcnode import limits
from otcnode.blocks import CertifiedBlock, Epoch
from otcnode.sync_messages import BlocksRequest, BlocksResponse

REQUEST_TIMEOUT_MS = 3_000
DISTRUST_MS = 10_000
HEDGE_MS = 500
"""A height asked for longer ago than this is asked for from another peer too: whoever answers last holds up nobody."""
ANSWERS_UNASKED_MAX = 16
"""An honest peer sends none; its answers and a new connection could cross, so a few are passed over."""
BODY_OVERHEAD_BYTES = 48
"""What a body takes in memory beside its bytes, also an empty one."""
HEIGHTS_AHEAD_MAX = 256
"""Blocks fetched but not yet executed; bounds memory together with the size of a response."""


@dataclass(frozen=True, slots=True)
class _Outstanding:
    first: int
    count: int
    since_ms: int

    def matches(self, response: BlocksResponse) -> bool:
        return response.first == self.first and len(response.blocks) <= self.count


@dataclass(frozen=True, slots=True)
class _Buffered:
    block: CertifiedBlock
    source: bytes
    size_bytes: int


def supported_height(claims: Mapping[bytes, int], others: Mapping[bytes, int], epoch: Epoch) -> int:
    """What has been committed according to what peers say, whatever any f validators say: the highest height that f + 1
    validators claim to have reached. Whoever hears of fewer validators, because it is connected to others or knows only
    those of long ago, goes by all peers that have a say (`others`, validators among them): by the height that two of
    them claim, f + 1 if that is more, or that all do where they are fewer. 0 if nobody says anything."""
    said = [claims[name] for name in epoch.validators if name in claims]
    if len(said) >= epoch.weak_quorum:
        return sorted(said, reverse=True)[epoch.weak_quorum - 1]
    heights = sorted(others.values(), reverse=True)[: max(2, epoch.weak_quorum)]
    return heights[-1] if heights else 0


def size_of(certified: CertifiedBlock) -> int:
    """In bytes, of its transactions."""
    return sum(len(raw) for raw in certified.block.transactions)


def _is_whole(response: BlocksResponse, request: _Outstanding) -> bool:
    """Whether it holds what was asked for, or so much that the rest may not have fitted."""
    size_bytes = sum(size_of(entry) for entry in response.blocks)
    return len(response.blocks) == request.count or size_bytes >= limits.sync_response_bytes_max // 2


class BlockSync:
    """One request at a time per peer, several peers in parallel, blocks handed out strictly in order."""

    def __init__(self) -> None:
        self._claims: dict[bytes, int] = {}
        self._first_kept: dict[bytes, int] = {}
        self._distrusted_until_ms: dict[bytes, int] = {}
        self._had_nothing_at: dict[bytes, int] = {}
        """The height from which on a peer had no block when it was asked, as long as it is distrusted for that."""
        self._owes_proof: set[bytes] = set()
        """Peers that did not give what they said they had, and have not given as much as one request brings since."""
        self._outstanding: dict[bytes, _Outstanding] = {}
        self._owed: dict[bytes, int] = {}
        """Answers that a peer may still send over this connection: one to each request, early or late."""
        self._late: dict[bytes, _Outstanding] = {}
        """The last request that a peer let time out: over a slow link its answer is still worth having."""
        self._buffer: dict[int, _Buffered] = {}
        self._buffered_bytes = 0

    def hint(self, peer: bytes, height: int, first: int | None = None) -> None:
        """`peer` claims to have committed `height`, and to keep blocks from `first` on. What it has dropped it will not
        have again over this connection."""
        self._claims[peer] = max(height, self._claims.get(peer, 0))
        if first is not None:
            self._first_kept[peer] = max(first, self._first_kept.get(peer, 1))

    def lacking(self, committed: int, now_ms: int) -> bool:
        """Whether there are peers further than `committed` that do not keep the block above it, and no trusted one that
        does."""
        needed = committed + 1
        further = [peer for peer in self._claims if self._claims[peer] >= needed]
        trusted = {peer for peer in further if self._trusted(peer, now_ms)}
        lack = {p for p in further if self._first_kept.get(p, 1) > needed or self._had_nothing_at.get(p, 0) >= needed}
        return lack != set() and trusted <= lack

    @property
    def buffered(self) -> int:
        """How many blocks have come that are not forgotten yet."""
        return len(self._buffer)

    @property
    def holds_blocks(self) -> bool:
        """Whether any block that came is not forgotten yet."""
        return bool(self._buffer)

    def claims(self) -> Mapping[bytes, int]:
        """What each peer says it has committed."""
        return self._claims

    def trusted_claims(self, now_ms: int) -> dict[bytes, int]:
        """Those of peers that are asked for blocks."""
        return {peer: height for peer, height in self._claims.items() if self._trusted(peer, now_ms)}

    def having_a_say(self, committed: int, now_ms: int, own: Mapping[bytes, int]) -> dict[bytes, int]:
        """The claims of the trusted, and the own if any, that tell how far others are, for `supported_height`.

        A peer that is no further than `committed` cannot know, so it takes nothing from what those say who are further:
        they are asked for the blocks, and have a say until one does not give what it said it had. Where nobody is left
        who might prove it, everybody has a say, so that one liar does not decide for good. Further is who claims more
        than one request brings: fewer blocks soon say so themselves, and a liar could wait with its answer until the
        chain has as many as it made up."""
        claims = {**self.trusted_claims(now_ms), **own}
        least = committed + limits.sync_blocks_per_request_max
        further = {p: height for p, height in claims.items() if height > least and p not in self._owes_proof}
        testable = any(self._first_kept.get(peer, 1) <= committed + 1 for peer in further)
        return further if testable else claims

    def disconnected(self, peer: bytes) -> None:
        self._claims.pop(peer, None)
        self._first_kept.pop(peer, None)
        self._had_nothing_at.pop(peer, None)
        self._outstanding.pop(peer, None)
        self._owed.pop(peer, None)
        self._late.pop(peer, None)

    def may_answer(self, peer: bytes) -> bool:
        """Whether `peer` owes an answer. Asked before one is even decoded: it can be large, and who was not asked has
        no business to send it."""
        return self._owed.get(peer, 0) > 0

    def poll(self, committed: int, now_ms: int) -> list[tuple[bytes, BlocksRequest]]:
        """The requests to send now. Peers that let a request time out are distrusted for a while."""
        for peer, request in sorted(self._outstanding.items()):
            if request.since_ms + REQUEST_TIMEOUT_MS <= now_ms:
                self._late[peer] = request
                self.distrust(peer, now_ms)
        self._forget([height for height in self._buffer if height <= committed])
        requests = []
        further = [(peer, claimed) for peer, claimed in self._claims.items() if claimed > committed]
        for peer, claimed in sorted(further):
            if peer in self._outstanding or not self._trusted(peer, now_ms):
                continue
            first = self._first_missing(committed, now_ms)
            if first < self._first_kept.get(peer, 1):
                continue
            if first > committed + 1 and self._buffered_bytes >= limits.sync_buffer_bytes_max:
                continue
            last = min(claimed, first + limits.sync_blocks_per_request_max - 1, committed + HEIGHTS_AHEAD_MAX)
            if last < first:
                continue
            count = last - first + 1
            self._outstanding[peer] = _Outstanding(first, count, now_ms)
            self._owed[peer] = self._owed.get(peer, 0) + 1
            requests.append((peer, BlocksRequest(first, count)))
        return requests

    def received(self, peer: bytes, response: BlocksResponse, now_ms: int) -> str | None:
        """Buffer an answer; the text says what is wrong with it where it was not one to our request."""
        if not self.may_answer(peer):
            return "blocks that were not asked for"
        self._owed[peer] -= 1
        late = self._late.pop(peer, None)
        request = late if late is not None and late.matches(response) else self._outstanding.pop(peer, None)
        if request is None or not request.matches(response):
            return "blocks that were not asked for"
        heights = [entry.block.header.height for entry in response.blocks]
        if heights != list(range(request.first, request.first + len(heights))):
            return "blocks of other heights than asked for"
        if not heights:
            if self._first_kept.get(peer, 1) <= request.first:
                # It claimed to have them. Others are asked first for a while, or it could go on like this for ever.
                self.distrust(peer, now_ms)
                self._had_nothing_at[peer] = request.first
        elif not _is_whole(response, request):
            self._owes_proof.add(peer)
        elif request.count == limits.sync_blocks_per_request_max:
            # Less is no proof: the chain may have got so far since it was asked for.
            self._owes_proof.discard(peer)
        for entry in response.blocks:
            self._keep(entry, peer)
        return None

    def _keep(self, entry: CertifiedBlock, peer: bytes) -> None:
        height = entry.block.header.height
        if height in self._buffer:
            return
        size_bytes = size_of(entry) + len(entry.block.transactions) * BODY_OVERHEAD_BYTES
        self._buffer[height] = _Buffered(entry, peer, size_bytes)
        self._buffered_bytes += size_bytes
        while self._buffered_bytes > limits.sync_buffer_bytes_max and len(self._buffer) > 1:
            self._forget([max(self._buffer)])

    def _forget(self, heights: list[int]) -> None:
        for height in heights:
            self._buffered_bytes -= self._buffer.pop(height).size_bytes

    def next(self, committed: int) -> tuple[CertifiedBlock, bytes] | None:
        """The block after `committed`, and who served it."""
        buffered = self._buffer.get(committed + 1)
        return None if buffered is None else (buffered.block, buffered.source)

    def reject(self, peer: bytes, now_ms: int) -> None:
        """A block of this peer did not verify: forget everything it served and ask others."""
        self._forget([height for height, buffered in self._buffer.items() if buffered.source == peer])
        self.distrust(peer, now_ms)

    def distrust(self, peer: bytes, now_ms: int) -> None:
        self._outstanding.pop(peer, None)
        self._distrusted_until_ms[peer] = now_ms + DISTRUST_MS
        self._owes_proof.add(peer)

    def _trusted(self, peer: bytes, now_ms: int) -> bool:
        until = self._distrusted_until_ms.get(peer)
        if until is not None and until <= now_ms:
            del self._distrusted_until_ms[peer]
            self._had_nothing_at.pop(peer, None)
            return True
        return until is None

    def _first_missing(self, committed: int, now_ms: int) -> int:
        """The lowest height that is neither here nor freshly asked for."""
        asked = [request for request in self._outstanding.values() if now_ms - request.since_ms < HEDGE_MS]
        taken = {height for request in asked for height in range(request.first, request.first + request.count)}
        height = committed + 1
        while height in self._buffer or height in taken:
            height += 1
        return height

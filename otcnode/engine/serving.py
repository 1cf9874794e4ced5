"""Serving committed blocks to peers that lack them, at a bounded rate to each."""

from __future__ import annotations

from otcnode import limits
from otcnode.blocks import CertifiedBlock
from otcnode.codec import encode
from otcnode.engine.host import Host
from otcnode.p2p.framing import Channel
from otcnode.p2p.rates import Rate, TokenBucket
from otcnode.storage.store import Store
from otcnode.sync_messages import BlocksRequest, BlocksResponse, TipNotice

BLOCK_OVERHEAD_BYTES = 2_000
"""What an empty block costs: its header and certificate, and reading it."""


class BlockServer:
    """A request is small and its answer large: a peer gets `sync_served_bytes_per_second`, and what it asks for beyond
    that waits. An honest peer has one request open at a time, so a newer one takes the place of one that waits."""

    def __init__(self, store: Store, host: Host) -> None:
        self._store = store
        self._host = host
        self._served: dict[bytes, TokenBucket] = {}
        self._waiting: dict[bytes, BlocksRequest] = {}

    def request(self, peer: bytes, request: BlocksRequest) -> None:
        now_ms = self._host.now().monotonic_ms
        served = self._served.get(peer)
        if served is None:
            rate = limits.sync_served_bytes_per_second
            served = self._served[peer] = TokenBucket(Rate(rate, rate), now_ms)
        if served.take(0, now_ms):
            self._waiting[peer] = request
            return
        payload = encode(self._answer(request))
        if request.first < self._store.blocks_first:
            # The peer has not heard yet what is kept now; ahead of the empty answer it takes that for no lie.
            self._host.send(peer, Channel.SYNC, encode(TipNotice(self._store.tip.height, self._store.blocks_first)))
        served.take(max(len(payload), BLOCK_OVERHEAD_BYTES), now_ms)
        self._host.send(peer, Channel.SYNC, payload)

    def poll(self) -> None:
        """Answer those whose time has come."""
        waiting, self._waiting = self._waiting, {}
        for peer, request in waiting.items():
            self.request(peer, request)

    def disconnected(self, peer: bytes) -> None:
        self._served.pop(peer, None)
        self._waiting.pop(peer, None)

    def _answer(self, request: BlocksRequest) -> BlocksResponse:
        blocks: list[CertifiedBlock] = []
        room_bytes = limits.sync_response_bytes_max
        count = min(request.count, limits.sync_blocks_per_request_max)
        last = min(self._store.tip.height, request.first + count - 1)
        for height in range(max(request.first, 1), last + 1):
            block, certificate = self._store.block(height), self._store.certificate(height)
            if block is None or certificate is None:
                break
            room_bytes -= sum(len(raw) for raw in block.transactions) + BLOCK_OVERHEAD_BYTES
            if room_bytes < 0 and blocks:
                break
            blocks.append(CertifiedBlock(block, certificate))
        return BlocksResponse(request.first, tuple(blocks))

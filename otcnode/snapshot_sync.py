"""Taking a snapshot from others: which one, what is asked of whom, and what is done with silence and lies. Pure.

Nothing a peer says is believed: an offer only decides whom to ask, the manifest is proven from the genesis file and
each chunk against the manifest by whoever drives this. A peer that lets a request time out, or serves what does not
hold, is not asked for a while.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum

from otcnode import limits
from otcnode.snapshot import Offer
from otcnode.sync_messages import ChunkRequest, ManifestRequest, OffersRequest, SnapshotRequest

OFFERS_AGAIN_MS = 3_000
REQUEST_TIMEOUT_MS = 10_000
DISTRUST_MS = 30_000
ABANDON_MS = 20_000
"""A snapshot that nobody has offered for so long is given up for another one."""

Requests = list[tuple[bytes, SnapshotRequest]]


class Phase(Enum):
    IDLE = "idle"
    """no snapshot is needed, or none has been chosen yet"""
    MANIFEST = "manifest"
    CHUNKS = "chunks"
    WHOLE = "whole"


@dataclass(slots=True)
class _Peer:
    offers: tuple[Offer, ...] | None = None
    asked_offers_ms: int | None = None
    distrusted_until_ms: int = 0
    waits_for: dict[int | None, int] = field(default_factory=dict)
    """Chunk (None: the manifest) to when it was asked for."""


class SnapshotSync:
    """One snapshot at a time, its chunks from all who offer it."""

    def __init__(self) -> None:
        self._peers: dict[bytes, _Peer] = {}
        self.phase = Phase.IDLE
        self.chosen: Offer | None = None
        self._missing: set[int] = set()
        self._missing_order: list[int] = []
        self._offered_ms = 0

    def connected(self, peer: bytes) -> None:
        old = self._peers.get(peer)
        self._peers[peer] = _Peer(distrusted_until_ms=0 if old is None else old.distrusted_until_ms)

    def disconnected(self, peer: bytes) -> None:
        known = self._peers.get(peer)
        if known is not None:
            # What it has done is remembered as long as it would be if it had stayed.
            known.offers, known.asked_offers_ms = None, None
            known.waits_for.clear()

    def offered(self, peer: bytes, offers: tuple[Offer, ...]) -> None:
        self._peers.setdefault(peer, _Peer()).offers = offers[: limits.snapshots_offered_max]

    def resume(self, offer: Offer, missing: set[int], now_ms: int) -> None:
        """Chunks of this snapshot are here already, its manifest is proven."""
        self.chosen, self._offered_ms = offer, now_ms
        self._begin(missing)

    def proven(self, missing: set[int]) -> None:
        """The manifest of the chosen snapshot is."""
        assert self.phase is Phase.MANIFEST
        self._begin(missing)

    def _begin(self, missing: set[int]) -> None:
        self._missing = set(missing)
        self._missing_order = sorted(missing, reverse=True)
        self.phase = Phase.CHUNKS if missing else Phase.WHOLE

    def kept(self, index: int) -> None:
        """A chunk is proven and kept."""
        self._missing.discard(index)
        if self.phase is Phase.CHUNKS and not self._missing:
            self.phase = Phase.WHOLE

    def may_answer(self, peer: bytes) -> bool:
        """Whether anything has been asked of the peer that it has not answered yet."""
        known = self._peers.get(peer)
        return known is not None and known.waits_for != {}

    def awaited(self, peer: bytes, index: int | None) -> bool:
        """Whether this answer (None: a manifest) is one to a request, which is then answered."""
        known = self._peers.get(peer)
        return known is not None and known.waits_for.pop(index, None) is not None

    def lacks(self, peer: bytes) -> None:
        """The peer has the chosen snapshot no longer."""
        known = self._peers.get(peer)
        if known is not None and known.offers is not None:
            known.offers = tuple(offer for offer in known.offers if offer != self.chosen)

    def distrust(self, peer: bytes, now_ms: int) -> None:
        known = self._peers.setdefault(peer, _Peer())
        known.distrusted_until_ms = now_ms + DISTRUST_MS
        known.waits_for.clear()
        if self.phase is Phase.MANIFEST:
            self._give_up()

    def abandon(self) -> None:
        """Choose again."""
        self._give_up()

    def poll(self, now_ms: int, above: int | None) -> Requests:
        """The requests to send now. `above`: a snapshot above this height is wanted; None: none is."""
        for peer, known in self._peers.items():
            since_ms = min(known.waits_for.values(), default=now_ms)
            if since_ms + REQUEST_TIMEOUT_MS <= now_ms:
                self.distrust(peer, now_ms)
        if self.phase is Phase.MANIFEST and not any(None in known.waits_for for known in self._peers.values()):
            # Whoever was asked for it is gone.
            self._give_up()
        if self.phase is Phase.WHOLE or (self.phase is Phase.IDLE and above is None):
            return []
        requests = self._ask_for_offers(now_ms)
        if self.phase is Phase.IDLE:
            assert above is not None
            return requests + self._choose(now_ms, above)
        servers = [peer for peer in self._trusted(now_ms) if self.chosen in (self._peers[peer].offers or ())]
        if servers:
            self._offered_ms = now_ms
        elif self._offered_ms + ABANDON_MS <= now_ms:
            self._give_up()
            return requests
        if self.phase is Phase.CHUNKS:
            requests += self._ask_for_chunks(servers, now_ms)
        return requests

    def _trusted(self, now_ms: int) -> list[bytes]:
        return sorted(peer for peer, known in self._peers.items() if known.distrusted_until_ms <= now_ms)

    def _ask_for_offers(self, now_ms: int) -> Requests:
        requests: Requests = []
        for peer in self._trusted(now_ms):
            known = self._peers[peer]
            if known.asked_offers_ms is None or known.asked_offers_ms + OFFERS_AGAIN_MS <= now_ms:
                known.asked_offers_ms = now_ms
                requests.append((peer, OffersRequest()))
        return requests

    def _choose(self, now_ms: int, above: int) -> Requests:
        """The highest that several offer, else the highest; its manifest comes from one of them."""
        trusted = self._trusted(now_ms)
        offers = Counter(offer for peer in trusted for offer in set(self._peers[peer].offers or ()))
        high = [offer for offer in offers if offer.height > above]
        if not high:
            return []
        self.chosen = max(high, key=lambda offer: (min(offers[offer], 2), offer.height, offer.block_hash))
        self.phase, self._offered_ms = Phase.MANIFEST, now_ms
        server = next(peer for peer in trusted if self.chosen in (self._peers[peer].offers or ()))
        self._peers[server].waits_for[None] = now_ms
        return [(server, ManifestRequest(self.chosen.block_hash))]

    def _ask_for_chunks(self, servers: list[bytes], now_ms: int) -> Requests:
        """Each server is kept busy; once everything has been asked for, an idle one is asked for what others are slow
        with."""
        assert self.chosen is not None
        taken = {index for peer in servers for index in self._peers[peer].waits_for}
        requests: Requests = []
        for peer in servers:
            waits_for = self._peers[peer].waits_for
            while len(waits_for) < limits.snapshot_chunks_asked_max:
                index = self._next(taken, waits_for)
                if index is None:
                    break
                waits_for[index] = now_ms
                taken.add(index)
                requests.append((peer, ChunkRequest(self.chosen.block_hash, index)))
        return requests

    def _next(self, taken: set[int | None], own: dict[int | None, int]) -> int | None:
        order = self._missing_order
        while order:
            index = order.pop()
            if index in self._missing and index not in taken:
                return index
        if not order:
            lost = self._missing - {index for index in taken if index is not None}
            self._missing_order = sorted(lost, reverse=True)
            if self._missing_order:
                return self._missing_order.pop()
        slow = sorted(index for index in self._missing if index not in own)
        return slow[0] if slow and not own else None

    def _give_up(self) -> None:
        self.phase, self.chosen = Phase.IDLE, None
        self._missing, self._missing_order = set(), []
        for known in self._peers.values():
            known.waits_for.clear()

"""Taking a snapshot from others: which one, what is asked of whom, and what is done with silence and lies. Pure.

Nothing a peer says is believed: an offer only decides whom to ask, the manifest is proven from the genesis file and
each chunk against the manifest by whoever drives this. What comes late proves itself as well, and is taken. A peer that
serves what does not hold, has not what it offers, or stays silent is not asked for a while, for longer each time.

A snapshot may keep the node from taking blocks only as long as it gets on: for a moment until a manifest is proven, and
then while chunks come as fast as the whole should. Otherwise blocks are taken as well, and another snapshot instead if
somebody offers one who has not been as slow.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import assert_never

from otcnode import limits
from otcnode.snapshot import Offer, chunks_of
from otcnode.sync_messages import ChunkRequest, ManifestRequest, OffersRequest, SnapshotRequest

OFFERS_AGAIN_MS = 3_000
OWED_OFFERS_MAX = 16
"""Answers of one peer that are still taken, should it answer late."""
REQUEST_TIMEOUT_MS = 10_000
"""A chunk that has not come by then is asked for elsewhere too, and its server for nothing more before it has come."""
LATE_MS_MAX = 60_000
"""A chunk that has not come by then never will."""
DISTRUST_MS_FIRST = 10_000
DISTRUST_MS_MAX = 600_000
"""It doubles with everything a peer does wrong that costs time, until a chunk of it is proven; for one that has served
what does not hold, for ever."""
SOON_MS = 2_500
"""An answer within it costs hardly any time; more chunks are then asked for at a time."""
ABANDON_MS = 20_000
"""A snapshot that nobody has offered for so long is given up for another one."""
MANIFEST_HOLD_MS = 2_000
"""From the first choice to a manifest that is proven, however many are tried: so long no blocks are taken."""
PACE_WINDOW_MS = 30_000
WHOLE_MS = 600_000
"""A snapshot all of whose chunks would take longer than this, at the pace of the last window, is slow."""

Requests = list[tuple[bytes, SnapshotRequest]]


class Phase(Enum):
    IDLE = "idle"
    """no snapshot is needed, or none has been chosen yet"""
    MANIFEST = "manifest"
    PROVING = "proving"
    """the manifest is here, and being judged"""
    CHUNKS = "chunks"
    WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Snapshots above the height `above`. Those up to `supported` are believed to exist: they are looked at first, and
    others only where `beyond`, for a node that has no other way on."""

    above: int
    supported: int
    beyond: bool


@dataclass(slots=True)
class _Peer:
    offers: tuple[Offer, ...] = ()
    asked_offers_ms: int | None = None
    owed_offers: int = 0
    """Answers about what it offers that it may still send over this connection."""
    distrusted_until_ms: int = 0
    distrusted_for_ms: int = 0
    has_lied: bool = False
    slow: int = 0
    """How often a snapshot of it was given up for another one that promised to come sooner."""
    chunks_at_a_time: int = 1
    """More while its answers come soon, fewer while they do not."""
    waits_for: dict[int, int] = field(default_factory=dict)
    """Chunk to when it was asked for."""
    manifest: Offer | None = None
    """Whose manifest it was asked for last, and has not sent; it may come late."""
    manifest_asked_ms: int = 0
    manifest_awaited: bool = False
    owed: int = 0
    """Answers that it may still send over this connection: one to each request, early or late."""

    def forget_requests(self) -> None:
        """What may come late is remembered."""
        self.waits_for.clear()
        self.manifest_awaited = False

    def is_overdue(self, now_ms: int) -> bool:
        return any(since_ms + REQUEST_TIMEOUT_MS <= now_ms for since_ms in self.waits_for.values())


class SnapshotSync:
    """One snapshot at a time, its chunks from all who offer it."""

    def __init__(self) -> None:
        self._peers: dict[bytes, _Peer] = {}
        self.phase = Phase.IDLE
        self.chosen: Offer | None = None
        self._missing: set[int] = set()
        self._missing_order: list[int] = []
        self._offered_ms = 0
        self._held_since_ms: int | None = None
        """Since when a snapshot has been wanted and chosen, and no manifest proven."""
        self._window_since_ms = 0
        self._window_kept = 0
        self._slow = False

    def connected(self, peer: bytes) -> None:
        self.disconnected(peer)
        self._peers.setdefault(peer, _Peer())

    def disconnected(self, peer: bytes) -> None:
        known = self._peers.get(peer)
        if known is not None:
            # What it has done is remembered as long as it would be if it had stayed.
            known.offers, known.asked_offers_ms, known.manifest, known.chunks_at_a_time = (), None, None, 1
            known.forget_requests()
            known.owed = known.owed_offers = 0

    def offered(self, peer: bytes, offers: tuple[Offer, ...]) -> None:
        self._peers.setdefault(peer, _Peer()).offers = offers[: limits.snapshots_offered_max]

    def resume(self, offer: Offer) -> None:
        """The manifest of this snapshot is here already, and chunks of it may be."""
        self.chosen = offer
        self.proving()

    def proving(self) -> None:
        """The manifest of the chosen snapshot has come."""
        for known in self._peers.values():
            known.manifest_awaited = False
        self.phase = Phase.PROVING

    def proven(self, missing: set[int], now_ms: int) -> None:
        """The manifest of the chosen snapshot is."""
        assert self.phase is Phase.PROVING
        self._offered_ms = now_ms
        self._begin(missing, now_ms)

    def _begin(self, missing: set[int], now_ms: int) -> None:
        self._missing = set(missing)
        self._missing_order = sorted(missing, reverse=True)
        self._held_since_ms = None
        self._window_since_ms, self._window_kept, self._slow = now_ms, 0, False
        self.phase = Phase.CHUNKS if missing else Phase.WHOLE

    def kept(self, peer: bytes, index: int) -> None:
        """A chunk of this peer is proven and kept."""
        known = self._peers.setdefault(peer, _Peer())
        if not known.has_lied:
            known.distrusted_for_ms = 0
        if index in self._missing:
            self._missing.remove(index)
            self._window_kept += 1
        if self.phase is Phase.CHUNKS and not self._missing:
            self.phase = Phase.WHOLE

    def owes(self, peer: bytes) -> bool:
        """An answer of the peer has come: whether one was owed, be it late."""
        known = self._peers.get(peer)
        if known is None or not known.owed:
            return False
        known.owed -= 1
        return True

    def owes_offers(self, peer: bytes) -> bool:
        """Offers of the peer have come: whether they were asked for, be it a while ago."""
        known = self._peers.get(peer)
        if known is None or not known.owed_offers:
            return False
        known.owed_offers -= 1
        return True

    def may_answer(self, peer: bytes) -> bool:
        """Whether anything has been asked of the peer that it has not answered yet."""
        known = self._peers.get(peer)
        return known is not None and (known.waits_for != {} or known.manifest is not None)

    def awaited(self, peer: bytes, index: int, now_ms: int) -> bool:
        """Whether this chunk is the answer to a request, which is then answered."""
        known = self._peers.get(peer)
        since_ms = None if known is None else known.waits_for.pop(index, None)
        if known is None or since_ms is None:
            return False
        took_ms = now_ms - since_ms
        if took_ms <= SOON_MS:
            known.chunks_at_a_time = min(known.chunks_at_a_time + 1, limits.snapshot_chunks_asked_max)
        elif took_ms > REQUEST_TIMEOUT_MS // 2:
            known.chunks_at_a_time = max(1, known.chunks_at_a_time - 1)
        return True

    def awaited_manifest(self, peer: bytes, snapshot: bytes) -> bool:
        """Whether this is the answer to the last request for a manifest, early or late, and still of use: its snapshot
        is then the chosen one."""
        known = self._peers.get(peer)
        if known is None or known.manifest is None:
            return False
        offer, known.manifest = known.manifest, None
        if offer.block_hash != snapshot:
            return False
        if self.phase is Phase.IDLE:
            self.chosen, self.phase = offer, Phase.MANIFEST
        return self.phase is Phase.MANIFEST and self.chosen == offer

    def lacks(self, peer: bytes, now_ms: int) -> None:
        """The peer has the chosen snapshot no longer, or never had it. An honest one says so at once."""
        known = self._peers.setdefault(peer, _Peer())
        if self.phase is Phase.MANIFEST and known.manifest_asked_ms + SOON_MS < now_ms:
            self.distrust(peer, now_ms)
        else:
            self._pause(known, now_ms + DISTRUST_MS_FIRST)

    def lied(self, peer: bytes, now_ms: int) -> None:
        """The peer served what does not hold."""
        self._peers.setdefault(peer, _Peer()).has_lied = True
        self.distrust(peer, now_ms)

    def distrust(self, peer: bytes, now_ms: int) -> None:
        known = self._peers.setdefault(peer, _Peer())
        known.distrusted_for_ms = min(max(DISTRUST_MS_FIRST, 2 * known.distrusted_for_ms), DISTRUST_MS_MAX)
        self._pause(known, now_ms + known.distrusted_for_ms)

    def _pause(self, known: _Peer, until_ms: int) -> None:
        """What it offers then may be other snapshots than those of now."""
        known.distrusted_until_ms = until_ms
        known.offers, known.asked_offers_ms = (), None
        known.forget_requests()
        if self.phase is Phase.MANIFEST:
            self._give_up()

    def abandon(self) -> None:
        """Choose again."""
        self._give_up()

    def keeps_from_blocks(self, now_ms: int) -> bool:
        """Whether a snapshot gets on so well that blocks would only take its time."""
        match self.phase:
            case Phase.IDLE:
                return False
            case Phase.MANIFEST | Phase.PROVING:
                return self._held_since_ms is not None and now_ms < self._held_since_ms + MANIFEST_HOLD_MS
            case Phase.CHUNKS:
                return not self._slow
            case Phase.WHOLE:
                return True
            case _:
                assert_never(self.phase)

    def poll(self, now_ms: int, wanted: Wanted | None) -> Requests:
        """The requests to send now; None: no snapshot is wanted."""
        self._tend_requests(now_ms)
        if self.phase is Phase.IDLE and wanted is None:
            self._held_since_ms = None
            return []
        if self.phase is Phase.WHOLE:
            return []
        requests = self._ask_for_offers(now_ms)
        if self.phase is Phase.IDLE:
            assert wanted is not None
            return requests + self._choose(now_ms, wanted)
        if self.phase is Phase.PROVING:
            return requests
        servers = self._servers(now_ms)
        if servers:
            self._offered_ms = now_ms
        elif self._offered_ms + ABANDON_MS <= now_ms:
            self._give_up()
            return requests
        if self.phase is Phase.CHUNKS:
            if self._is_slower_than_another(now_ms, wanted):
                for peer in servers:
                    self._peers[peer].slow += 1
                self._give_up()
                return requests
            requests += self._ask_for_chunks(servers, now_ms)
        return requests

    def _tend_requests(self, now_ms: int) -> None:
        for peer, known in self._peers.items():
            if known.manifest_asked_ms + LATE_MS_MAX <= now_ms:
                known.manifest = None
            manifest_timed_out = known.manifest_awaited and known.manifest_asked_ms + REQUEST_TIMEOUT_MS <= now_ms
            if manifest_timed_out or min(known.waits_for.values(), default=now_ms) + LATE_MS_MAX <= now_ms:
                self.distrust(peer, now_ms)
        if self.phase is Phase.MANIFEST and not any(known.manifest_awaited for known in self._peers.values()):
            # Whoever was asked for it is gone.
            self._give_up()

    def _trusted(self, now_ms: int) -> list[bytes]:
        return sorted(peer for peer, known in self._peers.items() if known.distrusted_until_ms <= now_ms)

    def _servers(self, now_ms: int) -> list[bytes]:
        return [peer for peer in self._trusted(now_ms) if self.chosen in self._peers[peer].offers]

    def _is_slower_than_another(self, now_ms: int, wanted: Wanted | None) -> bool:
        """Looked at once in a window. Whoever serves what is slow now counts as slower than before."""
        if now_ms < self._window_since_ms + PACE_WINDOW_MS:
            return False
        assert self.chosen is not None
        due = chunks_of(self.chosen.chunk_depth) * PACE_WINDOW_MS // WHOLE_MS
        self._slow = self._window_kept < max(1, due)
        self._window_since_ms, self._window_kept = now_ms, 0
        if not self._slow or wanted is None:
            return False
        servers = self._servers(now_ms)
        own = min((self._peers[peer].slow + 1 for peer in servers), default=1)
        others = (offer for offer in self._eligible(now_ms, wanted) if offer != self.chosen)
        return any(self._slowness(offer, now_ms, servers) < own for offer in others)

    def _slowness(self, offer: Offer, now_ms: int, slower: list[bytes]) -> int:
        """Of the best of those who offer it; `slower` are counted once more."""
        return min(
            self._peers[peer].slow + (peer in slower)
            for peer in self._trusted(now_ms)
            if offer in self._peers[peer].offers
        )

    def _eligible(self, now_ms: int, wanted: Wanted) -> Counter[Offer]:
        """The offers worth a look, with how many make each."""
        offers = Counter(offer for peer in self._trusted(now_ms) for offer in set(self._peers[peer].offers))
        return Counter(
            {
                offer: count
                for offer, count in offers.items()
                if offer.height > wanted.above and (wanted.beyond or offer.height <= wanted.supported)
            }
        )

    def _ask_for_offers(self, now_ms: int) -> Requests:
        requests: Requests = []
        for peer in self._trusted(now_ms):
            known = self._peers[peer]
            if known.asked_offers_ms is None or known.asked_offers_ms + OFFERS_AGAIN_MS <= now_ms:
                known.asked_offers_ms = now_ms
                known.owed_offers = min(known.owed_offers + 1, OWED_OFFERS_MAX)
                requests.append((peer, OffersRequest()))
        return requests

    def _choose(self, now_ms: int, wanted: Wanted) -> Requests:
        """What is believed to exist before other things; then whose servers have been slow least often; then what
        several offer; then the highest. Its manifest comes from one of them."""
        offers = self._eligible(now_ms, wanted)
        if not offers:
            return []
        self.chosen = max(
            offers,
            key=lambda offer: (
                offer.height <= wanted.supported,
                -self._slowness(offer, now_ms, []),
                min(offers[offer], 2),
                offer.height,
                offer.block_hash,
                offer.chunk_depth,
            ),
        )
        self.phase, self._offered_ms = Phase.MANIFEST, now_ms
        if self._held_since_ms is None:
            self._held_since_ms = now_ms
        peer = min(self._servers(now_ms), key=lambda peer: (self._peers[peer].slow, peer))
        server = self._peers[peer]
        server.manifest, server.manifest_asked_ms, server.manifest_awaited = self.chosen, now_ms, True
        server.owed += 1
        return [(peer, ManifestRequest(self.chosen.block_hash))]

    def _ask_for_chunks(self, servers: list[bytes], now_ms: int) -> Requests:
        """Each server is kept busy, as far as it keeps up; once everything has been asked for, an idle one is asked for
        what others are slow with."""
        assert self.chosen is not None
        prompt = [peer for peer in servers if not self._peers[peer].is_overdue(now_ms)]
        taken = {index for peer in prompt for index in self._peers[peer].waits_for}
        requests: Requests = []
        for peer in prompt:
            known = self._peers[peer]
            while len(known.waits_for) < known.chunks_at_a_time:
                index = self._next(taken, known.waits_for)
                if index is None:
                    break
                known.waits_for[index] = now_ms
                known.owed += 1
                taken.add(index)
                requests.append((peer, ChunkRequest(self.chosen.block_hash, index)))
        return requests

    def _next(self, taken: set[int], own: dict[int, int]) -> int | None:
        order = self._missing_order
        while order:
            index = order.pop()
            if index in self._missing and index not in taken:
                return index
        self._missing_order = sorted(self._missing - taken, reverse=True)
        if self._missing_order:
            return self._missing_order.pop()
        slow = sorted(index for index in self._missing if index not in own)
        return slow[0] if slow and not own else None

    def _give_up(self) -> None:
        self.phase, self.chosen = Phase.IDLE, None
        self._missing, self._missing_order = set(), []
        for known in self._peers.values():
            known.forget_requests()

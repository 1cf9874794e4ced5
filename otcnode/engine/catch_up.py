"""Serving committed blocks to peers that lack them, and taking them from peers where this node lacks them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from otcnode import limits
from otcnode.blocks import CertifiedBlock
from otcnode.chain import BlockFault, Listed, Speculation
from otcnode.codec import encode
from otcnode.engine.authenticity import Authenticity
from otcnode.engine.flight import Flight
from otcnode.engine.host import Host
from otcnode.engine.intake import Intake
from otcnode.engine.preparing import Preparation
from otcnode.engine.serving import BlockServer
from otcnode.engine.snapshot_serving import SnapshotServer
from otcnode.engine.snapshot_taking import DamagePause, Shelf, SnapshotTaker
from otcnode.errors import DecodeError
from otcnode.p2p.framing import Channel
from otcnode.snapshot_sync import Wanted
from otcnode.storage.store import Store
from otcnode.sync import ANSWERS_UNASKED_MAX, BlockSync, size_of, supported_height
from otcnode.sync_choice import Seen, SyncChoice, caught_up
from otcnode.sync_messages import (
    BLOCKS_RESPONSE_START,
    SNAPSHOT_ANSWER_STARTS,
    SYNC_MESSAGES,
    BlocksRequest,
    BlocksResponse,
    ChunkRequest,
    ChunkResponse,
    ManifestRequest,
    ManifestResponse,
    Offers,
    OffersRequest,
    SnapshotAnswer,
    TipNotice,
)

Apply = Callable[[Speculation, CertifiedBlock], None]


@dataclass(frozen=True, slots=True)
class Snapshots:
    """What a node does about snapshots. `interval_blocks`: one is made at every height that this divides (0: none).
    `behind_blocks`: a node that is so far behind takes one instead of the blocks (0: never), unless it keeps all
    blocks and has once caught up; see sync_choice.py. `chunk_bytes`: about how large the chunks of those it
    makes are, and how much of one it takes may wait to be written (None: as limits.py says). `pause` is that of all
    engines of one process."""

    shelf: Shelf
    interval_blocks: int
    behind_blocks: int
    chunk_bytes: int | None = None
    pause: DamagePause = field(default_factory=DamagePause)


class CatchUp:
    """Applies one certified block after another, each verified and executed like any other; see preparing.py."""

    def __init__(
        self,
        chain_id: bytes,
        own: bytes,
        store: Store,
        flight: Flight,
        intake: Intake,
        authenticity: Authenticity,
        host: Host,
        apply: Apply,
        disagree: Callable[[str], None],
        snapshots: Snapshots | None = None,
    ) -> None:
        self._own = own
        self._store = store
        self._flight = flight
        self._host = host
        self._apply = apply
        self._disagree = disagree
        self._advancing = False
        self._stopped = False
        self._server = BlockServer(store, host)
        self._unasked_answers: Counter[bytes] = Counter()
        self._first_told = store.blocks_first
        self.sync = BlockSync()
        self._preparation = Preparation(chain_id, self.sync, intake, authenticity, host, self._advance)
        self._choice: SyncChoice | None = None
        self.snapshot_server: SnapshotServer | None = None
        self.snapshot_taker: SnapshotTaker | None = None
        if snapshots is not None:
            self.snapshot_server = SnapshotServer(
                store, snapshots.shelf.made, host, snapshots.interval_blocks, snapshots.chunk_bytes
            )
            self.snapshot_taker = SnapshotTaker(store, snapshots.shelf, host, snapshots.chunk_bytes, snapshots.pause)
            if snapshots.behind_blocks:
                self._choice = SyncChoice(snapshots.behind_blocks, store.blocks_kept is None)

    def start(self) -> None:
        """Go on with what was left on the disk."""
        if self.snapshot_server is not None:
            self.snapshot_server.start()
        if self.snapshot_taker is not None and self._choice is not None:
            self.snapshot_taker.start()

    def close(self) -> None:
        """Let go of the store."""
        if self.snapshot_server is not None:
            self.snapshot_server.close()
        if self.snapshot_taker is not None:
            self.snapshot_taker.close()

    def stop(self) -> None:
        """Something inside is wrong: nothing is asked for or applied any more."""
        self._stopped = True
        if self.snapshot_taker is not None:
            self.snapshot_taker.stop()

    def received(self, peer: bytes, payload: bytes) -> None:
        if payload.startswith(SNAPSHOT_ANSWER_STARTS):
            asked = None if self.snapshot_taker is None else self.snapshot_taker.sync
            if asked is None or not asked.owes(peer):
                self._unasked(peer)
                return
            if not asked.may_answer(peer):
                # Late: not worth the work of decoding it.
                return
        if payload.startswith(BLOCKS_RESPONSE_START) and not self.sync.may_answer(peer):
            self._unasked(peer)
            return
        try:
            message = SYNC_MESSAGES.read(payload)
        except DecodeError as error:
            self._host.penalise(peer, str(error))
            return
        match message:
            case TipNotice(height, first):
                self.sync.hint(peer, height, first)
                self.hint(peer, height)
            case OffersRequest() | ManifestRequest() | ChunkRequest():
                if self.snapshot_server is not None:
                    self.snapshot_server.request(peer, message)
            case Offers():
                if self.snapshot_taker is None or not self.snapshot_taker.sync.owes_offers(peer):
                    # Not looked at: what comes of offers is not counted against who sends them.
                    self._unasked(peer)
                    return
                self._host.later(lambda: self._take(peer, message))
            case ManifestResponse() | ChunkResponse():
                self._host.later(lambda: self._take(peer, message))
            case BlocksRequest():
                self._server.request(peer, message)
            case BlocksResponse(blocks=blocks):
                if sum(len(entry.block.transactions) for entry in blocks) > limits.block_transactions_max:
                    self._reject(peer, "more bodies than any block has")
                    return
                fault = self.sync.received(peer, message, self._host.now().monotonic_ms)
                if fault is None:
                    self._advance()
                else:
                    self._host.note("debug", "late or foreign sync answer", peer=peer.hex()[:12], fault=fault)

    def _take(self, peer: bytes, answer: SnapshotAnswer) -> None:
        """Later, for the work was asked for: it is not counted as what the peer makes this node do."""
        if self.snapshot_taker is not None and not self._stopped:
            if isinstance(answer, Offers):
                for offer in answer.offers[: limits.snapshots_offered_max]:
                    self.sync.hint(peer, offer.height)
            self.snapshot_taker.received(peer, answer)
            self.poll()

    def _unasked(self, peer: bytes) -> None:
        """Blocks, offers or parts of a snapshot that nobody asked for; what can be large is not even decoded."""
        self._unasked_answers[peer] += 1
        if self._unasked_answers[peer] > ANSWERS_UNASKED_MAX:
            self._host.penalise(peer, "sends what nobody asked it for")

    def hint(self, peer: bytes, height: int) -> None:
        """A peer says it is further; look into it."""
        if height > self._store.tip.height:
            self.sync.hint(peer, height)
            self.poll()

    def connected(self, peer: bytes) -> None:
        if self.snapshot_taker is not None:
            self.snapshot_taker.sync.connected(peer)

    def disconnected(self, peer: bytes) -> None:
        self.sync.disconnected(peer)
        self._server.disconnected(peer)
        if self.snapshot_server is not None:
            self.snapshot_server.disconnected(peer)
        if self.snapshot_taker is not None:
            self.snapshot_taker.sync.disconnected(peer)
        self._unasked_answers.pop(peer, None)

    def committed(self, height: int) -> bool:
        """A block is durable. Whether blocks have been dropped of which all are to hear, also those that hear of the
        height by other ways: once for as many as one request brings."""
        if self.snapshot_server is not None:
            self.snapshot_server.committed(height)
        first = self._store.blocks_first
        renews = first >= self._first_told + limits.sync_blocks_per_request_max
        if renews:
            self._first_told = first
        return renews

    def announce(self, peer: bytes) -> None:
        self._host.send(peer, Channel.SYNC, encode(TipNotice(self._store.tip.height, self._store.blocks_first)))

    def tick(self) -> None:
        """Several times a second."""
        if self._stopped:
            return
        self._server.poll()
        if self.snapshot_server is not None:
            self.snapshot_server.poll()
        self.poll()

    def target(self) -> int:
        """The height this node has to reach as far as it knows: what others support, and what is proven. One peer's
        claim decides it only for a node that hears of no other and is not the only validator itself."""
        tip, now_ms = self._flight.tip(), self._host.now().monotonic_ms
        own = {self._own: tip.height} if self._own in tip.next_epoch.validators else {}
        others = self.sync.having_a_say(tip.height, now_ms, own)
        supported = supported_height({**self.sync.claims(), **own}, others, tip.next_epoch)
        incoming = None if self.snapshot_taker is None else self.snapshot_taker.incoming
        proven = max(self._preparation.highest, 0 if incoming is None else incoming.height)
        return max(tip.height, proven, supported)

    def _supported(self, now_ms: int) -> int:
        """A validator's own height is no claim here: it may have lost its directory."""
        tip = self._flight.tip()
        others = self.sync.having_a_say(tip.height, now_ms, {})
        return supported_height(self.sync.claims(), others, tip.next_epoch)

    def _look_whether_caught_up(self, height: int, time_ms: int) -> None:
        """With the last block, or the one that is about to be, which then says so on the disk as well."""
        if not self._store.first_way_up or height < self._store.blocks_first:
            return
        now = self._host.now()
        if caught_up(height, self._supported(now.monotonic_ms), now.ledger_ms - time_ms):
            self._store.first_way_up = False

    def _snapshot_wanted(self, now_ms: int) -> Wanted | None:
        """None: blocks will do."""
        if self._choice is None:
            return None
        tip = self._flight.tip()
        seen = Seen(
            height=tip.height,
            blocks_first=self._store.blocks_first,
            supported=self._supported(now_ms),
            furthest=max(self.sync.claims().values(), default=0),
            lacking=self.sync.lacking(tip.height, now_ms),
            waits=self.sync.next(tip.height) is None and self._preparation.get(tip.height + 1) is None,
            first_way_up=self._store.first_way_up,
        )
        return self._choice.snapshot(seen, now_ms)

    def poll(self) -> None:
        """Ask for what is missing."""
        if self._stopped:
            return
        now_ms = self._host.now().monotonic_ms
        tip = self._flight.tip()
        self._look_whether_caught_up(tip.height, tip.time_ms)
        if self.snapshot_taker is not None and self._choice is not None:
            self.snapshot_taker.poll(self._snapshot_wanted(now_ms))
            if self.snapshot_taker.keeps_from_blocks:
                return
        for peer, request in self.sync.poll(self._store.tip.height, now_ms):
            self._host.send(peer, Channel.SYNC, encode(request))
        if self.sync.holds_blocks or self._preparation.holds_blocks:
            self._advance()

    def _advance(self) -> None:
        """Later, for the same reason as `_take`."""
        if not self._advancing:
            self._advancing = True
            self._host.later(self._step)

    def _step(self) -> None:
        """Execute the next block if it is here and checked, and look at those above it; the rest later, so that the
        loop stays responsive."""
        self._advancing = False
        if self._stopped or (self.snapshot_taker is not None and self.snapshot_taker.keeps_from_blocks):
            return
        if self._choice is not None and self._choice.holds_blocks:
            return
        false = self._preparation.go_on(self._flight.tip())
        if false is not None:
            self._reject(*false)
        height = self._store.tip.height + 1
        block = self._preparation.get(height)
        if block is None:
            return
        if block.fault is not None:
            self._preparation.forget_above(height - 1)
            self._reject(block.source, block.fault)
            return
        if not block.judged:
            return
        assert block.certified and block.authentic
        assert block.epoch == self._flight.tip().next_epoch, "a certificate judged by the validators of another height"
        if self._choice is not None:
            certified = block.certified_block
            self._choice.pace.took(size_of(certified), certified.block.header.time_ms)
        self._execute(block.certified_block, block.transactions)
        self.poll()

    def _execute(self, certified: CertifiedBlock, transactions: Listed) -> None:
        try:
            speculation = self._flight.check(certified.block.header, transactions)
        except BlockFault as fault:
            self._disagree(f"certified block {certified.block.header.height} executes differently here: {fault}")
            return
        self._look_whether_caught_up(certified.block.header.height, certified.block.header.time_ms)
        self._apply(speculation, certified)

    def _reject(self, source: bytes, reason: str) -> None:
        self.sync.reject(source, self._host.now().monotonic_ms)
        self._host.penalise(source, f"served a false block: {reason}")

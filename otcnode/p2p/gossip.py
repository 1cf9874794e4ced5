"""How transactions spread. Pure: time is an argument, bodies are opaque.

The node where a transaction enters the mesh of validators pushes it to every other validator when it is small, and
offers its hash when it is large. Whoever got it from the mesh only says that it has it, 32 bytes, which also tells the
others not to send it back. A body that does not come from its origin in time is asked for, from one peer after another
among those that said they have it. So each body crosses each link about once.

Everything is keyed by the hash of the whole bytes, signatures included: a forged copy of a transaction is another key
and cannot hide the true one.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, TypeAlias, assert_never

from msgspec import Meta

from otcnode import limits
from otcnode.blocks import transaction_full_hash
from otcnode.codec import Record, encode
from otcnode.errors import DecodeError, OtcnodeError
from otcnode.message_reader import SMALL_BYTES, MessageReader
from otcnode.p2p.rates import Rate, TokenBucket
from otcnode.types import FullHash, NodeId

Hashes: TypeAlias = Annotated[tuple[FullHash, ...], Meta(min_length=1, max_length=limits.gossip_hashes_per_message_max)]
Raw: TypeAlias = Annotated[bytes, Meta(min_length=1, max_length=limits.transaction_bytes_max)]

NEWEST_LOOKED_AT = 8
"""Of a peer that gives room, for one that nobody else has named."""
PUSH_ITEM_OVERHEAD_BYTES = 5
"""At most this many bytes of MessagePack stand before each body."""


class Push(Record, frozen=True, tag="push"):
    """Bodies, unasked or as the answer to a Request."""

    transactions: Annotated[tuple[Raw, ...], Meta(min_length=1)]


class Offer(Record, frozen=True, tag="offer"):
    """The sender is the origin of bodies too large to push: ask for them at once."""

    hashes: Hashes


class Have(Record, frozen=True, tag="have"):
    """The sender holds these, and others do too: ask for what does not arrive by itself."""

    hashes: Hashes


class Request(Record, frozen=True, tag="request"):
    hashes: Annotated[tuple[FullHash, ...], Meta(min_length=1, max_length=limits.gossip_request_hashes_max)]


GossipMessage: TypeAlias = Push | Offer | Have | Request

_HASH_BYTES = 34
_NAMES_BYTES = SMALL_BYTES + limits.gossip_hashes_per_message_max * _HASH_BYTES
GOSSIP_MESSAGES: MessageReader[GossipMessage] = MessageReader(
    GossipMessage,
    {
        Push: SMALL_BYTES + limits.gossip_batch_bytes_max,
        Offer: _NAMES_BYTES,
        Have: _NAMES_BYTES,
        Request: SMALL_BYTES + limits.gossip_request_hashes_max * _HASH_BYTES,
    },
)
"""How large each of them can be."""


class GossipError(OtcnodeError):
    """A peer said something that no honest node says."""


class _Seen:
    """Which peers know of which transaction, as a bit set per hash. Two generations: when the young one is full the
    old one is forgotten, so eviction costs nothing per entry."""

    def __init__(self, entries_max: int) -> None:
        self._generation_max = max(1, entries_max // 2)
        self._young: dict[FullHash, int] = {}
        self._old: dict[FullHash, int] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, full_hash: FullHash) -> int | None:
        knowers = self._young.get(full_hash)
        return knowers if knowers is not None else self._old.get(full_hash)

    def set(self, full_hash: FullHash, knowers: int) -> None:
        if full_hash not in self._young:
            self._old.pop(full_hash, None)
            if len(self._young) >= self._generation_max:
                self._old, self._young = self._young, {}
        self._young[full_hash] = knowers

    def forget(self, full_hash: FullHash) -> None:
        self._young.pop(full_hash, None)
        self._old.pop(full_hash, None)

    def keep_only(self, peers: int) -> None:
        for generation in (self._young, self._old):
            for full_hash in generation:
                generation[full_hash] &= peers


class _Peer:
    __slots__ = ("bit", "greeted", "greeting_ms", "invalid", "named", "node", "pushed", "repeated", "served", "wanted")

    def __init__(self, node: NodeId, bit: int) -> None:
        self.node = node
        self.bit = bit
        self.invalid = 0
        self.wanted: dict[FullHash, None] = {}
        """What uses its share of the table of wanted bodies, the oldest first."""
        self.greeting_ms: int | None = None
        """When it first named anything."""
        self.greeted = 0
        """How many it named then."""
        self.named: TokenBucket | None = None
        self.pushed: set[FullHash] = set()
        """The last ones that it sent, up to a bound."""
        self.repeated: TokenBucket | None = None
        self.served: TokenBucket | None = None


class _Wanted:
    """A body that was announced and has not come. `counted` is the peer whose share it uses. Peers are bits: whoever
    said that it has the body, of these who said that it is its origin, and who has been asked, each once."""

    __slots__ = ("announcers", "asked", "counted", "due_ms", "origins")

    def __init__(self, announcer: _Peer, due_ms: int) -> None:
        self.announcers = 0
        self.origins = 0
        self.asked = 0
        self.counted = announcer
        self.due_ms = due_ms

    def next(self, live: int, full_hash: FullHash) -> int:
        """Whom to ask now, 0 if nobody is left: an origin first, then who named it first, then any. Which of many is
        left to the name: whoever named it early has no way to be always among the first."""
        left = self.announcers & ~self.asked & live
        if left & self.counted.bit and not left & self.origins:
            return self.counted.bit
        choice = left & self.origins or left
        start = int.from_bytes(full_hash[:2]) % max(1, choice.bit_length())
        choice = choice >> start << start or choice
        return choice & -choice


class TransactionGossip:
    """`body_of` gives the raw transaction of a full hash if this node still holds it."""

    def __init__(
        self,
        body_of: Callable[[FullHash], bytes | None],
        seen_max: int = limits.seen_cache_entries_max,
    ) -> None:
        self._body_of = body_of
        self._seen = _Seen(seen_max)
        self._peers: dict[NodeId, _Peer] = {}
        self._by_bit: dict[int, _Peer] = {}
        self._live = 0
        self._mesh = 0
        self._retired = 0
        self._wanted: dict[FullHash, _Wanted] = {}
        self._fullest: _Peer | None = None
        """Who gave room last in the table of wanted bodies."""
        self._due: list[tuple[int, FullHash]] = []
        self._bodies: list[tuple[int, bytes]] = []
        self._hashes: list[tuple[int, type[Offer] | type[Have], FullHash]] = []
        self.may_be_untold = False
        """Whether a peer has named as many at once as it may to whoever connects: it may hold more that it never
        names."""
        self.lost = 0
        """Announcements given up because `flush` was not called in time."""

    def connected(self, peer: NodeId, hashes: Iterable[FullHash], *, mesh: bool = True) -> None:
        """`hashes`: what waits in the pool, announced in bounded number. `mesh`: the peer is a validator, connected to
        the others, so what comes from it need not be pushed to them."""
        self.disconnected(peer)
        bit = self._free_bit()
        self._peers[peer] = self._by_bit[bit] = _Peer(peer, bit)
        self._live |= bit
        if mesh:
            self._mesh |= bit
        for _, full_hash in zip(range(limits.gossip_announced_at_connect_max), hashes, strict=False):
            self._seen.set(full_hash, (self._seen.get(full_hash) or 0) | bit)
            self._tell(bit, Have, full_hash)

    def disconnected(self, peer: NodeId) -> None:
        state = self._peers.pop(peer, None)
        if state is not None:
            self._live &= ~state.bit
            self._mesh &= ~state.bit
            self._retired |= state.bit
            del self._by_bit[state.bit]
            for full_hash in list(state.wanted):
                self._hand_over(full_hash)

    def local(self, transactions: Iterable[tuple[FullHash, bytes]]) -> None:
        """These (full hash, raw) are in the pool now, wherever they came from: let those know who do not."""
        for full_hash, raw in transactions:
            knowers = self._seen.get(full_hash) or 0
            others = self._live & ~knowers
            self._seen.set(full_hash, knowers | others)
            self._no_longer_wanted(full_hash)
            entered_here = not knowers & self._mesh
            first, rest = (others & self._mesh, others & ~self._mesh) if entered_here else (0, others)
            if first and len(raw) <= limits.gossip_push_bytes_max:
                self._give(first, raw)
            elif first:
                self._tell(first, Offer, full_hash)
            if rest:
                self._tell(rest, Have, full_hash)

    def received(self, peer: NodeId, payload: bytes, now_ms: int) -> list[bytes]:
        """The bodies in `payload` that were not here before, to be checked and given to `local` if they are good.

        Raises GossipError if the payload is not gossip: the peer is to be penalised.
        """
        state = self._peers.get(peer)
        if state is None:
            return []
        try:
            message = GOSSIP_MESSAGES.read(payload)
        except DecodeError as error:
            raise GossipError(f"gossip that is {error}") from None
        _charge(state, message, now_ms)
        match message:
            case Push():
                return self._on_push(state, message.transactions, now_ms)
            case Offer():
                self._on_announced(state, message.hashes, now_ms, origin=True)
            case Have():
                self._note_greeting(state, len(message.hashes), now_ms)
                self._on_announced(state, message.hashes, now_ms, origin=False)
            case Request():
                self._on_request(state, message.hashes, now_ms)
            case _:
                assert_never(message)
        return []

    def invalid(self, peer: NodeId, full_hash: FullHash) -> int:
        """`peer` sent a body that no state of the chain could make valid. It stays known, so that the same bytes are
        not judged again; returns how many the peer has sent since it connected."""
        state = self._peers.get(peer)
        if state is None:
            return 0
        state.invalid += 1
        return state.invalid

    def forget(self, full_hashes: Iterable[FullHash]) -> None:
        """These were refused for a reason that may pass (a full pool, an unknown account): let them come again."""
        for full_hash in full_hashes:
            self._seen.forget(full_hash)

    def flush(self, now_ms: int) -> list[tuple[NodeId, bytes]]:
        """What to send now, (peer, payload), in the order of sending."""
        if not self._bodies and not self._hashes and (not self._due or self._due[0][0] > now_ms):
            return []
        out: list[tuple[NodeId, bytes]] = []
        bodies, self._bodies = self._bodies, []
        hashes, self._hashes = self._hashes, []
        by_peers: dict[int, list[bytes]] = {}
        for peers, raw in bodies:
            by_peers.setdefault(peers & self._live, []).append(raw)
        for peers, raws in by_peers.items():
            self._emit(out, peers, [Push(batch) for batch in _batches(raws)])
        by_kind: dict[tuple[int, type[Offer] | type[Have]], list[FullHash]] = {}
        for peers, kind, full_hash in hashes:
            by_kind.setdefault((peers & self._live, kind), []).append(full_hash)
        for (peers, kind), names in by_kind.items():
            self._emit(out, peers, [kind(part) for part in _parts(names, limits.gossip_hashes_per_message_max)])
        for node, names in self._requests_due(now_ms).items():
            bit = self._peers[node].bit
            self._emit(out, bit, [Request(part) for part in _parts(names, limits.gossip_request_hashes_max)])
        return out

    def next_due_ms(self) -> int | None:
        """When `flush` has something to ask for, if nothing else happens."""
        return self._due[0][0] if self._due else None

    def _on_push(self, sender: _Peer, transactions: Sequence[bytes], now_ms: int) -> list[bytes]:
        fresh = []
        repeats = 0
        for raw in transactions:
            full_hash = transaction_full_hash(raw)
            knowers = self._seen.get(full_hash)
            known_before = knowers is not None
            repeats += full_hash in sender.pushed
            sender.pushed.add(full_hash)
            knowers = (knowers or 0) | sender.bit
            wanted = self._no_longer_wanted(full_hash)
            if wanted is not None:
                knowers |= wanted.announcers & self._live
            self._seen.set(full_hash, knowers)
            if not known_before:
                fresh.append(raw)
        _charge_repeats(sender, repeats, now_ms)
        return fresh

    def _on_announced(self, sender: _Peer, hashes: Iterable[FullHash], now_ms: int, *, origin: bool) -> None:
        due_ms = now_ms if origin else now_ms + limits.gossip_pull_delay_ms
        repeats = 0
        for full_hash in hashes:
            knowers = self._seen.get(full_hash)
            if knowers is not None:
                self._seen.set(full_hash, knowers | sender.bit)
                continue
            wanted = self._wanted.get(full_hash)
            repeats += wanted is not None and bool(wanted.announcers & sender.bit)
            if wanted is None:
                if not self._has_room(sender):
                    continue
                wanted = self._wanted[full_hash] = _Wanted(sender, due_ms)
                sender.wanted[full_hash] = None
                heapq.heappush(self._due, (due_ms, full_hash))
            elif origin and not wanted.asked and due_ms < wanted.due_ms:
                wanted.due_ms = due_ms
                heapq.heappush(self._due, (due_ms, full_hash))
            wanted.announcers |= sender.bit
            if origin:
                wanted.origins |= sender.bit
        _charge_repeats(sender, repeats, now_ms)

    def _has_room(self, sender: _Peer) -> bool:
        """Whether one more body of this peer's naming is wanted. Where the table is full, who has less than an equal
        share of it gets a place of one who has more, so that nobody, in league with others or not, keeps it from what
        others offer."""
        if len(sender.wanted) >= limits.gossip_wanted_per_peer_max:
            return False
        if len(self._wanted) < limits.gossip_wanted_max:
            return True
        share = limits.gossip_wanted_max // len(self._peers)
        if len(sender.wanted) >= share:
            return False
        if self._fullest is None or len(self._fullest.wanted) <= share:
            self._fullest = max(self._peers.values(), key=lambda peer: len(peer.wanted))
        self._give_room(self._fullest)
        return True

    def _give_room(self, peer: _Peer) -> None:
        """Forget the newest that this peer alone has named, of the last few; if there is none, the newest."""
        newest = list(itertools.islice(reversed(peer.wanted), NEWEST_LOOKED_AT))
        alone = (name for name in newest if self._wanted[name].announcers & self._live == peer.bit)
        self._no_longer_wanted(next(alone, newest[0]))

    def _hand_over(self, full_hash: FullHash) -> None:
        """Whose share this used is gone: it uses that of another one who named it, if there is one with room."""
        wanted = self._wanted[full_hash]
        heir = self._by_bit.get(wanted.next(self._live, full_hash))
        if heir is None or len(heir.wanted) >= limits.gossip_wanted_per_peer_max:
            self._no_longer_wanted(full_hash)
            return
        del wanted.counted.wanted[full_hash]
        wanted.counted = heir
        heir.wanted[full_hash] = None

    def _note_greeting(self, sender: _Peer, names: int, now_ms: int) -> None:
        if sender.greeting_ms is None:
            sender.greeting_ms = now_ms
        if now_ms - sender.greeting_ms < limits.gossip_greeting_ms:
            sender.greeted += names
            self.may_be_untold |= sender.greeted >= limits.gossip_announced_at_connect_max

    def _on_request(self, asker: _Peer, hashes: Iterable[FullHash], now_ms: int) -> None:
        """Bodies that are no longer here are passed over: the asker has other peers, or will meet them in a block."""
        if asker.served is None:
            rate = limits.gossip_served_bytes_per_second
            asker.served = TokenBucket(Rate(rate, rate), now_ms)
        for full_hash in hashes:
            raw = self._body_of(full_hash)
            if raw is not None and asker.served.try_take(len(raw), now_ms):
                self._seen.set(full_hash, (self._seen.get(full_hash) or 0) | asker.bit)
                self._give(asker.bit, raw)

    def _requests_due(self, now_ms: int) -> dict[NodeId, list[FullHash]]:
        requests: dict[NodeId, list[FullHash]] = {}
        while self._due and self._due[0][0] <= now_ms:
            due_ms, full_hash = heapq.heappop(self._due)
            wanted = self._wanted.get(full_hash)
            if wanted is None or wanted.due_ms != due_ms:
                continue
            bit = wanted.next(self._live, full_hash)
            if not bit:
                self._no_longer_wanted(full_hash)
                continue
            wanted.asked |= bit
            requests.setdefault(self._by_bit[bit].node, []).append(full_hash)
            wanted.due_ms = now_ms + limits.gossip_request_timeout_ms
            heapq.heappush(self._due, (wanted.due_ms, full_hash))
        return requests

    def _no_longer_wanted(self, full_hash: FullHash) -> _Wanted | None:
        wanted = self._wanted.pop(full_hash, None)
        if wanted is not None:
            del wanted.counted.wanted[full_hash]
        return wanted

    def _give(self, peers: int, raw: bytes) -> None:
        if len(self._bodies) < limits.gossip_outgoing_max:
            self._bodies.append((peers, raw))
        else:
            self.lost += 1

    def _tell(self, peers: int, kind: type[Offer] | type[Have], full_hash: FullHash) -> None:
        if len(self._hashes) < limits.gossip_outgoing_max:
            self._hashes.append((peers, kind, full_hash))
        else:
            self.lost += 1

    def _emit(self, out: list[tuple[NodeId, bytes]], peers: int, messages: Iterable[GossipMessage]) -> None:
        if not peers:
            return
        receivers = [state.node for state in self._peers.values() if state.bit & peers]
        for message in messages:
            payload = encode(message)
            out.extend((node, payload) for node in receivers)

    def _free_bit(self) -> int:
        """A bit that no live peer has. Bits of departed peers are cleaned out of the cache many at a time."""
        if self._retired.bit_count() >= 64:
            self._seen.keep_only(self._live)
            for wanted in self._wanted.values():
                wanted.announcers &= self._live
                wanted.origins &= self._live
                wanted.asked &= self._live
            self._retired = 0
        used = self._live | self._retired
        return ~used & (used + 1)


def _charge(sender: _Peer, message: GossipMessage, now_ms: int) -> None:
    """A message holds thousands of names, each of which is looked up. Raises GossipError above what an honest peer
    can have to say."""
    if sender.named is None:
        rate = limits.gossip_names_per_second
        sender.named = TokenBucket(Rate(rate, limits.gossip_names_burst), now_ms)
    count = len(message.transactions) if isinstance(message, Push) else len(message.hashes)
    if sender.named.take(count, now_ms):
        raise GossipError("gossip that names more transactions than an honest peer knows")


def _charge_repeats(sender: _Peer, repeats: int, now_ms: int) -> None:
    """An honest peer sends a body twice only after this node has asked again, and does not name again what this node is
    about to ask for. Raises GossipError."""
    if len(sender.pushed) > limits.gossip_pushed_remembered_max:
        sender.pushed.clear()
    if sender.repeated is None:
        sender.repeated = TokenBucket(Rate(limits.gossip_repeats_per_second, limits.gossip_repeats_burst), now_ms)
    if repeats and sender.repeated.take(repeats, now_ms):
        raise GossipError("gossip that repeats itself without end")


def _batches(raws: Iterable[bytes]) -> Iterable[tuple[bytes, ...]]:
    batch: list[bytes] = []
    size = 0
    for raw in raws:
        cost = len(raw) + PUSH_ITEM_OVERHEAD_BYTES
        if batch and size + cost > limits.gossip_batch_bytes_max:
            yield tuple(batch)
            batch, size = [], 0
        batch.append(raw)
        size += cost
    if batch:
        yield tuple(batch)


def _parts(hashes: Sequence[FullHash], size: int) -> list[tuple[FullHash, ...]]:
    return [tuple(hashes[start : start + size]) for start in range(0, len(hashes), size)]

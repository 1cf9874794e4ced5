"""Transaction gossip between pure nodes: what crosses which link, how often, and what liars can do."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otcnode import limits
from otcnode.blocks import transaction_full_hash
from otcnode.codec import decode, encode
from otcnode.crypto import sha256
from otcnode.p2p.gossip import GossipError, GossipMessage, Have, Offer, Push, Request, TransactionGossip

SMALL = b"a small transaction"
LARGE = b"L" * (limits.gossip_push_bytes_max + 1)
LATE = limits.gossip_pull_delay_ms + limits.gossip_request_timeout_ms


def no_body(full_hash: bytes) -> bytes | None:
    """The pool of a node that holds nothing."""
    return None


def node_id(index: int) -> bytes:
    return bytes([index]) * 32


class Network:
    """Gossiping nodes joined by links that deliver at once, or not at all where `cut` says so."""

    def __init__(self, count: int, links: list[tuple[int, int]] | None = None) -> None:
        self.now_ms = 0
        self.pools: list[dict[bytes, bytes]] = [{} for _ in range(count)]
        self.nodes = [TransactionGossip(pool.get) for pool in self.pools]
        self.bodies_sent: Counter[tuple[int, int, bytes]] = Counter()
        self.cut: Callable[[int, int, GossipMessage], bool] = lambda source, target, message: False
        for one, two in links or itertools.combinations(range(count), 2):
            self.nodes[one].connected(node_id(two), [])
            self.nodes[two].connected(node_id(one), [])

    def enter(self, index: int, *raws: bytes) -> None:
        named = [(transaction_full_hash(raw), raw) for raw in raws]
        self.pools[index].update(named)
        self.nodes[index].local(named)

    def settle(self) -> None:
        """Deliver until nothing moves at this instant."""
        moved = True
        while moved:
            moved = False
            for source, node in enumerate(self.nodes):
                for peer, payload in node.flush(self.now_ms):
                    moved = True
                    self._deliver(source, peer[0], payload)

    def _deliver(self, source: int, target: int, payload: bytes) -> None:
        message: GossipMessage = decode(GossipMessage, payload)
        if isinstance(message, Push):
            self.bodies_sent.update((source, target, raw) for raw in message.transactions)
        if not self.cut(source, target, message):
            fresh = self.nodes[target].received(node_id(source), payload, self.now_ms)
            self.enter(target, *fresh)

    def pass_time(self, milliseconds: int) -> None:
        self.now_ms += milliseconds
        self.settle()

    def everywhere(self, raw: bytes) -> bool:
        return all(raw in pool.values() for pool in self.pools)


@pytest.mark.parametrize("raw", [SMALL, LARGE], ids=["pushed", "offered and pulled"])
def test_in_a_mesh_each_body_goes_once_from_its_origin_to_every_other(raw: bytes) -> None:
    network = Network(4)
    network.enter(0, raw)
    network.settle()
    assert network.everywhere(raw)
    network.pass_time(LATE)
    assert network.bodies_sent == {(0, target, raw): 1 for target in (1, 2, 3)}


def test_small_ones_are_batched_into_one_payload_for_all() -> None:
    network = Network(3)
    network.enter(0, b"1", b"2", b"3")
    sent = network.nodes[0].flush(0)
    assert [peer for peer, _ in sent] == [node_id(1), node_id(2)]
    assert decode(GossipMessage, sent[0][1]) == Push((b"1", b"2", b"3"))
    assert sent[0][1] is sent[1][1]


def test_batches_respect_the_cap_on_bytes() -> None:
    network = Network(2)
    raws = [index.to_bytes(2, "big") * 1_000 for index in range(1_500)]
    network.enter(0, *raws)
    payloads = [payload for _, payload in network.nodes[0].flush(0)]
    assert max(map(len, payloads)) <= limits.gossip_batch_bytes_max + 64
    assert len(payloads) == 3
    assert max(map(len, payloads)) <= limits.channel_message_bytes_max["transactions"]


def test_what_the_origin_fails_to_deliver_is_pulled_from_another() -> None:
    network = Network(4)
    network.cut = lambda source, target, message: (source, target) == (0, 3)
    network.enter(0, SMALL)
    network.settle()
    assert SMALL not in network.pools[3].values()
    network.pass_time(limits.gossip_pull_delay_ms - 1)
    assert SMALL not in network.pools[3].values()
    network.pass_time(1)
    assert network.everywhere(SMALL)


def test_an_announcer_that_does_not_answer_is_replaced_by_the_next() -> None:
    network = Network(4)
    network.cut = lambda source, target, message: (
        target == 3 and (source == 0 or (source == 1 and isinstance(message, Push)))
    )
    network.enter(0, SMALL)
    network.settle()
    network.pass_time(limits.gossip_pull_delay_ms)
    assert SMALL not in network.pools[3].values()
    assert network.nodes[3].next_due_ms() == limits.gossip_pull_delay_ms + limits.gossip_request_timeout_ms
    network.pass_time(limits.gossip_request_timeout_ms - 1)
    assert SMALL not in network.pools[3].values()
    network.pass_time(1)
    assert SMALL in network.pools[3].values()
    assert network.bodies_sent[2, 3, SMALL] == 1


def test_a_body_that_nobody_delivers_is_given_up() -> None:
    network = Network(2)
    network.cut = lambda source, target, message: isinstance(message, Push)
    network.enter(0, LARGE)
    network.settle()
    network.pass_time(LATE)
    network.pass_time(LATE)
    assert network.nodes[1].next_due_ms() is None


def test_along_a_chain_of_nodes_everything_arrives() -> None:
    network = Network(5, [(0, 1), (1, 2), (2, 3), (3, 4)])
    network.enter(0, SMALL, LARGE)
    for _ in range(5):
        network.pass_time(limits.gossip_pull_delay_ms)
    assert network.everywhere(SMALL) and network.everywhere(LARGE)
    assert set(network.bodies_sent.values()) == {1}


def test_what_comes_from_outside_the_mesh_is_pushed_on_at_once() -> None:
    """A full node (2) hands a transaction to one validator (0), which pushes it to the other (1)."""
    gossip = TransactionGossip(no_body)
    gossip.connected(node_id(1), [], mesh=True)
    gossip.connected(node_id(2), [], mesh=False)
    gossip.connected(node_id(3), [], mesh=False)
    fresh = gossip.received(node_id(2), encode(Push((SMALL,))), 0)
    name = transaction_full_hash(SMALL)
    gossip.local([(name, raw) for raw in fresh])
    sent = {peer: decode(GossipMessage, payload) for peer, payload in gossip.flush(0)}
    assert sent == {node_id(1): Push((SMALL,)), node_id(3): Have((name,))}


def test_a_forged_copy_cannot_suppress_the_true_one() -> None:
    gossip = TransactionGossip(no_body)
    gossip.connected(node_id(1), [])
    gossip.connected(node_id(2), [])
    forged, true = b"body, false signature", b"body, true signature"
    assert gossip.received(node_id(1), encode(Push((forged,))), 0) == [forged]
    assert gossip.invalid(node_id(1), transaction_full_hash(forged)) == 1
    assert gossip.received(node_id(2), encode(Push((true,))), 0) == [true]
    assert gossip.received(node_id(2), encode(Push((forged,))), 0) == []
    assert gossip.invalid(node_id(1), transaction_full_hash(true)) == 2
    assert gossip.flush(0) == []


def test_the_same_bytes_are_judged_once_unless_the_refusal_may_pass() -> None:
    gossip = TransactionGossip(no_body)
    gossip.connected(node_id(1), [])
    push = encode(Push((SMALL, SMALL)))
    assert gossip.received(node_id(1), push, 0) == [SMALL]
    assert gossip.received(node_id(1), push, 0) == []
    gossip.forget([transaction_full_hash(SMALL)])
    assert gossip.received(node_id(1), push, 0) == [SMALL]


def test_a_new_connection_is_told_the_pool_in_bounded_number() -> None:
    gossip = TransactionGossip(no_body)
    pool = [index.to_bytes(32, "big") for index in range(limits.gossip_announced_at_connect_max + 5)]
    gossip.connected(node_id(1), pool)
    messages = [decode(GossipMessage, payload) for _, payload in gossip.flush(0)]
    assert all(isinstance(message, Have) for message in messages)
    told = [full_hash for message in messages for full_hash in message.hashes]
    assert told == pool[: limits.gossip_announced_at_connect_max]


def test_a_reconnected_peer_is_told_again_by_the_pool_and_old_bits_do_not_stick() -> None:
    gossip = TransactionGossip(no_body)
    name = transaction_full_hash(SMALL)
    for _ in range(200):
        gossip.connected(node_id(1), [])
        gossip.local([(name, SMALL)])
        assert [decode(GossipMessage, payload) for _, payload in gossip.flush(0)] == [Push((SMALL,))]
        gossip.disconnected(node_id(1))


def test_who_is_not_connected_is_neither_heard_nor_sent_to() -> None:
    gossip = TransactionGossip(no_body)
    assert gossip.received(node_id(1), encode(Push((SMALL,))), 0) == []
    gossip.connected(node_id(1), [])
    gossip.local([(transaction_full_hash(SMALL), SMALL)])
    gossip.disconnected(node_id(1))
    gossip.disconnected(node_id(1))
    assert gossip.flush(0) == []


def test_one_liar_cannot_fill_the_table_of_wanted_bodies() -> None:
    gossip = TransactionGossip(no_body)
    gossip.connected(node_id(1), [])
    gossip.connected(node_id(2), [])
    for start in range(0, 40_000, 4_000):
        names = tuple(index.to_bytes(32, "big") for index in range(start, start + 4_000))
        gossip.received(node_id(1), encode(Offer(names)), 0)
    true = b"\xff" * 32
    gossip.received(node_id(2), encode(Offer((true,))), 0)
    asked: Counter[bytes] = Counter()
    for peer, payload in gossip.flush(0):
        message = decode(GossipMessage, payload)
        assert isinstance(message, Request) and len(message.hashes) <= limits.gossip_request_hashes_max
        asked[peer] += len(message.hashes)
    assert asked == {node_id(1): limits.gossip_wanted_per_peer_max, node_id(2): 1}
    assert gossip.flush(limits.gossip_request_timeout_ms) == []
    gossip.received(node_id(1), encode(Offer((b"\xfe" * 32,))), limits.gossip_request_timeout_ms)
    assert len(gossip.flush(limits.gossip_request_timeout_ms)) == 1


def made_up(liar: int, count: int) -> tuple[bytes, ...]:
    return tuple(sha256(b"%d %d" % (liar, number)) for number in range(count))


def name(gossip: TransactionGossip, peer: bytes, names: tuple[bytes, ...], kind: type[Have | Offer] = Have) -> None:
    for start in range(0, len(names), 4_000):
        gossip.received(peer, encode(kind(names[start : start + 4_000])), 0)


def asked_for(gossip: TransactionGossip, now_ms: int) -> list[tuple[bytes, bytes]]:
    """Whom, and for what."""
    requests = [(peer, decode(GossipMessage, payload)) for peer, payload in gossip.flush(now_ms)]
    return [(peer, full_hash) for peer, request in requests for full_hash in request.hashes]


def test_liars_in_league_leave_room_for_what_an_honest_peer_offers() -> None:
    """Each within its own quota, together they fill the table, with what nobody holds."""
    gossip, liars, honest = TransactionGossip(no_body), range(1, 8), node_id(9)
    for peer in (*map(node_id, liars), honest):
        gossip.connected(peer, [])
    for liar in liars:
        name(gossip, node_id(liar), made_up(liar, limits.gossip_wanted_per_peer_max))
    true = made_up(0, limits.gossip_wanted_max // 8)
    name(gossip, honest, true, Offer)
    assert len(gossip._wanted) == limits.gossip_wanted_max
    asked = [full_hash for peer, full_hash in asked_for(gossip, 0) if peer == honest]
    assert sorted(asked) == sorted(true)


def test_who_has_more_than_its_share_takes_nothing_from_those_who_have_less() -> None:
    gossip, liars, honest = TransactionGossip(no_body), range(1, 8), node_id(9)
    for peer in (*map(node_id, liars), honest):
        gossip.connected(peer, [])
    true = made_up(0, limits.gossip_wanted_max // 8)
    name(gossip, honest, true, Offer)
    for liar in liars:
        name(gossip, node_id(liar), made_up(liar, limits.gossip_wanted_per_peer_max))
    asked = [full_hash for peer, full_hash in asked_for(gossip, 0) if peer == honest]
    assert sorted(asked) == sorted(true)


def test_what_others_hold_too_stays_when_a_liar_that_named_it_first_gives_room() -> None:
    gossip, liars, honest = TransactionGossip(no_body), range(1, 6), node_id(9)
    for peer in (*map(node_id, liars), honest):
        gossip.connected(peer, [])
    name(gossip, node_id(1), made_up(1, limits.gossip_wanted_per_peer_max - 2))
    shared = made_up(0, 2)
    name(gossip, node_id(1), shared)
    name(gossip, honest, shared)
    for liar in liars:
        name(gossip, node_id(liar), made_up(20 + liar, limits.gossip_wanted_per_peer_max))
    name(gossip, honest, made_up(10, 100), Offer)
    gossip.disconnected(node_id(1))
    assert {full_hash for peer, full_hash in asked_for(gossip, LATE) if peer == honest} >= set(shared)


def test_many_that_name_a_true_body_and_do_not_give_it_hide_nobody_who_does() -> None:
    gossip, liars, true = TransactionGossip(no_body), range(1, 30), made_up(0, 1)
    for peer in (*map(node_id, liars), node_id(99)):
        gossip.connected(peer, [])
    for liar in liars:
        name(gossip, node_id(liar), true)
    name(gossip, node_id(99), true)
    asked = [peer for step in range(40) for peer, _ in asked_for(gossip, LATE + step * LATE)]
    assert sorted(asked) == [*map(node_id, liars), node_id(99)], "each is asked once, whoever was first"


def test_the_origin_is_asked_before_those_who_merely_hold_it() -> None:
    gossip, true = TransactionGossip(no_body), made_up(0, 1)
    for peer in (1, 2, 3):
        gossip.connected(node_id(peer), [])
    name(gossip, node_id(1), true)
    name(gossip, node_id(2), true)
    name(gossip, node_id(3), true, Offer)
    assert asked_for(gossip, 0) == [(node_id(3), true[0])]


@pytest.mark.parametrize("kind", [Have, Offer, Request])
def test_who_names_more_than_anybody_knows_is_told_from_an_honest_peer(kind: type[Have | Offer | Request]) -> None:
    gossip = TransactionGossip(lambda _: None)
    gossip.connected(node_id(1), ())
    count = 256 if kind is Request else 4_096
    numbers = itertools.count()

    def payload() -> bytes:
        return encode(kind(tuple(sha256(b"%d" % number) for number in itertools.islice(numbers, count))))

    honest = limits.gossip_names_burst // count
    for _ in range(honest):
        assert gossip.received(node_id(1), payload(), 0) == []
    assert gossip.received(node_id(1), payload(), 1_000) == []
    with pytest.raises(GossipError, match="more transactions"):
        for _ in range(honest):
            gossip.received(node_id(1), payload(), 1_000)


def test_a_body_sent_again_and_again_is_told_from_honest_gossip() -> None:
    gossip = TransactionGossip(no_body)
    gossip.connected(node_id(1), ())
    payload = encode(Push((SMALL,)))
    for _ in range(limits.gossip_repeats_burst + 1):
        gossip.received(node_id(1), payload, 0)
    with pytest.raises(GossipError):
        gossip.received(node_id(1), payload, 0)
    gossip.connected(node_id(2), ())
    for number in range(2 * limits.gossip_repeats_burst):
        gossip.received(node_id(2), encode(Push((b"another %d" % number,))), 0)


@pytest.mark.parametrize("kind", [Have, Offer])
def test_names_that_are_repeated_while_they_are_asked_for_cost_the_peer(kind: type[Have] | type[Offer]) -> None:
    """However slowly they are read: a node that is busy reads few, and calls nobody a flood for gossip."""
    gossip = TransactionGossip(no_body)
    names = tuple(index.to_bytes(32, "big") for index in range(400))
    for honest in (1, 2, 3):
        gossip.connected(node_id(honest), ())
        gossip.received(node_id(honest), encode(kind(names)), 0)
    with pytest.raises(GossipError, match="repeats"):
        for now_ms in range(0, 2_000, 100):
            gossip.flush(now_ms)
            gossip.received(node_id(1), encode(kind(names)), now_ms)
    for number in range(2, 22):
        fresh = tuple((400 * number + index).to_bytes(32, "big") for index in range(400))
        gossip.received(node_id(2), encode(kind(fresh)), 1_000)


def test_bodies_are_served_at_a_bounded_rate() -> None:
    body = bytes(limits.transaction_bytes_max)
    gossip = TransactionGossip(lambda full_hash: body)
    gossip.connected(node_id(1), [])
    names = [index.to_bytes(32, "big") for index in range(1_024)]
    for start in range(0, 1_024, 256):
        gossip.received(node_id(1), encode(Request(tuple(names[start : start + 256]))), 0)
    served = sum(len(decode(GossipMessage, payload).transactions) for _, payload in gossip.flush(0))
    assert served == limits.gossip_served_bytes_per_second // len(body)


def test_what_is_not_flushed_is_bounded_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "gossip_outgoing_max", 2)
    network = Network(2)
    network.enter(0, b"1", b"2", b"3", LARGE)
    assert network.nodes[0].lost == 1
    sent = [decode(GossipMessage, payload) for _, payload in network.nodes[0].flush(0)]
    assert sent == [Push((b"1", b"2")), Offer((transaction_full_hash(LARGE),))]


def test_the_seen_cache_is_bounded_and_keeps_the_newest() -> None:
    gossip = TransactionGossip(no_body, seen_max=100)
    gossip.connected(node_id(1), [])
    raws = [index.to_bytes(4, "big") for index in range(1_000)]
    for raw in raws:
        assert gossip.received(node_id(1), encode(Push((raw,))), 0) == [raw]
        assert len(gossip._seen) <= 100
    assert gossip.received(node_id(1), encode(Push(tuple(raws[-50:]))), 0) == []


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc0",
        encode(Push((SMALL,))) + b"\0",
        encode(["push", []]),
        encode(["push", [b""]]),
        encode(["push", [bytes(limits.transaction_bytes_max + 1)]]),
        encode(["have", [bytes(31)]]),
        encode(["have", []]),
        encode(["request", [bytes(32)] * (limits.gossip_request_hashes_max + 1)]),
        encode(["offer", [bytes(32)] * (limits.gossip_hashes_per_message_max + 1)]),
        encode(["shout", [SMALL]]),
        b"\x92\xd9\x04push\x91\xc4\x01x",
    ],
)
def test_what_is_no_gossip_is_a_typed_error(payload: bytes) -> None:
    gossip = TransactionGossip(no_body)
    gossip.connected(node_id(1), [])
    with pytest.raises(GossipError):
        gossip.received(node_id(1), payload, 0)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_junk_only_ever_raises_a_gossip_error(junk: bytes) -> None:
    gossip = TransactionGossip(no_body)
    gossip.connected(node_id(1), [])
    try:
        gossip.received(node_id(1), junk, 0)
    except GossipError:
        assert gossip.flush(0) == []


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), max_size=15),
    st.sets(st.tuples(st.integers(0, 4), st.integers(0, 4)).filter(lambda link: link[0] < link[1])),
)
def test_over_any_connected_graph_everything_arrives_once_per_link_and_direction(
    entries: list[tuple[int, int]], links: set[tuple[int, int]]
) -> None:
    network = Network(5, sorted(links | {(0, 1), (1, 2), (2, 3), (3, 4)}))
    raws = [bytes([number]) * (1 + number * 400) for number in range(10)]
    for index, number in entries:
        network.enter(index, raws[number])
        network.settle()
    for _ in range(12):
        network.pass_time(limits.gossip_pull_delay_ms)
    assert all(network.everywhere(raws[number]) for _, number in entries)
    assert set(network.bodies_sent.values()) <= {1}

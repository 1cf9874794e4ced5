"""Real transports on loopback: who meets whom, who is refused, and what a slow or hostile peer can do."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from otcnode import limits
from otcnode.codec import decode, encode
from otcnode.crypto import SigningKey, sha256
from otcnode.errors import ConfigurationError
from otcnode.p2p.announcements import Announcements, NodeAnnouncement, announce, in_frames
from otcnode.p2p.close import CloseCode, Reason
from otcnode.p2p.connection import Clock, Settings
from otcnode.p2p.framing import (
    FRAGMENT_BYTES,
    Channel,
    Control,
    Form,
    FrameDecoder,
    Inbound,
    control_frame,
    first_frame,
    more_frame,
    seal,
    whole_frame,
)
from otcnode.p2p.handshake import PROTOCOL_VERSION, Established, Handshake, Identity, hello
from otcnode.p2p.rates import ChannelRates, Rate
from otcnode.p2p.resolver import Lookup, look_up
from otcnode.p2p.transport import Direction, PeerStatus, Transport, monotonic_us

CHAIN = sha256(b"a chain")
QUICK = Settings(
    tick_ms=10,
    reconnect_ms_first=5,
    reconnect_ms_max=50,
    farewell_ms_max=200,
    ban_ms_first=60_000,
    ban_ms_max=600_000,
)
WAIT_S = 20


def identity(name: str) -> Identity:
    return Identity(SigningKey(sha256(name.encode())), sha256(b"static " + name.encode()))


NAMES = sorted(("alice", "bob", "carol"), key=lambda name: identity(name).node)
FIRST, SECOND, THIRD = (identity(name) for name in NAMES)
ALL = frozenset({FIRST.node, SECOND.node, THIRD.node})


class Node:
    """A transport and what it was told; `until` waits for a condition on that, re-checked at every call-back."""

    def __init__(
        self,
        who: Identity,
        *,
        chain: bytes = CHAIN,
        admitted: Callable[[bytes], bool] = ALL.__contains__,
        settings: Settings = QUICK,
        listen: bool = True,
        host: str = "127.0.0.1",
        port: int = 0,
        advertise: str | None = None,
        sequence: int = 0,
        clock_us: Clock = monotonic_us,
        guest: Callable[[bytes], bool] = lambda _: False,
        lookup: Lookup = look_up,
    ) -> None:
        self.node = who.node
        self.up: set[bytes] = set()
        self.ends: list[tuple[bytes, Reason]] = []
        self.refusals: list[tuple[bytes | None, Reason]] = []
        self.bans: list[tuple[bytes, CloseCode, int]] = []
        self.messages: list[tuple[bytes, Channel, bytes]] = []
        self.connects = 0
        self.transport = Transport(
            who,
            chain,
            admitted,
            self,
            (host, port) if listen else None,
            {},
            advertise=advertise,
            sequence=sequence,
            settings=settings,
            chance=lambda: 0.5,
            clock_us=clock_us,
            guest=guest,
            lookup=lookup,
        )
        self._changed = asyncio.Event()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.transport.port}"

    def connected(self, peer: bytes) -> None:
        assert peer not in self.up
        self.up.add(peer)
        self.connects += 1
        self._changed.set()

    def disconnected(self, peer: bytes, reason: Reason) -> None:
        self.up.remove(peer)
        self.ends.append((peer, reason))
        self._changed.set()

    def message(self, peer: bytes, channel: Channel, payload: bytes) -> None:
        assert peer in self.up
        self.messages.append((peer, channel, payload))
        self._changed.set()

    def refused(self, address: str, peer: bytes | None, reason: Reason) -> None:
        self.refusals.append((peer, reason))
        self._changed.set()

    def banned(self, peer: bytes, reason: Reason, ban_ms: int) -> None:
        self.bans.append((peer, reason.code, ban_ms))
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_meets(self, other: Node) -> None:
        await self.until(lambda: other.node in self.up)

    def status(self, other: bytes) -> PeerStatus:
        return next(status for status in self.transport.peers() if status.node == other)

    def dial(self, other: Node) -> None:
        self.transport.set_address(other.node, other.address)


@asynccontextmanager
async def running(*nodes: Node) -> AsyncIterator[None]:
    outermost = len(asyncio.all_tasks()) == 1
    try:
        for node in nodes:
            await node.transport.start()
        yield
    finally:
        for node in nodes:
            await node.transport.stop()
        assert not outermost or len(asyncio.all_tasks()) == 1
        gc.collect()


async def test_two_nodes_exchange_messages_on_every_channel() -> None:
    one, two = Node(FIRST), Node(SECOND)
    async with running(one, two):
        one.dial(two)
        await one.until_meets(two)
        await two.until_meets(one)
        assert one.transport.connected() == (two.node,)
        for channel in Channel:
            assert one.transport.send(two.node, channel, channel.name.encode())
            assert two.transport.send(one.node, channel, b"and back")
        await two.until(lambda: len(two.messages) == 4)
        await one.until(lambda: len(one.messages) == 4)
        assert two.messages == [(one.node, channel, channel.name.encode()) for channel in Channel]
        status = one.status(two.node)
        assert (status.direction, status.messages_out, status.messages_in) == (Direction.DIALLED, 4, 4)
        assert two.status(one.node).direction is Direction.ACCEPTED
        assert status.bytes_out > 0 and set(status.dropped.values()) == {0}
        assert not one.transport.send(THIRD.node, Channel.CONSENSUS, b"to nobody")


async def test_big_messages_arrive_whole_and_votes_overtake_them() -> None:
    one, two = Node(FIRST), Node(SECOND)
    async with running(one, two):
        one.dial(two)
        await one.until_meets(two)
        big = bytes(range(256)) * 65_536
        assert len(big) == QUICK.message_bytes_max[Channel.SYNC]
        assert one.transport.send(two.node, Channel.SYNC, big)
        assert one.transport.send(two.node, Channel.CONSENSUS, b"a vote")
        await two.until(lambda: len(two.messages) == 2)
        assert two.messages == [(one.node, Channel.CONSENSUS, b"a vote"), (one.node, Channel.SYNC, big)]


async def test_who_is_not_admitted_is_told_so_and_never_connected() -> None:
    stranger, node = Node(THIRD), Node(FIRST, admitted=lambda peer: peer == SECOND.node)
    async with running(stranger, node):
        stranger.dial(node)
        await stranger.until(lambda: bool(stranger.refusals))
        await node.until(lambda: bool(node.refusals))
    peer, reason = stranger.refusals[0]
    assert (peer, reason.code, reason.by_peer) == (node.node, CloseCode.NOT_ADMITTED, True)
    assert "not admitted to this network" in str(reason)
    assert (node.refusals[0][0], node.refusals[0][1].code) == (THIRD.node, CloseCode.NOT_ADMITTED)
    assert stranger.connects == node.connects == 0


async def test_another_network_is_refused_with_a_readable_reason_on_both_sides() -> None:
    one, two = Node(FIRST), Node(SECOND, chain=sha256(b"another chain"))
    async with running(one, two):
        one.dial(two)
        await one.until(lambda: bool(one.refusals))
        await two.until(lambda: bool(two.refusals))
    for node in (one, two):
        reason = node.refusals[0][1]
        assert reason.code is CloseCode.NETWORK
        assert "the peer belongs to the network with genesis" in str(reason)
        assert node.connects == 0
    assert one.status(two.node).last_error == str(one.refusals[0][1])


async def test_an_address_that_is_somebody_elses_is_refused() -> None:
    one, two = Node(FIRST), Node(SECOND)
    async with running(one, two):
        one.transport.set_address(THIRD.node, two.address)
        await one.until(lambda: bool(one.refusals))
        peer, reason = one.refusals[0]
        assert (peer, reason.code, reason.by_peer) == (THIRD.node, CloseCode.IDENTITY, False)
        assert f"this is {two.node.hex()[:16]}" in str(reason) and one.status(THIRD.node).misled >= 1
        await two.until(lambda: bool(two.refusals))
        assert [peer for peer, _ in two.refusals] == [None], "it does not learn who looked for somebody else there"


MISLED = replace(QUICK, misled_ms_first=10, misled_ms_max=80)
FEW_ARRIVALS = replace(MISLED, inbound_per_node=Rate(1, 3))


async def test_who_announces_the_address_of_another_sets_nobody_against_a_third() -> None:
    """FIRST looks for THIRD where SECOND is, again and again; SECOND would ban whoever arrives four times."""
    one, two = Node(FIRST, settings=MISLED), Node(SECOND, settings=FEW_ARRIVALS)
    async with running(one, two):
        two.dial(one)
        await two.until_meets(one)
        await say_that_third_is_at(two.address, one)
        await one.until(lambda: one.status(THIRD.node).misled >= 8)
        assert (two.bans, one.bans, two.up) == ([], [], {FIRST.node})
        assert {peer for peer, _ in one.refusals} == {THIRD.node}
        assert FIRST.node not in {peer for peer, _ in two.refusals}


async def test_nobody_is_looked_for_where_another_peer_was_found() -> None:
    one, two = Node(FIRST, settings=MISLED), Node(SECOND, admitted=lambda node: node == FIRST.node)
    async with running(one, two):
        one.dial(two)
        await one.until_meets(two)
        await say_that_third_is_at(two.address, one)
        await one.until(lambda: one.status(THIRD.node).misled >= 8)
        assert (two.connects, two.refusals) == (1, [])
        assert {peer for peer, _ in one.refusals} == {THIRD.node}


async def test_another_way_to_write_the_address_of_a_peer_leads_to_it_as_little() -> None:
    one, two = Node(FIRST, settings=MISLED), Node(SECOND, admitted=lambda node: node == FIRST.node)
    async with running(one, two):
        one.dial(two)
        await one.until_meets(two)
        await say_that_third_is_at(two.address.replace("127.0.0.1:", "localhost:00"), one)
        await one.until(lambda: one.status(THIRD.node).misled >= 4)
        assert (two.connects, two.refusals) == (1, [])


async def test_announced_addresses_are_dialled_in_turn_and_hold_up_no_configured_one() -> None:
    """Or liars in league could have somebody overrun by all others."""
    liars = {author.node: author for author in (identity(f"liar {number}") for number in range(40))}
    settings = replace(QUICK, announced_dials=Rate(1, 3))
    one, two = Node(FIRST, admitted=lambda _: True, settings=settings), Node(THIRD)
    async with running(one, two), raw_peer(one, SECOND) as peer:
        began_ms = monotonic_us() // 1_000
        for frame in in_frames(announce(liar.signing, CHAIN, "127.0.0.1:1", 1) for liar in liars.values()):
            await peer.send(control_frame(Form.ANNOUNCE, encode(frame)))
        await one.until(lambda: len(one.refusals) >= 4)
        one.dial(two)
        await one.until_meets(two)
        tried = [node for node, _ in one.refusals if node in liars]
        assert 4 <= len(tried) <= 3 + 1 + (monotonic_us() // 1_000 - began_ms) // 1_000


async def test_names_that_are_never_found_hold_up_neither_the_configured_ones_nor_the_process() -> None:
    """As many as are looked up at once, and more, announced by as many; then a peer that is configured by its name."""
    released = threading.Event()

    def name_server(host: str) -> list[str]:
        if host == "bank.example":
            return ["127.0.0.1"]
        released.wait(10 * WAIT_S)
        return []

    liars = [identity(f"liar {number}") for number in range(3 * limits.names_looked_up_at_once)]
    settings = replace(MISLED, handshake_timeout_ms=300)
    one, two = Node(FIRST, admitted=lambda _: True, settings=settings, lookup=name_server), Node(THIRD)
    try:
        async with running(one, two):
            async with raw_peer(one, SECOND) as peer:
                for number, liar in enumerate(liars):
                    news = announce(liar.signing, CHAIN, f"slow{number}.example:1", 1)
                    await peer.send(control_frame(Form.ANNOUNCE, encode((news,))))
                await one.until(lambda: {liar.node for liar in liars} <= {peer for peer, _ in one.refusals})
            one.transport.set_address(THIRD.node, two.address.replace("127.0.0.1", "bank.example"))
            await one.until_meets(two)
            assert await asyncio.get_running_loop().run_in_executor(None, max, 1, 2) == 2
            late = [str(reason) for peer, reason in one.refusals if peer == liars[0].node]
            assert "name was not found in time" in late[0]
    finally:
        released.set()


async def test_a_name_that_is_not_found_while_the_network_is_down_is_looked_up_again_once_a_peer_is_met() -> None:
    back = threading.Event()

    def name_server(host: str) -> list[str]:
        back.wait(10 * WAIT_S)
        return ["127.0.0.1"]

    settings = replace(QUICK, misled_ms_first=10 * WAIT_S * 1_000, handshake_timeout_ms=200)
    one, two = Node(FIRST, settings=settings, lookup=name_server), Node(THIRD)
    try:
        async with running(one, two):
            async with raw_peer(one, SECOND) as peer:
                news = announce(THIRD.signing, CHAIN, two.address.replace("127.0.0.1", "bank.example"), 1)
                await peer.send(control_frame(Form.ANNOUNCE, encode((news,))))
                await one.until(lambda: bool(one.refusals))
            await one.until(lambda: not one.up)
            back.set()
            async with raw_peer(one, SECOND):
                await one.until_meets(two)
    finally:
        back.set()


async def say_that_third_is_at(address: str, node: Node) -> None:
    async with raw_peer(node, THIRD) as peer:
        await peer.send(control_frame(Form.ANNOUNCE, encode((announce(THIRD.signing, CHAIN, address, 1),))))
        await peer.send(control_frame(Form.PING, b"01234567"))
        assert await peer.next_control(Form.PONG) == b"01234567"


async def test_a_node_that_is_announced_where_it_was_is_not_looked_for_any_sooner() -> None:
    """Nobody is there: each announcement would begin the back-off anew."""
    waits = replace(QUICK, reconnect_ms_first=WAIT_S * 1_000, reconnect_ms_max=WAIT_S * 1_000)
    one = Node(FIRST, settings=waits)
    async with running(one), raw_peer(one, SECOND) as peer:
        for sequence in (1, 2, 3):
            news = announce(THIRD.signing, CHAIN, "127.0.0.1:1", sequence)
            await peer.send(control_frame(Form.ANNOUNCE, encode((news,))))
            await one.until(lambda: bool(one.refusals))
        await peer.send(control_frame(Form.PING, b"01234567"))
        assert await peer.next_control(Form.PONG) == b"01234567"
        assert [peer for peer, _ in one.refusals] == [THIRD.node]


async def test_a_peer_is_found_where_it_announced_to_be_as_soon_as_it_can_be_reached_there() -> None:
    """A network that was down for minutes is no reason to look for anybody more rarely."""
    one, two = Node(FIRST, settings=replace(QUICK, misled_ms_first=10 * WAIT_S * 1_000)), Node(THIRD)
    async with running(two):
        port = two.transport.port
    async with running(one), raw_peer(one, SECOND) as peer:
        news = announce(THIRD.signing, CHAIN, f"127.0.0.1:{port}", 1)
        await peer.send(control_frame(Form.ANNOUNCE, encode((news,))))
        await one.until(lambda: len(one.refusals) >= 4)
        async with running(again := Node(THIRD, port=port)):
            await one.until_meets(again)


@pytest.mark.parametrize("there", ["another version", "nobody who speaks", "somebody who hangs up"])
async def test_an_announced_place_where_nobody_proves_to_be_anybody_is_dialled_ever_more_rarely(there: str) -> None:
    """It may be that of somebody who knows nothing of this network."""
    dials_ms: list[int] = []

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dials_ms.append(monotonic_us() // 1_000)
        with contextlib.suppress(OSError):
            if there == "another version":
                writer.write(hello(CHAIN, PROTOCOL_VERSION + 1))
            if there != "somebody who hangs up":
                await reader.read()
        writer.close()

    settings = replace(QUICK, misled_ms_first=50, moved_ms_max=10_000, handshake_timeout_ms=50)
    one, server = Node(FIRST, settings=settings), await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server, running(one), raw_peer(one, SECOND) as peer:
        port = server.sockets[0].getsockname()[1]
        news = announce(THIRD.signing, CHAIN, f"127.0.0.1:{port}", 1)
        await peer.send(control_frame(Form.ANNOUNCE, encode((news,))))
        await one.until(lambda: len(one.refusals) >= 4)
        pauses_ms = [later - earlier for earlier, later in itertools.pairwise(dials_ms)]
        assert all(pause_ms >= least_ms for pause_ms, least_ms in zip(pauses_ms, (50, 100, 200), strict=False))
        assert one.bans == []


async def test_a_peer_that_is_killed_and_started_elsewhere_is_found_again() -> None:
    one, two = Node(FIRST), Node(SECOND)
    async with running(one):
        async with running(two):
            one.dial(two)
            await one.until_meets(two)
            await two.until_meets(one)
        await one.until(lambda: two.node not in one.up)
        assert one.ends[0][1].code is CloseCode.STOPPING and one.ends[0][1].by_peer
        await one.until(lambda: any(reason.code is CloseCode.LOST for _, reason in one.refusals))
        again = Node(SECOND)
        async with running(again):
            one.dial(again)
            await one.until_meets(again)
            assert one.transport.send(again.node, Channel.CONSENSUS, b"welcome back")
            await again.until(lambda: again.messages == [(one.node, Channel.CONSENSUS, b"welcome back")])


async def test_a_peer_that_comes_back_at_its_address_is_redialled() -> None:
    one, two = Node(FIRST), Node(SECOND)
    async with running(one):
        async with running(two):
            one.dial(two)
            await one.until_meets(two)
            port = two.transport.port
        again = Node(SECOND, port=port)
        async with running(again):
            await one.until(lambda: one.connects == 2)


@pytest.mark.parametrize("seed", range(5))
async def test_simultaneous_dials_leave_one_connection_dialled_by_the_smaller_identity(seed: int) -> None:
    one, two = Node(FIRST), Node(SECOND)
    async with running(one, two):
        for node, other in ((one, two), (two, one)) if seed % 2 else ((two, one), (one, two)):
            node.dial(other)

        def settled() -> bool:
            return one.up == {two.node} and one.status(two.node).direction is Direction.DIALLED

        # The larger one's dial may win at first; then the smaller one's own attempt replaces it.
        await one.until(settled)
        await two.until(lambda: two.up == {one.node} and two.status(one.node).direction is Direction.ACCEPTED)
        one.transport.send(two.node, Channel.CONSENSUS, b"over the one that stays")
        await two.until(lambda: len(two.messages) == 1)
        assert len(one.transport.connected()) == len(two.transport.connected()) == 1


async def test_a_restarted_peer_replaces_its_dead_connection() -> None:
    """The first SECOND falls silent without closing; the new one is let in at once although the smaller dialled."""
    one, frozen = Node(FIRST), Node(SECOND)
    async with running(one, frozen):
        one.dial(frozen)
        await one.until_meets(frozen)
        again = Node(SECOND, listen=False)
        async with running(again):
            again.dial(one)
            await again.until_meets(one)
            await one.until(lambda: one.connects == 2)
            assert one.ends[0][1].code is CloseCode.REPLACED
            again.transport.send(one.node, Channel.SYNC, b"it is the new one")
            await one.until(lambda: one.messages == [(SECOND.node, Channel.SYNC, b"it is the new one")])
            one.transport.penalise(SECOND.node, "end of test: nobody dials again")


async def test_a_penalised_peer_is_closed_banned_and_told() -> None:
    one, two = Node(FIRST), Node(SECOND)
    async with running(one, two):
        two.dial(one)
        await one.until_meets(two)
        await two.until_meets(one)
        one.transport.penalise(two.node, "junk blocks")
        assert not one.transport.send(two.node, Channel.CONSENSUS, b"too late")
        assert one.transport.connected() == ()
        await two.until(lambda: any(reason.code is CloseCode.PENALTY for _, reason in two.ends))
        await two.until(lambda: any(reason.code is CloseCode.BANNED and reason.by_peer for _, reason in two.refusals))
        assert "junk blocks" in next(str(r) for _, r in two.ends if r.code is CloseCode.PENALTY)
        assert 0 < one.status(two.node).banned_ms <= 60_000
        assert one.up == set()
        assert one.bans == [(two.node, CloseCode.PENALTY, 60_000)]
        assert one.status(two.node).offences == {"penalty": 1}
        await one.until(lambda: any(reason.code is CloseCode.BANNED for _, reason in one.refusals))
        assert one.transport.refusals[CloseCode.BANNED] >= 1


async def test_what_is_found_out_after_a_ban_of_what_was_sent_before_belongs_to_it() -> None:
    """One read can hold several offences, and some are judged later: the next ban must not be twice as long for it."""
    one = Node(FIRST)
    async with running(one):
        async with raw_peer(one, SECOND) as peer:
            await one.until(lambda: SECOND.node in one.up)
            for offence in ("junk blocks", "more junk blocks"):
                one.transport.penalise(SECOND.node, offence)
            assert (await peer.until_closed()).code is CloseCode.PENALTY
        await one.until(lambda: SECOND.node not in one.up)
        one.transport.penalise(SECOND.node, "a signature that was still being verified")
        assert one.bans == [(SECOND.node, CloseCode.PENALTY, QUICK.ban_ms_first)]
        assert one.status(SECOND.node).offences == {"penalty": 1}


async def test_a_peer_that_is_blamed_while_it_is_closed_for_something_else_is_banned_once() -> None:
    class Judge(Node):
        def disconnected(self, peer: bytes, reason: Reason) -> None:
            super().disconnected(peer, reason)
            self.transport.penalise(peer, "a signature that was still being verified")

    one = Judge(FIRST)
    async with running(one), raw_peer(one, SECOND) as peer:
        await peer.send(b"\xff\0\0\0")
        assert (await peer.until_closed()).code is CloseCode.MALFORMED
        await one.until(lambda: bool(one.ends))
    assert one.bans == [(SECOND.node, CloseCode.PENALTY, QUICK.ban_ms_first)]


async def test_a_peer_that_breaks_the_rules_over_a_second_connection_loses_the_first_too() -> None:
    one = Node(FIRST)
    async with running(one), raw_peer(one, SECOND) as first:
        await one.until(lambda: SECOND.node in one.up)
        async with greeted(one, SECOND) as second:
            await second.send(whole_frame(Channel.SYNC, b"instead of a verdict"))
            assert (await second.until_closed()).code is CloseCode.MALFORMED
        assert (await first.until_closed()).code is CloseCode.MALFORMED
        await one.until(lambda: SECOND.node not in one.up)
        assert one.bans == [(SECOND.node, CloseCode.MALFORMED, QUICK.ban_ms_first)]


async def test_a_peer_that_opens_one_connection_after_another_is_banned_as_a_flood() -> None:
    one = Node(FIRST, settings=replace(QUICK, inbound_per_node=Rate(1, 3)), clock_us=lambda: 0)
    async with running(one):
        for count in range(1, 4):
            async with raw_peer(one, SECOND):
                await one.until(lambda count=count: one.connects == count)  # type: ignore[misc]
        assert one.bans == []
        async with greeted(one, SECOND) as peer:
            assert (await peer.until_closed()).code is CloseCode.FLOOD
        assert one.connects == 3 and one.bans == [(SECOND.node, CloseCode.FLOOD, QUICK.ban_ms_first)]


async def test_disconnect_is_without_blame() -> None:
    one, two = Node(FIRST), Node(SECOND)
    async with running(one, two):
        one.dial(two)
        await one.until_meets(two)
        one.transport.disconnect(two.node)
        await one.until(lambda: one.connects == 2)
        assert one.ends[0][1].code is CloseCode.ASKED


async def test_a_node_that_is_no_longer_admitted_is_closed() -> None:
    members = set(ALL)
    one, two = Node(FIRST, admitted=lambda peer: peer in members), Node(SECOND)
    async with running(one, two):
        one.dial(two)
        await one.until_meets(two)
        await two.until_meets(one)
        members.remove(two.node)
        one.transport.admissions_changed()
        await two.until(lambda: bool(two.ends))
        assert two.ends[0][1].code is CloseCode.NOT_ADMITTED
        members.add(two.node)
        one.transport.admissions_changed()
        await one.until(lambda: one.connects == 2)


async def test_a_moved_peer_is_found_by_its_announcement() -> None:
    """THIRD knows only FIRST; SECOND tells FIRST where it is, and THIRD finds SECOND without being told by anybody."""
    one, three = Node(FIRST), Node(THIRD)
    async with running(one, three):
        three.dial(one)
        await three.until_meets(one)
        two = Node(SECOND)
        async with running(two):
            two.transport.advertise(two.address, 7)
            two.dial(one)
            await three.until_meets(two)
            await two.until_meets(three)


async def test_a_node_whose_clock_was_ahead_once_is_found_after_it_has_moved() -> None:
    """What it announced then outranks all that it says until that time has come; whoever knows it tells it so."""
    one, three = Node(FIRST), Node(THIRD)
    async with running(one, three):
        async with raw_peer(one, SECOND) as peer:
            ahead = announce(SECOND.signing, CHAIN, "127.0.0.1:1", 10**15)
            await peer.send(control_frame(Form.ANNOUNCE, encode((ahead,))))
            await one.until(lambda: SECOND.node in one.up)
        three.dial(one)
        await three.until_meets(one)
        two = Node(SECOND)
        async with running(two):
            two.transport.advertise(two.address, 7)
            two.dial(one)
            await three.until_meets(two)


async def test_two_that_hold_one_key_do_not_outbid_each_other_without_end() -> None:
    """Each hears the other's announcement as its own."""
    one, first = Node(FIRST), Node(SECOND, advertise="127.0.0.1:1", sequence=1)
    async with running(one, first):
        one.dial(first)
        await one.until_meets(first)
        async with raw_peer(first, THIRD) as peer:
            for sequence in range(10, 400, 2):
                other = announce(SECOND.signing, CHAIN, "127.0.0.1:2", sequence)
                await peer.send(control_frame(Form.ANNOUNCE, encode((other,))))
            said: list[NodeAnnouncement] = []
            while not said or said[-1].address != "127.0.0.1:1" or said[-1].sequence < 2:
                said.extend(decode(Announcements, await peer.next_control(Form.ANNOUNCE)))
            assert [entry.sequence for entry in said] == [1, 11]


async def test_news_of_many_are_passed_on_together() -> None:
    """Many who announce themselves at once must not make an honest node flood the others with a frame for each."""
    authors = [identity(f"author {number}") for number in range(200)]
    one = Node(FIRST, admitted=lambda _: True, settings=replace(QUICK, tick_ms=300))
    async with running(one), raw_peer(one, SECOND) as bearer, raw_peer(one, THIRD) as hearer:
        for author in authors:
            news = announce(author.signing, CHAIN, "127.0.0.1:1", 1)
            await bearer.send(control_frame(Form.ANNOUNCE, encode((news,))))
        heard: list[int] = []
        while sum(heard) < len(authors):
            heard.append(len(decode(Announcements, await hearer.next_control(Form.ANNOUNCE))))
        assert len(heard) <= 20


async def test_a_false_announcement_costs_its_bearer_the_connection() -> None:
    one = Node(FIRST)
    async with running(one), raw_peer(one, SECOND) as peer:
        false = msgspec.structs.replace(announce(THIRD.signing, CHAIN, "10.0.0.1:1", 1), signature=bytes(64))
        await peer.send(control_frame(Form.ANNOUNCE, encode((false,))))
        await one.until(lambda: bool(one.ends))
        assert one.ends[0][1].code is CloseCode.MALFORMED
        assert one.status(SECOND.node).banned_ms > 0


async def test_a_name_that_leads_to_another_peer_too_still_leads_to_its_own() -> None:
    """Two nodes at one port of two hosts, and a name server that answers with both."""
    second = Node(SECOND)
    one = Node(FIRST, lookup=lambda _: ["127.0.0.1", "127.0.0.2"])
    async with running(second):
        third = Node(THIRD, host="127.0.0.2", port=second.transport.port)
        async with running(one, third):
            one.transport.set_address(SECOND.node, second.address)
            await one.until_meets(second)
            one.transport.set_address(THIRD.node, f"nodes.example:{second.transport.port}")
            await one.until_meets(third)


async def test_an_address_that_the_system_cannot_encode_ends_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """An IPv6 address with such a scope is none to begin with; this is what would come of one that slipped through."""
    one, two = Node(FIRST), Node(SECOND)
    real, failed = asyncio.open_connection, list[str]()

    async def refuse(host: str, port: int, **more: Any) -> Any:
        if not failed:
            failed.append(host)
            raise UnicodeError("label too long")
        return await real(host, port, **more)

    monkeypatch.setattr(asyncio, "open_connection", refuse)
    async with running(one, two):
        one.transport.set_address(SECOND.node, two.address)
        await one.until_meets(two)
    assert failed == ["127.0.0.1"]


async def test_a_port_in_use_is_one_readable_line() -> None:
    one = Node(FIRST)
    async with running(one):
        other = Node(SECOND, port=one.transport.port)
        with pytest.raises(
            ConfigurationError, match=rf"cannot listen for peers on 127\.0\.0\.1:{one.transport.port}: "
        ):
            await other.transport.start()
        await other.transport.stop()


async def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="is not host:port"):
        Node(FIRST).transport.set_address(SECOND.node, "nowhere")


async def test_stopping_twice_and_without_having_started() -> None:
    node = Node(FIRST)
    await node.transport.stop()
    await node.transport.start()
    await node.transport.stop()
    await node.transport.stop()


async def test_a_mistake_in_a_handler_is_raised_to_whoever_runs_the_node() -> None:
    one, two = Node(FIRST), Node(SECOND)
    await one.transport.start()
    async with running(two):
        two.dial(one)
        await two.until_meets(one)
        await one.until_meets(two)
        one.messages = None  # type: ignore[assignment]
        two.transport.send(one.node, Channel.CONSENSUS, b"boom")
        with pytest.raises(BaseExceptionGroup) as caught:
            await one.transport.wait()
        assert caught.group_contains(AttributeError)
        await one.transport.stop()


# ---- a raw peer with an admitted key that does what it likes


class RawPeer:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, session: Established) -> None:
        self.reader = reader
        self.writer = writer
        self.session = session
        self.decoder = FrameDecoder(session.receiving, QUICK.message_bytes_max)
        self.unread: deque[Inbound] = deque()

    async def send(self, *frames: bytes) -> None:
        for frame in frames:
            self.writer.write(seal(self.session.sending, frame))
        await self.writer.drain()

    async def next_control(self, form: Form) -> bytes:
        """What comes before it is passed over."""
        async with asyncio.timeout(WAIT_S):
            while True:
                while self.unread:
                    item = self.unread.popleft()
                    if isinstance(item, Control) and item.form is form:
                        return item.payload
                data = await self.reader.read(65_536)
                assert data, f"closed without {form.name}"
                self.unread.extend(self.decoder.feed(data, 0, 0))

    async def until_closed(self) -> Reason:
        payload = await self.next_control(Form.CLOSE)
        return Reason(CloseCode(payload[0]), payload[1:].decode(), by_peer=True)


@asynccontextmanager
async def tcp(node: Node) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", node.transport.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@asynccontextmanager
async def greeted(node: Node, who: Identity) -> AsyncIterator[RawPeer]:
    """After the handshake, before any verdict of its own."""
    async with tcp(node) as (reader, writer):
        handshake = Handshake(
            initiator=True, identity=who, chain=CHAIN, session=bytes(16), ephemeral_secret=sha256(b"fresh")
        )
        writer.write(handshake.opening)
        while handshake.established is None:
            writer.write(handshake.feed(await reader.read(65_536)))
        yield RawPeer(reader, writer, handshake.established)


@asynccontextmanager
async def raw_peer(node: Node, who: Identity) -> AsyncIterator[RawPeer]:
    async with greeted(node, who) as peer:
        await peer.send(control_frame(Form.OPEN, b""))
        await node.until(lambda: who.node in node.up)
        yield peer


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\xff\0\0\0", CloseCode.MALFORMED),
        (b"\0\x09\0\x01x", CloseCode.MALFORMED),
        (b"\x01\x02\x3e\x84\xff\xff\xff\xff" + bytes(16_000), CloseCode.TOO_LARGE),
        (control_frame(Form.OPEN, b""), CloseCode.MALFORMED),
        (control_frame(Form.PONG, bytes(8)), CloseCode.MALFORMED),
    ],
    ids=["unknown form", "unknown channel", "giant", "second verdict", "unasked answer"],
)
async def test_bad_frames_are_closed_with_a_code_and_banned(frame: bytes, code: CloseCode) -> None:
    one = Node(FIRST)
    async with running(one), raw_peer(one, SECOND) as peer:
        await peer.send(frame)
        assert (await peer.until_closed()).code is code
        assert one.ends[0][1].code is code
        assert one.bans == [(SECOND.node, code, QUICK.ban_ms_first)]
        assert one.status(SECOND.node).banned_ms > 0
        assert one.status(SECOND.node).offences == {code.name.lower(): 1}


async def test_bytes_that_are_no_ciphertext_are_closed_and_banned() -> None:
    one = Node(FIRST)
    async with running(one), raw_peer(one, SECOND) as peer:
        peer.writer.write(b"\x00\x20" + bytes(32))
        assert (await peer.until_closed()).code is CloseCode.MALFORMED
        assert one.status(SECOND.node).banned_ms > 0


async def test_the_round_trip_is_measured() -> None:
    one = Node(FIRST)
    async with running(one), raw_peer(one, SECOND) as peer:
        ping = await peer.next_control(Form.PING)
        assert one.status(SECOND.node).round_trip_us is None
        await peer.send(control_frame(Form.PONG, ping), whole_frame(Channel.SYNC, b"after the answer"))
        await one.until(lambda: len(one.messages) == 1)
        assert 0 < (one.status(SECOND.node).round_trip_us or 0) < WAIT_S * 1_000_000


async def test_a_ping_is_answered() -> None:
    one = Node(FIRST)
    async with running(one), raw_peer(one, SECOND) as peer:
        await peer.send(control_frame(Form.PING, b"01234567"))
        assert await peer.next_control(Form.PONG) == b"01234567"


async def test_each_ban_is_twice_as_long_as_the_last() -> None:
    offset_us = 0
    one = Node(FIRST, settings=replace(QUICK, ban_ms_first=1_000), clock_us=lambda: offset_us)
    async with running(one):
        for offence in range(4):
            async with raw_peer(one, SECOND) as peer:
                await peer.send(b"\xff\0\0\0")
                await peer.until_closed()
            await one.until(lambda count=offence + 1: len(one.bans) == count)  # type: ignore[misc]
            assert one.status(SECOND.node).banned_ms == 1_000 * 2**offence
            offset_us += 1_000_000 * 2**offence
            assert one.status(SECOND.node).banned_ms == 0
        assert [ban_ms for _, _, ban_ms in one.bans] == [1_000, 2_000, 4_000, 8_000]
        assert one.status(SECOND.node).offences == {"malformed": 4}


async def test_a_peer_that_never_stops_sending_too_much_is_a_flood() -> None:
    slow = dict(QUICK.rates) | {Channel.CONSENSUS: ChannelRates(Rate(1_000, 10), Rate(1 << 30, 1 << 30))}
    one = Node(FIRST, settings=replace(QUICK, rates=slow, flood_ms_max=50))
    async with running(one), raw_peer(one, SECOND) as peer:

        async def flood() -> None:
            with contextlib.suppress(OSError):
                while True:
                    await peer.send(whole_frame(Channel.CONSENSUS, b"vote") * 40)

        flooding = asyncio.create_task(flood())
        assert (await peer.until_closed()).code is CloseCode.FLOOD
        await one.until(lambda: one.bans == [(SECOND.node, CloseCode.FLOOD, QUICK.ban_ms_first)])
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)
        assert len(one.messages) < 400


async def test_a_guest_that_takes_all_the_time_gets_its_share_and_then_a_ban_and_a_validator_all_it_needs() -> None:
    settings = replace(QUICK, guests_work_us=1_000, flood_ms_max=50)
    one = Node(FIRST, settings=settings, guest=lambda node: node == SECOND.node)
    two, three = Node(SECOND), Node(THIRD)
    async with running(one, two, three):
        for node in (two, three):
            node.dial(one)
            await node.until_meets(one)
        for _ in range(400):
            three.transport.send(one.node, Channel.CONSENSUS, bytes(1_000))
            two.transport.send(one.node, Channel.CONSENSUS, bytes(1_000))
        await one.until(lambda: sum(peer == THIRD.node for peer, _, _ in one.messages) == 400)
        await one.until(lambda: bool(one.bans))
        assert one.bans == [(SECOND.node, CloseCode.FLOOD, QUICK.ban_ms_first)]
        assert sum(peer == SECOND.node for peer, _, _ in one.messages) < 400


class Worker(Node):
    """Works a while for each message, and does something on top of it."""

    work_ms = 1
    then: Callable[[bytes, Channel], None] = staticmethod(lambda peer, channel: None)

    def message(self, peer: bytes, channel: Channel, payload: bytes) -> None:
        time.sleep(self.work_ms / 1_000)
        super().message(peer, channel, payload)
        self.then(peer, channel)


CROWDED = replace(QUICK, guests_work_us=100_000, flood_ms_max=50)
"""A guest's share of the time is small where liars have come as guests in numbers."""


async def test_a_guest_with_more_transactions_than_are_read_of_it_is_no_flood_by_what_it_says_between_them() -> None:
    one = Worker(FIRST, settings=CROWDED, guest=lambda _: True)
    async with running(one), raw_peer(one, SECOND) as peer:
        for height in range(5):
            gossip = whole_frame(Channel.TRANSACTIONS, bytes(1_200)) * 50
            await peer.send(gossip + whole_frame(Channel.SYNC, b"a height %d" % height))
        await one.until(lambda: len(one.messages) == 5 * 51 or bool(one.bans))
        assert one.bans == [] and one.status(SECOND.node).throttled_ms > 500


async def test_a_guest_that_answers_what_it_is_asked_for_is_no_flood_however_long_the_answers_are() -> None:
    one, two = Worker(FIRST, settings=CROWDED, guest=lambda _: True), Worker(SECOND, settings=QUICK)
    one.work_ms = 10
    one.then = lambda peer, channel: one.transport.send(peer, channel, b"the next, please")
    two.then = lambda peer, channel: two.transport.send(peer, channel, bytes(1 << 20))
    async with running(one, two):
        one.dial(two)
        await one.until_meets(two)
        one.transport.send(two.node, Channel.SYNC, b"the first, please")
        one.transport.send(two.node, Channel.SYNC, b"and the second")
        await one.until(lambda: len(one.messages) >= 10 or bool(one.bans))
        assert one.bans == [] and one.status(two.node).throttled_ms > 500


async def test_who_is_read_late_is_neither_silent_nor_slow_by_what_lies_unread_of_it() -> None:
    """Answers to pings, and the ends of messages, lie behind what a guest is held back for."""
    impatient = replace(CROWDED, silence_ms_max=100, message_ms_max=100, record_ms_max=100)
    one, two = Worker(FIRST, settings=impatient, guest=lambda _: True), Node(SECOND)
    one.work_ms = 20
    async with running(one, two):
        two.dial(one)
        await two.until_meets(one)
        for _ in range(20):
            two.transport.send(one.node, Channel.TRANSACTIONS, bytes(1_200))
            two.transport.send(one.node, Channel.SYNC, bytes(60_000))
        await one.until(lambda: len(one.messages) == 40 or bool(one.ends))
        assert one.ends == [] and one.bans == [] and one.status(SECOND.node).throttled_ms > 2_000


async def test_a_guest_that_is_always_read_late_is_closed_at_last_without_a_ban_if_it_ends_no_message() -> None:
    """It may be honest: as little is read of it as is left where many guests want much."""
    one = Worker(FIRST, settings=replace(CROWDED, message_ms_max=50, message_held_ms_max=400), guest=lambda _: True)
    one.work_ms = 20
    async with running(one), raw_peer(one, SECOND) as peer:
        began_ms = monotonic_us() // 1_000
        await peer.send(first_frame(Channel.DOCUMENTS, bytes(1 << 20)))
        for channel in (Channel.TRANSACTIONS, Channel.SYNC, Channel.CONSENSUS):
            await peer.send(whole_frame(channel, bytes(1_200)) * 16)
        await one.until(lambda: bool(one.ends))
        assert monotonic_us() // 1_000 - began_ms > 400
        assert one.ends[0][1].code is CloseCode.SILENT and "a message was not complete" in str(one.ends[0][1])
        assert one.bans == [] and len(one.messages) < 48


async def test_a_guest_that_holds_up_its_own_message_by_what_goes_first_is_banned_however_late_it_is_read() -> None:
    one = Worker(FIRST, settings=CROWDED, guest=lambda _: True)
    one.work_ms = 20
    async with running(one), raw_peer(one, SECOND) as peer:
        await peer.send(first_frame(Channel.DOCUMENTS, bytes(1 << 20)))
        await peer.send(whole_frame(Channel.TRANSACTIONS, bytes(1_200)) * 17)
        await one.until(lambda: bool(one.bans))
        assert one.ends[0][1].code is CloseCode.MALFORMED and "holds up a message" in str(one.ends[0][1])


async def test_guests_that_say_little_keep_no_time_from_one_that_has_much_to_say() -> None:
    """Its part of the time would be a fortieth."""
    idle = [Node(identity(f"idle {number}"), admitted=lambda _: True, listen=False) for number in range(39)]
    settings = replace(QUICK, guests_work_us=200_000, connections_per_address_max=64)
    one = Worker(FIRST, settings=settings, guest=lambda _: True, admitted=lambda _: True)
    two = Node(SECOND)
    one.work_ms = 10
    async with running(one, two, *idle):
        for node in (*idle, two):
            node.dial(one)
            await node.until_meets(one)
        for _ in range(20):
            two.transport.send(one.node, Channel.TRANSACTIONS, bytes(1_200))
        await one.until(lambda: len(one.messages) == 20)
        assert one.bans == [] and one.status(SECOND.node).throttled_ms < 6_000


async def test_what_announcements_cost_is_counted_against_the_guest_that_brings_them() -> None:
    """Half a second of its share may be used at once; one signature takes about 50 microseconds."""
    settings = replace(QUICK, guests_work_us=20_000, reconnect_ms_first=60_000, reconnect_ms_max=60_000)
    one = Node(FIRST, settings=settings, guest=lambda _: True, admitted=lambda _: True)
    authors = [identity(f"author {number}") for number in range(320)]
    frames = in_frames(announce(author.signing, CHAIN, "127.0.0.1:1", 1) for author in authors)
    async with running(one), raw_peer(one, SECOND) as peer:
        news = [control_frame(Form.ANNOUNCE, encode(frame)) for frame in frames]
        await peer.send(*news, whole_frame(Channel.SYNC, b"after them"))
        await one.until(lambda: bool(one.messages))
        assert one.status(SECOND.node).throttled_ms > 0 and one.bans == []


async def test_a_flood_of_pings_is_closed() -> None:
    one = Node(FIRST)
    async with running(one), raw_peer(one, SECOND) as peer:
        await peer.send(control_frame(Form.PING, bytes(8)) * (QUICK.control_frames.burst + 60))
        assert (await peer.until_closed()).code is CloseCode.FLOOD


async def test_a_record_that_trickles_is_closed_as_slow() -> None:
    one = Node(FIRST, settings=replace(QUICK, record_ms_max=50))
    async with running(one), raw_peer(one, SECOND) as peer:
        peer.writer.write(b"\xff\xff")
        peer.writer.write(b"x")
        assert (await peer.until_closed()).code is CloseCode.SLOW
        assert one.status(SECOND.node).banned_ms > 0


async def test_a_message_that_begins_with_the_verdict_is_not_slow_by_that() -> None:
    """An honest peer has much to say at once, and one read can hold its verdict and the beginning of it."""
    payload = bytes(40_000)
    one = Node(FIRST)
    async with running(one), greeted(one, SECOND) as peer:
        await peer.send(control_frame(Form.OPEN, b"") + first_frame(Channel.SYNC, payload))
        assert await peer.next_control(Form.PING), "time has been looked at"
        for offset in range(FRAGMENT_BYTES, len(payload), FRAGMENT_BYTES):
            await peer.send(more_frame(Channel.SYNC, payload, offset))
        await one.until(lambda: bool(one.messages) or bool(one.bans))
        assert one.bans == [] and one.messages == [(SECOND.node, Channel.SYNC, payload)]


async def test_a_silent_peer_is_given_up_without_a_ban() -> None:
    one = Node(FIRST, settings=replace(QUICK, silence_ms_max=50))
    async with running(one), raw_peer(one, SECOND):
        await one.until(lambda: bool(one.ends))
        assert one.ends[0][1].code is CloseCode.SILENT
        assert one.status(SECOND.node).banned_ms == 0


async def test_a_handshake_that_does_not_end_is_closed() -> None:
    one = Node(FIRST, settings=replace(QUICK, handshake_timeout_ms=50))
    async with running(one), tcp(one) as (reader, writer):
        writer.write(hello(CHAIN)[:20])
        async with asyncio.timeout(WAIT_S):
            assert await reader.read() == hello(CHAIN)
        await one.until(lambda: bool(one.refusals))
        assert one.refusals[0][1].code is CloseCode.SLOW


async def test_inbound_connections_are_capped() -> None:
    one = Node(FIRST, settings=replace(QUICK, connections_inbound_max=2))
    async with running(one):
        async with tcp(one) as first, tcp(one) as second:
            for reader, _ in (first, second):
                assert await reader.readexactly(42) == hello(CHAIN)
            async with tcp(one) as (reader, _):
                with contextlib.suppress(OSError):
                    assert await reader.read() == b""
            assert one.refusals[-1][1].code is CloseCode.BUSY
        await one.until(lambda: len(one.refusals) == 3)
        async with tcp(one) as (reader, _):
            assert await reader.readexactly(42) == hello(CHAIN)


async def test_who_says_nothing_does_not_keep_out_those_who_do() -> None:
    one, two = Node(FIRST, settings=replace(QUICK, connections_handshaking_max=3)), Node(SECOND, listen=False)
    async with contextlib.AsyncExitStack() as mute, running(one, two):
        connections = [await mute.enter_async_context(tcp(one)) for _ in range(3)]
        for reader, _ in connections:
            assert await reader.readexactly(42) == hello(CHAIN)
        two.dial(one)
        await two.until_meets(one)
        with contextlib.suppress(OSError):
            assert await connections[0][0].read() == b""
        fourth, _ = await mute.enter_async_context(tcp(one))
        assert await fourth.readexactly(42) == hello(CHAIN)


async def test_a_message_that_is_never_finished_is_closed_as_slow() -> None:
    one = Node(FIRST, settings=replace(QUICK, message_ms_max=50))
    async with running(one), raw_peer(one, SECOND) as peer:
        await peer.send(first_frame(Channel.SYNC, bytes(1 << 20)), more_frame(Channel.SYNC, bytes(1 << 20), 16_000))
        assert (await peer.until_closed()).code is CloseCode.SLOW
        assert [code for _, code, _ in one.bans] == [CloseCode.SLOW]


async def test_a_peer_that_talks_and_takes_nothing_is_closed_as_slow() -> None:
    one = Node(FIRST, settings=replace(QUICK, deaf_ms_max=50))
    async with running(one), raw_peer(one, SECOND) as peer:
        peer.reader._transport.pause_reading()  # type: ignore[attr-defined]
        one.transport.send(SECOND.node, Channel.SYNC, bytes(16 << 20))
        await one.until(lambda: bool(one.bans))
        assert one.bans == [(SECOND.node, CloseCode.SLOW, QUICK.ban_ms_first)]


async def test_attempts_from_one_address_are_rationed() -> None:
    one = Node(FIRST, settings=replace(QUICK, inbound_per_address=Rate(1, 2)))
    async with running(one):
        for _ in range(2):
            async with tcp(one) as (reader, _):
                assert await reader.readexactly(42) == hello(CHAIN)
        async with tcp(one) as (reader, _):
            with contextlib.suppress(OSError):
                assert await reader.read() == b""
        assert "too many attempts" in str(one.refusals[-1][1])


async def test_a_storm_of_connections_is_not_told_one_by_one() -> None:
    one = Node(FIRST, settings=replace(QUICK, connections_inbound_max=0))
    async with running(one):
        for _ in range(3 * limits.refusals_told_burst):
            async with tcp(one) as (reader, _):
                with contextlib.suppress(OSError):
                    assert await reader.read() == b""
        assert 0 < len(one.refusals) < 2 * limits.refusals_told_burst


async def test_a_peer_that_does_not_read_never_blocks_and_loses_gossip_first() -> None:
    one, three = Node(FIRST), Node(THIRD)
    async with running(one, three), raw_peer(one, SECOND) as peer:
        peer.reader._transport.pause_reading()  # type: ignore[attr-defined]
        three.dial(one)
        await one.until_meets(three)
        for _ in range(48):
            one.transport.send(SECOND.node, Channel.TRANSACTIONS, bytes(1 << 20))
            assert one.transport.send(SECOND.node, Channel.CONSENSUS, bytes(1_000))
        assert one.transport.send(THIRD.node, Channel.CONSENSUS, b"others are served")
        await three.until(lambda: len(three.messages) == 1)
        status = one.status(SECOND.node)
        assert status.dropped["transactions"] >= 48 - 16 - 10
        assert status.dropped["consensus"] == 0
        assert status.queued_bytes["transactions"] <= QUICK.queue_bytes_max[Channel.TRANSACTIONS]
        one.transport.penalise(SECOND.node, "end of test")


async def test_stopping_waits_neither_for_a_deaf_peer_nor_for_a_handshake() -> None:
    one = Node(FIRST, settings=replace(QUICK, handshake_timeout_ms=3_600_000, farewell_ms_max=50))
    async with running(one), raw_peer(one, SECOND) as peer, tcp(one) as (reader, _):
        assert await reader.readexactly(42) == hello(CHAIN)
        peer.reader._transport.pause_reading()  # type: ignore[attr-defined]
        assert one.transport.send(SECOND.node, Channel.SYNC, bytes(16 << 20))
        async with asyncio.timeout(WAIT_S):
            await one.transport.stop()
        assert one.ends == [(SECOND.node, Reason(CloseCode.STOPPING, "this node is stopping"))]


async def test_a_peer_over_its_rate_is_read_later_and_loses_nothing() -> None:
    slow = dict(QUICK.rates) | {Channel.TRANSACTIONS: ChannelRates(Rate(100, 10), Rate(1 << 30, 1 << 30))}
    one, two = Node(FIRST, settings=replace(QUICK, rates=slow)), Node(SECOND)
    async with running(one, two):
        two.dial(one)
        await two.until_meets(one)
        for batch in range(3):
            for _ in range(20):
                two.transport.send(one.node, Channel.TRANSACTIONS, b"gossip")
            await one.until(lambda count=20 * (batch + 1): len(one.messages) == count)  # type: ignore[misc]
        assert one.status(two.node).throttled_ms >= 30


async def test_frames_after_the_first_bad_one_are_not_delivered() -> None:
    one = Node(FIRST)
    async with running(one), raw_peer(one, SECOND) as peer:
        await peer.send(whole_frame(Channel.CONSENSUS, b"good"))
        await one.until(lambda: len(one.messages) == 1)
        await peer.send(b"\xff\0\0\0" + whole_frame(Channel.CONSENSUS, b"after"))
        await peer.until_closed()
        assert [payload for _, _, payload in one.messages] == [b"good"]

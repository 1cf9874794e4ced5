"""Peers that hold an admitted key and attack a network of real daemons. Whatever they do, the chain goes on at more
than half its pace, memory stays bounded, and whoever did it is named in the log and in a metric and banned."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import pytest

from otcnode import limits
from otcnode.crypto import random_bytes
from otcnode.localnet import Member
from otcnode.p2p.close import CloseCode
from otcnode.p2p.framing import FRAGMENT_BYTES, Channel, Form, control_frame, first_frame, more_frame, whole_frame
from otcnode.p2p.handshake import Identity
from otcnode.sync import ANSWERS_UNASKED_MAX
from otcnode.sync_messages import BlocksRequest
from tests.hostile import words
from tests.hostile.arena import MEGABYTE, Arena, stranger
from tests.hostile.raw_peer import RawPeer, connected, greet, tcp
from tests.hostile.siege import STANDSTILL_MS_MAX, withstands

pytestmark = pytest.mark.process

MEMORY_GROWTH_BYTES_MAX = 192 * MEGABYTE


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    arena = Arena(tmp_path_factory.mktemp("hostile") / "net")
    with arena.cluster:
        arena.start()
        yield arena


@dataclass
class Attack:
    """One attacker against one victim."""

    arena: Arena
    victim: Member
    name: str
    who: Identity
    peer: RawPeer

    async def height(self) -> int:
        return await asyncio.to_thread(self.arena.height, self.victim)


Offence = Callable[[Attack], Awaitable[None]]


def frames(*given: bytes) -> Offence:
    async def run(attack: Attack) -> None:
        await attack.peer.frames(*given)

    return run


def payload(channel: Channel, make: Callable[[Attack], bytes]) -> Offence:
    async def run(attack: Attack) -> None:
        await attack.peer.send(channel, make(attack))

    return run


async def replayed_record(attack: Attack) -> None:
    record = attack.peer.seal(control_frame(Form.PING, bytes(8)))
    await attack.peer.write(record + record)


async def false_votes(attack: Attack) -> None:
    """In another validator's name, for the heights that are voted on now."""
    height = await attack.height()
    for ahead in range(1, 6):
        vote = words.false_vote(attack.arena.liar.node, height + ahead)
        await attack.peer.send(Channel.CONSENSUS, vote)


async def unasked_blocks(attack: Attack) -> None:
    for _ in range(ANSWERS_UNASKED_MAX + 1):
        await attack.peer.send(Channel.SYNC, words.junk_blocks(attack.arena.chain, 10**6, 3))


async def lying_height(attack: Attack) -> None:
    """Claims a billion, is asked for blocks, and serves blocks that nobody certified."""
    peer, height = attack.peer, await attack.height()
    await peer.send(Channel.SYNC, words.tip(10**9))
    with contextlib.suppress(ConnectionError):
        for ahead in range(1, 200):
            await peer.send(Channel.SYNC, words.junk_blocks(attack.arena.chain, height + ahead, 1))


async def junk_answer_in_one_breath(attack: Attack) -> None:
    """The blocks it was asked for, certified by nobody, and in the same record many that it was not asked for."""
    peer = attack.peer
    await peer.send(Channel.SYNC, words.tip(10**9))
    asked: list[BlocksRequest] = []

    def is_asked() -> bool:
        requests = [words.read_sync(message.payload) for message in peer.heard if message.channel is Channel.SYNC]
        asked.extend(request for request in requests if isinstance(request, BlocksRequest))
        return bool(asked)

    await peer.until(is_asked)
    answer = whole_frame(Channel.SYNC, words.junk_blocks(attack.arena.chain, asked[-1].first, 1))
    await peer.frames(answer * (ANSWERS_UNASKED_MAX + 2))


async def forged_copies(attack: Attack) -> None:
    """Their signatures are looked at together, after the peer could have gone."""
    raws = [words.forged(attack.arena.transaction()) for _ in range(5)]
    await attack.peer.frames(b"".join(whole_frame(Channel.TRANSACTIONS, words.push(raw)) for raw in raws))


OFFENCES: dict[str, tuple[CloseCode, Offence]] = {
    "ciphertext that is none": (CloseCode.MALFORMED, lambda attack: attack.peer.write(b"\x00\x40" + bytes(64))),
    "an empty record": (CloseCode.MALFORMED, lambda attack: attack.peer.write(b"\x00\x00")),
    "a replayed record": (CloseCode.MALFORMED, replayed_record),
    "a second verdict": (CloseCode.MALFORMED, frames(control_frame(Form.OPEN, b""))),
    "an answer to no ping": (CloseCode.MALFORMED, frames(control_frame(Form.PONG, bytes(8)))),
    "an unknown form": (CloseCode.MALFORMED, frames(b"\xee\0\0\0")),
    "an unknown channel": (CloseCode.MALFORMED, frames(b"\0\x09\0\x01x")),
    "a frame cut by its record": (CloseCode.MALFORMED, frames(b"\0\0\x3e\x80")),
    "a fragment of nothing": (CloseCode.MALFORMED, frames(b"\x02\0\0\x01x")),
    "a message inside another": (
        CloseCode.MALFORMED,
        frames(b"\x01\0\x3e\x84\0\0\xff\xff" + bytes(FRAGMENT_BYTES), whole_frame(Channel.CONSENSUS, b"x")),
    ),
    "a giant message": (CloseCode.TOO_LARGE, frames(b"\x01\0\x3e\x84\xff\xff\xff\xff" + bytes(FRAGMENT_BYTES))),
    "pings without end": (CloseCode.FLOOD, frames(control_frame(Form.PING, bytes(8)) * 700)),
    "an announcement that is none": (CloseCode.MALFORMED, frames(control_frame(Form.ANNOUNCE, b"\x91\x01"))),
    "a false announcement": (
        CloseCode.MALFORMED,
        lambda attack: attack.peer.frames(
            control_frame(Form.ANNOUNCE, words.false_announcement(attack.arena.liar.node))
        ),
    ),
    "consensus that is none": (CloseCode.PENALTY, payload(Channel.CONSENSUS, lambda _: random_bytes(200))),
    "consensus not canonical": (CloseCode.PENALTY, payload(Channel.CONSENSUS, lambda _: b"\x81\xa4type\xa6status")),
    "a vote with a false signature": (CloseCode.PENALTY, false_votes),
    "sync that is none": (CloseCode.PENALTY, payload(Channel.SYNC, lambda _: random_bytes(200))),
    "blocks that nobody asked for": (CloseCode.PENALTY, unasked_blocks),
    "a lying height and junk blocks": (CloseCode.PENALTY, lying_height),
    "junk blocks in one breath": (CloseCode.PENALTY, junk_answer_in_one_breath),
    "documents that are none": (CloseCode.PENALTY, payload(Channel.DOCUMENTS, lambda _: random_bytes(200))),
    "gossip that is none": (CloseCode.PENALTY, payload(Channel.TRANSACTIONS, lambda _: random_bytes(200))),
    "a transaction that is none": (
        CloseCode.PENALTY,
        payload(Channel.TRANSACTIONS, lambda _: words.push(random_bytes(300))),
    ),
    "forged transactions": (CloseCode.PENALTY, forged_copies),
}


async def offend(arena: Arena, victim: Member, kind: str) -> None:
    """Until a ban has been met: on a busy machine a short one can be over before the peer is back, and the next lasts
    twice as long."""
    code, offence = OFFENCES[kind]
    name, who = arena.newcomer()
    met, bans = False, 0
    while not met:
        async with connected(arena.target(victim), who) as peer:
            with contextlib.suppress(ConnectionError):
                await offence(Attack(arena, victim, name, who, peer))
            with contextlib.suppress(TimeoutError):
                await peer.until_closed()
            assert peer.closed is code, f"{kind}: {peer.closed}: {peer.why}"
        closed_s, ban_s = time.monotonic(), 2**bans * limits.ban_ms_first / 1_000
        bans += 1
        async with connected(arena.target(victim), who) as again:
            await again.until(lambda: again.closed is not None or bool(again.heard))
        met = again.closed is CloseCode.BANNED
        assert met or time.monotonic() > closed_s + ban_s, f"{kind}: not banned: {again.closed}: {again.why}"
    seen = await asyncio.to_thread(arena.offences, victim, name)
    lines = arena.log_lines(victim, "peer banned", f"peer={name}")
    assert seen == {code.name.lower(): bans}, f"{kind}: {seen}: {lines}"
    assert len(lines) == bans, f"{kind}: {lines}"


async def test_every_offence_is_named_counted_and_banned_while_the_chain_goes_on(arena: Arena) -> None:
    victim = arena.honest[0]
    faults = []
    with arena.trading(arena.honest):
        async with arena.measured(arena.honest[-1]) as pace:
            for kind in OFFENCES:
                try:
                    await offend(arena, victim, kind)
                except AssertionError as error:
                    faults.append(str(error).splitlines()[0])
    assert faults == []
    assert len(pace.intervals_ms) > len(OFFENCES) and pace.longest_ms < STANDSTILL_MS_MAX, pace


@pytest.mark.parametrize("way", ["from a peer", "over the API"])
async def test_a_true_transaction_is_final_though_a_forged_copy_came_first(arena: Arena, way: str) -> None:
    """Every validator has refused the copy, which has the same id, before it hears of the true one."""
    raw = arena.transaction()
    for victim in arena.honest:
        name, who = arena.newcomer()
        async with connected(arena.target(victim), who) as peer:
            await peer.send(Channel.TRANSACTIONS, words.push(words.forged(raw)))
            assert await peer.until_closed() is CloseCode.PENALTY
        assert await asyncio.to_thread(arena.offences, victim, name) == {"penalty": 1}
    asked, told = arena.honest[0], arena.honest[-1]
    if way == "from a peer":
        async with connected(arena.target(told), arena.newcomer()[1]) as peer:
            await peer.send(Channel.TRANSACTIONS, words.push(raw))
            await peer.until(lambda: bool(peer.heard))
            outcome = await asyncio.to_thread(arena.wait_final, asked, raw)
    else:
        await asyncio.to_thread(arena.ask, told, "tx_submit", transaction=base64.b64encode(raw).decode())
        outcome = await asyncio.to_thread(arena.wait_final, asked, raw)
    assert (outcome["state"], outcome["code"]) == ("committed", "OK"), outcome


# ---- floods: what is right or ignored, without end


async def replayed_votes(attack: Attack) -> None:
    """One true vote of a validator, over and over."""
    height = await attack.height()
    vote = words.vote(attack.arena.chain, attack.arena.liar.signing, height + 2, 0)
    await attack.peer.flood(Channel.CONSENSUS, vote, FLOOD_S)


async def rising_views(attack: Attack) -> None:
    """True VIEW-CHANGEs, each for a higher view than the last."""
    arena, peer = attack.arena, attack.peer
    certificate = await asyncio.to_thread(arena.certificate, attack.victim)
    with contextlib.suppress(ConnectionError):
        for view in range(1, 20_000):
            if peer.closed is not None:
                break
            change = words.view_change(arena.chain, arena.liar.signing, view, certificate.height, certificate)
            await peer.send(Channel.CONSENSUS, change)
            await asyncio.sleep(0)


async def unfinished_messages(attack: Attack) -> None:
    """Fifteen megabytes on each channel that takes them, and the last piece never."""
    for channel in (Channel.CONSENSUS, Channel.SYNC, Channel.DOCUMENTS):
        payload = bytes(limits.channel_message_bytes_max[channel.name.lower()])
        await attack.peer.frames(first_frame(channel, payload))
        for offset in range(FRAGMENT_BYTES, len(payload) - FRAGMENT_BYTES, FRAGMENT_BYTES):
            await attack.peer.frames(more_frame(channel, payload, offset))
    await asyncio.sleep(FLOOD_S)


async def deaf(attack: Attack) -> None:
    """Asks for all blocks as politely as can be, and takes nothing of the answers."""
    attack.peer.reader._transport.pause_reading()  # type: ignore[attr-defined]
    with contextlib.suppress(ConnectionError):
        for _ in range(10 * FLOOD_S):
            await attack.peer.send(Channel.SYNC, words.blocks_request(1, 64))
            await asyncio.sleep(0.1)


async def trickle(attack: Attack) -> None:
    """A record of which one byte comes each second."""
    with contextlib.suppress(ConnectionError):
        for _ in range(FLOOD_S):
            await attack.peer.write(b"\x01")
            await asyncio.sleep(1)


def flood(channel: Channel, make: Callable[[Attack], bytes]) -> Offence:
    async def run(attack: Attack) -> None:
        await attack.peer.flood(channel, make(attack), FLOOD_S)

    return run


FLOOD_S = 17
STRANGERS, SOURCES = 1_000, 40
FLOODS: dict[str, tuple[CloseCode | None, Offence]] = {
    "votes of an epoch that is over": (
        CloseCode.FLOOD,
        flood(Channel.CONSENSUS, lambda attack: words.old_epoch_vote(attack.arena.liar.node)),
    ),
    "requests for bodies": (
        CloseCode.FLOOD,
        flood(Channel.CONSENSUS, lambda _: words.body_request(10**6, random_bytes(32), range(100))),
    ),
    "heights of a billion": (CloseCode.FLOOD, flood(Channel.SYNC, lambda _: words.tip(10**9))),
    "requests for blocks": (CloseCode.FLOOD, flood(Channel.SYNC, lambda _: words.blocks_request(1, 64))),
    "announcements of nothing": (CloseCode.PENALTY, flood(Channel.TRANSACTIONS, lambda _: words.have(400))),
    "requests for nothing": (CloseCode.PENALTY, flood(Channel.TRANSACTIONS, lambda _: words.request(250))),
    "the same transaction": (
        CloseCode.PENALTY,
        flood(Channel.TRANSACTIONS, lambda attack: words.push(attack.arena.transaction())),
    ),
    "requests for documents": (CloseCode.FLOOD, flood(Channel.DOCUMENTS, lambda _: words.document_wanted())),
    "one byte a second": (CloseCode.SLOW, trickle),
    "taking nothing": (CloseCode.SLOW, deaf),
    "unfinished messages": (None, unfinished_messages),
}
"""With the code that a flood earns; None: it is not over within the time, but costs only so much memory."""
FLOODS_OF_A_VALIDATOR: dict[str, tuple[CloseCode | None, Offence]] = {
    "replayed votes": (CloseCode.FLOOD, replayed_votes),
    "rising views": (CloseCode.PENALTY, rising_views),
}


async def inundate(arena: Arena, victim: Member, kind: str, name: str, who: Identity) -> None:
    code, run = {**FLOODS, **FLOODS_OF_A_VALIDATOR}[kind]
    async with connected(arena.target(victim), who, f"127.9.0.{1 + arena.newcomers}") as peer:
        with contextlib.suppress(ConnectionError):
            await run(Attack(arena, victim, name, who, peer))
        if code is None:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(peer.until_closed(), 3)
    seen = await asyncio.to_thread(arena.offences, victim, name)
    if not seen.get(code.name.lower()):
        rows = {row: value for row, value in arena.metrics(victim).items() if f'peer="{name}"' in row and value}
        raise AssertionError(f"{kind}: {peer.closed} {peer.why} {rows} {arena.log_lines(victim, name)}")
    assert arena.log_lines(victim, "peer banned", f"peer={name}"), kind


async def test_floods_are_borne_named_and_banned(arena: Arena) -> None:
    """All at once, against one validator, without which the others cannot decide."""
    victim = arena.honest[0]

    def attacks() -> list[Awaitable[None]]:
        return [inundate(arena, victim, kind, *arena.newcomer()) for kind in FLOODS]

    await withstands(arena, victim, [attacks], MEMORY_GROWTH_BYTES_MAX)


@pytest.mark.parametrize("kind", FLOODS_OF_A_VALIDATOR)
async def test_a_validator_that_floods_is_borne_named_and_banned(arena: Arena, kind: str) -> None:
    victim = arena.honest[list(FLOODS_OF_A_VALIDATOR).index(kind)]

    def attacks() -> list[Awaitable[None]]:
        return [inundate(arena, victim, kind, arena.liar_name, arena.liar)]

    await withstands(arena, victim, [attacks], MEMORY_GROWTH_BYTES_MAX)


async def test_strangers_by_the_thousand_keep_nobody_out(arena: Arena) -> None:
    """Connections that say nothing, that say something else, and that hold a key which nobody has admitted, from many
    addresses, while a validator is started again and an admitted full node comes and goes."""
    victim, other = arena.honest[0], arena.honest[1]

    async def intrude(source: str) -> None:
        for number in range(STRANGERS // SOURCES):
            with contextlib.suppress(ConnectionError):
                async with tcp(arena.target(victim), source) as streams:
                    if number % 3 == 0:
                        await asyncio.sleep(1)
                    elif number % 3 == 1:
                        streams[1].write(random_bytes(100))
                        await streams[0].read(100)
                    else:
                        await greet(arena.target(victim), stranger(number), streams)

    async def come_and_go() -> None:
        name, who = arena.newcomer()
        for _ in range(10):
            async with connected(arena.target(victim), who, "127.8.8.8") as peer:
                await peer.until(lambda: len(peer.heard) >= 1)
        assert arena.log_lines(victim, "peer banned", name) == []

    async def restart() -> None:
        await asyncio.to_thread(arena.cluster.kill, other.name)
        arena.cluster.start(other.name)
        await asyncio.to_thread(arena.cluster.wait_ready, [other.name])

    intruders = [intrude(f"127.7.{index}.1") for index in range(SOURCES)]
    before = arena.memory_bytes(victim)
    async with asyncio.timeout(90):
        await asyncio.gather(*intruders, come_and_go(), restart())
    assert arena.memory_bytes(victim) - before < MEMORY_GROWTH_BYTES_MAX
    assert arena.metrics(victim)["otcnode_connections_refused_total"] > STRANGERS / 10
    lines = arena.log_lines(victim, "no connection", "127.7.")
    assert len(lines) < limits.refusals_told_burst + 100, "strangers fill the log"
    with arena.trading(arena.honest):
        async with arena.measured(victim) as pace:
            await asyncio.sleep(1)
    assert pace.intervals_ms

"""What peers with an admitted key do to a node, in a table each: what no honest node does even once, and what is right
or ignored but does not end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from otcnode import limits
from otcnode.consensus.messages import Commit, Prepare
from otcnode.crypto import random_bytes
from otcnode.localnet import Member
from otcnode.p2p.close import CloseCode
from otcnode.p2p.framing import FRAGMENT_BYTES, Channel, Form, control_frame, first_frame, more_frame, whole_frame
from otcnode.p2p.handshake import Identity
from otcnode.sync import ANSWERS_UNASKED_MAX
from otcnode.sync_messages import BlocksRequest
from tests.hostile import words
from tests.hostile.arena import Arena
from tests.hostile.raw_peer import RawPeer, connected, greet, tcp


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


async def message_instead_of_a_verdict(attack: Attack) -> None:
    """Over a second connection; the first has been well-behaved."""
    target = attack.arena.target(attack.victim)
    async with tcp(target, "127.9.9.10") as streams:
        second = RawPeer(attack.who, streams, await greet(target, attack.who, streams))
        await second.frames(whole_frame(Channel.CONSENSUS, b"x"))
        await second.listen()


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


async def unasked_chunks(attack: Attack) -> None:
    """Of a snapshot, as large as they come."""
    chunk = words.chunk(random_bytes(limits.snapshot_chunk_bytes))
    for _ in range(ANSWERS_UNASKED_MAX + 1):
        await attack.peer.send(Channel.SYNC, chunk)


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

    await peer.until(lambda: peer.closed is not None or is_asked())
    if peer.closed is not None:
        return
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
    "a message instead of a verdict": (CloseCode.MALFORMED, message_instead_of_a_verdict),
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
    "a document held up by gossip": (
        CloseCode.MALFORMED,
        frames(first_frame(Channel.DOCUMENTS, bytes(50_000)), whole_frame(Channel.TRANSACTIONS, words.have(1)) * 17),
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
    "a request as large as a block": (
        CloseCode.PENALTY,
        payload(Channel.CONSENSUS, lambda _: words.body_request(1, bytes(32), range(200_000))),
    ),
    "a vote with a false signature": (CloseCode.PENALTY, false_votes),
    "sync that is none": (CloseCode.PENALTY, payload(Channel.SYNC, lambda _: random_bytes(200))),
    "blocks that nobody asked for": (CloseCode.PENALTY, unasked_blocks),
    "snapshots that nobody asked for": (CloseCode.PENALTY, unasked_chunks),
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


async def wrong_order(attack: Attack) -> None:
    """True votes, the higher view and height before the lower and each COMMIT before its PREPARE, and no proposal. They
    are signed beforehand, or a busy attacker would be no flood, and for so many heights that the chain does not outrun
    them meanwhile."""
    arena, peer = attack.arena, attack.peer
    height, votes = await attack.height(), list[bytes]()
    for view, ahead in itertools.product(range(40, 0, -1), range(400, 0, -1)):
        for kind in (Commit, Prepare):
            votes.append(words.vote(arena.chain, arena.liar.signing, height + ahead, view, kind))
        await asyncio.sleep(0)
    with contextlib.suppress(ConnectionError):
        for vote in votes:
            if peer.closed is not None:
                break
            await peer.send(Channel.CONSENSUS, vote)


async def new_connections(attack: Attack) -> None:
    """One after another under the same key, from many addresses; each takes the place of the last."""
    target = attack.arena.target(attack.victim)
    for number in range(1_000):
        with contextlib.suppress(ConnectionError):
            async with connected(target, attack.who, f"127.5.{number % 50}.1") as peer:
                await peer.until(lambda: peer.closed is not None or bool(peer.heard))
        if peer.closed is CloseCode.BANNED:
            break


async def unfinished_messages(attack: Attack) -> None:
    """Fifteen megabytes on each channel that takes them, in an order that may be, and the last piece never."""
    for channel in (Channel.DOCUMENTS, Channel.SYNC, Channel.CONSENSUS):
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


async def anothers_address(attack: Attack) -> None:
    """Announced as its own every tenth of a second, that of one validator after another, in ever new words."""
    arena, key = attack.arena, attack.who.signing
    began, places = time.time_ns() // 1_000_000, itertools.cycle(arena.honest)
    with contextlib.suppress(ConnectionError):
        for number in range(10 * FLOOD_S):
            address = f"localhost:{'0' * (number % 200)}{next(places).p2p_port}"
            news = words.announcement(arena.chain, key, address, began + number)
            await attack.peer.frames(control_frame(Form.ANNOUNCE, news))
            await asyncio.sleep(0.1)


async def forged_by_the_thousand(attack: Attack) -> None:
    """More copies than have room before their signatures are looked at, each another one."""
    raw = attack.arena.transaction()
    with contextlib.suppress(ConnectionError):
        while attack.peer.closed is None:
            copies = [words.forged(raw, random_bytes(64)) for _ in range(1_000)]
            await attack.peer.send(Channel.TRANSACTIONS, words.push(*copies))
            await asyncio.sleep(0)


def flood(channel: Channel, make: Callable[[Attack], bytes]) -> Offence:
    async def run(attack: Attack) -> None:
        await attack.peer.flood(channel, make(attack), FLOOD_S)

    return run


FLOOD_S = 17
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
    "forged transactions by the thousand": (CloseCode.PENALTY, forged_by_the_thousand),
    "requests for documents": (CloseCode.FLOOD, flood(Channel.DOCUMENTS, lambda _: words.document_wanted())),
    "new connections": (CloseCode.FLOOD, new_connections),
    "one byte a second": (CloseCode.SLOW, trickle),
    "taking nothing": (CloseCode.SLOW, deaf),
    "unfinished messages": (None, unfinished_messages),
    "another's address": (None, anothers_address),
}
"""With the code that a flood earns; None: it is not over within the time, but costs only so much memory."""
FLOODS_OF_A_VALIDATOR: dict[str, tuple[CloseCode | None, Offence]] = {
    "replayed votes": (CloseCode.FLOOD, replayed_votes),
    "votes in the wrong order": (CloseCode.FLOOD, wrong_order),
    "rising views": (CloseCode.PENALTY, rising_views),
}

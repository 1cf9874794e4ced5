"""Peers that hold an admitted key and attack a network of real daemons. Whatever they do, the chain goes on at more
than half its pace, memory stays bounded, and whoever did it is named in the log and in a metric and banned."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from collections.abc import Awaitable, Iterator, Sequence

import pytest

from otcnode import limits
from otcnode.crypto import random_bytes
from otcnode.localnet import Member
from otcnode.p2p.close import CloseCode
from otcnode.p2p.framing import Channel, Form, control_frame
from otcnode.p2p.handshake import Identity
from tests.hostile import words
from tests.hostile.arena import MEGABYTE, Arena, stranger
from tests.hostile.attacks import FLOODS, FLOODS_OF_A_VALIDATOR, OFFENCES, Attack
from tests.hostile.raw_peer import connected, greet, tcp
from tests.hostile.siege import withstands

pytestmark = pytest.mark.process

MEMORY_GROWTH_BYTES_MAX = 192 * MEGABYTE
LANES = 4
STRANGERS, SOURCES = 2_000, 100


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    arena = Arena(tmp_path_factory.mktemp("hostile") / "net")
    with arena.cluster:
        arena.start()
        yield arena


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
    lines = arena.log_of_peer(victim, name, "peer banned")
    assert seen == {code.name.lower(): bans}, f"{kind}: {seen}: {lines}"
    assert len(lines) == bans, f"{kind}: {lines}"


async def test_every_offence_is_named_counted_and_banned_while_the_chain_goes_on(arena: Arena) -> None:
    """Several at a time, each by a peer of its own."""
    victim = arena.honest[0]

    async def one_after_another(kinds: Sequence[str]) -> None:
        faults = []
        for kind in kinds:
            try:
                await offend(arena, victim, kind)
            except AssertionError as error:
                faults.append(str(error).splitlines()[0])
        assert faults == []

    def attacks() -> list[Awaitable[None]]:
        return [one_after_another(list(OFFENCES)[lane::LANES]) for lane in range(LANES)]

    await withstands(arena, [victim], [attacks], MEMORY_GROWTH_BYTES_MAX)


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


async def inundate(arena: Arena, victim: Member, kind: str, name: str, who: Identity) -> None:
    code, run = {**FLOODS, **FLOODS_OF_A_VALIDATOR}[kind]
    async with connected(arena.target(victim), who, f"127.9.0.{1 + arena.newcomers}") as peer:
        with contextlib.suppress(ConnectionError):
            await run(Attack(arena, victim, name, who, peer))
        if code is None:
            return
        # What is sent waits in the victim's sockets, and only seconds of it make a flood.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(peer.until_closed(), 5 * limits.flood_ms_max / 1_000)
    seen = await asyncio.to_thread(arena.offences, victim, name)
    if not seen.get(code.name.lower()):
        rows = {row: value for row, value in arena.metrics(victim).items() if f'peer="{name}"' in row and value}
        raise AssertionError(f"{kind}: {peer.closed} {peer.why} {rows} {arena.log_lines(victim, name)}")
    assert arena.log_of_peer(victim, name, "peer banned"), kind


async def test_floods_are_borne_named_and_banned(arena: Arena) -> None:
    """All at once, against one validator, without which the others cannot decide."""
    victim = arena.honest[0]

    def attacks() -> list[Awaitable[None]]:
        return [inundate(arena, victim, kind, *arena.newcomer()) for kind in FLOODS]

    await withstands(arena, [victim], [attacks], MEMORY_GROWTH_BYTES_MAX)
    assert arena.bans_among_the_honest() == []


async def test_a_validator_that_floods_is_borne_named_and_banned(arena: Arena) -> None:
    """Each of the others in another way, all at once."""
    victims = dict(zip(FLOODS_OF_A_VALIDATOR, arena.honest, strict=True))

    def attacks() -> list[Awaitable[None]]:
        return [inundate(arena, victim, kind, arena.liar_name, arena.liar) for kind, victim in victims.items()]

    await withstands(arena, arena.honest, [attacks], MEMORY_GROWTH_BYTES_MAX)
    assert arena.bans_among_the_honest() == []


REDIRECTORS, REDIRECTED_S = 8, 5
DIALS_MAX = 4
"""To one liar's address by one node within that time, where the first pause is a second and each next twice as long."""


async def test_who_announces_the_address_of_another_turns_no_honest_node_against_another(arena: Arena) -> None:
    """Each tells a node, once a second, that it is found where a validator is: in the words that the others use for it,
    in other words, and in ever new ones. Whoever looks for it there meets the validator."""
    victim, told, other = arena.honest
    liars = [arena.newcomer() for _ in range(REDIRECTORS)]

    async def redirect(place: int, name: str, who: Identity) -> None:
        async with connected(arena.target(told), who, f"127.4.0.{1 + place}") as peer:
            for second in range(REDIRECTED_S):
                host = "127.0.0.1" if place % 3 == 0 else "localhost"
                zeros = second if place % 3 == 2 else 0
                address = f"{host}:{'0' * zeros}{victim.p2p_port}"
                news = words.announcement(arena.chain, who.signing, address, 1 + second)
                await peer.frames(control_frame(Form.ANNOUNCE, news))
                await asyncio.sleep(1)
            assert peer.closed is None, f"{name}: {peer.closed} {peer.why}"

    def attacks() -> list[Awaitable[None]]:
        return [redirect(place, *liar) for place, liar in enumerate(liars)]

    knocks = "otcnode_connections_refused_total"
    before = arena.metrics(victim)[knocks]
    await withstands(arena, [victim], [attacks], MEMORY_GROWTH_BYTES_MAX)
    knocked = arena.metrics(victim)[knocks] - before
    assert arena.bans_among_the_honest() == []
    # The victim looks for them too, and counts both ends of what leads back to itself.
    assert knocked <= (len(arena.honest) + 1) * REDIRECTORS * DIALS_MAX, knocked
    for name, _ in liars:
        misled = arena.misled(other, name)
        lines = arena.log_of_peer(other, name, "no connection", "warning", "not the node")
        assert 0 < misled == len(lines) <= DIALS_MAX, f"{name}: {misled}, {lines}"


async def test_strangers_by_the_thousand_keep_nobody_out(arena: Arena) -> None:
    """Connections that say nothing, that say something else, and that hold a key which nobody has admitted, from many
    addresses, while an admitted full node comes and goes, and then while a validator is started again."""
    victim, other = arena.honest[0], arena.honest[1]

    async def intrude(source: str) -> None:
        for number in range(STRANGERS // SOURCES // 2):
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
        assert arena.log_of_peer(victim, name, "peer banned") == []

    async def restart() -> None:
        await asyncio.to_thread(arena.cluster.kill, other.name)
        arena.cluster.start(other.name)
        await asyncio.to_thread(arena.cluster.wait_ready, [other.name])

    def intruders() -> list[Awaitable[None]]:
        return [intrude(f"127.7.{index}.1") for index in range(SOURCES)]

    await withstands(arena, [victim], [lambda: [*intruders(), come_and_go()]], MEMORY_GROWTH_BYTES_MAX)
    async with asyncio.timeout(60):
        await asyncio.gather(*intruders(), restart())
    assert arena.metrics(victim)["otcnode_connections_refused_total"] > STRANGERS / 10
    lines = arena.log_lines(victim, "no connection", "127.7.")
    assert 0 < len(lines) < limits.refusals_told_burst + 100, "strangers are not told, or fill the log"
    with arena.trading(arena.honest):
        async with arena.measured(victim) as pace:
            await asyncio.sleep(0.5)
    assert pace.intervals_ms

"""Everything that is known against a network of real daemons, at once and for minutes, while clients trade."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Iterator

import pytest

from otcnode.localnet import Member
from otcnode.p2p.close import CloseCode
from otcnode.p2p.handshake import Identity
from tests.hostile.arena import MEGABYTE, Arena
from tests.hostile.attacks import FLOODS, FLOODS_OF_A_VALIDATOR, OFFENCES, Attack, Offence
from tests.hostile.raw_peer import RawPeer, connected
from tests.hostile.siege import withstands

pytestmark = [pytest.mark.process, pytest.mark.long]

ROUNDS, ROUND_S = 4, 30
MEMORY_GROWTH_BYTES_MAX = 256 * MEGABYTE


@pytest.fixture
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    arena = Arena(tmp_path_factory.mktemp("everything") / "net")
    with arena.cluster:
        arena.start()
        yield arena


class Attacker:
    """A key that does one thing to one validator over and over; a ban it waits for outside."""

    def __init__(self, arena: Arena, victim: Member, kind: str, attack: tuple[CloseCode | None, Offence]) -> None:
        self.arena, self.victim, self.kind = arena, victim, kind
        self.code, self._offence = attack
        self.name, self._who = self._key()
        self.seen: Counter[CloseCode] = Counter()

    def _key(self) -> tuple[str, Identity]:
        if self.kind in FLOODS_OF_A_VALIDATOR:
            return self.arena.liar_name, self.arena.liar
        return self.arena.newcomer()

    async def go_on(self, place: int) -> None:
        ends = time.monotonic() + ROUND_S
        while (left_s := ends - time.monotonic()) > 0:
            with contextlib.suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(left_s), self._session(place) as peer:
                    with contextlib.suppress(ConnectionError):
                        await self._offence(Attack(self.arena, self.victim, self.name, self._who, peer))
                    self.seen[await peer.until_closed()] += 1
            await asyncio.sleep(0.5)

    def _session(self, place: int) -> contextlib.AbstractAsyncContextManager[RawPeer]:
        return connected(self.arena.target(self.victim), self._who, f"127.9.0.{place}")

    def faults(self) -> list[str]:
        """Where it has not been named, counted and banned for what it does."""
        bans = self.arena.offences(self.victim, self.name)
        lines = self.arena.log_lines(self.victim, "peer banned", f"peer={self.name}")
        said = f"{self.kind}: {bans}, {len(lines)} lines, {dict(self.seen)}"
        if self.code is None:
            return []
        if not bans.get(self.code.name.lower()) or len(lines) != sum(bans.values()):
            return [said]
        return [] if self.seen[CloseCode.BANNED] or sum(bans.values()) == 1 else [f"{said}: let in again"]


async def test_everything_at_once_for_two_minutes(arena: Arena) -> None:
    """Each kind of attack by a key of its own, in turn against each of the three validators that must all work."""
    kinds = {**OFFENCES, **FLOODS, **FLOODS_OF_A_VALIDATOR}
    attackers = [
        Attacker(arena, arena.honest[place % 3], kind, attack) for place, (kind, attack) in enumerate(kinds.items())
    ]

    def attacks() -> list[Awaitable[None]]:
        return [attacker.go_on(place) for place, attacker in enumerate(attackers, 1)]

    await withstands(arena, arena.honest, [attacks] * ROUNDS, MEMORY_GROWTH_BYTES_MAX)
    faults = [fault for attacker in attackers for fault in attacker.faults()]
    assert faults == []

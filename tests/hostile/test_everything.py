"""Everything that is known against a network of real daemons, at once and for minutes, while clients trade."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any, NamedTuple

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
NICE = 10
LOG_LATE = timedelta(milliseconds=200)
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
        """Where it has not been named, counted, banned for what it does and kept out for as long."""
        if self.code is None:
            return []
        counted = self.arena.offences(self.victim, self.name)
        bans = [Ban.told(line) for line in self.arena.log_of_peer(self.victim, self.name, "peer banned")]
        said = f"{self.kind}: {counted}, {len(bans)} lines, {dict(self.seen)}"
        if not counted.get(self.code.name.lower()) or len(bans) != sum(counted.values()):
            return [said]
        came = [moment(line) for line in self.arena.log_of_peer(self.victim, self.name, "peer connected")]
        return [f"{said}: let in at {at} in spite of {ban}" for ban in bans for at in came if ban.holds(at)]


class Ban(NamedTuple):
    """As the log tells it."""

    began: datetime
    lasts: timedelta

    @classmethod
    def told(cls, line: str) -> Ban:
        found = re.search(r" ms=(\d+) ", line)
        assert found is not None, line
        return cls(moment(line), timedelta(milliseconds=int(found[1])))

    def holds(self, at: datetime) -> bool:
        """A line may be written a little after what it tells has happened."""
        return self.began < at < self.began + self.lasts - LOG_LATE


def moment(line: str) -> datetime:
    return datetime.fromisoformat(line.split()[0])


async def elsewhere(attack: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """In a thread that takes what the daemons and the clients leave of the processors, for attackers bring their own
    machines: what counts is the work that they make, not the work that they have."""

    def work() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        asyncio.run(attack())

    with ThreadPoolExecutor(1) as executor:
        await asyncio.get_running_loop().run_in_executor(executor, work)


async def test_everything_at_once_for_two_minutes(arena: Arena) -> None:
    """Each kind of attack by a key of its own, in turn against each of the three validators that must all work."""
    kinds = {**OFFENCES, **FLOODS, **FLOODS_OF_A_VALIDATOR}
    attackers = [
        Attacker(arena, arena.honest[place % 3], kind, attack) for place, (kind, attack) in enumerate(kinds.items())
    ]

    async def all_at_once() -> None:
        async with asyncio.TaskGroup() as group:
            for place, attacker in enumerate(attackers, 1):
                group.create_task(attacker.go_on(place))

    def attacks() -> list[Awaitable[None]]:
        return [elsewhere(all_at_once)]

    await withstands(arena, arena.honest, [attacks] * ROUNDS, MEMORY_GROWTH_BYTES_MAX)
    faults = [fault for attacker in attackers for fault in attacker.faults()] + arena.bans_among_the_honest()
    assert not faults, "\n".join(faults)

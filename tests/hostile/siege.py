"""An attack on validators without which the others cannot decide, against calm times before, between and after."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from otcnode.localnet import Member
from tests.hostile.arena import MEGABYTE, Arena, Pace

BLOCK_TIME_RATIO_MAX = 2.0
STANDSTILL_MS_MAX = 5_000
"""No attack stops the chain for longer, not even once: two view timeouts and what the machine adds."""
CALM_S, ATTACK_S_MIN = 2.5, 4

Round = Callable[[], Sequence[Awaitable[None]]]


async def withstands(arena: Arena, victims: Sequence[Member], rounds: Sequence[Round], growth_bytes_max: int) -> None:
    """Holds the chain to its pace and each victim to its memory while each round's attacks happen all at once. Clients
    trade through the others, or through all where all are victims.

    Calm and attacked blocks are of the same minute, so that the machine's other work weighs on both. There is no least
    block time below which the ratio would not count: blocks follow one another as fast as they are decided, and what
    an attack costs shows in each.
    """
    others = [member for member in arena.honest if member not in victims] or arena.honest
    calm, attacked, growth_bytes = Pace(()), Pace(()), 0

    async def watch(before: dict[str, int]) -> None:
        nonlocal growth_bytes
        while True:
            growth_bytes = max(growth_bytes, *(arena.memory_bytes(member) - before[member.name] for member in victims))
            await asyncio.sleep(0.2)

    async def rest() -> None:
        nonlocal calm
        async with arena.measured(others[0]) as pace:
            await asyncio.sleep(CALM_S)
        calm += pace

    with arena.trading(others):
        await rest()
        watching = asyncio.create_task(watch({member.name: arena.memory_bytes(member) for member in victims}))
        for attacks in rounds:
            async with arena.measured(others[0]) as pace:
                results = await asyncio.gather(*attacks(), asyncio.sleep(ATTACK_S_MIN), return_exceptions=True)
            faults = [repr(result) for result in results if result is not None]
            assert not faults, "\n".join(faults)
            attacked += pace
            await rest()
        watching.cancel()
    said = f"calm {calm}, attacked {attacked}, {growth_bytes / MEGABYTE:.0f} MiB more"
    print(said)
    assert growth_bytes < growth_bytes_max, said
    assert attacked.median_ms < BLOCK_TIME_RATIO_MAX * calm.median_ms, said
    assert attacked.longest_ms < STANDSTILL_MS_MAX, said

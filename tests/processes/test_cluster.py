"""Daemons that are killed at any moment: what was final stays final, roots stay equal."""

import asyncio
import random
import time
from pathlib import Path

import pytest

from otcnode.client.client import Client
from otcnode.localnet import Cluster
from otcnode.vm.transactions import decode_transaction
from tests.processes import cluster as daemons

pytestmark = pytest.mark.process

KILLS = 10


async def execute_all(cluster: Cluster, raws: list[bytes], stop: asyncio.Event, final: list[bytes]) -> None:
    """Submit one after another over all nodes until told to stop; note what is proven final."""
    async with Client(cluster.urls, cluster.genesis) as client:
        for raw in raws:
            if stop.is_set():
                return
            outcome = await client.execute(decode_transaction(raw), timeout_ms=90_000)
            final.append(outcome.id)


async def height_of(cluster: Cluster, name: str) -> int:
    async with Client([cluster.member(name).url], cluster.genesis) as client:
        return (await client.status()).height


@pytest.mark.parametrize("validators", [1, 4])
def test_a_cluster_commits_and_survives_kills(tmp_path: Path, validators: int) -> None:
    """kill -9 of a validator chosen by chance, ten times in a row, under traffic that never stops."""
    chance = random.Random(validators)
    with daemons.make(tmp_path / "net", validators) as cluster:
        cluster.start_all()
        cluster.wait_ready()
        raws = daemons.deposits(cluster, 5_000)
        final: list[bytes] = []

        async def play() -> None:
            stop = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                for first in range(4):
                    group.create_task(execute_all(cluster, raws[first::4], stop, final))
                for _ in range(KILLS):
                    before = len(final)
                    name = chance.choice(cluster.members).name
                    await asyncio.sleep(chance.uniform(0.05, 0.5))
                    await asyncio.to_thread(cluster.kill, name)
                    cluster.start(name)
                    await asyncio.to_thread(cluster.wait_ready, [name])
                    deadline = time.monotonic() + 60
                    while len(final) < before + 5:
                        assert time.monotonic() < deadline, f"no progress after {name} was killed"
                        await asyncio.sleep(0.02)
                stop.set()

        asyncio.run(play())
        target = asyncio.run(height_of(cluster, cluster.members[0].name))
        for member in cluster.members:
            deadline = time.monotonic() + 60
            while asyncio.run(height_of(cluster, member.name)) < target:
                assert time.monotonic() < deadline, f"{member.name} does not catch up"
                time.sleep(0.05)
    lowest, roots = daemons.audit(cluster, final)
    assert lowest >= target
    assert all(len(seen) == 1 for seen in roots.values()), "state roots differ"
    assert len(final) >= 5 * KILLS


def test_a_cluster_stopped_and_started_goes_on(tmp_path: Path) -> None:
    with daemons.make(tmp_path / "net", 4) as cluster:
        raws = daemons.deposits(cluster, 20)
        final: list[bytes] = []
        for part in (raws[:10], raws[10:]):
            cluster.start_all()
            cluster.wait_ready()
            asyncio.run(execute_all(cluster, part, asyncio.Event(), final))
            cluster.stop_all()
    assert len(final) == 20
    lowest, roots = daemons.audit(cluster, final)
    assert lowest >= 2
    assert all(len(seen) == 1 for seen in roots.values())

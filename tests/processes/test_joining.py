"""Real daemons under load: a node joins from the genesis file alone, a validator's deleted directory is rebuilt."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from otcnode.client.client import Client
from otcnode.client.errors import NodeUnavailable
from otcnode.localnet import Cluster
from otcnode.rpc.node_status import NodeStatusResult
from tests.processes import cluster as daemons
from tests.processes.test_cluster import execute_all

pytestmark = pytest.mark.process

INTERVAL, BEHIND = 20, 30
VIEW_TIMEOUT_MS = 1_000
WAIT_S = 60.0


def configure(cluster: Cluster, text: str) -> None:
    for member in cluster.members:
        with member.home.configuration.open("a") as file:
            file.write(text)


async def status_of(cluster: Cluster, name: str) -> NodeStatusResult:
    async with Client([cluster.member(name).url], cluster.genesis) as client:
        return await client.status()


async def until(question: Callable[[], Awaitable[bool]], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not await question():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.1)


@asynccontextmanager
async def load(cluster: Cluster, final: list[bytes], names: list[str]) -> AsyncIterator[None]:
    """Deposits over these nodes, one after another, as long as the block lasts."""
    stop = asyncio.Event()
    raws = daemons.deposits(cluster, 4_000)
    urls = Cluster(cluster.directory)
    urls.members = [member for member in urls.members if member.name in names]
    async with asyncio.TaskGroup() as group:
        for first in range(2):
            group.create_task(execute_all(urls, raws[first::2], stop, final))
        yield
        stop.set()


async def height_reaches(cluster: Cluster, name: str, height: int) -> None:
    async def reached() -> bool:
        try:
            return bool((await status_of(cluster, name)).height >= height)
        except NodeUnavailable:
            return False

    await until(reached, f"{name} never reaches height {height}")


async def longest_gap_ms(cluster: Cluster, first: int, last: int) -> int:
    """The longest time from one block's header to the next one's."""
    async with Client([cluster.member("node1").url], cluster.genesis) as client:
        times = [(await client.header(height)).time_ms for height in range(first, last + 1)]
    return max(after - before for before, after in pairwise(times))


async def proven_alike(cluster: Cluster, names: list[str]) -> None:
    """Each node proves the same header from the genesis on, with the root of the state."""
    height = (await status_of(cluster, "node1")).height
    answers = []
    for name in names:
        await height_reaches(cluster, name, height)
        async with Client([cluster.member(name).url], cluster.genesis) as client:
            answers.append(await client.header(height))
    assert all(answer == answers[0] for answer in answers)


def test_a_node_joins_from_the_genesis_and_a_deleted_directory_is_rebuilt(tmp_path: Path) -> None:
    final: list[bytes] = []
    with daemons.make(
        tmp_path / "net", 4, full_nodes=1, view_timeout_ms=VIEW_TIMEOUT_MS, drift_real_ms=4_000
    ) as cluster:
        configure(cluster, f"[snapshots]\ninterval_blocks = {INTERVAL}\nbehind_blocks = {BEHIND}\n")
        validators = [member.name for member in cluster.members[:4]]
        for name in validators:
            cluster.start(name)
        cluster.wait_ready(validators)

        async def story() -> None:
            async with load(cluster, final, ["node1", "node3"]):
                await height_reaches(cluster, "node1", 3 * BEHIND)
                # A fifth node has a genesis file and the addresses in it, and nothing else.
                begun = (await status_of(cluster, "node1")).height
                cluster.start("node5")
                await height_reaches(cluster, "node5", 3 * BEHIND)
                joined_at = (await status_of(cluster, "node1")).height
                # The chain never stops for it: no primary is taken for dead.
                gap_ms = await longest_gap_ms(cluster, begun, joined_at)
                print(f"{gap_ms} ms is the longest time between two of the {joined_at - begun} blocks meanwhile")
                assert gap_ms < VIEW_TIMEOUT_MS, f"{gap_ms} ms between two blocks"
                # A validator's directory is gone, its key is not.
                await asyncio.to_thread(cluster.kill, "node2")
                shutil.rmtree(cluster.member("node2").home.database.parent)
                before = (await status_of(cluster, "node1")).height
                cluster.start("node2")
                await height_reaches(cluster, "node2", before)
                assert (await status_of(cluster, "node2")).mode == "silent"

                async def votes() -> bool:
                    return bool((await status_of(cluster, "node2")).mode == "active")

                await until(votes, "node2 never votes again")

        asyncio.run(story())
        asyncio.run(proven_alike(cluster, ["node1", "node2", "node5"]))
        joined, rebuilt = (asyncio.run(status_of(cluster, name)) for name in ("node5", "node2"))
        assert joined.blocks_first > INTERVAL and joined.mode == "following" and not joined.validator
        assert rebuilt.blocks_first > INTERVAL and rebuilt.mode == "active" and rebuilt.validator
        watched = asyncio.run(status_of(cluster, "node1"))
        assert (watched.peers_connected, watched.peers_expected, watched.full_nodes_connected) == (3, 3, 1)
        assert "taking a snapshot" in cluster.member("node5").home.log.read_text()
    lowest, roots = daemons.audit(cluster, final)
    assert lowest > 3 * BEHIND
    assert all(len(seen) == 1 for seen in roots.values()), "state roots differ"

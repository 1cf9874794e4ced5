"""The shell around the engine: how a node starts, fails and stops."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn

import pytest

from otcnode import localnet
from otcnode.bench import workload
from otcnode.config import Home
from otcnode.errors import ConfigurationError, DiskFull, NodeFailed, StorageDamage
from otcnode.genesis import ChainParameters
from otcnode.node import Node, open_store
from otcnode.storage.directory import DirectoryFolders
from otcnode.storage.documents import DocumentStore
from otcnode.storage.level import LevelKeyValue
from tests.processes.cluster import free_ports


@pytest.fixture
def home(tmp_path: Path) -> Home:
    localnet.create(
        localnet.Plan(
            directory=tmp_path / "net",
            validators=1,
            base_port=free_ports(2),
            accounts=workload.accounts()[:9],
            cash=workload.cash(),
            parameters=ChainParameters(state_buckets=16),
        )
    )
    return localnet.members(tmp_path / "net")[0].home


def run(node: Node, meanwhile: Callable[[], Awaitable[None]]) -> None:
    """Let a node run while something happens; whatever that is, it must make the node end. Bounded, for a node that
    refuses to start never gets there."""

    async def both() -> None:
        task = asyncio.create_task(node.run())
        await asyncio.wait_for(meanwhile(), 30)
        await asyncio.wait_for(task, 30)

    asyncio.run(both())


def is_closed(home: Home) -> bool:
    """Whether nobody holds the database."""
    LevelKeyValue(home.database).close()
    return True


async def until(condition: Callable[[], bool]) -> None:
    """The node tells nobody that it has got somewhere, so the test looks after every step of the loop."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)


async def started(node: Node) -> None:
    await until(lambda: hasattr(node, "_engine") and node._engine.replica.started and node._rpc._runner is not None)


def test_sigterm_during_the_start_ends_it_in_order(home: Home) -> None:
    node = Node(home)

    async def terminate() -> None:
        await until(lambda: hasattr(node, "_engine"))
        os.kill(os.getpid(), signal.SIGTERM)

    run(node, terminate)
    assert is_closed(home)


def test_sigterm_between_two_engines_ends_it_too(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop has just noticed it when the first one closes its databases, to make way for another on a snapshot."""
    node = Node(home)
    close = DocumentStore.close

    def closing(store: DocumentStore) -> None:
        if node._installing:
            node._loop.call_soon(node._stop)
        close(store)

    monkeypatch.setattr(DocumentStore, "close", closing)

    async def install() -> None:
        await started(node)
        node._install()

    run(node, install)
    assert is_closed(home)


def test_what_the_engine_must_never_do_ends_the_node_with_one_error(home: Home) -> None:
    node = Node(home)

    async def break_it() -> None:
        await started(node)
        calls = []

        def mistake() -> None:
            calls.append(1)
            raise AssertionError("never")

        node.later(mistake)
        node.later(mistake)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert calls == [1], "nothing runs after a failure"

    with pytest.raises(NodeFailed, match="never"):
        run(node, break_it)
    assert is_closed(home)


def test_a_disk_that_refuses_ends_the_node_as_damage(home: Home) -> None:
    node = Node(home)

    async def damage() -> None:
        await started(node)

        def refuse() -> None:
            raise StorageDamage("the disk is full; free space, then start the node again")

        node.later(refuse)

    with pytest.raises(StorageDamage, match="disk is full"):
        run(node, damage)
    assert is_closed(home)


def test_a_mistake_in_the_transport_ends_the_node(home: Home) -> None:
    node = Node(home)

    async def break_it() -> None:
        await started(node)
        assert node._transport._group is not None

        async def mistake() -> None:
            raise AssertionError("in a connection")

        node._transport._group.create_task(mistake())

    with pytest.raises(NodeFailed):
        run(node, break_it)
    assert is_closed(home)


@pytest.mark.parametrize("which", ["p2p", "rpc"])
def test_a_start_that_fails_halfway_leaves_nothing_open(home: Home, which: str) -> None:
    node = Node(home)
    section = getattr(node._configuration, which)
    host, port = section.listen.split(":")
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((host, int(port)))
        taken.listen()
        with pytest.raises(ConfigurationError, match=port):
            asyncio.run(node.run())
    assert is_closed(home)


def test_a_damaged_store_is_closed_again(home: Home) -> None:
    kv = LevelKeyValue(home.database, create=True)
    kv.write([(b"junk", b"junk")])
    kv.close()
    with pytest.raises(StorageDamage):
        asyncio.run(Node(home).run())
    assert is_closed(home)


@pytest.mark.parametrize("left", ["chain.old.deleted", "chain.old", "chain.old alone"])
def test_a_start_that_gives_room_is_not_refused_for_want_of_it(
    home: Home, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    """Killed while a snapshot took the place of its chain, the node has its former one still, or what is left of it.
    Without a chain nothing else could be done there either."""
    node = Node(home)
    open_store(home, node._genesis, node._chain, node._configuration).close()
    former = home.database.with_name(left.split()[0])
    if "alone" in left:
        home.database.rename(former)
    else:
        shutil.copytree(home.database, former)
    monkeypatch.setattr(DirectoryFolders, "free_bytes", lambda self: 0 if former.exists() else 1 << 40)

    async def stop() -> None:
        await started(node)
        node._stopped.set()

    run(node, stop)
    assert is_closed(home) and [path.name for path in home.database.parent.glob("chain*")] == ["chain"]


def test_a_start_that_gave_no_room_is_refused_behind_it(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here a snapshot is not whole yet, and there is no chain that could be pruned."""
    LevelKeyValue(home.incoming, create=True).close()
    monkeypatch.setattr(DirectoryFolders, "free_bytes", lambda self: 0)
    with pytest.raises(DiskFull, match=r"0 MiB are free, .* to go on; free space, then start the node"):
        asyncio.run(Node(home).run())
    assert not home.database.exists()


def test_where_the_disk_does_not_say_what_is_free_the_write_itself_finds_out(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the start as at every write."""

    def silent(path: object) -> NoReturn:
        raise OSError(errno.EIO, "Input/output error")

    node = Node(home)
    monkeypatch.setattr(os, "statvfs", silent)

    async def stop() -> None:
        await started(node)
        node._stopped.set()

    run(node, stop)
    assert is_closed(home) and home.database.exists()


def test_damage_that_is_met_while_the_engine_is_made_ends_the_node_as_damage(home: Home) -> None:
    """There is no engine to be closed then, and what the operator reads is what is damaged and what helps."""
    node = Node(home)
    store = open_store(home, node._genesis, node._chain, node._configuration)
    store.keep_evidence(b"x" * 32, b"junk")
    store.close()
    with pytest.raises(
        StorageDamage, match=r"the evidence 787878787878… is damaged .*; stop the node and run: otcnode"
    ):
        asyncio.run(node.run())
    assert is_closed(home)


def test_the_engine_begins_before_anybody_is_let_in(home: Home) -> None:
    node = Node(home)
    begun: list[bool] = []

    async def watch() -> None:
        await until(lambda: hasattr(node, "_transport") and node._transport._root is not None)
        begun.append(node._engine.replica.started)
        node._stopped.set()

    run(node, watch)
    assert begun == [True]


def test_nothing_reaches_the_engine_after_the_end(home: Home) -> None:
    node = Node(home)
    late: list[str] = []

    async def stop() -> None:
        await started(node)
        node._stopped.set()

    run(node, stop)
    node._guard(lambda: late.append("late"))
    assert late == []


def test_damage_that_a_query_meets_ends_the_node(home: Home) -> None:
    node = Node(home)
    answers: list[bytes | None] = []

    async def ask() -> None:
        await started(node)

        def damaged(height: int) -> None:
            raise StorageDamage(f"header {height} is damaged or missing; stop the node and run: otcnode db verify")

        node._service._store.header = damaged  # type: ignore[method-assign]
        call = b'{"jsonrpc":"2.0","id":1,"method":"header_get","params":{"height":1}}'
        answers.append(await node._rpc.dispatcher.answer(call, "127.0.0.1", None))

    with pytest.raises(StorageDamage, match="header 1"):
        run(node, ask)
    assert answers[0] is not None and b"-32603" in answers[0]
    assert is_closed(home)


def test_a_running_node_s_collector_walks_over_nothing_that_was_imported() -> None:
    code = """
import gc
from otcnode.node import COLLECTED_OBJECTS, spare_collections
spare_collections()
made = [[] for _ in range(COLLECTED_OBJECTS // 2)]
assert len(gc.get_objects(generation=0)) > len(made), "not looked at yet"
made += [[] for _ in range(COLLECTED_OBJECTS)]
assert len(gc.get_objects()) < 2 * len(made)
loop = []
loop.append(loop)
del loop
assert gc.collect() == 1, "cycles are still found"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

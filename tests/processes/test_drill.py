"""The drill of the README's operations section, in its order and by its commands, under load: the chain never stops."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from otcnode.client.client import Client
from otcnode.demo.cast import CASH, TRAFFIC, load_cast
from otcnode.genesis import KeyPurpose
from otcnode.localnet import Cluster
from otcnode.localnet import members as localnet_members
from otcnode.vm.accounts.operations import CashDeposit
from tests.processes import cluster as daemons
from tests.processes.test_damaged_node import ended, flip_middle, run
from tests.processes.test_documents import COMMAND, ROOT
from tests.processes.test_joining import height_reaches, proven_alike, status_of
from tests.processes.test_operations import otcnode

pytestmark = [pytest.mark.process, pytest.mark.long]

NODES = ["node1", "node2", "node3", "node4", "node5"]
FIRST_PORT = 26_651
"""Of the API of node1 in the README; the others follow, two by two."""
INTERVAL, BEHIND = 50, 100
WAIT_S = 120.0
STANDSTILL_S_MAX = 20.0
"""No deposit waits longer: a few view timeouts, and what a busy machine adds."""


@contextmanager
def localnet(arguments: list[str]) -> Iterator[subprocess.Popen[str]]:
    """`otcnode localnet`, up; ended by Ctrl-C."""
    command = [sys.executable, "-m", "otcnode", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stdout is not None
        assert any("The cluster is up" in line for line in process.stdout), "localnet ended"
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 0


def process_of(home: Path) -> int:
    """The daemon that runs there, as `ps` shows it."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if b"run" in words and str(home).encode() in words:
                return int(path.parent.name)
    raise AssertionError(f"nothing runs in {home}")


def end(home: Path, number: int) -> None:
    """Send the signal and wait until the process is gone (for its parent, a zombie is left)."""
    process = process_of(home)
    os.kill(process, number)
    deadline = time.monotonic() + 30
    while Path(f"/proc/{process}/exe").exists() and _state(process) != "Z":
        assert time.monotonic() < deadline, f"{home} does not end"
        time.sleep(0.05)


def _state(process: int) -> str:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return "Z"


@asynccontextmanager
async def load(cluster: Cluster) -> AsyncIterator[list[float]]:
    """A bank pays in, one deposit after another, over all nodes; the moments at which each was proven final."""
    actors, final, stop = load_cast(cluster.directory), [time.monotonic()], asyncio.Event()
    bank = actors["BANK"]

    async def pay() -> None:
        async with Client(cluster.urls, cluster.genesis) as client:
            while not stop.is_set():
                deposit = CashDeposit(actors[TRAFFIC].account, CASH, 100, f"HB-{len(final):06}")
                body = client.build(bank.account, [deposit])
                await client.execute(client.sign(body, [bank.keys[KeyPurpose.TRADE]]), 90_000)
                final.append(time.monotonic())

    async with asyncio.TaskGroup() as group:
        group.create_task(pay())
        yield final
        stop.set()


class Guide:
    """The commands of the README's operations section, each to be run once, in their order; directories, ports and the
    place of the snapshot are this test's."""

    def __init__(self, directory: Path) -> None:
        section = (ROOT / "README.md").read_text().partition("\n## Operations\n")[2].partition("\n## ")[0]
        self._left = [shlex.split(command)[1:] for command in COMMAND.findall(section)]
        self._directory = directory

    def next(self, *beginning: str) -> list[str]:
        words = self._left.pop(0)
        assert words[: len(beginning)] == [*beginning], f"the README goes on with {words}"
        return [self._here(option, word) for option, word in pairwise(["", *words])]

    def _here(self, option: str, word: str) -> str:
        if option in ("--directory", "--home", "--from", "--to"):
            return str(self._directory.parent / word)
        if option == "--url":
            return localnet_members(self._directory)[(int(word.rpartition(":")[2]) - FIRST_PORT) // 2].url
        return word

    def is_over(self) -> bool:
        return self._left == []


class Drill:
    def __init__(self, cluster: Cluster, guide: Guide) -> None:
        self.cluster, self.guide = cluster, guide

    def home(self, name: str) -> Path:
        return self.cluster.member(name).home.path

    def end(self, name: str, number: int) -> None:
        if not self.cluster.alive(name):
            end(self.home(name), number)
        else:
            assert number == signal.SIGTERM
            self.cluster.stop(name)

    async def run(self, name: str) -> None:
        """`otcnode run --home net/node…`, beside `localnet`."""
        self.cluster.start(name)
        height = (await status_of(self.cluster, "node1")).height
        await height_reaches(self.cluster, name, height)

    async def until(self, name: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """As `otcnode status` shows it."""
        deadline = time.monotonic() + WAIT_S
        while True:
            shown = json.loads(
                await asyncio.to_thread(otcnode, "status", "--json", "--url", self.cluster.member(name).url)
            )
            answer = dict(next(iter(shown.values())))
            if condition(answer):
                return answer
            assert time.monotonic() < deadline, answer
            await asyncio.sleep(0.2)

    def watch(self) -> str:
        """`otcnode status --watch` for a moment, left by Ctrl-C; where no terminal is, the last table is printed."""
        command = [sys.executable, "-m", "otcnode", *self.guide.next("status", "--watch")]
        # A shell's background jobs, such as this test perhaps, ignore Ctrl-C and pass that on.
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        ) as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)
            process.send_signal(signal.SIGINT)
            shown, _ = process.communicate(timeout=30)
        assert process.returncode in (0, 130), shown
        return shown

    # ---- the steps

    async def look(self) -> None:
        shown = await asyncio.to_thread(self.watch)
        assert "node1" in shown and "node5" in shown
        said = await asyncio.to_thread(otcnode, *self.guide.next("explain"))
        assert "the chain goes on" in said.splitlines()[0], said

    async def join_from_the_genesis(self) -> None:
        self.end("node5", signal.SIGTERM)
        shutil.rmtree(self.home("node5") / "data")
        await self.run("node5")
        joined = await self.until("node5", lambda status: bool(status["synced"]))
        assert joined["mode"] == "following" and joined["blocks_first"] > INTERVAL, "by a snapshot"

    async def rebuild_a_validator(self) -> None:
        self.end("node2", signal.SIGKILL)
        shutil.rmtree(self.home("node2") / "data")
        await self.run("node2")
        rebuilt = await self.until("node2", lambda status: status["mode"] in ("silent", "active"))
        assert rebuilt["blocks_first"] > INTERVAL, "by a snapshot"
        await self.until("node2", lambda status: status["mode"] == "active")

    async def follow_the_advice(self) -> None:
        """One bit of a stopped validator's data; then what is printed, and the commands of the README."""
        self.end("node3", signal.SIGTERM)
        damaged = self.home("node3")
        flip_middle(max((damaged / "data" / "chain").glob("*.*"), key=lambda path: path.stat().st_size))
        code, line = await asyncio.to_thread(ended, run(damaged))
        assert code == 2 and "damaged" in line and line.endswith("run: otcnode db verify"), line
        said = await asyncio.to_thread(failing, *self.guide.next("db", "verify"))
        assert "otcnode db restore" in said, said
        self.end("node5", signal.SIGTERM)
        await asyncio.to_thread(otcnode, *self.guide.next("db", "snapshot"))
        await self.run("node5")
        await asyncio.to_thread(otcnode, *self.guide.next("db", "restore"))
        await self.run("node3")
        await self.until("node3", lambda status: status["mode"] == "active")


def failing(*arguments: str) -> str:
    """What a command prints that finds something wrong."""
    command = [sys.executable, "-m", "otcnode", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_drill_of_the_readme_and_the_chain_never_stops(tmp_path: Path) -> None:
    directory = tmp_path / "net"
    guide = Guide(directory)
    with localnet([*guide.next("localnet"), "--port", str(daemons.free_ports(10))]):
        assert [member.name for member in localnet_members(directory)] == NODES
    for name in NODES:
        # so that a few hundred blocks are far behind
        with (directory / name / "node.toml").open("a") as file:
            file.write(f"[snapshots]\ninterval_blocks = {INTERVAL}\nbehind_blocks = {BEHIND}\n")
    with localnet(["localnet", "--directory", str(directory)]), Cluster(directory) as cluster:
        asyncio.run(play(Drill(cluster, guide)))
    assert guide.is_over()


async def play(drill: Drill) -> None:
    async with load(drill.cluster) as final:
        await height_reaches(drill.cluster, "node1", 3 * BEHIND)
        for step in (drill.look, drill.join_from_the_genesis, drill.rebuild_a_validator, drill.follow_the_advice):
            began, before = time.monotonic(), len(final)
            await step()
            print(f"{step.__name__}: {time.monotonic() - began:.0f} s, {len(final) - before} deposits meanwhile")
    longest_s = max(later - earlier for earlier, later in pairwise(final))
    print(f"{len(final) - 1} deposits, the longest took {longest_s:.1f} s")
    assert longest_s < STANDSTILL_S_MAX
    await proven_alike(drill.cluster, NODES)

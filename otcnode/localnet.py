"""A cluster on this machine: its homes, its processes, and what a person does to them (start, kill, restart, stop)."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from otcnode import genesis as genesis_module
from otcnode.config import Home, load_configuration, split_address
from otcnode.errors import ConfigurationError
from otcnode.genesis import (
    CashAsset,
    ChainParameters,
    Clock,
    Genesis,
    GenesisAccount,
    GenesisNode,
    GenesisValidator,
)
from otcnode.home import create_home, create_key
from otcnode.node_key import NodeKey

K = TypeVar("K", GenesisValidator, GenesisNode)
_OURS = re.compile(r"node[1-9][0-9]*|(keys|wallet|evidence).*")
"""What a cluster keeps in its directory."""
READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Member:
    """One node of the cluster."""

    name: str
    home: Home
    id: bytes
    p2p_port: int
    rpc_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.rpc_port}"


@dataclass(frozen=True)
class Plan:
    """What a local cluster is made of. Ports: p2p of node i is base + 2i, its RPC the one above."""

    directory: Path
    validators: int
    base_port: int
    accounts: tuple[GenesisAccount, ...]
    cash: tuple[CashAsset, ...]
    clock_rate: int = 1
    parameters: ChainParameters = field(default_factory=ChainParameters)
    view_timeout_ms: int = 2_000
    full_nodes: int = 0
    """Nodes that follow and serve the API; they come after the validators."""


@dataclass(frozen=True)
class _Described:
    """A node, for the genesis."""

    plan: Plan
    index: int
    id: bytes

    def of(self, kind: type[K]) -> K:
        number = self.index + 1
        return kind(
            name=f"node{number}",
            id=self.id,
            organisation=f"Institution {number}",
            address=f"127.0.0.1:{self.plan.base_port + 2 * self.index}",
        )


def create(plan: Plan) -> Genesis:
    """Make the genesis, keys, voting records and homes of a new cluster. Raises ConfigurationError if the directory
    holds one already."""
    if any(plan.directory.glob("node*")):
        raise ConfigurationError(f"{plan.directory} holds a cluster: choose another directory or pass --reset")
    keys = [NodeKey.generate() for _ in range(plan.validators + plan.full_nodes)]
    now_ms = time.time_ns() // 1_000_000
    described = [_Described(plan, index, key.id) for index, key in enumerate(keys)]
    genesis = Genesis(
        network=f"localnet-{plan.validators}",
        clock=Clock(origin_ms=now_ms, rate=plan.clock_rate),
        time_ms=now_ms,
        parameters=plan.parameters,
        validators=tuple(entry.of(GenesisValidator) for entry in described[: plan.validators]),
        nodes=tuple(entry.of(GenesisNode) for entry in described[plan.validators :]),
        accounts=plan.accounts,
        cash=plan.cash,
    )
    for index, key in enumerate(keys):
        home = Home(plan.directory / f"node{index + 1}")
        create_key(home, key)
        create_home(
            home,
            name=f"node{index + 1}",
            genesis=genesis,
            p2p_listen=f"127.0.0.1:{plan.base_port + 2 * index}",
            rpc_listen=f"127.0.0.1:{plan.base_port + 2 * index + 1}",
            view_timeout_ms=plan.view_timeout_ms,
        )
    return genesis


def members(directory: Path) -> list[Member]:
    """The nodes of an existing cluster directory, in order of their names."""
    found = []
    for path in sorted(directory.glob("node*"), key=lambda path: (len(path.name), path.name)):
        home = Home(path)
        configuration = load_configuration(home)
        found.append(
            Member(
                configuration.name,
                home,
                NodeKey.load(home.key).id,
                split_address(configuration.p2p.listen)[1],
                split_address(configuration.rpc.listen)[1],
            )
        )
    return found


def remove(directory: Path) -> None:
    """Delete a cluster directory; refuses one that holds anything a cluster does not make."""
    strangers = [path.name for path in directory.glob("*") if not _OURS.fullmatch(path.name)]
    if strangers:
        raise ConfigurationError(f"{directory} holds {', '.join(sorted(strangers))}: not a cluster's, not deleted")
    shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def made_whole(directory: Path) -> Iterator[None]:
    """A new cluster is made in it: where that fails or is stopped, nothing that is new stays, for what is half made can
    neither be started nor be gone on with."""
    before = set(directory.glob("*"))
    try:
        yield
    except BaseException:
        for path in set(directory.glob("*")) - before:
            if _OURS.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True)
        raise


@contextmanager
def _signals_wait() -> Iterator[None]:
    """What ends this process by an exception can come between the birth of another one and the line that notes it, and
    would leave one that nobody knows of: it waits until that is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    former = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        handler = signal.getsignal(number)
        if callable(handler):
            former[number] = handler
            signal.signal(number, lambda received, _: held.append(received))
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        for received in held:
            signal.raise_signal(received)


class Cluster:
    """The running processes of a cluster directory. Use as a context manager: leaving it stops every process."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.members = members(directory)
        if not self.members:
            raise ConfigurationError(f"{directory} holds no cluster")
        self.genesis = genesis_module.load(self.members[0].home.genesis)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_all()

    @property
    def urls(self) -> list[str]:
        return [member.url for member in self.members]

    def member(self, name: str) -> Member:
        return next(member for member in self.members if member.name == name)

    def member_of(self, node_id: bytes) -> Member:
        return next(member for member in self.members if member.id == node_id)

    def start(self, name: str, profile: Path | None = None) -> None:
        """Start one node; its output goes to node.log in its home, and at its end a cProfile to `profile`."""
        member = self.member(name)
        profiler = [] if profile is None else ["-m", "cProfile", "-o", str(profile)]
        with member.home.log.open("ab") as log, _signals_wait():
            self._processes[name] = subprocess.Popen(
                [sys.executable, *profiler, "-m", "otcnode", "run", "--home", str(member.home.path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A Ctrl-C at the terminal reaches the whole group; the cluster stops its nodes itself, in order.
                start_new_session=True,
            )

    def start_all(self) -> None:
        for member in self.members:
            self.start(member.name)

    def wait_ready(self, names: Sequence[str] | None = None) -> None:
        """Until each node says it is ready. Raises ConfigurationError with a dead node's last words."""
        waiting = list(names or [member.name for member in self.members])
        deadline = time.monotonic() + READY_TIMEOUT_S
        while waiting:
            name = waiting[0]
            if self._processes[name].poll() is not None:
                raise ConfigurationError(
                    f"{name} ended with code {self._processes[name].returncode}: {self.tail(name)}"
                )
            if _answers(f"{self.member(name).url}/readyz"):
                waiting.pop(0)
            elif time.monotonic() > deadline:
                raise ConfigurationError(f"{name} is not ready after {READY_TIMEOUT_S:.0f} s: {self.tail(name)}")
            else:
                time.sleep(0.05)

    def wait_answering(self, name: str, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Until the node's process answers, ready or not. Raises ConfigurationError with a dead node's last words."""
        deadline = time.monotonic() + timeout_s
        while not _answers(f"{self.member(name).url}/healthz"):
            if not self.alive(name) or time.monotonic() > deadline:
                raise ConfigurationError(f"{name} does not answer: {self.tail(name)}")
            time.sleep(0.05)

    def tail(self, name: str) -> str:
        """The last line of a node's log."""
        try:
            lines = self.member(name).home.log.read_text(errors="replace").strip().splitlines()
        except OSError:
            return "(no log)"
        return lines[-1] if lines else "(its log is empty)"

    def kill(self, name: str) -> None:
        """SIGKILL: the process gets no chance to do anything more."""
        process = self._processes[name]
        process.kill()
        process.wait()

    def signal(self, name: str, number: int) -> None:
        os.kill(self._processes[name].pid, number)

    def process_id(self, name: str) -> int:
        return self._processes[name].pid

    def alive(self, name: str) -> bool:
        process = self._processes.get(name)
        return process is not None and process.poll() is None

    def stop(self, name: str) -> None:
        """SIGTERM, and SIGKILL if the node is still there after a while."""
        self._stop([self._processes[name]])

    def stop_all(self) -> None:
        self._stop(list(self._processes.values()))

    def _stop(self, processes: list[subprocess.Popen[bytes]]) -> None:
        running = [process for process in processes if process.poll() is None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for process in running:
            try:
                process.wait(timeout=max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False

"""Four validators, each on a host of its own, and what their operators do."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from otcnode import genesis as genesis_module
from otcnode import localnet
from tests.hosts.wire import NotPermitted, Wire
from tests.processes import cluster as daemons

P2P_PORT, RPC_PORT = 26_650, 26_651
WAIT_S = 60.0


class Hosts:
    def __init__(self, directory: Path, wire: Wire) -> None:
        self.wire = wire
        daemons.make(directory, 4)
        members = localnet.members(directory)
        genesis = genesis_module.load(members[0].home.genesis)
        validators = tuple(
            msgspec.structs.replace(validator, address=f"{wire.addresses[host]}:{P2P_PORT}")
            for host, validator in enumerate(genesis.validators, 1)
        )
        self.genesis = msgspec.structs.replace(genesis, validators=validators)
        for member in members:
            member.home.genesis.write_bytes(genesis_module.dump(self.genesis))
        self.homes = {host: member.home for host, member in enumerate(members, 1)}
        for host in self.homes:
            self.configure(host)
        self.cluster = localnet.Cluster(directory)
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._raws = iter(daemons.deposits(self.cluster, 1_000))
        self.final: list[bytes] = []

    def configure(self, host: int) -> None:
        """As an operator does whose host has just got its address."""
        self.homes[host].configuration.write_text(
            f"""
name = "node{host}"
p2p = {{ listen = "0.0.0.0:{P2P_PORT}", advertise = "{self.wire.addresses[host]}:{P2P_PORT}" }}
rpc = {{ listen = "127.0.0.1:{RPC_PORT}" }}
consensus = {{ view_timeout_ms = 2000 }}
"""
        )

    def start(self, host: int) -> None:
        enter = ["ip", "netns", "exec", self.wire.names[host]]
        with self.homes[host].log.open("ab") as log:
            self._processes[host] = subprocess.Popen(
                [*enter, sys.executable, "-m", "otcnode", "run", "--home", str(self.homes[host].path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def stop(self, host: int) -> None:
        process = self._processes.pop(host)
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def close(self) -> None:
        for host in list(self._processes):
            self.stop(host)

    # ---- asking a node on its own host

    def ask(self, host: int, method: str, **params: object) -> dict[str, Any]:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{RPC_PORT}", body, {"Content-Type": "application/json"})

        def call() -> bytes:
            with urllib.request.urlopen(request, timeout=30) as response:
                return bytes(response.read())

        answer = json.loads(self.wire.within(host, call))
        assert "result" in answer, answer
        return dict(answer["result"])

    def height(self, host: int) -> int:
        return int(self.ask(host, "node_status")["height"])

    def submit(self, host: int) -> str:
        """A transaction handed to that host's node; its id."""
        text = b64encode(next(self._raws)).decode()
        return str(self.ask(host, "tx_submit", transaction=text)["id"])

    def is_final(self, host: int, name: str, within_s: float) -> bool:
        return self.ask(host, "tx_wait", id=name, timeout_ms=int(within_s * 1_000))["state"] == "committed"

    def execute(self, host: int, everywhere: set[int] | None = None) -> None:
        """A transaction enters there and is final on all of these hosts."""
        name = self.submit(host)
        for other in everywhere or set(self.homes):
            assert self.is_final(other, name, WAIT_S), f"not final on host {other}: {self.ask(other, 'node_explain')}"

    def until(self, what: str, condition: Callable[[], bool], wait_s: float = WAIT_S) -> float:
        """Seconds that it took."""
        began = time.monotonic()
        while True:
            try:
                if condition():
                    return time.monotonic() - began
            except (urllib.error.URLError, OSError):
                pass
            assert time.monotonic() - began < wait_s, f"not within {wait_s:.0f} s: {what}"
            time.sleep(0.1)

    def connected(self, host: int) -> int:
        return int(self.ask(host, "node_status")["peers_connected"])

    def equal_roots(self) -> bool:
        """Every host has the same state root at the lowest of their heights."""
        height = min(self.height(host) for host in self.homes)
        roots = {self.ask(host, "header_get", height=height)["state_root"] for host in self.homes}
        return len(roots) == 1


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    try:
        with Wire(4) as wire:
            hosts = Hosts(tmp_path_factory.mktemp("hosts") / "net", wire)
            try:
                for host in hosts.homes:
                    hosts.start(host)
                for host in hosts.homes:
                    hosts.until("everybody meets everybody", lambda host=host: hosts.connected(host) == 3)  # type: ignore[misc]
                yield hosts
            finally:
                hosts.close()
    except NotPermitted as reason:
        pytest.skip(f"network namespaces are not to be had here: {reason}")

"""Hosts of their own on one machine: network namespaces, each with one interface, and the wire between them.

The interfaces are TUN devices whose other end is this process: it reads each IP packet, asks what the link between the
two hosts is like, and writes it to the other side later, or never. So delay, loss and cuts act below TCP, as on a real
line, and need no queueing discipline in the kernel (netem is a module that many kernels lack). What a link does is
drawn from a seed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import random
import shutil
import struct
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
CLONE_NEWNET = 0x40000000
PACKET_BYTES_MAX = 2_048
PREFIX = "otcwire"


class NotPermitted(Exception):
    """This system does not let a test make network namespaces; the text says what is missing."""


@dataclass(frozen=True)
class Link:
    """Both ways. `loss` is the share of packets that never arrive."""

    delay_ms: float = 0.0
    loss: float = 0.0
    cut: bool = False


def ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotPermitted(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def _remove_what_died() -> None:
    """Namespaces of test runs that were killed before they could clean up."""
    for path in Path("/run/netns").glob(f"{PREFIX}-*"):
        if not Path("/proc", path.name.split("-")[1]).exists():
            ip("netns", "delete", path.name)


class Wire:
    """`count` namespaces, numbered from 1, host i at 10.99.0.i. Use as a context manager: leaving it removes them."""

    def __init__(self, count: int, seed: int = 1) -> None:
        self.names = {host: f"{PREFIX}-{os.getpid()}-{host}" for host in range(1, count + 1)}
        self.addresses = {host: f"10.99.0.{host}" for host in self.names}
        self.carried = 0
        self.lost = 0
        self._chance = random.Random(seed)
        self._links = {(one, two): Link() for one in self.names for two in self.names if one != two}
        self._devices: dict[int, int] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wire", daemon=True)

    def __enter__(self) -> Wire:
        """Raises NotPermitted, with nothing left behind."""
        try:
            if shutil.which("ip") is None:
                raise NotPermitted("the command ip is missing (Debian: apt-get install iproute2)")
            _remove_what_died()
            for host, name in self.names.items():
                ip("netns", "add", name)
                self._devices[host] = self._device(f"{PREFIX}{host}")
                ip("link", "set", f"{PREFIX}{host}", "netns", name)
                ip("-n", name, "link", "set", "lo", "up")
                ip("-n", name, "address", "add", f"{self.addresses[host]}/24", "dev", f"{PREFIX}{host}")
                ip("-n", name, "link", "set", f"{PREFIX}{host}", "up")
            self._thread.start()
            for host, device in self._devices.items():
                self._loop.call_soon_threadsafe(self._loop.add_reader, device, self._carry, host, device)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()
        for device in self._devices.values():
            os.close(device)
        for name in self.names.values():
            with contextlib.suppress(NotPermitted):
                ip("netns", "delete", name)

    # ---- what the lines are like

    def every(self, **change: object) -> None:
        self._change(list(self._links), change)

    def between(self, some: set[int], others: set[int], **change: object) -> None:
        """The links with one end among `some` and the other among `others`."""
        pairs = [(one, two) for one, two in self._links if (one in some and two in others)]
        self._change([*pairs, *((two, one) for one, two in pairs)], change)

    def heal(self) -> None:
        self.every(cut=False)

    def move(self, host: int, address: str) -> None:
        """The host gets another address and loses the one it had, at once."""
        name, device = self.names[host], f"{PREFIX}{host}"
        ip("-n", name, "address", "add", f"{address}/24", "dev", device)
        ip("-n", name, "address", "delete", f"{self.addresses[host]}/24", "dev", device)
        # Where the old one was the primary address, its subnet's route and other addresses may have gone with it.
        with contextlib.suppress(NotPermitted):
            ip("-n", name, "address", "add", f"{address}/24", "dev", device)
        self.addresses[host] = address

    def within(self, host: int, action: Callable[[], T]) -> T:
        """Do something as if on that host: in a thread that has entered its namespace and ends there."""
        outcome: Future[T] = Future()

        def run() -> None:
            try:
                with Path(f"/run/netns/{self.names[host]}").open() as namespace:
                    if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                        raise NotPermitted(f"setns: {os.strerror(ctypes.get_errno())}")
                outcome.set_result(action())
            except BaseException as error:
                outcome.set_exception(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return outcome.result()

    # ---- carrying

    @staticmethod
    def _device(name: str) -> int:
        try:
            device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
        except OSError as error:
            raise NotPermitted(f"a TUN device cannot be made: {error}") from None
        return device

    def _change(self, pairs: list[tuple[int, int]], change: dict[str, object]) -> None:
        for pair in pairs:
            self._links[pair] = replace(self._links[pair], **change)  # type: ignore[arg-type]

    def _carry(self, host: int, device: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                packet = os.read(device, PACKET_BYTES_MAX)
                if len(packet) >= 20 and packet[0] >> 4 == 4:
                    self._forward(host, packet)

    def _forward(self, host: int, packet: bytes) -> None:
        where = str(IPv4Address(packet[16:20]))
        target = next((other for other, address in self.addresses.items() if address == where), None)
        if target is None or target == host:
            return
        link = self._links[(host, target)]
        if link.cut or self._chance.random() < link.loss:
            self.lost += 1
            return
        self.carried += 1
        if link.delay_ms:
            self._loop.call_later(link.delay_ms / 1_000, self._deliver, self._devices[target], packet)
        else:
            self._deliver(self._devices[target], packet)

    def _deliver(self, device: int, packet: bytes) -> None:
        """A full queue loses the packet, as a real one does."""
        with contextlib.suppress(OSError):
            os.write(device, packet)

"""From host names to IP addresses, in threads of its own.

A name that a peer announced is looked up where that peer wishes: its name server may take half a minute and say
nothing, and a lookup that has begun cannot be ended. In the threads that the process shares, a few such names would
hold up everything else that is done there. Here a few are looked up at once, and a name for which nobody waits any more
is left out. The threads do not keep a process from ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterable
from typing import TypeAlias

from otcnode import limits

Lookup: TypeAlias = Callable[[str], Iterable[str]]
"""The IP addresses of a host name. Called in a thread; may block and raise OSError or UnicodeError."""

_Outcome: TypeAlias = tuple[str, ...] | OSError | UnicodeError


def look_up(host: str) -> Iterable[str]:
    """As the system does it, its files and name servers."""
    return [str(row[4][0]) for row in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]


class _Task:
    """One name being looked up. `waiting` counts who still wants to know."""

    __slots__ = ("begun", "outcome", "waiting")

    def __init__(self, outcome: asyncio.Future[_Outcome]) -> None:
        self.outcome = outcome
        self.waiting = 0
        self.begun = False


class Resolver:
    """Belongs to one loop. `lookup` is called in at most `at_once` threads."""

    def __init__(self, lookup: Lookup = look_up, at_once: int = limits.names_looked_up_at_once) -> None:
        self._lookup = lookup
        self._at_once = at_once
        self._tasks: dict[str, _Task] = {}
        """By name, in order of asking."""

    async def addresses(self, host: str) -> tuple[str, ...]:
        """The first few distinct ones; an IP address is its own. Raises OSError or UnicodeError; the caller bounds the
        time."""
        if (literal := _literal(host)) is not None:
            return (literal,)
        task = self._tasks.get(host)
        if task is None:
            if len(self._tasks) >= limits.names_looked_up_max:
                raise OSError("too many host names are being looked up")
            task = self._tasks[host] = _Task(asyncio.get_running_loop().create_future())
        task.waiting += 1
        self._begin_next()
        try:
            outcome = await asyncio.shield(task.outcome)
        finally:
            task.waiting -= 1
            if not task.waiting and not task.begun:
                del self._tasks[host]
        if isinstance(outcome, tuple):
            return outcome
        raise outcome

    def is_looking_up(self, host: str) -> bool:
        """Rather than waiting for others to be found."""
        return host in self._tasks and self._tasks[host].begun

    def _begin_next(self) -> None:
        running = sum(task.begun for task in self._tasks.values())
        for host, task in self._tasks.items():
            if running >= self._at_once:
                return
            if not task.begun:
                task.begun = True
                running += 1
                loop = asyncio.get_running_loop()
                thread = threading.Thread(target=self._work, args=(loop, host), name="otcnode-names", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:
                    # The system gives no more threads: this name is not found now, and is looked up again later.
                    loop.call_soon(self._done, host, OSError(str(error)))

    def _work(self, loop: asyncio.AbstractEventLoop, host: str) -> None:
        """In a thread. The loop may be closed when the name server has answered at last."""
        outcome: _Outcome
        try:
            found = dict.fromkeys(address for address in self._lookup(host) if _literal(address) is not None)
            outcome = tuple(found)[: limits.addresses_per_name_max] or OSError("no such host")
        except (OSError, UnicodeError) as error:
            outcome = error
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(self._done, host, outcome)

    def _done(self, host: str, outcome: _Outcome) -> None:
        self._tasks.pop(host).outcome.set_result(outcome)
        self._begin_next()


def _literal(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None

"""What is remembered of peers between connections: bans, back-off, addresses. Pure: time and chance are arguments."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from otcnode.types import NodeId


class _Offence(NamedTuple):
    ban_ms: int
    until_ms: int


class BanTable:
    """Timed bans that double with each offence and are forgiven after a clean `ban_ms_max` beyond the last one.

    At most `entries_max` are kept; the longest untouched go first. Only proven identities are banned: an IP address may
    be shared by honest nodes, and what one address can cost is bounded by rates and caps.
    """

    def __init__(self, ban_ms_first: int, ban_ms_max: int, entries_max: int) -> None:
        self._first = ban_ms_first
        self._max = ban_ms_max
        self._entries_max = entries_max
        self._offences: OrderedDict[NodeId, _Offence] = OrderedDict()

    def punish(self, node: NodeId, now_ms: int) -> int:
        """Ban `node`; returns until when."""
        last = self._offences.pop(node, None)
        forgiven = last is None or now_ms >= last.until_ms + self._max
        ban_ms = self._first if last is None or forgiven else min(last.ban_ms * 2, self._max)
        self._offences[node] = _Offence(ban_ms, now_ms + ban_ms)
        if len(self._offences) > self._entries_max:
            self._offences.popitem(last=False)
        return now_ms + ban_ms

    def until(self, node: NodeId, now_ms: int) -> int:
        """When the ban of `node` ends; 0 if it may come in."""
        offence = self._offences.get(node)
        return offence.until_ms if offence is not None and now_ms < offence.until_ms else 0


class Backoff:
    """Delays that double from `first_ms` to `max_ms`, each shortened by up to half: peers must not march in step."""

    def __init__(self, first_ms: int, max_ms: int) -> None:
        self._first = first_ms
        self._max = max_ms
        self._next = first_ms

    def delay_ms(self, chance: float) -> int:
        """`chance` in [0, 1)."""
        assert 0 <= chance < 1
        delay = self._next
        self._next = min(delay * 2, self._max)
        return delay - int(delay * chance / 2)

    def reset(self) -> None:
        self._next = self._first


class AddressBook:
    """Where nodes are: as configured or set by the operator, and as they announced themselves. Both are tried in turn,
    because either may be the one that is out of date."""

    def __init__(self) -> None:
        self._configured: dict[NodeId, str] = {}
        self._announced: dict[NodeId, str] = {}

    def configure(self, node: NodeId, address: str) -> None:
        self._configured[node] = address

    def announce(self, node: NodeId, address: str) -> None:
        self._announced[node] = address

    def of(self, node: NodeId) -> tuple[str, ...]:
        """Distinct addresses, the configured one first."""
        known = (self._configured.get(node), self._announced.get(node))
        return tuple(dict.fromkeys(address for address in known if address))

    def nodes(self) -> tuple[NodeId, ...]:
        return tuple(sorted({*self._configured, *self._announced}))


def parse_address(text: str) -> tuple[str, int] | None:
    """host:port, or [IPv6]:port; None if it is neither. Port 0 is no address of anybody."""
    host, separator, port = text.rpartition(":")
    if not separator or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
        return None
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        return None
    return (host, int(port)) if host else None

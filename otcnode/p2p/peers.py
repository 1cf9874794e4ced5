"""What is remembered of peers between connections: bans, back-off, addresses. Pure: time and chance are arguments."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

from otcnode import limits
from otcnode.types import NodeId

Subject = TypeVar("Subject", bound=Hashable)


class _Pause(NamedTuple):
    length_ms: int
    begun_ms: int
    until_ms: int


class Pauses(Generic[Subject]):
    """Each pause of one subject is twice as long as its last, up to `ms_max`, and a clean `ms_max` beyond the end of
    the last one is forgiven. At most `entries_max` are kept; the longest untouched go first."""

    def __init__(self, ms_first: int, ms_max: int, entries_max: int) -> None:
        self._first = ms_first
        self._max = ms_max
        self._entries_max = entries_max
        self._pauses: OrderedDict[Subject, _Pause] = OrderedDict()

    def begin(self, subject: Subject, now_ms: int) -> int:
        """Returns when the pause ends."""
        last = self._pauses.pop(subject, None)
        forgiven = last is None or now_ms >= last.until_ms + self._max
        length_ms = self._first if last is None or forgiven else min(last.length_ms * 2, self._max)
        self._pauses[subject] = _Pause(length_ms, now_ms, now_ms + length_ms)
        if len(self._pauses) > self._entries_max:
            self._pauses.popitem(last=False)
        return now_ms + length_ms

    def until(self, subject: Subject, now_ms: int) -> int:
        """When the pause of `subject` ends; 0 if there is none now."""
        pause = self._pauses.get(subject)
        return pause.until_ms if pause is not None and now_ms < pause.until_ms else 0

    def cut(self, subject: Subject, ms_max: int) -> None:
        """End the pause that lasts once it has lasted so long; the next is twice as long as this was to be."""
        pause = self._pauses.get(subject)
        if pause is not None:
            self._pauses[subject] = pause._replace(until_ms=min(pause.until_ms, pause.begun_ms + ms_max))

    def forget(self, subject: Subject) -> None:
        self._pauses.pop(subject, None)

    def forget_all(self) -> tuple[Subject, ...]:
        """Returns whose pauses were remembered."""
        subjects = tuple(self._pauses)
        self._pauses.clear()
        return subjects


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


class _Source(StrEnum):
    CONFIGURED = "configured"
    ANNOUNCED = "announced"


class AddressBook:
    """Where nodes are: as configured or set by the operator, and as they announced themselves. Both are tried in turn,
    because either may be the one that is out of date.

    Where somebody else is found, that source of the node's addresses rests for a time that doubles from
    `misled_ms_first` to `misled_ms_max`; so does what was announced where its host name takes too long to be found,
    until this node's own network is back, where that was down.
    Another announcement cuts the rest to `moved_ms_max` and does not end it: a node that announces what is not its own,
    each time another address, sends nobody anywhere more often than that. The operator's word ends that of the
    configured one.

    What was announced and where somebody answers who does not prove to be anybody rests likewise, up to `moved_ms_max`,
    until another address is announced: it may be of somebody who knows nothing of this network. What is configured is
    dialled as ever, and so is where nobody can be reached: it may be this node's own network that is down.

    Where the node is found, all rests of that address end. A rest that was ended is followed by one twice as long all
    the same, or who is found now and then could send others to a third as often as it likes.
    """

    def __init__(
        self,
        misled_ms_first: int = limits.misled_ms_first,
        misled_ms_max: int = limits.misled_ms_max,
        moved_ms_max: int = limits.moved_ms_max,
    ) -> None:
        self._known: dict[_Source, dict[NodeId, str]] = {source: {} for source in _Source}
        self._rests: Pauses[tuple[_Source, NodeId]] = Pauses(misled_ms_first, misled_ms_max, limits.bans_max)
        self._unmet: Pauses[NodeId] = Pauses(misled_ms_first, misled_ms_max, limits.bans_max)
        """Of what was announced; each is cut to `moved_ms_max`."""
        self._slow: Pauses[NodeId] = Pauses(misled_ms_first, misled_ms_max, limits.bans_max)
        """Likewise, for their names."""
        self._moved_ms_max = moved_ms_max

    def configure(self, node: NodeId, address: str) -> None:
        self._known[_Source.CONFIGURED][node] = address
        self._rests.forget((_Source.CONFIGURED, node))

    def announce(self, node: NodeId, address: str) -> bool:
        """Whether that is another address than it had announced before."""
        changed = self._known[_Source.ANNOUNCED].get(node) != address
        self._known[_Source.ANNOUNCED][node] = address
        if changed:
            self._rests.cut((_Source.ANNOUNCED, node), self._moved_ms_max)
            self._slow.cut(node, self._moved_ms_max)
            self._unmet.cut(node, 0)
        return changed

    def of(self, node: NodeId) -> tuple[str, ...]:
        """Distinct addresses, the configured one first."""
        return tuple(dict.fromkeys(address for _, address in self._sources(node)))

    def to_dial(self, node: NodeId, now_ms: int) -> tuple[str, ...]:
        """Likewise, without those that rest."""
        ready = (address for source, address in self._sources(node) if not self._rests_until(source, node, now_ms))
        return tuple(dict.fromkeys(ready))

    def rest_until(self, node: NodeId, now_ms: int) -> int:
        """When the first of its addresses may be dialled again; 0 if one may be now, or none is known."""
        return min((self._rests_until(source, node, now_ms) for source, _ in self._sources(node)), default=0)

    def _rests_until(self, source: _Source, node: NodeId, now_ms: int) -> int:
        until_ms = self._rests.until((source, node), now_ms)
        if source is _Source.CONFIGURED:
            return until_ms
        return max(until_ms, self._slow.until(node, now_ms), self._unmet.until(node, now_ms))

    def is_configured(self, node: NodeId, address: str) -> bool:
        """What is not was announced, though it may have been replaced by now."""
        return self._known[_Source.CONFIGURED].get(node) == address

    def slow_name(self, node: NodeId, address: str, now_ms: int) -> None:
        """The name in it was not found in time. A configured one has threads of its own, and is looked up as ever."""
        if not self.is_configured(node, address):
            self._slow.begin(node, now_ms)

    def look_up_again(self) -> tuple[NodeId, ...]:
        """Let no name rest, for this node could reach nobody until now; returns whose."""
        return self._slow.forget_all()

    def unmet(self, node: NodeId, address: str, now_ms: int) -> None:
        """Somebody answered there who has not proven to be anybody."""
        if not self.is_configured(node, address) and self._known[_Source.ANNOUNCED].get(node) == address:
            self._unmet.begin(node, now_ms)
            self._unmet.cut(node, self._moved_ms_max)

    def met(self, node: NodeId, address: str) -> None:
        """The node is there."""
        if self.is_configured(node, address):
            self._rests.cut((_Source.CONFIGURED, node), 0)
        if self._known[_Source.ANNOUNCED].get(node) == address:
            self._rests.cut((_Source.ANNOUNCED, node), 0)
            self._slow.cut(node, 0)
            self._unmet.cut(node, 0)

    def misled(self, node: NodeId, address: str, now_ms: int) -> None:
        """Somebody else was found there."""
        configured = self.is_configured(node, address)
        if configured:
            self._rests.begin((_Source.CONFIGURED, node), now_ms)
        if not configured or self._known[_Source.ANNOUNCED].get(node) == address:
            self._rests.begin((_Source.ANNOUNCED, node), now_ms)

    def nodes(self) -> tuple[NodeId, ...]:
        return tuple(sorted(set().union(*self._known.values())))

    def _sources(self, node: NodeId) -> list[tuple[_Source, str]]:
        return [(source, known[node]) for source, known in self._known.items() if node in known]


def parse_address(text: str) -> tuple[str, int] | None:
    """host:port, or [IPv6]:port; None if it is neither. Port 0 is no address of anybody, and one with an IPv6 scope
    (RFC 4007) one on a single host only."""
    host, separator, port = text.rpartition(":")
    if not separator or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
        return None
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        return None
    return (host, int(port)) if host and "%" not in host else None

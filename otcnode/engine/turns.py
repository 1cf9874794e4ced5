"""Queues of many sources, served in turn: as many signatures of each as the largest transaction has (after M. Shreedhar
and G. Varghese, Efficient fair queuing using deficit round-robin, 1995). Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from otcnode import limits
from otcnode.types import FullHash


class Source(NamedTuple):
    """`way`: those that come one way have one turn together; `who`: within it each has turns of its own."""

    way: bytes
    who: bytes


_Queue = OrderedDict[FullHash, int]


class Turns:
    """Names with the signatures that each costs; first in first out within a source. Whoever adds to an empty queue
    waits for its turn behind all others."""

    def __init__(self) -> None:
        self._ways: OrderedDict[bytes, OrderedDict[bytes, _Queue]] = OrderedDict()

    def add(self, source: Source, name: FullHash, signatures: int) -> None:
        queues = self._ways.get(source.way)
        if queues is None:
            queues = self._ways[source.way] = OrderedDict()
        queue = queues.get(source.who)
        if queue is None:
            queue = queues[source.who] = OrderedDict()
        queue[name] = signatures

    def remove(self, source: Source, name: FullHash) -> None:
        del self._ways[source.way][source.who][name]
        self._forget_if_empty(source)

    def take(self, signatures_max: int) -> list[tuple[FullHash, int]]:
        """The next turn, which is over once so many signatures or a turn's are reached; one name at least."""
        way, queues = next(iter(self._ways.items()))
        who, queue = next(iter(queues.items()))
        room = min(signatures_max, limits.signatures_per_transaction_max)
        taken: list[tuple[FullHash, int]] = []
        while queue and room > 0:
            taken.append(queue.popitem(last=False))
            room -= taken[-1][1]
        queues.move_to_end(who)
        self._ways.move_to_end(way)
        self._forget_if_empty(Source(way, who))
        return taken

    def _forget_if_empty(self, source: Source) -> None:
        queues = self._ways[source.way]
        if not queues[source.who]:
            del queues[source.who]
        if not queues:
            del self._ways[source.way]

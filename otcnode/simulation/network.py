"""Connections between nodes: what is sent arrives late, twice, out of order or not at all, as the plan says.

A connection carries bytes in order until it breaks. Consensus and sync messages may be lost on a living one (queues
overflow); gossip is not, but waits for a cut link, as bytes wait for TCP. Consensus messages come twice too, as where a
third node passes them on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from otcnode.p2p.framing import Channel, Message
from otcnode.simulation import wire
from otcnode.simulation.chance import Chance, Stream
from otcnode.simulation.plan import Cut, Delay, Duplication, Loss, Partition, Plan
from otcnode.simulation.scheduler import Scheduler

IDLE_MS = 4_000
"""A connection over a link that is cut for longer is given up."""
RECONNECT_MS = 250
BAN_MS_FIRST = 1_000
BAN_MS_MAX = 64_000

NetworkFault = Partition | Cut | Loss | Duplication | Delay
Note = Callable[[int | None, str], None]


class Endpoint(Protocol):
    """A node, as its connections see it."""

    @property
    def alive(self) -> bool: ...
    def admits(self, peer: int) -> bool: ...
    def connected(self, peer: int) -> None: ...
    def disconnected(self, peer: int) -> None: ...
    def arrived(self, peer: int, channel: Channel, payload: bytes) -> None: ...


@dataclass
class Sent:
    """What was handed to living connections, lost or not."""

    messages: int = 0
    bytes: int = 0


class _Link:
    """One direction of a connection, at its receiver."""

    __slots__ = ("busy_until_ms", "delays", "generation", "held", "open")

    def __init__(self, delays: Stream) -> None:
        self.delays = delays
        self.open = False
        self.generation = 0
        self.busy_until_ms = 0
        self.held: list[Message] = []


class Network:
    """All links. `injected` counts the faults that hit a message, by kind."""

    def __init__(self, plan: Plan, scheduler: Scheduler, chance: Chance, note: Note) -> None:
        self._delay_ms = plan.delay_ms
        self._scheduler = scheduler
        self._chance = chance
        self._note = note
        self._endpoints: list[Endpoint] = []
        self._links: dict[tuple[int, int], _Link] = {}
        self._faults: dict[int, NetworkFault] = {}
        self._cut: set[tuple[int, int]] = set()
        self._bans: Counter[tuple[int, int]] = Counter()
        self._banned_until_ms: dict[tuple[int, int], int] = {}
        self._last: tuple[Channel, bytes, Message | None] = (Channel.CONSENSUS, b"", None)
        """What was sent last, and what arrives of it: to the next receiver it goes without being looked for."""
        self.injected: Counter[str] = Counter()
        self.sent = {channel: Sent() for channel in Channel}

    def attach(self, endpoints: list[Endpoint]) -> None:
        self._endpoints = endpoints
        count = len(endpoints)
        pairs = [(a, b) for a in range(count) for b in range(count) if a != b]
        self._links = {ends: _Link(self._chance.stream("delay", *ends)) for ends in pairs}

    # ---- faults

    def begin(self, fault: NetworkFault) -> None:
        self._faults[fault.id] = fault
        self._find_cuts()

    def end(self, fault_id: int) -> None:
        if self._faults.pop(fault_id, None) is not None:
            self._find_cuts()

    def heal(self) -> None:
        lasting = [fault for fault in self._faults.values() if isinstance(fault, Cut) and fault.outlasts]
        self._faults = {fault.id: fault for fault in lasting}
        self._find_cuts()

    def _find_cuts(self) -> None:
        before, self._cut = self._cut, set()
        for fault in self._faults.values():
            match fault:
                case Cut(sender=sender, receivers=receivers):
                    self._cut |= {(sender, receiver) for receiver in receivers if receiver != sender}
                case Partition(group=group):
                    self._cut |= {(a, b) for a, b in self._links if (a in group) != (b in group)}
                case _:
                    pass
        for ends in sorted(self._cut - before):
            self._scheduler.after(IDLE_MS, partial(self._give_up, ends))
        for ends in sorted(before - self._cut):
            self._release(ends)

    def _give_up(self, ends: tuple[int, int]) -> None:
        if ends in self._cut:
            self.close(*ends)

    def _release(self, ends: tuple[int, int]) -> None:
        link = self._links[ends]
        held, link.held = link.held, []
        for message in held:
            self._carry(ends, link, message, self._scheduler.now_ms)

    # ---- connections

    def try_connect(self, first: int, second: int) -> None:
        """Connect as soon as both live, no link between them is cut, and neither bans the other or turns it away."""
        ends = (min(first, second), max(first, second))
        if self._links[ends].open or not (self._endpoints[first].alive and self._endpoints[second].alive):
            return
        now_ms = self._scheduler.now_ms
        blocked = ends in self._cut or ends[::-1] in self._cut or self._banned_until_ms.get(ends, 0) > now_ms
        one, other = self._endpoints[first], self._endpoints[second]
        if blocked or not (one.admits(second) and other.admits(first)):
            self._scheduler.after(RECONNECT_MS, lambda: self.try_connect(first, second))
            return
        for pair in (ends, ends[::-1]):
            link = self._links[pair]
            link.open = True
            link.generation += 1
            link.busy_until_ms = now_ms
            link.held.clear()
        self._note(None, f"n{ends[0]} and n{ends[1]} are connected")
        self._endpoints[first].connected(second)
        if self._links[ends].open:
            self._endpoints[second].connected(first)

    def close(self, first: int, second: int) -> None:
        """Both ends learn of it; they try again."""
        links = (self._links[(first, second)], self._links[(second, first)])
        if not links[0].open:
            return
        for link in links:
            link.open = False
            link.generation += 1
        self._note(None, f"n{first} and n{second} are disconnected")
        for here, there in ((first, second), (second, first)):
            if self._endpoints[here].alive:
                self._endpoints[here].disconnected(there)
        self._scheduler.after(RECONNECT_MS, lambda: self.try_connect(first, second))

    def ban(self, first: int, second: int) -> None:
        """Close, and stay closed for a while, longer each time."""
        ends = (min(first, second), max(first, second))
        self._bans[ends] += 1
        ban_ms = min(BAN_MS_FIRST << min(self._bans[ends] - 1, 16), BAN_MS_MAX)
        self._banned_until_ms[ends] = self._scheduler.now_ms + ban_ms
        self.close(first, second)

    def died(self, node: int) -> None:
        """A process is gone: what it sent shortly before still arrives, then its peers learn of it."""
        for peer in range(len(self._endpoints)):
            if peer == node or not self._links[(node, peer)].open:
                continue
            self._links[(peer, node)].generation += 1
            delay_ms = self._delay(self._links[(node, peer)])
            generation = self._links[(node, peer)].generation
            self._scheduler.after(delay_ms, partial(self._hangup, node, peer, generation))

    def _hangup(self, node: int, peer: int, generation: int) -> None:
        if self._links[(node, peer)].generation == generation:
            self.close(peer, node)

    # ---- messages

    def send(self, sender: int, receiver: int, channel: Channel, payload: bytes, depart_ms: int) -> None:
        ends = (sender, receiver)
        link = self._links[ends]
        if not link.open:
            return
        sent = self.sent[channel]
        sent.messages += 1
        sent.bytes += len(payload)
        last_channel, last_payload, message = self._last
        if message is None or last_payload is not payload or last_channel is not channel:
            message = wire.carried(channel, payload)
            self._last = (channel, payload, message)
        if self._cut and ends in self._cut:
            self.injected["cut"] += 1
            if channel is Channel.TRANSACTIONS:
                link.held.append(message)
            return
        now_ms = self._scheduler.now_ms
        if depart_ms < now_ms:
            depart_ms = now_ms
        if self._faults and channel is not Channel.TRANSACTIONS:
            for fault in self._faults.values():
                match fault:
                    case Loss():
                        if self._loses(fault, sender, receiver, channel, payload):
                            self.injected["loss"] += 1
                            return
                    case Duplication(id=name, permille=permille, late_ms=extra_ms) if channel is Channel.CONSENSUS:
                        if self._chance.happens(permille, "duplication", name, sender, receiver):
                            self.injected["duplication"] += 1
                            again_ms = depart_ms + self._chance.between(0, extra_ms, "again", name, sender, receiver)
                            self._deliver(ends, link, message, again_ms + self._delay(link))
                    case Delay(id=name, extra_ms=extra_ms):
                        self.injected["delay"] += 1
                        late_ms = self._chance.between(0, extra_ms, "late", name, *ends)
                        self._deliver(ends, link, message, depart_ms + late_ms)
                        return
                    case _:
                        pass
        self._carry(ends, link, message, depart_ms)

    def _loses(self, fault: Loss, sender: int, receiver: int, channel: Channel, payload: bytes) -> bool:
        if fault.receivers and receiver not in fault.receivers:
            return False
        if fault.kinds and _kind(channel, payload) not in fault.kinds:
            return False
        return self._chance.happens(fault.permille, "loss", fault.id, sender, receiver)

    def _carry(self, ends: tuple[int, int], link: _Link, message: Message, depart_ms: int) -> None:
        """In order of sending."""
        arrival_ms = depart_ms + self._delay(link)
        if arrival_ms < link.busy_until_ms:
            arrival_ms = link.busy_until_ms
        link.busy_until_ms = arrival_ms
        self._deliver(ends, link, message, arrival_ms)

    def _delay(self, link: _Link) -> int:
        return link.delays.between(*self._delay_ms)

    def _deliver(self, ends: tuple[int, int], link: _Link, message: Message, arrival_ms: int) -> None:
        self._scheduler.at(arrival_ms, partial(self._arrive, ends, link, link.generation, message))

    def _arrive(self, ends: tuple[int, int], link: _Link, generation: int, message: Message) -> None:
        if link.generation == generation:
            self._endpoints[ends[1]].arrived(ends[0], message.channel, message.payload)


def _kind(channel: Channel, payload: bytes) -> str:
    """What a canonical consensus message says it is: the first entry, a short text, of a short array. Others are of
    the kind of their channel."""
    if channel is not Channel.CONSENSUS:
        return channel.name.lower()
    return payload[2 : 2 + (payload[1] & 0x1F)].decode()

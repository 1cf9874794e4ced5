"""Where a node says it can be reached: signed by it, so that anybody may carry it on. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, NamedTuple, TypeAlias

from msgspec import Meta

from otcnode import limits
from otcnode.codec import Record
from otcnode.crypto import SigningKey, preimage, verify
from otcnode.p2p.close import CloseCode, PeerError
from otcnode.p2p.peers import Pauses, parse_address
from otcnode.types import ChainId, Ed25519Signature, Natural, NodeId

ANNOUNCEMENT_DOMAIN = "otcnode/node-announcement/1"
ANNOUNCEMENTS_PER_FRAME_MAX = 32


class NodeAnnouncement(Record, frozen=True):
    """`address` is host:port. Of two announcements of one node the one with the higher `sequence` holds; nodes use
    the time of their start in milliseconds, so that a restart outranks what was said before."""

    node: NodeId
    address: Annotated[str, Meta(min_length=3, max_length=255)]
    sequence: Natural
    signature: Ed25519Signature


Announcements: TypeAlias = Annotated[
    tuple[NodeAnnouncement, ...], Meta(min_length=1, max_length=ANNOUNCEMENTS_PER_FRAME_MAX)
]


def announcement_preimage(chain: bytes, node: bytes, address: str, sequence: int) -> bytes:
    return preimage(ANNOUNCEMENT_DOMAIN, chain, node, address, sequence)


def announce(signing: SigningKey, chain: ChainId, address: str, sequence: int) -> NodeAnnouncement:
    signature = signing.sign(announcement_preimage(chain, signing.public, address, sequence))
    return NodeAnnouncement(signing.public, address, sequence, signature)


class Due(NamedTuple):
    """What has waited long enough: the true ones, each with who brought it, and whoever brought a false one."""

    taken: tuple[tuple[NodeAnnouncement, NodeId], ...]
    liars: tuple[NodeId, ...]


class AnnouncementTable:
    """The newest announcement of each admitted node; as many entries as there are admitted nodes.

    Every node passes news on, so one that announces itself without end would make all others work, and make honest
    nodes flood each other: news of one node is taken in intervals that double from `announcement_interval_ms_min` to
    `announcement_interval_ms_max`. What comes too soon waits until `due` gives it out, for nobody would send it again:
    the newest of each node and bearer, and its signature is looked at only then. Were the newest of all bearers kept
    without a look, a false one could take the place of the true one; were each looked at when it comes, a bearer could
    make this node verify as many as it sends.
    """

    def __init__(self, chain: ChainId, admitted: Callable[[NodeId], bool]) -> None:
        self._chain = chain
        self._admitted = admitted
        self._newest: dict[NodeId, NodeAnnouncement] = {}
        self._intervals: Pauses[NodeId] = Pauses(
            limits.announcement_interval_ms_min, limits.announcement_interval_ms_max, limits.bans_max
        )
        self._waiting: dict[NodeId, dict[NodeId, NodeAnnouncement]] = {}

    def accept(self, announcement: NodeAnnouncement, bearer: NodeId, now_ms: int) -> bool:
        """Whether it is news, to be acted on and passed on. One of a node that is not admitted here (yet) is ignored.

        Raises PeerError if the signature or the address is wrong: no honest node passes such a thing on.
        """
        node = announcement.node
        if not self._admitted(node) or not self._is_newer(announcement):
            return False
        if self._intervals.until(node, now_ms):
            brought = self._waiting.setdefault(node, {})
            if bearer not in brought or brought[bearer].sequence < announcement.sequence:
                brought[bearer] = announcement
            return False
        if not self._is_true(announcement):
            raise PeerError(CloseCode.MALFORMED, f"an announcement of node {node.hex()[:16]}… is not valid")
        self._take(announcement, now_ms)
        return True

    def due(self, now_ms: int) -> Due:
        """What has waited long enough, to be acted on and passed on; of each node the newest that is true."""
        taken: list[tuple[NodeAnnouncement, NodeId]] = []
        liars: list[NodeId] = []
        for node in sorted(node for node in self._waiting if not self._intervals.until(node, now_ms)):
            brought = self._waiting.pop(node).items()
            for bearer, announcement in sorted(brought, key=lambda row: (-row[1].sequence, row[0])):
                if not self._admitted(node) or not self._is_newer(announcement):
                    break
                if not self._is_true(announcement):
                    liars.append(bearer)
                    continue
                self._take(announcement, now_ms)
                taken.append((announcement, bearer))
        return Due(tuple(taken), tuple(liars))

    def publish(self, announcement: NodeAnnouncement) -> None:
        """This node's own."""
        self._newest[announcement.node] = announcement

    def _is_newer(self, announcement: NodeAnnouncement) -> bool:
        known = self._newest.get(announcement.node)
        return known is None or known.sequence < announcement.sequence

    def _is_true(self, announcement: NodeAnnouncement) -> bool:
        node, address = announcement.node, announcement.address
        signed = announcement_preimage(self._chain, node, address, announcement.sequence)
        return parse_address(address) is not None and verify(node, signed, announcement.signature)

    def _take(self, announcement: NodeAnnouncement, now_ms: int) -> None:
        self._newest[announcement.node] = announcement
        self._intervals.begin(announcement.node, now_ms)

    def all(self) -> tuple[NodeAnnouncement, ...]:
        """Sorted by node, those no longer admitted left out."""
        return tuple(self._newest[node] for node in sorted(self._newest) if self._admitted(node))


def in_frames(announcements: Iterable[NodeAnnouncement]) -> list[tuple[NodeAnnouncement, ...]]:
    """Cut into what one frame carries."""
    rows = tuple(announcements)
    return [
        rows[start : start + ANNOUNCEMENTS_PER_FRAME_MAX] for start in range(0, len(rows), ANNOUNCEMENTS_PER_FRAME_MAX)
    ]

"""Where a node says it can be reached: signed by it, so that anybody may carry it on. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, TypeAlias

from msgspec import Meta

from otcnode import limits
from otcnode.codec import Record
from otcnode.crypto import SigningKey, preimage, verify
from otcnode.p2p.close import CloseCode, PeerError
from otcnode.p2p.peers import parse_address
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


class AnnouncementTable:
    """The newest announcement of each admitted node; as many entries as there are admitted nodes.

    Every node passes news on, so one that announces itself without end would make honest nodes flood each other:
    news of one node is taken at most once per `announcement_interval_ms_min`. What comes too soon waits, the newest of
    each node, until `due` gives it out: nobody would send it again.
    """

    def __init__(self, chain: ChainId, admitted: Callable[[NodeId], bool]) -> None:
        self._chain = chain
        self._admitted = admitted
        self._newest: dict[NodeId, NodeAnnouncement] = {}
        self._taken_ms: dict[NodeId, int] = {}
        self._waiting: dict[NodeId, NodeAnnouncement] = {}

    def accept(self, announcement: NodeAnnouncement, now_ms: int) -> bool:
        """Whether it is news, to be acted on and passed on. One of a node that is not admitted here (yet) is ignored.

        Raises PeerError if the signature or the address is wrong: no honest node passes such a thing on.
        """
        node = announcement.node
        known = self._waiting.get(node) or self._newest.get(node)
        if not self._admitted(node) or (known is not None and known.sequence >= announcement.sequence):
            return False
        signed = announcement_preimage(self._chain, node, announcement.address, announcement.sequence)
        if parse_address(announcement.address) is None or not verify(node, signed, announcement.signature):
            raise PeerError(CloseCode.MALFORMED, f"an announcement of node {node.hex()[:16]}… is not valid")
        if known is not None and not self._may_be_taken(node, now_ms):
            self._waiting[node] = announcement
            return False
        self._take(announcement, now_ms)
        return True

    def due(self, now_ms: int) -> tuple[NodeAnnouncement, ...]:
        """What has waited long enough, to be acted on and passed on."""
        ready = [node for node in sorted(self._waiting) if self._may_be_taken(node, now_ms)]
        taken = tuple(self._waiting.pop(node) for node in ready)
        for announcement in taken:
            self._take(announcement, now_ms)
        return tuple(announcement for announcement in taken if self._admitted(announcement.node))

    def _may_be_taken(self, node: NodeId, now_ms: int) -> bool:
        return now_ms - self._taken_ms[node] >= limits.announcement_interval_ms_min

    def _take(self, announcement: NodeAnnouncement, now_ms: int) -> None:
        self._waiting.pop(announcement.node, None)
        self._newest[announcement.node] = announcement
        self._taken_ms[announcement.node] = now_ms

    def all(self) -> tuple[NodeAnnouncement, ...]:
        """Sorted by node, those no longer admitted left out."""
        return tuple(self._newest[node] for node in sorted(self._newest) if self._admitted(node))


def in_frames(announcements: Iterable[NodeAnnouncement]) -> list[tuple[NodeAnnouncement, ...]]:
    """Cut into what one frame carries."""
    rows = tuple(announcements)
    return [
        rows[start : start + ANNOUNCEMENTS_PER_FRAME_MAX] for start in range(0, len(rows), ANNOUNCEMENTS_PER_FRAME_MAX)
    ]

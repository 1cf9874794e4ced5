"""What this node holds against validators: kept on disk, passed on to every peer, shown to whoever asks.

The replica checks a piece of evidence before it comes here. What is kept is bounded for each validator; an offence is
kept once, with the first evidence of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from otcnode import limits
from otcnode.codec import Record, decode, encode
from otcnode.consensus.evidence import Offence
from otcnode.consensus.messages import Accusation, Evidence
from otcnode.crypto import tagged_hash
from otcnode.engine.host import Host
from otcnode.errors import DecodeError, StorageDamage
from otcnode.p2p.framing import Channel
from otcnode.storage.store import Store
from otcnode.types import Milliseconds

OFFENCE_DOMAIN = "otcnode/offence/1"


class KeptEvidence(Record, frozen=True):
    """`seen_ms` is the ledger clock of this node when it came."""

    offence: Offence
    evidence: Evidence
    seen_ms: Milliseconds


def offence_name(offence: Offence) -> bytes:
    """32 bytes that name an offence, whatever evidence shows it."""
    return tagged_hash(OFFENCE_DOMAIN, encode(offence))


class EvidenceKeeper:
    """`peers` gives those who are connected now."""

    def __init__(self, store: Store, host: Host, peers: Callable[[], Iterable[bytes]]) -> None:
        self._store = store
        self._host = host
        self._peers = peers
        self._kept: dict[bytes, KeptEvidence] = {}
        self._bytes: dict[bytes, int] = {}
        self._count: dict[bytes, int] = {}
        for name, raw in store.evidence():
            try:
                self._note(name, decode(KeptEvidence, raw), len(raw))
            except DecodeError as error:
                raise StorageDamage(f"the evidence {name.hex()[:12]} is damaged: {error}") from None

    def keep(self, offence: Offence, evidence: Evidence, source: bytes | None) -> bool:
        """Keep and pass on what is new; whether it was."""
        name = offence_name(offence)
        if name in self._kept:
            return False
        kept = KeptEvidence(offence, evidence, self._host.now().ledger_ms)
        raw = encode(kept)
        if not self._has_room(offence.validator, len(raw)):
            return False
        self._store.keep_evidence(name, raw)
        self._note(name, kept, len(raw))
        payload = encode(Accusation(evidence))
        for peer in sorted(self._peers()):
            if peer != source:
                self._host.send(peer, Channel.CONSENSUS, payload)
        return True

    def greet(self, peer: bytes, epoch: int) -> None:
        """Tell a new peer the latest of this epoch: it may have been away."""
        room_bytes = limits.evidence_greeting_bytes_max
        for kept in reversed(self.all()):
            payload = encode(Accusation(kept.evidence))
            room_bytes -= len(payload)
            if room_bytes < 0:
                return
            if kept.offence.epoch == epoch:
                self._host.send(peer, Channel.CONSENSUS, payload)

    def all(self) -> list[KeptEvidence]:
        """Everything that is kept, the oldest first."""
        return sorted(self._kept.values(), key=lambda kept: (kept.seen_ms, offence_name(kept.offence)))

    def _has_room(self, validator: bytes, size_bytes: int) -> bool:
        return (
            size_bytes <= limits.evidence_bytes_max
            and self._count.get(validator, 0) < limits.offences_per_validator_max
            and self._bytes.get(validator, 0) + size_bytes <= limits.evidence_bytes_per_validator_max
        )

    def _note(self, name: bytes, kept: KeptEvidence, size_bytes: int) -> None:
        validator = kept.offence.validator
        self._kept[name] = kept
        self._count[validator] = self._count.get(validator, 0) + 1
        self._bytes[validator] = self._bytes.get(validator, 0) + size_bytes

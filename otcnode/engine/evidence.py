"""What this node holds against validators: kept on disk, passed on to every peer, put on the chain, shown to whoever
asks.

The replica checks a piece of evidence before it comes here. What is kept is bounded for each validator; an offence is
kept once, with the first evidence of it. Where there is no room, the oldest of earlier epochs gives way: nobody buys
freedom for good with many offences at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from otcnode import limits
from otcnode.blocks import Epoch, Verify
from otcnode.codec import Record, decode, encode
from otcnode.consensus.evidence import Offence, check_evidence
from otcnode.consensus.messages import Accusation, Evidence
from otcnode.crypto import sha256
from otcnode.engine.host import Host
from otcnode.errors import DecodeError, ProofError, StorageDamage
from otcnode.mempool import Mempool
from otcnode.p2p.framing import Channel
from otcnode.storage.store import Store
from otcnode.types import Milliseconds
from otcnode.vm.governance.misconduct import OFFENCES_PER_EPOCH_MAX, offence_name
from otcnode.vm.governance.operations import EVIDENCE_BYTES_MAX, EvidencePost
from otcnode.vm.governance.records import MISCONDUCT, MISCONDUCT_COUNTS
from otcnode.vm.keys import integer
from otcnode.vm.state import State

POST_AGAIN_MS = 60_000
"""After which evidence that is not on the chain is posted once more."""
POST_TURN_MS = 3_000
"""The validators take turns, so that not all of them post the same at once."""


class KeptEvidence(Record, frozen=True):
    """`seen_ms` is the ledger clock of this node when it came."""

    offence: Offence
    evidence: Evidence
    seen_ms: Milliseconds


def name_of(offence: Offence) -> bytes:
    return offence_name(offence.validator, offence.kind, offence.epoch, offence.view, offence.height)


def proves(operation: EvidencePost, chain: bytes, epochs: Iterable[Epoch], verify: Verify) -> bool:
    """Whether the evidence in the operation proves the very offence that it names."""
    epoch = next((epoch for epoch in epochs if epoch.number == operation.epoch), None)
    if epoch is None:
        return False
    try:
        evidence: Evidence = decode(Evidence, operation.evidence)
        offence = check_evidence(evidence, chain, epoch, verify)
    except (DecodeError, ProofError):
        return False
    named = (operation.validator, operation.kind, operation.epoch, operation.view, operation.height)
    return named == (offence.validator, offence.kind, offence.epoch, offence.view, offence.height)


def _waits(offence: Offence, epoch: Epoch, pool: Mempool) -> bool:
    """Whether a validator has it in the pool."""
    for validator in epoch.validators:
        for decoded in pool.of_author(validator):
            operation = decoded.transaction.body.operations[0]
            if isinstance(operation, EvidencePost) and operation.validator == offence.validator:
                return True
    return False


class EvidenceKeeper:
    """`peers` gives those who are connected now."""

    def __init__(self, store: Store, host: Host, peers: Callable[[], Iterable[bytes]]) -> None:
        self._store = store
        self._host = host
        self._peers = peers
        self._kept: dict[bytes, KeptEvidence] = {}
        self._bytes: dict[bytes, int] = {}
        self._count: dict[bytes, int] = {}
        self._bodies: set[bytes] = set()
        """Hashes of what is kept."""
        self._post_ms: dict[bytes, int | None] = {}
        """When to post what is not known to be on the chain, by name (real milliseconds; None: not decided yet)."""
        for name, raw in store.evidence():
            try:
                self._note(name, decode(KeptEvidence, raw), len(raw))
            except DecodeError as error:
                raise StorageDamage(f"the evidence {name.hex()[:12]} is damaged: {error}") from None

    def keep(self, offence: Offence, evidence: Evidence, source: bytes | None) -> bool:
        """Keep and pass on what is new; whether it was."""
        name = name_of(offence)
        if name in self._kept:
            return False
        kept = KeptEvidence(offence, evidence, self._host.now().ledger_ms)
        raw = encode(kept)
        if len(raw) > limits.evidence_bytes_max or not self._make_room(offence, len(raw)):
            return False
        self._store.keep_evidence(name, raw)
        self._note(name, kept, len(raw))
        payload = encode(Accusation(evidence))
        for peer in sorted(self._peers()):
            if peer != source:
                self._host.send(peer, Channel.CONSENSUS, payload)
        return True

    def holds(self, evidence: Evidence) -> bool:
        """These very messages; what they prove need not be checked again."""
        return sha256(encode(evidence)) in self._bodies

    def greet(self, peer: bytes, epoch: int) -> None:
        """Tell a new peer the latest: it may have been away. Of epochs that are over only what the chain does not tell
        it, which is what no transaction can hold, or whose finders left before they could post it."""
        state = State(self._store.state)
        room_bytes = limits.evidence_greeting_bytes_max
        for kept in reversed(self.all()):
            payload = encode(Accusation(kept.evidence))
            room_bytes -= len(payload)
            if room_bytes < 0:
                return
            if kept.offence.epoch == epoch or not self._is_enough(state, kept.offence):
                self._host.send(peer, Channel.CONSENSUS, payload)

    def due(self, own: bytes, epoch: Epoch, pool: Mempool) -> EvidencePost | None:
        """What this node should put on the chain now, if it votes: one at a time, each node in its turn, and nothing
        that another has already put into the pool."""
        if not self._post_ms or own not in epoch.validators:
            return None
        now_ms = self._host.now().monotonic_ms
        state = State(self._store.state)
        for name, post_ms in list(self._post_ms.items()):
            if post_ms is None:
                turn = (epoch.validators.index(own) - name[0]) % len(epoch.validators)
                post_ms = self._post_ms[name] = now_ms + turn * POST_TURN_MS
            if now_ms < post_ms:
                continue
            offence, raw = self._kept[name].offence, encode(self._kept[name].evidence)
            if len(raw) > EVIDENCE_BYTES_MAX or self._is_enough(state, offence):
                del self._post_ms[name]
                continue
            self._post_ms[name] = now_ms + POST_AGAIN_MS
            if not _waits(offence, epoch, pool):
                return EvidencePost(
                    own, offence.validator, offence.kind, offence.epoch, offence.view, offence.height, raw
                )
        return None

    def _is_enough(self, state: State, offence: Offence) -> bool:
        """On the chain, or enough of its kind are."""
        if state.get(MISCONDUCT, offence.validator + name_of(offence)) is not None:
            return True
        counted = state.get(MISCONDUCT_COUNTS, offence.validator + integer(offence.epoch))
        return counted is not None and counted.offences >= OFFENCES_PER_EPOCH_MAX

    def is_posted(self, offence: Offence) -> bool:
        """Whether the committed state knows of it."""
        return State(self._store.state).get(MISCONDUCT, offence.validator + name_of(offence)) is not None

    def get(self, name: bytes) -> KeptEvidence | None:
        """By the name of its offence."""
        return self._kept.get(name)

    def all(self) -> list[KeptEvidence]:
        """Everything that is kept, the oldest first."""
        return sorted(self._kept.values(), key=lambda kept: (kept.seen_ms, name_of(kept.offence)))

    def _make_room(self, offence: Offence, size_bytes: int) -> bool:
        """Whether there is room for so much; then what had to give way is dropped."""
        validator = offence.validator
        count, held_bytes = self._count.get(validator, 0), self._bytes.get(validator, 0)
        dropped: list[KeptEvidence] = []
        earlier = (k for k in self.all() if k.offence.validator == validator and k.offence.epoch < offence.epoch)
        while (
            count - len(dropped) >= limits.offences_per_validator_max
            or held_bytes + size_bytes > limits.evidence_bytes_per_validator_max
        ):
            oldest = next(earlier, None)
            if oldest is None:
                return False
            dropped.append(oldest)
            held_bytes -= len(encode(oldest))
        for kept in dropped:
            self._drop(kept)
        return True

    def _drop(self, kept: KeptEvidence) -> None:
        name, validator = name_of(kept.offence), kept.offence.validator
        self._store.drop_evidence(name)
        del self._kept[name]
        self._bodies.discard(sha256(encode(kept.evidence)))
        self._post_ms.pop(name, None)
        self._count[validator] -= 1
        self._bytes[validator] -= len(encode(kept))

    def _note(self, name: bytes, kept: KeptEvidence, size_bytes: int) -> None:
        validator = kept.offence.validator
        self._kept[name] = kept
        self._bodies.add(sha256(encode(kept.evidence)))
        self._post_ms[name] = None
        self._count[validator] = self._count.get(validator, 0) + 1
        self._bytes[validator] = self._bytes.get(validator, 0) + size_bytes

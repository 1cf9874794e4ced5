"""What this node holds against validators: kept on disk, passed on to every peer, put on the chain, shown to whoever
asks.

The replica checks a piece of evidence before it comes here. What is kept is bounded for each validator; an offence is
kept once, with the first evidence of it. Where there is no room, the oldest of earlier epochs gives way: nobody buys
freedom for good with many offences at once. What no transaction can hold has a small room of its own: nobody buys
freedom from the chain with large ones.

Evidence is judged by the epoch that it belongs to. Where the store was taken back to below that epoch it stays, for the
same blocks may come again; where they do not, and an epoch of that number begins with other validators or parameters,
it belongs to a chain that is no more, proves nothing to anybody on this one, and is dropped. Until its epoch has begun
here, nobody is told it and it is not posted: others may be further, on a chain whose epoch of that number is another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from msgspec.structs import replace

from otcnode import limits
from otcnode.blocks import Epoch, Verify, validators_hash
from otcnode.codec import Record, decode, encode
from otcnode.consensus.events import KnownOffence
from otcnode.consensus.evidence import Offence, check_evidence, claimed_offence, epoch_of, is_large
from otcnode.consensus.messages import Accusation, Evidence
from otcnode.engine.host import Host
from otcnode.errors import DecodeError, ProofError, StorageDamage
from otcnode.mempool import Mempool
from otcnode.p2p.framing import Channel
from otcnode.storage.records import ADVICE
from otcnode.storage.store import Store
from otcnode.types import Hash, Milliseconds
from otcnode.vm.governance.misconduct import OFFENCES_PER_EPOCH_MAX, offence_name
from otcnode.vm.governance.operations import EvidencePost
from otcnode.vm.governance.records import MISCONDUCT, MISCONDUCT_COUNTS
from otcnode.vm.keys import integer
from otcnode.vm.state import State
from otcnode.vm.writes import writes_to

OF_ANOTHER_CHAIN = (
    "evidence of misbehaviour is dropped: the chain was taken back, and the epoch that it belongs to has begun anew "
    "with others"
)
POST_AGAIN_MS = 60_000
"""After which evidence that is not on the chain is posted once more."""
POST_TURN_MS = 3_000
"""The validators take turns, so that not all of them post the same at once."""


class KeptEvidence(Record, frozen=True):
    """`seen_ms` is the ledger clock of this node when it came. `epoch_hash` names the epoch by which it was judged;
    None: an earlier version kept it, which did not write that down, so it is judged once more."""

    offence: Offence
    evidence: Evidence
    seen_ms: Milliseconds
    epoch_hash: Hash | None

    def belongs_to(self, epoch: Epoch) -> bool:
        """As far as it is written down."""
        return self.epoch_hash == validators_hash(epoch)


class _EarlierKept(Record, frozen=True):
    """As earlier versions wrote it."""

    offence: Offence
    evidence: Evidence
    seen_ms: Milliseconds


def name_of(offence: Offence) -> bytes:
    return offence_name(offence.validator, offence.kind, offence.epoch, offence.view, offence.height)


def decode_kept(raw: bytes) -> KeptEvidence:
    """Raises DecodeError."""
    try:
        return decode(KeptEvidence, raw)
    except DecodeError:
        earlier = decode(_EarlierKept, raw)
        return KeptEvidence(earlier.offence, earlier.evidence, earlier.seen_ms, None)


def read_kept(name: bytes, raw: bytes) -> KeptEvidence:
    """What is kept under this name. Raises StorageDamage if that is something else."""
    try:
        kept = decode_kept(raw)
    except DecodeError as error:
        raise damaged_evidence(name, f"is damaged ({error})") from None
    if name_of(kept.offence) != name:
        raise damaged_evidence(name, "is kept under the name of another offence")
    return kept


def check_kept(name: bytes, raw: bytes, chain: bytes, epochs: Mapping[int, Epoch], verify: Verify) -> None:
    """What is kept proves the offence that it is kept for. Raises StorageDamage if not. Where the store was taken back
    to below its epoch, be it that another one of that number has begun since, nobody here can tell; nor where an
    earlier version did not write down which one it was: a node judges that when it starts."""
    kept = read_kept(name, raw)
    epoch = epochs.get(epoch_of(kept.evidence))
    if epoch is None or not kept.belongs_to(epoch):
        return
    try:
        proven = check_evidence(kept.evidence, chain, epoch, verify)
    except ProofError as error:
        raise damaged_evidence(name, f"does not prove what it says: {error}") from None
    if proven != kept.offence:
        raise damaged_evidence(name, f"proves another offence: {proven.kind.value} at height {proven.height}")


def damaged_evidence(name: bytes, what: str) -> StorageDamage:
    return StorageDamage(f"the evidence {name.hex()[:12]}… {what}; {ADVICE}")


def _age(kept: KeptEvidence) -> tuple[int, bytes]:
    return kept.seen_ms, name_of(kept.offence)


def is_enough(state: State, validator: bytes, name: bytes, epoch: int) -> bool:
    """Whether the offence of that name is on the chain, or enough of the validator's in its epoch are: another post of
    it has no effect."""
    if state.get(MISCONDUCT, validator + name) is not None:
        return True
    counted = state.get(MISCONDUCT_COUNTS, validator + integer(epoch))
    return counted is not None and counted.offences >= OFFENCES_PER_EPOCH_MAX


def accused_in(writes: Mapping[bytes, bytes | None]) -> list[bytes]:
    """The validators of which a block's writes put an offence on the chain, ascending."""
    return sorted({validator_and_name[:32] for validator_and_name, _ in writes_to(MISCONDUCT, writes)})


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

    def __init__(self, store: Store, host: Host, peers: Callable[[], Iterable[bytes]], verify: Verify) -> None:
        self._store = store
        self._host = host
        self._peers = peers
        self._verify = verify
        self._kept: dict[bytes, KeptEvidence] = {}
        self._names: dict[tuple[bytes, bool], set[bytes]] = {}
        """Of what is kept of each validator, apart by whether it is large."""
        self._size_bytes: dict[bytes, int] = {}
        """Of each piece of evidence."""
        self._post_ms: dict[bytes, int | None] = {}
        """When to post what is not known to be on the chain, by name (real milliseconds; None: not decided yet)."""
        self._begun: set[int] = set()
        """The epochs of the committed chain, by number: what is kept of any other proves nothing here yet."""
        for name, raw in store.evidence():
            self._note(name, read_kept(name, raw))
        for epoch in store.epochs():
            self.epoch_began(epoch)

    def keep(self, offence: Offence, evidence: Evidence, source: bytes | None) -> bool:
        """Keep and pass on what is new; whether it was."""
        name = name_of(offence)
        kept = self._judged_now(offence, evidence)
        raw = encode(kept)
        giving_way = self._giving_way(offence, evidence)
        if name in self._kept or len(raw) > limits.evidence_bytes_max or giving_way is None:
            return False
        for dropped in giving_way:
            self._drop(dropped)
        self._store.keep_evidence(name, raw)
        self._note(name, kept)
        payload = encode(Accusation(evidence))
        for peer in sorted(self._peers()):
            if peer != source:
                self._host.send(peer, Channel.CONSENSUS, payload)
        return True

    def has_use_for(self, evidence: Evidence, epoch: Epoch) -> bool:
        """Whether it would be kept if it proves what it claims of a validator of the epoch. No other is worth checking,
        so that all that peers pass on of others costs no more checks than what is kept."""
        offence = claimed_offence(evidence, epoch)
        if name_of(offence) in self._kept:
            return False
        size_bytes = len(encode(self._judged_now(offence, evidence)))
        return size_bytes <= limits.evidence_bytes_max and self._giving_way(offence, evidence) is not None

    def epoch_began(self, epoch: Epoch) -> None:
        """It is part of the committed chain: what belongs to another one of its number is dropped. Of what an earlier
        version kept the signatures tell, once."""
        self._begun.add(epoch.number)
        for kept in [kept for kept in self._kept.values() if kept.offence.epoch == epoch.number]:
            if kept.epoch_hash is None and self._is_proven(kept, epoch):
                self._write_down(kept, epoch)
            elif not kept.belongs_to(epoch):
                self._drop(kept)
                self._host.note("warning", OF_ANOTHER_CHAIN, epoch=epoch.number, offence=name_of(kept.offence).hex())

    def _is_proven(self, kept: KeptEvidence, epoch: Epoch) -> bool:
        try:
            return check_evidence(kept.evidence, self._store.chain, epoch, self._verify) == kept.offence
        except ProofError:
            return False

    def _write_down(self, kept: KeptEvidence, epoch: Epoch) -> None:
        name, judged = name_of(kept.offence), replace(kept, epoch_hash=validators_hash(epoch))
        self._store.keep_evidence(name, encode(judged))
        self._kept[name] = judged

    def _judged_now(self, offence: Offence, evidence: Evidence) -> KeptEvidence:
        epoch = next((epoch for epoch in self._store.epochs() if epoch.number == offence.epoch), None)
        epoch_hash = None if epoch is None else validators_hash(epoch)
        return KeptEvidence(offence, evidence, self._host.now().ledger_ms, epoch_hash)

    def greet(self, peer: bytes, epoch: int) -> None:
        """Tell a new peer as much as there is room for: it may have been away. Of epochs that are over only what the
        chain does not tell it, which is what no transaction can hold, or whose finders left before they could post
        it."""
        state = State(self._store.state)
        room_bytes = limits.evidence_greeting_bytes_max
        room_for_one_bytes = limits.evidence_greeting_large_bytes_max
        for kept in self._in_turn():
            size_bytes = self._size_bytes[name_of(kept.offence)]
            if kept.offence.epoch not in self._begun:
                continue
            if kept.offence.epoch != epoch and self._is_enough(state, kept.offence):
                continue
            if size_bytes <= room_bytes:
                room_bytes -= size_bytes
            elif limits.evidence_greeting_bytes_max < size_bytes <= room_for_one_bytes:
                room_for_one_bytes = 0
            else:
                continue
            self._host.send(peer, Channel.CONSENSUS, encode(Accusation(kept.evidence)))

    def _in_turn(self) -> list[KeptEvidence]:
        """The latest of every validator, then the one before it of each, and so on: none hides what others did behind
        much of its own. What no transaction can hold comes after all else."""
        placed: list[tuple[bool, int, KeptEvidence]] = []
        for (_, large), names in self._names.items():
            latest = sorted(map(self._kept.__getitem__, names), key=_age, reverse=True)
            placed.extend((large, turn, kept) for turn, kept in enumerate(latest))
        placed.sort(key=lambda entry: (entry[0], entry[1], -entry[2].seen_ms, name_of(entry[2].offence)))
        return [kept for _, _, kept in placed]

    def due(self, own: bytes, epoch: Epoch, pool: Mempool) -> EvidencePost | None:
        """What this node should put on the chain now, if it votes: one at a time, each node in its turn, and nothing
        that another has already put into the pool."""
        if not self._post_ms or own not in epoch.validators:
            return None
        now_ms = self._host.now().monotonic_ms
        state = State(self._store.state)
        for name, post_ms in list(self._post_ms.items()):
            if self._kept[name].offence.epoch not in self._begun:
                continue
            if post_ms is None:
                turn = (epoch.validators.index(own) - name[0]) % len(epoch.validators)
                post_ms = self._post_ms[name] = now_ms + turn * POST_TURN_MS
            if now_ms < post_ms:
                continue
            offence, raw = self._kept[name].offence, encode(self._kept[name].evidence)
            if len(raw) > limits.evidence_in_transaction_bytes_max or self._is_enough(state, offence):
                del self._post_ms[name]
                continue
            self._post_ms[name] = now_ms + POST_AGAIN_MS
            if not _waits(offence, epoch, pool):
                return EvidencePost(
                    own, offence.validator, offence.kind, offence.epoch, offence.view, offence.height, raw
                )
        return None

    def _is_enough(self, state: State, offence: Offence) -> bool:
        return is_enough(state, offence.validator, name_of(offence), offence.epoch)

    def is_posted(self, offence: Offence) -> bool:
        """Whether the committed state knows of it."""
        return State(self._store.state).get(MISCONDUCT, offence.validator + name_of(offence)) is not None

    def get(self, name: bytes) -> KeptEvidence | None:
        """By the name of its offence."""
        return self._kept.get(name)

    def all(self) -> list[KeptEvidence]:
        """Everything that is kept, the oldest first."""
        return sorted(self._kept.values(), key=_age)

    def of_epoch(self, epoch: int) -> tuple[KnownOffence, ...]:
        """What a replica that starts in this epoch knows of it."""
        return tuple(
            KnownOffence(kept.offence, is_large(kept.evidence), kept.seen_ms)
            for kept in self.all()
            if kept.offence.epoch == epoch
        )

    def _giving_way(self, offence: Offence, evidence: Evidence) -> list[KeptEvidence] | None:
        """What has to give way for this offence; None: there is no room for it."""
        large = is_large(evidence)
        names = self._names.get((offence.validator, large), set())
        most = limits.large_offences_per_validator_max if large else limits.offences_per_validator_max
        surplus = max(0, len(names) + 1 - most)
        earlier = [kept for kept in map(self._kept.__getitem__, names) if kept.offence.epoch < offence.epoch]
        return sorted(earlier, key=_age)[:surplus] if len(earlier) >= surplus else None

    def _drop(self, kept: KeptEvidence) -> None:
        name = name_of(kept.offence)
        self._store.drop_evidence(name)
        del self._kept[name], self._size_bytes[name]
        self._post_ms.pop(name, None)
        self._names[kept.offence.validator, is_large(kept.evidence)].remove(name)

    def _note(self, name: bytes, kept: KeptEvidence) -> None:
        self._kept[name] = kept
        self._size_bytes[name] = len(encode(kept.evidence))
        self._post_ms[name] = None
        self._names.setdefault((kept.offence.validator, is_large(kept.evidence)), set()).add(name)

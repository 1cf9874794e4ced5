"""Coverage marks: situations worth having been in, seen from outside by effects, records and commits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from otcnode.blocks import Certificate, block_hash
from otcnode.consensus import effects
from otcnode.consensus.messages import BodyRequest, Entries, Message, Mode, NewView, Status, ViewChange
from otcnode.consensus.record import Accepted, Asked, Entered, Proved, RecordEntry, floor_of
from otcnode.simulation.censorship import RESCUED
from otcnode.simulation.damage import DAMAGE_MARKS
from otcnode.simulation.situations import SITUATIONS

TOO_MANY_SILENT = "too many silent when it healed for progress to be promised"
VIEW_CHANGES = ("VIEW-CHANGE", "VIEW-CHANGE with a proof", "VIEW-CHANGE with two prepared heights")
NEW_VIEWS = ("NEW-VIEW", "NEW-VIEW that proposes again", "NEW-VIEW that proposes two heights again")
EPOCHS = (
    "epoch of other validators",
    "epoch of other parameters",
    "the first primary removed",
    "epoch that ends after a view change",
    "a successor votes in a validator's place",
)
SIZES = {(4, 7, 4): "four validators became seven, and four again"}
"""Of three epochs in a row with other validators, to what is counted."""
SNAPSHOTS = {
    "snapshot made": "snapshot made",
    "taking a snapshot": "snapshot begun to be taken",
    "a snapshot is given up: nobody offers it any more, or another one promises to come sooner": (
        "snapshot given up for another one"
    ),
    "a snapshot is given up": "made snapshot given up for its disk",
    "a snapshot is given up: what was gathered of it is damaged": "rot found in a gathered snapshot",
    "a snapshot is not needed any more": "snapshot passed by the chain",
}
"""What a node notes, to what is counted."""
MARKS = (
    *VIEW_CHANGES,
    *NEW_VIEWS,
    "NEW-VIEW on another base than the last",
    "NEW-VIEW that had to fetch a block",
    "proofs of two views met",
    "proofs of two blocks met",
    "base barrier held a vote",
    "views skipped by joining",
    "rotation of the primary",
    "certificate learnt in a later view",
    "one block certified in two views",
    "three blocks in flight",
    "empty block",
    "full block",
    "block sync asked for",
    "entries served",
    "record restored with floor",
    "record restored with a proof",
    "record restored with a VIEW-CHANGE",
    "record restored with a proposal",
    "store below its record at start",
    "block found durable at start that nobody was told of",
    "voting record compacted",
    "validator fell silent",
    TOO_MANY_SILENT,
    "silent validator woke",
    "own vote seen after loss",
    "a liar is banned",
    "a node says that it is ready",
    *EPOCHS,
    *SIZES.values(),
    "a node admitted",
    "a node turned away",
    "a usurper refused",
    *SNAPSHOTS.values(),
    "a node went on from a snapshot",
    "snapshot resumed after a restart",
    "a false snapshot refused",
    RESCUED,
    "a pruned block asked for",
    *DAMAGE_MARKS,
    *SITUATIONS,
)
"""All that are looked for; those that no run has hit are listed as missing. Accusations are counted beside them."""


@dataclass
class _Seen:
    """What one node was seen to do."""

    view: int = 0
    committed: int = 0
    reproposed: set[bytes] = field(default_factory=set)
    silent: bool = False


class Marks:
    """Counts; decides nothing."""

    def __init__(
        self,
        nodes: int,
        rotation_blocks: int,
        block_transactions_max: int,
        rotations: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        """`rotations`: who may sign over to whom."""
        self.counts: Counter[str] = Counter()
        self._nodes = [_Seen() for _ in range(nodes)]
        self._rotation_blocks = rotation_blocks
        self._block_transactions_max = block_transactions_max
        self._certified_in: dict[int, int] = {}
        self._base = 0
        self._epochs: set[int] = set()
        self._rotations = [({old}, {new}) for old, new in rotations]
        self._sizes: tuple[int, ...] = ()

    def hit(self, mark: str) -> None:
        self.counts[mark] += 1

    def noted(self, text: str) -> None:
        """A node notes something in its log."""
        what = SNAPSHOTS.get(text)
        if what is not None:
            self.hit(what)

    def started(self, node: int, height: int, entries: Sequence[RecordEntry]) -> None:
        seen = self._nodes[node] = _Seen(committed=height)
        floor = floor_of(entries)
        if floor:
            self.hit("record restored with floor")
        if floor > height:
            self.hit("store below its record at start")
        for kind, what in ((Proved, "a proof"), (Asked, "a VIEW-CHANGE"), (Accepted, "a proposal")):
            if any(isinstance(entry, kind) for entry in entries):
                self.hit(f"record restored with {what}")
        for entry in entries:
            match entry:
                case Asked(view_change):
                    seen.view = max(seen.view, view_change.view)
                case Entered(new_view):
                    seen.view = max(seen.view, new_view.view)
                case _:
                    pass

    def asked(self, node: int, message: ViewChange) -> None:
        """An honest node asks for a view for the first time."""
        seen = self._nodes[node]
        self.hit(VIEW_CHANGES[min(len(message.proofs), 2)])
        if message.view > seen.view + 1:
            self.hit("views skipped by joining")
        if message.committed and message.committed % self._rotation_blocks == 0:
            self.hit("rotation of the primary")
        seen.view = max(seen.view, message.view)

    def opened(self, message: NewView) -> None:
        """An honest primary opens a view."""
        self.hit(NEW_VIEWS[min(len(message.reproposals), 2)])
        proofs: dict[int, set[tuple[int, bytes]]] = {}
        for entry in message.view_changes:
            for proof in entry.proofs:
                proofs.setdefault(proof.header.height, set()).add((proof.view, block_hash(proof.header)))
        if any(len({view for view, _ in at_height}) > 1 for at_height in proofs.values()):
            self.hit("proofs of two views met")
        if any(len({name for _, name in at_height}) > 1 for at_height in proofs.values()):
            self.hit("proofs of two blocks met")
        base = max(entry.committed for entry in message.view_changes)
        if base != self._base:
            self.hit("NEW-VIEW on another base than the last")
        self._base = base

    def entered(self, node: int, message: NewView) -> None:
        seen = self._nodes[node]
        seen.view = max(seen.view, message.view)
        seen.reproposed = {block_hash(again.header) for again in message.reproposals}
        if max(entry.committed for entry in message.view_changes) > seen.committed:
            self.hit("base barrier held a vote")

    def committed(self, node: int, height: int, certificate: Certificate, transactions: int) -> None:
        seen = self._nodes[node]
        seen.committed = height
        if certificate.view < seen.view:
            self.hit("certificate learnt in a later view")
        if self._certified_in.setdefault(height, certificate.view) != certificate.view:
            self.hit("one block certified in two views")
        if transactions == 0:
            self.hit("empty block")
        if transactions == self._block_transactions_max:
            self.hit("full block")

    def began(self, number: int, before: Sequence[bytes], validators: Sequence[bytes], view_changed: bool) -> None:
        """A node has come to an epoch; `view_changed`: some view of the one before was opened."""
        if number in self._epochs:
            return
        self._epochs.add(number)
        others, parameters, removed, changed, succeeded = EPOCHS
        self.hit(parameters if before == validators else others)
        if (set(before) - set(validators), set(validators) - set(before)) in self._rotations:
            self.hit(succeeded)
        if before != validators:
            self._sizes = (*(self._sizes or (len(before),)), len(validators))[-3:]
            if self._sizes in SIZES:
                self.hit(SIZES[self._sizes])
        if before[0] not in validators:
            self.hit(removed)
        if view_changed:
            self.hit(changed)

    def effect(self, node: int, effect: effects.Effect) -> None:
        seen = self._nodes[node]
        match effect:
            case effects.SetTimer() | effects.Save():
                pass
            case effects.Compact():
                self.hit("voting record compacted")
            case effects.Sync():
                self.hit("block sync asked for")
            case effects.Build(height=height) if height > seen.committed + 2:
                self.hit("three blocks in flight")
            case effects.Send(_, message):
                self._sent(seen, message)
            case effects.Broadcast(Status(mode=mode)):
                self._shows(seen, mode)
            case effects.Alarm(text) if "its record lacks" in text:
                self.hit("own vote seen after loss")
            case _:
                pass

    def _sent(self, seen: _Seen, message: Message) -> None:
        match message:
            case BodyRequest(_, name, _) if name in seen.reproposed:
                seen.reproposed.discard(name)
                self.hit("NEW-VIEW that had to fetch a block")
            case Entries():
                self.hit("entries served")
            case _:
                pass

    def _shows(self, seen: _Seen, mode: Mode) -> None:
        silent = mode is Mode.SILENT
        if silent != seen.silent:
            self.hit("validator fell silent" if silent else "silent validator woke")
        seen.silent = silent

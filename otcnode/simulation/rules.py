"""What an honest node may sign, judged from outside: by the signatures that exist and the blocks that are durable.

A vote is lawful only if the votes it rests on have been made. Whatever a node believes, there are no more of them than
the honest ones signed, and one of each liar.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from otcnode.blocks import COMMIT_DOMAIN, PREPARE_DOMAIN, block_hash
from otcnode.consensus.messages import NewView, ViewChange
from otcnode.simulation.violation import Promise, Violation

_KINDS = {PREPARE_DOMAIN: "PREPARE", COMMIT_DOMAIN: "COMMIT"}

Place = tuple[int, int, int]
"""(epoch, view, height)"""


@dataclass
class _Signer:
    """What one honest node has signed, over all its lives."""

    committed: int = 0
    noted: int = 0
    """What it had committed when its record was last made durable: all earlier votes may be compacted away."""
    prepared: dict[Place, bytes] = field(default_factory=dict)
    wanted: dict[int, int] = field(default_factory=dict)
    """Epoch to the highest view it decided to ask for."""
    asked: dict[int, int] = field(default_factory=dict)
    """Epoch to the highest view it asked for."""
    voted: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Epoch to the highest view, and the highest height, that a vote of it left for."""
    lost: dict[int, tuple[int, int]] = field(default_factory=dict)
    """The same at the time its record was last lost: nothing up to either may be signed again."""
    bases: dict[tuple[int, int], int] = field(default_factory=dict)
    """(epoch, view) to the base of the NEW-VIEW it acts under."""
    fixed: dict[Place, bytes] = field(default_factory=dict)
    """The blocks that these NEW-VIEWs propose again."""
    opened: dict[tuple[int, int], bytes] = field(default_factory=dict)
    """(epoch, view) to the signature of the NEW-VIEW that it acts under in this life."""
    undurable: list[Place] = field(default_factory=list)
    """Of these, what its record could still lose: nothing that follows from it has left."""
    floor: int = 0


class Rules:
    """Told of every signature, VIEW-CHANGE, NEW-VIEW and commit of the honest; raises Violation(RULES or VOTES)."""

    def __init__(self, honest: Iterable[int], liars: int) -> None:
        self._signers = {node: _Signer() for node in honest}
        self._liars = liars
        self._prepares: dict[Place, dict[bytes, set[int]]] = defaultdict(lambda: defaultdict(set))

    def committed(self, node: int, height: int) -> None:
        if node in self._signers:
            self._signers[node].committed = height

    def started(self, node: int) -> None:
        """What its record has lost binds it no more; what it holds it is told of again (`entered`)."""
        if node in self._signers:
            for place in self._signers[node].undurable:
                self._signers[node].fixed.pop(place, None)
            self._signers[node].undurable.clear()
            self._signers[node].opened.clear()

    def record_durable(self, node: int) -> None:
        if node in self._signers:
            self._signers[node].noted = self._signers[node].committed
            self._signers[node].undurable.clear()

    def forgot_blocks(self, node: int) -> None:
        """Its store is gone; its record, and so its floor, is not. A floor that was not durable when the process ended
        is gone too, and binds nobody: a record that was not compacted since holds every vote below it."""
        if node in self._signers:
            signer = self._signers[node]
            signer.floor, signer.committed = max(signer.floor, signer.noted), 0

    def lost_record(self, node: int) -> None:
        """From now on it does not know what it said."""
        if node in self._signers:
            signer = self._signers[node]
            signer.lost = dict(signer.voted)

    def entered(self, node: int, message: NewView, quorum: int) -> None:
        """A node acts under a NEW-VIEW: of a quorum, on a height that a certificate of it shows, and what it proposes
        again is what somebody in it proved."""
        if node not in self._signers:
            return
        base = max(entry.committed for entry in message.view_changes)
        self._signers[node].bases[(message.epoch, message.view)] = base
        proved = {block_hash(proof.header) for entry in message.view_changes for proof in entry.proofs}
        again = [entry.header for entry in message.reproposals]
        heights = [header.height for header in again]
        where = f"n{node} acts under a NEW-VIEW for view {message.view}"
        view = (message.epoch, message.view)
        if self._signers[node].opened.setdefault(view, message.signature) != message.signature:
            raise Violation(Promise.RULES, f"{where}, and acted under another one for it before")
        if len({entry.validator for entry in message.view_changes}) != quorum:
            raise Violation(Promise.RULES, f"{where} that is not of a quorum")
        for entry in message.view_changes:
            shown = message.epoch - 1 if entry.certificate is None else entry.certificate.height
            if entry.committed != shown:
                claim = f"with height {entry.committed} claimed and height {shown} shown"
                raise Violation(Promise.RULES, f"{where} {claim}")
        if heights != list(range(base + 1, base + 1 + len(heights))):
            raise Violation(Promise.RULES, f"{where} on {base} that proposes heights {heights} again")
        if not {block_hash(header) for header in again} <= proved:
            raise Violation(Promise.RULES, f"{where} that proposes again what nobody has proved")
        for header in again:
            place = (message.epoch, message.view, header.height)
            self._signers[node].fixed[place] = block_hash(header)
            self._signers[node].undurable.append(place)

    def wants(self, node: int, message: ViewChange, quorum: int) -> None:
        """A node decides to ask for a view: only after a quorum asked for the one below. Nobody has to ask for view 0,
        where every epoch begins."""
        if node not in self._signers:
            return
        epoch, view = message.epoch, message.view
        before = sum(signer.wanted.get(epoch, 0) >= view - 1 for signer in self._signers.values()) + self._liars
        if before < quorum:
            raise Violation(
                Promise.RULES,
                f"n{node} asks for view {view}, and at most {before} of {quorum} have asked for view {view - 1}",
            )
        signer = self._signers[node]
        signer.wanted[epoch] = max(signer.wanted.get(epoch, 0), view)
        self._check_lost(f"n{node} asks for view {view}", epoch, view, None, signer)

    def asked(self, node: int, message: ViewChange) -> None:
        """A VIEW-CHANGE leaves its author for the first time."""
        if node in self._signers:
            signer, epoch = self._signers[node], message.epoch
            signer.asked[epoch] = max(signer.asked.get(epoch, 0), message.view)

    def opened(self, node: int, message: NewView) -> None:
        """Whoever opens a view has committed what it stands on."""
        base = max(entry.committed for entry in message.view_changes)
        if node in self._signers and base > self._signers[node].committed:
            raise Violation(
                Promise.RULES,
                f"n{node} opens view {message.view} on height {base}, has committed {self._signers[node].committed}",
            )

    def signed(self, node: int, message: bytes) -> None:
        """A signature over `message` is made; it may never leave."""
        if node not in self._signers:
            return
        fields = msgspec.msgpack.decode(message)
        kind = _KINDS.get(fields[0])
        if kind is None:
            return
        _, _, epoch, view, height, name = fields
        signer = self._signers[node]
        what = f"n{node} signs {kind} (view {view}, height {height})"
        self._check_left(what, view, signer.asked.get(epoch, -1))
        self._check_lost(what, epoch, view, height, signer)
        if kind == "PREPARE":
            self._prepares[(epoch, view, height)][name].add(node)
            signer.prepared[(epoch, view, height)] = name

    def _check_left(self, what: str, view: int, asked: int) -> None:
        if view < asked:
            raise Violation(Promise.VOTES, f"{what} after it asked for view {asked}")

    def _check_lost(self, what: str, epoch: int, view: int, height: int | None, signer: _Signer) -> None:
        """Silence ends only above everything that the lost record may have voted for."""
        lost_view, lost_height = signer.lost.get(epoch, (-1, -1))
        if view <= lost_view or (height is not None and height <= lost_height):
            lost = f"before its record was lost it voted up to view {lost_view}, height {lost_height}"
            raise Violation(Promise.VOTES, f"{what}; {lost}")

    def voted(self, node: int, kind: str, place: Place, name: bytes, quorum: int, proposes: bool) -> None:
        """A vote leaves its author for the first time; `quorum` is that of its epoch. What it `proposes` is what the
        others vote on, whatever became of the block below."""
        epoch, view, height = place
        signer = self._signers[node]
        highest = signer.voted.get(epoch, (-1, -1))
        signer.voted[epoch] = (max(highest[0], view), max(highest[1], height))
        what = f"n{node} says {kind} (view {view}, height {height})"
        if height < epoch or signer.committed < epoch - 1:
            raise Violation(Promise.RULES, f"{what} in epoch {epoch}, has committed {signer.committed}")
        base = signer.bases.get((epoch, view), 0)
        if height <= base:
            raise Violation(Promise.RULES, f"{what} where its view begins above {base}")
        if signer.committed < base:
            raise Violation(Promise.RULES, f"{what} and has not committed {base}, where its view begins")
        if signer.fixed.get(place, name) != name:
            raise Violation(Promise.RULES, f"{what} for another block than its view proposes again")
        if signer.committed < signer.floor:
            raise Violation(Promise.RULES, f"{what} while its store is at {signer.committed}, below {signer.floor}")
        if kind == "COMMIT" and signer.prepared.get(place) != name:
            raise Violation(Promise.RULES, f"{what} without a PREPARE of its own")
        if kind == "COMMIT" and self._prepared(place, name) < quorum:
            raise Violation(Promise.RULES, f"{what}, which no quorum has prepared")
        if not proposes and height > signer.committed + 1:
            self._check_parent(what, epoch, view, height - 1, quorum)

    def _prepared(self, place: Place, name: bytes) -> int:
        """At most so many can have prepared it."""
        return len(self._prepares[place][name]) + self._liars

    def _check_parent(self, what: str, epoch: int, view: int, height: int, quorum: int) -> None:
        names: Mapping[bytes, set[int]] = self._prepares[(epoch, view, height)]
        if max((len(nodes) for nodes in names.values()), default=0) + self._liars < quorum:
            raise Violation(Promise.RULES, f"{what} on a parent that no quorum has prepared in this view")

"""Bugs of what is held against validators: where it is kept, and what takes whose room."""

from __future__ import annotations

from contextlib import AbstractContextManager

from otcnode.consensus import accusing
from otcnode.consensus.core import Core
from otcnode.consensus.evidence import Offence
from otcnode.consensus.messages import Commit, Evidence, Prepare
from otcnode.consensus.votes import VoteBook
from otcnode.engine import evidence as keeping
from otcnode.engine.evidence import EvidenceKeeper, KeptEvidence
from otcnode.simulation.mutants.planting import planted
from otcnode.storage.kv import Write
from otcnode.storage.store import Store

Plant = AbstractContextManager[None]


def nobody_is_accused() -> Plant:
    """Whoever contradicts itself is not believed, and nothing is said of it."""

    def accuse(core: Core, evidence: Evidence, source: bytes | None = None) -> None:
        return None

    return planted((accusing, "accuse", accuse))


def double_commits_overlooked() -> Plant:
    """Of two contradicting votes only PREPAREs are held against anybody."""
    right = accusing.accuse_double_vote

    def accuse_double_vote(core: Core, message: Prepare | Commit, book: VoteBook) -> None:
        if isinstance(message, Prepare):
            right(core, message, book)

    return planted((accusing, "accuse_double_vote", accuse_double_vote))


def evidence_in_memory_only() -> Plant:
    """What is held against a validator is never written down."""

    def keep_evidence(self: Store, name: bytes, raw: bytes) -> None:
        return None

    def drop_evidence(self: Store, name: bytes) -> None:
        return None

    return planted((Store, "keep_evidence", keep_evidence), (Store, "drop_evidence", drop_evidence))


def later_drives_out_earlier() -> Plant:
    """What a validator did last takes the place of what it did before in the same epoch."""

    def giving_way(self: EvidenceKeeper, offence: Offence, evidence: Evidence) -> list[KeptEvidence] | None:
        return [kept for kept in self.all() if kept.offence.validator == offence.validator]

    return planted((EvidenceKeeper, "_giving_way", giving_way))


def all_in_the_small_room() -> Plant:
    """The room of what no transaction can hold is that of all evidence."""
    return planted((keeping, "is_large", lambda evidence: True))


def left_behind_by_a_snapshot() -> Plant:
    """A snapshot takes the place of the chain and of everything that lies beside it."""

    def nothing(self: Store) -> list[Write]:
        return []

    return planted((Store, "beside", nothing))

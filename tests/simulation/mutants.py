"""Planted bugs. Each is a context manager that breaks one rule of the node while it is open.

They are here to test the simulator: what it cannot find when it is planted it would not find if it were real.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from otcnode import blocks
from otcnode.blocks import Certificate, block_hash
from otcnode.consensus import committing, memory, receiving, record, view_change, view_changing
from otcnode.consensus.core import Core
from otcnode.consensus.state import State
from otcnode.consensus.view_change import Selection
from otcnode.engine.engine import Engine
from otcnode.simulation.disk import CrashingVotesLog
from otcnode.simulation.violation import Promise

Mutation = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Mutant:
    """`seeds`: the budget within which one must break one of `promises`. `long`: too long for every test run."""

    name: str
    plant: Mutation
    promises: frozenset[Promise]
    seeds: int
    validators: int = 4
    long: bool = False


def small_quorum() -> AbstractContextManager[Any]:
    """A quorum of one vote less than needed, everywhere."""
    right = blocks.quorum
    return patch.object(blocks, "quorum", lambda count: max(1, right(count) - 1))


def skipped_save() -> AbstractContextManager[Any]:
    """Votes leave before they are durable."""
    return patch.object(Engine, "_make_record_durable", lambda self: None)


def reborn_record() -> AbstractContextManager[Any]:
    """A node whose record is lost begins a new one and votes at once."""
    return patch.object(CrashingVotesLog, "lose", lambda self: self.replace(record.birth()))


def views_added_up() -> AbstractContextManager[Any]:
    """COMMITs of different views make one certificate."""

    def certificate_from(commits: Any, epoch: Any, height: int) -> Certificate | None:
        for view, block in commits.choices(height):
            found = {
                entry.validator: entry
                for other, name in reversed(commits.choices(height))
                if name == block
                for entry in commits.signatures(height, other, block)
            }
            if len(found) >= epoch.quorum:
                return Certificate(epoch.number, view, height, block, tuple(found[name] for name in sorted(found)))
        return None

    return patch.object(committing, "certificate_from", certificate_from)


def _select_nothing(messages: Any) -> Selection:
    return Selection(max(message.committed for message in messages), ())


@contextmanager
def proofs_ignored() -> Iterator[None]:
    """A NEW-VIEW proposes nothing again, whatever was prepared, and everybody finds that right."""
    with (
        patch.object(view_change, "select", _select_nothing),
        patch.object(view_changing, "select", _select_nothing),
        patch.object(memory, "select", _select_nothing),
    ):
        yield


@contextmanager
def lower_proof() -> Iterator[None]:
    """Of two proofs for one height, a NEW-VIEW takes that of the lower view."""

    def best(messages: Any, height: int) -> Any:
        proofs = [proof for message in messages for proof in message.proofs if proof.header.height == height]
        return min(proofs, key=lambda proof: (proof.view, block_hash(proof.header)), default=None)

    with patch.object(view_change, "_best_proof", best):
        yield


def proof_forgotten() -> AbstractContextManager[Any]:
    """A VIEW-CHANGE comes without the proofs that its sender holds."""
    right = view_changing.ask_for

    def ask_for(core: Core, view: int, reason: str) -> None:
        core.state.proofs.clear()
        right(core, view, reason)

    return patch.object(view_changing, "ask_for", ask_for)


def votes_not_saved() -> AbstractContextManager[Any]:
    """Own votes are not in the record."""
    right = Core.save

    def save(self: Core, entry: record.RecordEntry) -> None:
        if not isinstance(entry, record.Voted | record.Accepted):
            right(self, entry)

    return patch.object(Core, "save", save)


def signatures_unchecked() -> AbstractContextManager[Any]:
    """Votes are believed without looking at their signatures."""
    return patch.object(receiving, "_is_authentic_vote", lambda core, message: True)


def gap_allowed() -> AbstractContextManager[Any]:
    """COMMIT and PREPARE without the parent's proof."""
    return patch.object(State, "parent_is_final", lambda self, height: True)


def view_change_not_saved() -> AbstractContextManager[Any]:
    """Own VIEW-CHANGEs are not in the record."""
    right = Core.save

    def save(self: Core, entry: record.RecordEntry) -> None:
        if not isinstance(entry, record.Asked | record.Entered):
            right(self, entry)

    return patch.object(Core, "save", save)


SAFETY = frozenset(
    {Promise.AGREEMENT, Promise.CERTIFICATE, Promise.VOTES, Promise.DURABILITY, Promise.DEFECT, Promise.BLAME}
)

MUTANTS = (
    Mutant("quorum less one", small_quorum, SAFETY, 5),
    Mutant("skipped Save", skipped_save, SAFETY, 20),
    Mutant("record born again", reborn_record, SAFETY, 300, long=True),
    Mutant("commits of two views added up", views_added_up, SAFETY, 40),
    Mutant("NEW-VIEW ignores proofs", proofs_ignored, SAFETY | {Promise.LIVENESS}, 60),
    Mutant("proof of the lower view", lower_proof, SAFETY, 2_000, long=True),
    Mutant("VIEW-CHANGE without proofs", proof_forgotten, SAFETY, 20),
    Mutant("votes not saved", votes_not_saved, SAFETY, 20),
    Mutant("signatures unchecked", signatures_unchecked, SAFETY, 40),
    Mutant("gap allowed", gap_allowed, SAFETY, 40),
    Mutant("VIEW-CHANGE not saved", view_change_not_saved, SAFETY, 120, long=True),
)

"""Every planted bug is found within its seed budget, and its plan becomes small."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from otcnode.simulation import hunting
from otcnode.simulation.hunting import hunt
from otcnode.simulation.mutants.catalogue import MUTANTS, mutant_named
from otcnode.simulation.mutants.planting import Mutant, planted
from otcnode.simulation.plan import Crash, RecordLost, StoreLost
from otcnode.simulation.violation import Promise
from otcnode.simulation.world import run
from otcnode.storage.store import Store
from tests.simulation import report

QUICK = (
    "quorum less one",
    "quorum of 2f + 1 of five",
    "quorum of 2f + 1 of six",
    "COMMITs of two views added up",
    "PREPARE without the parent",
    "votes without the parent",
    "COMMIT without a PREPARE",
    "COMMIT of a view that was left",
    "PREPARE of a view that was left",
    "proposal of a view that was left",
    "signatures counted in books",
    "signatures counted in certificates",
    "STATUS counts as votes",
    "STATUS unsigned",
    "NEW-VIEW without proofs",
    "VIEW-CHANGE without proofs",
    "certificate of another height",
    "re-proposals unsigned",
    "votes below the base",
    "another block again",
    "fresh at once",
    "invalid NEW-VIEW left alone",
    "base not committed by the primary",
    "no base barrier",
    "no inclusion time-out",
    "no excuse for waiting",
    "too early is dropped",
    "half the drift",
    "proved blocks not held",
    "proposal saved without bodies",
    "block not synced",
    "checksum not compared",
    "full disk swallowed",
    "refused sync swallowed",
    "turned away and still connected",
    "bodies unchecked",
    "signatures not in the root",
    "clients' signatures unchecked",
    "roots not compared",
    "receipts beside the root",
    "duplicates accepted",
    "credits count twice",
    "votes kept for ever",
    "nothing is passed on",
    "held beside askers",
    "nobody is accused",
    "double COMMITs overlooked",
    "evidence in memory only",
    "later offences drive out earlier",
    "one room for all evidence",
    "history unchecked",
    "installed before it is whole",
    "snapshot trouble ends the node",
    "nothing sent again",
)
"""Found within a second or two; all others in `make test-long`."""
FAULTS_MAX = 5


def name_of(mutant: Mutant) -> str:
    return mutant.name


@pytest.mark.parametrize("name", QUICK)
def test_a_planted_bug_is_found(name: str) -> None:
    found = hunt(mutant_named(name), shrink=False)
    assert found.expected, found
    assert found.plan is not None
    outcome = run(found.plan)
    assert outcome.violation is None, report(found.plan, outcome)


@pytest.mark.long
@pytest.mark.parametrize("mutant", MUTANTS, ids=name_of)
def test_every_planted_bug_is_found_and_its_plan_shrinks_to_a_handful(mutant: Mutant) -> None:
    found = hunt(mutant)
    assert found.expected, found
    assert found.small is not None
    assert len(found.small.faults) <= FAULTS_MAX, found.small.faults
    with mutant.plant():
        violation = run(found.small).violation
    assert violation is not None and violation.promise.value == found.promise
    outcome = run(found.small)
    assert outcome.violation is None, report(found.small, outcome)


def test_every_promise_is_one_that_a_planted_bug_breaks() -> None:
    broken = {promise for mutant in MUTANTS for promise in mutant.promises}
    assert broken == set(Promise)
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_the_documents_name_planted_bugs_that_there_are() -> None:
    documents = Path(__file__).parents[2] / "docs"
    labels = re.findall(r"mutants: ([^|;]+?) *[|;]", (documents / "consensus.md").read_text())
    names = {mutant.name for mutant in MUTANTS}
    assert len(labels) >= 20
    assert {name for label in labels for name in label.split(", ")} <= names
    told = re.findall(r"^\| ([^|]+?) \| `\w+`", (documents / "research.md").read_text(), re.MULTILINE)
    assert names <= set(told)


@pytest.mark.parametrize("mutant", MUTANTS, ids=name_of)
def test_a_bug_goes_as_it_came(mutant: Mutant) -> None:
    """What is planted is there to be replaced, and everything is right again afterwards."""
    with mutant.plant():
        pass
    with mutant.plant():
        pass


def test_what_is_not_there_cannot_be_broken() -> None:
    with pytest.raises(AssertionError, match="does not take"), planted((hunting, "hunt", lambda mutant: None)):
        pass
    with pytest.raises(KeyError), planted((hunt, "no_such_attribute", None)):
        pass


class _Shelf:
    def put(self, place: int, *, label: str) -> bool:
        return bool(label) and place > 0


def test_what_is_planted_is_called_as_the_right_one_and_answers() -> None:
    def named(self: _Shelf, place: int, **more: str) -> bool:
        return False

    def mute(self: _Shelf, place: int, *, label: str) -> None:
        pass

    with planted((_Shelf, "put", named)):
        assert not _Shelf().put(1, label="a")
    with pytest.raises(AssertionError, match="does not take"), planted((_Shelf, "put", lambda self, place: False)):
        pass
    with pytest.raises(AssertionError, match="gives nothing"), planted((_Shelf, "put", mute)):
        pass


def test_a_plant_that_fails_by_itself_finds_nothing() -> None:
    """Its bug is not the one that was to be planted."""

    def broken(*_: object, **__: object) -> None:
        with planted((_Shelf, "put", lambda: False)):
            raise AssertionError

    bad = Mutant("bad", "a rule", lambda: planted((Store, "commit", broken)), frozenset({Promise.DEFECT}), 1)
    found = hunt(bad, shrink=False)
    assert found.promise == Promise.DEFECT.value and not found.expected


def test_shrinking_leaves_what_is_needed() -> None:
    """A block that is not synced: somebody must die, nearly nothing else must happen."""
    found = hunt(mutant_named("block not synced"))
    assert found.plan is not None and found.small is not None
    assert len(found.small.faults) < len(found.plan.faults)
    assert len(found.small.workload) <= len(found.plan.workload)
    assert any(isinstance(fault, Crash | RecordLost | StoreLost) for fault in found.small.faults)

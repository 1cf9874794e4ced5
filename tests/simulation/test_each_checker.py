"""For each checker there is a planted bug, and a plan, in which it alone objects: without it the plan passes."""

from __future__ import annotations

from typing import Any

import pytest

from otcnode.simulation.checkers import Checkers
from otcnode.simulation.generate import generate
from otcnode.simulation.hearsay import Hearsay
from otcnode.simulation.kept_evidence import EvidenceKept
from otcnode.simulation.mutants.catalogue import mutant_named
from otcnode.simulation.mutants.planting import Change, planted
from otcnode.simulation.readiness import Readiness
from otcnode.simulation.rules import Rules
from otcnode.simulation.violation import Promise
from otcnode.simulation.visible_lies import VisibleLies
from otcnode.simulation.world import World, run


def silent(*_: Any) -> None:
    """What a checker that is switched off says."""


ALONE: tuple[tuple[Promise, str, tuple[Change, ...]], ...] = (
    (Promise.AGREEMENT, "signatures not in the root", ((Checkers, "_check_agreement", silent),)),
    (Promise.VALIDITY, "clients' signatures unchecked", ((Checkers, "_check_validity", silent),)),
    (Promise.CERTIFICATE, "COMMITs of two views added up", ((Checkers, "_check_certificate", silent),)),
    (Promise.ROOTS, "roots not compared", ((Checkers, "_check_root", silent),)),
    (Promise.ROOTS, "receipts beside the root", ((Checkers, "_check_receipts", silent),)),
    (Promise.ONCE, "duplicates accepted", ((Checkers, "_check_once", silent),)),
    (Promise.VOTES, "COMMIT of a view that was left", ((Rules, "_check_left", silent),)),
    (Promise.DURABILITY, "proposal saved without bodies", ((Checkers, "_check_bodies_kept", silent),)),
    (Promise.MEMORY, "votes kept for ever", ((World, "_check_memory_of", silent),)),
    (Promise.DAMAGE, "checksum not compared", ((World, "_reopened", silent),)),
    (Promise.VALIDITY, "joiners unready", ((Readiness, "begins", silent),)),
    (Promise.EVIDENCE, "later offences drive out earlier", ((EvidenceKept, "holds", silent),)),
    (Promise.EVIDENCE, "nobody is accused", ((VisibleLies, "requires", silent),)),
    (Promise.HEARSAY, "STATUS unsigned", ((Hearsay, "believes", silent),)),
    (Promise.INVARIANTS, "credits count twice", ((Checkers, "_check_ledger", silent),)),
)


SEEDS_MAX = 60


@pytest.mark.parametrize(("promise", "name", "off"), ALONE, ids=[name for _, name, _ in ALONE])
def test_what_one_checker_finds_no_other_does(promise: Promise, name: str, off: tuple[Change, ...]) -> None:
    mutant = mutant_named(name)
    assert promise in mutant.promises
    with mutant.plant():
        for seed in range(1, SEEDS_MAX + 1):
            plan = generate(seed, mutant.options)
            violation = run(plan).violation
            if violation is None or violation.promise is not promise:
                continue
            with planted(*off):
                if run(plan).violation is None:
                    return
    pytest.fail(f"in {SEEDS_MAX} plans nothing is seen by this checker alone")

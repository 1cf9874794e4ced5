"""Plans of a link that stays cut for good between two of those who have to go on. A third node links them, and what one
says comes to the other only where it is passed on. Up to f of the rest are dead, now and then the first primary: a
quorum needs both ends of that link. Half of the work comes after a rest: whom somebody heard before the cut it then
hears no longer.

Where somebody hears a quorum directly, this is granted (docs/consensus.md).
"""

from __future__ import annotations

from otcnode.blocks import maximum_faulty
from otcnode.simulation.chance import Chance
from otcnode.simulation.plan import Crash, CrashPoint, Cut, Deposit, Fault, Loss, Plan, Submission
from otcnode.simulation.workload import INVESTORS

SIZES = (4, 4, 4, 5, 6, 7)
TIMEOUTS_MS = (600, 1_000, 2_000)
CUT_AT_MS = (0, 3_000)
DIES_AT_MS = (0, 5_000)
IDLE_MS = 9_000
"""Longer than a cut connection is held for alive and somebody counts as heard beyond that."""
SAFETY_MS = 14_000
LIVENESS_MS_MAX = 60_000
FOR_EVER_MS = 10_000_000
LIVES_MS = 300_000
SKEW_MS_MAX = 200
WORK = 10
LOSES_PERMILLE = 500
"""Of the plans, those in which the other links lose something."""


def severed(seed: int, validators: int, liveness_ms: int) -> Plan:
    """The plan of a seed; `validators` 0: the seed chooses how many."""
    chance = Chance(seed)
    count = validators or chance.choice(SIZES, "validators")
    dead = chance.sample(range(count), chance.between(0, maximum_faulty(count), "dead"), "dead")
    if dead and chance.happens(500, "the first primary is dead"):
        dead = sorted({0, *dead[1:]})
    living = [node for node in range(count) if node not in dead]
    return Plan(
        seed=seed,
        validators=count,
        window=chance.choice((1, 2, 4), "window"),
        view_timeout_ms=chance.choice(TIMEOUTS_MS, "view timeout"),
        view_timeout_ms_max=8_000,
        block_transactions_max=chance.choice((1, 3, 2_000), "block transactions"),
        rotation_blocks=chance.choice((10_000_000, 3, 5), "rotation"),
        delay_ms=chance.choice(((1, 3), (1, 20), (5, 60)), "delay"),
        skews_ms=tuple(chance.between(-SKEW_MS_MAX, SKEW_MS_MAX, "skew", node) for node in range(count)),
        safety_ms=SAFETY_MS,
        liveness_ms=min(liveness_ms, LIVENESS_MS_MAX),
        survivors=tuple(living),
        rest_frozen=True,
        workload=_workload(chance, living),
        faults=_faults(chance, living, dead),
    )


def _workload(chance: Chance, living: list[int]) -> tuple[Submission, ...]:
    """Half of it at once, the rest after nobody had anything to say."""
    return tuple(
        Submission(
            at_ms=chance.between(50, 3_000, "at", number) + (number % 2) * IDLE_MS,
            node=chance.choice(living, "to", number),
            act=Deposit(investor=chance.below(len(INVESTORS), "investor", number), amount=1 + number),
            lives_ms=LIVES_MS,
        )
        for number in range(WORK)
    )


def _faults(chance: Chance, living: list[int], dead: list[int]) -> tuple[Fault, ...]:
    one, other = chance.sample(living, 2, "severed")
    cut_ms = chance.between(*CUT_AT_MS, "cut")
    faults: list[Fault] = [
        Cut(id=1, at_ms=cut_ms, sender=one, receivers=(other,), outlasts=True, for_ms=FOR_EVER_MS),
        Cut(id=2, at_ms=cut_ms, sender=other, receivers=(one,), outlasts=True, for_ms=FOR_EVER_MS),
    ]
    if chance.happens(LOSES_PERMILLE, "loses"):
        permille = chance.choice((50, 200, 400), "lost")
        faults.append(Loss(id=3, at_ms=chance.between(0, 8_000, "loses"), permille=permille, for_ms=4_000))
    for node in dead:
        dies_ms = chance.between(*DIES_AT_MS, "dies", node)
        faults.append(Crash(id=4 + node, at_ms=dies_ms, node=node, point=CrashPoint.IDLE, down_ms=FOR_EVER_MS))
    return tuple(sorted(faults, key=lambda fault: (fault.at_ms, fault.id)))

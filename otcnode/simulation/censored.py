"""Plans of a primary that censors, with steady work in calm weather: only then must the inclusion time-out be what
helps. Where nothing else waits, or nothing gets through, the view timer does."""

from __future__ import annotations

from otcnode.simulation.chance import Chance
from otcnode.simulation.plan import Deposit, Freeze, Habit, Liar, Plan, Submission
from otcnode.simulation.workload import INVESTORS

SIZES = (4, 4, 5, 7)
DELAYS_MS = ((1, 20), (5, 60))
INTERVALS_MS = (300, 400, 500)
"""Between two pieces of the work of others: shorter than the least view timeout."""
VICTIMS_AT_MS = (1_000, 3_000)
WITHIN_MS = 12_000
"""The inclusion time-out is 4 s: half of it until the primary is pushed, all of it until a block that passes the
transaction over counts against it, and then a view change."""
WORK_UNTIL_MS = VICTIMS_AT_MS[1] + WITHIN_MS + 1_000
LIES_FOR_MS = 10_000_000
LIVES_MS = 300_000
"""No clock takes its end for too far ahead."""
SKEW_MS_MAX = 100


def censored(seed: int, validators: int, liveness_ms: int) -> Plan:
    """The plan of a seed; `validators` 0: the seed chooses how many."""
    chance = Chance(seed)
    count = validators or chance.choice(SIZES, "validators")
    interval_ms = chance.choice(INTERVALS_MS, "interval")
    work = [
        Submission(
            at_ms=at_ms,
            node=chance.below(count, "to", at_ms),
            act=Deposit(investor=chance.below(len(INVESTORS), "investor", at_ms), amount=1 + at_ms),
            lives_ms=LIVES_MS,
        )
        for at_ms in range(100, WORK_UNTIL_MS, interval_ms)
    ]
    victims = [
        Submission(
            at_ms=chance.between(*VICTIMS_AT_MS, "victim at", number),
            node=chance.below(count, "victim to", number),
            act=Freeze(investor=number, amount=1),
            lives_ms=LIVES_MS,
            within_ms=WITHIN_MS,
        )
        for number in range(2)
    ]
    liar = Liar(id=1, at_ms=0, node=0, habit=Habit.CENSOR, victims=(), for_ms=LIES_FOR_MS)
    return Plan(
        seed=seed,
        validators=count,
        window=chance.choice((1, 2, 4), "window"),
        view_timeout_ms=chance.choice((1_000, 2_000), "view timeout"),
        block_transactions_max=chance.choice((3, 2_000), "block transactions"),
        delay_ms=chance.choice(DELAYS_MS, "delay"),
        skews_ms=tuple(chance.between(-SKEW_MS_MAX, SKEW_MS_MAX, "skew", node) for node in range(count)),
        safety_ms=500,
        liveness_ms=liveness_ms,
        survivors=tuple(range(1, count)),
        workload=(*work, *victims),
        faults=(liar,),
    )

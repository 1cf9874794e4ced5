"""Plans of a proof that one node keeps for itself until nobody else has its block: view after view fails for want of
PREPAREs, each with a proposal of its own, and then the liar shows what it held back, first of all, in every view."""

from __future__ import annotations

from otcnode.simulation.chance import Chance
from otcnode.simulation.plan import Deposit, Habit, Liar, Loss, Plan, Submission
from otcnode.simulation.workload import INVESTORS

VALIDATORS = 4
TIMEOUT_MS = 600
DRIFT_MS = 3_000
HOARDS_FOR_VIEWS = (4, 13, 14, 15)
"""The others have forgotten the block after nine more at its height, in twelve views: the liar opens none."""
WORK = 6
DEAF_AT_MS = (60, 700)
VIEW_MS = 760
"""What such a view takes, about."""
CALM_MS = 1_500
LIVENESS_MS_MAX = 30_000
"""About forty views."""
LIES_FOR_MS = 10_000_000
LIVES_MS = 300_000
SKEW_MS_MAX = 100


def hoarded(seed: int, liveness_ms: int) -> Plan:
    """The plan of a seed. The liar is the first by name, whose VIEW-CHANGE a primary takes before others'."""
    chance = Chance(seed)
    views = chance.choice(HOARDS_FOR_VIEWS, "hoards for")
    deaf_ms = chance.between(*DEAF_AT_MS, "deaf")
    deaf_for_ms = (views + 3) * VIEW_MS
    honest = tuple(range(1, VALIDATORS))
    return Plan(
        seed=seed,
        validators=VALIDATORS,
        window=chance.choice((1, 2, 4), "window"),
        drift_ms=DRIFT_MS,
        view_timeout_ms=TIMEOUT_MS,
        view_timeout_ms_max=TIMEOUT_MS,
        block_transactions_max=chance.choice((1, 2_000), "block transactions"),
        delay_ms=(1, 20),
        skews_ms=tuple(chance.between(-SKEW_MS_MAX, SKEW_MS_MAX, "skew", node) for node in range(VALIDATORS)),
        safety_ms=deaf_ms + deaf_for_ms + CALM_MS,
        liveness_ms=min(liveness_ms, LIVENESS_MS_MAX),
        survivors=honest,
        workload=tuple(
            Submission(
                at_ms=chance.between(50, 1_000, "at", number),
                node=chance.below(VALIDATORS, "to", number),
                act=Deposit(investor=chance.below(len(INVESTORS), "investor", number), amount=1 + number),
                lives_ms=LIVES_MS,
            )
            for number in range(WORK)
        ),
        faults=(
            Liar(id=1, at_ms=0, node=0, habit=Habit.HOARD, victims=(), views=views, for_ms=LIES_FOR_MS),
            Loss(id=2, at_ms=deaf_ms, permille=1_000, kinds=("prepare",), receivers=honest, for_ms=deaf_for_ms),
        ),
    )

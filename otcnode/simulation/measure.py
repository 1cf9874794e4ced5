"""What consensus costs a block: messages, signatures and bytes, counted in a network without faults.

One transaction a block, blocks one after the other, no loss. STATUSes count, at their usual rate; clients' gossip and
signatures do not, for they are the same in every protocol.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from otcnode.blocks import quorum
from otcnode.p2p.framing import Channel
from otcnode.simulation.plan import Deposit, Plan, Submission
from otcnode.simulation.trace import Trace
from otcnode.simulation.world import World

SIZES = (4, 7, 10, 16, 31)
BLOCKS = 20
INTERVAL_MS = 100


class Measurement(msgspec.Struct, frozen=True):
    """Totals over all nodes and blocks."""

    validators: int
    quorum: int
    blocks: int
    messages: int
    signatures_made: int
    signatures_verified: int
    bytes: int


def plan_of(validators: int) -> Plan:
    work = tuple(
        Submission(at_ms=1_000 + INTERVAL_MS * number, node=0, act=Deposit(investor=0, amount=number + 1))
        for number in range(BLOCKS)
    )
    return Plan(
        seed=1,
        validators=validators,
        block_transactions_max=1,
        delay_ms=(1, 3),
        verify_ms_max=0,
        skews_ms=(0,) * validators,
        safety_ms=1_000 + INTERVAL_MS * BLOCKS,
        liveness_ms=30_000,
        survivors=tuple(range(validators)),
        workload=work,
    )


class _Counting(World):
    """Counts from the first submission to the last commit."""

    def __init__(self, plan: Plan) -> None:
        self.made = 0
        self.verified = 0
        super().__init__(plan, Trace())
        verify = self.verify

        def counted(public: bytes, message: bytes, signature: bytes) -> bool:
            self.verified += 1
            return verify(public, message, signature)

        self.verify = counted

    def signed(self, node: int, message: bytes) -> None:
        self.made += 1
        super().signed(node, message)


def measure(validators: int) -> Measurement:
    world = _Counting(plan_of(validators))
    world.run()
    sent = world.network.sent[Channel.CONSENSUS]
    summary = world.summary()
    return Measurement(
        validators,
        quorum(validators),
        summary.commits,
        sent.messages,
        world.made,
        world.verified,
        sent.bytes,
    )


def measured(sizes: Iterable[int]) -> list[Measurement]:
    return [measure(size) for size in sizes]

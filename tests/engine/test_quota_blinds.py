"""An accomplice sends more than its quota, so that a censoring primary may have had all along what others have not
seen. Here 20 refusals are remembered exactly instead of 50,000, and the accomplice sends two more a second instead of
the 84 that it takes with a validity of ten minutes."""

from __future__ import annotations

import pytest

from otcnode import limits
from otcnode.engine.host import Stage
from otcnode.mempool import Limits
from tests.engine.network import deposit
from tests.engine.test_padding_censors import Censor


@pytest.mark.parametrize(
    ("floods", "bounds"),
    [
        (False, Limits(per_account_max=0)),
        (True, Limits(per_account_max=0)),
        pytest.param(True, Limits(transactions_max=0), id="the pool is full"),
    ],
)
def test_a_censor_is_deposed_though_an_accomplice_sends_more_than_its_quota(
    monkeypatch: pytest.MonkeyPatch, floods: bool, bounds: Limits
) -> None:
    monkeypatch.setattr(limits, "refused_transactions_remembered_max", 20)
    censor = Censor(100)
    for _ in range(140):
        censor.propose_one()
    until_ms, began_ms = censor.other.now().ledger_ms + 500_000, censor.other.now_ms
    victim = deposit(censor.other.genesis, 1, valid_until_ms=until_ms)
    censor.other.submit(victim)
    censor.net.elapse(100)
    assert all(victim.id in member.engine.intake.pool for member in censor.members[1:])
    number = 10_000
    for member in censor.members[1:]:
        member.engine.intake.pool._bounds = bounds
    while censor.other.now_ms < began_ms + 60_000:
        if floods:
            number += 1
            more = deposit(censor.other.genesis, number, valid_until_ms=until_ms)
            for member in censor.members[1:]:
                member.submit(more)
        censor.propose_one()
        if censor.other.engine.state_of(victim.id).stage is Stage.COMMITTED:
            break
    assert censor.other.engine.state_of(victim.id).stage is Stage.COMMITTED
    assert censor.other.now_ms - began_ms < 28_000 and min(censor.views()) > 0

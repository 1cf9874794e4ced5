"""Random stories of a network of four under forged copies, losses and time: what was promised stays true."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otcnode.engine.host import Stage, TransactionState
from otcnode.errors import Inadmissible
from otcnode.vm.transactions import Decoded
from tests.engine.network import (
    START_MS,
    Net,
    Station,
    deposit,
    forged,
    genesis_of,
    key_add,
    signed_by_stranger,
    stations,
)

GENESIS = genesis_of(4)
TRUE = [deposit(GENESIS, number, valid_until_ms=START_MS + 400 + 300 * number) for number in range(6)]
LATER = [deposit(GENESIS, 10 + number, key="second") for number in range(2)]
COPIES = [copy for true in TRUE for copy in (true, forged(true), forged(true, 1), signed_by_stranger(true))]
ALL = [*COPIES, *LATER, key_add(GENESIS, "second")]

node = st.integers(0, 3)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), node, st.sampled_from(ALL)),
        st.tuples(st.just("verify"), node, st.none()),
        st.tuples(st.just("cut"), node, st.none()),
        st.tuples(st.just("heal"), node, st.none()),
        st.tuples(st.just("wait"), st.sampled_from([1, 50, 200, 700]), st.none()),
        st.tuples(st.just("deliver"), node, st.none()),
    ),
    max_size=40,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps)
def test_what_was_promised_stays_true(story: list[tuple[str, int, Decoded | None]]) -> None:
    net = Net(stations(4))
    net.start()
    here = list(net.stations.values())
    never: dict[bytes, str] = {}
    found: set[bytes] = set()

    def told(transaction: Decoded, state: TransactionState) -> None:
        if state.stage is Stage.COMMITTED:
            found.add(transaction.id)
        elif state.definite and transaction in (*TRUE, *LATER):
            never[transaction.id] = f"{state.stage} {state.reason}"

    def submit(station: Station, transaction: Decoded) -> None:
        try:
            station.engine.submit(transaction, lambda state: told(transaction, state))
        except Inadmissible:
            return

    for kind, number, transaction in story:
        if kind == "submit":
            assert transaction is not None
            submit(here[number], transaction)
        elif kind == "verify" and here[number].put_off:
            here[number].put_off.popleft()()
        elif kind == "cut":
            net.cut |= {(here[number].own, other.own) for other in here} | {(o.own, here[number].own) for o in here}
        elif kind == "heal":
            net.cut.clear()
        elif kind == "deliver":
            net.deliver()
        elif kind == "wait":
            net.elapse(number, min(number, 50))
        for station in here:
            for each in (*TRUE, *LATER):
                told(each, station.engine.state_of(each.id))
                if each.id in found and station.height == max(other.height for other in here):
                    assert station.engine.state_of(each.id).stage is Stage.COMMITTED
    net.cut.clear()
    net.elapse(15_000, 100)
    assert len({station.store.tip.block_hash for station in here}) == 1
    for station in here:
        assert station.penalised == []
        assert station.engine.halted is None
        for transaction_id in never:
            assert station.store.transaction_location(transaction_id) is None, never[transaction_id]
        for transaction_id in found:
            assert station.store.transaction_location(transaction_id) is not None
        assert not any(true.id in station.engine.intake.pool for true in TRUE)
        assert len(station.engine.flight) <= 4

"""Copies of one offence's evidence, another one at every node: once one is on the chain, the rest is no work."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from otcnode import limits
from otcnode.engine.host import Stage
from otcnode.errors import Code, Inadmissible
from otcnode.vm.governance.misconduct import OFFENCES_PER_EPOCH_MAX
from otcnode.vm.transactions import Decoded
from tests.engine.network import Net, Station, deposit, forged, stations
from tests.engine.test_evidence import double
from tests.engine.test_inadmissible_waits import shown
from tests.engine.test_proving import copy, post, settled, started

MINUTES_MS = 240_000


def _network() -> tuple[Net, Station, list[Station]]:
    """A liar that takes part, and the three others: the primary comes first."""
    members = stations(4)
    net = Net(members)
    net.start()
    net.elapse(1_000)
    primary = members[0].engine.replica.state.primary
    first, *others = sorted(members, key=lambda member: member.own != primary)
    return net, others[-1], [first, *others[:-1]]


def _handed_out(honest: list[Station], copies: list[Decoded]) -> None:
    """Each has its own before it hears of any other."""
    for station, each in zip(honest, copies, strict=True):
        station.submit(each)
        station.settle()
        assert list(station.engine.intake.pool) == [each]


def _nobody_is_blamed(net: Net) -> None:
    members = list(net.stations.values())
    assert [len(member.engine.intake.pool) for member in members] == [0] * 4
    assert [view for view, _ in shown(members)] == [0] * 4
    assert not any(len(member.engine.replica.state.view_changes) for member in members)
    assert [member.penalised for member in members] == [[]] * 4


@pytest.mark.parametrize("kept_by", [(0, 1, 2), (0, 1, 0)], ids=["one for each", "one for one and one for the rest"])
@pytest.mark.parametrize("loaded", [False, True], ids=["idle", "loaded"])
def test_once_one_copy_is_on_the_chain_no_other_waits_and_no_primary_is_deposed_for_it(
    kept_by: tuple[int, ...], loaded: bool
) -> None:
    net, liar, honest = _network()
    operation = post(liar, double(liar.chain, liar.key))
    copies = [copy(liar, operation, number, valid_ms=MINUTES_MS) for number in range(3)]
    assert len({each.transaction.body.valid_until for each in copies}) == 1
    _handed_out(honest, [copies[number] for number in kept_by])
    net.deliver()
    assert min(station.height for station in honest) > 0
    assert [len(station.engine.intake.pool) for station in honest] == [0] * 3
    for number in range(30):
        if loaded:
            honest[number % 3].submit(deposit(liar.genesis, number))
        net.elapse(1_000, step_ms=250)
    _nobody_is_blamed(net)
    states = [station.engine.state_of(copies[number].id) for station, number in zip(honest, kept_by, strict=True)]
    assert [state.stage for state in states] == [Stage.DROPPED if number else Stage.COMMITTED for number in kept_by]
    assert {state.code for state in states if state.stage is Stage.DROPPED} == {Code.DUPLICATE}
    assert not any(state.definite for state in states if state.stage is Stage.DROPPED)


@pytest.mark.parametrize(
    "views", [(0,), tuple(range(1, 1 + OFFENCES_PER_EPOCH_MAX))], ids=["the same", "enough others"]
)
def test_what_a_node_said_while_it_was_cut_off_is_no_work_once_it_hears_what_others_have_said(
    views: tuple[int, ...],
) -> None:
    net, liar, honest = _network()
    away = honest[-1]
    others = [other for other in net.stations.values() if other is not away]
    net.cut = {pair for other in others for pair in ((away.own, other.own), (other.own, away.own))}
    said = replace(post(liar, double(liar.chain, liar.key)), node=away.own)
    away.submit(copy(away, said, 0, valid_ms=MINUTES_MS))
    for view in views:
        honest[0].submit(copy(liar, post(liar, double(liar.chain, liar.key, view)), 1 + view, valid_ms=MINUTES_MS))
    net.elapse(1_000)
    assert away.height == 0 < honest[0].height and len(away.engine.intake.pool) == 1
    assert [len(other.engine.intake.pool) for other in others] == [0] * 3
    net.cut.clear()
    for other in others:
        for one, two in ((away, other), (other, away)):
            one.engine.disconnected(two.own)
            one.engine.connected(two.own)
    net.elapse(20_000, step_ms=250)
    assert away.height == honest[0].height
    _nobody_is_blamed(net)


def test_what_clients_hand_in_takes_no_room_from_what_a_node_says_by_itself() -> None:
    """Under its name, with signatures that nobody has verified yet."""
    liar, station = started()
    said = replace(post(liar, double(liar.chain, liar.key)), node=station.own)
    for number in range(limits.mempool_transactions_per_node_max):
        other = replace(said, view=number + 1)
        station.submit(forged(copy(station, other, number)), "somebody")
    with pytest.raises(Inadmissible) as refused:
        station.submit(copy(station, replace(said, view=1_000), 1_000), "somebody else")
    assert refused.value.code is Code.LIMIT
    station.engine.act_as_node(said)
    settled(station)
    (pooled,) = station.engine.intake.pool
    assert pooled.transaction.body.operations == (said,)

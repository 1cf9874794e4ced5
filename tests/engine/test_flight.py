"""Blocks in flight: executed once, on whatever parent, without a trace until they are committed."""

from __future__ import annotations

import pytest

from otcnode.blocks import Certificate
from otcnode.chain import BlockFault, Speculation
from otcnode.engine.flight import Flight
from otcnode.genesis import genesis_account_id
from otcnode.vm.transactions import Decoded
from tests.engine.network import HOLDER, START_MS, Station, deposit, stations


def station() -> Station:
    return stations(1)[0]


def build(flight: Flight, parent: bytes, time_ms: int, *transactions: Decoded) -> Speculation:
    under = flight.parent(parent)
    assert under is not None
    proposer = under.epoch.validators[0]
    speculation, refused = flight.build(under, proposer, time_ms, iter(transactions), 100)
    assert refused == ()
    return speculation


def certificate(speculation: Speculation) -> Certificate:
    return Certificate(1, 0, speculation.header.height, speculation.block_hash, ())


def state_of(each: Station) -> list[tuple[bytes, bytes]]:
    return list(each.store.state.scan(b""))


def test_a_chain_of_blocks_in_flight_leaves_no_trace_when_dropped() -> None:
    each = station()
    flight = each.engine.flight
    before, root = state_of(each), each.store.tree.root
    parent = each.store.tip.block_hash
    for number in range(4):
        parent = build(flight, parent, START_MS + 1 + number, deposit(each.genesis, number)).block_hash
    assert len(flight) == 4
    assert (state_of(each), each.store.tree.root) == (before, root)
    flight.keep_only(())
    assert len(flight) == 0
    assert not any(flight.is_proposed(deposit(each.genesis, number).id) for number in range(4))
    assert (state_of(each), each.store.tree.root, each.height) == (before, root, 0)


def test_committing_a_chain_gives_the_same_state_as_committing_one_by_one() -> None:
    together, single = station(), station()
    parent = together.store.tip.block_hash
    chain = []
    for number in range(4):
        chain.append(build(together.engine.flight, parent, START_MS + 1 + number, deposit(together.genesis, number)))
        parent = chain[-1].block_hash
    for speculation in chain:
        together.engine.flight.commit(speculation, certificate(speculation))
        repeated = single.engine.flight.check(speculation.header, speculation.transactions)
        single.engine.flight.commit(repeated, certificate(repeated))
        assert together.store.tip == single.store.tip
        assert together.store.tree.root == speculation.header.state_root
    assert state_of(together) == state_of(single)
    assert len(together.engine.flight) == 0


def test_a_child_built_after_its_parent_was_committed_stands_on_the_committed_state() -> None:
    each = station()
    flight = each.engine.flight
    first = build(flight, each.store.tip.block_hash, START_MS + 1, deposit(each.genesis, 1))
    second = build(flight, first.block_hash, START_MS + 2, deposit(each.genesis, 2))
    flight.commit(first, certificate(first))
    third = build(flight, second.block_hash, START_MS + 3, deposit(each.genesis, 3))
    flight.commit(second, certificate(second))
    flight.commit(third, certificate(third))
    assert each.store.tree.root == third.header.state_root
    assert each.height == 3


def test_of_two_blocks_for_one_height_the_other_goes_with_all_that_stands_on_it() -> None:
    each = station()
    flight = each.engine.flight
    genesis = each.store.tip.block_hash
    chosen = build(flight, genesis, START_MS + 1, deposit(each.genesis, 1))
    other = build(flight, genesis, START_MS + 2, deposit(each.genesis, 1), deposit(each.genesis, 2))
    on_other = build(flight, other.block_hash, START_MS + 3, deposit(each.genesis, 3))
    on_chosen = build(flight, chosen.block_hash, START_MS + 4, deposit(each.genesis, 2))
    flight.commit(chosen, certificate(chosen))
    assert flight.get(other.block_hash) is None and flight.get(on_other.block_hash) is None
    assert flight.get(on_chosen.block_hash) is on_chosen
    assert not flight.is_proposed(deposit(each.genesis, 3).id)
    assert flight.is_proposed(deposit(each.genesis, 2).id)
    assert flight.ids_in_flight(on_chosen.block_hash) == {deposit(each.genesis, 2).id}
    with pytest.raises(BlockFault, match="neither committed nor in flight"):
        flight.check(on_other.header, on_other.transactions)


def test_a_block_is_executed_once() -> None:
    each = station()
    flight = each.engine.flight
    built = build(flight, each.store.tip.block_hash, START_MS + 1, deposit(each.genesis, 1))
    assert flight.check(built.header, built.transactions) is built
    assert flight.check(built.header, ()) is built


def test_what_is_only_in_flight_is_not_read_as_committed() -> None:
    each = station()
    flight = each.engine.flight
    transaction = deposit(each.genesis, 1)
    built = build(flight, each.store.tip.block_hash, START_MS + 1, transaction)
    holder = genesis_account_id(HOLDER)
    assert [key for key, _ in built.overlay.scan(b"") if holder in key] != [
        key for key, _ in each.store.state.scan(b"") if holder in key
    ]
    assert each.store.transaction_location(transaction.id) is None
    assert each.engine.intake.state(transaction.id).height is None
    assert flight.tip().height == 0
    each.engine.intake.check(transaction)


def test_only_the_next_block_can_be_committed() -> None:
    each = station()
    flight = each.engine.flight
    first = build(flight, each.store.tip.block_hash, START_MS + 1)
    second = build(flight, first.block_hash, START_MS + 2)
    with pytest.raises(AssertionError):
        flight.commit(second, certificate(second))
    assert each.height == 0


def test_a_parent_that_was_dropped_and_executed_again_carries_its_children() -> None:
    """The replica may forget a candidate whose child it keeps, and meet it again with a certificate."""
    each = station()
    flight = each.engine.flight
    parent = build(flight, each.store.tip.block_hash, START_MS + 1, deposit(each.genesis, 1))
    child = build(flight, parent.block_hash, START_MS + 2, deposit(each.genesis, 2))
    flight.keep_only({child.block_hash})
    again = flight.check(parent.header, parent.transactions)
    assert again is not parent
    flight.commit(again, certificate(again))
    grandchild = build(flight, child.block_hash, START_MS + 3, deposit(each.genesis, 3))
    flight.commit(child, certificate(child))
    last = build(flight, grandchild.block_hash, START_MS + 4, deposit(each.genesis, 4))
    flight.commit(grandchild, certificate(grandchild))
    flight.commit(last, certificate(last))
    assert each.store.tree.root == last.header.state_root
    single = station()
    for speculation in (again, child, grandchild, last):
        repeated = single.engine.flight.check(speculation.header, speculation.transactions)
        single.engine.flight.commit(repeated, certificate(repeated))
    assert state_of(each) == state_of(single)

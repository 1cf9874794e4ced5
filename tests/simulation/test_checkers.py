"""Checkers that never fail prove nothing: each is shown what it must refuse."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from otcnode import limits
from otcnode.blocks import (
    Certificate,
    Header,
    block_hash,
    commit_preimage,
    maximum_faulty,
    prepare_preimage,
    quorum,
)
from otcnode.codec import encode
from otcnode.consensus.messages import Commit, NewView, Prepare, Proof, Reproposal, ViewChange
from otcnode.consensus.record import Asked
from otcnode.genesis import chain_id
from otcnode.simulation.checkers import Checkers, quorum_of
from otcnode.simulation.marks import Marks
from otcnode.simulation.memory import collections_of
from otcnode.simulation.patience import Patience
from otcnode.simulation.plan import Crash, CrashPoint, Deposit, Plan, Submission
from otcnode.simulation.rules import Rules
from otcnode.simulation.signing import HashSignatures
from otcnode.simulation.trace import Trace
from otcnode.simulation.violation import Promise, Violation
from otcnode.simulation.workload import TIME_MS, clients_of, genesis_of, validator_keys
from otcnode.simulation.world import World
from otcnode.storage.kv import MemoryKeyValue
from otcnode.storage.store import Store


def quiet(count: int = 4) -> Plan:
    """No faults, and a little work."""
    work = tuple(Submission(at_ms=100 * n, node=n % count, act=Deposit(investor=0, amount=n + 1)) for n in range(4))
    return Plan(
        seed=1,
        validators=count,
        skews_ms=(0,) * count,
        safety_ms=2_000,
        liveness_ms=30_000,
        survivors=tuple(range(count)),
        workload=work,
    )


def checkers() -> tuple[Checkers, bytes, HashSignatures]:
    plan = quiet()
    keys = validator_keys(4)
    signatures = HashSignatures(keys)
    chain = chain_id(genesis_of(plan))
    names = [key.public for key in keys]
    marks = Marks(4, plan.rotation_blocks, plan.block_transactions_max)
    return Checkers(plan, chain, names, clients_of(plan), signatures.verify, marks, lambda: TIME_MS), chain, signatures


def prepared(witness: Checkers, chain: bytes, view: int, height: int, block: bytes) -> None:
    """Everybody has signed a PREPARE."""
    for node in range(4):
        witness.signed(node, prepare_preimage(chain, 1, view, height, block))


def test_the_quorum_of_the_checkers_is_found_another_way_and_is_the_same() -> None:
    for count in range(1, 60):
        assert quorum_of(count) == quorum(count), count
        assert 2 * quorum_of(count) - count > maximum_faulty(count)


@pytest.mark.parametrize(("kind", "preimage"), [(Prepare, prepare_preimage), (Commit, commit_preimage)])
def test_two_votes_for_one_height_are_seen(kind: type[Prepare] | type[Commit], preimage: Callable[..., bytes]) -> None:
    witness, chain, signatures = checkers()
    key = validator_keys(4)[2]

    def vote(view: int, block: bytes) -> Prepare | Commit:
        signature = signatures.signer(key)(preimage(chain, 1, view, 5, block))
        return kind(1, view, 5, block, key.public, signature)

    prepared(witness, chain, 0, 4, bytes(32))
    prepared(witness, chain, 0, 5, bytes(32))
    prepared(witness, chain, 1, 4, bytes(32))
    prepared(witness, chain, 1, 5, b"\x01" * 32)
    witness.said(2, vote(0, bytes(32)))
    witness.said(0, vote(0, bytes(32)))
    witness.said(2, vote(1, b"\x01" * 32))
    forged = replace(vote(0, b"\x01" * 32), signature=bytes(64))
    witness.said(2, forged)
    with pytest.raises(Violation, match="n2 signed") as caught:
        witness.said(2, vote(0, b"\x01" * 32))
    assert caught.value.promise is Promise.VOTES


def test_a_vote_below_the_own_view_change_is_seen() -> None:
    witness, chain, _ = checkers()
    own = validator_keys(4)[1].public
    witness.signed(1, prepare_preimage(chain, 1, 0, 1, bytes(32)))
    for view in (1, 2):
        witness.said(1, ViewChange(1, view, 0, None, (), own, bytes(64)))
    witness.signed(1, commit_preimage(chain, 1, 2, 1, bytes(32)))
    with pytest.raises(Violation, match="after it asked for view 2"):
        witness.signed(1, commit_preimage(chain, 1, 1, 1, bytes(32)))


def test_nobody_asks_for_a_view_far_ahead() -> None:
    """Above view 1 only after a quorum asked for the view below."""
    witness, _, _ = checkers()
    keys = validator_keys(4)

    def asks(node: int, view: int) -> None:
        witness.saved(node, [encode(Asked(ViewChange(1, view, 0, None, (), keys[node].public, bytes(64))))])

    asks(1, 1)
    asks(2, 1)
    with pytest.raises(Violation, match="asks for view 2, and at most 2 of 3 have asked for view 1") as caught:
        asks(1, 2)
    assert caught.value.promise is Promise.RULES
    asks(3, 1)
    asks(1, 2)
    with pytest.raises(Violation, match="asks for view 7"):
        asks(2, 7)


def test_silence_ends_above_all_that_the_lost_record_may_have_said() -> None:
    rules = Rules(range(4), liars=0)
    block, chain = bytes(32), bytes(32)
    for node in (1, 2, 3):
        rules.signed(node, prepare_preimage(chain, 1, 2, 4, block))
        rules.signed(node, prepare_preimage(chain, 1, 2, 5, block))
    rules.voted(3, "COMMIT", (1, 2, 5), block, quorum=3, proposes=False)
    rules.lost_record(3)
    for view, height in ((2, 6), (3, 5), (1, 9)):
        with pytest.raises(Violation, match="before its record was lost it voted up to view 2, height 5") as caught:
            rules.signed(3, prepare_preimage(chain, 1, view, height, block))
        assert caught.value.promise is Promise.VOTES
    rules.signed(3, prepare_preimage(chain, 1, 3, 6, block))
    rules.signed(3, prepare_preimage(chain, 6, 0, 6, block))


def test_a_vote_is_lawful_only_on_votes_that_exist() -> None:
    rules = Rules(range(4), liars=0)
    block, place = bytes(32), (1, 0, 1)
    with pytest.raises(Violation, match="without a PREPARE of its own"):
        rules.voted(1, "COMMIT", place, block, quorum=3, proposes=False)
    for node in (1, 2):
        rules.signed(node, prepare_preimage(bytes(32), *place, block))
    with pytest.raises(Violation, match="no quorum has prepared"):
        rules.voted(1, "COMMIT", place, block, quorum=3, proposes=False)
    above = (1, 0, 2)
    rules.voted(0, "PREPARE", above, block, quorum=3, proposes=True)
    with pytest.raises(Violation, match="on a parent that no quorum has prepared"):
        rules.voted(1, "PREPARE", above, block, quorum=3, proposes=False)
    rules.signed(3, prepare_preimage(bytes(32), *place, block))
    rules.voted(1, "COMMIT", place, block, quorum=3, proposes=False)
    rules.voted(1, "PREPARE", above, block, quorum=3, proposes=False)
    rules.committed(2, 5)
    rules.record_durable(2)
    rules.committed(2, 6)
    rules.forgot_blocks(2)
    with pytest.raises(Violation, match="below 5"):
        rules.voted(2, "PREPARE", place, block, quorum=3, proposes=False)


def opening(*view_changes: ViewChange, again: tuple[Header, ...] = ()) -> NewView:
    names = tuple(replace(entry, validator=bytes([number]) * 32) for number, entry in enumerate(view_changes))
    reproposals = tuple(Reproposal(header, bytes(64)) for header in again)
    return NewView(1, 2, names, reproposals, bytes(32), bytes(64))


def header_of(height: int) -> Header:
    hashes = (bytes(32),) * 5
    return Header(1, bytes(32), height, bytes(32), 1, bytes(32), 0, *hashes)


def test_a_view_stands_on_a_height_that_a_certificate_of_it_shows() -> None:
    rules = Rules(range(4), liars=1)
    shown = ViewChange(1, 2, 3, Certificate(1, 0, 3, bytes(32), ()), (), bytes(32), bytes(64))
    at_genesis = replace(shown, committed=0, certificate=None)
    rules.entered(0, opening(shown, at_genesis, shown), quorum=3)
    for claimed in (replace(shown, committed=4), replace(shown, committed=2), replace(at_genesis, committed=1)):
        with pytest.raises(Violation, match=f"height {claimed.committed} claimed") as caught:
            rules.entered(1, opening(shown, claimed, at_genesis), quorum=3)
        assert caught.value.promise is Promise.RULES


def test_where_a_view_proposes_a_block_again_nobody_votes_for_another() -> None:
    rules, header = Rules(range(4), liars=1), header_of(1)
    name, place = block_hash(header), (1, 2, 1)
    proof = Proof(1, header, ())
    asking = ViewChange(1, 2, 0, None, (proof,), bytes(32), bytes(64))
    rules.entered(0, opening(asking, asking, asking, again=(header,)), quorum=3)
    rules.voted(0, "PREPARE", place, name, quorum=3, proposes=False)
    rules.voted(1, "PREPARE", place, bytes(32), quorum=3, proposes=False)
    with pytest.raises(Violation, match="another block than its view proposes again") as caught:
        rules.voted(0, "PREPARE", place, bytes(32), quorum=3, proposes=False)
    assert caught.value.promise is Promise.RULES


def test_a_view_may_last_as_long_as_its_node_has_reason_to_wait() -> None:
    patience = Patience(base_ms=1_000, longest_ms=3_000, nodes=1)
    patience.waits(0, 1_000)
    patience.asked(0)
    patience.waits(0, 2_000)
    with pytest.raises(Violation, match="gives a view 2001 ms"):
        patience.waits(0, 2_001)
    patience.asked(0)
    patience.waits(0, 3_000)
    for _ in range(2 * limits.blocks_per_timeout_step):
        patience.committed(0)
    with pytest.raises(Violation):
        patience.waits(0, 2_000)


def finished() -> World:
    world = World(quiet(), Trace())
    world.run()
    return world


def test_a_quiet_world_keeps_every_promise_on_one_and_on_four() -> None:
    for count in (1, 4):
        world = World(quiet(count), Trace())
        world.run()
        assert world.summary().transactions == 4
        assert not world.summary().faults


def test_a_store_that_went_back_or_lost_a_transaction_is_seen() -> None:
    world = finished()
    empty = Store.create(
        MemoryKeyValue(),
        chain_id(world.genesis),
        {},
        16,
        world.node(0).opened.epochs()[0],
        1,
    )
    with pytest.raises(Violation, match="had committed height") as caught:
        world.checkers.started(0, empty, ())
    assert caught.value.promise is Promise.DURABILITY


def test_a_block_that_is_committed_twice_or_differently_is_seen() -> None:
    world = finished()
    store = world.node(0).opened
    with pytest.raises(Violation) as caught:
        world.checkers.committed(0, store, 1, [])
    assert caught.value.promise is Promise.DURABILITY


def test_states_that_differ_at_one_height_are_seen() -> None:
    world = finished()
    store = world.node(1).opened
    tree, state_key = store.tree, next(iter(store.state.scan(b"")))[0]
    assert tree.root == world.node(0).opened.tree.root
    world.node(1).disk.store.write([(b"s" + state_key, None)])
    with pytest.raises(Violation) as caught:
        world.checkers.states({0: world.node(0).opened, 1: Store.open(world.node(1).disk.store, store.chain, 1)})
    assert caught.value.promise in (Promise.ROOTS, Promise.INVARIANTS)


def test_every_collection_is_counted_but_those_of_frozen_values() -> None:
    world = finished()
    found = dict(collections_of(world.node(0).engine, (Store,)))
    assert any(path.startswith("Engine.replica") for path in found)
    assert any("pool" in path for path in found)
    assert max(found.values()) < 1_000


@pytest.mark.parametrize("point", list(CrashPoint))
def test_a_process_dies_at_the_point_named_and_comes_back(point: CrashPoint) -> None:
    crash = Crash(id=1, at_ms=150, node=0, point=point, count=1, torn_bytes=40, down_ms=300)
    lines: list[str] = []
    world = World(replace(quiet(4), faults=(crash,), record_bytes=1), Trace(lines.append))
    world.run()
    died = [line for line in lines if "n0 dies" in line]
    assert len(died) == world.summary().faults["crash"] == 1
    assert world.summary().transactions == 4

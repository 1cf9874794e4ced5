"""Nodes whose disk is put back to what it was some blocks ago, store and voting record together."""

from __future__ import annotations

from collections import Counter

import pytest

from otcnode.blocks import Certificate, ValidatorSignature, commit_preimage
from otcnode.codec import encode
from otcnode.consensus import record
from otcnode.consensus.messages import Commit
from otcnode.simulation.generate import Options, Swarm, generate
from otcnode.simulation.plan import PutBack
from otcnode.simulation.put_back import PutBackNodes
from otcnode.simulation.violation import Promise, Violation
from otcnode.simulation.world import run
from tests.simulation import report

OPTIONS = Options(validators=4, swarm=Swarm.MIXED, put_back=True)
SEEDS = 16
NODES = tuple(bytes([index]) * 32 for index in range(4))
CHAIN = bytes(32)


def test_networks_with_disks_put_back_keep_every_promise() -> None:
    marks: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    for seed in range(1, SEEDS + 1):
        plan = generate(seed, OPTIONS)
        outcome = run(plan)
        assert outcome.violation is None, report(plan, outcome)
        marks.update(outcome.summary.marks)
        faults.update(outcome.summary.faults)
    assert faults["put-back"] > 3 and marks["an older record is found out"] > 1


def test_some_of_all_plans_put_a_disk_back_of_a_node_that_then_counts_among_the_faulty() -> None:
    plans = [generate(seed) for seed in range(300)]
    nodes = [(plan, fault.node) for plan in plans for fault in plan.faults if isinstance(fault, PutBack)]
    assert len(nodes) > 3
    assert all(node in plan.unbound & plan.weakened and node not in plan.survivors for plan, node in nodes)


def _certificate(*signers: int) -> Certificate:
    signatures = tuple(ValidatorSignature(NODES[index], bytes(64)) for index in signers)
    return Certificate(1, 0, 7, bytes(32), signatures)


def test_the_checker_sees_a_vote_by_an_older_record_and_nothing_else() -> None:
    vote = commit_preimage(CHAIN, 1, 0, 8, bytes(32))
    held = (encode(record.Voted(Commit(1, 0, 7, bytes(32), NODES[3], bytes(64)))),)
    nodes = PutBackNodes(NODES)
    nodes.put_back(3)
    assert nodes.is_old(3) and not nodes.is_old(2)
    nodes.committed(3, _certificate(0, 1, 2), ())
    nodes.committed(3, _certificate(1, 2, 3), held)
    nodes.signed(3, vote)
    nodes.committed(3, _certificate(1, 2, 3), ())
    with pytest.raises(Violation) as broken:
        nodes.signed(3, vote)
    assert broken.value.promise is Promise.VOTES
    nodes.signed(2, vote)
    nodes.stopped(3)
    nodes.signed(3, vote)
    assert not nodes.is_old(3)

"""What the primary of the next view works out anew at every step stays small where windows are wide and sets large."""

from __future__ import annotations

from collections import Counter

import pytest

from otcnode.blocks import Header, block_hash
from otcnode.consensus import bodies, memory, view_changing
from otcnode.consensus.core import Core
from otcnode.consensus.messages import Proof, ViewChange
from otcnode.genesis import ChainParameters
from tests.consensus.cluster import Cluster
from tests.consensus.toy import execute

VALIDATORS, WINDOW = 10, 64


def _asked() -> Core:
    """The primary of view 1 has everybody's VIEW-CHANGE with a window of proofs, and none of the blocks."""
    cluster = Cluster(VALIDATORS, parameters=ChainParameters(window=WINDOW))
    cluster.start()
    cluster.advance(600)
    node = cluster.nodes[1]
    assert node.replica is not None
    core, parent = node.replica.core, node.tip_state()
    headers = []
    for number in range(WINDOW):
        header, parent = execute(parent, (b"%d" % number,), parent.time_ms + 1, cluster.nodes[0].name)
        headers.append(header)
    core.state.view, core.state.active = 1, False
    for author in cluster.nodes:
        proofs = tuple(Proof(0, header, ()) for header in headers)
        core.state.view_changes[author.name] = ViewChange(1, 1, 0, None, proofs, author.name, bytes(64))
    assert core.state.own == core.state.primary
    return core


def test_the_hashes_of_what_is_proved_are_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    core, hashed = _asked(), Counter[str]()

    def counted(header: Header) -> bytes:
        hashed["hashed"] += 1
        return block_hash(header)

    monkeypatch.setattr(memory, "block_hash", counted)
    assert not view_changing.open_view(core)
    first = hashed["hashed"]
    assert len(core.state.candidates) == WINDOW and 0 < first <= VALIDATORS * WINDOW + WINDOW
    for height in range(1, WINDOW + 1):
        memory.forget_candidates(core.state, height)
        assert not view_changing.open_view(core)
    assert hashed["hashed"] == first and len(core.state.candidates) == WINDOW


def test_a_newer_view_change_is_not_taken_for_the_one_before() -> None:
    core = _asked()
    state = core.state
    name, message = next(iter(state.view_changes.items()))
    assert len(memory.proved_by(state, message)) == WINDOW
    newer = ViewChange(1, 2, 0, None, message.proofs[:1], name, bytes(64))
    assert len(memory.proved_by(state, newer)) == 1 and len(memory.proved_by(state, message)) == WINDOW
    assert set(state.proved) == {name}


def test_what_is_wanted_is_worked_out_once_for_all_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    core, asked = _asked(), Counter[str]()
    view_changing.open_view(core)
    for candidate in core.state.candidates.values():
        candidate.searched, candidate.requested_ms = True, None
    right = memory.proved_for_view

    def counted(state: object) -> set[bytes]:
        asked["asked"] += 1
        return right(core.state)

    monkeypatch.setattr(memory, "proved_for_view", counted)
    core.effects.clear()
    bodies.ask_again(core)
    assert asked["asked"] == 1 and len(core.effects) == WINDOW

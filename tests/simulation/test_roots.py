"""The roots that the simulator works out anew are the node's own: of states and of lists."""

from __future__ import annotations

import pytest

from otcnode import merkle
from otcnode.simulation.roots import list_root_of, state_root_of
from otcnode.storage.kv import MemoryKeyValue
from otcnode.storage.state_tree import StateTree


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_both_roots_are_equal_and_change_with_every_value(depth: int) -> None:
    tree = StateTree.load(MemoryKeyValue(), 16**depth)
    state: dict[bytes, bytes] = {}
    assert state_root_of([], 16**depth) == tree.root
    seen = {tree.root}
    for number in range(60):
        key = b"key %d" % (number % 40)
        state[key] = b"value %d" % number
        tree.adopt(tree.speculate({key: state[key]}))
        assert state_root_of(state.items(), 16**depth) == tree.root
        seen.add(tree.root)
    assert len(seen) == 61


def test_the_roots_of_lists_are_equal() -> None:
    leaves = [b"leaf %d" % number for number in range(70)]
    roots = [list_root_of(leaves[:count]) for count in range(len(leaves))]
    assert roots == [merkle.root(leaves[:count]) for count in range(len(leaves))]
    assert len(set(roots)) == len(leaves)

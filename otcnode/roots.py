"""What follows from the genesis document alone, by which a snapshot is judged. Pure."""

from __future__ import annotations

from otcnode.genesis import Genesis, chain_id, first_epoch
from otcnode.storage.incoming import Roots
from otcnode.storage.kv import MemoryKeyValue
from otcnode.storage.state_tree import StateTree
from otcnode.vm.genesis_state import genesis_writes


def roots_of(genesis: Genesis) -> Roots:
    buckets = genesis.parameters.state_buckets
    root = StateTree.load(MemoryKeyValue(), buckets).speculate(genesis_writes(genesis)).root
    return Roots(chain_id(genesis), root, buckets, first_epoch(genesis))

"""Real daemons on loopback for tests: ports that are free, a workload, and ways to look at the result."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from otcnode import localnet
from otcnode.bench import workload
from otcnode.genesis import ChainParameters, chain_id, load
from otcnode.storage.level import LevelKeyValue
from otcnode.storage.store import Store
from otcnode.vm.invariants import check_state

TTL_MS = 600_000
FIRST_PORT, PORTS = 21_000, 8_960


def free_ports(count: int) -> int:
    """The first of `count` consecutive ports that nobody listens on. Each process of tests begins at a place of its
    own, so that two on one machine do not take what the other is about to use."""
    own = os.getpid() * 16 % PORTS
    for place in range(0, PORTS, count):
        base = FIRST_PORT + (own + place) % PORTS
        if all(_free(port) for port in range(base, base + count)):
            return base
    raise AssertionError("no free ports")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def make(
    directory: Path, validators: int, *, full_nodes: int = 0, view_timeout_ms: int = 1_000, drift_real_ms: int = 5_000
) -> localnet.Cluster:
    localnet.create(
        localnet.Plan(
            directory=directory,
            validators=validators,
            full_nodes=full_nodes,
            base_port=free_ports(2 * (validators + full_nodes)),
            accounts=workload.accounts()[:20],
            cash=workload.cash(),
            parameters=ChainParameters(state_buckets=256, max_transaction_ttl_ms=TTL_MS, drift_real_ms=drift_real_ms),
            view_timeout_ms=view_timeout_ms,
        )
    )
    return localnet.Cluster(directory)


def deposits(cluster: localnet.Cluster, count: int) -> list[bytes]:
    valid_until = time.time_ns() // 1_000_000 + TTL_MS - 5_000
    return list(workload.deposits(chain_id(cluster.genesis), count, valid_until, holders=10))


def audit(cluster: localnet.Cluster, transaction_ids: Sequence[bytes]) -> tuple[int, dict[int, set[bytes]]]:
    """Look into the directories of a stopped cluster: every id is in some chain and at the same place in each, every
    ledger invariant holds. Returns the lowest height, and the state roots seen per height."""
    roots: dict[int, set[bytes]] = {}
    heights = []
    found: dict[bytes, set[tuple[int, int]]] = {name: set() for name in transaction_ids}
    for member in cluster.members:
        kv = LevelKeyValue(member.home.database)
        store = Store.open(kv, chain_id(load(member.home.genesis)), 0)
        try:
            heights.append(store.tip.height)
            for height in range(store.blocks_first, store.tip.height + 1):
                header = store.header(height)
                assert header is not None
                roots.setdefault(height, set()).add(header.state_root)
            for name, places in found.items():
                location = store.transaction_location(name)
                if location is not None:
                    places.add((location.height, location.position))
            assert check_state(store.state) == []
        finally:
            store.close()
    assert all(len(places) == 1 for places in found.values()), "a final transaction is lost or at two places"
    return min(heights), roots
